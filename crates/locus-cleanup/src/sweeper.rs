//! The sweeper: what its jobs share, and all of them at once.

use std::{collections::BTreeSet, future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use locus_core::{
    CleanupStatistics, Clock, Error, Leaving, Reapable, Result, StorageVolume, Upkeep, VolumeId, VolumeSet,
};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, error, warn};

use crate::{backoff::Backoff, leftovers::Scan};

/// Runs the sweep jobs over a store and its volumes.
///
/// ```
/// # use std::sync::Arc;
/// # use locus_core::{Clock, Upkeep, VolumeSet};
/// # async fn tidy(upkeep: Arc<dyn Upkeep>, volumes: Arc<dyn VolumeSet>, clock: Arc<dyn Clock>)
/// #     -> locus_core::Result<()> {
/// let sweeper = locus_cleanup::Sweeper::new(upkeep, volumes, clock);
/// let done = sweeper.run_all().await?;
/// println!("{} files removed, {} bytes freed", done.completed_removed, done.space_freed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sweeper {
    pub(crate) upkeep: Arc<dyn Upkeep>,
    pub(crate) volumes: Arc<dyn VolumeSet>,
    pub(crate) clock: Arc<dyn Clock>,
    /// A scan of the volumes under way, of which there is one at most.
    pub(crate) scan: tokio::sync::Mutex<Option<Scan>>,
    totals: Mutex<CleanupStatistics>,
    /// Volumes whose present failure was told.
    told: Mutex<BTreeSet<VolumeId>>,
    /// A step left files behind on a volume that lets nothing be removed.
    held: Notify,
}

impl Sweeper {
    /// A sweeper that has done nothing yet. It starts nothing by itself.
    #[must_use]
    pub fn new(upkeep: Arc<dyn Upkeep>, volumes: Arc<dyn VolumeSet>, clock: Arc<dyn Clock>) -> Self {
        let (scan, totals, told) = (tokio::sync::Mutex::default(), Mutex::default(), Mutex::default());
        Self { upkeep, volumes, clock, scan, totals, told, held: Notify::new() }
    }

    /// What all sweeps did so far.
    #[must_use]
    pub fn statistics(&self) -> CleanupStatistics {
        self.totals.lock().clone()
    }

    /// Reaps and expires all there is, then looks for leftovers once, and says what that did.
    ///
    /// # Errors
    /// What the store says. Failures of single files or volumes are counted and passed by.
    ///
    /// # Cancel safety
    /// What was done is done and counted; the rest is found again.
    pub async fn run_all(&self) -> Result<CleanupStatistics> {
        let mut done = CleanupStatistics::default();
        loop {
            let step = self.reap_step().await?;
            done.add(&step);
            if step.completed_removed == 0 {
                break;
            }
        }
        loop {
            let step = self.expire_step().await?;
            done.add(&step);
            if step.timed_out_reset == 0 {
                break;
            }
        }
        done.add(&self.leftovers().await?);
        Ok(done)
    }

    /// Returns when nothing waits to be reaped on an available volume, and what was reaped is recorded durably; completed files
    /// whose retention is not over are not waited for. Reaps
    /// what it finds; what could not be removed then is waited for, which ends only if
    /// [`run_reaper`](Self::run_reaper) runs as well.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] when files are over on a volume that can be read but takes no writes, because it is
    /// read-only or a sync failed: they are removed when it does. What the store says.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect but what was reaped.
    pub async fn settled(&self) -> Result<()> {
        self.reap_until(self.upkeep.settled()).await
    }

    /// Returns when nothing of a tenant that leaves is left. Reaps as [`settled`](Self::settled) does.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] when what is left rests on volumes that are not available, or that can be read but take
    /// no writes. What the store says.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect but what was reaped.
    pub async fn emptied(&self, leaving: &Leaving) -> Result<()> {
        self.reap_until(self.upkeep.emptied(leaving)).await
    }

    /// Reaps what waits until `over`, or until a volume lets nothing be removed.
    async fn reap_until(&self, over: impl Future<Output = Result<()>>) -> Result<()> {
        let mut held = pin!(self.held.notified());
        held.as_mut().enable();
        let mut over = pin!(over);
        let mut reaping = pin!(async {
            loop {
                match self.reap_step().await {
                    Ok(step) if step.completed_removed > 0 => {}
                    Ok(_) => return Ok(()),
                    Err(why) => return Err(why),
                }
            }
        });
        let mut reaps = true;
        poll_fn(|context| {
            loop {
                if reaps && let Poll::Ready(reaped) = reaping.as_mut().poll(context) {
                    reaps = false;
                    if reaped.is_err() {
                        return Poll::Ready(reaped);
                    }
                }
                if let Poll::Ready(done) = over.as_mut().poll(context) {
                    return Poll::Ready(done);
                }
                if held.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                held.set(self.held.notified());
                held.as_mut().enable();
                if let Some(why) = self.volumes.all().iter().find_map(|volume| refusal(&**volume)) {
                    return Poll::Ready(Err(why));
                }
            }
        })
        .await
    }

    /// Files were left behind: whoever waits for them looks whether that ends.
    pub(crate) fn left_behind(&self, files: &[Reapable]) {
        let volumes = files.iter().filter_map(|file| self.volumes.volume(file.volume.as_ref()?));
        if { volumes }.any(|volume| refusal(&*volume).is_some()) {
            self.held.notify_waiters();
        }
    }

    /// Adds a step to the totals, with the time it took.
    pub(crate) fn count(&self, mut step: CleanupStatistics, began: Duration) -> CleanupStatistics {
        step.duration = self.clock.monotonic().saturating_sub(began);
        self.totals.lock().add(&step);
        step
    }

    /// Tells a failure of a volume, the first of several in a row at `warn`.
    pub(crate) fn tell(&self, volume: &VolumeId, what: &'static str, error: &Error) {
        let error = error as &dyn std::error::Error;
        if self.told.lock().insert(volume.clone()) {
            warn!(%volume, what, error, "sweep met a failure on a volume, tried again later");
        } else {
            debug!(%volume, what, error, "sweep met a failure on a volume, tried again later");
        }
    }

    /// A volume works: its next failure is news.
    pub(crate) fn untell(&self, volume: &VolumeId) {
        self.told.lock().remove(volume);
    }

    /// After a failed step: waits and says `true`, or says `false` when no further step can succeed.
    pub(crate) async fn carry_on(&self, job: &'static str, failed: &Error, backoff: &mut Backoff) -> bool {
        {
            let error = failed as &dyn std::error::Error; // must be gone before the wait: it is not `Send`
            match failed {
                Error::ShuttingDown => return false,
                Error::Poisoned { .. } => {
                    error!(job, error, "sweep job ended until the store is reopened");
                    return false;
                }
                _ if backoff.is_fresh() => warn!(job, error, "sweep job failed, tried again later"),
                _ => debug!(job, error, "sweep job failed, tried again later"),
            }
        }
        self.totals.lock().errors += 1;
        backoff.wait(&*self.clock).await;
        true
    }
}

/// What a volume says on which nothing can be removed although it is there.
fn refusal(volume: &dyn StorageVolume) -> Option<Error> {
    let status = volume.status();
    let why = status.why.unwrap_or("takes no writes".into());
    let refuses = status.is_healthy && status.read_only;
    refuses.then(|| Error::VolumeUnavailable { volume: Some(volume.id().clone()), why })
}
