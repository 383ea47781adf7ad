//! What a run did.

use std::time::Duration;

use comfy_table::Table;
use locus::Locus;
use serde::Serialize;

use crate::{
    plan::Plan,
    table::{align_numbers, size, table},
    tally::Tally,
};

/// What a run did. Printed as a table, or as one line of JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Sources taken in over the life of the data directory: their idempotency keys are never forgotten, so that is how
    /// many are remembered.
    files: u64,
    /// Bytes of the sources that this run found to be taken in, whenever that was.
    bytes: u64,
    /// Files that were taken in and are neither pending nor given up: a file goes in no other way than by completion.
    completed: u64,
    /// Files of which this run saw an attempt fail.
    retried: u64,
    permanently_failed: u64,
    /// Files whose content is not what their source had at intake.
    mismatched: u64,
    /// Files that wait, delayed ones included.
    pending: u64,
    /// Sources that could not be read.
    skipped: u64,
    /// Files found pending or leased at start.
    recovered: u64,
    seconds: f64,
    /// Files that this run processed, by its seconds.
    files_per_second: f64,
    /// Of `files`, those that this run took in.
    files_now: u64,
    /// Files that this run processed.
    completed_now: u64,
    /// The run was stopped before everything was done.
    pub(crate) interrupted: bool,
}

impl Report {
    /// The state of things, `before` being the number of idempotency keys at start.
    pub(crate) fn new(locus: &Locus, tally: &Tally, before: u64, interrupted: bool) -> Self {
        let counts = locus.counts();
        let pending = counts.values().map(|tenant| tenant.pending + tenant.processing).sum::<u64>();
        let permanently_failed = counts.values().map(|tenant| tenant.permanently_failed).sum::<u64>();
        let files = locus.statistics().idempotency_keys;
        Self {
            files,
            bytes: tally.bytes(),
            completed: files.saturating_sub(pending + permanently_failed),
            retried: tally.failed(),
            permanently_failed,
            mismatched: tally.mismatched(),
            pending,
            skipped: tally.skipped(),
            recovered: locus.open_report().recovered,
            seconds: 0.0,
            files_per_second: 0.0,
            files_now: (files + tally.forgotten()).saturating_sub(before),
            completed_now: tally.processed(),
            interrupted,
        }
    }

    pub(crate) fn took(&mut self, time: Duration) {
        self.seconds = rounded(time.as_secs_f64());
        self.files_per_second = rounded(self.completed_now as f64 / time.as_secs_f64().max(0.001));
    }

    /// Nothing was found damaged, and nothing was given up.
    pub(crate) fn is_good(&self) -> bool {
        self.mismatched == 0 && self.permanently_failed == 0
    }

    /// For people.
    pub(crate) fn table(&self, plan: &Plan) -> Table {
        let mut table = table(["what happened", ""]);
        let rows = [
            ("files taken in", format!("{} ({} now)", self.files, self.files_now)),
            ("bytes", size(self.bytes)),
            ("completed", format!("{} ({} now)", self.completed, self.completed_now)),
            ("failed once or more, and came back", self.retried.to_string()),
            ("given up", self.permanently_failed.to_string()),
            ("contents not as at intake", self.mismatched.to_string()),
            ("still pending", self.pending.to_string()),
            ("skipped", self.skipped.to_string()),
            ("found waiting at start", self.recovered.to_string()),
            ("time", format!("{:.1} s, {:.0} files/s", self.seconds, self.files_per_second)),
        ];
        for (what, value) in rows {
            table.add_row([what.to_owned(), value]);
        }
        align_numbers(&mut table, 1);
        let data = std::fs::canonicalize(&plan.data).unwrap_or_else(|_| plan.data.clone());
        table.add_row(["the data lies in".to_owned(), data.display().to_string()]);
        table
    }
}

/// To three digits behind the point.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
