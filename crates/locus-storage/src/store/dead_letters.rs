//! Into the dead letters, and back: moves to another area of a volume, with which the state changes.

use std::sync::Arc;

use locus_core::{Area, Error, FileKey, FileStatus, Move, Moving, Result, TenantId};

use super::{
    embedded::{Cell, EmbeddedStore},
    entry::{Entry, Rest},
    event::{Change, keys_bound},
    tenant::TenantState,
};
use crate::journal::Use;

impl EmbeddedStore {
    pub(super) fn begin_dead_lettering(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<Moving>> {
        let cell = self.cell(tenant).ok_or(Error::FileNotFound { key: *key })?;
        let mut state = cell.state.lock();
        let entry = self.entry_in(&state, key, FileStatus::PermanentlyFailed)?;
        if Self::is_name_left(&state, entry, Area::DeadLetters) {
            return Ok(None);
        }
        let record = state.record(entry, &self.places, &self.clock);
        if !state.begin_move(*key) {
            return Ok(None);
        }
        drop(state);
        let key = *key;
        Ok(Some(Moving::new(record, move || cell.end_move(&key)).into_area(Area::DeadLetters)))
    }

    pub(super) fn begin_requeueing(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<Moving>> {
        let cell = self.cell(tenant).ok_or(Error::FileNotFound { key: *key })?;
        let mut state = cell.state.lock();
        state.check_staying()?;
        let entry = self.entry_in(&state, key, FileStatus::DeadLettered)?;
        if Self::is_name_left(&state, entry, Area::Live) || state.is_in_flight(key) {
            return Ok(None);
        }
        let (record, size) = (state.record(entry, &self.places, &self.clock), entry.size);
        let room = self.take_room(&cell, &mut state, *key, &record.info.directory, size)?;
        state.begin_move(*key);
        drop(state);
        let end = move |cell: Arc<Cell>, key: FileKey| {
            drop(room); // what became of it counts by itself
            cell.end_move(&key);
        };
        let key = *key;
        Ok(Some(Moving::new(record, move || end(cell, key)).into_area(Area::Live)))
    }

    pub(super) async fn purge_dead_letter(&self, tenant: &TenantId, key: &FileKey) -> Result<()> {
        let cell = self.cell(tenant).ok_or(Error::FileNotFound { key: *key })?;
        let mut room = self.journal.reserve(Use::Essential, &[keys_bound(1)]).await?;
        let lsn = {
            let mut state = cell.state.lock();
            self.entry_in(&state, key, FileStatus::DeadLettered)?;
            let change = Change::Deleted { key: *key };
            self.commit(&cell, &mut state, &mut room, self.clock.stamp(), vec![change])?
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await
    }

    /// The file, when callers see it and it is in this state.
    fn entry_in<'a>(&self, state: &'a TenantState, key: &FileKey, status: FileStatus) -> Result<&'a Entry> {
        let entry = state.visible(key, self.watermark()).ok_or(Error::FileNotFound { key: *key })?;
        self.check_certain(entry.last)?;
        match entry.status {
            found if found == status => Ok(entry),
            found => Err(Error::WrongStatus { key: *key, status: found }),
        }
    }

    /// Whether the name that it would have in another area of its volume is still that of what an earlier move left.
    fn is_name_left(state: &TenantState, entry: &Entry, area: Area) -> bool {
        let Rest::Volume(volume) = entry.rest else { return false };
        state.copy_on(&entry.key, volume, area).is_some()
    }
}

/// What a move from one area to another one does to a file; `None` within one.
pub(super) fn change_of_state(from: Area, to: Area) -> Option<Move> {
    match (from, to) {
        (Area::Live, Area::DeadLetters) => Some(Move::DeadLetter),
        (Area::DeadLetters, Area::Live) => Some(Move::Requeue),
        _ => None,
    }
}
