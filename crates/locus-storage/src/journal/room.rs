//! Room in segments that are already written, reserved before anything is decided: an append cannot run out of disk.

use std::sync::Arc;

use super::{
    format::{RECORD_HEAD_BYTES, batch_bytes},
    log::Journal,
};

/// Reserved room; dropping it gives back what was not used.
#[derive(Debug)]
#[must_use = "dropping a room gives it back"]
pub(crate) struct Room {
    journal: Arc<Journal>,
    bytes: u64,
}

impl Room {
    /// Most that a record with a body of `body` bytes can take of the log: alone in its batch, and once more as padding
    /// when it does not fit into the rest of a segment.
    pub(crate) fn cost(body: usize) -> u64 {
        2 * batch_bytes((RECORD_HEAD_BYTES + body) as u64)
    }

    pub(super) fn new(journal: Arc<Journal>, bytes: u64) -> Self {
        Self { journal, bytes }
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
