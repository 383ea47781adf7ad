//! Where tours over the volumes stand, on the disk: `sweeps` in the data directory.
//!
//! | bytes | what |
//! |---|---|
//! | 7 | `LSWEEPS` |
//! | 1 | format, 1 |
//! | 8 | the first 8 bytes of BLAKE3 over the format and the body |
//! | rest | the body in postcard: the scan for blobs without records, then the search for missing bytes; of each the volumes that it has still to go through (a list), and where to go on in those that it left in their midst (a map of volume to text, or to a varint) |
//!
//! It is absent when nothing stands in the midst, and believed in nothing but that: what is lost of it is looked at once more.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::Path;

use locus_core::{Cursor, Error, FileFrame, Result};
use serde::{Deserialize, Serialize};

use crate::tour::Stand;

/// The name of the file.
pub(crate) const NAME: &str = "sweeps";
/// It is never longer, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

pub(crate) const FRAME: FileFrame = FileFrame::new(b"LSWEEPS", 1);

/// Where the tours of all jobs that have a budget stand.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Stands {
    pub(crate) scan: Stand<Cursor>,
    pub(crate) search: Stand<u64>,
}

pub(crate) fn encode(stands: &Stands) -> Vec<u8> {
    FRAME.seal(&postcard::to_stdvec(stands).expect("because every field can be written to memory"))
}

/// The stands in `bytes`, which were read from `path`.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Stands> {
    match postcard::take_from_bytes(FRAME.open(path, bytes)?) {
        Ok((stands, [])) => Ok(stands),
        _ => Err(Error::Corrupt {
            place: path.display().to_string(),
            why: "its content cannot be decoded".into(),
        }),
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests damage what they wrote")]
mod tests {
    use super::*;

    #[test]
    fn stands_survive_the_disk_and_any_damage_to_them_is_named() {
        let volume = |id| locus_core::VolumeId::parse(id).unwrap();
        let mut stands = Stands::default();
        stands.scan.ahead.extend([volume("a"), volume("b")]);
        stands.scan.within.insert(volume("a"), Cursor("acme/0f/x".into()));
        stands.search.within.insert(volume("c"), u64::MAX);
        let good = encode(&stands);
        assert_eq!(decode(Path::new("x"), &good).unwrap(), stands);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let error = decode(Path::new("data/sweeps"), &bad).unwrap_err();
            assert!(error.to_string().starts_with("data/sweeps"), "byte {at}: {error}");
            assert!(decode(Path::new("x"), &good[..at]).is_err(), "cut at {at}");
        }
        let mut newer = good;
        newer[7] = 2;
        assert!(matches!(decode(Path::new("x"), &newer), Err(Error::NewerFormat { found: 2, .. })));
        let longer = FRAME.seal(&[postcard::to_stdvec(&stands).unwrap(), vec![0]].concat());
        assert!(matches!(decode(Path::new("x"), &longer), Err(Error::Corrupt { .. })));
    }
}
