//! The tenants of an open store.

use std::sync::Arc;

use locus_core::{Properties, Result, Tenant, TenantContext, TenantId, TenantManager, TenantStatus};

use crate::{
    gate::Gate,
    purge::{PurgeProgress, Removing},
};

/// Creates, finds and switches tenants. Made by [`Locus::tenants`](crate::Locus::tenants).
///
/// A change of status is durable when its call returns, and in force for the next call of anybody, also with a context
/// that was obtained before.
///
/// ```
/// # use locus::prelude::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let locus = Locus::builder().data_dir(temp.path()).build().await?;
/// let acme: TenantContext = locus.tenants().create("acme").await?;
/// locus.tenants().suspend("acme").await?;
/// assert!(matches!(locus.scheduler().next(&acme).await, Err(Error::TenantDisabled { .. })));
/// # locus.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Tenants {
    gate: Arc<Gate>,
    removing: Removing,
}

impl Tenants {
    pub(crate) const fn new(gate: Arc<Gate>, removing: Removing) -> Self {
        Self { gate, removing }
    }

    /// Creates a tenant without properties.
    ///
    /// A tenant of the name of one that was [deleted](Self::delete) or [purged](Self::purge) is another one, and inherits
    /// nothing. One whose own file was lost ([`tenants_lost`](crate::OpenReport::tenants_lost)) gets its files back.
    ///
    /// # Errors
    /// [`Error::InvalidId`](locus_core::Error::InvalidId); [`Error::TenantExists`](locus_core::Error::TenantExists):
    /// of two that create one tenant, one wins; [`Error::TenantLeaving`](locus_core::Error::TenantLeaving).
    ///
    /// # Cancel safety
    /// After a dropped future the tenant is either wholly there or not at all.
    pub async fn create(&self, id: impl AsRef<str> + Send) -> Result<TenantContext> {
        self.create_with(id, Properties::new()).await
    }

    /// Creates a tenant with properties of the caller's, at most 1,024 bytes together.
    ///
    /// # Errors
    /// As [`create`](Self::create); [`Error::TooLarge`](locus_core::Error::TooLarge).
    ///
    /// # Cancel safety
    /// As [`create`](Self::create).
    pub async fn create_with(
        &self,
        id: impl AsRef<str> + Send,
        properties: Properties,
    ) -> Result<TenantContext> {
        let id = TenantId::parse(id.as_ref())?;
        Ok(TenantContext::from(&*self.gate.create(&id, properties).await?))
    }

    /// The context of a tenant, whatever its status.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`](locus_core::Error::TenantNotFound), [`Error::InvalidId`](locus_core::Error::InvalidId).
    pub async fn get(&self, id: impl AsRef<str> + Send) -> Result<TenantContext> {
        Ok(TenantContext::from(&*self.info(id).await?))
    }

    /// The context of a tenant, when there is one of this name.
    ///
    /// # Errors
    /// [`Error::InvalidId`](locus_core::Error::InvalidId).
    pub async fn try_get(&self, id: impl AsRef<str> + Send) -> Result<Option<TenantContext>> {
        let id = TenantId::parse(id.as_ref())?;
        Ok(self.gate.try_get(&id).await?.map(|tenant| TenantContext::from(&*tenant)))
    }

    /// What is known about a tenant: status, dates, properties.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn info(&self, id: impl AsRef<str> + Send) -> Result<Arc<Tenant>> {
        self.gate.get(&TenantId::parse(id.as_ref())?).await
    }

    /// All tenants, in order of their names.
    ///
    /// # Errors
    /// None at present; a store on another machine may fail.
    pub async fn list(&self) -> Result<Vec<Arc<Tenant>>> {
        self.gate.list().await
    }

    /// Allows a tenant everything.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::TenantLeaving`](locus_core::Error::TenantLeaving);
    /// [`Error::TenantLost`](locus_core::Error::TenantLost). After any error the status in force is what it was.
    ///
    /// # Cancel safety
    /// A change that was begun is made even when its future is dropped.
    pub async fn enable(&self, id: impl AsRef<str> + Send) -> Result<()> {
        self.set_status(id, TenantStatus::Enabled).await
    }

    /// Allows a tenant nothing, but that the holder of a live lease ends its work.
    ///
    /// # Errors
    /// As [`enable`](Self::enable).
    ///
    /// # Cancel safety
    /// As [`enable`](Self::enable).
    pub async fn disable(&self, id: impl AsRef<str> + Send) -> Result<()> {
        self.set_status(id, TenantStatus::Disabled).await
    }

    /// Lets a tenant take no new files and hand out none; reading stays.
    ///
    /// # Errors
    /// As [`enable`](Self::enable).
    ///
    /// # Cancel safety
    /// As [`enable`](Self::enable).
    pub async fn suspend(&self, id: impl AsRef<str> + Send) -> Result<()> {
        self.set_status(id, TenantStatus::Suspended).await
    }

    /// Whether everything is allowed to a tenant.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn is_enabled(&self, id: impl AsRef<str> + Send) -> Result<bool> {
        Ok(self.info(id).await?.status == TenantStatus::Enabled)
    }

    /// Replaces a tenant's properties, at most 1,024 bytes together.
    ///
    /// # Errors
    /// As [`enable`](Self::enable); [`Error::TooLarge`](locus_core::Error::TooLarge).
    ///
    /// # Cancel safety
    /// As [`enable`](Self::enable).
    pub async fn set_properties(
        &self,
        id: impl AsRef<str> + Send,
        properties: Properties,
    ) -> Result<Arc<Tenant>> {
        self.gate.set_properties(&TenantId::parse(id.as_ref())?, properties).await
    }

    /// Sets a tenant's share of what [`next_any`](crate::FileScheduler::next_any) hands out, 1 to 1,000: among tenants with
    /// files ready, one of weight 5 gets five times as many as one of weight 1, which is what each has at first.
    ///
    /// # Errors
    /// As [`enable`](Self::enable); [`Error::InvalidArgument`](locus_core::Error::InvalidArgument).
    ///
    /// # Cancel safety
    /// As [`enable`](Self::enable).
    pub async fn set_weight(&self, id: impl AsRef<str> + Send, weight: u32) -> Result<Arc<Tenant>> {
        self.gate.set_weight(&TenantId::parse(id.as_ref())?, weight).await
    }

    /// Deletes a tenant that has no files. Limits that were set for it at run time, its properties, its weight and its
    /// idempotency keys go with it, durably.
    ///
    /// One that the builder or the settings name is created anew at the next start, as another tenant.
    ///
    /// # Errors
    /// [`Error::TenantInUse`](locus_core::Error::TenantInUse) while it has files in any state that counts (those waiting
    /// to be removed included: [`settled`](crate::StorageCleanup::settled) waits for them), writes under way or open
    /// uploads: nothing was changed then. [`Error::TenantNotFound`](locus_core::Error::TenantNotFound),
    /// [`Error::TenantLeaving`](locus_core::Error::TenantLeaving). After what disk and journal say it is disabled, and may
    /// be deleted again.
    ///
    /// # Cancel safety
    /// After a dropped future it is as it was, or disabled, or gone.
    pub async fn delete(&self, id: impl AsRef<str> + Send) -> Result<()> {
        self.removing.delete(&self.gate, &TenantId::parse(id.as_ref())?).await
    }

    /// Removes a tenant with all its files, whatever their state.
    ///
    /// First it is disabled, durably: from then on nothing of it is taken in or handed out, and only purging it again
    /// changes that, or enabling it before. Then its files end, leased ones too; then their bytes are removed; then it is
    /// deleted as [`delete`](Self::delete) does. A crash in between leaves it disabled: purge it again, and that goes on.
    ///
    /// When this returns, no name of its files is left on any mounted volume, durably. What had rested in the journal is
    /// out of reach, but stays on the disk until its segment is used again; what killed writes left on a volume that is
    /// not mounted, or not healthy, is removed by the sweep of [leftovers](crate::StorageCleanup::leftovers) when it is.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`](locus_core::Error::TenantNotFound),
    /// [`Error::TenantLeaving`](locus_core::Error::TenantLeaving): nothing was changed then.
    /// [`Error::VolumeUnavailable`](locus_core::Error::VolumeUnavailable) names a volume with files of it, or leftovers of its
    /// writes, that cannot be removed now; what disk and journal say. It is disabled then, and may be purged again.
    ///
    /// # Cancel safety
    /// After a dropped future it is as it was, or disabled with some or none of its files, or gone.
    pub async fn purge(&self, id: impl AsRef<str> + Send) -> Result<()> {
        self.purge_with(id, |_| ()).await
    }

    /// [`purge`](Self::purge), telling `progress` after each batch of files that ended, and each second while bytes are
    /// being removed. It is called on the caller's task, and should return at once.
    ///
    /// # Errors
    /// As [`purge`](Self::purge).
    ///
    /// # Cancel safety
    /// As [`purge`](Self::purge).
    pub async fn purge_with(
        &self,
        id: impl AsRef<str> + Send,
        progress: impl Fn(PurgeProgress) + Send + Sync,
    ) -> Result<()> {
        self.removing.purge(&self.gate, &TenantId::parse(id.as_ref())?, &progress).await
    }

    async fn set_status(&self, id: impl AsRef<str> + Send, status: TenantStatus) -> Result<()> {
        let id = TenantId::parse(id.as_ref())?;
        self.gate.set_status(&id, status).await.map(drop)
    }
}
