//! How an entity's content is sealed under its own header, and opened.

use locus_core::{Checksum, Entropy, Timestamp};
use zeroize::Zeroizing;

use crate::{
    blobs::Found,
    cipher::{ContentKey, SEGMENT_BYTES, Salt, Suite, TAG_BYTES, Tampered, Wiped},
    error::{Result, VaultError},
    id::EntityId,
    keyring::Keyring,
    metadata::{self, EntityMetadata, SealedBy, Version},
};

/// How many sealed bytes prove a header.
pub(super) const PROOF_BYTES: u64 = (SEGMENT_BYTES + TAG_BYTES) as u64;

/// What is to be sealed.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    pub(super) id: &'a EntityId,
    pub(super) version: Version,
    pub(super) schema: Option<String>,
    pub(super) writer: &'a str,
    pub(super) written_at: Timestamp,
    pub(super) is_deleted: bool,
    pub(super) content: &'a [u8],
}

/// What was sealed.
pub(super) struct SealedEntity {
    pub(super) metadata: EntityMetadata,
    /// The preamble, and the sealed content behind it.
    pub(super) bytes: Vec<u8>,
    /// Of the preamble.
    pub(super) preamble: Checksum,
}

/// Seals it with the ring's active key.
pub(super) fn seal(draft: Draft<'_>, ring: &Keyring, entropy: &dyn Entropy) -> SealedEntity {
    let (key, data_key) = ring.active();
    let salt = Salt::draw(entropy);
    let metadata = EntityMetadata {
        id: draft.id.clone(),
        version: draft.version,
        sealed: SealedBy::Suite { suite: Suite::Aes256GcmHkdfSha256, salt, key },
        schema: draft.schema,
        writer: draft.writer.to_owned(),
        written_at: draft.written_at,
        is_deleted: draft.is_deleted,
        content_len: draft.content.len() as u64,
    };
    let mut bytes = metadata::encode(&metadata);
    let (key, preamble) = (ContentKey::derive(data_key, &salt, &bytes), Checksum::of(&bytes));
    key.seal_behind(draft.content, &mut bytes);
    SealedEntity { metadata, bytes, preamble }
}

/// Opens the whole content, which proves all that is known about it. It stays where it was read.
pub(super) fn open(found: Found, key: &ContentKey) -> Result<(EntityMetadata, Wiped)> {
    let Found { metadata, mut bytes, preamble_len } = found;
    let sealed = bytes.get_mut(preamble_len..).unwrap_or_default();
    let len = key.open_in_place(sealed).map_err(tampered(&metadata.id))?;
    bytes.truncate(preamble_len.saturating_add(len));
    Ok((metadata, Wiped::behind(bytes, preamble_len)))
}

/// Proves what is known about it by the content's first segment, when that was read.
pub(super) fn prove(found: &Found, ring: &Keyring) -> Result<()> {
    let is_last = found.metadata.content_len <= SEGMENT_BYTES as u64;
    let first = found.sealed().chunks(SEGMENT_BYTES + TAG_BYTES).next().unwrap_or_default();
    let mut opened = Zeroizing::new(Vec::with_capacity(SEGMENT_BYTES));
    let key = content_key(found, ring)?;
    key.open_segment(0, is_last, first, &mut opened).map_err(tampered(&found.metadata.id))
}

/// The key of the content, which is bound to all that is known about it.
pub(super) fn content_key(found: &Found, ring: &Keyring) -> Result<ContentKey> {
    match &found.metadata.sealed {
        SealedBy::Suite { salt, key, .. } => Ok(ContentKey::derive(ring.key(*key)?, salt, found.preamble())),
        SealedBy::Foreign { algorithm, .. } => {
            Err(VaultError::Foreign { id: found.metadata.id.clone(), algorithm: algorithm.clone() })
        }
    }
}

fn tampered(id: &EntityId) -> impl FnOnce(Tampered) -> VaultError {
    move |source| VaultError::Tampered { what: format!("entity {id}").into(), source: Some(source) }
}
