//! What killed writes left.

use std::{sync::Arc, time::Duration};

use locus_cleanup::{Sweep, SweepOptions};
use locus_core::{Area, BlobPath, CleanupStatistics, Clock, Error, FileKey};
use parking_lot::Mutex;

use crate::fakes::{State, blob, key, reapable, sweep_at_once, world};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Lets the others run until it is so.
async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::task::yield_now().await;
    }
}

fn with_blobs(state: &mut State, numbers: impl IntoIterator<Item = u8>) {
    for number in numbers {
        state.blobs.insert(key(number), blob(number));
    }
}

#[tokio::test]
async fn b69_blobs_of_records_and_of_writes_in_flight_are_spared() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), 1..=4);
    world.state.lock().recorded.insert(key(1));
    world.state.lock().in_flight.insert(key(2));
    let done = sweeper.leftovers(SweepOptions::default()).await.unwrap();
    assert_eq!((done.orphans_removed, done.staging_removed, done.space_freed), (2, 2, 27));
    assert_eq!(world.state.lock().blobs.keys().copied().collect::<Vec<_>>(), [key(1), key(2)]);
    let again = sweeper.leftovers(SweepOptions::default()).await.unwrap();
    assert_eq!(again.orphans_removed, 0);
}

#[tokio::test]
async fn nothing_is_removed_once_records_cannot_be_trusted() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), [1]);
    world.state.lock().untrustworthy = true;
    assert!(matches!(sweeper.leftovers(SweepOptions::default()).await, Err(Error::Poisoned { .. })));
    assert_eq!(world.state.lock().blobs.len(), 1);
}

#[tokio::test]
async fn b72_ten_runs_with_a_budget_cover_ten_budgets_once() {
    let (world, sweeper, _) = world();
    let mut settings = sweep_at_once();
    (settings.orphans.batch, settings.orphans.budget) = (3, 10);
    let sweeper = sweeper.with_settings(settings);
    with_blobs(&mut world.state.lock(), 1..=100);
    world.state.lock().recorded.extend((1..=100).filter(|number| number % 4 == 0).map(key));
    let mut removed = 0;
    for run in 1..=10 {
        let done = sweeper.run(Sweep::Orphans, SweepOptions::default()).await.unwrap();
        assert!((1..=10).contains(&done.orphans_removed), "run {run}: {done:?}");
        removed += done.orphans_removed;
    }
    assert_eq!((removed, world.state.lock().blobs.len()), (75, 25));
    // All were looked at; the next runs begin again, and find none.
    for _ in 0..4 {
        assert_eq!(sweeper.run(Sweep::Orphans, SweepOptions::default()).await.unwrap().orphans_removed, 0);
    }
}

#[tokio::test]
async fn b72_a_dry_run_counts_everything_whatever_the_budget_and_moves_no_cursor() {
    let (world, sweeper, _) = world();
    let mut settings = sweep_at_once();
    (settings.orphans.batch, settings.orphans.budget) = (3, 10);
    let sweeper = sweeper.with_settings(settings);
    with_blobs(&mut world.state.lock(), 1..=40);
    sweeper.run(Sweep::Orphans, SweepOptions::default()).await.unwrap();
    let steps = Mutex::new(Vec::new());
    let progress = |done: &CleanupStatistics| steps.lock().push(done.orphans_removed);
    let dry = SweepOptions { dry_run: true, progress: Some(&progress), ..SweepOptions::default() };
    assert_eq!(sweeper.run(Sweep::Orphans, dry).await.unwrap().orphans_removed, 30);
    assert!(steps.lock().is_sorted() && steps.lock().len() == 10, "{steps:?}");
    assert_eq!(world.state.lock().blobs.len(), 30);
    assert_eq!(sweeper.statistics().orphans_removed, 10, "a dry run does not count");
    assert_eq!(sweeper.run(Sweep::Orphans, SweepOptions::default()).await.unwrap().orphans_removed, 10);
}

#[tokio::test]
async fn a_dry_run_of_all_leftovers_ends_although_a_scan_is_under_way() {
    let (world, sweeper, _) = world();
    let mut settings = sweep_at_once();
    settings.orphans.budget = 3;
    let sweeper = sweeper.with_settings(settings);
    with_blobs(&mut world.state.lock(), 1..=9);
    sweeper.run(Sweep::Orphans, SweepOptions::default()).await.unwrap();
    let dry = SweepOptions { dry_run: true, ..SweepOptions::default() };
    assert_eq!(sweeper.leftovers(dry).await.unwrap().orphans_removed, 6);
    assert_eq!(sweeper.leftovers(SweepOptions::default()).await.unwrap().orphans_removed, 6);
}

#[tokio::test]
async fn b70_young_blobs_are_left_alone_until_they_are_old_enough() {
    let (world, sweeper, clock) = world();
    let mut settings = sweep_at_once();
    settings.orphans.age = HOUR;
    let sweeper = sweeper.with_settings(settings);
    let drawn = FileKey::generate(clock.wall(), &[1; 10]);
    world.state.lock().blobs.insert(drawn, BlobPath { key: drawn, ..blob(1) });
    clock.advance(HOUR - Duration::from_millis(1));
    assert_eq!(sweeper.leftovers(SweepOptions::default()).await.unwrap().orphans_removed, 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(sweeper.leftovers(SweepOptions::default()).await.unwrap().orphans_removed, 1);
}

#[tokio::test]
async fn jobs_run_at_their_intervals_and_what_killed_writes_left_is_looked_for_at_once() {
    let (world, sweeper, clock) = world();
    let sweeper = Arc::new(sweeper);
    let running = tokio::spawn({
        let sweeper = Arc::clone(&sweeper);
        async move { sweeper.run_schedule().await }
    });
    let ran = async |sweep: Sweep| {
        while !sweeper.runs().iter().any(|run| run.sweep == sweep) {
            tokio::task::yield_now().await;
        }
    };
    ran(Sweep::Leftovers).await;
    ran(Sweep::Orphans).await;
    let tidied = || world.state.lock().events.iter().filter(|event| **event == "tidy").count();
    assert_eq!((sweeper.runs().len(), tidied()), (2, 1));
    clock.advance(HOUR);
    ran(Sweep::Missing).await;
    ran(Sweep::EmptyDirectories).await;
    assert_eq!(tidied(), 3, "staging again, and directories");
    assert!(sweeper.runs().iter().all(|run| run.error.is_none() && run.sweep != Sweep::Junk));
    world.state.lock().untrustworthy = true;
    clock.advance(HOUR);
    running.await.unwrap();
    let failed = sweeper.runs().into_iter().find(|run| run.error.is_some());
    assert!(failed.is_some_and(|run| run.ended_at == clock.wall()));
}

#[tokio::test]
async fn a_job_that_takes_long_holds_up_no_other_one() {
    let (world, sweeper, clock) = world();
    with_blobs(&mut world.state.lock(), [1]);
    world.state.lock().hang_delete = true;
    let sweeper = Arc::new(sweeper);
    let running = tokio::spawn({
        let sweeper = Arc::clone(&sweeper);
        async move { sweeper.run_schedule().await }
    });
    let claimed = Arc::clone(&world.state.lock().claimed);
    until(|| !claimed.lock().is_empty()).await;
    let ran = |sweep: Sweep| sweeper.runs().iter().any(|run| run.sweep == sweep);
    until(|| ran(Sweep::Leftovers)).await;
    clock.advance(HOUR);
    until(|| ran(Sweep::Missing) && ran(Sweep::EmptyDirectories)).await;
    assert!(!ran(Sweep::Orphans), "it hangs");
    running.abort();
}

#[tokio::test]
async fn b70_a_sweep_that_is_dropped_lets_go_of_a_blob_when_its_removal_is_over() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), [1]);
    world.state.lock().hang_delete = true;
    let claimed = Arc::clone(&world.state.lock().claimed);
    tokio::select! {
        biased;
        ran = sweeper.run(Sweep::Orphans, SweepOptions::default()) => panic!("{ran:?}"),
        () = until(|| !claimed.lock().is_empty()) => {}
    }
    assert!(!claimed.lock().is_empty(), "it may still be removed");
    world.state.lock().hang_delete = false;
    world.go.notify_one();
    until(|| claimed.lock().is_empty()).await;
    assert!(world.state.lock().blobs.is_empty());
}

#[tokio::test]
async fn what_is_in_quarantine_uses_up_no_budget() {
    let (world, sweeper, _) = world();
    let mut settings = sweep_at_once();
    (settings.orphans.batch, settings.orphans.budget) = (25, 20);
    let sweeper = sweeper.with_settings(settings);
    with_blobs(&mut world.state.lock(), 1..=60);
    for (_, blob) in world.state.lock().blobs.iter_mut().take(50) {
        blob.area = Area::Quarantine;
    }
    let done = sweeper.run(Sweep::Orphans, SweepOptions::default()).await.unwrap();
    assert_eq!((done.orphans_removed, world.state.lock().blobs.len()), (10, 50));
}

#[tokio::test]
async fn b78_a_read_only_volume_is_one_failure_and_not_one_for_each_file() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), 1..=60);
    {
        let mut state = world.state.lock();
        state.read_only = true;
        state.undeletable = (1..=60).map(key).collect();
    }
    let done = sweeper.run(Sweep::Orphans, SweepOptions::default()).await.unwrap();
    assert_eq!((done.errors, done.failures.len(), done.orphans_removed), (1, 1, 0), "{done:?}");
    assert_eq!(done.failures[0].place, "vol");
    let done = sweeper.run(Sweep::Leftovers, SweepOptions::default()).await.unwrap();
    assert_eq!(done.errors, 1);
    let counted = SweepOptions { dry_run: true, ..SweepOptions::default() };
    assert_eq!(sweeper.run(Sweep::Orphans, counted).await.unwrap().orphans_removed, 60);
}

#[tokio::test]
async fn b78_a_dry_run_counts_what_every_job_would_do_and_changes_nothing() {
    let (world, sweeper, _) = world();
    {
        let mut state = world.state.lock();
        state.waiting.extend([reapable(1), reapable(2)]);
        (state.overdue, state.idle_uploads) = (3, 4);
        state.staged.insert(key(7), blob(7));
        state.staged.insert(key(8), blob(8));
        state.staging.insert(key(8));
    }
    let counted = SweepOptions { dry_run: true, ..SweepOptions::default() };
    let would = async |sweep| sweeper.run(sweep, counted).await.unwrap();
    assert_eq!(would(Sweep::Completed).await.completed_removed, 2);
    assert_eq!(would(Sweep::TimedOut).await.timed_out_reset, 3);
    let leftovers = would(Sweep::Leftovers).await;
    assert_eq!((leftovers.uploads_expired, leftovers.staging_removed, leftovers.space_freed), (4, 2 + 1, 17));
    let store = would(Sweep::Store).await;
    assert_eq!((store.store_bytes_before, store.store_bytes_after, store.space_freed), (9, 4, 5));
    let state = world.state.lock();
    assert_eq!((state.waiting.len(), state.overdue, state.idle_uploads, state.staged.len()), (2, 3, 4, 2));
    assert!(state.events.is_empty(), "{:?}", state.events);
}

#[tokio::test]
async fn b80_the_store_is_optimised_in_its_window_alone() {
    let (_, sweeper, clock) = world();
    let mut settings = sweep_at_once();
    // The window opens two hours after the interval is over.
    let minute = clock.wall().as_micros().rem_euclid(86_400_000_000) / 60_000_000;
    let at = |minute: i64| format!("{:02}:{:02}", minute.rem_euclid(1_440) / 60, minute.rem_euclid(60));
    let window = format!("{}-{}", at(minute + 180), at(minute + 240));
    (settings.store.interval, settings.store.window) = (HOUR, Some(window.parse().unwrap()));
    let sweeper = Arc::new(sweeper.with_settings(settings));
    let running = tokio::spawn({
        let sweeper = Arc::clone(&sweeper);
        async move { sweeper.run_schedule().await }
    });
    let optimised = || sweeper.runs().iter().any(|run| run.sweep == Sweep::Store);
    for _ in 0..170 {
        clock.advance(Duration::from_secs(60));
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }
    assert!(!optimised());
    clock.advance(Duration::from_secs(11 * 60));
    while !optimised() {
        tokio::task::yield_now().await;
    }
    running.abort();
}

#[tokio::test]
async fn a_blob_that_cannot_be_removed_is_counted_and_passed_by() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), [1, 2]);
    world.state.lock().undeletable.insert(key(1));
    let done = sweeper.leftovers(SweepOptions::default()).await.unwrap();
    assert_eq!((done.orphans_removed, done.errors), (1, 1));
}

#[tokio::test]
async fn b73_an_unhealthy_volume_is_left_alone() {
    let (world, sweeper, _) = world();
    with_blobs(&mut world.state.lock(), [1]);
    world.state.lock().unhealthy = true;
    assert_eq!(sweeper.leftovers(SweepOptions::default()).await.unwrap().orphans_removed, 0);
    assert!(world.state.lock().events.is_empty());
}

#[tokio::test]
async fn what_is_staged_goes_unless_an_upload_names_it() {
    let (world, sweeper, _) = world();
    for number in 1..=9 {
        world.state.lock().staged.insert(key(number), blob(number));
    }
    {
        let mut state = world.state.lock();
        state.staging.extend([key(2), key(5)]);
        state.undeletable.insert(key(7));
        state.page_max = 4;
    }
    let done = sweeper.leftovers(SweepOptions::default()).await.unwrap();
    assert_eq!((done.staging_removed, done.errors), (2 + 6, 1), "two of them by tidying");
    let left: Vec<_> = world.state.lock().staged.keys().copied().collect();
    assert_eq!(left, [key(2), key(5), key(7)]);
}

#[tokio::test]
async fn idle_uploads_are_ended_before_what_they_staged_is_looked_for() {
    let (world, sweeper, _) = world();
    world.state.lock().idle_uploads = 600;
    assert_eq!(sweeper.expire_uploads_step().await.unwrap().uploads_expired, 256);
    assert_eq!(sweeper.leftovers(SweepOptions::default()).await.unwrap().uploads_expired, 344);
    assert_eq!(sweeper.statistics().uploads_expired, 600);
}
