//! The inside of an open volume: what its calls share, and everything they do that may block.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    fmt, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use locus_core::{
    BlobPath, BlobReader, Clock, Entropy, Error, Result, Site, StoreId, VolumeId, VolumeStatus,
};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{OwnedMutexGuard, Semaphore},
};
use tracing::{error, warn};

use crate::{
    dir_lock::{self, DirLock},
    disk::{Disk, DiskFile, DiskLock, Space},
    door::{may_block_here, off_thread},
    local::{
        blob::{self, OpenBlob},
        dirs::Dirs,
        gauge::{Gauge, Trouble},
        in_flight::{Claim, InFlight},
        layout::Layout,
        marker::{MARKER_BYTES, Marker},
        pieces::Pieces,
        unsynced::{Batch, Unsynced},
    },
    replace::parent_of,
    synced::{sync_all, sync_data, sync_dir},
};

/// Most bytes that are read or written in one hop, and that come along with the opening of a blob.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;

/// Most calls at the same time, unless the description of the volume says otherwise, that read the disk,
pub(crate) const READS_MAX: usize = 64;

/// and that change it.
pub(crate) const WRITES_MAX: usize = 32;

/// Most leftovers that are remembered by name. The rest is found by whoever looks for blobs without a record.
const RESIDUE_MAX: usize = 1_024;

pub(crate) struct Core {
    pub(crate) id: VolumeId,
    pub(crate) layout: Layout,
    pub(crate) store: StoreId,
    /// The disk beneath the mount.
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) gauge: Gauge,
    pub(crate) in_flight: Arc<InFlight>,
    pub(crate) pieces: Arc<Pieces>,
    pub(crate) dirs: Dirs,
    pub(crate) unsynced: Unsynced,
    pub(crate) lock: Mutex<Option<Box<dyn DiskLock>>>,
    pub(crate) gates: Gates,
    /// Blobs whose write failed after they had their name, and that could not be removed.
    pub(crate) residue: Mutex<BTreeSet<PathBuf>>,
    pub(crate) leftovers: Mutex<u64>,
}

/// Bounds of what happens at the same time.
#[derive(Debug)]
pub(crate) struct Gates {
    reads: Arc<Semaphore>,
    writes: Arc<Semaphore>,
    writes_max: usize,
    /// Whoever comes while a sync runs waits for it, then finds what was left to do in one batch.
    pub(crate) sync: Arc<tokio::sync::Mutex<()>>,
    /// One probe at a time: those of a disk that hangs keep one thread.
    pub(crate) probe: Arc<tokio::sync::Mutex<()>>,
}

impl Gates {
    pub(crate) fn new(reads_max: usize, writes_max: usize) -> Self {
        Self {
            reads: Arc::new(Semaphore::new(reads_max)),
            writes: Arc::new(Semaphore::new(writes_max)),
            writes_max,
            sync: Arc::default(),
            probe: Arc::default(),
        }
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core").field("id", &self.id).field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// The hops.
impl Core {
    pub(crate) async fn read_hop<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> T {
        self.hop(&self.gates.reads, work).await
    }

    pub(crate) async fn write_hop<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> T {
        self.hop(&self.gates.writes, work).await
    }

    /// The permit goes along with the work, which may outlive the future that asked for it.
    async fn hop<T: Send + 'static>(
        self: &Arc<Self>,
        gate: &Arc<Semaphore>,
        work: impl FnOnce(&Arc<Self>) -> T + Send + 'static,
    ) -> T {
        let permit = Arc::clone(gate).acquire_owned().await;
        let core = Arc::clone(self);
        off_thread(&*self.disk, move || {
            let _permit = permit;
            work(&core)
        })
        .await
    }

    /// A probe asks how the disk is, not how long the queue before it is: it waits for no other call but a probe.
    pub(crate) async fn probe_hop(self: &Arc<Self>) -> Result<VolumeStatus> {
        let turn = Arc::clone(&self.gates.probe).lock_owned().await;
        let core = Arc::clone(self);
        off_thread(&*self.disk, move || {
            let _turn = turn;
            core.probe()
        })
        .await
    }

    /// Closes a file, which may hang as any call may (FUSE waits for its server): while a probe is out no thread of the
    /// runtime is risked for it.
    pub(crate) fn close_file(self: &Arc<Self>, file: &Arc<dyn DiskFile>) {
        if !self.disk.blocks() || may_block_here() || self.gates.probe.try_lock().is_ok() {
            return; // whoever drops it closes it
        }
        if let Ok(runtime) = Handle::try_current() {
            let (core, file) = (Arc::clone(self), Arc::clone(file));
            drop(runtime.spawn(async move { core.read_hop(move |_| drop(file)).await }));
        }
    }

    /// Waits until nothing changes the disk.
    pub(crate) async fn quiet(&self) {
        let all = u32::try_from(self.gates.writes_max).unwrap_or(u32::MAX);
        drop(self.gates.writes.acquire_many(all).await);
        drop(self.gates.probe.lock().await);
    }
}

/// Whether, and why not.
impl Core {
    pub(crate) fn unavailable(&self, why: impl Into<Cow<'static, str>>) -> Error {
        Error::VolumeUnavailable { volume: Some(self.id.clone()), why: why.into() }
    }

    pub(crate) fn may_be_used(&self) -> Result<()> {
        self.gauge.closed().map_or(Ok(()), |why| Err(self.unavailable(why)))
    }

    pub(crate) fn may_write(&self) -> Result<()> {
        self.gauge.status().check_writes(&self.id)
    }

    fn may_sync(&self) -> Result<()> {
        self.may_be_used()?;
        self.may_still_sync()
    }

    fn may_still_sync(&self) -> Result<()> {
        self.gauge.poisoned().map_or(Ok(()), |why| Err(self.unavailable(why)))
    }

    /// The name of a blob for a call that gives or takes it: an earlier one may hang, and do so later. Claimed before its hop,
    /// which may begin when nobody waits for it any more.
    pub(crate) fn claim_name(&self, at: &BlobPath) -> Result<Claim> {
        self.in_flight.claim(&self.layout.blob(at)).ok_or_else(|| self.still_named())
    }

    pub(crate) fn still_named(&self) -> Error {
        self.unavailable("still has an earlier call that names the same blob")
    }

    /// Whether this volume is what is mounted here. Asked before "absent" is believed.
    pub(crate) fn check_identity(&self) -> Result<()> {
        let checked = self.read_marker();
        if let Err(failed) = &checked {
            let why = match failed {
                Error::VolumeUnavailable { why, .. } => why.clone(),
                other => format!("cannot be identified: {other}").into(),
            };
            self.gauge.found(Some(Trouble::Gone(why)));
        }
        checked
    }

    fn read_marker(&self) -> Result<()> {
        let path = self.layout.marker();
        let file = match self.disk.open(&path, false) {
            Err(error) if is_absent(&error) => {
                let why = format!("is not mounted: there is no marker {}", path.display());
                return Err(self.unavailable(why));
            }
            other => other.map_err(Error::io("open", &path))?,
        };
        self.check_marker(&Marker::read(&*file, &path)?)
    }

    pub(crate) fn check_marker(&self, found: &Marker) -> Result<()> {
        let place = self.layout.mount.display();
        if found.store != self.store {
            let why = format!(
                "belongs to another store: {place} is marked for {}, this is {}",
                found.store, self.store
            );
            return Err(self.unavailable(why));
        }
        self.check_name(found)
    }

    pub(crate) fn check_name(&self, found: &Marker) -> Result<()> {
        if found.volume == self.id {
            return Ok(());
        }
        let place = self.layout.mount.display();
        Err(self.unavailable(format!("is not at {place}: that is volume {}", found.volume)))
    }
}

/// Failures.
impl Core {
    /// The error of a failed operation; a full disk gets its own. `required`: bytes that the write needs in all.
    pub(crate) fn failed(&self, op: &'static str, path: &Path, required: u64, error: io::Error) -> Error {
        if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            let available = self.measure().map_or(0, |space| space.available);
            return Error::InsufficientStorage { required, available };
        }
        Error::io(op, path)(error)
    }

    /// A sync failed: nobody knows what is on the disk, so nothing more is entrusted to it.
    pub(crate) fn poison(&self, path: &Path, error: io::Error) -> Error {
        if self.gauge.poison() {
            error!(volume = %self.id, path = %path.display(), %error, "sync failed; no more writes until reopened");
        }
        Error::io("sync", path)(error)
    }

    /// A directory that could not be synced once is later said to be clean although it is not, so a success counts only
    /// while nothing has failed.
    pub(crate) fn sync_dir(&self, dir: &Path, site: Site) -> Result<()> {
        sync_dir(&*self.disk, dir, site).map_err(|error| self.dir_not_synced(dir, error))?;
        self.may_still_sync()
    }

    /// Where the directory could not even be opened, nothing was asked of the disk: the call fails and may be made again.
    fn dir_not_synced(&self, dir: &Path, error: io::Error) -> Error {
        if is_of_opening(&error) { Error::io("sync", dir)(error) } else { self.poison(dir, error) }
    }

    /// Something could not be removed; `tidy` tries again. Told once, then counted.
    pub(crate) fn left_behind(&self, path: &Path, error: &io::Error) {
        let mut leftovers = self.leftovers.lock();
        *leftovers = leftovers.saturating_add(1);
        if *leftovers == 1 {
            warn!(volume = %self.id, path = %path.display(), %error, "residue of a write could not be removed");
        }
    }

    /// Removes a blob whose write failed when it had its name already.
    pub(crate) fn unpublish(&self, path: &Path) {
        match self.disk.remove_file(path) {
            Err(error) if !is_absent(&error) => {
                self.left_behind(path, &error);
                let mut residue = self.residue.lock();
                if residue.len() < RESIDUE_MAX {
                    residue.insert(path.to_owned());
                }
            }
            _ => {}
        }
    }
}

/// Room.
impl Core {
    pub(crate) fn measure(&self) -> io::Result<Space> {
        let space = self.disk.space(&self.layout.mount)?;
        self.gauge.measured(space, self.clock.monotonic());
        Ok(space)
    }

    /// Failing to measure does not fail the call that came by; the next probe tells.
    pub(crate) fn measure_when_old(&self) {
        if self.gauge.is_old(self.clock.monotonic()) {
            let _ = self.measure();
        }
    }
}

/// The calls.
impl Core {
    pub(crate) fn probe(&self) -> Result<VolumeStatus> {
        self.may_be_used()?;
        self.disk.let_go(); // what is mounted here may be another disk by now
        let was_gone = self.gauge.is_gone();
        self.check_identity()?;
        if was_gone {
            self.lock_again()?;
        }
        let mount = &self.layout.mount;
        self.measure().map_err(|error| {
            self.gauge.found(Some(Trouble::Gone(format!("cannot be measured: {error}").into())));
            Error::io("measure", mount)(error)
        })?;
        self.gauge.found(self.try_to_write());
        Ok(self.gauge.status())
    }

    /// A disk that went and came back has a marker that nobody has locked: the lock holds that of the file system that is gone,
    /// and keeps it from going.
    fn lock_again(&self) -> Result<()> {
        let path = self.layout.marker();
        match self.disk.lock(&path) {
            Ok(lock) => {
                if let Err(error) = dir_lock::sign(&*lock, MARKER_BYTES as u64, &DirLock::me()) {
                    warn!(volume = %self.id, path = %path.display(), %error, "marker could not be signed");
                }
                *self.lock.lock() = Some(lock);
                Ok(())
            }
            // It is the same file, and the lock is ours.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Error::io("lock", path)(error)),
        }
    }

    /// Makes and removes a file in the staging directory. What a crash leaves of it is stale staging.
    fn try_to_write(&self) -> Option<Trouble> {
        let name = format!("probe-{:016x}", self.entropy.next_u64());
        let path = self.layout.staging(&name);
        let _claim = self.in_flight.claim(&path)?;
        let tried = self.create_staged(&path).and_then(|file| {
            let written = file.write_at(b"?", 0);
            self.disk.remove_file(&path).and(written)
        });
        match tried {
            Ok(()) => None,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
            {
                None
            }
            Err(error) => Some(Trouble::ReadOnly(format!("cannot be written: {error}").into())),
        }
    }

    /// Makes a file in the staging directory, and that directory when somebody removed it.
    pub(crate) fn create_staged(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        match self.disk.create_new(path) {
            Err(error) if is_absent(&error) => {
                self.make_staging_dir()?;
                self.disk.create_new(path)
            }
            other => other,
        }
    }

    /// It may be there.
    pub(crate) fn make_staging_dir(&self) -> io::Result<()> {
        match self.disk.create_dir(&self.layout.staging_dir()) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    pub(crate) fn open(self: &Arc<Self>, at: &BlobPath, expected: Range<u64>) -> Result<BlobReader> {
        self.may_be_used()?;
        let path = self.layout.blob(at);
        let file = self.open_blob(&path)?;
        let length = file.len().map_err(Error::io("read", &path))?;
        let head_end = expected.start.saturating_add(CHUNK_BYTES as u64).min(expected.end).min(length);
        let head = if head_end > expected.start {
            blob::read(&*file, expected.start..head_end).map_err(Error::io("read", &path))?
        } else {
            Bytes::new()
        };
        let blob = Arc::new(OpenBlob { core: Arc::clone(self), file, path, length });
        Ok(BlobReader { length, head_offset: expected.start, head, blob })
    }

    fn open_blob(&self, path: &Path) -> Result<Arc<dyn DiskFile>> {
        self.open_there(path, false)
    }

    /// Absent is believed only of this volume.
    pub(crate) fn open_there(&self, path: &Path, writable: bool) -> Result<Arc<dyn DiskFile>> {
        let opened = self.disk.open(path, writable);
        if opened.as_ref().is_err_and(is_absent) {
            self.check_identity()?;
        }
        opened.map_err(Error::io("open", path))
    }

    /// A removal that hangs may come to its end long after nobody waits for it: until then nothing gets this name anew, and
    /// nobody hears of it that it is absent.
    pub(crate) fn delete(&self, at: &BlobPath, _claim: Claim) -> Result<bool> {
        self.may_be_used()?;
        let (path, dir) = (self.layout.blob(at), self.layout.dir(at));
        let was_there = match self.disk.remove_file(&path) {
            Ok(()) => true,
            Err(error) if is_absent(&error) => {
                self.check_identity()?;
                false
            }
            Err(error) => return Err(Error::io("delete", path)(error)),
        };
        if was_there {
            self.dirs.lost_one(dir.clone());
        }
        // Also when it was absent: a run that was killed may have removed it and not have synced that.
        self.unsynced.removed(&path, dir);
        self.measure_when_old();
        Ok(was_there)
    }

    /// Content first, then the names that lead to it, outermost first, its own last.
    pub(crate) fn sync_blob(&self, at: &BlobPath) -> Result<()> {
        self.may_sync()?;
        let path = self.layout.blob(at);
        let file = self.open_blob(&path)?;
        sync_data(&*file, Site::FoundContent).map_err(|error| self.poison(&path, error))?;
        let _in_use = self.dirs.in_use(); // what is learnt of a directory is not of one that was made in its place
        for dir in self.layout.dirs(at) {
            if !self.dirs.knows(&dir, true) {
                self.sync_dir(parent_of(&dir), Site::FoundName)?;
                self.dirs.learn(&dir, true);
            }
        }
        self.sync_dir(parent_of(&path), Site::FoundName)
    }

    pub(crate) fn sync(&self, take: fn(&Unsynced) -> Batch, _turn: OwnedMutexGuard<()>) -> Result<()> {
        self.may_sync()?;
        self.check_identity()?;
        let mut take = take;
        loop {
            let removed = self.dirs.removed();
            let batch = take(&self.unsynced);
            let synced = self.sync_batch(&batch);
            if synced.is_err() && self.gauge.poisoned().is_none() {
                self.unsynced.put_back(batch);
            }
            synced?;
            if self.dirs.removed() == removed {
                return Ok(());
            }
            // Under the name of one in the batch there may have been another directory by then: what was removed from the first
            // one is gone with it.
            take = Unsynced::take_removals;
        }
    }

    /// Content first, then names. What is absent was removed meanwhile.
    fn sync_batch(&self, batch: &Batch) -> Result<()> {
        if batch.files.is_all() || batch.dirs.is_all() || batch.removals.is_all() {
            let mount = &self.layout.mount;
            return sync_all(&*self.disk, mount, Site::UnsyncedVolume)
                .map_err(|error| self.poison(mount, error));
        }
        for path in batch.files.iter() {
            match self.disk.open(path, false) {
                Ok(file) => {
                    sync_data(&*file, Site::UnsyncedContent).map_err(|error| self.poison(path, error))?;
                }
                Err(error) if is_absent(&error) => {}
                Err(error) => return Err(Error::io("open", path)(error)),
            }
        }
        let mut done = BTreeSet::new();
        let named = batch.dirs.iter().map(|dir| (dir, Site::UnsyncedName));
        for (dir, site) in named.chain(batch.removals.iter().map(|dir| (dir, Site::RemovedName))) {
            if done.insert(dir) {
                self.sync_dir_or_above(dir, site)?;
            }
        }
        self.may_still_sync()
    }

    /// A directory that is gone took its names along; that it is gone is a change of the one above.
    fn sync_dir_or_above(&self, dir: &Path, site: Site) -> Result<()> {
        match sync_dir(&*self.disk, dir, site) {
            Err(error)
                if is_absent(&error) && dir != self.layout.mount && dir.starts_with(&self.layout.mount) =>
            {
                self.sync_dir_or_above(parent_of(dir), site)
            }
            other => other.map_err(|error| self.dir_not_synced(dir, error)),
        }
    }
}

/// Whether the path leads to nothing. `NotADirectory` is not that: something else has a name of ours.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

/// Whether something failed for want of what the process lacks at the moment, open files or memory, and not of what it was tried
/// on: it says nothing about that, and may be tried again.
#[must_use]
pub fn is_passing(error: &Error) -> bool {
    let Error::Io { source, .. } = error else { return false };
    #[cfg(unix)]
    let lacks = {
        use rustix::io::Errno;
        let errno = Errno::from_io_error(source);
        errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOMEM].contains(&errno))
    };
    #[cfg(not(unix))]
    let lacks = false;
    lacks || matches!(source.kind(), io::ErrorKind::Interrupted | io::ErrorKind::OutOfMemory)
}

/// Whether a failure to sync a directory is one of opening it, which no sync can give: too many open files, or something
/// else than a directory has its name, such as a link.
fn is_of_opening(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let errno = Errno::from_io_error(error);
        errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::LOOP, Errno::NOTDIR].contains(&errno))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::NotADirectory
    }
}
