//! How a copy lies on a member: the content, then what tells whether it is good.
//!
//! | bytes | what |
//! |---|---|
//! | *n* | the content |
//! | 16 for each block of 262,144 bytes | the first 16 bytes of BLAKE3 over that block |
//! | 7 | `LMIRROR` |
//! | 1 | format, 1 |
//! | 8 | *n*, little-endian |
//! | 32 | BLAKE3 over the content |
//! | 16 | the first 16 bytes of BLAKE3 over address, a zero byte, *n*, the content's BLAKE3 and the sums of the blocks |
//!
//! A content that begins right is thus read right, any range of it for the price of the blocks that it touches, and
//! a copy that was put under another name is no copy.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::Bytes;
use locus_core::{BlobPath, Checksum, Hasher};

/// Length of a block: what is read at least to believe one byte.
pub(crate) const BLOCK_BYTES: u64 = 256 << 10;

const MAGIC: &[u8; 7] = b"LMIRROR";
const FORMAT: u8 = 1;
const SUM_BYTES: usize = 16;
/// Length of what stands behind the sums.
pub(crate) const FOOTER_BYTES: usize = 64;

type Sum = [u8; SUM_BYTES];

/// Length of a copy of `content` bytes.
pub(crate) fn sealed_len(content: u64) -> Option<u64> {
    let sums = content.div_ceil(BLOCK_BYTES).checked_mul(SUM_BYTES as u64)?;
    content.checked_add(sums)?.checked_add(FOOTER_BYTES as u64)
}

/// Length of the content in a copy of `sealed` bytes; `None` when no copy has that length.
pub(crate) fn content_len(sealed: u64) -> Option<u64> {
    let rest = sealed.checked_sub(FOOTER_BYTES as u64)?;
    let blocks = rest.div_ceil(BLOCK_BYTES.checked_add(SUM_BYTES as u64)?);
    let content = rest.checked_sub(blocks.checked_mul(SUM_BYTES as u64)?)?;
    (sealed_len(content) == Some(sealed)).then_some(content)
}

/// Whether these bytes may end the seal of a content of `length` bytes.
pub(crate) fn is_footer(footer: &[u8], length: u64) -> bool {
    let rest = footer.strip_prefix(MAGIC.as_slice()).and_then(|rest| rest.strip_prefix(&[FORMAT]));
    rest.and_then(|rest| rest.first_chunk()).is_some_and(|said| u64::from_le_bytes(*said) == length)
}

/// What a copy says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) length: u64,
    pub(crate) checksum: Checksum,
    sums: Bytes,
}

impl Seal {
    /// What stands behind the content.
    pub(crate) fn encode(&self, at: &BlobPath) -> Vec<u8> {
        let mut tail = self.sums.to_vec();
        tail.extend_from_slice(MAGIC);
        tail.push(FORMAT);
        tail.extend_from_slice(&self.length.to_le_bytes());
        tail.extend_from_slice(self.checksum.as_bytes());
        tail.extend_from_slice(&self.sum(at));
        tail
    }

    /// Reads what stands behind a content of `length` bytes; `None` when it is not the seal of the copy at this address.
    pub(crate) fn decode(tail: &[u8], at: &BlobPath, length: u64) -> Option<Self> {
        let (sums, footer) = tail.split_last_chunk::<FOOTER_BYTES>()?;
        let rest = footer.strip_prefix(MAGIC.as_slice())?.strip_prefix(&[FORMAT])?;
        let (said, rest) = rest.split_first_chunk::<8>()?;
        let (checksum, sum) = rest.split_first_chunk::<32>()?;
        let blocks = usize::try_from(length.div_ceil(BLOCK_BYTES)).ok()?;
        if u64::from_le_bytes(*said) != length || Some(sums.len()) != blocks.checked_mul(SUM_BYTES) {
            return None;
        }
        let sums = Bytes::copy_from_slice(sums);
        let seal = Self { length, checksum: Checksum::from_bytes(*checksum), sums };
        (seal.sum(at) == sum).then_some(seal)
    }

    /// Whether `bytes` are the blocks from block `first` on; the last one may be the last of the content.
    pub(crate) fn holds(&self, first: u64, bytes: &[u8]) -> bool {
        let skip = usize::try_from(first).unwrap_or(usize::MAX);
        let mut sums = self.sums.chunks_exact(SUM_BYTES).skip(skip);
        bytes.chunks(BLOCK_BYTES as usize).all(|block| sums.next().is_some_and(|sum| *sum == sum_of(block)))
    }

    fn sum(&self, at: &BlobPath) -> Sum {
        let mut hasher = Hasher::new();
        hasher.update(at.to_string().as_bytes());
        hasher.update(&[0]);
        hasher.update(&self.length.to_le_bytes());
        hasher.update(self.checksum.as_bytes());
        hasher.update(&self.sums);
        first_of(hasher.finish())
    }
}

fn sum_of(block: &[u8]) -> Sum {
    first_of(Checksum::of(block))
}

fn first_of(checksum: Checksum) -> Sum {
    *checksum.as_bytes().first_chunk().expect("because a checksum has 32 bytes")
}

/// Seals content piece by piece.
#[derive(Debug, Default)]
pub(crate) struct Sealer {
    whole: Box<Hasher>,
    block: Box<Hasher>,
    in_block: u64,
    length: u64,
    sums: Vec<u8>,
}

impl Sealer {
    /// Takes the next piece.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        self.length = self.length.saturating_add(bytes.len() as u64);
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = usize::try_from(BLOCK_BYTES.saturating_sub(self.in_block)).unwrap_or(usize::MAX);
            let (piece, behind) = rest.split_at(rest.len().min(room));
            self.block.update(piece);
            self.in_block = self.in_block.saturating_add(piece.len() as u64);
            if self.in_block >= BLOCK_BYTES {
                self.end_block();
            }
            rest = behind;
        }
    }

    fn end_block(&mut self) {
        self.sums.extend_from_slice(&first_of(self.block.finish()));
        *self.block = Hasher::new();
        self.in_block = 0;
    }

    /// The seal of all pieces.
    pub(crate) fn finish(mut self) -> Seal {
        if self.in_block > 0 {
            self.end_block();
        }
        Seal { length: self.length, checksum: self.whole.finish(), sums: self.sums.into() }
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "these bytes are ours")]
mod tests {
    use locus_core::{Area, Extension, FileKey, StoragePath};
    use rstest::rstest;

    use super::*;

    fn at(last: u8) -> BlobPath {
        let mut key = [0; 16];
        key[15] = last;
        BlobPath {
            area: Area::Live,
            owner: StoragePath::parse("acme").unwrap(),
            key: FileKey::from_bytes(key),
            extension: Extension::NONE,
        }
    }

    fn seal(content: &[u8]) -> Seal {
        let mut sealer = Sealer::default();
        content.chunks(100_003).for_each(|piece| sealer.push(piece));
        sealer.finish()
    }

    #[rstest]
    #[case(0)]
    #[case(1)]
    #[case(BLOCK_BYTES - 1)]
    #[case(BLOCK_BYTES)]
    #[case(BLOCK_BYTES + 1)]
    #[case(3 * BLOCK_BYTES + 17)]
    fn a_seal_is_read_back_and_tells_the_length_of_its_content(#[case] length: u64) {
        let content: Vec<u8> = (0..length).map(|n| (n ^ (n >> 9)) as u8).collect();
        let seal = seal(&content);
        let tail = seal.encode(&at(1));
        assert_eq!(sealed_len(length), Some(length + tail.len() as u64));
        assert_eq!(content_len(length + tail.len() as u64), Some(length));
        assert_eq!(seal.checksum, Checksum::of(&content));
        assert_eq!(Seal::decode(&tail, &at(1), length), Some(seal.clone()));
        assert!(is_footer(&tail[tail.len() - FOOTER_BYTES..], length));
        assert!(!is_footer(&tail[tail.len() - FOOTER_BYTES..], length + 1));
        assert!(seal.holds(0, &content));
        assert_eq!(Seal::decode(&tail, &at(2), length), None, "a copy under another name");
        assert_eq!(Seal::decode(&tail, &at(1), length + 1), None);
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        let content: Vec<u8> = (0..BLOCK_BYTES + 9).map(|n| n as u8).collect();
        let seal = seal(&content);
        for place in [0, 1, BLOCK_BYTES as usize - 1, BLOCK_BYTES as usize, content.len() - 1] {
            let mut harmed = content.clone();
            harmed[place] ^= 1;
            assert!(!seal.holds(0, &harmed), "byte {place}");
        }
        assert!(!seal.holds(0, &content[..content.len() - 1]), "a cut block");
        assert!(seal.holds(1, &content[BLOCK_BYTES as usize..]));
        assert!(!seal.holds(2, &[1]), "a block that is not there");
        let tail = seal.encode(&at(1));
        for place in 0..tail.len() {
            let mut harmed = tail.clone();
            harmed[place] ^= 1;
            assert_eq!(Seal::decode(&harmed, &at(1), content.len() as u64), None, "byte {place} of the seal");
        }
    }

    #[test]
    fn a_length_that_no_copy_has_is_known() {
        let known: Vec<u64> = (0..2_000).filter_map(content_len).collect();
        assert_eq!(known, (0..known.len() as u64).map(|n| if n == 0 { 0 } else { n }).collect::<Vec<_>>());
        assert_eq!(content_len(63), None);
        assert_eq!(content_len(65), None, "one byte has a sum");
        assert_eq!(sealed_len(u64::MAX), None);
    }
}
