//! The journal and its checkpoints.

use locus_core::{CleanupStatistics, Result};

use crate::{Sweeper, sweep::Run};

impl Sweeper {
    /// Beside everything else: nobody waits for it.
    pub(crate) async fn run_store(&self, run: &mut Run<'_>) -> Result<()> {
        if run.options.tenant.is_some() || run.options.dry_run {
            return Ok(());
        }
        let began = self.clock.monotonic();
        let compacted = self.upkeep.compact().await?;
        let mut step = CleanupStatistics::default();
        step.store_bytes_before = compacted.bytes_before;
        step.store_bytes_after = compacted.bytes_after;
        step.space_freed = compacted.bytes_before.saturating_sub(compacted.bytes_after);
        run.add(&self.count(step, began, false));
        Ok(())
    }
}
