//! Limits in force: what was set at run time wins over what the settings say.

use std::collections::HashMap;

use locus_core::{Error, Limit, LogicalDir, Lsn, Result, Scope, TenantId};

use crate::EngineOptions;

/// All limits of a store.
#[derive(Debug, Default)]
pub(crate) struct Limits {
    /// What the settings say.
    settings: HashMap<Scope, u64>,
    /// What they say of tenants without a limit of their own.
    each_tenant: Option<u64>,
    /// What was set at run time, and the record that set it.
    set: HashMap<Scope, (Limit, Lsn)>,
}

impl Limits {
    /// The limits that the settings state.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names a directory quota that is none.
    pub(crate) fn from_settings(options: &EngineOptions) -> Result<Self> {
        let mut settings = HashMap::new();
        if let Some(limit) = options.global_quota {
            settings.insert(Scope::Global, limit);
        }
        for quota in &options.directory_quotas {
            let scope = exact_directory(&quota.pattern)?;
            if quota.max_bytes.is_some() {
                return Err(refused(
                    &quota.pattern,
                    "limits bytes, which directories cannot yet: leave max_bytes out",
                ));
            }
            if quota.enabled && settings.insert(scope, quota.max_files).is_some() {
                return Err(refused(&quota.pattern, "is given twice"));
            }
        }
        Ok(Self { settings, each_tenant: options.tenant_quota, set: HashMap::new() })
    }

    /// The limit in force, if there is one.
    pub(crate) fn of(&self, scope: &Scope) -> Option<u64> {
        match self.set.get(scope) {
            Some((Limit::Unlimited, _)) => None,
            Some((Limit::Files(limit), _)) => Some(*limit),
            Some((Limit::Inherit, _)) | None => match scope {
                Scope::Tenant(_) => self.settings.get(scope).copied().or(self.each_tenant),
                _ => self.settings.get(scope).copied(),
            },
        }
    }

    /// How many limits were set at run time.
    pub(crate) fn count_set_at_run_time(&self) -> usize {
        self.set.len()
    }

    /// What was set at run time.
    pub(crate) fn set_at_run_time(&self) -> impl Iterator<Item = (&Scope, &Limit, Lsn)> {
        self.set.iter().map(|(scope, (limit, lsn))| (scope, limit, *lsn))
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
        }
    }

    /// Run-time limits that differ from what the settings say, to be told at start.
    pub(crate) fn differences(&self) -> Vec<Scope> {
        let differs = |scope: &Scope, limit: &Limit| match limit {
            Limit::Inherit => false,
            Limit::Unlimited => self.settings.contains_key(scope),
            Limit::Files(limit) => self.settings.get(scope).is_some_and(|settings| settings != limit),
        };
        self.set
            .iter()
            .filter(|(scope, (limit, _))| differs(scope, limit))
            .map(|(scope, _)| scope.clone())
            .collect()
    }
}

fn refused(pattern: &str, why: &str) -> Error {
    Error::InvalidSetting {
        name: format!("quotas.directories (\"{pattern}\")").into(),
        why: why.to_owned().into(),
    }
}

/// The directory that `tenant/directory` names.
fn exact_directory(pattern: &str) -> Result<Scope> {
    let (tenant, directory) = pattern.split_once('/').unwrap_or((pattern, ""));
    if pattern.contains(['*', '?', '[', '{']) {
        return Err(refused(pattern, "is a pattern: state each directory exactly, as tenant/directory"));
    }
    let tenant =
        TenantId::parse(tenant).map_err(|_| refused(pattern, "does not begin with a tenant's id"))?;
    let directory =
        LogicalDir::parse(directory).map_err(|_| refused(pattern, "names a directory that is too long"))?;
    Ok(Scope::Directory(tenant, directory))
}

#[cfg(test)]
mod tests {
    use locus_core::DirectoryQuota;

    use super::*;

    fn options(pattern: &str) -> EngineOptions {
        let quota = DirectoryQuota { pattern: pattern.into(), max_files: 5, max_bytes: None, enabled: true };
        EngineOptions { tenant_quota: Some(10), directory_quotas: vec![quota], ..EngineOptions::default() }
    }

    #[test]
    fn b52_inherit_unlimited_and_a_number_are_three_different_things() {
        let mut limits = Limits::from_settings(&options("acme/in")).unwrap();
        let tenant = Scope::Tenant(TenantId::parse("acme").unwrap());
        assert_eq!(limits.of(&tenant), Some(10));
        limits.apply(Lsn(1), tenant.clone(), Limit::Unlimited);
        assert_eq!(limits.of(&tenant), None);
        limits.apply(Lsn(2), tenant.clone(), Limit::Files(3));
        assert_eq!(limits.of(&tenant), Some(3));
        limits.apply(Lsn(1), tenant.clone(), Limit::Unlimited);
        assert_eq!(limits.of(&tenant), Some(3), "an older record changes nothing");
        limits.apply(Lsn(3), tenant.clone(), Limit::Inherit);
        assert_eq!(limits.of(&tenant), Some(10));
        limits.forget_reset(Lsn(3));
        assert_eq!(limits.set_at_run_time().count(), 1, "its record may be replayed");
        limits.forget_reset(Lsn(4));
        assert_eq!(limits.set_at_run_time().count(), 0);
    }

    #[test]
    fn a_directory_quota_is_exact_and_a_bad_one_is_refused_by_name() {
        let limits = Limits::from_settings(&options("acme/in")).unwrap();
        let scope =
            |dir: &str| Scope::Directory(TenantId::parse("acme").unwrap(), LogicalDir::parse(dir).unwrap());
        assert_eq!((limits.of(&scope("in")), limits.of(&scope("in/deep"))), (Some(5), None));
        for bad in ["*/in", "ACME/in", ""] {
            let message = Limits::from_settings(&options(bad)).unwrap_err().to_string();
            assert!(message.contains("quotas.directories"), "{message}");
        }
    }
}
