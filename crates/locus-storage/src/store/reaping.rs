//! Handing out what may be removed: files that are over, and what moves left behind.

use std::collections::BTreeMap;

use locus_core::{
    BlobPath, Claim, Compacted, FileKey, Knowledge, Lsn, Reapable, Result, TenantId, VolumeId, Waiting,
};

use super::{
    embedded::{Cell, EmbeddedStore},
    entry::{JOURNAL, Rest, VolumeNo},
    event::{Change, FRAME_BYTES, MOVED_BYTES, keys_bound},
    leases::LEASE_MAX,
    reap::Over,
    tenant::TenantState,
    upload::earlier,
};
use crate::journal::Use;

/// Most copies that one record says are gone.
const COPIES_PER_RECORD: usize = 128;

impl EmbeddedStore {
    pub(super) fn take_reapable(&self, of: Option<&TenantId>, max: usize) -> Vec<Reapable> {
        if self.journal.is_poisoned() {
            return Vec::new();
        }
        self.let_kept_go();
        let (durable, available) = (self.journal.durable(), |volume| self.places.is_available(volume));
        let taken = match of.map(|tenant| self.cell(tenant)) {
            None => self.reap.lock().take(max, durable, available),
            Some(Some(cell)) => self.reap.lock().take_of(cell.no, max, durable, available),
            Some(None) => Vec::new(),
        };
        self.reapables(taken)
    }

    /// What is to be known of those that were taken out of the queue.
    pub(super) fn reapables(&self, taken: impl IntoIterator<Item = (VolumeNo, Over)>) -> Vec<Reapable> {
        let mut files = Vec::new();
        for (volume, over) in taken {
            let cell = self.cell_at(over.tenant);
            match self.reapable_of(&cell, volume, over) {
                Some(file) => files.push(file),
                None => {
                    self.reap.lock().came_back(1, usize::from(over.copy_in.is_some()));
                    self.reap_changed.notify_waiters(); // it may have been the last
                }
            }
        }
        files
    }

    fn reapable_of(&self, cell: &Cell, volume: VolumeNo, over: Over) -> Option<Reapable> {
        let mut state = cell.state.lock();
        let (blob, size) = if let Some(area) = over.copy_in {
            // Beside its file it is a second name of the same bytes: its removal frees nothing.
            let is_beside = state
                .get(&over.key)
                .is_some_and(|entry| entry.rest == Rest::Volume(volume) && entry.area != area);
            // What is in the queue may be of an earlier copy there: this one waits until the move that left it is durable.
            let later = state.copy_on(&over.key, volume, area).map(|left| left.lsn);
            if let Some(lsn) = later.filter(|lsn| *lsn > self.journal.durable()) {
                self.reap.lock().push(volume, Over { lsn, ..over });
                return None;
            }
            // It may be none by now, or a move took it over, and gives it back if need be.
            let left = state.begin_removal(&over.key, volume, area)?;
            (left.blob.clone(), if is_beside { 0 } else { left.size })
        } else {
            let entry = state.get(&over.key).filter(|entry| entry.status.is_over())?;
            (state.blob(entry), entry.size)
        };
        Some(Reapable {
            tenant: state.id.clone(),
            key: over.key,
            volume: (volume != JOURNAL).then(|| self.places.id(volume)),
            blob,
            size,
            is_copy: over.copy_in.is_some(),
        })
    }

    pub(super) async fn record_reaped(&self, files: &[Reapable]) -> Result<()> {
        let mut by_tenant: BTreeMap<&TenantId, Vec<FileKey>> = BTreeMap::new();
        for file in files.iter().filter(|file| !file.is_copy) {
            by_tenant.entry(&file.tenant).or_default().push(file.key);
        }
        for (tenant, keys) in by_tenant {
            let Some(cell) = self.cell(tenant) else { continue };
            for keys in keys.chunks(LEASE_MAX) {
                let mut room = self.journal.reserve(Use::Essential, &[keys_bound(keys.len())]).await?;
                let mut state = cell.state.lock();
                let change = Change::Reaped { keys: keys.to_vec() };
                self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &[change])?;
            }
        }
        let mut copies: BTreeMap<&TenantId, Vec<Change>> = BTreeMap::new();
        for file in files.iter().filter(|file| file.is_copy) {
            let Some(volume) = file.volume.clone() else { continue };
            let removed = Change::CopyRemoved { key: file.key, volume, area: file.blob.area };
            copies.entry(&file.tenant).or_default().push(removed);
        }
        for (tenant, removed) in copies {
            let Some(cell) = self.cell(tenant) else { continue };
            for removed in removed.chunks(COPIES_PER_RECORD) {
                let bound = FRAME_BYTES + removed.len() * MOVED_BYTES;
                let mut room = self.journal.reserve(Use::Essential, &[bound]).await?;
                let mut state = cell.state.lock();
                self.commit(&cell, &mut state, &mut room, self.clock.stamp(), removed)?;
            }
        }
        self.journal.confirm_written(self.journal.last_appended()).await?;
        self.reap.lock().came_back(files.len(), files.iter().filter(|file| file.is_copy).count());
        self.reap_changed.notify_waiters();
        Ok(())
    }

    pub(super) fn give_back_unreaped(&self, files: Vec<Reapable>) {
        for file in files.iter().filter(|file| file.is_copy) {
            let volume = file.volume.as_ref().and_then(|id| self.places.find(id));
            let (Some(cell), Some(volume)) = (self.cell(&file.tenant), volume) else { continue };
            let mut state = cell.state.lock();
            state.removal_failed(&file.key, volume, file.blob.area);
        }
        let mut reap = self.reap.lock();
        reap.came_back(files.len(), files.iter().filter(|file| file.is_copy).count());
        for file in files {
            let volume = file.volume.as_ref().map_or(Some(JOURNAL), |id| self.places.find(id));
            let (Some(cell), Some(volume)) = (self.cell(&file.tenant), volume) else { continue };
            // It was durably over when it was handed out, so it is now.
            let copy_in = file.is_copy.then_some(file.blob.area);
            let over = Over { lsn: Lsn::ZERO, tenant: cell.no, key: file.key, copy_in };
            reap.push(volume, over);
        }
        drop(reap);
        self.reap_changed.notify_waiters();
    }

    /// What a sweep would find to do now.
    pub(super) fn all_that_waits(&self, of: Option<&TenantId>) -> Waiting {
        self.let_kept_go();
        let cells = self.cells_of(of);
        let is_meant = |over: &Over| of.is_none() || cells.iter().any(|cell| cell.no == over.tenant);
        let (over, copies) = self.reap.lock().waiting(|volume| self.places.is_available(volume), is_meant);
        let (now, mut waiting) = (self.clock.now(), Waiting { over, copies, ..Waiting::default() });
        let idle_since = earlier(now, self.config.options.upload_expiry);
        for cell in &cells {
            let state = cell.state.lock();
            waiting.overdue += state.overdue(now, usize::MAX).len() as u64;
            let idle = idle_since.map(|since| state.uploads().idle(since, usize::MAX).len());
            waiting.idle_uploads += idle.unwrap_or(0) as u64;
        }
        let bytes_before = self.record_bytes();
        let bytes_after = bytes_before.saturating_sub(self.journal.waiting_for_checkpoint());
        Waiting { records: Compacted { bytes_before, bytes_after }, ..waiting }
    }

    /// The right to remove or adopt a blob that no record names. Nothing comes to name it while the claim lives: a file that
    /// rests elsewhere is not moved to that very name, and it is adopted once.
    pub(super) fn claim_unknown(&self, volume: &VolumeId, at: &BlobPath) -> Option<Claim> {
        let Some(tenant) = at.owner.tenant() else { return Some(Claim::free()) };
        let cell = self.cell_or_new(&tenant);
        let mut state = cell.state.lock();
        let known = self.knowledge_in(&state, volume, at);
        if !matches!(known, Knowledge::Unknown | Knowledge::Elsewhere) || !state.begin_claim(at.key) {
            return None;
        }
        drop(state);
        let key = at.key;
        Some(Claim::new(move || cell.end_claim(&key)))
    }

    pub(super) fn knowledge(&self, volume: &VolumeId, at: &BlobPath) -> Knowledge {
        let cell = at.owner.tenant().and_then(|tenant| self.cell(&tenant));
        cell.map_or(Knowledge::Unknown, |cell| self.knowledge_in(&cell.state.lock(), volume, at))
    }

    fn knowledge_in(&self, state: &TenantState, volume: &VolumeId, at: &BlobPath) -> Knowledge {
        let BlobPath { area, owner, key, .. } = at;
        let here = self.places.find(volume);
        let is_left = here.is_some_and(|here| state.copy_on(key, here, *area).is_some());
        let is_ending = state.uploads().is_ending(key, self.journal.durable());
        if state.is_in_flight(key) || is_left || is_ending {
            return Knowledge::InFlight;
        }
        match state.get(key).filter(|entry| entry.owner(&state.id) == *owner) {
            Some(entry) if here.map(Rest::Volume) == Some(entry.rest) && state.blob(entry) == *at => {
                Knowledge::Recorded
            }
            Some(_) => Knowledge::Elsewhere,
            None => Knowledge::Unknown,
        }
    }
}
