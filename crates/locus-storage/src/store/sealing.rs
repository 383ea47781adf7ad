//! Contents that were there before: sealed anew, at another place or under another name.

use std::slice;

use locus_core::{
    Error, FileKey, FileStatus, Moving, NewContent, RestingPage, Result, SealKeyId, SealedAnew, TenantId,
};
use smallvec::smallvec;

use super::{
    embedded::EmbeddedStore,
    entry::Entry,
    event::{Change, Resting, body_bound},
    landing::short,
    upload::check_details,
};
use crate::journal::{Attachment, Room, Use};

impl Entry {
    fn is_sealed_with(&self, key: SealKeyId) -> bool {
        let seal = self.cold.as_deref().and_then(|cold| cold.seal.as_ref());
        seal.is_some_and(|seal| seal.key == key)
    }
}

impl EmbeddedStore {
    pub(super) fn page_not_sealed_with(&self, key: SealKeyId, from: Option<u64>, max: usize) -> RestingPage {
        self.page_where(|entry| !entry.is_sealed_with(key), from, max)
    }

    pub(super) fn begin_sealing(
        &self,
        tenant: &TenantId,
        key: &FileKey,
        with: SealKeyId,
    ) -> Result<Option<Moving>> {
        let Some(cell) = self.cell(tenant) else { return Ok(None) };
        let mut state = cell.state.lock();
        let Some(entry) = state.visible(key, self.watermark()) else { return Ok(None) };
        // What a worker says of a file is sealed as the file is when that began: so it stays as it is until the worker is done.
        if !state.stays(entry) || entry.status == FileStatus::Processing || entry.is_sealed_with(with) {
            return Ok(None);
        }
        if let Some(left) = state.beside(entry).filter(|left| left.stubborn) {
            let why =
                "could not remove what lies beside a content that is to be sealed; it tries again".into();
            return Err(Error::VolumeUnavailable { volume: Some(self.places.id(left.volume)), why });
        }
        Ok(self.begin_avoiding(&cell, &mut state, key).map(Moving::to_be_sealed))
    }

    pub(super) async fn seal_content(&self, moving: Moving, to: SealedAnew) -> Result<bool> {
        let key = moving.record().info.key;
        let Some(cell) = self.cell(&moving.record().info.tenant) else { return Ok(false) };
        let SealedAnew { content, size, checksum, seal, last_error: error } = to;
        check_details(&seal)?;
        let refused = |why| Error::InvalidArgument { name: "content", why };
        let (place, attachment, landing) = match content {
            NewContent::Stored { volume, synced: true } => {
                (Resting::Volume { id: volume, synced: true }, Attachment::default(), None)
            }
            NewContent::Inline { bytes, landing }
                if bytes.len() as u64 == size && landing.bytes() >= size =>
            {
                let landing = landing.into_hold::<Room>().ok_or(refused("landed in another store"))?;
                let attachment = Attachment { checksum: short(&checksum), parts: smallvec![bytes] };
                (Resting::Inline { at: 0 }, attachment, Some(landing))
            }
            _ => return Err(refused("is neither on a volume, durably, nor as long as was said, or landed")),
        };
        let change = Change::Resealed { key, place, size, checksum, seal, error };
        self.make_spare().await?;
        let mut room = self.journal.reserve(Use::Move, &[body_bound(slice::from_ref(&change))]).await?;
        landing.into_iter().for_each(|landing| room.join(landing));
        let lsn = {
            let mut state = cell.state.lock();
            let stays = |entry: &&Entry| {
                let said = entry.delivery.as_deref().and_then(|delivery| delivery.error.as_deref());
                self.stays_at(&state, entry, moving.record())
                    && entry.status != FileStatus::Processing
                    // It was leased in between, and its worker said something else.
                    && said == moving.record().last_error.as_deref()
            };
            if state.get(&key).filter(stays).is_none() {
                return Ok(false);
            }
            let stamp = self.clock.stamp();
            self.commit_with(&cell, &mut state, &mut room, stamp, &[change], attachment, 0)?.lsn
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await?;
        Ok(true)
    }
}
