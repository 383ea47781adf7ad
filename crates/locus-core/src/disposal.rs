//! The disposal seam: how a sweeper moves files out of the queue.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{BlobPath, Checksum, FileKey, Result, Seal, StorageVolume, TenantId, Upkeep};

/// Whoever moves files for a sweeper: a pool.
#[async_trait]
pub trait Disposal: Debug + Send + Sync {
    /// Moves a file that failed for the last time to the dead letters. `false` when it is not such a file any more, or somebody
    /// moves it just now.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`](crate::Error::VolumeUnavailable),
    /// [`Error::InsufficientStorage`](crate::Error::InsufficientStorage), and what the store says: it is where it was.
    ///
    /// # Cancel safety
    /// After a dropped future it is a dead letter or not.
    async fn dead_letter(&self, tenant: &TenantId, key: &FileKey) -> Result<bool>;

    /// How a blob is sealed that no record names, with what is known about its content: length and checksum, without a name.
    /// `None` when it is not sealed, or nobody seals here.
    ///
    /// # Errors
    /// [`Error::Tampered`](crate::Error::Tampered), [`Error::UnknownKey`](crate::Error::UnknownKey): it is sealed, and cannot
    /// be opened. What the volume says.
    ///
    /// # Cancel safety
    /// It only reads.
    async fn seal_of(
        &self,
        _volume: &dyn StorageVolume,
        _blob: &BlobPath,
        _checksum: &Checksum,
    ) -> Result<Option<Seal>> {
        Ok(None)
    }

    /// Tries once more to remove what failed writes left, as far as it is known by name. Says how much is left.
    ///
    /// # Cancel safety
    /// A dropped call goes on where it was at the next.
    async fn tidy_residue(&self, upkeep: &dyn Upkeep) -> usize;
}
