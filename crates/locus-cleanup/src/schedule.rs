//! Which job runs when.

use std::{future::poll_fn, task::Poll, time::Duration};

use locus_core::Result;
use tracing::{debug, warn};

use crate::{
    SweepSettings, Sweeper,
    sweep::{Run, Sweep, SweepOptions},
};

/// A job that waits for its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    sweep: Sweep,
    interval: Duration,
    /// Only what is remembered, not everything.
    queued: bool,
    at: Duration,
}

/// The jobs that run by themselves, beside the reaper and the expirer. What a killed process left is looked for at once.
fn plan(settings: &SweepSettings, now: Duration) -> Vec<Due> {
    let due = |sweep, interval: Duration, at| Due { sweep, interval, queued: false, at };
    let later = |sweep, interval: Duration| due(sweep, interval, now.saturating_add(interval));
    let mut plan = Vec::new();
    let mut add = |enabled: bool, due: Due| plan.extend(enabled.then_some(due));
    add(settings.leftovers.enabled, due(Sweep::Leftovers, settings.leftovers.interval, now));
    add(settings.orphans.enabled, due(Sweep::Orphans, settings.orphans.interval, now));
    let failed = &settings.permanently_failed;
    add(failed.enabled, later(Sweep::PermanentlyFailed, failed.interval));
    add(settings.dead_letters.enabled, later(Sweep::DeadLetters, settings.dead_letters.interval));
    add(settings.missing.enabled, later(Sweep::Missing, settings.missing.interval));
    add(settings.junk.enabled, later(Sweep::Junk, settings.junk.interval));
    let directories = &settings.empty_directories;
    let queued = Due { queued: true, ..later(Sweep::EmptyDirectories, directories.interval) };
    add(directories.enabled, queued);
    add(directories.enabled, later(Sweep::EmptyDirectories, directories.full_interval));
    add(settings.store.enabled, later(Sweep::Store, settings.store.interval));
    plan
}

impl Sweeper {
    /// Runs the jobs at their intervals, each on its own: none waits for another one. For ever; returns when the store is closed or
    /// poisoned.
    ///
    /// # Cancel safety
    /// As [`run`](Self::run): drop it to stop.
    pub async fn run_schedule(&self) {
        let plan = plan(&self.settings, self.clock.monotonic());
        let mut jobs: Vec<_> = plan.into_iter().map(|due| Box::pin(self.repeat(due))).collect();
        if jobs.is_empty() {
            return;
        }
        poll_fn(|context| {
            let is_over = jobs.iter_mut().any(|job| job.as_mut().poll(context).is_ready());
            if is_over { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// One of them.
    async fn repeat(&self, mut due: Due) {
        loop {
            self.clock.sleep_until(due.at).await;
            let wait = self.opens_in(due.sweep);
            if wait > Duration::ZERO {
                due.at = self.clock.monotonic().saturating_add(wait);
                continue;
            }
            let ran = self.run_due(due).await;
            due.at = self.clock.monotonic().saturating_add(due.interval);
            match ran {
                Err(error) if crate::given_up::is_final(&error) => {
                    debug!(error = &error as &dyn std::error::Error, "sweeps ended with the store");
                    return;
                }
                Err(error) => {
                    let sweep = due.sweep;
                    warn!(%sweep, error = &error as &dyn std::error::Error, "sweep failed, tried again later");
                }
                Ok(()) => {}
            }
        }
    }

    async fn run_due(&self, due: Due) -> Result<()> {
        if !due.queued {
            return self.run(due.sweep, SweepOptions::default()).await.map(drop);
        }
        let _turn = self.turns[due.sweep as usize].lock().await;
        let mut run = Run::new(SweepOptions::default(), &Default::default());
        let ran = self.run_empty_directories(&mut run, true).await;
        self.ended(due.sweep, run, ran).map(drop)
    }

    /// How long a job must still wait for its time of the day.
    fn opens_in(&self, sweep: Sweep) -> Duration {
        let window = self.settings.store.window.filter(|_| sweep == Sweep::Store);
        window.map_or(Duration::ZERO, |window| window.opens_in(self.clock.wall()))
    }
}
