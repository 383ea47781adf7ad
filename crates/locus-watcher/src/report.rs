//! What a scan did, and why a source is held back.

use std::{collections::BTreeMap, path::PathBuf};

use locus_core::{Timestamp, WatcherId};
use serde::Serialize;

use crate::reason::SkipReason;

/// What a scan did; or several, added up.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[non_exhaustive]
pub struct ScanReport {
    /// Everything that was met and is no folder.
    pub discovered: u64,
    /// Sources that were brought in.
    pub imported: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Sources that had been brought in before and were now removed or moved, nothing else.
    pub finished: u64,
    /// What stays where it is, by reason; folders that were not looked into are among them.
    pub skipped: BTreeMap<SkipReason, u64>,
    /// Attempts to bring in, to remove or to move that failed. The sources count as skipped, too.
    pub failed: u64,
}

impl ScanReport {
    pub(crate) fn skip(&mut self, why: SkipReason) {
        *self.skipped.entry(why).or_default() += 1;
    }

    /// Adds what another scan did.
    pub(crate) fn add(&mut self, other: &Self) {
        self.discovered += other.discovered;
        self.imported += other.imported;
        self.bytes += other.bytes;
        self.finished += other.finished;
        self.failed += other.failed;
        for (why, count) in &other.skipped {
            *self.skipped.entry(*why).or_default() += count;
        }
    }
}

/// Why a source lies where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Explanation {
    /// The watcher in whose folder it lies.
    pub watcher: WatcherId,
    /// The source, from the watched folder on.
    pub path: PathBuf,
    /// The first rule that holds it back; `None` when none does: the next scan brings it in.
    pub held_by: Option<SkipReason>,
    /// When it is tried again, as far as is known: by the next scan, or when a pause is over that began with a failure or a
    /// refusal; never while the watcher is disabled.
    pub next_look: Option<Timestamp>,
}
