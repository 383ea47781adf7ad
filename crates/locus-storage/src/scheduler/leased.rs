//! A file in a worker's hands.

use locus_core::{FileKey, FileLocation, Lease, LogicalDir, Properties, StoragePath, TenantContext};

/// A leased file: what a worker needs to know to process it, and the lease to end that with. All of it as of the moment
/// it was leased.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeasedFile {
    /// Which file.
    pub key: FileKey,
    /// Whose.
    pub tenant: TenantContext,
    /// The caller's own grouping.
    pub directory: LogicalDir,
    /// Length of the content, in bytes.
    pub size: u64,
    /// The name the content had. Data only: never use it as a path unchecked.
    pub original_name: Option<String>,
    /// Which delivery this is; 1 is the first.
    pub attempt: u32,
    /// How many times it failed before.
    pub retry_count: u32,
    /// The right to process it.
    pub lease: Lease,
    /// The caller's own key-value pairs.
    pub properties: Properties,
    location: Box<FileLocation>,
}

impl LeasedFile {
    pub(super) fn new(lease: Lease, location: FileLocation, owner: StoragePath) -> Self {
        let info = &location.info;
        Self {
            key: info.key,
            tenant: TenantContext::new(info.tenant.clone(), owner),
            directory: info.directory.clone(),
            size: info.size,
            original_name: info.original_name.clone(),
            attempt: lease.attempt,
            retry_count: info.retry_count,
            lease,
            properties: info.properties.clone(),
            location: Box::new(location),
        }
    }

    /// What was known about it when it was leased: its checksum, its volume, its path.
    #[must_use]
    pub const fn location(&self) -> &FileLocation {
        &self.location
    }
}
