//! Another store's volume, taken over because somebody said so.

use std::{path::Path, sync::Arc};

use locus_core::{Error, Result, Staging, StorageVolume, StoreId, Tidy};
use locus_fs::{Adopt, Disk, LocalVolume, NetworkVolume, OsDisk, VolumeContext, VolumeSpec};
use locus_testkit::{Fault, OpKind, SimDisk};

use crate::local_volume::{blob, head, on, open, write};

const VOLUME: &str = "/mnt/vol";

fn spec(path: &Path) -> LocalVolume {
    LocalVolume::new("vol-1", path)
}

/// Opens as the other store does.
async fn as_other(disk: Arc<dyn Disk>, path: &Path) -> Result<Arc<dyn StorageVolume>> {
    let context = VolumeContext { store: StoreId::from_bytes([8; 16]), ..on(disk) };
    Box::new(LocalVolume::new("vol-other", path)).open(context).await
}

async fn adopted(disk: Arc<dyn Disk>, path: &Path, how: Adopt) -> Result<Arc<dyn StorageVolume>> {
    Box::new(spec(path).adopt(how)).open(on(disk)).await
}

fn refusal(opened: Result<Arc<dyn StorageVolume>>) -> String {
    let error = opened.unwrap_err();
    assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test]
async fn an_empty_volume_of_another_store_is_adopted_and_lost_to_that_one() {
    let dir = tempfile::tempdir().unwrap();
    let (os, vol) = (Arc::new(OsDisk), dir.path());
    as_other(os.clone(), vol).await.unwrap().close().await.unwrap();
    let without = refusal(Box::new(spec(vol)).open(on(os.clone())).await);
    assert!(without.contains("belongs to another store"), "{without}");

    let volume = adopted(os.clone(), vol, Adopt::Empty).await.unwrap();
    assert!(volume.probe().await.unwrap().takes_writes());
    let at = blob("acme", "");
    write(&volume, &at, b"ours").await;
    match open(os.clone(), vol).await {
        Err(Error::AlreadyOpen { .. }) => {}
        other => panic!("the new marker is not locked: {other:?}"),
    }
    volume.close().await.unwrap();
    let other = refusal(as_other(os.clone(), vol).await);
    assert!(other.contains("belongs to another store"), "{other}");
    // Said again, it says nothing.
    let volume = adopted(os, vol, Adopt::Empty).await.unwrap();
    assert_eq!(head(&volume, &at).await, b"ours");
}

#[tokio::test]
async fn a_volume_that_cannot_be_looked_through_is_not_taken_for_an_empty_one() {
    let disk = SimDisk::new(5);
    let volume = as_other(disk.clone(), Path::new(VOLUME)).await.unwrap();
    write(&volume, &blob("acme", ""), b"theirs").await;
    volume.close().await.unwrap();
    drop(volume);
    let unreadable = Fault::io().for_good().on(OpKind::ReadDir);
    disk.fail(unreadable.at(|path| path.ends_with("acme")));
    let refused = adopted(disk.clone(), Path::new(VOLUME), Adopt::Empty).await;
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
}

#[tokio::test]
async fn a_volume_with_content_is_adopted_only_when_that_may_be_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (os, vol) = (Arc::new(OsDisk), dir.path());
    let volume = as_other(os.clone(), vol).await.unwrap();
    let at = blob("acme", "x.pdf");
    write(&volume, &at, b"theirs").await;
    volume.close().await.unwrap();
    let refused = refusal(adopted(os.clone(), vol, Adopt::Empty).await);
    assert!(refused.contains("is not empty") && refused.contains(&at.key.to_string()), "{refused}");
    let volume = as_other(os.clone(), vol).await.unwrap();
    assert_eq!(head(&volume, &at).await, b"theirs", "it was left alone");
    volume.close().await.unwrap();

    let volume = adopted(os, vol, Adopt::RemoveUnknown).await.unwrap();
    assert_eq!(volume.list(None, None, 9).await.unwrap().blobs.len(), 1);
}

#[tokio::test]
async fn an_upload_under_way_is_content_too() {
    let dir = tempfile::tempdir().unwrap();
    let (os, vol) = (Arc::new(OsDisk), dir.path());
    let volume = as_other(os.clone(), vol).await.unwrap();
    let at = blob("acme", "");
    volume.stage(&at, Staging::New).await.unwrap();
    volume.close().await.unwrap();
    let refused = refusal(adopted(os.clone(), vol, Adopt::Empty).await);
    assert!(refused.contains(&at.key.to_string()), "{refused}");
    adopted(os, vol, Adopt::RemoveUnknown).await.unwrap();
}

#[tokio::test]
async fn a_volume_that_the_other_store_has_open_is_not_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let (os, vol) = (Arc::new(OsDisk), dir.path());
    let volume = as_other(os.clone(), vol).await.unwrap();
    match adopted(os, vol, Adopt::RemoveUnknown).await {
        Err(Error::AlreadyOpen { path, .. }) => assert_eq!(path, vol),
        other => panic!("{other:?}"),
    }
    assert!(volume.probe().await.unwrap().takes_writes());
}

#[tokio::test]
async fn a_volume_that_is_expected_is_adopted_only_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let (os, vol) = (Arc::new(OsDisk), dir.path());
    as_other(os.clone(), vol).await.unwrap().close().await.unwrap();
    let mut known = spec(vol).adopt(Adopt::RemoveUnknown);
    known.expect_existing();
    let refused = refusal(Box::new(known).open(on(os.clone())).await);
    assert!(refused.contains("that is volume vol-other"), "{refused}");
    let mut known = LocalVolume::new("vol-other", vol).adopt(Adopt::Empty);
    known.expect_existing();
    Box::new(known).open(on(os)).await.unwrap();
}

#[tokio::test]
async fn a_share_is_adopted_as_a_disk_is() {
    let dir = tempfile::tempdir().unwrap();
    let (os, vol) = (Arc::new(OsDisk), dir.path());
    as_other(os.clone(), vol).await.unwrap().close().await.unwrap();
    let spec = NetworkVolume::new("vol-1", vol).adopt(Adopt::Empty);
    let volume = Box::new(spec).open(on(os)).await.unwrap();
    assert!(volume.status().takes_writes());
}

/// A volume of the other store with one content, and nothing unsynced.
async fn theirs(seed: u64) -> (Arc<SimDisk>, locus_core::BlobPath) {
    let disk = SimDisk::new(seed);
    let volume = as_other(disk.clone(), Path::new(VOLUME)).await.unwrap();
    let at = blob("acme", "");
    write(&volume, &at, b"theirs").await;
    volume.close().await.unwrap();
    disk.crash();
    (disk, at)
}

#[tokio::test]
async fn b1_a_power_cut_at_any_operation_of_an_adoption_leaves_a_volume_of_one_of_the_two_stores() {
    let vol = Path::new(VOLUME);
    let (mut old, mut new) = (0, 0);
    let operations = {
        let (disk, _) = theirs(0).await;
        let before = disk.ops();
        adopted(disk.clone(), vol, Adopt::RemoveUnknown).await.unwrap();
        disk.ops() - before
    };
    assert!(operations > 10, "{operations}");
    for (cut, seed) in (1..=operations + 1).flat_map(|cut| (0..20).map(move |seed| (cut, seed))) {
        let (disk, at) = theirs(seed).await;
        disk.crash_at(disk.ops() + cut);
        let opened = adopted(disk.clone(), vol, Adopt::RemoveUnknown).await;
        let is_adopted = opened.is_ok();
        drop(opened);
        disk.crash();
        let (ours, others) = match open(disk.clone(), vol).await {
            Ok(volume) => (Some(volume), None),
            Err(error) => {
                assert!(error.to_string().contains("belongs to another store"), "cut {cut}: {error}");
                (None, Some(as_other(disk.clone(), vol).await.unwrap()))
            }
        };
        assert!(ours.is_some() || !is_adopted, "cut {cut}, seed {seed}: an adoption was undone");
        *(if ours.is_some() { &mut new } else { &mut old }) += 1;
        let volume = ours.or(others).unwrap();
        assert_eq!(head(&volume, &at).await, b"theirs", "cut {cut}, seed {seed}");
        volume.tidy(Tidy::StaleStaging).await.unwrap();
        assert_eq!(disk.read_dir(&vol.join(".staging")).unwrap().count(), 0, "cut {cut}, seed {seed}");
        volume.close().await.unwrap();
        let volume = adopted(disk, vol, Adopt::RemoveUnknown).await.unwrap();
        assert_eq!(head(&volume, &at).await, b"theirs", "cut {cut}, seed {seed}");
    }
    assert!(old > 20 && new > 20, "{old} of the old, {new} of the new");
}
