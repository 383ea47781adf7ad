//! The tenants of an open store.

use std::sync::Arc;

use locus_core::{Properties, Result, Tenant, TenantContext, TenantId, TenantManager, TenantStatus};

use crate::gate::Gate;

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
}

impl Tenants {
    pub(crate) const fn new(gate: Arc<Gate>) -> Self {
        Self { gate }
    }

    /// Creates a tenant without properties.
    ///
    /// # Errors
    /// [`Error::InvalidId`](locus_core::Error::InvalidId); [`Error::TenantExists`](locus_core::Error::TenantExists):
    /// of two that create one tenant, one wins.
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
    /// As [`get`](Self::get). After any error the status in force is what it was.
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

    async fn set_status(&self, id: impl AsRef<str> + Send, status: TenantStatus) -> Result<()> {
        let id = TenantId::parse(id.as_ref())?;
        self.gate.set_status(&id, status).await.map(drop)
    }
}
