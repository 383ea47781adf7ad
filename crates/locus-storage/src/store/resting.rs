//! Which files rest on a volume: a walk over all entries, page by page.

use locus_core::{RestingPage, VolumeId};

use super::{embedded::EmbeddedStore, entry::Rest};

/// Most entries that one page looks at.
const LOOKED_AT_MAX: u32 = 4_096;

impl EmbeddedStore {
    /// The cursor is the tenant's number and the index of its next entry.
    pub(super) fn resting_page(&self, volume: &VolumeId, from: Option<u64>, max: usize) -> RestingPage {
        let mut page = RestingPage::default();
        let Some(volume) = self.places.find(volume) else { return page };
        let from = from.unwrap_or(0);
        let (mut tenant, mut at) = ((from >> 32) as usize, from as u32);
        let mut left = LOOKED_AT_MAX;
        loop {
            let cell = self.cells.read().all.get(tenant).cloned();
            let Some(cell) = cell else { return page };
            let state = cell.state.lock();
            while at < state.entries_end() {
                if left == 0 || page.files.len() >= max {
                    page.next = Some(((tenant as u64) << 32) | u64::from(at));
                    return page;
                }
                if let Some(entry) = state.entry_at(at)
                    && entry.rest == Rest::Volume(volume)
                    && state.stays(entry)
                {
                    page.files.push((state.id.clone(), entry.key));
                }
                (at, left) = (at + 1, left - 1);
            }
            (tenant, at) = (tenant + 1, 0);
            left = left.saturating_sub(1); // many tenants without files are work, too
        }
    }
}
