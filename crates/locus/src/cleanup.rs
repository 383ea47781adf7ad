//! Tidying up, on demand.

use std::{fmt, sync::Arc};

use locus_cleanup::{Sweep, SweepOptions, SweepRun, Sweeper};
use locus_core::{CleanupStatistics, Result, TenantId};

type Progress = Arc<dyn Fn(&CleanupStatistics) + Send + Sync>;

/// Runs sweeps on demand; they also go on by themselves, as the settings in `cleanup` say. Made by
/// [`Locus::cleanup`](crate::Locus::cleanup).
///
/// Each job works in bounded steps, beside everything else, never stops for one stubborn file, and goes on where a run that was
/// dropped stopped. [`for_tenant`](Self::for_tenant), [`dry_run`](Self::dry_run) and [`on_progress`](Self::on_progress) say how the
/// next calls run.
///
/// ```
/// # use locus::prelude::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let locus = Locus::builder().data_dir(temp.path()).add_tenant("acme").build().await?;
/// locus.cleanup().settled().await?; // nothing waits to be removed
/// println!("{} files removed so far", locus.cleanup().statistics().completed_removed);
///
/// let acme = TenantId::parse("acme")?;
/// let would = locus.cleanup().for_tenant(&acme).dry_run().permanently_failed().await?;
/// println!("{} files of acme would become dead letters", would.dead_lettered);
/// # locus.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct StorageCleanup {
    sweeper: Arc<Sweeper>,
    tenant: Option<TenantId>,
    dry_run: bool,
    progress: Option<Progress>,
}

impl fmt::Debug for StorageCleanup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageCleanup")
            .field("tenant", &self.tenant)
            .field("dry_run", &self.dry_run)
            .finish_non_exhaustive()
    }
}

impl StorageCleanup {
    pub(crate) const fn new(sweeper: Arc<Sweeper>) -> Self {
        Self { sweeper, tenant: None, dry_run: false, progress: None }
    }

    /// The same for one tenant's files alone. What single writes staged bears no tenant's name and is left to
    /// [`leftovers`](Self::leftovers) of all; [`optimise_store`](Self::optimise_store), which is for all at once, is refused, and
    /// [`run_all`](Self::run_all) leaves it out.
    #[must_use]
    pub fn for_tenant(mut self, tenant: &TenantId) -> Self {
        self.tenant = Some(tenant.clone());
        self
    }

    /// The same, but it only counts what it would do, all of it, and changes nothing. What [`completed`](Self::completed) would free
    /// is not among that, and of [`optimise_store`](Self::optimise_store) it is an estimate.
    #[must_use]
    pub const fn dry_run(mut self) -> Self {
        self.dry_run = true;
        self
    }

    /// The same, telling `progress` after each step what the run did so far. It is called on the caller's task, and should return
    /// at once.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(&CleanupStatistics) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(progress));
        self
    }

    /// Returns when nothing waits to be removed on an available volume, and what was removed is recorded durably. Completed
    /// files that are kept for a while are not waited for.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`](locus_core::Error::VolumeUnavailable) when something waits on a volume that takes no
    /// writes, because it is read-only or a sync failed: it is removed when the volume does. What the store says.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect but what was removed.
    pub async fn settled(&self) -> Result<()> {
        self.sweeper.settled().await
    }

    /// Removes bytes and records of completed and deleted files whose time is over.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn completed(&self) -> Result<CleanupStatistics> {
        self.run(Sweep::Completed).await
    }

    /// Writes leases that ran out back: pending, or given up after too many deliveries.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn timed_out(&self) -> Result<CleanupStatistics> {
        self.run(Sweep::TimedOut).await
    }

    /// Removes everything that killed and failed writes left: staging, uploads to which nothing came for too long, and, as
    /// [`orphans`](Self::orphans) but from beginning to end whatever the budget is, blobs that no record names.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn leftovers(&self) -> Result<CleanupStatistics> {
        self.sweeper.leftovers(self.options()).await
    }

    /// Keeps, moves to the dead letters or deletes files that failed for the last time, when their retention is over.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn permanently_failed(&self) -> Result<CleanupStatistics> {
        self.run(Sweep::PermanentlyFailed).await
    }

    /// Purges dead letters whose retention is over.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn dead_letters(&self) -> Result<CleanupStatistics> {
        self.run(Sweep::DeadLetters).await
    }

    /// Looks at blobs for a budget, on from where the last run stopped, also one of an earlier process: those that no record names and that are old enough are
    /// put into quarantine, removed or imported; what lies beside its file is removed.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn orphans(&self) -> Result<CleanupStatistics> {
        self.run(Sweep::Orphans).await
    }

    /// Looks for records whose bytes are certainly gone, for a budget, on from where the last run stopped, also one of an earlier
    /// process.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn missing(&self) -> Result<CleanupStatistics> {
        self.run(Sweep::Missing).await
    }

    /// Removes files of other programs from the directories of volumes, by name.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn junk(&self) -> Result<CleanupStatistics> {
        self.run(Sweep::Junk).await
    }

    /// Removes directories of volumes that hold nothing.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn empty_directories(&self) -> Result<CleanupStatistics> {
        self.run(Sweep::EmptyDirectories).await
    }

    /// Takes a checkpoint and frees the segments of the journal that it makes superfluous.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](locus_core::Error::InvalidArgument) for one tenant; as [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn optimise_store(&self) -> Result<CleanupStatistics> {
        self.run(Sweep::Store).await
    }

    /// Runs one job until it finds nothing more to do or its budget is used up, and says what that did. Runs of one job wait for
    /// each other.
    ///
    /// # Errors
    /// [`Error::Poisoned`](locus_core::Error::Poisoned) once records cannot be trusted: nothing is removed then. What the store
    /// says. Failures of single files and volumes are counted and passed by.
    ///
    /// # Cancel safety
    /// What was done is done and counted; the rest is found again.
    pub async fn run(&self, sweep: Sweep) -> Result<CleanupStatistics> {
        self.sweeper.run(sweep, self.options()).await
    }

    /// Runs every job that the settings enable once, and says what that did. For one tenant without
    /// [`optimise_store`](Self::optimise_store).
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn run_all(&self) -> Result<CleanupStatistics> {
        self.sweeper.run_all(self.options()).await
    }

    /// What all sweeps did since the store was opened, those that ran by themselves included.
    #[must_use]
    pub fn statistics(&self) -> CleanupStatistics {
        self.sweeper.statistics()
    }

    /// The last run of each job that ran since the store was opened.
    #[must_use]
    pub fn runs(&self) -> Vec<SweepRun> {
        self.sweeper.runs()
    }

    fn options(&self) -> SweepOptions<'_> {
        SweepOptions {
            tenant: self.tenant.as_ref(),
            dry_run: self.dry_run,
            progress: self.progress.as_deref().map(|progress| progress as _),
        }
    }
}
