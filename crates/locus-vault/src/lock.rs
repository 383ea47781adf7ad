//! The lock of a file that is read, changed and replaced.

use std::path::Path;

use locus_core::Error;
use locus_fs::{DirLock, Disk};

use crate::error::{Result, VaultError};

/// Locks `what` by the file `lock`, which is made when it is not there, never removed, and says who holds it. Never waits.
///
/// # Errors
/// [`VaultError::AlreadyLocked`], [`VaultError::LockFailed`].
pub(crate) fn take(disk: &dyn Disk, what: &Path, lock: &Path) -> Result<DirLock> {
    DirLock::acquire_by(disk, what, lock, &DirLock::me()).map_err(|error| match error {
        Error::AlreadyOpen { path, holder } => VaultError::AlreadyLocked { path, holder },
        source => VaultError::LockFailed { path: lock.to_owned(), source },
    })
}
