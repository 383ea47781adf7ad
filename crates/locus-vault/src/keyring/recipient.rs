//! Who can open a keyring.

use std::{fmt, sync::Arc};

use locus_core::Timestamp;
use serde::Serialize;

use super::{
    identity::{Identity, RecipientKey},
    ids::RecipientId,
    key_wrap::KeyWrap,
    passphrase::{Argon2Cost, Passphrase},
};

/// One who can open a keyring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recipient {
    /// Its id.
    pub id: RecipientId,
    /// What it was called when it was added.
    pub name: String,
    /// How it opens the ring.
    pub kind: RecipientKind,
    /// The public key that the ring is wrapped for.
    pub key: RecipientKey,
    /// When it was added.
    pub added_at: Timestamp,
}

/// How a recipient opens a keyring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RecipientKind {
    /// By a passphrase.
    Passphrase {
        /// What a guess costs.
        cost: Argon2Cost,
    },
    /// By the [`Identity`] of its public key.
    PublicKey,
    /// By a [`KeyWrap`].
    KeyWrap {
        /// Its [provider](KeyWrap::provider).
        provider: String,
    },
}

/// A recipient to be added.
#[derive(Debug)]
#[must_use = "a recipient does nothing before it is added to a keyring"]
pub struct NewRecipient {
    pub(super) name: String,
    pub(super) how: How,
}

pub(super) enum How {
    Passphrase { passphrase: Passphrase, cost: Argon2Cost },
    PublicKey(RecipientKey),
    KeyWrap(Arc<dyn KeyWrap>),
}

impl NewRecipient {
    /// Whoever knows the passphrase.
    pub fn passphrase(name: impl Into<String>, passphrase: Passphrase) -> Self {
        Self { name: name.into(), how: How::Passphrase { passphrase, cost: Argon2Cost::default() } }
    }

    /// Whoever has the [`Identity`] of this public key.
    pub fn public_key(name: impl Into<String>, key: RecipientKey) -> Self {
        Self { name: name.into(), how: How::PublicKey(key) }
    }

    /// Whoever may ask this service.
    pub fn key_wrap(name: impl Into<String>, wrap: Arc<dyn KeyWrap>) -> Self {
        Self { name: name.into(), how: How::KeyWrap(wrap) }
    }

    /// What a guess at the passphrase shall cost; nothing for other recipients.
    pub fn cost(mut self, by: Argon2Cost) -> Self {
        if let How::Passphrase { cost, .. } = &mut self.how {
            *cost = by;
        }
        self
    }
}

impl fmt::Debug for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            How::Passphrase { cost, .. } => f.debug_tuple("Passphrase").field(cost).finish(),
            How::PublicKey(key) => f.debug_tuple("PublicKey").field(key).finish(),
            How::KeyWrap(wrap) => f.debug_tuple("KeyWrap").field(&wrap.provider()).finish(),
        }
    }
}

/// What opens a keyring.
#[derive(Debug)]
#[non_exhaustive]
pub enum Unlock {
    /// A passphrase. Each recipient that has one is tried, which takes the time that it says.
    Passphrase(Passphrase),
    /// An identity, best [told of its ring](Identity::for_ring).
    Identity(Identity),
    /// A service. Each recipient of this provider is tried.
    KeyWrap(Arc<dyn KeyWrap>),
}
