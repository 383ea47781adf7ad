//! Which files rest on a volume: a walk over all entries, page by page.

use locus_core::{FilePage, FileRecord, FileStatus, Place, RestingPage, Result, VolumeId};

use super::{
    embedded::EmbeddedStore,
    entry::{Entry, Rest},
    tenant::TenantState,
};

/// Most entries that one page looks at.
pub(super) const LOOKED_AT_MAX: u32 = 4_096;

impl EmbeddedStore {
    pub(super) fn resting_page(&self, volume: &VolumeId, from: Option<u64>, max: usize) -> RestingPage {
        let Some(volume) = self.places.find(volume) else { return RestingPage::default() };
        let is_there = |entry: &Entry| entry.rest == Rest::Volume(volume);
        self.page_where(is_there, from, max)
    }

    /// Files that stay and are wanted.
    pub(super) fn page_where(
        &self,
        is_wanted: impl Fn(&Entry) -> bool,
        from: Option<u64>,
        max: usize,
    ) -> RestingPage {
        let (files, next) =
            self.walk_over(is_wanted, from, max, |state, entry| Some((state.id.clone(), entry.key)));
        RestingPage { files, next }
    }

    pub(super) fn volume_page(&self, volume: &VolumeId, from: Option<u64>, max: usize) -> FilePage {
        let Some(volume) = self.places.find(volume) else { return FilePage::default() };
        let is_there = |entry: &Entry| entry.rest == Rest::Volume(volume);
        let watermark = self.watermark();
        let (files, next) = self.walk_over(is_there, from, max, |state, entry| {
            let is_visible = entry.order.lsn() <= watermark;
            is_visible.then(|| state.record(entry, &self.places, &self.clock))
        });
        FilePage { files, next }
    }

    /// What `pick` makes of the files that stay and are wanted. The cursor is the tenant's number and the index of its next entry.
    fn walk_over<T>(
        &self,
        is_wanted: impl Fn(&Entry) -> bool,
        from: Option<u64>,
        max: usize,
        pick: impl Fn(&TenantState, &Entry) -> Option<T>,
    ) -> (Vec<T>, Option<u64>) {
        let mut found = Vec::new();
        let from = from.unwrap_or(0);
        let (mut tenant, mut at) = ((from >> 32) as usize, from as u32);
        let mut left = LOOKED_AT_MAX;
        loop {
            let cell = self.cells.read().all.get(tenant).cloned();
            let Some(cell) = cell else { return (found, None) };
            let state = cell.state.lock();
            while at < state.entries_end() {
                if left == 0 || found.len() >= max {
                    return (found, Some(((tenant as u64) << 32) | u64::from(at)));
                }
                if let Some(entry) = state.entry_at(at).filter(|entry| is_wanted(entry) && state.stays(entry))
                {
                    found.extend(pick(&state, entry));
                }
                (at, left) = (at + 1, left - 1);
            }
            (tenant, at) = (tenant + 1, 0);
            left = left.saturating_sub(1); // many tenants without files are work, too
        }
    }

    /// Ends a file whose bytes are gone, if it still rests where `record` says and nobody is at it.
    pub(super) async fn end_missing(&self, record: &FileRecord) -> Result<bool> {
        let key = record.info.key;
        let Place::Volume(volume) = &record.place else { return Ok(false) };
        let Some(volume) = self.places.find(volume) else { return Ok(false) };
        self.end_if(&record.info.tenant, &key, |state| {
            let is_there = |entry: &&Entry| {
                entry.rest == Rest::Volume(volume)
                    && entry.area == record.area
                    && entry.status != FileStatus::Processing
                    && state.stays(entry)
            };
            let found = state.visible(&key, self.watermark()).filter(is_there);
            Ok(found.is_some() && !state.is_in_flight(&key))
        })
        .await
    }
}
