//! Room before bytes, record after bytes: reservations and accepts.

use std::{
    collections::{HashMap, HashSet, hash_map},
    sync::atomic::Ordering,
};

use locus_core::{
    Error, FileKey, IdempotencyKey, LogicalDir, Lsn, NewContent, NewFile, Outcome, Reservation, Reserved,
    Result, Site, TenantId, VolumeId,
};
use smallvec::SmallVec;

use super::{
    embedded::EmbeddedStore,
    entry::ACCEPT_MAX,
    event::{Accepted, Change, Resting, body_bound, keys_bound},
    landing::{attachment_of, short},
    upload::sealed,
};
use crate::journal::{Attachment, HELD, Parts, Room, Use};

/// A disk without room for what a later checkpoint needs has none for new files.
fn no_room(why: Error, needed: u64) -> Error {
    if why.is_full() { Error::InsufficientStorage { required: needed, available: 0 } } else { why }
}

/// So many remembered writes whose time is over are forgotten by one call, so that its cost is bounded.
const FADE_MAX: usize = 1_024;

/// Files on their way into one record.
#[derive(Default)]
struct Batch {
    changes: SmallVec<[Change; 1]>,
    rooms: SmallVec<[Reservation; 1]>,
    /// Contents that ride along, their bytes so far, and their room.
    parts: Parts,
    inline_bytes: u64,
    landing: Option<Room>,
    /// Volumes with content that is not synced.
    unsynced: Vec<VolumeId>,
    /// Where some of them were tried to be written first.
    astray: Vec<(FileKey, VolumeId)>,
    /// How some of them are sealed.
    seals: Vec<Change>,
}

impl EmbeddedStore {
    pub(super) async fn reserve_room(
        &self,
        tenant: &TenantId,
        directory: &LogicalDir,
        bytes: Option<u64>,
        idempotency: Option<&IdempotencyKey>,
    ) -> Result<Reserved> {
        self.tell_background_error()?;
        if self.journal.is_poisoned() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        let cell = self.cell_or_new(tenant);
        if idempotency.is_some() {
            self.fade_others();
        }
        let known = {
            let mut state = cell.state.lock();
            state.check_staying()?;
            state.fade(self.clock.now(), FADE_MAX, &self.places);
            match idempotency
                .filter(|_| Site::NameKnown.stands())
                .and_then(|key| state.remembered(self.idempotency_hash(tenant, &key.value)).cloned())
            {
                Some(known) => known,
                None => {
                    if idempotency.is_some() {
                        self.check_idempotency_room()?;
                    }
                    let (key, bytes) = (self.new_key(), bytes.unwrap_or(0));
                    return Ok(Reserved::Room(self.take_room(&cell, &mut state, key, directory, bytes)?));
                }
            }
        };
        // A success without effect is as durable as what it rests upon.
        self.confirm(known.last, self.config.options.durability).await?;
        Ok(Reserved::Known(known.key))
    }

    /// At the limit, what other tenants no longer need makes room: they may not have written for long.
    pub(super) fn fade_others(&self) {
        if self.places.remembered.load(Ordering::Acquire) < self.config.options.idempotency_max {
            return;
        }
        let cells = self.cells.read().all.clone();
        let mut left = FADE_MAX;
        for cell in cells {
            left -= cell.state.lock().fade(self.clock.now(), left, &self.places);
            if left == 0 {
                break;
            }
        }
    }

    pub(super) fn check_idempotency_room(&self) -> Result<()> {
        let remembered = self.places.remembered.load(Ordering::Acquire);
        if remembered >= self.config.options.idempotency_max {
            return Err(Error::TooLarge {
                what: Error::IDEMPOTENCY_KEYS,
                size: remembered + 1,
                limit: self.config.options.idempotency_max,
            });
        }
        Ok(())
    }

    /// Turns rooms into pending files: one record, all or none.
    pub(super) async fn accept_files(&self, files: Vec<(NewFile, Reservation)>) -> Result<Vec<FileKey>> {
        let Some((first, _)) = files.first() else { return Ok(Vec::new()) };
        if files.len() > ACCEPT_MAX {
            let (size, limit) = (files.len() as u64, ACCEPT_MAX as u64);
            return Err(Error::TooLarge { what: "batch of files", size, limit });
        }
        let tenant = first.tenant.clone();
        if files.iter().any(|(file, _)| file.tenant != tenant) {
            return Err(Error::InvalidArgument {
                name: "files",
                why: "belong to several tenants: write one batch each",
            });
        }
        let mut batch = Batch::default();
        for (file, room) in files {
            NewFile::check_names(file.original_name.as_deref(), &file.properties, file.idempotency.as_ref())?;
            self.take_in(&mut batch, file, room)?;
        }
        let Batch { mut changes, rooms, parts, landing, unsynced, astray, seals, .. } = batch;
        // Everything that does not depend on the state is computed before any lock.
        let attachment = match (changes.as_slice(), parts.as_slice()) {
            ([Change::Accepted(one)], [_]) => Attachment { checksum: short(&one.checksum), parts },
            _ => attachment_of(parts),
        };
        // Behind the files that they are of.
        changes.extend(astray.into_iter().map(|(key, volume)| Change::Astray { key, volume }));
        changes.extend(seals);
        self.make_spare().await?;
        let bound = body_bound(&changes);
        let mut room = self.journal.reserve(Use::Accept, &[bound]).await?;
        if let Some(landing) = landing {
            room.join(landing);
        }
        let cell = self.cell_or_new(&tenant);
        let mut keys: Vec<FileKey> = rooms.iter().map(Reservation::key).collect();
        let mut needless_rooms = Vec::new();
        let lsn = {
            let mut state = cell.state.lock();
            state.check_staying()?;
            // The same write may have been accepted while the content was on its way.
            let mut rests_on = Lsn::ZERO;
            let mut seen = HashMap::new();
            let mut at = 0;
            let mut needless = Vec::new();
            let mut known_already = HashSet::new();
            changes.retain(|change| {
                let accepted = match change {
                    Change::Accepted(accepted) => accepted,
                    Change::Astray { key, .. } | Change::Sealed { key, .. } => {
                        return !known_already.contains(key);
                    }
                    _ => return true,
                };
                let mine = at;
                at += 1;
                let Some((hash, _)) = accepted.idempotency else { return true };
                if let Some(known) = state.remembered(hash).filter(|_| Site::NameKnown.stands()) {
                    rests_on = rests_on.max(known.last);
                    keys[mine] = known.key;
                } else {
                    match seen.entry(hash) {
                        hash_map::Entry::Occupied(first) => keys[mine] = *first.get(),
                        hash_map::Entry::Vacant(first) => {
                            first.insert(accepted.key);
                            return true;
                        }
                    }
                }
                known_already.insert(accepted.key);
                if let Resting::Inline { at } = accepted.place {
                    needless.push((u64::from(at), accepted.size));
                }
                false
            });
            if changes.is_empty() {
                rests_on
            } else {
                // Rooms become counts in one step: a limit is neither passed nor reached too early.
                if rooms.iter().any(|room| !state.is_in_flight(&room.key())) {
                    return Err(Error::InvalidArgument { name: "room", why: "was not reserved here" });
                }
                let lengths = changes.iter().filter_map(|change| match change {
                    Change::Accepted(accepted) => Some((accepted.key, accepted.size)),
                    _ => None,
                });
                self.resize_rooms(&mut state, lengths)?;
                let flags = if unsynced.is_empty() { 0 } else { HELD };
                self.unsynced_volumes.lock().extend(unsynced);
                let stamp = self.clock.stamp();
                // The append can only be refused before anything was changed; then the rooms are still reserved and their
                // owners give them back.
                let appended =
                    self.commit_with(&cell, &mut state, &mut room, stamp, &changes, attachment, flags)?;
                for (at, bytes) in needless {
                    self.journal.release(appended.place.plus(at), bytes, appended.lsn);
                }
                for room in rooms {
                    // What turned out to be known has no record: its room is given back, without this lock.
                    match state.find(&room.key()) {
                        Some(_) => {
                            state.unreserve(&room.key());
                            room.keep();
                        }
                        None => needless_rooms.push(room),
                    }
                }
                appended.lsn.max(rests_on)
            }
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await?;
        Ok(keys)
    }

    /// What is taken in must fit into a checkpoint, or a full disk could not be drained (ENGINE 7).
    pub(super) async fn make_spare(&self) -> Result<()> {
        if !self.spare_is_tight() {
            return Ok(());
        }
        self.journal.rolled.notify_one(); // whoever drives checkpoints makes their files longer
        if self.has_spare() {
            return Ok(());
        }
        self.grow_spare().await.map_err(|why| no_room(why, self.checkpoint_bytes_max()))
    }

    /// Adds a file to a batch on its way into one record.
    fn take_in(&self, batch: &mut Batch, file: NewFile, room: Reservation) -> Result<()> {
        let refused = |why| Error::InvalidArgument { name: "content", why };
        let place = match file.content {
            NewContent::Stored { volume, synced } => {
                if !synced {
                    batch.unsynced.push(volume.clone());
                }
                Resting::Volume { id: volume, synced }
            }
            NewContent::Inline { bytes, landing } => {
                let at = batch.inline_bytes;
                batch.inline_bytes += bytes.len() as u64;
                if bytes.len() as u64 != file.size || landing.bytes() < file.size {
                    return Err(refused("does not have the size that was said, or landed"));
                }
                if batch.inline_bytes > self.inline_limits.batch_bytes_max {
                    let (size, limit) = (batch.inline_bytes, self.inline_limits.batch_bytes_max);
                    return Err(Error::TooLarge { what: "contents of one batch", size, limit });
                }
                let landing = landing.into_hold::<Room>().ok_or(refused("landed in another store"))?;
                match &mut batch.landing {
                    Some(all) => all.join(landing),
                    none => *none = Some(landing),
                }
                batch.parts.push(bytes);
                // The cast loses nothing: a batch is smaller than a segment.
                Resting::Inline { at: at as u32 }
            }
            _ => return Err(refused("is of a kind this store does not take")),
        };
        let own = file.owner.as_str() == file.tenant.as_str();
        let key = room.key();
        batch.astray.extend(file.astray.into_iter().map(|volume| (key, volume)));
        batch.seals.extend(sealed(key, file.seal)?);
        batch.changes.push(Change::Accepted(Accepted {
            key,
            owner: (!own).then_some(file.owner),
            directory: file.directory,
            original_name: file.original_name,
            properties: file.properties,
            size: file.size,
            checksum: file.checksum,
            place,
            idempotency: file
                .idempotency
                .as_ref()
                .map(|key| (self.idempotency_hash(&file.tenant, &key.value), key.remember)),
        }));
        batch.rooms.push(room);
        Ok(())
    }

    /// Names a write.
    pub(super) fn idempotency_hash(&self, tenant: &TenantId, value: &str) -> u128 {
        self.name_hash(tenant, 0, value.as_bytes())
    }

    /// 128 bits, keyed by the store's secret, so that nobody can make two names meet. Names of one `kind` meet none of
    /// another: a tenant's id has no byte below a space.
    pub(super) fn name_hash(&self, tenant: &TenantId, kind: u8, name: &[u8]) -> u128 {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        hasher.update(tenant.as_str().as_bytes());
        hasher.update(&[kind]);
        hasher.update(name);
        let hash = hasher.finalize();
        u128::from_le_bytes(*hash.as_bytes().first_chunk::<16>().expect("because the hash has 32 bytes"))
    }

    /// Forgets a write, so that its name can be used again.
    pub(super) async fn find_remembered(&self, tenant: &TenantId, value: &str) -> Result<Option<FileKey>> {
        let Some(cell) = self.cell(tenant) else { return Ok(None) };
        let known = cell.state.lock().remembered(self.idempotency_hash(tenant, value)).cloned();
        let Some(known) = known else { return Ok(None) };
        self.confirm(known.last, self.config.options.durability).await?;
        Ok(Some(known.key))
    }

    pub(super) async fn forget_key(&self, tenant: &TenantId, value: &str) -> Result<bool> {
        let Some(cell) = self.cell(tenant) else { return Ok(false) };
        let hash = self.idempotency_hash(tenant, value);
        let mut room = self.journal.reserve(Use::Accept, &[keys_bound(1)]).await?;
        let (lsn, known) = {
            let mut state = cell.state.lock();
            match state.remembered(hash) {
                None => (self.journal.last_appended(), false),
                Some(_) => {
                    let stamp = self.clock.stamp();
                    (self.commit(&cell, &mut state, &mut room, stamp, &[Change::Forgotten { hash }])?, true)
                }
            }
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await?;
        Ok(known)
    }
}
