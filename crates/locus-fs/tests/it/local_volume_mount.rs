//! How a local volume is mounted, recognised, and missed.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Durability, Error, Result, StorageVolume, StoreId};
use locus_fs::{DirLock, Disk, LocalVolume, OsDisk, VolumeContext, VolumeSpec, replace};
use rstest::rstest;

use crate::local_volume::{STORE, blob, files, head, on, open, write};

async fn refusal(spec: LocalVolume) -> String {
    let error = Box::new(spec).open(on(Arc::new(OsDisk))).await.unwrap_err();
    assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
    error.to_string()
}

async fn real(path: &Path) -> Result<Arc<dyn StorageVolume>> {
    open(Arc::new(OsDisk), path).await
}

#[tokio::test]
async fn an_absent_directory_is_made_and_marked() {
    let dir = tempfile::tempdir().unwrap();
    let vol = dir.path().join("a/b/vol");
    let volume = real(&vol).await.unwrap();
    assert_eq!(files(dir.path()), [PathBuf::from("a/b/vol/.locus-volume")]);
    assert_eq!(volume.mount_path(), Some(&*vol));
    assert!(volume.status().takes_writes());
    let marker = fs::read_to_string(vol.join(".locus-volume")).unwrap();
    assert!(marker.starts_with("locus volume\nformat 1\nvolume vol-1\nstore 07070707"), "{marker}");
}

#[tokio::test]
async fn a_fresh_file_system_counts_as_empty() {
    let dir = tempfile::tempdir().unwrap();
    OsDisk.create_dir(&dir.path().join("lost+found")).unwrap();
    real(dir.path()).await.unwrap();
}

#[tokio::test]
async fn the_depth_of_the_marker_outlives_the_description() {
    let dir = tempfile::tempdir().unwrap();
    let vol = dir.path().join("vol");
    let spec = LocalVolume::new("vol-1", &vol).shard_depth(3);
    let volume = Box::new(spec.clone()).open(on(Arc::new(OsDisk))).await.unwrap();
    let at = blob("acme", "x.pdf");
    write(&volume, &at, b"x").await;
    drop(volume);
    let volume = Box::new(spec.shard_depth(0)).open(on(Arc::new(OsDisk))).await.unwrap();
    assert_eq!(head(&volume, &at).await, b"x");
    let path = volume.local_path(&at).unwrap();
    assert_eq!(path.strip_prefix(&vol).unwrap().components().count(), 5);
}

#[tokio::test]
async fn b15_a_volume_mounted_at_another_path_is_readable_and_cleanable() {
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    let at = blob("acme", "x.pdf");
    let volume = real(&before).await.unwrap();
    write(&volume, &at, b"moved").await;
    drop(volume);
    OsDisk.rename(&before, &after).unwrap();
    let volume = real(&after).await.unwrap();
    assert_eq!(head(&volume, &at).await, b"moved");
    assert_eq!(volume.list(None, None, 9).await.unwrap().blobs.len(), 1);
    assert!(volume.delete(&at).await.unwrap());
    assert_eq!(files(&after), [PathBuf::from(".locus-volume")]);
}

#[tokio::test]
async fn b63_a_second_mount_is_refused_with_the_holder_named_until_the_first_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let volume = real(dir.path()).await.unwrap();
    for _ in 0..2 {
        match real(dir.path()).await {
            Err(Error::AlreadyOpen { path, holder }) => {
                assert_eq!(path, dir.path());
                assert_eq!(holder, DirLock::me());
            }
            other => panic!("{other:?}"),
        }
    }
    volume.close().await.unwrap();
    let again = real(dir.path()).await.unwrap();
    drop(again);
    real(dir.path()).await.unwrap();
}

#[tokio::test]
async fn b81_a_volume_of_another_store_or_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(real(dir.path()).await.unwrap());
    let other = StoreId::from_bytes([8; 16]);
    let context = VolumeContext { store: other, ..on(Arc::new(OsDisk)) };
    let error = Box::new(LocalVolume::new("vol-1", dir.path())).open(context).await.unwrap_err();
    assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("vol-1 belongs to another store"), "{error}");
    assert!(error.to_string().contains(&STORE.to_string()), "{error}");

    let message = refusal(LocalVolume::new("vol-2", dir.path())).await;
    assert!(message.contains("vol-2") && message.contains("that is volume vol-1"), "{message}");
}

#[tokio::test]
async fn a_path_that_is_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    replace(&OsDisk, &file, b"precious").unwrap();
    let message = refusal(LocalVolume::new("vol-1", &file)).await;
    assert!(message.contains("file is a file"), "{message}");
    let error = real(&file.join("below")).await.unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[tokio::test]
async fn somebody_elses_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    replace(&OsDisk, &dir.path().join("letter"), b"dear").unwrap();
    let message = refusal(LocalVolume::new("vol-1", dir.path())).await;
    assert!(message.contains("is not empty and has no marker"), "{message}");
    assert_eq!(files(dir.path()), [PathBuf::from("letter")]);
}

#[rstest]
#[case::absent(false)]
#[case::empty(true)]
#[tokio::test]
async fn an_empty_mount_point_of_a_known_volume_is_unavailable_and_stays_empty(#[case] exists: bool) {
    let dir = tempfile::tempdir().unwrap();
    let vol = dir.path().join("vol");
    if exists {
        OsDisk.create_dir(&vol).unwrap();
    }
    let mut spec = LocalVolume::new("vol-1", &vol);
    spec.expect_existing();
    let message = refusal(spec.clone()).await;
    assert!(message.contains("is not mounted"), "{message}");
    assert!(files(dir.path()).is_empty());
    assert_eq!(vol.exists(), exists);
    drop(real(&vol).await.unwrap());
    Box::new(spec).open(on(Arc::new(OsDisk))).await.unwrap();
}

#[tokio::test]
async fn a_marker_that_a_crash_left_unfinished_is_made_again_only_where_nothing_lies() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join(".locus-volume");
    for torn in [&b""[..], &[0; 512], b"locus volume\nformat 1\nvol"] {
        replace(&OsDisk, &marker, torn).unwrap();
        drop(real(dir.path()).await.unwrap());
        drop(real(dir.path()).await.unwrap());
        OsDisk.remove_dir(&dir.path().join(".staging")).unwrap();
    }
    OsDisk.create_dir(&dir.path().join(".staging")).unwrap();
    replace(&OsDisk, &marker, b"locus volume\nformat 1\nvol").unwrap();
    let error = real(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
    assert!(error.to_string().contains(".locus-volume is damaged"), "{error}");
}

#[tokio::test]
async fn b68_a_marker_of_a_newer_format_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    replace(&OsDisk, &dir.path().join(".locus-volume"), b"locus volume\nformat 2\nwho knows\n").unwrap();
    let error = real(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::NewerFormat { found: 2, supported: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn b73_a_vanished_mount_is_unavailable_and_its_blobs_are_not_absent() {
    let dir = tempfile::tempdir().unwrap();
    let (vol, away) = (dir.path().join("vol"), dir.path().join("away"));
    let volume = real(&vol).await.unwrap();
    let at = blob("acme", "");
    write(&volume, &at, b"x").await;
    OsDisk.rename(&vol, &away).unwrap();
    OsDisk.create_dir(&vol).unwrap(); // the bare mount point

    let is_unavailable = |result: Option<Error>| matches!(result, Some(Error::VolumeUnavailable { .. }));
    assert!(is_unavailable(volume.open(&at, 0..1).await.err()));
    assert!(is_unavailable(volume.delete(&at).await.err()));
    assert!(is_unavailable(volume.list(None, None, 9).await.err()));
    assert!(is_unavailable(volume.probe().await.err()));
    assert!(is_unavailable(
        volume.write(&blob("acme", ""), &mut "x".into(), Durability::Durable).await.err()
    ));
    let status = volume.status();
    assert!(!status.is_healthy && status.why.unwrap().contains("is not mounted"));
    assert_eq!(fs::read_dir(&vol).unwrap().count(), 0, "nothing was made on the bare mount point");

    OsDisk.remove_dir(&vol).unwrap();
    OsDisk.rename(&away, &vol).unwrap();
    assert!(volume.probe().await.unwrap().takes_writes());
    assert_eq!(head(&volume, &at).await, b"x");
}

#[tokio::test]
async fn b73_a_write_notices_a_vanished_mount_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (vol, away) = (dir.path().join("vol"), dir.path().join("away"));
    let volume = real(&vol).await.unwrap();
    OsDisk.rename(&vol, &away).unwrap();
    OsDisk.create_dir(&vol).unwrap();
    let error = volume.write(&blob("acme", ""), &mut "x".into(), Durability::Durable).await.unwrap_err();
    assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
    assert_eq!(fs::read_dir(&vol).unwrap().count(), 0);
}

#[tokio::test]
async fn a_probe_tells_a_volume_of_another_store_that_took_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (vol, other) = (dir.path().join("vol"), dir.path().join("other"));
    let volume = real(&vol).await.unwrap();
    let context = VolumeContext { store: StoreId::from_bytes([8; 16]), ..on(Arc::new(OsDisk)) };
    drop(Box::new(LocalVolume::new("vol-1", &other)).open(context).await.unwrap());
    OsDisk.rename(&vol, &dir.path().join("away")).unwrap();
    OsDisk.rename(&other, &vol).unwrap();
    let error = volume.probe().await.unwrap_err();
    assert!(error.to_string().contains("belongs to another store"), "{error}");
    assert!(!volume.status().is_healthy);
}

#[rstest]
#[case::name(LocalVolume::new("No Name", "/x"), "volume id")]
#[case::depth(LocalVolume::new("vol-1", "/x").shard_depth(4), "shard_depth")]
#[case::path(LocalVolume::new("vol-1", ""), "path")]
#[tokio::test]
async fn a_wrong_description_is_refused_when_it_is_opened(#[case] spec: LocalVolume, #[case] named: &str) {
    let error = Box::new(spec).open(on(Arc::new(OsDisk))).await.unwrap_err();
    assert!(error.to_string().contains(named), "{error}");
}

/// A disk that is unplugged and plugged in again is another file system at the same path.
#[tokio::test]
async fn b63_b73_a_volume_whose_disk_came_back_is_locked_again() {
    let dir = tempfile::tempdir().unwrap();
    let (vol, unplugged) = (dir.path().join("vol"), dir.path().join("unplugged"));
    let volume = real(&vol).await.unwrap();
    OsDisk.rename(&vol, &unplugged).unwrap();
    volume.probe().await.unwrap_err();
    fs::create_dir(&vol).unwrap();
    fs::copy(unplugged.join(".locus-volume"), vol.join(".locus-volume")).unwrap();
    assert!(volume.probe().await.unwrap().takes_writes());
    let second = real(&vol).await;
    assert!(matches!(second, Err(Error::AlreadyOpen { .. })), "{second:?}");
    // Nothing keeps the one that went in use.
    drop(real(&unplugged).await.unwrap());
    // One that only was not to be read for a moment keeps its lock.
    OsDisk.rename(&vol.join(".locus-volume"), &vol.join("hidden")).unwrap();
    volume.probe().await.unwrap_err();
    OsDisk.rename(&vol.join("hidden"), &vol.join(".locus-volume")).unwrap();
    assert!(volume.probe().await.unwrap().takes_writes());
    assert!(matches!(real(&vol).await, Err(Error::AlreadyOpen { .. })));
    volume.close().await.unwrap();
    real(&vol).await.unwrap();
}
