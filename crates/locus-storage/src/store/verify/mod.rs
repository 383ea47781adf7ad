//! Looking whether everything is as it should be, beside running work: counts and references, records, contents.

mod contents;
mod counts;
mod records;
mod report;

use locus_core::{Error, Outcome, Result};

pub use report::{Counted, Finding, VerifyLevel, VerifyProgress, VerifyReport};

use super::embedded::EmbeddedStore;

/// A verification that is under way. Counting anew ends when it is dropped.
struct Verifying<'a> {
    store: &'a EmbeddedStore,
    report: VerifyReport,
    at: VerifyProgress,
    tell: &'a (dyn Fn(VerifyProgress) + Send + Sync),
}

impl EmbeddedStore {
    /// Looks whether everything is as it should be, as deep as `level` says, and tells `progress` now and then how far it
    /// is. Repairs nothing. Writers and workers go on beside it: a tenant is locked for a page of 4,096 files at a
    /// time, and only when a number of the whole store does not fit are all tenants locked once, to look at it again. What
    /// is completed, moved or removed meanwhile is no finding. One verification runs at a time; a second one waits.
    ///
    /// What a volume's disk has cached is read from there; segments of the journal are read from the device, as far as the
    /// system allows.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when a write or sync failed: what is in memory may be ahead of the disk then, so reopen the
    /// store first. What is wrong is no error but a finding.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn verify(
        &self,
        level: VerifyLevel,
        progress: &(dyn Fn(VerifyProgress) + Send + Sync),
    ) -> Result<VerifyReport> {
        let _one = self.verifying.lock().await;
        let at = VerifyProgress::default();
        let mut verifying = Verifying { store: self, report: VerifyReport::new(level), at, tell: progress };
        verifying.run(level).await?;
        Ok(verifying.report.clone())
    }
}

impl Verifying<'_> {
    async fn run(&mut self, level: VerifyLevel) -> Result<()> {
        self.reckon(level);
        if level >= VerifyLevel::Records {
            self.drop_caches().await;
        }
        let reached = self.count_anew(level).await?;
        if level >= VerifyLevel::Records {
            self.read_checkpoints().await?;
            self.read_segments(&reached).await?;
        }
        self.check()?;
        (self.at.files_total, self.at.bytes_total) = (self.at.files_done, self.at.bytes_done);
        (self.tell)(self.at);
        Ok(())
    }

    /// What a poisoned store holds in memory may be ahead of the disk: nothing of it is a finding.
    fn check(&self) -> Result<()> {
        if self.store.journal.is_poisoned() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        Ok(())
    }

    /// How much there is to do.
    fn reckon(&mut self, level: VerifyLevel) {
        let counts = self.store.counts_by_tenant();
        self.at.files_total = counts.values().map(locus_core::TenantCounts::files).sum();
        if level >= VerifyLevel::Records {
            let (_, checkpoint) = self.store.checkpoints.taken();
            self.at.bytes_total = self.store.journal.kept_bytes() + checkpoint;
        }
        if level >= VerifyLevel::Contents {
            self.at.bytes_total += counts.values().map(|counts| counts.bytes).sum::<u64>();
        }
        (self.tell)(self.at);
    }

    fn tell_more(&mut self, files: u64, bytes: u64) {
        self.report.files += files;
        self.report.bytes += bytes;
        self.at.files_done += files;
        self.at.bytes_done += bytes;
        self.at.files_total = self.at.files_total.max(self.at.files_done);
        self.at.bytes_total = self.at.bytes_total.max(self.at.bytes_done);
        (self.tell)(self.at);
    }
}

impl Drop for Verifying<'_> {
    fn drop(&mut self) {
        let cells = self.store.cells.read().all.clone();
        for cell in cells {
            cell.state.lock().end_audit();
        }
    }
}
