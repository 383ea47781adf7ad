//! A store and a volume in memory that fail on command.

#![expect(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use locus_cleanup::{OrphanPolicy, SweepSettings, Sweeper};
use locus_core::{
    Area, BlobPage, BlobPath, BlobReader, Claim, Compacted, Content, Cursor, Durability, Error, Extension,
    FileKey, Knowledge, Leaving, ListedBlob, Reapable, Result, Staged, Staging, StoragePath, StorageVolume,
    StoredBlob, TenantId, Tidy, TidyReport, Timestamp, Upkeep, VolumeId, VolumeSet, VolumeStatus, Waiting,
};
use locus_testkit::ManualClock;
use parking_lot::Mutex;
use tokio::sync::Notify;

pub(crate) fn key(number: u8) -> FileKey {
    FileKey::generate(Timestamp::from_micros(0), &[number; 10])
}

pub(crate) fn blob(number: u8) -> BlobPath {
    let owner = StoragePath::parse("acme").unwrap();
    BlobPath { area: Area::Live, owner, key: key(number), extension: Extension::NONE }
}

pub(crate) fn reapable(number: u8) -> Reapable {
    Reapable {
        tenant: TenantId::parse("acme").unwrap(),
        key: key(number),
        volume: Some(VolumeId::parse("vol").unwrap()),
        blob: blob(number),
        size: 10,
        is_copy: false,
    }
}

/// What a test may look at and change.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) blobs: BTreeMap<FileKey, BlobPath>,
    pub(crate) undeletable: BTreeSet<FileKey>,
    pub(crate) waiting: VecDeque<Reapable>,
    pub(crate) out: usize,
    pub(crate) reaped: Vec<FileKey>,
    pub(crate) recorded: BTreeSet<FileKey>,
    pub(crate) in_flight: BTreeSet<FileKey>,
    pub(crate) overdue: usize,
    pub(crate) untrustworthy: bool,
    pub(crate) fail_sync: bool,
    pub(crate) fail_reaped: bool,
    pub(crate) hang_delete: bool,
    pub(crate) unhealthy: bool,
    pub(crate) read_only: bool,
    pub(crate) events: Vec<&'static str>,
    pub(crate) page_max: usize,
    /// What lies in the staging of uploads, and what of it an upload names.
    pub(crate) staged: BTreeMap<FileKey, BlobPath>,
    pub(crate) staging: HashSet<FileKey>,
    pub(crate) idle_uploads: usize,
    pub(crate) claimed: Arc<Mutex<BTreeSet<FileKey>>>,
}

/// Store and volume in one.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) state: Mutex<State>,
    pub(crate) wake: Notify,
    /// What hangs looks again.
    pub(crate) go: Notify,
    id: VolumeId,
}

/// What is mounted.
#[derive(Debug)]
pub(crate) struct Mounted(pub(crate) Mutex<Vec<Arc<World>>>);

/// Blobs that no record names are removed at once.
pub(crate) fn sweep_at_once() -> SweepSettings {
    let mut settings = SweepSettings::default();
    (settings.orphans.age, settings.orphans.policy) = (Duration::ZERO, OrphanPolicy::Delete);
    settings
}

pub(crate) fn volume(id: &str) -> Arc<World> {
    let id = VolumeId::parse(id).unwrap();
    let state = Mutex::new(State { page_max: usize::MAX, ..State::default() });
    Arc::new(World { state, wake: Notify::new(), go: Notify::new(), id })
}

pub(crate) fn world() -> (Arc<World>, Sweeper, Arc<ManualClock>) {
    let world = volume("vol");
    let clock = ManualClock::new();
    let volumes = Arc::new(Mounted(Mutex::new(vec![Arc::clone(&world)])));
    let sweeper = Sweeper::new(Arc::clone(&world) as Arc<dyn Upkeep>, volumes, Arc::clone(&clock) as _)
        .with_settings(sweep_at_once());
    (world, sweeper, clock)
}

fn page_of(blobs: &BTreeMap<FileKey, BlobPath>, from: Option<&Cursor>, limit: usize) -> BlobPage {
    let from = from.map(|from| FileKey::parse(&from.0).unwrap());
    let mut rest = blobs.values().filter(|blob| from.is_none_or(|from| blob.key > from));
    let page = rest.by_ref().take(limit).cloned().collect::<Vec<_>>();
    let next = rest.next().and(page.last()).map(|last| Cursor(last.key.to_string()));
    let blobs = page.into_iter().map(|path| ListedBlob { path, length: 10 }).collect();
    BlobPage { blobs, next, ..BlobPage::default() }
}

fn eio() -> Error {
    Error::io("delete", "/vol")(std::io::Error::other("bad sector"))
}

#[async_trait]
impl Upkeep for World {
    async fn reapable(&self, of: Option<&TenantId>, max: usize) -> Result<Vec<Reapable>> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        state.waiting.retain(|file| {
            let is_next = taken.len() < max && of.is_none_or(|tenant| file.tenant == *tenant);
            taken.extend(is_next.then(|| file.clone()));
            !is_next
        });
        state.out += taken.len();
        Ok(taken)
    }

    async fn reaped(&self, files: &[Reapable]) -> Result<()> {
        let mut state = self.state.lock();
        if state.fail_reaped {
            return Err(eio());
        }
        state.out -= files.len();
        state.events.push("reaped");
        state.reaped.extend(files.iter().map(|file| file.key));
        self.wake.notify_one();
        Ok(())
    }

    fn not_reaped(&self, files: Vec<Reapable>) {
        let mut state = self.state.lock();
        state.out -= files.len();
        state.waiting.extend(files);
        self.wake.notify_one();
    }

    async fn reapable_ready(&self) {
        while self.state.lock().waiting.is_empty() {
            self.wake.notified().await;
        }
    }

    async fn settled(&self) -> Result<()> {
        let is_settled = |state: &State| state.waiting.is_empty() && state.out == 0;
        while !is_settled(&self.state.lock()) {
            self.wake.notified().await;
        }
        Ok(())
    }

    async fn emptied(&self, _: &Leaving) -> Result<()> {
        self.settled().await
    }

    async fn expire(&self, _: Option<&TenantId>, max: usize) -> Result<usize> {
        let mut state = self.state.lock();
        let count = max.min(state.overdue);
        state.overdue -= count;
        Ok(count)
    }

    async fn expirable(&self) {
        self.wake.notified().await;
    }

    async fn expire_uploads(&self, _: Option<&TenantId>, max: usize) -> Result<usize> {
        let mut state = self.state.lock();
        let count = max.min(state.idle_uploads);
        state.idle_uploads -= count;
        Ok(count)
    }

    fn is_staging(&self, _: &StoragePath, staging: &FileKey) -> bool {
        self.state.lock().staging.contains(staging)
    }

    fn knows(&self, _: &VolumeId, at: &BlobPath) -> Knowledge {
        let key = &at.key;
        let state = self.state.lock();
        if state.recorded.contains(key) {
            Knowledge::Recorded
        } else if state.in_flight.contains(key) {
            Knowledge::InFlight
        } else {
            Knowledge::Unknown
        }
    }

    fn claim(&self, volume: &VolumeId, at: &BlobPath) -> Option<Claim> {
        let (key, claimed) = (at.key, Arc::clone(&self.state.lock().claimed));
        let is_free = self.knows(volume, at) == Knowledge::Unknown && claimed.lock().insert(key);
        is_free.then(|| {
            Claim::new(move || {
                claimed.lock().remove(&key);
            })
        })
    }

    fn waiting(&self, of: Option<&TenantId>) -> Waiting {
        let state = self.state.lock();
        let is_meant = |file: &&Reapable| of.is_none_or(|tenant| file.tenant == *tenant);
        Waiting {
            over: state.waiting.iter().filter(is_meant).count() as u64,
            copies: 0,
            overdue: state.overdue as u64,
            idle_uploads: state.idle_uploads as u64,
            records: Compacted { bytes_before: 9, bytes_after: 4 },
        }
    }

    fn is_trustworthy(&self) -> bool {
        !self.state.lock().untrustworthy
    }
}

#[async_trait]
impl StorageVolume for World {
    fn id(&self) -> &VolumeId {
        &self.id
    }

    fn mount_path(&self) -> Option<&Path> {
        None
    }

    fn local_path(&self, _: &BlobPath) -> Option<PathBuf> {
        None
    }

    fn status(&self) -> VolumeStatus {
        let state = self.state.lock();
        let (is_healthy, read_only) = (!state.unhealthy, state.read_only);
        VolumeStatus { total: 1, available: 1, is_healthy, read_only, why: None }
    }

    async fn probe(&self) -> Result<VolumeStatus> {
        Ok(self.status())
    }

    async fn write(&self, _: &BlobPath, _: &mut Content, _: Durability) -> Result<StoredBlob> {
        unreachable!("a sweeper writes nothing")
    }

    async fn stage(&self, _: &BlobPath, _: Staging) -> Result<Arc<dyn Staged>> {
        unreachable!("a sweeper stages nothing")
    }

    async fn staged(&self, from: Option<&Cursor>, limit: usize) -> Result<BlobPage> {
        let state = self.state.lock();
        Ok(page_of(&state.staged, from, limit.min(state.page_max)))
    }

    async fn discard(&self, at: &BlobPath) -> Result<bool> {
        let mut state = self.state.lock();
        if state.undeletable.contains(&at.key) {
            return Err(eio());
        }
        Ok(state.staged.remove(&at.key).is_some())
    }

    async fn copy(&self, _: &BlobPath, _: Area) -> Result<()> {
        unreachable!("a sweeper copies nothing")
    }

    async fn open(&self, _: &BlobPath, _: Range<u64>) -> Result<BlobReader> {
        unreachable!("a sweeper reads nothing")
    }

    async fn delete(&self, at: &BlobPath) -> Result<bool> {
        while self.state.lock().hang_delete {
            self.go.notified().await;
        }
        let mut state = self.state.lock();
        if state.undeletable.contains(&at.key) {
            return Err(eio());
        }
        state.events.push("delete");
        Ok(state.blobs.remove(&at.key).is_some())
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn sync_blob(&self, _: &BlobPath) -> Result<()> {
        unreachable!("a sweeper syncs no content")
    }

    async fn sync_names(&self) -> Result<()> {
        let mut state = self.state.lock();
        state.events.push("sync names");
        if state.fail_sync { Err(eio()) } else { Ok(()) }
    }

    async fn list(&self, _: Option<&StoragePath>, from: Option<&Cursor>, limit: usize) -> Result<BlobPage> {
        let state = self.state.lock();
        Ok(page_of(&state.blobs, from, limit.min(state.page_max)))
    }

    async fn tidy(&self, what: Tidy) -> Result<TidyReport> {
        if matches!(what, Tidy::CountStaleStaging) {
            return Ok(TidyReport { removed: 2, bytes: 7, ..TidyReport::default() });
        }
        self.state.lock().events.push("tidy");
        Ok(TidyReport { removed: 2, bytes: 7, ..TidyReport::default() })
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl VolumeSet for Mounted {
    fn volume(&self, id: &VolumeId) -> Option<Arc<dyn StorageVolume>> {
        self.all().into_iter().find(|volume| volume.id() == id)
    }

    fn all(&self) -> Vec<Arc<dyn StorageVolume>> {
        self.0.lock().iter().map(|volume| Arc::clone(volume) as _).collect()
    }
}
