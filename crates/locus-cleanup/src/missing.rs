//! Records whose bytes are gone.

use locus_core::{CleanupStatistics, FileRecord, Knowledge, Result, StorageVolume};
use tracing::error;

use crate::{MissingPolicy, Sweeper, given_up::is_final, sweep::Run, tour::Tour};

impl Sweeper {
    /// Asks the volumes for what records say rests there, and believes that it does not only of a volume that is mounted, healthy
    /// and, after another look at its marker, the one that it was.
    pub(crate) async fn run_missing(&self, run: &mut Run<'_>) -> Result<()> {
        let mut tour = self.tour(&self.search, &run.options, self.settings.missing.budget).await;
        let ran = self.search_records(&mut tour, run).await;
        if let Some(stand) = tour.shared() {
            self.keep(|stands| stands.search = stand.clone()).await;
        }
        ran
    }

    async fn search_records(&self, tour: &mut Tour<'_, u64>, run: &mut Run<'_>) -> Result<()> {
        while let Some((id, from, most)) = tour.next(self.settings.missing.batch) {
            self.check_trust()?;
            let began = self.clock.monotonic();
            let mut step = CleanupStatistics::default();
            match self.volumes.volume(&id).filter(|volume| volume.status().is_healthy) {
                Some(volume) => {
                    let from = from.copied();
                    let (next, looked_at) = self.search_page(&*volume, from, most, run, &mut step).await?;
                    tour.went_on(looked_at, next);
                }
                None => tour.pass_by(),
            }
            run.add(&self.count(step, began, run.options.dry_run));
        }
        Ok(())
    }

    async fn search_page(
        &self,
        volume: &dyn StorageVolume,
        from: Option<u64>,
        most: usize,
        run: &Run<'_>,
        step: &mut CleanupStatistics,
    ) -> Result<(Option<u64>, u64)> {
        let id = volume.id();
        let page = self.upkeep.on_volume(id, from, most);
        let is_asked = |record: &&FileRecord| {
            !record.info.status.is_over()
                && run.options.tenant.is_none_or(|tenant| record.info.tenant == *tenant)
        };
        for record in page.files.iter().filter(is_asked) {
            if !self.is_missing(volume, record, step).await {
                continue;
            }
            step.missing_found += 1;
            if run.options.dry_run {
                continue;
            }
            let (tenant, key, blob) = (&record.info.tenant, &record.info.key, record.blob());
            error!(%tenant, %key, volume = %id, %blob, "bytes of a file are gone from its volume");
            if self.settings.missing.policy == MissingPolicy::Remove {
                match self.upkeep.forget_missing(record).await {
                    Ok(removed) => step.missing_removed += u64::from(removed),
                    Err(failed) if is_final(&failed) => return Err(failed),
                    Err(failed) => self.failed(step, format!("{tenant}/{key}"), &failed),
                }
            }
        }
        Ok((page.next, page.files.len() as u64))
    }

    /// "Unknown" is not "missing": every failure but certain absence leaves the record alone.
    async fn is_missing(
        &self,
        volume: &dyn StorageVolume,
        record: &FileRecord,
        step: &mut CleanupStatistics,
    ) -> bool {
        let at = record.blob();
        let mut is_absent = async || match volume.open(&at, 0..0).await {
            Ok(_) => false,
            Err(failed) if failed.is_absent() => true,
            Err(failed) => {
                self.tell(volume.id(), "look for bytes", &failed);
                self.failed(step, format!("{}: {at}", volume.id()), &failed);
                false
            }
        };
        // It may have been moved or ended meanwhile: then its record says so, or its bytes are there by now.
        is_absent().await
            && self.upkeep.knows(volume.id(), &at) == Knowledge::Recorded
            && volume.probe().await.is_ok_and(|status| status.is_healthy)
            && is_absent().await
    }
}
