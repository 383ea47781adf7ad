//! The log itself: append (a memory operation), write (whoever holds the role, for all), sync (one committer, for all).

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use locus_core::{Entropy, Error, Lsn, Outcome, Result, StoreId};
use locus_fs::{Disk, DiskFile};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tracing::{debug, error, warn};

use super::{
    format::{
        BATCH_HEAD_BYTES, BatchHead, HEADER_BYTES, RECORD_HEAD_BYTES, RecordHead, SegmentHeader, batch_bytes,
        plain_checksum,
    },
    room::Room,
    segment::{SEGMENT_BYTES_MIN, Segment, SegmentFile, make_segment_file},
    waiters::{Reached, Waiters, wake},
};
use crate::{signal::Signal, time::StoreClock};

/// Most that one write hands to the kernel.
const BATCH_BYTES_MAX: u64 = 1 << 20;
/// A caller that holds the write role passes it to the committer after this many rounds,
const ROUNDS_MAX: usize = 4;
/// and never takes it for more than this.
const INLINE_BYTES_MAX: u64 = 256 << 10;
/// So many segment files are kept ready beside the one that is being written.
const READY_TARGET: usize = 2;
/// A freed segment file is kept for reuse while fewer than this many are ready.
const READY_MAX: usize = 4;

/// What a journal is made of.
#[derive(Debug, Clone)]
pub(crate) struct JournalConfig {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) store: StoreId,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) segment_size: u64,
    pub(crate) pending_bytes_max: u64,
    pub(crate) max_unsynced_bytes: u64,
}

/// Where a log goes on after it was read.
#[derive(Debug, Default)]
pub(crate) struct Resume {
    /// The segments that hold the log, oldest first.
    pub(crate) segments: Vec<Segment>,
    /// Segment files that hold nothing of the log.
    pub(crate) free: Vec<SegmentFile>,
    /// Index for the next file that is made.
    pub(crate) next_index: u64,
    /// Highest segment number ever seen.
    pub(crate) last_number: u64,
    /// Number of the segment in which the log ends; 0 when there is none.
    pub(crate) end_segment: u64,
    /// Last LSN of the log.
    pub(crate) end: Lsn,
    /// Bytes of the records that were replayed: the log since the newest checkpoint.
    pub(crate) replayed_bytes: u64,
    /// First LSN to be used: beyond any that anything dropped could hold.
    pub(crate) first: Lsn,
}

/// What happened to a record that was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) lsn: Lsn,
}

/// A record on its way to the disk.
#[derive(Debug)]
struct Pending {
    lsn: Lsn,
    body: Vec<u8>,
    flags: u32,
    /// Reserved room that it brought along.
    cost: u64,
}

impl Pending {
    fn len(&self) -> u64 {
        (RECORD_HEAD_BYTES + self.body.len()) as u64
    }
}

/// Everything that the append lock guards: memory only.
#[derive(Debug)]
struct Append {
    next: Lsn,
    pending: Vec<Pending>,
    pending_bytes: u64,
    /// Somebody holds the write role.
    writing: bool,
    /// An empty batch shall tell the durable LSN to the disk.
    note: bool,
    /// Segment files ready to be begun.
    ready: VecDeque<SegmentFile>,
    /// Bytes that batches may still take: the rest of the current segment and all ready files.
    free: u64,
    /// Of those, what is promised to rooms and pending records.
    reserved: u64,
    /// How often room could not be made; those who wait for room compare it.
    refusals: u64,
    /// The last attempt to make room failed, and that was told.
    refused: bool,
    /// Those who wait for room, to know whether the keeper must hurry.
    room_waiters: usize,
    /// Bytes written and not synced.
    unsynced_bytes: u64,
    /// Monotonic time of the oldest of them.
    unsynced_since: Option<Duration>,
    /// The lowest LSN whose record rests on something outside the log that is not durable yet.
    held_from: Option<Lsn>,
    /// The highest such LSN.
    held_to: Lsn,
    written_waiters: Waiters,
    durable_waiters: Waiters,
    /// Wait for the durable LSN without asking for a sync.
    patient_waiters: Waiters,
}

impl Append {
    /// The durable LSN cannot pass this.
    fn hold_limit(&self) -> Lsn {
        self.held_from.map_or(Lsn::MAX, |held| Lsn(held.0 - 1))
    }
}

/// What only the holder of the write role touches.
#[derive(Debug)]
struct Writer {
    current: Segment,
    position: u64,
    closed: Vec<Segment>,
    /// Closed segments with bytes that were not synced.
    dirty: Vec<Arc<dyn DiskFile>>,
    last_number: u64,
    buffer: Vec<u8>,
}

/// An open log.
#[derive(Debug)]
pub(crate) struct Journal {
    config: JournalConfig,
    clock: Arc<StoreClock>,
    append: Mutex<Append>,
    writer: Mutex<Writer>,
    /// Held while the log is synced: one sync at a time.
    syncing: Mutex<()>,
    files: Mutex<Files>,
    written: AtomicU64,
    durable: AtomicU64,
    /// The durable LSN that the disk was last told.
    noted: AtomicU64,
    poisoned: AtomicBool,
    /// Callers reserve no more room.
    closing: AtomicBool,
    appended_bytes: AtomicU64,
    segments_reused: AtomicU64,
    room_changed: Notify,
    /// The log was poisoned or closed.
    ended: Notify,
    /// A segment was begun: a checkpoint may be due.
    pub(crate) rolled: Notify,
    /// Something was written: the barrier's timer may have to start.
    pub(crate) written_something: Notify,
    pub(crate) commit_signal: Signal,
    pub(crate) keep_signal: Signal,
}

/// What only the keeper touches.
#[derive(Debug)]
struct Files {
    next_index: u64,
    next_size: u64,
}

impl Journal {
    /// Begins a new segment behind what was read, durably, and opens the log for appends.
    pub(crate) fn start(config: JournalConfig, clock: Arc<StoreClock>, resume: Resume) -> Result<Arc<Self>> {
        let Resume { segments, free, mut next_index, last_number, end_segment, end, replayed_bytes, first } =
            resume;
        let largest = segments.iter().map(|s| s.file.size).chain(free.iter().map(|f| f.size)).max();
        let mut next_size = largest.unwrap_or(SEGMENT_BYTES_MIN).min(config.segment_size);
        let mut ready: VecDeque<_> = free.into();
        while ready.len() < READY_TARGET {
            let made = make_segment_file(&*config.disk, &config.dir, next_index, next_size);
            next_index += 1;
            match made {
                Ok(file) => {
                    ready.push_back(file);
                    next_size = next_size.saturating_mul(2).min(config.segment_size);
                }
                // A small one may fit where a large one does not, and one is enough to go on with.
                Err(why) if why.is_full() && next_size > SEGMENT_BYTES_MIN => next_size = SEGMENT_BYTES_MIN,
                Err(why) if why.is_full() && !ready.is_empty() => break,
                Err(why) => return Err(why),
            }
        }
        let file = ready.pop_front().expect("because one was made ready");
        let number = last_number + 1;
        let (current, _) = begin_segment(&config, file, number, end_segment, end, first, end)?;
        current.file.file.sync_data().map_err(Error::io("sync", &current.file.path))?;
        let free = current.file.usable() + ready.iter().map(SegmentFile::usable).sum::<u64>();
        let last = Lsn(first.0 - 1);
        let journal = Arc::new(Self {
            clock,
            append: Mutex::new(Append {
                next: first,
                pending: Vec::new(),
                pending_bytes: 0,
                writing: false,
                note: false,
                ready,
                free,
                reserved: 0,
                refusals: 0,
                refused: false,
                room_waiters: 0,
                unsynced_bytes: 0,
                unsynced_since: None,
                held_from: None,
                held_to: Lsn::ZERO,
                written_waiters: Waiters::default(),
                durable_waiters: Waiters::default(),
                patient_waiters: Waiters::default(),
            }),
            writer: Mutex::new(Writer {
                current,
                position: HEADER_BYTES,
                closed: segments,
                dirty: Vec::new(),
                last_number: number,
                buffer: Vec::new(),
            }),
            syncing: Mutex::new(()),
            files: Mutex::new(Files { next_index, next_size }),
            written: AtomicU64::new(last.0),
            durable: AtomicU64::new(last.0),
            noted: AtomicU64::new(last.0),
            poisoned: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            appended_bytes: AtomicU64::new(replayed_bytes),
            segments_reused: AtomicU64::new(0),
            room_changed: Notify::new(),
            ended: Notify::new(),
            rolled: Notify::new(),
            written_something: Notify::new(),
            commit_signal: Signal::default(),
            keep_signal: Signal::default(),
            config,
        });
        journal.keep_signal.raise();
        Ok(journal)
    }

    /// Everything up to here is in the kernel.
    pub(crate) fn written(&self) -> Lsn {
        Lsn(self.written.load(Ordering::Acquire))
    }

    /// Everything up to here survives power loss.
    pub(crate) fn durable(&self) -> Lsn {
        Lsn(self.durable.load(Ordering::Acquire))
    }

    /// The LSN of the last record that was appended.
    pub(crate) fn last_appended(&self) -> Lsn {
        Lsn(self.append.lock().next.0 - 1)
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// From now on callers reserve no room: the log is about to be left alone.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.room_changed.notify_waiters();
        self.ended.notify_waiters();
    }

    fn check_open(&self) -> Result<()> {
        if self.closing.load(Ordering::Acquire) { Err(Error::ShuttingDown) } else { Ok(()) }
    }

    /// Returns when the log takes no change any more, and says why.
    pub(crate) async fn ended(&self) -> Error {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if self.is_poisoned() {
                return Error::Poisoned { outcome: Outcome::NotDone };
            }
            if let Err(closed) = self.check_open() {
                return closed;
            }
            ended.await;
        }
    }

    /// Bytes of records appended since the log was opened, and of those that were replayed then.
    pub(crate) fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the segments that wait for checkpoints to be freed.
    pub(crate) fn closed_bytes(&self) -> u64 {
        self.writer.lock().closed.iter().map(|segment| segment.file.size).sum()
    }

    pub(crate) fn segments_reused(&self) -> u64 {
        self.segments_reused.load(Ordering::Relaxed)
    }

    /// Bytes of all segment files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let ready: u64 = self.append.lock().ready.iter().map(|file| file.size).sum();
        let writer = self.writer.lock();
        ready + writer.current.file.size + writer.closed.iter().map(|segment| segment.file.size).sum::<u64>()
    }

    // ---- room -------------------------------------------------------------------------------------------------

    /// Largest body of a record: a quarter of the smallest segment.
    pub(crate) const fn body_bytes_max() -> usize {
        (SEGMENT_BYTES_MIN / 4) as usize
    }

    /// Reserves room for records with bodies of at most these sizes; waits while too much is pending or unsynced.
    ///
    /// # Errors
    /// [`Error::InsufficientStorage`] when no segment can be made, [`Error::Poisoned`], [`Error::ShuttingDown`].
    ///
    /// # Cancel safety
    /// Dropping the future reserves nothing.
    pub(crate) async fn reserve(self: &Arc<Self>, bodies: &[usize]) -> Result<Room> {
        self.check_open()?;
        let bytes = bodies.iter().map(|body| Room::cost(*body)).sum();
        if let Some(&body) = bodies.iter().find(|body| **body > Self::body_bytes_max()) {
            return Err(Error::TooLarge {
                what: "journal record (one batch)",
                size: body as u64,
                limit: Self::body_bytes_max() as u64,
            });
        }
        let mut seen = match self.try_reserve(bytes, false)? {
            Ok(room) => return Ok(room),
            Err(refused) => refused.refusals,
        };
        let _waiting = RoomWaiter::new(self);
        loop {
            let changed = self.room_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.try_reserve(bytes, true)? {
                Ok(room) => return Ok(room),
                // Who only waits for a write or a sync has room when that is done.
                Err(refused) if refused.is_full && refused.refusals != seen => {
                    return Err(Error::InsufficientStorage { required: bytes, available: self.free_bytes() });
                }
                Err(refused) => seen = refused.refusals,
            }
            self.commit_signal.raise();
            self.keep_signal.raise();
            self.written_something.notify_one();
            changed.await;
            self.check_open()?;
        }
    }

    /// Reserves room at once, or not at all, however much is pending or unsynced: for what makes that less.
    pub(crate) fn reserve_now(self: &Arc<Self>, body: usize) -> Option<Room> {
        let bytes = Room::cost(body);
        let mut append = self.append.lock();
        if self.is_poisoned() || append.reserved + bytes > append.free {
            return None;
        }
        append.reserved += bytes;
        Some(Room::new(Arc::clone(self), bytes))
    }

    fn try_reserve(self: &Arc<Self>, bytes: u64, waiting: bool) -> Result<Result<Room, Refused>> {
        let mut append = self.append.lock();
        if self.is_poisoned() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        let crowded = append.pending_bytes > self.config.pending_bytes_max
            || append.unsynced_bytes > self.config.max_unsynced_bytes;
        // Those who wait already go first.
        let queue = !waiting && append.room_waiters > 0;
        let is_full = append.reserved + bytes > append.free;
        if crowded || queue || is_full {
            return Ok(Err(Refused { is_full, refusals: append.refusals }));
        }
        append.reserved += bytes;
        Ok(Ok(Room::new(Arc::clone(self), bytes)))
    }

    fn free_bytes(&self) -> u64 {
        let append = self.append.lock();
        append.free.saturating_sub(append.reserved)
    }

    pub(super) fn give_back(&self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut append = self.append.lock();
        append.reserved = append.reserved.saturating_sub(bytes);
        let anybody = append.room_waiters > 0;
        drop(append);
        if anybody {
            self.room_changed.notify_waiters();
        }
    }

    // ---- append -----------------------------------------------------------------------------------------------

    /// Appends a record to what is pending. This is the commit point: from here on the record is written whatever
    /// becomes of the caller. Memory only.
    ///
    /// # Errors
    /// [`Error::Poisoned`], and then nothing was appended.
    pub(crate) fn append(&self, room: &mut Room, body: Vec<u8>, flags: u32) -> Result<Appended> {
        let cost = room.take(Room::cost(body.len()));
        let mut append = self.append.lock();
        if self.is_poisoned() {
            append.reserved = append.reserved.saturating_sub(cost);
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        let lsn = append.next;
        append.next = lsn.next();
        if flags & super::format::FLAG_HELD != 0 {
            append.held_from.get_or_insert(lsn);
            append.held_to = lsn;
        }
        let pending = Pending { lsn, body, flags, cost };
        append.pending_bytes += pending.len();
        self.appended_bytes.fetch_add(pending.len(), Ordering::Relaxed);
        append.pending.push(pending);
        Ok(Appended { lsn })
    }

    /// Appends a barrier: what records up to `upto` rest on outside the log is durable.
    pub(crate) fn append_barrier(&self, room: &mut Room, upto: Lsn) -> Result<Appended> {
        self.append(room, upto.0.to_le_bytes().to_vec(), super::format::FLAG_BARRIER)
    }

    /// What held records up to `upto` back is durable now.
    pub(crate) fn lift_hold(&self, upto: Lsn) {
        let mut append = self.append.lock();
        if append.held_to <= upto {
            append.held_from = None;
        } else if append.held_from.is_some_and(|from| from <= upto) {
            append.held_from = Some(upto.next());
        }
    }

    /// Whether any record holds the durable LSN back.
    pub(crate) fn is_held(&self) -> bool {
        self.append.lock().held_from.is_some()
    }

    // ---- waiting ----------------------------------------------------------------------------------------------

    /// Returns once the record is in the kernel; usually the caller itself brings it there, without waiting.
    ///
    /// # Errors
    /// [`Error::Poisoned`], outcome unknown.
    pub(crate) async fn confirm_written(&self, lsn: Lsn) -> Result<()> {
        if self.written() < lsn {
            self.write_inline();
        }
        self.wait_for(lsn, |append| &mut append.written_waiters, Self::written, || {}).await
    }

    /// Returns once the record survives power loss; asks the committer for a sync.
    ///
    /// # Errors
    /// [`Error::Poisoned`], outcome unknown.
    pub(crate) async fn confirm_durable(&self, lsn: Lsn) -> Result<()> {
        self.wait_for(lsn, |append| &mut append.durable_waiters, Self::durable, || self.commit_signal.raise())
            .await
    }

    /// Returns once the record survives power loss, whenever that is.
    ///
    /// # Errors
    /// [`Error::Poisoned`], outcome unknown.
    pub(crate) async fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        self.wait_for(lsn, |append| &mut append.patient_waiters, Self::durable, || {}).await
    }

    async fn wait_for(
        &self,
        lsn: Lsn,
        waiters: fn(&mut Append) -> &mut Waiters,
        reached: fn(&Self) -> Lsn,
        ask: impl FnOnce(),
    ) -> Result<()> {
        if reached(self) >= lsn {
            return Ok(());
        }
        let receiver = {
            let mut append = self.append.lock();
            if reached(self) >= lsn {
                return Ok(());
            }
            if self.is_poisoned() {
                return Err(Error::Poisoned { outcome: Outcome::Unknown });
            }
            waiters(&mut append).add(lsn)
        };
        ask();
        match receiver.await {
            Ok(Reached::Yes) => Ok(()),
            Ok(Reached::Poisoned) | Err(_) => Err(Error::Poisoned { outcome: Outcome::Unknown }),
        }
    }

    // ---- write ------------------------------------------------------------------------------------------------

    /// Writes what is pending, unless somebody else does or it is much; what is left goes to the committer.
    fn write_inline(&self) {
        for _ in 0..ROUNDS_MAX {
            match self.take_role(INLINE_BYTES_MAX) {
                Role::Taken(pending, note) => self.write_round(&pending, note),
                Role::Nothing | Role::Busy => return,
                Role::TooMuch => break,
            }
        }
        self.commit_signal.raise();
    }

    /// Writes all that is pending. Says whether there was anything.
    fn write_all(&self) -> bool {
        let mut wrote = false;
        loop {
            match self.take_role(u64::MAX) {
                Role::Taken(pending, note) => {
                    self.write_round(&pending, note);
                    wrote = true;
                }
                Role::Busy => {
                    // The holder sees what is pending before it gives the role up; wait for it here.
                    drop(self.writer.lock());
                    std::thread::yield_now();
                }
                Role::Nothing | Role::TooMuch => return wrote,
            }
        }
    }

    fn take_role(&self, bytes_max: u64) -> Role {
        let mut append = self.append.lock();
        if append.pending.is_empty() && !append.note {
            return if append.writing { Role::Busy } else { Role::Nothing };
        }
        if append.writing {
            return Role::Busy;
        }
        if self.is_poisoned() {
            return Role::Nothing;
        }
        if append.pending_bytes > bytes_max {
            return Role::TooMuch;
        }
        append.writing = true;
        append.pending_bytes = 0;
        let note = std::mem::take(&mut append.note);
        Role::Taken(std::mem::take(&mut append.pending), note)
    }

    /// Writes these records, then gives the role up.
    fn write_round(&self, pending: &[Pending], note: bool) {
        let result = {
            let mut writer = self.writer.lock();
            self.write_records(&mut writer, pending, note)
        };
        let mut append = self.append.lock();
        append.writing = false;
        let reached = match result {
            Ok(bytes) => {
                append.reserved = append.reserved.saturating_sub(pending.iter().map(|p| p.cost).sum());
                append.unsynced_bytes += bytes;
                if append.unsynced_since.is_none() && !pending.is_empty() {
                    append.unsynced_since = Some(self.clock.clock().monotonic());
                    self.written_something.notify_one();
                }
                if append.unsynced_bytes > self.config.max_unsynced_bytes {
                    self.written_something.notify_one();
                }
                if let Some(last) = pending.last() {
                    self.written.store(last.lsn.0, Ordering::Release);
                }
                append.written_waiters.take_reached(self.written())
            }
            Err(error) => {
                // Before anybody else can take the role: what they wrote would stand behind a hole.
                self.poison_locked(append, "write", &error);
                return;
            }
        };
        let anybody = append.room_waiters > 0;
        drop(append);
        wake(reached, Reached::Yes);
        if anybody {
            self.room_changed.notify_waiters();
        }
    }

    fn write_records(&self, writer: &mut Writer, pending: &[Pending], note: bool) -> Result<u64> {
        let mut rest = pending;
        let mut bytes = 0;
        while !rest.is_empty() || (note && bytes == 0) {
            let space = writer.current.file.size - writer.position;
            let mut length = 0;
            let mut count = 0;
            for record in rest {
                let more = length + record.len();
                if batch_bytes(more) > space || (count > 0 && more > BATCH_BYTES_MAX) {
                    break;
                }
                length = more;
                count += 1;
            }
            if space < batch_bytes(length) || (count == 0 && !rest.is_empty()) {
                let first = rest.first().map_or_else(|| writer.current.last.next(), |record| record.lsn);
                self.roll(writer, first)?;
                continue;
            }
            let (batch, later) = rest.split_at(count);
            bytes += self.write_batch(writer, batch, batch_bytes(length))?;
            rest = later;
        }
        Ok(bytes)
    }

    fn write_batch(&self, writer: &mut Writer, batch: &[Pending], length: u64) -> Result<u64> {
        let durable = self.durable();
        let stamp = self.clock.stamp();
        let head = BatchHead {
            length: length as u32,
            count: batch.len() as u32,
            first: batch.first().map_or_else(|| writer.current.last.next(), |record| record.lsn),
            durable,
            wall: stamp.wall,
            time: stamp.time,
        };
        let Writer { current, position, buffer, .. } = writer;
        buffer.clear();
        buffer.reserve(length as usize);
        buffer.extend_from_slice(&head.encode(&current.key, *position));
        debug_assert_eq!(buffer.len(), BATCH_HEAD_BYTES);
        for record in batch {
            let head = RecordHead {
                lsn: record.lsn,
                body_len: record.body.len() as u32,
                attachment_len: 0,
                body_checksum: plain_checksum(&record.body),
                attachment_checksum: 0,
                flags: record.flags,
            };
            buffer.extend_from_slice(&head.encode(&current.key));
            buffer.extend_from_slice(&record.body);
        }
        buffer.resize(length as usize, 0);
        current.file.file.write_at(buffer, *position).map_err(Error::io("write", &current.file.path))?;
        *position += length;
        if let Some(last) = batch.last() {
            current.last = last.lsn;
        }
        self.noted.store(durable.0, Ordering::Release);
        self.append.lock().free -= length;
        Ok(length)
    }

    /// Ends the current segment and begins the next one, whose first record will be `first`.
    fn roll(&self, writer: &mut Writer, first: Lsn) -> Result<()> {
        let file = {
            let mut append = self.append.lock();
            append.free -= writer.current.file.size - writer.position;
            append.ready.pop_front()
        };
        // Every record came with room in a ready file, so there is one.
        let file = file.ok_or(Error::InsufficientStorage { required: SEGMENT_BYTES_MIN, available: 0 })?;
        let number = writer.last_number + 1;
        let before = &writer.current;
        let (next, position) =
            begin_segment(&self.config, file, number, before.number, before.last, first, self.durable())?;
        writer.last_number = number;
        let closed = std::mem::replace(&mut writer.current, next);
        writer.position = position;
        writer.dirty.push(Arc::clone(&closed.file.file));
        writer.closed.push(closed);
        self.keep_signal.raise();
        self.rolled.notify_one();
        debug!(number, %first, "journal segment begun");
        Ok(())
    }

    // ---- sync -------------------------------------------------------------------------------------------------

    /// One step of the committer: writes what is pending, and syncs when somebody waits for it. Says whether it did
    /// anything.
    pub(crate) fn commit_step(&self) -> bool {
        let wrote = self.write_all();
        let wanted = {
            let mut append = self.append.lock();
            let limit = append.hold_limit();
            append.durable_waiters.lowest().is_some_and(|lsn| lsn <= limit)
        };
        if wanted {
            self.sync_now();
        }
        wrote || wanted
    }

    /// Syncs the log and raises the durable LSN to what was written before, as far as nothing is held.
    fn sync_now(&self) {
        if self.is_poisoned() {
            return;
        }
        let _one = self.syncing.lock();
        if self.is_poisoned() {
            return; // the one before failed, and its pages look clean now
        }
        let (files, written, unsynced) = {
            let mut writer = self.writer.lock();
            let mut files = std::mem::take(&mut writer.dirty);
            files.push(Arc::clone(&writer.current.file.file));
            let mut append = self.append.lock();
            append.unsynced_since = None;
            (files, self.written(), append.unsynced_bytes)
        };
        for file in files {
            if let Err(source) = file.sync_data() {
                self.poison("sync", &Error::io("sync", &self.config.dir)(source));
                return;
            }
        }
        let mut append = self.append.lock();
        if self.is_poisoned() {
            return;
        }
        append.unsynced_bytes = append.unsynced_bytes.saturating_sub(unsynced);
        let durable = written.min(append.hold_limit()).max(self.durable());
        self.durable.store(durable.0, Ordering::Release);
        if durable < written && append.unsynced_since.is_none() {
            // What is held waits for a barrier, and nobody may write again to ask for one.
            append.unsynced_since = Some(self.clock.clock().monotonic());
            self.written_something.notify_one();
        }
        let mut reached = append.durable_waiters.take_reached(durable);
        reached.extend(append.patient_waiters.take_reached(durable));
        let anybody = append.room_waiters > 0;
        drop(append);
        wake(reached, Reached::Yes);
        if anybody {
            self.room_changed.notify_waiters();
        }
    }

    /// Writes everything pending on this thread.
    pub(crate) fn write_here(&self) {
        self.write_all();
    }

    /// Makes one more segment file ready on this thread.
    pub(crate) fn grow_here(&self) -> Result<()> {
        if self.is_poisoned() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        self.make_ready().map(|_| ())
    }

    /// Writes and syncs everything on this thread: for opening and closing, when no committer runs.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when that failed.
    pub(crate) fn flush_here(&self) -> Result<()> {
        self.write_all();
        self.sync_now();
        if self.is_poisoned() { Err(Error::Poisoned { outcome: Outcome::Unknown }) } else { Ok(()) }
    }

    /// Since when something written is unsynced, and how much of it there is.
    pub(crate) fn unsynced(&self) -> (Option<Duration>, u64) {
        let append = self.append.lock();
        (append.unsynced_since, append.unsynced_bytes)
    }

    pub(crate) fn max_unsynced_bytes(&self) -> u64 {
        self.config.max_unsynced_bytes
    }

    /// Whether the disk does not yet know how far the log is durable.
    pub(crate) fn note_due(&self) -> bool {
        self.noted.load(Ordering::Acquire) < self.durable.load(Ordering::Acquire)
    }

    /// Writes an empty batch that tells the durable LSN. `room` must hold one record's cost.
    pub(crate) fn note_durable(&self, mut room: Room) {
        let cost = room.take(Room::cost(0));
        self.append.lock().note = true;
        self.write_all();
        self.give_back(cost);
    }

    /// No change can be trusted to have reached the disk any more: refuse all, tell all who wait.
    pub(crate) fn poison(&self, what: &str, why: &Error) {
        self.poison_locked(self.append.lock(), what, why);
    }

    fn poison_locked(&self, mut append: MutexGuard<'_, Append>, what: &str, why: &Error) {
        if self.poisoned.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut all = append.written_waiters.take_all();
        all.extend(append.durable_waiters.take_all());
        all.extend(append.patient_waiters.take_all());
        drop(append);
        error!(error = %why, source = ?std::error::Error::source(why), "journal poisoned: {what} failed");
        wake(all, Reached::Poisoned);
        self.room_changed.notify_waiters();
        self.ended.notify_waiters();
    }

    // ---- keeping segments -------------------------------------------------------------------------------------

    /// One step of the keeper: makes a segment file ready when there are too few. Says whether more is to do.
    pub(crate) fn keep_step(&self) -> bool {
        if self.is_poisoned() {
            return false;
        }
        let starving = {
            let append = self.append.lock();
            if append.ready.len() >= READY_TARGET && append.room_waiters == 0 {
                return false;
            }
            let crowded = append.pending_bytes > self.config.pending_bytes_max
                || append.unsynced_bytes > self.config.max_unsynced_bytes;
            if append.ready.len() >= READY_TARGET
                && (crowded || append.free > append.reserved + SEGMENT_BYTES_MIN)
            {
                return false;
            }
            append.room_waiters > 0
        };
        match self.make_ready() {
            Ok(more) => more,
            Err(why) => {
                let mut files = self.files.lock();
                // A large file may not fit where a small one does.
                let smaller = files.next_size > SEGMENT_BYTES_MIN;
                files.next_size = (files.next_size / 2).max(SEGMENT_BYTES_MIN);
                let mut append = self.append.lock();
                if !std::mem::replace(&mut append.refused, true) {
                    warn!(error = %why, source = ?std::error::Error::source(&why), "journal segment not made");
                }
                if !smaller {
                    append.refusals += 1;
                }
                drop(append);
                drop(files);
                self.room_changed.notify_waiters();
                smaller && starving
            }
        }
    }

    /// Makes one more segment file ready. Says whether that is still too few.
    fn make_ready(&self) -> Result<bool> {
        let mut files = self.files.lock();
        let index = files.next_index;
        files.next_index += 1;
        let file = make_segment_file(&*self.config.disk, &self.config.dir, index, files.next_size)?;
        files.next_size = files.next_size.saturating_mul(2).min(self.config.segment_size);
        let mut append = self.append.lock();
        append.free += file.usable();
        append.ready.push_back(file);
        append.refused = false;
        let more = append.ready.len() < READY_TARGET;
        drop(append);
        drop(files);
        self.room_changed.notify_waiters();
        Ok(more)
    }

    /// Frees the segments whose last record is before `upto`: their files are reused, or removed when enough are
    /// ready. Says how many bytes left the log.
    pub(crate) fn retire(&self, upto: Lsn) -> u64 {
        let freed: Vec<Segment> = {
            let mut writer = self.writer.lock();
            let keep = writer.closed.iter().position(|s| s.last >= upto).unwrap_or(writer.closed.len());
            writer.closed.drain(..keep).collect()
        };
        let mut bytes = 0;
        for segment in freed {
            bytes += segment.file.size;
            let too_small = segment.file.size.saturating_mul(4) < self.files.lock().next_size;
            let mut append = self.append.lock();
            if append.ready.len() < READY_TARGET || (append.ready.len() < READY_MAX && !too_small) {
                append.free += segment.file.usable();
                append.ready.push_back(segment.file);
                self.segments_reused.fetch_add(1, Ordering::Relaxed);
            } else {
                drop(append);
                if let Err(source) = self.config.disk.remove_file(&segment.file.path) {
                    // It is found free at the next open.
                    warn!(path = %segment.file.path.display(), error = %source, "freed journal segment not removed");
                }
            }
        }
        if bytes > 0 {
            self.room_changed.notify_waiters();
        }
        bytes
    }
}

/// Why there is no room now.
struct Refused {
    /// No segment has room; else something only has to be written or synced first.
    is_full: bool,
    /// How often segments could not be made so far.
    refusals: u64,
}

enum Role {
    Taken(Vec<Pending>, bool),
    Nothing,
    Busy,
    TooMuch,
}

/// Counts one who waits for room.
struct RoomWaiter<'a>(&'a Journal);

impl<'a> RoomWaiter<'a> {
    fn new(journal: &'a Journal) -> Self {
        journal.append.lock().room_waiters += 1;
        Self(journal)
    }
}

impl Drop for RoomWaiter<'_> {
    fn drop(&mut self) {
        self.0.append.lock().room_waiters -= 1;
    }
}

/// Writes the header that makes a file a segment. Not synced here: what makes its first records durable covers it.
fn begin_segment(
    config: &JournalConfig,
    file: SegmentFile,
    number: u64,
    predecessor: u64,
    predecessor_end: Lsn,
    first: Lsn,
    durable: Lsn,
) -> Result<(Segment, u64)> {
    let mut salt = [0; 16];
    config.entropy.fill(&mut salt);
    let header =
        SegmentHeader { store: config.store, number, salt, predecessor, predecessor_end, first, durable };
    file.file.write_at(&header.encode_area(), 0).map_err(Error::io("write", &file.path))?;
    let segment = Segment { file, number, key: header.key(), last: Lsn(first.0 - 1) };
    Ok((segment, HEADER_BYTES))
}
