//! One look through a watched folder: what is ready is brought in, and what was brought in is removed or moved.
//!
//! The order in which it happens is what keeps an import exactly once: the source is noted in the ledger, then brought in
//! under its name, then the store makes that durable, and only then the source goes. Wherever a crash falls, the next look
//! finds a source that the store knows, and does what is left to do.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{Clock, Content, Error, FileKey, Incoming, Intake, LogicalDir, Result, join_bounded};
use locus_fs::{OsDisk, off_thread};
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use crate::{
    after,
    config::{AfterImport, FileWatcherConfig},
    folder::{Folder, name_bytes},
    ledger::Ledger,
    overlap,
    pauses::{Pauses, Place},
    reason::SkipReason,
    report::ScanReport,
    rules::{NotYet, Rules},
    settling::Settling,
    source::Noted,
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
    pub(crate) place: Option<(u64, u64)>,
    own: OwnPlaces,
    /// Of the tenants for which folders were made.
    tenants_version: Option<u64>,
    pub(crate) read_at: Duration,
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

/// What became of it.
enum Outcome {
    Imported(FileKey),
    Held(SkipReason),
    /// The store took nothing, and is not asked again before then.
    Refused {
        until: Duration,
        is_fault: bool,
    },
    /// The store is being closed.
    Ended,
}

impl Scanner {
    pub(crate) fn new(
        config: FileWatcherConfig,
        rules: Rules,
        intake: Arc<dyn Intake>,
        clock: Arc<dyn Clock>,
        ledger: Ledger,
        memory: Arc<Mutex<Memory>>,
    ) -> Self {
        let (config, rules) = (Arc::new(config), Arc::new(rules));
        let (told, read_at) = (Told::new(rules.id.clone()), clock.monotonic());
        let (place, own, tenants_version) = (None, OwnPlaces::default(), None);
        Self { config, rules, intake, clock, ledger, memory, told, place, own, tenants_version, read_at }
    }

    /// Looks through the folder once.
    ///
    /// # Errors
    /// [`Error::FolderUnavailable`]; [`Error::InvalidSetting`] when the folder came to lie where nothing may be watched;
    /// [`Error::ShuttingDown`], and what the store says when it cannot tell what it knows. What was brought in is.
    ///
    /// # Cancel safety
    /// What was brought in is; the rest is found again.
    pub(crate) async fn scan(&mut self) -> Result<Scanned> {
        let (root, mut walk) = self.begin().await?;
        if self.reading_is_due().await {
            self.read_ledger(&root).await?;
        }
        if self.config.auto_create_tenant_directories {
            self.make_tenant_folders(&root).await?;
        }
        let mut scanned = Scanned::default();
        loop {
            let (back, step) = on_disk(move || {
                let step = walk.step(STEP_MAX);
                (walk, step)
            })
            .await;
            walk = back;
            let step = step.map_err(|source| self.unavailable(source))?;
            let is_done = step.is_done;
            self.take(step, &mut scanned).await?;
            if is_done {
                break;
            }
        }
        self.memory.lock().settling.end_round();
        Ok(scanned)
    }

    /// Opens the folder anew each time: another one may have come to its place.
    async fn begin(&mut self) -> Result<(Arc<Folder>, Walk)> {
        let (config, rules) = (Arc::clone(&self.config), Arc::clone(&self.rules));
        let (intake, seen, mut places) =
            (Arc::clone(&self.intake), self.place, std::mem::take(&mut self.own));
        let opened = on_disk(move || {
            let root = Arc::new(Folder::open(&config.path)?);
            let place = root.stat()?.place();
            let own = intake.own_places();
            let checked = match seen == Some(place) {
                true => Ok(()),
                false => overlap::check_own(&rules.id, &config, &own),
            };
            let bounds = bounds(&config, &rules, &own, &mut places);
            Ok((place, checked, places, Arc::clone(&root), Walk::begin(root, bounds, intake)?))
        });
        let (place, checked, places, root, walk) =
            opened.await.map_err(|source: std::io::Error| self.unavailable(source))?;
        self.own = places;
        checked?;
        if self.place != Some(place) {
            self.tenants_version = None; // its folders are to be made in this one
            self.place = Some(place);
        }
        Ok((root, walk))
    }

    fn unavailable(&self, source: std::io::Error) -> Error {
        let (watcher, path) = (self.rules.id.clone(), self.config.path.clone());
        Error::FolderUnavailable { watcher, path, source }
    }

    async fn make_tenant_folders(&mut self, root: &Arc<Folder>) -> Result<()> {
        let version = self.intake.tenants_version();
        if self.tenants_version == Some(version) {
            return Ok(());
        }
        let tenants = self.intake.enabled_tenants().await?;
        let root = Arc::clone(root);
        let made = on_disk(move || {
            let mut failed = None;
            for tenant in &tenants {
                if let Err(error) = root.make_folder(tenant.as_str().as_ref()) {
                    failed = failed.or(Some(error));
                }
            }
            failed.map_or(Ok(()), Err)
        });
        match made.await {
            Ok(()) => self.tenants_version = Some(version),
            Err(error) => self.told.trouble("folders of tenants could not be made", &error),
        }
        Ok(())
    }

    /// Does what is to be done about everything that a step met.
    async fn take(&mut self, step: Step, scanned: &mut Scanned) -> Result<()> {
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
        self.finish(finishing, scanned).await?;
        imported.end
    }

    /// Looks whether a source was brought in before, is to be brought in now, or has to wait.
    async fn sift(&mut self, found: Found, scanned: &mut Scanned) -> Result<Sifted> {
        let noted = found.noted();
        let identity = noted.identity(&self.rules.id);
        if self.intake.is_known(&noted.tenant, &identity).await? {
            if self.config.after_import == AfterImport::Keep {
                scanned.skip(SkipReason::Imported);
                return Ok(Sifted::Held);
            }
            return Ok(Sifted::Known(Box::new(found)));
        }
        let Some(directory) = self.directory_of(&found) else {
            self.told.skipped(&found.path, SkipReason::Refused);
            scanned.skip(SkipReason::Refused);
            return Ok(Sifted::Held);
        };
        let (now, age) = (self.clock.monotonic(), found.stat.age(self.clock.wall()));
        let mut memory = self.memory.lock();
        if let Some(until) = memory.pauses.of_directory(&noted.tenant, &directory, now) {
            scanned.wait_until(until);
            scanned.skip(SkipReason::Waiting);
            return Ok(Sifted::Held);
        }
        let alike = memory.settling.look(name_bytes(&found.path), &found.stat, now);
        if let Err(NotYet { why, wait }) = self.rules.settle(age, alike) {
            scanned.wait_until(now.saturating_add(wait));
            scanned.skip(why);
            return Ok(Sifted::Held);
        }
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
        if let Err(error) = self.ledger.add(entries).await {
            scanned.report.failed += 1;
            scanned.wait_until(self.refused(Place::Store, &error));
            ready.iter().for_each(|_| scanned.skip(SkipReason::Waiting));
            return imported;
        }
        let at_once = self.config.concurrent_imports;
        let outcomes =
            join_bounded(ready.iter().map(|source| self.bring_in(source)).collect(), at_once).await;
        for (source, outcome) in ready.into_iter().zip(outcomes) {
            let Ready { found, noted, directory, .. } = source;
            match outcome {
                Outcome::Imported(key) => {
                    debug!(watcher = %self.rules.id, tenant = %noted.tenant, %key, size = noted.size, "source imported");
                    scanned.report.imported += 1;
                    scanned.report.bytes += noted.size;
                    let mut memory = self.memory.lock();
                    memory.settling.forget(&noted.path);
                    if memory.pauses.taken(&noted.tenant, &directory) {
                        info!(watcher = %self.rules.id, tenant = %noted.tenant, "store takes files again");
                    }
                    drop(memory);
                    imported.done.push(found);
                }
                Outcome::Held(why) => {
                    self.memory.lock().settling.forget(&noted.path); // it begins anew
                    scanned.wait_until(self.clock.monotonic().saturating_add(self.config.stability_delay));
                    self.told.skipped(&found.path, why);
                    scanned.report.failed += u64::from(why == SkipReason::Unreadable);
                    scanned.skip(why);
                }
                Outcome::Refused { until, is_fault } => {
                    scanned.report.failed += u64::from(is_fault);
                    scanned.wait_until(until);
                    scanned.skip(SkipReason::Waiting);
                }
                Outcome::Ended => imported.end = Err(Error::ShuttingDown),
            }
        }
        imported
    }

    /// The store took nothing: the source stays, and is not tried again before the answer.
    fn refused(&self, place: Place, error: &Error) -> Duration {
        let now = self.clock.monotonic();
        let mut memory = self.memory.lock();
        if memory.pauses.refused(place.clone(), now) {
            let error = error as &dyn std::error::Error;
            warn!(watcher = %self.rules.id, error, "store takes no files, sources stay where they are until it does");
        }
        memory.pauses.of(&place, now).unwrap_or(now)
    }

    async fn bring_in(&self, source: &Ready) -> Outcome {
        let Ready { found, noted, directory, identity } = source;
        let now = self.clock.monotonic();
        let paused = self.memory.lock().pauses.of_directory(&noted.tenant, directory, now);
        if let Some(until) = paused {
            return Outcome::Refused { until, is_fault: false }; // one beside it was
        }
        let opening = found.clone();
        let content = match on_disk(move || open(&opening)).await {
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
            Err(Error::Source { source }) if is_changed(&source) => Outcome::Held(SkipReason::Changed),
            Err(Error::Source { .. }) => Outcome::Held(SkipReason::Unreadable),
            Err(Error::ShuttingDown) => Outcome::Ended,
            Err(
                Error::TenantDisabled { .. } | Error::TenantNotFound { .. } | Error::TenantLeaving { .. },
            ) => Outcome::Held(SkipReason::TenantDisabled),
            Err(error) => {
                let place = Place::of(&error, &noted.tenant, directory);
                Outcome::Refused { until: self.refused(place, &error), is_fault: !is_backpressure(&error) }
            }
        }
    }

    /// Removes or moves what the store has, whether it was brought in just now or before.
    async fn finish(&mut self, sources: Vec<(Found, bool)>, scanned: &mut Scanned) -> Result<()> {
        if sources.is_empty() || self.config.after_import == AfterImport::Keep {
            return Ok(());
        }
        let now = self.clock.monotonic();
        if let Some(until) = self.memory.lock().pauses.of(&Place::After, now) {
            scanned.wait_until(until);
            sources.iter().for_each(|_| scanned.skip(SkipReason::AfterImport));
            return Ok(());
        }
        // A source is given up only when its file survives power loss, whatever the store promises otherwise.
        self.intake.sync().await?;
        let config = Arc::clone(&self.config);
        let done = on_disk(move || {
            let done = |(found, is_new): (Found, bool)| {
                let done = match &config.after_import {
                    AfterImport::Delete => after::remove(&found),
                    AfterImport::Move(target) => after::move_to(&found, target),
                    AfterImport::Keep => Ok(()),
                };
                (found, is_new, done)
            };
            sources.into_iter().map(done).collect::<Vec<_>>()
        })
        .await;
        let mut gone = Vec::new();
        for (found, is_new, done) in done {
            match done {
                Ok(()) => {
                    gone.push(found.clone());
                    scanned.report.finished += u64::from(!is_new);
                    if self.memory.lock().pauses.over(&Place::After) {
                        info!(watcher = %self.rules.id, "sources can be removed or moved again");
                    }
                }
                Err(error) => {
                    scanned.report.failed += 1;
                    scanned.skip(SkipReason::AfterImport);
                    let mut memory = self.memory.lock();
                    if memory.pauses.refused(Place::After, now) {
                        warn!(watcher = %self.rules.id, path = %found.path.display(), %error, "imported source could not be removed or moved, tried again later");
                    }
                    if let Some(until) = memory.pauses.of(&Place::After, now) {
                        scanned.wait_until(until);
                    }
                }
            }
        }
        self.forget_all(gone).await;
        Ok(())
    }

    /// Forgets sources at once when it is durable that they are gone: the same name, size and time may come back with the
    /// same inode, and is another source then. Where that fails, the ledger knows.
    async fn forget_all(&self, gone: Vec<Found>) {
        let noted: Vec<_> = gone.iter().map(Found::noted).collect();
        let synced = on_disk(move || {
            let mut last: Option<Arc<Folder>> = None;
            for found in gone {
                if !last.as_ref().is_some_and(|last| Arc::ptr_eq(last, &found.folder)) {
                    found.folder.sync_names()?;
                    last = Some(found.folder);
                }
            }
            Ok::<_, std::io::Error>(())
        });
        match synced.await {
            Ok(()) => drop(self.forget(noted).await),
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

/// The places of the store that were found: a volume that hangs by now is not asked where it lies.
pub(crate) type OwnPlaces = HashMap<PathBuf, (u64, u64)>;

/// What is not looked into.
pub(crate) fn bounds(
    config: &FileWatcherConfig,
    rules: &Arc<Rules>,
    own: &[PathBuf],
    known: &mut OwnPlaces,
) -> Bounds {
    let place = |path: &PathBuf| Some(Folder::open(path).ok()?.stat().ok()?.place());
    known.retain(|path, _| own.contains(path));
    for path in own {
        if !known.contains_key(path)
            && let Some(found) = place(path)
        {
            known.insert(path.clone(), found);
        }
    }
    let mut own: Vec<_> = known.values().copied().collect();
    if let AfterImport::Move(target) = &config.after_import {
        own.extend(place(target)); // it may be made, or made anew, at any time
    }
    Bounds { rules: Arc::clone(rules), subdirectories: config.subdirectories, own }
}

/// The content of a source, which ends in an error as soon as the source is not what was found any more.
fn open(found: &Found) -> Result<Content, SkipReason> {
    let file = found.folder.file(&found.name).map_err(|error| crate::walk::unseen(&error))?;
    let expected = found.stat;
    let check = move |file: &std::fs::File| match Folder::stat_of_file(file)? {
        now if now == expected => Ok(()),
        _ => Err(std::io::Error::other(Changed)),
    };
    match check(&file) {
        Ok(()) => Ok(Content::checked(file, check)),
        Err(error) if is_changed(&error) => Err(SkipReason::Changed),
        Err(_) => Err(SkipReason::Unreadable),
    }
}

/// The source is another than it was.
#[derive(Debug)]
struct Changed;

impl std::fmt::Display for Changed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the source changed while it was read")
    }
}

impl std::error::Error for Changed {}

fn is_changed(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Changed>)
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

/// Works on folders that are not ours, where blocking is allowed.
pub(crate) async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    off_thread(&OsDisk, work).await
}

/// Where a path of a watched folder lies in it.
pub(crate) fn within(config: &FileWatcherConfig, path: &Path) -> Option<PathBuf> {
    path.strip_prefix(&config.path).ok().map(Path::to_path_buf)
}
