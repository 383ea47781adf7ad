//! What runs beside the callers: threads and loops that merely drive step functions.

use std::{sync::Arc, time::Duration};

use locus_core::Result;
use tracing::{debug, warn};

use super::embedded::EmbeddedStore;
use crate::{
    journal::{Journal, Unsynced},
    sync::thread::{Builder, JoinHandle},
};

/// While nothing happens, store time is told to the disk so often (ENGINE 9): a restart makes up for no more than
/// `downtime_max`, counted from the last stamp.
const STAMP_EVERY: Duration = Duration::from_secs(60 * 60);

/// The threads of an open store: the committer, which writes and syncs, and the keeper, which makes segments ready.
#[derive(Debug)]
#[must_use = "dropping the threads' handle ends them"]
pub struct EngineThreads {
    journal: Arc<Journal>,
    threads: Vec<JoinHandle<()>>,
}

impl EngineThreads {
    /// Ends the threads once they have done what was asked of them, and waits for that. Blocks for as long as one sync
    /// takes. Whoever still waits then, or waits later, for something to become durable is told
    /// [`Error::Poisoned`](locus_core::Error::Poisoned), outcome unknown.
    pub fn stop(mut self) {
        self.signal();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                warn!("engine thread panicked");
            }
        }
    }

    fn signal(&self) {
        self.journal.commit_signal.stop();
        self.journal.keep_signal.stop();
    }
}

impl Drop for EngineThreads {
    fn drop(&mut self) {
        self.signal();
    }
}

/// Somebody takes checkpoints when they are due: who waits for room may wait for them.
struct Driven<'a>(&'a Journal);

impl<'a> Driven<'a> {
    fn begin(journal: &'a Journal) -> Self {
        journal.drive_checkpoints(true);
        Self(journal)
    }
}

impl Drop for Driven<'_> {
    fn drop(&mut self) {
        self.0.drive_checkpoints(false);
    }
}

impl EmbeddedStore {
    /// Starts the committer and the keeper. Call it once.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn spawn_threads(&self) -> std::io::Result<EngineThreads> {
        let mut threads = EngineThreads { journal: Arc::clone(&self.journal), threads: Vec::new() };
        let journal = Arc::clone(&self.journal);
        let committer = move || journal.commit_until_stopped();
        threads.threads.push(Builder::new().name("locus-committer".into()).spawn(committer)?);
        let journal = Arc::clone(&self.journal);
        let keeper = move || journal.keep_until_stopped();
        threads.threads.push(Builder::new().name("locus-keeper".into()).spawn(keeper)?);
        Ok(threads)
    }

    /// One step of the committer, for those who drive the store without threads. Says whether it did anything.
    pub fn commit_step(&self) -> bool {
        self.journal.commit_step()
    }

    /// One step of the keeper. Says whether more is to do.
    pub fn keep_step(&self) -> bool {
        self.journal.keep_step()
    }

    /// Runs for ever: a barrier whenever something written has been unsynced for too long, and a note of the durable LSN
    /// when the log falls idle. Call it once: a write wakes one of those who run it.
    ///
    /// # Cancel safety
    /// Dropping it between two barriers loses nothing; within one, the next barrier does its work.
    pub async fn run_barriers(&self) {
        loop {
            let notified = self.journal.written_something.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if self.journal.is_poisoned() {
                return;
            }
            if self.unchecked() > 0 {
                self.check_returned().await;
            }
            let now = self.clock.clock().monotonic();
            let max_unsynced = self.config.options.max_unsynced;
            let unsynced = self.journal.unsynced();
            let deadline = match unsynced {
                Unsynced::Since(since, bytes) => {
                    let deadline = since.saturating_add(max_unsynced);
                    if deadline <= now || bytes > self.journal.max_unsynced_bytes() {
                        self.try_barrier().await;
                        continue;
                    }
                    deadline
                }
                Unsynced::Unnoted(_) => now.saturating_add(max_unsynced),
                Unsynced::Nothing => now.saturating_add(STAMP_EVERY),
            };
            let woken = crate::race::first3(
                async {
                    notified.await;
                    true
                },
                async {
                    self.clock.clock().sleep_until(deadline).await;
                    false
                },
                std::future::pending(),
            )
            .await;
            // Unless something was written meanwhile: then the log is not idle.
            if woken || self.journal.unsynced() != unsynced {
                continue;
            }
            match unsynced {
                Unsynced::Since(..) => {}
                Unsynced::Unnoted(_) => self.note(),
                Unsynced::Nothing => {
                    if let Err(why) = self.stamp().await {
                        warn!(error = %why, "stamp not written");
                    }
                }
            }
        }
    }

    /// A barrier whose failure the next call tells.
    async fn try_barrier(&self) {
        if let Err(why) = self.barrier().await {
            warn!(error = %why, "barrier failed");
            *self.background_error.lock() = Some(why);
            // A volume that is not there is tried again later, not at once.
            let later = self.clock.clock().monotonic().saturating_add(self.config.options.max_unsynced);
            self.clock.clock().sleep_until(later).await;
        }
    }

    /// Runs for ever: a checkpoint whenever the log has grown enough.
    ///
    /// # Cancel safety
    /// A checkpoint that was being written is left unpublished; the next one replaces it.
    pub async fn run_checkpoints(&self) {
        let _driven = Driven::begin(&self.journal);
        loop {
            let rolled = self.journal.rolled.notified();
            tokio::pin!(rolled);
            rolled.as_mut().enable();
            if self.journal.is_poisoned() {
                return;
            }
            // The second of two frees what waits for the older one.
            for _ in 0..2 {
                if !self.checkpoint_due() {
                    break;
                }
                if let Err(why) = self.checkpoint().await {
                    warn!(error = %why, source = ?std::error::Error::source(&why), "checkpoint failed");
                    break;
                }
            }
            if self.spare_is_tight()
                && let Err(why) = self.grow_spare().await
            {
                debug!(error = %why, "no room for larger checkpoints");
            }
            self.journal.checkpoints_looked();
            rolled.await;
        }
    }

    /// Tells the disk the time, and how far the log is durable, so that damage found later is not taken for a torn
    /// tail. Without room it is left: nothing rests on it.
    fn note(&self) {
        if let Some(room) = self.journal.reserve_now(0) {
            self.journal.note_durable(room);
        }
    }

    /// A note that survives power loss.
    async fn stamp(&self) -> Result<()> {
        self.note();
        let journal = Arc::clone(&self.journal);
        locus_fs::off_thread(&*self.config.disk, move || journal.flush_here()).await
    }

    /// Releases what workers inside this process still hold, makes everything durable and says so on the disk. Call it
    /// before [`EngineThreads::stop`]; the store can be
    /// dropped afterwards. From its beginning on every change is refused with
    /// [`Error::ShuttingDown`](locus_core::Error::ShuttingDown).
    ///
    /// # Errors
    /// What a barrier says; then reopening decides.
    pub async fn shutdown(&self) -> Result<()> {
        let released = self.release_held().await;
        self.journal.close();
        self.barrier().await?;
        self.stamp().await?;
        match released {
            Err(locus_core::Error::ShuttingDown) => Ok(()), // closed before
            other => other,
        }
    }

    pub(super) async fn wait_expirable(&self) {
        loop {
            let notified = self.schedule.deadline_changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let Some(at) = self.schedule.next_deadline() else {
                notified.await;
                continue;
            };
            if at <= self.clock.now() {
                return;
            }
            crate::race::first3(notified, self.clock.sleep_until(at), std::future::pending()).await;
        }
    }
}
