//! What a write can be told.

use locus_core::{Checksum, IdempotencyKey, Properties};

/// What goes with a new file beside its content. All of it is optional.
///
/// ```
/// # use locus_storage::WriteOptions;
/// let options = WriteOptions::new()
///     .original_name("scan.pdf")
///     .directory("/invoices/2026")
///     .property("source", "scanner-7")
///     .idempotency_key("scanner-7/2026-01-31/0042");
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "options do nothing until they are given to a write"]
pub struct WriteOptions {
    pub(super) original_name: Option<String>,
    pub(super) directory: Option<String>,
    pub(super) properties: Properties,
    pub(super) expected_checksum: Option<Checksum>,
    pub(super) idempotency_key: Option<IdempotencyKey>,
    pub(super) synced: bool,
}

impl WriteOptions {
    /// No name, no properties, directory `/`.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name the content had. Data only, at most 1,024 bytes; of it only a sanitised extension reaches a disk.
    pub fn original_name(mut self, name: impl Into<String>) -> Self {
        self.original_name = Some(name.into());
        self
    }

    /// The logical directory, in any spelling. At most 1,024 bytes and 32 levels.
    pub fn directory(mut self, directory: impl Into<String>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Adds one property. All keys and values together may take 1,024 bytes.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// Sets all properties. All keys and values together may take 1,024 bytes.
    pub fn properties(mut self, properties: impl Into<Properties>) -> Self {
        self.properties = properties.into();
        self
    }

    /// Refuses the content when it turns out to have another checksum.
    pub fn expected_checksum(mut self, checksum: Checksum) -> Self {
        self.expected_checksum = Some(checksum);
        self
    }

    /// Names the write: the same write made again returns the first key. At most 4,096 bytes, unique per tenant.
    pub fn idempotency_key(mut self, key: impl Into<IdempotencyKey>) -> Self {
        self.idempotency_key = Some(key.into());
        self
    }

    /// Makes the content durable before its record is written, as a pool that is `Durable` does with all. In one that is
    /// `Buffered` the next barrier then makes the record durable and has nothing else to do for this file: no other
    /// failure of its volume puts it in doubt. Costs a sync of its own, unless the content goes into the store.
    pub fn synced(mut self) -> Self {
        self.synced = true;
        self
    }
}
