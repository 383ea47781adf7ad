//! The engine without pool and volumes: records only, for figures about the store itself.

use std::{path::Path, sync::Arc};

use locus_core::{
    Checksum, FileKey, LogicalDir, MetadataStore, NewContent, NewFile, Properties, Reserved, StoragePath,
    SystemClock, SystemEntropy, TenantId, Upkeep, VolumeId,
};
use locus_fs::{OsDisk, create_dirs};
use locus_storage::{EmbeddedStore, EngineOptions, EngineThreads, OpenReport, StoreConfig, VolumeRegistry};
use tokio::task::JoinSet;

use crate::BoxError;

/// The volume on which all contents are said to be.
pub const VOLUME: &str = "vol-001";

/// Files of one accept while a store is filled.
const FILL_BATCH: u64 = 1_000;

/// An open store with its threads and loops, and one tenant whose files have records and no content.
#[derive(Debug)]
pub struct Engine {
    /// The store.
    pub store: Arc<EmbeddedStore>,
    /// What opening it found.
    pub report: OpenReport,
    /// Whose files.
    pub tenant: TenantId,
    volume: VolumeId,
    owner: StoragePath,
    threads: EngineThreads,
    loops: JoinSet<()>,
}

impl Engine {
    /// Opens or makes a store in `dir`. Checkpoints are taken when they are due only if `checkpoints`.
    ///
    /// # Errors
    /// What the store says.
    pub async fn open(dir: &Path, options: EngineOptions, checkpoints: bool) -> Result<Self, BoxError> {
        create_dirs(&OsDisk, dir)?;
        EmbeddedStore::identify(dir, &OsDisk, &SystemEntropy)?;
        let config = StoreConfig {
            dir: dir.into(),
            options,
            disk: Arc::new(OsDisk),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            volumes: VolumeRegistry::new(),
        };
        let (store, report) = EmbeddedStore::open(config).await?;
        let volume = VolumeId::parse(VOLUME)?;
        store.volume_available(&volume, true);
        let threads = store.spawn_threads()?;
        let mut loops = JoinSet::new();
        let barriers = Arc::clone(&store);
        loops.spawn(async move { barriers.run_barriers().await });
        if checkpoints {
            let due = Arc::clone(&store);
            loops.spawn(async move { due.run_checkpoints().await });
        }
        let (tenant, owner) = (TenantId::parse("acme")?, StoragePath::parse("acme")?);
        Ok(Self { store, report, tenant, volume, owner, threads, loops })
    }

    /// Accepts `count` files with 32-byte names by one record.
    ///
    /// # Errors
    /// What the store says.
    pub async fn accept(&self, count: u64) -> Result<Vec<FileKey>, BoxError> {
        let root = LogicalDir::root();
        let mut files = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let Reserved::Room(room) = self.store.reserve(&self.tenant, &root, None).await? else {
                return Err("a write without a name was known".into());
            };
            let mut name = room.key().to_string(); // 36 bytes
            name.replace_range(28.., ".txt");
            let file = NewFile {
                tenant: self.tenant.clone(),
                owner: self.owner.clone(),
                directory: root.clone(),
                original_name: Some(name),
                properties: Properties::default(),
                size: 1_024,
                checksum: Checksum::from_bytes([7; 32]),
                content: NewContent::Stored { volume: self.volume.clone(), synced: true },
                idempotency: None,
            };
            files.push((file, room));
        }
        Ok(self.store.accept(files).await?)
    }

    /// Accepts `count` files, many by one record. Gives every thousandth key.
    ///
    /// # Errors
    /// What the store says.
    pub async fn fill(&self, count: u64) -> Result<Vec<FileKey>, BoxError> {
        let mut some = Vec::new();
        let mut left = count;
        while left > 0 {
            let batch = left.min(FILL_BATCH);
            some.extend(self.accept(batch).await?.first());
            left -= batch;
        }
        Ok(some)
    }

    /// Lets the records of completed files go, now: there are no bytes to be removed.
    ///
    /// # Errors
    /// What the store says.
    pub async fn reap(&self) -> Result<(), BoxError> {
        self.store.sync().await?;
        self.reap_ready().await
    }

    /// Lets the records go of those files whose completion is durable.
    ///
    /// # Errors
    /// What the store says.
    pub async fn reap_ready(&self) -> Result<(), BoxError> {
        loop {
            let files = self.store.reapable(256).await?;
            if files.is_empty() {
                return Ok(());
            }
            self.store.reaped(&files).await?;
        }
    }

    /// Closes the store.
    ///
    /// # Errors
    /// What the store says.
    pub async fn close(self) -> Result<(), BoxError> {
        let Self { store, threads, mut loops, .. } = self;
        loops.shutdown().await;
        store.shutdown().await?;
        tokio::task::spawn_blocking(move || threads.stop()).await?;
        Ok(())
    }

    /// Dies: nothing is said on the disk, what was written stays as it is.
    ///
    /// # Errors
    /// When a thread cannot be joined.
    pub async fn abandon(self) -> Result<(), BoxError> {
        let Self { threads, mut loops, .. } = self;
        loops.shutdown().await;
        tokio::task::spawn_blocking(move || threads.stop()).await?;
        Ok(())
    }
}
