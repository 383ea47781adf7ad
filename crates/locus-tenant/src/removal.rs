//! Removing a tenant for good.

use std::{collections::HashSet, sync::Arc};

use locus_core::TenantId;
use parking_lot::Mutex;

/// Tenants that are being removed.
#[derive(Debug, Default)]
pub(crate) struct Removals(Mutex<HashSet<TenantId>>);

impl Removals {
    pub(crate) fn contains(&self, id: &TenantId) -> bool {
        self.0.lock().contains(id)
    }

    /// `None` when somebody removes it already.
    pub(crate) fn begin(self: &Arc<Self>, id: &TenantId) -> Option<Removal> {
        let new = self.0.lock().insert(id.clone());
        new.then(|| Removal { removals: Arc::clone(self), tenant: id.clone() })
    }
}

/// The right to remove a tenant: as long as it lives, nobody changes the tenant but to disable it, and nobody creates one of
/// its name.
#[derive(Debug)]
#[must_use = "dropping it lets the tenant stay"]
pub struct Removal {
    removals: Arc<Removals>,
    tenant: TenantId,
}

impl Removal {
    /// Who is removed.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.removals.0.lock().remove(&self.tenant);
    }
}
