//! Into the dead letters, and back: moves to another area of a volume, with which the state changes.

use locus_core::{Area, Error, FileKey, FileStatus, Move, Moving, Result, TenantId};

use super::{
    embedded::EmbeddedStore,
    entry::{Entry, Rest},
    tenant::{LeftBehind, TenantState},
};

impl EmbeddedStore {
    pub(super) fn begin_dead_lettering(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<Moving>> {
        let cell = self.cell(tenant).ok_or(Error::FileNotFound { key: *key })?;
        let mut state = cell.state.lock();
        let entry = self.entry_in(&state, key, FileStatus::PermanentlyFailed)?;
        if Self::name_left(&state, entry, Area::DeadLetters).is_some() {
            return Ok(None);
        }
        let record = state.record(entry, &self.places, &self.clock);
        if !state.begin_move(*key) {
            return Ok(None);
        }
        drop(state);
        Ok(Some(Moving::new(record, self.end_of_move(cell, *key)).into_area(Area::DeadLetters)))
    }

    pub(super) fn begin_requeueing(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<Moving>> {
        let cell = self.cell(tenant).ok_or(Error::FileNotFound { key: *key })?;
        let mut state = cell.state.lock();
        state.check_staying()?;
        let entry = self.entry_in(&state, key, FileStatus::DeadLettered)?;
        if let Some(left) = Self::name_left(&state, entry, Area::Live) {
            if !left.stubborn {
                return Ok(None);
            }
            let why =
                "could not remove what the last move of this very file left there; it tries again".into();
            return Err(Error::VolumeUnavailable { volume: Some(self.places.id(left.volume)), why });
        }
        if state.is_in_flight(key) {
            return Ok(None);
        }
        let (record, size) = (state.record(entry, &self.places, &self.clock), entry.size);
        let room = self.take_room(&cell, &mut state, *key, &record.info.directory, size)?;
        state.begin_move(*key);
        drop(state);
        let end = self.end_of_move(cell, *key);
        let end = move || {
            drop(room); // what became of it counts by itself
            end();
        };
        Ok(Some(Moving::new(record, end).into_area(Area::Live)))
    }

    pub(super) async fn purge_dead_letter(&self, tenant: &TenantId, key: &FileKey) -> Result<()> {
        let may = |state: &TenantState| self.entry_in(state, key, FileStatus::DeadLettered).map(|_| true);
        match self.end_if(tenant, key, may).await? {
            true => Ok(()),
            false => Err(Error::FileNotFound { key: *key }),
        }
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

    /// What an earlier move left under the name that it would have in another area of its volume, or beside it where it rests.
    fn name_left<'a>(state: &'a TenantState, entry: &Entry, area: Area) -> Option<&'a LeftBehind> {
        let Rest::Volume(volume) = entry.rest else { return None };
        let in_the_way = state.copy_on(&entry.key, volume, area).filter(|left| left.is_in_the_way());
        in_the_way.or_else(|| state.beside(entry))
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
