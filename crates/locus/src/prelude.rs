//! The names that a program which embeds Locus needs: `use locus::prelude::*`.

pub use crate::{
    Builder, Bytes, Content, DeadLetterFilter, DirectoryQuota, Durability, Error, ErrorKind, FileInfo,
    FileKey, FileLocation, FileReader, FileScheduler, FileStatus, IdempotencyKey, Lease, LeaseOptions,
    LeasedFile, Limit, LocalVolume, Locus, LogicalDir, Owner, Placement, Properties, RetryPolicy, Scope,
    Settings, StoragePool, Tenant, TenantContext, TenantId, TenantStatus, Upload, UploadId, UploadOptions,
    VolumeId, WorkSummary, WorkerFile, WorkerHandle, Workers, WriteOptions,
};
