//! What a salvage brought over, and what was lost.

use std::path::PathBuf;

use locus_core::{FileKey, LogicalDir, Lsn, StoreId, TenantId};
use serde::Serialize;

/// What [`salvage`](crate::salvage) brought over, and what it could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SalvageReport {
    /// The store: its volumes know it by this.
    pub store: StoreId,
    /// Files that were brought over, whatever their state.
    pub files: u64,
    /// Contents of the journal that were brought over,
    pub contents: u64,
    /// and their bytes.
    pub content_bytes: u64,
    /// Records that were read behind the checkpoint, or all when there is none.
    pub records: u64,
    /// The checkpoint that was read. Without one, files that ended long ago may be there again, and files whose records
    /// had left the log are lost.
    pub checkpoint: Option<PathBuf>,
    /// Checkpoints that are damaged.
    pub checkpoints_damaged: Vec<PathBuf>,
    /// Whether `STORE` could not be read: idempotency keys from before are not known any more.
    pub identity_lost: bool,
    /// Segment files whose header cannot be read, so that nothing in them can.
    pub segments_unreadable: Vec<PathBuf>,
    /// Records that are lost, in their order.
    pub records_lost: Vec<LostRecords>,
    /// Files that are lost because their content in the journal is damaged or gone, tenant by tenant.
    pub contents_lost: Vec<LostContent>,
}

impl SalvageReport {
    /// Whether nothing was lost.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        !self.identity_lost
            && self.checkpoint.is_some()
            && self.segments_unreadable.is_empty()
            && self.records_lost.is_empty()
            && self.contents_lost.is_empty()
    }
}

/// A stretch of the log that is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostRecords {
    /// The segment, its file, and where in it the first of the records should be; `None` when the segment is missing.
    pub place: Option<(u64, PathBuf, u64)>,
    /// The first LSN that is lost,
    pub first: Lsn,
    /// and the last. Where a whole segment is missing, some between may never have existed.
    pub last: Lsn,
}

/// A file that was known, and whose content could not be brought over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LostContent {
    /// Whose file.
    pub tenant: TenantId,
    /// Which file.
    pub key: FileKey,
    /// Length of its content, in bytes.
    pub size: u64,
    /// Where its owner had put it.
    pub directory: LogicalDir,
    /// Its name, when it had one.
    pub original_name: Option<String>,
    /// The segment that should hold the content,
    pub segment: u64,
    /// and where in it.
    pub offset: u64,
}
