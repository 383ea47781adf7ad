//! A held entity.

use std::path::PathBuf;

use locus_fs::{LockGuard, LockMode};

use crate::{
    error::VaultError,
    id::{EntityId, shard_of},
};

/// The lock of an entity, held until this is dropped: shared, so that nobody writes it meanwhile, or exclusive.
#[must_use = "the entity is locked only as long as this lives"]
#[derive(Debug)]
pub struct EntityGuard {
    pub(super) id: EntityId,
    pub(super) lock: LockGuard,
}

impl EntityGuard {
    /// The entity.
    #[must_use]
    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// How it is held.
    #[must_use]
    pub fn mode(&self) -> LockMode {
        self.lock.mode()
    }

    /// Lets go, and says whether the system did. A write that is under way with this guard, because its future was
    /// dropped, keeps the lock to its end. Blocks the thread for a moment, as dropping does.
    ///
    /// # Errors
    /// [`VaultError::UnlockFailed`]: the lock file is closed nevertheless.
    pub fn release(self) -> Result<(), VaultError> {
        Ok(self.lock.release()?)
    }
}

/// What an entity's lock file is called after its name.
pub(super) const SUFFIX: &str = ".lock";

/// Where the entity's lock file lies beneath the directory of locks.
pub(super) fn name_of(id: &EntityId) -> PathBuf {
    let name = id.file_name();
    PathBuf::from(format!("{:02x}", shard_of(&name))).join(format!("{name}{SUFFIX}"))
}
