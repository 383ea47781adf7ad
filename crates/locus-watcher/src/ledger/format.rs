//! A ledger on the disk: a head, then entries one after the other.
//!
//! | bytes | what |
//! |---|---|
//! | 7 | `LLEDGER` |
//! | 1 | format, 4 |
//! | 8 | the first 8 bytes of BLAKE3 over the path of the watched folder |
//!
//! and for each entry
//!
//! | bytes | what |
//! |---|---|
//! | 2 | length of the body, little-endian |
//! | 8 | the first 8 bytes of BLAKE3 over the body |
//! | rest | the body in postcard: tenant, inodes of the folders on the way to it (the watched one first), which of them is where its file system begins, path, size, time in seconds and nanoseconds, inode; each inode in 8 bytes, little-endian |
//!
//! The first entry that is none ends the ledger.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::Path;

use locus_core::{Checksum, Error, Result};

use crate::source::Noted;

/// How a ledger begins.
const MAGIC: &[u8; 7] = b"LLEDGER";
const FORMAT: u8 = 4;
const HEAD_BYTES: usize = MAGIC.len() + 1 + 8;
/// No entry is longer, in bytes.
pub(crate) const ENTRY_BYTES_MAX: usize = 10 + 4_096;

/// How a ledger of this folder begins.
pub(crate) fn head(folder: &Path) -> Vec<u8> {
    [MAGIC.as_slice(), &[FORMAT], &sum(folder.as_os_str().as_encoded_bytes())].concat()
}

/// How a ledger begins and what follows; `None` when it is cut short in its head, so that nothing can follow.
///
/// # Errors
/// [`Error::NewerFormat`]; [`Error::Corrupt`] when this is the beginning of no ledger.
pub(crate) fn split_head<'a>(path: &Path, bytes: &'a [u8]) -> Result<Option<(&'a [u8], &'a [u8])>> {
    let Some(split) = bytes.split_at_checked(HEAD_BYTES) else { return Ok(None) };
    let place = || path.display().to_string();
    match split.0.strip_prefix(MAGIC).and_then(<[u8]>::first) {
        Some(&FORMAT) => Ok(Some(split)),
        Some(&format) if format > FORMAT => {
            let (found, supported) = (u32::from(format), u32::from(FORMAT));
            Err(Error::NewerFormat { place: place(), found, supported })
        }
        _ => Err(Error::Corrupt { place: place(), why: "it does not begin as a ledger".into() }),
    }
}

/// Appends an entry to `bytes`. Says whether it could be written: a path of more than 4 KiB is never met.
pub(crate) fn encode(noted: &Noted, bytes: &mut Vec<u8>) -> bool {
    let body = postcard::to_stdvec(noted).expect("because every field can be written to memory");
    let Ok(length) = u16::try_from(body.len()) else { return false };
    if body.len() > ENTRY_BYTES_MAX.saturating_sub(10) {
        return false;
    }
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&sum(&body));
    bytes.extend_from_slice(&body);
    true
}

/// The first entry of `bytes` and what follows it; `None` when there is none that is whole.
pub(crate) fn decode(bytes: &[u8]) -> Option<(Noted, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (expected, rest) = rest.split_first_chunk::<8>()?;
    let (body, rest) = rest.split_at_checked(u16::from_le_bytes(*length).into())?;
    if *expected != sum(body) {
        return None;
    }
    let (noted, left) = postcard::take_from_bytes(body).ok()?;
    left.is_empty().then_some((noted, rest))
}

fn sum(body: &[u8]) -> [u8; 8] {
    *Checksum::of(body).as_bytes().first_chunk().expect("because a checksum has 32 bytes")
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests damage what they wrote")]
mod tests {
    use locus_core::TenantId;

    use super::*;
    use crate::source::{Inode, Way};

    fn noted(path: &[u8]) -> Noted {
        let tenant = TenantId::parse("acme").unwrap();
        let way = Way { folders: vec![Inode(7), Inode(1)], begins: 0 };
        Noted { tenant, way, path: path.to_vec(), size: 2, modified: (-3, 4), inode: 5 }
    }

    #[test]
    fn entries_are_read_as_they_were_written_and_a_torn_one_ends_the_ledger() {
        let mut bytes = Vec::new();
        let all = [noted(b"a"), noted(b"\xff/b"), noted(b"c")];
        assert!(all.iter().all(|noted| encode(noted, &mut bytes)));
        let mut rest = bytes.as_slice();
        for noted in &all {
            let (read, after) = decode(rest).unwrap();
            assert_eq!(read, *noted);
            rest = after;
        }
        assert!(decode(rest).is_none());
        for cut in 0..bytes.len() / 3 {
            assert!(decode(&bytes[..cut]).is_none(), "cut at {cut}");
            let mut bad = bytes.clone();
            bad[cut] ^= 1;
            assert!(decode(&bad).is_none(), "byte {cut}");
        }
    }

    #[test]
    fn an_entry_is_equally_long_whatever_the_inodes_are() {
        let (mut small, mut large) = (Vec::new(), Vec::new());
        encode(&noted(b"a"), &mut small);
        let way = Way { folders: vec![Inode(u64::MAX); 2], begins: 0 };
        encode(&Noted { way, inode: u64::MAX, ..noted(b"a") }, &mut large);
        assert_eq!(small.len(), large.len());
    }

    #[test]
    fn the_longest_path_fits_and_a_longer_one_is_refused() {
        let mut bytes = Vec::new();
        let way = Way { folders: vec![Inode(7); 1 + 33], begins: 33 };
        assert!(encode(&Noted { way, ..noted(&vec![b'x'; 3_072]) }, &mut bytes));
        assert!(bytes.len() <= ENTRY_BYTES_MAX);
        assert!(!encode(&noted(&vec![b'x'; 5_000]), &mut bytes));
        assert!(decode(&bytes).unwrap().1.is_empty());
    }
}
