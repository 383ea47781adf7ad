//! The power goes at any moment of what a watcher writes. The watched folder and the store stay: theirs is another disk.

use locus_core::Error;
use locus_watcher::{AfterImport, FileWatchers};

use crate::world::{S, World};

/// Opens, imports, changes, restarts; ends early when the disk is gone.
async fn life(world: &World, keep: bool) -> Result<(), Error> {
    let after = if keep { AfterImport::Keep } else { AfterImport::Delete };
    let watchers = world.open(vec![world.eager().after_import(after)]).await?;
    let lived = busy(world, &watchers).await;
    watchers.stop().await;
    lived
}

async fn busy(world: &World, watchers: &FileWatchers) -> Result<(), Error> {
    watchers.scan_now("in").await?;
    for number in 0..5 {
        world.drop_file(&format!("later-{number}"), "x");
    }
    watchers.scan_now("in").await?;
    let _ = std::fs::remove_file(world.path("inbox/0"));
    world.clock.advance(3600 * S);
    watchers.scan_now("in").await.map(|_| ())
}

#[tokio::test]
async fn b83_wherever_the_power_goes_each_source_is_imported_once_and_none_is_remembered_for_ever() {
    for keep in [false, true] {
        let mut crashes = 0;
        for at in 0.. {
            let world = World::new();
            for number in 0..5 {
                world.drop_file(&format!("{number}"), "x");
            }
            world.disk.crash_at(world.disk.ops() + at);
            let _ = life(&world, keep).await; // it may have come to its end
            let crashed = world.disk.is_down();
            world.disk.crash();
            world.intake.refuse_nothing();
            life(&world, keep).await.unwrap();
            let arrived = world.arrived();
            // What is dropped again while the first is there is another source.
            let names: std::collections::BTreeSet<_> = arrived.iter().collect();
            assert_eq!(names.len(), 10, "at {at}: {arrived:?}");
            let first: Vec<_> = arrived.iter().filter(|name| !name.starts_with("later")).collect();
            assert_eq!(first.len(), 5, "at {at}: {arrived:?}");
            let left = world.files("inbox").len();
            assert_eq!(world.intake.remembered(), left, "at {at}: what is gone is forgotten");
            if !crashed {
                break;
            }
            crashes += 1;
        }
        assert!(crashes > 10, "only {crashes} crashes");
    }
}
