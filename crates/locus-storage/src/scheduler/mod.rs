//! The scheduler: each file to one worker at a time.

mod leased;
mod stream;

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use locus_core::{
    Error, FailOutcome, FileKey, FileStatus, Lease, LeaseOptions, Leased, MetadataStore, Result,
    TenantAccess, TenantContext, TenantManager,
};

use crate::pool::StoragePool;

pub use self::{leased::LeasedFile, stream::FileStream};

/// Most files that one [`FileScheduler::next_batch`] hands out.
pub const LEASE_BATCH_MAX: usize = 4_096;

/// Hands the files of a tenant to workers, each to one at a time, in the order they were accepted. Cheap to clone;
/// clones are the same scheduler.
///
/// Taking files needs an enabled tenant. Who holds a lease may renew, complete, fail and release it whatever becomes of
/// the tenant.
///
/// ```
/// # async fn work(scheduler: locus_storage::FileScheduler, tenant: locus_core::TenantContext,
/// #     pool: locus_storage::StoragePool) -> locus_core::Result<()> {
/// while let Some(file) = scheduler.next(&tenant).await? {
///     match pool.read_leased(&file.lease).await?.bytes().await {
///         Ok(_content) => scheduler.complete(&file.lease).await?,
///         Err(error) => drop(scheduler.fail(&file.lease, &error.to_string()).await?),
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FileScheduler {
    store: Arc<dyn MetadataStore>,
    tenants: Arc<dyn TenantManager>,
    pool: StoragePool,
}

impl FileScheduler {
    /// A scheduler over what `store` holds; `pool` tells where files are and what time it is.
    #[must_use]
    pub fn new(store: Arc<dyn MetadataStore>, tenants: Arc<dyn TenantManager>, pool: StoragePool) -> Self {
        Self { store, tenants, pool }
    }

    /// Leases the tenant's next file; `None` when none is ready.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::TenantDisabled`] unless the tenant is enabled; what the store says. Nothing
    /// is leased then.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing leased and no attempt spent.
    pub async fn next(&self, tenant: &TenantContext) -> Result<Option<LeasedFile>> {
        self.next_with(tenant, LeaseOptions::new()).await
    }

    /// Leases the tenant's next file as `options` say; `None` when none is ready.
    ///
    /// # Errors
    /// As [`next`](Self::next); [`Error::InvalidArgument`] and [`Error::TooLarge`] for the options.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn next_with(
        &self,
        tenant: &TenantContext,
        options: LeaseOptions,
    ) -> Result<Option<LeasedFile>> {
        Ok(self.lease(tenant, 1, &options).await?.pop().map(|leased| self.hand_out(leased)))
    }

    /// Leases up to `files_max` of the tenant's files, fewer or none when fewer are ready. All are leased by one record.
    ///
    /// # Errors
    /// As [`next`](Self::next); [`Error::InvalidArgument`] when `files_max` is 0; [`Error::TooLarge`] when it is more
    /// than 4,096.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next), for all of them.
    pub async fn next_batch(&self, tenant: &TenantContext, files_max: usize) -> Result<Vec<LeasedFile>> {
        self.next_batch_with(tenant, files_max, LeaseOptions::new()).await
    }

    /// [`next_batch`](Self::next_batch) as `options` say.
    ///
    /// # Errors
    /// As [`next_batch`](Self::next_batch) and [`next_with`](Self::next_with).
    ///
    /// # Cancel safety
    /// As [`next_batch`](Self::next_batch).
    pub async fn next_batch_with(
        &self,
        tenant: &TenantContext,
        files_max: usize,
        options: LeaseOptions,
    ) -> Result<Vec<LeasedFile>> {
        let leased = self.lease(tenant, files_max, &options).await?;
        Ok(leased.into_iter().map(|leased| self.hand_out(leased)).collect())
    }

    /// Leases the tenant's next file, waiting up to `patience` until one is ready.
    ///
    /// # Errors
    /// As [`next`](Self::next), also when the tenant's status changes while it waits; [`Error::NoFilesAvailable`] when
    /// the time is over.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn next_timeout(&self, tenant: &TenantContext, patience: Duration) -> Result<LeasedFile> {
        let clock = self.pool.clock();
        let deadline = clock.monotonic().saturating_add(patience);
        loop {
            if let Some(file) = self.next(tenant).await? {
                return Ok(file);
            }
            let over = Error::NoFilesAvailable { tenant: tenant.id().clone() };
            if clock.monotonic() >= deadline {
                return Err(over);
            }
            tokio::select! {
                ready = self.ready(tenant) => ready?,
                () = clock.sleep_until(deadline) => return Err(over),
            }
        }
    }

    /// Leases the next file of any enabled tenant, chosen fairly; `None` when none is ready.
    ///
    /// As long as several tenants have files ready, each gets its share of what these calls hand out, in proportion to its
    /// [`weight`](locus_core::Tenant::weight). Tenants without ready files cost nothing.
    ///
    /// # Errors
    /// What the store says. Nothing is leased then.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn next_any(&self) -> Result<Option<LeasedFile>> {
        self.next_any_with(LeaseOptions::new()).await
    }

    /// [`next_any`](Self::next_any) as `options` say.
    ///
    /// # Errors
    /// As [`next_any`](Self::next_any); [`Error::InvalidArgument`] and [`Error::TooLarge`] for the options.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn next_any_with(&self, options: LeaseOptions) -> Result<Option<LeasedFile>> {
        Ok(self.lease_any(1, &options).await?.pop().map(|leased| self.hand_out(leased)))
    }

    /// Leases up to `files_max` files of one enabled tenant, chosen fairly.
    ///
    /// # Errors
    /// As [`next_any_with`](Self::next_any_with) and [`next_batch`](Self::next_batch).
    ///
    /// # Cancel safety
    /// As [`next_batch`](Self::next_batch).
    pub async fn next_any_batch_with(
        &self,
        files_max: usize,
        options: LeaseOptions,
    ) -> Result<Vec<LeasedFile>> {
        let leased = self.lease_any(files_max, &options).await?;
        Ok(leased.into_iter().map(|leased| self.hand_out(leased)).collect())
    }

    /// Returns when the tenant may have a file to lease. May return early; [`next`](Self::next) tells.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn ready(&self, tenant: &TenantContext) -> Result<()> {
        let mut ready = std::pin::pin!(self.store.ready(tenant.id()));
        // It listens before the status is asked for: a change in between is heard.
        if let Poll::Ready(ready) = poll_fn(|context| Poll::Ready(ready.as_mut().poll(context))).await {
            return ready;
        }
        self.allow(tenant, TenantAccess::Work)?;
        ready.await
    }

    /// Returns when any tenant may have a file to lease. May return early; [`next_any`](Self::next_any) tells.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn ready_any(&self) -> Result<()> {
        self.store.ready_any().await
    }

    /// The tenant's files one after the other, waiting for each, until an error ends it.
    #[must_use]
    pub fn stream(&self, tenant: &TenantContext) -> FileStream {
        self.stream_with(tenant, LeaseOptions::new())
    }

    /// [`stream`](Self::stream) with leases as `options` say.
    #[must_use]
    pub fn stream_with(&self, tenant: &TenantContext, options: LeaseOptions) -> FileStream {
        FileStream::new(self.clone(), tenant.clone(), options)
    }

    /// Leases this very file. Of several that try, one wins.
    ///
    /// # Errors
    /// As [`next`](Self::next); [`Error::FileNotFound`]; [`Error::AlreadyProcessing`]; [`Error::NotDue`] before a
    /// failed file's delay is over; [`Error::WrongStatus`] when it is not pending; [`Error::VolumeUnavailable`].
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn lease_key(&self, tenant: &TenantContext, key: &FileKey) -> Result<LeasedFile> {
        self.lease_key_with(tenant, key, LeaseOptions::new()).await
    }

    /// [`lease_key`](Self::lease_key) as `options` say.
    ///
    /// # Errors
    /// As [`lease_key`](Self::lease_key); [`Error::InvalidArgument`] and [`Error::TooLarge`] for the options.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn lease_key_with(
        &self,
        tenant: &TenantContext,
        key: &FileKey,
        options: LeaseOptions,
    ) -> Result<LeasedFile> {
        self.allow(tenant, TenantAccess::Work)?;
        options.check()?;
        Ok(self.hand_out(self.store.lease_key(tenant.id(), key, &options).await?))
    }

    /// Gives a lease its time again, counted from now: as long as it was taken for.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    ///
    /// # Cancel safety
    /// After a dropped future the lease has its old deadline or the new one.
    pub async fn renew(&self, lease: &Lease) -> Result<Lease> {
        self.store.renew(lease, None).await
    }

    /// [`renew`](Self::renew) for `ttl` from now.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]; [`Error::InvalidArgument`] when `ttl` is zero.
    ///
    /// # Cancel safety
    /// As [`renew`](Self::renew).
    pub async fn renew_for(&self, lease: &Lease, ttl: Duration) -> Result<Lease> {
        LeaseOptions::new().ttl(ttl).check()?;
        self.store.renew(lease, Some(ttl)).await
    }

    /// Gives a file back unprocessed: it is pending at once, and the attempt does not count.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    ///
    /// # Cancel safety
    /// After a dropped future the file is either released or still leased.
    pub async fn release(&self, lease: &Lease) -> Result<()> {
        self.store.release(lease).await
    }

    /// Completes a file: it is never handed out again, and its bytes are removed in the background. A late completion
    /// is taken while nobody else was given the file; completing twice succeeds twice.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when somebody else was given the file, or it was reset. After [`Error::Poisoned`] with an
    /// unknown outcome, reopening decides.
    ///
    /// # Cancel safety
    /// After a dropped future the file is either completed or still leased.
    pub async fn complete(&self, lease: &Lease) -> Result<()> {
        self.store.complete(std::slice::from_ref(lease)).await
    }

    /// Completes all of these by one record, or none.
    ///
    /// # Errors
    /// As [`complete`](Self::complete), for the first that cannot be completed.
    ///
    /// # Cancel safety
    /// As [`complete`](Self::complete), for all of them.
    pub async fn complete_batch(&self, leases: &[Lease]) -> Result<()> {
        if leases.is_empty() { Ok(()) } else { self.store.complete(leases).await }
    }

    /// Fails a file: it comes back after the delay of the retry policy, or is given up for good. `error` is kept with
    /// it, cut at 1,024 bytes (in a sealed pool earlier, as its sealer says). Failing the same lease again has no effect.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when somebody else was given the file, or it was reset.
    ///
    /// # Cancel safety
    /// After a dropped future the file either failed or is still leased.
    pub async fn fail(&self, lease: &Lease, error: &str) -> Result<FailOutcome> {
        match self.pool.seal_error(lease, error).await? {
            Some(sealed) => self.store.fail(lease, &sealed).await,
            None => self.store.fail(lease, error).await,
        }
    }

    /// Makes a delayed or given-up file pending now, with fresh counts, or [requeues](StoragePool::requeue) a dead letter. Leases
    /// of it that ran out are lost.
    ///
    /// # Errors
    /// [`Error::FileNotFound`]; [`Error::AlreadyProcessing`] while it is leased (release it first);
    /// [`Error::WrongStatus`] when it is over; [`Error::TenantNotFound`]; [`Error::TenantDisabled`] when the tenant is
    /// disabled; for a dead letter as [`StoragePool::requeue`] says.
    ///
    /// # Cancel safety
    /// After a dropped future the file is either reset or as it was.
    pub async fn reset(&self, tenant: &TenantContext, key: &FileKey) -> Result<()> {
        self.allow(tenant, TenantAccess::Read)?;
        match self.store.reset(tenant.id(), key).await {
            Err(Error::WrongStatus { status: FileStatus::DeadLettered, .. }) => {
                self.pool.requeue(tenant, key).await
            }
            done => done,
        }
    }

    /// Where a file is in its life.
    ///
    /// # Errors
    /// [`Error::FileNotFound`] also once a completed or deleted file is gone; [`Error::TenantNotFound`];
    /// [`Error::TenantDisabled`] when the tenant is disabled.
    pub async fn status(&self, tenant: &TenantContext, key: &FileKey) -> Result<FileStatus> {
        self.allow(tenant, TenantAccess::Read)?;
        self.store.status(tenant.id(), key).await?.ok_or(Error::FileNotFound { key: *key })
    }

    async fn lease(
        &self,
        tenant: &TenantContext,
        files_max: usize,
        options: &LeaseOptions,
    ) -> Result<Vec<Leased>> {
        self.allow(tenant, TenantAccess::Work)?;
        check_batch(files_max)?;
        options.check()?;
        self.store.lease(tenant.id(), files_max, options).await
    }

    async fn lease_any(&self, files_max: usize, options: &LeaseOptions) -> Result<Vec<Leased>> {
        check_batch(files_max)?;
        options.check()?;
        let weigh = |tenant: &_| {
            self.tenants.check(tenant, TenantAccess::Work).map_or(0, |tenant| tenant.weight.max(1))
        };
        self.store.lease_any(files_max, options, &weigh).await
    }

    fn allow(&self, tenant: &TenantContext, access: TenantAccess) -> Result<()> {
        self.tenants.admit(tenant, access).map(drop)
    }

    fn hand_out(&self, leased: Leased) -> LeasedFile {
        let owner = leased.record.owner.clone();
        LeasedFile::new(leased.lease, self.pool.locate(leased.record), owner)
    }

    /// Waits for the tenant's next file.
    async fn wait_next(&self, tenant: &TenantContext, options: &LeaseOptions) -> Result<LeasedFile> {
        loop {
            if let Some(file) = self.next_with(tenant, options.clone()).await? {
                return Ok(file);
            }
            self.ready(tenant).await?;
        }
    }
}

fn check_batch(files_max: usize) -> Result<()> {
    if files_max == 0 {
        return Err(Error::InvalidArgument { name: "files_max", why: "must be at least 1" });
    }
    if files_max > LEASE_BATCH_MAX {
        let (size, limit) = (files_max as u64, LEASE_BATCH_MAX as u64);
        return Err(Error::TooLarge { what: "batch", size, limit });
    }
    Ok(())
}
