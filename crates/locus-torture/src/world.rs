//! A whole engine on a simulated disk and clock: volumes, tenants, store, pool, scheduler, sweeper and watchers, driven step by
//! step.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use locus_cleanup::{MissingPolicy, OrphanPolicy, SweepSettings, Sweeper};
use locus_core::{
    Area, BlobPath, Clock, Durability, Entropy, Error, FileKey, Result, Sealer, TenantContext, TenantId,
    VolumeSet,
};
use locus_fs::{VolumeContext, create_dirs};
use locus_storage::{
    EmbeddedStore, EngineOptions, FileScheduler, OpenReport, StoragePool, StoreConfig, VolumeRegistry,
};
use locus_tenant::TenantDirectory;
use locus_testkit::{ManualClock, SeededEntropy, SimDisk, Stepper, TaskId};
use locus_vault::{Argon2Cost, Keyring, KeyringFile, NewRecipient, Passphrase, PoolSealer};
use locus_watcher::{FileWatchers, WatchersOptions};

use crate::{
    inbox::{Inbox, InboxIntake},
    volumes,
};

/// The data directory: not in the root, whose names are synced for the volumes.
pub(crate) const DATA: &str = "/srv/data";

/// The journal in it.
pub(crate) const JOURNAL: &str = "/srv/data/journal";

/// What watchers keep.
pub(crate) const WATCHERS: &str = "/srv/data/watchers";

/// Steps in a row that do nothing before everybody is taken to be stuck: a step that failed wakes those who wait for it,
/// and says that it did nothing.
const IDLE_STEPS_MAX: u32 = 4;

/// Blobs that no record names are dealt with as soon as they are found, and records whose bytes are gone removed.
fn sweep_at_once(orphans: OrphanPolicy) -> SweepSettings {
    let mut settings = SweepSettings::default();
    (settings.orphans.age, settings.orphans.policy) = (Duration::ZERO, orphans);
    // Whatever takes bytes for missing that are there loses a file that the model knows.
    settings.missing.policy = MissingPolicy::Remove;
    settings
}

/// What outlives a crash: the disk, and the world's own clock and dice.
#[derive(Debug)]
pub struct World {
    /// The disk below everything.
    pub disk: Arc<SimDisk>,
    /// The clock that everybody asks.
    pub clock: Arc<ManualClock>,
    entropy: Arc<SeededEntropy>,
    drawn: Arc<Drawn>,
    /// Of every opening.
    pub options: EngineOptions,
    stepper: Stepper,
    /// How many volumes are mounted.
    pub volumes: usize,
    /// Whether the first of them is a mirror of two, and how many of those must have a content.
    pub mirrored: Option<usize>,
    /// How many tenants there are.
    pub tenants: usize,
    /// Whether checkpoints, copies forward and spills also run by themselves, beside the calls.
    pub background: bool,
    /// Whether operations of the disk fail now and then.
    pub faults: bool,
    /// How many in a hundred of its ends leave what the kernel has: the process died and the power did not go.
    pub killed: u64,
    /// What is below this path is being synced when a life ends, mostly; without it any operation is as good.
    pub aim: Option<&'static str>,
    /// What becomes of blobs that no record names. Files are made of them only after a crash, when nobody else writes.
    pub orphans: OrphanPolicy,
    /// Folders that are watched, in some worlds.
    pub inbox: Option<Arc<Inbox>>,
    /// The keys that everything is sealed with, in some worlds.
    pub rings: Option<Arc<Rings>>,
    /// Whether each call is told on stderr, with its answer.
    pub trace: bool,
}

/// So many keys follow each other in a sealed world.
const KEYS: usize = 6;

/// The keys that an engine drew, whether somebody was told them or not.
#[derive(Debug, Default)]
struct Drawn(parking_lot::Mutex<Vec<FileKey>>);

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

/// One ring in the states that follow each other, each with one key more, and the one that is used. What crashes goes on with
/// it: it opens what was sealed before.
#[derive(Debug)]
pub struct Rings {
    states: Vec<Arc<Keyring>>,
    now: AtomicUsize,
}

impl Rings {
    fn now(&self) -> Arc<Keyring> {
        self.states[self.now.load(Ordering::Relaxed)].clone()
    }

    /// The next one, as long as there is one.
    pub(crate) fn next(&self) -> Arc<Keyring> {
        let next = self.now.load(Ordering::Relaxed) + 1;
        self.now.store(next.min(self.states.len() - 1), Ordering::Relaxed);
        self.now()
    }
}

/// What seals everything that an engine takes in.
#[derive(Debug)]
pub(crate) struct Seals {
    pub(crate) sealer: PoolSealer,
    pub(crate) rings: Arc<Rings>,
}

/// An engine that is open.
#[derive(Debug)]
pub struct Engine {
    pub(crate) disk: Arc<SimDisk>,
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) pool: StoragePool,
    pub(crate) scheduler: FileScheduler,
    pub(crate) sweeper: Sweeper,
    /// Removes blobs that no record names.
    pub(crate) remover: Sweeper,
    /// Makes files of them.
    pub(crate) importer: Option<Sweeper>,
    pub(crate) registry: Arc<VolumeRegistry>,
    pub(crate) directory: Arc<TenantDirectory>,
    pub(crate) tenants: Vec<TenantContext>,
    /// Watched folders, and those who watch them.
    pub(crate) inbox: Option<(Arc<Inbox>, FileWatchers)>,
    /// Whether the first volume is a mirror, and its quorum.
    pub(crate) mirrored: Option<usize>,
    /// What seals everything, in some worlds.
    pub(crate) seals: Option<Seals>,
    pub(crate) report: OpenReport,
}

/// Nobody can go on: everybody waits for somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck;

impl World {
    /// A world without an engine.
    #[must_use]
    pub fn new(seed: u64, options: EngineOptions, twin_names: bool) -> Self {
        let disk = SimDisk::new(seed);
        disk.set_twin_names(twin_names);
        Self {
            disk,
            clock: ManualClock::new(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            drawn: Arc::default(),
            options,
            stepper: Stepper::new(seed),
            volumes: 2,
            mirrored: None,
            tenants: 3,
            background: false,
            faults: false,
            killed: 30,
            aim: None,
            orphans: OrphanPolicy::Delete,
            inbox: None,
            rings: None,
            trace: false,
        }
    }

    /// Opens everything there is, in the order in which a program would.
    ///
    /// # Errors
    /// What any of them says.
    pub fn open(&mut self) -> Result<Rc<Engine>> {
        let (disk, clock) = (self.disk.clone(), self.clock.clone());
        let (dice, drawn) = (self.entropy.clone(), self.drawn.clone());
        let entropy = Arc::new(Watched { dice, clock: self.clock.clone(), drawn });
        let (options, count, tenants) = (self.options.clone(), self.volumes, self.tenants);
        let (mirrored, orphans, inbox) = (self.mirrored, self.orphans, self.inbox.clone());
        let rings = self.rings.clone();
        let opening = async move {
            let dir = PathBuf::from(DATA);
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
            for n in 0..count {
                registry.insert(volumes::spec(n, mirrored).open(context.clone()).await?)?;
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
            let durability = options.durability;
            let seals =
                rings.map(|rings| Seals { sealer: PoolSealer::new(id, rings.now(), entropy.clone()), rings });
            let sealer = seals.as_ref().map(|seals| Arc::new(seals.sealer.clone()) as Arc<dyn Sealer>);
            let (book, tenants_of) = (store.clone(), directory.clone());
            let pool =
                StoragePool::sealed_by(book, registry.clone(), tenants_of, context, durability, sealer);
            let scheduler = FileScheduler::new(store.clone(), directory.clone(), pool.clone());
            let sweeper = |policy| {
                Sweeper::new(store.clone(), registry.clone(), clock.clone())
                    .with_settings(sweep_at_once(policy))
            };
            let remover = sweeper(OrphanPolicy::Delete);
            let (sweeper, importer) = match orphans {
                OrphanPolicy::Import => {
                    let importer = sweeper(OrphanPolicy::Import).with_disposal(Arc::new(pool.clone()));
                    (sweeper(OrphanPolicy::Delete), Some(importer))
                }
                policy => (sweeper(policy), None),
            };
            let mut contexts = Vec::new();
            for n in 0..tenants {
                let id = TenantId::parse(&format!("tenant-{n}"))?;
                contexts.push(TenantContext::from(&*directory.ensure(&id, BTreeMap::new()).await?));
            }
            let tenants = contexts;
            let inbox = match inbox {
                None => None,
                Some(inbox) => {
                    let (disk, pool, store) = (disk.clone(), pool.clone(), store.clone());
                    let intake = InboxIntake {
                        inbox: inbox.clone(),
                        disk: disk.clone(),
                        pool,
                        store,
                        tenants: tenants.clone(),
                        durability,
                    };
                    let watchers = FileWatchers::open(WatchersOptions {
                        dir: PathBuf::from(WATCHERS),
                        disk,
                        clock,
                        intake: Arc::new(intake),
                        described: inbox.described(),
                        durable: durability == Durability::Durable,
                        in_place: true,
                    });
                    Some((inbox, watchers.await?))
                }
            };
            Ok::<_, Error>(Engine {
                disk,
                store,
                pool,
                scheduler,
                sweeper,
                importer,
                remover,
                registry,
                directory,
                tenants,
                inbox,
                mirrored,
                seals,
                report,
            })
        };
        self.stepper.block_on(opening, || false).map(Rc::new)
    }

    /// Everything is sealed from the first opening on, with a new ring.
    ///
    /// # Errors
    /// None, on a disk of its own.
    ///
    /// # Panics
    /// Never.
    pub fn seal(&mut self) -> locus_vault::Result<()> {
        let file = KeyringFile::new(
            SimDisk::new(0),
            self.clock.clone(),
            Arc::new(SeededEntropy::new(!0)),
            PathBuf::from("/keyring"),
        );
        let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let secret = Passphrase::new(b"torture").expect("because it is not empty");
        let first = NewRecipient::passphrase("torture", secret).cost(cost);
        let making = async move {
            let mut states = vec![Arc::new(file.create(first).await?)];
            while let Some(last) = states.last().filter(|_| states.len() < KEYS) {
                let next = file.rotate(last).await?;
                states.push(Arc::new(next));
            }
            Ok::<_, locus_vault::VaultError>(states)
        };
        let states = self.stepper.block_on(making, || false)?;
        self.rings = Some(Arc::new(Rings { states, now: AtomicUsize::new(0) }));
        Ok(())
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.rings.is_some()
    }

    /// Lets checkpoints, copies forward and spills run beside the calls, as a program does, if this world is of that kind.
    pub fn begin_background(&mut self, engine: &Rc<Engine>) {
        if !self.background {
            return;
        }
        let at = engine.clone();
        self.stepper.spawn(async move { at.store.run_checkpoints().await });
        let at = engine.clone();
        self.stepper.spawn(async move { at.store.run_forwarder().await });
        let at = engine.clone();
        self.stepper.spawn(async move { at.pool.run_spiller().await });
    }

    /// Ends what runs. What it held of the disk is dead after the crash or kill that follows.
    pub fn drop_tasks(&mut self) {
        for task in self.stepper.tasks() {
            self.stepper.drop_task(task);
        }
    }

    /// Runs calls side by side until all have answered; the committer and the keeper take their steps whenever nobody
    /// else can go on.
    pub fn run_all<T: 'static>(
        &mut self,
        engine: &Rc<Engine>,
        calls: Vec<impl Future<Output = T> + 'static>,
    ) -> Vec<Result<T, Stuck>> {
        let answers: Rc<RefCell<Vec<Option<T>>>> = Rc::new(RefCell::new(Vec::new()));
        answers.borrow_mut().resize_with(calls.len(), || None);
        let mut tasks: Vec<TaskId> = Vec::new();
        for (number, call) in calls.into_iter().enumerate() {
            let answers = answers.clone();
            tasks.push(self.stepper.spawn(async move {
                let answer = call.await;
                answers.borrow_mut()[number] = Some(answer);
            }));
        }
        let mut idle = 0;
        while answers.borrow().iter().any(Option::is_none) && idle < IDLE_STEPS_MAX {
            // The committer is a thread of its own: now and then it is faster than everybody.
            let commits = self.chance(20) && engine.store.commit_step();
            if commits | self.stepper.step() | engine.store.commit_step() | engine.store.keep_step() {
                idle = 0;
            } else {
                idle += 1;
            }
        }
        for task in tasks {
            self.stepper.drop_task(task);
        }
        answers.take().into_iter().map(|answer| answer.ok_or(Stuck)).collect()
    }

    /// Runs one call.
    ///
    /// # Errors
    /// [`Stuck`].
    pub fn run<T: 'static>(
        &mut self,
        engine: &Rc<Engine>,
        call: impl Future<Output = T> + 'static,
    ) -> Result<T, Stuck> {
        self.run_all(engine, vec![call]).pop().unwrap_or(Err(Stuck))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// Now, by the clock that only goes forward.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// A number below `bound`.
    #[must_use]
    pub fn below(&self, bound: u64) -> u64 {
        self.entropy.below(bound)
    }

    /// True so often in a hundred times.
    #[must_use]
    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn choose<T: Copy>(&self, of: &[T]) -> T {
        of[self.index(of.len())]
    }

    /// A place among so many.
    #[must_use]
    pub fn index(&self, of: usize) -> usize {
        usize::try_from(self.below(of as u64)).expect("because it is below a usize")
    }

    /// So many bytes of noise.
    #[must_use]
    pub fn noise(&self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.entropy.fill(&mut bytes);
        bytes
    }

    /// The keys drawn since the last time.
    #[must_use]
    pub fn take_drawn(&self) -> Vec<FileKey> {
        std::mem::take(&mut self.drawn.0.lock())
    }
}

impl Engine {
    /// The watched folders.
    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox.as_ref().expect("because only worlds with watched folders use them").0
    }

    /// Every blob on every volume, but for those in quarantine.
    pub(crate) async fn blobs(&self) -> Result<Vec<BlobPath>> {
        let mut blobs = Vec::new();
        for volume in self.registry.all() {
            let mut from = None;
            loop {
                let page = volume.list(None, from.as_ref(), 100).await?;
                let paths = page.blobs.into_iter().map(|blob| blob.path);
                blobs.extend(paths.filter(|path| path.area != Area::Quarantine));
                match page.next {
                    Some(next) => from = Some(next),
                    None => break,
                }
            }
        }
        Ok(blobs)
    }
}
