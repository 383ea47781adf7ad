//! The tenant manager: one small file per tenant, replaced whole and cached.
//!
//! [`TenantDirectory`] implements [`TenantManager`](locus_core::TenantManager) over a directory. All tenants are read
//! when it is opened; afterwards a question about a tenant takes no disk access, and a change is durable before it is
//! in force.
//!
//! ```
//! # use std::sync::Arc;
//! # use locus_core::{Properties, SystemClock, TenantAccess, TenantId, TenantManager, TenantStatus};
//! # use locus_fs::OsDisk;
//! # use locus_tenant::TenantDirectory;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temp = tempfile::tempdir()?;
//! let dir = temp.path().join("tenants");
//! let tenants = TenantDirectory::open(Arc::new(OsDisk), Arc::new(SystemClock::new()), dir)?;
//! let acme = TenantId::parse("acme")?;
//! tenants.create(&acme, Properties::new()).await?;
//! assert!(tenants.check(&acme, TenantAccess::Work).is_ok());
//!
//! tenants.set_status(&acme, TenantStatus::Suspended).await?;
//! assert!(tenants.check(&acme, TenantAccess::Work).is_err());
//! assert!(tenants.check(&acme, TenantAccess::Read).is_ok());
//! # Ok(())
//! # }
//! ```

mod directory;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod record;
mod removal;
mod removed;

pub use directory::TenantDirectory;
pub use removal::Removal;
