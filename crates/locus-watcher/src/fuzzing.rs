//! Doors for fuzzers to what this crate reads from a disk. Nothing may panic, and what was read and is written again reads
//! the same. Not part of the API.

use std::path::Path;

use crate::{ledger::format, record};

/// A watcher's file: as it is, and as the body of one whose checksum is right.
pub fn watcher(bytes: &[u8]) {
    for bytes in [bytes, &record::FRAME.seal(bytes)] {
        if let Ok(said) = record::decode(Path::new("x"), bytes) {
            let again = record::decode(Path::new("x"), &record::encode(&said));
            assert_eq!(again.expect("because it was written just now"), said);
        }
    }
}

/// The entries of a ledger.
pub fn ledger(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((noted, after)) = format::decode(rest) {
        let mut again = Vec::new();
        if format::encode(&noted, &mut again) {
            assert_eq!(format::decode(&again).expect("because it was written just now").0, noted);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use locus_core::TenantId;
    use proptest::prelude::*;

    use super::*;
    use crate::source::{Inode, Noted, Way};

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            watcher(&bytes);
            ledger(&bytes);
        }

        #[test]
        fn harmed_entries_are_read_or_end_the_ledger(
            paths in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..9),
            at in prop::collection::vec(any::<(usize, u8)>(), 0..6), cut: usize,
        ) {
            let way = Way { folders: vec![Inode(7), Inode(1)], begins: 0 };
            let mut bytes = Vec::new();
            for path in paths {
                let tenant = TenantId::parse("acme").unwrap();
                let noted = Noted { tenant, way: way.clone(), path, size: 2, modified: (3, 4), inode: 5 };
                prop_assert!(format::encode(&noted, &mut bytes));
            }
            let length = bytes.len();
            at.iter().for_each(|(place, byte)| bytes[place % length] ^= byte);
            bytes.truncate(cut % (length + 1));
            ledger(&bytes);
        }
    }
}
