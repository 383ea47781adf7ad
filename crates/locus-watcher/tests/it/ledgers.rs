//! What a watcher keeps of its sources, and what it cannot read.

use std::{fs, path::Path};

use locus_core::Error;
use locus_fs::Disk;
use locus_watcher::AfterImport;

use crate::world::{S, World, scan};

/// As it is after a downgrade, and after a disk that lost its mind.
#[tokio::test]
async fn b68_a_ledger_that_cannot_be_read_stops_its_watcher_and_is_left_as_it_is() {
    for (bytes, at, is_newer) in [(&b"\x05"[..], 7, true), (&b"X"[..], 0, false)] {
        let world = World::new();
        let keep = || world.eager().after_import(AfterImport::Keep);
        let source = world.drop_file("a", "x");
        let watchers = world.run(keep()).await;
        scan(&watchers).await;
        watchers.stop().await;
        let ledger = Path::new("/watchers/in.ledger");
        let change = |bytes: &[u8]| {
            let file = world.disk.open(ledger, true).unwrap();
            file.write_at(bytes, at).unwrap();
        };
        change(bytes);
        let watchers = world.run(keep()).await;
        for _ in 0..2 {
            let error = watchers.scan_now("in").await.unwrap_err();
            let named = match &error {
                Error::NewerFormat { place, .. } => is_newer && place.contains("in.ledger"),
                Error::Corrupt { place, .. } => !is_newer && place.contains("in.ledger"),
                _ => false,
            };
            assert!(named, "{error}");
        }
        assert!(watchers.get("in").unwrap().trouble.is_some());
        watchers.stop().await;
        // Nothing of it was lost.
        change(if is_newer { b"\x04" } else { b"L" });
        fs::remove_file(source).unwrap();
        let watchers = world.run(keep()).await;
        scan(&watchers).await;
        assert_eq!(world.intake.remembered(), 0);
        watchers.stop().await;
    }
}

#[tokio::test]
async fn what_was_kept_is_still_known_after_a_change_of_mode_and_forgotten_when_it_is_gone() {
    for begins_single in [true, false] {
        let world = World::new();
        let source = world.drop_file("acme/a", "x");
        let single = || world.eager().after_import(AfterImport::Keep);
        let multi = || world.multi().after_import(AfterImport::Keep);
        let (first, second) = if begins_single { (single(), multi()) } else { (multi(), single()) };
        let watchers = world.open(Vec::new()).await.unwrap();
        watchers.register(first).await.unwrap();
        scan(&watchers).await;
        watchers.update(second).await.unwrap();
        scan(&watchers).await;
        assert_eq!((world.intake.remembered(), world.arrived().len()), (1, 1));
        fs::remove_file(source).unwrap();
        world.clock.advance(2 * 3600 * S);
        scan(&watchers).await;
        assert_eq!(world.intake.remembered(), 0);
        watchers.stop().await;
    }
}
