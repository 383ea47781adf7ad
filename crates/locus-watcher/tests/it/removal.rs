//! Of a watcher that was removed nothing is remembered in the end.

use std::path::Path;

use locus_core::Error;
use locus_fs::Disk;
use locus_testkit::Forgetting;
use locus_watcher::{AfterImport, FileWatcherConfig, FileWatchers};

use crate::world::{World, in_time, scan, until};

fn keep(world: &World) -> FileWatcherConfig {
    world.eager().after_import(AfterImport::Keep)
}

/// With a source that was imported and is kept.
async fn with_one_kept(world: &World) -> FileWatchers {
    world.drop_file("a", "x");
    let watchers = world.open(Vec::new()).await.expect("a good disk");
    watchers.register(keep(world)).await.expect("a good folder");
    scan(&watchers).await;
    assert_eq!(world.intake.remembered(), 1);
    watchers
}

fn is_clean(world: &World) -> bool {
    let files = world.disk.read_dir(Path::new("/watchers")).expect("a good disk").count();
    world.intake.remembered() == 0 && files == 0
}

#[tokio::test]
async fn what_could_not_be_forgotten_is_forgotten_after_the_next_start() {
    let world = World::new();
    let watchers = with_one_kept(&world).await;
    world.intake.let_forgetting(Forgetting::Fails);
    watchers.remove("in").await.unwrap();
    assert!(watchers.list().is_empty() && world.intake.remembered() == 1);
    assert!(
        matches!(watchers.register(keep(&world)).await, Err(Error::Io { .. })),
        "it would know its sources"
    );
    watchers.stop().await;
    world.intake.let_forgetting(Forgetting::Works);
    let watchers = world.open(Vec::new()).await.unwrap();
    until("everything to be forgotten", || is_clean(&world)).await;
    drop(watchers);
}

#[tokio::test]
async fn to_forget_many_holds_up_no_change_and_not_the_end_but_one_of_the_same_name() {
    let world = World::new();
    let watchers = with_one_kept(&world).await;
    world.intake.let_forgetting(Forgetting::Stalls);
    let removing = tokio::spawn({
        let watchers = watchers.clone();
        async move { watchers.remove("in").await }
    });
    until("the removal", || watchers.list().is_empty()).await;
    std::fs::create_dir(world.path("other")).unwrap();
    in_time("another", watchers.register(world.eager_in("other"))).await.unwrap();
    let again = tokio::spawn({
        let (watchers, config) = (watchers.clone(), keep(&world));
        async move { watchers.register(config).await }
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!again.is_finished());
    world.intake.let_forgetting(Forgetting::Works);
    in_time("the removal", removing).await.unwrap().unwrap();
    in_time("the same again", again).await.unwrap().unwrap();
    scan(&watchers).await;
    assert_eq!(world.arrived(), ["a", "a"], "imported anew");

    world.intake.let_forgetting(Forgetting::Stalls);
    let removing = tokio::spawn({
        let watchers = watchers.clone();
        async move { watchers.remove("in").await }
    });
    until("the removal", || watchers.list().len() == 1).await;
    in_time("the end", watchers.stop()).await;
    in_time("the removal", removing).await.unwrap().unwrap();
}

#[tokio::test]
async fn wherever_the_power_goes_a_watcher_is_there_with_what_it_knows_or_gone_with_it() {
    let mut crashes = 0;
    for at in 0.. {
        let world = World::new();
        let watchers = with_one_kept(&world).await;
        world.disk.crash_at(world.disk.ops() + at);
        let removed = watchers.remove("in").await;
        watchers.stop().await;
        let crashed = world.disk.is_down();
        world.disk.crash();
        let watchers = world.open(Vec::new()).await.unwrap();
        match watchers.list().len() {
            0 => until("everything to be forgotten", || is_clean(&world)).await,
            _ => {
                assert!(removed.is_err(), "at {at}: it was confirmed");
                scan(&watchers).await;
                assert_eq!((world.intake.remembered(), world.arrived().len()), (1, 1), "at {at}");
            }
        }
        watchers.stop().await;
        if !crashed {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 5, "only {crashes} crashes");
}
