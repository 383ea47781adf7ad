//! Where bytes lie in the log.

use serde::{Deserialize, Serialize};

/// Bits of a position inside a segment: none is larger than 1 GiB.
const OFFSET_BITS: u32 = 30;

/// Where an attachment, or a part of one, begins: a segment and a position in it, in eight bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct LogPlace(u64);

impl LogPlace {
    pub(crate) const fn new(segment: u64, offset: u64) -> Self {
        Self(segment << OFFSET_BITS | offset)
    }

    pub(crate) const fn segment(self) -> u64 {
        self.0 >> OFFSET_BITS
    }

    pub(crate) const fn offset(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }

    /// So many bytes further on.
    pub(crate) const fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl std::fmt::Display for LogPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "segment {} at offset {}", self.segment(), self.offset())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_its_segment_and_its_position() {
        let place = LogPlace::new(7_000_000, 4_096).plus((1 << 30) - 4_097);
        assert_eq!((place.segment(), place.offset()), (7_000_000, (1 << 30) - 1));
    }
}
