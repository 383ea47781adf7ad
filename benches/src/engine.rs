//! The engine without pool and volumes: records, and contents in the journal, for figures about the store itself.

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use locus_core::{
    Checksum, FileKey, Landing, LeaseOptions, LogicalDir, MetadataStore, NewContent, NewFile, Properties,
    Reserved, StoragePath, SystemClock, SystemEntropy, TenantId, Upkeep, VolumeId,
};
use locus_fs::{OsDisk, create_dirs};
use locus_storage::{EmbeddedStore, EngineOptions, EngineThreads, OpenReport, StoreConfig, VolumeRegistry};
use tokio::task::JoinSet;

use crate::BoxError;

/// The volume on which all contents are said to be.
pub const VOLUME: &str = "vol-001";

/// Files of one accept while a store is filled.
const FILL_BATCH: u64 = 1_000;
/// The same with contents: each takes its room before the record does, and a fresh store's segments are small.
const CONTENTS_BATCH: u64 = 128;

/// An open store with its threads and loops, and one tenant.
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
        let forwarder = Arc::clone(&store);
        loops.spawn(async move { forwarder.run_forwarder().await });
        let barriers = Arc::clone(&store);
        loops.spawn(async move { barriers.run_barriers().await });
        if checkpoints {
            let due = Arc::clone(&store);
            loops.spawn(async move { due.run_checkpoints().await });
        }
        let (tenant, owner) = (TenantId::parse("acme")?, StoragePath::parse("acme")?);
        Ok(Self { store, report, tenant, volume, owner, threads, loops })
    }

    /// Accepts `count` files with 32-byte names by one record: with this content in the journal, or none and the word that
    /// it is on a volume.
    ///
    /// # Errors
    /// What the store says.
    pub async fn accept(&self, count: u64, content: Option<&Bytes>) -> Result<Vec<FileKey>, BoxError> {
        let root = LogicalDir::root();
        self.accept_in(std::iter::repeat_n(&root, count as usize), content).await
    }

    /// As [`accept`](Self::accept), a file in each of these directories.
    ///
    /// # Errors
    /// What the store says.
    pub async fn accept_in(
        &self,
        directories: impl ExactSizeIterator<Item = &LogicalDir>,
        content: Option<&Bytes>,
    ) -> Result<Vec<FileKey>, BoxError> {
        let size = content.map_or(1_024, |bytes| bytes.len() as u64);
        let checksum = content.map_or(Checksum::from_bytes([7; 32]), |bytes| Checksum::of(bytes));
        let mut files = Vec::with_capacity(directories.len());
        for directory in directories {
            let Reserved::Room(room) = self.store.reserve(&self.tenant, directory, None, None).await? else {
                return Err("a write without a name was known".into());
            };
            let mut name = room.key().to_string(); // 36 bytes
            name.replace_range(28.., ".txt");
            let file = NewFile {
                tenant: self.tenant.clone(),
                owner: self.owner.clone(),
                directory: directory.clone(),
                original_name: Some(name),
                properties: Properties::default(),
                size,
                checksum,
                content: match content {
                    Some(bytes) => {
                        NewContent::Inline { bytes: bytes.clone(), landing: self.land(size).await? }
                    }
                    None => NewContent::Stored { volume: self.volume.clone(), synced: true },
                },
                seal: None,
                astray: Vec::new(),
                idempotency: None,
            };
            files.push((file, room));
        }
        Ok(self.store.accept(files).await?)
    }

    async fn land(&self, bytes: u64) -> Result<Landing, BoxError> {
        self.store.land(bytes).await.ok_or_else(|| "the journal has no room for contents".into())
    }

    /// How many files with this content one record takes.
    #[must_use]
    pub fn together_max(&self, content: &Bytes) -> u64 {
        self.store.inline_limits().batch_bytes_max / content.len().max(1) as u64
    }

    /// Accepts `count` files, many by one record. Gives the first key of each record.
    ///
    /// # Errors
    /// What the store says.
    pub async fn fill(&self, count: u64, content: Option<&Bytes>) -> Result<Vec<FileKey>, BoxError> {
        let mut some = Vec::new();
        let mut left = count;
        let most = content.map_or(FILL_BATCH, |bytes| self.together_max(bytes).clamp(1, CONTENTS_BATCH));
        while left > 0 {
            let batch = left.min(most);
            some.extend(self.accept(batch, content).await?.first());
            left -= batch;
        }
        Ok(some)
    }

    /// Leases, completes and lets go whatever is pending, many at a time.
    ///
    /// # Errors
    /// What the store says.
    pub async fn drain(&self) -> Result<(), BoxError> {
        let lease = LeaseOptions::new();
        loop {
            let leased = self.store.lease(&self.tenant, FILL_BATCH as usize, &lease).await?;
            if leased.is_empty() {
                return self.reap().await;
            }
            let leases = leased.into_iter().map(|file| file.lease).collect::<Vec<_>>();
            self.store.complete(&leases).await?;
        }
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
            let files = self.store.reapable(None, 256).await?;
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
