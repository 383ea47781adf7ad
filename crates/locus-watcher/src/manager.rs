//! All watchers of a store: started and stopped in one place, changed while they run.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use locus_core::{Clock, Error, Intake, Result, Site, Timestamp, WatcherId, undisturbed};
use locus_fs::{Disk, create_dirs, off_thread, read_bounded, replace, sync_dir};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::OwnedMutexGuard};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    config::{FileWatcherConfig, IMPORTS_MAX, invalid},
    copy,
    door::{Door, SHORT_PATIENCE},
    folder::{Folder, name_bytes},
    ledger::{self, Ledger},
    looks::Looks,
    neighbours::Neighbours,
    overlap::{self, Watched},
    pauses::Place,
    places::{Places, Whereabouts},
    reading,
    reason::SkipReason,
    record::{self, Said},
    report::{Explanation, ScanReport},
    rules::Rules,
    scan::{Memory, Parts, Scanner, bounds, directory_of, of_tenant},
    target::{Target, within},
    task::Running,
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
    /// Whether calls into watched folders are made on the thread that asks, instead of on threads of their own that are given
    /// up when they take too long, and no events of the file system are heard. A share that hangs then holds up whoever looks
    /// for as long as it hangs: for simulations and tests, on folders of the machine itself.
    pub in_place: bool,
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
    in_place: bool,
    places: Places,
    described: BTreeMap<WatcherId, FileWatcherConfig>,
    neighbours: Neighbours,
    known: Mutex<Known>,
    /// Held by the one change under way.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// Held by who lets the store forget what a watcher that was removed had noted; taken before `changing`.
    finishing: Arc<tokio::sync::Mutex<()>>,
    stop: CancellationToken,
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
    /// Those that callers make themselves while it does not run.
    looks: Arc<Looks>,
    /// To its folder, for who asks about a source in it.
    door: Door,
    /// To its folder, for scans: what one that was stopped left under way is over before the next one begins.
    working: Door,
}

impl Watcher {
    /// In the place of this one. Another folder is not to wait for this one.
    fn next(&self, config: FileWatcherConfig, inner: &Inner) -> Self {
        let next = inner.watcher(config);
        if next.config.path != self.config.path {
            return next;
        }
        Self { door: self.door.clone(), working: self.working.clone(), ..next }
    }
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
    /// What that scan did; of one that failed, what it did before.
    pub last_report: Option<ScanReport>,
    /// What all scans did since the store was opened, or the watcher was changed.
    pub total: ScanReport,
    /// Why the last scan failed; `None` when it did not.
    pub trouble: Option<String>,
}

impl FileWatchers {
    /// Reads what was said at run time, and says where it differs from what is described. Starts nothing yet; needs no runtime
    /// where disk, clock and [`in_place`](WatchersOptions::in_place) need none, and nor does anything but [`start`](Self::start). A folder that
    /// does not answer within 10 s is told, and looked at again by each scan.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] and [`Error::InvalidId`] name what contradicts; [`Error::Corrupt`],
    /// [`Error::NewerFormat`] and [`Error::Io`] name the file.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn open(options: WatchersOptions) -> Result<Self> {
        let WatchersOptions { dir, disk, clock, intake, described, durable, in_place } = options;
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
        let places = Places::new(Arc::clone(&clock), in_place);
        check_all(&watchers, &places, intake.own_places()).await?;
        let neighbours = Neighbours::default();
        watchers.iter().for_each(|(id, config)| neighbours.set(id, Some(config)));
        let known = Mutex::new(Known { said, ..Known::default() });
        let (changing, finishing, stop) = Default::default();
        let inner = Inner {
            dir,
            disk,
            clock,
            intake,
            durable,
            in_place,
            places,
            described,
            neighbours,
            known,
            changing,
            finishing,
            stop,
        };
        let all = watchers.into_iter().map(|(id, config)| (id, inner.watcher(config))).collect();
        inner.known.lock().watchers = all;
        Ok(Self { inner: Arc::new(inner) })
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
        let removed: Vec<_> = known.said.iter().filter(|(_, said)| **said == Said::Removed).collect();
        for (id, _) in removed {
            tokio::spawn(Inner::finish(Arc::clone(&self.inner), id.clone()));
        }
    }

    /// Stops all and waits, for no folder that hangs. They cannot be changed any more.
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.known.lock().is_started = false;
        let _nobody_finishes = self.inner.finishing.lock().await;
        let _turn = self.inner.changing.lock().await;
        let (running, looks): (Vec<_>, Vec<_>) = {
            let mut known = self.inner.known.lock();
            let all = known.watchers.values_mut();
            all.map(|watcher| (watcher.running.take(), Arc::clone(&watcher.looks))).unzip()
        };
        let running: Vec<_> = running.into_iter().flatten().collect();
        running.iter().for_each(Running::halt);
        for looks in looks {
            looks.ended().await;
        }
        for running in running {
            running.stop().await;
        }
    }

    /// Adds a watcher. What it is called is told.
    ///
    /// # Errors
    /// [`Error::InvalidSetting`], [`Error::InvalidId`]; [`Error::WatcherExists`]; [`Error::FolderUnavailable`] when its folder
    /// does not answer within 10 s; [`Error::Io`]; [`Error::ShuttingDown`]. Nothing changed then.
    ///
    /// # Cancel safety
    /// Where a tokio runtime runs, a change that was begun is made even when its future is dropped. Elsewhere it may be written
    /// down and not made: it is after the next [`open`](Self::open).
    pub async fn register(&self, config: FileWatcherConfig) -> Result<WatcherId> {
        let config = config.settled()?;
        let id = config.watcher_id()?;
        self.inner.look(&id, &config).await?;
        let finished = self.inner.finished(&id).await?;
        let is_finished = finished.is_some();
        self.change(id.clone(), finished, move |inner, present| {
            // One that went while this was asked for was there when it was.
            if present.is_some() || inner.is_removed(&id) && !is_finished {
                return Err(Error::WatcherExists { watcher: id });
            }
            inner.check(&id, &config)?;
            Ok(Some(config))
        })
        .await
    }

    /// Puts a description in place of the one of the same name. Sources that were imported are still known by path, size,
    /// time and inode, also when they would belong to another tenant from now on: no second copy is made for that one. Those that
    /// are to be removed or moved are, by the new description.
    ///
    /// # Errors
    /// As [`register`](Self::register); [`Error::WatcherNotFound`].
    ///
    /// # Cancel safety
    /// As [`register`](Self::register).
    pub async fn update(&self, config: FileWatcherConfig) -> Result<()> {
        let config = config.settled()?;
        let id = config.watcher_id()?;
        self.inner.look(&id, &config).await?;
        self.change(id.clone(), None, move |inner, present| match present {
            Some(_) => inner.check(&id, &config).map(|()| Some(config)),
            None => Err(Error::WatcherNotFound { watcher: id }),
        })
        .await
        .map(|_| ())
    }

    /// Removes a watcher. Its sources stay where they are and are forgotten: another watcher of their folder imports them
    /// again. What cannot be forgotten now is forgotten after the next start, or before one of the same name is registered.
    ///
    /// # Errors
    /// [`Error::WatcherNotFound`], [`Error::InvalidId`]; [`Error::Io`]; [`Error::ShuttingDown`]. Nothing changed then.
    ///
    /// # Cancel safety
    /// As [`register`](Self::register).
    pub async fn remove(&self, id: impl AsRef<str> + Send) -> Result<()> {
        let id = WatcherId::parse(id.as_ref())?;
        let watcher = id.clone();
        self.change(id, None, move |_, present| match present {
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
        if let Some(config) = inner.described.get(&id) {
            inner.look(&id, config).await?;
        }
        let finished = inner.finished(&id).await?;
        let finishing = alone(&self.inner.changing, async move {
            let described = inner.described.get(&id).cloned();
            match (inner.known.lock().said.get(&id), &described) {
                (None | Some(Said::Removed), None) => return Err(Error::WatcherNotFound { watcher: id }),
                (Some(Said::Removed), _) if finished.is_none() => return Ok(None), // it went meanwhile, after this
                _ => {}
            }
            if let Some(config) = &described {
                inner.check(&id, config)?;
            }
            let is_removed = described.is_none();
            let said = if is_removed { Some(Said::Removed) } else { None };
            inner.store(&id, said).await?;
            inner.put(&id, described).await;
            drop(finished);
            Ok(is_removed.then(|| begin(Inner::finish(inner, id))))
        })
        .await?;
        if let Some(finishing) = finishing {
            finishing.await;
        }
        Ok(())
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
    /// [`Error::ShuttingDown`]; [`Error::InvalidArgument`] where watchers were not [started](Self::start), and
    /// [`look`](Self::look) is what to call; what the store says. What the scan did before it failed stands in
    /// [`WatcherInfo::last_report`] and [`total`](WatcherInfo::total).
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
                None if self.inner.stop.is_cancelled() => return Err(Error::ShuttingDown),
                None if known.is_started || !watcher.config.enabled => {
                    return Err(Error::WatcherDisabled { watcher: id });
                }
                None => {
                    let why =
                        "names a watcher, and none was started here: look through its folder with `look`";
                    return Err(Error::InvalidArgument { name: "id", why });
                }
            }
        };
        asked.await
    }

    /// Looks through a folder on the task of whoever asks: for programs with a schedule of their own, which never
    /// [start](Self::start) watchers. Looks through one folder are made one after the other; for watchers that were started this
    /// is [`scan_now`](Self::scan_now).
    ///
    /// # Errors
    /// As [`scan_now`](Self::scan_now), but for [`Error::InvalidArgument`].
    ///
    /// # Cancel safety
    /// What was brought in is; the rest is found again. Poll it or drop it: as long as it is neither, changes of this watcher and
    /// [`stop`](Self::stop) wait for it.
    pub async fn look(&self, id: impl AsRef<str> + Send) -> Result<ScanReport> {
        let id = WatcherId::parse(id.as_ref())?;
        loop {
            if self.inner.stop.is_cancelled() {
                return Err(Error::ShuttingDown);
            }
            let present = {
                let known = self.inner.known.lock();
                let watcher =
                    known.watchers.get(&id).ok_or_else(|| Error::WatcherNotFound { watcher: id.clone() })?;
                if !known.is_started && !watcher.config.enabled {
                    return Err(Error::WatcherDisabled { watcher: id });
                }
                let present = (watcher.config.clone(), watcher.working.clone(), Arc::clone(&watcher.looks));
                (!known.is_started).then_some(present)
            };
            let Some((config, working, looks)) = present else { return self.scan_now(&id).await };
            let scanner = || config.rules().map(|rules| self.inner.scanner(config.clone(), rules, working));
            if let Some(looked) = looks.look(scanner).await {
                return looked;
            }
            let _turn = self.inner.changing.lock().await; // then it is what it is to be
            self.inner.renew(&id, &looks).await;
        }
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
        let (id, config, door, within, memory, next) = {
            let known = self.inner.known.lock();
            let watching = known
                .watchers
                .iter()
                .filter_map(|(id, watcher)| Some((id, watcher, within(&watcher.config, &path)?)));
            let deepest = watching.max_by_key(|(_, watcher, _)| watcher.config.path.iter().count());
            let Some((id, watcher, within)) = deepest else {
                return Err(Error::InvalidArgument { name: "path", why: "lies in no watched folder" });
            };
            let (memory, next) = match &watcher.running {
                Some(running) => (Arc::clone(&running.memory), running.status.lock().next_look),
                None => (Arc::clone(&watcher.looks.memory), None),
            };
            let (config, door) = (watcher.config.clone(), watcher.door.clone());
            (id.clone(), config, door, within, memory, next)
        };
        let held = self.inner.held_by(&id, &config, &door, &within, &memory).await?;
        let (held_by, until) = held.map_or((None, Duration::ZERO), |held| (Some(held.why), held.until));
        let (now, wall) = (self.inner.clock.monotonic(), self.inner.clock.wall());
        let next = next.map(|at| at.max(until));
        let next_look = next.map(|at| wall.saturating_add(at.saturating_sub(now)));
        Ok(Explanation { watcher: id, path: within, held_by, next_look })
    }

    async fn switch(&self, id: WatcherId, enabled: bool) -> Result<()> {
        let watcher = id.clone();
        let present = self.get(&id)?.config;
        if enabled {
            self.inner.look(&id, &present).await?;
        }
        self.change(id, None, move |inner, present| match present {
            Some(config) if enabled => inner.check(&watcher, &config).map(|()| Some(config.enabled(true))),
            Some(config) => Ok(Some(config.enabled(false))), // also one whose folder hangs
            None => Err(Error::WatcherNotFound { watcher }),
        })
        .await
        .map(|_| ())
    }

    /// Makes one change after the other, each to its end.
    async fn change(
        &self,
        id: WatcherId,
        finished: Option<OwnedMutexGuard<()>>,
        change: impl FnOnce(&Inner, Option<FileWatcherConfig>) -> Result<Option<FileWatcherConfig>>
        + Send
        + 'static,
    ) -> Result<WatcherId> {
        let inner = Arc::clone(&self.inner);
        let (id, finishing) = alone(&self.inner.changing, async move {
            let present = inner.known.lock().watchers.get(&id).map(|watcher| watcher.config.clone());
            let next = change(&inner, present)?;
            let said = next.as_ref().map_or(Said::Removed, |config| Said::Set(Box::new(config.clone())));
            inner.store(&id, Some(said)).await?;
            let is_removed = next.is_none();
            inner.put(&id, next).await;
            drop(finished);
            let finishing = is_removed.then(|| begin(Inner::finish(inner, id.clone())));
            Ok((id, finishing))
        })
        .await?;
        if let Some(finishing) = finishing {
            finishing.await;
        }
        Ok(id)
    }
}

/// Runs a change alone and to its end, also when its caller goes away.
async fn alone<T: Send + 'static>(
    changing: &Arc<tokio::sync::Mutex<()>>,
    change: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let turn = Arc::clone(changing).lock_owned().await;
    let changed = undisturbed(async move {
        let _turn = turn;
        change.await
    });
    changed.await.unwrap_or(Err(Error::ShuttingDown))
}

/// Begins what goes on without its caller; where no runtime runs, it is done when this is awaited.
fn begin(work: impl Future<Output = ()> + Send + 'static) -> Pin<Box<dyn Future<Output = ()> + Send>> {
    match Handle::try_current() {
        Ok(runtime) => {
            let begun = runtime.spawn(work);
            Box::pin(async move { drop(begun.await) }) // a panic was told
        }
        Err(_) => Box::pin(work),
    }
}

impl Known {
    fn info(&self, id: &WatcherId, watcher: &Watcher) -> WatcherInfo {
        let status = match &watcher.running {
            Some(running) => running.status.lock().clone(),
            None => watcher.looks.status.lock().clone(),
        };
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
    /// One that does not run.
    fn watcher(&self, config: FileWatcherConfig) -> Watcher {
        let door = |calls_max| Door::new(Arc::clone(&self.clock), self.in_place, calls_max);
        let looks = Arc::new(Looks::new(&self.stop));
        Watcher { config, running: None, looks, door: door(1), working: door(IMPORTS_MAX) }
    }

    /// Starts it when it is enabled.
    fn run(&self, watcher: &mut Watcher) {
        if !watcher.config.enabled || watcher.running.is_some() {
            return;
        }
        match watcher.config.rules() {
            Ok(rules) => {
                let scanner = self.scanner(watcher.config.clone(), rules, watcher.working.clone());
                let before = std::mem::replace(&mut watcher.looks, Arc::new(Looks::new(&self.stop)));
                before.halt();
                watcher.running = Some(Running::start(scanner, before));
            }
            Err(error) => warn!(%error, "watcher not started"), // it was checked before
        }
    }

    fn scanner(&self, config: FileWatcherConfig, rules: Rules, door: Door) -> Scanner {
        let ledger = self.ledger(&rules.id, config.path.clone());
        let (intake, clock) = (Arc::clone(&self.intake), Arc::clone(&self.clock));
        let (places, neighbours) = (self.places.clone(), self.neighbours.clone());
        Scanner::new(Parts { config, rules, intake, clock, ledger, places, neighbours, door })
    }

    fn ledger(&self, id: &WatcherId, folder: PathBuf) -> Ledger {
        Ledger::new(Arc::clone(&self.disk), ledger::path_in(&self.dir, id.as_str()), folder, self.durable)
    }

    /// Looks at all that a check of this description is about. No lock is held, for any of it may hang.
    async fn look(&self, id: &WatcherId, config: &FileWatcherConfig) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(Error::ShuttingDown);
        }
        config.check()?;
        let mut others: Vec<PathBuf> = overlap::target_of(config).cloned().into_iter().collect();
        for (_, other) in self.neighbours.others(id) {
            others.push(other.path.clone());
            others.extend(overlap::target_of(&other).cloned());
        }
        let (seen, ..) = tokio::join!(
            self.places.look_at(config.path.clone()),
            self.places.look(others),
            self.places.look(self.intake.own_places()),
        );
        if !seen.is_fresh {
            let source = io::Error::new(io::ErrorKind::TimedOut, "it does not answer");
            return Err(Error::FolderUnavailable { watcher: id.clone(), path: config.path.clone(), source });
        }
        Ok(())
    }

    /// Refuses a description that does not go with the store or with another watcher, by what was seen last.
    fn check(&self, id: &WatcherId, config: &FileWatcherConfig) -> Result<()> {
        let own: Vec<_> = self.intake.own_places().iter().map(|path| self.places.seen(path)).collect();
        let (at, target) = (self.places.seen(&config.path), overlap::target_seen(config, &self.places));
        let watched = Watched { id, config, at: &at, target: target.as_ref() };
        check_alone(watched, &own)?;
        self.neighbours.others(id).iter().try_for_each(|(id, config)| {
            let (at, target) = (self.places.seen(&config.path), overlap::target_seen(config, &self.places));
            overlap::check_other(watched, Watched { id, config, at: &at, target: target.as_ref() })
        })
    }

    /// Disk first, memory second.
    async fn store(&self, id: &WatcherId, said: Option<Said>) -> Result<()> {
        if self.stop.is_cancelled() {
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

    /// Looks may be made again that a change had ended which was dropped.
    async fn renew(&self, id: &WatcherId, before: &Arc<Looks>) {
        before.ended().await;
        let mut known = self.known.lock();
        let watcher = known.watchers.get_mut(id).filter(|watcher| Arc::ptr_eq(&watcher.looks, before));
        if let Some(watcher) = watcher {
            watcher.looks = Arc::new(Looks::new(&self.stop));
        }
    }

    /// Stops what runs under this name, and starts what is to run from now on.
    async fn put(&self, id: &WatcherId, config: Option<FileWatcherConfig>) {
        let mut ended: Option<Arc<Looks>> = None;
        let mut known = loop {
            let (running, looks) = {
                let mut known = self.known.lock();
                let Some(watcher) = known.watchers.get_mut(id) else { break known };
                let (running, looks) = (watcher.running.take(), Arc::clone(&watcher.looks));
                // All may have been started meanwhile.
                if running.is_none() && ended.is_some_and(|ended| Arc::ptr_eq(&ended, &looks)) {
                    break known;
                }
                (running, looks)
            };
            if let Some(running) = running {
                running.stop().await;
            }
            looks.halt();
            looks.ended().await;
            ended = Some(looks);
        };
        self.neighbours.set(id, config.as_ref());
        let Some(config) = config else {
            known.watchers.remove(id);
            info!(watcher = %id, "watcher removed");
            return;
        };
        let is_started = known.is_started;
        let mut watcher = match known.watchers.get(id) {
            Some(before) => before.next(config, self),
            None => self.watcher(config),
        };
        if is_started {
            self.run(&mut watcher);
        }
        known.watchers.insert(id.clone(), watcher);
        info!(watcher = %id, "watcher set");
    }

    fn is_removed(&self, id: &WatcherId) -> bool {
        self.known.lock().said.get(id) == Some(&Said::Removed)
    }

    /// Sees to it that nothing is remembered of a watcher of this name that was removed; and as long as what it returns is
    /// kept, nobody else does.
    async fn finished(&self, id: &WatcherId) -> Result<Option<OwnedMutexGuard<()>>> {
        if !self.is_removed(id) {
            return Ok(None);
        }
        let turn = Arc::clone(&self.finishing).lock_owned().await;
        if self.is_removed(id) {
            self.forget_sources(id).await?;
        }
        Ok(Some(turn))
    }

    /// As [`finished`](Self::finished); a failure is followed by another attempt after the next start.
    async fn finish(self: Arc<Self>, id: WatcherId) {
        match self.finished(&id).await {
            Ok(_) | Err(Error::ShuttingDown) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                warn!(watcher = %id, error, "sources of a removed watcher could not be forgotten, tried again after the next start");
            }
        }
    }

    /// Nothing of a watcher that was removed is remembered; not that it was removed either, unless somebody describes it.
    async fn forget_sources(&self, id: &WatcherId) -> Result<()> {
        let ledger = self.ledger(id, PathBuf::new());
        let mut reading = ledger.read().await?;
        loop {
            let page = ledger.next(&mut reading).await?;
            if page.is_empty() {
                break;
            }
            let failed = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Error::ShuttingDown),
                failed = reading::forget(&*self.intake, id, page) => failed,
            };
            if let Some(noted) = failed.first() {
                // Once more, for the error.
                self.intake.forget(&noted.tenant, &noted.identity(id)).await?;
            }
        }
        drop(reading);
        let (disk, dir) = (Arc::clone(&self.disk), self.dir.clone());
        let ledger = ledger::path_in(&self.dir, id.as_str());
        let said = (!self.described.contains_key(id)).then(|| self.path(id));
        off_thread(&*self.disk, move || {
            remove_durably(&*disk, &dir, &ledger.with_extension("ledger.new"))?;
            remove_durably(&*disk, &dir, &ledger)?;
            said.map_or(Ok(()), |path| remove_durably(&*disk, &dir, &path))
        })
        .await?;
        if !self.described.contains_key(id) {
            self.known.lock().said.remove(id);
        }
        Ok(())
    }

    async fn held_by(
        &self,
        id: &WatcherId,
        config: &FileWatcherConfig,
        door: &Door,
        within: &Path,
        memory: &Mutex<Memory>,
    ) -> Result<Option<Held>> {
        let rules = Arc::new(config.rules()?);
        let intake = Arc::clone(&self.intake);
        let own = self.places.look(intake.own_places()).await;
        let target = Target::of(config);
        let at = match &target {
            Some(target) => Some(self.places.look_at(target.path().to_owned()).await.at),
            None => None,
        };
        let bounds = bounds(config, &rules, &own, target.as_ref(), at.as_ref());
        let (folder, path) = (config.path.clone(), within.to_owned());
        let looked = door.ask_in_time(SHORT_PATIENCE, move || {
            let root = Arc::new(Folder::open(&folder)?);
            let walk = Walk::begin(root, bounds, intake)?;
            Ok::<_, io::Error>(walk.follow(&path))
        });
        let found: Found = match looked.await.and_then(|looked| looked) {
            Ok(Ok(found)) => found,
            Ok(Err(why)) => return Ok(Some(why.into())),
            Err(source) => {
                return Err(Error::FolderUnavailable {
                    watcher: id.clone(),
                    path: config.path.clone(),
                    source,
                });
            }
        };
        let noted = found.noted();
        if let Err(error) = self.intake.check_tenant(&noted.tenant) {
            return Ok(Some(of_tenant(&error).into()));
        }
        let former = Arc::clone(&memory.lock().former);
        if former.owner(&*self.intake, id, &noted).await?.is_some() {
            if config.after_import == crate::AfterImport::Keep {
                return Ok(Some(SkipReason::Imported.into()));
            }
            let (memory, now) = (memory.lock(), self.clock.monotonic());
            let itself = memory.pauses.source(name_bytes(&found.path), &found.stat);
            let pauses = [Place::After, itself].map(|place| memory.pauses.of(&place, now));
            let until = pauses.into_iter().flatten().max().unwrap_or_default();
            return Ok(Some(Held { why: SkipReason::AfterImport, until }));
        }
        if let Some(why) = Rules::refuse_new(&found.stat) {
            return Ok(Some(why.into()));
        }
        let Some(directory) = directory_of(config, &found) else {
            return Ok(Some(SkipReason::Refused.into()));
        };
        let (now, age) = (self.clock.monotonic(), found.stat.age(self.clock.wall()));
        let memory = memory.lock();
        if let Some((until, why)) = memory.pauses.of_source(found.subject(&directory), now) {
            return Ok(Some(Held { why, until }));
        }
        let alike = memory.settling.peek(name_bytes(&found.path), &found.stat, now);
        drop(memory);
        Ok(rules.settle(age, alike).err().map(|not_yet| not_yet.why.into()))
    }

    fn path(&self, id: &WatcherId) -> PathBuf {
        self.dir.join(format!("{id}.{SUFFIX}"))
    }
}

/// What holds a source back, and until when nothing is tried on the monotonic clock.
#[derive(Debug)]
struct Held {
    why: SkipReason,
    until: Duration,
}

impl From<SkipReason> for Held {
    /// It is looked at by the next scan.
    fn from(why: SkipReason) -> Self {
        Self { why, until: Duration::ZERO }
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

/// Refuses what a description says of its folder when that is none, or goes with the store in any way.
fn check_alone(watched: Watched<'_>, own: &[Whereabouts]) -> Result<()> {
    let Watched { id, at, .. } = watched;
    if at.is_no_folder {
        return invalid(id, "path", "is no folder");
    }
    overlap::check_within(id, at, own)?;
    overlap::check_around(id, at, own)?;
    overlap::check_target(watched, own)
}

async fn check_all(
    watchers: &BTreeMap<WatcherId, FileWatcherConfig>,
    places: &Places,
    own: Vec<PathBuf>,
) -> Result<()> {
    let paths = watchers.values().map(|config| config.path.clone()).collect();
    let targets = watchers.values().filter_map(overlap::target_of).cloned().collect();
    let (folders, own, _) = tokio::join!(places.look(paths), places.look(own), places.look(targets));
    let own: Vec<_> = own.into_iter().map(|seen| seen.at).collect();
    let targets: Vec<_> = watchers.values().map(|config| overlap::target_seen(config, places)).collect();
    let mut before: Vec<Watched<'_>> = Vec::new();
    for (((id, config), seen), target) in watchers.iter().zip(&folders).zip(&targets) {
        if !seen.is_fresh {
            warn!(watcher = %id, path = %config.path.display(), "watched folder does not answer, tried again at each interval");
        }
        let watched = Watched { id, config, at: &seen.at, target: target.as_ref() };
        check_alone(watched, &own)?;
        before.iter().try_for_each(|other| overlap::check_other(watched, *other))?;
        before.push(watched);
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

#[cfg(test)]
mod tests {
    use locus_testkit::{ManualClock, MemoryIntake, SimDisk};

    use super::*;

    fn options() -> WatchersOptions {
        let (disk, clock, intake) = (SimDisk::new(1), ManualClock::new(), MemoryIntake::new(&[]));
        let (dir, described) = ("/watchers".into(), Vec::new());
        WatchersOptions { dir, disk, clock, intake, described, durable: true, in_place: false }
    }

    #[tokio::test]
    async fn a_watcher_that_is_changed_waits_for_what_it_left_under_way_and_one_of_another_folder_does_not() {
        let inner = FileWatchers::open(options()).await.unwrap().inner;
        let before = inner.watcher(FileWatcherConfig::new("/inbox"));
        let (release, hangs) = std::sync::mpsc::channel::<()>();
        let door = before.working.clone();
        let hanging = tokio::spawn(async move { door.ask(move || hangs.recv().is_err()).await });
        while !before.working.is_busy() {
            tokio::task::yield_now().await;
        }
        assert!(before.next(FileWatcherConfig::new("/inbox").enabled(false), &inner).working.is_busy());
        assert!(!before.next(FileWatcherConfig::new("/other"), &inner).working.is_busy());
        drop(release);
        assert!(hanging.await.unwrap().unwrap());
    }
}
