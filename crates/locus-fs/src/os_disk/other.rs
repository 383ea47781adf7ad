//! Other systems: what std has. Compiles; not tested.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::Path,
};

use crate::{disk::Space, os_disk::Opening};

pub(super) fn id(_: &fs::Metadata) -> Option<u64> {
    None
}

pub(super) fn open(path: &Path, how: Opening) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(how != Opening::Read).create_new(how == Opening::New).open(path)
}

pub(super) fn is_own(_: &Path) -> io::Result<bool> {
    Ok(false)
}

pub(super) fn open_cached(_: &Path) -> io::Result<Option<File>> {
    Ok(None)
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

/// What a file system says that has no second names, or none left for this file, is not known.
pub(super) fn unsupported_link(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound => error,
        _ => io::ErrorKind::Unsupported.into(),
    }
}

pub(super) fn is_no_file(_: &io::Error) -> bool {
    false
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
