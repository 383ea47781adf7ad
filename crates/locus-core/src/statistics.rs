//! What sweeps did.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Most failures of which the place is kept.
pub const FAILURES_MAX: usize = 16;

/// What sweeps did, or, of a dry run, would have done.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct CleanupStatistics {
    /// Completed and deleted files whose bytes were removed.
    pub completed_removed: u64,
    /// Copies that moves between volumes and areas had left, and that were removed.
    pub copies_removed: u64,
    /// Leases that had run out and were written back.
    pub timed_out_reset: u64,
    /// Files that had failed for the last time and were deleted.
    pub permanently_failed_removed: u64,
    /// Files that had failed for the last time and were moved to the dead letters.
    pub dead_lettered: u64,
    /// Dead letters that were purged.
    pub dead_letters_removed: u64,
    /// Blobs without a record that became files.
    pub orphans_imported: u64,
    /// Blobs without a record that were put into quarantine.
    pub orphans_quarantined: u64,
    /// Blobs without a record that were removed.
    pub orphans_removed: u64,
    /// Blobs without a record that were left alone: of an unknown or disabled tenant, or of an earlier one of its name.
    pub orphans_skipped: u64,
    /// Blobs that did not lie where their record says, and were removed.
    pub residue_removed: u64,
    /// Staging of killed writes and ended uploads that was removed.
    pub staging_removed: u64,
    /// Uploads that were ended because nothing came for too long.
    pub uploads_expired: u64,
    /// Records whose bytes are certainly gone.
    pub missing_found: u64,
    /// Of these, records that were removed.
    pub missing_removed: u64,
    /// Files of other programs that were removed.
    pub junk_removed: u64,
    /// Directories on volumes that held nothing and were removed.
    pub empty_directories_removed: u64,
    /// Bytes freed by all of these.
    pub space_freed: u64,
    /// What journal and checkpoints took before the store was last optimised, in bytes.
    pub store_bytes_before: u64,
    /// What they took afterwards.
    pub store_bytes_after: u64,
    /// Failures that were met and passed by; they are tried again. Counted, and each told in the log.
    pub errors: u64,
    /// The first of them, 16 at most.
    pub failures: Vec<SweepFailure>,
    /// Time spent.
    pub duration: Duration,
}

/// Something that a sweep could not do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SweepFailure {
    /// What it was about: a file as `tenant/key`, a blob, a volume.
    pub place: String,
    /// What went wrong.
    pub error: String,
}

impl CleanupStatistics {
    /// Adds what another sweep did.
    pub fn add(&mut self, other: &Self) {
        self.completed_removed += other.completed_removed;
        self.copies_removed += other.copies_removed;
        self.timed_out_reset += other.timed_out_reset;
        self.permanently_failed_removed += other.permanently_failed_removed;
        self.dead_lettered += other.dead_lettered;
        self.dead_letters_removed += other.dead_letters_removed;
        self.orphans_imported += other.orphans_imported;
        self.orphans_quarantined += other.orphans_quarantined;
        self.orphans_removed += other.orphans_removed;
        self.orphans_skipped += other.orphans_skipped;
        self.residue_removed += other.residue_removed;
        self.staging_removed += other.staging_removed;
        self.uploads_expired += other.uploads_expired;
        self.missing_found += other.missing_found;
        self.missing_removed += other.missing_removed;
        self.junk_removed += other.junk_removed;
        self.empty_directories_removed += other.empty_directories_removed;
        self.space_freed += other.space_freed;
        if other.store_bytes_before > 0 {
            (self.store_bytes_before, self.store_bytes_after) =
                (other.store_bytes_before, other.store_bytes_after);
        }
        self.errors += other.errors;
        let room = FAILURES_MAX.saturating_sub(self.failures.len());
        self.failures.extend(other.failures.iter().take(room).cloned());
        self.duration += other.duration;
    }

    /// Adds a failure that was passed by.
    pub fn failed(&mut self, place: impl Into<String>, error: &crate::Error) {
        self.errors += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(SweepFailure { place: place.into(), error: error.to_string() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn failures_are_counted_and_the_first_are_kept() {
        let mut all = CleanupStatistics::default();
        for step in 0..3 {
            let mut one = CleanupStatistics::default();
            for place in 0..10 {
                one.failed(format!("{step}/{place}"), &Error::ShuttingDown);
            }
            all.add(&one);
        }
        assert_eq!((all.errors, all.failures.len()), (30, FAILURES_MAX));
        assert_eq!(all.failures[FAILURES_MAX - 1].place, "1/5");
    }
}
