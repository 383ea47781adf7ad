//! A whole engine on a simulated disk and clock: volumes, tenants, store, pool, scheduler, sweeper, driven step by step.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use locus_cleanup::Sweeper;
use locus_core::{BlobPath, Clock, Result, TenantContext, TenantId, VolumeSet};
use locus_fs::{LocalVolume, VolumeContext, VolumeSpec, create_dirs};
use locus_storage::{
    EmbeddedStore, EngineOptions, FileScheduler, OpenReport, StoragePool, StoreConfig, VolumeRegistry,
};
use locus_tenant::TenantDirectory;
use locus_testkit::{ManualClock, SeededEntropy, SimDisk, Stepper};

/// What survives a crash: the disk, and the world's own clock and dice.
pub struct World {
    pub disk: Arc<SimDisk>,
    pub clock: Arc<ManualClock>,
    pub entropy: Arc<SeededEntropy>,
    pub options: EngineOptions,
    pub stepper: Stepper,
    pub volumes: usize,
    pub tenants: usize,
}

/// An engine that is open.
pub struct Engine {
    pub store: Arc<EmbeddedStore>,
    pub pool: StoragePool,
    pub scheduler: FileScheduler,
    pub sweeper: Sweeper,
    pub registry: Arc<VolumeRegistry>,
    pub directory: Arc<TenantDirectory>,
    pub tenants: Vec<TenantContext>,
    pub report: OpenReport,
}

impl World {
    pub fn new(seed: u64, options: EngineOptions) -> Self {
        let disk = SimDisk::new(seed);
        disk.set_twin_names(false);
        Self {
            disk,
            clock: ManualClock::new(),
            entropy: Arc::new(SeededEntropy::new(seed)),
            options,
            stepper: Stepper::new(seed),
            volumes: 2,
            tenants: 2,
        }
    }

    /// Opens everything there is, in the order in which a program would.
    pub fn open(&mut self) -> Result<Engine> {
        let (disk, clock, entropy) = (self.disk.clone(), self.clock.clone(), self.entropy.clone());
        let (options, volumes, tenants) = (self.options.clone(), self.volumes, self.tenants);
        let opening = async move {
            let dir = PathBuf::from("/data");
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
                let spec = LocalVolume::new(format!("vol-{n}"), format!("/vol-{n}"));
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
            let pool = StoragePool::new(
                store.clone(),
                registry.clone(),
                directory.clone(),
                context,
                options.durability,
            );
            let scheduler = FileScheduler::new(store.clone(), directory.clone(), pool.clone());
            let sweeper = Sweeper::new(store.clone(), registry.clone(), clock.clone());
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
    pub fn run<T>(&mut self, engine: &Engine, call: impl Future<Output = T>) -> T {
        let store = engine.store.clone();
        self.stepper.block_on(call, move || store.commit_step() | store.keep_step())
    }

    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    pub fn clock_now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub fn below(&self, bound: u64) -> u64 {
        self.entropy.below(bound)
    }

    pub fn chance(&self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

impl Engine {
    /// Every blob on every volume.
    pub async fn blobs(&self) -> Result<Vec<BlobPath>> {
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
