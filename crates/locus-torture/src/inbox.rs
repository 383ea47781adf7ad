//! Watched folders on the machine's own file system, what comes to lie in them, and the way from there into the pool.
//!
//! Two runs of a seed are the same although the numbers of inodes are the file system's own: a ledger has equally long entries
//! whatever they are, and the store is told other names than those that are made of them.
//!
//! The folders outlive every crash, as a share of another machine does; the ledgers and the store lie on the simulated disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::{self, File},
    future::pending,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use locus_core::{
    Clock, Durability, Error, FileKey, IdempotencyKey, Incoming, Intake, MetadataStore, Outcome, Result,
    TenantContext, TenantId, TenantStatus,
};
use locus_fs::Disk;
use locus_storage::{EmbeddedStore, StoragePool, WriteOptions};
use locus_testkit::{ManualClock, SeededEntropy, SimDisk};
use locus_watcher::{AfterImport, FileWatcherConfig};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::{
    call::{DIRECTORIES, ROOT, directory_name},
    limits::Refusal,
};

/// How many watched folders there are: of a single tenant, and of all.
pub const FOLDERS: usize = 2;
/// How many names there are in each folder beneath them.
pub const NAMES: u64 = 8;

/// A memory that is faster than any disk, where a machine has one.
const MEMORY: &str = "/dev/shm";

/// A name in a watched folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Which folder.
    pub folder: usize,
    /// Whose.
    pub tenant: usize,
    /// In which folder beneath it: a directory's, or none.
    pub beneath: u64,
    /// The number in its name.
    pub number: u64,
}

/// What lies there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its bytes, unlike all others.
    pub content: Vec<u8>,
    /// It was put over another one that was of another length, and took its time.
    pub kept_time: bool,
    /// What a watcher called it.
    pub identity: Option<String>,
}

/// How a folder is watched.
#[derive(Debug, Clone)]
pub struct Watch {
    config: FileWatcherConfig,
    /// Whose everything is; `None` when the first folder says that.
    pub tenant: Option<usize>,
    /// What becomes of a source.
    pub after: AfterImport,
    /// Sources have to rest for a while.
    pub is_patient: bool,
}

/// What a watcher did, in its order.
#[derive(Clone)]
pub enum Event {
    /// It began to bring a source in, as this.
    Begun(Place, String),
    /// It was told the key.
    Brought(Place, FileKey),
    /// There was no room.
    Refused(Place, Refusal),
    /// Nobody can say what became of what was begun last.
    Unsettled,
    /// What it had brought in before was made durable.
    Synced,
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begun(place, _) => write!(f, "begun {place:?}"),
            Self::Brought(place, key) => write!(f, "brought {place:?} in as {key}"),
            Self::Refused(place, why) => write!(f, "refused {place:?}: {why:?}"),
            Self::Unsettled => f.write_str("unsettled"),
            Self::Synced => f.write_str("synced"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in-{}/tenant-{}/{}", self.folder, self.tenant, self.name())
    }
}

/// The watched folders of a world.
#[derive(Debug)]
pub struct Inbox {
    temp: TempDir,
    /// How they are watched.
    pub watches: Vec<Watch>,
    clock: Arc<ManualClock>,
    dice: SeededEntropy,
    events: Mutex<Vec<Event>>,
    /// Tenants that take nothing, and how often that changed.
    shut: Mutex<(BTreeSet<usize>, u64)>,
    /// Sources that were ever put.
    puts: Mutex<u32>,
    /// What watchers call sources, in the order in which they first did.
    names: Mutex<BTreeMap<String, usize>>,
}

impl Inbox {
    /// Empty folders, watched as the seed says.
    ///
    /// # Errors
    /// What keeps folders from being made.
    pub fn new(seed: u64, clock: Arc<ManualClock>, tenants: usize) -> io::Result<Self> {
        let dice = SeededEntropy::new(seed.rotate_left(32));
        let memory = Path::new(MEMORY);
        let temp = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }?;
        let mut watches = Vec::new();
        for folder in 0..FOLDERS {
            let path = temp.path().join(format!("in-{folder}"));
            fs::create_dir(&path)?;
            let target = match dice.below(2) {
                0 => temp.path().join(format!("done-{folder}")),
                _ => path.join("done"), // beneath what is watched
            };
            let after =
                [AfterImport::Delete, AfterImport::Move(target), AfterImport::Keep][below(&dice, 3)].clone();
            let is_patient = dice.below(4) == 0;
            let rest = |seconds| Duration::from_secs(if is_patient { seconds } else { 0 });
            let tenant = (folder == 0).then(|| below(&dice, tenants));
            // One after another, so that their order in the queue is known.
            let config = FileWatcherConfig::new(path)
                .id(format!("in-{folder}"))
                .concurrent_imports(1)
                .age_min(rest(5))
                .stability_delay(rest(2))
                .directory_from_folder(dice.below(2) == 0)
                .after_import(after.clone());
            let config = match tenant {
                Some(tenant) => config.tenant(format!("tenant-{tenant}")),
                None => config.multi_tenant(true).auto_create_tenant_directories(dice.below(2) == 0),
            };
            watches.push(Watch { config, tenant, after, is_patient });
        }
        let (events, shut, puts, names) = Default::default();
        Ok(Self { temp, watches, clock, dice, events, shut, puts, names })
    }

    /// What describes the watchers.
    pub(crate) fn described(&self) -> Vec<FileWatcherConfig> {
        self.watches.iter().map(|watch| watch.config.clone()).collect()
    }

    /// The logical directory of what is brought in from here.
    pub(crate) fn directory(&self, place: &Place) -> u64 {
        if self.watches[place.folder].config.directory_from_folder { place.beneath } else { ROOT }
    }

    fn path(&self, place: &Place) -> PathBuf {
        let watch = &self.watches[place.folder];
        let mut path = watch.config.path.clone();
        if watch.tenant.is_none() {
            path.push(format!("tenant-{}", place.tenant));
        }
        if place.beneath < DIRECTORIES {
            path.push(directory_name(place.beneath));
        }
        path.join(place.name())
    }

    /// Puts a source there, whole, with a time of its own, or over the one that is there.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn put(&self, place: &Place, source: &Source) -> io::Result<()> {
        let path = self.path(place);
        fs::create_dir_all(path.parent().unwrap_or(self.temp.path()))?;
        let time = match source.kept_time {
            true => fs::metadata(&path)?.modified()?,
            false => self.new_time(),
        };
        let mut file = File::options().write(true).create(true).truncate(true).open(&path)?;
        file.write_all(&source.content)?;
        file.set_modified(time)
    }

    /// Some seconds ago, and never the same twice.
    fn new_time(&self) -> SystemTime {
        let mut puts = self.puts.lock();
        *puts += 1;
        let now = Duration::from_micros(u64::try_from(self.clock.wall().as_micros()).unwrap_or(0));
        let ago = Duration::from_secs(self.dice.below(12));
        let whole = Duration::from_secs(now.saturating_sub(ago).as_secs());
        SystemTime::UNIX_EPOCH + whole + Duration::from_nanos(u64::from(*puts))
    }

    /// Whether something has this name.
    pub(crate) fn is_there(&self, place: &Place) -> bool {
        self.path(place).exists()
    }

    /// Takes away what was moved out of a folder, and says what it held.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn take_moved(&self, folder: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut contents = Vec::new();
        if let AfterImport::Move(target) = &self.watches[folder].after {
            take_all(target, &mut contents)?;
        }
        Ok(contents)
    }

    /// What watchers did since this was asked last.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut self.events.lock())
    }

    /// What watchers did in a look that ended, or `None` when it cannot be said, which only the next opening tells.
    pub(crate) fn settled_events(&self) -> Option<Vec<Event>> {
        let mut events = self.events.lock();
        let is_settled = !events.iter().any(|event| matches!(event, Event::Unsettled));
        is_settled.then(|| std::mem::take(&mut *events))
    }

    /// What the store is told instead of this name, in which an inode is hashed: that is another one in each run of a seed, and
    /// so would be the lengths of records.
    fn told(&self, identity: &str) -> String {
        let mut names = self.names.lock();
        let next = names.len();
        format!("source {}", names.entry(identity.to_owned()).or_insert(next))
    }

    fn note(&self, event: Event) {
        self.events.lock().push(event);
    }

    /// A tenant takes files, or none.
    pub(crate) fn shut(&self, tenant: usize, yes: bool) {
        let mut shut = self.shut.lock();
        if yes {
            shut.0.insert(tenant);
        } else {
            shut.0.remove(&tenant);
        }
        shut.1 += 1;
    }

    /// Whether a tenant takes none.
    pub(crate) fn is_shut(&self, tenant: usize) -> bool {
        self.shut.lock().0.contains(&tenant)
    }
}

impl Place {
    fn name(&self) -> String {
        format!("source-{}-{}", self.beneath, self.number)
    }

    /// Of what a watcher brings in.
    fn of(file: &Incoming) -> Option<Self> {
        let folder = file.identity.strip_prefix("watcher/in-")?.split('/').next()?.parse().ok()?;
        let tenant = tenant_number(&file.tenant)?;
        let (beneath, number) = file.original_name.strip_prefix("source-")?.split_once('-')?;
        Some(Self { folder, tenant, beneath: beneath.parse().ok()?, number: number.parse().ok()? })
    }
}

fn tenant_number(tenant: &TenantId) -> Option<usize> {
    tenant.as_str().strip_prefix("tenant-")?.parse().ok()
}

fn below(dice: &SeededEntropy, bound: usize) -> usize {
    usize::try_from(dice.below(bound as u64)).expect("because it is below a usize")
}

fn take_all(dir: &Path, contents: &mut Vec<Vec<u8>>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            take_all(&path, contents)?;
        } else {
            contents.push(fs::read(&path)?);
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The way in: as the facade's, over the tortured pool.
#[derive(Debug)]
pub(crate) struct InboxIntake {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) pool: StoragePool,
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) tenants: Vec<TenantContext>,
    pub(crate) durability: Durability,
}

impl InboxIntake {
    /// Where the disk is down the process is gone: nobody hears an answer any more, and nothing happens to a source.
    fn answer<T>(&self, answer: Result<T>) -> Result<T> {
        // Also where no operation of the disk lies between an answer and what it leads to.
        if self.inbox.dice.below(60) == 0 {
            self.disk.crash_at(0);
            let _ = self.disk.metadata(Path::new("/"));
        }
        if self.disk.is_down() { Err(Error::ShuttingDown) } else { answer }
    }
}

#[async_trait]
impl Intake for InboxIntake {
    async fn is_known(&self, tenant: &TenantId, identity: &str) -> Result<bool> {
        let known = self.store.remembered(tenant, &self.inbox.told(identity)).await;
        self.answer(known.map(|known| known.is_some()))
    }

    async fn bring_in(&self, file: Incoming) -> Result<FileKey> {
        self.check_tenant(&file.tenant)?;
        let place = Place::of(&file)
            .ok_or(Error::InvalidArgument { name: "original_name", why: "nobody put such a source" })?;
        let tenant = &self.tenants[place.tenant];
        let name = self.inbox.told(&file.identity);
        self.inbox.note(Event::Begun(place.clone(), name.clone()));
        let options = WriteOptions::new()
            .original_name(file.original_name)
            .directory(file.directory.as_str())
            .idempotency_key(IdempotencyKey::until_forgotten(name))
            .synced();
        let written = self.answer(self.pool.write(tenant, file.content, options).await);
        match &written {
            Ok(key) => self.inbox.note(Event::Brought(place, *key)),
            Err(Error::Poisoned { outcome: Outcome::Unknown }) => self.inbox.note(Event::Unsettled),
            Err(error) => {
                if let Some(why) = Refusal::of(error) {
                    self.inbox.note(Event::Refused(place, why));
                }
            }
        }
        self.answer(written)
    }

    async fn sync(&self) -> Result<()> {
        if self.durability == Durability::Buffered {
            self.answer(self.store.sync().await)?;
            self.inbox.note(Event::Synced);
        }
        self.answer(Ok(()))
    }

    async fn forget(&self, tenant: &TenantId, identity: &str) -> Result<()> {
        self.answer(Ok(()))?;
        self.answer(self.store.forget(tenant, &self.inbox.told(identity)).await.map(|_| ()))
    }

    fn check_tenant(&self, tenant: &TenantId) -> Result<()> {
        match tenant_number(tenant).filter(|number| *number < self.tenants.len()) {
            None => Err(Error::TenantNotFound { tenant: tenant.clone() }),
            Some(number) if self.inbox.is_shut(number) => {
                Err(Error::TenantDisabled { tenant: tenant.clone(), status: TenantStatus::Disabled })
            }
            Some(_) => Ok(()),
        }
    }

    async fn enabled_tenants(&self) -> Result<Vec<TenantId>> {
        let all = self.tenants.iter().map(|tenant| tenant.id().clone());
        Ok(all.filter(|tenant| self.check_tenant(tenant).is_ok()).collect())
    }

    fn tenants_version(&self) -> u64 {
        self.inbox.shut.lock().1
    }

    async fn tenants_changed(&self, _: u64) {
        pending::<()>().await; // nobody waits for that who looks by himself
    }

    fn own_places(&self) -> Vec<PathBuf> {
        Vec::new() // on another disk
    }
}
