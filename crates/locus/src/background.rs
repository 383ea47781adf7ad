//! What goes on by itself in an open store: started in one place, stopped in one.

use std::{sync::Arc, time::Duration};

use locus_cleanup::Sweeper;
use locus_core::Clock;
use locus_storage::{EmbeddedStore, StoragePool};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

use crate::{mounts::MountNote, settings::BackgroundSettings};

/// What the background works on.
pub(crate) struct Parts {
    pub(crate) engine: Arc<EmbeddedStore>,
    pub(crate) pool: StoragePool,
    pub(crate) sweeper: Arc<Sweeper>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) note: MountNote,
    pub(crate) settings: BackgroundSettings,
    /// No sweep begins by itself.
    pub(crate) on_request: bool,
}

/// The tasks. Dropping it stops them at their next `.await`, without waiting.
#[derive(Debug)]
pub(crate) struct Background {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Background {
    /// Starts everything.
    pub(crate) fn start(parts: Parts) -> Self {
        let background = Self { stop: CancellationToken::new(), tasks: TaskTracker::new() };
        let Parts { engine, pool, sweeper, clock, note, settings, on_request } = parts;
        let (reaper, expirer) = (Arc::clone(&sweeper), Arc::clone(&sweeper));
        let (checkpoints, forwarder, spiller) = (Arc::clone(&engine), Arc::clone(&engine), pool.clone());
        background.spawn(async move { engine.run_barriers().await });
        background.spawn(async move { checkpoints.run_checkpoints().await });
        background.spawn(async move { forwarder.run_forwarder().await });
        background.spawn(async move { spiller.run_spiller().await });
        background.spawn(async move { reaper.run_reaper().await });
        background.spawn(async move { expirer.run_expirer().await });
        if !on_request {
            background.spawn(async move { sweeper.run_schedule().await });
        }
        background.spawn(grow(pool.clone(), Arc::clone(&clock), settings.probe_interval));
        background.spawn(watch_volumes(pool, clock, note, settings.probe_interval));
        background.tasks.close();
        background
    }

    /// Stops everything and waits for it.
    pub(crate) async fn stop(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    /// Every job is a loop of steps that may be dropped anywhere.
    fn spawn(&self, job: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = job => {}
            }
        });
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Measures the volumes at each interval, and notes when others are mounted than before.
async fn watch_volumes(pool: StoragePool, clock: Arc<dyn Clock>, note: MountNote, interval: Duration) {
    loop {
        if let Err(error) = note.refresh(&pool, None).await {
            warn!(error = &error as &dyn std::error::Error, "mounts could not be noted, tried again later");
        }
        clock.sleep_until(clock.monotonic().saturating_add(interval)).await;
        pool.probe_all().await;
    }
}

/// Looks at each interval whether room runs short. Apart from the watch: who provides volumes may take any time.
async fn grow(pool: StoragePool, clock: Arc<dyn Clock>, interval: Duration) {
    loop {
        clock.sleep_until(clock.monotonic().saturating_add(interval)).await;
        // A failure was told, and is followed by a pause.
        let _ = pool.expand_step().await;
    }
}
