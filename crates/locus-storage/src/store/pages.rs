//! Files of a tenant by state and age, page by page.

use std::{sync::Arc, time::Duration};

use locus_core::{FilePage, FileStatus, TenantId};

use super::{
    embedded::{Cell, EmbeddedStore},
    entry::Entry,
    resting::LOOKED_AT_MAX,
};

impl EmbeddedStore {
    pub(super) fn status_page(
        &self,
        tenant: &TenantId,
        status: FileStatus,
        older_than: Duration,
        from: Option<u64>,
        max: usize,
    ) -> FilePage {
        let mut page = FilePage::default();
        let (Some(cell), Ok(mut at)) = (self.cell(tenant), u32::try_from(from.unwrap_or(0))) else {
            return page;
        };
        let (now, watermark) = (self.clock.now(), self.watermark());
        let is_wanted = |entry: &&Entry| {
            let is_old = !entry.ages() || entry.moment.saturating_add(older_than) <= now;
            entry.status == status && is_old && entry.order.lsn() <= watermark
        };
        let state = cell.state.lock();
        if state.counts().of(status) == 0 {
            return page;
        }
        let end = state.entries_end();
        let to = end.min(at.saturating_add(LOOKED_AT_MAX));
        while at < to && page.files.len() < max.max(1) {
            let found = state.entry_at(at).filter(is_wanted);
            page.files.extend(found.map(|entry| state.record(entry, &self.places, &self.clock)));
            at += 1;
        }
        page.next = (at < end).then_some(at.into());
        page
    }

    pub(super) fn with_any(&self, status: FileStatus) -> Vec<TenantId> {
        let cells = self.cells.read().all.clone();
        let of = |cell: &Arc<Cell>| {
            let state = cell.state.lock();
            (state.counts().of(status) > 0).then(|| state.id.clone())
        };
        cells.iter().filter_map(of).collect()
    }
}
