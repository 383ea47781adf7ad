//! The overdue sweep: leases that ran out are written back, so that counts and logs tell the truth. Leasing does not
//! wait for it.

use locus_core::{CleanupStatistics, Result, TenantId};

use crate::{Sweeper, backoff::Backoff, sweep::Run};

impl Sweeper {
    /// Writes back leases that ran out, as many as [`TimedOutSettings`](crate::TimedOutSettings) say: their files are pending again, or given up after too many deliveries.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// What was written back is; the rest is found again.
    pub async fn expire_step(&self) -> Result<CleanupStatistics> {
        self.expire_step_of(None).await
    }

    /// The same for one tenant or all.
    async fn expire_step_of(&self, of: Option<&TenantId>) -> Result<CleanupStatistics> {
        let began = self.clock.monotonic();
        let mut step = CleanupStatistics::default();
        step.timed_out_reset = self.upkeep.expire(of, self.settings.timed_out.batch).await? as u64;
        Ok(self.count(step, began, false))
    }

    /// All that ran out.
    pub(crate) async fn run_timed_out(&self, run: &mut Run<'_>) -> Result<()> {
        if run.options.dry_run {
            self.count_only(run, |step, waiting| step.timed_out_reset = waiting.overdue);
            return Ok(());
        }
        loop {
            let step = self.expire_step_of(run.options.tenant).await?;
            run.add(&step);
            if step.timed_out_reset == 0 {
                return Ok(());
            }
        }
    }

    /// Writes leases back as they run out, for ever. Returns when the store is closed or poisoned.
    ///
    /// # Cancel safety
    /// As [`expire_step`](Self::expire_step): drop it to stop.
    pub async fn run_expirer(&self) {
        let mut backoff = Backoff::default();
        loop {
            self.upkeep.expirable().await;
            match self.expire_step().await {
                Ok(_) => backoff.reset(),
                Err(error) => {
                    if !self.carry_on("expire", &error, &mut backoff).await {
                        return;
                    }
                }
            }
        }
    }
}
