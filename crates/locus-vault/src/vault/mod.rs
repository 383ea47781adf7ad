//! The vault: entities that are sealed, versioned, and changed by one at a time.

mod entity;
mod import;
mod known;
mod options;
mod retire;
mod rewrap;
mod seal;
mod store;
mod verify;

pub use entity::Entity;
pub use import::{ImportOptions, ImportReport, Imported, OnImport};
pub use options::{Caching, PutOptions, VaultOptions};
pub use retire::RetireOptions;
pub use rewrap::{FAILURES_NAMED_MAX, OnRewrap, RewrapOptions, RewrapProgress, RewrapReport};
pub use store::Vault;
pub use verify::VerifyReport;
