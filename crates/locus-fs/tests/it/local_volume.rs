//! A local volume in ordinary life.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{
    Area, BlobPath, Checksum, Content, Durability, Entropy, Extension, FileKey, StoragePath, StorageVolume,
    StoreId, SystemEntropy, Tidy, Timestamp,
};
use locus_fs::{Disk, LocalVolume, OsDisk, VolumeContext, VolumeSpec};
use locus_testkit::{ManualClock, SimDisk, volume_suite};
use rstest::rstest;

use crate::faulty::FaultyDisk;

pub(crate) const STORE: StoreId = StoreId::from_bytes([7; 16]);

pub(crate) fn on(disk: Arc<dyn Disk>) -> VolumeContext {
    VolumeContext { disk, clock: ManualClock::new(), ..VolumeContext::new(STORE) }
}

pub(crate) async fn open(disk: Arc<dyn Disk>, path: &Path) -> locus_core::Result<Arc<dyn StorageVolume>> {
    Box::new(LocalVolume::new("vol-1", path)).open(on(disk)).await
}

/// A volume in a new directory of `dir`, and the disk that it believes to be real.
pub(crate) async fn faulty(dir: &Path) -> (Arc<FaultyDisk>, Arc<dyn StorageVolume>) {
    let disk = FaultyDisk::new();
    let volume = open(disk.clone(), &dir.join("vol")).await.unwrap();
    disk.asked();
    (disk, volume)
}

pub(crate) fn blob(owner: &str, original_name: &str) -> BlobPath {
    let mut random = [0; 10];
    SystemEntropy.fill(&mut random);
    BlobPath {
        area: Area::Live,
        owner: StoragePath::parse(owner).unwrap(),
        key: FileKey::generate(Timestamp::from_micros(1_700_000_000_000_000), &random),
        extension: Extension::of(original_name),
    }
}

pub(crate) async fn write(volume: &Arc<dyn StorageVolume>, at: &BlobPath, bytes: &[u8]) {
    volume.write(at, &mut bytes.into(), Durability::Durable).await.unwrap();
}

pub(crate) async fn head(volume: &Arc<dyn StorageVolume>, at: &BlobPath) -> Vec<u8> {
    volume.open(at, 0..1 << 20).await.unwrap().head.to_vec()
}

/// All files below a directory, relative to it, sorted.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                walk(root, &entry.path(), found);
            } else {
                found.push(entry.path().strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

#[rstest]
#[tokio::test]
async fn it_passes_the_suite_on_real_files(#[values(0, 1, 2, 3)] depth: u8) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    volume_suite::run(async || {
        let path = root.join(blob("acme", "").key.to_string());
        Box::new(LocalVolume::new("vol-1", path).shard_depth(depth)).open(on(Arc::new(OsDisk))).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn it_passes_the_suite_on_a_simulated_disk() {
    volume_suite::run(async || open(SimDisk::new(1), Path::new("/vol")).await.unwrap()).await;
}

#[tokio::test]
async fn b1_a_durable_write_syncs_content_then_names_it_then_syncs_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "x.txt");
    write(&volume, &at, b"hello").await;
    let (path, vol) = (volume.local_path(&at).unwrap(), dir.path().join("vol"));
    let staged = vol.join(".staging").join(at.key.to_string());
    let steps: Vec<_> = disk
        .asked()
        .into_iter()
        .filter(|asked| asked.op.starts_with("sync") || asked.op == "rename_new")
        .map(|asked| (asked.op, asked.path))
        .collect();
    let shard = path.parent().unwrap().to_owned();
    assert_eq!(
        steps,
        [
            ("sync_data", staged.clone()),
            ("sync_dir", vol.clone()),
            ("sync_dir", vol.join("acme")),
            ("rename_new", path),
            ("sync_dir", shard),
        ]
    );
    assert!(!staged.exists());

    let sibling = BlobPath { extension: Extension::of("y.md"), ..at };
    write(&volume, &sibling, b"again").await;
    assert_eq!(disk.asked_for("sync_dir").len(), 1, "known directories are not synced again");
}

#[tokio::test]
async fn buffered_writes_sync_nothing_until_they_are_asked_to() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let (kept, gone) = (blob("acme", ""), blob("acme", ""));
    for at in [&kept, &gone] {
        volume.write(at, &mut "x".into(), Durability::Buffered).await.unwrap();
    }
    volume.delete(&gone).await.unwrap();
    let asked = disk.asked();
    assert!(asked.iter().all(|asked| !asked.op.starts_with("sync")), "{asked:?}");

    volume.sync().await.unwrap();
    let asked = disk.asked();
    let of = |op: &str| -> Vec<_> {
        asked.iter().filter(|asked| asked.op == op).map(|asked| asked.path.clone()).collect()
    };
    assert_eq!(of("sync_data"), [volume.local_path(&kept).unwrap()], "what was deleted needs no sync");
    let vol = dir.path().join("vol");
    for dir in [vol.clone(), vol.join("acme"), volume.local_path(&kept).unwrap().parent().unwrap().to_owned()]
    {
        assert!(of("sync_dir").contains(&dir), "{}", dir.display());
    }

    volume.sync().await.unwrap();
    let asked = disk.asked();
    assert!(asked.iter().all(|asked| !asked.op.starts_with("sync")), "nothing is left to sync: {asked:?}");
}

#[tokio::test]
async fn a_durable_write_syncs_the_directory_names_that_a_buffered_one_made() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "x.txt");
    volume.write(&at, &mut "x".into(), Durability::Buffered).await.unwrap();
    disk.asked();
    write(&volume, &BlobPath { extension: Extension::NONE, ..at }, b"y").await;
    let synced = disk.asked_for("sync_dir");
    let vol = dir.path().join("vol");
    assert!(synced.contains(&vol) && synced.contains(&vol.join("acme")), "{synced:?}");
}

#[tokio::test]
async fn the_first_sync_after_opening_covers_what_a_killed_run_left_unsynced() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    volume.sync().await.unwrap();
    assert!(disk.asked_for("sync_all").is_empty(), "a new volume has no past");
    drop(volume);

    let volume = open(disk.clone(), &dir.path().join("vol")).await.unwrap();
    volume.sync().await.unwrap();
    assert_eq!(disk.asked_for("sync_all"), [dir.path().join("vol")]);
    volume.sync().await.unwrap();
    assert!(disk.asked_for("sync_all").is_empty());
}

#[tokio::test]
async fn a_blob_that_a_killed_run_wrote_is_synced_with_every_name_that_leads_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    volume.write(&at, &mut "x".into(), Durability::Buffered).await.unwrap();
    drop(volume);
    let vol = dir.path().join("vol");
    let volume = open(disk.clone(), &vol).await.unwrap();
    disk.asked();
    volume.sync_blob(&at).await.unwrap();
    let path = volume.local_path(&at).unwrap();
    let asked = disk.asked();
    let synced: Vec<_> =
        asked.iter().filter(|asked| asked.op.starts_with("sync")).map(|asked| &*asked.path).collect();
    assert_eq!(synced, [&path, &vol, &vol.join("acme"), path.parent().unwrap()]);
}

#[tokio::test]
async fn many_removals_share_one_sync_of_their_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let first = blob("acme", "a");
    let blobs =
        ["", "x.a", "x.b", "x.c"].map(|name| BlobPath { extension: Extension::of(name), ..first.clone() });
    for at in &blobs {
        write(&volume, at, b"x").await;
    }
    for at in &blobs {
        assert!(volume.delete(at).await.unwrap());
    }
    disk.asked();
    volume.sync_names().await.unwrap();
    let shard = volume.local_path(&first).unwrap().parent().unwrap().to_owned();
    assert_eq!(disk.asked_for("sync_dir"), std::slice::from_ref(&shard));
    volume.sync_names().await.unwrap();
    assert!(disk.asked_for("sync_dir").is_empty());

    // A run that was killed may have removed it and not have synced that.
    assert!(!volume.delete(&first).await.unwrap());
    volume.sync_names().await.unwrap();
    assert_eq!(disk.asked_for("sync_dir"), [shard]);
}

#[tokio::test]
async fn names_of_a_directory_that_is_gone_are_synced_in_the_one_above() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    write(&volume, &at, b"x").await;
    volume.delete(&at).await.unwrap();
    fs::remove_dir_all(dir.path().join("vol/acme")).unwrap();
    disk.asked();
    volume.sync_names().await.unwrap();
    assert_eq!(disk.asked_for("sync_dir").last().unwrap(), &dir.path().join("vol"));
}

#[rstest]
#[case::reader(false)]
#[case::file(true)]
#[tokio::test]
async fn b8_a_stream_of_unknown_length_is_stored_whole_in_bounded_memory(#[case] as_file: bool) {
    const LENGTH: u64 = 5 * (1 << 20) + 3;
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let bytes: Vec<u8> = (0..LENGTH).map(|n| (n % 251) as u8).collect();
    let mut content = if as_file {
        let path = dir.path().join("source");
        OsDisk.create_new(&path).unwrap().write_at(&bytes, 0).unwrap();
        Content::from(fs::File::open(path).unwrap())
    } else {
        Content::reader(io::Cursor::new(bytes.clone()))
    };
    let at = blob("acme", "");
    let stored = volume.write(&at, &mut content, Durability::Durable).await.unwrap();
    assert_eq!((stored.length, stored.checksum), (LENGTH, Checksum::of(&bytes)));
    assert!(fs::read(volume.local_path(&at).unwrap()).unwrap() == bytes);
    let pieces: Vec<_> =
        disk.asked().into_iter().filter(|asked| asked.op == "write_at").map(|asked| asked.len).collect();
    assert_eq!(pieces, [1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 3]);
}

#[tokio::test]
async fn opening_brings_along_at_most_the_first_mebibyte_of_what_is_expected() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(dir.path()).await;
    let at = blob("acme", "");
    write(&volume, &at, &vec![1; 3 << 20]).await;
    for (expected, len) in [(0..10, 10), (5..3 << 20, 1 << 20), ((3 << 20) - 4..9 << 20, 4), (0..0, 0)] {
        disk.asked();
        let opened = volume.open(&at, expected.clone()).await.unwrap();
        assert_eq!(opened.head.len(), len, "{expected:?}");
        let read: usize =
            disk.asked().iter().filter(|asked| asked.op == "read_at").map(|asked| asked.len).sum();
        assert_eq!(read, len, "no more is read than was expected");
    }
}

#[rstest]
#[case("../x")]
#[case("a/b")]
#[case("a\0b.p\0f")]
#[case("x.\u{202e}fdp")]
#[case("CON")]
#[case("x.tar.gz:stream")]
#[case("/etc/passwd")]
#[tokio::test]
async fn b11_a_hostile_name_leads_nowhere_but_into_its_owners_directory(#[case] name: &str) {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(Arc::new(OsDisk), &dir.path().join("vol")).await.unwrap();
    let at = blob("acme", name);
    write(&volume, &at, b"x").await;
    let key = at.key.to_string();
    let shard = &key[34..];
    assert_eq!(
        files(dir.path()),
        [PathBuf::from("vol/.locus-volume"), format!("vol/acme/{shard}/{key}").into()]
    );
}

#[tokio::test]
async fn b11_a_link_in_place_of_an_owners_directory_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(Arc::new(OsDisk), &dir.path().join("vol")).await.unwrap();
    let outside = dir.path().join("outside");
    OsDisk.create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, dir.path().join("vol/acme")).unwrap();
    let error = volume.write(&blob("acme", ""), &mut "x".into(), Durability::Durable).await.unwrap_err();
    assert!(error.to_string().contains("acme"), "{error}");
    assert!(files(&outside).is_empty());
    assert!(files(&dir.path().join("vol/.staging")).is_empty());
}

#[tokio::test]
async fn a_listing_shows_only_what_is_a_blob_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(Arc::new(OsDisk), &dir.path().join("vol")).await.unwrap();
    let at = blob("acme", "x.pdf");
    write(&volume, &at, b"real").await;
    let path = volume.local_path(&at).unwrap();
    let shard = path.parent().unwrap();
    let junk = |path: PathBuf| drop(OsDisk.create_new(&path).unwrap());
    let other = blob("acme", "").key.to_string();
    junk(shard.join("Thumbs.db"));
    junk(shard.join(at.key.to_string().to_uppercase()));
    junk(shard.join(format!("{}.PDF", at.key)));
    junk(dir.path().join("vol/acme").join(&other)); // a shard level too high
    let elsewhere = if &other[34..] == "00" { "01" } else { "00" };
    OsDisk.create_dir(&dir.path().join("vol/acme").join(elsewhere)).unwrap();
    junk(dir.path().join("vol/acme").join(elsewhere).join(&other)); // another key's shard
    junk(dir.path().join("vol/.staging").join(&other));
    OsDisk.create_dir(&dir.path().join("vol/Not an owner")).unwrap();
    std::os::unix::fs::symlink(&path, shard.join(format!("{}.lnk", at.key))).unwrap();
    std::os::unix::fs::symlink("acme", dir.path().join("vol/linked")).unwrap();
    OsDisk.create_dir(&shard.join(format!("{}.dir", at.key))).unwrap();

    let page = volume.list(None, None, 100).await.unwrap();
    let found: Vec<_> = page.blobs.iter().map(|blob| (&blob.path, blob.length)).collect();
    assert_eq!(found, [(&at, 4)]);
    assert!(page.next.is_none());
}

#[tokio::test]
async fn a_page_stops_after_many_directories_and_goes_on_behind_them() {
    let dir = tempfile::tempdir().unwrap();
    let vol = dir.path().join("vol");
    let volume = open(Arc::new(OsDisk), &vol).await.unwrap();
    for owner in 0..1_500 {
        fs::create_dir_all(vol.join(format!("o{owner:04}/00"))).unwrap();
    }
    let at = blob("zoo", "");
    write(&volume, &at, b"x").await;
    let first = volume.list(None, None, 10).await.unwrap();
    assert!(first.blobs.is_empty());
    let second = volume.list(None, first.next.as_ref(), 10).await.unwrap();
    assert_eq!(second.blobs.len(), 1);
    assert_eq!(second.blobs[0].path, at);
    assert!(second.next.is_none());
}

#[rstest]
#[case("")]
#[case("acme")]
#[case("../../etc/00/x")]
#[case("acme/zz/0190a1b2-c3d4-7e5f-8a6b-0123456789ab")]
#[tokio::test]
async fn a_cursor_that_no_listing_gave_is_refused(#[case] text: &str) {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(Arc::new(OsDisk), &dir.path().join("vol")).await.unwrap();
    let cursor = locus_core::Cursor(text.into());
    let error = volume.list(None, Some(&cursor), 10).await.unwrap_err();
    assert!(matches!(error, locus_core::Error::InvalidArgument { name: "from", .. }), "{error}");
    assert!(volume.list(None, None, 0).await.is_err());
}

#[tokio::test]
async fn the_status_falls_with_every_write_and_is_measured_again_after_a_second() {
    let dir = tempfile::tempdir().unwrap();
    let disk = FaultyDisk::new();
    disk.set_space(10_000, 5_000);
    let clock = ManualClock::new();
    let context = VolumeContext { clock: clock.clone(), ..on(disk.clone()) };
    let volume = Box::new(LocalVolume::new("vol-1", dir.path().join("vol"))).open(context).await.unwrap();
    let available = || volume.status().available;
    assert_eq!((volume.status().total, available()), (10_000, 5_000));
    write(&volume, &blob("acme", ""), &[0; 1_000]).await;
    disk.set_space(10_000, 4_200);
    assert_eq!(available(), 4_000, "the status never blocks");
    clock.advance(Duration::from_secs(1));
    assert_eq!(available(), 4_000);
    let at = blob("acme", "");
    write(&volume, &at, &[0; 200]).await;
    assert_eq!(available(), 4_000, "measured, then 200 less");
    disk.set_space(10_000, 4_900);
    assert_eq!(volume.probe().await.unwrap().available, 4_900);
    disk.set_space(10_000, 9_000);
    clock.advance(Duration::from_secs(1));
    volume.delete(&at).await.unwrap();
    assert_eq!(available(), 9_000, "a full volume sees by its deletions that it has room again");
}

#[tokio::test]
async fn b2_staging_that_a_killed_run_left_is_no_blob_and_is_tidied() {
    let dir = tempfile::tempdir().unwrap();
    let vol = dir.path().join("vol");
    drop(open(Arc::new(OsDisk), &vol).await.unwrap());
    let at = blob("acme", "");
    OsDisk.create_new(&vol.join(".staging").join(at.key.to_string())).unwrap().write_at(b"half", 0).unwrap();
    let volume = open(Arc::new(OsDisk), &vol).await.unwrap();
    assert!(volume.list(None, None, 10).await.unwrap().blobs.is_empty());
    assert!(volume.open(&at, 0..1).await.is_err());
    let report = volume.tidy(Tidy::StaleStaging).await.unwrap();
    assert_eq!((report.removed, report.bytes, report.failed), (1, 4, 0));
    assert_eq!(files(&vol), [PathBuf::from(".locus-volume")]);
}

#[tokio::test]
async fn leftover_staging_of_the_same_key_does_not_hinder_a_write() {
    let dir = tempfile::tempdir().unwrap();
    let volume = open(Arc::new(OsDisk), &dir.path().join("vol")).await.unwrap();
    let at = blob("acme", "");
    let staged = dir.path().join("vol/.staging").join(at.key.to_string());
    OsDisk.create_new(&staged).unwrap().write_at(b"a longer leftover", 0).unwrap();
    write(&volume, &at, b"whole").await;
    assert_eq!(head(&volume, &at).await, b"whole");
}

#[tokio::test]
async fn directories_that_somebody_removed_are_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let vol = dir.path().join("vol");
    let volume = open(Arc::new(OsDisk), &vol).await.unwrap();
    let at = blob("acme", "");
    write(&volume, &at, b"x").await;
    fs::remove_dir_all(vol.join("acme")).unwrap();
    fs::remove_dir(vol.join(".staging")).unwrap();
    write(&volume, &at, b"y").await;
    assert_eq!(head(&volume, &at).await, b"y");
}
