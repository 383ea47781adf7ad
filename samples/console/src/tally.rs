//! What a run counts.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
};

use locus::FileKey;
use parking_lot::Mutex;

/// What a run counts while it goes on.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    bytes: AtomicU64,
    skipped: AtomicU64,
    forgotten: AtomicU64,
    read_in_journal: AtomicU64,
    read_on_volumes: AtomicU64,
    failed: Mutex<HashSet<FileKey>>,
    mismatched: Mutex<HashSet<FileKey>>,
}

impl Tally {
    /// A source was taken in, now or in an earlier run.
    pub(crate) fn took_in(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A source that an earlier run took in is to be taken in again.
    pub(crate) fn forgot_one(&self) {
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// A source could not be read.
    pub(crate) fn skipped_one(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// A file was found to be what its source was. Its content rested in the journal, or on a volume.
    pub(crate) fn processed_one(&self, in_journal: bool) {
        let place = if in_journal { &self.read_in_journal } else { &self.read_on_volumes };
        place.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt failed. However often a file fails, it counts once.
    pub(crate) fn failed_one(&self, key: FileKey) {
        self.failed.lock().insert(key);
    }

    /// A content is not what it was at intake.
    pub(crate) fn mismatched_one(&self, key: FileKey) {
        self.mismatched.lock().insert(key);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    pub(crate) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    pub(crate) fn processed(&self) -> u64 {
        self.read_in_journal() + self.read_on_volumes()
    }

    pub(crate) fn read_in_journal(&self) -> u64 {
        self.read_in_journal.load(Ordering::Relaxed)
    }

    pub(crate) fn read_on_volumes(&self) -> u64 {
        self.read_on_volumes.load(Ordering::Relaxed)
    }

    pub(crate) fn failed(&self) -> u64 {
        self.failed.lock().len() as u64
    }

    pub(crate) fn mismatched(&self) -> u64 {
        self.mismatched.lock().len() as u64
    }
}
