//! Doors for fuzzers to what this crate reads from a disk. Nothing may panic, and what was read and is written again reads
//! the same. Not part of the API.

use locus_core::{Area, BlobPath, Checksum, Extension, FileKey, StoragePath};

use crate::{
    dir_lock,
    entity_lock::LockHolder,
    local::marker,
    mirror::{
        note,
        seal::{Seal, content_len, sealed_len},
    },
};

/// The marker of a volume: as it is, and with its checksum made right.
pub fn marker(bytes: &[u8]) {
    let lines = String::from_utf8_lossy(bytes);
    let text = format!("locus volume\nformat 1\n{}\n", lines.trim_end());
    let sealed = format!("{text}checksum {}\n", Checksum::of(text.as_bytes())).into_bytes();
    for bytes in [bytes, &sealed] {
        if let Ok(marker) = marker::decode(bytes) {
            assert_eq!(marker::decode(&marker.encode()), Ok(marker));
        }
    }
}

/// The note about who holds a lock.
pub fn holder(bytes: &[u8]) {
    let name = dir_lock::named(bytes);
    assert!(!name.chars().any(char::is_control) && name.len() <= 3 * bytes.len());
    assert_eq!(dir_lock::named(name.as_bytes()), name);
    if let Some(holder) = LockHolder::decode(bytes) {
        assert!(!holder.host.chars().any(char::is_control));
        assert!(LockHolder::decode(&holder.encode()).is_some_and(|again| again.process == holder.process));
    }
}

/// What members of a mirror note about each other: as it is, and with its checksum made right.
pub fn notes(bytes: &[u8]) {
    for bytes in [bytes, &note::sealed(bytes)] {
        if let Some(notes) = note::decode(bytes) {
            assert_eq!(note::decode(&note::encode(&notes)), Some(notes));
        }
    }
}

/// The end of a copy on a member of a mirror, and any length that a copy may be said to have.
pub fn seal(bytes: &[u8]) {
    let Ok(owner) = StoragePath::parse("acme") else { return };
    let at =
        BlobPath { area: Area::Live, owner, key: FileKey::from_bytes([7; 16]), extension: Extension::NONE };
    let said = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    for length in [said, bytes.len() as u64] {
        assert!(content_len(length).is_none_or(|content| sealed_len(content) == Some(length)));
        if let Some(seal) = Seal::decode(bytes, &at, length) {
            assert_eq!(seal.encode(&at), bytes);
            let _ = seal.holds(said, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use locus_core::{StoreId, VolumeId};
    use proptest::prelude::*;

    use super::*;
    use crate::local::marker::Marker;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
            marker(&bytes);
            holder(&bytes);
            notes(&bytes);
            seal(&bytes);
        }

        #[test]
        fn a_marker_survives_its_encoding_and_harm_does_no_harm(
            volume in "[a-z0-9]{1,63}", store: [u8; 16], depth in 0..=3_u8,
            at in prop::collection::vec(any::<(usize, u8)>(), 0..6), cut: usize,
        ) {
            // A few of these names are reserved on Windows.
            let Ok(volume) = VolumeId::parse(&volume) else { return Ok(()) };
            let written = Marker { volume, store: StoreId::from_bytes(store), depth };
            let mut bytes = written.encode();
            prop_assert_eq!(marker::decode(&bytes), Ok(written));
            let length = bytes.len();
            at.iter().for_each(|(place, byte)| bytes[place % length] ^= byte);
            bytes.truncate(cut % (length + 1));
            marker(&bytes);
            holder(&bytes);
        }
    }
}
