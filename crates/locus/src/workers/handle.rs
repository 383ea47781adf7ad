//! Workers that run.

use std::{sync::Arc, time::Duration};

use locus_core::Result;
use tokio::task::JoinHandle;

use crate::workers::{crew::Crew, stop::Stop};

/// What workers did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct WorkSummary {
    /// Files whose handler succeeded.
    pub completed: u64,
    /// Failures of handlers, panics included; a file that failed twice counts twice.
    pub failed: u64,
    /// Of the failures, those that were the file's last.
    pub given_up: u64,
    /// Leases that were lost to somebody else, or to a reset or deletion, before the handler was done.
    pub lost: u64,
    /// Files that were given back because the workers stopped.
    pub released: u64,
}

/// Workers that run in the background. Made by [`Workers::spawn`](crate::Workers::spawn).
///
/// Dropping it stops them at once: handlers are dropped, and their files released, in the background.
#[derive(Debug)]
#[must_use = "dropping the handle stops the workers"]
pub struct WorkerHandle {
    crew: Arc<Crew>,
    tasks: Vec<JoinHandle<()>>,
    drain_timeout: Duration,
    stop: StopAtDrop,
}

impl WorkerHandle {
    pub(super) fn start(crew: Arc<Crew>, concurrency: usize, drain_timeout: Duration) -> Self {
        let stop = crew.stop.clone();
        let tasks = (0..concurrency).map(|_| stop.tasks.spawn(Arc::clone(&crew).work())).collect();
        Self { crew, tasks, drain_timeout, stop: StopAtDrop(stop) }
    }

    /// Takes no new file, waits for the handlers that run until the drain timeout is over, then drops them and releases
    /// their files. Says what was done since the start.
    ///
    /// # Errors
    /// What had stopped the workers before, such as [`Error::Poisoned`](locus_core::Error::Poisoned).
    ///
    /// # Cancel safety
    /// When the future is dropped, the workers stop as if the handle were dropped.
    pub async fn stop(mut self) -> Result<WorkSummary> {
        let (stop, clock) = (self.stop.0.clone(), Arc::clone(&self.crew.tools.clock));
        let timeout = self.drain_timeout;
        stop.drain_then_halt(&*clock, timeout, self.ended()).await;
        self.crew.outcome()
    }

    /// What was done so far.
    #[must_use]
    pub fn summary(&self) -> WorkSummary {
        self.crew.summary()
    }

    /// Waits until the workers end by themselves.
    pub(super) async fn join(mut self) -> Result<WorkSummary> {
        self.ended().await;
        self.crew.outcome()
    }

    async fn ended(&mut self) {
        for task in &mut self.tasks {
            if let Err(error) = task.await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic); // a mistake of ours: handlers run in tasks of their own
            }
        }
    }
}

/// Stops a crew that nobody waits for any more.
#[derive(Debug)]
struct StopAtDrop(Stop);

impl Drop for StopAtDrop {
    fn drop(&mut self) {
        self.0.now();
    }
}
