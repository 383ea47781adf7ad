//! Forgetting the files of a volume that never comes back.

use std::collections::BTreeMap;

use locus_core::{Error, FileKey, Lsn, MetadataStore, Outcome, Result, TenantId, VolumeId};

use super::{
    embedded::EmbeddedStore,
    entry::Rest,
    event::{Change, keys_bound},
    leases::LEASE_MAX,
};
use crate::journal::Use;

impl EmbeddedStore {
    /// Deletes up to `max` living files there, and lets the records of as many that are over go; then ends uploads.
    pub(super) async fn forget_some_on(&self, volume: &VolumeId, max: usize) -> Result<u64> {
        if self.journal.is_poisoned() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        let Some(no) = self.places.find(volume) else { return Ok(0) };
        let max = max.clamp(1, LEASE_MAX);
        let mut living: BTreeMap<TenantId, Vec<FileKey>> = BTreeMap::new();
        let mut from = None;
        loop {
            let found: usize = living.values().map(Vec::len).sum();
            let page = self.resting_page(volume, from, max - found);
            for (tenant, key) in page.files {
                living.entry(tenant).or_default().push(key);
            }
            from = page.next;
            if from.is_none() || living.values().map(Vec::len).sum::<usize>() >= max {
                break;
            }
        }
        let mut last = Lsn::ZERO;
        for (tenant, keys) in living {
            let Some(cell) = self.cell(&tenant) else { continue };
            let mut room = self.journal.reserve(Use::Essential, &[keys_bound(keys.len())]).await?;
            let mut state = cell.state.lock();
            // Some may have ended or moved meanwhile.
            let rests = |key: &FileKey| state.rests_at(key, Rest::Volume(no));
            let keys: Vec<_> = keys.into_iter().filter(rests).collect();
            if keys.is_empty() {
                continue;
            }
            keys.iter().for_each(|key| self.suspect_is_back(cell.no, key));
            let deleted: Vec<_> = keys.into_iter().map(|key| Change::Deleted { key }).collect();
            last = self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &deleted)?;
        }
        // Not before it is certain that they are over.
        self.make_durable(last.max(self.journal.last_appended())).await?;
        let taken = self.reap.lock().take_from(no, max, self.journal.durable());
        let files = self.reapables(taken.into_iter().map(|over| (no, over)));
        self.record_reaped(&files).await?;
        if self.files_on(volume) == 0 {
            self.end_uploads_on(no).await?;
        }
        Ok(self.files_on(volume) + self.uploads_on(volume).uploads)
    }
}
