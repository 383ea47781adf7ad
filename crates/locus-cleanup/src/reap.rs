//! The reaper: bytes of files that are durably over, then their records.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use locus_core::{
    CleanupStatistics, Error, Reapable, Result, TenantId, Upkeep, VolumeId, join_bounded, undisturbed,
};
use tracing::debug;

use crate::{Sweeper, backoff::Backoff, sweep::Run};

/// Removals that are under way at once.
const DELETES_MAX: usize = 32;

impl Sweeper {
    /// Reaps files, as many as [`CompletedSettings`](crate::CompletedSettings) say: removes their bytes, makes that durable volume by volume, and only then lets their records
    /// go. What cannot be removed is handed out again later, behind what waits now.
    ///
    /// # Errors
    /// What the store says; the files are then handed out again. Failures of single files or volumes are counted and
    /// passed by.
    ///
    /// # Cancel safety
    /// What was handed out and not recorded as reaped is handed out again, when its removal has ended: one that began goes on,
    /// as far as a tokio runtime runs here.
    pub async fn reap_step(&self) -> Result<CleanupStatistics> {
        self.reap_step_of(None).await
    }

    /// The same for one tenant or all.
    async fn reap_step_of(&self, of: Option<&TenantId>) -> Result<CleanupStatistics> {
        let began = self.clock.monotonic();
        let files = self.upkeep.reapable(of, self.settings.completed.batch).await?;
        if files.is_empty() {
            return Ok(Default::default());
        }
        let out = files.into_iter().map(|file| HandedOut::new(&self.upkeep, vec![file])).collect();
        let mut step = CleanupStatistics::default();
        let (reaped, left) = self.remove(out, &mut step).await;
        // Counted before the records go: bytes that are freed twice over were freed once.
        let mut step = self.count(step, began, false);
        let began = self.clock.monotonic();
        if !left.is_empty() {
            self.left_behind(&left);
            self.upkeep.not_reaped(left);
        }
        if !reaped.is_empty() {
            let mut out = HandedOut::new(&self.upkeep, reaped);
            self.upkeep.reaped(&out.files).await?;
            let mut recorded = CleanupStatistics::default();
            let gone = out.take();
            recorded.copies_removed = gone.iter().filter(|file| file.is_copy).count() as u64;
            recorded.completed_removed = gone.len() as u64 - recorded.copies_removed;
            step.add(&self.count(recorded, began, false));
        }
        debug!(removed = step.completed_removed, failed = step.errors, "files reaped");
        Ok(step)
    }

    /// All that waits. What cannot be removed is handed out again behind all else, volume by volume: the run ends when as many
    /// as waited were tried in a row and none was removed.
    pub(crate) async fn run_completed(&self, run: &mut Run<'_>) -> Result<()> {
        if run.options.dry_run {
            self.count_only(run, |step, waiting| {
                (step.completed_removed, step.copies_removed) = (waiting.over, waiting.copies);
            });
            return Ok(());
        }
        let mut untried = None;
        loop {
            let step = self.reap_step_of(run.options.tenant).await?;
            run.add(&step);
            if step.completed_removed + step.copies_removed > 0 {
                untried = None;
                continue;
            }
            let waits = untried.unwrap_or_else(|| {
                let waiting = self.upkeep.waiting(run.options.tenant);
                waiting.over + waiting.copies
            });
            let left = waits.saturating_sub(step.errors);
            if step.errors == 0 || left == 0 {
                return Ok(());
            }
            untried = Some(left);
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

    /// Removes the bytes of each file. Those whose bytes are durably gone, and the others.
    async fn remove(
        &self,
        out: Vec<HandedOut>,
        step: &mut CleanupStatistics,
    ) -> (Vec<Reapable>, Vec<Reapable>) {
        let each = out.into_iter().map(|out| self.remove_one(out));
        let removed = join_bounded(each.collect(), DELETES_MAX).await;
        // What the store holds itself has no name on a volume.
        let volumes = removed.iter().filter(|(_, gone)| gone.is_ok()).flat_map(|(out, _)| out.volumes());
        let volumes = volumes.cloned().collect::<BTreeSet<_>>();
        let syncs = volumes.iter().map(|volume| self.sync_names(volume));
        let synced = join_bounded(syncs.collect(), DELETES_MAX).await;
        let synced = volumes.iter().zip(synced).collect::<BTreeMap<_, _>>();
        let (mut reaped, mut left, mut troubled) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (mut out, gone) in removed {
            step.space_freed += gone.as_ref().copied().unwrap_or(0);
            let not_synced = out.volumes().find_map(|volume| synced.get(volume)?.as_ref().err());
            let Some(error) = gone.as_ref().err().or(not_synced) else {
                reaped.extend(out.take());
                continue;
            };
            self.failed(step, out.place(), error);
            troubled.extend(out.volumes().cloned());
            left.extend(out.take());
        }
        volumes.iter().filter(|volume| !troubled.contains(*volume)).for_each(|volume| self.untell(volume));
        (reaped, left)
    }

    /// How many bytes that freed. A removal goes on when nobody waits for it any more, and the file is out until it has ended:
    /// whoever got it meanwhile could have its record go, and its name used again, before the bytes go.
    async fn remove_one(&self, out: HandedOut) -> (HandedOut, Result<u64>) {
        let Some(file) = out.files.first().cloned() else { return (out, Ok(0)) };
        let Some(id) = file.volume else { return (out, Ok(file.size)) };
        // Without the volume, which was unmounted just now, the store hands the file out again when it is back.
        let Some(volume) = self.volumes.volume(&id) else { return (out, Err(not_there(&id))) };
        let removed = undisturbed(async move {
            let removed = volume.delete(&file.blob).await;
            (out, removed)
        });
        let Some((out, removed)) = removed.await else {
            // It ended with its runtime, and gave the file back.
            return (HandedOut::new(&self.upkeep, Vec::new()), Err(Error::ShuttingDown));
        };
        if let Err(error) = &removed {
            self.tell(&id, "delete", error);
        }
        (out, removed.map(|was_there| if was_there { file.size } else { 0 }))
    }

    async fn sync_names(&self, id: &VolumeId) -> Result<()> {
        let synced = match self.volumes.volume(id) {
            Some(volume) => volume.sync_names().await,
            None => return Err(not_there(id)),
        };
        synced.inspect_err(|error| self.tell(id, "sync names", error))
    }
}

fn not_there(id: &VolumeId) -> Error {
    Error::VolumeUnavailable { volume: Some(id.clone()), why: "is not mounted".into() }
}

/// Files that were handed out. Dropping it gives back those that are still in it.
struct HandedOut {
    upkeep: Arc<dyn Upkeep>,
    files: Vec<Reapable>,
}

impl HandedOut {
    fn new(upkeep: &Arc<dyn Upkeep>, files: Vec<Reapable>) -> Self {
        Self { upkeep: Arc::clone(upkeep), files }
    }

    /// They are the caller's now.
    fn take(&mut self) -> Vec<Reapable> {
        mem::take(&mut self.files)
    }

    /// What a report calls them: a copy is the blob that it is, anything else a file.
    fn place(&self) -> String {
        let Some(file) = self.files.first() else { return String::new() };
        match &file.volume {
            Some(volume) if file.is_copy => format!("{volume}: {}", file.blob),
            _ => format!("{}/{}", file.tenant, file.key),
        }
    }

    /// Where they rest.
    fn volumes(&self) -> impl Iterator<Item = &VolumeId> {
        self.files.iter().filter_map(|file| file.volume.as_ref())
    }
}

impl Drop for HandedOut {
    fn drop(&mut self) {
        let left = self.take();
        if !left.is_empty() {
            self.upkeep.not_reaped(left);
        }
    }
}
