//! What a run did.

use std::{collections::BTreeMap, path::Path, time::Duration};

use comfy_table::Table;
use locus::{Error, Locus, VolumeId};
use serde::Serialize;

use crate::{
    plan::Plan,
    table::{align_numbers, size, table},
    tally::Tally,
};

/// Where files rest, and how many.
#[derive(Debug, Serialize)]
pub(crate) struct Places {
    /// Files that rest in the journal: they have no path.
    in_journal: u64,
    /// Files that rest on volumes: each has a path.
    on_volumes: u64,
    /// The same, volume by volume.
    volumes: BTreeMap<VolumeId, u64>,
}

impl Places {
    /// In an open store.
    pub(crate) fn now(locus: &Locus) -> Self {
        let volumes = locus.pool().volumes().into_iter();
        Self::of(
            locus.statistics().files_in_journal,
            volumes.map(|volume| (volume.id, volume.files)).collect(),
        )
    }

    /// As seen from outside: a closed store has no volumes any more.
    pub(crate) async fn left_in(data: &Path) -> Result<Self, Error> {
        let found = Locus::inspect(data).await?;
        let mut volumes: BTreeMap<_, _> = found.volumes.into_iter().map(|volume| (volume.id, 0)).collect();
        volumes.extend(found.store.volumes);
        Ok(Self::of(found.store.in_journal, volumes))
    }

    fn of(in_journal: u64, volumes: BTreeMap<VolumeId, u64>) -> Self {
        Self { in_journal, on_volumes: volumes.values().sum(), volumes }
    }
}

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
    /// Of `completed_now`, those whose content a worker found in the journal.
    read_in_journal: u64,
    /// Of `completed_now`, those whose content a worker found on a volume.
    read_on_volumes: u64,
    /// Files whose content this run moved from the journal to a volume, because the landing zone was full.
    spilled: u64,
    /// Files whose content this run moved forward in the journal, so that a segment could be used again.
    copied_forward: u64,
    /// Segments of the journal that this run used again.
    segments_reused: u64,
    /// As of the end.
    #[serde(flatten)]
    places: Places,
    /// The run was stopped before everything was done.
    pub(crate) interrupted: bool,
}

impl Report {
    /// The state of things, `before` being the number of idempotency keys at start.
    pub(crate) fn new(locus: &Locus, tally: &Tally, before: u64, places: Places, interrupted: bool) -> Self {
        let counts = locus.counts();
        let pending = counts.values().map(|tenant| tenant.pending + tenant.processing).sum::<u64>();
        let permanently_failed = counts.values().map(|tenant| tenant.permanently_failed).sum::<u64>();
        let store = locus.statistics();
        let files = store.idempotency_keys;
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
            read_in_journal: tally.read_in_journal(),
            read_on_volumes: tally.read_on_volumes(),
            spilled: store.spilled,
            copied_forward: store.copied_forward,
            segments_reused: store.segments_reused,
            places,
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
            ("contents were in the journal, without a path", self.read_in_journal.to_string()),
            ("contents were files on volumes", self.read_on_volumes.to_string()),
            ("moved to volumes, the landing zone being full", self.spilled.to_string()),
            ("moved forward in the journal", self.copied_forward.to_string()),
            ("segments of the journal used again", self.segments_reused.to_string()),
            ("time", format!("{:.1} s, {:.0} files/s", self.seconds, self.files_per_second)),
        ];
        for (what, value) in rows {
            table.add_row([what.to_owned(), value]);
        }
        table.add_row(["now rest in the journal".to_owned(), self.places.in_journal.to_string()]);
        for (id, files) in &self.places.volumes {
            table.add_row([format!("now rest on {id}"), files.to_string()]);
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
