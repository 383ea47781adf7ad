//! All watchers of a store: started and stopped in one place, changed while they run.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Clock, Error, Intake, Result, Site, Timestamp, WatcherId};
use locus_fs::{Disk, create_dirs, off_thread, read_bounded, replace, sync_dir};
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::{
    config::FileWatcherConfig,
    copy,
    folder::{Folder, name_bytes},
    ledger::{self, Ledger},
    overlap,
    reason::SkipReason,
    record::{self, Said},
    report::{Explanation, ScanReport},
    rules::Rules,
    scan::{Memory, OwnPlaces, Scanner, bounds, directory_of, on_disk, within},
    task::{Running, Status},
    walk::{Found, Walk},
};

/// What the file of a watcher is called after its name.
const SUFFIX: &str = "watcher";

/// What watchers need.
#[derive(Debug, Clone)]
pub struct WatchersOptions {
    /// Where they keep what they note; made when there is anything. One process at a time owns it.
    pub dir: PathBuf,
    /// The disk of that directory. Watched folders are always the machine's own.
    pub disk: Arc<dyn Disk>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where sources are brought in.
    pub intake: Arc<dyn Intake>,
    /// What builder and settings describe.
    pub described: Vec<FileWatcherConfig>,
    /// Whether what is noted survives power loss at once.
    pub durable: bool,
}

/// The watchers of a store. Cheap to clone; clones are the same.
///
/// What is changed here is stored and wins over what builder and settings describe, until it is [reset](Self::reset).
#[derive(Debug, Clone)]
pub struct FileWatchers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    intake: Arc<dyn Intake>,
    durable: bool,
    described: BTreeMap<WatcherId, FileWatcherConfig>,
    known: Mutex<Known>,
    /// Held by the one change under way.
    changing: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Known {
    watchers: BTreeMap<WatcherId, Watcher>,
    /// What was said at run time.
    said: BTreeMap<WatcherId, Said>,
    /// They run.
    is_started: bool,
}

#[derive(Debug)]
struct Watcher {
    config: FileWatcherConfig,
    running: Option<Running>,
}

/// What is known about a watcher.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WatcherInfo {
    /// Its name.
    pub id: WatcherId,
    /// What describes it, with absolute paths.
    pub config: FileWatcherConfig,
    /// Whether that was said at run time and wins over builder and settings.
    pub changed_at_run_time: bool,
    /// When its last scan ended, by the wall clock.
    pub last_scan: Option<Timestamp>,
    /// What that scan did; of one that failed, the one before.
    pub last_report: Option<ScanReport>,
    /// What all scans did since the store was opened, or the watcher was changed.
    pub total: ScanReport,
    /// Why the last scan failed; `None` when it did not.
    pub trouble: Option<String>,
}

impl FileWatchers {
    /// Reads what was said at run time, and says where it differs from what is described. Starts nothing yet.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] and [`Error::InvalidId`] name what contradicts; [`Error::Corrupt`],
    /// [`Error::NewerFormat`] and [`Error::Io`] name the file.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn open(options: WatchersOptions) -> Result<Self> {
        let WatchersOptions { dir, disk, clock, intake, described, durable } = options;
        let described = settle_all(described)?;
        let (on, at) = (Arc::clone(&disk), dir.clone());
        let is_needed = !described.is_empty();
        let said = off_thread(&*disk, move || {
            if is_needed {
                create_dirs(&*on, &at)?;
            }
            read_all(&*on, &at)
        })
        .await?;
        let mut watchers = described.clone();
        for (id, said) in &said {
            if watchers.contains_key(id) {
                warn!(watcher = %id, "watcher was changed at run time, builder and settings are passed over until it is reset");
            }
            match said {
                Said::Set(config) => drop(watchers.insert(id.clone(), FileWatcherConfig::clone(config))),
                Said::Removed => drop(watchers.remove(id)),
            }
        }
        let own = intake.own_places();
        let checking = watchers.clone();
        on_disk(move || check_all(&checking, &own)).await?;
        let watchers =
            watchers.into_iter().map(|(id, config)| (id, Watcher { config, running: None })).collect();
        let known = Mutex::new(Known { watchers, said, is_started: false });
        let changing = Arc::default();
        Ok(Self { inner: Arc::new(Inner { dir, disk, clock, intake, durable, described, known, changing }) })
    }

    /// Copies what watchers keep in `from`, which may be absent, durably into `to`, where nothing of it is: also while
    /// they run. Blocks the thread.
    ///
    /// # Errors
    /// [`Error::Io`]; some may be there then.
    pub fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
        copy::copy(disk, from, to)
    }

    /// Starts all that are enabled. Needs a tokio runtime.
    pub fn start(&self) {
        let mut known = self.inner.known.lock();
        known.is_started = true;
        for watcher in known.watchers.values_mut() {
            self.inner.run(watcher);
        }
    }

    /// Stops all and waits. They cannot be changed any more.
    pub async fn stop(&self) {
        let _turn = self.inner.changing.lock().await;
        let running: Vec<_> = {
            let mut known = self.inner.known.lock();
            known.is_started = false;
            known.watchers.values_mut().filter_map(|watcher| watcher.running.take()).collect()
        };
        for running in running {
            running.stop().await;
        }
    }

    /// Adds a watcher. What it is called is told.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`], [`Error::InvalidId`]; [`Error::WatcherExists`]; [`Error::Io`]; [`Error::ShuttingDown`].
    /// Nothing changed then.
    ///
    /// # Cancel safety
    /// A change that was begun is made even when its future is dropped.
    pub async fn register(&self, config: FileWatcherConfig) -> Result<WatcherId> {
        let config = config.settled()?;
        let id = config.watcher_id()?;
        self.change(id.clone(), move |present| match present {
            Some(_) => Err(Error::WatcherExists { watcher: id }),
            None => Ok(Some(config)),
        })
        .await
    }

    /// Puts a description in place of the one of the same name. Sources that were kept are still known by path, size, time
    /// and inode.
    ///
    /// # Errors
    /// As [`register`](Self::register); [`Error::WatcherNotFound`].
    ///
    /// # Cancel safety
    /// As [`register`](Self::register).
    pub async fn update(&self, config: FileWatcherConfig) -> Result<()> {
        let config = config.settled()?;
        let id = config.watcher_id()?;
        self.change(id.clone(), move |present| match present {
            Some(_) => Ok(Some(config)),
            None => Err(Error::WatcherNotFound { watcher: id }),
        })
        .await
        .map(|_| ())
    }

    /// Removes a watcher. Its sources stay where they are and are forgotten: another watcher of their folder imports them
    /// again.
    ///
    /// # Errors
    /// [`Error::WatcherNotFound`], [`Error::InvalidId`]; [`Error::Io`]; [`Error::ShuttingDown`].
    ///
    /// # Cancel safety
    /// As [`register`](Self::register).
    pub async fn remove(&self, id: impl AsRef<str> + Send) -> Result<()> {
        let id = WatcherId::parse(id.as_ref())?;
        let watcher = id.clone();
        self.change(id, move |present| match present {
            Some(_) => Ok(None),
            None => Err(Error::WatcherNotFound { watcher }),
        })
        .await
        .map(|_| ())
    }

    /// Switches a watcher on.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    ///
    /// # Cancel safety
    /// As [`register`](Self::register).
    pub async fn enable(&self, id: impl AsRef<str> + Send) -> Result<()> {
        let id = WatcherId::parse(id.as_ref())?;
        self.switch(id, true).await
    }

    /// Switches a watcher off: it looks at nothing until it is enabled.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    ///
    /// # Cancel safety
    /// As [`register`](Self::register).
    pub async fn disable(&self, id: impl AsRef<str> + Send) -> Result<()> {
        let id = WatcherId::parse(id.as_ref())?;
        self.switch(id, false).await
    }

    /// Takes back what was said at run time: from now on builder and settings describe it, or nothing does.
    ///
    /// # Errors
    /// [`Error::WatcherNotFound`] when nobody ever described it; else as [`update`](Self::update).
    ///
    /// # Cancel safety
    /// As [`register`](Self::register).
    pub async fn reset(&self, id: impl AsRef<str> + Send) -> Result<()> {
        let id = WatcherId::parse(id.as_ref())?;
        let inner = Arc::clone(&self.inner);
        alone(&self.inner.changing, async move {
            let described = inner.described.get(&id).cloned();
            if described.is_none() && !inner.known.lock().said.contains_key(&id) {
                return Err(Error::WatcherNotFound { watcher: id });
            }
            if let Some(config) = &described {
                inner.check(&id, config).await?;
            }
            inner.store(&id, None).await?;
            inner.put(&id, described).await
        })
        .await
    }

    /// All watchers, in order of their names.
    #[must_use]
    pub fn list(&self) -> Vec<WatcherInfo> {
        let known = self.inner.known.lock();
        known.watchers.iter().map(|(id, watcher)| known.info(id, watcher)).collect()
    }

    /// One watcher.
    ///
    /// # Errors
    /// [`Error::WatcherNotFound`], [`Error::InvalidId`].
    pub fn get(&self, id: impl AsRef<str>) -> Result<WatcherInfo> {
        let id = WatcherId::parse(id.as_ref())?;
        let known = self.inner.known.lock();
        let watcher =
            known.watchers.get(&id).ok_or_else(|| Error::WatcherNotFound { watcher: id.clone() })?;
        Ok(known.info(&id, watcher))
    }

    /// Looks through a folder now, and says what that did. Several who ask at the same time share one scan.
    ///
    /// # Errors
    /// [`Error::WatcherNotFound`], [`Error::WatcherDisabled`], [`Error::InvalidId`], [`Error::FolderUnavailable`],
    /// [`Error::ShuttingDown`];
    /// what the store says.
    ///
    /// # Cancel safety
    /// The scan goes on even when the future is dropped.
    pub async fn scan_now(&self, id: impl AsRef<str> + Send) -> Result<ScanReport> {
        let id = WatcherId::parse(id.as_ref())?;
        let asked = {
            let known = self.inner.known.lock();
            let watcher =
                known.watchers.get(&id).ok_or_else(|| Error::WatcherNotFound { watcher: id.clone() })?;
            match &watcher.running {
                Some(running) => running.ask(),
                None if known.is_started => return Err(Error::WatcherDisabled { watcher: id }),
                None => return Err(Error::ShuttingDown),
            }
        };
        asked.await
    }

    /// Why a source lies where it lies, and when it is looked at again. The path is absolute, or relative to the present
    /// directory.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when no watcher watches it; [`Error::FolderUnavailable`]; what the store says.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn explain(&self, path: impl AsRef<Path> + Send) -> Result<Explanation> {
        let path = std::path::absolute(path.as_ref()).map_err(Error::io("find", path.as_ref()))?;
        let (id, config, within, running) = {
            let known = self.inner.known.lock();
            let watching = known
                .watchers
                .iter()
                .filter_map(|(id, watcher)| Some((id, watcher, within(&watcher.config, &path)?)));
            let deepest = watching.max_by_key(|(_, watcher, _)| watcher.config.path.iter().count());
            let Some((id, watcher, within)) = deepest else {
                return Err(Error::InvalidArgument { name: "path", why: "lies in no watched folder" });
            };
            let running = watcher
                .running
                .as_ref()
                .map(|running| (Arc::clone(&running.memory), running.status.lock().clone()));
            (id.clone(), watcher.config.clone(), within, running)
        };
        let held_by = self.inner.held_by(&id, &config, &within, running.as_ref().map(|(m, _)| &**m)).await?;
        let (now, wall) = (self.inner.clock.monotonic(), self.inner.clock.wall());
        let next = running.and_then(|(_, status)| status.next_look);
        let next_look = next.map(|at| wall.saturating_add(at.saturating_sub(now)));
        Ok(Explanation { watcher: id, path: within, held_by, next_look })
    }

    async fn switch(&self, id: WatcherId, enabled: bool) -> Result<()> {
        let watcher = id.clone();
        self.change(id, move |present| match present {
            Some(config) => Ok(Some(config.enabled(enabled))),
            None => Err(Error::WatcherNotFound { watcher }),
        })
        .await
        .map(|_| ())
    }

    /// Makes one change after the other, each to its end.
    async fn change(
        &self,
        id: WatcherId,
        change: impl FnOnce(Option<FileWatcherConfig>) -> Result<Option<FileWatcherConfig>> + Send + 'static,
    ) -> Result<WatcherId> {
        let inner = Arc::clone(&self.inner);
        alone(&self.inner.changing, async move {
            let present = inner.known.lock().watchers.get(&id).map(|watcher| watcher.config.clone());
            let next = change(present)?;
            if let Some(config) = &next {
                inner.check(&id, config).await?;
            }
            let said = match &next {
                Some(config) => Some(Said::Set(Box::new(config.clone()))),
                // Where nobody describes it, nothing needs to be said against it.
                None => inner.described.contains_key(&id).then_some(Said::Removed),
            };
            inner.store(&id, said).await?;
            inner.put(&id, next).await?;
            Ok(id)
        })
        .await
    }
}

/// Runs a change alone and to its end, also when its caller goes away.
async fn alone<T: Send + 'static>(
    changing: &Arc<tokio::sync::Mutex<()>>,
    change: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let turn = Arc::clone(changing).lock_owned().await;
    let changed = tokio::spawn(async move {
        let _turn = turn;
        change.await
    });
    match changed.await {
        Ok(changed) => changed,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::ShuttingDown),
        },
    }
}

impl Known {
    fn info(&self, id: &WatcherId, watcher: &Watcher) -> WatcherInfo {
        let status =
            watcher.running.as_ref().map_or_else(Status::default, |running| running.status.lock().clone());
        WatcherInfo {
            id: id.clone(),
            config: watcher.config.clone(),
            changed_at_run_time: self.said.contains_key(id),
            last_scan: status.last_scan,
            last_report: status.last,
            total: status.total,
            trouble: status.trouble,
        }
    }
}

impl Inner {
    /// Starts it when it is enabled.
    fn run(&self, watcher: &mut Watcher) {
        if !watcher.config.enabled || watcher.running.is_some() {
            return;
        }
        match watcher.config.rules() {
            Ok(rules) => watcher.running = Some(Running::start(self.scanner(watcher.config.clone(), rules))),
            Err(error) => warn!(%error, "watcher not started"), // it was checked before
        }
    }

    fn scanner(&self, config: FileWatcherConfig, rules: Rules) -> Scanner {
        let ledger = self.ledger(&rules.id);
        let (intake, clock) = (Arc::clone(&self.intake), Arc::clone(&self.clock));
        Scanner::new(config, rules, intake, clock, ledger, Arc::new(Mutex::new(Memory::default())))
    }

    fn ledger(&self, id: &WatcherId) -> Ledger {
        Ledger::new(Arc::clone(&self.disk), ledger::path_in(&self.dir, id.as_str()), self.durable)
    }

    /// Refuses a description that does not go with the store or with another watcher.
    async fn check(&self, id: &WatcherId, config: &FileWatcherConfig) -> Result<()> {
        if !self.known.lock().is_started {
            return Err(Error::ShuttingDown);
        }
        config.check()?;
        let (id, config, own) = (id.clone(), config.clone(), self.intake.own_places());
        let others: Vec<_> = {
            let known = self.known.lock();
            let others = known.watchers.iter().filter(|(other, _)| **other != id);
            others.map(|(other, watcher)| (other.clone(), watcher.config.clone())).collect()
        };
        on_disk(move || {
            overlap::check_folder(&id, &config)?;
            overlap::check_own(&id, &config, &own)?;
            others
                .iter()
                .try_for_each(|(other_id, other)| overlap::check_other(&id, &config, other_id, other))
        })
        .await
    }

    /// Disk first, memory second.
    async fn store(&self, id: &WatcherId, said: Option<Said>) -> Result<()> {
        if !self.known.lock().is_started {
            return Err(Error::ShuttingDown);
        }
        let (disk, dir, path) = (Arc::clone(&self.disk), self.dir.clone(), self.path(id));
        let bytes = said.as_ref().map(record::encode);
        off_thread(&*self.disk, move || {
            create_dirs(&*disk, &dir)?;
            match bytes {
                Some(bytes) => replace(&*disk, &path, &bytes),
                None => remove_durably(&*disk, &dir, &path),
            }
        })
        .await?;
        let mut known = self.known.lock();
        match said {
            Some(said) => drop(known.said.insert(id.clone(), said)),
            None => drop(known.said.remove(id)),
        }
        Ok(())
    }

    /// Stops what runs under this name, and starts what is to run from now on.
    async fn put(&self, id: &WatcherId, config: Option<FileWatcherConfig>) -> Result<()> {
        let running = {
            let mut known = self.known.lock();
            known.watchers.get_mut(id).and_then(|watcher| watcher.running.take())
        };
        if let Some(running) = running {
            running.stop().await;
        }
        let Some(config) = config else {
            self.known.lock().watchers.remove(id);
            self.forget_sources(id).await?;
            info!(watcher = %id, "watcher removed");
            return Ok(());
        };
        let mut known = self.known.lock();
        let is_started = known.is_started;
        let mut watcher = Watcher { config, running: None };
        if is_started {
            self.run(&mut watcher);
        }
        known.watchers.insert(id.clone(), watcher);
        info!(watcher = %id, "watcher set");
        Ok(())
    }

    /// Nothing of a watcher that is no more is remembered.
    async fn forget_sources(&self, id: &WatcherId) -> Result<()> {
        let ledger = self.ledger(id);
        let mut reading = ledger.read().await?;
        loop {
            let page = ledger.next(&mut reading).await?;
            if page.is_empty() {
                break;
            }
            for noted in page {
                self.intake.forget(&noted.tenant, &noted.identity(id)).await?;
            }
        }
        drop(reading);
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.clone());
        let path = ledger::path_in(&self.dir, id.as_str());
        off_thread(&*self.disk, move || {
            remove_durably(&*disk, &dir, &path.with_extension("ledger.new"))?;
            remove_durably(&*disk, &dir, &path)
        })
        .await
    }

    async fn held_by(
        &self,
        id: &WatcherId,
        config: &FileWatcherConfig,
        within: &Path,
        memory: Option<&Mutex<Memory>>,
    ) -> Result<Option<SkipReason>> {
        let rules = Arc::new(config.rules()?);
        let (intake, own) = (Arc::clone(&self.intake), self.intake.own_places());
        let (described, asked, path) = (config.clone(), Arc::clone(&rules), within.to_owned());
        let looked = on_disk(move || {
            let root = Arc::new(Folder::open(&described.path)?);
            let bounds = bounds(&described, &asked, &own, &mut OwnPlaces::default());
            let walk = Walk::begin(root, bounds, intake)?;
            Ok::<_, io::Error>(walk.follow(&path))
        });
        let found: Found = match looked.await {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => return Ok(Some(why)),
            Err(source) => {
                return Err(Error::FolderUnavailable {
                    watcher: id.clone(),
                    path: config.path.clone(),
                    source,
                });
            }
        };
        let noted = found.noted();
        if self.intake.is_known(&noted.tenant, &noted.identity(id)).await? {
            let kept = config.after_import == crate::AfterImport::Keep;
            return Ok(Some(if kept { SkipReason::Imported } else { SkipReason::AfterImport }));
        }
        let Some(directory) = directory_of(config, &found) else { return Ok(Some(SkipReason::Refused)) };
        let (now, age) = (self.clock.monotonic(), found.stat.age(self.clock.wall()));
        let alike = match memory {
            None => None,
            Some(memory) => {
                let memory = memory.lock();
                if memory.pauses.of_directory(&noted.tenant, &directory, now).is_some() {
                    return Ok(Some(SkipReason::Waiting));
                }
                memory.settling.peek(name_bytes(&found.path), &found.stat, now)
            }
        };
        Ok(rules.settle(age, alike).err().map(|not_yet| not_yet.why))
    }

    fn path(&self, id: &WatcherId) -> PathBuf {
        self.dir.join(format!("{id}.{SUFFIX}"))
    }
}

/// With their names, each of which is there once.
fn settle_all(described: Vec<FileWatcherConfig>) -> Result<BTreeMap<WatcherId, FileWatcherConfig>> {
    let mut all = BTreeMap::new();
    for config in described {
        config.check()?;
        let config = config.settled()?;
        let id = config.watcher_id()?;
        if all.insert(id.clone(), config).is_some() {
            return Err(Error::InvalidSetting {
                name: format!("watchers[{id}]").into(),
                why: "is there twice".into(),
            });
        }
    }
    Ok(all)
}

fn check_all(watchers: &BTreeMap<WatcherId, FileWatcherConfig>, own: &[PathBuf]) -> Result<()> {
    let mut before: Vec<(&WatcherId, &FileWatcherConfig)> = Vec::new();
    for (id, config) in watchers {
        overlap::check_folder(id, config)?;
        overlap::check_own(id, config, own)?;
        for (other_id, other) in &before {
            overlap::check_other(id, config, other_id, other)?;
        }
        before.push((id, config));
    }
    Ok(())
}

/// What was said at run time; nothing when there is no such directory.
fn read_all(disk: &dyn Disk, dir: &Path) -> Result<BTreeMap<WatcherId, Said>> {
    let entries = match disk.read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other.map_err(Error::io("list", dir))?,
    };
    // What a killed process had just replaced is made durable before it is believed.
    sync_dir(disk, dir, Site::ReplacedName).map_err(Error::io("sync", dir))?;
    let mut all = BTreeMap::new();
    for entry in entries {
        let path = dir.join(entry.map_err(Error::io("list", dir))?.name);
        if path.extension().is_none_or(|extension| extension != SUFFIX) {
            continue; // a ledger, or what a killed run left of one
        }
        let name =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| WatcherId::parse(stem).ok());
        let (Some(id), Some(bytes)) = (name, read_bounded(disk, &path, record::FILE_BYTES_MAX)?) else {
            continue;
        };
        let said = record::decode(&path, &bytes)?;
        if let Said::Set(config) = &said
            && config.watcher_id()? != id
        {
            let why = "it describes a watcher of another name".into();
            return Err(Error::Corrupt { place: path.display().to_string(), why });
        }
        all.insert(id, said);
    }
    Ok(all)
}

/// That it is absent already is success.
fn remove_durably(disk: &dyn Disk, dir: &Path, path: &Path) -> Result<()> {
    match disk.remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        other => other.map_err(Error::io("remove", path))?,
    }
    sync_dir(disk, dir, Site::ReplacedName).map_err(Error::io("sync", dir))
}
