//! Encrypted entities with versions on a shared directory, their keys, and the cipher of the pool's encryption at rest.
//!
//! The cipher stands by itself: a [`DataKey`], a [`Salt`] drawn anew and a header give a [`ContentKey`], which seals one
//! content in segments. What was sealed opens only as a whole, in its order, under its own header; a part of it can be
//! read without the rest.
//!
//! ```
//! use locus_core::SystemEntropy;
//! use locus_vault::{ContentKey, DataKey, Salt};
//!
//! let data_key = DataKey::draw(&SystemEntropy);
//! let salt = Salt::draw(&SystemEntropy);
//! let sealed = ContentKey::derive(&data_key, &salt, b"who and what").seal(b"a secret");
//!
//! let opened = ContentKey::derive(&data_key, &salt, b"who and what").open(&sealed)?;
//! assert_eq!(*opened, b"a secret");
//! assert!(ContentKey::derive(&data_key, &salt, b"somebody else").open(&sealed).is_err());
//! # Ok::<(), locus_vault::Tampered>(())
//! ```

mod blobs;
mod cipher;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod id;
mod keyring;
mod lock;
mod metadata;
mod schemas;
mod vault;

pub use blobs::{Blob, BlobOptions, BlobStore, EntityGuard, ListCursor, ListPage, SweepReport, Unreadable};
pub use cipher::{
    ContentKey, DataKey, SALT_BYTES, SEGMENT_BYTES, Salt, Segments, Suite, TAG_BYTES, Tampered, plain_len,
    sealed_len, segments_of,
};
pub use error::{Result, VaultError};
pub use id::{DATABASE_BYTES_MAX, EntityId, KEY_BYTES_MAX};
pub use keyring::{
    Argon2Cost, Identity, InvalidKeyText, InvalidUuid, KeyId, KeyInfo, KeyState, KeyWrap, Keyring,
    KeyringFile, NewRecipient, Passphrase, Recipient, RecipientId, RecipientKey, RecipientKind, RingId,
    RingInfo, Unlock,
};
pub use metadata::{
    EntityMetadata, IV_BYTES_MAX, Incarnation, InvalidVersion, NAME_BYTES_MAX, SealedBy, Version,
};
pub use schemas::{SCHEMA_BYTES_MAX, Schema, SchemaMode, SchemaModes, Schemas};
pub use vault::{Caching, Entity, Expect, PutOptions, Vault, VaultOptions, VerifyReport};
