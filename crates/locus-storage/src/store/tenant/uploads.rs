//! The uploads of one tenant that are under way: what of them is there for good, and until when somebody must go on.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::{Bound, Range},
};

use locus_core::{
    Checksum, FileKey, LogicalDir, Lsn, Properties, Seal, StoragePath, StoreTime, TenantId, Timestamp,
    UploadId, UploadInfo, VolumeId,
};
use rangemap::RangeSet;

use crate::store::entry::{SAVED_SEAL_BYTES, VolumeNo};

/// Most bytes that an upload takes in a checkpoint beside its texts and ranges. It is never less than what the file takes
/// that comes of it, so that finishing one needs no room.
const SAVED_BYTES: u64 = 768;
/// Most bytes of a confirmed range.
const SAVED_RANGE_BYTES: u64 = 20;

/// An upload under way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Upload {
    pub(crate) key: FileKey,
    /// The last record that changed it.
    pub(crate) last: Lsn,
    /// `None` when it is the tenant's own id.
    pub(crate) owner: Option<StoragePath>,
    pub(crate) directory: LogicalDir,
    pub(crate) original_name: Option<Box<str>>,
    pub(crate) properties: Properties,
    pub(crate) size: u64,
    pub(crate) expected: Option<Checksum>,
    pub(crate) volume: VolumeNo,
    pub(crate) begun_at: Timestamp,
    /// When something last came.
    pub(crate) touched: StoreTime,
    /// Where its bytes are put together, once they are.
    pub(crate) staging: Option<FileKey>,
    pub(crate) confirmed: RangeSet<u64>,
    /// What is known about its content, when it is to be sealed.
    pub(crate) seal: Option<Seal>,
}

impl Upload {
    /// Bytes that have still to be written.
    pub(crate) fn bytes_left(&self) -> u64 {
        let confirmed: u64 = self.confirmed.iter().map(|range| range.end.saturating_sub(range.start)).sum();
        self.size.saturating_sub(confirmed)
    }

    /// The first range that is missing.
    pub(crate) fn missing(&self) -> Option<Range<u64>> {
        if self.size == 0 {
            return None;
        }
        self.confirmed.gaps(&(0..self.size)).next()
    }

    /// How many separate ranges there are once these are confirmed, too.
    pub(crate) fn ranges_with(&self, ranges: &[Range<u64>]) -> usize {
        let mut all = self.confirmed.clone();
        all.extend(ranges.iter().filter(|range| !range.is_empty()).cloned());
        all.iter().count()
    }

    /// Most bytes that it takes in a checkpoint.
    pub(crate) fn saved_bytes(&self) -> u64 {
        let name = self.original_name.as_ref().map_or(0, |name| name.len());
        let properties: usize =
            self.properties.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let texts = name + properties + self.directory.as_str().len();
        let seal = self.seal.as_ref().map_or(0, |seal| seal.details.len() + SAVED_SEAL_BYTES);
        SAVED_BYTES + (texts + seal) as u64 + SAVED_RANGE_BYTES * self.confirmed.iter().count() as u64
    }

    pub(crate) fn owner(&self, tenant: &TenantId) -> StoragePath {
        self.owner.clone().unwrap_or_else(|| tenant.into())
    }

    /// As callers see it.
    pub(crate) fn info(&self, tenant: &TenantId, volume: VolumeId) -> UploadInfo {
        let new = locus_core::NewUpload {
            tenant: tenant.clone(),
            owner: self.owner(tenant),
            directory: self.directory.clone(),
            original_name: self.original_name.as_deref().map(Into::into),
            properties: self.properties.clone(),
            size: self.size,
            expected: self.expected,
            seal: self.seal.clone(),
            volume,
        };
        let mut info = UploadInfo::begun(UploadId::new(self.key), new, self.begun_at);
        info.staging = self.staging;
        info.confirmed = self.confirmed.iter().cloned().collect();
        info
    }
}

/// All uploads of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    all: BTreeMap<FileKey, Upload>,
    by_touch: BTreeSet<(StoreTime, FileKey)>,
    /// Where bytes of them are put together.
    stagings: HashSet<FileKey>,
    /// Those that ended without a file, until that is durable: by then nothing of them is removed.
    ending: Vec<Ending>,
}

/// The end of an upload.
#[derive(Debug)]
struct Ending {
    lsn: Lsn,
    key: FileKey,
    staging: Option<FileKey>,
}

impl Uploads {
    pub(crate) fn get(&self, key: &FileKey) -> Option<&Upload> {
        self.all.get(key)
    }

    /// Behind `after`, in the order in which they were begun.
    pub(crate) fn after(&self, after: Option<FileKey>) -> impl Iterator<Item = &Upload> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.all.range((from, Bound::Unbounded)).map(|(_, upload)| upload)
    }

    pub(crate) fn insert(&mut self, upload: Upload) {
        self.by_touch.insert((upload.touched, upload.key));
        self.stagings.extend(upload.staging);
        self.all.insert(upload.key, upload);
    }

    pub(crate) fn remove(&mut self, key: &FileKey) -> Option<Upload> {
        let upload = self.all.remove(key)?;
        self.by_touch.remove(&(upload.touched, upload.key));
        if let Some(staging) = upload.staging {
            self.stagings.remove(&staging);
        }
        Some(upload)
    }

    /// One that was removed ended by record `lsn`.
    pub(crate) fn end(&mut self, upload: &Upload, lsn: Lsn) {
        self.ending.push(Ending { lsn, key: upload.key, staging: upload.staging });
    }

    /// Whether an upload that ended above `durable` had this name, or something staged under it.
    pub(crate) fn is_ending(&self, name: &FileKey, durable: Lsn) -> bool {
        let is_named = |end: &Ending| end.key == *name || end.staging == Some(*name);
        self.ending.iter().any(|end| end.lsn > durable && is_named(end))
    }

    /// What ended up to `durable` has ended for good.
    pub(crate) fn settle(&mut self, durable: Lsn) {
        self.ending.retain(|end| end.lsn > durable);
    }

    pub(crate) fn count(&self) -> u64 {
        self.all.len() as u64
    }

    /// Whether something of an upload under way is staged under this key.
    pub(crate) fn stages(&self, staging: &FileKey) -> bool {
        self.stagings.contains(staging)
    }

    /// Up to `max` to which nothing came since `before`.
    pub(crate) fn idle(&self, before: StoreTime, max: usize) -> Vec<FileKey> {
        self.by_touch.iter().take_while(|(at, _)| *at <= before).take(max).map(|(_, key)| *key).collect()
    }
}
