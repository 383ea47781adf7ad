//! The jobs by name, and one run of one of them.

use std::{fmt, time::Duration};

use locus_core::{CleanupStatistics, Result, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use tracing::{debug, info};

use crate::Sweeper;

/// A sweep job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Sweep {
    /// Bytes and records of files that are over.
    Completed,
    /// Leases that ran out.
    TimedOut,
    /// Staging that nobody writes any more, and uploads that were given up.
    Leftovers,
    /// Files that failed for the last time.
    PermanentlyFailed,
    /// Dead letters whose retention is over.
    DeadLetters,
    /// Blobs that no record names.
    Orphans,
    /// Records whose bytes are gone. Those of a volume that is not mounted, or was retired, are left alone.
    Missing,
    /// Files of other programs.
    Junk,
    /// Directories that hold nothing.
    EmptyDirectories,
    /// The journal and its checkpoints.
    Store,
}

impl Sweep {
    /// All of them, in the order in which they make room for each other.
    pub const ALL: [Self; 10] = [
        Self::Completed,
        Self::TimedOut,
        Self::Leftovers,
        Self::PermanentlyFailed,
        Self::DeadLetters,
        Self::Orphans,
        Self::Missing,
        Self::Junk,
        Self::EmptyDirectories,
        Self::Store,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::TimedOut => "timed-out",
            Self::Leftovers => "leftovers",
            Self::PermanentlyFailed => "permanently-failed",
            Self::DeadLetters => "dead-letters",
            Self::Orphans => "orphans",
            Self::Missing => "missing",
            Self::Junk => "junk",
            Self::EmptyDirectories => "empty-directories",
            Self::Store => "store",
        }
    }
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Who is told how far a run is: what it did so far, after each step.
pub type OnProgress<'a> = &'a (dyn Fn(&CleanupStatistics) + Send + Sync);

/// How a run is made.
#[derive(Clone, Copy, Default)]
pub struct SweepOptions<'a> {
    /// Only what is this tenant's. [`Sweep::Store`], which is nobody's, is refused.
    pub tenant: Option<&'a TenantId>,
    /// Count what would be done, and change nothing. The whole of it is counted, whatever the budget of a run.
    pub dry_run: bool,
    /// Who is told after each step. Called on the caller's task; it should return at once.
    pub progress: Option<OnProgress<'a>>,
}

impl fmt::Debug for SweepOptions<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tenant, dry_run) = (&self.tenant, &self.dry_run);
        f.debug_struct("SweepOptions")
            .field("tenant", tenant)
            .field("dry_run", dry_run)
            .finish_non_exhaustive()
    }
}

impl SweepOptions<'_> {
    /// Whether a run is over everything, and changes something.
    pub(crate) const fn is_whole(&self) -> bool {
        self.tenant.is_none() && !self.dry_run
    }
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SweepRun {
    /// Which job.
    pub sweep: Sweep,
    /// When it ended, by the wall clock.
    pub ended_at: Timestamp,
    /// What it did.
    pub statistics: CleanupStatistics,
    /// Why it ended before its time.
    pub error: Option<String>,
}

/// What a run has done, and for whom.
pub(crate) struct Run<'a> {
    pub(crate) options: SweepOptions<'a>,
    pub(crate) done: CleanupStatistics,
    /// What jobs did that were asked for by the same call.
    before: CleanupStatistics,
}

impl<'a> Run<'a> {
    pub(crate) fn new(options: SweepOptions<'a>, before: &CleanupStatistics) -> Self {
        Self { options, done: CleanupStatistics::default(), before: before.clone() }
    }

    /// Adds a step and tells of it.
    pub(crate) fn add(&mut self, step: &CleanupStatistics) {
        self.done.add(step);
        if let Some(progress) = self.options.progress {
            let mut all = self.before.clone();
            all.add(&self.done);
            progress(&all);
        }
    }
}

impl Sweeper {
    /// Runs one job until there is nothing more to do, or its budget is used up, and says what that did. It works in bounded
    /// steps and goes on where a dropped run, or one whose budget was used up, stopped. Runs of one job wait for each other.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`](locus_core::Error::InvalidArgument) for [`Sweep::Store`] of one tenant. What the store says.
    /// Failures of single files or volumes are counted and passed by.
    ///
    /// # Cancel safety
    /// What was done is done and counted; the rest is found again.
    pub async fn run(&self, sweep: Sweep, options: SweepOptions<'_>) -> Result<CleanupStatistics> {
        self.run_after(&CleanupStatistics::default(), sweep, options).await
    }

    /// One job of a call that has done something before.
    pub(crate) async fn run_after(
        &self,
        before: &CleanupStatistics,
        sweep: Sweep,
        options: SweepOptions<'_>,
    ) -> Result<CleanupStatistics> {
        let _turn = self.turns[sweep as usize].lock().await;
        let mut run = Run::new(options, before);
        let ran = match sweep {
            Sweep::Completed => self.run_completed(&mut run).await,
            Sweep::TimedOut => self.run_timed_out(&mut run).await,
            Sweep::Leftovers => self.run_leftovers(&mut run).await,
            Sweep::PermanentlyFailed => self.run_permanently_failed(&mut run).await,
            Sweep::DeadLetters => self.run_dead_letters(&mut run).await,
            Sweep::Orphans => self.run_orphans(&mut run).await,
            Sweep::Missing => self.run_missing(&mut run).await,
            Sweep::Junk => self.run_junk(&mut run).await,
            Sweep::EmptyDirectories => self.run_empty_directories(&mut run, false).await,
            Sweep::Store => self.run_store(&mut run).await,
        };
        self.ended(sweep, run, ran)
    }

    /// Notes and tells of a run that ended.
    pub(crate) fn ended(&self, sweep: Sweep, run: Run<'_>, ran: Result<()>) -> Result<CleanupStatistics> {
        let Run { done, options, .. } = run;
        if options.dry_run {
            return ran.map(|()| done);
        }
        let mut changed = done.clone();
        changed.duration = Duration::ZERO;
        if changed == CleanupStatistics::default() {
            debug!(%sweep, "sweep found nothing");
        } else {
            info!(%sweep, did = ?done, "sweep ended");
        }
        self.note(SweepRun {
            sweep,
            ended_at: self.clock.wall(),
            statistics: done.clone(),
            error: ran.as_ref().err().map(ToString::to_string),
        });
        ran.map(|()| done)
    }
}
