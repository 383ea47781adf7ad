//! The calls of Unix systems.

use std::{
    fs::{self, File},
    io,
    os::{fd::BorrowedFd, unix::fs::FileExt},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Mode, OFlags, fchmod, mkdirat, openat, unlinkat},
    io::{Errno, retry_on_intr},
};

use crate::{disk::Space, os_disk::Opening};

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIR_MODE: Mode = Mode::RWXU;

/// What opens a file so that no link is followed and no FIFO waited for.
pub(super) fn flags(how: Opening) -> (OFlags, Mode) {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match how {
        Opening::New => (flags | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, FILE_MODE),
        Opening::Write => (flags | OFlags::RDWR, Mode::empty()),
        Opening::Read => (flags | OFlags::RDONLY, Mode::empty()),
    }
}

pub(super) fn open(path: &Path, how: Opening) -> io::Result<File> {
    let (flags, mode) = flags(how);
    Ok(retry_on_intr(|| openat(CWD, path, flags, mode))?.into())
}

/// Of these file systems it is known that they open a file whose inode is in memory without asking anybody. On others a
/// server, or a program, is asked even then (NFS, SMB, FUSE).
#[cfg(target_os = "linux")]
pub(super) fn is_own(dir: &Path) -> io::Result<bool> {
    const OWN: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0xf2f5_2010]; // ext4, XFS, Btrfs, tmpfs, F2FS
    let found = retry_on_intr(|| rustix::fs::statfs(dir))?;
    Ok(OWN.contains(&(found.f_type as u64 & 0xffff_ffff)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn is_own(_: &Path) -> io::Result<bool> {
    Ok(false)
}

/// Kernels before 5.12 do not know the flag, and some sandboxes forbid the call.
#[cfg(target_os = "linux")]
pub(super) fn open_cached(path: &Path) -> io::Result<Option<File>> {
    use rustix::fs::{ResolveFlags, openat2};
    let (flags, mode) = flags(Opening::Read);
    match openat2(CWD, path, flags, mode, ResolveFlags::CACHED) {
        Ok(file) => Ok(Some(file.into())),
        Err(Errno::AGAIN | Errno::INTR | Errno::INVAL | Errno::NOSYS | Errno::PERM) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn open_cached(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
}

/// The umask may have taken bits away.
pub(super) fn set_file_mode(file: &File) -> io::Result<()> {
    Ok(fchmod(file, FILE_MODE)?)
}

pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    create_dir_at(CWD, path)
}

pub(super) fn create_dir_at(at: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    mkdirat(at, name, DIR_MODE)?;
    set_dir_mode(at, name).inspect_err(|_| {
        let _ = unlinkat(at, name, AtFlags::REMOVEDIR);
    })
}

/// The umask may have taken bits away, also the right to open it. Somebody may have put a link in its place.
fn set_dir_mode(at: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match retry_on_intr(|| openat(at, name, flags | OFlags::RDONLY, Mode::empty())) {
        Err(Errno::ACCESS) => set_mode_of_closed_dir(at, name, flags),
        dir => Ok(fchmod(dir?, DIR_MODE)?),
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn set_mode_of_closed_dir(at: BorrowedFd<'_>, name: &Path, flags: OFlags) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let dir = retry_on_intr(|| openat(at, name, flags | OFlags::PATH, Mode::empty()))?;
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", dir.as_raw_fd()), DIR_MODE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn set_mode_of_closed_dir(at: BorrowedFd<'_>, name: &Path, _: OFlags) -> io::Result<()> {
    Ok(rustix::fs::chmodat(at, name, DIR_MODE, AtFlags::SYMLINK_NOFOLLOW)?)
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
pub(super) fn rename_new_at(
    from: BorrowedFd<'_>,
    name: &Path,
    to: BorrowedFd<'_>,
    new_name: &Path,
) -> io::Result<()> {
    use rustix::fs::{RenameFlags, renameat_with};
    Ok(renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
pub(super) fn rename_new_at(_: BorrowedFd<'_>, _: &Path, _: BorrowedFd<'_>, _: &Path) -> io::Result<()> {
    Err(Errno::NOSYS.into())
}

pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    rename_new_at(CWD, from, CWD, to)
}

/// What a file system says that has no second names, or none left for this file, becomes one kind.
pub(super) fn unsupported_link(error: io::Error) -> io::Error {
    let without = [Errno::PERM, Errno::MLINK, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
    let is_without = Errno::from_io_error(&error).is_some_and(|errno| without.contains(&errno));
    if is_without { io::ErrorKind::Unsupported.into() } else { error }
}

pub(super) fn is_unknown_call(error: &io::Error) -> bool {
    let unknown = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP, Errno::OPNOTSUPP];
    Errno::from_io_error(error).is_some_and(|errno| unknown.contains(&errno))
}

/// What opening a link, a directory to write, a socket, or a device that is not there comes to.
pub(super) fn is_no_file(error: &io::Error) -> bool {
    let no_file = [Errno::LOOP, Errno::ISDIR, Errno::NXIO, Errno::NODEV];
    Errno::from_io_error(error).is_some_and(|errno| no_file.contains(&errno))
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
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    sync_opened_dir(retry_on_intr(|| openat(CWD, path, flags, Mode::empty()))?.into())
}

/// Takes the directory, because nothing may be synced twice.
pub(super) fn sync_opened_dir(dir: File) -> io::Result<()> {
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
    Ok(space_in(&rustix::fs::statvfs(path)?))
}

pub(super) fn space_of(opened: BorrowedFd<'_>) -> io::Result<Space> {
    Ok(space_in(&rustix::fs::fstatvfs(opened)?))
}

fn space_in(found: &rustix::fs::StatVfs) -> Space {
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    Space { total: bytes(found.f_blocks), available: bytes(found.f_bavail) }
}

pub(super) fn read_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(buf, offset)
}

#[cfg(target_os = "linux")]
pub(super) fn read_cached_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<bool> {
    use rustix::io::{ReadWriteFlags, preadv2};
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
            let why = format!("this process may not write files longer than {limit} bytes (RLIMIT_FSIZE)");
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
