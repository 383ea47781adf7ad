//! Files that failed for the last time, and dead letters: what becomes of them when their time is over.

use std::time::Duration;

use locus_core::{CleanupStatistics, FileRecord, FileStatus, Result, TenantId};
use tracing::debug;

use crate::{GivenUpPolicy, Sweeper, sweep::Run};

/// What is done with a file whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    DeadLetter,
    Delete,
}

impl Sweeper {
    pub(crate) async fn run_permanently_failed(&self, run: &mut Run<'_>) -> Result<()> {
        let settings = &self.settings.permanently_failed;
        let fate = match settings.policy {
            GivenUpPolicy::Keep => return Ok(()),
            GivenUpPolicy::DeadLetter => Fate::DeadLetter,
            GivenUpPolicy::Delete => Fate::Delete,
        };
        let (retention, batch) = (settings.retention, settings.batch);
        self.end_all(FileStatus::PermanentlyFailed, retention, batch, fate, run).await
    }

    pub(crate) async fn run_dead_letters(&self, run: &mut Run<'_>) -> Result<()> {
        let settings = &self.settings.dead_letters;
        let Some(retention) = settings.retention else { return Ok(()) };
        self.end_all(FileStatus::DeadLettered, retention, settings.batch, Fate::Delete, run).await
    }

    /// Tenant by tenant, page by page. A file that cannot be ended is passed by: the next run finds it again.
    async fn end_all(
        &self,
        status: FileStatus,
        older_than: Duration,
        batch: usize,
        fate: Fate,
        run: &mut Run<'_>,
    ) -> Result<()> {
        let tenants = match run.options.tenant {
            Some(tenant) => vec![tenant.clone()],
            None => self.upkeep.tenants_with(status),
        };
        for tenant in tenants {
            let mut from = None;
            loop {
                self.check_trust()?;
                let began = self.clock.monotonic();
                let page = self.upkeep.page(&tenant, status, older_than, from, batch);
                let mut step = CleanupStatistics::default();
                for record in &page.files {
                    if run.options.dry_run {
                        count(record, fate, &mut step);
                    } else {
                        self.end_one(&tenant, record, fate, &mut step).await?;
                    }
                }
                run.add(&self.count(step, began, run.options.dry_run));
                from = page.next;
                if from.is_none() {
                    break;
                }
            }
        }
        Ok(())
    }

    async fn end_one(
        &self,
        tenant: &TenantId,
        record: &FileRecord,
        fate: Fate,
        step: &mut CleanupStatistics,
    ) -> Result<()> {
        let key = &record.info.key;
        let ended = match (fate, &self.disposal) {
            (Fate::DeadLetter, Some(disposal)) => disposal.dead_letter(tenant, key).await,
            (Fate::DeadLetter, None) => return Ok(()),
            (Fate::Delete, _) => self.upkeep.dispose(tenant, key, record.info.status).await,
        };
        match ended {
            Ok(true) => {
                debug!(%tenant, %key, ?fate, "file that failed for the last time left its place");
                count(record, fate, step);
                Ok(())
            }
            Ok(false) => Ok(()), // somebody else was faster
            Err(error) if is_final(&error) => Err(error),
            Err(error) => {
                self.failed(step, format!("{tenant}/{key}"), &error);
                Ok(())
            }
        }
    }
}

/// The bytes that a deletion frees are counted by whoever removes them.
fn count(record: &FileRecord, fate: Fate, step: &mut CleanupStatistics) {
    match (fate, record.info.status) {
        (Fate::DeadLetter, _) => step.dead_lettered += 1,
        (Fate::Delete, FileStatus::DeadLettered) => step.dead_letters_removed += 1,
        (Fate::Delete, _) => step.permanently_failed_removed += 1,
    }
}

/// Whether no other file would fare better.
pub(crate) const fn is_final(error: &locus_core::Error) -> bool {
    matches!(error, locus_core::Error::Poisoned { .. } | locus_core::Error::ShuttingDown)
}
