//! Files that failed for good and left the queue: looked at, brought back, purged.

mod filter;
mod report;

use std::{sync::Arc, time::Duration};

use locus_core::{
    Error, FileKey, FileLocation, FilePage, FileRecord, FileStatus, MetadataStore, Result, TenantAccess,
    TenantContext, TenantId, TenantManager, Upkeep,
};
use locus_storage::StoragePool;
use tracing::warn;

pub use self::{
    filter::DeadLetterFilter,
    report::{DeadLetterPage, RequeueReport},
};
use crate::gate::Gate;

/// Most records that are looked at in one go.
const PAGE_FILES: usize = 256;

/// Shows, requeues and purges dead letters. Made by [`Locus::dead_letters`](crate::Locus::dead_letters).
///
/// A dead letter counts against no quota and is never leased. It is [read](StoragePool::read) by its key like any file.
///
/// ```
/// # use locus::prelude::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let locus = Locus::builder().data_dir(temp.path()).add_tenant("acme").build().await?;
/// # let acme = locus.tenants().get("acme").await?;
/// let broken = DeadLetterFilter::new().directory("/letters")?.error_contains("time-out");
/// println!("{} would come back", locus.dead_letters().count(&acme, &broken).await?);
/// let report = locus.dead_letters().requeue_all(&acme, &broken).await?;
/// assert_eq!((report.requeued, report.failed), (0, 0));
/// # locus.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DeadLetters {
    gate: Arc<Gate>,
    store: Arc<dyn MetadataStore>,
    upkeep: Arc<dyn Upkeep>,
    pool: StoragePool,
}

impl DeadLetters {
    pub(crate) const fn new(
        gate: Arc<Gate>,
        store: Arc<dyn MetadataStore>,
        upkeep: Arc<dyn Upkeep>,
        pool: StoragePool,
    ) -> Self {
        Self { gate, store, upkeep, pool }
    }

    /// The tenants that have dead letters.
    #[must_use]
    pub fn tenants(&self) -> Vec<TenantId> {
        self.upkeep.tenants_with(FileStatus::DeadLettered)
    }

    /// A tenant's dead letters: a page of at most `max`, from where the page before said to go on, or from the begin. A page
    /// may be empty and not the last.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::TenantDisabled`] when the tenant is disabled.
    pub async fn list(
        &self,
        tenant: &TenantContext,
        from: Option<u64>,
        max: usize,
    ) -> Result<DeadLetterPage> {
        self.allow(tenant)?;
        let page = self.page(tenant, Duration::ZERO, from, max);
        let mut letters = Vec::with_capacity(page.files.len());
        for record in page.files {
            letters.extend(self.info(tenant, &record.info.key).await?);
        }
        Ok(DeadLetterPage { letters, next: page.next })
    }

    /// What is known about a dead letter and where it rests; `None` for an unknown key, and for a file that is none.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn info(&self, tenant: &TenantContext, key: &FileKey) -> Result<Option<FileLocation>> {
        let location = self.pool.location(tenant, key).await?;
        Ok(location.filter(|location| location.info.status == FileStatus::DeadLettered))
    }

    /// How many dead letters of a tenant a filter lets through: what [`requeue_all`](Self::requeue_all) would begin with.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn count(&self, tenant: &TenantContext, filter: &DeadLetterFilter) -> Result<u64> {
        self.allow(tenant)?;
        let (mut count, mut pages) = (0, self.pages(tenant, Duration::ZERO));
        while let Some(files) = pages.next().await {
            count += files.iter().filter(|record| filter.lets_through(record)).count() as u64;
        }
        Ok(count)
    }

    /// Brings one back into the queue: pending, with fresh counts, at its place in the accept order, and counted again.
    ///
    /// # Errors
    /// As [`StoragePool::requeue`]: it is then the dead letter that it was.
    ///
    /// # Cancel safety
    /// As [`StoragePool::requeue`].
    pub async fn requeue(&self, tenant: &TenantContext, key: &FileKey) -> Result<()> {
        self.pool.requeue(tenant, key).await
    }

    /// Brings back all that a filter lets through, one after the other. One that cannot be, because a quota is full or its
    /// volume is not there, is counted and passed by.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::TenantDisabled`] when the tenant is disabled. [`Error::Poisoned`],
    /// [`Error::ShuttingDown`]: what came back is back.
    ///
    /// # Cancel safety
    /// What came back is back, the rest are dead letters.
    pub async fn requeue_all(
        &self,
        tenant: &TenantContext,
        filter: &DeadLetterFilter,
    ) -> Result<RequeueReport> {
        self.allow(tenant)?;
        let (mut report, mut pages) = (RequeueReport::default(), self.pages(tenant, Duration::ZERO));
        while let Some(files) = pages.next().await {
            for record in files.iter().filter(|record| filter.lets_through(record)) {
                match self.pool.requeue(tenant, &record.info.key).await {
                    Ok(()) => report.requeued += 1,
                    // Somebody was faster.
                    Err(Error::FileNotFound { .. } | Error::WrongStatus { .. }) => {}
                    Err(
                        last @ (Error::Poisoned { .. }
                        | Error::ShuttingDown
                        | Error::TenantDisabled { .. }
                        | Error::TenantNotFound { .. }),
                    ) => return Err(last),
                    Err(error) => report.pass_by(error),
                }
            }
        }
        if let Some(error) = &report.first_failure {
            let error = error as &dyn std::error::Error;
            warn!(tenant = %tenant.id(), failed = report.failed, error, "dead letters not requeued");
        }
        Ok(report)
    }

    /// Deletes one for good. Its bytes are removed in the background.
    ///
    /// # Errors
    /// [`Error::FileNotFound`]; [`Error::WrongStatus`] when it is no dead letter; as [`list`](Self::list).
    ///
    /// # Cancel safety
    /// After a dropped future it is purged or untouched.
    pub async fn purge(&self, tenant: &TenantContext, key: &FileKey) -> Result<()> {
        self.allow(tenant)?;
        self.store.purge(tenant.id(), key).await
    }

    /// Deletes all for good that a filter lets through, and says how many: [`count`](Self::count) tells beforehand.
    ///
    /// # Errors
    /// As [`list`](Self::list); what the store says. What was purged is.
    ///
    /// # Cancel safety
    /// What was purged is, the rest are dead letters.
    pub async fn purge_all(&self, tenant: &TenantContext, filter: &DeadLetterFilter) -> Result<u64> {
        self.purge_some(tenant, Duration::ZERO, filter).await
    }

    /// Deletes those for good that have been dead letters for so long, in store time, and says how many.
    ///
    /// # Errors
    /// As [`purge_all`](Self::purge_all).
    ///
    /// # Cancel safety
    /// As [`purge_all`](Self::purge_all).
    pub async fn purge_older(&self, tenant: &TenantContext, older_than: Duration) -> Result<u64> {
        self.purge_some(tenant, older_than, &DeadLetterFilter::new()).await
    }

    async fn purge_some(
        &self,
        tenant: &TenantContext,
        older_than: Duration,
        filter: &DeadLetterFilter,
    ) -> Result<u64> {
        self.allow(tenant)?;
        let (mut purged, mut pages) = (0, self.pages(tenant, older_than));
        while let Some(files) = pages.next().await {
            for record in files.iter().filter(|record| filter.lets_through(record)) {
                match self.store.purge(tenant.id(), &record.info.key).await {
                    Ok(()) => purged += 1,
                    Err(Error::FileNotFound { .. } | Error::WrongStatus { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(purged)
    }

    /// All that have been dead letters for so long.
    const fn pages<'a>(&'a self, tenant: &'a TenantContext, older_than: Duration) -> Pages<'a> {
        Pages { letters: self, tenant, older_than, from: None, is_over: false }
    }

    fn page(&self, tenant: &TenantContext, older_than: Duration, from: Option<u64>, max: usize) -> FilePage {
        self.upkeep.page(tenant.id(), FileStatus::DeadLettered, older_than, from, max)
    }

    fn allow(&self, tenant: &TenantContext) -> Result<()> {
        self.gate.admit(tenant, TenantAccess::Read).map(drop)
    }
}

/// Dead letters of a tenant, page by page; others get their turn between two.
struct Pages<'a> {
    letters: &'a DeadLetters,
    tenant: &'a TenantContext,
    older_than: Duration,
    from: Option<u64>,
    is_over: bool,
}

impl Pages<'_> {
    async fn next(&mut self) -> Option<Vec<FileRecord>> {
        if self.is_over {
            return None;
        }
        if self.from.is_some() {
            tokio::task::yield_now().await;
        }
        let page = self.letters.page(self.tenant, self.older_than, self.from, PAGE_FILES);
        self.from = page.next;
        self.is_over = self.from.is_none();
        Some(page.files.into_iter().map(|record| self.letters.pool.reveal_or_keep(record)).collect())
    }
}
