//! What a model runs in: a journal or a whole store on a [`SteppedDisk`], with committer and keeper beside it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use locus_core::{
    Checksum, FileKey, LogicalDir, Lsn, MetadataStore, NewContent, NewFile, Properties, Reservation,
    Reserved, Result, StoragePath, StoreId, TenantId, VolumeId,
};
use locus_fs::create_dirs;
use locus_testkit::{ManualClock, SeededEntropy};
use shuttle::{
    future::{self, block_on},
    rand::{self, Rng},
    thread::{self, JoinHandle},
};

use crate::{
    EngineOptions, VolumeRegistry,
    disk::SteppedDisk,
    journal::{Journal, JournalConfig, Resume},
    store::{EmbeddedStore, EngineThreads, StoreConfig},
    sync::point,
    time::StoreClock,
};

/// Bytes by which a record or a content is found on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark([u8; 8]);

impl Mark {
    pub(crate) fn new(task: u8, number: u8) -> Self {
        Self([0xf7, b'm', b'a', b'r', b'k', task, number, 0x7f])
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

// ---- a journal alone --------------------------------------------------------------------------------------------------

/// A journal and its threads.
pub(crate) struct Log {
    pub(crate) disk: Arc<SteppedDisk>,
    pub(crate) journal: Arc<Journal>,
    threads: Vec<JoinHandle<()>>,
}

impl Log {
    /// A fresh journal with segments of `segment_size` bytes, for which nobody works yet.
    pub(crate) fn new(segment_size: u64, pending_bytes_max: u64) -> Self {
        let disk = SteppedDisk::new();
        let config = JournalConfig {
            disk: disk.clone(),
            dir: PathBuf::from("/"),
            store: StoreId::from_bytes([7; 16]),
            entropy: Arc::new(SeededEntropy::new(1)),
            segment_size_min: segment_size,
            segment_size,
            zone_bytes_max: 64 * segment_size,
            pending_bytes_max,
            max_unsynced_bytes: 1 << 20,
        };
        let clock = Arc::new(StoreClock::resume(ManualClock::new(), None, Duration::ZERO));
        let resume = Resume { first: Lsn(1), ..Resume::default() };
        let journal = Journal::start(config, clock, resume).expect("because the disk is fresh");
        Self { disk, journal, threads: Vec::new() }
    }

    pub(crate) fn with_committer(mut self) -> Self {
        let journal = Arc::clone(&self.journal);
        self.threads.push(thread::spawn(move || journal.commit_until_stopped()));
        self
    }

    pub(crate) fn with_keeper(mut self) -> Self {
        let journal = Arc::clone(&self.journal);
        self.threads.push(thread::spawn(move || journal.keep_until_stopped()));
        self
    }

    /// Ends the threads.
    pub(crate) fn stop(&mut self) {
        self.journal.commit_signal.stop();
        self.journal.keep_signal.stop();
        self.threads.drain(..).for_each(join);
    }

    /// The bodies of all records that the segments hold, in their order, each with its LSN.
    pub(crate) fn read_back(&self) -> Vec<(Lsn, Vec<u8>)> {
        let mut records = Vec::new();
        for segment in self.journal.pin_all() {
            let read = segment.records(|record, _| {
                records.push((record.head.lsn, record.body.to_vec()));
                Ok(())
            });
            read.expect("because the disk reads");
        }
        records
    }
}

// ---- a store ----------------------------------------------------------------------------------------------------------

/// A store and its threads.
pub(crate) struct World {
    pub(crate) disk: Arc<SteppedDisk>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Arc<EmbeddedStore>,
    threads: Option<EngineThreads>,
}

impl World {
    /// A fresh store, for which nobody works yet.
    pub(crate) fn new(options: EngineOptions) -> Self {
        let (disk, clock) = (SteppedDisk::new(), ManualClock::new());
        let entropy = Arc::new(SeededEntropy::new(1));
        let dir = PathBuf::from("/data");
        let config = StoreConfig {
            dir: dir.clone(),
            options,
            disk: disk.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            volumes: VolumeRegistry::new(),
        };
        let opening = async {
            create_dirs(&*disk, &dir)?;
            EmbeddedStore::identify(&dir, &*disk, &*entropy)?;
            EmbeddedStore::open(config).await
        };
        let (store, _) = block_on(opening).expect("because the disk is fresh");
        store.volume_available(&volume(), true);
        Self { disk, clock, store, threads: None }
    }

    /// With committer and keeper.
    pub(crate) fn with_threads(mut self) -> Self {
        self.threads = Some(self.store.spawn_threads().expect("because the scheduler gives threads"));
        self
    }

    /// Ends the threads.
    pub(crate) fn stop(&mut self) {
        self.threads.take().expect("because there are threads").stop();
    }
}

pub(crate) fn join(thread: JoinHandle<()>) {
    thread.join().expect("because a task that fails ends the run");
}

/// A number that the scheduler draws, below `bound`.
pub(crate) fn below(bound: u64) -> u64 {
    rand::thread_rng().gen_range(0..bound)
}

/// Drops a task's future sooner or later, wherever it waits then.
pub(crate) fn vanish<T>(task: &future::JoinHandle<T>) {
    (0..below(40)).for_each(|_| point());
    task.abort();
}

pub(crate) fn tenant(number: usize) -> TenantId {
    TenantId::parse(&format!("tenant-{number}")).expect("because it is a name")
}

/// A volume that nobody opens: what is said to rest there is a record alone.
pub(crate) fn volume() -> VolumeId {
    VolumeId::parse("vol-0").expect("because it is a name")
}

/// Room for one file.
pub(crate) async fn room(store: &EmbeddedStore, tenant: &TenantId) -> Result<Reservation> {
    match store.reserve(tenant, &LogicalDir::root(), None, None).await? {
        Reserved::Room(room) => Ok(room),
        Reserved::Known(_) => unreachable!("no name was said"),
    }
}

/// A file of which only the record is written.
pub(crate) fn file(tenant: &TenantId) -> NewFile {
    NewFile {
        tenant: tenant.clone(),
        owner: StoragePath::from(tenant),
        directory: LogicalDir::root(),
        original_name: None,
        properties: Properties::default(),
        size: 0,
        checksum: Checksum::of(b""),
        content: NewContent::Stored { volume: volume(), synced: true },
        seal: None,
        astray: Vec::new(),
        idempotency: None,
    }
}

/// Writes files whose contents rest in the journal: one record.
pub(crate) async fn write(
    store: &EmbeddedStore,
    tenant: &TenantId,
    contents: &[Bytes],
) -> Result<Vec<FileKey>> {
    let mut files = Vec::with_capacity(contents.len());
    for bytes in contents {
        let reservation = room(store, tenant).await?;
        let (size, checksum) = (bytes.len() as u64, Checksum::of(bytes));
        let landing = store.land(size).await.expect("because the landing zone is not full");
        let content = NewContent::Inline { bytes: bytes.clone(), landing };
        files.push((NewFile { size, checksum, content, ..file(tenant) }, reservation));
    }
    store.accept(files).await
}
