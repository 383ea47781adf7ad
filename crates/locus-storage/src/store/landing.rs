//! Contents that rest in the journal: reading them, and moving them out to volumes or forward in the log.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use locus_core::{
    Checksum, Durability, Error, FileKey, FileRecord, Landing, Lsn, Move, Moving, Place, Result, Stored,
    TenantId, VolumeId,
};
use tracing::{debug, warn};

use super::{
    dead_letters::change_of_state,
    embedded::{Cell, EmbeddedStore},
    entry::{Entry, Rest},
    event::{Change, FRAME_BYTES, MOVED_BYTES, Record, Resting},
    tenant::{LeftBehind, TenantState},
};
use crate::{
    journal::{Attachment, BARRIER, LogPlace, Parts, Pin, Relief, Room, Use, plain_checksum},
    sync::Mutex,
};

/// Contents up to this length are read on the spot when they are cached.
const ON_THE_SPOT_MAX: u64 = 256 << 10;
/// Most files, and about as many bytes, that one record moves forward.
const FORWARD_FILES: usize = 128;
const FORWARD_BYTES: u64 = 256 << 10;

/// After a failure copying forward is tried again no sooner.
const FORWARD_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A content that a segment holds or held.
#[derive(Debug, Clone)]
struct Held {
    tenant: TenantId,
    key: FileKey,
    place: LogPlace,
    size: u64,
}

/// The contents of a segment that is being emptied, as far as nobody has looked at them yet.
#[derive(Debug, Default)]
pub(super) struct Emptying {
    spilling: Mutex<VecDeque<Held>>,
    forwarding: Mutex<VecDeque<Held>>,
}

impl EmbeddedStore {
    pub(super) async fn land_content(&self, bytes: u64) -> Option<Landing> {
        if bytes > self.inline_limits.content_bytes_max || self.inline_limits.content_bytes_max == 0 {
            return None;
        }
        let room = self.journal.reserve_landing(bytes).await?;
        Some(Landing::new(bytes, room))
    }

    // ---- reading ----------------------------------------------------------------------------------------------

    /// The bytes of a content that rests in the journal, after the whole of it was checked.
    pub(super) async fn read_content(&self, record: &FileRecord, range: Range<u64>) -> Result<Bytes> {
        let key = record.info.key;
        let gone = || Error::FileNotFound { key };
        let cell = self.cell(&record.info.tenant).ok_or_else(gone)?;
        let (place, pin, last, size, checksum) = {
            let state = cell.state.lock();
            let entry = state.visible(&key, self.watermark()).ok_or_else(gone)?;
            let Rest::Journal(place) = entry.rest else { return Err(gone()) };
            if entry.checksum != record.info.checksum {
                return Err(gone()); // it was sealed anew
            }
            // Place and pin are taken together: from here on the segment is not reused.
            (place, self.journal.pin(place), entry.last, entry.size, entry.checksum)
        };
        if size == 0 {
            return Ok(Bytes::new());
        }
        let pin = pin.ok_or_else(|| Error::Corrupt {
            place: format!("content of file {key} in {place}"),
            why: "the segment is missing".into(),
        })?;
        if last > self.journal.written() {
            // What was moved forward a moment ago may not be in the kernel yet.
            self.journal.confirm_written(last).await?;
        }
        let bytes = self.read_at(&pin, place, size).await?;
        let actual = Checksum::of(&bytes);
        if actual != checksum {
            let place = format!("of the journal, {place} of {}", pin.file().1.display()).into();
            return Err(Error::ChecksumMismatch { place, expected: checksum, actual });
        }
        let range = range.start.min(size) as usize..range.end.min(size) as usize;
        Ok(bytes.slice(range))
    }

    pub(super) async fn read_at(&self, pin: &Pin, place: LogPlace, size: u64) -> Result<Bytes> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        let (file, path) = pin.file();
        if size <= ON_THE_SPOT_MAX && file.read_cached_at(&mut bytes, place.offset()).unwrap_or(false) {
            return Ok(bytes.into());
        }
        let (file, path) = (Arc::clone(file), path.to_owned());
        locus_fs::off_thread(&*self.config.disk, move || {
            let read = file.read_at(&mut bytes, place.offset()).map_err(Error::io("read", &path))?;
            bytes.truncate(read); // the checksum tells
            Ok(bytes.into())
        })
        .await
    }

    // ---- moving out -------------------------------------------------------------------------------------------

    pub(super) fn begin_moving(&self, tenant: &TenantId, key: &FileKey) -> Option<Moving> {
        let cell = self.cell(tenant)?;
        let mut state = cell.state.lock();
        let entry = state.visible(key, self.watermark())?;
        if !state.stays(entry) || !matches!(entry.rest, Rest::Journal(_)) {
            return None;
        }
        let record = state.record(entry, &self.places, &self.clock);
        if state.copies(key).iter().any(LeftBehind::is_in_the_way) || !state.begin_move(*key) {
            return None;
        }
        drop(state);
        Some(Moving::new(record, self.end_of_move(cell, *key)))
    }

    pub(super) fn begin_moving_from(
        &self,
        tenant: &TenantId,
        key: &FileKey,
        volume: &VolumeId,
    ) -> Option<Moving> {
        let from = self.places.find(volume)?;
        let cell = self.cell(tenant)?;
        let mut state = cell.state.lock();
        let entry = state.visible(key, self.watermark())?;
        if !state.stays(entry) || entry.rest != Rest::Volume(from) {
            return None;
        }
        self.begin_avoiding(&cell, &mut state, key)
    }

    /// The right to move this file, but not to where what earlier moves left is in the way; `None` while somebody else moves it, and
    /// while its own place has what such a move left there under another name: copies are told apart by their places.
    pub(super) fn begin_avoiding(
        &self,
        cell: &Arc<Cell>,
        state: &mut TenantState,
        key: &FileKey,
    ) -> Option<Moving> {
        let entry = state.get(key).filter(|entry| state.beside(entry).is_none())?;
        let record = state.record(entry, &self.places, &self.clock);
        let in_the_way = state.copies(key).iter().filter(|left| left.is_in_the_way());
        let avoid = in_the_way.map(|left| self.places.id(left.volume)).collect();
        let end = state.begin_move(*key).then(|| self.end_of_move(Arc::clone(cell), *key))?;
        Some(Moving::new(record, end).avoiding(avoid))
    }

    /// Writes down that a move is about to write to `volume`.
    pub(super) async fn announce_target(&self, moving: &Moving, volume: &VolumeId) -> Result<bool> {
        let (target, id) = (moving.target(), volume.clone());
        let (key, area) = (target.key, target.area);
        let Some(cell) = self.cell(&moving.record().info.tenant) else { return Ok(false) };
        self.make_spare().await?;
        let mut room = self.journal.reserve(Use::Move, &[FRAME_BYTES + MOVED_BYTES]).await?;
        let lsn = {
            let mut state = cell.state.lock();
            if !state.get(&key).is_some_and(|entry| state.stays(entry)) {
                return Ok(false);
            }
            let no = self.places.number(volume);
            match state.copy_on(&key, no, area) {
                Some(left) if left.is_in_the_way() || left.blob != target => {
                    let why = "holds what an earlier move of this very file left, which is removed first";
                    return Err(Error::VolumeUnavailable { volume: Some(id), why: why.into() });
                }
                // An earlier move did not come to its end.
                Some(left) => {
                    let lsn = left.lsn;
                    state.take_over(&key, no, area);
                    lsn
                }
                None => {
                    let change = match moving.sealed_as() {
                        None => Change::Announced { key, volume: id, area },
                        Some(turn) => Change::AnnouncedSealed { key, volume: id, area, turn },
                    };
                    self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &[change])?
                }
            }
        };
        drop(room);
        // In any mode: the name will be durable, so what was said of it must be.
        self.confirm(lsn, Durability::Durable).await?;
        Ok(true)
    }

    pub(super) async fn relocate_content(&self, moving: Moving, to: Stored) -> Result<bool> {
        let info = &moving.record().info;
        let Place::Volume(id) = &to.place else {
            return Err(Error::InvalidArgument { name: "place", why: "is not a volume" });
        };
        let Some(cell) = self.cell(&info.tenant) else { return Ok(false) };
        let mut room = self.journal.reserve(Use::Move, &[FRAME_BYTES + MOVED_BYTES]).await?;
        let happens = change_of_state(moving.record().area, moving.target().area);
        let lsn = {
            let mut state = cell.state.lock();
            let can_happen =
                |entry: &Entry| happens.is_none_or(|happened| entry.status.after(happened).is_some());
            let stays = |entry: &&Entry| self.stays_at(&state, entry, moving.record()) && can_happen(entry);
            if state.get(&info.key).filter(stays).is_none() {
                return Ok(false);
            }
            let (key, volume) = (info.key, id.clone());
            let change = match happens {
                Some(Move::DeadLetter) => Change::DeadLettered { key, volume },
                Some(_) => Change::Requeued { key, volume },
                None => {
                    let place = Resting::Volume { id: volume, synced: true };
                    Change::Moved { key, place, size: to.length, checksum: to.checksum }
                }
            };
            let lsn = self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &[change])?;
            if happens == Some(Move::Requeue) {
                state.unreserve(&key); // it counts by itself now
            }
            lsn
        };
        drop(room);
        if moving.record().place == Place::Store {
            self.moved.spilled.fetch_add(1, Ordering::AcqRel);
        }
        self.confirm(lsn, self.config.options.durability).await?;
        Ok(true)
    }

    /// Whether a file that stays still rests where it did when the right to move it was given. Within the journal it may
    /// have been moved forward.
    pub(super) fn stays_at(&self, state: &TenantState, entry: &Entry, record: &FileRecord) -> bool {
        let is_there = match (entry.rest, &record.place) {
            (Rest::Journal(_), Place::Store) => true,
            (Rest::Volume(at), Place::Volume(id)) => self.places.find(id) == Some(at),
            _ => false,
        };
        is_there && entry.area == record.area && state.stays(entry)
    }

    /// Contents of the segment to be emptied, which nobody else moves.
    pub(super) async fn take_spillable(&self, files: usize, bytes: u64) -> Result<Vec<Moving>> {
        let Some(Relief::Spill(number)) = self.journal.relief() else {
            self.emptying.spilling.lock().clear();
            return Ok(Vec::new());
        };
        if self.emptying.spilling.lock().is_empty() {
            let held = self.movable(number).await?;
            *self.emptying.spilling.lock() = held;
        }
        let mut taken = Vec::new();
        let mut taken_bytes = 0;
        while taken.len() < files && (taken.is_empty() || taken_bytes < bytes) {
            let Some(held) = self.emptying.spilling.lock().pop_front() else { break };
            if self.is_still_there(&held)
                && let Some(moving) = self.begin_moving(&held.tenant, &held.key)
            {
                taken_bytes += held.size;
                taken.push(moving);
            }
        }
        Ok(taken)
    }

    pub(super) async fn wait_spill_wanted(&self) {
        loop {
            let pressed = self.journal.pressed.notified();
            tokio::pin!(pressed);
            pressed.as_mut().enable();
            if matches!(self.journal.relief(), Some(Relief::Spill(_))) {
                return;
            }
            pressed.await;
        }
    }

    /// What a closed segment holds, whether somebody still needs it or not.
    async fn contents_of(&self, number: u64) -> Result<VecDeque<Held>> {
        let Some(segment) = self.journal.closed_segment(number) else { return Ok(VecDeque::new()) };
        locus_fs::off_thread(&*self.config.disk, move || {
            let mut contents = VecDeque::new();
            segment.records(|raw, place| {
                if raw.head.attachment_len == 0 || raw.head.flags & BARRIER != 0 {
                    return Ok(());
                }
                let Record::Files { groups, .. } = Record::decode(raw.body, raw.head.lsn)? else {
                    return Ok(());
                };
                for (tenant, changes) in groups {
                    for change in changes {
                        let (key, size, resting) = match change {
                            Change::Accepted(accepted) => (accepted.key, accepted.size, accepted.place),
                            Change::Moved { key, place, size, .. }
                            | Change::Resealed { key, place, size, .. } => (key, size, place),
                            _ => continue,
                        };
                        if let Resting::Inline { at } = resting {
                            let place = place.plus(u64::from(at));
                            contents.push_back(Held { tenant: tenant.clone(), key, place, size });
                        }
                    }
                }
                Ok(())
            })?;
            Ok(contents)
        })
        .await
    }

    /// Nothing can be moved out of a segment that cannot be read.
    fn leave_out(&self, number: u64, why: &Error) {
        if matches!(why, Error::Io { .. } | Error::Corrupt { .. } | Error::NewerFormat { .. }) {
            warn!(segment = number, error = %why, "contents of a journal segment cannot be moved");
            self.journal.pass_over(number);
        }
    }

    /// The contents of a closed segment that can be moved. One without any is passed over until some of what lives there
    /// is over.
    async fn movable(&self, number: u64) -> Result<VecDeque<Held>> {
        let mut held = self.contents_of(number).await.inspect_err(|why| self.leave_out(number, why))?;
        held.retain(|held| self.is_still_there(held));
        if held.is_empty() {
            self.journal.pass_over(number);
        }
        Ok(held)
    }

    fn is_still_there(&self, held: &Held) -> bool {
        let Some(cell) = self.cell(&held.tenant) else { return false };
        let state = cell.state.lock();
        state.get(&held.key).is_some_and(|entry| is_at(&state, entry, held.place))
    }

    // ---- moving forward ---------------------------------------------------------------------------------------

    /// A step of copying forward: moves some of what still lives in a mostly dead segment to the end of the log, so that
    /// the segment can be used again. Says how many contents it moved; 0 when there is nothing to do.
    ///
    /// # Errors
    /// [`Error::InsufficientStorage`], [`Error::Poisoned`], [`Error::ShuttingDown`], [`Error::Io`]; what was moved is moved.
    ///
    /// # Cancel safety
    /// What was moved is moved; the rest is found again.
    pub async fn forward_step(&self) -> Result<usize> {
        let chunks = loop {
            let Some(Relief::Forward(number)) = self.journal.relief() else {
                self.emptying.forwarding.lock().clear();
                return Ok(0);
            };
            if self.emptying.forwarding.lock().is_empty() {
                let held = self.movable(number).await?;
                *self.emptying.forwarding.lock() = held;
            }
            let chunks = self.take_forwardable();
            if !chunks.is_empty() {
                break chunks;
            }
        };
        let mut moved = 0;
        let mut last = Lsn::ZERO;
        for (tenant, chunk) in chunks {
            let Some(cell) = self.cell(&tenant) else { continue };
            let bytes: u64 = chunk.iter().map(|held| held.size).sum();
            let (attachment, _pins) = self
                .read_all(&chunk)
                .await
                .inspect_err(|why| self.leave_out(chunk[0].place.segment(), why))?;
            let body = FRAME_BYTES + chunk.len() * MOVED_BYTES;
            let mut room =
                self.journal.reserve_bytes(Use::Move, Room::cost(body) + Room::share(bytes)).await?;
            let (lsn, files) = self.forward(&cell, &mut room, &chunk, attachment)?;
            self.moved.forward.fetch_add(files as u64, Ordering::AcqRel);
            debug!(%tenant, files, bytes, "contents copied forward");
            moved += files;
            last = last.max(lsn);
        }
        if moved > 0 {
            // The old places can be used again once this is durable.
            self.make_durable(last).await?;
        }
        Ok(moved)
    }

    /// Files that still live in the segment, tenant by tenant: one record each.
    fn take_forwardable(&self) -> BTreeMap<TenantId, Vec<Held>> {
        let mut chunks: BTreeMap<TenantId, Vec<Held>> = BTreeMap::new();
        let (mut files, mut bytes) = (0, 0);
        while files < FORWARD_FILES {
            let mut forwarding = self.emptying.forwarding.lock();
            if forwarding.front().is_none_or(|held| files > 0 && bytes + held.size > FORWARD_BYTES) {
                break;
            }
            let Some(held) = forwarding.pop_front() else { break };
            drop(forwarding);
            if self.is_still_there(&held) {
                (files, bytes) = (files + 1, bytes + held.size);
                chunks.entry(held.tenant.clone()).or_default().push(held);
            }
        }
        chunks
    }

    /// The contents as they lie there, also damaged ones: their reads go on to tell.
    async fn read_all(&self, chunk: &[Held]) -> Result<(Attachment, Vec<Pin>)> {
        let mut parts = Parts::with_capacity(chunk.len());
        let mut pins = Vec::with_capacity(chunk.len());
        for held in chunk {
            let Some(pin) = self.journal.pin(held.place) else { continue };
            let mut bytes = self.read_at(&pin, held.place, held.size).await?;
            if (bytes.len() as u64) < held.size {
                let mut padded = bytes.to_vec();
                padded.resize(held.size as usize, 0);
                bytes = padded.into();
            }
            parts.push(bytes);
            pins.push(pin);
        }
        if parts.len() < chunk.len() {
            return Ok((Attachment::default(), Vec::new())); // the segment is free by now: nothing lives in it
        }
        Ok((attachment_of(parts), pins))
    }

    /// Appends the copies and the moves in one record, for those that still live at their old places.
    fn forward(
        &self,
        cell: &Cell,
        room: &mut Room,
        chunk: &[Held],
        attachment: Attachment,
    ) -> Result<(Lsn, usize)> {
        if attachment.parts.is_empty() {
            return Ok((self.journal.last_appended(), 0));
        }
        let mut changes = Vec::with_capacity(chunk.len());
        let mut needless = Vec::new();
        let mut state = cell.state.lock();
        let mut at = 0;
        for held in chunk {
            match state.get(&held.key).filter(|entry| is_at(&state, entry, held.place)) {
                Some(entry) => changes.push(Change::Moved {
                    key: held.key,
                    place: Resting::Inline { at: at as u32 },
                    size: entry.size,
                    checksum: entry.checksum,
                }),
                None => needless.push((at, held.size)),
            }
            at += held.size;
        }
        if changes.is_empty() {
            return Ok((self.journal.last_appended(), 0));
        }
        let moved = changes.len();
        let stamp = self.clock.stamp();
        let appended = self.commit_with(cell, &mut state, room, stamp, &changes, attachment, 0)?;
        for (at, bytes) in needless {
            self.journal.release(appended.place.plus(at), bytes, appended.lsn);
        }
        Ok((appended.lsn, moved))
    }

    /// Runs for ever: copies forward whenever the landing zone is nearly full of segments in which little lives. Returns
    /// when the store is poisoned or closed.
    ///
    /// # Cancel safety
    /// As [`forward_step`](Self::forward_step).
    pub async fn run_forwarder(&self) {
        loop {
            let pressed = self.journal.pressed.notified();
            tokio::pin!(pressed);
            pressed.as_mut().enable();
            match self.forward_step().await {
                Ok(0) => {}
                Ok(_) => continue,
                Err(Error::Poisoned { .. } | Error::ShuttingDown) => return,
                Err(why) => {
                    warn!(error = %why, source = ?std::error::Error::source(&why), "contents not copied forward");
                    let later = self.clock.clock().monotonic().saturating_add(FORWARD_AGAIN_AFTER);
                    self.clock.clock().sleep_until(later).await;
                }
            }
            if self.journal.is_poisoned() {
                return;
            }
            pressed.await;
        }
    }
}

/// Bytes of several contents as one attachment.
pub(super) fn attachment_of(parts: Parts) -> Attachment {
    let checksum = match parts.as_slice() {
        [] => 0,
        [one] => plain_checksum(one),
        _ => {
            let mut hasher = locus_core::Hasher::new();
            parts.iter().for_each(|part| hasher.update(part));
            short(&hasher.finish())
        }
    };
    Attachment { parts, checksum }
}

/// The part of a content's checksum that stands in the head of its record.
pub(super) fn short(checksum: &Checksum) -> u64 {
    u64::from_le_bytes(*checksum.as_bytes().first_chunk().expect("because it has 32 bytes"))
}

/// Whether the content of a file that stays rests at this very place. One that does not is reaped instead of moved.
fn is_at(state: &TenantState, entry: &Entry, place: LogPlace) -> bool {
    entry.rest == Rest::Journal(place) && state.stays(entry)
}
