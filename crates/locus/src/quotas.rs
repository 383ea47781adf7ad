//! Limits on how many files and bytes may be held, and how much of them is used.

use std::sync::Arc;

use locus_core::{
    Limit, LogicalDir, MetadataStore, Result, Scope, TenantContext, TenantId, TenantManager, Usage, UsagePage,
};

use crate::gate::Gate;

/// Sets limits and tells usage. Made by [`Locus::quotas`](crate::Locus::quotas).
///
/// What is set here is stored and wins over the settings until it is reset by [`Limit::Inherit`]. A lowered limit blocks
/// new files only.
///
/// ```
/// # use locus::prelude::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let locus = Locus::builder().data_dir(temp.path()).add_tenant("acme").build().await?;
/// let acme = locus.tenants().get("acme").await?;
/// locus.quotas().set_limit(Scope::Tenant(acme.id().clone()), Limit::Files(100)).await?;
/// assert!(locus.quotas().can_add(&acme, &LogicalDir::root()));
/// # locus.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Quotas {
    gate: Arc<Gate>,
    store: Arc<dyn MetadataStore>,
}

impl Quotas {
    pub(crate) const fn new(gate: Arc<Gate>, store: Arc<dyn MetadataStore>) -> Self {
        Self { gate, store }
    }

    /// Sets the limit of a scope, in place of the one that was set before. It holds for the next write.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`](locus_core::Error::TenantNotFound);
    /// [`Error::InsufficientStorage`](locus_core::Error::InsufficientStorage) when the disk has no room for a checkpoint with
    /// one more limit; what the store says. The limit is then as it was.
    ///
    /// # Cancel safety
    /// After a dropped future the limit is either set or as it was.
    pub async fn set_limit(&self, scope: Scope, limit: Limit) -> Result<()> {
        if let Scope::Tenant(tenant) | Scope::Directory(tenant, _) | Scope::Subtree(tenant, _) = &scope {
            self.gate.get(tenant).await?;
        }
        self.store.set_limit(scope, limit).await
    }

    /// The limit on files in force of a scope, if there is one; that on bytes is in [`usage`](Self::usage).
    #[must_use]
    pub fn limit(&self, scope: &Scope) -> Option<u64> {
        self.usage(scope).limit
    }

    /// Files that count in a scope now, writes under way not among them.
    #[must_use]
    pub fn count(&self, scope: &Scope) -> u64 {
        self.usage(scope).files
    }

    /// Counts and limits in force of a scope.
    #[must_use]
    pub fn usage(&self, scope: &Scope) -> Usage {
        self.store.usage(scope)
    }

    /// Whether one more file would fit into every limit that applies, as far as its bytes do not matter. Only an answer for
    /// now: the write itself decides.
    #[must_use]
    pub fn can_add(&self, tenant: &TenantContext, directory: &LogicalDir) -> bool {
        self.check(tenant, directory, 0).is_ok()
    }

    /// Whether a file of so many bytes would fit into every limit that applies, and else which one it is that refuses. Only
    /// an answer for now: the write itself decides.
    ///
    /// # Errors
    /// [`Error::TenantQuotaExceeded`](locus_core::Error::TenantQuotaExceeded),
    /// [`Error::DirectoryQuotaExceeded`](locus_core::Error::DirectoryQuotaExceeded),
    /// [`Error::GlobalQuotaExceeded`](locus_core::Error::GlobalQuotaExceeded).
    pub fn check(&self, tenant: &TenantContext, directory: &LogicalDir, bytes: u64) -> Result<()> {
        self.store.check_room(tenant.id(), directory, bytes)
    }

    /// Usage of up to `max` tenants, in order of their names, of those that come after `after`.
    ///
    /// # Errors
    /// As [`Tenants::list`](crate::Tenants::list).
    pub async fn usage_page(&self, after: Option<&TenantId>, max: usize) -> Result<Vec<Usage>> {
        let all = self.gate.list().await?;
        let rest = all.iter().filter(|tenant| after.is_none_or(|after| tenant.id > *after));
        Ok(rest.take(max).map(|tenant| self.usage(&Scope::Tenant(tenant.id.clone()))).collect())
    }

    /// Usage of about `max` of a tenant's logical directories, from where the page before said to go on, or from the begin.
    /// Directories that come or go meanwhile may be left out; all others are in one of the pages.
    #[must_use]
    pub fn directory_usage(&self, tenant: &TenantContext, from: Option<u64>, max: usize) -> UsagePage {
        self.store.directory_usage(tenant.id(), from, max)
    }
}
