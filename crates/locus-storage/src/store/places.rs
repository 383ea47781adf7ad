//! The volumes as the store sees them (a number each, available or not, how many files rest there), and the totals over
//! all tenants.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use locus_core::{Place, QuotaUnit, SealKeyId, UploadLoad, VolumeId};

use super::{
    entry::{JOURNAL, Rest, VolumeNo},
    limits::{Ceiling, Over, Tally},
    tenant::Upload,
};
use crate::sync::{AtomicBool, AtomicU64, Mutex, RwLock};

/// One volume.
#[derive(Debug)]
struct Seen {
    id: VolumeId,
    available: AtomicBool,
    files: AtomicU64,
    /// Uploads that are put together there.
    uploads: AtomicU64,
    /// Bytes that they have still to write.
    upload_bytes: AtomicU64,
    bytes: AtomicU64,
    /// What moves left there, or may have, and is not removed yet.
    copies: AtomicU64,
}

/// Volumes and totals. Every method is a memory operation.
#[derive(Debug, Default)]
pub(crate) struct Places {
    volumes: RwLock<Vec<Arc<Seen>>>,
    /// Files of all tenants that count. One that changes its state is missing for a moment.
    pub(crate) files: AtomicU64,
    /// Bytes of these files.
    pub(crate) bytes: AtomicU64,
    /// Files that count and rooms reserved by writes under way: what the global limit is held against. It stands still
    /// while a room becomes a file or a file changes its state.
    taken: Mutex<Tally>,
    /// Files whose content rests in the journal.
    pub(crate) in_journal: AtomicU64,
    /// Most bytes that all files take in a checkpoint.
    saved_bytes: AtomicU64,
    /// Idempotency keys remembered.
    pub(crate) remembered: AtomicU64,
    /// Copies that nobody names.
    pub(crate) copies: AtomicU64,
    /// How many contents each key has sealed.
    seals: Mutex<BTreeMap<SealKeyId, u64>>,
}

impl Places {
    /// The number of a volume, given to it when it is first seen.
    pub(crate) fn number(&self, id: &VolumeId) -> VolumeNo {
        if let Some(at) = self.find(id) {
            return at;
        }
        let mut volumes = self.volumes.write();
        if let Some(at) = volumes.iter().position(|seen| seen.id == *id) {
            return at as VolumeNo;
        }
        volumes.push(Arc::new(Seen {
            id: id.clone(),
            available: AtomicBool::new(false),
            files: AtomicU64::new(0),
            uploads: AtomicU64::new(0),
            upload_bytes: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            copies: AtomicU64::new(0),
        }));
        (volumes.len() - 1) as VolumeNo
    }

    pub(crate) fn find(&self, id: &VolumeId) -> Option<VolumeNo> {
        self.volumes.read().iter().position(|seen| seen.id == *id).map(|at| at as VolumeNo)
    }

    pub(crate) fn id(&self, volume: VolumeNo) -> VolumeId {
        self.seen(volume).id.clone()
    }

    /// Where a content rests, as it is told outside.
    pub(crate) fn place(&self, rest: Rest) -> Place {
        match rest {
            Rest::Volume(volume) => Place::Volume(self.id(volume)),
            Rest::Journal(_) => Place::Store,
        }
    }

    /// The journal is always available.
    pub(crate) fn is_available(&self, volume: VolumeNo) -> bool {
        volume == JOURNAL || self.seen(volume).available.load(Ordering::Acquire)
    }

    /// Says whether that is a change.
    pub(crate) fn set_available(&self, id: &VolumeId, available: bool) -> bool {
        self.seen(self.number(id)).available.swap(available, Ordering::AcqRel) != available
    }

    /// Takes room for so much more, unless a limit is in the way.
    pub(crate) fn take(&self, limit: Ceiling, more: Tally) -> Result<(), Over> {
        let mut taken = self.taken.lock();
        admit_all(limit, *taken, more)?;
        taken.add(more);
        Ok(())
    }

    /// Whether [`take`](Self::take) would find room now.
    pub(crate) fn check_room(&self, limit: Ceiling, more: Tally) -> Result<(), Over> {
        admit_all(limit, *self.taken.lock(), more)
    }

    /// Gives back the room of what is gone, or never came to be.
    pub(crate) fn give_back(&self, room: Tally) {
        self.taken.lock().subtract(room);
    }

    /// A file takes so many bytes now, whatever the limit.
    pub(crate) fn exchange(&self, before: u64, now: u64) {
        let mut taken = self.taken.lock();
        taken.bytes = taken.bytes - before + now;
    }

    pub(crate) fn taken(&self) -> Tally {
        *self.taken.lock()
    }

    /// All volumes that were ever seen.
    pub(crate) fn all(&self) -> Vec<(VolumeNo, VolumeId)> {
        let volumes = self.volumes.read();
        volumes.iter().enumerate().map(|(at, seen)| (at as VolumeNo, seen.id.clone())).collect()
    }

    pub(crate) fn saved_bytes(&self) -> u64 {
        self.saved_bytes.load(Ordering::Acquire)
    }

    /// A file's share of a checkpoint is so much more, or less.
    pub(crate) fn count_saved(&self, bytes: u64, more: bool) {
        if more {
            self.saved_bytes.fetch_add(bytes, Ordering::AcqRel);
        } else {
            self.saved_bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
    }

    pub(crate) fn files_on(&self, volume: VolumeNo) -> u64 {
        self.seen(volume).files.load(Ordering::Acquire)
    }

    /// What uploads hold of a volume.
    pub(crate) fn uploads_on(&self, volume: VolumeNo) -> UploadLoad {
        let seen = self.seen(volume);
        UploadLoad {
            uploads: seen.uploads.load(Ordering::Acquire),
            bytes_left: seen.upload_bytes.load(Ordering::Acquire),
        }
    }

    /// An upload is under way from now on, or no more.
    pub(crate) fn count_upload(&self, upload: &Upload, more: bool) {
        self.count_saved(upload.saved_bytes(), more);
        if let Some(seal) = &upload.seal {
            self.count_seal(seal.key, more);
        }
        let seen = self.seen(upload.volume);
        if more {
            seen.uploads.fetch_add(1, Ordering::AcqRel);
            seen.upload_bytes.fetch_add(upload.bytes_left(), Ordering::AcqRel);
        } else {
            seen.uploads.fetch_sub(1, Ordering::AcqRel);
            seen.upload_bytes.fetch_sub(upload.bytes_left(), Ordering::AcqRel);
        }
    }

    pub(crate) fn bytes_on(&self, volume: VolumeNo) -> u64 {
        self.seen(volume).bytes.load(Ordering::Acquire)
    }

    pub(crate) fn copies_on(&self, volume: VolumeNo) -> u64 {
        self.seen(volume).copies.load(Ordering::Acquire)
    }

    /// A move left something there, or that is gone.
    pub(crate) fn count_copy(&self, volume: VolumeNo, more: bool) {
        let seen = self.seen(volume);
        if more {
            self.copies.fetch_add(1, Ordering::AcqRel);
            seen.copies.fetch_add(1, Ordering::AcqRel);
        } else {
            self.copies.fetch_sub(1, Ordering::AcqRel);
            seen.copies.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A content is sealed with this key from now on, or no more.
    pub(crate) fn count_seal(&self, key: SealKeyId, more: bool) {
        let mut seals = self.seals.lock();
        let count = seals.entry(key).or_default();
        *count = if more { *count + 1 } else { *count - 1 };
        if *count == 0 {
            seals.remove(&key);
        }
    }

    /// The keys that contents are sealed with, and how many of each.
    pub(crate) fn seals(&self) -> BTreeMap<SealKeyId, u64> {
        self.seals.lock().clone()
    }

    /// A file of so many bytes rests there from now on, or no more, and counts against the limits of the store or not.
    pub(crate) fn count(&self, volume: VolumeNo, bytes: u64, counts: bool, more: bool) {
        let seen = (volume != JOURNAL).then(|| self.seen(volume));
        let files = seen.as_ref().map_or(&self.in_journal, |seen| &seen.files);
        if let Some(seen) = &seen {
            if more {
                seen.bytes.fetch_add(bytes, Ordering::AcqRel);
            } else {
                seen.bytes.fetch_sub(bytes, Ordering::AcqRel);
            }
        }
        let (all, all_bytes) = if counts { (1, bytes) } else { (0, 0) };
        if more {
            files.fetch_add(1, Ordering::AcqRel);
            self.files.fetch_add(all, Ordering::AcqRel);
            self.bytes.fetch_add(all_bytes, Ordering::AcqRel);
        } else {
            files.fetch_sub(1, Ordering::AcqRel);
            self.files.fetch_sub(all, Ordering::AcqRel);
            self.bytes.fetch_sub(all_bytes, Ordering::AcqRel);
        }
    }

    fn seen(&self, volume: VolumeNo) -> Arc<Seen> {
        Arc::clone(&self.volumes.read()[usize::from(volume)])
    }
}

/// Bytes are announced before they come, as many as somebody likes: all rooms together are a number all the same. No sum of
/// some of them needs to be looked at again.
fn admit_all(limit: Ceiling, taken: Tally, more: Tally) -> Result<(), Over> {
    limit.admit(taken, more)?;
    match taken.bytes.checked_add(more.bytes) {
        Some(_) => Ok(()),
        None => Err(Over { used: taken.bytes, limit: u64::MAX, unit: QuotaUnit::Bytes }),
    }
}
