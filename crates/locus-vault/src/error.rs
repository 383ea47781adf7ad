//! What can go wrong, with what a person needs to act on it.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use locus_core::{BoxError, Error, ErrorKind, Outcome};
use locus_fs::LockError;

use crate::{
    cipher::Tampered,
    expect::Expect,
    id::EntityId,
    keyring::{KeyId, RecipientId, RingId},
    metadata::Version,
};

/// `std`'s result with this crate's [`VaultError`].
pub type Result<T, E = VaultError> = std::result::Result<T, E>;

/// Every error of the vault. [`kind`](VaultError::kind) says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// There is no entity of this name, or it was deleted.
    #[error("there is no entity {id}")]
    FileNotFound {
        /// The name that was asked for.
        id: EntityId,
    },
    /// A text is no name of an entity, or of a schema.
    #[error("\"{value}\" {why}")]
    InvalidId {
        /// The beginning of the text.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An argument of the call is out of its range.
    #[error("argument {name} {why}")]
    InvalidArgument {
        /// The argument's name.
        name: &'static str,
        /// What is wrong with it and what would be right.
        why: &'static str,
    },
    /// Something is larger than its bound.
    #[error("{what} is {size}, more than the {limit} that are allowed")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// The entity is not in the version that was expected. Nothing was changed.
    #[error("entity {id} {}, where {expected} was expected", version_or_none(*found))]
    Conflict {
        /// The entity.
        id: EntityId,
        /// What was expected.
        expected: Expect,
        /// The version that is there; `None` when there is none, or it was deleted.
        found: Option<Version>,
    },
    /// The change that was to be made failed. Nothing was written.
    #[error("entity {id} was not changed")]
    ChangeFailed {
        /// The entity.
        id: EntityId,
        /// As the change said it.
        source: BoxError,
    },
    /// The content is no JSON, or none of the type that was asked for.
    #[error("the content of entity {id} is no JSON of the type asked for, at line {line}, column {column}")]
    NotJson {
        /// The entity.
        id: EntityId,
        /// Where: the line, from 1 on; 0 when it is no place in a text.
        line: usize,
        /// And the column.
        column: usize,
    },
    /// The entity is an older version than this process has seen: somebody put an old file back.
    #[error("entity {id} is in version {found}, which is older than {seen}, seen before")]
    RolledBack {
        /// The entity.
        id: EntityId,
        /// What was seen.
        seen: Version,
        /// What is there.
        found: Version,
    },
    /// Somebody else sealed it, who alone can open it.
    #[error("entity {id} was sealed by somebody else, with {algorithm}")]
    Foreign {
        /// The entity.
        id: EntityId,
        /// What they say of it.
        algorithm: String,
    },
    /// The directory cannot be used: several processes could not share it.
    #[error("{} cannot be used: {why}", dir.display())]
    UnfitDirectory {
        /// The directory.
        dir: PathBuf,
        /// What it does not do.
        why: &'static str,
    },
    /// It was opened to be read.
    #[error("the vault in {} is open to be read only", dir.display())]
    ReadOnly {
        /// Its directory.
        dir: PathBuf,
    },
    /// It is being closed.
    #[error("the vault is being closed")]
    ShuttingDown,
    /// Somebody else held a lock all the time that was given.
    #[error("{} is locked{}, still after {waited:?}", path.display(), by(holder))]
    LockTimeout {
        /// What is locked.
        path: PathBuf,
        /// Who had it at the end, as far as the lock's file tells.
        holder: String,
        /// The time that was given.
        waited: Duration,
    },
    /// A lock was not let go in good order. Its file is closed nevertheless.
    #[error("cannot unlock {}", path.display())]
    UnlockFailed {
        /// The lock's file.
        path: PathBuf,
        /// Why not.
        source: Error,
    },
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
    #[error("{} is locked{}", path.display(), by(holder))]
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
    /// The keyring that is to be replaced has been written since the one that was given: it may have keys that only it has.
    #[error("keyring {} is of generation {found}, newer than {given}", path.display())]
    KeyringNewer {
        /// Where it is.
        path: PathBuf,
        /// Its generation.
        found: u64,
        /// That of the one that was given.
        given: u64,
    },
    /// What was given opens the keyring for none of its recipients: a wrong passphrase, or a key of somebody else.
    #[error("what was given does not open keyring {}", path.display())]
    NotARecipient {
        /// The keyring.
        path: PathBuf,
    },
    /// The vault's entities are sealed by the keys of another keyring.
    #[error("the vault in {} is sealed by keyring {expected}, not by {found}", dir.display())]
    OtherKeyring {
        /// The vault's directory.
        dir: PathBuf,
        /// The keyring that its marker names.
        expected: RingId,
        /// The one that was given.
        found: RingId,
    },
    /// A file of an older layout cannot be taken in.
    #[error("{} is not imported: {why}", path.display())]
    NotImportable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it. Says nothing of a content.
        why: Cow<'static, str>,
    },
    /// A key cannot be retired while something is sealed by it, or may be.
    #[error("key {id} is still needed by {entities} entities or contents{}", unread(*unreadable))]
    KeyInUse {
        /// The key.
        id: KeyId,
        /// Entities that name it, deleted ones that are remembered included (rewrap first), or contents of a pool.
        entities: u64,
        /// Files that cannot be read, and may name it.
        unreadable: u64,
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

fn unread(unreadable: u64) -> String {
    if unreadable == 0 { String::new() } else { format!(", and perhaps by {unreadable} that cannot be read") }
}

fn by(holder: &str) -> String {
    if holder.is_empty() { String::new() } else { format!(" by {holder}") }
}

fn version_or_none(found: Option<Version>) -> String {
    found.map_or_else(|| "is not there".to_owned(), |found| format!("is in version {found}"))
}

impl VaultError {
    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        use VaultError as E;
        match self {
            E::FileNotFound { .. }
            | E::InvalidId { .. }
            | E::InvalidArgument { .. }
            | E::TooLarge { .. }
            | E::ChangeFailed { .. }
            | E::NotJson { .. }
            | E::Foreign { .. }
            | E::ReadOnly { .. }
            | E::KeyringNotFound { .. }
            | E::KeyringExists { .. }
            | E::KeyringNewer { .. }
            | E::NotARecipient { .. }
            | E::RecipientNotFound { .. }
            | E::RecipientRefused { .. }
            | E::KeyRefused { .. }
            | E::OtherKeyring { .. }
            | E::KeyInUse { .. }
            | E::NotImportable { .. }
            | E::SchemaNotFound { .. }
            | E::SchemaInvalid { .. }
            | E::SchemaRejected { .. } => ErrorKind::FixCall,
            E::Conflict { .. } | E::KeyWrapFailed { .. } => ErrorKind::Retry,
            E::AlreadyLocked { .. } | E::LockTimeout { .. } | E::ShuttingDown => ErrorKind::Wait,
            E::RolledBack { .. }
            | E::UnfitDirectory { .. }
            | E::UnlockFailed { .. }
            | E::UnknownKey { .. }
            | E::Tampered { .. }
            | E::ReadFailed { .. }
            | E::WriteFailed { .. }
            | E::LockFailed { .. } => ErrorKind::Operator,
        }
    }

    /// What became of the change that the call was to make. Only a directory that could not be synced leaves it open: what
    /// was written is there, and a power cut may take it back.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::WriteFailed { path, source: Error::Io { op: "sync", path: synced, .. } }
                if path.parent() == Some(synced) =>
            {
                Outcome::Unknown
            }
            _ => Outcome::NotDone,
        }
    }

    /// A read that failed.
    #[cfg(feature = "entities")]
    pub(crate) fn read(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::ReadFailed { source: Error::io(op, &path)(source), path }
    }

    /// A write that failed.
    #[cfg(feature = "entities")]
    pub(crate) fn write(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::WriteFailed { source: Error::io(op, &path)(source), path }
    }
}

impl From<LockError> for VaultError {
    fn from(error: LockError) -> Self {
        let text = |holder: Option<locus_fs::LockHolder>| holder.map_or_else(String::new, |h| h.to_string());
        match error {
            LockError::AlreadyLocked { path, holder } => Self::AlreadyLocked { path, holder: text(holder) },
            LockError::LockTimeout { path, holder, waited } => {
                Self::LockTimeout { path, holder: text(holder), waited }
            }
            LockError::LockFailed { path, source } => {
                Self::LockFailed { source: Error::io("lock", &path)(source), path }
            }
            LockError::UnlockFailed { path, source } => {
                Self::UnlockFailed { source: Error::io("unlock", &path)(source), path }
            }
            _ => Self::ShuttingDown,
        }
    }
}
