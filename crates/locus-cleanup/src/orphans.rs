//! Blobs that no record names, and what moves and crashes left beside their files.
//!
//! A write takes its key first, then writes its blob, then its record; keys are never used again. So a blob is listed
//! first and its key asked for afterwards: whoever is unknown then was given up, and nothing will ever name it.

use std::collections::VecDeque;

use locus_core::{
    Area, BlobPath, CleanupStatistics, Cursor, Error, Hasher, Knowledge, ListedBlob, Orphan, Result,
    StoragePath, StorageVolume, TenantStatus, VolumeId,
};
use tracing::{info, warn};

use crate::{OrphanPolicy, Sweeper, given_up::is_final, sweep::Run};

/// Bytes that are read at a time to know the checksum of an orphan.
const CHUNK_BYTES: usize = 1 << 20;

/// Where a scan stands. Small whatever the volumes hold.
#[derive(Debug)]
pub(crate) struct Scan {
    volumes: VecDeque<VolumeId>,
    /// Where in the first of them; `None` before its beginning.
    from: Option<Cursor>,
}

impl Sweeper {
    /// Goes through the blobs of all mounted, healthy volumes, and on where the last run stopped.
    pub(crate) async fn run_orphans(&self, run: &mut Run<'_>) -> Result<()> {
        let Some(owner) = self.owner_of(run).await? else { return Ok(()) };
        let mut own = None;
        let mut shared = self.scan.lock().await;
        // Only a run over everything, and one that changes something, goes on from the last.
        let is_shared = owner.is_none() && !run.options.dry_run;
        let scan = if is_shared { &mut *shared } else { &mut own };
        let mut left = if is_shared { self.settings.orphans.budget } else { u64::MAX };
        let mut is_current = Owners::default();
        while left > 0 {
            self.check_trust()?;
            let began = self.clock.monotonic();
            let going = scan.get_or_insert_with(|| Scan {
                volumes: self.volumes.all().iter().map(|volume| volume.id().clone()).collect(),
                from: None,
            });
            let Some(id) = going.volumes.front().cloned() else {
                *scan = None;
                return Ok(());
            };
            let mut step = CleanupStatistics::default();
            let most = self.settings.orphans.batch.min(usize::try_from(left).unwrap_or(usize::MAX));
            let volume = self.volumes.volume(&id).filter(|volume| volume.status().is_healthy);
            let page = match volume {
                Some(volume) => match volume.list(owner.as_ref(), going.from.as_ref(), most).await {
                    Ok(page) => {
                        for found in &page.blobs {
                            self.look_at(&*volume, found, &mut is_current, run.options.dry_run, &mut step)
                                .await?;
                        }
                        page
                    }
                    Err(error) => {
                        self.volume_failed(&id, &error, &mut step);
                        Default::default()
                    }
                },
                None => Default::default(),
            };
            left = left.saturating_sub(page.blobs.len().max(1) as u64);
            going.from = page.next;
            if going.from.is_none() {
                going.volumes.pop_front();
            }
            run.add(&self.count(step, began, run.options.dry_run));
        }
        Ok(())
    }

    async fn look_at(
        &self,
        volume: &dyn StorageVolume,
        found: &ListedBlob,
        owners: &mut Owners,
        dry_run: bool,
        step: &mut CleanupStatistics,
    ) -> Result<()> {
        if found.path.area == Area::Quarantine {
            return Ok(()); // for people to look at, and to remove
        }
        let age = found.path.key.drawn_at().map(|drawn| self.clock.wall().saturating_since(drawn));
        match self.upkeep.knows(volume.id(), &found.path) {
            Knowledge::Recorded | Knowledge::InFlight => {}
            Knowledge::Elsewhere => {
                if dry_run || self.remove_claimed(volume, found, step).await {
                    step.residue_removed += 1;
                }
            }
            Knowledge::Unknown if age.is_some_and(|age| age < self.settings.orphans.age) => {}
            Knowledge::Unknown => match self.is_current(owners, &found.path.owner).await {
                Ok(true) => self.settle_orphan(volume, found, dry_run, step).await?,
                Ok(false) => step.orphans_skipped += 1,
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => self.failed(step, format!("{}: {}", volume.id(), found.path), &error),
            },
        }
        Ok(())
    }

    /// What the policy says. Dead letters are not imported: that they left the queue was somebody's decision.
    async fn settle_orphan(
        &self,
        volume: &dyn StorageVolume,
        found: &ListedBlob,
        dry_run: bool,
        step: &mut CleanupStatistics,
    ) -> Result<()> {
        let done = match self.settings.orphans.policy {
            OrphanPolicy::Delete => dry_run || self.remove_claimed(volume, found, step).await,
            OrphanPolicy::Import if found.path.area == Area::Live => {
                dry_run || self.import(volume, found, step).await?
            }
            _ => dry_run || self.quarantine(volume, found, step).await,
        };
        match self.settings.orphans.policy {
            OrphanPolicy::Delete => step.orphans_removed += u64::from(done),
            OrphanPolicy::Import if found.path.area == Area::Live => step.orphans_imported += u64::from(done),
            _ => step.orphans_quarantined += u64::from(done),
        }
        Ok(())
    }

    /// Removes a blob that nothing names; says whether it did.
    pub(crate) async fn remove_claimed(
        &self,
        volume: &dyn StorageVolume,
        found: &ListedBlob,
        step: &mut CleanupStatistics,
    ) -> bool {
        // Asked in this order: what is said of a key counts only if it was said by a store that knows all.
        let claim = self.upkeep.claim(volume.id(), &found.path);
        let Some(claim) = claim.filter(|_| self.upkeep.is_trustworthy()) else { return false };
        let deleted = volume.delete(&found.path).await;
        claim.release();
        match deleted {
            Ok(removed) => {
                step.space_freed += if removed { found.length } else { 0 };
                removed
            }
            Err(error) => {
                self.tell(volume.id(), "remove a leftover", &error);
                self.failed(step, format!("{}: {}", volume.id(), found.path), &error);
                false
            }
        }
    }

    /// The copy first: what a crash leaves is found again, and done again.
    async fn quarantine(
        &self,
        volume: &dyn StorageVolume,
        found: &ListedBlob,
        step: &mut CleanupStatistics,
    ) -> bool {
        let claim = self.upkeep.claim(volume.id(), &found.path);
        let Some(claim) = claim.filter(|_| self.upkeep.is_trustworthy()) else { return false };
        let moved = match volume.copy(&found.path, Area::Quarantine).await {
            Err(error) if error.is_absent() => Ok(false), // its file was completed, and reaped since it was listed
            Err(error) if error.is_taken() => match confirm_copy(volume, &found.path).await {
                Ok(()) => volume.delete(&found.path).await,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
            Ok(()) => volume.delete(&found.path).await,
        };
        claim.release();
        match moved {
            Ok(false) => false,
            Ok(true) => {
                warn!(volume = %volume.id(), blob = %found.path, "blob without a record put into quarantine");
                true
            }
            Err(error) => {
                self.tell(volume.id(), "put into quarantine", &error);
                self.failed(step, format!("{}: {}", volume.id(), found.path), &error);
                false
            }
        }
    }

    /// Makes it a file. One for which there is no room waits for a later run.
    async fn import(
        &self,
        volume: &dyn StorageVolume,
        found: &ListedBlob,
        step: &mut CleanupStatistics,
    ) -> Result<bool> {
        let Some(claim) = self.upkeep.claim(volume.id(), &found.path) else { return Ok(false) };
        let read = async {
            volume.sync_blob(&found.path).await?;
            read_orphan(volume, &found.path).await
        };
        let adopted = match read.await {
            Ok(orphan) => self.upkeep.adopt(claim, orphan).await,
            Err(error) => {
                claim.release();
                Err(error)
            }
        };
        match adopted {
            Ok(imported) => {
                if imported {
                    info!(volume = %volume.id(), blob = %found.path, "blob without a record became a file");
                }
                Ok(imported)
            }
            Err(error) if is_final(&error) => Err(error),
            Err(error) if error.is_absent() => Ok(false), // its file was completed, and reaped since it was listed
            Err(error) => {
                self.failed(step, format!("{}: {}", volume.id(), found.path), &error);
                Ok(false)
            }
        }
    }

    /// Whether these are blobs of a tenant that is enabled, and not of an earlier one of its name.
    async fn is_current(&self, known: &mut Owners, owner: &StoragePath) -> Result<bool> {
        if let Some((last, is_current)) = &known.0
            && last == owner
        {
            return Ok(*is_current);
        }
        let is_current = match (&self.tenants, owner.tenant()) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(tenants), Some(tenant)) => match tenants.try_get(&tenant).await {
                Ok(found) => found.is_some_and(|tenant| {
                    tenant.status == TenantStatus::Enabled && tenant.storage_path == *owner
                }),
                Err(Error::TenantLost { .. }) => false,
                Err(error) => return Err(error),
            },
        };
        known.0 = Some((owner.clone(), is_current));
        Ok(is_current)
    }
}

/// The owner that was asked for last: blobs are listed owner by owner.
#[derive(Debug, Default)]
struct Owners(Option<(StoragePath, bool)>);

/// What an earlier run put into quarantine may not be durable, or another blob of the same key.
async fn confirm_copy(volume: &dyn StorageVolume, at: &BlobPath) -> Result<()> {
    let copy = at.in_area(Area::Quarantine);
    let (one, other) = (read_orphan(volume, at).await?, read_orphan(volume, &copy).await?);
    if (one.size, one.checksum) != (other.size, other.checksum) {
        let place = format!("{}: {copy}", volume.id());
        return Err(Error::Corrupt { place, why: "it is another blob than the one to be put there".into() });
    }
    volume.sync_blob(&copy).await
}

async fn read_orphan(volume: &dyn StorageVolume, at: &BlobPath) -> Result<Orphan> {
    let opened = volume.open(at, 0..CHUNK_BYTES as u64).await?;
    let mut hasher = Hasher::new();
    let (mut chunk, mut read) = (opened.head, 0_u64);
    loop {
        hasher.update(&chunk);
        read += chunk.len() as u64;
        if read >= opened.length || chunk.is_empty() {
            break;
        }
        chunk = opened.blob.read_at(read, CHUNK_BYTES).await?;
    }
    if read != opened.length {
        let why = format!("{read} of its {} bytes could be read", opened.length);
        return Err(Error::Corrupt { place: format!("{}: {at}", volume.id()), why: why.into() });
    }
    Ok(Orphan { volume: volume.id().clone(), blob: at.clone(), size: read, checksum: hasher.finish() })
}
