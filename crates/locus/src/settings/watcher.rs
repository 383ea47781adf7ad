//! Folders that the settings name.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use locus_core::{Result, TenantId, WatcherId};
use locus_watcher::{AfterImport, FileWatcherConfig};
use serde::{Deserialize, Serialize};

use crate::settings::{model::invalid, unit};

/// What becomes of a source once its file survives power loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AfterImportKind {
    /// It is removed.
    #[default]
    Delete,
    /// It is moved to `move_to`.
    Move,
    /// It stays.
    Keep,
}

/// A folder to watch: [`FileWatcherConfig`] with times and sizes that people can write.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct WatcherSettings {
    /// Its name; `None` is one that is derived from mode and path.
    pub id: Option<WatcherId>,
    /// The folder.
    pub path: PathBuf,
    /// Whose all files are.
    pub tenant: Option<TenantId>,
    /// Whether the first folder names the tenant. Default false.
    pub multi_tenant: bool,
    /// Whether a folder is made for every enabled tenant. Default false.
    pub auto_create_tenant_directories: bool,
    /// Globs of what is taken; none is everything.
    pub include: Vec<String>,
    /// Globs of what is not taken.
    pub exclude: Vec<String>,
    /// Whether folders below are looked into. Default true.
    pub subdirectories: bool,
    /// A source was changed at least so long ago. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub age_min: Duration,
    /// Size and times of a source were alike over so long a time. Default 2 s.
    #[serde(with = "humantime_serde")]
    pub stability_delay: Duration,
    /// Longest source, in bytes; `None`, the default, is no limit.
    #[serde(with = "unit::option")]
    pub size_max: Option<u64>,
    /// Longest time between two scans. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub polling_interval: Duration,
    /// Sources that are imported at the same time, at most 64. Default 4.
    pub concurrent_imports: usize,
    /// What becomes of a source. Default it is removed.
    pub after_import: AfterImportKind,
    /// Where sources are moved to.
    pub move_to: Option<PathBuf>,
    /// Whether the folders of a source become its logical directory. Default false.
    pub directory_from_folder: bool,
    /// Whether it runs. Default true.
    pub enabled: bool,
}

impl Default for WatcherSettings {
    fn default() -> Self {
        let watcher = FileWatcherConfig::new("");
        Self {
            id: None,
            path: watcher.path,
            tenant: None,
            multi_tenant: watcher.multi_tenant,
            auto_create_tenant_directories: watcher.auto_create_tenant_directories,
            include: watcher.include,
            exclude: watcher.exclude,
            subdirectories: watcher.subdirectories,
            age_min: watcher.age_min,
            stability_delay: watcher.stability_delay,
            size_max: watcher.size_max,
            polling_interval: watcher.polling_interval,
            concurrent_imports: watcher.concurrent_imports,
            after_import: AfterImportKind::Delete,
            move_to: None,
            directory_from_folder: watcher.directory_from_folder,
            enabled: watcher.enabled,
        }
    }
}

impl WatcherSettings {
    /// What these settings describe.
    pub(crate) fn config(&self) -> FileWatcherConfig {
        let mut config = FileWatcherConfig::new(&self.path)
            .multi_tenant(self.multi_tenant)
            .auto_create_tenant_directories(self.auto_create_tenant_directories)
            .subdirectories(self.subdirectories)
            .age_min(self.age_min)
            .stability_delay(self.stability_delay)
            .polling_interval(self.polling_interval)
            .concurrent_imports(self.concurrent_imports)
            .directory_from_folder(self.directory_from_folder)
            .enabled(self.enabled);
        config.id = self.id.as_ref().map(ToString::to_string);
        config.tenant = self.tenant.as_ref().map(ToString::to_string);
        config.include.clone_from(&self.include);
        config.exclude.clone_from(&self.exclude);
        config.size_max = self.size_max;
        config.after_import = match self.after_import {
            AfterImportKind::Delete => AfterImport::Delete,
            AfterImportKind::Keep => AfterImport::Keep,
            AfterImportKind::Move => AfterImport::Move(self.move_to.clone().unwrap_or_default()),
        };
        config
    }

    pub(crate) fn check(&self) -> Result<()> {
        let config = self.config();
        config.check()?;
        if self.move_to.is_some() && self.after_import != AfterImportKind::Move {
            let id = config.watcher_id()?;
            return invalid(format!("watchers[{id}].move_to"), "is for after_import = \"move\"");
        }
        Ok(())
    }

    pub(crate) fn resolve(&mut self, base: &Path) {
        if !self.path.as_os_str().is_empty() {
            self.path = base.join(&self.path);
        }
        if let Some(to) = &mut self.move_to {
            *to = base.join(&*to);
        }
    }
}
