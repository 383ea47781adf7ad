//! Room in segments that are already written, reserved before anything is decided: an append cannot run out of disk.

use std::sync::Arc;

use super::{
    format::{ALIGN, RECORD_HEAD_BYTES, batch_bytes},
    log::Journal,
};

/// What room is for: some of the log is kept back from some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// New files, and whatever else can wait for a disk with room.
    Accept,
    /// Moving contents, which makes room: it may use two files that accepts leave.
    Move,
    /// What drains a full disk: leases and their ends, deletions, reaping, checkpoints, opening (ENGINE 7).
    Essential,
}

impl Use {
    /// How many ready files it leaves untouched.
    pub(super) const fn keeps(self) -> usize {
        match self {
            Self::Accept => super::keep::RESERVE_FILES + super::keep::MOVE_FILES,
            Self::Move => super::keep::RESERVE_FILES,
            Self::Essential => 0,
        }
    }
}

/// Reserved room; dropping it gives back what was not used.
#[derive(Debug)]
#[must_use = "dropping a room gives it back"]
pub(crate) struct Room {
    journal: Arc<Journal>,
    bytes: u64,
}

impl Room {
    /// Most that a record with a body and attachments of `bytes` bytes together can take of the log: alone in its batch,
    /// and once more as padding when it does not fit into the rest of a segment.
    pub(crate) fn cost(bytes: usize) -> u64 {
        2 * batch_bytes((RECORD_HEAD_BYTES + bytes) as u64)
    }

    pub(super) fn new(journal: Arc<Journal>, bytes: u64) -> Self {
        Self { journal, bytes }
    }

    /// What an attachment of `bytes` adds to the cost of its record, at most.
    pub(crate) fn share(bytes: u64) -> u64 {
        2 * bytes.next_multiple_of(ALIGN)
    }

    /// Adds another room to this one.
    pub(crate) fn join(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Takes what one record needs out of the room.
    pub(super) fn take(&mut self, cost: u64) -> u64 {
        debug_assert!(cost <= self.bytes, "a record of cost {cost} came with room for {}", self.bytes);
        self.bytes = self.bytes.saturating_sub(cost);
        cost
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.journal.give_back(self.bytes);
    }
}
