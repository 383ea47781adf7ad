//! The words of Locus: identifiers, models, errors and the seams (traits) at which its crates meet. No I/O.
//!
//! Start with [`FileKey`] and [`TenantId`] (who and what), [`FileInfo`] and [`Lease`] (a file and the right to
//! process it), [`Error`] (what can go wrong and what to do next), then the seams: [`StorageVolume`] (a place for
//! bytes), [`MetadataStore`] and [`Upkeep`] (what a pool and a sweeper need of a store), [`Clock`] and [`Entropy`].

mod area;
mod blob;
mod clock;
mod content;
mod directory;
mod disposal;
mod entropy;
mod error;
mod file;
mod frame;
mod ids;
mod intake;
mod join;
mod lease;
mod leaving;
mod properties;
mod quota;
mod retry;
mod sealer;
mod site;
mod statistics;
mod status;
mod store;
mod tenant;
mod tidy;
mod time;
mod upkeep;
mod upload;
mod volume;

pub use area::Area;
pub use blob::{BlobPath, Extension, StoragePath};
pub use clock::{Clock, SystemClock, in_time};
pub use content::{Checksum, Content, Hasher, SealedContent};
pub use directory::LogicalDir;
pub use disposal::Disposal;
pub use entropy::{Entropy, SystemEntropy};
pub use error::{BoxError, Error, ErrorKind, Outcome, Result};
pub use file::{FileInfo, FileLocation, FileRecord, Place, Stored};
pub use frame::FileFrame;
pub use ids::{FileKey, IdWord, StoreId, TenantId, VolumeId, WatcherId};
pub use intake::{Incoming, Intake};
pub use join::{join_bounded, undisturbed};
pub use lease::{Epoch, Lease, LeaseOptions, Lsn, Owner, Token, WORKER_NAME_BYTES_MAX};
pub use leaving::{Holdings, Leaving};
pub use properties::{ERROR_BYTES_MAX, ORIGINAL_NAME_BYTES_MAX, PROPERTIES_BYTES_MAX, Properties};
pub use quota::{DirectoryQuota, Limit, QuotaUnit, Scope, Usage, UsagePage};
pub use retry::RetryPolicy;
pub use sealer::{
    KeyHold, OpenContent, SEALED_DETAILS_BYTES_MAX, Seal, SealContent, SealKeyId, SealedDetails, SealedFile,
    Sealer,
};
pub use site::{SITES_CAN_BREAK, Site};
pub use statistics::{CleanupStatistics, FAILURES_MAX, SweepFailure};
pub use status::{FileStatus, Move};
pub use store::{
    FailOutcome, IDEMPOTENCY_KEY_BYTES_MAX, IdempotencyKey, InlineLimits, Landing, Leased, MetadataStore,
    Moving, NewContent, NewFile, Remember, Reservation, Reserved, RestingPage, SealedAnew, StoreCounts,
    TenantCounts,
};
pub use tenant::{TENANT_WEIGHT_MAX, Tenant, TenantAccess, TenantContext, TenantManager, TenantStatus};
pub use tidy::{DirSweep, JunkSweep, Names, Tidy, TidyReport};
pub use time::{StoreTime, Timestamp};
pub use upkeep::{BriefClaim, Claim, Compacted, FilePage, Knowledge, Orphan, Reapable, Upkeep, Waiting};
pub use upload::{NewUpload, UPLOAD_RANGES_MAX, UploadId, UploadInfo, UploadLoad};
pub use volume::{
    Blob, BlobPage, BlobReader, Cursor, Durability, ListedBlob, OnScrub, ScrubProgress, Staged, Staging,
    StorageVolume, StoredBlob, Unread, VolumeSet, VolumeStanding, VolumeStatus,
};
