//! The log itself: what it is made of, room in it, appending (a memory operation), and waiting for what was appended.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use locus_core::{Entropy, Error, Lsn, Outcome, Result, StoreId};
use locus_fs::{Disk, DiskFile};
use tracing::{error, warn};

use super::{
    format::{RECORD_HEAD_BYTES, SegmentHeader, plain_checksum},
    layout::{Attachment, Layout, Pending},
    place::LogPlace,
    room::{Room, Use},
    segment::{SEGMENT_BYTES_MIN, Segment, SegmentFile, Shared, make_segment_file},
    waiters::{Reached, Waiters, wake},
};
use crate::{
    signal::Signal,
    sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Notify, RwLock, give_way, oneshot},
    time::StoreClock,
};

/// So many looks at whether a checkpoint is due are waited for by what must not be refused: two checkpoints free a
/// segment, and one may have been under way.
const RELIEFS_AWAITED: u64 = 4;

/// What a journal is made of.
#[derive(Debug, Clone)]
pub(crate) struct JournalConfig {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) store: StoreId,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// Smallest and largest segment.
    pub(crate) segment_size_min: u64,
    pub(crate) segment_size: u64,
    /// Most bytes of segments in which attachments live.
    pub(crate) zone_bytes_max: u64,
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
    /// Files that no process ever finished making, or that are too small now.
    pub(crate) scrap: Vec<PathBuf>,
    /// Bytes of attachments that are needed, by segment number.
    pub(crate) live: BTreeMap<u64, u64>,
    /// Records before it are behind the older of two checkpoints.
    pub(crate) floor: Lsn,
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
    /// Where its attachment begins.
    pub(crate) place: LogPlace,
}

/// Everything that the append lock guards: memory only.
#[derive(Debug)]
pub(super) struct Append {
    pub(super) next: Lsn,
    pub(super) layout: Layout,
    /// Somebody holds the write role.
    pub(super) writing: bool,
    /// What is promised to rooms.
    pub(super) reserved: u64,
    /// How often room could not be made; those who wait for room compare it.
    pub(super) refusals: u64,
    /// The last attempt to make room failed, and that was told.
    pub(super) refused: bool,
    /// Those who wait for room, to know whether the keeper must hurry.
    pub(super) room_waiters: usize,
    /// and how much.
    pub(super) waited_bytes: u64,
    /// Bytes written and not synced.
    pub(super) unsynced_bytes: u64,
    /// Monotonic time of the oldest of them.
    pub(super) unsynced_since: Option<Duration>,
    /// Who drives barriers sees nothing to do, and sleeps until it is woken or for very long.
    pub(super) barriers_idle: bool,
    /// The lowest LSN whose record rests on something outside the log that is not durable yet.
    held_from: Option<Lsn>,
    /// The highest such LSN.
    held_to: Lsn,
    pub(super) written_waiters: Waiters,
    pub(super) durable_waiters: Waiters,
    /// Wait for the durable LSN without asking for a sync.
    pub(super) patient_waiters: Waiters,
    /// The committer has ended: nobody syncs any more.
    abandoned: bool,
}

impl Append {
    /// The durable LSN cannot pass this.
    pub(super) fn hold_limit(&self) -> Lsn {
        self.held_from.map_or(Lsn::MAX, |held| Lsn(held.0 - 1))
    }

    fn take_waiters(&mut self) -> Vec<oneshot::Sender<Reached>> {
        let all = [&mut self.written_waiters, &mut self.durable_waiters, &mut self.patient_waiters];
        all.into_iter().flat_map(Waiters::take_all).collect()
    }
}

/// What only the holder of the write role touches.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) current: Segment,
    pub(super) closed: Vec<Segment>,
    /// Closed segments with bytes that were not synced.
    pub(super) dirty: Vec<Arc<dyn DiskFile>>,
    pub(super) buffer: Vec<u8>,
}

/// An open log.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(super) config: JournalConfig,
    pub(super) clock: Arc<StoreClock>,
    pub(super) append: Mutex<Append>,
    pub(super) writer: Mutex<Writer>,
    /// Held while the log is synced: one sync at a time.
    pub(super) syncing: Mutex<()>,
    pub(super) files: Mutex<Files>,
    /// Segments by number, for readers and for the counts of what lives in them. Taken inside the other locks.
    pub(super) segments: RwLock<BTreeMap<u64, Arc<Shared>>>,
    pub(super) written: AtomicU64,
    pub(super) durable: AtomicU64,
    /// The durable LSN that the disk was last told.
    pub(super) noted: AtomicU64,
    poisoned: AtomicBool,
    /// Callers reserve no more room.
    closing: AtomicBool,
    /// Those who wait for what they appended.
    confirming: AtomicU64,
    /// Records before it are behind the older of two checkpoints.
    pub(super) floor: AtomicU64,
    /// Bytes of closed segments in which something lives.
    pub(super) occupied: AtomicU64,
    /// A closed segment may have become free.
    pub(super) freeable: AtomicBool,
    /// How many drive checkpoints, which make room.
    pub(super) relievers: AtomicU64,
    /// How often they have looked whether one is due.
    pub(super) reliefs: AtomicU64,
    appended_bytes: AtomicU64,
    pub(super) segments_reused: AtomicU64,
    pub(super) room_changed: Notify,
    /// The log was poisoned or closed.
    ended: Notify,
    /// A segment was begun, or room is short: a checkpoint may be due.
    pub(crate) rolled: Notify,
    /// The landing zone is nearly full: something must be moved.
    pub(crate) pressed: Notify,
    /// Something was written: the barrier's timer may have to start.
    pub(crate) written_something: Notify,
    pub(crate) commit_signal: Signal,
    pub(crate) keep_signal: Signal,
}

/// What only the keeper touches.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) next_index: u64,
    pub(super) next_size: u64,
}

impl Journal {
    /// Begins a new segment behind what was read, durably, and opens the log for appends.
    pub(crate) fn start(config: JournalConfig, clock: Arc<StoreClock>, resume: Resume) -> Result<Arc<Self>> {
        let Resume {
            segments,
            free,
            scrap,
            live,
            floor,
            mut next_index,
            last_number,
            end_segment,
            end,
            replayed_bytes,
            first,
        } = resume;
        for path in scrap {
            if let Err(source) = config.disk.remove_file(&path) {
                warn!(path = %path.display(), error = %source, "useless segment file not removed");
            }
        }
        let largest = segments.iter().map(|s| s.file.size).chain(free.iter().map(|f| f.size)).max();
        let (smallest, largest_max) = (config.segment_size_min, config.segment_size);
        let next_size = largest.unwrap_or(smallest).clamp(smallest, largest_max);
        let mut ready: VecDeque<_> = free.into();
        let mut size = next_size;
        while ready.len() <= super::keep::RESERVE_FILES + super::keep::MOVE_FILES {
            let made = make_segment_file(&*config.disk, &config.dir, next_index, size);
            next_index += 1;
            match made {
                Ok(file) => ready.push_back(file),
                // A small one may fit where a large one does not, and one is enough to go on with.
                Err(why) if why.is_full() && size > smallest => size = smallest,
                Err(why) if why.is_full() && !ready.is_empty() => break,
                Err(why) => return Err(why),
            }
        }
        let file = ready.pop_front().expect("because one was made ready");
        let number = last_number + 1;
        let shared = Shared::new(&file, 0);
        let current = begin_segment(&config, file, number, end_segment, end, first, end)?;
        // With less than the reserve, checkpoints are taken at once, and no file is accepted before.
        let refused = ready.len() < super::keep::RESERVE_FILES;
        let layout = Layout::new(number, current.file.size, ready);
        let mut table: BTreeMap<u64, Arc<Shared>> = segments
            .iter()
            .map(|segment| {
                let live = live.get(&segment.number).copied().unwrap_or(0);
                (segment.number, Shared::new(&segment.file, live))
            })
            .collect();
        table.insert(number, shared);
        let last = Lsn(first.0 - 1);
        let journal = Arc::new(Self {
            clock,
            append: Mutex::new(Append {
                next: first,
                layout,
                writing: false,
                reserved: 0,
                refusals: 0,
                refused,
                room_waiters: 0,
                waited_bytes: 0,
                unsynced_bytes: 0,
                unsynced_since: None,
                barriers_idle: false,
                held_from: None,
                held_to: Lsn::ZERO,
                written_waiters: Waiters::default(),
                durable_waiters: Waiters::default(),
                patient_waiters: Waiters::default(),
                abandoned: false,
            }),
            writer: Mutex::new(Writer { current, closed: segments, dirty: Vec::new(), buffer: Vec::new() }),
            syncing: Mutex::new(()),
            files: Mutex::new(Files { next_index, next_size }),
            segments: RwLock::new(table),
            written: AtomicU64::new(last.0),
            durable: AtomicU64::new(last.0),
            noted: AtomicU64::new(last.0),
            poisoned: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            confirming: AtomicU64::new(0),
            floor: AtomicU64::new(floor.0),
            occupied: AtomicU64::new(0),
            freeable: AtomicBool::new(true),
            relievers: AtomicU64::new(0),
            reliefs: AtomicU64::new(0),
            appended_bytes: AtomicU64::new(replayed_bytes),
            segments_reused: AtomicU64::new(0),
            room_changed: Notify::new(),
            ended: Notify::new(),
            rolled: Notify::new(),
            pressed: Notify::new(),
            written_something: Notify::new(),
            commit_signal: Signal::default(),
            keep_signal: Signal::default(),
            config,
        });
        journal.count_occupied();
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

    pub(crate) fn segments_reused(&self) -> u64 {
        self.segments_reused.load(Ordering::Relaxed)
    }

    /// Bytes of all segment files.
    pub(crate) fn disk_bytes(&self) -> u64 {
        let ready: u64 = self.append.lock().layout.ready_files().map(|file| file.size).sum();
        let writer = self.writer.lock();
        ready + writer.current.file.size + writer.closed.iter().map(|segment| segment.file.size).sum::<u64>()
    }

    /// Bytes of the segments of the log.
    pub(crate) fn kept_bytes(&self) -> u64 {
        let writer = self.writer.lock();
        writer.current.file.size + writer.closed.iter().map(|segment| segment.file.size).sum::<u64>()
    }

    // ---- room -------------------------------------------------------------------------------------------------

    /// Largest body of a record: a quarter of the smallest segment there is.
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
    pub(crate) async fn reserve(self: &Arc<Self>, what: Use, bodies: &[usize]) -> Result<Room> {
        self.check_open()?;
        let bytes = bodies.iter().map(|body| Room::cost(*body)).sum();
        if let Some(&body) = bodies.iter().find(|body| **body > Self::body_bytes_max()) {
            return Err(Error::TooLarge {
                what: "journal record (one batch)",
                size: body as u64,
                limit: Self::body_bytes_max() as u64,
            });
        }
        self.reserve_bytes(what, bytes).await
    }

    /// Reserves so many bytes of the log.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    pub(crate) async fn reserve_bytes(self: &Arc<Self>, what: Use, bytes: u64) -> Result<Room> {
        let mut seen = match self.try_reserve(what, bytes)? {
            Ok(room) => return Ok(room),
            Err(refused) => refused.refusals,
        };
        // Checkpoints make room for what must not be refused: only when that did not help, there is none.
        let patience = self.reliefs.load(Ordering::Acquire) + RELIEFS_AWAITED;
        let _waiting = RoomWaiter::new(self, bytes);
        loop {
            let changed = self.room_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.try_reserve(what, bytes)? {
                Ok(room) => return Ok(room),
                // Who only waits for a write or a sync has room when that is done.
                Err(refused) if refused.is_full && refused.refusals != seen => {
                    seen = refused.refusals;
                    let hopeless = self.relievers.load(Ordering::Acquire) == 0
                        || self.reliefs.load(Ordering::Acquire) >= patience;
                    if what != Use::Essential || hopeless {
                        let available = self.free_bytes(what);
                        return Err(Error::InsufficientStorage { required: bytes, available });
                    }
                    self.rolled.notify_one();
                }
                Err(refused) => {
                    seen = refused.refusals;
                    self.commit_signal.raise();
                    self.keep_signal.raise();
                    self.written_something.notify_one();
                }
            }
            changed.await;
            self.check_open()?;
        }
    }

    /// Reserves room at once, or not at all, however much is pending or unsynced: for what makes that less.
    pub(crate) fn reserve_now(self: &Arc<Self>, body: usize) -> Option<Room> {
        self.reserve_at_once(Use::Essential, Room::cost(body))
    }

    /// Room for a record with an attachment, at once or not at all, however much is pending or unsynced.
    pub(crate) fn reserve_with(self: &Arc<Self>, body: usize, attachment: u64) -> Option<Room> {
        self.reserve_at_once(Use::Essential, Room::cost(body) + Room::share(attachment))
    }

    /// Room for an attachment of `bytes`, waiting while files are made ready; `None` when the landing zone is full, or the
    /// disk.
    ///
    /// # Cancel safety
    /// Dropping the future reserves nothing.
    pub(crate) async fn reserve_landing(self: &Arc<Self>, bytes: u64) -> Option<Room> {
        let share = Room::share(bytes);
        let mut waiting = None;
        loop {
            let changed = self.room_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.zone_is_full() {
                self.pressed.notify_one();
                return None;
            }
            if let Some(room) = self.reserve_at_once(Use::Accept, share) {
                return Some(room);
            }
            if self.is_poisoned() || self.check_open().is_err() || self.append.lock().refused {
                return None;
            }
            waiting.get_or_insert_with(|| RoomWaiter::new(self, share));
            self.keep_signal.raise();
            changed.await;
        }
    }

    fn reserve_at_once(self: &Arc<Self>, what: Use, bytes: u64) -> Option<Room> {
        let mut append = self.append.lock();
        if self.is_poisoned() || append.reserved + bytes > append.layout.free_but(what.keeps()) {
            return None;
        }
        append.reserved += bytes;
        Some(Room::new(Arc::clone(self), bytes))
    }

    /// The room, or why there is none now.
    fn try_reserve(self: &Arc<Self>, what: Use, bytes: u64) -> Result<std::result::Result<Room, Refused>> {
        let mut append = self.append.lock();
        if self.is_poisoned() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        let is_full = append.reserved + bytes > append.layout.free_but(what.keeps());
        if is_full || self.is_crowded(&append) {
            return Ok(Err(Refused { is_full, refusals: append.refusals }));
        }
        append.reserved += bytes;
        Ok(Ok(Room::new(Arc::clone(self), bytes)))
    }

    pub(super) fn is_crowded(&self, append: &Append) -> bool {
        append.layout.pending_bytes() > self.config.pending_bytes_max
            || append.unsynced_bytes > self.config.max_unsynced_bytes
    }

    pub(super) fn free_bytes(&self, what: Use) -> u64 {
        let append = self.append.lock();
        append.layout.free_but(what.keeps()).saturating_sub(append.reserved)
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
        self.append_with(room, body, Attachment::default(), flags)
    }

    /// [`append`](Self::append) of a record with an attachment, which lives until it is [released](Self::release).
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub(crate) fn append_with(
        &self,
        room: &mut Room,
        body: Vec<u8>,
        attachment: Attachment,
        flags: u32,
    ) -> Result<Appended> {
        let (body_bytes, live) = ((RECORD_HEAD_BYTES + body.len()) as u64, attachment.len());
        let body_checksum = plain_checksum(&body);
        let cost = room.take(Room::cost(body.len()) + if live > 0 { Room::share(live) } else { 0 });
        let mut append = self.append.lock();
        append.reserved = append.reserved.saturating_sub(cost);
        if self.is_poisoned() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        let lsn = append.next;
        // Every record came with room in a file that is ready, so there is one.
        let laid = append.layout.push(Pending { lsn, body, body_checksum, attachment, flags });
        let laid = laid.ok_or(Error::InsufficientStorage { required: body_bytes + live, available: 0 })?;
        append.next = lsn.next();
        if flags & super::format::FLAG_HELD != 0 {
            append.held_from.get_or_insert(lsn);
            append.held_to = lsn;
        }
        if laid.begins {
            self.share_newest(&append);
        }
        if live > 0 {
            let segments = self.segments.read();
            let shared = segments.get(&laid.number).expect("because the newest segment is in the table");
            shared.live.fetch_add(live, Ordering::AcqRel);
        }
        let anybody = append.room_waiters > 0;
        drop(append);
        self.appended_bytes.fetch_add(body_bytes, Ordering::Relaxed);
        if anybody {
            self.room_changed.notify_waiters(); // it took less than it had reserved
        }
        Ok(Appended { lsn, place: LogPlace::new(laid.number, laid.attachment_at) })
    }

    /// From now on readers find the segment in which the log ends.
    pub(super) fn share_newest(&self, append: &Append) {
        if let Some(file) = append.layout.newest_file() {
            let number = append.layout.number;
            self.segments.write().insert(number, Shared::new(file, 0));
        }
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

    /// Returns once the record is in the kernel; usually the caller itself brings it there, without waiting. Where others
    /// are at it too, those who are ready append first: one write serves them all.
    ///
    /// # Errors
    /// [`Error::Poisoned`], outcome unknown.
    ///
    /// # Cancel safety
    /// The record is written whatever becomes of the future.
    pub(crate) async fn confirm_written(&self, lsn: Lsn) -> Result<()> {
        if self.written() >= lsn {
            return Ok(());
        }
        let confirming = Confirming::begin(self);
        if confirming.are_others() {
            let left = LeftToCommitter(self);
            give_way().await;
            std::mem::forget(left);
        }
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
        let _confirming = Confirming::begin(self);
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
            if self.is_poisoned() || append.abandoned {
                return Err(Error::Poisoned { outcome: Outcome::Unknown });
            }
            waiters(&mut append).add(lsn)
        };
        ask();
        match receiver.await {
            Ok(Reached::Yes) => Ok(()),
            Ok(Reached::Never) | Err(_) => Err(Error::Poisoned { outcome: Outcome::Unknown }),
        }
    }

    /// Nobody syncs any more. Who waits, or comes to wait, is told so.
    pub(super) fn abandon(&self) {
        let mut append = self.append.lock();
        append.abandoned = true;
        let all = append.take_waiters();
        drop(append);
        wake(all, Reached::Never);
    }

    /// No change can be trusted to have reached the disk any more: refuse all, tell all who wait.
    pub(crate) fn poison(&self, what: &str, why: &Error) {
        self.poison_locked(self.append.lock(), what, why);
    }

    pub(super) fn poison_locked(&self, mut append: MutexGuard<'_, Append>, what: &str, why: &Error) {
        if self.poisoned.swap(true, Ordering::AcqRel) {
            return;
        }
        let all = append.take_waiters();
        drop(append);
        error!(error = %why, source = ?std::error::Error::source(why), "journal poisoned: {what} failed");
        wake(all, Reached::Never);
        self.room_changed.notify_waiters();
        self.ended.notify_waiters();
    }
}

/// Why there is no room now.
struct Refused {
    /// No segment has room; else something only has to be written or synced first.
    is_full: bool,
    /// How often segments could not be made so far.
    refusals: u64,
}

/// Counts one who waits for what was appended.
struct Confirming<'a>(&'a Journal);

impl<'a> Confirming<'a> {
    fn begin(journal: &'a Journal) -> Self {
        journal.confirming.fetch_add(1, Ordering::Relaxed);
        Self(journal)
    }

    fn are_others(&self) -> bool {
        self.0.confirming.load(Ordering::Relaxed) > 1
    }
}

impl Drop for Confirming<'_> {
    fn drop(&mut self) {
        self.0.confirming.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whoever goes away before what it appended is written leaves that to the committer.
struct LeftToCommitter<'a>(&'a Journal);

impl Drop for LeftToCommitter<'_> {
    fn drop(&mut self) {
        self.0.commit_signal.raise();
    }
}

/// Counts one who waits for room, and how much.
struct RoomWaiter<'a> {
    journal: &'a Journal,
    bytes: u64,
}

impl<'a> RoomWaiter<'a> {
    fn new(journal: &'a Journal, bytes: u64) -> Self {
        let mut append = journal.append.lock();
        append.room_waiters += 1;
        append.waited_bytes += bytes;
        drop(append);
        Self { journal, bytes }
    }
}

impl Drop for RoomWaiter<'_> {
    fn drop(&mut self) {
        let mut append = self.journal.append.lock();
        append.room_waiters -= 1;
        append.waited_bytes -= self.bytes;
    }
}

/// Writes the header that makes a file a segment. Not synced here: what makes its first records durable covers it.
pub(super) fn begin_segment(
    config: &JournalConfig,
    file: SegmentFile,
    number: u64,
    predecessor: u64,
    predecessor_end: Lsn,
    first: Lsn,
    durable: Lsn,
) -> Result<Segment> {
    let mut salt = [0; 16];
    config.entropy.fill(&mut salt);
    let header =
        SegmentHeader { store: config.store, number, salt, predecessor, predecessor_end, first, durable };
    file.file.write_at(&header.encode_area(), 0).map_err(Error::io("write", &file.path))?;
    Ok(Segment { file, number, key: header.key(), first, last: Lsn(first.0 - 1), is_last_known: true })
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, task::Poll};

    use super::{
        super::{
            fixture::{MIB, attachment, journal, poll},
            format::{FLAG_HELD, batch_bytes},
        },
        *,
    };

    #[test]
    fn what_a_record_did_not_need_of_its_room_is_free_at_once() {
        let (_, journal) = journal(8 * MIB);
        let before = journal.free_bytes(Use::Essential);
        for (body, riding) in [(10, 0), (10, 5_000), (3_000, 5_000)] {
            let free = journal.free_bytes(Use::Essential);
            let mut room = journal.reserve_with(body, riding).unwrap();
            assert_eq!(journal.free_bytes(Use::Essential), free - Room::cost(body) - Room::share(riding));
            journal.append_with(&mut room, vec![0; body], attachment(riding as usize), 0).unwrap();
            // The room is still there: what the record left of it was given back by the append.
            journal.flush_here().unwrap();
            let taken = batch_bytes((RECORD_HEAD_BYTES + body) as u64 + riding);
            assert_eq!(journal.free_bytes(Use::Essential), free - taken);
        }
        assert!(journal.free_bytes(Use::Essential) < before);
    }

    #[test]
    fn the_last_byte_of_the_log_can_be_reserved_and_not_one_more() {
        let (_, journal) = journal(8 * MIB);
        for what in [Use::Accept, Use::Move, Use::Essential] {
            let free = journal.free_bytes(what);
            let Poll::Ready(Ok(all)) = poll(journal.reserve_bytes(what, free)) else { panic!("{what:?}") };
            assert!(poll(journal.reserve_bytes(what, 1)).is_pending(), "{what:?}");
            assert!(journal.reserve_at_once(what, 1).is_none(), "{what:?}");
            drop(all);
            assert!(journal.reserve_at_once(what, free).is_some(), "{what:?}");
        }
    }

    #[test]
    fn who_confirms_a_write_brings_it_into_the_kernel_without_a_committer() {
        let (_, journal) = journal(8 * MIB);
        let mut room = journal.reserve_now(0).unwrap();
        let lsn = journal.append(&mut room, Vec::new(), 0).unwrap().lsn;
        assert!(journal.written() < lsn);
        assert!(matches!(poll(journal.confirm_written(lsn)), Poll::Ready(Ok(()))));
        assert_eq!((journal.written(), journal.durable()), (lsn, Lsn(lsn.0 - 1)));
    }

    fn append(journal: &Arc<Journal>) -> Lsn {
        let mut room = journal.reserve_now(0).unwrap();
        journal.append(&mut room, Vec::new(), 0).unwrap().lsn
    }

    #[tokio::test]
    async fn those_who_are_ready_share_one_write_and_who_is_alone_writes_at_once() {
        let (disk, journal) = journal(8 * MIB);
        let write = |journal: Arc<Journal>| async move { journal.confirm_written(append(&journal)).await };
        let begun = disk.ops();
        write(Arc::clone(&journal)).await.unwrap();
        let of_one = disk.ops() - begun;
        assert!(of_one > 0);

        let begun = disk.ops();
        let mut waits = pin!(journal.confirm_durable(append(&journal)));
        assert!(poll(waits.as_mut()).is_pending());
        let writers: Vec<_> = (0..16).map(|_| tokio::spawn(write(Arc::clone(&journal)))).collect();
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
        assert_eq!(disk.ops() - begun, of_one);
    }

    #[tokio::test]
    async fn who_goes_away_while_others_go_first_leaves_the_write_to_the_committer() {
        let (_, journal) = journal(8 * MIB);
        let lsn = append(&journal);
        let mut waits = pin!(journal.confirm_durable(lsn));
        assert!(poll(waits.as_mut()).is_pending());
        assert!(journal.commit_signal.wait(), "whoever waits for a sync asks for it");
        assert!(poll(journal.confirm_written(lsn)).is_pending());
        journal.commit_signal.stop();
        assert!(journal.commit_signal.wait(), "the committer was told");
        assert!(journal.commit_step());
        assert!(matches!(poll(waits.as_mut()), Poll::Ready(Ok(()))));
    }

    #[test]
    fn who_waits_when_the_committer_ends_is_told() {
        let (_, journal) = journal(8 * MIB);
        let lsn = append(&journal);
        let mut room = journal.reserve_now(0).unwrap();
        let held = journal.append(&mut room, Vec::new(), FLAG_HELD).unwrap().lsn;
        let mut patient = pin!(journal.wait_durable(lsn));
        let mut asks = pin!(journal.confirm_durable(held));
        assert!(poll(patient.as_mut()).is_pending() && poll(asks.as_mut()).is_pending());
        journal.commit_signal.stop();
        journal.commit_until_stopped();
        for told in [poll(patient.as_mut()), poll(asks.as_mut())] {
            assert!(
                matches!(told, Poll::Ready(Err(Error::Poisoned { outcome: Outcome::Unknown }))),
                "{told:?}"
            );
        }
    }

    #[test]
    fn b66_the_durable_lsn_goes_as_far_as_nothing_is_held() {
        let (_, journal) = journal(8 * MIB);
        for (lsn, flags) in (1..).zip([FLAG_HELD, 0, FLAG_HELD, 0]) {
            let mut room = journal.reserve_now(0).unwrap();
            assert_eq!(journal.append(&mut room, Vec::new(), flags).unwrap().lsn, Lsn(lsn));
        }
        let durable = || {
            journal.flush_here().unwrap();
            (journal.durable(), journal.is_held())
        };
        assert_eq!(durable(), (Lsn(0), true));
        // Whoever lifts a hold knows about all that is held up to there, and about nothing behind it.
        journal.lift_hold(Lsn(1));
        assert_eq!(durable(), (Lsn(1), true));
        journal.lift_hold(Lsn(2));
        assert_eq!(durable(), (Lsn(2), true));
        journal.lift_hold(Lsn(3));
        assert_eq!(durable(), (Lsn(4), false));
    }

    #[test]
    fn a_log_goes_on_with_small_segments_where_the_disk_has_no_room_for_large_ones() {
        let (disk, journal) = journal(64 * MIB);
        let config = JournalConfig { segment_size: 8 * MIB, ..journal.config.clone() };
        let clock = Arc::clone(&journal.clock);
        let next_index = journal.files.lock().next_index;
        drop(journal);
        // What an earlier life left free: one that is large.
        let large = make_segment_file(&*disk, &config.dir, next_index, 4 * MIB).unwrap();
        let used = disk.space(&config.dir).unwrap();
        disk.set_capacity(used.total - used.available + 2 * MIB + MIB / 2);
        let resume =
            Resume { free: vec![large], next_index: next_index + 1, first: Lsn(1), ..Resume::default() };
        let journal = Journal::start(config, clock, resume).unwrap();
        assert_eq!(journal.kept_bytes(), 4 * MIB);
        assert_eq!(journal.disk_bytes(), 6 * MIB, "two small ones are ready");
    }

    #[test]
    fn landing_is_refused_at_once_where_waiting_for_room_is_vain() {
        type Ending = fn(&Journal);
        let endings: [Ending; 3] = [
            |journal| journal.close(),
            |journal| journal.poison("test", &Error::ShuttingDown),
            |journal| journal.append.lock().refused = true,
        ];
        for (which, ending) in endings.into_iter().enumerate() {
            let (_, journal) = journal(64 * MIB);
            let all = journal.reserve_at_once(Use::Accept, journal.free_bytes(Use::Accept)).unwrap();
            assert!(poll(journal.reserve_landing(100)).is_pending(), "{which}");
            ending(&journal);
            assert!(matches!(poll(journal.reserve_landing(100)), Poll::Ready(None)), "{which}");
            drop(all);
        }
    }
}
