//! The engine of Locus: journal, embedded store, quotas, placement, pool and scheduler.

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod options;
mod placement;
mod pool;
mod race;
mod scheduler;
mod signal;
mod store;
mod sync;
mod time;
mod volumes;

pub use options::EngineOptions;
pub use placement::{Candidate, Draw, Placement, choose};
pub use pool::{
    Chunk, DAMAGED_NAMED_MAX, DrainOptions, DrainProgress, DrainReport, EXPANSION_WAIT_MAX, ExpandBelow,
    FileReader, RESIDUE_MAX, Residue, Retire, SealOptions, SealProgress, SealReport, SpillReport,
    StoragePool, UnmovedFile, Upload, UploadOptions, VOLUME_EVENTS_MAX, VolumeEvent, VolumeEvents,
    VolumeInfo, WRITE_BATCH_MAX, WriteOptions, was_retired,
};
pub use scheduler::{FileScheduler, FileStream, LEASE_BATCH_MAX, LeasedFile};
pub use store::{
    BackupContents, BackupReport, ContentHold, Counted, EmbeddedStore, EngineThreads, Finding, FreshDir,
    Inspection, LostContent, LostRecords, OpenReport, SalvageReport, StoreConfig, StoreStatistics,
    UncopiedContent, VerifyLevel, VerifyProgress, VerifyReport, check_quotas, salvage,
};
pub use volumes::VolumeRegistry;
