//! Verification and backups while workers run, restoring, and salvage, on a real disk.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use locus::{BackupContents, Finding, VerifyLevel, prelude::*};

use crate::support::{builder, in_time, open, open_with, write};

/// Bytes that occur nowhere else; every third content is too long for the journal.
fn content(number: u64) -> Vec<u8> {
    let length = if number.is_multiple_of(3) { 70_000 } else { 700 };
    let mut bytes = format!("the content of file {number:08}: ").into_bytes();
    bytes.extend((0..).map(|at: u64| (number + at * 31 + at / 251) as u8).take(length - bytes.len()));
    bytes
}

/// Files that are written, and workers that end them, until told to stop.
struct Traffic {
    written: Arc<Mutex<BTreeMap<FileKey, u64>>>,
    ended: Arc<Mutex<HashSet<FileKey>>>,
    stop: Arc<AtomicBool>,
    writer: tokio::task::JoinHandle<()>,
    workers: WorkerHandle,
}

impl Traffic {
    fn begin(locus: &Locus, acme: &TenantContext) -> Self {
        let (written, ended) = (Arc::<Mutex<BTreeMap<_, _>>>::default(), Arc::<Mutex<HashSet<_>>>::default());
        let stop = Arc::new(AtomicBool::new(false));
        let writer = {
            let (locus, acme, written, stop) = (locus.clone(), acme.clone(), written.clone(), stop.clone());
            tokio::spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let options = WriteOptions::new().directory(if number % 2 == 0 { "/a" } else { "/b" });
                    let key = locus.pool().write(&acme, content(number), options).await.expect("room");
                    written.lock().unwrap().insert(key, number);
                }
            })
        };
        let tell = ended.clone();
        let workers = locus.workers(acme).concurrency(2).spawn(move |file: WorkerFile| {
            let tell = tell.clone();
            async move {
                file.bytes().await?;
                tell.lock().unwrap().insert(file.key);
                Ok(())
            }
        });
        let workers = workers.expect("the store is open");
        Self { written, ended, stop, writer, workers }
    }

    fn written(&self) -> BTreeMap<FileKey, u64> {
        self.written.lock().unwrap().clone()
    }

    async fn until(&self, files: usize) {
        in_time("files to be written", async {
            while self.written.lock().unwrap().len() < files {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.writer.await.expect("writes succeed");
        self.workers.stop().await.expect("workers stop");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b51_nothing_is_found_while_writers_and_workers_run() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let traffic = Traffic::begin(&locus, &acme);
    for round in 1..=8 {
        traffic.until(round * 10).await;
        let level = [VerifyLevel::Counts, VerifyLevel::Records, VerifyLevel::Contents][round % 3];
        let told = AtomicBool::new(false);
        let report = locus.verify_with(level, |_| told.store(true, Ordering::Relaxed)).await.unwrap();
        assert_eq!(report.findings, [], "{level:?}");
        assert!(told.load(Ordering::Relaxed));
        assert_eq!((report.unchecked, report.level), (0, level));
    }
    traffic.end().await;
    locus.shutdown().await.unwrap();
    assert!(matches!(locus.verify(VerifyLevel::Counts).await, Err(Error::ShuttingDown)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_taken_while_workers_run_is_restored_by_opening_it() {
    let temp = tempfile::tempdir().unwrap();
    let copy = temp.path().join("backups/monday");
    let (locus, acme) = open(temp.path()).await;
    locus.tenants().create("other").await.unwrap();
    // Some that no worker touches: they fail once and wait for an hour.
    let other = locus.tenants().get("other").await.unwrap();
    let mut waiting = BTreeMap::new();
    for number in 1_000..1_012 {
        let key = locus.pool().write(&other, content(number), WriteOptions::new()).await.unwrap();
        waiting.insert(key, number);
    }
    let traffic = Traffic::begin(&locus, &acme);
    traffic.until(40).await;
    let before = traffic.written();
    let report = locus.backup(&copy).await.unwrap();
    let ended = traffic.ended.lock().unwrap().clone();
    assert_eq!(report.damaged, []);
    let token = locus.scheduler().next(&other).await.unwrap().unwrap().lease;
    let seen = traffic.written().len();
    traffic.until(seen + 20).await;
    traffic.end().await;
    locus.cleanup().settled().await.unwrap();
    locus.shutdown().await.unwrap();
    drop(locus);

    // Restoring: the copy is a data directory, and its volumes lie in it.
    let restored = Locus::builder()
        .data_dir(&copy)
        .add_volume(LocalVolume::new("vol-001", copy.join("volumes/vol-001")));
    let (locus, acme) = open_with(restored).await;
    let other = locus.tenants().get("other").await.unwrap();
    assert_eq!(locus.verify(VerifyLevel::Contents).await.unwrap().findings, []);
    for (key, number) in before.iter().filter(|(key, _)| !ended.contains(key)) {
        let read = locus.pool().read(&acme, key).await.unwrap().bytes().await.unwrap();
        assert!(read == content(*number), "{number}");
    }
    for (key, number) in &waiting {
        let read = locus.pool().read(&other, key).await.unwrap().bytes().await.unwrap();
        assert!(read == content(*number), "{number}");
    }
    let refused = locus.scheduler().complete(&token).await;
    assert!(
        matches!(refused, Err(Error::LeaseLost { .. })),
        "a token of the original's later life: {refused:?}"
    );
    // Whatever is there is handed out, once.
    let handed = Arc::new(Mutex::new(Vec::new()));
    let tell = handed.clone();
    locus
        .workers_any()
        .run_until_drained(move |file: WorkerFile| {
            let tell = tell.clone();
            async move {
                file.bytes().await?;
                tell.lock().unwrap().push(file.key);
                Ok(())
            }
        })
        .await
        .unwrap();
    let handed = std::mem::take(&mut *handed.lock().unwrap());
    let distinct: HashSet<_> = handed.iter().copied().collect();
    assert_eq!(distinct.len(), handed.len(), "none twice");
    assert!(before.keys().filter(|key| !ended.contains(key)).all(|key| distinct.contains(key)));
    assert!(waiting.keys().all(|key| distinct.contains(key)));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_backup_by_name_is_restored_beside_copies_of_the_volumes() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = locus.pool().write(&acme, content(3), WriteOptions::new()).await.unwrap();
    let hold = locus.hold_contents();
    let copy = temp.path().join("copy");
    locus.backup_with(&copy, BackupContents::ByName).await.unwrap();
    let lease = locus.scheduler().lease_key(&acme, &key).await.unwrap().lease;
    locus.scheduler().complete(&lease).await.unwrap();
    copy_all(&temp.path().join("vol-001"), &temp.path().join("vol-001-copy"));
    drop(hold);
    locus.cleanup().settled().await.unwrap();
    locus.shutdown().await.unwrap();
    let blobs = std::fs::read_to_string(copy.join("BLOBS")).unwrap();
    assert!(blobs.contains("blob vol-001 70000 ") && blobs.contains(&key.to_string()), "{blobs}");

    let restored = Locus::builder()
        .data_dir(&copy)
        .add_volume(LocalVolume::new("vol-001", temp.path().join("vol-001-copy")));
    let (locus, acme) = open_with(restored).await;
    assert_eq!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap(), content(3));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_backup_goes_into_an_empty_directory_and_one_without_an_end_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    write(&locus, &acme, "hello").await;
    let refused = locus.backup(temp.path().join("data")).await;
    assert!(
        matches!(&refused, Err(Error::Io { path, .. }) if *path == temp.path().join("data")),
        "{refused:?}"
    );
    let copy = temp.path().join("copy");
    locus.pool().write(&acme, content(3), WriteOptions::new()).await.unwrap();
    let volume = VolumeId::parse("vol-001").unwrap();
    locus.pool().unmount(&volume).await.unwrap();
    let refused = locus.backup(&copy).await;
    assert!(matches!(refused, Err(Error::VolumeUnavailable { .. })), "{refused:?}");
    locus.shutdown().await.unwrap();
    let refused = Locus::builder().data_dir(&copy).build().await.unwrap_err();
    assert!(refused.to_string().contains("UNFINISHED"), "{refused}");
    assert!(Locus::inspect(&copy).await.unwrap_err().to_string().contains("UNFINISHED"));
}

#[tokio::test]
async fn what_can_be_read_of_a_damaged_store_is_salvaged() {
    let temp = tempfile::tempdir().unwrap();
    let (data, new) = (temp.path().join("data"), temp.path().join("salvaged"));
    let (locus, acme) = open(temp.path()).await;
    let mut keys = Vec::new();
    for number in 0..9 {
        keys.push(locus.pool().write(&acme, content(number), WriteOptions::new()).await.unwrap());
    }
    let refused = Locus::salvage(&data, &new).await;
    assert!(matches!(refused, Err(Error::AlreadyOpen { .. })), "{refused:?}");
    locus.shutdown().await.unwrap();
    drop(locus);
    // The head of the record before the content of the fifth file.
    let (segment, at) = find(&data.join("journal"), &content(4));
    flip(&segment, at - 30);
    assert!(matches!(builder(temp.path()).build().await, Err(Error::Corrupt { .. })));
    let before = tree(&data);
    let salvaged = Locus::salvage(&data, &new).await.unwrap();
    assert!(tree(&data) == before, "the damaged store was changed");
    let [lost] = &salvaged.store.records_lost[..] else { panic!("{salvaged:?}") };
    let (_, path, offset) = lost.place.clone().unwrap();
    assert!(path == segment && offset < at as u64, "{lost:?}");
    assert_eq!((salvaged.store.contents_lost, salvaged.tenants_damaged), (vec![], vec![]));

    let (locus, acme) = open_with(builder(temp.path()).data_dir(&new)).await;
    for (number, key) in keys.iter().enumerate().filter(|(number, _)| *number != 4) {
        let read = locus.pool().read(&acme, key).await.unwrap().bytes().await.unwrap();
        assert!(read == content(number as u64), "{number}");
    }
    assert!(locus.pool().info(&acme, &keys[4]).await.unwrap().is_none());
    let report = locus.verify(VerifyLevel::Contents).await.unwrap();
    assert_eq!((report.findings, report.files), (vec![], 8));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_content_that_rotted_on_a_volume_is_found_and_all_else_is_well() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = locus.pool().write(&acme, content(3), WriteOptions::new()).await.unwrap();
    write(&locus, &acme, "hello").await;
    let path = locus.pool().materialize(&acme, &key).await.unwrap();
    flip(&path, 60_000);
    assert!(locus.verify(VerifyLevel::Records).await.unwrap().is_clean());
    let report = locus.verify(VerifyLevel::Contents).await.unwrap();
    let [Finding::ContentDamaged { key: found, path: named, .. }] = &report.findings[..] else {
        panic!("{report:?}")
    };
    assert_eq!((*found, named), (key, &path));
    assert!(serde_json::to_string(&report).unwrap().contains("ContentDamaged"));
    locus.shutdown().await.unwrap();
}

fn find(dir: &Path, needle: &[u8]) -> (PathBuf, usize) {
    let files = tree(dir).into_iter();
    let mut places = files.filter_map(|(path, bytes)| {
        let first = &needle[..40];
        let at = bytes.windows(40).position(|window| window == first)?;
        bytes[at..].starts_with(needle).then_some((path, at))
    });
    places.next().expect("the content is there")
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| {
            use std::io::Write as _;
            file.write_all(&bytes)?;
            file.sync_all()
        })
        .unwrap();
}

/// Every file below a directory, with its bytes.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    files
}

fn copy_all(from: &Path, to: &Path) {
    for (path, bytes) in tree(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        let mut file = std::fs::File::create(target).unwrap();
        std::io::Write::write_all(&mut file, &bytes).unwrap();
    }
    std::fs::create_dir_all(to.join(".staging")).unwrap();
}
