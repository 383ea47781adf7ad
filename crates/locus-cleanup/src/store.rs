//! The journal and its checkpoints.

use locus_core::{CleanupStatistics, Compacted, Error, Result};

use crate::{Sweeper, sweep::Run};

impl Sweeper {
    /// Beside everything else: nobody waits for it.
    pub(crate) async fn run_store(&self, run: &mut Run<'_>) -> Result<()> {
        if run.options.tenant.is_some() {
            let why = "must not be said: the store is optimised for all tenants at once";
            return Err(Error::InvalidArgument { name: "tenant", why });
        }
        if run.options.dry_run {
            self.count_only(run, |step, waiting| note(step, waiting.records));
            return Ok(());
        }
        let began = self.clock.monotonic();
        let compacted = self.upkeep.compact().await?;
        let mut step = CleanupStatistics::default();
        note(&mut step, compacted);
        run.add(&self.count(step, began, false));
        Ok(())
    }
}

fn note(step: &mut CleanupStatistics, Compacted { bytes_before, bytes_after }: Compacted) {
    (step.store_bytes_before, step.store_bytes_after) = (bytes_before, bytes_after);
    step.space_freed = bytes_before.saturating_sub(bytes_after);
}
