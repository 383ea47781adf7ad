//! An open store.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_cleanup::Sweeper;
use locus_core::{MetadataStore, Result, TenantContext};
use locus_fs::{Disk, OsDisk, off_thread};
use locus_storage::{EmbeddedStore, FileScheduler, OpenReport, StoragePool, StoreStatistics};
use locus_watcher::FileWatchers;
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::{
    background::Background,
    builder::Builder,
    cleanup::StorageCleanup,
    dead_letters::DeadLetters,
    inspect::{Inspection, inspect},
    mounts::MountNote,
    purge::Removing,
    quotas::Quotas,
    sealing::Seals,
    tenants::Tenants,
    threads::Threads,
    workers::{Source, Tools, Workers},
};

/// An open store. Cheap to clone, and usable from all threads; clones are the same store.
///
/// [`shutdown`](Self::shutdown) closes it and waits. When the last clone is dropped instead, it is closed in the
/// background without patience for workers; and where its runtime ends first, what was confirmed is there at the next
/// start, as after a kill.
#[derive(Clone)]
pub struct Locus {
    shared: Arc<Shared>,
}

/// The parts of an open store.
pub(crate) struct Opened {
    pub(crate) tools: Tools,
    pub(crate) engine: Arc<EmbeddedStore>,
    pub(crate) sweeper: Arc<Sweeper>,
    pub(crate) watchers: FileWatchers,
    pub(crate) report: OpenReport,
    pub(crate) disk: Arc<dyn Disk>,
    /// The data directory.
    pub(crate) dir: PathBuf,
    /// Only asked for with the feature `encryption`.
    #[cfg_attr(not(feature = "encryption"), expect(dead_code, reason = "there is nothing in it"))]
    pub(crate) seals: Seals,
}

/// What is to be stopped.
pub(crate) struct Running {
    pub(crate) background: Background,
    pub(crate) threads: Threads,
    pub(crate) note: MountNote,
    /// Where a dropped store is closed.
    pub(crate) runtime: Handle,
}

struct Shared {
    opened: Opened,
    /// `None` once the store is closed. Held while it is being closed, so that whoever asks again waits.
    running: tokio::sync::Mutex<Option<Running>>,
}

impl fmt::Debug for Locus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locus").field("store", &self.shared.opened.engine.id()).finish_non_exhaustive()
    }
}

impl Locus {
    /// Describes a store to be opened.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn new(opened: Opened, running: Running) -> Self {
        Self { shared: Arc::new(Shared { opened, running: tokio::sync::Mutex::new(Some(running)) }) }
    }

    /// Looks at a data directory without opening it: read-only, without the lock, also while another process runs on it.
    ///
    /// # Errors
    /// [`Error::Io`](locus_core::Error::Io) when there is no store; [`Error::Corrupt`](locus_core::Error::Corrupt) and
    /// [`Error::NewerFormat`](locus_core::Error::NewerFormat) name the place.
    pub async fn inspect(dir: impl AsRef<Path>) -> Result<Inspection> {
        let dir = dir.as_ref().to_path_buf();
        off_thread(&OsDisk, move || inspect(&Arc::new(OsDisk), &dir)).await
    }

    /// Creates, finds, switches and removes tenants.
    #[must_use]
    pub fn tenants(&self) -> Tenants {
        let Tools { gate, store, clock, .. } = self.tools();
        let (store, clock) = (Arc::clone(store), Arc::clone(clock));
        let (pool, sweeper) = (self.pool().clone(), Arc::clone(&self.shared.opened.sweeper));
        Tenants::new(Arc::clone(gate), Removing { store, pool, sweeper, clock })
    }

    /// Takes and reads content; mounts volumes.
    #[must_use]
    pub fn pool(&self) -> &StoragePool {
        &self.tools().pool
    }

    /// Leases files to workers.
    #[must_use]
    pub fn scheduler(&self) -> &FileScheduler {
        &self.tools().scheduler
    }

    /// Sets limits and tells usage.
    #[must_use]
    pub fn quotas(&self) -> Quotas {
        Quotas::new(Arc::clone(&self.tools().gate), Arc::clone(&self.tools().store))
    }

    /// Shows, requeues and purges files that failed for good.
    #[must_use]
    pub fn dead_letters(&self) -> DeadLetters {
        let Tools { gate, store, .. } = self.tools();
        let upkeep = self.shared.opened.engine.clone();
        DeadLetters::new(Arc::clone(gate), Arc::clone(store), upkeep, self.pool().clone())
    }

    /// The keys of a store that was opened with [`encrypt_with`](crate::Builder::encrypt_with).
    #[cfg(feature = "encryption")]
    #[must_use]
    pub fn encryption(&self) -> Option<crate::encryption::Encryption> {
        self.shared.opened.seals.encryption(&self.tools().store, self.pool())
    }

    /// Runs sweeps on demand.
    #[must_use]
    pub fn cleanup(&self) -> StorageCleanup {
        let Opened { sweeper, .. } = &self.shared.opened;
        StorageCleanup::new(Arc::clone(sweeper))
    }

    /// Watches folders, and brings in what comes to lie there.
    ///
    /// ```
    /// # use locus::prelude::*;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let temp = tempfile::tempdir()?;
    /// # let (data, inbox) = (temp.path().join("data"), temp.path().join("inbox"));
    /// # std::fs::create_dir(&inbox)?;
    /// # let locus = Locus::builder().data_dir(data).add_tenant("acme").build().await?;
    /// let id = locus.watchers().register(FileWatcherConfig::new(&inbox).tenant("acme")).await?;
    /// # std::fs::File::create(inbox.join("hello.txt"))?.set_len(5)?;
    /// let report = locus.watchers().scan_now(&id).await?;
    /// assert_eq!(report.imported, 0); // it came a moment ago
    /// let explained = locus.watchers().explain(inbox.join("hello.txt")).await?;
    /// println!("it {}", explained.held_by.ok_or("nothing holds it back")?); // it was changed a moment ago
    /// # locus.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn watchers(&self) -> &FileWatchers {
        &self.shared.opened.watchers
    }

    /// Workers for the files of one tenant.
    pub fn workers(&self, tenant: &TenantContext) -> Workers {
        Workers::new(self.tools().clone(), Source::One(tenant.clone()))
    }

    /// Workers for the files of all tenants, chosen fairly.
    pub fn workers_any(&self) -> Workers {
        Workers::new(self.tools().clone(), Source::Any)
    }

    /// How many files each tenant has, by state. Tenants without files are left out.
    #[must_use]
    pub fn counts(&self) -> locus_core::StoreCounts {
        self.tools().store.counts()
    }

    /// Sizes of journal and checkpoints, and how far the journal is durable.
    #[must_use]
    pub fn statistics(&self) -> StoreStatistics {
        self.shared.opened.engine.statistics()
    }

    /// A barrier: returns when everything confirmed so far survives power loss.
    ///
    /// # Errors
    /// [`Error::Poisoned`](locus_core::Error::Poisoned) when that can no longer be promised.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn sync(&self) -> Result<()> {
        self.tools().store.sync().await
    }

    /// What was found when the store was opened.
    #[must_use]
    pub fn open_report(&self) -> &OpenReport {
        &self.shared.opened.report
    }

    /// Closes the store: takes no new work, waits for workers until `workers.drain_timeout` is over, releases what they
    /// hold, makes everything durable, and unlocks the directory. Whoever waits for files is told
    /// [`Error::ShuttingDown`](locus_core::Error::ShuttingDown), as is every later call. Closing a closed store succeeds.
    /// A handler that blocks its thread and never gives way cannot be dropped, and is waited for.
    ///
    /// # Errors
    /// What the store says, such as [`Error::Poisoned`](locus_core::Error::Poisoned); it is closed all the same.
    ///
    /// # Cancel safety
    /// Once begun, closing goes on even when the future is dropped.
    pub async fn shutdown(&self) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        match tokio::spawn(async move { shared.close().await }).await {
            Ok(closed) => closed,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(locus_core::Error::ShuttingDown), // the runtime itself is being closed
            },
        }
    }

    pub(crate) fn opened(&self) -> &Opened {
        &self.shared.opened
    }

    fn tools(&self) -> &Tools {
        &self.shared.opened.tools
    }
}

impl Shared {
    async fn close(&self) -> Result<()> {
        let mut slot = self.running.lock().await;
        let Some(running) = slot.take() else { return Ok(()) };
        let patience = self.opened.tools.settings.drain_timeout;
        Closing::of(&self.opened).close(running, patience).await
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(running) = self.running.get_mut().take() {
            let (closing, runtime) = (Closing::of(&self.opened), running.runtime.clone());
            // Where the runtime is gone, so are the tasks; the threads hear of it by their drop.
            runtime.spawn(async move {
                if let Err(error) = closing.close(running, Duration::ZERO).await {
                    warn!(error = &error as &dyn std::error::Error, "dropped store was not closed cleanly");
                }
            });
        }
    }
}

/// The way to a closed store.
struct Closing {
    tools: Tools,
    engine: Arc<EmbeddedStore>,
    sweeper: Arc<Sweeper>,
    watchers: FileWatchers,
    disk: Arc<dyn Disk>,
}

impl Closing {
    fn of(opened: &Opened) -> Self {
        Self {
            tools: opened.tools.clone(),
            engine: Arc::clone(&opened.engine),
            sweeper: Arc::clone(&opened.sweeper),
            watchers: opened.watchers.clone(),
            disk: Arc::clone(&opened.disk),
        }
    }

    /// Goes on to the end whatever fails on the way, and says what failed first.
    async fn close(self, running: Running, patience: Duration) -> Result<()> {
        let Tools { gate, stop, clock, pool, .. } = &self.tools;
        self.watchers.stop().await;
        let woken = gate.close_to_work().await;
        stop.tasks.close();
        stop.drain_then_halt(&**clock, patience, stop.tasks.wait()).await;
        running.background.stop().await;
        self.sweeper.keep_stands().await;
        // A volume that begins to hang now is noticed, too.
        let stored = pool.undelayed(self.engine.shutdown()).await;
        let noted = running.note.refresh(pool, Some(&|id| self.engine.files_on(id))).await;
        gate.close();
        // What a volume could not sync above is tried once more, which needs the committer.
        let mut unmounted = Ok(());
        for volume in pool.volumes() {
            unmounted = unmounted.and(pool.unmount(&volume.id).await);
        }
        let threads = running.threads;
        let lock = off_thread(&*self.disk, move || threads.join()).await;
        lock.lock().take();
        info!("store closed");
        woken.and(stored).and(noted).and(unmounted)
    }
}
