//! Volumes that are drained, vanish and hang while a store works on them.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use blake3::Hash;
use locus::{Retire, VerifyLevel, VolumeEvent, VolumeSettings, prelude::*};
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::{
    kernel::{Need, can},
    loop_disk::LoopDisk,
    support::{content, files_below, in_time, seed},
};

const MIB: u64 = 1 << 20;

/// A full disk has no more left than this: a content takes blocks of its file system for its names as well.
const LEFT_MAX: u64 = 16_384;

/// What a writer tries, each after so many refusals in a row; then it gives up.
const SIZES: [u64; 5] = [40_000, 16_000, 4_096, 4_096, 1];

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.background.probe_interval = Duration::from_millis(100);
    settings
}

/// Over [`settings`], or over others when they are given behind it.
fn builder(dir: &Path) -> Builder {
    Locus::builder()
        .settings(settings())
        .data_dir(dir.join("data"))
        .add_tenant("acme")
        .inline_content_max(0)
        .retry_policy(RetryPolicy {
            max_retries: 100_000,
            initial_delay: Duration::from_millis(5),
            exponential: false,
            max_delay: Duration::from_millis(5),
        })
}

fn vol(number: usize) -> VolumeId {
    VolumeId::parse(&format!("vol-{number}")).unwrap()
}

/// What was confirmed, and what was completed.
#[derive(Debug, Default)]
struct Book {
    written: Mutex<HashMap<FileKey, Hash>>,
    completed: Mutex<HashSet<FileKey>>,
    next: AtomicU64,
    stop: AtomicBool,
}

impl Book {
    /// Writes until told to stop, or refused several times in a row when `until_full`.
    async fn write(self: Arc<Self>, locus: Locus, seed: u64, until_full: bool) {
        let acme = locus.tenants().get("acme").await.unwrap();
        let mut refused = 0;
        while refused < SIZES.len() && !self.stop.load(Relaxed) {
            match self.write_one(&locus, &acme, seed, SIZES[refused]).await {
                Ok(()) => refused = 0,
                // A full disk may tell of room that is none: names take blocks, too, and others free some meanwhile.
                Err(Error::InsufficientStorage { .. }) if until_full => refused += 1,
                // The volume went away under the write, and no other takes it.
                Err(Error::VolumeUnavailable { .. } | Error::Io { .. }) if !until_full => {}
                Err(error) => panic!("{error:?}"),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn write_one(
        &self,
        locus: &Locus,
        acme: &TenantContext,
        seed: u64,
        bytes: u64,
    ) -> Result<(), Error> {
        let bytes = content(seed, self.next.fetch_add(1, Relaxed), bytes);
        let hash = blake3::hash(&bytes);
        let key = locus.pool().write(acme, bytes, WriteOptions::new()).await?;
        assert!(self.written.lock().insert(key, hash).is_none());
        Ok(())
    }

    /// Every file that was written is there, or completed; and nothing else is wrong.
    async fn check(&self, locus: &Locus) {
        let acme = locus.tenants().get("acme").await.unwrap();
        let (written, completed) = (self.written.lock().clone(), self.completed.lock().clone());
        for (key, hash) in written {
            match locus.pool().read(&acme, &key).await {
                Ok(reader) => assert_eq!(blake3::hash(&reader.bytes().await.unwrap()), hash),
                Err(error) => assert!(completed.contains(&key), "{key} is lost: {error:?}"),
            }
        }
        let found = locus.verify(VerifyLevel::Contents).await.unwrap();
        assert!(found.findings.is_empty(), "{:?}", found.findings);
    }

    /// Takes one file, reads it, and completes it. `false` when none is ready.
    async fn work_one(&self, locus: &Locus, acme: &TenantContext) -> bool {
        let Some(file) = locus.scheduler().next(acme).await.unwrap() else { return false };
        let read = async { locus.pool().read_leased(&file.lease).await?.bytes().await };
        match read.await {
            Ok(bytes) => {
                // A write whose future saw an error may have been accepted all the same: then nobody knows its key.
                if let Some(hash) = self.written.lock().get(&file.key) {
                    assert_eq!(blake3::hash(&bytes), *hash);
                }
                locus.scheduler().complete(&file.lease).await.unwrap();
                assert!(self.completed.lock().insert(file.key));
            }
            Err(error) => drop(locus.scheduler().fail(&file.lease, &error.to_string()).await.unwrap()),
        }
        true
    }

    async fn work(self: Arc<Self>, locus: Locus, most: usize) {
        let acme = locus.tenants().get("acme").await.unwrap();
        while !self.stop.load(Relaxed) && self.completed.lock().len() < most {
            if !self.work_one(&locus, &acme).await {
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn all(mut tasks: JoinSet<()>) {
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b10_b77_small_disks_are_filled_by_many_a_spare_one_is_added_and_the_first_drained_while_workers_go_on()
 {
    if !can("volumes filled, added and drained", &Need::DISK) {
        return;
    }
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let disks: Vec<_> = (0..4).map(|_| LoopDisk::new(8 * MIB)).collect();
    let four = |builder: Builder| {
        disks.iter().enumerate().fold(builder, |builder, (number, disk)| {
            builder.add_volume(LocalVolume::new(vol(number).as_str(), disk.dir().join("volume")))
        })
    };
    let locus = four(builder(temp.path())).build().await.unwrap();
    let book = Arc::new(Book::default());

    let mut writers = JoinSet::new();
    for _ in 0..16 {
        writers.spawn(Arc::clone(&book).write(locus.clone(), seed, true));
    }
    in_time("the disks are full", all(writers)).await;
    let full = book.written.lock().len();
    assert!(full > 300, "{full}");
    locus.pool().probe_all().await;
    for volume in locus.pool().volumes() {
        assert!(volume.status.available < LEFT_MAX, "{volume:?}");
    }
    let nowhere = locus.pool().drain(&vol(0)).await;
    assert!(matches!(nowhere, Err(Error::InsufficientStorage { .. })), "{nowhere:?}");
    book.check(&locus).await;
    locus.shutdown().await.unwrap();

    // A spare disk, of which the settings of the next start tell.
    let fifth = LoopDisk::new(32 * MIB);
    let mut settings = settings();
    settings.expansion.volumes = vec![VolumeSettings::local(vol(4), fifth.dir().join("volume"))];
    let locus = four(builder(temp.path()).settings(settings)).build().await.unwrap();
    let mut writers = JoinSet::new();
    for _ in 0..16 {
        let (book, locus) = (Arc::clone(&book), locus.clone());
        writers.spawn(async move {
            let acme = locus.tenants().get("acme").await.unwrap();
            for _ in 0..5 {
                book.write_one(&locus, &acme, seed, 40_000).await.unwrap();
            }
        });
    }
    // The first is emptied while half of all files are worked on.
    let mut workers = JoinSet::new();
    for _ in 0..8 {
        workers.spawn(Arc::clone(&book).work(locus.clone(), full / 2));
    }
    let mounted = async {
        while locus.pool().volumes().len() < 5 {
            tokio::task::yield_now().await;
        }
    };
    in_time("the spare disk is mounted", mounted).await;
    let report = in_time("the drain", locus.pool().drain(&vol(0))).await.unwrap();
    in_time("the writers", all(writers)).await;
    in_time("the workers", all(workers)).await;
    assert!(report.moved > 0 && report.damaged.is_empty() && report.files_left == 0, "{report:?}");
    assert_eq!(book.written.lock().len(), full + 80);
    in_time("the reaper", locus.cleanup().settled()).await.unwrap();
    locus.pool().remove(&vol(0)).await.unwrap();
    let left = files_below(&disks[0].dir().join("volume"));
    assert_eq!(left, [disks[0].dir().join("volume/.locus-volume")]);

    book.check(&locus).await;
    let completed = book.completed.lock().len();
    println!("{full} files filled four disks; {} moved, {completed} completed", report.moved);
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b15_b26_a_disk_that_vanishes_under_load_and_is_mounted_elsewhere_loses_nothing() {
    if !can("a disk that vanishes under load", &Need::DISK) {
        return;
    }
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let (leaving, staying) = (LoopDisk::new(64 * MIB), LoopDisk::new(64 * MIB));
    let locus = builder(temp.path())
        .add_volume(LocalVolume::new("vol-0", leaving.dir()))
        .add_volume(LocalVolume::new("vol-1", staying.dir()))
        .build()
        .await
        .unwrap();
    let book = Arc::new(Book::default());
    let mut events = locus.pool().events();
    let mut load = JoinSet::new();
    for _ in 0..4 {
        load.spawn(Arc::clone(&book).write(locus.clone(), seed, false));
        load.spawn(Arc::clone(&book).work(locus.clone(), usize::MAX));
    }
    let some = async {
        while book.completed.lock().len() < 50 {
            tokio::task::yield_now().await;
        }
    };
    in_time("some work is done", some).await;

    // Its mount point is there, and empty.
    leaving.vanish();
    let gone = async {
        loop {
            if let Some(VolumeEvent::Unavailable { volume, .. }) = events.next().await {
                return volume;
            }
        }
    };
    assert_eq!(in_time("the volume is missed", gone).await, vol(0));
    let now = book.completed.lock().len();
    let more = async {
        while book.completed.lock().len() < now + 20 {
            tokio::task::yield_now().await;
        }
    };
    in_time("the other volume goes on", more).await;
    in_time("it is unmounted", locus.pool().unmount(&vol(0))).await.unwrap();
    assert_eq!(files_below(&leaving.dir()), Vec::<PathBuf>::new());

    let elsewhere = leaving.mount_elsewhere();
    in_time("it is mounted", locus.pool().mount(LocalVolume::new("vol-0", &elsewhere))).await.unwrap();
    book.stop.store(true, Relaxed);
    in_time("the load ends", all(load)).await;
    let acme = locus.tenants().get("acme").await.unwrap();
    let rest = async {
        while locus.counts().get(acme.id()).is_some_and(|counts| counts.pending + counts.processing > 0) {
            if !book.work_one(&locus, &acme).await {
                tokio::task::yield_now().await;
            }
        }
    };
    in_time("everything completes", rest).await;
    in_time("everything is reaped", locus.cleanup().settled()).await.unwrap();
    let (written, completed) = (book.written.lock().clone(), book.completed.lock().clone());
    for key in written.keys() {
        assert!(completed.contains(key), "{key} was dropped");
    }
    assert_eq!(files_below(&leaving.dir()), Vec::<PathBuf>::new(), "written to the empty mount point");
    println!("{} files written, {} completed", written.len(), completed.len());
    locus.shutdown().await.unwrap();
}

/// A FUSE file system whose server never answers, not even the first request.
struct Mute {
    dir: PathBuf,
    server: Child,
}

impl Mute {
    fn over(dir: &Path) -> Self {
        let script = "exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 mute \"$0\" && echo up && exec sleep 3600";
        let mut server =
            Command::new("bash").args(["-c", script]).arg(dir).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = [0; 3];
        std::io::Read::read_exact(server.stdout.as_mut().unwrap(), &mut said).unwrap();
        assert_eq!(&said, b"up\n");
        Self { dir: dir.to_owned(), server }
    }
}

impl Drop for Mute {
    fn drop(&mut self) {
        // Without its server whatever waits for it fails.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("--lazy").arg(&self.dir).status();
    }
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b81_a_file_system_that_never_answers_stalls_nobody_else_and_keeps_few_threads() {
    let needs = [Need::Root, Need::Device("/dev/fuse"), Need::Command("bash")];
    if !can("a file system that never answers", &needs) {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let dirs: Vec<_> = (0..3).map(|number| temp.path().join(format!("vol-{number}"))).collect();
    let locus = builder(temp.path())
        .add_volume(LocalVolume::new("vol-0", &dirs[0]))
        .add_volume(LocalVolume::new("vol-1", &dirs[1]))
        .build()
        .await
        .unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let mut keys = Vec::new();
    for number in 0..40 {
        let key = locus
            .pool()
            .write(&acme, vec![number; 1_000 * usize::from(number)], WriteOptions::new())
            .await
            .unwrap();
        let place = locus.pool().location(&acme, &key).await.unwrap().unwrap().volume_id.unwrap();
        keys.push((key, place));
    }
    let stays: Vec<_> = keys.iter().filter(|(_, place)| *place == vol(1)).map(|(key, _)| *key).collect();
    let hangs: Vec<_> = keys.iter().filter(|(_, place)| *place == vol(0)).map(|(key, _)| *key).collect();
    let before = threads();
    let mut events = locus.pool().events();
    let mute = Mute::over(&dirs[0]);
    let missed = async {
        loop {
            if let Some(VolumeEvent::Unavailable { volume, why }) = events.next().await {
                return (volume, why);
            }
        }
    };
    let (volume, why) = in_time("the volume is missed", missed).await;
    assert!(volume == vol(0) && why.contains("did not answer"), "{volume} {why}");
    // Others go on, and are measured; asking again and again costs no more threads.
    for round in 0..50 {
        let key =
            in_time("a write", locus.pool().write(&acme, vec![7; 2_000], WriteOptions::new())).await.unwrap();
        in_time("a read", locus.pool().read_range(&acme, &key, 0..9)).await.unwrap();
        in_time("a read", locus.pool().read_range(&acme, &stays[round % stays.len()], 0..9)).await.unwrap();
        let refused = in_time("a refusal", locus.pool().read(&acme, &hangs[round % hangs.len()])).await;
        assert!(matches!(refused, Err(Error::VolumeUnavailable { .. })));
    }
    for _ in 0..2 {
        in_time("a probe", locus.pool().probe_all()).await;
    }
    assert!(threads() <= before + 40, "{} threads, {before} before", threads());
    in_time("it is unmounted", locus.pool().unmount(&vol(0))).await.unwrap();
    drop(mute);
    // And it comes back.
    in_time("it is mounted", locus.pool().mount(LocalVolume::new("vol-0", &dirs[0]))).await.unwrap();
    for (key, _) in &keys {
        locus.pool().read(&acme, key).await.unwrap().bytes().await.unwrap();
    }
    assert_eq!(locus.pool().retire(&vol(0), Retire::Keep).await.unwrap(), hangs.len() as u64);
    locus.shutdown().await.unwrap();
}
