//! A door for fuzzers to what this crate reads from a disk. Nothing may panic, and what was read and is written again reads
//! the same. Not part of the API.

use crate::{
    blobs::Marker,
    cipher::{ContentKey, DataKey, Salt, plain_len, segments_of},
    import::OlderMeta,
    keyring, metadata,
};

/// The beginning of an entity's file: as it is, and as a header of somebody else's or of this crate's whose checksum is
/// right.
pub fn entity(bytes: &[u8]) {
    for bytes in [bytes, &metadata::preamble(0, bytes), &metadata::preamble(1, bytes)] {
        if let Ok((metadata, len)) = metadata::decode(bytes) {
            assert!(len <= bytes.len());
            assert_eq!(metadata::decode(&metadata::encode(&metadata)).map(|(again, _)| again), Ok(metadata));
        }
    }
}

/// A keyring's file: as it is, and as the content of one whose checksum is right.
pub fn keyring(bytes: &[u8]) {
    keyring::fuzz(bytes);
}

/// The marker of a vault.
pub fn vault_marker(bytes: &[u8]) {
    if let Ok(marker) = Marker::decode(bytes) {
        assert_eq!(marker.encode().as_bytes(), bytes);
    }
}

/// The metadata of an entity in the older layout: as they are, and as the inside of a JSON object.
pub fn older_meta(bytes: &[u8]) {
    for bytes in [bytes, &[b"{", bytes, b"}"].concat()] {
        if let Ok(meta) = OlderMeta::parse(bytes) {
            assert_eq!(meta.id.to_string().parse().ok(), Some(meta.id));
        }
    }
}

/// Sealed bytes, whole and by range: what opens is what was sealed, and nothing that was not sealed opens.
pub fn sealed(bytes: &[u8]) {
    let key = ContentKey::derive(&DataKey::from_bytes(&[1; 32]), &Salt::from_bytes([2; 32]), b"header");
    let len = bytes.len() as u64;
    match key.open(bytes) {
        Ok(opened) => assert_eq!(key.seal(&opened), bytes),
        Err(tampered) => assert!(tampered.segment <= len),
    }
    let claimed = bytes.first_chunk().map_or(0, |claimed| u64::from_le_bytes(*claimed));
    for plain in [plain_len(len).unwrap_or(len), claimed] {
        let range = plain / 3..plain;
        if let Ok(opened) = key.open_range(range.clone(), plain, bytes) {
            assert_eq!(opened.len() as u64, range.end - range.start);
        }
        let segments = segments_of(range.clone(), plain);
        assert!(segments.sealed.start <= segments.sealed.end && segments.wanted.start <= segments.wanted.end);
    }
    let sealed = key.seal(bytes);
    assert_eq!(*key.open(&sealed).expect("because it was sealed just now"), bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            super::entity(&bytes);
            super::keyring(&bytes);
            super::sealed(&bytes);
            super::vault_marker(&bytes);
            super::older_meta(&bytes);
        }
    }
}
