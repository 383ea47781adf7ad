//! The keeper of tenants as the rest of an open store sees it: it also refuses work once the store is being closed.

use std::sync::{
    Arc,
    atomic::{AtomicU8, AtomicU64, Ordering},
};

use async_trait::async_trait;
use locus_core::{
    Error, MetadataStore, Properties, Result, Tenant, TenantAccess, TenantId, TenantManager, TenantStatus,
};
use locus_tenant::TenantDirectory;
use tokio::sync::Notify;

/// How far the store is on its way to being closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Phase {
    Open,
    /// No new work; what is leased may be ended.
    Closing,
    Closed,
}

/// Every call of pool and scheduler asks here first.
#[derive(Debug)]
pub(crate) struct Gate {
    tenants: TenantDirectory,
    store: Arc<dyn MetadataStore>,
    phase: AtomicU8,
    /// Rises with each change of a tenant.
    version: AtomicU64,
    changed: Notify,
}

impl Gate {
    pub(crate) fn new(tenants: TenantDirectory, store: Arc<dyn MetadataStore>) -> Self {
        let phase = AtomicU8::new(Phase::Open as u8);
        Self { tenants, store, phase, version: AtomicU64::new(0), changed: Notify::new() }
    }

    /// From now on no work is taken, and whoever waits for files is told so.
    pub(crate) async fn close_to_work(&self) -> Result<()> {
        self.enter(Phase::Closing);
        for tenant in self.tenants.list().await? {
            self.store.tenant_changed(&tenant.id);
        }
        Ok(())
    }

    /// From now on every call is refused.
    pub(crate) fn close(&self) {
        self.enter(Phase::Closed);
    }

    /// Refuses once the store is being closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.refuse_from(Phase::Closing)
    }

    /// All tenants.
    pub(crate) fn directory(&self) -> &TenantDirectory {
        &self.tenants
    }

    pub(crate) fn is_open(&self) -> bool {
        self.phase.load(Ordering::Acquire) == Phase::Open as u8
    }

    /// Returns when the tenant may work, or the store is being closed.
    pub(crate) async fn until_allowed(&self, id: &TenantId) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            match self.check(id, TenantAccess::Work) {
                Err(Error::TenantDisabled { .. }) => changed.await,
                _ => return,
            }
        }
    }

    /// Rises whenever a tenant was created, removed or switched.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Returns once the version is another than `seen`.
    pub(crate) async fn until_changed(&self, seen: u64) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.version() != seen {
                return;
            }
            changed.await;
        }
    }

    /// Who waits for this tenant's files, or for its leave, looks again.
    pub(crate) fn tell(&self, id: &TenantId) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.store.tenant_changed(id);
        self.changed.notify_waiters();
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    fn refuse_from(&self, phase: Phase) -> Result<()> {
        if self.phase.load(Ordering::Acquire) >= phase as u8 { Err(Error::ShuttingDown) } else { Ok(()) }
    }
}

#[async_trait]
impl TenantManager for Gate {
    async fn create(&self, id: &TenantId, properties: Properties) -> Result<Arc<Tenant>> {
        self.refuse_from(Phase::Closing)?;
        let tenant = self.tenants.create(id, properties).await?;
        self.tell(id); // it may bring files back
        Ok(tenant)
    }

    async fn try_get(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>> {
        self.tenants.try_get(id).await
    }

    async fn list(&self) -> Result<Vec<Arc<Tenant>>> {
        self.tenants.list().await
    }

    async fn set_status(&self, id: &TenantId, status: TenantStatus) -> Result<Arc<Tenant>> {
        self.refuse_from(Phase::Closing)?;
        let tenant = self.tenants.set_status(id, status).await?;
        self.tell(id);
        Ok(tenant)
    }

    async fn set_properties(&self, id: &TenantId, properties: Properties) -> Result<Arc<Tenant>> {
        self.refuse_from(Phase::Closing)?;
        self.tenants.set_properties(id, properties).await
    }

    async fn set_weight(&self, id: &TenantId, weight: u32) -> Result<Arc<Tenant>> {
        self.refuse_from(Phase::Closing)?;
        self.tenants.set_weight(id, weight).await
    }

    fn check(&self, id: &TenantId, access: TenantAccess) -> Result<Arc<Tenant>> {
        self.refuse_from(match access {
            TenantAccess::Work => Phase::Closing,
            TenantAccess::Read => Phase::Closed,
        })?;
        self.tenants.check(id, access)
    }

    fn is_known(&self, id: &TenantId) -> bool {
        self.tenants.is_known(id)
    }
}
