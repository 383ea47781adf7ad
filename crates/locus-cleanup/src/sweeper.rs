//! The sweeper: what its jobs share, and all of them at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    mem,
    path::Path,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use locus_core::{
    CleanupStatistics, Clock, Cursor, Disposal, Error, Leaving, Reapable, Result, StorageVolume,
    TenantManager, Unread, Upkeep, VolumeId, VolumeSet, Waiting,
};
use locus_fs::Disk;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::{debug, error, warn};

use crate::{
    SweepSettings,
    backoff::Backoff,
    note::StandNote,
    stands::Stands,
    sweep::{Run, Sweep, SweepOptions, SweepRun},
    tour::Stand,
};

/// Runs the sweep jobs over a store and its volumes.
///
/// ```
/// # use std::sync::Arc;
/// # use locus_core::{Clock, Upkeep, VolumeSet};
/// # async fn tidy(upkeep: Arc<dyn Upkeep>, volumes: Arc<dyn VolumeSet>, clock: Arc<dyn Clock>)
/// #     -> locus_core::Result<()> {
/// let sweeper = locus_cleanup::Sweeper::new(upkeep, volumes, clock);
/// let done = sweeper.run_all(Default::default()).await?;
/// println!("{} files removed, {} bytes freed", done.completed_removed, done.space_freed);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Sweeper {
    pub(crate) upkeep: Arc<dyn Upkeep>,
    pub(crate) volumes: Arc<dyn VolumeSet>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where the scan of the volumes stands, of which there is one at most.
    pub(crate) scan: tokio::sync::Mutex<Stand<Cursor>>,
    /// Where the look for missing bytes stands, of which there is one at most.
    pub(crate) search: tokio::sync::Mutex<Stand<u64>>,
    /// Where that is written down.
    note: Option<StandNote>,
    pub(crate) settings: SweepSettings,
    pub(crate) disposal: Option<Arc<dyn Disposal>>,
    pub(crate) tenants: Option<Arc<dyn TenantManager>>,
    /// Runs of one job wait for each other.
    pub(crate) turns: [tokio::sync::Mutex<()>; Sweep::ALL.len()],
    totals: Mutex<CleanupStatistics>,
    /// The last run of each job.
    runs: Mutex<BTreeMap<Sweep, SweepRun>>,
    /// Volumes whose present failure was told.
    told: Mutex<BTreeSet<VolumeId>>,
    /// A step left files behind on a volume that lets nothing be removed.
    held: Notify,
}

impl Sweeper {
    /// A sweeper that has done nothing yet. It starts nothing by itself.
    #[must_use]
    pub fn new(upkeep: Arc<dyn Upkeep>, volumes: Arc<dyn VolumeSet>, clock: Arc<dyn Clock>) -> Self {
        Self {
            upkeep,
            volumes,
            clock,
            scan: tokio::sync::Mutex::default(),
            search: tokio::sync::Mutex::default(),
            note: None,
            settings: SweepSettings::default(),
            disposal: None,
            tenants: None,
            turns: Default::default(),
            totals: Mutex::default(),
            runs: Mutex::default(),
            told: Mutex::default(),
            held: Notify::new(),
        }
    }

    /// What the jobs do, and how much at a time. Default [`SweepSettings::default`].
    #[must_use]
    pub fn with_settings(mut self, settings: SweepSettings) -> Self {
        self.settings = settings;
        self
    }

    /// Who moves files to the dead letters. Without anybody none is moved.
    #[must_use]
    pub fn with_disposal(mut self, disposal: Arc<dyn Disposal>) -> Self {
        self.disposal = Some(disposal);
        self
    }

    /// Who knows the tenants: blobs without a record are left alone unless their tenant is enabled. Without anybody every
    /// tenant is.
    #[must_use]
    pub fn with_tenants(mut self, tenants: Arc<dyn TenantManager>) -> Self {
        self.tenants = Some(tenants);
        self
    }

    /// Notes in this directory, in a small file `sweeps`, where runs stopped that were not at the end of all volumes, and goes on
    /// where an earlier sweeper of that store stopped. A note that cannot be read is told, and the next runs begin anew, as
    /// they do in each process without one. Blocks the thread.
    #[must_use]
    pub fn with_stands_in(mut self, disk: Arc<dyn Disk>, dir: &Path) -> Self {
        let (note, Stands { scan, search }) = StandNote::open(disk, dir);
        (self.scan, self.search, self.note) = (scan.into(), search.into(), Some(note));
        self
    }

    /// Notes also where runs stopped that were dropped, as it is done when one ends: before the end of a process. Of runs
    /// under way nothing is noted. What fails is told.
    ///
    /// # Cancel safety
    /// What was begun is done to its end.
    pub async fn keep_stands(&self) {
        let (scan, search) = (self.scan.try_lock().ok(), self.search.try_lock().ok());
        self.keep(|stands| {
            stands.scan = scan.map_or_else(|| mem::take(&mut stands.scan), |stand| stand.clone());
            stands.search = search.map_or_else(|| mem::take(&mut stands.search), |stand| stand.clone());
        })
        .await;
    }

    pub(crate) async fn keep(&self, change: impl FnOnce(&mut Stands)) {
        if let Some(note) = &self.note {
            note.keep(change).await;
        }
    }

    /// What all sweeps did so far.
    #[must_use]
    pub fn statistics(&self) -> CleanupStatistics {
        self.totals.lock().clone()
    }

    /// The last run of each job that ran.
    #[must_use]
    pub fn runs(&self) -> Vec<SweepRun> {
        self.runs.lock().values().cloned().collect()
    }

    pub(crate) fn note(&self, run: SweepRun) {
        self.runs.lock().insert(run.sweep, run);
    }

    /// Runs every job that is enabled once, and the reaper and the expirer, and says what that did. For one tenant without
    /// [`Sweep::Store`], which is nobody's.
    ///
    /// # Errors
    /// What the store says. Failures of single files or volumes are counted and passed by.
    ///
    /// # Cancel safety
    /// What was done is done and counted; the rest is found again.
    pub async fn run_all(&self, options: SweepOptions<'_>) -> Result<CleanupStatistics> {
        let mut done = CleanupStatistics::default();
        let is_meant = |sweep: &Sweep| *sweep != Sweep::Store || options.tenant.is_none();
        for sweep in Sweep::ALL.into_iter().filter(is_meant).filter(|sweep| self.is_enabled(*sweep)) {
            let did = self.run_after(&done, sweep, options).await?;
            done.add(&did);
        }
        Ok(done)
    }

    const fn is_enabled(&self, sweep: Sweep) -> bool {
        let settings = &self.settings;
        match sweep {
            Sweep::Completed | Sweep::TimedOut => true,
            Sweep::Leftovers => settings.leftovers.enabled,
            Sweep::PermanentlyFailed => settings.permanently_failed.enabled,
            Sweep::DeadLetters => settings.dead_letters.enabled,
            Sweep::Orphans => settings.orphans.enabled,
            Sweep::Missing => settings.missing.enabled,
            Sweep::Junk => settings.junk.enabled,
            Sweep::EmptyDirectories => settings.empty_directories.enabled,
            Sweep::Store => settings.store.enabled,
        }
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
                    Ok(step) if step.completed_removed + step.copies_removed > 0 => {}
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

    /// Adds a step to the totals, with the time it took; a step of a dry run only gets the time.
    pub(crate) fn count(
        &self,
        mut step: CleanupStatistics,
        began: Duration,
        dry_run: bool,
    ) -> CleanupStatistics {
        step.duration = self.clock.monotonic().saturating_sub(began);
        if !dry_run {
            self.totals.lock().add(&step);
        }
        step
    }

    /// Of a dry run: what there is to do.
    pub(crate) fn count_only(&self, run: &mut Run<'_>, note: impl FnOnce(&mut CleanupStatistics, Waiting)) {
        let (began, mut step) = (self.clock.monotonic(), CleanupStatistics::default());
        note(&mut step, self.upkeep.waiting(run.options.tenant));
        run.add(&self.count(step, began, true));
    }

    /// Counts a failure that was passed by.
    pub(crate) fn failed(&self, step: &mut CleanupStatistics, place: String, error: &Error) {
        debug!(place, error = error as &dyn std::error::Error, "sweep passed by a failure");
        step.failed(place, error);
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

    /// Whether something may be removed from a volume. One that refuses is told of, and counted as one failure.
    pub(crate) fn takes_writes(&self, volume: &dyn StorageVolume, step: &mut CleanupStatistics) -> bool {
        let refused = refusal(volume);
        if let Some(why) = &refused {
            self.volume_failed(volume.id(), why, step);
        }
        refused.is_none()
    }

    /// A volume failed at something: told, counted and passed by.
    pub(crate) fn volume_failed(&self, volume: &VolumeId, error: &Error, step: &mut CleanupStatistics) {
        self.tell(volume, "tidy", error);
        self.failed(step, volume.to_string(), error);
    }

    /// What could not be looked at on a volume: counted, named and passed by.
    pub(crate) fn passed_by(&self, volume: &VolumeId, unread: &[Unread], step: &mut CleanupStatistics) {
        for unread in unread {
            let (place, error) = (format!("{volume}: {}", unread.path.display()), unread.to_error());
            self.tell(volume, "look", &error);
            self.failed(step, place, &error);
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
