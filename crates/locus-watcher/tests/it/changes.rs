//! Watchers that are changed while they run.

use locus_core::Error;
use locus_testkit::{Fault, OpKind};
use locus_watcher::{AfterImport, FileWatcherConfig};
use rstest::rstest;

use crate::world::{World, put, scan};

#[tokio::test]
async fn what_is_changed_at_run_time_wins_over_restarts_until_it_is_reset() {
    let world = World::new();
    let described = || vec![world.eager().include("*.described")];
    let watchers = world.open(described()).await.unwrap();
    assert!(!watchers.get("in").unwrap().changed_at_run_time);
    watchers.update(world.eager().include("*.changed")).await.unwrap();
    watchers.stop().await;

    let watchers = world.open(described()).await.unwrap();
    let info = watchers.get("in").unwrap();
    assert!(info.changed_at_run_time);
    assert_eq!(info.config.include, ["*.changed"]);
    watchers.reset("in").await.unwrap();
    assert_eq!(watchers.get("in").unwrap().config.include, ["*.described"]);
    watchers.remove("in").await.unwrap();
    watchers.stop().await;

    let watchers = world.open(described()).await.unwrap();
    assert!(watchers.list().is_empty(), "removed, whatever is described");
    watchers.reset("in").await.unwrap();
    assert_eq!(watchers.list().len(), 1);
}

#[tokio::test]
async fn a_registered_watcher_survives_a_crash_right_after() {
    let world = World::new();
    let watchers = world.open(Vec::new()).await.unwrap();
    let derived = watchers.register(world.eager_in("inbox")).await.unwrap();
    assert!(derived.as_str().starts_with("single-"));
    assert!(matches!(watchers.register(world.eager_in("inbox")).await, Err(Error::WatcherExists { .. })));
    watchers.disable(&derived).await.unwrap();
    watchers.stop().await;
    world.disk.crash();
    let watchers = world.open(Vec::new()).await.unwrap();
    let info = watchers.get(&derived).unwrap();
    assert!(!info.config.enabled && info.changed_at_run_time);
    assert!(matches!(watchers.scan_now(&derived).await, Err(Error::WatcherDisabled { .. })));
    watchers.reset(&derived).await.unwrap();
    assert!(watchers.list().is_empty(), "nobody describes it any more");
    assert!(matches!(watchers.reset(&derived).await, Err(Error::WatcherNotFound { .. })));
}

#[tokio::test]
async fn a_change_that_cannot_be_stored_is_no_change() {
    let world = World::new();
    let watchers = world.run(world.eager()).await;
    scan(&watchers).await;
    let fault = world.disk.fail(Fault::io().on(OpKind::Create));
    assert!(matches!(watchers.disable("in").await, Err(Error::Io { .. })));
    world.disk.heal(fault);
    assert!(watchers.get("in").unwrap().config.enabled);
    scan(&watchers).await;
}

#[rstest]
#[case::a_file("path", |w: &World| { put(&w.path("file"), "x"); w.eager_in("file").id("new") })]
#[case::of_the_store("path", |w: &World| w.eager_in("store/volume").id("new"))]
#[case::around_the_store("path", |w: &World| w.eager_in("").id("new"))]
#[case::watched("path", |w: &World| w.eager().id("new"))]
#[case::within_a_watched_one("path", |w: &World| w.eager_in("inbox/deep").id("new"))]
#[case::pattern("include", |w: &World| w.eager_in("new").id("new").include("[z-a]"))]
#[case::in_place("after_import", |w: &World| w.eager().id("new").after_import(AfterImport::Move(w.path("inbox"))))]
#[tokio::test]
async fn b86_a_folder_that_may_not_be_watched_is_refused_by_name_at_the_start_and_later(
    #[case] field: &str,
    #[case] bad: fn(&World) -> FileWatcherConfig,
) {
    let world = World::new();
    world.intake.set_own_places(vec![world.path("store")]);
    let watchers = world.run(world.eager()).await;
    let name = |error: Error| match error {
        Error::InvalidSetting { name, .. } => name.into_owned(),
        other => panic!("{other}"),
    };
    let expected = format!("watchers[new].{field}");
    assert_eq!(name(watchers.register(bad(&world)).await.unwrap_err()), expected);
    assert_eq!(watchers.list().len(), 1);
    watchers.stop().await;
    assert_eq!(name(world.open(vec![world.eager(), bad(&world)]).await.unwrap_err()), expected);
}

#[tokio::test]
async fn a_damaged_file_of_a_watcher_is_named_at_the_start() {
    let world = World::new();
    let watchers = world.open(Vec::new()).await.unwrap();
    watchers.register(world.eager()).await.unwrap();
    watchers.stop().await;
    let path = std::path::Path::new("/watchers/in.watcher");
    let file = locus_fs::Disk::open(&*world.disk, path, true).unwrap();
    file.write_at(b"?", 20).unwrap();
    let error = world.open(Vec::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("/watchers/in.watcher is damaged"), "{error}");
}

#[tokio::test]
async fn unknown_watchers_are_named() {
    let world = World::new();
    let watchers = world.open(Vec::new()).await.unwrap();
    let unknown = |answer: Result<(), Error>| matches!(answer, Err(Error::WatcherNotFound { .. }));
    assert!(unknown(watchers.get("nobody").map(|_| ())));
    assert!(unknown(watchers.remove("nobody").await));
    assert!(unknown(watchers.enable("nobody").await));
    assert!(unknown(watchers.update(world.eager()).await));
    assert!(unknown(watchers.scan_now("nobody").await.map(|_| ())));
}
