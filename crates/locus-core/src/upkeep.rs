//! The upkeep seam: what a sweeper needs of the keeper of records.

use std::{fmt::Debug, time::Duration};

use crate::{
    BlobPath, Checksum, FileKey, FileRecord, FileStatus, Leaving, Result, Seal, StoragePath, TenantId,
    VolumeId,
};
use async_trait::async_trait;

/// A file that is over, durably, and whose bytes may be removed; or the bytes that a file left when it was moved, once the
/// move is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reapable {
    /// Whose it is.
    pub tenant: TenantId,
    /// Which file.
    pub key: FileKey,
    /// The volume its bytes rest on; `None` when the store holds them itself, and nothing else is to be removed.
    pub volume: Option<VolumeId>,
    /// Where there.
    pub blob: BlobPath,
    /// How many bytes.
    pub size: u64,
    /// These bytes are what a move left behind: the file rests elsewhere, and its record stays.
    pub is_copy: bool,
}

/// What a store knows about a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// A record names it.
    Recorded,
    /// A write under way will name it.
    InFlight,
    /// The record of its file says that the content rests elsewhere: this is what a move or a crash left.
    Elsewhere,
    /// There is no record of such a file, and nothing will come to name it.
    Unknown,
}

/// The right to remove or [adopt](Upkeep::adopt) a blob that nothing names: until it is released, nothing comes to name it, and
/// nobody else gets a claim on it. Dropped without that (a removal that was given up may still happen), the name stays unused
/// until the store is opened again.
#[must_use = "release it when the blob is removed or stays"]
pub struct Claim(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Claim {
    /// A claim that holds nothing back: no record will ever name such a blob.
    pub fn free() -> Self {
        Self(None)
    }

    /// A claim that holds something back until `release` runs.
    pub fn new(release: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(release)))
    }

    /// The removal is over, one way or the other.
    pub fn release(self) {
        if let Some(release) = self.0 {
            release();
        }
    }
}

/// A claim under which nothing is removed: it is released however this ends.
#[derive(Debug)]
#[must_use = "the claim lasts only as long as this lives"]
pub struct BriefClaim(Option<Claim>);

impl BriefClaim {
    /// The claim, to be released by somebody else.
    pub fn hand_over(mut self) -> Claim {
        self.0.take().unwrap_or_else(Claim::free)
    }
}

impl Drop for BriefClaim {
    fn drop(&mut self) {
        if let Some(claim) = self.0.take() {
            claim.release();
        }
    }
}

impl From<Claim> for BriefClaim {
    fn from(claim: Claim) -> Self {
        Self(Some(claim))
    }
}

impl Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}

/// A page of records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilePage {
    /// Files, as of now.
    pub files: Vec<FileRecord>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// A blob that nothing names, to be made a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// The volume that it lies on.
    pub volume: VolumeId,
    /// Where there: among the files of the queue. It is durable there
    /// ([`StorageVolume::sync_blob`](crate::StorageVolume::sync_blob) returned).
    pub blob: BlobPath,
    /// Its length, in bytes.
    pub size: u64,
    /// BLAKE3 of it, as it was just read.
    pub checksum: Checksum,
    /// How it is sealed, when it is: [`Disposal::seal_of`](crate::Disposal::seal_of).
    pub seal: Option<Seal>,
}

/// What records take on disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Before.
    pub bytes_before: u64,
    /// Afterwards. Segments that are free are kept, to be written again.
    pub bytes_after: u64,
}

/// What there is to do, as of now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Files that are over and wait to be reaped on an available volume.
    pub over: u64,
    /// Copies that nobody names and that wait so.
    pub copies: u64,
    /// Leases that ran out and are not written back.
    pub overdue: u64,
    /// Uploads to which nothing came for too long.
    pub idle_uploads: u64,
    /// What the records of all tenants take on disk, and would take after [`Upkeep::compact`], about.
    pub records: Compacted,
}

/// The keeper of records, as a sweeper sees it. Every method is one bounded step.
#[async_trait]
pub trait Upkeep: Debug + Send + Sync {
    /// Hands out up to `max` files that are durably over, and copies that are durably nobody's, whose volume is available, of this
    /// tenant or of all; completed ones that are kept for a while only when their time is over. Each is handed out once; give it
    /// back by [`reaped`](Self::reaped) or [`not_reaped`](Self::not_reaped). For one tenant it looks at all that waits before
    /// them.
    async fn reapable(&self, of: Option<&TenantId>, max: usize) -> Result<Vec<Reapable>>;

    /// The bytes of these are gone, durably: the records of those that are over go too.
    async fn reaped(&self, files: &[Reapable]) -> Result<()>;

    /// These could not be removed now; they are handed out again later.
    fn not_reaped(&self, files: Vec<Reapable>);

    /// Returns when [`reapable`](Self::reapable) may have something: an end became durable, or the time of a completed file is
    /// over. May return early.
    async fn reapable_ready(&self);

    /// Returns when nothing waits to be reaped on an available volume, and what was reaped is recorded durably. Completed
    /// files whose time to be kept is not over are not waited for.
    async fn settled(&self) -> Result<()>;

    /// Returns when nothing of a tenant that leaves is left: no write is under way, and the bytes of all its files are gone
    /// durably.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`](crate::Error::VolumeUnavailable) when all that is left rests on volumes that are not
    /// available. What the store says.
    async fn emptied(&self, leaving: &Leaving) -> Result<()>;

    /// Writes about `max` overdue leases back, of this tenant or of all: pending, or given up after too many deliveries. Says
    /// how many.
    async fn expire(&self, of: Option<&TenantId>, max: usize) -> Result<usize>;

    /// Returns at the next moment at which [`expire`](Self::expire) may have something to do.
    async fn expirable(&self);

    /// A tenant's files in one state: a page of at most `max`, from where an earlier page said to go on, or from the begin.
    /// Of those whose state ages (completed, failed for the last time, dead-lettered) only what has been in it for
    /// `older_than`, in store time. Files that come to be so, or cease to, between two pages may be in them or not; every
    /// other one is in one of them. A memory operation, bounded in time; a page may be empty and not the last. It costs
    /// nothing when the tenant has no file in that state.
    fn page(
        &self,
        _tenant: &TenantId,
        _status: FileStatus,
        _older_than: Duration,
        _from: Option<u64>,
        _max: usize,
    ) -> FilePage {
        FilePage::default()
    }

    /// The tenants that have files in this state. A memory operation.
    fn tenants_with(&self, _status: FileStatus) -> Vec<TenantId> {
        Vec::new()
    }

    /// Files that stay and rest on a volume, of all tenants, by pages as [`page`](Self::page) has them. Where to go on may be
    /// said again after the store was opened anew, and leads to about the same place then: files may be passed by, or come
    /// twice, but none is passed by each time.
    fn on_volume(&self, _volume: &VolumeId, _from: Option<u64>, _max: usize) -> FilePage {
        FilePage::default()
    }

    /// Ends a file whose bytes are certainly gone, as if it were deleted: if it still rests at that very place, nobody has a
    /// lease on it, and nobody moves it. Says whether it did.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// After a dropped future it is ended or not.
    async fn forget_missing(&self, _record: &FileRecord) -> Result<bool> {
        Ok(false)
    }

    /// Ends up to `max` uploads of this tenant or of all to which nothing came for too long, durably. Says how many.
    async fn expire_uploads(&self, _of: Option<&TenantId>, _max: usize) -> Result<usize> {
        Ok(0)
    }

    /// Whether `staging` names a place where the bytes of an upload are put together that is under way, or ended by a record
    /// that a crash may take back.
    fn is_staging(&self, _owner: &StoragePath, _staging: &FileKey) -> bool {
        false
    }

    /// What is known about the blob at this address on `volume`.
    fn knows(&self, volume: &VolumeId, at: &BlobPath) -> Knowledge;

    /// The right to remove or adopt that blob, when nothing names it and nothing is about to.
    fn claim(&self, volume: &VolumeId, at: &BlobPath) -> Option<Claim> {
        matches!(self.knows(volume, at), Knowledge::Unknown | Knowledge::Elsewhere).then(Claim::free)
    }

    /// Makes a blob that nothing names a pending file under its own key, at the end of the accept order, in the root
    /// directory: all or nothing. `false`, and nothing changed, when there is a record of such a file. The claim is released
    /// in any case; whether the tenant may take files in is for the caller to ask (of the
    /// [`TenantManager`](crate::TenantManager), for the incarnation that the blob's owner is).
    ///
    /// # Errors
    /// [`Error::TenantQuotaExceeded`](crate::Error::TenantQuotaExceeded),
    /// [`Error::DirectoryQuotaExceeded`](crate::Error::DirectoryQuotaExceeded),
    /// [`Error::GlobalQuotaExceeded`](crate::Error::GlobalQuotaExceeded);
    /// [`Error::TenantDisabled`](crate::Error::TenantDisabled) when the tenant is on its way out;
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument) when the blob does not lie among the files of the queue, or the
    /// claim is not one on it. What the store says.
    ///
    /// # Cancel safety
    /// After a dropped future it is a file or an orphan; the claim of one that was never polled is dropped.
    async fn adopt(&self, claim: Claim, _orphan: Orphan) -> Result<bool> {
        claim.release();
        Ok(false)
    }

    /// Deletes a file that is in this state, failed for the last time or dead-lettered: its bytes are removed as those of any
    /// deleted file. `false`, and nothing changed, when it is in another one by now.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// After a dropped future it is deleted or not.
    async fn dispose(&self, _tenant: &TenantId, _key: &FileKey, _status: FileStatus) -> Result<bool> {
        Ok(false)
    }

    /// Takes a checkpoint and frees what it makes superfluous, beside everything else. Says what the records took before and
    /// take now.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// It may be dropped anywhere.
    async fn compact(&self) -> Result<Compacted> {
        Ok(Compacted::default())
    }

    /// What there is to do for this tenant or for all. Looks at all that waits; changes nothing.
    fn waiting(&self, _of: Option<&TenantId>) -> Waiting {
        Waiting::default()
    }

    /// Whether records can be trusted to be complete: `false` once the store is poisoned, when nothing may be removed
    /// on the strength of a missing record.
    fn is_trustworthy(&self) -> bool;
}
