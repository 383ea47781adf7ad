//! What killed and failed writes left in staging, and uploads that were given up.

use std::sync::Arc;

use locus_core::{BlobPage, CleanupStatistics, Error, Result, StoragePath, StorageVolume, TenantId, Tidy};

use crate::{
    Sweeper,
    sweep::{Run, Sweep, SweepOptions},
};

/// Most idle uploads that one step ends.
pub const EXPIRE_UPLOADS_MAX: usize = 256;

impl Sweeper {
    /// Ends up to 256 uploads to which nothing came for too long. What is staged for them is removed as any leftover is.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// What was ended is; the rest is found again.
    pub async fn expire_uploads_step(&self) -> Result<CleanupStatistics> {
        self.expire_uploads_step_of(None).await
    }

    /// The same for one tenant or all.
    async fn expire_uploads_step_of(&self, of: Option<&TenantId>) -> Result<CleanupStatistics> {
        let began = self.clock.monotonic();
        let mut step = CleanupStatistics::default();
        step.uploads_expired = self.upkeep.expire_uploads(of, EXPIRE_UPLOADS_MAX).await? as u64;
        Ok(self.count(step, began, false))
    }

    /// Everything that killed and failed writes left: staging, uploads that were given up, and, all of them whatever the budget of a
    /// run is and wherever the last one stopped, blobs that no record names, as the settings of [`Sweep::Orphans`] say.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    /// As [`run`](Self::run).
    pub async fn leftovers(&self, options: SweepOptions<'_>) -> Result<CleanupStatistics> {
        let mut done = self.run(Sweep::Leftovers, options).await?;
        let _turn = self.turns[Sweep::Orphans as usize].lock().await;
        let mut run = Run::new(options, &done);
        let ran = self.run_all_orphans(&mut run).await;
        done.add(&self.ended(Sweep::Orphans, run, ran)?);
        Ok(done)
    }

    /// Uploads end first: what was staged for them goes along. A dry run does not count what is staged for uploads that it would
    /// end. What single writes staged bears no name of a tenant, and goes with a run for all.
    pub(crate) async fn run_leftovers(&self, run: &mut Run<'_>) -> Result<()> {
        let Some(owner) = self.owner_of(run).await? else { return Ok(()) };
        let dry_run = run.options.dry_run;
        if dry_run {
            self.count_only(run, |step, waiting| step.uploads_expired = waiting.idle_uploads);
        } else {
            self.end_uploads(run).await?;
        }
        for volume in self.volumes.all().into_iter().filter(|volume| volume.status().is_healthy) {
            self.check_trust()?;
            let began = self.clock.monotonic();
            let mut step = CleanupStatistics::default();
            if dry_run || self.takes_writes(&*volume, &mut step) {
                if owner.is_none() {
                    self.tidy_staging(&*volume, dry_run, &mut step).await;
                }
                if let Err(error) = self.discard_all(&*volume, owner.as_ref(), dry_run, &mut step).await {
                    self.volume_failed(volume.id(), &error, &mut step);
                }
            }
            run.add(&self.count(step, began, dry_run));
        }
        Ok(())
    }

    async fn tidy_staging(&self, volume: &dyn StorageVolume, dry_run: bool, step: &mut CleanupStatistics) {
        match volume.tidy(if dry_run { Tidy::CountStaleStaging } else { Tidy::StaleStaging }).await {
            Ok(tidied) => {
                step.staging_removed += tidied.removed;
                step.space_freed += tidied.bytes;
                step.errors += tidied.failed;
            }
            Err(error) => self.volume_failed(volume.id(), &error, step),
        }
    }

    async fn end_uploads(&self, run: &mut Run<'_>) -> Result<()> {
        let tenant = run.options.tenant;
        if let Some(disposal) = self.disposal.as_ref().filter(|_| tenant.is_none()) {
            disposal.tidy_residue(&*self.upkeep).await;
        }
        loop {
            let expired = self.expire_uploads_step_of(tenant).await?;
            run.add(&expired);
            if expired.uploads_expired == 0 {
                return Ok(());
            }
        }
    }

    /// Removes what killed and failed writes left under this storage path on all mounted, healthy volumes, in all areas, durably.
    /// Says what it did.
    ///
    /// # Errors
    /// [`Error::Poisoned`] once the store does not trust its records any more: nothing is removed then.
    /// [`Error::VolumeUnavailable`] names the first volume on which something could not be looked at or removed, when all have
    /// been gone through.
    ///
    /// # Cancel safety
    /// What was removed is; the rest is found again.
    pub async fn leftovers_of(&self, owner: &StoragePath) -> Result<CleanupStatistics> {
        self.check_trust()?;
        let began = self.clock.monotonic();
        let mut done = CleanupStatistics::default();
        let mut failed = None;
        for volume in self.volumes.all().into_iter().filter(|volume| volume.status().is_healthy) {
            let errors = done.errors;
            for removed in [
                self.discard_all(&*volume, Some(owner), false, &mut done).await,
                self.remove_all_of(&volume, owner, &mut done).await,
                volume.sync_names().await, // also for what others removed just now
            ] {
                if let Err(error) = removed {
                    self.volume_failed(volume.id(), &error, &mut done);
                }
            }
            if done.errors > errors {
                failed.get_or_insert_with(|| volume.id().clone());
            }
        }
        let done = self.count(done, began, false);
        match failed {
            None => Ok(done),
            Some(id) => {
                let why = "does not let what writes left there be found or removed: the log says why".into();
                Err(Error::VolumeUnavailable { volume: Some(id), why })
            }
        }
    }

    /// What is staged, of this owner or all, that no upload names.
    async fn discard_all(
        &self,
        volume: &dyn StorageVolume,
        owner: Option<&StoragePath>,
        dry_run: bool,
        step: &mut CleanupStatistics,
    ) -> Result<()> {
        let mut from = None;
        loop {
            let mut page = volume.staged(from.as_ref(), self.settings.leftovers.batch).await?;
            self.passed_by(volume.id(), &page.unread, step);
            page.blobs.retain(|found| owner.is_none_or(|owner| found.path.owner == *owner));
            self.discard_unknown(volume, &page, dry_run, step).await;
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// A place is noted before anything is staged there, and never used again: what no upload names is given up.
    async fn discard_unknown(
        &self,
        volume: &dyn StorageVolume,
        page: &BlobPage,
        dry_run: bool,
        step: &mut CleanupStatistics,
    ) {
        for found in &page.blobs {
            if self.upkeep.is_staging(&found.path.owner, &found.path.key) || !self.upkeep.is_trustworthy() {
                continue;
            }
            let removed = if dry_run { Ok(true) } else { volume.discard(&found.path).await };
            match removed {
                Ok(removed) => {
                    step.staging_removed += u64::from(removed);
                    step.space_freed += if removed { found.length } else { 0 };
                }
                Err(error) => self.volume_failed(volume.id(), &error, step),
            }
        }
    }

    /// Blobs of this owner that no record names.
    async fn remove_all_of(
        &self,
        volume: &Arc<dyn StorageVolume>,
        owner: &StoragePath,
        step: &mut CleanupStatistics,
    ) -> Result<()> {
        let mut from = None;
        loop {
            let page = volume.list(Some(owner), from.as_ref(), self.settings.orphans.batch).await?;
            self.passed_by(volume.id(), &page.unread, step);
            for found in &page.blobs {
                if self.remove_claimed(volume, found, step).await {
                    step.orphans_removed += 1;
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }
}
