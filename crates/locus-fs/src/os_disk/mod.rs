//! The real disk: [`Disk`] over the operating system's files.

#[cfg(unix)]
mod beneath;
#[cfg(unix)]
mod kept;
#[cfg(unix)]
mod root;
#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(not(unix), path = "other.rs")]
mod sys;

use std::{
    fs::{self, File, TryLockError},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::disk::{DirEntry, Disk, DiskFile, DiskLock, EntryKind, Meta, Space};

/// The machine's own files. Links at the end of a path are not followed, FIFOs do not hang, new files are 0600 and new
/// directories 0700 whatever the umask says. What the process's limit on the length of files (`RLIMIT_FSIZE`) does not
/// allow is refused as [`io::ErrorKind::FileTooLarge`] before it is tried: the system would send `SIGXFSZ`. A limit that is
/// lowered below what a file was let reach is seen by the next one that is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn blocks(&self) -> bool {
        true
    }

    #[cfg(unix)]
    fn beneath(&self, root: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        Ok(Some(Arc::new(beneath::Beneath::new(root::Root::find(root)?))))
    }

    /// Here the whole path is trusted.
    #[cfg(not(unix))]
    fn beneath(&self, _: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        Ok(None)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(OsFile::new(opened(Opening::New, |how| sys::open(path, how))?)))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let how = if writable { Opening::Write } else { Opening::Read };
        Ok(Arc::new(OsFile::new(opened(how, |how| sys::open(path, how))?)))
    }

    fn is_own(&self, dir: &Path) -> io::Result<bool> {
        sys::is_own(sys::dir(dir))
    }

    fn open_cached(&self, path: &Path) -> io::Result<Option<(Arc<dyn DiskFile>, u64)>> {
        match sys::open_cached(path) {
            Err(error) if sys::is_no_file(&error) => Err(no_file()),
            Err(error) => Err(error),
            Ok(None) => Ok(None),
            Ok(Some(file)) => {
                let (file, len) = regular(file)?;
                Ok(Some((Arc::new(OsFile::new(file)), len)))
            }
        }
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        sys::create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        sys::rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        match sys::rename_new(from, to) {
            Err(error) if sys::is_unknown_call(&error) => link_and_unlink(from, to),
            other => other,
        }
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to).map_err(sys::unsupported_link)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>> {
        Ok(Box::new(fs::read_dir(sys::dir(path))?.map(|entry| {
            let entry = entry?;
            Ok(DirEntry { kind: kind(entry.file_type()?), name: entry.file_name() })
        })))
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        let found = fs::symlink_metadata(sys::dir(path))?;
        Ok(Meta { kind: kind(found.file_type()), len: found.len(), id: sys::id(&found) })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        sys::sync_dir(sys::dir(path))
    }

    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        sys::sync_all(sys::dir(dir))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        sys::space(sys::dir(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        lock(|how| sys::open(path, how), File::try_lock)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        lock(|how| sys::open(path, how), File::try_lock_shared)
    }
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// To be made, read and written.
    New,
    /// To be read and written.
    Write,
    /// To be read.
    Read,
}

/// A file as it should be: nobody else's when it is new, and else a regular one.
fn opened(how: Opening, open: impl Fn(Opening) -> io::Result<File>) -> io::Result<File> {
    let file = match open(how) {
        Err(error) if how != Opening::New && sys::is_no_file(&error) => return Err(no_file()),
        other => other?,
    };
    if how != Opening::New {
        return Ok(regular(file)?.0);
    }
    sys::set_file_mode(&file)?;
    Ok(file)
}

/// A regular file, and its length.
fn regular(file: File) -> io::Result<(File, u64)> {
    let found = file.metadata()?;
    if found.is_file() { Ok((file, found.len())) } else { Err(no_file()) }
}

fn no_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn lock(
    open: impl Fn(Opening) -> io::Result<File>,
    try_lock: fn(&File) -> Result<(), TryLockError>,
) -> io::Result<Box<dyn DiskLock>> {
    let refused = |done: &io::Result<File>, kind| done.as_ref().is_err_and(|error| error.kind() == kind);
    // Mostly it is there.
    let mut file = opened(Opening::Write, &open);
    if refused(&file, io::ErrorKind::NotFound) {
        file = opened(Opening::New, &open);
        if refused(&file, io::ErrorKind::AlreadyExists) {
            file = opened(Opening::Write, &open);
        }
    }
    if refused(&file, io::ErrorKind::ReadOnlyFilesystem) {
        file = opened(Opening::Read, &open);
    }
    let file = file?;
    match try_lock(&file) {
        Ok(()) => Ok(Box::new(OsLock(OsFile::new(file)))),
        Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// What [`Disk::rename_new`] comes down to where the file system has no call for it: a hard link never replaces.
fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from).inspect_err(|_| {
        // Two names for one file are no rename: go back to the first one.
        let _ = fs::remove_file(to);
    })
}

fn kind(found: fs::FileType) -> EntryKind {
    if found.is_file() {
        EntryKind::File
    } else if found.is_dir() {
        EntryKind::Dir
    } else {
        EntryKind::Other
    }
}

#[derive(Debug)]
struct OsFile {
    file: File,
    /// How far the limit on the length of files was seen to let this one reach.
    reach: AtomicU64,
}

/// Whether a file may reach so far is asked this much ahead.
const REACH_AHEAD: u64 = 1 << 20;

impl OsFile {
    fn new(file: File) -> Self {
        Self { file, reach: AtomicU64::new(0) }
    }

    /// Asks the system once in a while: a call for each write would be as much as a tenth of a small one.
    fn may_reach(&self, end: u64) -> io::Result<()> {
        if end <= self.reach.load(Ordering::Relaxed) {
            return Ok(());
        }
        let ahead = end.saturating_add(REACH_AHEAD);
        let reach = if sys::may_reach(ahead).is_ok() { ahead } else { sys::may_reach(end).map(|()| end)? };
        self.reach.fetch_max(reach, Ordering::Relaxed);
        Ok(())
    }
}

impl DiskFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match sys::read_at(&self.file, &mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        sys::read_cached_at(&self.file, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.may_reach(offset.saturating_add(buf.len() as u64))?;
        let mut written = 0;
        while written < buf.len() {
            match sys::write_at(&self.file, &buf[written..], offset + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        sys::sync_data(&self.file)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_reach(len)?;
        self.file.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        sys::drop_cache(&self.file)
    }
}

#[derive(Debug)]
struct OsLock(OsFile);

impl DiskLock for OsLock {
    fn file(&self) -> &dyn DiskFile {
        &self.0
    }

    fn id(&self) -> io::Result<Option<u64>> {
        Ok(sys::id(&self.0.file.metadata()?))
    }

    fn unlock(self: Box<Self>) -> io::Result<()> {
        self.0.file.unlock()
    }
}

/// [`Disk::sync_all`] where the system has no single call for it.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn sync_each(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let synced = match kind(entry.file_type()?) {
            EntryKind::File => OsDisk.open(&entry.path(), true).and_then(|file| file.sync_data()),
            EntryKind::Dir => sync_each(&entry.path()),
            EntryKind::Other => Ok(()),
        };
        match synced {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
    }
    sys::sync_dir(dir)
}
