//! The records of uploads: begun, confirmed piece by piece, and at the end one file or none.

use std::{ops::Range, sync::Arc, time::Duration};

use locus_core::{
    Checksum, Error, FileKey, Lsn, NewFile, NewUpload, Remember, Reservation, Result,
    SEALED_DETAILS_BYTES_MAX, Seal, StoragePath, StoreTime, TenantId, UPLOAD_RANGES_MAX, UploadId,
    UploadInfo,
};

use super::{
    embedded::{Cell, EmbeddedStore},
    entry::VolumeNo,
    event::{Accepted, Change, Resting, UploadBegun, body_bound, keys_bound},
    tenant::{TenantState, Upload},
};
use crate::{journal::Use, sync::MutexGuard};

/// Most bytes of a range in a record.
const RANGE_BYTES: usize = 20;

const fn not_found(id: &UploadId) -> Error {
    Error::UploadNotFound { upload: *id }
}

impl EmbeddedStore {
    pub(super) async fn note_upload(&self, upload: NewUpload, room: Reservation) -> Result<UploadId> {
        let NewUpload { tenant, owner, directory, original_name, properties, size, expected, seal, volume } =
            upload;
        NewFile::check_names(original_name.as_deref(), &properties, None)?;
        self.fade_others();
        self.check_idempotency_room()?; // its name is remembered when it is finished
        self.make_spare().await?;
        let key = room.key();
        let own = owner.as_str() == tenant.as_str();
        let begun = Change::UploadBegun(UploadBegun {
            key,
            owner: (!own).then_some(owner),
            directory,
            original_name,
            properties,
            size,
            expected,
            volume,
        });
        let changes: Vec<_> = [begun].into_iter().chain(sealed(key, seal)?).collect();
        let bound = body_bound(&changes);
        let mut record = self.journal.reserve(Use::Accept, &[bound]).await?;
        let cell = self.cell_or_new(&tenant);
        let lsn = {
            let mut state = cell.state.lock();
            state.check_staying()?;
            if !state.is_in_flight(&key) {
                return Err(Error::InvalidArgument { name: "room", why: "was not reserved here" });
            }
            // What is not known of the length yet has no room yet.
            self.resize_rooms(&mut state, [(key, size)].into_iter())?;
            let lsn = self.commit(&cell, &mut state, &mut record, self.clock.stamp(), &changes)?;
            room.keep();
            lsn
        };
        drop(record);
        self.confirm(lsn, self.config.options.durability).await?;
        Ok(UploadId::new(key))
    }

    pub(super) async fn note_staging(&self, tenant: &TenantId, id: &UploadId) -> Result<UploadInfo> {
        let staging = self.new_key();
        let staged = self.change_upload(tenant, id, Use::Accept, keys_bound(2), |upload| {
            let begun = upload.confirmed.is_empty();
            Ok(begun.then_some(Change::UploadStaged { key: id.key(), staging }))
        });
        self.confirm(staged.await?, self.config.options.durability).await?;
        self.upload_info(tenant, id).ok_or(not_found(id))
    }

    pub(super) async fn note_ranges(
        &self,
        tenant: &TenantId,
        id: &UploadId,
        staging: &FileKey,
        ranges: &[Range<u64>],
    ) -> Result<bool> {
        let ranges: Vec<_> = ranges.iter().filter(|range| !range.is_empty()).cloned().collect();
        if !ranges.is_empty() {
            self.make_spare().await?;
        }
        let bound = keys_bound(1) + ranges.len() * RANGE_BYTES;
        let mut is_there = true;
        let noted = self.change_upload(tenant, id, Use::Accept, bound, |upload| {
            is_there = ranges.is_empty() || upload.staging == Some(*staging);
            if ranges.is_empty() || !is_there {
                return Ok(None);
            }
            if ranges.iter().any(|range| range.end > upload.size) {
                return Err(Error::InvalidArgument { name: "ranges", why: "lead beyond the upload's size" });
            }
            let (size, limit) = (upload.ranges_with(&ranges) as u64, UPLOAD_RANGES_MAX as u64);
            if size > limit {
                return Err(Error::TooLarge { what: "number of separate ranges of an upload", size, limit });
            }
            Ok(Some(Change::UploadConfirmed { key: id.key(), ranges }))
        });
        self.confirm(noted.await?, self.config.options.durability).await?;
        Ok(is_there)
    }

    /// Decides on an upload and commits what was decided; the record that it rests upon is to be confirmed, also when there is
    /// nothing to change.
    async fn change_upload(
        &self,
        tenant: &TenantId,
        id: &UploadId,
        how: Use,
        bound: usize,
        decide: impl FnOnce(&Upload) -> Result<Option<Change>>,
    ) -> Result<Lsn> {
        let cell = self.cell(tenant).ok_or(not_found(id))?;
        let mut record = self.journal.reserve(how, &[bound]).await?;
        let mut state = cell.state.lock();
        let upload = state.uploads().get(&id.key()).ok_or(not_found(id))?;
        let last = upload.last;
        match decide(upload)? {
            Some(change) => self.commit(&cell, &mut state, &mut record, self.clock.stamp(), &[change]),
            None => Ok(last),
        }
    }

    pub(super) async fn make_upload_durable(&self, tenant: &TenantId, id: &UploadId) -> Result<()> {
        let half = earlier(self.clock.now(), self.config.options.upload_expiry / 2);
        let settled = self.change_upload(tenant, id, Use::Accept, keys_bound(2), |upload| {
            // What is about to be finished may take its time: something came, as by a piece.
            let staging = upload.staging.filter(|_| half.is_some_and(|half| upload.touched <= half));
            Ok(staging.map(|staging| Change::UploadStaged { key: id.key(), staging }))
        });
        self.make_durable(settled.await?).await
    }

    pub(super) async fn accept_upload(
        &self,
        tenant: &TenantId,
        id: &UploadId,
        checksum: Checksum,
        seal: Option<Seal>,
    ) -> Result<FileKey> {
        let (Some(cell), key) = (self.cell(tenant), id.key()) else { return Err(not_found(id)) };
        let upload = cell.state.lock().uploads().get(&key).cloned();
        let Some(upload) = upload else {
            return self.accepted_upload(tenant, id).await?.ok_or(not_found(id));
        };
        if let Some(missing) = upload.missing() {
            return Err(Error::UploadIncomplete { upload: *id, missing });
        }
        let accepted = self.accepted_of(tenant, upload, checksum);
        let changes: Vec<_> = [accepted].into_iter().chain(sealed(key, seal)?).collect();
        let bound = body_bound(&changes);
        let mut record = self.journal.reserve(Use::Accept, &[bound]).await?;
        let committed = {
            let mut state = cell.state.lock();
            match state.uploads().get(&key) {
                None => None,
                Some(_) => {
                    let lsn = self.commit(&cell, &mut state, &mut record, self.clock.stamp(), &changes)?;
                    // The room becomes the file's.
                    state.unreserve(&key);
                    Some(lsn)
                }
            }
        };
        drop(record);
        match committed {
            Some(lsn) => {
                self.confirm(lsn, self.config.options.durability).await?;
                Ok(key)
            }
            None => self.accepted_upload(tenant, id).await?.ok_or(not_found(id)),
        }
    }

    /// The record that ends an upload well. Its name is remembered as an idempotency key is.
    fn accepted_of(&self, tenant: &TenantId, upload: Upload, checksum: Checksum) -> Change {
        Change::Accepted(Accepted {
            key: upload.key,
            owner: upload.owner,
            directory: upload.directory,
            original_name: upload.original_name.map(Into::into),
            properties: upload.properties,
            size: upload.size,
            checksum,
            place: Resting::Volume { id: self.places.id(upload.volume), synced: true },
            idempotency: Some((self.upload_hash(tenant, &upload.key), Remember::Day)),
        })
    }

    pub(super) async fn accepted_upload(&self, tenant: &TenantId, id: &UploadId) -> Result<Option<FileKey>> {
        let hash = self.upload_hash(tenant, &id.key());
        let cell = self.cell(tenant);
        let known =
            cell.and_then(|cell| cell.state.lock().remembered(hash).map(|known| (known.key, known.last)));
        let Some((key, last)) = known else { return Ok(None) };
        self.confirm(last, self.config.options.durability).await?;
        Ok(Some(key))
    }

    pub(super) async fn drop_upload(&self, tenant: &TenantId, id: &UploadId) -> Result<bool> {
        let ended = self.change_upload(tenant, id, Use::Essential, keys_bound(1), |_| {
            Ok(Some(Change::UploadEnded { key: id.key() }))
        });
        match ended.await {
            Err(Error::UploadNotFound { .. }) => Ok(false),
            // What is staged is removed next.
            ended => self.make_durable(ended?).await.map(|()| true),
        }
    }

    /// Whether something of an upload that is under way, or may be again after a crash, is staged under this key.
    pub(super) fn is_staged(&self, owner: &StoragePath, staging: &FileKey) -> bool {
        let Some(cell) = owner.tenant().and_then(|tenant| self.cell(&tenant)) else { return false };
        let state = cell.state.lock();
        state.uploads().stages(staging) || state.uploads().is_ending(staging, self.journal.durable())
    }

    pub(super) fn upload_info(&self, tenant: &TenantId, id: &UploadId) -> Option<UploadInfo> {
        let cell = self.cell(tenant)?;
        let state = cell.state.lock();
        Some(self.info_of(&state, state.uploads().get(&id.key())?))
    }

    pub(super) fn upload_infos(
        &self,
        tenant: &TenantId,
        after: Option<&UploadId>,
        max: usize,
    ) -> Vec<UploadInfo> {
        let Some(cell) = self.cell(tenant) else { return Vec::new() };
        let state = cell.state.lock();
        let page = state.uploads().after(after.map(UploadId::key)).take(max);
        page.map(|upload| self.info_of(&state, upload)).collect()
    }

    fn info_of(&self, state: &TenantState, upload: &Upload) -> UploadInfo {
        upload.info(&state.id, self.places.id(upload.volume))
    }

    /// Ends uploads to which nothing came for too long. Looks at every tenant, as a checkpoint does, when none is named.
    pub(super) async fn end_idle_uploads(&self, of: Option<&TenantId>, max: usize) -> Result<usize> {
        let expiry = self.config.options.upload_expiry;
        let Some(before) = earlier(self.clock.now(), expiry) else { return Ok(0) };
        let cells = self.cells_of(of);
        let (mut ended, mut last) = (0, Lsn::ZERO);
        for cell in cells {
            while ended < max && !cell.state.lock().uploads().idle(before, 1).is_empty() {
                let some = (max - ended).min(EXPIRE_AT_ONCE);
                let (count, lsn) = self.end_idle_of(&cell, before, some).await?;
                ended += count;
                last = last.max(lsn);
            }
        }
        if ended > 0 {
            self.make_durable(last).await?; // what they have staged may be removed then
        }
        Ok(ended)
    }

    /// Ends up to `max` uploads of a tenant to which nothing came since `before`.
    pub(super) async fn end_idle_of(
        &self,
        cell: &Arc<Cell>,
        before: StoreTime,
        max: usize,
    ) -> Result<(usize, Lsn)> {
        let mut record = self.journal.reserve(Use::Essential, &[keys_bound(max)]).await?;
        let mut state: MutexGuard<'_, TenantState> = cell.state.lock();
        let idle = state.uploads().idle(before, max);
        let count = idle.len();
        if count == 0 {
            return Ok((0, Lsn::ZERO));
        }
        let changes: Vec<_> = idle.into_iter().map(|key| Change::UploadEnded { key }).collect();
        let lsn = self.commit(cell, &mut state, &mut record, self.clock.stamp(), &changes)?;
        Ok((count, lsn))
    }

    /// Ends all uploads under way on a volume. Looks at every tenant, as a checkpoint does.
    pub(super) async fn end_uploads_on(&self, volume: VolumeNo) -> Result<()> {
        let cells = self.cells.read().all.clone();
        let mut last = Lsn::ZERO;
        for cell in cells {
            loop {
                let mut record = self.journal.reserve(Use::Essential, &[keys_bound(EXPIRE_AT_ONCE)]).await?;
                let mut state: MutexGuard<'_, TenantState> = cell.state.lock();
                let there = state.uploads().after(None).filter(|upload| upload.volume == volume);
                let some: Vec<_> = there.take(EXPIRE_AT_ONCE).map(|upload| upload.key).collect();
                if some.is_empty() {
                    break;
                }
                let ended: Vec<_> = some.into_iter().map(|key| Change::UploadEnded { key }).collect();
                last = self.commit(&cell, &mut state, &mut record, self.clock.stamp(), &ended)?;
            }
        }
        self.confirm(last, self.config.options.durability).await
    }

    /// Names a finished upload among the idempotency keys: no caller's key can meet it.
    fn upload_hash(&self, tenant: &TenantId, key: &FileKey) -> u128 {
        self.name_hash(tenant, 1, key.as_bytes())
    }
}

/// What a record says of a seal, behind what it says of the key.
pub(super) fn sealed(key: FileKey, seal: Option<Seal>) -> Result<Option<Change>> {
    seal.iter().try_for_each(check_details)?;
    Ok(seal.map(|seal| Change::Sealed { key, seal }))
}

pub(super) fn check_details(seal: &Seal) -> Result<()> {
    let (size, limit) = (seal.details.len() as u64, SEALED_DETAILS_BYTES_MAX);
    if size > limit {
        return Err(Error::TooLarge { what: "sealed details", size, limit });
    }
    Ok(())
}

/// Most uploads that one record ends.
const EXPIRE_AT_ONCE: usize = 64;

/// `None` before there is such a time.
pub(super) fn earlier(now: StoreTime, by: Duration) -> Option<StoreTime> {
    let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
    now.as_micros().checked_sub(by).map(StoreTime::from_micros)
}
