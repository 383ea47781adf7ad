//! What can be set.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::Duration,
};

use locus_cleanup::SweepSettings;
use locus_core::{DirectoryQuota, Durability, Error, Properties, Result, RetryPolicy, TenantId};
use locus_storage::{EngineOptions, Placement, check_quotas};
use serde::{Deserialize, Serialize};

use crate::settings::{
    expansion::ExpansionSettings,
    unit,
    volume::{VolumeKind, VolumeSettings},
};

/// How many times the longest content of the journal a segment must hold.
const CONTENTS_PER_SEGMENT_MIN: u64 = 16;

/// Fewest segments of the landing zone.
const ZONE_SEGMENTS_MIN: u64 = 4;

/// Every setting, as plain data. `Default` gives the defaults; `docs/settings.md` lists them.
///
/// ```
/// # use std::time::Duration;
/// # use locus::Settings;
/// let mut settings = Settings::default();
/// settings.leases.visibility_timeout = Duration::from_secs(60);
/// settings.check()?;
/// # Ok::<(), locus::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Settings {
    /// Where the store lies and what it promises.
    pub store: StoreSettings,
    /// How the journal is kept.
    pub journal: JournalSettings,
    /// When failed files come back.
    pub retry: RetrySettings,
    /// How long workers may take.
    pub leases: LeaseSettings,
    /// How many files may be held.
    pub quotas: QuotaSettings,
    /// How workers run.
    pub workers: WorkerSettings,
    /// What goes on by itself.
    pub background: BackgroundSettings,
    /// What is tidied, and when.
    pub cleanup: SweepSettings,
    /// When the pool grows by itself.
    pub expansion: ExpansionSettings,
    /// The volumes to mount at start.
    pub volumes: Vec<VolumeSettings>,
    /// The tenants to create when absent.
    pub tenants: Vec<TenantSettings>,
}

/// Where the store lies and what it promises.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct StoreSettings {
    /// The directory of journal, checkpoints and tenants. Default `./locus-data`.
    pub data_dir: PathBuf,
    /// What `Ok` of a change promises. Default durable.
    pub durability: Durability,
    /// What `Ok` of a completion promises; `None`, the default, is as `durability`.
    pub complete_durability: Option<Durability>,
    /// Longest time that anything written stays unsynced. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub max_unsynced: Duration,
    /// Most bytes of the journal that stay unsynced; beyond them callers wait. Default 64 MiB.
    #[serde(with = "unit")]
    pub max_unsynced_size: u64,
    /// Most that store time advances over a restart. Default 1 day.
    #[serde(with = "humantime_serde")]
    pub downtime_max: Duration,
    /// Most idempotency keys remembered. Default 10,000,000.
    pub idempotency_max: u64,
    /// An upload to which nothing came for so long is ended. Default 1 day.
    #[serde(with = "humantime_serde")]
    pub upload_expiry: Duration,
    /// How a volume is chosen for new content. Default the one with the most room.
    pub placement: Placement,
}

impl Default for StoreSettings {
    fn default() -> Self {
        let engine = EngineOptions::default();
        Self {
            data_dir: PathBuf::from("./locus-data"),
            durability: engine.durability,
            complete_durability: engine.complete_durability,
            max_unsynced: engine.max_unsynced,
            max_unsynced_size: engine.max_unsynced_bytes,
            downtime_max: engine.downtime_max,
            idempotency_max: engine.idempotency_max,
            upload_expiry: engine.upload_expiry,
            placement: Placement::default(),
        }
    }
}

/// How the journal is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct JournalSettings {
    /// Largest segment, 1 MiB to 1 GiB. Default 64 MiB. A fresh store begins with small ones and doubles.
    #[serde(with = "unit")]
    pub segment_size: u64,
    /// Longest content that rests in the journal instead of on a volume; 0 is none. Default 64 KiB, at most a sixteenth
    /// of `segment_size`.
    #[serde(with = "unit")]
    pub inline_content_max: u64,
    /// Most bytes of segments that contents may occupy, at least four segments. Unset: 10 % of what is free on the disk of
    /// `store.data_dir` at the start, at least 1 GiB, never more than half of it.
    #[serde(with = "unit::option")]
    pub landing_zone_max: Option<u64>,
    /// Most bytes of records that wait in memory to be written; beyond them callers wait. Default 8 MiB.
    #[serde(with = "unit")]
    pub pending_max: u64,
    /// A checkpoint is due when the log since the last one is longer than this and than that checkpoint. Default 32 MiB.
    #[serde(with = "unit")]
    pub checkpoint_size: u64,
}

impl Default for JournalSettings {
    fn default() -> Self {
        let engine = EngineOptions::default();
        Self {
            segment_size: engine.segment_size,
            inline_content_max: engine.inline_content_max,
            landing_zone_max: engine.landing_zone_max,
            pending_max: engine.pending_bytes_max,
            checkpoint_size: engine.checkpoint_bytes,
        }
    }
}

/// When failed files come back: [`RetryPolicy`] with times that people can write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RetrySettings {
    /// The failure with this number is the last. Default 3.
    pub max_retries: u32,
    /// Delay after the first failure. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub initial_delay: Duration,
    /// Whether the delay doubles with each failure. Default true.
    pub exponential: bool,
    /// No delay is longer than this. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub max_delay: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        RetryPolicy::default().into()
    }
}

impl From<RetryPolicy> for RetrySettings {
    fn from(policy: RetryPolicy) -> Self {
        let RetryPolicy { max_retries, initial_delay, exponential, max_delay } = policy;
        Self { max_retries, initial_delay, exponential, max_delay }
    }
}

impl RetrySettings {
    /// The policy that these settings describe.
    #[must_use]
    pub const fn policy(&self) -> RetryPolicy {
        RetryPolicy {
            max_retries: self.max_retries,
            initial_delay: self.initial_delay,
            exponential: self.exponential,
            max_delay: self.max_delay,
        }
    }
}

/// How long workers may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct LeaseSettings {
    /// How long a lease lasts when it does not say. Default 30 min.
    #[serde(with = "humantime_serde")]
    pub visibility_timeout: Duration,
    /// After this many deliveries a file that times out is given up; `None`, the default, is the larger of 10 and twice
    /// `retry.max_retries`.
    pub max_deliveries: Option<u32>,
}

impl Default for LeaseSettings {
    fn default() -> Self {
        let engine = EngineOptions::default();
        Self { visibility_timeout: engine.visibility_timeout, max_deliveries: engine.max_deliveries }
    }
}

/// How many files may be held. What was set at run time wins over these.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct QuotaSettings {
    /// Most files of the store as a whole; `None`, the default, is no limit.
    pub global: Option<u64>,
    /// Most files of a tenant without a limit of its own; `None`, the default, is no limit.
    pub tenant: Option<u64>,
    /// Most bytes of the store as a whole; `None`, the default, is no limit.
    #[serde(with = "unit::option")]
    pub global_size: Option<u64>,
    /// Most bytes of a tenant without a limit of its own; `None`, the default, is no limit.
    #[serde(with = "unit::option")]
    pub tenant_size: Option<u64>,
    /// Limits of directories, each with a count of its own.
    pub directories: Vec<DirectoryQuota>,
    /// Limits of directories together with all beneath them.
    pub subtrees: Vec<DirectoryQuota>,
}

/// How workers run unless told otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WorkerSettings {
    /// Files processed at the same time. Default 8.
    pub concurrency: usize,
    /// How long handlers that run are waited for when workers stop. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self { concurrency: 8, drain_timeout: Duration::from_secs(30) }
    }
}

/// What goes on by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct BackgroundSettings {
    /// How often volumes are measured and their identity checked. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub probe_interval: Duration,
}

impl Default for BackgroundSettings {
    fn default() -> Self {
        Self { probe_interval: Duration::from_secs(10) }
    }
}

/// A tenant to create when absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSettings {
    /// Its name.
    pub id: TenantId,
    /// The caller's own key-value pairs, given to it when it is created.
    #[serde(default)]
    pub properties: Properties,
}

impl Settings {
    /// Refuses what is out of its range and what contradicts another setting.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the setting, what is wrong with it and what would be right.
    pub fn check(&self) -> Result<()> {
        self.check_store()?;
        self.check_leases()?;
        check_quotas(&self.quotas.directories, &self.quotas.subtrees)?;
        unique("tenants", self.tenants.iter().map(|tenant| &tenant.id))?;
        let all = || self.volumes.iter().chain(&self.expansion.volumes);
        let parts = || all().flat_map(VolumeSettings::parts);
        let mirrors = all().filter(|volume| volume.kind == VolumeKind::Mirrored);
        unique("volumes", parts().chain(mirrors).map(|volume| &volume.id))?;
        self.expansion.check()?;
        self.volumes.iter().try_for_each(VolumeSettings::check_alone)?;
        unique("volumes", parts().map(|volume| volume.path.display().to_string()))
    }

    fn check_store(&self) -> Result<()> {
        if self.store.data_dir.as_os_str().is_empty() {
            return invalid("store.data_dir", "is empty: name a directory");
        }
        longer_than_zero("store.max_unsynced", self.store.max_unsynced)?;
        longer_than_zero("store.upload_expiry", self.store.upload_expiry)?;
        longer_than_zero("background.probe_interval", self.background.probe_interval)?;
        self.cleanup.check()?;
        size_between("store.max_unsynced_size", self.store.max_unsynced_size, 1 << 20, 1 << 40)?;
        size_between("journal.segment_size", self.journal.segment_size, 1 << 20, 1 << 30)?;
        size_between("journal.pending_max", self.journal.pending_max, 64 << 10, 256 << 20)?;
        size_between("journal.checkpoint_size", self.journal.checkpoint_size, 64 << 10, 1 << 40)?;
        self.check_landing_zone()
    }

    fn check_landing_zone(&self) -> Result<()> {
        let JournalSettings { segment_size, inline_content_max, landing_zone_max, .. } = self.journal;
        let (longest, least) = (segment_size / CONTENTS_PER_SEGMENT_MIN, segment_size * ZONE_SEGMENTS_MIN);
        let text = unit::size_text;
        if inline_content_max > longest {
            return invalid(
                "journal.inline_content_max",
                format!(
                    "is {}, more than a sixteenth of journal.segment_size, which is {}: use at most {}",
                    text(inline_content_max),
                    text(segment_size),
                    text(longest)
                ),
            );
        }
        match landing_zone_max {
            Some(zone) if zone < least => invalid(
                "journal.landing_zone_max",
                format!(
                    "is {}, less than four segments of journal.segment_size, which is {}: use at least {}",
                    text(zone),
                    text(segment_size),
                    text(least)
                ),
            ),
            _ => Ok(()),
        }
    }

    fn check_leases(&self) -> Result<()> {
        longer_than_zero("leases.visibility_timeout", self.leases.visibility_timeout)?;
        if self.workers.concurrency == 0 {
            return invalid("workers.concurrency", "is 0: use at least 1");
        }
        let retries = self.retry.max_retries.max(1);
        match self.leases.max_deliveries {
            Some(deliveries) if deliveries < retries => invalid(
                "leases.max_deliveries",
                format!(
                    "is {deliveries}, less than retry.max_retries, which is {retries}: no file could use its retries"
                ),
            ),
            _ => Ok(()),
        }
    }

    /// What the engine is told.
    pub(crate) fn engine(&self) -> EngineOptions {
        EngineOptions {
            durability: self.store.durability,
            complete_durability: self.store.complete_durability,
            retry_policy: self.retry.policy(),
            visibility_timeout: self.leases.visibility_timeout,
            max_deliveries: self.leases.max_deliveries,
            segment_size: self.journal.segment_size,
            inline_content_max: self.journal.inline_content_max,
            landing_zone_max: self.journal.landing_zone_max,
            max_unsynced: self.store.max_unsynced,
            max_unsynced_bytes: self.store.max_unsynced_size,
            pending_bytes_max: self.journal.pending_max,
            downtime_max: self.store.downtime_max,
            idempotency_max: self.store.idempotency_max,
            completed_retention: self.cleanup.completed.retention,
            upload_expiry: self.store.upload_expiry,
            checkpoint_bytes: self.journal.checkpoint_size,
            global_quota: self.quotas.global,
            global_quota_bytes: self.quotas.global_size,
            tenant_quota: self.quotas.tenant,
            tenant_quota_bytes: self.quotas.tenant_size,
            directory_quotas: self.quotas.directories.clone(),
            subtree_quotas: self.quotas.subtrees.clone(),
        }
    }

    /// Relative paths become paths relative to `base`.
    pub(crate) fn resolve(&mut self, base: &Path) {
        self.store.data_dir = base.join(&self.store.data_dir);
        for volume in self.volumes.iter_mut().chain(&mut self.expansion.volumes) {
            volume.resolve(base);
        }
    }
}

fn longer_than_zero(name: &'static str, time: Duration) -> Result<()> {
    if time.is_zero() { invalid(name, "is zero: use a longer time") } else { Ok(()) }
}

fn size_between(name: &'static str, size: u64, min: u64, max: u64) -> Result<()> {
    if (min..=max).contains(&size) {
        return Ok(());
    }
    let [size, min, max] = [size, min, max].map(unit::size_text);
    invalid(name, format!("is {size}: use {min} to {max}"))
}

/// Refuses an item that is there twice.
fn unique<T: Ord + ToString>(list: &'static str, items: impl Iterator<Item = T>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for item in items {
        let name = item.to_string();
        if !seen.insert(item) {
            return invalid(format!("{list}[{name}]"), "is there twice");
        }
    }
    Ok(())
}

pub(crate) fn invalid<T>(name: impl Into<String>, why: impl Into<String>) -> Result<T> {
    Err(Error::InvalidSetting { name: name.into().into(), why: why.into().into() })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::deliveries("leases.max_deliveries", |s: &mut Settings| s.leases.max_deliveries = Some(2))]
    #[case::segment_too_small("journal.segment_size", |s: &mut Settings| s.journal.segment_size = 4096)]
    #[case::segment_too_large("journal.segment_size", |s: &mut Settings| s.journal.segment_size = 2 << 30)]
    #[case::inline_too_large("journal.inline_content_max", |s: &mut Settings| s.journal.inline_content_max = (4 << 20) + 1)]
    #[case::segment_too_small_for_inline("journal.inline_content_max", |s: &mut Settings| {
        (s.journal.segment_size, s.journal.inline_content_max) = (1 << 20, (64 << 10) + 1);
    })]
    #[case::zone_too_small("journal.landing_zone_max", |s: &mut Settings| s.journal.landing_zone_max = Some((256 << 20) - 1))]
    #[case::no_zone("journal.landing_zone_max", |s: &mut Settings| s.journal.landing_zone_max = Some(0))]
    #[case::unsynced("store.max_unsynced", |s: &mut Settings| s.store.max_unsynced = Duration::ZERO)]
    #[case::data_dir("store.data_dir", |s: &mut Settings| s.store.data_dir = PathBuf::new())]
    #[case::timeout("leases.visibility_timeout", |s: &mut Settings| s.leases.visibility_timeout = Duration::ZERO)]
    #[case::percent("expansion.free_percent_min", |s: &mut Settings| s.expansion.free_percent_min = 100)]
    #[case::concurrency("workers.concurrency", |s: &mut Settings| s.workers.concurrency = 0)]
    #[case::glob("quotas.directories[*/[z-a]]", |s: &mut Settings| s.quotas.directories = vec![quota("*/[z-a]")])]
    #[case::subtree("quotas.subtrees[A/b]", |s: &mut Settings| s.quotas.subtrees = vec![quota("A/b")])]
    #[case::no_tenant("quotas.directories[A/b]", |s: &mut Settings| s.quotas.directories = vec![quota("A/b")])]
    #[case::twice("quotas.directories[a/b]", |s: &mut Settings| s.quotas.directories = vec![quota("a/b"), quota("a/b")])]
    fn b86_a_contradiction_is_refused_by_the_name_of_its_setting(
        #[case] name: &str,
        #[case] change: fn(&mut Settings),
    ) {
        let mut settings = Settings::default();
        settings.check().unwrap();
        change(&mut settings);
        match settings.check().unwrap_err() {
            Error::InvalidSetting { name: refused, .. } => assert_eq!(refused, name),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_landing_zone_of_four_segments_and_contents_of_a_sixteenth_of_one_are_taken() {
        let mut settings = Settings::default();
        settings.journal.inline_content_max = 4 << 20;
        settings.journal.landing_zone_max = Some(256 << 20);
        settings.check().unwrap();
        settings.journal.inline_content_max = 0;
        settings.check().unwrap();
    }

    fn quota(pattern: &str) -> DirectoryQuota {
        DirectoryQuota { pattern: pattern.into(), max_files: 1, max_bytes: None, enabled: true }
    }

    #[test]
    fn the_engine_is_told_its_own_defaults_by_the_default_settings() {
        assert_eq!(Settings::default().engine(), EngineOptions::default());
    }
}
