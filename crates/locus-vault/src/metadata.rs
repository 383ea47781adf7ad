//! What is known about an entity, and how it stands at the beginning of its file.
//!
//! | bytes | what |
//! |---|---|
//! | 7 | `LENTITY` |
//! | 1 | format, 1 |
//! | 1 | the suite that sealed the content; 0 when somebody else did |
//! | 4 | length of the header, little-endian |
//! | 8 | the first 8 bytes of BLAKE3 over format, suite, length and header |
//! | n | the header in postcard: database, key, incarnation (16 bytes), version, schema (optional), writer, written at (microseconds since the Unix epoch), deleted, length of the content, and how it was sealed: by a suite salt (32 bytes) and key id (16 bytes); by somebody else algorithm, key id, iv, tag, BLAKE3 of the sealed bytes |
//! | rest | the sealed content |
//!
//! All that stands before the sealed content is what the content's key is bound to.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{borrow::Cow, fmt, str::FromStr};

use locus_core::{Checksum, Hasher, Timestamp};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    cipher::{Salt, Suite},
    id::EntityId,
    keyring::{KeyId, id},
};

/// No header is longer, in bytes.
const HEADER_BYTES_MAX: usize = 4_096;

/// What stands before the sealed content is not longer, in bytes.
pub(crate) const PREAMBLE_BYTES_MAX: usize = FIXED_BYTES + HEADER_BYTES_MAX;

/// Longest name of a writer, of an algorithm or of somebody else's key, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest id of a schema, in bytes. What it is called on the disk may be three times as long.
pub const SCHEMA_ID_BYTES_MAX: usize = 64;

/// Longest iv or tag of somebody else's, in bytes.
pub const IV_BYTES_MAX: usize = 64;

const MAGIC: &[u8; 7] = b"LENTITY";
pub(crate) const FORMAT: u8 = 1;
const FIXED_BYTES: usize = 21;

/// The number of what somebody else sealed.
const FOREIGN: u8 = 0;

id!(
    /// The life of an entity from its creation to its deletion: one that is created again under the same name has another.
    Incarnation
);

/// A version of an entity: no two changes of an entity have the same. Prints as `7@0190163d-8694-7ca0-b9a5-5e9d1a2b3c4d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Which life of the entity.
    pub incarnation: Incarnation,
    /// Raised by one with each change. What is sealed again by another key is not changed.
    pub number: u64,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.number, self.incarnation)
    }
}

/// The text is no version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version is a number, @ and a UUID, as it is printed")]
pub struct InvalidVersion;

impl FromStr for Version {
    type Err = InvalidVersion;

    fn from_str(text: &str) -> Result<Self, InvalidVersion> {
        let (number, incarnation) = text.split_once('@').ok_or(InvalidVersion)?;
        Ok(Self {
            incarnation: incarnation.parse().map_err(|_| InvalidVersion)?,
            number: number.parse().map_err(|_| InvalidVersion)?,
        })
    }
}

/// How a content was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealedBy {
    /// By this crate.
    Suite {
        /// Which cipher.
        suite: Suite,
        /// Drawn for this write.
        salt: Salt,
        /// The data key.
        key: KeyId,
    },
    /// By somebody else, who alone can open it.
    Foreign {
        /// What it is called there.
        algorithm: String,
        /// The key's name there.
        key: String,
        /// The initialisation vector or nonce.
        iv: Vec<u8>,
        /// The authentication tag; empty when it is part of the blob.
        tag: Vec<u8>,
        /// Of the blob. What is passed to a write is not looked at.
        checksum: Checksum,
    },
}

/// What is known about one version of an entity. Readable by everybody who can read the file; of an entity that this crate
/// sealed it is proven when the content is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityMetadata {
    /// Whose.
    pub id: EntityId,
    /// Which version.
    pub version: Version,
    /// How the content was sealed.
    pub sealed: SealedBy,
    /// The schema that the content keeps to.
    pub schema: Option<String>,
    /// Who wrote it.
    pub writer: String,
    /// When, by the writer's wall clock.
    pub written_at: Timestamp,
    /// Whether it says that the entity was deleted, and has no content.
    pub is_deleted: bool,
    /// Length of the plaintext, in bytes; of somebody else's blob that of the blob.
    pub content_len: u64,
}

impl EntityMetadata {
    /// What sealed it, by name.
    #[must_use]
    pub fn algorithm(&self) -> Cow<'_, str> {
        match &self.sealed {
            SealedBy::Suite { suite, .. } => suite.to_string().into(),
            SealedBy::Foreign { algorithm, .. } => algorithm.into(),
        }
    }

    /// The key that sealed it, by name.
    #[must_use]
    pub fn key_id(&self) -> Cow<'_, str> {
        match &self.sealed {
            SealedBy::Suite { key, .. } => key.to_string().into(),
            SealedBy::Foreign { key, .. } => key.into(),
        }
    }

    /// What makes its sealing differ from all others: the salt, or somebody else's iv.
    #[must_use]
    pub fn iv(&self) -> &[u8] {
        match &self.sealed {
            SealedBy::Suite { salt, .. } => salt.as_bytes(),
            SealedBy::Foreign { iv, .. } => iv,
        }
    }

    /// Somebody else's tag; empty where tags are in the sealed content.
    #[must_use]
    pub fn tag(&self) -> &[u8] {
        match &self.sealed {
            SealedBy::Suite { .. } => &[],
            SealedBy::Foreign { tag, .. } => tag,
        }
    }

    /// Which field is longer than it may be.
    pub(crate) fn too_long(&self) -> Option<&'static str> {
        let schema = self.schema.as_deref().unwrap_or_default();
        let fields =
            [("writer", self.writer.as_str(), NAME_BYTES_MAX), ("schema", schema, SCHEMA_ID_BYTES_MAX)];
        let long = fields.into_iter().find(|(_, name, max)| name.len() > *max).map(|(field, ..)| field);
        let SealedBy::Foreign { algorithm, key, iv, tag, .. } = &self.sealed else { return long };
        let names = [("algorithm", algorithm), ("key", key)];
        let bytes = [("iv", iv), ("tag", tag)];
        long.or_else(|| {
            names.into_iter().find(|(_, name)| name.len() > NAME_BYTES_MAX).map(|(field, _)| field)
        })
        .or_else(|| bytes.into_iter().find(|(_, bytes)| bytes.len() > IV_BYTES_MAX).map(|(field, _)| field))
    }
}

#[derive(Serialize, Deserialize)]
struct Body<S> {
    database: String,
    key: String,
    version: Version,
    schema: Option<String>,
    writer: String,
    written_at: Timestamp,
    is_deleted: bool,
    content_len: u64,
    sealed: S,
}

#[derive(Serialize, Deserialize)]
struct BySuite {
    salt: Salt,
    key: KeyId,
}

#[derive(Serialize, Deserialize)]
struct ByForeign {
    algorithm: String,
    key: String,
    iv: Vec<u8>,
    tag: Vec<u8>,
    checksum: Checksum,
}

/// What stands before the sealed content. The same metadata give the same bytes.
pub(crate) fn encode(metadata: &EntityMetadata) -> Vec<u8> {
    match metadata.sealed.clone() {
        SealedBy::Suite { suite, salt, key } => {
            preamble(suite.into(), &header(metadata, BySuite { salt, key }))
        }
        SealedBy::Foreign { algorithm, key, iv, tag, checksum } => {
            preamble(FOREIGN, &header(metadata, ByForeign { algorithm, key, iv, tag, checksum }))
        }
    }
}

fn header<S: Serialize>(metadata: &EntityMetadata, sealed: S) -> Vec<u8> {
    let body = Body {
        database: metadata.id.database().to_owned(),
        key: metadata.id.key().to_owned(),
        version: metadata.version,
        schema: metadata.schema.clone(),
        writer: metadata.writer.clone(),
        written_at: metadata.written_at,
        is_deleted: metadata.is_deleted,
        content_len: metadata.content_len,
        sealed,
    };
    postcard::to_stdvec(&body).expect("because every field can be written to memory")
}

/// A preamble with this header.
pub(crate) fn preamble(suite: u8, header: &[u8]) -> Vec<u8> {
    let len = u32::try_from(header.len()).unwrap_or(u32::MAX).to_le_bytes();
    [MAGIC.as_slice(), &[FORMAT, suite], &len, &checksum(suite, len, header), header].concat()
}

/// Why bytes are no beginning of an entity's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// They were never written so.
    Damaged(&'static str),
    /// A newer version may have written them.
    Newer(u8),
}

/// What the beginning of an entity's file says, and how long it is. What stands behind it is not looked at.
pub(crate) fn decode(bytes: &[u8]) -> Result<(EntityMetadata, usize), Undecodable> {
    use Undecodable::Damaged;
    let rest = bytes.strip_prefix(MAGIC).ok_or(Damaged("it does not begin as an entity"))?;
    let ([format, suite], rest) =
        rest.split_first_chunk::<2>().map(|(first, rest)| (*first, rest)).ok_or(Damaged("it is cut"))?;
    if format > FORMAT {
        return Err(Undecodable::Newer(format));
    }
    let (len, rest) = rest.split_first_chunk::<4>().ok_or(Damaged("it is cut"))?;
    let (sum, rest) = rest.split_first_chunk::<8>().ok_or(Damaged("it is cut"))?;
    let header_len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
    if header_len > HEADER_BYTES_MAX {
        return Err(Damaged("its header is longer than any"));
    }
    let header = rest.get(..header_len).ok_or(Damaged("it is cut"))?;
    if format != FORMAT || *sum != checksum(suite, *len, header) {
        return Err(Damaged("its header has another checksum"));
    }
    let metadata = if suite == FOREIGN {
        body::<ByForeign>(header, |by| {
            let ByForeign { algorithm, key, iv, tag, checksum } = by;
            SealedBy::Foreign { algorithm, key, iv, tag, checksum }
        })
    } else {
        let suite = Suite::try_from(suite).map_err(|_| Damaged("its cipher suite is unknown"))?;
        body::<BySuite>(header, |by| SealedBy::Suite { suite, salt: by.salt, key: by.key })
    };
    let metadata = metadata.ok_or(Damaged("its header is none"))?;
    Ok((metadata, FIXED_BYTES.saturating_add(header_len)))
}

fn body<S: DeserializeOwned>(header: &[u8], sealed: impl FnOnce(S) -> SealedBy) -> Option<EntityMetadata> {
    let (body, behind) = postcard::take_from_bytes::<Body<S>>(header).ok()?;
    let metadata = EntityMetadata {
        id: EntityId::new(&body.database, &body.key).ok()?,
        version: body.version,
        sealed: sealed(body.sealed),
        schema: body.schema,
        writer: body.writer,
        written_at: body.written_at,
        is_deleted: body.is_deleted,
        content_len: body.content_len,
    };
    (behind.is_empty() && metadata.too_long().is_none()).then_some(metadata)
}

fn checksum(suite: u8, len: [u8; 4], header: &[u8]) -> [u8; 8] {
    let mut hasher = Hasher::new();
    hasher.update(&[FORMAT, suite]);
    hasher.update(&len);
    hasher.update(header);
    *hasher.finish().as_bytes().first_chunk().expect("because a checksum has 32 bytes")
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests damage what they wrote")]
mod tests {
    use super::*;

    fn ours() -> EntityMetadata {
        EntityMetadata {
            id: EntityId::new("db", "a/key").unwrap(),
            version: Version { incarnation: Incarnation::from_bytes([3; 16]), number: 7 },
            sealed: SealedBy::Suite {
                suite: Suite::Aes256GcmHkdfSha256,
                salt: Salt::from_bytes([9; 32]),
                key: KeyId::from_bytes([4; 16]),
            },
            schema: Some("person".into()),
            writer: "process 1 on here".into(),
            written_at: Timestamp::from_micros(-5),
            is_deleted: false,
            content_len: 1_000_000,
        }
    }

    fn foreign() -> EntityMetadata {
        let sealed = SealedBy::Foreign {
            algorithm: "AES-256-GCM".into(),
            key: "old-key-1".into(),
            iv: vec![1; 12],
            tag: vec![2; 16],
            checksum: Checksum::of(b"blob"),
        };
        EntityMetadata { sealed, schema: None, is_deleted: true, ..ours() }
    }

    #[test]
    fn metadata_survive_the_disk_and_all_can_be_asked_for() {
        for metadata in [ours(), foreign()] {
            let mut bytes = encode(&metadata);
            let len = bytes.len();
            bytes.extend(b"sealed");
            assert_eq!(decode(&bytes), Ok((metadata, len)));
        }
        let (ours, foreign) = (ours(), foreign());
        assert_eq!(
            (ours.algorithm(), foreign.algorithm()),
            ("AES-256-GCM-HKDF-SHA256".into(), "AES-256-GCM".into())
        );
        assert_eq!((ours.iv(), foreign.iv()), (&[9; 32][..], &[1; 12][..]));
        assert_eq!((ours.tag(), foreign.tag()), (&[][..], &[2; 16][..]));
        assert_eq!(
            (ours.key_id(), foreign.key_id()),
            (KeyId::from_bytes([4; 16]).to_string().into(), "old-key-1".into())
        );
    }

    #[test]
    fn a_version_survives_its_text_form() {
        let version = ours().version;
        assert_eq!(version.to_string(), "7@03030303-0303-0303-0303-030303030303");
        assert_eq!(version.to_string().parse(), Ok(version));
        for text in [
            "",
            "7",
            "7@",
            "@03030303-0303-0303-0303-030303030303",
            "-1@03030303-0303-0303-0303-030303030303",
        ] {
            assert_eq!(text.parse::<Version>(), Err(InvalidVersion), "{text}");
        }
    }

    #[test]
    fn any_flipped_bit_and_any_missing_end_is_noticed() {
        for metadata in [ours(), foreign()] {
            let good = encode(&metadata);
            for at in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    assert!(decode(&bad).is_err(), "byte {at}, bit {bit}");
                }
                assert!(decode(&good[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut newer = encode(&ours());
        newer[MAGIC.len()] = 2;
        assert_eq!(decode(&newer), Err(Undecodable::Newer(2)));
    }

    #[test]
    fn the_longest_header_fits_and_a_longer_one_is_none() {
        let SealedBy::Foreign { checksum, .. } = foreign().sealed else { panic!() };
        let longest = EntityMetadata {
            id: EntityId::new(&"d".repeat(128), &"k".repeat(1_024)).unwrap(),
            sealed: SealedBy::Foreign {
                algorithm: "a".repeat(NAME_BYTES_MAX),
                key: "k".repeat(NAME_BYTES_MAX),
                iv: vec![0; IV_BYTES_MAX],
                tag: vec![0; IV_BYTES_MAX],
                checksum,
            },
            schema: Some("s".repeat(SCHEMA_ID_BYTES_MAX)),
            writer: "w".repeat(NAME_BYTES_MAX),
            content_len: u64::MAX,
            version: Version { number: u64::MAX, ..ours().version },
            written_at: Timestamp::from_micros(i64::MIN),
            ..ours()
        };
        let bytes = encode(&longest);
        assert!(bytes.len() < PREAMBLE_BYTES_MAX);
        assert_eq!(longest.too_long(), None);
        assert_eq!(decode(&bytes).map(|(metadata, _)| metadata), Ok(longest.clone()));
        let schema = Some("s".repeat(SCHEMA_ID_BYTES_MAX + 1));
        for (field, longer) in [
            ("writer", EntityMetadata { writer: "w".repeat(NAME_BYTES_MAX + 1), ..longest.clone() }),
            ("schema", EntityMetadata { schema, ..longest.clone() }),
        ] {
            assert_eq!(longer.too_long(), Some(field));
            assert_eq!(decode(&encode(&longer)), Err(Undecodable::Damaged("its header is none")));
        }
    }
}
