//! A door for fuzzers to what this crate reads from a disk. Nothing may panic, and what was read and is written again reads
//! the same. Not part of the API.

use std::path::Path;

use crate::stands;

/// The note of where sweeps stand: as it is, and as the body of one whose checksum is right.
pub fn sweeps(bytes: &[u8]) {
    for bytes in [bytes, &stands::FRAME.seal(bytes)] {
        if let Ok(stands) = stands::decode(Path::new("x"), bytes) {
            let again = stands::decode(Path::new("x"), &stands::encode(&stands));
            assert_eq!(again.expect("because it was written just now"), stands);
        }
    }
}

#[cfg(test)]
mod tests {
    use locus_core::{Cursor, VolumeId};
    use proptest::prelude::*;

    use super::*;
    use crate::stands::Stands;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            sweeps(&bytes);
        }

        #[test]
        fn stands_survive_their_encoding_and_harm_does_no_harm(
            ahead in prop::collection::vec("v[a-z]{0,8}", 0..9),
            within in prop::collection::btree_map("v[a-z]{0,8}", ".{0,30}", 0..9), at_record: u64,
            at in prop::collection::vec(any::<(usize, u8)>(), 0..6), cut: usize,
        ) {
            let id = |name: &str| VolumeId::parse(name).unwrap();
            let mut stands = Stands::default();
            stands.scan.ahead.extend(ahead.iter().map(|name| id(name)));
            stands.scan.within.extend(within.into_iter().map(|(name, from)| (id(&name), Cursor(from))));
            stands.search.within.extend(ahead.first().map(|name| (id(name), at_record)));
            let mut bytes = stands::encode(&stands);
            prop_assert_eq!(stands::decode(Path::new("x"), &bytes).unwrap(), stands);
            let length = bytes.len();
            at.iter().for_each(|(place, byte)| bytes[place % length] ^= byte);
            bytes.truncate(cut % (length + 1));
            sweeps(&bytes);
            sweeps(bytes.get(16..).unwrap_or_default());
        }
    }
}
