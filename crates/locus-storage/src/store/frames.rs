//! How a checkpoint lies in its file, as pure functions of bytes. `docs/format.md` says it byte by byte.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use locus_core::{Epoch, Lsn, StoreId};

use super::checkpoint::Frame;
use crate::{journal::plain_checksum, time::Stamp};

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

    /// What the frame behind it is; its entries are read by whoever wants them.
    pub(crate) fn part(self, payload: &[u8]) -> Result<Part<'_>, &'static str> {
        if payload.len() != self.length as usize || plain_checksum(payload) != self.checksum {
            return Err("a checksum is wrong");
        }
        match kind(payload)? {
            HEAD | END => {}
            0..KINDS => return Ok(Part::State(State(payload))),
            _ => return Err("a part is of a kind that is not known"),
        }
        match decode(payload)? {
            Frame::Head { store, begin, epoch, wall, time } => {
                Ok(Part::Head { store, begin, epoch, stamp: Stamp { wall, time } })
            }
            Frame::End { end, durable, entries } => Ok(Part::End { end, durable, entries }),
            _ => Err(UNREADABLE),
        }
    }
}

/// What kinds of [`Frame`] begin with,
const HEAD: u32 = 0;
const FILES: u32 = 1;
const END: u32 = 4;
/// and how many there are.
const KINDS: u32 = 10;

const UNREADABLE: &str = "a part cannot be decoded";

fn kind(payload: &[u8]) -> Result<u32, &'static str> {
    postcard::take_from_bytes(payload).map(|(kind, _)| kind).map_err(|_| UNREADABLE)
}

fn decode(payload: &[u8]) -> Result<Frame, &'static str> {
    postcard::from_bytes(payload).map_err(|_| UNREADABLE)
}

/// A frame whose checksum is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Head { store: StoreId, begin: Lsn, epoch: Epoch, stamp: Stamp },
    State(State<'a>),
    End { end: Lsn, durable: Lsn, entries: u64 },
}

/// A frame between the head and the end: what the store held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct State<'a>(&'a [u8]);

impl State<'_> {
    pub(crate) fn decode(self) -> Result<Frame, &'static str> {
        decode(self.0)
    }

    /// How many files it holds, without reading them.
    pub(crate) fn entries(self) -> Result<u64, &'static str> {
        if kind(self.0)? != FILES {
            return Ok(0);
        }
        // Its kind, its tenant, and the length of the list.
        let (begin, _) = postcard::take_from_bytes::<(u32, &str, u64)>(self.0).map_err(|_| UNREADABLE)?;
        Ok(begin.2)
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "these bytes are ours")]
mod tests {
    use locus_core::TenantId;

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

    #[test]
    fn what_a_frame_begins_with_tells_its_kind_and_how_many_files_it_holds() {
        let files = Frame::Files { tenant: TenantId::parse("acme").unwrap(), entries: Vec::new() };
        let others = Frame::Limits { limits: Vec::new() };
        let head = Frame::Head {
            store: StoreId::from_bytes([1; 16]),
            begin: Lsn(1),
            epoch: Epoch::default(),
            wall: Stamp::default().wall,
            time: Stamp::default().time,
        };
        let end = Frame::End { end: Lsn(2), durable: Lsn(1), entries: 3 };
        for (frame, kind) in [(&head, Some(HEAD)), (&files, Some(FILES)), (&others, None), (&end, Some(END))]
        {
            let payload = postcard::to_stdvec(frame).unwrap();
            assert!(kind.is_none_or(|kind| super::kind(&payload) == Ok(kind)));
            let part = FrameHead::of(&payload).part(&payload).unwrap();
            match part {
                Part::State(state) => {
                    assert_eq!((state.decode().as_ref(), state.entries()), (Ok(frame), Ok(0)));
                }
                Part::Head { begin, .. } => assert_eq!((kind, begin), (Some(HEAD), Lsn(1))),
                Part::End { entries, .. } => assert_eq!((kind, entries), (Some(END), 3)),
            }
        }
        // Spelled at length, a kind is what it is; the last one is known, and none behind it.
        for (payload, known) in
            [(vec![0x84, 0, 0, 0, 0], true), (vec![9, 0, 0], true), (vec![10, 0, 0], false), (vec![], false)]
        {
            assert_eq!(FrameHead::of(&payload).part(&payload).is_ok(), known, "{payload:?}");
        }
        assert!(matches!(FrameHead::of(&[0x84, 0, 0, 0, 0]).part(&[0x84, 0, 0, 0, 0]), Ok(Part::End { .. })));
        let seals = postcard::to_stdvec(&Frame::Seals {
            tenant: TenantId::parse("acme").unwrap(),
            seals: Vec::new(),
        });
        assert_eq!(kind(&seals.unwrap()), Ok(KINDS - 1), "the last kind");
        // The number stands before the entries: it is told without them.
        let mut payload = postcard::to_stdvec(&files).unwrap();
        *payload.last_mut().unwrap() = 7;
        let Part::State(state) = FrameHead::of(&payload).part(&payload).unwrap() else { panic!("a head") };
        assert_eq!((state.entries(), state.decode()), (Ok(7), Err(UNREADABLE)));
    }
}
