//! Keeping contents on volumes although their files end.

use std::sync::Arc;

use locus_core::Lsn;

use super::embedded::EmbeddedStore;

/// As long as this lives, no content is removed from a volume because its file ends from now on. The file ends all the
/// same; its bytes, its record and its place in quotas go when the hold does. Contents in the journal are not held, but no
/// completed file that is kept for a while is let go, wherever it rests.
/// [`settled`](locus_core::Upkeep::settled) waits for it.
#[derive(Debug)]
#[must_use = "contents are held only as long as this lives"]
pub struct ContentHold {
    store: Arc<EmbeddedStore>,
    number: u64,
}

impl ContentHold {
    /// Files that ended up to here are reaped as ever.
    fn begin(store: &Arc<EmbeddedStore>) -> Self {
        let number = store.reap.lock().hold(|| store.journal.last_appended());
        Self { store: Arc::clone(store), number }
    }
}

impl Drop for ContentHold {
    fn drop(&mut self) {
        self.store.reap.lock().let_go(self.number);
        self.store.reap_changed.notify_waiters();
    }
}

impl EmbeddedStore {
    /// Holds contents on volumes from now on: see [`ContentHold`].
    pub fn hold_contents(self: &Arc<Self>) -> ContentHold {
        ContentHold::begin(self)
    }
}

/// The files that may be reaped while some are held.
#[derive(Debug, Default)]
pub(super) struct Holds {
    next: u64,
    held: std::collections::BTreeMap<u64, Lsn>,
}

impl Holds {
    pub(super) fn add(&mut self, from: Lsn) -> u64 {
        self.next += 1;
        self.held.insert(self.next, from);
        self.next
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.held.remove(&number);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Ends up to here are not held.
    pub(super) fn limit(&self) -> Lsn {
        self.held.values().copied().min().unwrap_or(Lsn::MAX)
    }
}
