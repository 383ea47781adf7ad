//! Completed files that are kept for a while, record and bytes, before they wait to be reaped.

use std::time::Duration;

use locus_core::{FileStatus, StoreTime};

use super::{Entry, TenantState};

impl TenantState {
    /// Completed files are kept so long, from now on.
    pub(crate) fn keep_completed(&mut self, retention: Duration) {
        self.completed_retention = retention;
    }

    /// Whether an entry that is over is to be kept for a while first.
    pub(super) fn keeps(&self, entry: &Entry) -> bool {
        entry.status == FileStatus::Completed && self.completed_retention > Duration::ZERO
    }

    /// Whether bytes and record of an entry stay: it lives, or it is kept.
    pub(crate) fn stays(&self, entry: &Entry) -> bool {
        !entry.status.is_over() || self.is_kept(entry)
    }

    /// Whether a completed file is kept still.
    pub(crate) fn is_kept(&self, entry: &Entry) -> bool {
        let is_among = |at| self.kept.contains(&(entry.moment, at));
        !self.kept.is_empty() && entry.status.is_over() && self.find(&entry.key).is_some_and(is_among)
    }

    /// Files that are kept.
    pub(crate) fn kept_count(&self) -> u64 {
        self.kept.len() as u64
    }

    /// When the time of the next of them is over.
    pub(crate) fn kept_until(&self) -> Option<StoreTime> {
        self.kept.first().map(|(since, _)| since.saturating_add(self.completed_retention))
    }

    /// Lets up to `max` of those go whose time is over. Says how many.
    pub(crate) fn let_go(&mut self, now: StoreTime, max: usize) -> usize {
        let mut gone = 0;
        while gone < max && self.kept_until().is_some_and(|until| until <= now) {
            let Some((_, at)) = self.kept.pop_first() else { break };
            let entry = &self.files[at];
            self.effects.over.push((entry.last, entry.rest.number(), entry.key));
            gone += 1;
        }
        gone
    }
}
