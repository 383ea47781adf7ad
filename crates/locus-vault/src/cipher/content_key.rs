//! The key of one content, and what it seals and opens.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{fmt, ops::Range};

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::{
    aead::{Aes256Gcm, NONCE_BYTES},
    data_key::{DATA_KEY_BYTES, DataKey},
    salt::Salt,
    segments::{SEGMENT_BYTES, TAG_BYTES, plain_len, sealed_len, segments_of},
    suite::Suite,
};

/// Keeps these keys apart from any others that are derived from the same data key.
const LABEL: &[u8; 17] = b"locus content key";

/// Sealed bytes are not what was sealed under this key: they were changed, cut, put in another order, or belong to
/// another header, salt or data key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("segment {segment} does not open")]
pub struct Tampered {
    /// The first segment that does not open.
    pub segment: u64,
}

/// The key of one content: HKDF-SHA256 of a data key and a salt, bound to a header.
///
/// The header's bytes are neither in what is sealed nor secret, but what was sealed opens only beside the same bytes. Shown
/// by nothing.
pub struct ContentKey(Aes256Gcm);

impl ContentKey {
    /// The key of the content with this salt and header. Takes time in proportion to the header.
    #[must_use]
    pub fn derive(data_key: &DataKey, salt: &Salt, header: &[u8]) -> Self {
        let suite = [u8::from(Suite::Aes256GcmHkdfSha256)];
        let mut key = Zeroizing::new([0; DATA_KEY_BYTES]);
        Hkdf::<Sha256>::new(Some(salt.as_bytes()), data_key.expose())
            .expand_multi_info(&[LABEL, &suite, &Sha256::digest(header)], &mut *key)
            .expect("because HKDF gives up to 255 times as much");
        Self(Aes256Gcm::new(&key))
    }

    /// Seals a whole content. The answer is [`sealed_len`] bytes long.
    #[must_use]
    pub fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        self.seal_behind(plaintext, &mut sealed);
        sealed
    }

    /// As [`seal`](Self::seal), behind what is in `out`.
    pub(crate) fn seal_behind(&self, plaintext: &[u8], out: &mut Vec<u8>) {
        out.reserve_exact(room(sealed_len(plaintext.len() as u64)));
        let mut rest = plaintext;
        for index in 0_u64.. {
            let Some((segment, behind)) =
                rest.split_at_checked(SEGMENT_BYTES).filter(|(_, behind)| !behind.is_empty())
            else {
                self.seal_segment(index, true, rest, out);
                break;
            };
            self.seal_segment(index, false, segment, out);
            rest = behind;
        }
    }

    /// Seals segment `index` behind what is in `out`. All segments of a content are to be sealed once each, with one
    /// length of [`SEGMENT_BYTES`] but for the last, which is empty only when it is also the first.
    ///
    /// # Panics
    /// When the segment has a length that no segment in its place has: what was sealed so would not open.
    pub fn seal_segment(&self, index: u64, last: bool, plaintext: &[u8], out: &mut Vec<u8>) {
        assert!(fits(index, last, plaintext.len()), "segment {index} cannot have {} bytes", plaintext.len());
        let start = out.len();
        out.extend_from_slice(plaintext);
        let tag = self.0.seal(nonce(index, last), out.get_mut(start..).unwrap_or_default());
        out.extend_from_slice(&tag);
    }

    /// Opens a whole content.
    ///
    /// # Errors
    /// [`Tampered`], whatever is wrong, and nothing of the content.
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Tampered> {
        let Some(len) = plain_len(sealed.len() as u64) else {
            return Err(Tampered { segment: (sealed.len() / SEALED_SEGMENT) as u64 });
        };
        self.open_all(0, segments_of(0..len, len).last, sealed, len)
    }

    /// Opens a whole content where it lies, and says how long it is. What stands behind it then means nothing.
    ///
    /// # Errors
    /// [`Tampered`], whatever is wrong, and nothing of the content: the bytes are overwritten.
    #[cfg(feature = "entities")]
    pub(crate) fn open_in_place(&self, sealed: &mut [u8]) -> Result<usize, Tampered> {
        let opened = self.try_in_place(sealed);
        if opened.is_err() {
            super::wiped::wipe(sealed); // nobody sees what was not proven
        }
        opened
    }

    #[cfg(feature = "entities")]
    fn try_in_place(&self, sealed: &mut [u8]) -> Result<usize, Tampered> {
        let last = (sealed.len().div_ceil(SEALED_SEGMENT) as u64).saturating_sub(1);
        let (mut from, mut opened) = (0_usize, 0_usize);
        for index in 0..=last {
            let tampered = Tampered { segment: index };
            let segment = sealed.get_mut(from..).unwrap_or_default();
            let (segment, _) = segment.split_at_mut(segment.len().min(SEALED_SEGMENT));
            let len = segment.len().checked_sub(TAG_BYTES).ok_or(tampered)?;
            let is_last = index == last;
            if !fits(index, is_last, len) || !self.0.open_in_place(nonce(index, is_last), segment) {
                return Err(tampered);
            }
            if from > opened {
                sealed.copy_within(from..from.saturating_add(len), opened);
            }
            (from, opened) = (from.saturating_add(SEALED_SEGMENT), opened.saturating_add(len));
        }
        Ok(opened)
    }

    /// Opens `range` of a content of `plain_len` bytes, given the [sealed bytes that hold it](segments_of). What lies
    /// behind the content's end is cut off, and an empty range is an empty answer, which says nothing about the content.
    ///
    /// That a content was cut is seen in its last segment alone: take `plain_len` from the header that the key was
    /// derived with, not from the length of a file.
    ///
    /// # Errors
    /// [`Tampered`], when anything is wrong with these segments, and nothing of the content.
    pub fn open_range(
        &self,
        range: Range<u64>,
        plain_len: u64,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Tampered> {
        let segments = segments_of(range, plain_len);
        let first = segments.indices.start;
        if segments.sealed.end.saturating_sub(segments.sealed.start) != sealed.len() as u64 {
            return Err(Tampered { segment: first });
        }
        if segments.indices.is_empty() {
            return Ok(Zeroizing::default());
        }
        let mut opened = self.open_all(first, segments.last, sealed, sealed.len() as u64)?;
        let (start, end) = (room(segments.wanted.start), room(segments.wanted.end));
        opened.truncate(end);
        opened.drain(..start.min(end));
        Ok(opened)
    }

    /// Opens segments from `first` on, of a content whose last one is `last`.
    fn open_all(
        &self,
        first: u64,
        last: u64,
        sealed: &[u8],
        len: u64,
    ) -> Result<Zeroizing<Vec<u8>>, Tampered> {
        // With room for all from the beginning, so that no copy is left behind by growing.
        let mut opened = Zeroizing::new(Vec::with_capacity(room(len)));
        for (index, segment) in (first..).zip(sealed.chunks(SEALED_SEGMENT)) {
            self.open_segment(index, index == last, segment, &mut opened)?;
        }
        Ok(opened)
    }

    /// Opens segment `index` behind what is in `out`.
    ///
    /// # Errors
    /// [`Tampered`]: it is not what was sealed as this segment, last or not. `out` is then as it was.
    pub fn open_segment(
        &self,
        index: u64,
        last: bool,
        sealed: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Tampered> {
        let tampered = Tampered { segment: index };
        let (text, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(tampered)?;
        if !fits(index, last, text.len()) {
            return Err(tampered);
        }
        let start = out.len();
        out.resize(start.saturating_add(text.len()), 0);
        let room = out.get_mut(start..).unwrap_or_default();
        if self.0.open(nonce(index, last), text, tag, room) {
            return Ok(());
        }
        room.zeroize(); // nobody sees what was not proven
        out.truncate(start);
        Err(tampered)
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(..)")
    }
}

const SEALED_SEGMENT: usize = SEGMENT_BYTES + TAG_BYTES;

/// Whether a segment in this place can have `len` bytes of plaintext.
fn fits(index: u64, last: bool, len: usize) -> bool {
    if last { len <= SEGMENT_BYTES && (len > 0 || index == 0) } else { len == SEGMENT_BYTES }
}

fn nonce(index: u64, last: bool) -> [u8; NONCE_BYTES] {
    let [a, b, c, d, e, f, g, h] = index.to_be_bytes();
    [0, 0, 0, a, b, c, d, e, f, g, h, u8::from(last)]
}

/// A length in memory: what does not fit is not there.
fn room(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(all(test, feature = "entities"))]
#[expect(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests damage what they sealed")]
mod tests {
    use locus_testkit::SeededEntropy;
    use rstest::rstest;

    use super::*;

    fn key() -> ContentKey {
        let random = SeededEntropy::new(3);
        ContentKey::derive(&DataKey::draw(&random), &Salt::draw(&random), b"header")
    }

    #[rstest]
    fn what_was_sealed_opens_where_it_lies(
        #[values(0, 1, 65_535, 65_536, 65_537, 131_072, 200_000)] len: usize,
    ) {
        let plain = (0..len).map(|at| (at * 7 + at / 256) as u8).collect::<Vec<_>>();
        let mut sealed = b"before".to_vec();
        key().seal_behind(&plain, &mut sealed);
        assert_eq!(sealed.split_off(6), key().seal(&plain));
        assert_eq!(sealed, b"before");
        let mut bytes = key().seal(&plain);
        assert_eq!(key().open_in_place(&mut bytes), Ok(len));
        assert_eq!(bytes[..len], plain);
    }

    #[test]
    fn nothing_is_left_of_what_does_not_open() {
        let good = key().seal(&[5; 2 * SEGMENT_BYTES + 50]);
        let segments = [0, SEALED_SEGMENT, 2 * SEALED_SEGMENT];
        for (segment, at) in segments.into_iter().enumerate() {
            let mut bad = good.clone();
            bad[at + 7] ^= 1;
            assert_eq!(key().open_in_place(&mut bad), Err(Tampered { segment: segment as u64 }));
            assert!(bad.iter().all(|byte| *byte == 0), "segment {segment}");
        }
        for len in [0, 15, 16, SEALED_SEGMENT, SEALED_SEGMENT + 15, SEALED_SEGMENT + 16, 2 * SEALED_SEGMENT] {
            assert!(key().open_in_place(&mut good[..len].to_vec()).is_err(), "cut at {len}");
        }
    }
}
