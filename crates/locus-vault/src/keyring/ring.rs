//! A keyring that is open, and how it changes.

use std::{fmt, path::Path};

use locus_core::{Entropy, Timestamp};
use serde::{Deserialize, Serialize};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::{
    format::{self, Header, KEYS_MAX, Kept, NAME_BYTES_MAX, RECIPIENTS_MAX, Sealed, Slot},
    identity::{KEY_BYTES, RecipientKey, RingId, draw_secret, public_of, shared},
    ids::{KeyId, RecipientId},
    recipient::{Recipient, RecipientKind},
};
use crate::{
    cipher::{ContentKey, DataKey, Salt, Suite},
    error::{Result, VaultError},
};

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum KeyState {
    /// To seal and to open. Of each ring one key is active.
    Active,
    /// To open what was sealed when it was active.
    DecryptOnly,
    /// For nothing: the key itself was destroyed, and what it sealed is lost.
    Retired,
}

/// What is known about a key without having it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// What it may be used for.
    pub state: KeyState,
    /// When it was drawn.
    pub created_at: Timestamp,
    /// When it came to its state.
    pub changed_at: Timestamp,
}

/// What is known about a keyring without opening it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RingInfo {
    /// Which ring it is.
    pub id: RingId,
    /// How often it was written; 1 for a new ring.
    pub generation: u64,
    /// When it was written.
    pub written_at: Timestamp,
    /// Its keys, the oldest first.
    pub keys: Vec<KeyInfo>,
    /// Its recipients, in the order in which they were added.
    pub recipients: Vec<Recipient>,
}

/// A keyring as it was read, with its keys open. It stays what it is: a change of the file gives a new one. Keys are
/// overwritten when it is dropped, and shown by nothing.
pub struct Keyring {
    id: RingId,
    generation: u64,
    written_at: Timestamp,
    keys: Vec<Key>,
    slots: Vec<Slot>,
    secret: StaticSecret,
    opener: Opener,
}

struct Key {
    info: KeyInfo,
    /// `None` when it is retired.
    secret: Option<DataKey>,
}

/// Whoever opened a ring, so that it can be read again without asking.
#[derive(Clone)]
pub(super) struct Opener {
    pub(super) id: RecipientId,
    pub(super) secret: StaticSecret,
    /// The one ring that it opens, when that is known.
    pub(super) ring: Option<RingId>,
}

impl Keyring {
    /// The key to seal with.
    ///
    /// # Panics
    /// Never: a ring has one.
    #[must_use]
    pub fn active(&self) -> (KeyId, &DataKey) {
        let active = self.keys.iter().find(|key| key.info.state == KeyState::Active);
        active
            .and_then(|key| Some((key.info.id, key.secret.as_ref()?)))
            .expect("because it is checked when a ring is read, and kept by every change")
    }

    /// The key of this id, to open with.
    ///
    /// # Errors
    /// [`VaultError::UnknownKey`] when this ring does not have it, or has retired it. A ring that was written since it
    /// was read may have it: [`KeyringFile::refresh`](super::KeyringFile::refresh).
    pub fn key(&self, id: KeyId) -> Result<&DataKey> {
        let found = self.keys.iter().find(|key| key.info.id == id);
        found
            .and_then(|key| key.secret.as_ref())
            .ok_or(VaultError::UnknownKey { id, retired: found.is_some() })
    }

    /// What it is and whom it is for.
    #[must_use]
    pub fn info(&self) -> RingInfo {
        let keys = self.keys.iter().map(|key| key.info).collect();
        info(self.id, self.generation, self.written_at, keys, &self.slots)
    }

    /// The recipient that it was opened for.
    #[must_use]
    pub fn opened_for(&self) -> RecipientId {
        self.opener.id
    }

    pub(super) fn id(&self) -> RingId {
        self.id
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// A ring with one active key, for one recipient, who opened it.
    pub(super) fn new(
        secret: StaticSecret,
        first: Slot,
        opener: Opener,
        at: Timestamp,
        entropy: &dyn Entropy,
    ) -> Self {
        let id = RingId(public_of(&secret));
        let mut ring =
            Self { id, generation: 1, written_at: at, keys: Vec::new(), slots: vec![first], secret, opener };
        ring.push_active(at, entropy);
        ring
    }

    /// Gives it a new active key; the one that was is kept to decrypt.
    pub(super) fn rotate(&mut self, at: Timestamp, entropy: &dyn Entropy) -> Result<()> {
        if self.keys.len() >= KEYS_MAX {
            return Err(VaultError::KeyRefused {
                id: self.active().0,
                why: "cannot be followed: the ring is full",
            });
        }
        for key in self.keys.iter_mut().filter(|key| key.info.state == KeyState::Active) {
            key.info = KeyInfo { state: KeyState::DecryptOnly, changed_at: at, ..key.info };
        }
        self.push_active(at, entropy);
        Ok(())
    }

    fn push_active(&mut self, at: Timestamp, entropy: &dyn Entropy) {
        let id = KeyId::draw(at, entropy);
        let info = KeyInfo { id, state: KeyState::Active, created_at: at, changed_at: at };
        self.keys.push(Key { info, secret: Some(DataKey::draw(entropy)) });
    }

    /// Destroys a key.
    pub(super) fn retire(&mut self, id: KeyId, at: Timestamp) -> Result<()> {
        let key = self.keys.iter_mut().find(|key| key.info.id == id);
        let key = key.ok_or(VaultError::UnknownKey { id, retired: false })?;
        match key.info.state {
            KeyState::Active => Err(VaultError::KeyRefused { id, why: "is the active one: rotate first" }),
            KeyState::Retired => Err(VaultError::KeyRefused { id, why: "is retired already" }),
            KeyState::DecryptOnly => {
                key.secret = None;
                key.info = KeyInfo { state: KeyState::Retired, changed_at: at, ..key.info };
                Ok(())
            }
        }
    }

    pub(super) fn add(&mut self, slot: Slot) -> Result<()> {
        let why = if self.slots.len() >= RECIPIENTS_MAX {
            "is one too many"
        } else if self.slots.iter().any(|other| other.name == slot.name) {
            "has the name of another"
        } else if self.slots.iter().any(|other| other.public == slot.public) {
            "has the key of another"
        } else {
            self.slots.push(slot);
            return Ok(());
        };
        Err(VaultError::RecipientRefused { name: slot.name, why })
    }

    pub(super) fn remove(&mut self, id: RecipientId) -> Result<()> {
        let slot = self.slots.iter().find(|slot| slot.id == id);
        let slot = slot.ok_or(VaultError::RecipientNotFound { id })?;
        if id == self.opener.id {
            // Also so that one is left.
            let why = "is the one that the ring was opened for: open it for another first";
            return Err(VaultError::RecipientRefused { name: slot.name.clone(), why });
        }
        self.slots.retain(|slot| slot.id != id);
        Ok(())
    }

    /// Counts a change.
    pub(super) fn turn(&mut self, at: Timestamp) {
        self.generation = self.generation.saturating_add(1);
        self.written_at = at;
    }

    /// The file of this ring, sealed by a ring key that was never used before.
    pub(super) fn seal(&self, entropy: &dyn Entropy) -> Result<Vec<u8>> {
        let (salt, ring_key) = (Salt::draw(entropy), DataKey::draw(entropy));
        let slots = self.slots.iter().map(|slot| self.wrap(slot, &salt, &ring_key, entropy));
        let slots = slots.collect::<Result<_>>()?;
        let keys: Vec<_> = self.keys.iter().map(|key| key.info).collect();
        let header = Header {
            suite: Suite::Aes256GcmHkdfSha256,
            salt,
            ring: self.id,
            generation: self.generation,
            written_at: self.written_at,
            keys,
            slots,
        };
        let header = format::header_bytes(&header);
        let mut secrets = Zeroizing::new(Vec::with_capacity(KEY_BYTES * (1 + self.keys.len())));
        secrets.extend_from_slice(self.secret.as_bytes());
        for key in self.keys.iter().filter_map(|key| key.secret.as_ref()) {
            secrets.extend_from_slice(key.expose());
        }
        let sealed = ContentKey::derive(&ring_key, &salt, &format::bound(&header)).seal(&secrets);
        Ok(format::encode(&header, &sealed))
    }

    /// `slot` with this ring key wrapped for it.
    fn wrap(&self, slot: &Slot, salt: &Salt, ring_key: &DataKey, entropy: &dyn Entropy) -> Result<Slot> {
        let own = draw_secret(entropy);
        let ephemeral = public_of(&own);
        let between = shared([(&own, &slot.public), (&self.secret, &slot.public)]);
        let between = between.ok_or_else(|| VaultError::RecipientRefused {
            name: slot.name.clone(),
            why: "has a public key that shares the same secret with everybody",
        })?;
        let context = context(&self.id, &ephemeral, slot);
        let wrapped = ContentKey::derive(&between, salt, &context).seal(ring_key.expose());
        Ok(Slot { ephemeral, wrapped, ..slot.clone() })
    }

    /// The ring that was read from `path`, opened by `opener`.
    pub(super) fn open(path: &Path, file: Sealed, opener: Opener) -> Result<Self> {
        let Sealed { header, bound, sealed } = file;
        let slot = header.slots.iter().find(|slot| slot.id == opener.id);
        let slot = slot.ok_or_else(|| VaultError::NotARecipient { path: path.to_owned() })?;
        if opener.ring.is_some_and(|ring| ring != header.ring) || public_of(&opener.secret) != slot.public {
            return Err(tampered(path));
        }
        let context = context(&header.ring, &slot.ephemeral, slot);
        let ring_key = shared([(&opener.secret, &slot.ephemeral), (&opener.secret, &header.ring.0)])
            .and_then(|between| ContentKey::derive(&between, &header.salt, &context).open(&slot.wrapped).ok())
            .and_then(|ring_key| Some(DataKey::from_bytes(ring_key.first_chunk()?)))
            .ok_or_else(|| tampered(path))?;
        let secrets =
            ContentKey::derive(&ring_key, &header.salt, &bound).open(&sealed).map_err(|_| tampered(path))?;
        let (secrets, []) = secrets.as_chunks::<KEY_BYTES>() else { return Err(tampered(path)) };
        let mut secrets = secrets.iter();
        let secret =
            secrets.next().map(|secret| StaticSecret::from(*secret)).ok_or_else(|| tampered(path))?;
        if public_of(&secret) != header.ring.0 {
            return Err(tampered(path));
        }
        let mut keys = Vec::with_capacity(header.keys.len());
        for info in header.keys {
            let secret = match info.state {
                KeyState::Retired => None,
                _ => Some(secrets.next().map(DataKey::from_bytes).ok_or_else(|| tampered(path))?),
            };
            keys.push(Key { info, secret });
        }
        if secrets.next().is_some() {
            return Err(tampered(path));
        }
        let opener = Opener { ring: Some(header.ring), ..opener };
        Ok(Self {
            id: header.ring,
            generation: header.generation,
            written_at: header.written_at,
            keys,
            slots: header.slots,
            secret,
            opener,
        })
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring").field("info", &self.info()).finish_non_exhaustive()
    }
}

impl RingInfo {
    /// What a ring says of itself, whether that is proven or not.
    pub(super) fn of(header: &Header) -> Self {
        info(header.ring, header.generation, header.written_at, header.keys.clone(), &header.slots)
    }
}

fn info(id: RingId, generation: u64, written_at: Timestamp, keys: Vec<KeyInfo>, slots: &[Slot]) -> RingInfo {
    let recipients = slots
        .iter()
        .map(|slot| Recipient {
            id: slot.id,
            name: slot.name.clone(),
            kind: match &slot.kept {
                Kept::Outside => RecipientKind::PublicKey,
                Kept::Passphrase { cost, .. } => RecipientKind::Passphrase { cost: *cost },
                Kept::KeyWrap { provider, .. } => RecipientKind::KeyWrap { provider: provider.clone() },
            },
            key: RecipientKey(slot.public),
            added_at: slot.added_at,
        })
        .collect();
    RingInfo { id, generation, written_at, keys, recipients }
}

/// What a wrapped ring key is bound to.
fn context(ring: &RingId, ephemeral: &[u8; KEY_BYTES], slot: &Slot) -> Vec<u8> {
    [b"locus ring key".as_slice(), &ring.0, ephemeral, &slot.public, slot.id.as_bytes()].concat()
}

pub(super) fn tampered(path: &Path) -> VaultError {
    VaultError::Tampered { what: format!("keyring {}", path.display()).into(), source: None }
}

/// Why nobody can be called so.
pub(super) fn name_refused(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("has no name")
    } else if name.len() > NAME_BYTES_MAX {
        Some("has a name of more than 255 bytes")
    } else if name.chars().any(char::is_control) {
        Some("has a control character in its name")
    } else {
        None
    }
}
