//! What the engine can be told.

use std::time::Duration;

use locus_core::{DirectoryQuota, Durability, RetryPolicy};

/// Settings of an [`EmbeddedStore`](crate::EmbeddedStore). Plain data; [`Default`] gives what each field says.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineOptions {
    /// What `Ok` promises. Default [`Durability::Durable`].
    pub durability: Durability,
    /// What `Ok` of a completion promises; `None` (the default) is as `durability`.
    pub complete_durability: Option<Durability>,
    /// When failed files come back.
    pub retry_policy: RetryPolicy,
    /// How long a lease lasts when it does not say. Default 30 min.
    pub visibility_timeout: Duration,
    /// After this many deliveries a file that times out is given up; `None` (the default) is the larger of 10 and
    /// twice `retry_policy.max_retries`.
    pub max_deliveries: Option<u32>,
    /// Largest segment of the journal, in bytes. Default 64 MiB, at least 1 MiB. A fresh store begins with 1 MiB ones
    /// and doubles.
    pub segment_size: u64,
    /// Longest content that rests in the journal instead of on a volume, in bytes. Default 64 KiB, at most a sixteenth of
    /// `segment_size`; 0 is none.
    pub inline_content_max: u64,
    /// Most bytes of journal segments that contents may occupy, at least four segments. `None` (the default) is 10 % of
    /// what is free on the data directory's disk when the store is opened, at least 1 GiB; never more than half of it.
    pub landing_zone_max: Option<u64>,
    /// Longest time that anything written stays unsynced. Default 1 s.
    pub max_unsynced: Duration,
    /// Most log bytes that stay unsynced. Default 64 MiB; beyond them callers wait.
    pub max_unsynced_bytes: u64,
    /// Most bytes of records that wait in memory to be written. Default 8 MiB; beyond them callers wait.
    pub pending_bytes_max: u64,
    /// Most that store time advances over a restart. Default 1 day.
    pub downtime_max: Duration,
    /// Most idempotency keys remembered. Default 10,000,000.
    pub idempotency_max: u64,
    /// How long a completed file is kept, bytes and record, before it is removed, in store time. It counts against quotas and
    /// can be read meanwhile. Default 0: it is removed at once.
    pub completed_retention: Duration,
    /// An upload to which nothing came for so long, in store time, is ended. Default 1 day.
    pub upload_expiry: Duration,
    /// A checkpoint is due when the log since the last one is longer than this and than that checkpoint, and when as much, and
    /// four times that checkpoint, would be used again after it. Default 32 MiB.
    pub checkpoint_bytes: u64,
    /// Most files of the store as a whole; `None` (the default) is no limit.
    pub global_quota: Option<u64>,
    /// Most bytes of the store as a whole; `None` (the default) is no limit.
    pub global_quota_bytes: Option<u64>,
    /// Most files of a tenant without a limit of its own; `None` (the default) is no limit.
    pub tenant_quota: Option<u64>,
    /// Most bytes of a tenant without a limit of its own; `None` (the default) is no limit.
    pub tenant_quota_bytes: Option<u64>,
    /// Limits of directories, each with a count of its own.
    pub directory_quotas: Vec<DirectoryQuota>,
    /// Limits of directories together with all beneath them.
    pub subtree_quotas: Vec<DirectoryQuota>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Durable,
            complete_durability: None,
            retry_policy: RetryPolicy::default(),
            visibility_timeout: Duration::from_secs(30 * 60),
            max_deliveries: None,
            segment_size: 64 << 20,
            inline_content_max: 64 << 10,
            landing_zone_max: None,
            max_unsynced: Duration::from_secs(1),
            max_unsynced_bytes: 64 << 20,
            pending_bytes_max: 8 << 20,
            downtime_max: Duration::from_secs(24 * 60 * 60),
            idempotency_max: 10_000_000,
            completed_retention: Duration::ZERO,
            upload_expiry: Duration::from_secs(24 * 60 * 60),
            checkpoint_bytes: 32 << 20,
            global_quota: None,
            global_quota_bytes: None,
            tenant_quota: None,
            tenant_quota_bytes: None,
            directory_quotas: Vec::new(),
            subtree_quotas: Vec::new(),
        }
    }
}
