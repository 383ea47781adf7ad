//! A directory or file that cannot be looked at is named and passed by: the rest of its volume is gone through.

use std::{path::Path, sync::Arc};

use locus_core::{
    Area, BlobPath, Cursor, DirSweep, JunkSweep, Names, StorageVolume, Tidy, TidyReport, Unread,
};
use locus_testkit::{Fault, OpKind, SimDisk};
use rstest::rstest;

use crate::{
    local_volume::{open, write},
    tidy::in_shard,
};

/// `acme/00`, `acme/01` and `acme/02` each with a blob, and with one among the dead letters.
async fn volume() -> (Arc<SimDisk>, Arc<dyn StorageVolume>, Vec<BlobPath>) {
    let disk = SimDisk::new(3);
    let volume = open(disk.clone(), Path::new("/vol")).await.unwrap();
    let blobs: Vec<_> = (0..3).map(|shard| in_shard("acme", shard)).collect();
    for at in &blobs {
        write(&volume, at, b"x").await;
        volume.copy(at, Area::DeadLetters).await.unwrap();
    }
    (disk, volume, blobs)
}

fn fail(disk: &SimDisk, kind: OpKind, at: &'static str) {
    disk.fail(Fault::io().for_good().on(kind).at(move |path| path.starts_with(at)));
}

async fn list(volume: &Arc<dyn StorageVolume>, limit: usize) -> (Vec<BlobPath>, Vec<Unread>) {
    let (mut blobs, mut unread, mut from) = (Vec::new(), Vec::new(), None::<Cursor>);
    loop {
        let mut page = volume.list(None, from.as_ref(), limit).await.unwrap();
        blobs.extend(page.blobs.into_iter().map(|found| found.path));
        unread.append(&mut page.unread);
        match page.next {
            Some(next) => from = Some(next),
            None => return (blobs, unread),
        }
    }
}

#[rstest]
#[case::a_directory(OpKind::ReadDir, "/vol/acme/01", 5)]
#[case::an_owner(OpKind::ReadDir, "/vol/acme", 3)]
#[case::an_area(OpKind::ReadDir, "/vol/.deadletter", 3)]
#[case::a_file(OpKind::Metadata, "/vol/acme/01", 5)]
#[tokio::test]
async fn b78_what_cannot_be_looked_at_is_named_and_the_other_blobs_are_listed(
    #[case] kind: OpKind,
    #[case] at: &'static str,
    #[case] found: usize,
    #[values(1, 100)] limit: usize,
) {
    let (disk, volume, _) = volume().await;
    fail(&disk, kind, at);
    let (blobs, unread) = list(&volume, limit).await;
    assert_eq!(blobs.len(), found);
    assert!(!unread.is_empty() && unread.iter().all(|unread| unread.path.starts_with(at)), "{unread:?}");
    let page = volume.list(None, None, 100).await.unwrap();
    assert!(page.whole().is_err(), "whoever must know all does not take it for all");
    disk.heal_all();
    assert_eq!(list(&volume, limit).await.0.len(), 6);
}

#[tokio::test]
async fn b78_what_cannot_be_looked_at_is_named_and_the_rest_is_tidied() {
    let (disk, volume, blobs) = volume().await;
    for at in &blobs {
        volume.delete(at).await.unwrap();
    }
    fail(&disk, OpKind::ReadDir, "/vol/acme/01");
    let tidy = async |what| volume.tidy(what).await.unwrap();
    let junk = JunkSweep { names: Names::new(|_| true), ..JunkSweep::default() };
    let TidyReport { unread, .. } = tidy(Tidy::Junk(junk)).await;
    assert_eq!(
        unread.iter().map(|unread| unread.path.as_path()).collect::<Vec<_>>(),
        [Path::new("/vol/acme/01")]
    );
    let done = tidy(Tidy::EmptyDirectories(DirSweep::default())).await;
    assert_eq!((done.removed, done.failed), (2, 0));

    disk.heal_all();
    fail(&disk, OpKind::ReadDir, "/vol/.deadletter/acme");
    let done = tidy(Tidy::EmptyDirectories(DirSweep::default())).await;
    assert_eq!((done.removed, done.unread.len()), (1, 1));
}
