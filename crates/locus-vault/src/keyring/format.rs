//! A keyring on the disk.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `LKEYRING` |
//! | 1 | format, 1 |
//! | 8 | the first 8 bytes of BLAKE3 over the format and all that follows |
//! | 4 | length of the header, little-endian |
//! | .. | the header in postcard, see [`Header`] |
//! | rest | the ring's secret (32 bytes) and each key that is not retired (32 bytes each, in the header's order), sealed with the ring key |
//!
//! What was sealed is bound to `LKEYRING`, the format and the header's bytes.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{borrow::Cow, collections::HashSet, path::Path};

use locus_core::{Error, Hasher, Result, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    identity::{KEY_BYTES, RingId},
    ids::RecipientId,
    passphrase::Argon2Cost,
    ring::{KeyInfo, KeyState},
};
use crate::cipher::{Salt, Suite, TAG_BYTES};

/// No keyring is longer, in bytes.
pub(super) const FILE_BYTES_MAX: u64 = 2 << 20;
/// Keys of a ring, retired ones too.
pub(super) const KEYS_MAX: usize = 4_096;
/// Recipients of a ring.
pub(super) const RECIPIENTS_MAX: usize = 64;
/// Longest name of a recipient or a provider, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 255;
/// The most that a service makes of a recipient's secret, in bytes.
pub(super) const WRAPPED_BYTES_MAX: usize = 8 << 10;
/// A recipient's secret with the ring that it opens.
pub(super) const SLOT_SECRET_BYTES: usize = 2 * KEY_BYTES;

const MAGIC: &[u8; 8] = b"LKEYRING";
const FORMAT: u8 = 1;

/// What is readable without a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) suite: Suite,
    pub(super) salt: Salt,
    pub(super) ring: RingId,
    pub(super) generation: u64,
    pub(super) written_at: Timestamp,
    pub(super) keys: Vec<KeyInfo>,
    pub(super) slots: Vec<Slot>,
}

/// A recipient, and the ring key wrapped for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Slot {
    pub(super) id: RecipientId,
    pub(super) name: String,
    pub(super) added_at: Timestamp,
    pub(super) public: [u8; KEY_BYTES],
    pub(super) kept: Kept,
    pub(super) ephemeral: [u8; KEY_BYTES],
    pub(super) wrapped: Vec<u8>,
}

/// Where the secret half of a recipient's key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kept {
    /// With the recipient.
    Outside,
    /// Here, sealed by a passphrase.
    Passphrase { salt: Salt, cost: Argon2Cost, sealed: Vec<u8> },
    /// Here, sealed by a service.
    KeyWrap { provider: String, sealed: Vec<u8> },
}

/// A keyring as it was read.
#[derive(Debug)]
pub(super) struct Sealed {
    pub(super) header: Header,
    /// What the sealed bytes are bound to.
    pub(super) bound: Vec<u8>,
    pub(super) sealed: Vec<u8>,
}

pub(super) fn header_bytes(header: &Header) -> Vec<u8> {
    postcard::to_stdvec(header).expect("because every field can be written to memory")
}

/// What sealed bytes are bound to, beside this header.
pub(super) fn bound(header: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), &[FORMAT], header].concat()
}

pub(super) fn encode(header: &[u8], sealed: &[u8]) -> Vec<u8> {
    let len = u32::try_from(header.len()).expect("because a ring has few keys and recipients").to_le_bytes();
    summed(&[&len, header, sealed].concat())
}

/// A file with this content.
pub(super) fn summed(content: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), &[FORMAT], &checksum(FORMAT, content), content].concat()
}

/// The keyring in `bytes`, which were read from `path`. What it says is whole, and not yet proven.
pub(super) fn decode(path: &Path, bytes: &[u8]) -> Result<Sealed> {
    let corrupt =
        |why: &'static str| Error::Corrupt { place: path.display().to_string(), why: Cow::Borrowed(why) };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| corrupt("it does not begin as a keyring"))?;
    let (&format, rest) = rest.split_first().ok_or_else(|| corrupt("it ends before its format"))?;
    if format > FORMAT {
        return Err(Error::NewerFormat {
            place: path.display().to_string(),
            found: u32::from(format),
            supported: u32::from(FORMAT),
        });
    }
    let (sum, content) =
        rest.split_first_chunk::<8>().ok_or_else(|| corrupt("it ends before its content"))?;
    if *sum != checksum(format, content) {
        return Err(corrupt("its checksum does not match its content"));
    }
    let (len, rest) = content.split_first_chunk::<4>().ok_or_else(|| corrupt("it ends before its header"))?;
    let (header, sealed) = usize::try_from(u32::from_le_bytes(*len))
        .ok()
        .and_then(|len| rest.split_at_checked(len))
        .ok_or_else(|| corrupt("it ends within its header"))?;
    let bound = bound(header);
    let header: Header = match postcard::take_from_bytes(header) {
        Ok((header, [])) => header,
        _ => return Err(corrupt("its header is none of a keyring")),
    };
    match wrong(&header) {
        Some(why) => Err(corrupt(why)),
        None => Ok(Sealed { header, bound, sealed: sealed.to_vec() }),
    }
}

/// What no ring that was written says.
fn wrong(header: &Header) -> Option<&'static str> {
    let Header { keys, slots, .. } = header;
    if !distinct(keys.iter().map(|key| key.id)) {
        return Some("it has a key twice");
    }
    if !distinct(slots.iter().map(|slot| slot.id)) || !distinct(slots.iter().map(|slot| slot.public)) {
        return Some("it has a recipient twice");
    }
    if keys.iter().filter(|key| key.state == KeyState::Active).count() != 1 {
        return Some("it has not one active key");
    }
    if keys.len() > KEYS_MAX {
        return Some("it has too many keys");
    }
    if !(1..=RECIPIENTS_MAX).contains(&slots.len()) {
        return Some("it has no recipient, or too many");
    }
    slots.iter().find_map(|slot| {
        if slot.wrapped.len() != KEY_BYTES.saturating_add(TAG_BYTES) {
            return Some("it has a wrapped key of a wrong length");
        }
        if !(1..=NAME_BYTES_MAX).contains(&slot.name.len()) {
            return Some("it has a recipient whose name is empty or too long");
        }
        match &slot.kept {
            Kept::Outside => None,
            Kept::Passphrase { cost, sealed, .. } => cost.refused().or_else(|| {
                (sealed.len() != SLOT_SECRET_BYTES.saturating_add(TAG_BYTES))
                    .then_some("it has a sealed secret of a wrong length")
            }),
            Kept::KeyWrap { provider, sealed } => {
                let good =
                    (1..=NAME_BYTES_MAX).contains(&provider.len()) && sealed.len() <= WRAPPED_BYTES_MAX;
                (!good).then_some("it has a recipient whose provider or secret is too long")
            }
        }
    })
}

fn distinct<T: std::hash::Hash + Eq>(mut items: impl Iterator<Item = T>) -> bool {
    let mut seen = HashSet::new();
    items.all(|item| seen.insert(item))
}

fn checksum(format: u8, content: &[u8]) -> [u8; 8] {
    let mut hasher = Hasher::new();
    hasher.update(&[format]);
    hasher.update(content);
    let sum = hasher.finish();
    *sum.as_bytes().first_chunk().expect("because a checksum has 32 bytes")
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests change what they wrote")]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::keyring::ids::KeyId;

    fn header() -> Header {
        let at = Timestamp::from_micros(7);
        let key =
            |id, state| KeyInfo { id: KeyId::from_bytes([id; 16]), state, created_at: at, changed_at: at };
        let slot = |id: u8, kept| Slot {
            id: RecipientId::from_bytes([id; 16]),
            name: format!("recipient {id}"),
            added_at: at,
            public: [id; 32],
            kept,
            ephemeral: [9; 32],
            wrapped: vec![1; 48],
        };
        let cost = Argon2Cost::default();
        Header {
            suite: Suite::Aes256GcmHkdfSha256,
            salt: Salt::from_bytes([3; 32]),
            ring: RingId([4; 32]),
            generation: 5,
            written_at: at,
            keys: vec![key(1, KeyState::Retired), key(2, KeyState::DecryptOnly), key(3, KeyState::Active)],
            slots: vec![
                slot(1, Kept::Outside),
                slot(2, Kept::Passphrase { salt: Salt::from_bytes([5; 32]), cost, sealed: vec![2; 80] }),
                slot(3, Kept::KeyWrap { provider: "kms".into(), sealed: vec![3; 8 << 10] }),
            ],
        }
    }

    fn read(header: &Header) -> Result<Sealed> {
        decode(Path::new("/vault/keyring"), &encode(&header_bytes(header), b"sealed"))
    }

    #[test]
    fn a_header_survives_the_disk() {
        let file = read(&header()).unwrap();
        assert_eq!((&file.header, file.sealed.as_slice()), (&header(), b"sealed".as_slice()));
        assert_eq!(file.bound, bound(&header_bytes(&header())));
    }

    #[rstest]
    #[case::no_recipient(|header: &mut Header| header.slots.clear(), "no recipient")]
    #[case::no_active_key(|header: &mut Header| header.keys.truncate(2), "active key")]
    #[case::two_active_keys(|header: &mut Header| header.keys[0].state = KeyState::Active, "active key")]
    #[case::a_key_twice(|header: &mut Header| header.keys[0].id = header.keys[1].id, "a key twice")]
    #[case::a_recipient_twice(|header: &mut Header| header.slots[0].id = header.slots[1].id, "a recipient twice")]
    #[case::a_public_key_twice(|header: &mut Header| header.slots[0].public = header.slots[1].public, "a recipient twice")]
    #[case::a_short_wrapped_key(|header: &mut Header| header.slots[0].wrapped.truncate(47), "wrong length")]
    #[case::no_name(|header: &mut Header| header.slots[0].name.clear(), "name")]
    #[case::a_long_name(|header: &mut Header| header.slots[0].name = "n".repeat(256), "name")]
    #[case::too_much_memory(|header: &mut Header| cost(header).memory_kib = u32::MAX, "memory")]
    #[case::a_long_secret(|header: &mut Header| header.slots[2].kept = Kept::KeyWrap { provider: "kms".into(), sealed: vec![3; (8 << 10) + 1] }, "too long")]
    #[case::no_provider(|header: &mut Header| header.slots[2].kept = Kept::KeyWrap { provider: String::new(), sealed: vec![] }, "too long")]
    fn what_no_ring_says_is_damage(#[case] change: fn(&mut Header), #[case] why: &str) {
        let mut header = header();
        change(&mut header);
        let error = read(&header).unwrap_err().to_string();
        assert!(error.starts_with("/vault/keyring is damaged") && error.contains(why), "{error}");
    }

    fn cost(header: &mut Header) -> &mut Argon2Cost {
        match &mut header.slots[1].kept {
            Kept::Passphrase { cost, .. } => cost,
            _ => panic!("no passphrase"),
        }
    }

    #[test]
    fn more_keys_or_recipients_than_may_be_are_damage() {
        let mut many = header();
        let key = many.keys[0];
        let numbered = |n: u32| KeyId::from_bytes((u128::from(n) + (1 << 64)).to_be_bytes());
        many.keys.extend((0..4_094).map(|n| KeyInfo { id: numbered(n), ..key }));
        assert!(read(&many).unwrap_err().to_string().contains("too many keys"));
        let mut many = header();
        let slot = many.slots[0].clone();
        let numbered = |n: u8| Slot { id: RecipientId::from_bytes([n; 16]), public: [n; 32], ..slot.clone() };
        many.slots.extend((4..66).map(numbered));
        assert!(read(&many).unwrap_err().to_string().contains("too many"));
        many.slots.pop();
        assert!(read(&many).is_ok());
    }
}
