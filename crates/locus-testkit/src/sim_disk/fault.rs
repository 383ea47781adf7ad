//! Faults: which operations fail, how, and how often.

use std::{fmt, io, path::Path};

/// A kind of operation on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OpKind {
    /// `create_new`.
    Create,
    /// `open`.
    Open,
    /// `create_dir`.
    CreateDir,
    /// `rename` and `rename_new`.
    Rename,
    /// `link`.
    Link,
    /// `remove_file` and `remove_dir`.
    Remove,
    /// `read_dir`.
    ReadDir,
    /// `metadata`, a file's `len`, and which file is locked.
    Metadata,
    /// `sync_dir`.
    SyncDir,
    /// `space`.
    Space,
    /// `lock` and `lock_shared`.
    Lock,
    /// A lock's `unlock`.
    Unlock,
    /// A file's `read_at` and `read_cached_at`.
    Read,
    /// A file's `write_at`.
    Write,
    /// A file's `sync_data`.
    Sync,
    /// A file's `set_len`.
    SetLen,
    /// A file's `drop_cache`.
    DropCache,
}

/// Names one planted [`Fault`], to take it away again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FaultId(u64);

/// An error that operations return instead of doing their work. Unless told otherwise it hits every kind of operation
/// on every path, from the next one on, once.
///
/// What else the failed operation does: a write may have written a beginning of its bytes; a sync takes the written
/// bytes for clean although they are not durable; everything else does nothing. That holds whatever the error, EINTR
/// too: what the [`Disk`](locus_fs::Disk) seam repeats by itself is repeated below a simulated disk.
///
/// ```
/// use std::path::Path;
/// use locus_fs::Disk;
/// use locus_testkit::{Fault, OpKind, SimDisk};
///
/// let disk = SimDisk::new(1);
/// disk.fail(Fault::no_space().on(OpKind::Create).at(|path| path.starts_with("/journal")).for_good());
/// disk.create_dir(Path::new("/journal"))?;
/// let refused = disk.create_new(Path::new("/journal/1")).unwrap_err();
/// assert_eq!(refused.kind(), std::io::ErrorKind::StorageFull);
/// # std::io::Result::Ok(())
/// ```
#[must_use = "a fault does nothing before it is given to `SimDisk::fail`"]
pub struct Fault {
    error: FaultError,
    kinds: Vec<OpKind>,
    path: Option<PathTest>,
    short: bool,
    from: u64,
    skip: u64,
    /// `None`: for good.
    left: Option<u64>,
}

type PathTest = Box<dyn Fn(&Path) -> bool + Send + Sync>;

#[derive(Debug, Clone, Copy)]
enum FaultError {
    Kind(io::ErrorKind),
    Os(i32),
    Down,
}

impl Fault {
    /// An error of this kind.
    pub fn kind(kind: io::ErrorKind) -> Self {
        Self::new(FaultError::Kind(kind))
    }

    /// The operating system's error of this number.
    pub fn os(errno: i32) -> Self {
        Self::new(FaultError::Os(errno))
    }

    /// EIO: the device failed.
    pub fn io() -> Self {
        Self::os(5)
    }

    /// ENOSPC: the device is full.
    pub fn no_space() -> Self {
        Self::os(28)
    }

    /// EMFILE: the process has too many files open.
    pub fn too_many_files() -> Self {
        Self::os(24)
    }

    /// EINTR: a signal came before anything was done, or while it was.
    pub fn interrupted() -> Self {
        Self::os(4)
    }

    /// A write that stores a beginning of its bytes, at least one and never all, and can store no more: write zero, as
    /// the seam says it. Hits no other kind of operation; a write of one byte stores none.
    pub fn short_write() -> Self {
        Self { short: true, ..Self::kind(io::ErrorKind::WriteZero) }.on(OpKind::Write)
    }

    /// No error but the end: the disk goes down in the middle of the operation, as at the point of
    /// [`SimDisk::crash_at`](super::SimDisk::crash_at).
    pub fn down() -> Self {
        Self::new(FaultError::Down)
    }

    fn new(error: FaultError) -> Self {
        Self { error, kinds: Vec::new(), path: None, short: false, from: 0, skip: 0, left: Some(1) }
    }

    /// Hits this kind of operation only; called again, these kinds.
    pub fn on(mut self, kind: OpKind) -> Self {
        self.kinds.push(kind);
        self
    }

    /// Hits only operations on a path for which `matches` says yes. Paths are absolute and normalised; an open file
    /// has the path it was opened by, a rename has two and is hit by either.
    pub fn at(mut self, matches: impl Fn(&Path) -> bool + Send + Sync + 'static) -> Self {
        self.path = Some(Box::new(matches));
        self
    }

    /// Hits no operation before the disk's operation `op`, of whatever kind, counted as by
    /// [`SimDisk::ops`](super::SimDisk::ops) (the first one is 1).
    pub fn from_op(mut self, op: u64) -> Self {
        self.from = op;
        self
    }

    /// Lets `count` operations that it would hit pass first.
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Hits `count` operations.
    pub fn times(mut self, count: u64) -> Self {
        self.left = Some(count);
        self
    }

    /// Hits until it is taken away.
    pub fn for_good(mut self) -> Self {
        self.left = None;
        self
    }

    fn matches(&self, op: u64, kind: OpKind, paths: &[&Path]) -> bool {
        op >= self.from
            && (self.kinds.is_empty() || self.kinds.contains(&kind))
            && self.path.as_ref().is_none_or(|matches| paths.iter().any(|path| matches(path)))
    }

    /// Whether it hits now, which it notes.
    fn hit(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fault")
            .field("error", &self.error)
            .field("kinds", &self.kinds)
            .field("short", &self.short)
            .field("from", &self.from)
            .field("skip", &self.skip)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// What a fault makes of an operation.
#[derive(Debug)]
pub(super) enum Hit {
    Error(Failure),
    Down,
}

/// An operation that fails.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: io::Error,
    /// A beginning is stored for certain, and never all.
    pub(super) short: bool,
}

/// The faults of one disk.
#[derive(Debug, Default)]
pub(super) struct Faults {
    planted: Vec<Planted>,
    next: u64,
}

#[derive(Debug)]
struct Planted {
    id: FaultId,
    fault: Fault,
    hits: u64,
}

impl Faults {
    pub(super) fn plant(&mut self, fault: Fault) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        self.planted.push(Planted { id, fault, hits: 0 });
        id
    }

    pub(super) fn heal(&mut self, id: FaultId) {
        self.planted.retain(|planted| planted.id != id);
    }

    pub(super) fn heal_all(&mut self) {
        self.planted.clear();
    }

    pub(super) fn hits(&self, id: FaultId) -> u64 {
        self.planted.iter().find(|planted| planted.id == id).map_or(0, |planted| planted.hits)
    }

    /// What the first fault that hits operation `op` makes of it.
    pub(super) fn check(&mut self, op: u64, kind: OpKind, paths: &[&Path]) -> Option<Hit> {
        for planted in &mut self.planted {
            if planted.fault.matches(op, kind, paths) && planted.fault.hit() {
                planted.hits += 1;
                let error = match planted.fault.error {
                    FaultError::Kind(kind) => io::Error::from(kind),
                    FaultError::Os(errno) => io::Error::from_raw_os_error(errno),
                    FaultError::Down => return Some(Hit::Down),
                };
                return Some(Hit::Error(Failure { error, short: planted.fault.short }));
            }
        }
        None
    }
}
