//! A disk in memory that is as bad as POSIX allows.

mod content;
mod fault;
mod handle;
mod mood;
mod names;
mod state;

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_fs::{DirEntry, Disk, DiskFile, DiskLock, Meta, Space};
use parking_lot::Mutex;

pub use self::fault::{Fault, FaultId, OpKind};
use self::{
    handle::{Shared, SimFile, SimLock},
    state::{LockHeld, State, normal},
};

/// A [`Disk`] in memory that loses, tears and reorders whatever was not synced, as its seed says.
///
/// Paths are taken without `.` and `..`, relative ones from the root, which is there from the start. Used by one thread,
/// a seed repeats its run exactly.
///
/// # A power cut ([`crash`](Self::crash))
/// - *Content.* A sector is 512 bytes. Of every sector written since the file's last sync, the disk holds the durable
///   bytes, or those after any of the writes, or a tear (one write arrived in part), or zeros where it was written.
///   Bytes outside of a write's range are never damaged. A sector that is new and did not arrive reads zeros. Cutting a
///   file is a write of zeros over what was cut.
/// - *Length.* The durable one, or any the file had since, whatever became of the content.
/// - *Names.* Of every name in a directory changed since that directory's last sync, the disk holds the durable state or
///   any it had since, each name for itself: a later change may stay and an earlier one be lost. `sync_data` of a file
///   does nothing for its name, and what is in a directory whose own name is lost is lost with it.
/// - *Renames.* The old name is gone only if the new one is there, so a file is never lost by a rename: one name stays or,
///   as on a file system without a journal, both do, for one file ([`set_twin_names`](Self::set_twin_names) forbids
///   it; directories never have two). A rename into another directory is durable when both directories are synced;
///   with only the old one synced, it may still be undone as a whole.
/// - A directory is gone only if what it held is.
///
/// What a crash leaves is durable. Some crashes keep everything, some nothing, some a beginning, most a mixture.
///
/// # A kill ([`kill`](Self::kill))
/// Loses nothing. Either end kills all handles, whose calls then answer "disk crashed", and releases all locks.
///
/// # A failed sync
/// takes what it should have written for clean, as Linux does: readers see it, later syncs succeed without it, and
/// [`drop_cache`](DiskFile::drop_cache) or a power cut brings the durable bytes back. Writing a sector again makes
/// the whole of it dirty again. Names of a directory whose sync failed are not made durable by later ones either.
///
/// ```
/// use std::path::Path;
/// use locus_fs::Disk;
/// use locus_testkit::SimDisk;
///
/// let disk = SimDisk::new(42);
/// let file = disk.create_new(Path::new("/a"))?;
/// file.write_at(b"confirmed", 0)?;
/// file.sync_data()?;
/// disk.sync_dir(Path::new("/"))?;
/// disk.crash();
///
/// assert!(file.len().is_err());
/// assert_eq!(disk.open(Path::new("/a"), false)?.len()?, 9);
/// # std::io::Result::Ok(())
/// ```
pub struct SimDisk {
    state: Shared,
    seed: u64,
}

impl SimDisk {
    /// An empty disk of 64 GiB.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self { state: Shared(Arc::new(Mutex::new(State::new(seed)))), seed })
    }

    /// The seed, to print when a test fails.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Cuts the power and brings it back.
    pub fn crash(&self) {
        self.state.0.lock().crash();
    }

    /// Kills the process and starts it again.
    pub fn kill(&self) {
        self.state.0.lock().kill();
    }

    /// How many operations there were: all calls of [`Disk`] and [`DiskFile`], reads too, but none while it was down.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.state.0.lock().ops
    }

    /// Notes every operation from now on, for [`heard`](Self::heard).
    pub fn listen(&self) {
        self.state.0.lock().heard = Some(Vec::new());
    }

    /// The operations since [`listen`](Self::listen), each with its kind and its (first) path.
    #[must_use]
    pub fn heard(&self) -> Vec<(OpKind, PathBuf)> {
        self.state.0.lock().heard.clone().unwrap_or_default()
    }

    /// Goes down in the middle of operation `op`, counted as by [`ops`](Self::ops) (the first one is 1); in the next
    /// one, when that is past. That operation may have happened in full, in part or not at all, and like all after it,
    /// it answers an error of kind [`Other`](io::ErrorKind::Other) until [`crash`](Self::crash) or
    /// [`kill`](Self::kill), which also take a point back that was not reached.
    pub fn crash_at(&self, op: u64) {
        self.state.0.lock().crash_at = Some(op);
    }

    /// Whether it went down: at the point of [`crash_at`](Self::crash_at), or by [`Fault::down`].
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.state.0.lock().down
    }

    /// Plants a fault. The oldest one that hits an operation is the one it gets. Faults outlive crashes.
    pub fn fail(&self, fault: Fault) -> FaultId {
        self.state.0.lock().faults.plant(fault)
    }

    /// How many operations a fault has hit.
    #[must_use]
    pub fn hits(&self, fault: FaultId) -> u64 {
        self.state.0.lock().faults.hits(fault)
    }

    /// Takes a fault away.
    pub fn heal(&self, fault: FaultId) {
        self.state.0.lock().faults.heal(fault);
    }

    /// Takes all faults away.
    pub fn heal_all(&self) {
        self.state.0.lock().faults.heal_all();
    }

    /// Sets how much room there is in all. A file takes its length in whole sectors of 512 bytes and one more; a
    /// directory takes one. Nothing is lost when less is left than is used.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.0.lock().capacity = bytes;
    }

    /// Whether a crash may leave a renamed file under both names; it may from the start. Concerns later renames.
    pub fn set_twin_names(&self, allowed: bool) {
        self.state.0.lock().twin_names = allowed;
    }

    /// Whether locks exclude anybody; they do from the start. Some file systems on a network only say so.
    pub fn set_locks_exclude(&self, exclude: bool) {
        self.state.0.lock().locks_exclude = exclude;
    }

    /// The names that files were given by renames while bytes of theirs were not durable, since this was asked last:
    /// a crash may leave such a name with other bytes, or none.
    #[must_use]
    pub fn take_renamed_unsynced(&self) -> Vec<PathBuf> {
        std::mem::take(&mut self.state.0.lock().renamed_unsynced)
    }

    fn op<T>(
        &self,
        kind: OpKind,
        path: &Path,
        run: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        self.state.0.lock().op(kind, &[path], run)
    }

    fn lock_as(&self, path: &Path, held: LockHeld) -> io::Result<Box<dyn DiskLock>> {
        let path = normal(path);
        let mut state = self.state.0.lock();
        let ino = state.op(OpKind::Lock, &[&path], |state| {
            let ino = match state.find_file(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => state.create_file(&path)?,
                found => found?,
            };
            state.lock(ino, held)?;
            Ok(ino)
        })?;
        Ok(Box::new(SimLock(SimFile::new(&self.state, &mut state, ino, &path, true))))
    }

    fn rename_with(&self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        self.state.0.lock().op(OpKind::Rename, &[&from, &to], |state| state.rename(&from, &to, replace))
    }
}

impl Disk for SimDisk {
    fn blocks(&self) -> bool {
        false
    }

    /// There are no links.
    fn beneath(&self, _: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        Ok(None)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let path = normal(path);
        let mut state = self.state.0.lock();
        let ino = state.op(OpKind::Create, &[&path], |state| state.create_file(&path))?;
        Ok(Arc::new(SimFile::new(&self.state, &mut state, ino, &path, true)))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let path = normal(path);
        let mut state = self.state.0.lock();
        let ino = state.op(OpKind::Open, &[&path], |state| state.find_file(&path))?;
        Ok(Arc::new(SimFile::new(&self.state, &mut state, ino, &path, writable)))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        self.op(OpKind::CreateDir, &path, |state| state.create_dir(&path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_with(from, to, true)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.rename_with(from, to, false)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        self.state.0.lock().op(OpKind::Link, &[&from, &to], |state| state.link(&from, &to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        self.op(OpKind::Remove, &path, |state| state.remove_file(&path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        self.op(OpKind::Remove, &path, |state| state.remove_dir(&path))
    }

    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>> {
        let path = normal(path);
        let entries = self.op(OpKind::ReadDir, &path, |state| state.read_dir(&path))?;
        Ok(Box::new(entries.into_iter().map(Ok)))
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        let path = normal(path);
        self.op(OpKind::Metadata, &path, |state| state.metadata(&path))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.state.0.lock().sync_dir(&normal(path))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let path = normal(path);
        self.op(OpKind::Space, &path, |state| {
            state.metadata(&path)?;
            Ok(Space { total: state.capacity, available: state.capacity.saturating_sub(state.used) })
        })
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.lock_as(path, LockHeld::Exclusive)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.lock_as(path, LockHeld::Shared(1))
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDisk").field("seed", &self.seed).finish_non_exhaustive()
    }
}
