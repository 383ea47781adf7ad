//! Somebody swaps directories of a volume for links while it is used.
//!
//! `LOCUS_SWAPPED_CALLS` says how many calls race with that, 2,000 unless it does.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use locus_core::{
    BlobPath, Durability, Entropy, Error, FileKey, Result, StorageVolume, SystemEntropy, Tidy, Timestamp,
};
use locus_fs::{Disk, OsDisk};
use locus_testkit::SeededEntropy;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tokio::{runtime::Builder, sync::RwLock};

use crate::{
    local_volume::{blob, files, head, open, write},
    number,
};

/// What lies outside, where a link leads.
const DECOY: &[u8] = b"outside";

const OWNER: &str = "acme";
const TASKS: u8 = 4;
const BLOBS_OF_A_TASK: u8 = 48;
/// Few, so that the one that is swapped is often the one that is used.
const SHARDS: u8 = 3;

#[tokio::test]
async fn b11_a_link_in_place_of_a_shard_or_of_the_staging_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (vol, outside) = (dir.path().join("vol"), dir.path().join("outside"));
    let volume = open(Arc::new(OsDisk), &vol).await.unwrap();
    let at = blob(OWNER, "x.pdf");
    write(&volume, &at, b"inside").await;
    let shard = volume.local_path(&at).unwrap().parent().unwrap().to_owned();
    OsDisk.create_dir(&outside).unwrap();
    for swapped in [shard, vol.join(".staging")] {
        let away = dir.path().join("away");
        OsDisk.rename(&swapped, &away).unwrap();
        symlink(&outside, &swapped).unwrap();
        let decoy = outside.join(volume.local_path(&at).unwrap().file_name().unwrap());
        OsDisk.create_new(&decoy).unwrap().write_at(DECOY, 0).unwrap();
        if !swapped.ends_with(".staging") {
            assert!(matches!(volume.open(&at, 0..9).await, Err(Error::Io { .. })));
            assert!(matches!(volume.delete(&at).await, Err(Error::Io { .. })));
            assert!(
                matches!(volume.list(None, None, 9).await.map(|page| page.blobs), Ok(blobs) if blobs.is_empty())
            );
        }
        volume.probe().await.unwrap(); // closes what it kept open
        let sibling = BlobPath { extension: blob(OWNER, "y.md").extension, ..at.clone() };
        assert!(volume.write(&sibling, &mut "new".into(), Durability::Durable).await.is_err());
        assert!(volume.tidy(Tidy::StaleStaging).await.is_err() || !swapped.ends_with(".staging"));
        assert_eq!(files(&outside), [PathBuf::from(decoy.file_name().unwrap())]);
        assert_eq!(fs::read(&decoy).unwrap(), DECOY);
        fs::remove_file(&decoy).unwrap();
        fs::remove_file(&swapped).unwrap();
        OsDisk.rename(&away, &swapped).unwrap();
        volume.probe().await.unwrap();
    }
    assert_eq!(head(&volume, &at).await, b"inside");
}

#[tokio::test]
async fn the_mount_itself_may_be_named_by_a_link() {
    let dir = tempfile::tempdir().unwrap();
    OsDisk.create_dir(&dir.path().join("disk")).unwrap();
    symlink(dir.path().join("disk"), dir.path().join("link")).unwrap();
    let volume = open(Arc::new(OsDisk), &dir.path().join("link/vol")).await.unwrap();
    let at = blob(OWNER, "");
    write(&volume, &at, b"x").await;
    assert_eq!(head(&volume, &at).await, b"x");
    assert_eq!(volume.mount_path(), Some(&*dir.path().join("link/vol")));
    assert_eq!(files(&dir.path().join("disk")).len(), 2);
}

#[tokio::test]
async fn a_closed_volume_holds_nothing_open() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let volume = open(Arc::new(OsDisk), &root).await.unwrap();
    volume.write(&blob(OWNER, ""), &mut "x".into(), Durability::Buffered).await.unwrap();
    let held = || {
        let open = fs::read_dir("/proc/self/fd").unwrap().map(|fd| fs::read_link(fd.unwrap().path()));
        open.filter(|path| path.as_ref().is_ok_and(|path| path.starts_with(&root))).count()
    };
    assert!(held() > 1, "the lock, and more");
    volume.close().await.unwrap();
    assert_eq!(held(), 0);
}

/// What a call races with.
struct Place {
    vol: PathBuf,
    outside: PathBuf,
    volume: RwLock<Arc<dyn StorageVolume>>,
    calls: AtomicU64,
    refused: AtomicU64,
    reopened: AtomicU64,
}

/// A blob of a task. Its content says which it is.
fn key(task: u8, n: u8) -> BlobPath {
    let random = [0, 0, 0, 0, 0, 0, 0, task, n, n % SHARDS];
    BlobPath {
        key: FileKey::generate(Timestamp::from_micros(1_700_000_000_000_000), &random),
        ..blob(OWNER, "x.pdf")
    }
}

fn content(task: u8, n: u8) -> Vec<u8> {
    format!("blob {n} of {task}, and it is longer than what lies outside").into_bytes()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    There,
    Absent,
    Either,
}

impl Place {
    async fn new(dir: &Path) -> Self {
        let (vol, outside) = (dir.join("vol"), dir.join("outside"));
        let volume = open(Arc::new(OsDisk), &vol).await.unwrap();
        for n in 0..SHARDS {
            let at = key(0, n);
            write(&volume, &at, b"first").await;
            assert!(volume.delete(&at).await.unwrap());
        }
        OsDisk.create_dir(&outside).unwrap();
        let place = Self {
            vol,
            outside,
            volume: RwLock::new(volume),
            calls: AtomicU64::default(),
            refused: AtomicU64::default(),
            reopened: AtomicU64::default(),
        };
        place.lay_decoys(&place.outside);
        for dir in Self::swapped(&place.vol) {
            let link = dir.with_file_name(format!(".link-{}", name(&dir)));
            let to = if dir.parent() == Some(&place.vol) { "".into() } else { name(&dir) };
            symlink(place.outside.join(to), &link).unwrap();
        }
        place
    }

    /// Every second blob has a namesake outside, wherever a link may lead.
    fn lay_decoys(&self, dir: &Path) {
        let dirs = (0..SHARDS).map(|n| dir.join(name(&Self::shard(&self.vol, n))));
        for dir in [dir.to_owned()].into_iter().chain(dirs) {
            if !dir.exists() {
                OsDisk.create_dir(&dir).unwrap();
            }
            for (task, n) in
                (0..TASKS).flat_map(|task| (0..BLOBS_OF_A_TASK).step_by(2).map(move |n| (task, n)))
            {
                for name in [key(task, n).key.to_string(), format!("{}.pdf", key(task, n).key)] {
                    OsDisk.create_new(&dir.join(name)).unwrap().write_at(DECOY, 0).unwrap();
                }
            }
        }
    }

    fn shard(vol: &Path, n: u8) -> PathBuf {
        let digits = key(0, n).key.to_string();
        vol.join(OWNER).join(&digits[34..])
    }

    /// The directories that are swapped.
    fn swapped(vol: &Path) -> Vec<PathBuf> {
        (0..SHARDS).map(|n| Self::shard(vol, n)).chain([vol.join(OWNER), vol.join(".staging")]).collect()
    }

    /// Swaps a directory for its link and back, again and again.
    fn swap_until(&self, over: &AtomicBool, random: &SeededEntropy) -> u64 {
        let mut swaps = 0;
        let dirs = Self::swapped(&self.vol);
        while !over.load(Relaxed) {
            let dir = &dirs[usize::try_from(random.below(dirs.len() as u64)).unwrap()];
            let link = dir.with_file_name(format!(".link-{}", name(dir)));
            for _ in 0..2 {
                renameat_with(CWD, dir, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                (0..random.below(40)).for_each(|_| thread::yield_now());
            }
            swaps += 1;
        }
        swaps
    }

    /// Nothing lies outside that did not, and nothing is gone or changed there.
    fn check_outside(&self) {
        let expected = usize::from(TASKS) * usize::from(BLOBS_OF_A_TASK / 2) * 2 * usize::from(SHARDS + 1);
        let found = files(&self.outside);
        let strange: Vec<_> = found
            .iter()
            .filter(|file| fs::read(self.outside.join(file)).is_ok_and(|bytes| bytes != DECOY))
            .collect();
        let calls = self.calls.load(Relaxed);
        assert!(strange.is_empty(), "written outside by call {calls}: {strange:?}");
        assert_eq!(found.len(), expected, "made or removed outside by call {calls}");
    }

    /// A sync that met a link poisons the volume; a new start cures it, as soon as no link is in its way.
    async fn reopen(&self) {
        let mut volume = self.volume.write().await;
        if volume.status().takes_writes() {
            return;
        }
        volume.close().await.unwrap();
        self.reopened.fetch_add(1, Relaxed);
        loop {
            match open(Arc::new(OsDisk), &self.vol).await {
                Ok(opened) => break *volume = opened,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }

    async fn call<T>(&self, call: impl AsyncFnOnce(&Arc<dyn StorageVolume>) -> Result<T>) -> Result<T> {
        if self.calls.fetch_add(1, Relaxed).is_multiple_of(256) {
            self.check_outside();
        }
        let done = call(&*self.volume.read().await).await;
        if done.is_err() {
            self.refused.fetch_add(1, Relaxed);
            self.reopen().await;
        }
        done
    }

    /// Writes, reads, removes, lists, tidies, syncs; answers what is known of the task's blobs.
    async fn work(&self, task: u8, calls: u64, random: SeededEntropy) -> BTreeMap<u8, Known> {
        let mut known: BTreeMap<u8, Known> = (0..BLOBS_OF_A_TASK).map(|n| (n, Known::Absent)).collect();
        while self.calls.load(Relaxed) < calls {
            let n = u8::try_from(random.below(BLOBS_OF_A_TASK.into())).unwrap();
            let (at, content, known) = (key(task, n), content(task, n), known.get_mut(&n).unwrap());
            match (random.below(100), *known) {
                (0..4, _) => self.list(task).await,
                (4, _) => drop(self.call(async |volume| volume.tidy(Tidy::StaleStaging).await).await),
                (5, _) => drop(self.call(async |volume| volume.sync().await).await),
                (6, _) => drop(self.call(async |volume| volume.sync_names().await).await),
                (7..10, _) => drop(self.call(async |volume| volume.probe().await).await),
                (10, Known::There) => drop(self.call(async |volume| volume.sync_blob(&at).await).await),
                (11..60, Known::There) => {
                    let read = self.call(async |volume| volume.open(&at, 0..100).await).await;
                    if let Ok(read) = read {
                        assert_eq!(read.head, content);
                    }
                }
                (_, Known::There | Known::Either) => {
                    let deleted = self.call(async |volume| volume.delete(&at).await).await;
                    assert!(!matches!((&deleted, *known), (Ok(false), Known::There)), "{at:?} is gone");
                    *known = if deleted.is_ok() { Known::Absent } else { *known };
                }
                (chance, Known::Absent) => {
                    let how = if chance < 20 { Durability::Durable } else { Durability::Buffered };
                    let mut from = content.into();
                    let written = self.call(async |volume| volume.write(&at, &mut from, how).await).await;
                    *known = if written.is_ok() { Known::There } else { Known::Either };
                }
            }
        }
        known
    }

    /// Only what is a blob of ours is listed.
    async fn list(&self, task: u8) {
        let page = self.call(async |volume| volume.list(None, None, 1_000).await).await;
        for listed in page.into_iter().flat_map(|page| page.blobs) {
            assert_ne!(listed.length, DECOY.len() as u64, "{task} was shown {listed:?}");
        }
    }

    async fn check_inside(&self, task: u8, known: BTreeMap<u8, Known>) {
        let volume = self.volume.read().await;
        for (n, known) in known {
            match volume.open(&key(task, n), 0..100).await {
                Ok(read) => {
                    assert_ne!(known, Known::Absent, "{n} of {task}");
                    assert_eq!(read.head, content(task, n));
                }
                Err(error) => assert_ne!(known, Known::There, "{n} of {task}: {error}"),
            }
        }
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn b11_however_directories_are_swapped_for_links_nothing_outside_is_made_read_or_removed() {
    let seed = SystemEntropy.next_u64();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let place = block_on(Place::new(dir.path()));
    let calls = number("LOCUS_SWAPPED_CALLS", 2_000) as u64;
    let over = AtomicBool::new(false);
    let (known, swaps) = thread::scope(|scope| {
        let ending = Over(&over);
        let swapper = scope.spawn(|| place.swap_until(&over, &SeededEntropy::new(seed)));
        let work =
            |task: u8| block_on(place.work(task, calls, SeededEntropy::new(seed ^ u64::from(task + 1))));
        let tasks: Vec<_> = (0..TASKS).map(|task| scope.spawn(move || work(task))).collect();
        let known: Vec<_> = tasks.into_iter().map(|task| task.join().unwrap()).collect();
        drop(ending);
        (known, swapper.join().unwrap())
    });
    place.check_outside();
    for (task, known) in (0..).zip(known) {
        block_on(place.check_inside(task, known));
    }
    let (calls, refused, reopened) =
        (place.calls.load(Relaxed), place.refused.load(Relaxed), place.reopened.load(Relaxed));
    println!("{calls} calls, {refused} refused, {swaps} swaps, {reopened} reopenings");
    assert!(swaps > 0 && refused > 0, "there was a race");
}

fn block_on<F: Future>(future: F) -> F::Output {
    Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Ends the swapping, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}
