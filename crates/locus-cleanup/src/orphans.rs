//! Blobs that no record names, and what moves and crashes left beside their files.
//!
//! A write takes its key first, then writes its blob, then its record; keys are never used again. So a blob is listed
//! first and its key asked for afterwards: whoever is unknown then was given up, and nothing will ever name it.

use std::sync::Arc;

use locus_core::{
    Area, BlobPage, BlobPath, BriefClaim, CleanupStatistics, Cursor, Error, Knowledge, ListedBlob, Orphan,
    Result, StoragePath, StorageVolume, TenantStatus, undisturbed,
};
use tracing::{info, warn};

use crate::{OrphanPolicy, Sweeper, given_up::is_final, sweep::Run, tour::Tour};

/// Bytes that are read at first to know the checksum of an orphan.
const CHUNK_BYTES: u64 = 1 << 20;

impl Sweeper {
    /// Goes through the blobs of all mounted, healthy volumes, and on where the last run stopped.
    pub(crate) async fn run_orphans(&self, run: &mut Run<'_>) -> Result<()> {
        let mut tour = self.tour(&self.scan, &run.options, self.settings.orphans.budget).await;
        let ran = self.scan_blobs(&mut tour, run).await;
        if let Some(stand) = tour.shared() {
            self.keep(|stands| stands.scan = stand.clone()).await;
        }
        ran
    }

    /// Goes through all of them.
    pub(crate) async fn run_all_orphans(&self, run: &mut Run<'_>) -> Result<()> {
        self.scan_blobs(&mut self.whole_tour(), run).await
    }

    async fn scan_blobs(&self, tour: &mut Tour<'_, Cursor>, run: &mut Run<'_>) -> Result<()> {
        let Some(owner) = self.owner_of(run).await? else { return Ok(()) };
        let dry_run = run.options.dry_run;
        let mut is_current = Owners::default();
        while let Some((id, from, most)) = tour.next(self.settings.orphans.batch) {
            self.check_trust()?;
            let began = self.clock.monotonic();
            let mut step = CleanupStatistics::default();
            let volume = self.volumes.volume(&id).filter(|volume| volume.status().is_healthy);
            let volume = volume.filter(|volume| dry_run || self.takes_writes(&**volume, &mut step));
            if let Some(volume) = volume {
                let page = volume.list(owner.as_ref(), from, most).await.unwrap_or_else(|error| {
                    self.volume_failed(&id, &error, &mut step);
                    BlobPage::default()
                });
                self.passed_by(&id, &page.unread, &mut step);
                for found in &page.blobs {
                    self.look_at(&volume, found, &mut is_current, dry_run, &mut step).await?;
                }
                // What is in quarantine is looked at by people.
                let looked_at = page.blobs.iter().filter(|found| found.path.area != Area::Quarantine).count();
                tour.went_on(looked_at as u64, page.next);
            } else {
                tour.pass_by();
            }
            run.add(&self.count(step, began, dry_run));
        }
        Ok(())
    }

    async fn look_at(
        &self,
        volume: &Arc<dyn StorageVolume>,
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
        volume: &Arc<dyn StorageVolume>,
        found: &ListedBlob,
        dry_run: bool,
        step: &mut CleanupStatistics,
    ) -> Result<()> {
        let done = match self.settings.orphans.policy {
            OrphanPolicy::Delete => dry_run || self.remove_claimed(volume, found, step).await,
            OrphanPolicy::Import if found.path.area == Area::Live => {
                dry_run || self.import(&**volume, found, step).await?
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
        volume: &Arc<dyn StorageVolume>,
        found: &ListedBlob,
        step: &mut CleanupStatistics,
    ) -> bool {
        let removed = self.claimed(volume, found, remove, "remove a leftover", step).await;
        step.space_freed += if removed { found.length } else { 0 };
        removed
    }

    async fn quarantine(
        &self,
        volume: &Arc<dyn StorageVolume>,
        found: &ListedBlob,
        step: &mut CleanupStatistics,
    ) -> bool {
        let moved = self.claimed(volume, found, put_aside, "put into quarantine", step).await;
        if moved {
            warn!(volume = %volume.id(), blob = %found.path, "blob without a record put into quarantine");
        }
        moved
    }

    /// Does something to a blob that nothing names, and lets go of it when that is over, also when this is dropped before; says
    /// whether it did.
    async fn claimed<Done: Future<Output = Result<bool>> + Send>(
        &self,
        volume: &Arc<dyn StorageVolume>,
        found: &ListedBlob,
        act: impl FnOnce(Arc<dyn StorageVolume>, BlobPath) -> Done + Send + 'static,
        what: &'static str,
        step: &mut CleanupStatistics,
    ) -> bool {
        // Asked in this order: what is said of a key counts only if it was said by a store that knows all.
        let claim = self.upkeep.claim(volume.id(), &found.path);
        let Some(claim) = claim.filter(|_| self.upkeep.is_trustworthy()) else { return false };
        let (on, at) = (Arc::clone(volume), found.path.clone());
        let acted = undisturbed(async move {
            let acted = act(on, at).await;
            claim.release();
            acted
        });
        match acted.await {
            Some(Ok(done)) => done,
            Some(Err(error)) => {
                self.tell(volume.id(), what, &error);
                self.failed(step, format!("{}: {}", volume.id(), found.path), &error);
                false
            }
            None => false,
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
        let claim = BriefClaim::from(claim);
        let adopted = async {
            volume.sync_blob(&found.path).await?;
            let mut orphan = read_orphan(volume, &found.path).await?;
            if let Some(disposal) = &self.disposal {
                orphan.seal = disposal.seal_of(volume, &found.path, &orphan.checksum).await?;
            }
            self.upkeep.adopt(claim.hand_over(), orphan).await
        };
        match adopted.await {
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

async fn remove(volume: Arc<dyn StorageVolume>, at: BlobPath) -> Result<bool> {
    volume.delete(&at).await
}

/// The copy first: what a crash leaves is found again, and done again.
async fn put_aside(volume: Arc<dyn StorageVolume>, at: BlobPath) -> Result<bool> {
    match volume.copy(&at, Area::Quarantine).await {
        Err(error) if error.is_absent() => return Ok(false), // its file was completed, and reaped since it was listed
        Err(error) if error.is_taken() => confirm_copy(&*volume, &at).await?,
        copied => copied?,
    }
    volume.delete(&at).await
}

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
    let opened = volume.open(at, 0..CHUNK_BYTES).await?;
    let ends_early = || Error::Corrupt {
        place: format!("{}: {at}", volume.id()),
        why: format!("not all of its {} bytes could be read", opened.length).into(),
    };
    let checksum = opened.checksum().await?.ok_or_else(ends_early)?;
    Ok(Orphan { volume: volume.id().clone(), blob: at.clone(), size: opened.length, checksum, seal: None })
}
