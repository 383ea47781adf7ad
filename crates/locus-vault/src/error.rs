//! What can go wrong, with what a person needs to act on it.

use std::{borrow::Cow, path::PathBuf};

use locus_core::{BoxError, Error};

use crate::{
    cipher::Tampered,
    keyring::{KeyId, RecipientId},
};

/// `std`'s result with this crate's [`VaultError`].
pub type Result<T, E = VaultError> = std::result::Result<T, E>;

/// Every error of the vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The keyring has no key of this id, or had it and gave it up.
    #[error("the keyring {} key {id}", if *retired { "has retired" } else { "does not have" })]
    UnknownKey {
        /// The key's id, as what was sealed names it.
        id: KeyId,
        /// Whether it was retired.
        retired: bool,
    },
    /// What was sealed is not what is there now.
    #[error("{what} is not what was sealed")]
    Tampered {
        /// What it is.
        what: Cow<'static, str>,
        /// Where it differs, when that is known.
        source: Option<Tampered>,
    },
    /// A file cannot be read, is damaged, or was written by a newer version.
    #[error("cannot read {}", path.display())]
    ReadFailed {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: Error,
    },
    /// A file cannot be written. It holds what it held, unless its directory could not be synced.
    #[error("cannot write {}", path.display())]
    WriteFailed {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: Error,
    },
    /// A lock cannot be taken.
    #[error("cannot lock {}", path.display())]
    LockFailed {
        /// The lock's file.
        path: PathBuf,
        /// Why not.
        source: Error,
    },
    /// Somebody else changes the same thing at this moment.
    #[error("{} is locked{}", path.display(), if holder.is_empty() { String::new() } else { format!(" by {holder}") })]
    AlreadyLocked {
        /// What is locked.
        path: PathBuf,
        /// Who has it, as far as the lock's file tells.
        holder: String,
    },
    /// There is no keyring.
    #[error("there is no keyring {}", path.display())]
    KeyringNotFound {
        /// Where it would be.
        path: PathBuf,
    },
    /// There is a keyring already.
    #[error("there is a keyring {} already", path.display())]
    KeyringExists {
        /// Where it is.
        path: PathBuf,
    },
    /// What was given opens the keyring for none of its recipients: a wrong passphrase, or a key of somebody else.
    #[error("what was given does not open keyring {}", path.display())]
    NotARecipient {
        /// The keyring.
        path: PathBuf,
    },
    /// The keyring has no recipient of this id.
    #[error("the keyring has no recipient {id}")]
    RecipientNotFound {
        /// The id that was asked for.
        id: RecipientId,
    },
    /// A recipient cannot be added or removed.
    #[error("recipient {name} {why}")]
    RecipientRefused {
        /// Its name.
        name: String,
        /// Why not.
        why: &'static str,
    },
    /// The state of a key does not allow the call.
    #[error("key {id} {why}")]
    KeyRefused {
        /// The key.
        id: KeyId,
        /// Why not.
        why: &'static str,
    },
    /// Whoever keeps a recipient's key did not open or seal it.
    #[error("{provider} failed")]
    KeyWrapFailed {
        /// The [provider](crate::KeyWrap::provider).
        provider: String,
        /// Why.
        source: BoxError,
    },
    /// A text is no id.
    #[error("\"{value}\" {why}")]
    InvalidId {
        /// The beginning of the text.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is no schema of this id, or not in this version.
    #[error("there is no schema {id}{}", version.map(|version| format!(" in version {version}")).unwrap_or_default())]
    SchemaNotFound {
        /// The id that was asked for.
        id: String,
        /// The version that was asked for; `None` for any.
        version: Option<u32>,
    },
    /// A document is no schema that can be checked against.
    #[error("schema {id} is refused at \"{path}\": {why}")]
    SchemaInvalid {
        /// The schema's id.
        id: String,
        /// The place within it, as a JSON pointer; empty for the whole.
        path: String,
        /// What is wrong there.
        why: Cow<'static, str>,
    },
    /// A content is not as its schema says, or lacks a schema that it has to have.
    #[error("the content is refused at \"{path}\": {why}")]
    SchemaRejected {
        /// The place within the content, as a JSON pointer; empty for the whole.
        path: String,
        /// What is wrong there. Says nothing of the values.
        why: Cow<'static, str>,
    },
}
