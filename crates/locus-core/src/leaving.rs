//! How a tenant leaves a store: nothing comes in any more, what is there ends, and the store forgets the rest.

use std::fmt::{self, Debug};

use crate::{Error, TenantId};

/// What a store has of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Files in all states, dead letters and those waiting to be removed included.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Writes under way, from the room that was taken for them to their record.
    pub writes: u64,
    /// Uploads that are open.
    pub uploads: u64,
}

impl Holdings {
    /// Whether there is nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.files == 0 && self.writes == 0 && self.uploads == 0
    }

    /// Refuses unless there is nothing.
    ///
    /// # Errors
    /// [`Error::TenantInUse`].
    pub fn check_empty(&self, tenant: &TenantId) -> Result<(), Error> {
        if self.is_empty() {
            return Ok(());
        }
        let Self { files, writes, uploads, .. } = *self;
        Err(Error::TenantInUse { tenant: tenant.clone(), files, writes, uploads })
    }
}

/// A tenant on its way out: as long as this lives, the store takes nothing in for it and hands none of its files out.
#[must_use = "dropping it lets the tenant stay"]
pub struct Leaving {
    tenant: TenantId,
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Leaving {
    /// A tenant on its way out; `end` runs once, when this is dropped.
    pub fn new(tenant: TenantId, end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { tenant, end: Some(Box::new(end)) }
    }

    /// Who leaves.
    #[must_use]
    pub const fn tenant(&self) -> &TenantId {
        &self.tenant
    }
}

impl Debug for Leaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaving").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}
