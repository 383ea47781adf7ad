//! What describes a watcher.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use locus_core::{Checksum, Error, Result, TenantId, WatcherId};
use serde::{Deserialize, Serialize};

use crate::rules::Rules;

/// Most imports at the same time that can be asked for: each has a thread of its own while it waits for its folder.
pub(crate) const IMPORTS_MAX: usize = 64;

/// What becomes of a source once its file survives power loss.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AfterImport {
    /// It is removed.
    #[default]
    Delete,
    /// It is moved into this directory, beneath the folders that it lay in. A name that is taken gets a number. What lies
    /// there is not watched, also when the directory lies in the watched folder; it is neither that folder nor holds it, and
    /// no other watcher reaches it.
    Move(PathBuf),
    /// It stays. It is imported again when its size, its time or the file behind its name is another.
    Keep,
}

/// Describes a watched folder. The setters take and return the description; [`check`](Self::check) says whether it holds
/// together.
///
/// ```
/// use locus_watcher::FileWatcherConfig;
///
/// FileWatcherConfig::new("./inbox").multi_tenant(true).auto_create_tenant_directories(true).check()?;
/// # Ok::<(), locus_core::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use = "a description watches nothing"]
pub struct FileWatcherConfig {
    /// Its name; `None`, the default, is one that is [derived](Self::watcher_id) from mode and path.
    pub id: Option<String>,
    /// The folder.
    pub path: PathBuf,
    /// Whose all files are; in multi-tenant mode the first folder says that.
    pub tenant: Option<String>,
    /// Whether the first folder names the tenant. Default false.
    pub multi_tenant: bool,
    /// Whether a folder is made for every enabled tenant. Default false; for multi-tenant mode alone.
    pub auto_create_tenant_directories: bool,
    /// Globs of what is taken; none, the default, is everything.
    pub include: Vec<String>,
    /// Globs of what is not taken, whatever `include` says.
    pub exclude: Vec<String>,
    /// Whether folders below are looked into. Default true.
    pub subdirectories: bool,
    /// A source was changed at least so long ago, by its own time, or was seen unchanged for so long. Default 5 s.
    pub age_min: Duration,
    /// Size and times of a source were alike over so long a time. Default 2 s.
    pub stability_delay: Duration,
    /// Longest source, in bytes; `None`, the default, is no limit.
    pub size_max: Option<u64>,
    /// Longest time between two scans. Default 30 s.
    pub polling_interval: Duration,
    /// Sources that are imported at the same time, 1 to 64. Default 4.
    pub concurrent_imports: usize,
    /// What becomes of a source. Default it is removed.
    pub after_import: AfterImport,
    /// Whether the folders of a source become its logical directory. Default false: all lie in `/`.
    pub directory_from_folder: bool,
    /// Whether it runs. Default true.
    pub enabled: bool,
}

impl FileWatcherConfig {
    /// A watcher of this folder, with all else at its default. A tenant or multi-tenant mode is still to be named.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            id: None,
            path: path.into(),
            tenant: None,
            multi_tenant: false,
            auto_create_tenant_directories: false,
            include: Vec::new(),
            exclude: Vec::new(),
            subdirectories: true,
            age_min: Duration::from_secs(5),
            stability_delay: Duration::from_secs(2),
            size_max: None,
            polling_interval: Duration::from_secs(30),
            concurrent_imports: 4,
            after_import: AfterImport::Delete,
            directory_from_folder: false,
            enabled: true,
        }
    }

    /// Its name, in the grammar of [`WatcherId`].
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Everything in the folder is this tenant's.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// The first folder names the tenant. A folder that is no enabled tenant's is passed over.
    pub fn multi_tenant(mut self, yes: bool) -> Self {
        self.multi_tenant = yes;
        self
    }

    /// A folder is made for every enabled tenant, also for those created or enabled later.
    pub fn auto_create_tenant_directories(mut self, yes: bool) -> Self {
        self.auto_create_tenant_directories = yes;
        self
    }

    /// Takes what this glob matches, instead of everything; said again, also what that one matches. A glob without `/` is
    /// about the name of a source, one with `/` about its path from the folder of its tenant; `*` stays within a level,
    /// `**` does not.
    pub fn include(mut self, glob: impl Into<String>) -> Self {
        self.include.push(glob.into());
        self
    }

    /// Does not take what this glob matches; a folder that it matches is not looked into.
    pub fn exclude(mut self, glob: impl Into<String>) -> Self {
        self.exclude.push(glob.into());
        self
    }

    /// Whether folders below are looked into, at most 32 deep.
    pub fn subdirectories(mut self, yes: bool) -> Self {
        self.subdirectories = yes;
        self
    }

    /// A source was changed at least so long ago.
    pub fn age_min(mut self, age: Duration) -> Self {
        self.age_min = age;
        self
    }

    /// Size and times of a source were alike over so long a time; zero asks for no second look.
    pub fn stability_delay(mut self, delay: Duration) -> Self {
        self.stability_delay = delay;
        self
    }

    /// Longest source, in bytes.
    pub fn size_max(mut self, bytes: u64) -> Self {
        self.size_max = Some(bytes);
        self
    }

    /// Longest time between two scans.
    pub fn polling_interval(mut self, interval: Duration) -> Self {
        self.polling_interval = interval;
        self
    }

    /// Sources that are imported at the same time, 1 to 64.
    pub fn concurrent_imports(mut self, imports: usize) -> Self {
        self.concurrent_imports = imports;
        self
    }

    /// What becomes of a source.
    pub fn after_import(mut self, after: AfterImport) -> Self {
        self.after_import = after;
        self
    }

    /// The folders of a source become its logical directory.
    pub fn directory_from_folder(mut self, yes: bool) -> Self {
        self.directory_from_folder = yes;
        self
    }

    /// Whether it runs.
    pub fn enabled(mut self, yes: bool) -> Self {
        self.enabled = yes;
        self
    }

    /// Its name: the one that was given, or one that is derived from mode and path, the same at every start.
    ///
    /// # Errors
    /// [`Error::InvalidId`]; [`Error::Io`] when the present directory is not known.
    pub fn watcher_id(&self) -> Result<WatcherId> {
        if let Some(id) = &self.id {
            return WatcherId::parse(id);
        }
        let path = absolute(&self.path)?;
        let mode = if self.multi_tenant { "multi" } else { "single" };
        let sum = Checksum::of(path.as_os_str().as_encoded_bytes());
        let short: String = sum.to_string().chars().take(16).collect();
        WatcherId::parse(&format!("{mode}-{short}"))
    }

    /// Refuses what is out of its range and what contradicts itself.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names the setting, what is wrong with it and what would be right; [`Error::InvalidId`].
    pub fn check(&self) -> Result<()> {
        self.rules().map(|_| ())
    }

    /// What the description says, ready to be asked.
    pub(crate) fn rules(&self) -> Result<Rules> {
        let id = self.watcher_id()?;
        let refuse = |field: &str, why: &str| invalid(&id, field, why);
        if self.path.as_os_str().is_empty() {
            return refuse("path", "is empty: name a folder");
        }
        // What is stored is text.
        let is_text = |path: &Path| path.to_str().is_some();
        if !is_text(&self.path) {
            return refuse("path", "is no text");
        }
        match (&self.tenant, self.multi_tenant) {
            (None, false) => {
                return refuse("tenant", "is missing: name one, or let the first folder name it");
            }
            (Some(_), true) => return refuse("tenant", "is for a single tenant: the first folder names it"),
            _ => {}
        }
        if self.auto_create_tenant_directories && !self.multi_tenant {
            return refuse("auto_create_tenant_directories", "is for multi-tenant mode alone");
        }
        if self.polling_interval.is_zero() {
            return refuse("polling_interval", "is zero: use a longer time");
        }
        if !(1..=IMPORTS_MAX).contains(&self.concurrent_imports) {
            return refuse("concurrent_imports", "is not 1 to 64");
        }
        if self.size_max == Some(0) {
            return refuse("size_max", "is 0: empty files are never taken");
        }
        if let AfterImport::Move(to) = &self.after_import {
            if to.as_os_str().is_empty() || !is_text(to) {
                return refuse("after_import", "names no directory");
            }
            if absolute(to)? == absolute(&self.path)? {
                return refuse("after_import", "moves sources to where they are");
            }
        }
        let tenant = self.tenant.as_deref().map(TenantId::parse).transpose()?;
        Rules::new(id, tenant, self)
    }

    /// With paths that stay what they are wherever the process goes, and with its name.
    pub(crate) fn settled(mut self) -> Result<Self> {
        let id = self.watcher_id()?;
        self.path = absolute(&self.path)?;
        if let AfterImport::Move(to) = &mut self.after_import {
            *to = absolute(to)?;
        }
        self.id = Some(id.as_str().to_owned());
        Ok(self)
    }
}

/// Refuses a setting of a watcher by name.
pub(crate) fn invalid<T>(id: &WatcherId, field: &str, why: impl Into<String>) -> Result<T> {
    Err(Error::InvalidSetting { name: format!("watchers[{id}].{field}").into(), why: why.into().into() })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io("find", path))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn good() -> FileWatcherConfig {
        FileWatcherConfig::new("/inbox").id("in").tenant("acme")
    }

    #[rstest]
    #[case::no_folder("path", |c: FileWatcherConfig| FileWatcherConfig { path: PathBuf::new(), ..c })]
    #[case::no_tenant("tenant", |c: FileWatcherConfig| FileWatcherConfig { tenant: None, ..c })]
    #[case::two_masters("tenant", |c: FileWatcherConfig| c.multi_tenant(true))]
    #[case::auto_create("auto_create_tenant_directories", |c: FileWatcherConfig| c.auto_create_tenant_directories(true))]
    #[case::polling("polling_interval", |c: FileWatcherConfig| c.polling_interval(Duration::ZERO))]
    #[case::imports("concurrent_imports", |c: FileWatcherConfig| c.concurrent_imports(0))]
    #[case::too_many_imports("concurrent_imports", |c: FileWatcherConfig| c.concurrent_imports(65))]
    #[case::size("size_max", |c: FileWatcherConfig| c.size_max(0))]
    #[case::in_place("after_import", |c: FileWatcherConfig| c.after_import(AfterImport::Move("/inbox".into())))]
    #[case::nowhere("after_import", |c: FileWatcherConfig| c.after_import(AfterImport::Move(PathBuf::new())))]
    #[case::include("include", |c: FileWatcherConfig| c.include("[z-a]"))]
    #[case::exclude("exclude", |c: FileWatcherConfig| c.exclude("{a"))]
    fn b86_a_contradiction_is_refused_by_the_name_of_its_setting(
        #[case] field: &str,
        #[case] change: fn(FileWatcherConfig) -> FileWatcherConfig,
    ) {
        good().check().unwrap();
        match change(good()).check().unwrap_err() {
            Error::InvalidSetting { name, .. } => assert_eq!(name, format!("watchers[in].{field}")),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn an_id_is_derived_from_mode_and_path_and_is_the_same_every_time() {
        let single = FileWatcherConfig::new("/inbox").tenant("acme");
        let multi = FileWatcherConfig::new("/inbox").multi_tenant(true);
        let other = FileWatcherConfig::new("/inbox2").tenant("acme");
        let id = |config: &FileWatcherConfig| config.watcher_id().unwrap();
        assert_eq!(id(&single), id(&single.clone().tenant("globex")));
        assert!(id(&single) != id(&multi) && id(&single) != id(&other));
        assert!(id(&single).as_str().starts_with("single-"), "{}", id(&single));
        assert!(single.clone().id("No Id").check().is_err());
        let settled = single.clone().settled().unwrap();
        assert_eq!(settled.id.as_deref(), Some(id(&single).as_str()));
    }
}
