//! The real disk: [`Disk`] over the operating system's files.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::Path,
    sync::Arc,
};

use crate::disk::{DirEntry, Disk, DiskFile, DiskLock, EntryKind, Meta, Space};

/// The machine's own files. Links at the end of a path are not followed, FIFOs do not hang, new files are 0600 and new
/// directories 0700 whatever the umask says. What the process's limit on the length of files (`RLIMIT_FSIZE`) does not
/// allow is refused as [`io::ErrorKind::FileTooLarge`] before it is tried: the system would send `SIGXFSZ`.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn blocks(&self) -> bool {
        true
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let file = sys::options().read(true).write(true).create_new(true).open(path)?;
        sys::set_file_mode(&file)?;
        Ok(Arc::new(OsFile(file)))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        let file = sys::options().read(true).write(writable).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(Arc::new(OsFile(file)))
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
        let file = match sys::options().read(true).write(true).create_new(true).open(path) {
            Ok(file) => {
                sys::set_file_mode(&file)?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_to_lock(path)?,
            // A file system that is mounted read-only may refuse before it looks.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => open_to_lock(path)?,
            Err(error) => return Err(error),
        };
        match file.try_lock() {
            Ok(()) => Ok(Box::new(OsLock(OsFile(file)))),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

fn open_to_lock(path: &Path) -> io::Result<File> {
    let file = match sys::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            sys::options().read(true).open(path)?
        }
        other => other?,
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
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
struct OsFile(File);

impl DiskFile for OsFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match sys::read_at(&self.0, &mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        sys::read_cached_at(&self.0, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        sys::may_reach(offset.saturating_add(buf.len() as u64))?;
        let mut written = 0;
        while written < buf.len() {
            match sys::write_at(&self.0, &buf[written..], offset + written as u64) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        sys::sync_data(&self.0)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        sys::may_reach(len)?;
        self.0.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        sys::drop_cache(&self.0)
    }
}

#[derive(Debug)]
struct OsLock(OsFile);

impl DiskLock for OsLock {
    fn file(&self) -> &dyn DiskFile {
        &self.0
    }
}

#[cfg(unix)]
mod sys {
    use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};

    use rustix::fs::OFlags;

    use super::{File, OpenOptions, Path, Space, fs, io};

    const FILE_MODE: u32 = 0o600;
    const DIR_MODE: u32 = 0o700;

    /// Options that follow no link and wait for no FIFO (std adds `O_CLOEXEC`).
    pub(super) fn options() -> OpenOptions {
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        options.mode(FILE_MODE).custom_flags(flags.bits().cast_signed());
        options
    }

    /// The umask may have taken bits away.
    pub(super) fn set_file_mode(file: &File) -> io::Result<()> {
        file.set_permissions(fs::Permissions::from_mode(FILE_MODE))
    }

    pub(super) fn create_dir(path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(DIR_MODE).create(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(DIR_MODE))
    }

    pub(super) fn id(found: &fs::Metadata) -> Option<u64> {
        Some(std::os::unix::fs::MetadataExt::ino(found))
    }

    /// The directory that a path names: the empty path, a relative path's parent, is the present one.
    pub(super) fn dir(path: &Path) -> &Path {
        if path.as_os_str().is_empty() { Path::new(".") } else { path }
    }

    pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::rename(from, to)?)
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
    pub(super) fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
        Err(rustix::io::Errno::NOSYS.into())
    }

    pub(super) fn is_unknown_call(error: &io::Error) -> bool {
        use rustix::io::Errno;
        let unknown = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
        Errno::from_io_error(error).is_some_and(|errno| unknown.contains(&errno))
    }

    /// Once: std's would sync again after an interruption, and not hear of what failed to be written back.
    #[cfg(not(target_vendor = "apple"))]
    pub(super) fn sync_data(file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    /// There only std's reaches the device.
    #[cfg(target_vendor = "apple")]
    pub(super) fn sync_data(file: &File) -> io::Result<()> {
        file.sync_data()
    }

    pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
        let flags = OFlags::DIRECTORY.bits().cast_signed();
        let dir = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        #[cfg(not(target_vendor = "apple"))]
        return Ok(rustix::fs::fsync(dir)?);
        #[cfg(target_vendor = "apple")]
        return dir.sync_all();
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn sync_all(path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn sync_all(path: &Path) -> io::Result<()> {
        super::sync_each(path)
    }

    pub(super) fn space(path: &Path) -> io::Result<Space> {
        let found = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { total: bytes(found.f_blocks), available: bytes(found.f_bavail) })
    }

    pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buf, offset)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn read_cached_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};
        let len = buf.len();
        match preadv2(file, &mut [io::IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(read == len),
            Err(Errno::AGAIN | Errno::INTR | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn read_cached_at(_: &File, _: &mut [u8], _: u64) -> io::Result<bool> {
        Ok(false)
    }

    pub(super) fn write_at(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(buf, offset)
    }

    /// Whether the process may write a file up to `end`. The system tells by a signal, which ends a process that has not
    /// asked for it, and a library does not ask for signals behind its embedder's back.
    pub(super) fn may_reach(end: u64) -> io::Result<()> {
        use rustix::process::{Resource, getrlimit};
        match getrlimit(Resource::Fsize).current {
            Some(limit) if end > limit => {
                let why =
                    format!("this process may not write files longer than {limit} bytes (RLIMIT_FSIZE)");
                Err(io::Error::new(io::ErrorKind::FileTooLarge, why))
            }
            _ => Ok(()),
        }
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    pub(super) fn drop_cache(file: &File) -> io::Result<()> {
        Ok(rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)?)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    pub(super) fn drop_cache(_: &File) -> io::Result<()> {
        Ok(())
    }
}

/// Other systems: what std has. Compiles; not tested.
#[cfg(not(unix))]
mod sys {
    use super::{File, OpenOptions, Path, Space, fs, io};

    pub(super) fn id(_: &fs::Metadata) -> Option<u64> {
        None
    }

    pub(super) fn options() -> OpenOptions {
        OpenOptions::new()
    }

    pub(super) fn set_file_mode(_: &File) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn create_dir(path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    pub(super) fn dir(path: &Path) -> &Path {
        if path.as_os_str().is_empty() { Path::new(".") } else { path }
    }

    #[expect(clippy::disallowed_methods, reason = "this is the disk that everybody else asks")]
    pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    pub(super) fn rename_new(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn is_unknown_call(error: &io::Error) -> bool {
        error.kind() == io::ErrorKind::Unsupported
    }

    pub(super) fn sync_data(file: &File) -> io::Result<()> {
        file.sync_data()
    }

    pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
        // A directory cannot be opened to be synced here; its names are journaled by the file system.
        fs::metadata(path).map(drop)
    }

    pub(super) fn sync_all(path: &Path) -> io::Result<()> {
        super::sync_each(path)
    }

    pub(super) fn space(_: &Path) -> io::Result<Space> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn may_reach(_: u64) -> io::Result<()> {
        Ok(())
    }

    #[cfg(windows)]
    pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(file, buf, offset)
    }

    pub(super) fn read_cached_at(_: &File, _: &mut [u8], _: u64) -> io::Result<bool> {
        Ok(false)
    }

    #[cfg(windows)]
    pub(super) fn write_at(file: &File, buf: &[u8], offset: u64) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(file, buf, offset)
    }

    #[cfg(not(windows))]
    pub(super) fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[cfg(not(windows))]
    pub(super) fn write_at(_: &File, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn drop_cache(_: &File) -> io::Result<()> {
        Ok(())
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
