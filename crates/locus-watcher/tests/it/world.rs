//! What the tests share: a watched folder of this machine, and all else in memory.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{Clock, Result, WatcherId};
use locus_fs::Disk;
use locus_testkit::{ManualClock, MemoryIntake, SimDisk};
use locus_watcher::{FileWatcherConfig, FileWatchers, ScanReport, WatchersOptions};

pub(crate) const S: Duration = Duration::from_secs(1);
/// Longer than age and delay by default.
pub(crate) const RESTED: Duration = Duration::from_secs(6);

pub(crate) struct World {
    temp: tempfile::TempDir,
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) intake: Arc<MemoryIntake>,
}

impl World {
    /// With an empty folder `inbox` and the tenants acme and globex.
    pub(crate) fn new() -> Self {
        let temp = tempfile::tempdir().expect("a folder of the test's own");
        std::fs::create_dir(temp.path().join("inbox")).expect("a folder of the test's own");
        let (disk, clock) = (SimDisk::new(1), ManualClock::new());
        Self { temp, disk, clock, intake: MemoryIntake::new(&["acme", "globex"]) }
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.temp.path().join(path)
    }

    /// What takes everything in the inbox for acme at once.
    pub(crate) fn eager(&self) -> FileWatcherConfig {
        at_once(self.watcher())
    }

    /// What takes everything in another folder for acme at once.
    pub(crate) fn eager_in(&self, folder: &str) -> FileWatcherConfig {
        at_once(FileWatcherConfig::new(self.path(folder)).tenant("acme").polling_interval(3600 * S))
    }

    /// What takes everything in the inbox at once for the tenants that its folders name.
    pub(crate) fn multi(&self) -> FileWatcherConfig {
        at_once(
            FileWatcherConfig::new(self.path("inbox")).id("in").multi_tenant(true).polling_interval(3600 * S),
        )
    }

    /// With everything at its default.
    pub(crate) fn watcher(&self) -> FileWatcherConfig {
        // Only a scan that is asked for, and those that a test lets come by moving the clock.
        FileWatcherConfig::new(self.path("inbox")).id("in").tenant("acme").polling_interval(3600 * S)
    }

    pub(crate) fn options(&self, described: Vec<FileWatcherConfig>) -> WatchersOptions {
        WatchersOptions {
            dir: "/watchers".into(),
            disk: Arc::clone(&self.disk) as Arc<dyn Disk>,
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            intake: self.intake.clone(),
            described,
            durable: true,
            in_place: false,
        }
    }

    pub(crate) async fn open(&self, described: Vec<FileWatcherConfig>) -> Result<FileWatchers> {
        let watchers = FileWatchers::open(self.options(described)).await?;
        watchers.start();
        Ok(watchers)
    }

    /// With one watcher.
    pub(crate) async fn run(&self, config: FileWatcherConfig) -> FileWatchers {
        self.open(vec![config]).await.expect("a folder of the test's own")
    }

    /// Puts a file into the folder, with what is missing above it.
    pub(crate) fn drop_file(&self, path: &str, content: &str) -> PathBuf {
        let path = self.path("inbox").join(path);
        std::fs::create_dir_all(path.parent().expect("a folder of the test's own"))
            .expect("a folder of the test's own");
        put(&path, content);
        path
    }

    /// What lies in a folder, beneath it, in order.
    pub(crate) fn files(&self, folder: &str) -> Vec<String> {
        fn visit(at: &Path, root: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(at).into_iter().flatten() {
                let path = entry.expect("a folder of the test's own").path();
                if path.is_dir() && !path.is_symlink() {
                    visit(&path, root, found);
                } else {
                    found.push(
                        path.strip_prefix(root)
                            .expect("a folder of the test's own")
                            .to_string_lossy()
                            .into_owned(),
                    );
                }
            }
        }
        let (root, mut found) = (self.path(folder), Vec::new());
        visit(&root, &root, &mut found);
        found.sort();
        found
    }

    /// Names of what arrived, in order.
    pub(crate) fn arrived(&self) -> Vec<String> {
        let mut names: Vec<_> = self.intake.arrived().into_iter().map(|arrival| arrival.name).collect();
        names.sort();
        names
    }
}

pub(crate) fn at_once(config: FileWatcherConfig) -> FileWatcherConfig {
    config.age_min(Duration::ZERO).stability_delay(Duration::ZERO)
}

#[expect(clippy::disallowed_methods, reason = "the folder is not the store's")]
pub(crate) fn put(path: &Path, content: &str) {
    std::fs::write(path, content).expect("a folder of the test's own");
}

pub(crate) fn id() -> WatcherId {
    WatcherId::parse("in").expect("a folder of the test's own")
}

pub(crate) async fn scan(watchers: &FileWatchers) -> ScanReport {
    in_time("a scan", watchers.scan_now("in")).await.expect("a folder of the test's own")
}

/// Fails instead of hanging.
pub(crate) async fn in_time<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(Duration::from_secs(60), future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Lets the clock go while `future` is under way: slowly enough that whatever answers at all answers in time.
pub(crate) async fn as_time_goes<F: Future>(world: &World, future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let going = async {
        loop {
            match tokio::time::timeout(Duration::from_millis(1), &mut future).await {
                Ok(output) => break output,
                Err(_) => world.clock.advance(S / 20),
            }
        }
    };
    in_time("something that ends with time", going).await
}

/// Lets the clock go until `condition` holds.
pub(crate) async fn in_the_end(world: &World, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    as_time_goes(world, waiting).await;
}

/// Gives way until `condition` holds; a test that waits in vain fails.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    in_time(what, waiting).await;
}
