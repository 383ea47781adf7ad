//! The way out of a tenant: disabled, ended, removed, forgotten, gone; each step durable before the next.

use std::{pin::pin, sync::Arc, time::Duration};

use locus_cleanup::Sweeper;
use locus_core::{Clock, Holdings, Leaving, MetadataStore, Result, TenantId, TenantManager, TenantStatus};
use locus_storage::StoragePool;
use locus_tenant::Removal;
use tracing::info;

use crate::gate::Gate;

/// Files that one record ends.
const ENDED_MAX: usize = 1_024;
/// How often progress is told while bytes are being removed.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// How far [`Tenants::purge_with`](crate::Tenants::purge_with) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PurgeProgress {
    /// Files that this purge ended so far.
    pub ended: u64,
    /// What is still there; files that ended count until their bytes are gone.
    pub left: Holdings,
}

/// What removing a tenant needs beside the keeper of tenants.
#[derive(Debug, Clone)]
pub(crate) struct Removing {
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) pool: StoragePool,
    pub(crate) sweeper: Arc<Sweeper>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Removing {
    pub(crate) async fn delete(&self, gate: &Gate, id: &TenantId) -> Result<()> {
        gate.check_open()?;
        let removal = gate.directory().begin_removal(id)?;
        let leaving = self.store.begin_leaving(id, true)?;
        gate.set_status(id, TenantStatus::Disabled).await?;
        self.forget(gate, removal, leaving).await
    }

    pub(crate) async fn purge(
        &self,
        gate: &Gate,
        id: &TenantId,
        progress: &(dyn Fn(PurgeProgress) + Send + Sync),
    ) -> Result<()> {
        gate.check_open()?;
        let removal = gate.directory().begin_removal(id)?;
        let owner = gate.set_status(id, TenantStatus::Disabled).await?.storage_path.clone();
        let leaving = self.store.begin_leaving(id, false)?;
        let ended = self.end_files(&leaving, progress).await?;
        self.pool.uploads_rest(id).await;
        self.until_emptied(&leaving, ended, progress).await?;
        self.sweeper.leftovers_of(&owner).await?;
        self.forget(gate, removal, leaving).await?;
        info!(tenant = %id, files = ended, "tenant purged");
        Ok(())
    }

    async fn end_files(
        &self,
        leaving: &Leaving,
        progress: &(dyn Fn(PurgeProgress) + Send + Sync),
    ) -> Result<u64> {
        let (mut ended, mut from) = (0, Some(0));
        while let Some(at) = from {
            let (more, next) = self.store.end_files(leaving, at, ENDED_MAX).await?;
            (ended, from) = (ended + more, next);
            progress(PurgeProgress { ended, left: self.store.holdings(leaving.tenant()) });
        }
        Ok(ended)
    }

    async fn until_emptied(
        &self,
        leaving: &Leaving,
        ended: u64,
        progress: &(dyn Fn(PurgeProgress) + Send + Sync),
    ) -> Result<()> {
        let mut emptied = pin!(self.sweeper.emptied(leaving));
        loop {
            let next = self.clock.monotonic().saturating_add(TOLD_EVERY);
            tokio::select! {
                biased;
                done = &mut emptied => return done,
                () = self.clock.sleep_until(next) => {
                    progress(PurgeProgress { ended, left: self.store.holdings(leaving.tenant()) });
                }
            }
        }
    }

    /// The record before the file: where there is no tenant any more, nothing of it is remembered.
    async fn forget(&self, gate: &Gate, removal: Removal, leaving: Leaving) -> Result<()> {
        let id = removal.tenant().clone();
        self.store.forget_tenant(&leaving).await?;
        let removed = gate.directory().remove(removal, leaving).await;
        gate.tell(&id);
        removed
    }
}
