//! Reaping and expiring.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    task::Poll,
};

use locus_cleanup::{Sweep, SweepOptions};
use locus_core::{BlobPath, CleanupStatistics, Error, FileKey, Reapable, SweepFailure, Timestamp};

use crate::fakes::{State, World, blob, key, reapable, sweep_at_once, world};

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

/// Polls for what must not be ready yet, until all that it began has gone as far as it can.
async fn poll_a_while<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    for _ in 0..32 {
        let polled = poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await;
        if let Poll::Ready(output) = polled {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
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
        assert!(poll_a_while(settled.as_mut()).await.is_none(), "it is tried again");
        // Its failed sync ended its life as a place for changes, as the next step finds.
        world.state.lock().read_only = true;
        assert_eq!(sweeper.reap_step().await.unwrap().errors, 1);
        let settled = poll_a_while(settled.as_mut()).await.expect("because it cannot become true");
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
async fn b79_a_dropped_step_gives_back_what_it_was_handed_when_its_removals_have_ended() {
    let (world, sweeper, _) = world();
    // More than are removed at once.
    with_files(&mut world.state.lock(), 1..=40);
    world.state.lock().hang_delete = true;
    {
        let mut step = pin!(sweeper.reap_step());
        assert!(poll_a_while(step.as_mut()).await.is_none());
        assert_eq!(world.state.lock().out, 40);
    }
    assert_eq!(out_and_waiting(&world), (32, 8), "what is being removed is nobody else's");
    world.state.lock().hang_delete = false;
    while world.state.lock().out > 0 {
        world.go.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!((out_and_waiting(&world), world.state.lock().blobs.len()), ((0, 40), 8));
    assert_eq!(sweeper.reap_step().await.unwrap().completed_removed, 40);
}

#[test]
fn b79_a_step_that_is_dropped_where_no_runtime_runs_gives_back_at_once() {
    let (world, sweeper, _) = world();
    with_files(&mut world.state.lock(), [1, 2]);
    world.state.lock().hang_delete = true;
    {
        let mut step = pin!(sweeper.reap_step());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(step.as_mut().poll(&mut context).is_pending());
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
        assert!(poll_a_while(reaper.as_mut()).await.is_none());
        let next = clock.next_deadline().expect("because it backs off") - began;
        assert_eq!(next.as_millis(), waited);
        assert!(clock.advance_to_next());
    }
    assert_eq!(sweeper.statistics().errors, 3);
    world.state.lock().undeletable.clear();
    assert!(poll_a_while(reaper.as_mut()).await.is_none());
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

#[tokio::test]
async fn a_batch_of_files_that_cannot_be_removed_does_not_end_a_run() {
    let (world, sweeper, _) = world();
    {
        let mut state = world.state.lock();
        with_files(&mut state, 0..=255);
        state.undeletable = (0..=255).map(key).collect();
        for number in 1..=3 {
            let key = FileKey::generate(Timestamp::from_micros(0), &[0, number, 0, 0, 0, 0, 0, 0, 0, 0]);
            let file = reapable(number);
            let blob = BlobPath { key, ..file.blob.clone() };
            state.blobs.insert(key, blob.clone());
            state.waiting.push_back(Reapable { key, blob, ..file });
        }
    }
    let done = sweeper.run(Sweep::Completed, SweepOptions::default()).await.unwrap();
    assert_eq!(done.completed_removed, 3);
    assert_eq!(out_and_waiting(&world), (0, 256));
    assert!((256..=3 * 256).contains(&done.errors), "{}: it is not tried for ever", done.errors);
}

#[tokio::test]
async fn a_run_ends_although_the_first_file_that_could_not_be_removed_goes_after_all() {
    let (world, sweeper, _) = world();
    let mut settings = sweep_at_once();
    settings.completed.batch = 2;
    let sweeper = sweeper.with_settings(settings);
    with_files(&mut world.state.lock(), [1, 2, 3]);
    world.state.lock().undeletable.extend([key(1), key(2), key(3)]);
    let steps = AtomicU32::new(0);
    let progress = |_: &CleanupStatistics| {
        assert!(steps.fetch_add(1, Relaxed) < 10, "it is tried for ever");
        world.state.lock().undeletable.remove(&key(1));
    };
    let options = SweepOptions { progress: Some(&progress), ..SweepOptions::default() };
    let done = sweeper.run(Sweep::Completed, options).await.unwrap();
    // 1 and 2, 3 and 1, then 2 and 3 once more.
    assert_eq!((steps.load(Relaxed), done.completed_removed, done.errors), (3, 1, 5));
    assert_eq!(out_and_waiting(&world), (0, 2));
}

#[tokio::test]
async fn a_run_names_what_could_not_be_removed_and_why() {
    let (world, sweeper, _) = world();
    with_files(&mut world.state.lock(), [1, 2, 3]);
    world.state.lock().waiting[1].is_copy = true;
    world.state.lock().undeletable.extend([key(1), key(2)]);
    let done = sweeper.run(Sweep::Completed, SweepOptions::default()).await.unwrap();
    assert_eq!(done.completed_removed, 1);
    let named = |failure: &SweepFailure| (failure.place.clone(), failure.error.contains("delete"));
    let failures = done.failures.iter().map(named).collect::<Vec<_>>();
    let places = [format!("acme/{}", key(1)), format!("vol: {}", blob(2))];
    assert_eq!(failures[..2], places.map(|place| (place, true)));
    assert_eq!(done.errors, done.failures.len() as u64);

    {
        let mut state = world.state.lock();
        (state.fail_sync, state.waiting) = (true, Default::default());
        with_files(&mut state, [4]);
    }
    let done = sweeper.run(Sweep::Completed, SweepOptions::default()).await.unwrap();
    assert_eq!(done.failures[0].place, format!("acme/{}", key(4)));
}
