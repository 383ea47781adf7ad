//! What killed writes left on volumes: staging, pieces of uploads that ended, and blobs that no record names.
//!
//! A write takes its key first, then writes its blob, then its record; keys are never used again. So a blob is listed
//! first and its key asked for afterwards: whoever is unknown then was given up, and nothing will ever name it.

use std::collections::VecDeque;

use locus_core::{
    Area, BlobPage, CleanupStatistics, Cursor, Error, Outcome, Result, StoragePath, StorageVolume, Tidy,
    TidyReport, VolumeId,
};
use tracing::info;

use crate::Sweeper;

/// Most blobs that one step looks at.
pub const LIST_BLOBS_MAX: usize = 256;

/// Most idle uploads that one step ends.
pub const EXPIRE_UPLOADS_MAX: usize = 256;

/// Where a scan stands. Small whatever the volumes hold.
#[derive(Debug)]
pub(crate) struct Scan {
    volumes: VecDeque<VolumeId>,
    /// Where in the first of them; `None` before its beginning.
    at: Option<At>,
}

/// Where in a volume a page begins.
#[derive(Debug)]
enum At {
    Staged(Cursor),
    Blobs(Option<Cursor>),
}

impl Sweeper {
    /// Looks through all mounted, healthy volumes, and removes staging of writes that no longer run and blobs that
    /// neither a record nor a write in flight names. Goes on where a dropped or failed call left off. Calls run one
    /// after the other.
    ///
    /// # Errors
    /// [`Error::Poisoned`] once the store does not trust its records any more: nothing is removed then. Failures of
    /// single blobs or volumes are counted and passed by.
    ///
    /// # Cancel safety
    /// What was removed is; the next call goes on at the page it was at.
    pub async fn leftovers(&self) -> Result<CleanupStatistics> {
        let mut done = CleanupStatistics::default();
        loop {
            let expired = self.expire_uploads_step().await?;
            done.add(&expired);
            if expired.uploads_expired == 0 {
                break;
            }
        }
        let mut scan = self.scan.lock().await;
        while self.step(&mut scan, &mut done).await? {}
        if done.orphans_removed + done.staging_removed > 0 {
            info!(
                blobs = done.orphans_removed,
                staging = done.staging_removed,
                "leftovers of writes removed"
            );
        }
        Ok(done)
    }

    /// One page of [`leftovers`](Self::leftovers), at most 256 blobs. Says what it did, and whether the scan goes on.
    ///
    /// # Errors
    /// As [`leftovers`](Self::leftovers).
    ///
    /// # Cancel safety
    /// As [`leftovers`](Self::leftovers).
    pub async fn leftovers_step(&self) -> Result<(CleanupStatistics, bool)> {
        let mut done = CleanupStatistics::default();
        let more = self.step(&mut *self.scan.lock().await, &mut done).await?;
        Ok((done, more))
    }

    /// Ends up to 256 uploads to which nothing came for too long. What is staged for them is removed as any leftover is.
    ///
    /// # Errors
    /// What the store says.
    ///
    /// # Cancel safety
    /// What was ended is; the rest is found again.
    pub async fn expire_uploads_step(&self) -> Result<CleanupStatistics> {
        let began = self.clock.monotonic();
        let mut step = CleanupStatistics::default();
        step.uploads_expired = self.upkeep.expire_uploads(EXPIRE_UPLOADS_MAX).await? as u64;
        Ok(self.count(step, began))
    }

    /// Removes what killed and failed writes left under this storage path on all mounted, healthy volumes, durably. Says what
    /// it did.
    ///
    /// # Errors
    /// As [`leftovers`](Self::leftovers); and [`Error::VolumeUnavailable`] names the first volume on which something could not
    /// be looked at or removed, when all have been gone through.
    ///
    /// # Cancel safety
    /// What was removed is; the rest is found again.
    pub async fn leftovers_of(&self, owner: &StoragePath) -> Result<CleanupStatistics> {
        if !self.upkeep.is_trustworthy() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        let began = self.clock.monotonic();
        let mut done = CleanupStatistics::default();
        let mut failed = None;
        for volume in self.volumes.all().into_iter().filter(|volume| volume.status().is_healthy) {
            let errors = done.errors;
            if let Err(error) = self.discard_of(&*volume, owner, &mut done).await {
                self.tell(volume.id(), "look for leftovers", &error);
                done.errors += 1;
            }
            let mut from = None;
            loop {
                match volume.list(Some(owner), from.as_ref(), LIST_BLOBS_MAX).await {
                    Ok(page) => {
                        self.remove_unknown(&*volume, &page, &mut done).await;
                        from = page.next;
                    }
                    Err(error) => {
                        self.tell(volume.id(), "look for leftovers", &error);
                        done.errors += 1;
                        from = None;
                    }
                }
                if from.is_none() {
                    break;
                }
            }
            // Also for what others removed just now.
            if let Err(error) = volume.sync_names().await {
                self.tell(volume.id(), "sync names", &error);
                done.errors += 1;
            }
            if done.errors > errors {
                failed.get_or_insert_with(|| volume.id().clone());
            }
        }
        let done = self.count(done, began);
        match failed {
            None => Ok(done),
            Some(id) => {
                let why = "does not let what writes left there be found or removed: the log says why".into();
                Err(Error::VolumeUnavailable { volume: Some(id), why })
            }
        }
    }

    async fn step(&self, scan: &mut Option<Scan>, done: &mut CleanupStatistics) -> Result<bool> {
        if !self.upkeep.is_trustworthy() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        let began = self.clock.monotonic();
        let mut step = CleanupStatistics::default();
        let going = scan.get_or_insert_with(|| Scan {
            volumes: self.volumes.all().iter().map(|volume| volume.id().clone()).collect(),
            at: None,
        });
        let more = self.step_volume(going, &mut step).await;
        if !more {
            *scan = None;
        }
        done.add(&self.count(step, began));
        Ok(more)
    }

    async fn step_volume(&self, scan: &mut Scan, step: &mut CleanupStatistics) -> bool {
        let Some(id) = scan.volumes.front() else { return false };
        let volume = self.volumes.volume(id).filter(|volume| volume.status().is_healthy);
        let next = match volume {
            Some(volume) => self.page(&*volume, scan.at.as_ref(), step).await.unwrap_or_else(|error| {
                self.tell(id, "look for leftovers", &error);
                step.errors += 1;
                None
            }),
            None => None,
        };
        scan.at = next;
        if scan.at.is_none() {
            scan.volumes.pop_front();
        }
        !scan.volumes.is_empty()
    }

    /// One page of one volume; says where it goes on.
    async fn page(
        &self,
        volume: &dyn StorageVolume,
        from: Option<&At>,
        step: &mut CleanupStatistics,
    ) -> Result<Option<At>> {
        let from = match from {
            None => {
                note(volume.tidy(Tidy::StaleStaging).await?, step);
                return self.staged_page(volume, None, step).await.map(Some);
            }
            Some(At::Staged(from)) => return self.staged_page(volume, Some(from), step).await.map(Some),
            Some(At::Blobs(from)) => from.as_ref(),
        };
        let mut page = volume.list(None, from, LIST_BLOBS_MAX).await?;
        page.blobs.retain(|found| found.path.area != Area::Quarantine);
        self.remove_unknown(volume, &page, step).await;
        Ok(page.next.map(|next| At::Blobs(Some(next))))
    }

    /// What is staged for this owner, page by page.
    async fn discard_of(
        &self,
        volume: &dyn StorageVolume,
        owner: &StoragePath,
        step: &mut CleanupStatistics,
    ) -> Result<()> {
        let mut from = None;
        loop {
            let mut page = volume.staged(from.as_ref(), LIST_BLOBS_MAX).await?;
            page.blobs.retain(|found| found.path.owner == *owner);
            self.discard_unknown(volume, &page, step).await;
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn staged_page(
        &self,
        volume: &dyn StorageVolume,
        from: Option<&Cursor>,
        step: &mut CleanupStatistics,
    ) -> Result<At> {
        let page = volume.staged(from, LIST_BLOBS_MAX).await?;
        self.discard_unknown(volume, &page, step).await;
        Ok(page.next.map_or(At::Blobs(None), At::Staged))
    }

    /// A place is noted before anything is staged there, and never used again: what no upload names is given up.
    async fn discard_unknown(
        &self,
        volume: &dyn StorageVolume,
        page: &BlobPage,
        step: &mut CleanupStatistics,
    ) {
        for found in &page.blobs {
            if self.upkeep.is_staging(&found.path.owner, &found.path.key) || !self.upkeep.is_trustworthy() {
                continue;
            }
            match volume.discard(&found.path).await {
                Ok(removed) => {
                    step.staging_removed += u64::from(removed);
                    step.space_freed += if removed { found.length } else { 0 };
                }
                Err(error) => {
                    self.tell(volume.id(), "remove a leftover", &error);
                    step.errors += 1;
                }
            }
        }
    }

    async fn remove_unknown(
        &self,
        volume: &dyn StorageVolume,
        page: &BlobPage,
        step: &mut CleanupStatistics,
    ) {
        for found in &page.blobs {
            // Asked in this order: what is said of a key counts only if it was said by a store that knows all.
            let claim = self.upkeep.claim(volume.id(), &found.path);
            let Some(claim) = claim.filter(|_| self.upkeep.is_trustworthy()) else { continue };
            let deleted = volume.delete(&found.path).await;
            claim.release();
            match deleted {
                Ok(true) => {
                    step.orphans_removed += 1;
                    step.space_freed += found.length;
                }
                Ok(false) => {}
                Err(error) => {
                    self.tell(volume.id(), "remove a leftover", &error);
                    step.errors += 1;
                }
            }
        }
    }
}

fn note(tidied: TidyReport, step: &mut CleanupStatistics) {
    step.staging_removed += tidied.removed;
    step.space_freed += tidied.bytes;
    step.errors += tidied.failed;
}
