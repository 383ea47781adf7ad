//! Limits in force: what was set at run time wins over what the settings say.

use std::collections::{HashMap, HashSet};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use locus_core::{DirectoryQuota, Error, Limit, LogicalDir, Lsn, QuotaUnit, Result, Scope, Site, TenantId};

use super::leaving::tenant_in;
use crate::EngineOptions;

/// Files and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) files: u64,
    pub(crate) bytes: u64,
}

impl Tally {
    pub(crate) const fn one(bytes: u64) -> Self {
        Self { files: 1, bytes }
    }

    pub(crate) const fn bytes(bytes: u64) -> Self {
        Self { files: 0, bytes }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.files += other.files;
        self.bytes += other.bytes;
    }

    pub(crate) fn subtract(&mut self, other: Self) {
        self.files -= other.files;
        self.bytes -= other.bytes;
    }

    pub(crate) fn and(mut self, other: Self) -> Self {
        self.add(other);
        self
    }
}

/// The most that a scope may hold, as far as anything was said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ceiling {
    pub(crate) files: Option<u64>,
    pub(crate) bytes: Option<u64>,
}

/// A ceiling that is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) used: u64,
    pub(crate) limit: u64,
    pub(crate) unit: QuotaUnit,
}

impl Ceiling {
    /// No limit.
    pub(crate) const NONE: Self = Self { files: None, bytes: None };

    /// What a limit says; `None` when it says nothing.
    fn of(limit: Limit) -> Option<Self> {
        Some(match limit {
            Limit::Inherit => return None,
            Limit::Unlimited => Self::NONE,
            Limit::Files(files) => Self { files: Some(files), bytes: None },
            Limit::Bytes(bytes) => Self { files: None, bytes: Some(bytes) },
            Limit::FilesAndBytes { files, bytes } => Self { files: Some(files), bytes: Some(bytes) },
        })
    }

    /// Whether `more` still fits beside `used`. What is used already is never refused, however low the limit was set since.
    pub(crate) fn admit(&self, used: Tally, more: Tally) -> Result<(), Over> {
        let units = [
            (self.files, used.files, more.files, QuotaUnit::Files),
            (self.bytes, used.bytes, more.bytes, QuotaUnit::Bytes),
        ];
        for (limit, used, more, unit) in units {
            if let Some(limit) = limit
                && more > 0
                && used.saturating_add(more) > limit
                && Site::QuotaHeld.stands()
            {
                return Err(Over { used, limit, unit });
            }
        }
        Ok(())
    }
}

/// Limits of directories: by name, and by pattern.
#[derive(Debug, Default)]
struct Rules {
    /// By `tenant/directory`.
    exact: HashMap<String, Ceiling>,
    /// The most specific first.
    patterns: GlobSet,
    ceilings: Vec<Ceiling>,
}

impl Rules {
    /// Compiles quotas; `list` is the setting that they stand in.
    fn compile(list: &'static str, quotas: &[DirectoryQuota]) -> Result<Self> {
        let mut rules = Self::default();
        let mut globs = Vec::new();
        let mut names = HashSet::new();
        for quota in quotas {
            let refused = |why: String| Error::InvalidSetting {
                name: format!("{list}[{}]", quota.pattern).into(),
                why: why.into(),
            };
            let ceiling = Ceiling {
                files: (quota.max_files != u64::MAX).then_some(quota.max_files),
                bytes: quota.max_bytes,
            };
            let pattern = quota.pattern.trim_end_matches('/');
            let name = if pattern.contains(['*', '?', '[', '{']) {
                // A backslash is an ordinary character of a directory, and only `**` crosses a slash.
                let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(false).build();
                let glob = glob.map_err(|why| refused(format!("is no glob: {}", why.kind())))?;
                globs.extend(quota.enabled.then_some((specificity(pattern), glob, ceiling)));
                pattern.to_owned()
            } else {
                let (tenant, directory) = pattern.split_once('/').unwrap_or((pattern, ""));
                let name = TenantId::parse(tenant)
                    .and_then(|tenant| Ok(text(&tenant, &LogicalDir::parse(directory)?)))
                    .map_err(|why| refused(format!("is no tenant/directory: {why}")))?;
                rules.exact.extend(quota.enabled.then(|| (name.clone(), ceiling)));
                name
            };
            if !names.insert(name) {
                return Err(refused("is given twice".to_owned()));
            }
        }
        globs.sort_by_key(|(specificity, ..)| std::cmp::Reverse(*specificity));
        let mut patterns = GlobSetBuilder::new();
        for (_, glob, ceiling) in globs {
            patterns.add(glob);
            rules.ceilings.push(ceiling);
        }
        rules.patterns = patterns.build().map_err(|why| Error::InvalidSetting {
            name: list.into(),
            why: format!("cannot be compiled together: {}", why.kind()).into(),
        })?;
        Ok(rules)
    }

    /// What holds for a directory, if anything does.
    fn of(&self, tenant: &TenantId, directory: &LogicalDir) -> Option<Ceiling> {
        if self.exact.is_empty() && self.ceilings.is_empty() {
            return None;
        }
        let text = text(tenant, directory);
        let by_pattern = || self.patterns.matches(&text).first().map(|at| self.ceilings[*at]);
        self.exact.get(&text).copied().or_else(by_pattern)
    }
}

/// What a pattern is held against: the root of a tenant is its name alone.
fn text(tenant: &TenantId, directory: &LogicalDir) -> String {
    let directory = if directory.is_root() { "" } else { directory.as_str() };
    format!("{tenant}{directory}")
}

/// Of two patterns the one with more ordinary characters says more, and with as many the one that spans no levels.
fn specificity(pattern: &str) -> (usize, bool) {
    (pattern.chars().filter(|c| !"*?[]{}".contains(*c)).count(), !pattern.contains("**"))
}

/// Refuses directory quotas that are none.
///
/// # Errors
/// [`Error::InvalidSetting`] names the quota and says what is wrong with it.
pub fn check_quotas(directories: &[DirectoryQuota], subtrees: &[DirectoryQuota]) -> Result<()> {
    Rules::compile(DIRECTORIES, directories)?;
    Rules::compile(SUBTREES, subtrees).map(drop)
}

const DIRECTORIES: &str = "quotas.directories";
const SUBTREES: &str = "quotas.subtrees";

/// All limits of a store.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    global: Ceiling,
    /// Of tenants without a limit of their own.
    each_tenant: Ceiling,
    directories: Rules,
    subtrees: Rules,
    /// What was set at run time, and the record that set it.
    set: HashMap<Scope, (Limit, Lsn)>,
    /// Grows with every change: what was looked up at another one is looked up again.
    generation: u64,
}

impl Limits {
    /// The limits that the settings state.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names a directory quota that is none.
    pub(crate) fn from_settings(options: &EngineOptions) -> Result<Self> {
        Ok(Self {
            global: Ceiling { files: options.global_quota, bytes: options.global_quota_bytes },
            each_tenant: Ceiling { files: options.tenant_quota, bytes: options.tenant_quota_bytes },
            directories: Rules::compile(DIRECTORIES, &options.directory_quotas)?,
            subtrees: Rules::compile(SUBTREES, &options.subtree_quotas)?,
            set: HashMap::new(),
            generation: 1,
        })
    }

    /// What is in force for a scope. The cost is that of looking at every pattern, at most: whoever asks often keeps the
    /// answer with its [`generation`](Self::generation).
    pub(crate) fn of(&self, scope: &Scope) -> Ceiling {
        let set = self.set.get(scope).and_then(|(limit, _)| Ceiling::of(*limit));
        set.or_else(|| self.said(scope)).unwrap_or(Ceiling::NONE)
    }

    /// What the settings say.
    fn said(&self, scope: &Scope) -> Option<Ceiling> {
        match scope {
            Scope::Global => Some(self.global),
            Scope::Tenant(_) => Some(self.each_tenant),
            Scope::Directory(tenant, directory) => self.directories.of(tenant, directory),
            Scope::Subtree(tenant, directory) => self.subtrees.of(tenant, directory),
            _ => None,
        }
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// How many limits were set at run time.
    pub(crate) fn count_set_at_run_time(&self) -> usize {
        self.set.len()
    }

    /// What was set at run time.
    pub(crate) fn set_at_run_time(&self) -> impl Iterator<Item = (&Scope, &Limit, Lsn)> {
        self.set.iter().map(|(scope, (limit, lsn))| (scope, limit, *lsn))
    }

    /// Whether a checkpoint names the scope already.
    pub(crate) fn is_set_at_run_time(&self, scope: &Scope) -> bool {
        self.set.contains_key(scope)
    }

    /// Forgets limits that were reset to what the settings say by records before `begin`: a checkpoint that begins there
    /// says the same by not naming them.
    pub(crate) fn forget_reset(&mut self, begin: Lsn) {
        self.set.retain(|_, (limit, last)| *limit != Limit::Inherit || *last >= begin);
    }

    /// Applies a record, unless a later one was applied.
    pub(crate) fn apply(&mut self, lsn: Lsn, scope: Scope, limit: Limit) {
        let newer = self.set.get(&scope).is_none_or(|(_, last)| *last < lsn);
        if newer {
            self.set.insert(scope, (limit, lsn));
            self.generation += 1;
        }
    }

    /// Forgets the limits that records before `lsn` set for a tenant.
    pub(crate) fn forget_tenant(&mut self, lsn: Lsn, tenant: &TenantId) {
        self.set.retain(|scope, (_, last)| *last >= lsn || tenant_in(scope) != Some(tenant));
        self.generation += 1;
    }

    /// Run-time limits that differ from what the settings say of the same scope by name or pattern, to be told at start.
    pub(crate) fn differences(&self) -> Vec<Scope> {
        let differs = |scope: &Scope, limit: &Limit| {
            let said = match scope {
                Scope::Tenant(_) => None, // the settings say the same of all tenants
                _ => self.said(scope).filter(|said| *said != Ceiling::NONE),
            };
            Ceiling::of(*limit).is_some_and(|set| said.is_some_and(|said| said != set))
        };
        let differing = self.set.iter().filter(|(scope, (limit, _))| differs(scope, limit));
        differing.map(|(scope, _)| scope.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn quota(pattern: &str, max_files: u64) -> DirectoryQuota {
        DirectoryQuota { pattern: pattern.into(), max_files, max_bytes: None, enabled: true }
    }

    fn options(quotas: Vec<DirectoryQuota>) -> EngineOptions {
        EngineOptions { tenant_quota: Some(10), directory_quotas: quotas, ..EngineOptions::default() }
    }

    fn directory(path: &str) -> Scope {
        let (tenant, directory) = path.split_once('/').unwrap_or((path, ""));
        Scope::Directory(TenantId::parse(tenant).unwrap(), LogicalDir::parse(directory).unwrap())
    }

    #[test]
    fn b52_inherit_unlimited_and_a_number_are_three_different_things() {
        let mut limits = Limits::from_settings(&options(vec![])).unwrap();
        let tenant = Scope::Tenant(TenantId::parse("acme").unwrap());
        assert_eq!(limits.of(&tenant).files, Some(10));
        limits.apply(Lsn(1), tenant.clone(), Limit::Unlimited);
        assert_eq!(limits.of(&tenant), Ceiling::NONE);
        limits.apply(Lsn(2), tenant.clone(), Limit::Files(3));
        assert_eq!(limits.of(&tenant), Ceiling { files: Some(3), bytes: None });
        limits.apply(Lsn(1), tenant.clone(), Limit::Unlimited);
        assert_eq!(limits.of(&tenant).files, Some(3), "an older record changes nothing");
        limits.apply(Lsn(3), tenant.clone(), Limit::Inherit);
        assert_eq!(limits.of(&tenant).files, Some(10));
        limits.forget_reset(Lsn(3));
        assert_eq!(limits.set_at_run_time().count(), 1, "its record may be replayed");
        limits.forget_reset(Lsn(4));
        assert_eq!(limits.set_at_run_time().count(), 0);
    }

    #[rstest]
    #[case("acme/in", Some(1))] // exact beats every pattern
    #[case("acme/in/deep", None)]
    #[case("acme/out", Some(2))] // more ordinary characters beat fewer
    #[case("other/out", Some(3))]
    #[case("other/in", None)] // disabled, and nothing else fits
    #[case("other/a/b/scans", Some(4))]
    #[case("other/scans", Some(4))] // across no level at all
    #[case("third/scans", Some(5))]
    #[case("root-only", Some(6))]
    #[case("x-ray/p[1", None)]
    #[case("x-ray/2026-03", Some(7))]
    #[case("x-ray/2026-13", None)]
    #[case("x-ray/a\\b", Some(8))]
    #[case("x-ray/a/b", None)]
    #[case("fifth/a", Some(11))] // with as many ordinary characters the one that spans no levels
    #[case("fifth/a/b", Some(12))]
    fn b54_exact_beats_pattern_and_the_most_specific_pattern_wins(
        #[case] path: &str,
        #[case] files: Option<u64>,
    ) {
        let mut quotas: Vec<_> = [
            ("fifth/*", 11),
            ("fifth/**", 12),
            ("acme/in", 1),
            ("acme/*", 2),
            ("*/out", 3),
            ("other/**/scans", 4),
            ("*/scans", 5),
            ("root-*", 6),
            ("x-ray/2026-0[1-3]", 7),
            ("x-ray/a\\?", 8),
            ("acme/out", 9),
            ("other/i*", 10),
        ]
        .map(|(pattern, files)| quota(pattern, files))
        .into();
        for quota in &mut quotas[10..] {
            quota.enabled = false;
        }
        quotas.reverse(); // their order says nothing
        let limits = Limits::from_settings(&options(quotas)).unwrap();
        assert_eq!(limits.of(&directory(path)).files, files);
    }

    #[rstest]
    #[case("ACME/in")]
    #[case("")]
    #[case("acme/[z-a]")]
    #[case("acme/{a")]
    fn a_bad_quota_is_refused_by_name(#[case] bad: &str) {
        let message = Limits::from_settings(&options(vec![quota(bad, 1)])).unwrap_err().to_string();
        assert!(message.contains(&format!("quotas.directories[{bad}]")), "{message}");
        let message = check_quotas(&[], &[quota(bad, 1)]).unwrap_err().to_string();
        assert!(message.contains(&format!("quotas.subtrees[{bad}]")), "{message}");
    }

    #[rstest]
    #[case("acme/in", "acme//in/")]
    #[case("acme", "acme/")]
    #[case("*/in", "*/in/")]
    fn one_directory_named_twice_is_refused(#[case] first: &str, #[case] second: &str) {
        let message = check_quotas(&[quota(first, 1), quota(second, 2)], &[]).unwrap_err().to_string();
        assert!(message.contains("twice"), "{message}");
    }

    #[test]
    fn b52_a_lowered_limit_blocks_new_content_only() {
        let ceiling = Ceiling { files: Some(2), bytes: Some(10) };
        let used = Tally { files: 5, bytes: 50 };
        assert_eq!(ceiling.admit(used, Tally::default()), Ok(()));
        let over = |used, limit, unit| Err(Over { used, limit, unit });
        assert_eq!(ceiling.admit(used, Tally::one(0)), over(5, 2, QuotaUnit::Files));
        assert_eq!(ceiling.admit(used, Tally::bytes(1)), over(50, 10, QuotaUnit::Bytes));
        let room = Tally { files: 1, bytes: 8 };
        assert_eq!(ceiling.admit(room, Tally::one(2)), Ok(()));
        assert_eq!(ceiling.admit(room, Tally::one(3)), over(8, 10, QuotaUnit::Bytes));
    }

    #[test]
    fn what_was_set_at_run_time_wins_and_a_difference_is_told() {
        let mut limits = Limits::from_settings(&options(vec![quota("acme/*", 5)])).unwrap();
        let before = limits.generation();
        limits.apply(Lsn(1), directory("acme/in"), Limit::FilesAndBytes { files: 5, bytes: 7 });
        limits.apply(Lsn(2), directory("acme/out"), Limit::Files(5));
        limits.apply(Lsn(3), directory("free/out"), Limit::Bytes(5));
        assert_eq!(limits.of(&directory("acme/in")), Ceiling { files: Some(5), bytes: Some(7) });
        assert_eq!(limits.differences(), [directory("acme/in")]);
        assert!(limits.generation() > before);
    }
}
