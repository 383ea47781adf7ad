//! How many tenants were removed, on the disk beside the tenants: `removed`.
//!
//! | bytes | what |
//! |---|---|
//! | 7 | `LREMOVE` |
//! | 1 | format, 1 |
//! | 8 | the first 8 bytes of BLAKE3 over the format and the number |
//! | 4 | the number, little-endian |
//!
//! It is absent as long as none was removed. A tenant that is created later carries the number in its storage path, so
//! that no two tenants of one name ever share one, and no list of names is kept.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::Path;

use locus_core::{Error, FileFrame, Result};
use locus_fs::{Disk, read_bounded};

/// The name of the file.
pub(crate) const NAME: &str = "removed";
/// What stands in for a number that cannot be read: more than anybody removed.
pub(crate) const UNREADABLE: u32 = 1 << 31;

pub(crate) const FRAME: FileFrame = FileFrame::new(b"LREMOVE", 1);
const FILE_BYTES: u64 = 20;

pub(crate) fn encode(count: u32) -> Vec<u8> {
    FRAME.seal(&count.to_le_bytes())
}

/// The number in the file in `dir`; zero when there is none.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<u32> {
    let path = dir.join(NAME);
    match read_bounded(disk, &path, FILE_BYTES)? {
        Some(bytes) => decode(&path, &bytes),
        None => Ok(0),
    }
}

pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<u32> {
    let body = FRAME.open(path, bytes)?.try_into().map_err(|_| Error::Corrupt {
        place: path.display().to_string(),
        why: "its content is no number".into(),
    })?;
    Ok(u32::from_le_bytes(body))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests damage what they wrote")]
mod tests {
    use super::*;

    #[test]
    fn a_count_survives_the_disk_and_any_damage_to_it_is_named() {
        let good = encode(0x0102_0304);
        assert_eq!(good.len() as u64, FILE_BYTES);
        assert_eq!(decode(Path::new("x"), &good).unwrap(), 0x0102_0304);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let error = decode(Path::new("tenants/removed"), &bad).unwrap_err();
            assert!(error.to_string().starts_with("tenants/removed"), "byte {at}: {error}");
            assert!(decode(Path::new("x"), &good[..at]).is_err(), "cut at {at}");
        }
        let mut newer = good;
        newer[7] = 2;
        assert!(matches!(decode(Path::new("x"), &newer), Err(Error::NewerFormat { found: 2, .. })));
    }
}
