//! One look through a watched folder: what is ready is brought in, and what was brought in is removed or moved.
//!
//! The order in which it happens is what keeps an import exactly once: the source is noted in the ledger, then brought in
//! under its name, then the store makes that durable, and only then the source goes. Wherever a crash falls, the next look
//! finds a source that the store knows, and does what is left to do.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{Clock, Error, FileKey, Incoming, Intake, LogicalDir, Result, Site, join_bounded};
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use crate::{
    after,
    config::{AfterImport, FileWatcherConfig},
    content,
    door::{Door, Going, PATIENCE, SHORT_PATIENCE},
    folder::{Folder, name_bytes},
    former::Former,
    ledger::Ledger,
    neighbours::Neighbours,
    overlap::{self, Watched},
    pauses::{Pauses, Place, Subject},
    places::{Places, Seen, Whereabouts},
    reading::forget,
    reason::SkipReason,
    report::ScanReport,
    rules::{NotYet, Rules},
    settling::Settling,
    source::Noted,
    target::Target,
    told::Told,
    walk::{Bounds, Found, Step, Walk},
};

/// Names that are looked at before something is done about them.
const STEP_MAX: usize = 512;

/// What a watcher remembers from one look to the next; all of it can be lost.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) settling: Settling,
    pub(crate) pauses: Pauses,
    /// From the last reading of the ledger.
    pub(crate) former: Arc<Former>,
}

/// What looks through a watched folder.
#[derive(Debug)]
pub(crate) struct Scanner {
    pub(crate) config: Arc<FileWatcherConfig>,
    pub(crate) rules: Arc<Rules>,
    pub(crate) intake: Arc<dyn Intake>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Ledger,
    pub(crate) memory: Arc<Mutex<Memory>>,
    told: Told,
    /// The folder that was looked into last: another one may have come to its place.
    place: Option<(u64, u64)>,
    places: Places,
    neighbours: Neighbours,
    /// Where sources are moved to.
    target: Option<Arc<Target>>,
    /// To the watched folder.
    pub(crate) door: Door,
    pub(crate) read_at: Duration,
}

/// What a scanner is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: FileWatcherConfig,
    pub(crate) rules: Rules,
    pub(crate) intake: Arc<dyn Intake>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ledger: Ledger,
    pub(crate) places: Places,
    pub(crate) neighbours: Neighbours,
    pub(crate) door: Door,
}

/// What a look came to.
#[derive(Debug, Default)]
pub(crate) struct Scanned {
    pub(crate) report: ScanReport,
    /// When the first of those that wait may be ready, on the monotonic clock.
    pub(crate) due: Option<Duration>,
}

impl Scanned {
    fn skip(&mut self, why: SkipReason) {
        self.report.skip(why);
    }

    fn wait_until(&mut self, at: Duration) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }
}

/// A source that is ready.
#[derive(Debug)]
struct Ready {
    found: Found,
    noted: Noted,
    directory: LogicalDir,
    identity: String,
}

impl Ready {
    fn subject(&self) -> Subject<'_> {
        self.found.subject(&self.directory)
    }
}

/// What became of it.
enum Outcome {
    Imported(FileKey),
    Held(SkipReason),
    /// The store took nothing, and is not asked again before then.
    Refused {
        until: Duration,
        why: SkipReason,
        is_fault: bool,
    },
    /// The store is being closed.
    Ended,
}

impl Scanner {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, rules, intake, clock, ledger, places, neighbours, door } = parts;
        let (config, rules) = (Arc::new(config), Arc::new(rules));
        let (told, read_at) = (Told::new(rules.id.clone()), clock.monotonic());
        let target = Target::of(&config).map(Arc::new);
        let (memory, place) = (Arc::default(), None);
        Self {
            config,
            rules,
            intake,
            clock,
            ledger,
            memory,
            told,
            place,
            places,
            neighbours,
            target,
            door,
            read_at,
        }
    }

    /// The folder that was looked into last.
    pub(crate) const fn place(&self) -> Option<(u64, u64)> {
        self.place
    }

    /// Looks through the folder once. What it did stands in `scanned`, also when it fails.
    ///
    /// # Errors
    /// [`Error::FolderUnavailable`]; [`Error::InvalidSetting`] when the folder came to lie where nothing may be watched, or
    /// where another watcher looks;
    /// [`Error::ShuttingDown`], and what the store says when it cannot tell what it knows. What was brought in is.
    ///
    /// # Cancel safety
    /// What was brought in is; the rest is found again.
    pub(crate) async fn scan(&mut self, scanned: &mut Scanned) -> Result<()> {
        let own = self.intake.own_places();
        let (root, mut walk) = self.begin(own.clone()).await?;
        if let Some(why) = self.tenant_takes_none()? {
            self.told.skipped(&self.config.path, why);
            scanned.skip(why);
            return Ok(());
        }
        if self.reading_is_due().await {
            self.read_ledger(&root).await?;
        }
        if self.config.auto_create_tenant_directories {
            self.make_tenant_folders(&root).await?;
        }
        loop {
            let (back, step) = self
                .look(move || {
                    let step = walk.step(STEP_MAX)?;
                    Ok((walk, step))
                })
                .await?;
            walk = back;
            if self.intake.own_places() != own {
                // A volume may have come to where this looks: from the beginning, and not into it.
                scanned.wait_until(self.clock.monotonic());
                return Ok(());
            }
            let is_done = step.is_done;
            self.take(step, &root, scanned).await?;
            if is_done {
                break;
            }
        }
        let mut memory = self.memory.lock();
        memory.settling.end_round();
        memory.pauses.end_round(self.clock.monotonic(), self.config.polling_interval);
        self.told.end_round(&scanned.report);
        Ok(())
    }

    /// Why nothing is taken of the one tenant that this is for.
    fn tenant_takes_none(&mut self) -> Result<Option<SkipReason>> {
        let Some(tenant) = &self.rules.tenant else { return Ok(None) };
        match self.intake.check_tenant(tenant) {
            Ok(()) => {
                self.told.takes(&self.config.path);
                Ok(None)
            }
            Err(Error::ShuttingDown) => Err(Error::ShuttingDown),
            Err(error) => Ok(Some(of_tenant(&error))),
        }
    }

    /// Opens the folder anew each time: another one may have come to its place, or a volume of the store.
    async fn begin(&mut self, own: Vec<PathBuf>) -> Result<(Arc<Folder>, Walk)> {
        // One that was stopped, or given up, may have left one.
        if !self.door.is_idle_in(SHORT_PATIENCE).await {
            let why = "a call into it does not return";
            return Err(self.unavailable(io::Error::new(io::ErrorKind::TimedOut, why)));
        }
        let own = self.places.look(own).await;
        let target = match &self.target {
            Some(target) => Some(self.places.look_at(target.path().to_owned()).await.at),
            None => None,
        };
        let bounds = bounds(&self.config, &self.rules, &own, self.target.as_deref(), target.as_ref());
        let (config, intake) = (Arc::clone(&self.config), Arc::clone(&self.intake));
        let (at, root, walk) = self
            .look(move || {
                let root = Arc::new(Folder::open(&config.path)?);
                let at = Whereabouts::of(&config.path, &root)?;
                Ok((at, Arc::clone(&root), Walk::begin(root, bounds, intake)?))
            })
            .await?;
        // What lies in it is passed over by the walk.
        overlap::check_within(&self.rules.id, &at, own.iter().map(|seen| &seen.at))?;
        self.check_targets(&at, target.as_ref(), &own)?;
        self.check_folders(&at).await?;
        self.place = at.place();
        Ok((root, walk))
    }

    /// Refuses to go on when sources would be moved to where they are imported again: links may lead elsewhere by now.
    fn check_targets(&self, at: &Whereabouts, target: Option<&Whereabouts>, own: &[Seen]) -> Result<()> {
        self.places.learn(at.clone());
        let watched = Watched { id: &self.rules.id, config: &self.config, at, target };
        overlap::check_target(watched, own.iter().map(|seen| &seen.at))?;
        for (id, config) in self.neighbours.others(&self.rules.id) {
            let (at, target) = (self.places.seen(&config.path), overlap::target_seen(&config, &self.places));
            let other = Watched { id: &id, config: &config, at: &at, target: target.as_ref() };
            overlap::check_targets(watched, other)?;
        }
        if let (Some(known), Some(target)) = (&self.target, target) {
            known.saw(target);
        }
        Ok(())
    }

    /// Refuses to go on where another watcher looks that comes first by its name: mounts and links may have led both to one
    /// folder by now. What was seen of the other one last is asked for anew where that may make a difference.
    async fn check_folders(&self, at: &Whereabouts) -> Result<()> {
        let watched = Watched { id: &self.rules.id, config: &self.config, at, target: None };
        let others = self.neighbours.others(&self.rules.id);
        for (id, config) in others.iter().filter(|(id, _)| *id < self.rules.id) {
            let other = |at: Whereabouts| {
                overlap::check_folders(watched, Watched { id, config, at: &at, target: None })
            };
            if self.place != at.place() || other(self.places.seen(&config.path)).is_err() {
                other(self.places.look_at(config.path.clone()).await.at)?;
            }
        }
        Ok(())
    }

    /// Looks at the watched folder, in time.
    async fn look<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let looked = self.door.ask_in_time(PATIENCE, work).await;
        looked.and_then(|done| done).map_err(|source| self.unavailable(source))
    }

    /// Does something to the watched folder, which may take as long as what lies there is long, while it gets on.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Going) -> T + Send + 'static,
    ) -> Result<T> {
        self.door.work(PATIENCE, work).await.map_err(|source| self.unavailable(source))
    }

    fn unavailable(&self, source: io::Error) -> Error {
        let (watcher, path) = (self.rules.id.clone(), self.config.path.clone());
        Error::FolderUnavailable { watcher, path, source }
    }

    /// Each time: somebody may have removed one.
    async fn make_tenant_folders(&mut self, root: &Arc<Folder>) -> Result<()> {
        let tenants = self.intake.enabled_tenants().await?;
        let root = Arc::clone(root);
        let made = self.door.ask_in_time(PATIENCE, move || {
            let mut failed = None;
            for tenant in &tenants {
                if let Err(error) = root.make_folder(tenant.as_str().as_ref()) {
                    failed = failed.or(Some(error));
                }
            }
            failed.map_or(Ok(()), Err)
        });
        if let Err(error) = made.await.and_then(|done| done) {
            self.told.trouble("folders of tenants could not be made", &error);
        }
        Ok(())
    }

    /// Does what is to be done about everything that a step met.
    async fn take(&mut self, step: Step, root: &Arc<Folder>, scanned: &mut Scanned) -> Result<()> {
        scanned.report.discovered += (step.found.len() + step.held.len()) as u64 - step.folders_held;
        self.told.heed_tenants(self.intake.tenants_version());
        for (path, why) in step.held {
            self.told.skipped(&path, why);
            scanned.skip(why);
        }
        let (mut ready, mut finishing) = (Vec::new(), Vec::new());
        for found in step.found {
            match self.sift(found, scanned).await? {
                Sifted::Ready(source) => ready.push(*source),
                Sifted::Known(found) => finishing.push((*found, false)),
                Sifted::Held => {}
            }
        }
        let imported = self.import(ready, scanned).await;
        finishing.extend(imported.done.into_iter().map(|found| (found, true)));
        self.finish(finishing, root, scanned).await?;
        imported.end
    }

    /// Looks whether a source was brought in before, is to be brought in now, or has to wait.
    async fn sift(&mut self, found: Found, scanned: &mut Scanned) -> Result<Sifted> {
        let noted = found.noted();
        let former = Arc::clone(&self.memory.lock().former);
        if let Some(tenant) = former.owner(&*self.intake, &self.rules.id, &noted).await? {
            if self.config.after_import == AfterImport::Keep {
                scanned.skip(SkipReason::Imported);
                return Ok(Sifted::Held);
            }
            return Ok(Sifted::Known(Box::new(found.belonging_to(tenant))));
        }
        let directory = match (Rules::refuse_new(&found.stat), self.directory_of(&found)) {
            (None, Some(directory)) => directory,
            (why, _) => {
                let why = why.unwrap_or(SkipReason::Refused);
                self.told.skipped(&found.path, why);
                scanned.skip(why);
                return Ok(Sifted::Held);
            }
        };
        let (now, age) = (self.clock.monotonic(), found.stat.age(self.clock.wall()));
        let mut memory = self.memory.lock();
        if let Some((until, why)) = memory.pauses.of_source(found.subject(&directory), now) {
            scanned.wait_until(until);
            scanned.skip(why);
            return Ok(Sifted::Held);
        }
        let alike = memory.settling.look(name_bytes(&found.path), &found.stat, now);
        if let Err(NotYet { why, wait }) = self.rules.settle(age, alike) {
            scanned.wait_until(now.saturating_add(wait));
            scanned.skip(why);
            return Ok(Sifted::Held);
        }
        let identity = noted.identity(&self.rules.id);
        Ok(Sifted::Ready(Box::new(Ready { found, noted, directory, identity })))
    }

    fn directory_of(&self, found: &Found) -> Option<LogicalDir> {
        directory_of(&self.config, found)
    }

    async fn import(&mut self, ready: Vec<Ready>, scanned: &mut Scanned) -> Imported {
        let mut imported = Imported { done: Vec::new(), end: Ok(()) };
        if ready.is_empty() {
            return imported;
        }
        // Before any of them is brought in: what is remembered of a source is forgotten by way of the ledger.
        let entries = ready.iter().map(|source| source.noted.clone()).collect();
        let noted = if Site::NotedBeforeBroughtIn.stands() { self.ledger.add(entries).await } else { Ok(()) };
        if let Err(error) = noted {
            scanned.report.failed += 1;
            scanned.wait_until(self.refused(Place::Store, 0, &error));
            ready.iter().for_each(|_| scanned.skip(SkipReason::Waiting));
            return imported;
        }
        let at_once = self.config.concurrent_imports;
        let outcomes =
            join_bounded(ready.iter().map(|source| self.bring_in(source)).collect(), at_once).await;
        for (source, outcome) in ready.into_iter().zip(outcomes) {
            let noted = &source.noted;
            match outcome {
                Outcome::Imported(key) => {
                    debug!(watcher = %self.rules.id, tenant = %noted.tenant, %key, size = noted.size, "source imported");
                    scanned.report.imported += 1;
                    scanned.report.bytes += noted.size;
                    let mut memory = self.memory.lock();
                    memory.settling.forget(&noted.path);
                    if memory.pauses.taken(source.subject()) {
                        info!(watcher = %self.rules.id, tenant = %noted.tenant, "store takes files again");
                    }
                    drop(memory);
                    imported.done.push(source.found);
                }
                Outcome::Held(why) => {
                    self.memory.lock().settling.forget(&noted.path); // it begins anew
                    if why == SkipReason::TenantDisabled {
                        let folder = &source.found.anchor.path; // that changed meanwhile, and is told once for all of it
                        let is_root = folder.as_os_str().is_empty();
                        self.told.skipped(if is_root { &self.config.path } else { folder }, why);
                    } else {
                        scanned.wait_until(self.held_until(&source, why));
                        self.told.skipped(&source.found.path, why);
                    }
                    scanned.report.failed += u64::from(why == SkipReason::Unreadable);
                    scanned.skip(why);
                }
                Outcome::Refused { until, why, is_fault } => {
                    scanned.report.failed += u64::from(is_fault);
                    scanned.wait_until(until);
                    scanned.skip(why);
                }
                Outcome::Ended => imported.end = Err(Error::ShuttingDown),
            }
        }
        imported
    }

    /// When a source that could not be taken is looked at again. One that cannot be read is let alone for longer each time, for
    /// each attempt is noted, and reads what can be read of it.
    fn held_until(&self, source: &Ready, why: SkipReason) -> Duration {
        let now = self.clock.monotonic();
        if why != SkipReason::Unreadable {
            return now.saturating_add(self.config.stability_delay);
        }
        let mut memory = self.memory.lock();
        let place = memory.pauses.source(&source.noted.path, &source.found.stat);
        memory.pauses.refused(place, 0, why, now).0
    }

    /// The store took nothing: what is at least so long stays, and is not tried again before the answer.
    fn refused(&self, place: Place, from_size: u64, error: &Error) -> Duration {
        let now = self.clock.monotonic();
        let (until, is_news) = self.memory.lock().pauses.refused(place, from_size, SkipReason::Waiting, now);
        if is_news {
            let error = error as &dyn std::error::Error;
            warn!(watcher = %self.rules.id, error, "store takes no files, sources stay where they are until it does");
        }
        until
    }

    /// The store took nothing of this source, and perhaps nothing else either.
    fn refused_source(&self, source: &Ready, error: &Error) -> Outcome {
        let is_fault = !is_backpressure(error);
        let (place, from_size) = self.memory.lock().pauses.place_of(error, source.subject());
        if !matches!(place, Place::Source(_)) {
            let until = self.refused(place, from_size, error);
            return Outcome::Refused { until, why: SkipReason::Waiting, is_fault };
        }
        let is_its_own =
            matches!(error, Error::TooLarge { .. } | Error::InvalidArgument { .. } | Error::InvalidId { .. });
        let why = if is_its_own { SkipReason::Refused } else { SkipReason::Waiting };
        let now = self.clock.monotonic();
        let (until, _) = self.memory.lock().pauses.refused(place, from_size, why, now);
        self.told.refused(&source.found.path, why, error);
        Outcome::Refused { until, why, is_fault }
    }

    async fn bring_in(&self, source: &Ready) -> Outcome {
        let Ready { found, noted, directory, identity } = source;
        let now = self.clock.monotonic();
        let paused = self.memory.lock().pauses.of_source(source.subject(), now);
        if let Some((until, why)) = paused {
            return Outcome::Refused { until, why, is_fault: false }; // one beside it was
        }
        let content = match content::open(&self.door, found).await {
            Ok(content) => content,
            Err(why) => return Outcome::Held(why),
        };
        let file = Incoming {
            tenant: noted.tenant.clone(),
            content,
            original_name: found.name.to_string_lossy().into_owned(),
            directory: directory.clone(),
            identity: identity.clone(),
        };
        match self.intake.bring_in(file).await {
            Ok(key) => Outcome::Imported(key),
            Err(Error::Source { source }) if content::is_changed(&source) => {
                Outcome::Held(SkipReason::Changed)
            }
            Err(Error::Source { .. }) => Outcome::Held(SkipReason::Unreadable),
            Err(Error::ShuttingDown) => Outcome::Ended,
            Err(
                Error::TenantDisabled { .. }
                | Error::TenantNotFound { .. }
                | Error::TenantLeaving { .. }
                | Error::TenantLost { .. },
            ) => Outcome::Held(SkipReason::TenantDisabled),
            Err(error) => self.refused_source(source, &error),
        }
    }

    /// Removes or moves what the store has, whether it was brought in just now or before.
    async fn finish(
        &mut self,
        sources: Vec<(Found, bool)>,
        root: &Arc<Folder>,
        scanned: &mut Scanned,
    ) -> Result<()> {
        if sources.is_empty() || self.config.after_import == AfterImport::Keep {
            return Ok(());
        }
        let now = self.clock.monotonic();
        let rested = self.rested(sources, now, scanned);
        if rested.is_empty() {
            return Ok(());
        }
        // A source is given up only when its file survives power loss, whatever the store promises otherwise.
        let synced = if Site::SourceGoneWhenDurable.stands() { self.intake.sync().await } else { Ok(()) };
        match synced {
            Ok(()) => {
                if self.memory.lock().pauses.over(&Place::After) {
                    info!(watcher = %self.rules.id, "imported sources are removed or moved again");
                }
            }
            Err(Error::ShuttingDown) => return Err(Error::ShuttingDown),
            Err(error) => {
                let why = SkipReason::AfterImport;
                let (until, is_news) = self.memory.lock().pauses.refused(Place::After, 0, why, now);
                if is_news {
                    let error = &error as &dyn std::error::Error;
                    warn!(watcher = %self.rules.id, error, "imported sources stay until the store can say that their files survive power loss");
                }
                scanned.report.failed += 1;
                scanned.wait_until(until);
                rested.iter().for_each(|_| scanned.skip(why));
                return Ok(());
            }
        }
        let (target, root) = (self.target.clone(), Arc::clone(root));
        let done = self
            .work(move |going| {
                let mut all = Vec::with_capacity(rested.len());
                for (found, is_new) in rested {
                    if !going.is_wanted() {
                        break; // another one may be at it by now
                    }
                    let done = match &target {
                        None => after::remove(&found),
                        Some(target) => after::move_to(&found, target, &root, going),
                    };
                    going.step();
                    all.push((found, is_new, done));
                }
                all
            })
            .await?;
        let mut gone = Vec::new();
        for (found, is_new, done) in done {
            match done {
                Ok(()) => {
                    gone.push(found.clone());
                    scanned.report.finished += u64::from(!is_new);
                    let mut memory = self.memory.lock();
                    let place = memory.pauses.source(name_bytes(&found.path), &found.stat);
                    memory.pauses.over(&place);
                }
                Err(error) => {
                    scanned.report.failed += 1;
                    scanned.skip(SkipReason::AfterImport);
                    let mut memory = self.memory.lock();
                    let place = memory.pauses.source(name_bytes(&found.path), &found.stat);
                    let (until, _) = memory.pauses.refused(place, 0, SkipReason::AfterImport, now);
                    scanned.wait_until(until);
                    self.told.refused(&found.path, SkipReason::AfterImport, &error);
                }
            }
        }
        self.forget_all(gone).await;
        Ok(())
    }

    /// Those whose removal, or that of all, did not fail just now.
    fn rested(
        &self,
        sources: Vec<(Found, bool)>,
        now: Duration,
        scanned: &mut Scanned,
    ) -> Vec<(Found, bool)> {
        let memory = self.memory.lock();
        let all = memory.pauses.of(&Place::After, now);
        let mut rested = sources;
        rested.retain(|(found, _)| {
            let place = memory.pauses.source(name_bytes(&found.path), &found.stat);
            let Some(until) = all.or_else(|| memory.pauses.of(&place, now)) else { return true };
            scanned.wait_until(until);
            scanned.skip(SkipReason::AfterImport);
            false
        });
        rested
    }

    /// Forgets sources at once when it is durable that they are gone: the same name, size and time may come back with the
    /// same inode, and is another source then. Where that fails, the ledger knows.
    async fn forget_all(&self, gone: Vec<Found>) {
        let noted: Vec<_> = gone.iter().map(Found::noted).collect();
        let synced = self.door.work(PATIENCE, move |going| {
            let mut last: Option<Arc<Folder>> = None;
            for found in gone {
                if !last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &found.folder)) {
                    found.folder.sync_names()?;
                    going.step();
                    last = Some(found.folder);
                }
            }
            Ok(())
        });
        match synced.await.and_then(|done| done) {
            Ok(()) => drop(forget(&*self.intake, &self.rules.id, noted).await),
            Err(error) => debug!(watcher = %self.rules.id, %error, "watched folder could not be synced"),
        }
    }
}

/// What is to be done about a source.
enum Sifted {
    Ready(Box<Ready>),
    Known(Box<Found>),
    Held,
}

struct Imported {
    done: Vec<Found>,
    end: Result<()>,
}

/// The logical directory of a source; `None` when its folders make none.
pub(crate) fn directory_of(config: &FileWatcherConfig, found: &Found) -> Option<LogicalDir> {
    if !config.directory_from_folder {
        return Some(LogicalDir::root());
    }
    LogicalDir::parse(&found.beneath_anchor().to_string_lossy()).ok()
}

/// What is not looked into.
pub(crate) fn bounds(
    config: &FileWatcherConfig,
    rules: &Arc<Rules>,
    own: &[Seen],
    target: Option<&Target>,
    target_at: Option<&Whereabouts>,
) -> Bounds {
    let mut own: Vec<_> = own.iter().filter_map(|seen| seen.at.place()).collect();
    own.extend(target_at.and_then(Whereabouts::place));
    let target = target.and_then(Target::within).map(Path::to_path_buf); // it may be made, or made anew, at any time
    Bounds { rules: Arc::clone(rules), subdirectories: config.subdirectories, own, target }
}

/// What comes of a store that is full or away, and passes.
const fn is_backpressure(error: &Error) -> bool {
    matches!(
        error,
        Error::TenantQuotaExceeded { .. }
            | Error::DirectoryQuotaExceeded { .. }
            | Error::GlobalQuotaExceeded { .. }
            | Error::InsufficientStorage { .. }
            | Error::VolumeUnavailable { .. }
            | Error::TooLarge { .. }
    )
}

/// What a tenant that takes nothing is.
pub(crate) const fn of_tenant(error: &Error) -> SkipReason {
    match error {
        Error::TenantNotFound { .. } => SkipReason::UnknownTenant,
        _ => SkipReason::TenantDisabled,
    }
}
