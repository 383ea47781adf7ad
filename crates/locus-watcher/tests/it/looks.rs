//! Looks that a program makes itself, with a schedule of its own and without a runtime.

use std::{
    path::Path,
    pin::pin,
    task::{Context, Poll, Waker},
};

use locus_core::Error;
use locus_fs::Disk;
use locus_watcher::{FileWatchers, SkipReason, WatchersOptions};

use crate::world::{RESTED, S, World, in_time, scan};

/// Nobody else runs meanwhile, and nobody wakes anybody.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("it waits for somebody"),
    }
}

fn in_place(world: &World, options: WatchersOptions) -> FileWatchers {
    world.clock.advance(S);
    at_once(FileWatchers::open(WatchersOptions { in_place: true, ..options })).expect("good descriptions")
}

#[test]
fn looks_need_neither_a_runtime_nor_threads_and_are_told_as_scans_are() {
    let world = World::new();
    let watchers = in_place(&world, world.options(vec![world.eager()]));
    world.drop_file("a/one.txt", "one");
    let report = at_once(watchers.look("in")).unwrap();
    assert_eq!((report.imported, world.arrived()), (1, vec!["one.txt".to_owned()]));
    assert!(world.files("inbox").is_empty());
    world.drop_file("two.txt", "two");
    assert_eq!(at_once(watchers.look("in")).unwrap().imported, 1);
    let info = watchers.get("in").unwrap();
    assert_eq!((info.last_report.unwrap().imported, info.total.imported), (1, 2));
    assert!(info.last_scan.is_some() && info.trouble.is_none());
    assert_eq!(world.intake.remembered(), 0, "what is gone is forgotten");
}

#[test]
fn what_a_look_saw_is_known_to_the_next_one_and_explained() {
    let world = World::new();
    let watchers = in_place(&world, world.options(vec![world.watcher()]));
    let path = world.drop_file("one.txt", "one");
    assert_eq!(at_once(watchers.look("in")).unwrap().skipped[&SkipReason::Young], 1);
    assert_eq!(at_once(watchers.explain(&path)).unwrap().held_by, Some(SkipReason::Young));
    world.clock.advance(RESTED);
    let explained = at_once(watchers.explain(&path)).unwrap();
    assert_eq!((explained.held_by, explained.next_look), (None, None));
    assert_eq!(at_once(watchers.look("in")).unwrap().imported, 1);
}

#[test]
fn watchers_are_registered_changed_and_removed_without_a_runtime() {
    let world = World::new();
    let watchers = in_place(&world, world.options(Vec::new()));
    assert!(matches!(at_once(watchers.look("in")), Err(Error::WatcherNotFound { .. })));
    at_once(watchers.register(world.eager().after_import(locus_watcher::AfterImport::Keep))).unwrap();
    world.drop_file("one.txt", "one");
    assert_eq!(at_once(watchers.look("in")).unwrap().imported, 1);
    at_once(watchers.disable("in")).unwrap();
    assert!(matches!(at_once(watchers.look("in")), Err(Error::WatcherDisabled { .. })));
    at_once(watchers.enable("in")).unwrap();
    assert_eq!(at_once(watchers.look("in")).unwrap().skipped[&SkipReason::Imported], 1);
    at_once(watchers.remove("in")).unwrap();
    assert_eq!(world.intake.remembered(), 0, "it is forgotten before the call returns");
    at_once(watchers.stop());
    assert!(matches!(at_once(watchers.look("in")), Err(Error::ShuttingDown)));
}

#[test]
fn who_asks_for_a_scan_where_no_watcher_was_started_is_told_to_look() {
    let world = World::new();
    let watchers = in_place(&world, world.options(vec![world.eager()]));
    let refused = at_once(watchers.scan_now("in")).unwrap_err();
    assert!(
        matches!(refused, Error::InvalidArgument { .. }) && refused.to_string().contains("`look`"),
        "{refused}"
    );
    assert!(matches!(at_once(watchers.scan_now("out")), Err(Error::WatcherNotFound { .. })));
    at_once(watchers.disable("in")).unwrap();
    assert!(matches!(at_once(watchers.scan_now("in")), Err(Error::WatcherDisabled { .. })));
    at_once(watchers.stop());
    assert!(matches!(at_once(watchers.scan_now("in")), Err(Error::ShuttingDown)));
}

#[test]
fn a_change_that_was_dropped_half_way_leaves_a_watcher_that_can_be_looked_for() {
    let world = World::new();
    let watchers = in_place(&world, world.options(vec![world.eager()]));
    world.drop_file("one.txt", "one");
    world.intake.stall(Some("one.txt"));
    let mut context = Context::from_waker(Waker::noop());
    let mut looking = pin!(watchers.look("in"));
    assert!(looking.as_mut().poll(&mut context).is_pending());
    let mut change = Box::pin(watchers.update(world.eager().exclude("two.*")));
    assert!(change.as_mut().poll(&mut context).is_pending(), "it waits for the look");
    drop(change);
    world.intake.stall(None);
    let Poll::Ready(looked) = looking.poll(&mut context) else { panic!("it waits for somebody") };
    assert_eq!(looked.unwrap().imported, 1);
    at_once(watchers.update(world.eager().exclude("two.*"))).unwrap();
    world.drop_file("two.txt", "two");
    assert_eq!(at_once(watchers.look("in")).unwrap().skipped[&SkipReason::Excluded], 1);
}

#[tokio::test]
async fn a_look_is_a_scan_of_watchers_that_were_started() {
    let world = World::new();
    let watchers = FileWatchers::open(world.options(vec![world.eager()])).await.unwrap();
    world.drop_file("one.txt", "one");
    assert_eq!(watchers.look("in").await.unwrap().imported, 1);
    watchers.start();
    world.drop_file("two.txt", "two");
    assert_eq!(watchers.look("in").await.unwrap().imported + scan(&watchers).await.imported, 1);
    watchers.stop().await;
}

#[tokio::test]
async fn a_change_ends_the_look_under_way_and_the_next_one_goes_by_it() {
    let world = World::new();
    let watchers = FileWatchers::open(world.options(vec![world.eager()])).await.unwrap();
    world.drop_file("one.txt", "one");
    world.intake.stall(Some("one.txt"));
    let looking = tokio::spawn({
        let watchers = watchers.clone();
        async move { watchers.look("in").await }
    });
    let noted = || world.disk.metadata(Path::new("/watchers/in.ledger")).is_ok_and(|ledger| ledger.len > 16);
    while !noted() {
        tokio::task::yield_now().await;
    }
    in_time("the change", watchers.update(world.eager().exclude("one.*"))).await.unwrap();
    let report = in_time("the look", looking).await.unwrap().unwrap();
    assert_eq!(report.skipped[&SkipReason::Excluded], 1);
    watchers.stop().await;
}

#[test]
fn what_a_look_did_before_it_failed_counts() {
    let world = World::new();
    let watchers = in_place(&world, world.options(vec![world.eager().concurrent_imports(1)]));
    world.drop_file("a", "one");
    world.drop_file("b", "two");
    world.intake.refuse_by(|file| (file.original_name == "b").then_some(Error::ShuttingDown));
    assert!(matches!(at_once(watchers.look("in")), Err(Error::ShuttingDown)));
    let info = watchers.get("in").unwrap();
    assert_eq!((info.total.imported, info.total.bytes, info.last_report.unwrap().imported), (1, 3, 1));
    assert!(info.trouble.is_some());
}
