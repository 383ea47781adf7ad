//! Encrypted entities with versions on a shared directory, their keys, and the cipher of the pool's encryption at rest.
//!
//! A [`Vault`] keeps entities, small secrets that change, in a directory that several processes and hosts share. Each is
//! sealed, has a version that every change raises by one, and is changed by one at a time. Beneath it lies a
//! [`BlobStore`], which needs no key. Keys come from a [`KeyringFile`]; [`Schemas`] say what contents must be like.
//!
//! ```
//! # use std::sync::Arc;
//! # use locus_core::{SystemClock, SystemEntropy};
//! # use locus_fs::OsDisk;
//! use locus_vault::{EntityId, Expect, Keyring, KeyringFile, NewRecipient, Passphrase, Vault, VaultError, VaultOptions};
//! use serde_json::{Value, json};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let (disk, clock) = (Arc::new(OsDisk), Arc::new(SystemClock::new()));
//! # let file = KeyringFile::new(disk, clock, Arc::new(SystemEntropy), dir.path().join("keyring"));
//! # let cost = locus_vault::Argon2Cost { memory_kib: 64, passes: 1, lanes: 1 };
//! # let operator = NewRecipient::passphrase("operator", Passphrase::new(b"sesame").ok_or("empty")?).cost(cost);
//! let keyring: Keyring = file.create(operator).await?;
//! let vault = Vault::open(dir.path().join("vault"), VaultOptions::new(Arc::new(keyring))).await?;
//!
//! let id: EntityId = "accounts/mail".parse()?;
//! let first = vault.put(&id, &json!({"user": "ada", "logins": 0}), Expect::Absent).await?;
//! vault.update(&id, |account| {
//!     account["logins"] = json!(1);
//!     Ok(())
//! })
//! .await?;
//! assert_eq!(vault.get(&id).await?.json::<Value>()?["logins"], 1);
//!
//! // Somebody was faster.
//! let late = vault.put(&id, &json!({}), Expect::Version(first)).await;
//! assert!(matches!(late, Err(VaultError::Conflict { .. })));
//! # Ok(())
//! # }
//! ```
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

#[cfg(feature = "entities")]
mod blobs;
mod cipher;
mod error;
#[cfg_attr(not(feature = "entities"), expect(dead_code, reason = "only entities are changed"))]
mod expect;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg_attr(not(feature = "entities"), expect(dead_code, reason = "only entities have names"))]
mod id;
#[cfg(feature = "entities")]
mod import;
mod keyring;
mod lock;
#[cfg_attr(not(feature = "entities"), expect(dead_code, reason = "only entities have metadata"))]
mod metadata;
#[cfg(feature = "entities")]
mod schemas;
mod sealer;
#[cfg(feature = "entities")]
mod vault;

#[cfg(feature = "entities")]
pub use blobs::{Blob, BlobOptions, BlobStore, EntityGuard, ListCursor, ListPage, SweepReport, Unreadable};
pub use cipher::{
    ContentKey, DataKey, SALT_BYTES, SEGMENT_BYTES, Salt, Segments, Suite, TAG_BYTES, Tampered, plain_len,
    sealed_len, segments_of,
};
pub use error::{Result, VaultError};
pub use expect::Expect;
pub use id::{DATABASE_BYTES_MAX, EntityId, KEY_BYTES_MAX};
pub use keyring::{
    Argon2Cost, Identity, InvalidKeyText, InvalidUuid, KeyId, KeyInfo, KeyState, KeyWrap, Keyring,
    KeyringFile, NewRecipient, Passphrase, Recipient, RecipientId, RecipientKey, RecipientKind, RingId,
    RingInfo, Unlock,
};
#[cfg(feature = "entities")]
pub use locus_fs::LockMode;
pub use metadata::{
    EntityMetadata, IV_BYTES_MAX, Incarnation, InvalidVersion, NAME_BYTES_MAX, SCHEMA_ID_BYTES_MAX, SealedBy,
    Version,
};
#[cfg(feature = "entities")]
pub use schemas::{SCHEMA_BYTES_MAX, Schema, SchemaMode, SchemaModes, Schemas};
pub use sealer::PoolSealer;
#[cfg(feature = "entities")]
pub use vault::{
    Caching, Entity, FAILURES_NAMED_MAX, ImportOptions, ImportReport, Imported, OnImport, OnRewrap,
    PutOptions, RetireOptions, RewrapOptions, RewrapProgress, RewrapReport, Vault, VaultOptions,
    VerifyReport,
};
