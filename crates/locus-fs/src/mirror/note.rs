//! What members note about each other, as blobs of an owner that no tenant has. One blob holds some notes, is written
//! once and removed when all of them are settled.
//!
//! | bytes | what |
//! |---|---|
//! | 7 | `LMNOTES` |
//! | 1 | format, 1 |
//! | 8 | the first 8 bytes of BLAKE3 over the format and the rest |
//! | rest | notes, one behind the other |
//!
//! A note is a byte of kind and a member's name, then what the kind asks for. A text is its length in one byte and its
//! bytes.
//!
//! | kind | what follows | means |
//! |---|---|---|
//! | 1 | name of the mirror | the member belongs to this mirror |
//! | 2 | owner, 16 bytes of key, extension | the member lacks this blob, or holds a wrong one |
//! | 3 | the same | the member has still to delete this blob |
//! | 4 | nothing | the member may lack anything |
//! | 5 | the number of an area other than the first, then as for 2 | as 2, in that area |
//! | 6 | the same | as 3, in that area |

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::str::FromStr;

use locus_core::{Area, BlobPath, Extension, FileKey, Hasher, StoragePath, VolumeId};

const MAGIC: &[u8; 7] = b"LMNOTES";
const FORMAT: u8 = 1;

/// Longest blob of notes that is read. One that is longer is damaged.
pub(crate) const NOTES_BYTES_MAX: u64 = 1 << 20;

/// Most notes in one blob: far less than [`NOTES_BYTES_MAX`].
pub(crate) const NOTES_MAX: usize = 4_096;

/// The owner of the notes on every member.
pub(crate) const OWNER: &str = "locus.mirror+00000000";

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    Joined { member: VolumeId, mirror: VolumeId },
    Behind { member: VolumeId, at: BlobPath, deleted: bool },
    Whole { member: VolumeId },
}

impl Note {
    fn put(&self, into: &mut Vec<u8>) {
        let (kind, member) = match self {
            Self::Joined { member, .. } => (1, member),
            Self::Behind { member, at, deleted } => match (at.area, deleted) {
                (Area::Live, false) => (2, member),
                (Area::Live, true) => (3, member),
                (_, false) => (5, member),
                (_, true) => (6, member),
            },
            Self::Whole { member } => (4, member),
        };
        into.push(kind);
        put_text(into, member.as_str());
        match self {
            Self::Joined { mirror, .. } => put_text(into, mirror.as_str()),
            Self::Behind { at, .. } => {
                if at.area != Area::Live {
                    into.push(at.area as u8);
                }
                put_text(into, at.owner.as_str());
                into.extend_from_slice(at.key.as_bytes());
                put_text(into, at.extension.as_str());
            }
            Self::Whole { .. } => {}
        }
    }

    fn take(from: &mut &[u8]) -> Option<Self> {
        let kind = take(from, 1)?.first().copied()?;
        let member = take_parsed(from)?;
        Some(match kind {
            1 => Self::Joined { member, mirror: take_parsed(from)? },
            2 | 3 | 5 | 6 => {
                let area =
                    if kind < 5 { Area::Live } else { Area::from_number(take(from, 1)?.first().copied()?)? };
                let owner: StoragePath = take_parsed(from)?;
                let key = FileKey::from_bytes(take(from, 16)?.try_into().ok()?);
                let extension = Extension::parse(take_text(from)?)?;
                Self::Behind {
                    member,
                    at: BlobPath { area, owner, key, extension },
                    deleted: matches!(kind, 3 | 6),
                }
            }
            4 => Self::Whole { member },
            _ => return None,
        })
    }
}

pub(crate) fn encode(notes: &[Note]) -> Vec<u8> {
    let mut body = Vec::new();
    notes.iter().for_each(|note| note.put(&mut body));
    sealed(&body)
}

/// A blob with this body.
pub(crate) fn sealed(body: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), &[FORMAT], &sum(body), body].concat()
}

/// The notes of a blob; `None` when it is damaged or from a newer version.
pub(crate) fn decode(bytes: &[u8]) -> Option<Vec<Note>> {
    let rest = bytes.strip_prefix(MAGIC.as_slice())?.strip_prefix(&[FORMAT])?;
    let (said, mut body) = rest.split_first_chunk::<8>()?;
    if *said != sum(body) {
        return None;
    }
    let mut notes = Vec::new();
    while !body.is_empty() {
        notes.push(Note::take(&mut body)?);
    }
    Some(notes)
}

fn sum(body: &[u8]) -> [u8; 8] {
    let mut hasher = Hasher::new();
    hasher.update(&[FORMAT]);
    hasher.update(body);
    *hasher.finish().as_bytes().first_chunk().expect("because a checksum has 32 bytes")
}

/// Names, owners and extensions have at most 72 bytes.
fn put_text(into: &mut Vec<u8>, text: &str) {
    into.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    into.extend_from_slice(text.as_bytes());
}

fn take<'a>(from: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(taken)
}

fn take_text<'a>(from: &mut &'a [u8]) -> Option<&'a str> {
    let len = take(from, 1)?.first().copied()?;
    str::from_utf8(take(from, usize::from(len))?).ok()
}

fn take_parsed<T: FromStr>(from: &mut &[u8]) -> Option<T> {
    take_text(from)?.parse().ok()
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "these bytes are ours")]
mod tests {
    use super::*;

    fn id(text: &str) -> VolumeId {
        VolumeId::parse(text).unwrap()
    }

    #[test]
    fn notes_survive_their_bytes_and_a_changed_byte_is_noticed() {
        let at = BlobPath {
            area: Area::Live,
            owner: StoragePath::parse("acme+0123abcd").unwrap(),
            key: FileKey::from_bytes([9; 16]),
            extension: Extension::of("x.pdf"),
        };
        let notes = [
            Note::Joined { member: id("a"), mirror: id("m") },
            Note::Behind { member: id("a"), at: at.clone(), deleted: false },
            Note::Behind { member: id("a"), at: at.in_area(Area::DeadLetters), deleted: false },
            Note::Behind { member: id("b"), at: at.in_area(Area::Quarantine), deleted: true },
            Note::Behind { member: id("b"), at, deleted: true },
            Note::Whole { member: id("b") },
        ];
        let bytes = encode(&notes);
        assert_eq!(decode(&bytes), Some(notes.to_vec()));
        assert_eq!(decode(&encode(&[])), Some(vec![]));
        for place in 0..bytes.len() {
            let mut harmed = bytes.clone();
            harmed[place] ^= 1;
            assert_eq!(decode(&harmed), None, "byte {place}");
            assert_eq!(decode(&bytes[..place]), None, "cut at {place}");
        }
    }

    #[test]
    fn a_full_blob_of_notes_can_be_read() {
        let at = BlobPath {
            area: Area::Live,
            owner: StoragePath::parse(&format!("{}+01234567", "o".repeat(63))).unwrap(),
            key: FileKey::from_bytes([9; 16]),
            extension: Extension::parse("0123456789abcdef").unwrap(),
        };
        let longest = Note::Behind { member: id(&"m".repeat(63)), at, deleted: true };
        assert!(encode(&vec![longest; NOTES_MAX]).len() as u64 <= NOTES_BYTES_MAX);
    }
}
