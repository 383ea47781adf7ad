//! What torture came to.

use serde::Serialize;

use crate::violation::{Kind, Violation};

/// How many violations are told word for word.
const TOLD_MAX: usize = 20;

/// What torture came to, in figures. Everything from `lost` on must be 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Crashes, those in the middle of an opening among them.
    pub crash_points: u64,
    /// Calls that were answered with Ok.
    pub acknowledged: u64,
    /// Confirmed, and not there afterwards.
    pub lost: u64,
    /// Contents that are not what was written.
    pub corrupted: u64,
    /// Files that two had at once, and tokens that were used twice.
    pub double_leases: u64,
    /// What had ended and came back.
    pub resurrected: u64,
    /// Counts, quotas and bytes on volumes that do not fit the files.
    pub quota_drift: u64,
    /// Directories that were not opened after a crash.
    pub refused_opens: u64,
    /// Panics of the program.
    pub panics: u64,
    /// Answers that no rule allows.
    pub unexpected: u64,
    /// The first seed.
    pub seed: u64,
    /// Seeds, one after another.
    pub runs: u64,
    /// Stands for all that happened: the same seeds give the same number.
    pub fingerprint: u64,
    /// The seeds that failed, with what they found; at most 20.
    pub violations: Vec<String>,
}

impl Report {
    /// Whether nothing was broken.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.broken() == 0
    }

    /// How many promises were broken.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.lost
            + self.corrupted
            + self.double_leases
            + self.resurrected
            + self.quota_drift
            + self.refused_opens
            + self.panics
            + self.unexpected
    }

    /// Counts a violation.
    pub fn violated(&mut self, seed: u64, violation: Violation) {
        *match violation.kind {
            Kind::Lost => &mut self.lost,
            Kind::Corrupted => &mut self.corrupted,
            Kind::DoubleLease => &mut self.double_leases,
            Kind::Resurrected => &mut self.resurrected,
            Kind::QuotaDrift => &mut self.quota_drift,
            Kind::RefusedOpen => &mut self.refused_opens,
            Kind::Panic => &mut self.panics,
            Kind::Unexpected => &mut self.unexpected,
        } += 1;
        if self.violations.len() < TOLD_MAX {
            self.violations.push(format!("seed {seed}: {violation}"));
        }
    }

    /// Adds what other seeds came to.
    pub fn add(&mut self, other: Report) {
        self.crash_points += other.crash_points;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.corrupted += other.corrupted;
        self.double_leases += other.double_leases;
        self.resurrected += other.resurrected;
        self.quota_drift += other.quota_drift;
        self.refused_opens += other.refused_opens;
        self.panics += other.panics;
        self.unexpected += other.unexpected;
        self.runs += other.runs;
        self.fingerprint = self.fingerprint.wrapping_add(other.fingerprint);
        self.violations.extend(other.violations);
        self.violations.truncate(TOLD_MAX);
    }
}
