//! The names that a program which embeds Locus needs: `use locus::prelude::*`.

pub use crate::{
    AfterImport, Builder, Bytes, Content, DeadLetterFilter, DirectoryQuota, Durability, Error, ErrorKind,
    FileInfo, FileKey, FileLocation, FileReader, FileScheduler, FileStatus, FileWatcherConfig, FileWatchers,
    IdempotencyKey, Lease, LeaseOptions, LeasedFile, Limit, LocalVolume, Locus, LogicalDir, Owner, Placement,
    Properties, RetryPolicy, ScanReport, Scope, Settings, SkipReason, StoragePool, Tenant, TenantContext,
    TenantId, TenantStatus, Upload, UploadId, UploadOptions, VolumeId, WatcherId, WorkSummary, WorkerFile,
    WorkerHandle, Workers, WriteOptions,
};
