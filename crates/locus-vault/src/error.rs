//! What can go wrong, with what a person needs to act on it.

use std::borrow::Cow;

use crate::{cipher::Tampered, keyring::KeyId};

/// Every error of the vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// No key of this id can be had from the keyring.
    #[error("the keyring has no key {id}")]
    UnknownKey {
        /// The key's id, as what was sealed names it.
        id: KeyId,
    },
    /// What was sealed is not what is there now.
    #[error("{what} is not what was sealed")]
    Tampered {
        /// What it is.
        what: Cow<'static, str>,
        /// Where it differs, when that is known.
        source: Option<Tampered>,
    },
}
