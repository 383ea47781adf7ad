//! A whole engine on a simulated disk and clock: volumes, tenants, store, pool, scheduler, sweeper, driven step by step.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, LazyLock},
    time::Duration,
};

use locus_cleanup::{OrphanPolicy, SweepSettings, Sweeper};
use locus_core::{
    BlobPath, Checksum, Clock, Entropy, Error, FailOutcome, FileKey, FileRecord, FileStatus, Lease,
    LeaseOptions, Leased, LogicalDir, MetadataStore, NewContent, NewFile, Properties, Reserved, Result,
    Scope, Sealer, StoragePath, StoreId, TenantContext, TenantCounts, TenantId, Upkeep, VolumeId, VolumeSet,
};
use locus_fs::{Disk, EntryKind, LocalVolume, VolumeContext, VolumeSpec, create_dirs};
use locus_storage::{
    EmbeddedStore, EngineOptions, FileScheduler, OpenReport, StoragePool, StoreConfig, VolumeRegistry,
};
use locus_tenant::TenantDirectory;
use locus_testkit::{ManualClock, SeededEntropy, SimDisk, Stepper};
use locus_vault::{Argon2Cost, Keyring, KeyringFile, NewRecipient, Passphrase, PoolSealer};

/// Blobs that no record names are removed as soon as they are found.
pub(crate) fn sweep_at_once() -> SweepSettings {
    let mut settings = SweepSettings::default();
    (settings.orphans.age, settings.orphans.policy) = (Duration::ZERO, OrphanPolicy::Delete);
    settings
}

/// What survives a crash: the disk, and the world's own clock and dice.
pub(crate) struct World {
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    /// Keys that were drawn, whether somebody was told them or not.
    pub(crate) drawn: Arc<Drawn>,
    pub(crate) options: EngineOptions,
    pub(crate) stepper: Stepper,
    pub(crate) volumes: usize,
    pub(crate) tenants: usize,
    /// The data directory,
    pub(crate) dir: PathBuf,
    /// and the directory that the volumes lie in.
    pub(crate) volumes_dir: PathBuf,
    pub(crate) sealed: bool,
}

/// The keys that an engine drew.
#[derive(Debug, Default)]
pub(crate) struct Drawn(parking_lot::Mutex<Vec<FileKey>>);

impl Drawn {
    /// Those drawn since the last time.
    pub(crate) fn take(&self) -> Vec<FileKey> {
        std::mem::take(&mut self.0.lock())
    }
}

/// Dice that note the keys that are made with them.
#[derive(Debug)]
struct Watched {
    dice: Arc<SeededEntropy>,
    clock: Arc<ManualClock>,
    drawn: Arc<Drawn>,
}

impl Entropy for Watched {
    fn fill(&self, bytes: &mut [u8]) {
        self.dice.fill(bytes);
        if let Ok(random) = <&[u8; 10]>::try_from(&*bytes) {
            self.drawn.0.lock().push(FileKey::generate(self.clock.wall(), random));
        }
    }
}

/// With `LOCUS_SEALED` in the environment everything is sealed: what is not about bytes as they lie on a disk, about paths and
/// about lengths to the byte, passes all the same.
fn is_sealed() -> bool {
    std::env::var_os("LOCUS_SEALED").is_some()
}

fn sealer(store: StoreId, entropy: Arc<dyn Entropy>) -> Arc<dyn Sealer> {
    static RING: LazyLock<Arc<Keyring>> = LazyLock::new(|| {
        let entropy = Arc::new(SeededEntropy::new(1));
        let file = KeyringFile::new(SimDisk::new(1), ManualClock::new(), entropy, "/keyring");
        let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let first = NewRecipient::passphrase("tests", Passphrase::new(b"tests").unwrap()).cost(cost);
        Arc::new(Stepper::new(1).block_on(file.create(first), || false).expect("a new disk"))
    });
    Arc::new(PoolSealer::new(store, RING.clone(), entropy))
}

/// An engine that is open.
pub(crate) struct Engine {
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) pool: StoragePool,
    pub(crate) scheduler: FileScheduler,
    pub(crate) sweeper: Arc<Sweeper>,
    pub(crate) registry: Arc<VolumeRegistry>,
    pub(crate) directory: Arc<TenantDirectory>,
    pub(crate) tenants: Vec<TenantContext>,
    pub(crate) report: OpenReport,
}

impl World {
    /// Every content is a file on a volume; see [`with_inline`](Self::with_inline).
    pub(crate) fn new(seed: u64, options: EngineOptions) -> Self {
        let options = EngineOptions { inline_content_max: 0, ..options };
        let disk = SimDisk::new(seed);
        disk.set_twin_names(false);
        Self {
            disk,
            clock: ManualClock::new(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            drawn: Arc::default(),
            options,
            stepper: Stepper::new(seed),
            volumes: 2,
            tenants: 2,
            dir: "/data".into(),
            volumes_dir: "/".into(),
            sealed: is_sealed(),
        }
    }

    /// Everything is sealed.
    pub(crate) fn sealed(self, sealed: bool) -> Self {
        Self { sealed: sealed || self.sealed, ..self }
    }

    /// Contents up to this length rest in the journal.
    pub(crate) fn with_inline(mut self, inline_content_max: u64) -> Self {
        self.options.inline_content_max = inline_content_max;
        self
    }

    /// Opens everything there is, in the order in which a program would.
    pub(crate) fn open(&mut self) -> Result<Engine> {
        let (disk, clock) = (self.disk.clone(), self.clock.clone());
        let entropy = Arc::new(Watched {
            dice: self.entropy.clone(),
            clock: self.clock.clone(),
            drawn: self.drawn.clone(),
        });
        let (options, volumes, tenants) = (self.options.clone(), self.volumes, self.tenants);
        let (dir, volumes_dir) = (self.dir.clone(), self.volumes_dir.clone());
        let sealed = self.sealed;
        let opening = async move {
            create_dirs(&*disk, &dir)?;
            let id = EmbeddedStore::identify(&dir, &*disk, &*entropy)?;
            let directory =
                Arc::new(TenantDirectory::open(disk.clone(), clock.clone(), dir.join("tenants"))?);
            let context = VolumeContext {
                store: id,
                disk: disk.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
            };
            let registry = VolumeRegistry::new();
            for n in 0..volumes {
                let spec = LocalVolume::new(format!("vol-{n}"), volumes_dir.join(format!("vol-{n}")));
                registry.insert(Box::new(spec).open(context.clone()).await?)?;
            }
            let (store, report) = EmbeddedStore::open(StoreConfig {
                dir,
                options: options.clone(),
                disk: disk.clone(),
                clock: clock.clone(),
                entropy: entropy.clone(),
                volumes: registry.clone(),
            })
            .await?;
            let pool = StoragePool::sealed_by(
                store.clone(),
                registry.clone(),
                directory.clone(),
                context,
                options.durability,
                sealed.then(|| sealer(id, entropy.clone())),
            );
            let scheduler = FileScheduler::new(store.clone(), directory.clone(), pool.clone());
            let sweeper = Arc::new(
                Sweeper::new(store.clone(), registry.clone(), clock.clone()).with_settings(sweep_at_once()),
            );
            let mut contexts = Vec::new();
            for n in 0..tenants {
                let id = TenantId::parse(&format!("tenant-{n}"))?;
                contexts.push(TenantContext::from(&*directory.ensure(&id, BTreeMap::new()).await?));
            }
            Ok(Engine { store, pool, scheduler, sweeper, registry, directory, tenants: contexts, report })
        };
        self.stepper.block_on(opening, || false)
    }

    /// Runs a call to its end; the committer and the keeper take their steps whenever nobody else can go on.
    pub(crate) fn run<T>(&mut self, engine: &Engine, call: impl Future<Output = T>) -> T {
        let store = engine.store.clone();
        self.stepper.block_on(call, move || store.commit_step() | store.keep_step())
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub(crate) fn clock_now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.entropy.below(bound)
    }
}

impl Engine {
    /// Every blob on every volume.
    pub(crate) async fn blobs(&self) -> Result<Vec<BlobPath>> {
        let mut blobs = Vec::new();
        for volume in self.registry.all() {
            let mut from = None;
            loop {
                let page = volume.list(None, from.as_ref(), 100).await?;
                blobs.extend(page.blobs.into_iter().map(|blob| blob.path));
                match page.next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
        }
        Ok(blobs)
    }
}

// ---- a store alone --------------------------------------------------------------------------------------------------

/// How a life of the store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The process dies: the kernel keeps what it has.
    Kill,
    /// The power goes: what was not synced is lost, torn or reordered.
    PowerCut,
    /// Shut down in order.
    Close,
}

/// A store alone, for behaviour that needs no content: files are records that say they rest, synced, on a volume that
/// nobody opens.
pub(crate) struct Records {
    pub(crate) world: World,
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) report: OpenReport,
}

/// A tenant's name.
pub(crate) fn tenant(number: usize) -> TenantId {
    TenantId::parse(&format!("tenant-{number}")).expect("because it is a name")
}

/// A volume's name.
pub(crate) fn volume(number: usize) -> VolumeId {
    VolumeId::parse(&format!("vol-{number}")).expect("because it is a name")
}

/// A file of `tenant-0` in the root directory, said to rest on `vol-0`.
pub(crate) fn new_file() -> NewFile {
    NewFile {
        tenant: tenant(0),
        owner: StoragePath::from(&tenant(0)),
        directory: LogicalDir::root(),
        original_name: None,
        properties: Properties::default(),
        size: 7,
        checksum: Checksum::of(b"content"),
        content: NewContent::Stored { volume: volume(0), synced: true },
        seal: None,
        astray: Vec::new(),
        idempotency: None,
    }
}

/// A file of another tenant.
pub(crate) fn file_of(number: usize) -> NewFile {
    NewFile { tenant: tenant(number), owner: StoragePath::from(&tenant(number)), ..new_file() }
}

/// Room, then record, for files of one tenant: all or none. A file that is known by its name is not written again.
/// The same file once more, when its content lies on a volume.
pub(crate) fn copy_of(file: &NewFile) -> NewFile {
    let NewContent::Stored { volume, synced } = &file.content else {
        panic!("what lies in the store is not copied")
    };
    NewFile {
        tenant: file.tenant.clone(),
        owner: file.owner.clone(),
        directory: file.directory.clone(),
        original_name: file.original_name.clone(),
        properties: file.properties.clone(),
        content: NewContent::Stored { volume: volume.clone(), synced: *synced },
        seal: file.seal.clone(),
        astray: file.astray.clone(),
        idempotency: file.idempotency.clone(),
        ..*file
    }
}

pub(crate) async fn put(store: &EmbeddedStore, files: Vec<NewFile>) -> Result<Vec<FileKey>> {
    let mut known = Vec::new();
    let mut rooms = Vec::new();
    for file in files {
        match store.reserve(&file.tenant, &file.directory, Some(file.size), file.idempotency.as_ref()).await?
        {
            Reserved::Room(room) => rooms.push((file, room)),
            Reserved::Known(key) => known.push(key),
        }
    }
    known.extend(store.accept(rooms).await?);
    Ok(known)
}

/// Every file below `dir`, with its bytes.
pub(crate) fn files_below(disk: &dyn Disk, dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in disk.read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = dir.join(&entry.name);
        if entry.kind == EntryKind::Dir {
            files.extend(files_below(disk, &path));
        } else {
            let file = disk.open(&path, false).unwrap();
            let mut bytes = vec![0; file.len().unwrap() as usize];
            file.read_at(&mut bytes, 0).unwrap();
            files.insert(path, bytes);
        }
    }
    files
}

impl World {
    /// Opens the store alone. Its volumes are not mounted, but `vol-0` and `vol-1` are said to be available.
    pub(crate) fn open_store(&mut self) -> Result<(Arc<EmbeddedStore>, OpenReport)> {
        let (disk, clock, entropy) = (self.disk.clone(), self.clock.clone(), self.entropy.clone());
        let options = self.options.clone();
        let opening = async move {
            let dir = PathBuf::from("/data");
            create_dirs(&*disk, &dir)?;
            EmbeddedStore::identify(&dir, &*disk, &*entropy)?;
            let volumes = VolumeRegistry::new();
            EmbeddedStore::open(StoreConfig { dir, options, disk, clock, entropy, volumes }).await
        };
        let (store, report) = self.stepper.block_on(opening, || false)?;
        for number in 0..2 {
            store.volume_available(&volume(number), true);
        }
        Ok((store, report))
    }

    /// Ends what runs: tasks are dropped, and what they held of the disk is dead.
    pub(crate) fn end(&mut self, end: End) {
        for task in self.stepper.tasks() {
            self.stepper.drop_task(task);
        }
        match end {
            End::PowerCut => self.disk.crash(),
            End::Kill | End::Close => self.disk.kill(),
        }
        self.disk.crash_at(u64::MAX);
    }
}

impl Records {
    pub(crate) fn new(seed: u64, options: EngineOptions) -> Self {
        Self::open(World::new(seed, options))
            .map_err(|failed| failed.1)
            .expect("because nothing is wrong yet")
    }

    /// On failure the world is handed back, with what went wrong.
    pub(crate) fn open(mut world: World) -> Result<Self, Box<(World, Error)>> {
        match world.open_store() {
            Ok((store, report)) => Ok(Self { world, store, report }),
            Err(why) => Err(Box::new((world, why))),
        }
    }

    /// Ends this life.
    pub(crate) fn end(mut self, end: End) -> World {
        if end == End::Close {
            self.call(|store| async move { store.shutdown().await }).expect("because nothing is wrong");
        }
        let Self { mut world, store, .. } = self;
        drop(store);
        world.end(end);
        world
    }

    /// Ends this life and begins the next.
    pub(crate) fn restart(self, end: End) -> Self {
        match Self::open(self.end(end)) {
            Ok(records) => records,
            Err(failed) => panic!("refused to open: {:?}", failed.1),
        }
    }

    /// Runs a call to its end, committer and keeper beside it. Time stands still.
    pub(crate) fn call<T, F: Future<Output = T>>(&mut self, call: impl FnOnce(Arc<EmbeddedStore>) -> F) -> T {
        let store = self.store.clone();
        let mut idle = 0;
        let step = move || {
            idle = if store.commit_step() | store.keep_step() { 0 } else { idle + 1 };
            idle < 4 // a step that failed wakes those who wait for it, and says that it did nothing
        };
        let call = call(self.store.clone());
        self.world.stepper.block_on(call, step)
    }

    /// Steps of tasks, committer and keeper until nobody has anything to do.
    pub(crate) fn settle(&mut self) {
        loop {
            self.world.stepper.run_until_idle();
            if !(self.store.commit_step() | self.store.keep_step()) && !self.world.stepper.step() {
                break;
            }
        }
    }

    /// Keeps barriers and checkpoints running beside the calls, as a program does.
    pub(crate) fn run_background(&mut self) {
        let store = self.store.clone();
        self.world.stepper.spawn(async move { store.run_barriers().await });
        let store = self.store.clone();
        self.world.stepper.spawn(async move { store.run_checkpoints().await });
    }

    /// Lets time pass, at most `step` at a time, and everybody do what is due meanwhile.
    pub(crate) fn pass(&mut self, time: Duration, step: Duration) {
        let end = self.world.clock_now() + time;
        while self.world.clock_now() < end {
            self.world.advance(step.min(end - self.world.clock_now()));
            self.settle();
        }
    }

    pub(crate) fn try_put(&mut self, files: Vec<NewFile>) -> Result<Vec<FileKey>> {
        self.call(|store| async move { put(&store, files).await })
    }

    pub(crate) fn put(&mut self, file: NewFile) -> FileKey {
        self.try_put(vec![file]).unwrap()[0]
    }

    pub(crate) fn write(&mut self) -> FileKey {
        self.put(new_file())
    }

    /// Brings everything pending into the kernel, and syncs nothing.
    pub(crate) fn write_in_passing(&mut self) {
        let mut passing = Box::pin(self.store.reaped(&[])); // waits until all is written
        assert!(crate::bench::poll_once(passing.as_mut()).is_ready());
    }

    /// Files of `tenant-0`, in batches that one record takes.
    pub(crate) fn write_many(&mut self, count: usize) -> Vec<FileKey> {
        let mut keys = Vec::new();
        while keys.len() < count {
            let batch = (count - keys.len()).min(1_000);
            keys.extend(self.try_put((0..batch).map(|_| new_file()).collect()).unwrap());
        }
        keys
    }

    pub(crate) fn try_lease(&mut self, max: usize, options: LeaseOptions) -> Result<Vec<Leased>> {
        self.call(|store| async move { store.lease(&tenant(0), max, &options).await })
    }

    pub(crate) fn lease_with(&mut self, options: LeaseOptions) -> Option<Leased> {
        self.try_lease(1, options).unwrap().pop()
    }

    pub(crate) fn lease(&mut self) -> Option<Leased> {
        self.lease_with(LeaseOptions::new())
    }

    pub(crate) fn batch(&mut self, max: usize) -> Vec<Leased> {
        self.try_lease(max, LeaseOptions::new()).unwrap()
    }

    pub(crate) fn lease_any(&mut self) -> Result<Option<Leased>> {
        let leased = self.call(|store| async move { store.lease_any(1, &LeaseOptions::new(), &|_| 1).await });
        leased.map(|mut leased| leased.pop())
    }

    pub(crate) fn complete(&mut self, lease: &Lease) -> Result<()> {
        let lease = lease.clone();
        self.call(|store| async move { store.complete(&[lease]).await })
    }

    pub(crate) fn fail(&mut self, lease: &Lease) -> Result<FailOutcome> {
        let lease = lease.clone();
        self.call(|store| async move { store.fail(&lease, "it did not work").await })
    }

    pub(crate) fn renew(&mut self, lease: &Lease) -> Result<Lease> {
        let lease = lease.clone();
        self.call(|store| async move { store.renew(&lease, None).await })
    }

    pub(crate) fn release(&mut self, lease: &Lease) -> Result<()> {
        let lease = lease.clone();
        self.call(|store| async move { store.release(&lease).await })
    }

    pub(crate) fn expire(&mut self) -> usize {
        self.call(|store| async move { store.expire(None, usize::MAX).await }).unwrap()
    }

    pub(crate) fn sync(&mut self) {
        self.call(|store| async move { store.sync().await }).unwrap();
    }

    pub(crate) fn checkpoint(&mut self) -> Result<()> {
        self.call(|store| async move { store.checkpoint().await })
    }

    /// Removes the records of everything that is over, as a sweeper does once the bytes are gone. Says how many.
    pub(crate) fn reap(&mut self) -> usize {
        self.sync();
        let mut reaped = 0;
        loop {
            let files = self.call(|store| async move {
                let files = store.reapable(None, 1_000).await?;
                store.reaped(&files).await?;
                Ok::<_, Error>(files)
            });
            match files.unwrap().len() {
                0 => return reaped,
                some => reaped += some,
            }
        }
    }

    pub(crate) fn record_of(&mut self, of: usize, key: FileKey) -> Option<FileRecord> {
        self.call(|store| async move { store.get(&tenant(of), &key).await }).unwrap()
    }

    pub(crate) fn record(&mut self, key: FileKey) -> Option<FileRecord> {
        self.record_of(0, key)
    }

    pub(crate) fn status(&mut self, key: FileKey) -> Option<FileStatus> {
        self.record(key).map(|record| record.info.status)
    }

    /// Counts of `tenant-0`.
    pub(crate) fn counts(&self) -> TenantCounts {
        self.store.counts().get(&tenant(0)).copied().unwrap_or_default()
    }

    pub(crate) fn used(&self, scope: &Scope) -> u64 {
        self.store.usage(scope).files
    }
}
