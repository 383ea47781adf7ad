//! Tidying up, on demand.

use std::sync::Arc;

use locus_cleanup::Sweeper;
use locus_core::{CleanupStatistics, Result, Upkeep};
use locus_storage::StoragePool;

/// Runs sweeps on demand; they also go on by themselves. Made by [`Locus::cleanup`](crate::Locus::cleanup).
///
/// ```
/// # use locus::prelude::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let locus = Locus::builder().data_dir(temp.path()).build().await?;
/// locus.cleanup().settled().await?; // nothing waits to be removed
/// println!("{} files removed so far", locus.cleanup().statistics().completed_removed);
/// # locus.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct StorageCleanup {
    sweeper: Arc<Sweeper>,
    upkeep: Arc<dyn Upkeep>,
    pool: StoragePool,
}

impl StorageCleanup {
    pub(crate) const fn new(sweeper: Arc<Sweeper>, upkeep: Arc<dyn Upkeep>, pool: StoragePool) -> Self {
        Self { sweeper, upkeep, pool }
    }

    /// Returns when nothing waits to be removed on an available volume, and what was removed is recorded durably. Completed
    /// files whose retention is not over are not waited for.
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

    /// Removes the bytes of up to 256 completed and deleted files.
    ///
    /// # Errors
    /// What the store says. Failures of single files are counted and tried again later.
    ///
    /// # Cancel safety
    /// What was removed is; the rest is found again.
    pub async fn completed(&self) -> Result<CleanupStatistics> {
        self.sweeper.reap_step().await
    }

    /// Writes up to 256 leases that ran out back.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// What was written back is; the rest is found again.
    pub async fn timed_out(&self) -> Result<CleanupStatistics> {
        self.sweeper.expire_step().await
    }

    /// Removes what killed and failed writes left on all volumes: staging, and blobs that no record names.
    ///
    /// # Errors
    /// What the store says. Failures of single volumes are counted and tried again later.
    ///
    /// # Cancel safety
    /// What was removed is; the rest is found again.
    pub async fn leftovers(&self) -> Result<CleanupStatistics> {
        self.pool.tidy_residue(&*self.upkeep).await;
        self.sweeper.leftovers().await
    }

    /// Runs every sweep until it finds nothing more, and says what that did.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// What was done is done; the rest is found again.
    pub async fn run_all(&self) -> Result<CleanupStatistics> {
        self.pool.tidy_residue(&*self.upkeep).await;
        self.sweeper.run_all().await
    }

    /// What all sweeps did since the store was opened, those that ran by themselves included.
    #[must_use]
    pub fn statistics(&self) -> CleanupStatistics {
        self.sweeper.statistics()
    }
}
