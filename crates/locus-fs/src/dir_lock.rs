//! The lock by which one process owns a directory.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{io, path::Path};

use locus_core::{Error, Result};

use crate::disk::{Disk, DiskLock};

/// Longest text about a holder that is read back, in bytes.
const HOLDER_BYTES_MAX: usize = 256;

/// The right to a directory, or to a file in one, held until it is dropped or the process ends. The file `LOCK` in it (or another) carries the
/// lock and says who holds it; it is never removed, because a lock on a removed file locks nobody out.
#[must_use = "the directory is locked only as long as this lives"]
#[derive(Debug)]
pub struct DirLock {
    _lock: Box<dyn DiskLock>,
}

impl DirLock {
    /// Locks `dir`, which must exist, in the name of `who` (see [`me`](Self::me)). Never waits.
    ///
    /// # Errors
    /// [`Error::AlreadyOpen`] names who has it; [`Error::Io`].
    pub fn acquire(disk: &dyn Disk, dir: &Path, who: &str) -> Result<Self> {
        Self::acquire_by(disk, dir, &dir.join("LOCK"), who)
    }

    /// As [`acquire`](Self::acquire), but of `what`, which may be a file, by the file `lock`.
    ///
    /// # Errors
    /// As there, of `what`.
    pub fn acquire_by(disk: &dyn Disk, what: &Path, lock: &Path, who: &str) -> Result<Self> {
        let taken = self::lock(disk, what, lock, 0)?;
        sign(&*taken, 0, who).map_err(Error::io("write", lock))?;
        Ok(Self { _lock: taken })
    }

    /// Locks `dir` without saying who does: nothing in it is changed, but for a `LOCK` that was not there. On a disk that
    /// can only be read nobody can have it open to change it, and nothing is locked. Never waits.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire).
    pub fn acquire_unsigned(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>> {
        match lock(disk, dir, &dir.join("LOCK"), 0) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(None),
            locked => locked.map(|lock| Some(Self { _lock: lock })),
        }
    }

    /// This process by its number and its machine: `process 4711 on host`.
    #[must_use]
    pub fn me() -> String {
        format!("process {} on {}", std::process::id(), host())
    }
}

/// Locks `file` for `dir`; the name of the holder is found at `offset` in it.
pub(crate) fn lock(disk: &dyn Disk, dir: &Path, file: &Path, offset: u64) -> Result<Box<dyn DiskLock>> {
    disk.lock(file).map_err(|error| {
        if error.kind() == io::ErrorKind::WouldBlock {
            Error::AlreadyOpen { path: dir.to_owned(), holder: holder(disk, file, offset) }
        } else {
            Error::io("lock", file)(error)
        }
    })
}

/// Writes who holds the lock behind `offset`, and nothing else there.
pub(crate) fn sign(lock: &dyn DiskLock, offset: u64, who: &str) -> io::Result<()> {
    let who = who.as_bytes().get(..HOLDER_BYTES_MAX).unwrap_or(who.as_bytes());
    // In this order: on a full disk a file that was cut first may not get its block back.
    lock.file().write_at(who, offset)?;
    lock.file().set_len(offset.saturating_add(who.len() as u64))
}

/// What the file says about its holder; empty when it says nothing. Any bytes may stand there.
fn holder(disk: &dyn Disk, file: &Path, offset: u64) -> String {
    let mut text = [0; HOLDER_BYTES_MAX];
    let read = disk.open(file, false).and_then(|file| file.read_at(&mut text, offset));
    named(text.get(..read.unwrap_or(0)).unwrap_or_default())
}

/// A holder's name in bytes that anybody may have written.
pub(crate) fn named(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}

#[cfg(unix)]
pub(crate) fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
pub(crate) fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| String::from("this machine"))
}
