//! Where workers take files from.

use std::sync::Arc;

use locus_core::{Clock, LeaseOptions, MetadataStore, Result, TenantAccess, TenantContext, TenantManager};
use locus_storage::{FileScheduler, LeasedFile, StoragePool};

use crate::{gate::Gate, settings::WorkerSettings, workers::stop::Stop};

/// What workers work with.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    pub(crate) pool: StoragePool,
    pub(crate) scheduler: FileScheduler,
    pub(crate) store: Arc<dyn MetadataStore>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) stop: Stop,
    pub(crate) settings: WorkerSettings,
    /// How long a lease lasts that does not say.
    pub(crate) visibility_timeout: std::time::Duration,
}

/// The files of one tenant, or of all.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    One(TenantContext),
    Any,
}

impl Source {
    pub(super) async fn next(&self, tools: &Tools, options: LeaseOptions) -> Result<Option<LeasedFile>> {
        match self {
            Source::One(tenant) => tools.scheduler.next_with(tenant, options).await,
            Source::Any => tools.scheduler.next_any_with(options).await,
        }
    }

    /// Returns when there may be a file.
    pub(super) async fn ready(&self, tools: &Tools) -> Result<()> {
        match self {
            Source::One(tenant) => tools.scheduler.ready(tenant).await,
            Source::Any => tools.scheduler.ready_any().await,
        }
    }

    /// Whether nothing waits, delayed files included. Those of tenants that may not work do not count.
    pub(super) fn is_empty(&self, tools: &Tools) -> bool {
        let counts = tools.store.counts();
        match self {
            Source::One(tenant) => counts.get(tenant.id()).is_none_or(|counts| counts.pending == 0),
            Source::Any => counts.iter().all(|(tenant, counts)| {
                counts.pending == 0 || tools.gate.check(tenant, TenantAccess::Work).is_err()
            }),
        }
    }

    /// Returns when the tenant may work again.
    pub(super) async fn until_allowed(&self, tools: &Tools) {
        if let Source::One(tenant) = self {
            tools.gate.until_allowed(tenant.id()).await;
        }
    }
}
