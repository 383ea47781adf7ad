//! What the jobs do, how often, and how much at a time.

use std::{fmt, time::Duration};

use locus_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::window::Window;

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Every setting of the sweep jobs. `Default` gives the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct SweepSettings {
    /// Files that were completed.
    pub completed: CompletedSettings,
    /// Leases that ran out.
    pub timed_out: TimedOutSettings,
    /// Files that failed for the last time.
    pub permanently_failed: PermanentlyFailedSettings,
    /// Files that were moved out of the queue.
    pub dead_letters: DeadLetterSettings,
    /// Blobs that no record names.
    pub orphans: OrphanSettings,
    /// What killed and failed writes left in staging, and uploads that were given up.
    pub leftovers: LeftoverSettings,
    /// Records whose bytes are gone.
    pub missing: MissingSettings,
    /// Directories on volumes that hold nothing.
    pub empty_directories: EmptyDirectorySettings,
    /// Files of other programs.
    pub junk: JunkSettings,
    /// The journal and its checkpoints.
    pub store: StoreSweepSettings,
}

/// Files that were completed. The store keeps to this; the reaper removes them as their time is over. It has no interval and
/// cannot be turned off: drains, requeues and purges wait for what it removes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CompletedSettings {
    /// How long record and bytes stay, in store time; meanwhile the file counts against quotas. Default 0: they go at once.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// Most files that one step removes. Default 256.
    pub batch: usize,
}

impl Default for CompletedSettings {
    fn default() -> Self {
        Self { retention: Duration::ZERO, batch: 256 }
    }
}

/// Leases that ran out. They are written back as they do: it has no interval and cannot be turned off, because counts would not
/// be true. Leasing does not wait for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TimedOutSettings {
    /// Most leases that one step writes back. Default 256.
    pub batch: usize,
}

impl Default for TimedOutSettings {
    fn default() -> Self {
        Self { batch: 256 }
    }
}

/// What becomes of a file that failed for the last time, when its retention is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GivenUpPolicy {
    /// It stays as it is, and counts against quotas.
    Keep,
    /// It is moved to the dead letters: out of the queue and its quotas, to be looked at and requeued.
    #[default]
    DeadLetter,
    /// It is deleted.
    Delete,
}

/// What becomes of a blob that no record names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrphanPolicy {
    /// It is put aside in its volume, in `.quarantine`, where it stays until somebody removes it.
    #[default]
    Quarantine,
    /// It is removed.
    Delete,
    /// It becomes a pending file. For a store that was salvaged or restored: a write that was never confirmed looks the same.
    Import,
}

/// What becomes of a record whose bytes are certainly gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MissingPolicy {
    /// It is told in the log and counted.
    #[default]
    Report,
    /// It is told, and removed unless it is leased.
    Remove,
}

/// Files that failed for the last time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct PermanentlyFailedSettings {
    /// Whether it runs by itself. Default yes.
    pub enabled: bool,
    /// How often. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long such a file stays first, in store time. Default 7 days.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
    /// Most files that one step looks at. Default 256.
    pub batch: usize,
    /// What becomes of it then. Default [`GivenUpPolicy::DeadLetter`].
    pub policy: GivenUpPolicy,
}

impl Default for PermanentlyFailedSettings {
    fn default() -> Self {
        let policy = GivenUpPolicy::default();
        Self { enabled: true, interval: HOUR, retention: 7 * DAY, batch: 256, policy }
    }
}

/// Files that were moved out of the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct DeadLetterSettings {
    /// Whether it runs by itself. Default yes.
    pub enabled: bool,
    /// How often. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long a dead letter stays before it is purged, in store time. `None`, the default: for ever.
    #[serde(with = "humantime_serde")]
    pub retention: Option<Duration>,
    /// Most files that one step looks at. Default 256.
    pub batch: usize,
}

impl Default for DeadLetterSettings {
    fn default() -> Self {
        Self { enabled: true, interval: HOUR, retention: None, batch: 256 }
    }
}

/// Blobs that no record names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct OrphanSettings {
    /// Whether it runs by itself. Default yes.
    pub enabled: bool,
    /// How often. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Younger ones are left alone. Counted by the wall clock from when the blob's key was drawn: nothing else is known of it.
    /// Default 1 day.
    #[serde(with = "humantime_serde")]
    pub age: Duration,
    /// What becomes of one. Default [`OrphanPolicy::Quarantine`].
    pub policy: OrphanPolicy,
    /// Most blobs that one step looks at. Default 256.
    pub batch: usize,
    /// Most blobs that one run looks at; the next one goes on where it stopped, also in a later process. Default 100,000.
    pub budget: u64,
}

impl Default for OrphanSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: HOUR,
            age: DAY,
            policy: OrphanPolicy::default(),
            batch: 256,
            budget: 100_000,
        }
    }
}

/// What killed and failed writes left in staging, and uploads that were given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LeftoverSettings {
    /// Whether it runs by itself: always once at the start, then at each interval. Default yes.
    pub enabled: bool,
    /// How often. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Most staged files and uploads that one step looks at. Default 256.
    pub batch: usize,
}

impl Default for LeftoverSettings {
    fn default() -> Self {
        Self { enabled: true, interval: HOUR, batch: 256 }
    }
}

/// Records whose bytes are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct MissingSettings {
    /// Whether it runs by itself. Default yes.
    pub enabled: bool,
    /// How often. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// What becomes of such a record. Default [`MissingPolicy::Report`].
    pub policy: MissingPolicy,
    /// Most records that one step looks at. Default 256.
    pub batch: usize,
    /// Most records that one run looks at; the next one goes on where it stopped, also in a later process. Default 10,000.
    pub budget: u64,
}

impl Default for MissingSettings {
    fn default() -> Self {
        let policy = MissingPolicy::default();
        Self { enabled: true, interval: HOUR, policy, batch: 256, budget: 10_000 }
    }
}

/// Directories on volumes that hold nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct EmptyDirectorySettings {
    /// Whether it runs by itself. Default yes.
    pub enabled: bool,
    /// How often those are looked at that lost a blob since the last time; one that a write used meanwhile stays. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How often all are looked at. Default 1 day.
    #[serde(with = "humantime_serde")]
    pub full_interval: Duration,
    /// Most directories that one step looks at. Default 1,024.
    pub batch: usize,
    /// Directories that stay: globs over the path below the mount (`acme/*`; `*` within a level, `**` across levels).
    /// Default none. The mount and what is a tenant's own stay in any case.
    pub protected: Vec<String>,
}

impl Default for EmptyDirectorySettings {
    fn default() -> Self {
        Self { enabled: true, interval: HOUR, full_interval: DAY, batch: 1_024, protected: Vec::new() }
    }
}

/// Files of other programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JunkSettings {
    /// Whether it runs by itself. Default no.
    pub enabled: bool,
    /// How often. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Most directories that one step looks into. Default 1,024.
    pub batch: usize,
    /// Their names. Default `Thumbs.db`, `.DS_Store` and `desktop.ini`.
    pub names: Vec<String>,
}

impl Default for JunkSettings {
    fn default() -> Self {
        let names = ["Thumbs.db", ".DS_Store", "desktop.ini"].map(String::from).to_vec();
        Self { enabled: false, interval: HOUR, batch: 1_024, names }
    }
}

/// The journal and its checkpoints. It has no batch: what it does is one checkpoint, beside everything else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StoreSweepSettings {
    /// Whether it runs by itself. Default yes.
    pub enabled: bool,
    /// How often. Default 7 days.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// At what time of the day alone, in UTC: `02:00-04:30`. `None`, the default: at any.
    pub window: Option<Window>,
}

impl Default for StoreSweepSettings {
    fn default() -> Self {
        Self { enabled: true, interval: 7 * DAY, window: None }
    }
}

impl fmt::Display for GivenUpPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Keep => "keep",
            Self::DeadLetter => "dead-letter",
            Self::Delete => "delete",
        })
    }
}

impl fmt::Display for OrphanPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Quarantine => "quarantine",
            Self::Delete => "delete",
            Self::Import => "import",
        })
    }
}

impl fmt::Display for MissingPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Report => "report",
            Self::Remove => "remove",
        })
    }
}

impl SweepSettings {
    /// Refuses what is out of its range.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the setting, what is wrong with it and what would be right.
    pub fn check(&self) -> Result<()> {
        let intervals = [
            ("permanently_failed.interval", self.permanently_failed.interval),
            ("dead_letters.interval", self.dead_letters.interval),
            ("orphans.interval", self.orphans.interval),
            ("leftovers.interval", self.leftovers.interval),
            ("missing.interval", self.missing.interval),
            ("empty_directories.interval", self.empty_directories.interval),
            ("empty_directories.full_interval", self.empty_directories.full_interval),
            ("junk.interval", self.junk.interval),
            ("store.interval", self.store.interval),
        ];
        for (name, interval) in intervals {
            if interval < Duration::from_millis(100) {
                return invalid(name, "is less than 100ms: give each run some time");
            }
        }
        let batches = [
            ("permanently_failed.batch", self.permanently_failed.batch),
            ("dead_letters.batch", self.dead_letters.batch),
            ("orphans.batch", self.orphans.batch),
            ("leftovers.batch", self.leftovers.batch),
            ("missing.batch", self.missing.batch),
            ("completed.batch", self.completed.batch),
            ("timed_out.batch", self.timed_out.batch),
            ("empty_directories.batch", self.empty_directories.batch),
            ("junk.batch", self.junk.batch),
        ];
        for (name, batch) in batches {
            if !(1..=4_096).contains(&batch) {
                return invalid(name, &format!("is {batch}: use 1 to 4096"));
            }
        }
        if self.orphans.budget == 0 || self.missing.budget == 0 {
            let name = if self.orphans.budget == 0 { "orphans.budget" } else { "missing.budget" };
            return invalid(name, "is 0: a run must look at something");
        }
        crate::directories::protected(&self.empty_directories.protected).map(drop)?;
        match self.junk.names.iter().find(|name| name.is_empty() || name.contains('/')) {
            Some(name) => {
                invalid("junk.names", &format!("holds {name:?}: use names of files, without a directory"))
            }
            None => Ok(()),
        }
    }
}

pub(crate) fn invalid<T>(name: &str, why: &str) -> Result<T> {
    Err(Error::InvalidSetting { name: format!("cleanup.{name}").into(), why: why.to_owned().into() })
}
