//! From settings and components to an open store.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use locus_cleanup::Sweeper;
use locus_core::{
    Clock, DirectoryQuota, Durability, Entropy, Error, MetadataStore, Result, RetryPolicy, StorageVolume,
    SystemClock, SystemEntropy, TenantId, Upkeep, VolumeId, VolumeSet, VolumeStanding, join_bounded,
};
use locus_fs::{DirLock, Disk, OsDisk, VolumeContext, VolumeProvider, VolumeSpec, create_dirs, off_thread};
use locus_storage::{
    EmbeddedStore, FileScheduler, Placement, StoragePool, StoreConfig, VolumeRegistry, was_retired,
};
use locus_tenant::TenantDirectory;
use locus_watcher::{FileWatcherConfig, FileWatchers, WatchersOptions};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::{
    background::{Background, Parts},
    gate::Gate,
    handle::{Locus, Opened, Running},
    intake::PoolIntake,
    mounts::MountNote,
    sealing::{Keys, check_keys},
    settings::{RetrySettings, Settings, Spares, TenantSettings, VolumeSettings, WatcherSettings, invalid},
    threads::{SharedLock, Threads},
    workers::{Stop, Tools},
};

/// Volumes that are opened at the same time.
const VOLUMES_OPENING_MAX: usize = 16;

/// How long a volume may take to be opened at the start.
const VOLUME_OPEN_TIMEOUT: Duration = Duration::from_secs(60);

type Change = Box<dyn FnOnce(&mut Settings) + Send>;

/// Describes a store to be opened. Made by [`Locus::builder`].
///
/// Setters neither fail nor touch a disk; [`build`](Self::build) does both. What a setter says wins over
/// [`settings`](Self::settings), in whatever order they are called.
#[must_use = "a builder opens nothing until it is built"]
pub struct Builder {
    settings: Settings,
    changes: Vec<Change>,
    tenants: Vec<String>,
    volumes: Vec<Box<dyn VolumeSpec>>,
    provider: Option<Arc<dyn VolumeProvider>>,
    watchers: Vec<FileWatcherConfig>,
    on_request: bool,
    keys: Keys,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    disk: Arc<dyn Disk>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("volumes", &self.volumes)
            .field("tenants", &self.tenants)
            .finish_non_exhaustive()
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            changes: Vec::new(),
            tenants: Vec::new(),
            volumes: Vec::new(),
            provider: None,
            watchers: Vec::new(),
            on_request: false,
            keys: Keys::default(),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            disk: Arc::new(OsDisk),
        }
    }
}

impl Builder {
    /// Everything that was not said otherwise, for example from [`Settings::load`].
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// The directory of journal, checkpoints and tenants. Default `./locus-data`; created when absent.
    pub fn data_dir(self, dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        self.change(|settings| settings.store.data_dir = dir)
    }

    /// Adds a volume. It is opened by [`build`](Self::build), and may lie in the data directory.
    pub fn add_volume(mut self, volume: impl VolumeSpec + 'static) -> Self {
        self.volumes.push(Box::new(volume));
        self
    }

    /// Asks this provider for the next volume when free space falls below what the settings in `expansion` say, or a write
    /// finds no room; in place of the spare volumes of the settings. What it gave is not remembered: a volume with files is
    /// to be among those that the store is opened with.
    pub fn volume_provider(mut self, provider: impl VolumeProvider + 'static) -> Self {
        self.provider = Some(Arc::new(provider));
        self
    }

    /// Adds a tenant, which is created when absent: after it was deleted or purged as another tenant of that name, at the
    /// next start. An existing one keeps its status and properties, and one whose file is missing although it has files
    /// stays disabled until it is [created](crate::Tenants::create) by hand.
    pub fn add_tenant(mut self, id: impl Into<String>) -> Self {
        self.tenants.push(id.into());
        self
    }

    /// Seals contents, names, properties and errors with the keys of this ring before anything of them reaches a disk: see
    /// `docs/security.md` for what stays readable. What was taken in, or begun as an upload, before stays as it was. Opening with another ring, or with none, is
    /// refused with [`Error::UnknownKey`] while there are files that could not be opened.
    #[cfg(feature = "encryption")]
    pub fn encrypt_with(mut self, keyring: impl Into<Arc<locus_vault::Keyring>>) -> Self {
        self.keys.ring = Some(keyring.into());
        self
    }

    /// Watches a folder and brings in what comes to lie there, from the end of [`build`](Self::build) on. What was changed
    /// by [`Locus::watchers`] wins over this until it is reset.
    pub fn add_file_watcher(mut self, watcher: FileWatcherConfig) -> Self {
        self.watchers.push(watcher);
        self
    }

    /// Lets no sweep and no watcher begin by itself, whatever settings and earlier runs say: for programs that open a directory
    /// to look at it, or to do one thing. Each is done when it is asked for, by [`Locus::cleanup`] and
    /// [`FileWatchers::look`]. What keeps promises goes on: leases run out, completed files are removed, checkpoints are taken,
    /// volumes are probed.
    pub fn on_request(mut self) -> Self {
        self.on_request = true;
        self
    }

    /// What `Ok` of a change promises. Default [`Durability::Durable`].
    pub fn durability(self, durability: Durability) -> Self {
        self.change(move |settings| settings.store.durability = durability)
    }

    /// What `Ok` of a completion promises. Default: as [`durability`](Self::durability). Buffered completions are lazy:
    /// power loss may deliver a completed file again, and loses none.
    pub fn complete_durability(self, durability: Durability) -> Self {
        self.change(move |settings| settings.store.complete_durability = Some(durability))
    }

    /// How a volume is chosen for new content. Default [`Placement::MostAvailable`].
    pub fn placement(self, placement: Placement) -> Self {
        self.change(move |settings| settings.store.placement = placement)
    }

    /// When failed files come back. Default: 5 s after the first failure, 10 s after the second, given up at the third.
    pub fn retry_policy(self, policy: RetryPolicy) -> Self {
        self.change(move |settings| settings.retry = RetrySettings::from(policy))
    }

    /// How long a lease lasts when it does not say. Default 30 min.
    pub fn visibility_timeout(self, timeout: Duration) -> Self {
        self.change(move |settings| settings.leases.visibility_timeout = timeout)
    }

    /// After this many deliveries a file that times out is given up. Default the larger of 10 and twice the retries; less
    /// than the retries is refused.
    pub fn max_deliveries(self, deliveries: u32) -> Self {
        self.change(move |settings| settings.leases.max_deliveries = Some(deliveries))
    }

    /// Most files of a tenant without a limit of its own. Default no limit.
    pub fn tenant_quota(self, files: u64) -> Self {
        self.change(move |settings| settings.quotas.tenant = Some(files))
    }

    /// Most files of the store as a whole. Default no limit.
    pub fn global_quota(self, files: u64) -> Self {
        self.change(move |settings| settings.quotas.global = Some(files))
    }

    /// Most bytes of a tenant without a limit of its own. Default no limit.
    pub fn tenant_quota_bytes(self, bytes: u64) -> Self {
        self.change(move |settings| settings.quotas.tenant_size = Some(bytes))
    }

    /// Most bytes of the store as a whole. Default no limit.
    pub fn global_quota_bytes(self, bytes: u64) -> Self {
        self.change(move |settings| settings.quotas.global_size = Some(bytes))
    }

    /// Most files in each directory that a pattern matches: `tenant/directory`, or a glob over that, as
    /// [`DirectoryQuota::pattern`] has it. Said twice for one pattern, the last one holds.
    pub fn directory_quota(self, pattern: impl Into<String>, files: u64) -> Self {
        self.limit_directories(DirectoryQuota {
            pattern: pattern.into(),
            max_files: files,
            max_bytes: None,
            enabled: true,
        })
    }

    /// As [`directory_quota`](Self::directory_quota), of files and bytes.
    pub fn limit_directories(self, quota: DirectoryQuota) -> Self {
        self.change(move |settings| put(&mut settings.quotas.directories, quota))
    }

    /// A limit on each directory that the pattern matches, together with all beneath it. It holds beside the limits of the
    /// single directories. Said twice for one pattern, the last one holds.
    pub fn limit_subtrees(self, quota: DirectoryQuota) -> Self {
        self.change(move |settings| put(&mut settings.quotas.subtrees, quota))
    }

    /// Largest segment of the journal, in bytes: 1 MiB to 1 GiB. Default 64 MiB.
    pub fn segment_size(self, bytes: u64) -> Self {
        self.change(move |settings| settings.journal.segment_size = bytes)
    }

    /// Longest content that rests in the journal, in bytes: one sync makes content and record durable, shared by all who
    /// write at that moment, and the file has no path. Longer ones are files on volumes. Default 64 KiB, at most a
    /// sixteenth of the segment size; 0: every content is a file on a volume. What is in the journal already stays
    /// readable whatever this says.
    pub fn inline_content_max(self, bytes: u64) -> Self {
        self.change(move |settings| settings.journal.inline_content_max = bytes)
    }

    /// Most bytes of journal segments that contents may occupy, at least four segments. Beyond it small contents go to
    /// volumes too, and some that are in the journal are moved there. Default 10 % of what is free on the disk of the data
    /// directory at the start, at least 1 GiB, never more than half of it.
    pub fn landing_zone_max(self, bytes: u64) -> Self {
        self.change(move |settings| settings.journal.landing_zone_max = Some(bytes))
    }

    /// Longest time that anything written stays unsynced. Default 1 s.
    pub fn max_unsynced(self, time: Duration) -> Self {
        self.change(move |settings| settings.store.max_unsynced = time)
    }

    /// Where time comes from. Default the machine's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Where randomness comes from. Default the operating system.
    pub fn entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }

    /// The disk of the data directory and of volumes that were described by a path. Default the machine's disk.
    pub fn disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = disk;
        self
    }

    /// Opens the store: locks the data directory, recovers what is there, creates tenants that are absent, opens the
    /// volumes, and only then starts what goes on by itself. Needs a tokio runtime with its time driver.
    ///
    /// # Errors
    /// When anything fails, nothing is left running and the directory is unlocked again.
    /// [`Error::InvalidSetting`] and [`Error::InvalidId`] name what contradicts, before a disk is touched;
    /// [`Error::AlreadyOpen`] names who has the data directory or a volume; [`Error::VolumeUnavailable`] names a volume
    /// that cannot be used; [`Error::Corrupt`], [`Error::NewerFormat`] and [`Error::Io`] name the place.
    ///
    /// # Cancel safety
    /// A dropped future leaves a directory that can be opened again.
    pub async fn build(self) -> Result<Locus> {
        let plan = self.plan()?;
        plan.open().await
    }

    fn change(mut self, change: impl FnOnce(&mut Settings) + Send + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Everything that can be refused without a disk.
    fn plan(self) -> Result<Plan> {
        let mut settings = self.settings;
        for change in self.changes {
            change(&mut settings);
        }
        for id in self.tenants {
            let id = TenantId::parse(&id)?;
            if !settings.tenants.iter().any(|tenant| tenant.id == id) {
                settings.tenants.push(TenantSettings { id, properties: Default::default() });
            }
        }
        settings.check()?;
        let mut volumes = self.volumes;
        for volume in &settings.volumes {
            volumes.push(volume.spec());
        }
        let mut named: Vec<(VolumeId, Box<dyn VolumeSpec>)> = Vec::new();
        for volume in volumes {
            let id = volume.id()?;
            if named.iter().any(|(other, _)| *other == id) {
                return invalid(format!("volumes[{id}]"), "is there twice");
            }
            named.push((id, volume));
        }
        settings.store.data_dir = std::path::absolute(&settings.store.data_dir)
            .map_err(Error::io("find the directory", &settings.store.data_dir))?;
        let mut watchers = self.watchers;
        watchers.extend(settings.watchers.iter().map(WatcherSettings::config));
        unique_watchers(&watchers)?;
        let (clock, entropy, disk) = (self.clock, self.entropy, self.disk);
        let (provider, on_request, keys) = (self.provider, self.on_request, self.keys);
        Ok(Plan { settings, volumes: named, provider, watchers, on_request, keys, clock, entropy, disk })
    }
}

/// A builder without contradictions.
struct Plan {
    settings: Settings,
    volumes: Vec<(VolumeId, Box<dyn VolumeSpec>)>,
    provider: Option<Arc<dyn VolumeProvider>>,
    watchers: Vec<FileWatcherConfig>,
    on_request: bool,
    keys: Keys,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    disk: Arc<dyn Disk>,
}

/// The mounted volumes, and the lock of the data directory, which the store thereby holds as long as it lives.
#[derive(Debug)]
struct LockedVolumes {
    volumes: Arc<VolumeRegistry>,
    _lock: SharedLock,
}

impl VolumeSet for LockedVolumes {
    fn volume(&self, id: &VolumeId) -> Option<Arc<dyn StorageVolume>> {
        self.volumes.volume(id)
    }

    fn all(&self) -> Vec<Arc<dyn StorageVolume>> {
        self.volumes.all()
    }
}

impl Plan {
    /// The gates of a start, one after the other; the last step starts what runs by itself.
    async fn open(mut self) -> Result<Locus> {
        let dir = self.settings.store.data_dir.clone();

        let (disk, at) = (Arc::clone(&self.disk), dir.clone());
        let lock = off_thread(&*self.disk, move || {
            create_dirs(&*disk, &at)?;
            DirLock::acquire(&*disk, &at, &DirLock::me())
        })
        .await?;
        let lock = Arc::new(Mutex::new(Some(lock)));

        let (disk, clock, at) = (Arc::clone(&self.disk), Arc::clone(&self.clock), dir.clone());
        let (tenants, note) = off_thread(&*self.disk, move || {
            let tenants = TenantDirectory::open(Arc::clone(&disk), clock, at.join("tenants"))?;
            Ok::<_, Error>((tenants, MountNote::open(disk, at)))
        })
        .await?;

        // A spare volume that was in use belongs to the store as the others do; recovery needs it, too.
        for spare in &self.settings.expansion.volumes {
            if note.expects(&spare.id).await {
                self.volumes.push((spare.id.clone(), spare.spec()));
            }
        }
        let context = self.volume_context().await?;
        let registry = VolumeRegistry::new();
        self.mount(&registry, &context, &note).await?;

        let config = StoreConfig {
            dir: dir.clone(),
            options: self.settings.engine(),
            disk: Arc::clone(&self.disk),
            clock: Arc::clone(&self.clock),
            entropy: Arc::clone(&self.entropy),
            volumes: Arc::new(LockedVolumes { volumes: Arc::clone(&registry), _lock: Arc::clone(&lock) }),
        };
        let (engine, mut report) = EmbeddedStore::open(config).await?;
        for volume in registry.all() {
            if engine.standing_of(volume.id()) == VolumeStanding::Retired {
                return Err(was_retired(volume.id()));
            }
        }

        for (tenant, storage_path) in engine.tenants_with_files() {
            if tenants.note_lost(&tenant, storage_path) {
                warn!(%tenant, "file of a tenant is missing, its files wait until it is created or purged");
                report.tenants_lost.push(tenant);
            }
        }
        for tenant in &self.settings.tenants {
            tenants.ensure(&tenant.id, tenant.properties.clone()).await?;
        }

        let seals = std::mem::take(&mut self.keys).seals(context.store, &self.entropy);
        let sealer = seals.sealer();
        check_keys(&*engine, sealer.as_ref())?;

        let store: Arc<dyn MetadataStore> = engine.clone();
        let upkeep: Arc<dyn Upkeep> = engine.clone();
        let gate = Arc::new(Gate::new(tenants, Arc::clone(&store)));
        let durability = self.settings.store.durability;
        let volumes = Arc::clone(&registry);
        let pool =
            StoragePool::sealed_by(Arc::clone(&store), registry, gate.clone(), context, durability, sealer);
        pool.set_placement(self.settings.store.placement);
        self.grow(&pool, &engine).await?;
        let mounted_before = note.places().await;
        note.refresh(&pool, None).await?;
        let in_pool: Arc<dyn VolumeSet> = Arc::new(pool.clone());
        let sweeper = Sweeper::new(upkeep, in_pool, Arc::clone(&self.clock))
            .with_settings(self.settings.cleanup.clone())
            .with_disposal(Arc::new(pool.clone()))
            .with_tenants(Arc::new(gate.directory().clone()));
        let (disk, at) = (Arc::clone(&self.disk), dir.clone());
        let sweeper = off_thread(&*self.disk, move || sweeper.with_stands_in(disk, &at)).await;
        let sweeper = Arc::new(sweeper);
        let tools = Tools {
            scheduler: FileScheduler::new(Arc::clone(&store), gate.clone(), pool.clone()),
            pool: pool.clone(),
            store,
            gate,
            clock: Arc::clone(&self.clock),
            stop: Stop::default(),
            settings: self.settings.workers.clone(),
            visibility_timeout: self.settings.leases.visibility_timeout,
        };

        let watchers = self.watchers(&tools, volumes, mounted_before).await?;
        let threads = engine
            .spawn_threads()
            .map_err(Error::io("start the threads of", &self.settings.store.data_dir))?;
        let background = Background::start(Parts {
            engine: Arc::clone(&engine),
            pool,
            sweeper: Arc::clone(&sweeper),
            clock: Arc::clone(&self.clock),
            note: note.clone(),
            settings: self.settings.background.clone(),
            on_request: self.on_request,
        });
        let running =
            Running { background, threads: Threads::new(threads, lock), note, runtime: Handle::current() };
        if !self.on_request {
            watchers.start();
        }
        info!(dir = %self.settings.store.data_dir.display(), "store opened");
        Ok(Locus::new(
            Opened { tools, engine, sweeper, watchers, report, disk: self.disk, dir, seals },
            running,
        ))
    }

    /// Everything that watches folders, not yet at work.
    async fn watchers(
        &mut self,
        tools: &Tools,
        volumes: Arc<VolumeRegistry>,
        mounted_before: Vec<PathBuf>,
    ) -> Result<FileWatchers> {
        let store = &self.settings.store;
        let named = self.settings.volumes.iter().chain(&self.settings.expansion.volumes);
        let named = named.flat_map(VolumeSettings::parts).map(|volume| volume.path.clone());
        let intake = PoolIntake {
            pool: tools.pool.clone(),
            gate: Arc::clone(&tools.gate),
            store: Arc::clone(&tools.store),
            durability: store.durability,
            volumes,
            places: named.chain(mounted_before).chain([store.data_dir.clone()]).collect(),
        };
        FileWatchers::open(WatchersOptions {
            dir: store.data_dir.join("watchers"),
            disk: Arc::clone(&self.disk),
            clock: Arc::clone(&self.clock),
            intake: Arc::new(intake),
            described: std::mem::take(&mut self.watchers),
            durable: store.durability == Durability::Durable,
            in_place: false,
        })
        .await
    }

    /// Says where further volumes come from. A spare one that files came to rest on just before the end of the last process
    /// may not have been noted as mounted: its files are known by now.
    async fn grow(&mut self, pool: &StoragePool, store: &EmbeddedStore) -> Result<()> {
        let spares = self.settings.expansion.volumes.clone();
        for spare in &spares {
            if store.files_on(&spare.id) > 0 && pool.volume(&spare.id).is_none() {
                pool.mount_boxed(spare.spec()).await?;
            }
        }
        let from_settings = || (!spares.is_empty()).then(|| Arc::new(Spares::new(spares.clone())) as _);
        if let Some(provider) = self.provider.take().or_else(from_settings) {
            pool.set_provider(provider, self.settings.expansion.below());
        }
        Ok(())
    }

    /// Volumes carry the identity of their store, which is drawn before its first opening.
    /// Holds on to nothing of this plan while it waits: descriptions of volumes cannot be shared between threads, and a start
    /// may be spawned all the same.
    fn volume_context(&self) -> impl Future<Output = Result<VolumeContext>> + Send + use<> {
        let (disk, clock, entropy) =
            (Arc::clone(&self.disk), Arc::clone(&self.clock), Arc::clone(&self.entropy));
        let dir = self.settings.store.data_dir.clone();
        async move {
            let (on, random) = (Arc::clone(&disk), Arc::clone(&entropy));
            let store = off_thread(&*disk, move || EmbeddedStore::identify(&dir, &*on, &*random)).await?;
            Ok(VolumeContext { store, disk, clock, entropy })
        }
    }

    /// Opens and probes every volume; recovery needs them to see what is there.
    async fn mount(
        &mut self,
        registry: &VolumeRegistry,
        context: &VolumeContext,
        note: &MountNote,
    ) -> Result<()> {
        let mut opening = Vec::new();
        for (id, mut spec) in std::mem::take(&mut self.volumes) {
            if note.expects(&id).await {
                spec.expect_existing();
            }
            opening.push(open_volume(spec, context.clone()));
        }
        for opened in join_bounded(opening, VOLUMES_OPENING_MAX).await {
            registry.insert(opened?)?;
        }
        Ok(())
    }
}

/// In time: a volume that hangs does not hold up the start for ever.
async fn open_volume(spec: Box<dyn VolumeSpec>, context: VolumeContext) -> Result<Arc<dyn StorageVolume>> {
    let (id, clock) = (spec.id()?, Arc::clone(&context.clock));
    let deadline = clock.monotonic().saturating_add(VOLUME_OPEN_TIMEOUT);
    tokio::select! {
        biased;
        opened = open_and_probe(spec, context) => opened,
        () = clock.sleep_until(deadline) => {
            let why = format!("did not open within {} s", VOLUME_OPEN_TIMEOUT.as_secs()).into();
            Err(Error::VolumeUnavailable { volume: Some(id), why })
        }
    }
}

async fn open_and_probe(spec: Box<dyn VolumeSpec>, context: VolumeContext) -> Result<Arc<dyn StorageVolume>> {
    let volume = spec.open(context).await?;
    volume.probe().await?; // two good ones, as for any mount
    let status = volume.probe().await?;
    if status.is_healthy {
        return Ok(volume);
    }
    let why = status.why.unwrap_or("is unhealthy".into());
    Err(Error::VolumeUnavailable { volume: Some(volume.id().clone()), why })
}

/// Refuses what contradicts itself, and a name that is there twice.
fn unique_watchers(watchers: &[FileWatcherConfig]) -> Result<()> {
    let mut ids = Vec::new();
    for watcher in watchers {
        watcher.check()?;
        let id = watcher.watcher_id()?;
        if ids.contains(&id) {
            return invalid(format!("watchers[{id}]"), "is there twice");
        }
        ids.push(id);
    }
    Ok(())
}

/// Puts a quota in place of the one for the same pattern.
fn put(quotas: &mut Vec<DirectoryQuota>, quota: DirectoryQuota) {
    quotas.retain(|other| other.pattern != quota.pattern);
    quotas.push(quota);
}
