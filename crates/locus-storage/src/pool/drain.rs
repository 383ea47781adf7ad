//! Draining a volume: its files move to others.
//!
//! A drain is no more than the sum of its moves. Each is complete by itself, so there is nothing to be resumed: a drain
//! that was dropped, failed or died with the process goes on, when it is called again, with the files that are still there.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use locus_core::{Clock, Error, FileKey, Result, TenantId, VolumeId, VolumeStanding, join_bounded};
use parking_lot::Mutex;
use tracing::info;

use super::{
    StoragePool,
    events::VolumeEvent,
    pace::Pace,
    tally::{After, Tally, UnmovedFile},
};

/// Most files that a page of a drain holds.
const PAGE_FILES: usize = 256;

/// Whoever waits (for a write under way, for the reaper) looks again after this long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// How fast a volume is drained, or contents are sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "options do nothing until they are given to a drain"]
pub struct DrainOptions {
    bytes_per_second: Option<u64>,
    at_once: usize,
}

impl Default for DrainOptions {
    fn default() -> Self {
        Self { bytes_per_second: Some(64 << 20), at_once: 4 }
    }
}

impl DrainOptions {
    /// 64 MiB a second, 4 files at once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Most bytes moved in a second, all files together; `None`: as fast as the volumes are. At least 1; default 64 MiB.
    pub fn bytes_per_second(mut self, bytes: Option<u64>) -> Self {
        self.bytes_per_second = bytes;
        self
    }

    /// Most files moved at the same time: 1 to 256, default 4.
    pub fn at_once(mut self, files: usize) -> Self {
        self.at_once = files;
        self
    }

    pub(super) fn pace(&self, clock: &Arc<dyn Clock>) -> Arc<Pace> {
        Pace::new(Arc::clone(clock), self.bytes_per_second)
    }

    pub(super) const fn files_at_once(&self) -> usize {
        self.at_once
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.bytes_per_second == Some(0) {
            return Err(Error::InvalidArgument { name: "bytes_per_second", why: "is 0: nothing would move" });
        }
        if !(1..=PAGE_FILES).contains(&self.at_once) {
            return Err(Error::InvalidArgument { name: "at_once", why: "is not 1 to 256" });
        }
        Ok(())
    }
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DrainProgress {
    /// Files on the volume, those that wait to be removed included.
    pub files_left: u64,
    /// Bytes of files on the volume.
    pub bytes_left: u64,
    /// Files that this drain moved.
    pub moved: u64,
    /// Bytes of these.
    pub moved_bytes: u64,
    /// Files that are damaged and stay.
    pub damaged: u64,
    /// Uploads under way there: they are not moved.
    pub uploads_left: u64,
}

/// What a drain did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DrainReport {
    /// Files that it moved.
    pub moved: u64,
    /// Bytes of these.
    pub moved_bytes: u64,
    /// Damaged files, which stay where they are; at most 1,024 are named.
    pub damaged: Vec<UnmovedFile>,
    /// Files still on the volume, those that wait to be removed included: 0 when it is empty. More than the damaged ones
    /// only when the volume does not let anything be removed.
    pub files_left: u64,
    /// Uploads still under way there, which are not moved: each goes on, and its file rests there when it is finished. The
    /// volume can be removed when all are finished, aborted or expired, and those files were drained.
    pub uploads_left: u64,
}

/// Drains that run: one for a volume.
#[derive(Debug, Default)]
pub(super) struct Draining(Mutex<BTreeSet<VolumeId>>);

pub(super) struct DrainingOne<'a>(&'a Draining, VolumeId);

impl Draining {
    pub(super) fn begin(&self, id: &VolumeId) -> Result<DrainingOne<'_>> {
        if self.0.lock().insert(id.clone()) {
            Ok(DrainingOne(self, id.clone()))
        } else {
            Err(Error::VolumeBusy { volume: id.clone(), doing: "drained" })
        }
    }
}

impl Drop for DrainingOne<'_> {
    fn drop(&mut self) {
        self.0.0.lock().remove(&self.1);
    }
}

/// A drain under way.
struct Run<'a> {
    pool: &'a StoragePool,
    volume: &'a VolumeId,
    at_once: usize,
    pace: Arc<Pace>,
    tally: Tally,
}

impl StoragePool {
    /// Moves all files of a volume to the others, as fast as [`DrainOptions`] say by default.
    ///
    /// # Errors
    /// As [`drain_with`](Self::drain_with).
    ///
    /// # Cancel safety
    /// As [`drain_with`](Self::drain_with).
    pub async fn drain(&self, id: &VolumeId) -> Result<DrainReport> {
        self.drain_with(id, DrainOptions::default(), |_| ()).await
    }

    /// Moves all files of a volume to the others, and tells `progress` now and then how far it is; that is called on the
    /// caller's task and should return at once. Returns when nothing rests there any more but damaged files, which are
    /// reported and left. Then [`remove`](Self::remove) lets the volume go.
    ///
    /// From the beginning on the volume takes no new content; what it holds is read, leased and completed as ever, also
    /// while it moves. Each file is checked on its way, durable at its new place before its record says so, and its old
    /// bytes stay until that is durable. The volume goes on taking no new content when this fails or is dropped: call it
    /// again, or [`stop_draining`](Self::stop_draining). A restart does not change that: call it again, it begins where the
    /// files are.
    ///
    /// # Errors
    /// Before anything happened: [`Error::VolumeNotFound`]; [`Error::VolumeBusy`] when it is being drained already;
    /// [`Error::VolumeUnavailable`] and [`Error::InsufficientStorage`] when files rest there and no other volume takes
    /// them; [`Error::InvalidArgument`] for the options. Later, what is moved being moved: the same two, when the last
    /// volume that takes files fails or is full, or this one becomes unavailable; [`Error::Poisoned`],
    /// [`Error::ShuttingDown`].
    ///
    /// # Cancel safety
    /// What is moved is moved, the rest is where it was. What a move that was given up left on a volume is
    /// [`residue`](Self::residue), or adopted by the next one.
    pub async fn drain_with(
        &self,
        id: &VolumeId,
        options: DrainOptions,
        progress: impl Fn(DrainProgress) + Send + Sync,
    ) -> Result<DrainReport> {
        options.check()?;
        if self.inner.mounts.get(id).is_none() {
            return Err(Error::VolumeNotFound { volume: id.clone() });
        }
        let _one = self.inner.draining.begin(id)?;
        if self.inner.store.files_on(id) > 0 {
            self.inner.mounts.check_place(&self.inner.placement, std::slice::from_ref(id))?;
        }
        let before = self.inner.mounts.set_standing(id, VolumeStanding::Draining).await?;
        if before != VolumeStanding::Draining {
            info!(volume = %id, files = self.inner.store.files_on(id), "volume is being drained");
            self.inner.mounts.events.tell(VolumeEvent::Draining { volume: id.clone() });
        }
        let mut run = Run {
            pool: self,
            volume: id,
            at_once: options.at_once,
            pace: options.pace(self.clock()),
            tally: Tally::default(),
        };
        run.move_all(&progress).await?;
        self.inner.store.sync().await?; // only then may anything be removed
        run.wait_empty(&progress).await?;
        let Tally { moved, moved_bytes, damaged, .. } = run.tally;
        let (files_left, uploads_left) =
            (self.inner.store.files_on(id), self.inner.store.uploads_on(id).uploads);
        let report = DrainReport { moved, moved_bytes, damaged, files_left, uploads_left };
        info!(
            volume = %id, moved = report.moved, left = report.files_left, uploads = report.uploads_left, "volume drained"
        );
        if report.files_left == 0 && report.uploads_left == 0 {
            self.inner.mounts.events.tell(VolumeEvent::Drained { volume: id.clone() });
        }
        Ok(report)
    }

    /// Lets a volume that was being drained, mounted or not, take new content again. What was moved stays where it is.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`] when it is neither mounted nor being drained; [`Error::VolumeBusy`] while the drain runs: drop
    /// it first. [`Error::Poisoned`], [`Error::ShuttingDown`], [`Error::InsufficientStorage`].
    ///
    /// # Cancel safety
    /// After a dropped future it is drained or not.
    pub async fn stop_draining(&self, id: &VolumeId) -> Result<()> {
        let _one = self.inner.draining.begin(id)?;
        let drains = self.inner.mounts.standing_of(id) == VolumeStanding::Draining;
        if !drains && self.inner.mounts.get(id).is_none() {
            return Err(Error::VolumeNotFound { volume: id.clone() });
        }
        if drains {
            self.inner.mounts.set_standing(id, VolumeStanding::InUse).await?;
            self.inner.mounts.events.tell(VolumeEvent::DrainStopped { volume: id.clone() });
        }
        Ok(())
    }
}

impl Run<'_> {
    /// Passes over the files there, until only damaged ones are left.
    async fn move_all(&mut self, progress: &(impl Fn(DrainProgress) + Send + Sync)) -> Result<()> {
        loop {
            // In this order: a write that is over by now has its record by now.
            let writes = self.pool.inner.mounts.writes_to(self.volume);
            self.tally.begin_pass();
            self.pass(progress).await?;
            match self.tally.end_pass()? {
                After::Settled => {}
                // What lies beside a content holds it there, and is removed from no volume that takes no writes.
                After::Stayed if !self.is_there()?.status().takes_writes() => return Ok(()),
                After::Stayed => self.look_again().await,
                After::Nothing if writes > 0 => self.look_again().await,
                After::Nothing => return Ok(()),
            }
        }
    }

    async fn pass(&mut self, progress: &(impl Fn(DrainProgress) + Send + Sync)) -> Result<()> {
        let mut from = None;
        loop {
            self.is_there()?;
            let page = self.pool.inner.store.resting_on(self.volume, from, PAGE_FILES);
            self.move_page(page.files).await?;
            progress(self.progress());
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn move_page(&mut self, mut files: Vec<(TenantId, FileKey)>) -> Result<()> {
        files.retain(|(_, key)| !self.tally.is_damaged(key));
        let (pool, pace) = (self.pool, &self.pace);
        let volume = self.volume;
        let moves = files.into_iter().map(|(tenant, key)| async move {
            let Some(moving) = pool.inner.store.begin_move_from(&tenant, &key, volume) else {
                return (tenant, key, 0, None);
            };
            let size = moving.record().info.size;
            let moved = pool.transfer(pool.inner.moves.right(moving), pace).await;
            (tenant, key, size, Some(moved))
        });
        for (tenant, key, size, moved) in join_bounded(moves.collect(), self.at_once).await {
            self.tally.take(tenant, key, size, moved)?;
        }
        Ok(())
    }

    /// Waits until what was moved or is over is removed, as far as the volume lets anything be removed.
    async fn wait_empty(&self, progress: &(impl Fn(DrainProgress) + Send + Sync)) -> Result<()> {
        loop {
            let volume = self.is_there()?;
            progress(self.progress());
            let left = self.pool.inner.store.files_on(self.volume);
            if left <= self.tally.damaged_files() || !volume.status().takes_writes() {
                return Ok(());
            }
            self.look_again().await;
        }
    }

    fn is_there(&self) -> Result<Arc<dyn locus_core::StorageVolume>> {
        self.pool.inner.mounts.usable(self.volume)
    }

    async fn look_again(&self) {
        let clock = self.pool.clock();
        clock.sleep_until(clock.monotonic().saturating_add(LOOK_AGAIN)).await;
    }

    fn progress(&self) -> DrainProgress {
        DrainProgress {
            files_left: self.pool.inner.store.files_on(self.volume),
            bytes_left: self.pool.inner.store.bytes_on(self.volume),
            moved: self.tally.moved,
            moved_bytes: self.tally.moved_bytes,
            damaged: self.tally.damaged_files(),
            uploads_left: self.pool.inner.store.uploads_on(self.volume).uploads,
        }
    }
}
