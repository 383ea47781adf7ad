//! How a watcher brings files in.

use std::{fmt::Debug, path::PathBuf};

use async_trait::async_trait;

use crate::{Content, FileKey, LogicalDir, Result, TenantId};

/// A file that a watcher brings in.
#[derive(Debug)]
pub struct Incoming {
    /// Whose it will be.
    pub tenant: TenantId,
    /// Its content; it fails when the source changes while it is read.
    pub content: Content,
    /// The name of the source.
    pub original_name: String,
    /// Where the tenant finds it.
    pub directory: LogicalDir,
    /// Names the source, at most 4,096 bytes: a second file with it is not taken in, whatever became of the first one,
    /// until the name is [forgotten](Intake::forget).
    pub identity: String,
}

/// The intake seam: what a watcher needs of a pool and of the keeper of tenants.
#[async_trait]
pub trait Intake: Debug + Send + Sync {
    /// Whether a source of this name was taken in. Answered from memory, without a look at any content; a yes is as durable
    /// as the store promises.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    async fn is_known(&self, tenant: &TenantId, identity: &str) -> Result<bool>;

    /// Takes a file in, or finds the one that was taken in from the same source before.
    ///
    /// # Errors
    /// As the pool's `write`; after any but an unknown outcome nothing was taken in.
    ///
    /// # Cancel safety
    /// After a dropped future the file is wholly there or not at all.
    async fn bring_in(&self, file: Incoming) -> Result<FileKey>;

    /// Returns when everything taken in so far survives power loss, whatever the store promises otherwise: a source is
    /// given up only then. That other files may have been lost is no reason to say so of these: their content is durable
    /// before their record.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    async fn sync(&self) -> Result<()>;

    /// Forgets the name of a source that is gone. One that is not known is no error.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// After a dropped future it may be forgotten or not.
    async fn forget(&self, tenant: &TenantId, identity: &str) -> Result<()>;

    /// Refuses unless there is a tenant of this name that takes files. Answers from memory and never blocks.
    ///
    /// # Errors
    /// [`TenantNotFound`](crate::Error::TenantNotFound), [`TenantDisabled`](crate::Error::TenantDisabled),
    /// [`ShuttingDown`](crate::Error::ShuttingDown).
    fn check_tenant(&self, tenant: &TenantId) -> Result<()>;

    /// All tenants that take files.
    ///
    /// # Errors
    /// What the keeper of tenants says.
    async fn enabled_tenants(&self) -> Result<Vec<TenantId>>;

    /// Rises whenever a tenant was created, removed, or switched.
    fn tenants_version(&self) -> u64;

    /// Returns once [`tenants_version`](Self::tenants_version) is another than `seen`.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    async fn tenants_changed(&self, seen: u64);

    /// The directories that are the store's own, in which nothing may be watched: it would eat itself.
    fn own_places(&self) -> Vec<PathBuf>;
}
