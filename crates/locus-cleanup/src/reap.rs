//! The reaper: bytes of files that are durably over, then their records.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use locus_core::{CleanupStatistics, Reapable, Result, Upkeep, VolumeId, join_bounded};
use tracing::debug;

use crate::{Sweeper, backoff::Backoff, sweep::Run};

/// Most files that one step reaps.
pub const REAP_FILES_MAX: usize = 256;

/// Removals that are under way at once.
const DELETES_MAX: usize = 32;

impl Sweeper {
    /// Reaps up to 256 files: removes their bytes, makes that durable volume by volume, and only then lets their records
    /// go. What cannot be removed is handed out again later, behind what waits now.
    ///
    /// # Errors
    /// What the store says; the files are then handed out again. Failures of single files or volumes are counted and
    /// passed by.
    ///
    /// # Cancel safety
    /// What was handed out and not recorded as reaped is handed out again; removing it again is harmless.
    pub async fn reap_step(&self) -> Result<CleanupStatistics> {
        let began = self.clock.monotonic();
        let mut out = HandedOut { upkeep: &*self.upkeep, files: self.upkeep.reapable(REAP_FILES_MAX).await? };
        if out.files.is_empty() {
            return Ok(CleanupStatistics::default());
        }
        let (gone, space_freed) = self.remove(&out.files).await;
        let (mut reaped, mut left) = (Vec::new(), Vec::new());
        for (file, gone) in mem::take(&mut out.files).into_iter().zip(gone) {
            if gone { reaped.push(file) } else { left.push(file) }
        }
        let mut step = CleanupStatistics::default();
        (step.space_freed, step.errors) = (space_freed, left.len() as u64);
        // Counted before the records go: bytes that are freed twice over were freed once.
        let mut step = self.count(step, began, false);
        let began = self.clock.monotonic();
        if !left.is_empty() {
            self.left_behind(&left);
            self.upkeep.not_reaped(left);
        }
        if !reaped.is_empty() {
            out.files = reaped;
            self.upkeep.reaped(&out.files).await?;
            let mut recorded = CleanupStatistics::default();
            let gone = mem::take(&mut out.files);
            recorded.copies_removed = gone.iter().filter(|file| file.is_copy).count() as u64;
            recorded.completed_removed = gone.len() as u64 - recorded.copies_removed;
            step.add(&self.count(recorded, began, false));
        }
        debug!(removed = step.completed_removed, failed = step.errors, "files reaped");
        Ok(step)
    }

    /// All that waits. Nothing here is a tenant's alone.
    pub(crate) async fn run_completed(&self, run: &mut Run<'_>) -> Result<()> {
        if run.options.tenant.is_some() || run.options.dry_run {
            return Ok(());
        }
        loop {
            let step = self.reap_step().await?;
            run.add(&step);
            if step.completed_removed + step.copies_removed == 0 {
                return Ok(());
            }
        }
    }

    /// Reaps as files end, for ever. Returns when the store is closed or poisoned.
    ///
    /// After a step that removed nothing it waits, from 100 ms to 30 s.
    ///
    /// # Cancel safety
    /// As [`reap_step`](Self::reap_step): drop it to stop.
    pub async fn run_reaper(&self) {
        let mut backoff = Backoff::default();
        loop {
            self.upkeep.reapable_ready().await;
            match self.reap_step().await {
                Ok(step) if step.completed_removed + step.copies_removed == 0 && step.errors > 0 => {
                    backoff.wait(&*self.clock).await;
                }
                Ok(_) => backoff.reset(),
                Err(error) => {
                    if !self.carry_on("reap", &error, &mut backoff).await {
                        return;
                    }
                }
            }
        }
    }

    /// Removes the bytes of each file. Says for each whether they are durably gone, and how many were freed.
    async fn remove(&self, files: &[Reapable]) -> (Vec<bool>, u64) {
        let each = files.iter().map(|file| self.remove_one(file));
        let freed = join_bounded(each.collect(), DELETES_MAX).await;
        let mut gone = freed.iter().map(Option::is_some).collect::<Vec<_>>();
        // What the store holds itself has no name on a volume.
        let removed = files.iter().zip(&gone).filter(|(_, gone)| **gone).map(|(file, _)| &file.volume);
        let volumes = removed.flatten().collect::<BTreeSet<_>>();
        let syncs = volumes.iter().map(|volume| self.sync_names(volume));
        let synced = join_bounded(syncs.collect(), DELETES_MAX).await;
        let synced = volumes.into_iter().zip(synced).collect::<BTreeMap<_, _>>();
        for (file, gone) in files.iter().zip(&mut gone) {
            *gone = *gone && file.volume.as_ref().is_none_or(|volume| synced.get(volume) == Some(&true));
        }
        let troubled = files.iter().zip(&gone).filter(|(_, gone)| !**gone).map(|(file, _)| &file.volume);
        let troubled = troubled.flatten().collect::<BTreeSet<_>>();
        synced.keys().filter(|volume| !troubled.contains(*volume)).for_each(|volume| self.untell(volume));
        (gone, freed.into_iter().flatten().sum())
    }

    /// How many bytes that freed; `None` when the blob may still be there.
    async fn remove_one(&self, file: &Reapable) -> Option<u64> {
        let Some(id) = &file.volume else { return Some(file.size) };
        // Without the volume, which was unmounted just now, the store hands the file out again when it is back.
        let volume = self.volumes.volume(id)?;
        match volume.delete(&file.blob).await {
            Ok(was_there) => Some(if was_there { file.size } else { 0 }),
            Err(error) => {
                self.tell(id, "delete", &error);
                None
            }
        }
    }

    async fn sync_names(&self, id: &VolumeId) -> bool {
        let Some(volume) = self.volumes.volume(id) else { return false };
        let synced = volume.sync_names().await;
        if let Err(error) = &synced {
            self.tell(id, "sync names", error);
        }
        synced.is_ok()
    }
}

/// Files that were handed out. Dropping it gives back those that are still in it.
struct HandedOut<'a> {
    upkeep: &'a dyn Upkeep,
    files: Vec<Reapable>,
}

impl Drop for HandedOut<'_> {
    fn drop(&mut self) {
        if !self.files.is_empty() {
            self.upkeep.not_reaped(mem::take(&mut self.files));
        }
    }
}
