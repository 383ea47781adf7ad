//! Where the bytes of a content lie once it is sealed.
//!
//! Each segment is [`SEGMENT_BYTES`] of plaintext, the last one what is left, and [`TAG_BYTES`] more. An empty content is
//! one empty segment; no other content has an empty one.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ops::Range;

/// Plaintext in each segment but the last, in bytes.
pub const SEGMENT_BYTES: usize = 64 << 10;

/// What sealing adds to each segment, in bytes.
pub const TAG_BYTES: usize = 16;

const SEGMENT: u64 = SEGMENT_BYTES as u64;
const TAG: u64 = TAG_BYTES as u64;
const SEALED_SEGMENT: u64 = SEGMENT + TAG;

/// How long `plain` bytes are once they are sealed; `u64::MAX` when that cannot be said.
#[must_use]
pub const fn sealed_len(plain: u64) -> u64 {
    plain.saturating_add(segment_count(plain).saturating_mul(TAG))
}

/// How long the plaintext of `sealed` bytes is; `None` when nothing that was sealed has that length.
#[must_use]
pub const fn plain_len(sealed: u64) -> Option<u64> {
    let (whole, rest) = (sealed / SEALED_SEGMENT, sealed % SEALED_SEGMENT);
    let last = match rest.checked_sub(TAG) {
        Some(0) if whole > 0 => return None, // an empty segment after others
        Some(last) => last,
        None if rest == 0 && whole > 0 => 0,
        None => return None,
    };
    Some(whole.saturating_mul(SEGMENT).saturating_add(last))
}

/// How many segments a content has: at least one.
pub(super) const fn segment_count(plain: u64) -> u64 {
    let segments = plain.div_ceil(SEGMENT);
    if segments == 0 { 1 } else { segments }
}

/// The segments that hold a range of a content, see [`segments_of`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Their indices.
    pub indices: Range<u64>,
    /// Where they lie among the sealed bytes.
    pub sealed: Range<u64>,
    /// Which bytes of their plaintext are the ones asked for.
    pub wanted: Range<u64>,
    /// The index of the content's last segment.
    pub last: u64,
}

/// Which sealed bytes hold `range` of a content of `plain_len` bytes. What lies behind the content's end is cut off; an
/// empty range needs no segment.
#[must_use]
pub fn segments_of(range: Range<u64>, plain_len: u64) -> Segments {
    let end = range.end.min(plain_len);
    let start = range.start.min(end);
    let last = segment_count(plain_len).saturating_sub(1);
    let first = start / SEGMENT;
    let behind = if start == end { first } else { end.div_ceil(SEGMENT) };
    let skipped = first.saturating_mul(SEGMENT);
    Segments {
        indices: first..behind,
        sealed: sealed_at(first, plain_len)..sealed_at(behind, plain_len),
        wanted: start.saturating_sub(skipped)..end.saturating_sub(skipped),
        last,
    }
}

/// Where segment `index` begins, or the end of the last one.
fn sealed_at(index: u64, plain_len: u64) -> u64 {
    index.saturating_mul(SEALED_SEGMENT).min(sealed_len(plain_len))
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "tests count small numbers")]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::empty(0, 16)]
    #[case::one_byte(1, 17)]
    #[case::a_segment_less_one(65_535, 65_551)]
    #[case::a_segment(65_536, 65_552)]
    #[case::a_segment_and_one(65_537, 65_569)]
    #[case::two_segments(131_072, 131_104)]
    fn each_segment_is_sixteen_bytes_longer(#[case] plain: u64, #[case] sealed: u64) {
        assert_eq!(sealed_len(plain), sealed);
        assert_eq!(plain_len(sealed), Some(plain));
    }

    #[rstest]
    #[case::nothing(0)]
    #[case::less_than_a_tag(15)]
    #[case::an_empty_segment_after_another(65_552 + 16)]
    #[case::less_than_a_tag_after_a_segment(65_552 + 15)]
    fn no_content_has_such_a_length(#[case] sealed: u64) {
        assert_eq!(plain_len(sealed), None);
    }

    #[test]
    fn lengths_that_cannot_be_said_do_no_harm() {
        assert_eq!(sealed_len(u64::MAX), u64::MAX);
        assert!(plain_len(u64::MAX).is_some_and(|plain| plain < u64::MAX));
        let all = segments_of(0..u64::MAX, u64::MAX);
        assert_eq!(all.indices, 0..u64::MAX.div_ceil(SEGMENT));
    }

    #[test]
    fn an_empty_range_needs_no_segment() {
        for (range, plain) in [(0..0, 0), (0..9, 0), (7..7, 9), (70_000..70_000, 131_072), (99..200, 9)] {
            let none = segments_of(range, plain);
            assert!(none.indices.is_empty() && none.sealed.is_empty() && none.wanted.is_empty(), "{none:?}");
        }
    }

    proptest! {
        #[test]
        fn the_segments_of_a_range_hold_it_and_no_segment_too_many(
            plain in 1..500_000_u64, from in 0..500_000_u64, len in 1..200_000_u64,
        ) {
            prop_assume!(from < plain);
            let range = from..from + len;
            let found = segments_of(range.clone(), plain);
            let end = range.end.min(plain);
            prop_assert_eq!(found.indices.start, from / SEGMENT);
            prop_assert_eq!(found.indices.end, (end - 1) / SEGMENT + 1);
            prop_assert_eq!(found.indices.start * SEGMENT + found.wanted.start, from);
            prop_assert_eq!(found.wanted.end - found.wanted.start, end - from);
            prop_assert_eq!(found.sealed.start, found.indices.start * SEALED_SEGMENT);
            let whole = found.indices.end <= found.last;
            let sealed_end = if whole { found.indices.end * SEALED_SEGMENT } else { sealed_len(plain) };
            prop_assert_eq!(found.sealed.end, sealed_end);
        }

        #[test]
        fn a_length_that_is_told_is_the_length_of_what_was_sealed(sealed in 0..400_000_u64) {
            if let Some(plain) = plain_len(sealed) {
                prop_assert_eq!(sealed_len(plain), sealed);
            }
        }
    }
}
