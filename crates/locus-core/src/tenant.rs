//! Tenants: isolated owners of files.

use std::fmt::{self, Debug};

use serde::{Deserialize, Serialize};

use crate::{Properties, Result, StoragePath, TenantId, Timestamp};

/// Whether a tenant may work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum TenantStatus {
    /// Everything is allowed.
    Enabled = 1,
    /// Nothing is allowed but what the holder of a live lease needs to end it.
    Disabled = 2,
    /// Takes no new files and hands out none; reading stays.
    Suspended = 3,
}

impl fmt::Display for TenantStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TenantStatus::Enabled => "enabled",
            TenantStatus::Disabled => "disabled",
            TenantStatus::Suspended => "suspended",
        })
    }
}

/// What a caller wants of a tenant, so that its status can allow or refuse it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantAccess {
    /// Bring in a new file, or take one out for processing: only while enabled.
    Work,
    /// Look at files and their state, delete or reset them: while enabled or suspended.
    Read,
}

impl TenantStatus {
    /// Whether a tenant with this status allows `access`.
    #[must_use]
    pub const fn allows(self, access: TenantAccess) -> bool {
        match access {
            TenantAccess::Work => matches!(self, TenantStatus::Enabled),
            TenantAccess::Read => !matches!(self, TenantStatus::Disabled),
        }
    }
}

/// An isolated owner of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub id: TenantId,
    /// Whether it may work.
    pub status: TenantStatus,
    /// When it was created.
    pub created_at: Timestamp,
    /// When its status or properties last changed.
    pub updated_at: Timestamp,
    /// The caller's own key-value pairs.
    #[serde(default)]
    pub properties: Properties,
    /// Its share in fair choice among tenants; 1 is the ordinary share.
    #[serde(default = "one")]
    pub weight: u32,
    /// The first path component of its files on every volume.
    pub storage_path: StoragePath,
}

const fn one() -> u32 {
    1
}

impl Tenant {
    /// Refuses what this tenant's status does not allow.
    ///
    /// # Errors
    /// [`Error::TenantDisabled`](crate::Error::TenantDisabled), which carries the status.
    pub fn check(&self, access: TenantAccess) -> Result<()> {
        if self.status.allows(access) {
            Ok(())
        } else {
            Err(crate::Error::TenantDisabled { tenant: self.id.clone(), status: self.status })
        }
    }
}
