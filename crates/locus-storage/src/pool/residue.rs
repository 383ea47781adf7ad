//! What writes that failed or were given up left on volumes, and who removes it.

use std::sync::Arc;

use locus_core::{BlobPath, Knowledge, StorageVolume, Upkeep, VolumeId, undisturbed};
use parking_lot::Mutex;
use tracing::{debug, warn};

use super::StoragePool;

/// Most residue that a pool remembers. What is beyond is left to the sweep of leftovers.
pub const RESIDUE_MAX: usize = 4_096;

/// After a write was given up, its volume may still bring it to its end: residue counts as gone when it was found
/// absent so often.
const ABSENT_MIN: u32 = 2;

/// A blob, or what may become one, that no record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Residue {
    /// Where it is.
    pub volume: VolumeId,
    /// Where there.
    pub blob: BlobPath,
}

#[derive(Debug, Default)]
pub(super) struct ResidueList {
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug, Clone)]
struct Entry {
    residue: Residue,
    absent: u32,
}

impl ResidueList {
    fn note(&self, residue: Residue) {
        let mut entries = self.entries.lock();
        if entries.len() < RESIDUE_MAX {
            entries.push(Entry { residue, absent: 0 });
        } else {
            debug!(volume = %residue.volume, blob = %residue.blob, "residue left to the next sweep");
        }
    }

    fn forget(&self, residue: &Residue) {
        self.entries.lock().retain(|entry| entry.residue != *residue);
    }

    /// Removes one residue, and remembers it only when that fails.
    async fn remove(&self, volume: &dyn StorageVolume, residue: Residue) {
        if let Err(error) = volume.delete(&residue.blob).await {
            let error = &error as &dyn std::error::Error;
            warn!(volume = %residue.volume, blob = %residue.blob, error, "residue of a failed write could not be removed, kept for later");
            self.note(residue);
        }
    }

    /// Tries to remove one remembered residue; keeps it until it is certainly gone.
    async fn retry(&self, volume: &dyn StorageVolume, residue: &Residue) {
        match volume.delete(&residue.blob).await {
            Ok(true) => self.forget(residue),
            Ok(false) => {
                let mut entries = self.entries.lock();
                entries
                    .iter_mut()
                    .filter(|entry| entry.residue == *residue)
                    .for_each(|entry| entry.absent += 1);
                entries.retain(|entry| entry.absent < ABSENT_MIN);
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                debug!(volume = %residue.volume, blob = %residue.blob, error, "residue could not be removed, kept for later");
            }
        }
    }
}

impl StoragePool {
    /// What failed and given-up writes left and could not be removed so far.
    #[must_use]
    pub fn residue(&self) -> Vec<Residue> {
        self.inner.residue.entries.lock().iter().map(|entry| entry.residue.clone()).collect()
    }

    /// A step of tidying: tries once to remove each [`residue`](Self::residue) that no record names, and says how much
    /// is left. What lies on a volume that is not mounted waits for it.
    ///
    /// # Cancel safety
    /// A dropped step goes on where it was at the next.
    pub async fn tidy_residue(&self, upkeep: &dyn Upkeep) -> usize {
        for residue in self.residue() {
            if !upkeep.is_trustworthy() {
                break;
            }
            match upkeep.knows(&residue.volume, &residue.blob) {
                Knowledge::Recorded => self.inner.residue.forget(&residue),
                Knowledge::InFlight => {}
                Knowledge::Elsewhere | Knowledge::Unknown => {
                    if let Some(volume) = self.inner.mounts.get(&residue.volume) {
                        self.tidy(volume, upkeep, residue).await;
                    }
                }
            }
        }
        self.inner.residue.entries.lock().len()
    }

    /// Tries to remove one residue that no record names, as long as none can come to name it meanwhile.
    async fn tidy(&self, volume: Arc<dyn StorageVolume>, upkeep: &dyn Upkeep, residue: Residue) {
        // Else it came to be named, or is about to be, just now.
        let Some(claim) = upkeep.claim(&residue.volume, &residue.blob) else { return };
        let list = Arc::clone(&self.inner.residue);
        undisturbed(async move {
            list.retry(&*volume, &residue).await;
            claim.release();
        })
        .await;
    }
}

/// Content on a volume whose record is not accepted yet. Dropping it hands the blob to the residue list.
#[derive(Debug)]
#[must_use = "dropping it removes the blob"]
pub(super) struct Unrecorded {
    list: Arc<ResidueList>,
    volume: Arc<dyn StorageVolume>,
    blob: BlobPath,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// No record names it, and none will.
    Unwanted,
    /// A record may name it by now.
    Unknown,
    /// Its record is there, or somebody else looks after it.
    Settled,
}

impl Unrecorded {
    pub(super) fn new(list: &Arc<ResidueList>, volume: &Arc<dyn StorageVolume>, blob: BlobPath) -> Self {
        Self { list: Arc::clone(list), volume: Arc::clone(volume), blob, fate: Fate::Unwanted }
    }

    /// The record is on its way: from now on only the store can tell whether the blob is wanted.
    pub(super) fn accepting(mut self) -> Self {
        self.fate = Fate::Unknown;
        self
    }

    /// The blob is somebody else's business now.
    pub(super) fn settle(mut self) {
        self.fate = Fate::Settled;
    }

    /// Removes the blob, which no record names. What cannot be removed is remembered.
    pub(super) async fn remove(mut self) {
        self.fate = Fate::Unwanted;
        self.list.remove(&*self.volume, self.residue()).await;
        self.fate = Fate::Settled;
    }

    fn residue(&self) -> Residue {
        Residue { volume: self.volume.id().clone(), blob: self.blob.clone() }
    }
}

impl Drop for Unrecorded {
    fn drop(&mut self) {
        if self.fate == Fate::Settled {
            return;
        }
        let residue = self.residue();
        self.list.note(residue.clone());
        // Without a runtime, and where the store must be asked, `tidy_residue` does it.
        if self.fate == Fate::Unwanted
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (list, volume) = (Arc::clone(&self.list), Arc::clone(&self.volume));
            runtime.spawn(async move { list.retry(&*volume, &residue).await });
        }
    }
}
