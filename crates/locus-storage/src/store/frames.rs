//! How a checkpoint lies in its file, as pure functions of bytes. `docs/format.md` says it byte by byte.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::checkpoint::Frame;
use crate::journal::plain_checksum;

/// Length of the head of the file.
pub(crate) const HEAD_BYTES: u64 = 16;
/// Length of what stands before each frame.
pub(crate) const FRAME_HEAD_BYTES: u64 = 12;
/// The newest format that is read, and the one that is written.
pub(crate) const FORMAT: u32 = 1;
/// Largest frame that is believed.
const FRAME_BYTES_MAX: u32 = 64 << 20;
const MAGIC: [u8; 8] = *b"LOCUSCKP";

/// Why bytes are not the head of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadFault {
    /// Something else, or damaged.
    Bad,
    /// Written by a newer version.
    Newer(u32),
}

/// The head of a checkpoint's file.
pub(crate) fn encode_head() -> Vec<u8> {
    [&MAGIC[..], &FORMAT.to_le_bytes(), &[0; 4]].concat()
}

/// Checks the head of a checkpoint's file. A later format is believed only if it vouches for itself: a damaged checkpoint is
/// to be passed over, and not to be taken for one of a newer version.
pub(crate) fn check_head(head: &[u8]) -> Result<(), HeadFault> {
    let (covered, vouched) = head.split_at_checked(12).ok_or(HeadFault::Bad)?;
    let format = covered.strip_prefix(&MAGIC).and_then(|rest| rest.first_chunk());
    match format.map(|format| u32::from_le_bytes(*format)) {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT && vouched.first_chunk() == Some(&vouch(covered)) => {
            Err(HeadFault::Newer(newer))
        }
        _ => Err(HeadFault::Bad),
    }
}

/// What formats after the first one write behind their number.
fn vouch(covered: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = plain_checksum(covered).to_le_bytes();
    [a, b, c, d]
}

/// What stands before a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHead {
    length: u32,
    checksum: u64,
}

impl FrameHead {
    pub(crate) fn of(payload: &[u8]) -> Self {
        Self { length: payload.len() as u32, checksum: plain_checksum(payload) }
    }

    pub(crate) fn encode(self) -> [u8; FRAME_HEAD_BYTES as usize] {
        let mut bytes = [0; FRAME_HEAD_BYTES as usize];
        let fields = self.length.to_le_bytes().into_iter().chain(self.checksum.to_le_bytes());
        bytes.iter_mut().zip(fields).for_each(|(byte, field)| *byte = field);
        bytes
    }

    /// `None` when the bytes are too few, or what they announce is longer than any frame.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let head =
            Self { length: u32::from_le_bytes(*length), checksum: u64::from_le_bytes(*rest.first_chunk()?) };
        (head.length <= FRAME_BYTES_MAX).then_some(head)
    }

    /// How long the frame behind it is.
    pub(crate) fn length(self) -> u32 {
        self.length
    }

    /// Reads the frame.
    pub(crate) fn frame(self, payload: &[u8]) -> Result<Frame, &'static str> {
        if payload.len() != self.length as usize || plain_checksum(payload) != self.checksum {
            return Err("a checksum is wrong");
        }
        postcard::from_bytes(payload).map_err(|_| "a part cannot be decoded")
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "these bytes are ours")]
mod tests {
    use super::*;

    #[test]
    fn b61_b68_a_damaged_format_is_damage_and_a_newer_one_vouches_for_itself() {
        let good = encode_head();
        assert_eq!(good.len() as u64, HEAD_BYTES);
        assert_eq!(check_head(&good), Ok(()));
        for bit in 0..12 * 8 {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check_head(&flipped), Err(HeadFault::Bad), "bit {bit}");
        }
        let mut newer = [&MAGIC[..], &7_u32.to_le_bytes()].concat();
        newer.extend(vouch(&newer));
        assert_eq!(check_head(&newer), Err(HeadFault::Newer(7)));
        for length in 0..12 {
            assert_eq!(check_head(&good[..length]), Err(HeadFault::Bad));
        }
    }
}
