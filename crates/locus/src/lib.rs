//! Locus: an embeddable, multi-tenant file queue over a pool of storage volumes.
//!
//! A producer hands in content and gets a key; each file is leased to one worker at a time; the worker completes it (it
//! is deleted) or fails it (it comes back later, with backoff). [`Locus::builder`] opens a data directory and gives a
//! [`Locus`]: its [`pool`](Locus::pool) takes and reads content, its [`scheduler`](Locus::scheduler) leases files, its
//! [`workers`](Locus::workers) run a handler for each, its [`tenants`](Locus::tenants) keep owners apart.
//!
//! ```
//! use locus::prelude::*;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let temp = tempfile::tempdir()?;
//! # let dir = temp.path();
//! let locus = Locus::builder()
//!     .data_dir(dir.join("data"))
//!     .add_volume(LocalVolume::new("vol-001", dir.join("data/vol-001")))
//!     .add_tenant("acme")
//!     .build()
//!     .await?;
//! let acme = locus.tenants().get("acme").await?;
//!
//! let options = WriteOptions::new().original_name("hello.txt").directory("/letters");
//! let key = locus.pool().write(&acme, "hello", options).await?; // durable once this returns
//! assert_eq!(locus.pool().read(&acme, &key).await?.bytes().await?, "hello");
//!
//! let workers = locus.workers(&acme).concurrency(8);
//! let done = workers
//!     .run_until_drained(|file: WorkerFile| async move {
//!         println!("{:?}: {} bytes", file.original_name, file.bytes().await?.len());
//!         Ok(()) // completed, and deleted; an error brings the file back later
//!     })
//!     .await?;
//! assert_eq!(done.completed, 1);
//! locus.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Cancel safety
//! A dropped future leaves a state that its method names. A dropped [`Locus`] is closed in the background;
//! [`Locus::shutdown`] waits for that.

mod background;
mod builder;
mod care;
mod cleanup;
mod dead_letters;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod gate;
mod handle;
mod inspect;
mod intake;
mod mounts;
pub mod prelude;
mod purge;
mod quotas;
mod sealing;
mod settings;
mod tenants;
mod threads;
mod workers;

const _: () =
    assert!(!locus_core::SITES_CAN_BREAK, "`break-sites` is for builds of the torture program alone");

pub use builder::Builder;
pub use bytes::Bytes;
pub use care::Salvaged;
pub use cleanup::StorageCleanup;
pub use dead_letters::{DeadLetterFilter, DeadLetterPage, DeadLetters, RequeueReport};
pub use handle::Locus;
pub use inspect::{InspectedVolume, Inspection};
pub use locus_cleanup::{
    CompletedSettings, DeadLetterSettings, EmptyDirectorySettings, GivenUpPolicy, JunkSettings,
    LeftoverSettings, MissingPolicy, MissingSettings, OrphanPolicy, OrphanSettings,
    PermanentlyFailedSettings, StoreSweepSettings, Sweep, SweepRun, SweepSettings, Window,
};
/// Keys for [encryption at rest](Builder::encrypt_with), with the feature `encryption`.
#[cfg(feature = "encryption")]
pub mod encryption {
    pub use crate::sealing::Encryption;
    pub use locus_storage::{SealOptions, SealProgress, SealReport};
    pub use locus_vault::{
        Argon2Cost, Identity, KeyId, KeyInfo, KeyState, KeyWrap, Keyring, KeyringFile, NewRecipient,
        Passphrase, Recipient, RecipientId, RecipientKey, RecipientKind, RingId, RingInfo, Unlock,
        VaultError,
    };
}

pub use locus_core::{
    BoxError, Checksum, CleanupStatistics, Clock, Content, DirectoryQuota, Durability, Entropy, Error,
    ErrorKind, FailOutcome, FileInfo, FileKey, FileLocation, FileStatus, Holdings, IdempotencyKey, Lease,
    LeaseOptions, Limit, LogicalDir, Outcome, Owner, Properties, QuotaUnit, Remember, Result, RetryPolicy,
    Scope, StorageVolume, StoreId, SweepFailure, SystemClock, SystemEntropy, Tenant, TenantContext,
    TenantCounts, TenantId, TenantStatus, Timestamp, Token, UploadId, UploadInfo, Usage, UsagePage, VolumeId,
    VolumeStatus, WatcherId,
};
pub use locus_fs::{
    Adopt, Disk, LocalVolume, Mirror, MirrorReport, MirroredVolume, NetworkVolume, OsDisk, ScrubProgress,
    Shortage, VolumeContext, VolumeProvider, VolumeSpec, provider_fn,
};
pub use locus_storage::{
    BackupContents, BackupReport, Chunk, ContentHold, Counted, DrainOptions, DrainProgress, DrainReport,
    EXPANSION_WAIT_MAX, ExpandBelow, FileReader, FileScheduler, FileStream, Finding, LeasedFile, LostContent,
    LostRecords, OpenReport, Placement, Retire, SalvageReport, StoragePool, StoreStatistics, UncopiedContent,
    UnmovedFile, Upload, UploadOptions, VerifyLevel, VerifyProgress, VerifyReport, VolumeEvent, VolumeEvents,
    VolumeInfo, WriteOptions,
};
pub use locus_watcher::{
    AfterImport, Explanation, FileWatcherConfig, FileWatchers, ScanReport, SkipReason, WatcherInfo,
};
pub use purge::PurgeProgress;
pub use quotas::Quotas;
pub use settings::{
    AfterImportKind, BackgroundSettings, ExpansionSettings, JournalSettings, LeaseSettings, QuotaSettings,
    RetrySettings, Settings, StoreSettings, TenantSettings, VolumeKind, VolumeSettings, WatcherSettings,
    WorkerSettings, settings_markdown, settings_toml,
};
pub use tenants::Tenants;
pub use workers::{WorkSummary, WorkerFile, WorkerHandle, Workers};
