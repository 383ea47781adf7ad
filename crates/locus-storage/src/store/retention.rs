//! How long completed files are kept, and who lets them go.

use locus_core::{FileStatus, StoreTime};

use super::{embedded::EmbeddedStore, entry::Entry, tenant::TenantState};

/// So many files are let go by one call, so that its cost is bounded.
const LET_GO_MAX: usize = 4_096;

impl EmbeddedStore {
    /// Lets completed files go whose time is over: from now on they wait to be reaped. None while contents are held.
    pub(super) fn let_kept_go(&self) {
        let mut left = LET_GO_MAX;
        while left > 0
            && !self.reap.lock().is_held()
            && let Some(no) = self.schedule.take_kept(self.clock.now())
        {
            let cell = self.cell_at(no);
            let mut state = cell.state.lock();
            left -= state.let_go(self.clock.now(), left).min(left);
            self.after(&cell, &mut state); // puts the tenant back into the schedule
        }
    }

    /// When the next completed file is to be let go; `None` when none is kept, or contents are held.
    pub(super) fn kept_until(&self) -> Option<StoreTime> {
        if self.reap.lock().is_held() { None } else { self.schedule.next_kept() }
    }

    /// Whether deleting this file changes something: it lives, or it is completed and not about to be removed.
    pub(super) fn can_be_deleted(&self, state: &TenantState, entry: &Entry) -> bool {
        match entry.status {
            FileStatus::Deleted => false,
            FileStatus::Completed => state.is_kept(entry),
            _ => true,
        }
    }
}
