//! The lock of a file that is read, changed and replaced.

use std::{io, path::Path};

use locus_core::Error;
use locus_fs::{DirLock, Disk, DiskLock};

use crate::error::{Result, VaultError};

/// Longest text about a holder, in bytes.
const HOLDER_BYTES_MAX: usize = 256;

/// Locks `what` by the file `lock`, which is made when it is not there, never removed, and says who holds it. Never waits.
///
/// # Errors
/// [`VaultError::AlreadyLocked`], [`VaultError::LockFailed`].
pub(crate) fn take(disk: &dyn Disk, what: &Path, lock: &Path) -> Result<Box<dyn DiskLock>> {
    let failed =
        |error| VaultError::LockFailed { source: Error::io("lock", lock)(error), path: lock.to_owned() };
    let taken = match disk.lock(lock) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(VaultError::AlreadyLocked { path: what.to_owned(), holder: holder(disk, lock) });
        }
        other => other.map_err(failed)?,
    };
    let me = DirLock::me();
    let me = me.as_bytes().get(..HOLDER_BYTES_MAX).unwrap_or(me.as_bytes());
    // In this order: on a full disk a file that was cut first may not get its block back.
    let file = taken.file();
    file.write_at(me, 0).and_then(|()| file.set_len(me.len() as u64)).map_err(failed)?;
    Ok(taken)
}

/// Who says to hold it; empty when nobody does. Any bytes may stand there.
fn holder(disk: &dyn Disk, lock: &Path) -> String {
    let mut text = [0; HOLDER_BYTES_MAX];
    let read = disk.open(lock, false).and_then(|file| file.read_at(&mut text, 0));
    let text = String::from_utf8_lossy(text.get(..read.unwrap_or(0)).unwrap_or_default());
    text.chars().filter(|c| !c.is_control()).collect::<String>().trim().to_owned()
}
