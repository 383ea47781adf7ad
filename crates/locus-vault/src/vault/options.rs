//! How a vault is opened, and how something is put into it.

use std::{sync::Arc, time::Duration};

use locus_core::{Clock, Entropy};
use locus_fs::{DirLock, Disk};

use crate::{
    blobs::BlobOptions,
    expect::Expect,
    keyring::{Keyring, KeyringFile},
    schemas::SchemaModes,
};

/// What a vault keeps of what it opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Caching {
    /// Nothing.
    Off,
    /// The content, which is believed only after a look at the file: it must still be the very write that was opened.
    #[default]
    Strict,
    /// The content, which is believed for so long without a look: what others wrote meanwhile is not seen. What this
    /// vault wrote itself is seen at once.
    Ttl(Duration),
}

/// How a [`Vault`](super::Vault) is opened.
#[must_use = "options do nothing before something is opened with them"]
#[derive(Debug, Clone)]
pub struct VaultOptions {
    pub(super) blobs: BlobOptions,
    pub(super) keyring: Arc<Keyring>,
    pub(super) keyring_file: Option<KeyringFile>,
    pub(super) writer: String,
    pub(super) caching: Caching,
    pub(super) cache_bytes_max: u64,
    pub(super) tombstone_retention: Duration,
    pub(super) schemas: SchemaModes,
}

impl VaultOptions {
    /// With these keys.
    pub fn new(keyring: Arc<Keyring>) -> Self {
        Self {
            blobs: BlobOptions::default(),
            keyring,
            keyring_file: None,
            writer: DirLock::me(),
            caching: Caching::default(),
            cache_bytes_max: 16 << 20,
            tombstone_retention: Duration::from_secs(7 * 24 * 3_600),
            schemas: SchemaModes::default(),
        }
    }

    /// The file that the keys were read from (none). It is read again when an entity names a key that they lack, and before
    /// an entity is created: so what another process rotated is noticed. Without it see
    /// [`set_keyring`](super::Vault::set_keyring).
    pub fn keyring_file(self, keyring_file: KeyringFile) -> Self {
        Self { keyring_file: Some(keyring_file), ..self }
    }

    /// On this disk instead of the machine's own.
    pub fn disk(self, disk: Arc<dyn Disk>) -> Self {
        Self { blobs: self.blobs.disk(disk), ..self }
    }

    /// By this clock instead of the machine's own.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { blobs: self.blobs.clock(clock), ..self }
    }

    /// With this randomness instead of the machine's own.
    pub fn entropy(self, entropy: Arc<dyn Entropy>) -> Self {
        Self { blobs: self.blobs.entropy(entropy), ..self }
    }

    /// Who writes, as the metadata say it: at most 255 bytes (the process and its machine).
    pub fn writer(self, writer: impl Into<String>) -> Self {
        Self { writer: writer.into(), ..self }
    }

    /// How long a change waits for an entity that somebody else holds (30 s).
    pub fn lock_timeout(self, lock_timeout: Duration) -> Self {
        Self { blobs: self.blobs.lock_timeout(lock_timeout), ..self }
    }

    /// Longest content, in bytes (64 MiB): one is held in memory as a whole. More is neither written nor read.
    pub fn content_bytes_max(self, content_bytes_max: u64) -> Self {
        Self { blobs: self.blobs.content_bytes_max(content_bytes_max), ..self }
    }

    /// Whether it is only to be read (no): then nothing at all is written to the directory, and it need not lock.
    pub fn read_only(self, read_only: bool) -> Self {
        Self { blobs: self.blobs.read_only(read_only), ..self }
    }

    /// What is kept of what was opened ([`Caching::Strict`]).
    pub fn caching(self, caching: Caching) -> Self {
        Self { caching, ..self }
    }

    /// How much content is kept, in bytes (16 MiB). One content of more than half of it is not kept.
    pub fn cache_bytes_max(self, cache_bytes_max: u64) -> Self {
        Self { cache_bytes_max, ..self }
    }

    /// How long a deleted entity is remembered (7 days): created again meanwhile it goes on with its numbers.
    pub fn tombstone_retention(self, tombstone_retention: Duration) -> Self {
        Self { tombstone_retention, ..self }
    }

    /// Of which databases contents have to keep to a schema (where they name one that is there).
    pub fn schemas(self, schemas: SchemaModes) -> Self {
        Self { schemas, ..self }
    }
}

/// How something is put into a vault. An [`Expect`] is one by itself.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PutOptions {
    /// What is expected to be there.
    pub expect: Expect,
    /// The schema that the content keeps to, by its name; without one it is the schema of what is there. A content that
    /// names a schema is JSON, unless nothing is checked in its database.
    pub schema: Option<String>,
}

impl PutOptions {
    /// Expects this.
    #[must_use]
    pub fn expect(self, expect: Expect) -> Self {
        Self { expect, ..self }
    }

    /// Keeps to this schema, of at most [`SCHEMA_ID_BYTES_MAX`](crate::SCHEMA_ID_BYTES_MAX) bytes.
    #[must_use]
    pub fn schema(self, schema: impl Into<String>) -> Self {
        Self { schema: Some(schema.into()), ..self }
    }
}

impl From<Expect> for PutOptions {
    fn from(expect: Expect) -> Self {
        Self { expect, ..Self::default() }
    }
}
