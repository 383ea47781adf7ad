//! Spilling: what a full store wants to be rid of goes to volumes, several contents at once.

use std::time::Duration;

use locus_core::{Error, Result, RetryPolicy, join_bounded};
use serde::{Deserialize, Serialize};
use tracing::{debug, error, warn};

use super::{StoragePool, moves::Moved};

/// Most files that one step moves.
const SPILL_FILES: usize = 256;

/// Most bytes that one step moves, unless a single file is longer.
const SPILL_BYTES: u64 = 16 << 20;

/// Moves under way at once, and so the contents that are held in memory.
const MOVES_MAX: usize = 16;

/// How long the spiller waits after a step that got nowhere: twice as long each time.
const BACKOFF: RetryPolicy = RetryPolicy {
    max_retries: u32::MAX,
    initial_delay: Duration::from_millis(100),
    exponential: true,
    max_delay: Duration::from_secs(30),
};

/// What a step of spilling did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SpillReport {
    /// Files whose content rests on a volume now.
    pub moved: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Files that were completed or deleted before they were moved.
    pub over: u64,
    /// Files that could not be moved; their content stays where it is, and they are tried again.
    pub failed: u64,
}

impl StoragePool {
    /// A step of spilling: moves what the store wants moved, up to 256 files and 16 MiB, to volumes, 16 at once.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::ShuttingDown`]: no further step can succeed. Other failures are counted, the first
    /// of a step is logged, and the files are tried again.
    ///
    /// # Cancel safety
    /// What was moved is moved; the rest stays in the store. What a move that was given up left on a volume is
    /// [`residue`](Self::residue), or adopted by the next one.
    pub async fn spill_step(&self) -> Result<SpillReport> {
        let (report, failure) = self.spill().await?;
        if let Some(failure) = failure {
            warn!(
                failed = report.failed,
                error = &failure as &dyn std::error::Error,
                "content could not be spilled, tried again later"
            );
        }
        Ok(report)
    }

    /// Spills whenever the store wants it, until the store is closed or poisoned. After a step that got nowhere it waits
    /// 100 ms, then twice as long each time, up to 30 s.
    ///
    /// # Cancel safety
    /// As [`spill_step`](Self::spill_step).
    pub async fn run_spiller(&self) {
        let mut fruitless = 0;
        loop {
            self.inner.store.spill_wanted().await;
            let failure = match self.spill().await {
                Ok((report, _)) if report.moved > 0 || report.over > 0 => {
                    fruitless = 0;
                    continue;
                }
                Ok((_, failure)) => failure,
                Err(Error::ShuttingDown) => return,
                Err(error @ Error::Poisoned { .. }) => {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "spilling ended until the store is reopened"
                    );
                    return;
                }
                Err(error) => Some(error),
            };
            match &failure {
                Some(failure) if fruitless == 0 => {
                    warn!(
                        error = failure as &dyn std::error::Error,
                        "content could not be spilled, tried again later"
                    );
                }
                Some(failure) => {
                    debug!(
                        error = failure as &dyn std::error::Error,
                        "content could not be spilled, tried again later"
                    );
                }
                None => fruitless = 0, // woken early: no failure, but no reason to look again at once
            }
            drop(failure);
            fruitless += 1;
            let delay = BACKOFF.delay(fruitless).unwrap_or(BACKOFF.max_delay);
            let clock = &self.inner.context.clock;
            clock.sleep_until(clock.monotonic().saturating_add(delay)).await;
        }
    }

    /// A step, and the first failure of a single file.
    async fn spill(&self) -> Result<(SpillReport, Option<Error>)> {
        let moving = self.inner.store.spillable(SPILL_FILES, SPILL_BYTES).await?;
        let moves = moving.into_iter().map(|moving| {
            let bytes = moving.record().info.size;
            let moved = self.move_out(self.inner.moves.right(moving), false);
            async move { (bytes, moved.await) }
        });
        let mut report = SpillReport::default();
        let mut failure = None;
        for (bytes, moved) in join_bounded(moves.collect(), MOVES_MAX).await {
            match moved {
                Ok(Moved::To(_)) => {
                    report.moved += 1;
                    report.bytes += bytes;
                }
                Ok(Moved::WithinStore | Moved::Over) => report.over += 1,
                Err(last @ (Error::Poisoned { .. } | Error::ShuttingDown)) => return Err(last),
                Err(error) => {
                    report.failed += 1;
                    failure.get_or_insert(error);
                }
            }
        }
        Ok((report, failure))
    }
}
