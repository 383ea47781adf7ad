//! Reaping and expiring.

use std::{future::Future, pin::pin, task::Poll};

use locus_cleanup::SweepOptions;
use locus_core::Error;

use crate::fakes::{State, World, blob, key, reapable, world};

fn with_files(state: &mut State, numbers: impl IntoIterator<Item = u8>) {
    for number in numbers {
        state.blobs.insert(key(number), blob(number));
        state.waiting.push_back(reapable(number));
    }
}

fn out_and_waiting(world: &World) -> (usize, usize) {
    let state = world.state.lock();
    (state.out, state.waiting.len())
}

/// Polls once, for what must not be ready yet.
async fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut future = Some(future);
    std::future::poll_fn(|context| {
        let polled = future.take().expect("because it is polled once").poll(context);
        Poll::Ready(match polled {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test]
async fn b38_records_go_only_after_the_removed_names_are_durable() {
    let (world, sweeper, _) = world();
    with_files(&mut world.state.lock(), [1, 2]);
    let step = sweeper.reap_step().await.unwrap();
    assert_eq!((step.completed_removed, step.space_freed, step.errors), (2, 20, 0));
    assert_eq!(world.state.lock().events, ["delete", "delete", "sync names", "reaped"]);
    assert_eq!(sweeper.statistics(), step);
}

#[tokio::test]
async fn what_the_store_holds_itself_is_reaped_without_touching_a_volume() {
    let (world, sweeper, _) = world();
    // A blob of that name is there, as a copy on its way is: it is not the reaper's.
    with_files(&mut world.state.lock(), [1, 2, 3]);
    world.state.lock().waiting.iter_mut().for_each(|file| file.volume = None);
    world.state.lock().fail_sync = true;
    let step = sweeper.reap_step().await.unwrap();
    assert_eq!((step.completed_removed, step.space_freed, step.errors), (3, 30, 0));
    let state = world.state.lock();
    assert_eq!((state.events.as_slice(), state.out), (["reaped"].as_slice(), 0));
    assert_eq!((state.reaped.as_slice(), state.blobs.len()), ([key(1), key(2), key(3)].as_slice(), 3));
}

#[tokio::test]
async fn what_the_store_holds_itself_goes_although_a_volume_beside_it_fails() {
    let (world, sweeper, _) = world();
    with_files(&mut world.state.lock(), [1, 2]);
    world.state.lock().waiting[0].volume = None;
    world.state.lock().fail_sync = true;
    let step = sweeper.reap_step().await.unwrap();
    assert_eq!((step.completed_removed, step.errors), (1, 1));
    assert_eq!(world.state.lock().reaped, [key(1)]);
    assert_eq!(out_and_waiting(&world), (0, 1));
}

#[tokio::test]
async fn b38_without_durable_names_no_record_goes_and_bytes_are_counted_once() {
    let (world, sweeper, _) = world();
    with_files(&mut world.state.lock(), [1]);
    world.state.lock().fail_sync = true;
    let step = sweeper.reap_step().await.unwrap();
    assert_eq!((step.completed_removed, step.errors), (0, 1));
    assert!(world.state.lock().reaped.is_empty());
    world.state.lock().fail_sync = false;
    sweeper.settled().await.unwrap();
    assert_eq!(world.state.lock().reaped, [key(1)]);
    let all = sweeper.statistics();
    assert_eq!((all.completed_removed, all.space_freed, all.errors), (1, 10, 1));
}

#[tokio::test]
async fn nobody_waits_for_ever_for_a_volume_that_takes_no_writes() {
    let (world, sweeper, _) = world();
    with_files(&mut world.state.lock(), [1]);
    world.state.lock().fail_sync = true;
    {
        let mut settled = pin!(sweeper.settled());
        assert!(poll_once(settled.as_mut()).await.is_none(), "it is tried again");
        // Its failed sync ended its life as a place for changes, as the next step finds.
        world.state.lock().read_only = true;
        assert_eq!(sweeper.reap_step().await.unwrap().errors, 1);
        let settled = poll_once(settled.as_mut()).await.expect("because it cannot become true");
        assert!(matches!(settled, Err(Error::VolumeUnavailable { volume: Some(_), .. })), "{settled:?}");
    }
    let settled = sweeper.settled().await;
    assert!(matches!(settled, Err(Error::VolumeUnavailable { .. })), "{settled:?}");
    {
        let mut state = world.state.lock();
        (state.fail_sync, state.read_only) = (false, false);
    }
    sweeper.settled().await.unwrap();
}

#[tokio::test]
async fn b75_files_that_cannot_be_removed_keep_back_none_behind_them() {
    let (world, sweeper, _) = world();
    // 300 records of blocked files, more than a step takes, then one that can be removed.
    for _ in 0..300 {
        world.state.lock().waiting.push_back(reapable(9));
    }
    with_files(&mut world.state.lock(), [1]);
    world.state.lock().undeletable.insert(key(9));
    assert_eq!(sweeper.reap_step().await.unwrap().completed_removed, 0);
    assert_eq!(sweeper.reap_step().await.unwrap().completed_removed, 1);
    let state = world.state.lock();
    assert_eq!((state.reaped.as_slice(), state.waiting.len(), state.out), ([key(1)].as_slice(), 300, 0));
}

#[tokio::test]
async fn files_are_handed_out_again_when_their_records_could_not_go() {
    let (world, sweeper, _) = world();
    with_files(&mut world.state.lock(), [1]);
    world.state.lock().fail_reaped = true;
    sweeper.reap_step().await.unwrap_err();
    assert_eq!(out_and_waiting(&world), (0, 1));
    world.state.lock().fail_reaped = false;
    assert_eq!(sweeper.reap_step().await.unwrap().completed_removed, 1);
    assert_eq!(sweeper.statistics().space_freed, 10);
}

#[tokio::test]
async fn b79_a_dropped_step_gives_back_what_it_was_handed() {
    let (world, sweeper, _) = world();
    with_files(&mut world.state.lock(), [1, 2]);
    world.state.lock().hang_delete = true;
    {
        let mut step = pin!(sweeper.reap_step());
        assert!(poll_once(step.as_mut()).await.is_none());
        assert_eq!(world.state.lock().out, 2);
    }
    assert_eq!(out_and_waiting(&world), (0, 2));
}

#[tokio::test]
async fn the_reaper_waits_longer_and_longer_after_failures_and_then_succeeds() {
    let (world, sweeper, clock) = world();
    with_files(&mut world.state.lock(), [1]);
    world.state.lock().undeletable.insert(key(1));
    let mut reaper = pin!(sweeper.run_reaper());
    let began = locus_core::Clock::monotonic(&*clock);
    for waited in [100, 300, 700] {
        assert!(poll_once(reaper.as_mut()).await.is_none());
        let next = clock.next_deadline().expect("because it backs off") - began;
        assert_eq!(next.as_millis(), waited);
        assert!(clock.advance_to_next());
    }
    assert_eq!(sweeper.statistics().errors, 3);
    world.state.lock().undeletable.clear();
    assert!(poll_once(reaper.as_mut()).await.is_none());
    assert_eq!(world.state.lock().reaped, [key(1)]);
}

#[tokio::test]
async fn run_all_reaps_and_expires_everything() {
    let (world, sweeper, _) = world();
    with_files(&mut world.state.lock(), 1..=200);
    with_files(&mut world.state.lock(), 1..=200);
    world.state.lock().overdue = 600;
    let done = sweeper.run_all(SweepOptions::default()).await.unwrap();
    assert_eq!((done.completed_removed, done.timed_out_reset, done.space_freed), (400, 600, 2_007));
}
