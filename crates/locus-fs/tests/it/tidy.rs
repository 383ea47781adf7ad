//! Empty directories, and files of other programs.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use locus_core::{
    Area, BlobPath, DirSweep, Durability, FileKey, JunkSweep, Names, StorageVolume, Tidy, TidyReport,
};
use locus_fs::{LocalVolume, OsDisk, VolumeSpec};
use locus_testkit::SimDisk;

use crate::local_volume::{blob, faulty, head, on, open, write};

/// All directories below one, relative to it, sorted.
fn dirs(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                found.push(entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                walk(root, &entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}

/// All steps of a sweep.
async fn sweep(volume: &Arc<dyn StorageVolume>, mut what: DirSweep) -> TidyReport {
    let mut all = TidyReport::default();
    loop {
        let step = volume.tidy(Tidy::EmptyDirectories(what.clone())).await.unwrap();
        all.removed += step.removed;
        all.failed += step.failed;
        match step.next {
            Some(next) => what.from = Some(next),
            None => return all,
        }
    }
}

/// An address whose blob rests in the shard that this byte names.
pub(crate) fn in_shard(owner: &str, shard: u8) -> BlobPath {
    let at = blob(owner, "");
    let mut key = *at.key.as_bytes();
    key[15] = shard;
    BlobPath { key: FileKey::from_bytes(key), ..at }
}

async fn volume(dir: &Path) -> (PathBuf, Arc<dyn StorageVolume>) {
    let path = dir.join("vol");
    let volume = open(Arc::new(OsDisk), &path).await.unwrap();
    (path, volume)
}

#[tokio::test]
async fn b78_directories_that_became_empty_go_but_the_mount_owners_and_protected_ones_stay() {
    let temp = tempfile::tempdir().unwrap();
    let (path, volume) = volume(temp.path()).await;
    let blobs = [in_shard("acme", 0), in_shard("acme", 1), in_shard("b", 0), in_shard("b", 2)];
    for at in &blobs {
        write(&volume, at, b"x").await;
        volume.copy(at, Area::DeadLetters).await.unwrap();
    }
    for at in &blobs[..3] {
        volume.delete(at).await.unwrap();
        volume.delete(&at.in_area(Area::DeadLetters)).await.unwrap();
    }
    let before = dirs(&path);
    let protected = Names::new(|dir| dir == "acme/01");
    let counted = sweep(&volume, DirSweep { dry_run: true, protected, ..DirSweep::default() }).await;
    assert_eq!((counted.removed, dirs(&path)), (5, before), "a dry run removes nothing");

    let protected = Names::new(|dir| dir == "acme/01");
    let done = sweep(&volume, DirSweep { protected, ..DirSweep::default() }).await;
    assert_eq!((done.removed, done.failed), (6, 0), "a directory that is emptied by that goes, too");
    let left =
        [".deadletter", ".deadletter/b", ".deadletter/b/02", ".staging", "acme", "acme/01", "b", "b/02"];
    assert_eq!(dirs(&path), left);
    assert_eq!(sweep(&volume, DirSweep::default()).await.removed, 1);

    volume.delete(&blobs[3]).await.unwrap();
    volume.delete(&blobs[3].in_area(Area::DeadLetters)).await.unwrap();
    let other = DirSweep { owner: Some(blobs[0].owner.clone()), ..DirSweep::default() };
    assert_eq!(sweep(&volume, other).await.removed, 0, "what is another owner's is left alone");
    assert_eq!(sweep(&volume, DirSweep::default()).await.removed, 4);
    assert_eq!(dirs(&path), [".staging", "acme", "b"]);
    write(&volume, &blobs[0], b"again").await;
    assert_eq!(head(&volume, &blobs[0]).await, b"again");
}

#[tokio::test]
async fn what_a_removal_emptied_is_remembered_and_what_is_in_use_is_spared_once() {
    let temp = tempfile::tempdir().unwrap();
    let (path, volume) = volume(temp.path()).await;
    let queued = DirSweep { emptied: true, idle: true, ..DirSweep::default() };
    let (first, second) = (in_shard("acme", 0), in_shard("acme", 1));
    for at in [&first, &second] {
        write(&volume, at, b"x").await;
    }
    assert_eq!(sweep(&volume, queued.clone()).await.removed, 0);
    volume.delete(&first).await.unwrap();
    assert_eq!(sweep(&volume, queued.clone()).await.removed, 0, "it was used since the last time");
    assert_eq!(sweep(&volume, queued.clone()).await.removed, 1);
    assert_eq!(dirs(&path), [".staging", "acme", "acme/01"]);

    // A directory that nobody removed anything from is not looked at.
    fs::create_dir(path.join("acme/02")).unwrap();
    assert_eq!(sweep(&volume, queued.clone()).await.removed, 0);
    assert_eq!(sweep(&volume, DirSweep::default()).await.removed, 1);
}

#[tokio::test]
async fn b79_what_removals_emptied_is_gone_through_step_by_step_and_what_is_spared_waits_for_the_next_sweep()
{
    let temp = tempfile::tempdir().unwrap();
    let (path, volume) = volume(temp.path()).await;
    let blobs: Vec<_> = (0..7).map(|shard| in_shard("acme", shard)).collect();
    for at in &blobs {
        write(&volume, at, b"x").await;
        volume.copy(at, Area::DeadLetters).await.unwrap();
        volume.delete(at).await.unwrap();
        volume.delete(&at.in_area(Area::DeadLetters)).await.unwrap();
    }
    let queued = DirSweep { emptied: true, idle: true, dirs_max: 3, ..DirSweep::default() };
    assert_eq!(sweep(&volume, queued.clone()).await.removed, 0, "all were used, and none is looked at twice");
    let (mut steps, mut removed, mut what) = (0, 0, queued.clone());
    loop {
        let step = volume.tidy(Tidy::EmptyDirectories(what.clone())).await.unwrap();
        assert!(step.removed <= 3, "a step is bounded");
        (steps, removed) = (steps + 1, removed + step.removed);
        let Some(next) = step.next else { break };
        what.from = Some(next);
    }
    // All shards, and then what is above them, which was used, too.
    assert_eq!((steps, removed), (6, 14));
    assert_eq!(dirs(&path), [".deadletter", ".deadletter/acme", ".staging", "acme"]);
    assert_eq!(sweep(&volume, queued.clone()).await.removed, 1);
    assert_eq!(sweep(&volume, queued.clone()).await.removed, 1);
    assert_eq!(dirs(&path), [".staging", "acme"], "an owner's own stays");

    // A sweep that ends after its first step leaves the rest to the next one.
    for at in &blobs {
        write(&volume, at, b"x").await;
        volume.delete(at).await.unwrap();
    }
    let used = DirSweep { idle: false, ..queued };
    let first = volume.tidy(Tidy::EmptyDirectories(used.clone())).await.unwrap();
    assert!(first.removed == 3 && first.next.is_some());
    assert_eq!(sweep(&volume, used).await.removed, 4);
}

#[tokio::test]
async fn b79_many_directories_are_gone_through_step_by_step_each_once() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("vol");
    let description = LocalVolume::new("vol-1", &path).shard_depth(2);
    let volume = Box::new(description).open(on(Arc::new(OsDisk))).await.unwrap();
    for owner in ["a", "b"] {
        for number in 0..1_500_u32 {
            fs::create_dir_all(path.join(format!("{owner}/{:02x}/{:02x}", number / 256, number % 256)))
                .unwrap();
        }
    }
    let (mut steps, mut removed) = (0, 0);
    let mut what = DirSweep::default();
    loop {
        let step = volume.tidy(Tidy::EmptyDirectories(what.clone())).await.unwrap();
        assert!(step.removed <= 1_024, "a step is bounded");
        (steps, removed) = (steps + 1, removed + step.removed);
        let Some(next) = step.next else { break };
        what.from = Some(next);
    }
    assert_eq!((steps, removed), (3, 2 * (1_500 + 6)));
    assert_eq!(dirs(&path), [".staging", "a", "b"]);
}

/// Writes of all durabilities into few directories, which are emptied and removed all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b78_a_write_beside_the_removal_of_its_directory_succeeds() {
    let temp = tempfile::tempdir().unwrap();
    let (_, volume) = volume(temp.path()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let sweeper = {
        let (volume, stop) = (Arc::clone(&volume), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut removed = 0;
            while !stop.load(Relaxed) || removed == 0 {
                let done = sweep(&volume, DirSweep::default()).await;
                assert_eq!(done.failed, 0);
                removed += done.removed;
                tokio::task::yield_now().await;
            }
            removed
        })
    };
    let writers = (0..8_u8).map(|task| {
        let volume = Arc::clone(&volume);
        tokio::spawn(async move {
            for round in 0..40_u8 {
                let at = in_shard("acme", (task + round) % 3);
                let how = if round % 2 == 0 { Durability::Durable } else { Durability::Buffered };
                volume.write(&at, &mut b"x".as_slice().into(), how).await.unwrap();
                assert_eq!(head(&volume, &at).await, b"x");
                assert!(volume.delete(&at).await.unwrap());
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    volume.sync().await.unwrap();
    stop.store(true, Relaxed);
    assert!(sweeper.await.unwrap() > 0);
}

/// The removal of a blob is durable although its directory went and came back meanwhile.
#[tokio::test]
async fn b38_a_removal_is_durable_although_its_directory_is_another_one_by_then() {
    for seed in 0..200 {
        println!("seed {seed}");
        let disk = SimDisk::new(seed);
        let mount = Path::new("/mnt/vol");
        let volume = open(disk.clone(), mount).await.unwrap();
        let (gone, kept) = (in_shard("acme", 0), in_shard("acme", 0));
        write(&volume, &gone, b"x").await;
        assert!(volume.delete(&gone).await.unwrap());
        assert_eq!(sweep(&volume, DirSweep::default()).await.removed, 1);
        volume.write(&kept, &mut b"y".as_slice().into(), Durability::Buffered).await.unwrap();
        volume.sync_names().await.unwrap();
        disk.crash();
        drop(volume);
        let volume = open(disk, mount).await.unwrap();
        let listed = volume.list(None, None, 9).await.unwrap().blobs;
        assert!(listed.iter().all(|found| found.path != gone), "{listed:?}");
    }
}

/// The same while it is being made durable.
#[tokio::test]
async fn b38_a_removal_is_durable_although_its_directory_becomes_another_one_meanwhile() {
    let temp = tempfile::tempdir().unwrap();
    let (disk, volume) = faulty(temp.path()).await;
    let (gone, kept) = (in_shard("acme", 0), in_shard("acme", 0));
    write(&volume, &gone, b"x").await;
    assert!(volume.delete(&gone).await.unwrap());
    let (came, go) = disk.hold("sync_dir");
    let syncing = tokio::spawn({
        let volume = Arc::clone(&volume);
        async move { volume.sync_names().await }
    });
    tokio::task::spawn_blocking(move || came.recv().unwrap()).await.unwrap();
    assert_eq!(sweep(&volume, DirSweep::default()).await.removed, 1);
    volume.write(&kept, &mut b"y".as_slice().into(), Durability::Buffered).await.unwrap();
    disk.asked();
    go.send(()).unwrap();
    syncing.await.unwrap().unwrap();
    let synced = disk.asked_for("sync_dir");
    assert!(synced.iter().any(|dir| dir.ends_with("vol/acme")), "{synced:?}");
}

#[tokio::test]
async fn b79_files_of_other_programs_go_by_name_when_asked_and_nothing_else_does() {
    let temp = tempfile::tempdir().unwrap();
    let (path, volume) = volume(temp.path()).await;
    let at = in_shard("acme", 0);
    write(&volume, &at, b"x").await;
    volume.copy(&at, Area::Quarantine).await.unwrap();
    let junk = ["Thumbs.db", "acme/.DS_Store", "acme/00/Thumbs.db", ".quarantine/acme/00/desktop.ini"];
    let stays = ["notes.txt", "acme/00/notes.txt", ".staging/Thumbs.db", "elsewhere/00/Thumbs.txt"];
    fs::create_dir_all(path.join("elsewhere/00")).unwrap();
    for name in junk.iter().chain(&stays) {
        fs::File::create(path.join(name)).unwrap().write_all(b"junk").unwrap();
    }
    fs::create_dir(path.join("acme/00/desktop.ini")).unwrap();
    let known = || Names::new(|name| ["Thumbs.db", ".DS_Store", "desktop.ini"].contains(&name));
    let sweep = |names: Names, dry_run| {
        let what = Tidy::Junk(JunkSweep { names, dry_run, ..JunkSweep::default() });
        volume.tidy(what)
    };
    assert_eq!(sweep(Names::default(), false).await.unwrap(), TidyReport::default());
    let all = TidyReport { removed: 4, bytes: 16, ..TidyReport::default() };
    assert_eq!(sweep(known(), true).await.unwrap(), all);
    assert!(junk.iter().all(|name| path.join(name).exists()), "a dry run removes nothing");
    assert_eq!(sweep(known(), false).await.unwrap(), all);
    assert!(junk.iter().all(|name| !path.join(name).exists()));
    assert!(stays.iter().all(|name| path.join(name).exists()));
    assert!(path.join("acme/00/desktop.ini").exists(), "a directory is no file");
    // Not even when somebody asks for it.
    let everything = sweep(Names::new(|_| true), false).await.unwrap();
    assert_eq!(everything.removed, 3, "the two notes, and a text that lies where an owner could be");
    assert_eq!(head(&volume, &at).await, b"x");
    volume.probe().await.unwrap();
}
