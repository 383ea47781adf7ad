//! The files of one tenant: entries, and everything that is derived from them. Events are applied here, live and at
//! replay alike; while replaying, nothing derived is kept, and it is computed when replay ends.

mod audit;
mod bridge;
mod copies;
mod dirs;
mod kept;
#[cfg(test)]
mod tests;
mod uploads;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
    time::Duration,
};

pub(crate) use audit::{Page, Resting as RestingFile, Sums, UploadSums};
pub(crate) use copies::LeftBehind;
use dirs::Dirs;
pub(crate) use dirs::Held;
use hashbrown::{HashMap, HashTable};
use locus_core::{
    Area, Epoch, Error, FileKey, FileRecord, FileStatus, LogicalDir, Lsn, Move, Remember, Result, Scope,
    Seal, StoreTime, TenantCounts, TenantId, Token,
};
use rangemap::RangeSet;
pub(crate) use uploads::{Upload, Uploads};

use super::{
    entry::{Cold, Delivery, DirNo, Ended, Entry, Order, Rest, VolumeNo, Waits},
    event::{Accepted, Change, Resting, UploadBegun},
    limits::{Ceiling, Limits, Over, Tally},
    places::Places,
    slab::Slab,
};
use crate::{
    journal::LogPlace,
    time::{Stamp, StoreClock},
};

/// How long an idempotency key is remembered after its record went (ENGINE 9).
pub(crate) const REMEMBER_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// A write under way.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    /// The directory that it has room in.
    directory: DirNo,
    /// The bytes that it has room for.
    bytes: u64,
}

/// Why there is no room for a write.
#[derive(Debug)]
pub(crate) enum Full {
    Tenant(Over),
    Directory(LogicalDir, Over),
    Store(Over),
}

/// Files that may be leased, per volume, each in accept order.
#[derive(Debug, Default)]
struct Queues(Vec<(VolumeNo, BTreeMap<Order, u32>)>);

impl Queues {
    fn of(&mut self, volume: VolumeNo) -> &mut BTreeMap<Order, u32> {
        let at = self.0.iter().position(|(no, _)| *no == volume).unwrap_or_else(|| {
            self.0.push((volume, BTreeMap::new()));
            self.0.len() - 1
        });
        &mut self.0[at].1
    }

    fn available(&self, places: &Places) -> impl Iterator<Item = &BTreeMap<Order, u32>> {
        self.0.iter().filter(|(volume, _)| places.is_available(*volume)).map(|(_, queue)| queue)
    }

    fn heads(&self, places: &Places) -> impl Iterator<Item = (Order, u32)> {
        self.available(places).filter_map(|queue| queue.first_key_value().map(|(order, at)| (*order, *at)))
    }
}

/// A write that is remembered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Remembered {
    pub(crate) key: FileKey,
    pub(crate) remember: Remember,
    /// When the file's record went.
    pub(crate) gone_at: Option<StoreTime>,
    /// The last record that changed this.
    pub(crate) last: Lsn,
}

impl Remembered {
    fn fades_at(&self) -> Option<StoreTime> {
        match (self.remember, self.gone_at) {
            (Remember::Day, Some(gone)) => {
                Some(StoreTime::from_micros(gone.as_micros().saturating_add(REMEMBER_MICROS)))
            }
            _ => None,
        }
    }
}

/// What an applied change asks of those outside the tenant.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Files that are over now, to be reaped when `Lsn` is durable.
    pub(crate) over: Vec<(Lsn, VolumeNo, FileKey)>,
    /// Something may be leased that could not be before.
    pub(crate) ready: bool,
    /// Bytes of the journal that are needless once `Lsn` is durable.
    pub(crate) released: Vec<(Lsn, LogPlace, u64)>,
    /// What moves left in areas of volumes, needless once `Lsn` is durable.
    pub(crate) left: Vec<(Lsn, VolumeNo, FileKey, Area)>,
}

/// Where an event is applied: what it cannot say itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) lsn: Lsn,
    pub(crate) stamp: Stamp,
    pub(crate) epoch: Epoch,
    pub(crate) places: &'a Places,
    /// Events for unknown keys are skipped up to here (a checkpoint was being written then), and damage after it.
    pub(crate) unknown_until: Lsn,
    /// Where the attachment of the record begins.
    pub(crate) attachment: LogPlace,
}

impl Scene<'_> {
    fn rest(&self, place: &Resting) -> Rest {
        match place {
            Resting::Volume { id, .. } => Rest::Volume(self.places.number(id)),
            Resting::Inline { at } => Rest::Journal(self.attachment.plus(u64::from(*at))),
        }
    }
}

/// The files of one tenant.
#[derive(Debug)]
pub(crate) struct TenantState {
    pub(crate) id: TenantId,
    files: Slab<Entry>,
    index: HashTable<u32>,
    dirs: Dirs,
    ready: Queues,
    suspects: Queues,
    delayed: BTreeMap<(StoreTime, Order), u32>,
    leased: BTreeSet<(StoreTime, u32)>,
    /// Completed files that are kept, by the time at which they were completed,
    kept: BTreeSet<(StoreTime, u32)>,
    /// for so long.
    completed_retention: Duration,
    uploads: Uploads,
    remembered: BTreeMap<u128, Remembered>,
    fading: BTreeSet<(StoreTime, u128)>,
    in_flight: HashMap<FileKey, InFlight>,
    /// What the writes under way have room for together.
    reserved: Tally,
    /// The limit of the tenant, and the [generation](Limits::generation) of the limits that it was looked up in.
    ceiling: (u64, Ceiling),
    /// Files whose content somebody moves.
    moving: HashSet<FileKey>,
    /// Keys of blobs that nothing names and somebody has a claim on.
    claimed: HashSet<FileKey>,
    /// What moves left on volumes, or may have, and is not removed yet.
    copies: BTreeMap<FileKey, Vec<LeftBehind>>,
    counts: TenantCounts,
    /// Whether derived things are kept; not while replaying.
    live: bool,
    /// Nothing is taken in any more, and nothing handed out.
    pub(crate) leaving: bool,
    /// Somebody counts everything anew.
    audit: Option<Box<audit::Audit>>,
    pub(crate) effects: Effects,
}

fn hash(key: &FileKey) -> u64 {
    // The last eight bytes of a version 7 UUID are random but for two bits.
    let bytes = key.as_bytes();
    u64::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15]])
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl TenantState {
    /// A tenant without files. `live` as [`begin_live`](Self::begin_live) says.
    pub(crate) fn new(id: TenantId, live: bool) -> Self {
        Self {
            id,
            files: Slab::default(),
            index: HashTable::new(),
            dirs: Dirs::default(),
            ready: Queues::default(),
            suspects: Queues::default(),
            delayed: BTreeMap::new(),
            leased: BTreeSet::new(),
            kept: BTreeSet::new(),
            completed_retention: Duration::ZERO,
            uploads: Uploads::default(),
            remembered: BTreeMap::new(),
            fading: BTreeSet::new(),
            in_flight: HashMap::new(),
            reserved: Tally::default(),
            ceiling: (0, Ceiling::NONE),
            moving: HashSet::new(),
            claimed: HashSet::new(),
            copies: BTreeMap::new(),
            counts: TenantCounts::default(),
            live,
            leaving: false,
            audit: None,
            effects: Effects::default(),
        }
    }

    // ---- looking ----------------------------------------------------------------------------------------------

    pub(crate) fn find(&self, key: &FileKey) -> Option<u32> {
        self.index.find(hash(key), |at| self.files[*at].key == *key).copied()
    }

    pub(crate) fn entry(&self, at: u32) -> &Entry {
        &self.files[at]
    }

    pub(crate) fn get(&self, key: &FileKey) -> Option<&Entry> {
        self.find(key).map(|at| self.entry(at))
    }

    /// The file, unless its accept is above `watermark`: then nobody sees it yet.
    pub(crate) fn visible(&self, key: &FileKey, watermark: Lsn) -> Option<&Entry> {
        self.get(key).filter(|entry| entry.order.lsn() <= watermark)
    }

    pub(crate) fn directory(&self, entry: &Entry) -> LogicalDir {
        self.dirs.path(entry.directory).clone()
    }

    pub(crate) fn record(&self, entry: &Entry, places: &Places, clock: &StoreClock) -> FileRecord {
        entry.record(&self.id, self.directory(entry), places.place(entry.rest), clock)
    }

    pub(crate) fn counts(&self) -> TenantCounts {
        TenantCounts { delayed: self.delayed.len() as u64, ..self.counts }
    }

    /// Files and their bytes.
    pub(crate) fn counted(&self) -> Tally {
        Tally { files: self.counts.files(), bytes: self.counts.bytes }
    }

    /// Writes under way, and the bytes that they have room for.
    pub(crate) fn reserved(&self) -> Tally {
        self.reserved
    }

    /// What a directory holds, and what with all beneath it.
    pub(crate) fn directory_held(&self, directory: &LogicalDir) -> (Held, Held) {
        self.dirs.held(directory)
    }

    /// What directories hold, from place `from` on, and the place behind them.
    pub(crate) fn directories(&self, from: u32, max: u32) -> (Vec<(LogicalDir, Tally)>, Option<u32>) {
        let (page, next) = self.dirs.page(from, max);
        (page.map(|(_, dir)| (dir.path.clone(), dir.own.counted)).collect(), next)
    }

    /// Whether a write or a move of it is under way, or somebody has a claim on it.
    pub(crate) fn is_in_flight(&self, key: &FileKey) -> bool {
        self.in_flight.contains_key(key) || self.moving.contains(key) || self.claimed.contains(key)
    }

    /// Notes that somebody moves the content; `false` when somebody does already, or has a claim on a blob of this key.
    pub(crate) fn begin_move(&mut self, key: FileKey) -> bool {
        !self.claimed.contains(&key) && self.moving.insert(key)
    }

    /// Notes that somebody has a claim on a blob of this key that nothing names; `false` when something may come to name it.
    pub(crate) fn begin_claim(&mut self, key: FileKey) -> bool {
        !self.is_in_flight(&key) && self.claimed.insert(key)
    }

    pub(crate) fn is_claimed(&self, key: &FileKey) -> bool {
        self.claimed.contains(key)
    }

    pub(crate) fn end_claim(&mut self, key: &FileKey) {
        self.claimed.remove(key);
    }

    pub(crate) fn end_move(&mut self, key: &FileKey) {
        self.moving.remove(key);
    }

    /// Whether nothing of it is being moved, and nothing that moves left waits on an available volume.
    pub(crate) fn is_unmoved(&self, places: &Places) -> bool {
        let waits = |left: &LeftBehind| places.is_available(left.volume);
        self.moving.is_empty() && !self.copies.values().flatten().any(waits)
    }

    pub(crate) fn uploads(&self) -> &Uploads {
        &self.uploads
    }

    /// What ended of uploads up to `durable` has ended for good.
    pub(crate) fn settle_uploads(&mut self, durable: Lsn) {
        self.uploads.settle(durable);
    }

    pub(crate) fn remembered(&self, hash: u128) -> Option<&Remembered> {
        self.remembered.get(&hash)
    }

    /// One more than the highest index in use, and the entry there: for checkpoints.
    pub(crate) fn entries_end(&self) -> u32 {
        self.files.end()
    }

    pub(crate) fn entry_at(&self, at: u32) -> Option<&Entry> {
        self.files.get(at)
    }

    /// Remembered writes behind `after`, in the order of their hashes.
    pub(crate) fn remembered_after(&self, after: Option<u128>) -> impl Iterator<Item = (u128, &Remembered)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.remembered.range((from, Bound::Unbounded)).map(|(hash, remembered)| (*hash, remembered))
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.files.iter().map(|(_, entry)| entry)
    }

    // ---- queues -----------------------------------------------------------------------------------------------

    /// The oldest file that may be leased: on an available volume, its accept not above `watermark`.
    pub(crate) fn front(&self, places: &Places, watermark: Lsn) -> Option<u32> {
        self.ready
            .heads(places)
            .filter(|(order, _)| order.lsn() <= watermark)
            .min_by_key(|(order, _)| *order)
            .map(|(_, at)| at)
    }

    /// The `max` oldest files that may be leased.
    pub(crate) fn fronts(&self, places: &Places, watermark: Lsn, max: usize) -> Vec<u32> {
        let mut queues: Vec<_> = self
            .ready
            .available(places)
            .map(|queue| queue.iter().take_while(|(order, _)| order.lsn() <= watermark).peekable())
            .collect();
        let mut fronts = Vec::new();
        while fronts.len() < max {
            let oldest = queues.iter_mut().filter_map(|q| q.peek().copied().map(|(order, _)| (*order, q)));
            let Some((_, queue)) = oldest.min_by_key(|(order, _)| *order) else { break };
            fronts.extend(queue.next().map(|(_, at)| *at));
        }
        fronts
    }

    /// The oldest suspect that may be leased.
    pub(crate) fn suspect_front(&self, places: &Places) -> Option<u32> {
        self.suspects.heads(places).min_by_key(|(order, _)| *order).map(|(_, at)| at)
    }

    /// The lowest accept LSN of a file that only waits for the watermark.
    pub(crate) fn hidden(&self, places: &Places, watermark: Lsn) -> Option<Lsn> {
        self.ready.heads(places).map(|(order, _)| order.lsn()).filter(|lsn| *lsn > watermark).min()
    }

    /// Moves up to `max` delayed files that are due to the ready ones.
    pub(crate) fn wake_due(&mut self, now: StoreTime, max: usize) {
        for _ in 0..max {
            let Some((&(due, order), &at)) = self.delayed.first_key_value() else { return };
            if due > now {
                return;
            }
            self.delayed.remove(&(due, order));
            self.queue_ready(at);
        }
    }

    /// Up to `max` leases that have run out.
    pub(crate) fn overdue(&self, now: StoreTime, max: usize) -> Vec<u32> {
        self.leased.iter().take_while(|(deadline, _)| *deadline <= now).take(max).map(|(_, at)| *at).collect()
    }

    /// When the next delayed file is due or the next lease runs out.
    pub(crate) fn next_due(&self) -> Option<StoreTime> {
        let delayed = self.delayed.first_key_value().map(|((due, _), _)| *due);
        let leased = self.leased.first().map(|(deadline, _)| *deadline);
        delayed.into_iter().chain(leased).min()
    }

    /// When the next lease runs out.
    pub(crate) fn next_deadline(&self) -> Option<StoreTime> {
        self.leased.first().map(|(deadline, _)| *deadline)
    }

    /// Whether anything waits in a queue of an available volume, visible or not.
    pub(crate) fn has_ready(&self, places: &Places) -> bool {
        self.ready.heads(places).next().is_some() || self.suspect_front(places).is_some()
    }

    fn queue_ready(&mut self, at: u32) {
        let entry = &self.files[at];
        let queues = if entry.is_suspect() { &mut self.suspects } else { &mut self.ready };
        queues.of(entry.rest.number()).insert(entry.order, at);
        self.effects.ready = true;
    }

    /// Puts an entry into the queue where it waits, and counts it.
    fn file(&mut self, at: u32, places: &Places) {
        places.count_saved(self.saved_bytes(at), true);
        self.tell_audit(at, true);
        let entry = &self.files[at];
        let (last, key, volume, order) = (entry.last, entry.key, entry.rest.number(), entry.order);
        self.count(at, true);
        match self.files[at].waits() {
            Waits::Ready | Waits::Suspect => self.queue_ready(at),
            Waits::Delayed(due) => {
                self.delayed.insert((due, order), at);
            }
            Waits::Leased(deadline) => {
                self.leased.insert((deadline, at));
            }
            Waits::Over if self.keeps(&self.files[at]) => {
                self.kept.insert((self.files[at].moment, at));
            }
            Waits::Over => self.effects.over.push((last, volume, key)),
            Waits::Nowhere => {}
        }
    }

    /// Takes an entry out of the queue where it waits, and out of the counts.
    fn unfile(&mut self, at: u32, places: &Places) {
        places.count_saved(self.saved_bytes(at), false);
        self.tell_audit(at, false);
        self.count(at, false);
        let entry = &self.files[at];
        let (order, volume) = (entry.order, entry.rest.number());
        match entry.waits() {
            Waits::Ready => {
                self.ready.of(volume).remove(&order);
            }
            Waits::Suspect => {
                self.suspects.of(volume).remove(&order);
            }
            // A delayed file that fell due has joined the ready ones.
            Waits::Delayed(due) => {
                if self.delayed.remove(&(due, order)).is_none()
                    && self.suspects.of(volume).remove(&order).is_none()
                {
                    self.ready.of(volume).remove(&order);
                }
            }
            Waits::Leased(deadline) => {
                self.leased.remove(&(deadline, at));
            }
            Waits::Over => {
                self.kept.remove(&(entry.moment, at));
            }
            Waits::Nowhere => {}
        }
    }

    fn saved_bytes(&self, at: u32) -> u64 {
        let entry = &self.files[at];
        entry.saved_bytes() + self.dirs.path(entry.directory).as_str().len() as u64
    }

    fn count_place(&self, at: u32, places: &Places, more: bool) {
        let entry = &self.files[at];
        places.count(entry.rest.number(), entry.size, entry.counts(), more);
        self.count_seal(at, places, more);
    }

    fn count_seal(&self, at: u32, places: &Places, more: bool) {
        let cold = self.files[at].cold.as_deref();
        if let Some(seal) = cold.and_then(|cold| cold.seal.as_ref()) {
            places.count_seal(seal.key, more);
        }
    }

    fn count(&mut self, at: u32, more: bool) {
        let entry = &self.files[at];
        let (files, bytes) = slots(&mut self.counts, entry);
        if more {
            *files += 1;
            *bytes += entry.size;
        } else {
            *files -= 1;
            *bytes -= entry.size;
        }
        if entry.counts() {
            self.dirs.count(entry.directory, Tally::one(entry.size), more);
        }
    }

    // ---- reservations -----------------------------------------------------------------------------------------

    /// Takes room for a file of so many bytes in every limit that applies, for a write that is under way from now on.
    pub(crate) fn reserve(
        &mut self,
        key: FileKey,
        path: &LogicalDir,
        bytes: u64,
        limits: &Limits,
        places: &Places,
    ) -> Result<(), Full> {
        let directory = self.dirs.enter(path);
        let room = Tally::one(bytes);
        let admitted = self.admit(directory, room, limits);
        // Other tenants reserve at the same time: look and take are one step.
        let taken = admitted.and_then(|()| places.take(limits.of(&Scope::Global), room).map_err(Full::Store));
        if taken.is_err() {
            self.dirs.leave(directory);
            return taken;
        }
        self.take_room(key, directory, room);
        Ok(())
    }

    fn take_room(&mut self, key: FileKey, directory: DirNo, room: Tally) {
        self.dirs.reserve(directory, room, true);
        self.reserved.add(room);
        self.in_flight.insert(key, InFlight { directory, bytes: room.bytes });
    }

    /// Whether [`reserve`](Self::reserve) would find room now.
    pub(crate) fn check_room(&mut self, path: &LogicalDir, bytes: u64, limits: &Limits) -> Result<(), Full> {
        let directory = self.dirs.enter(path);
        let admitted = self.admit(directory, Tally::one(bytes), limits);
        self.dirs.leave(directory);
        admitted
    }

    /// Brings the room of a write under way to the bytes that it turned out to have.
    pub(crate) fn resize(
        &mut self,
        key: &FileKey,
        bytes: u64,
        limits: &Limits,
        places: &Places,
    ) -> Result<(), Full> {
        let Some(InFlight { directory, bytes: before }) = self.in_flight.get(key).copied() else {
            return Ok(());
        };
        if bytes == before {
            return Ok(()); // almost always: the length was known from the start
        }
        if bytes > before {
            let more = Tally::bytes(bytes - before);
            self.admit(directory, more, limits)?;
            places.take(limits.of(&Scope::Global), more).map_err(Full::Store)?;
            self.dirs.reserve(directory, more, true);
            self.reserved.add(more);
        } else {
            let less = Tally::bytes(before - bytes);
            places.give_back(less);
            self.dirs.reserve(directory, less, false);
            self.reserved.subtract(less);
        }
        self.in_flight.insert(*key, InFlight { directory, bytes });
        Ok(())
    }

    /// Whether so much more fits into the limits of the tenant, of the directory and of those above it.
    fn admit(&mut self, directory: DirNo, more: Tally, limits: &Limits) -> Result<(), Full> {
        if self.ceiling.0 != limits.generation() {
            self.ceiling = (limits.generation(), limits.of(&Scope::Tenant(self.id.clone())));
        }
        let used = self.counted().and(self.reserved);
        self.ceiling.1.admit(used, more).map_err(Full::Tenant)?;
        let admitted = self.dirs.admit(directory, &self.id, more, limits);
        admitted.map_err(|(directory, over)| Full::Directory(directory, over))
    }

    /// The write is over, one way or the other: what it had room for, unless it was over before.
    pub(crate) fn unreserve(&mut self, key: &FileKey) -> Option<Tally> {
        let InFlight { directory, bytes } = self.in_flight.remove(key)?;
        let room = Tally::one(bytes);
        self.dirs.reserve(directory, room, false);
        self.dirs.leave(directory);
        self.reserved.subtract(room);
        Some(room)
    }

    // ---- idempotency ------------------------------------------------------------------------------------------

    /// Forgets up to `max` writes whose time is over. Says how many.
    pub(crate) fn fade(&mut self, now: StoreTime, max: usize, places: &Places) -> usize {
        let mut faded = 0;
        while faded < max
            && let Some(&(at, hash)) = self.fading.first()
            && at <= now
        {
            self.fading.pop_first();
            self.forget(hash, places);
            faded += 1;
        }
        faded
    }

    fn remember(&mut self, hash: u128, remembered: Remembered, places: &Places) {
        if let Some(at) = remembered.fades_at() {
            self.fading.insert((at, hash));
        }
        match self.remembered.insert(hash, remembered) {
            None => {
                places.remembered.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
            }
            Some(before) => {
                if let Some(at) = before.fades_at() {
                    let kept = self.remembered[&hash].fades_at() == Some(at);
                    if !kept {
                        self.fading.remove(&(at, hash));
                    }
                }
            }
        }
    }

    fn forget(&mut self, hash: u128, places: &Places) {
        if let Some(before) = self.remembered.remove(&hash) {
            places.remembered.fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
            if let Some(at) = before.fades_at() {
                self.fading.remove(&(at, hash));
            }
        }
    }

    /// Forgets all writes that records before `lsn` made known.
    pub(crate) fn forget_all(&mut self, lsn: Lsn, places: &Places) {
        let known: Vec<u128> = self
            .remembered
            .iter()
            .filter(|(_, remembered)| remembered.last < lsn)
            .map(|(hash, _)| *hash)
            .collect();
        for hash in known {
            self.forget(hash, places);
        }
    }

    // ---- coming back ------------------------------------------------------------------------------------------

    /// Puts back an entry that a checkpoint holds.
    pub(crate) fn restore(&mut self, directory: &LogicalDir, mut entry: Entry) {
        entry.directory = self.dirs.enter(directory);
        let key = entry.key;
        let at = self.files.insert(entry);
        let files = &self.files;
        self.index.insert_unique(hash(&key), at, |at| hash(&files[*at].key));
    }

    /// How the content of an entry, or of an upload, is sealed that was put back.
    pub(crate) fn restore_seal(&mut self, key: &FileKey, seal: Seal) {
        if let Some(at) = self.find(key) {
            self.files[at].cold.get_or_insert_default().seal = Some(seal);
        } else if let Some(upload) = self.uploads.remove(key) {
            self.uploads.insert(Upload { seal: Some(seal), ..upload });
        }
    }

    /// The bytes of a deleted entry that was put back lie among the dead letters.
    pub(crate) fn restore_purged(&mut self, key: &FileKey) {
        if let Some(at) = self.find(key) {
            self.files[at].area = Area::DeadLetters;
        }
    }

    /// Puts back an upload that a checkpoint holds.
    pub(crate) fn restore_upload(&mut self, upload: Upload) {
        self.uploads.insert(upload);
    }

    /// Puts back a remembered write that a checkpoint holds.
    pub(crate) fn restore_remembered(&mut self, hash: u128, remembered: Remembered, places: &Places) {
        self.remember(hash, remembered, places);
    }

    /// Replay is over: computes everything that is derived, and keeps it from now on.
    ///
    /// What ages and does not say since when (an older format did not) ages from `now` on.
    pub(crate) fn begin_live(&mut self, places: &Places, now: StoreTime) {
        self.live = true;
        for at in 0..self.files.end() {
            if self.files.get(at).is_some() {
                let entry = &mut self.files[at];
                if entry.ages() && entry.moment == StoreTime::ZERO {
                    entry.moment = now;
                }
                self.file(at, places);
                self.count_place(at, places, true);
                if self.files[at].counts() {
                    let _ = places.take(Ceiling::NONE, Tally::one(self.files[at].size));
                }
            }
        }
        self.begin_copies(places);
        let uploads: Vec<_> = self.uploads.after(None).cloned().collect();
        for upload in uploads {
            places.count_upload(&upload, true);
            let (directory, room) = (self.dirs.enter(&upload.directory), Tally::one(upload.size));
            let _ = places.take(Ceiling::NONE, room);
            self.take_room(upload.key, directory, room);
        }
    }

    // ---- applying ---------------------------------------------------------------------------------------------

    /// Applies one change. Live it cannot fail, because it was decided on this very state.
    ///
    /// # Errors
    /// [`Error::Corrupt`] at replay: the log speaks of a file that is not there.
    pub(crate) fn apply(&mut self, scene: &Scene<'_>, ordinal: usize, change: &Change) -> Result<()> {
        let Stamp { wall, time } = scene.stamp;
        match change {
            Change::Accepted(accepted) => self.accept(scene, ordinal, accepted),
            Change::Leased { keys, deadline, ttl_micros, owner, by } => {
                for key in keys {
                    self.change(scene, key, |entry| {
                        entry.status = legal(entry, Move::Lease)?;
                        entry.moment = StoreTime::ZERO;
                        entry.attempts = entry.attempts.saturating_add(1);
                        let before = entry.delivery.take();
                        let (failed_at, error) = before.map_or((None, None), |d| (d.failed_at, d.error));
                        entry.delivery = Some(Box::new(Delivery {
                            token: Some(Token { epoch: scene.epoch, lsn: scene.lsn }),
                            ended: Ended::Not,
                            owner: *owner,
                            deadline: *deadline,
                            ttl_micros: *ttl_micros,
                            by: by.as_deref().map(Into::into),
                            started_at: wall,
                            heartbeat_at: wall,
                            failed_at,
                            error,
                        }));
                        Ok(())
                    })?;
                }
                Ok(())
            }
            Change::Renewed { key, deadline, ttl_micros } => self.change(scene, key, |entry| {
                let delivery = delivery(entry)?;
                delivery.deadline = *deadline;
                delivery.ttl_micros = *ttl_micros;
                delivery.heartbeat_at = wall;
                Ok(())
            }),
            Change::Released { key } => self.change(scene, key, |entry| {
                entry.status = legal(entry, Move::Release)?;
                entry.attempts = entry.attempts.saturating_sub(1);
                delivery(entry)?.ended = Ended::ByHolder;
                Ok(())
            }),
            Change::Completed { keys } => {
                for key in keys {
                    self.change(scene, key, |entry| {
                        entry.status = legal(entry, Move::Complete)?;
                        entry.moment = time;
                        delivery(entry)?.ended = Ended::ByHolder;
                        Ok(())
                    })?;
                }
                Ok(())
            }
            Change::Failed { key, error, available_at } => self.change(scene, key, |entry| {
                let happened = if available_at.is_some() { Move::Retry } else { Move::GiveUp };
                entry.status = legal(entry, happened)?;
                entry.retry_count = entry.retry_count.saturating_add(1);
                entry.moment = available_at.unwrap_or(time);
                entry.interrupted = 0;
                let delivery = delivery(entry)?;
                delivery.ended = Ended::ByHolder;
                delivery.failed_at = Some(wall);
                delivery.error = Some(error.as_str().into());
                Ok(())
            }),
            Change::TimedOut { keys, given_up } => self.end_leases(scene, keys, given_up, false),
            Change::Interrupted { keys, given_up } => self.end_leases(scene, keys, given_up, true),
            Change::Resumed { leases } => {
                for (key, deadline) in leases {
                    self.change(scene, key, |entry| {
                        delivery(entry)?.deadline = *deadline;
                        Ok(())
                    })?;
                }
                Ok(())
            }
            Change::Reset { key } => self.change(scene, key, |entry| {
                entry.status = legal(entry, Move::Reset)?;
                begin_anew(entry);
                Ok(())
            }),
            Change::Deleted { key } => self.change(scene, key, |entry| {
                entry.status = legal(entry, Move::Delete)?;
                entry.moment = StoreTime::ZERO;
                Ok(())
            }),
            Change::Moved { key, place, size, checksum } => {
                self.relocate(scene, key, (scene.rest(place), None), false, |entry| {
                    (entry.size, entry.checksum) = (*size, *checksum);
                    Ok(())
                })
            }
            Change::Resealed { key, place, size, checksum, seal, error } => {
                self.relocate(scene, key, (scene.rest(place), None), true, |entry| {
                    (entry.size, entry.checksum) = (*size, *checksum);
                    entry.original_name = None;
                    let cold = entry.cold.get_or_insert_default();
                    (cold.properties, cold.seal) = (BTreeMap::new(), Some(seal.clone()));
                    if let Some(delivery) = &mut entry.delivery {
                        delivery.error = error.as_deref().map(Into::into);
                    }
                    Ok(())
                })
            }
            Change::DeadLettered { key, volume } => {
                let rest = Rest::Volume(scene.places.number(volume));
                self.relocate(scene, key, (rest, Some(Area::DeadLetters)), false, |entry| {
                    entry.status = legal(entry, Move::DeadLetter)?;
                    (entry.moment, entry.modified_at) = (time, wall);
                    clear_token(entry);
                    Ok(())
                })
            }
            Change::Requeued { key, volume } => {
                let rest = Rest::Volume(scene.places.number(volume));
                self.relocate(scene, key, (rest, Some(Area::Live)), false, |entry| {
                    entry.status = legal(entry, Move::Requeue)?;
                    entry.modified_at = wall;
                    begin_anew(entry);
                    Ok(())
                })
            }
            Change::Announced { key, volume, area } => self.announce(scene, key, (volume, *area), None),
            Change::AnnouncedSealed { key, volume, area, turn } => {
                self.announce(scene, key, (volume, *area), Some(*turn))
            }
            Change::CopyRemoved { key, volume, area } => {
                self.drop_copy(scene, key, scene.places.number(volume), *area);
                Ok(())
            }
            Change::Astray { key, volume } => self.went_astray(scene, key, scene.places.number(volume)),
            Change::Sealed { key, seal } => self.seal(scene, key, seal),
            Change::Reaped { keys } => {
                for key in keys {
                    self.reap(scene, key, time)?;
                }
                Ok(())
            }
            Change::Forgotten { hash } => {
                if self.remembered.get(hash).is_some_and(|remembered| remembered.last < scene.lsn) {
                    self.forget(*hash, scene.places);
                }
                Ok(())
            }
            Change::UploadBegun(begun) => {
                self.begin_upload(scene, begun);
                Ok(())
            }
            Change::UploadStaged { key, staging } => self.change_upload(scene, key, |upload| {
                upload.staging = Some(*staging);
            }),
            Change::UploadConfirmed { key, ranges } => self.change_upload(scene, key, |upload| {
                let within = ranges.iter().map(|range| range.start..range.end.min(upload.size));
                upload.confirmed.extend(within.filter(|range| !range.is_empty()));
            }),
            Change::UploadEnded { key } => {
                let Some(upload) = self.drop_upload(scene, key) else { return unknown(scene, key) };
                if self.live {
                    self.uploads.end(&upload, scene.lsn);
                    if let Some(room) = self.unreserve(key) {
                        scene.places.give_back(room);
                    }
                }
                Ok(())
            }
        }
    }

    fn accept(&mut self, scene: &Scene<'_>, ordinal: usize, accepted: &Accepted) -> Result<()> {
        if let Some((hash, remember)) = accepted.idempotency
            && self.remembered.get(&hash).is_none_or(|remembered| remembered.last < scene.lsn)
        {
            let remembered = Remembered { key: accepted.key, remember, gone_at: None, last: scene.lsn };
            self.remember(hash, remembered, scene.places);
        }
        // What is sealed is a copy of what was staged, which is needed until this lasts.
        if let Some(upload) = self.drop_upload(scene, &accepted.key)
            && self.live
            && upload.seal.is_some()
        {
            self.uploads.end(&upload, scene.lsn);
        }
        if self.find(&accepted.key).is_some() {
            return Ok(()); // a checkpoint holds it already
        }
        let has_cold =
            accepted.owner.is_some() || !accepted.properties.is_empty() || accepted.idempotency.is_some();
        let cold = has_cold.then(|| {
            Box::new(Cold {
                properties: accepted.properties.clone(),
                owner: accepted.owner.clone(),
                idempotency: accepted.idempotency.map(|(hash, _)| hash),
                seal: None,
            })
        });
        let entry = Entry {
            key: accepted.key,
            order: Order::new(scene.lsn, ordinal),
            last: scene.lsn,
            size: accepted.size,
            checksum: accepted.checksum,
            created_at: scene.stamp.wall,
            modified_at: scene.stamp.wall,
            moment: StoreTime::ZERO,
            directory: self.dirs.enter(&accepted.directory),
            retry_count: 0,
            attempts: 0,
            rest: scene.rest(&accepted.place),
            area: Area::Live,
            status: FileStatus::Pending,
            interrupted: 0,
            original_name: accepted.original_name.as_deref().map(Into::into),
            cold,
            delivery: None,
        };
        let at = self.files.insert(entry);
        let files = &self.files;
        self.index.insert_unique(hash(&accepted.key), at, |at| hash(&files[*at].key));
        if self.live {
            self.file(at, scene.places);
            self.count_place(at, scene.places, true);
        }
        Ok(())
    }

    /// Says how the content is sealed that this record accepted, or brought elsewhere, or of which the upload begins.
    fn seal(&mut self, scene: &Scene<'_>, key: &FileKey, seal: &Seal) -> Result<()> {
        let Some(at) = self.find(key) else { return self.seal_upload(scene, key, seal) };
        if self.files[at].last > scene.lsn {
            return Ok(()); // a checkpoint holds it as a later record left it
        }
        if self.live {
            self.unfile(at, scene.places);
            self.count_seal(at, scene.places, false);
        }
        self.files[at].cold.get_or_insert_default().seal = Some(seal.clone());
        if self.live {
            self.file(at, scene.places);
            self.count_seal(at, scene.places, true);
        }
        Ok(())
    }

    fn seal_upload(&mut self, scene: &Scene<'_>, key: &FileKey, seal: &Seal) -> Result<()> {
        match self.uploads.get(key) {
            None => return unknown(scene, key),
            Some(upload) if upload.last > scene.lsn => return Ok(()),
            Some(_) => {}
        }
        if let Some(upload) = self.drop_upload(scene, key) {
            self.keep_upload(scene, Upload { seal: Some(seal.clone()), ..upload });
        }
        Ok(())
    }

    fn begin_upload(&mut self, scene: &Scene<'_>, begun: &UploadBegun) {
        if self.uploads.get(&begun.key).is_some() {
            return; // a checkpoint holds it already
        }
        let upload = Upload {
            key: begun.key,
            last: scene.lsn,
            owner: begun.owner.clone(),
            directory: begun.directory.clone(),
            original_name: begun.original_name.as_deref().map(Into::into),
            properties: begun.properties.clone(),
            size: begun.size,
            expected: begun.expected,
            volume: scene.places.number(&begun.volume),
            begun_at: scene.stamp.wall,
            touched: scene.stamp.time,
            staging: None,
            confirmed: RangeSet::new(),
            seal: None,
        };
        self.keep_upload(scene, upload);
    }

    fn keep_upload(&mut self, scene: &Scene<'_>, upload: Upload) {
        if self.live {
            scene.places.count_upload(&upload, true);
        }
        self.uploads.insert(upload);
    }

    /// It is under way no more. Its room is another matter.
    fn drop_upload(&mut self, scene: &Scene<'_>, key: &FileKey) -> Option<Upload> {
        let upload = self.uploads.remove(key)?;
        if self.live {
            scene.places.count_upload(&upload, false);
        }
        Some(upload)
    }

    fn change_upload(
        &mut self,
        scene: &Scene<'_>,
        key: &FileKey,
        change: impl FnOnce(&mut Upload),
    ) -> Result<()> {
        match self.uploads.get(key) {
            None => return unknown(scene, key),
            Some(upload) if upload.last >= scene.lsn => return Ok(()),
            Some(_) => {}
        }
        if let Some(mut upload) = self.drop_upload(scene, key) {
            change(&mut upload);
            (upload.last, upload.touched) = (scene.lsn, scene.stamp.time);
            self.keep_upload(scene, upload);
        }
        Ok(())
    }

    fn end_leases(
        &mut self,
        scene: &Scene<'_>,
        keys: &[FileKey],
        given_up: &[FileKey],
        with_process: bool,
    ) -> Result<()> {
        let pending = keys.iter().map(|key| (key, false));
        for (key, gives_up) in pending.chain(given_up.iter().map(|key| (key, true))) {
            self.change(scene, key, |entry| {
                entry.status = legal(entry, if gives_up { Move::GiveUp } else { Move::TimeOut })?;
                entry.moment = if gives_up { scene.stamp.time } else { StoreTime::ZERO };
                entry.interrupted = if with_process { entry.interrupted.saturating_add(1) } else { 0 };
                delivery(entry)?.ended = Ended::ByTime;
                Ok(())
            })?;
        }
        Ok(())
    }

    fn reap(&mut self, scene: &Scene<'_>, key: &FileKey, time: StoreTime) -> Result<()> {
        let Some(at) = self.find_older(scene, key)? else { return Ok(()) };
        if self.live {
            self.unfile(at, scene.places);
            self.count_place(at, scene.places, false);
            if self.files[at].counts() {
                scene.places.give_back(Tally::one(self.files[at].size));
            }
            self.release(scene, at);
        }
        if let Ok(slot) = self.index.find_entry(hash(key), |other| *other == at) {
            slot.remove();
        }
        let entry = self.files.remove(at);
        self.dirs.leave(entry.directory);
        if let Some(hash) = entry.cold.and_then(|cold| cold.idempotency)
            && let Some(remembered) = self.remembered.get(&hash)
            && remembered.key == *key
            && remembered.last < scene.lsn
        {
            let gone = Remembered { gone_at: Some(time), last: scene.lsn, ..remembered.clone() };
            self.remember(hash, gone, scene.places);
        }
        Ok(())
    }

    /// The content rests elsewhere now, in this area, or in the one that it was in, or has another name, and `change` says what
    /// else is new. What ceases to count gives its room back; for what counts again room was reserved.
    fn relocate(
        &mut self,
        scene: &Scene<'_>,
        key: &FileKey,
        (rest, area): (Rest, Option<Area>),
        renamed: bool,
        change: impl FnOnce(&mut Entry) -> Result<()>,
    ) -> Result<()> {
        let Some(at) = self.find_older(scene, key)? else { return Ok(()) };
        let (area, before) = (area.unwrap_or(self.files[at].area), Tally::one(self.files[at].size));
        let counted = self.files[at].counts();
        if self.live {
            self.unfile(at, scene.places);
            self.count_place(at, scene.places, false);
            self.release(scene, at);
        }
        self.leave(scene, at, rest, area, renamed);
        let entry = &mut self.files[at];
        let changed = change(entry);
        (entry.rest, entry.area, entry.last) = (rest, area, scene.lsn);
        if self.live {
            match (counted, self.files[at].counts()) {
                (true, true) => scene.places.exchange(before.bytes, self.files[at].size),
                (true, false) => scene.places.give_back(before),
                (false, _) => {}
            }
            self.file(at, scene.places);
            self.count_place(at, scene.places, true);
        }
        changed
    }

    /// The journal need not keep what it holds of this entry.
    fn release(&mut self, scene: &Scene<'_>, at: u32) {
        let entry = &self.files[at];
        if let Rest::Journal(place) = entry.rest {
            self.effects.released.push((scene.lsn, place, entry.size));
        }
    }

    /// The entry, unless a checkpoint holds it as this record leaves it, or without it.
    fn find_older(&self, scene: &Scene<'_>, key: &FileKey) -> Result<Option<u32>> {
        match self.find(key) {
            Some(at) => Ok((self.files[at].last < scene.lsn).then_some(at)),
            None => unknown(scene, key).map(|()| None),
        }
    }

    /// Changes one entry, keeping what is derived from it.
    fn change(
        &mut self,
        scene: &Scene<'_>,
        key: &FileKey,
        change: impl FnOnce(&mut Entry) -> Result<()>,
    ) -> Result<()> {
        let Some(at) = self.find_older(scene, key)? else { return Ok(()) };
        if self.live {
            self.unfile(at, scene.places);
        }
        let entry = &mut self.files[at];
        let changed = change(entry);
        entry.last = scene.lsn;
        entry.modified_at = scene.stamp.wall;
        if self.live {
            self.file(at, scene.places);
        }
        changed
    }
}

/// The numbers that an entry and its bytes are counted in.
fn slots<'a>(counts: &'a mut TenantCounts, entry: &Entry) -> (&'a mut u64, &'a mut u64) {
    if !entry.counts() {
        return (&mut counts.dead_lettered, &mut counts.dead_letter_bytes);
    }
    let files = match entry.status {
        FileStatus::Pending => &mut counts.pending,
        FileStatus::Processing => &mut counts.processing,
        FileStatus::Completed => &mut counts.completed,
        FileStatus::Deleted => &mut counts.deleted,
        _ => &mut counts.permanently_failed,
    };
    (files, &mut counts.bytes)
}

/// No lease of it is worth anything any more.
fn clear_token(entry: &mut Entry) {
    if let Some(delivery) = &mut entry.delivery {
        delivery.token = None;
    }
}

/// It waits as if it had never been delivered.
fn begin_anew(entry: &mut Entry) {
    entry.moment = StoreTime::ZERO;
    entry.retry_count = 0;
    entry.attempts = 0;
    entry.interrupted = 0;
    clear_token(entry);
}

fn legal(entry: &Entry, happened: Move) -> Result<FileStatus> {
    entry.status.after(happened).ok_or_else(|| Error::Corrupt {
        place: format!("the log of file {}", entry.key),
        why: format!("{happened:?} cannot happen to a file that is {}", entry.status).into(),
    })
}

fn delivery(entry: &mut Entry) -> Result<&mut Delivery> {
    let key = entry.key;
    entry.delivery.as_deref_mut().ok_or_else(|| Error::Corrupt {
        place: format!("the log of file {key}"),
        why: "a lease ends that was never taken".into(),
    })
}

fn unknown(scene: &Scene<'_>, key: &FileKey) -> Result<()> {
    if scene.lsn <= scene.unknown_until {
        return Ok(());
    }
    Err(Error::Corrupt {
        place: format!("journal record {}", scene.lsn),
        why: format!("it speaks of file {key}, which was never accepted").into(),
    })
}
