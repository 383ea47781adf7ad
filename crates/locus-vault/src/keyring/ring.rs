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
    secret: DataKey,
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

    /// Which ring it is, through all its changes.
    pub(crate) fn id(&self) -> RingId {
        self.id
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) fn opener(&self) -> &Opener {
        &self.opener
    }

    /// A ring with one active key, for one recipient, who opened it.
    pub(super) fn new(
        secret: DataKey,
        first: Slot,
        opener: Opener,
        at: Timestamp,
        entropy: &dyn Entropy,
    ) -> Self {
        let id = RingId::of(&secret);
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

    /// Whether the key can be retired, as far as the ring knows.
    pub(crate) fn check_retire(&self, id: KeyId) -> Result<()> {
        let key = self.keys.iter().find(|key| key.info.id == id);
        match key.ok_or(VaultError::UnknownKey { id, retired: false })?.info.state {
            KeyState::Active => Err(VaultError::KeyRefused { id, why: "is the active one: rotate first" }),
            KeyState::Retired => Err(VaultError::KeyRefused { id, why: "is retired already" }),
            KeyState::DecryptOnly => Ok(()),
        }
    }

    /// Destroys a key.
    pub(super) fn retire(&mut self, id: KeyId, at: Timestamp) -> Result<()> {
        self.check_retire(id)?;
        for key in self.keys.iter_mut().filter(|key| key.info.id == id) {
            key.secret = None;
            key.info = KeyInfo { state: KeyState::Retired, changed_at: at, ..key.info };
        }
        Ok(())
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

    /// As a change of a ring that may be at a later generation than this one.
    pub(super) fn turn_after(&mut self, generation: u64, at: Timestamp) {
        self.generation = self.generation.max(generation);
        self.turn(at);
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
        secrets.extend_from_slice(self.secret.expose());
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
        let between = shared(&own, &slot.public);
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
        let ring_key = shared(&opener.secret, &slot.ephemeral)
            .and_then(|between| ContentKey::derive(&between, &header.salt, &context).open(&slot.wrapped).ok())
            .and_then(|ring_key| Some(DataKey::from_bytes(ring_key.first_chunk()?)))
            .ok_or_else(|| tampered(path))?;
        let secrets =
            ContentKey::derive(&ring_key, &header.salt, &bound).open(&sealed).map_err(|_| tampered(path))?;
        let (secrets, []) = secrets.as_chunks::<KEY_BYTES>() else { return Err(tampered(path)) };
        let mut secrets = secrets.iter();
        let secret = secrets.next().map(DataKey::from_bytes).ok_or_else(|| tampered(path))?;
        // Whoever made this ring had the secret that it is named by.
        if RingId::of(&secret) != header.ring {
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

#[cfg(test)]
mod tests {
    use locus_testkit::SeededEntropy;

    use super::*;
    use crate::keyring::format::{bound, decode, encode, header_bytes};

    const AT: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    fn path() -> &'static Path {
        Path::new("/vault/keyring")
    }

    fn slot(name: &str, secret: &StaticSecret, entropy: &dyn Entropy) -> Slot {
        let id = RecipientId::draw(AT, entropy);
        let public = public_of(secret);
        let (ephemeral, wrapped) = ([0; 32], Vec::new());
        Slot { id, name: name.into(), added_at: AT, public, kept: Kept::Outside, ephemeral, wrapped }
    }

    /// A ring with three keys, one of them retired, and two recipients; opened for the first, who knows the ring.
    fn ring(entropy: &SeededEntropy) -> Keyring {
        let (secret, own) = (DataKey::draw(entropy), draw_secret(entropy));
        let first = slot("first", &own, entropy);
        let opener = Opener { id: first.id, secret: own, ring: Some(RingId::of(&secret)) };
        let mut ring = Keyring::new(secret, first, opener, AT, entropy);
        ring.add(slot("second", &draw_secret(entropy), entropy)).unwrap();
        let gone = ring.active().0;
        ring.rotate(AT, entropy).unwrap();
        ring.rotate(AT, entropy).unwrap();
        ring.retire(gone, AT).unwrap();
        ring
    }

    fn secrets(ring: &Keyring) -> Vec<[u8; 32]> {
        let keys = ring.keys.iter().filter_map(|key| key.secret.as_ref()).map(|key| *key.expose());
        keys.chain([*ring.secret.expose(), *ring.opener.secret.as_bytes()]).collect()
    }

    fn reopen(ring: &Keyring, bytes: &[u8]) -> Result<Keyring> {
        let file =
            decode(path(), bytes).map_err(|source| VaultError::ReadFailed { path: path().into(), source })?;
        Keyring::open(path(), file, ring.opener.clone())
    }

    #[test]
    fn a_ring_survives_the_disk() {
        let random = SeededEntropy::new(1);
        let ring = ring(&random);
        let again = reopen(&ring, &ring.seal(&random).unwrap()).unwrap();
        assert_eq!(again.info(), ring.info());
        assert_eq!(secrets(&again), secrets(&ring));
    }

    #[test]
    fn no_secret_stands_in_the_file_or_is_shown() {
        let random = SeededEntropy::new(2);
        let ring = ring(&random);
        let bytes = ring.seal(&random).unwrap();
        let shown = format!("{ring:?} {ring:#?} {:?}", decode(path(), &bytes).unwrap());
        for secret in secrets(&ring) {
            for part in secret.chunks(8) {
                assert!(!bytes.windows(8).any(|window| window == part), "in the file");
                let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
                let numbers = format!("{part:?}");
                assert!(
                    !shown.to_lowercase().contains(&hex) && !shown.contains(numbers.trim_matches(['[', ']']))
                );
            }
        }
        assert!(shown.starts_with("Keyring { info: RingInfo {"), "{shown}");
    }

    /// Made right again, a checksum tells nothing: it is for accidents.
    #[test]
    fn any_changed_byte_is_noticed_though_the_checksum_was_made_right() {
        let random = SeededEntropy::new(3);
        let ring = ring(&random);
        let content = ring.seal(&random).unwrap().split_off(17);
        assert!(reopen(&ring, &format::summed(&content)).is_ok());
        for at in 0..content.len() {
            let mut bad = content.clone();
            bad[at] ^= 1;
            assert!(reopen(&ring, &format::summed(&bad)).is_err(), "byte {at}");
            assert!(reopen(&ring, &format::summed(&content[..at])).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_ring_of_somebody_else_does_not_open_by_a_recipient_taken_from_this_one() {
        let random = SeededEntropy::new(4);
        let (ours, mut theirs) = (ring(&random), ring(&random));
        theirs.slots = ours.slots.clone();
        // Under its own name it is another ring, and under ours it lacks our secret.
        for id in [theirs.id, ours.id] {
            theirs.id = id;
            let error = reopen(&ours, &theirs.seal(&random).unwrap()).unwrap_err();
            assert!(matches!(error, VaultError::Tampered { .. }), "{error}");
        }
        let unaware = Opener { ring: None, ..ours.opener.clone() };
        theirs.id = RingId::of(&theirs.secret);
        let file = decode(path(), &theirs.seal(&random).unwrap()).unwrap();
        assert!(Keyring::open(path(), file, unaware).is_ok(), "who does not know the ring cannot tell");
    }

    #[test]
    fn a_ring_whose_keys_are_too_few_or_too_many_is_none() {
        let random = SeededEntropy::new(5);
        let ring = ring(&random);
        let good = decode(path(), &ring.seal(&random).unwrap()).unwrap();
        // The state of a key is in the open; whether it is there is sealed. Sealed anew, as only a recipient can.
        for (from, to) in
            [(KeyState::DecryptOnly, KeyState::Retired), (KeyState::Retired, KeyState::DecryptOnly)]
        {
            let mut header = good.header.clone();
            header.keys.iter_mut().filter(|key| key.state == from).for_each(|key| key.state = to);
            let slot = &header.slots[0];
            let between = shared(&ring.opener.secret, &slot.ephemeral);
            let key = ContentKey::derive(
                &between.unwrap(),
                &header.salt,
                &context(&header.ring, &slot.ephemeral, slot),
            );
            let ring_key = DataKey::from_bytes(key.open(&slot.wrapped).unwrap().first_chunk().unwrap());
            let plain = ContentKey::derive(&ring_key, &header.salt, &good.bound).open(&good.sealed).unwrap();
            let bytes = header_bytes(&header);
            let sealed = ContentKey::derive(&ring_key, &header.salt, &bound(&bytes)).seal(&plain);
            let error = reopen(&ring, &encode(&bytes, &sealed)).unwrap_err();
            assert!(matches!(error, VaultError::Tampered { .. }), "{error}");
        }
    }

    #[test]
    fn a_full_ring_takes_no_more_keys_and_still_reads() {
        let random = SeededEntropy::new(6);
        let mut ring = ring(&random);
        while ring.keys.len() < KEYS_MAX {
            ring.rotate(AT, &random).unwrap();
        }
        let active = ring.active().0;
        assert!(matches!(ring.rotate(AT, &random), Err(VaultError::KeyRefused { id, .. }) if id == active));
        let bytes = ring.seal(&random).unwrap();
        assert!((bytes.len() as u64) < format::FILE_BYTES_MAX / 2, "{} bytes", bytes.len());
        assert_eq!(reopen(&ring, &bytes).unwrap().info(), ring.info());
    }
}
