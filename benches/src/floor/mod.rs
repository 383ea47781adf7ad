//! The floors: the system calls that a promise demands, and nothing else.

mod file;
mod group;
mod log;

use std::sync::atomic::{AtomicU64, Ordering};

pub use self::{file::FileFloor, log::LogFloor};

/// What `Ok` promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promise {
    /// Content, record and completion survive power loss.
    Durable,
    /// Content and record survive power loss; completions are handed to the kernel, and a sync of somebody else takes
    /// them along.
    LazyCompletions,
    /// All is handed to the kernel, and synced once a second.
    Buffered,
}

/// What one round does.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Cycles in all.
    pub cycles: u64,
    /// Cycles at the same time.
    pub in_flight: usize,
}

impl Load {
    /// Hands out the cycles to those who make them.
    #[must_use]
    pub fn turns(&self) -> Turns {
        Turns(AtomicU64::new(self.cycles))
    }
}

/// Cycles that nobody has taken yet.
#[derive(Debug)]
pub struct Turns(AtomicU64);

impl Turns {
    /// Takes one; `false` when there are none.
    pub fn take(&self) -> bool {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.is_ok()
    }
}

/// Bytes of the record that takes a file in: key, checksum, size, times, place, and its head.
const ENTRY_BYTES: usize = 160;
/// Bytes of every other record: key, token, time, and its head.
const NOTE_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_turn_is_taken_once() {
        let turns = Load { cycles: 3, in_flight: 1 }.turns();
        assert_eq!((0..9).filter(|_| turns.take()).count(), 3);
    }
}
