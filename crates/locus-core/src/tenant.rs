//! Tenants: isolated owners of files.

use std::{
    fmt::{self, Debug},
    sync::Arc,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Properties, Result, StoragePath, TenantId, Timestamp,
    properties::{PROPERTIES_BYTES_MAX, check_size, properties_bytes},
};

/// Largest weight of a tenant.
pub const TENANT_WEIGHT_MAX: u32 = 1_000;

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
    /// Its share in fair choice among tenants, 1 to 1,000; 1 is the ordinary share.
    #[serde(default = "one")]
    pub weight: u32,
    /// The first path component of its files on every volume.
    pub storage_path: StoragePath,
}

const fn one() -> u32 {
    1
}

impl Tenant {
    /// Refuses properties that are over their bound of 1,024 bytes together.
    ///
    /// # Errors
    /// [`Error::TooLarge`](crate::Error::TooLarge).
    pub fn check_properties(properties: &Properties) -> Result<()> {
        check_size("properties", properties_bytes(properties), PROPERTIES_BYTES_MAX)
    }

    /// Refuses a weight that is not 1 to 1,000.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](crate::Error::InvalidArgument).
    pub fn check_weight(weight: u32) -> Result<()> {
        if (1..=TENANT_WEIGHT_MAX).contains(&weight) {
            Ok(())
        } else {
            Err(Error::InvalidArgument { name: "weight", why: "must be 1 to 1,000" })
        }
    }

    /// Refuses what this tenant's status does not allow.
    ///
    /// # Errors
    /// [`Error::TenantDisabled`](crate::Error::TenantDisabled), which carries the status.
    pub fn check(&self, access: TenantAccess) -> Result<()> {
        if self.status.allows(access) {
            Ok(())
        } else {
            Err(Error::TenantDisabled { tenant: self.id.clone(), status: self.status })
        }
    }
}

/// Names a tenant in calls, in one incarnation: a later tenant of the same name is another one. Cheap to clone.
///
/// It says who, never what is allowed: every call asks the [`TenantManager`], so a change of status is in force at
/// once for contexts obtained before it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantContext {
    id: TenantId,
    storage_path: StoragePath,
}

impl TenantContext {
    /// A context for a tenant whose files lie under `storage_path` on every volume.
    #[must_use]
    pub const fn new(id: TenantId, storage_path: StoragePath) -> Self {
        Self { id, storage_path }
    }

    /// The tenant's name.
    #[must_use]
    pub const fn id(&self) -> &TenantId {
        &self.id
    }

    /// The first path component of its files on every volume.
    #[must_use]
    pub const fn storage_path(&self) -> &StoragePath {
        &self.storage_path
    }
}

impl From<&Tenant> for TenantContext {
    fn from(tenant: &Tenant) -> Self {
        Self::new(tenant.id.clone(), tenant.storage_path.clone())
    }
}

impl fmt::Display for TenantContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.id, f)
    }
}

/// The tenant seam: the keeper of tenants, asked at every call whether a tenant may work.
///
/// Changes are durable when their method returns, and in force for every call that begins afterwards.
#[async_trait]
pub trait TenantManager: Debug + Send + Sync {
    /// Creates an enabled tenant. Of two that create one tenant, one wins; a failed create leaves nothing. A later tenant of
    /// the name of one that was removed gets another storage path; one whose record was lost gets its own back.
    ///
    /// # Errors
    /// [`Error::TenantExists`]; [`Error::TenantLeaving`]; [`Error::TooLarge`] for properties over their bound.
    ///
    /// # Cancel safety
    /// After a dropped future the tenant is either wholly there or not at all.
    async fn create(&self, id: &TenantId, properties: Properties) -> Result<Arc<Tenant>>;

    /// The tenant, when there is one of this name.
    async fn try_get(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>>;

    /// The tenant.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`].
    async fn get(&self, id: &TenantId) -> Result<Arc<Tenant>> {
        self.try_get(id).await?.ok_or_else(|| Error::TenantNotFound { tenant: id.clone() })
    }

    /// All tenants, in order of their names.
    async fn list(&self) -> Result<Vec<Arc<Tenant>>>;

    /// Sets a tenant's status. The status it has already is no change.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`], [`Error::TenantLeaving`], [`Error::TenantLost`]. After any error the status in force is what it was; where a disk failed to say
    /// whether the change is on it, reopening decides.
    async fn set_status(&self, id: &TenantId, status: TenantStatus) -> Result<Arc<Tenant>>;

    /// Replaces a tenant's properties.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::TooLarge`] for properties over their bound; else as
    /// [`set_status`](Self::set_status).
    async fn set_properties(&self, id: &TenantId, properties: Properties) -> Result<Arc<Tenant>>;

    /// Sets a tenant's share in fair choice among tenants, 1 to 1,000.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::InvalidArgument`] for a weight out of its range; else as
    /// [`set_status`](Self::set_status).
    async fn set_weight(&self, id: &TenantId, weight: u32) -> Result<Arc<Tenant>>;

    /// The tenant of a context, when its present status allows `access`. Answers from memory and never blocks.
    ///
    /// # Errors
    /// As [`check`](Self::check); [`Error::TenantNotFound`] also when the context is that of an earlier tenant of this name.
    fn admit(&self, context: &TenantContext, access: TenantAccess) -> Result<Arc<Tenant>> {
        let tenant = self.check(context.id(), access)?;
        if tenant.storage_path == *context.storage_path() {
            Ok(tenant)
        } else {
            Err(Error::TenantNotFound { tenant: context.id().clone() })
        }
    }

    /// The tenant, when its present status allows `access`. Answers from memory and never blocks.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`], [`Error::TenantDisabled`].
    fn check(&self, id: &TenantId, access: TenantAccess) -> Result<Arc<Tenant>>;

    /// Whether there is a tenant of this name, whatever its status. Answers from memory and never blocks.
    fn is_known(&self, id: &TenantId) -> bool;
}
