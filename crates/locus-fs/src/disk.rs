//! The disk seam. All disk work whose durability matters goes through here, so that a simulated disk can crash, tear
//! and fail it.
//!
//! The calls are those of POSIX, blocking, with its promises and no more: a write is durable after `sync_data`, a name
//! after `sync_dir` of the directory that holds it.
//!
//! *Interrupted calls.* Whatever can be made again without harm (opening, reading, writing) is made again below the seam
//! when a signal interrupts it (EINTR). A sync is not: whatever error ends it, an interruption too, nobody knows what is
//! on the disk, and a second sync would say that all is well. A change of names is not either: it may have happened, and
//! made again it would say that there is nothing to change. So an error of kind [`Interrupted`](io::ErrorKind::Interrupted)
//! is a failure like any other for those who call: it is never a reason to call again.
//!
//! *Short writes.* A write that stores a beginning goes on with the rest. What stands at the end is all of it or an error,
//! and after the error any beginning may be there.

use std::{ffi::OsString, fmt::Debug, io, path::Path, sync::Arc};

/// A disk, or something that behaves as badly as one.
pub trait Disk: Debug + Send + Sync {
    /// Whether calls may block the thread (a real disk), so that async code must leave its thread for them. A disk in
    /// memory says `false`, and everything then happens on the caller's thread, in order.
    fn blocks(&self) -> bool;

    /// This disk beneath `root`, a directory that is there, for whoever does not trust all who can change it: paths are
    /// written as before, all begin with `root`, and in none of them a link is followed below it. `root` itself may be
    /// written with links; where it leads is found now, once. `None` when this disk has no links, and is itself what
    /// was asked for.
    fn beneath(&self, root: &Path) -> io::Result<Option<Arc<dyn Disk>>>;

    /// Closes directories that are kept open from call to call for the sake of speed, so that nobody finds their file
    /// system in use.
    fn let_go(&self) {}

    /// Creates a file that must not exist, readable and writable, mode 0600 (`O_CREAT | O_EXCL | O_RDWR`).
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens an existing regular file without following a link at its end; never blocks on a FIFO.
    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>>;

    /// Whether `dir` lies on a file system that this machine keeps by itself: to open a file there whose name is in memory
    /// ([`open_cached`](Self::open_cached)) asks no other machine, and no program. `false` when that is not known.
    fn is_own(&self, _dir: &Path) -> io::Result<bool> {
        Ok(false)
    }

    /// As [`open`](Self::open), to read, without waiting for the device: only when all names of the path are in memory
    /// (`openat2(2)` with `RESOLVE_CACHED`), and only for what [is the machine's own](Self::is_own). Says how long it is, too.
    /// `None` when they are not, or the system cannot tell.
    fn open_cached(&self, _path: &Path) -> io::Result<Option<(Arc<dyn DiskFile>, u64)>> {
        Ok(None)
    }

    /// Creates one directory, mode 0700. Its parent must exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Renames, replacing an existing file (`rename(2)`).
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Renames unless `to` exists, which is [`io::ErrorKind::AlreadyExists`] (`renameat2(2)` with `RENAME_NOREPLACE`).
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file a second name, unless `to` exists, which is [`io::ErrorKind::AlreadyExists`] (`link(2)`). Kind
    /// [`Unsupported`](io::ErrorKind::Unsupported) when the file system has no second names, or no more for this file.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file (`unlink(2)`).
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory (`rmdir(2)`).
    fn remove_dir(&self, path: &Path) -> io::Result<()>;

    /// What a directory holds, in no order, without `.` and `..`.
    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>>;

    /// What is known about a path, links not followed (`lstat(2)`).
    fn metadata(&self, path: &Path) -> io::Result<Meta>;

    /// Makes the names in a directory durable (`fsync(2)` of the directory).
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes all content and names below a directory durable. The default goes from file to file; a real disk has one
    /// call for it (`syncfs(2)`).
    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        for entry in self.read_dir(dir)? {
            let entry = entry?;
            let path = dir.join(&entry.name);
            let synced = match entry.kind {
                EntryKind::File => self.open(&path, true).and_then(|file| file.sync_data()),
                EntryKind::Dir => self.sync_all(&path),
                EntryKind::Other => Ok(()),
            };
            match synced {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {} // removed meanwhile
                other => other?,
            }
        }
        self.sync_dir(dir)
    }

    /// Size and free room of the file system that holds `path` (`statvfs(3)`).
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// Takes an exclusive lock on the file at `path`, which is created when absent, for as long as the answer lives.
    /// Never waits: a lock that somebody else holds, in this process or another, is [`io::ErrorKind::WouldBlock`].
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;

    /// As [`lock`](Self::lock), but shared: any number of these are held at a time, and none together with an exclusive
    /// one. Kind [`Unsupported`](io::ErrorKind::Unsupported) when the file system has none.
    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>>;
}

/// An open file. Calls take `&self` and positions, so that one handle serves many threads.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads at `offset` until `buf` is full or the file ends; says how many bytes (`pread(2)`, repeated).
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Reads all of `buf` at `offset` without waiting for the device: only when the whole of it is cached
    /// (`preadv2(2)` with `RWF_NOWAIT`). `false` when it is not, or the system cannot tell; `buf` is then undefined.
    fn read_cached_at(&self, _buf: &mut [u8], _offset: u64) -> io::Result<bool> {
        Ok(false)
    }

    /// Writes all of `buf` at `offset` (`pwrite(2)`, repeated).
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes the content, and the length where it changed, durable (`fdatasync(2)`). After an error nobody knows what
    /// is on the disk: never call it again for the same bytes.
    fn sync_data(&self) -> io::Result<()>;

    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file, or extends it with zeros (`ftruncate(2)`).
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes the next reads come from the device instead of the page cache, as far as the system allows
    /// (`posix_fadvise(2)` with `POSIX_FADV_DONTNEED`): pages that failed to be written back look clean.
    fn drop_cache(&self) -> io::Result<()>;
}

/// A held lock; dropping it, or the end of the process, lets go.
pub trait DiskLock: Debug + Send + Sync {
    /// The file that is locked, to note who holds it.
    fn file(&self) -> &dyn DiskFile;

    /// Which of its file system's files it is, as [`Meta::id`] tells of a path: who locked a file that lost its name to
    /// another one meanwhile locks nobody out.
    fn id(&self) -> io::Result<Option<u64>>;

    /// Lets go, and says whether that could be done. After an error, too, the file is closed, which lets go.
    fn unlock(self: Box<Self>) -> io::Result<()>;
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// Its name, without the directory.
    pub name: OsString,
    /// What it is, links not followed.
    pub kind: EntryKind,
}

/// What a path leads to, links not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A link, FIFO, socket or device: nothing of Locus's.
    Other,
}

/// What is known about a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// What it is.
    pub kind: EntryKind,
    /// Its length, in bytes.
    pub len: u64,
    /// Which of its file system's it is (an inode's number): two names of one file have the same. `None` where the system
    /// does not tell.
    pub id: Option<u64>,
}

/// Room on a file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What an unprivileged writer may still use.
    pub available: u64,
}
