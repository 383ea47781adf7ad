//! Keeping segments: files made ready ahead of need, what lives in which segment, and which segment is free again.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use locus_core::{Error, Lsn, Outcome, Result, Site};
use locus_fs::DiskFile;
use tracing::warn;

use super::{
    format::HEADER_BYTES,
    log::Journal,
    place::LogPlace,
    scan::KeptSegment,
    segment::{Segment, Shared, make_segment_file},
};

/// So many ready files are left for what drains a full disk (ENGINE 7),
pub(super) const RESERVE_FILES: usize = 2;
/// and so many more for moving contents, which makes room (ENGINE 4).
pub(super) const MOVE_FILES: usize = 2;
/// So many files are kept ready.
const READY_FILES: usize = RESERVE_FILES + MOVE_FILES + 1;
/// A freed file is kept for reuse while fewer than this many are ready, or while they are less than a quarter of the
/// landing zone.
const KEPT_FILES: usize = READY_FILES + 3;

/// A segment that cannot be reused while this lives.
#[derive(Debug, Clone)]
pub(crate) struct Pin(Arc<Shared>);

impl Pin {
    /// The file, and what names it.
    pub(crate) fn file(&self) -> (&Arc<dyn DiskFile>, &std::path::Path) {
        (&self.0.file, &self.0.path)
    }
}

/// What would make room in the landing zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relief {
    /// Nothing lives any more in some segments: they wait for checkpoints, a sync, or a reader.
    Checkpoint,
    /// Little lives in this one: move it forward in the log.
    Forward(u64),
    /// The zone is full of what lives: move what is in this one to volumes.
    Spill(u64),
}

impl Journal {
    // ---- what lives -------------------------------------------------------------------------------------------

    /// Keeps the segment of `place` as it is for as long as the pin lives. `None` when there is no such segment: what
    /// was there is lost.
    pub(crate) fn pin(&self, place: LogPlace) -> Option<Pin> {
        self.segments.read().get(&place.segment()).cloned().map(Pin)
    }

    /// The record at `lsn` made `bytes` at `place` needless.
    pub(crate) fn release(&self, place: LogPlace, bytes: u64, lsn: Lsn) {
        let emptied = {
            let segments = self.segments.read();
            let Some(shared) = segments.get(&place.segment()) else { return };
            shared.released_at.fetch_max(lsn.0, Ordering::AcqRel);
            shared.live.fetch_sub(bytes, Ordering::AcqRel) == bytes
                && segments.last_key_value().is_some_and(|(newest, _)| *newest != place.segment())
        };
        if emptied {
            self.look_for_free();
        }
    }

    /// Bytes of attachments that live in the log.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.segments.read().values().map(|shared| shared.live()).sum()
    }

    /// Counts the bytes of closed segments in which something lives.
    pub(super) fn count_occupied(&self) {
        let writer = self.writer.lock();
        let segments = self.segments.read();
        let lives =
            |segment: &&Segment| segments.get(&segment.number).is_some_and(|shared| shared.live() > 0);
        let bytes = writer.closed.iter().filter(lives).map(|segment| segment.file.size).sum();
        self.occupied.store(bytes, Ordering::Release);
    }

    /// A segment was closed, whose file has this size, and the next one begun.
    pub(super) fn begun(&self, size: u64) {
        let mut files = self.files.lock();
        // A fresh log starts with small segments; each that was filled doubles those to come.
        let doubled = size.saturating_mul(2).clamp(self.config.segment_size_min, self.config.segment_size);
        files.next_size = files.next_size.max(doubled);
        drop(files);
        self.rolled.notify_one();
        self.look_for_free();
    }

    fn look_for_free(&self) {
        self.freeable.store(true, Ordering::Release);
        self.keep_signal.raise();
    }

    // ---- the landing zone -------------------------------------------------------------------------------------

    /// Whether no further attachment may land: with the segment being written the zone is full.
    pub(super) fn zone_is_full(&self) -> bool {
        let current = self.append.lock().layout.size;
        self.occupied.load(Ordering::Acquire) + current > self.config.zone_bytes_max
    }

    /// What would make room, if room is short.
    pub(crate) fn relief(&self) -> Option<Relief> {
        let (current, ready, refused) = {
            let append = self.append.lock();
            (append.layout.size, append.layout.ready_files().len(), append.refused)
        };
        let occupied = self.occupied.load(Ordering::Acquire);
        // One segment early, so that accepts need not wait for it.
        let is_tight = occupied + 2 * current > self.config.zone_bytes_max;
        let is_short = refused && ready < READY_FILES;
        if !is_tight && !is_short {
            return None;
        }
        let writer = self.writer.lock();
        let segments = self.segments.read();
        let live = |segment: &Segment| segments.get(&segment.number).map_or(0, |shared| shared.live());
        // What is dead takes no room of the zone, but files when these are short.
        if is_short && writer.closed.iter().any(|segment| live(segment) == 0) {
            return Some(Relief::Checkpoint);
        }
        let movable = |segment: &&Segment| {
            let shared = segments.get(&segment.number);
            shared.is_some_and(|shared| {
                let live = shared.live();
                live > 0 && shared.passed.load(Ordering::Acquire) != live + 1
            })
        };
        let segment = writer.closed.iter().filter(movable).min_by_key(|segment| live(segment))?;
        let mostly_dead = live(segment) <= segment.file.size / 2;
        if mostly_dead && ready > RESERVE_FILES {
            return Some(Relief::Forward(segment.number));
        }
        let is_full = occupied + current > self.config.zone_bytes_max;
        (is_full || is_short).then_some(Relief::Spill(segment.number))
    }

    /// Nothing of what lives in this segment can be moved: it is chosen again when less lives there.
    pub(crate) fn pass_over(&self, number: u64) {
        if let Some(shared) = self.segments.read().get(&number) {
            shared.passed.store(shared.live() + 1, Ordering::Release);
        }
    }

    /// Bytes of segments that only wait for checkpoints.
    pub(crate) fn waiting_for_checkpoint(&self) -> u64 {
        let floor = Lsn(self.floor.load(Ordering::Acquire));
        let writer = self.writer.lock();
        let segments = self.segments.read();
        let waits = |segment: &&Segment| {
            segment.last >= floor && segments.get(&segment.number).is_some_and(|shared| shared.live() == 0)
        };
        writer.closed.iter().filter(waits).map(|segment| segment.file.size).sum()
    }

    /// Whether files are short, so that even a small gain is worth a checkpoint.
    pub(crate) fn is_short(&self) -> bool {
        let append = self.append.lock();
        append.refused && append.layout.ready_files().len() < READY_FILES
    }

    /// Most bytes of segments in which attachments may live.
    pub(crate) fn zone_bytes_max(&self) -> u64 {
        self.config.zone_bytes_max
    }

    /// Somebody drives checkpoints from now on, until this is called with `false`.
    pub(crate) fn drive_checkpoints(&self, begins: bool) {
        if begins {
            self.relievers.fetch_add(1, Ordering::AcqRel);
        } else {
            self.relievers.fetch_sub(1, Ordering::AcqRel);
            self.room_changed.notify_waiters();
        }
    }

    /// Whoever drives checkpoints has looked whether one is due, and has taken it.
    pub(crate) fn checkpoints_looked(&self) {
        self.reliefs.fetch_add(1, Ordering::AcqRel);
        self.room_changed.notify_waiters();
    }

    // ---- making and freeing files -----------------------------------------------------------------------------

    /// The keeper: takes its steps whenever it is asked to, until [stopped](crate::signal::Signal::stop).
    pub(crate) fn keep_until_stopped(&self) {
        while self.keep_signal.wait() {
            while self.keep_step() {}
        }
    }

    /// One step of the keeper: frees segments, and makes a file ready when there are too few. Says whether it did anything
    /// and should look again.
    pub(crate) fn keep_step(&self) -> bool {
        if self.is_poisoned() {
            return false;
        }
        let looks = self.freeable.swap(false, Ordering::AcqRel);
        if looks {
            self.count_occupied();
            self.rolled.notify_one(); // enough may wait for a checkpoint by now
        }
        let freed = looks && self.free_segments() > 0;
        if self.relief().is_some() {
            self.pressed.notify_waiters();
            self.rolled.notify_one();
        }
        let starving = {
            let append = self.append.lock();
            let waited_for = append.room_waiters > 0 && !self.is_crowded(&append);
            let free = append.layout.free_but(RESERVE_FILES + MOVE_FILES);
            let short = free < append.reserved + append.waited_bytes;
            if append.layout.ready_files().len() >= READY_FILES && !(waited_for && short) {
                return freed;
            }
            append.room_waiters > 0
        };
        match self.make_ready() {
            Ok(()) => true,
            Err(why) => {
                let mut files = self.files.lock();
                // A large file may not fit where a small one does.
                let smaller = files.next_size > self.config.segment_size_min;
                files.next_size = (files.next_size / 2).max(self.config.segment_size_min);
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
                self.pressed.notify_waiters();
                self.rolled.notify_one(); // a checkpoint may free what the disk has no room for
                freed || smaller && starving
            }
        }
    }

    /// Makes one more segment file ready on this thread.
    pub(crate) fn grow_here(&self) -> Result<()> {
        if self.is_poisoned() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        self.make_ready()
    }

    /// Makes one more segment file ready.
    fn make_ready(&self) -> Result<()> {
        let (index, size) = {
            let mut files = self.files.lock();
            files.next_index += 1;
            (files.next_index - 1, files.next_size)
        };
        let file = make_segment_file(&*self.config.disk, &self.config.dir, index, size)?;
        let mut append = self.append.lock();
        append.layout.add_ready(file);
        append.refused = false;
        drop(append);
        self.room_changed.notify_waiters();
        Ok(())
    }

    /// Records before `floor` are behind the older of the two checkpoints from now on. Says how many bytes left the log.
    pub(crate) fn retire(&self, floor: Lsn) -> u64 {
        self.floor.store(floor.0, Ordering::Release);
        self.free_segments()
    }

    /// Frees the segments behind the older checkpoint in which nothing lives, by records that are durable, and nobody
    /// reads: their files are reused, or removed when enough are ready. Says how many bytes left the log.
    fn free_segments(&self) -> u64 {
        let (floor, durable) = (Lsn(self.floor.load(Ordering::Acquire)), self.durable());
        let mut again = false;
        let freed: Vec<Segment> = {
            let mut writer = self.writer.lock();
            let mut segments = self.segments.write();
            let freed = writer.closed.extract_if(.., |segment| {
                let Some(shared) = segments.get(&segment.number) else { return false };
                let behind = segment.last < floor || !Site::ReusedBehindCheckpoint.stands();
                let empty = shared.live() == 0 || !Site::ReusedWithoutContent.stands();
                if !behind || !empty {
                    return false;
                }
                // With the table locked nobody new can pin it.
                let given_up = shared.released_at.load(Ordering::Acquire) <= durable.0
                    || !Site::GivenUpWhenDurable.stands();
                let undecided = !given_up || Arc::strong_count(shared) > 1;
                again |= undecided;
                if !undecided {
                    segments.remove(&segment.number);
                }
                !undecided
            });
            freed.collect()
        };
        if again {
            self.freeable.store(true, Ordering::Release); // looked at again after the next sync, or step
        }
        let mut bytes = 0;
        for segment in freed {
            bytes += segment.file.size;
            let next_size = self.files.lock().next_size;
            let too_small = segment.file.size.saturating_mul(4) < next_size;
            let mut append = self.append.lock();
            let ready = append.layout.ready_files().len();
            let kept = ready < KEPT_FILES || ready as u64 * next_size < self.config.zone_bytes_max / 4;
            if segment.file.size >= self.config.segment_size_min
                && (ready < RESERVE_FILES || kept && !too_small)
            {
                append.layout.add_ready(segment.file);
                append.refused = false;
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

    // ---- looking into segments --------------------------------------------------------------------------------

    /// A closed segment as it can be read record by record.
    pub(crate) fn closed_segment(&self, number: u64) -> Option<KeptSegment> {
        let writer = self.writer.lock();
        let segment = writer.closed.iter().find(|segment| segment.number == number)?;
        self.kept(segment)
    }

    /// All segments of the log as far as they are written now, oldest first, none of which is reused while its pin lives.
    pub(crate) fn pin_all(&self) -> Vec<KeptSegment> {
        let writer = self.writer.lock();
        writer.closed.iter().chain([&writer.current]).filter_map(|segment| self.kept(segment)).collect()
    }

    /// The numbers of the segments of the log now, oldest first.
    pub(crate) fn kept_numbers(&self) -> Vec<u64> {
        let writer = self.writer.lock();
        writer.closed.iter().chain([&writer.current]).map(|segment| segment.number).collect()
    }

    /// A segment of the log as far as it is written; `None` when it is free by now.
    pub(crate) fn kept_segment(&self, number: u64) -> Option<KeptSegment> {
        let writer = self.writer.lock();
        let mut all = writer.closed.iter().chain([&writer.current]);
        self.kept(all.find(|segment| segment.number == number)?)
    }

    fn kept(&self, segment: &Segment) -> Option<KeptSegment> {
        let pin = self.segments.read().get(&segment.number).cloned().map(Pin)?;
        Some(KeptSegment {
            live_then: pin.0.live(),
            pin,
            number: segment.number,
            key: segment.key,
            first: segment.first,
            last: segment.last,
            is_last_known: segment.is_last_known,
            size: segment.file.size,
        })
    }

    /// Whether so many bytes at `place` lie within a segment that is there.
    pub(crate) fn holds(&self, place: LogPlace, bytes: u64) -> bool {
        let end = place.offset().saturating_add(bytes);
        let segments = self.segments.read();
        let shared = segments.get(&place.segment());
        shared.is_some_and(|shared| place.offset() >= HEADER_BYTES && end <= shared.size)
    }

    /// Bytes of attachments that live in each segment.
    pub(crate) fn live_by_segment(&self) -> BTreeMap<u64, u64> {
        self.segments.read().iter().map(|(number, shared)| (*number, shared.live())).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::{
        super::{
            fixture::{MIB, journal, keep, land, poll},
            room::Use,
        },
        *,
    };

    /// Five of these fill a segment.
    const PART: usize = 200 << 10;

    /// What lives in each of so many closed segments.
    fn fill(journal: &Arc<Journal>, segments: u64) -> BTreeMap<u64, Vec<(LogPlace, Lsn)>> {
        let mut living: BTreeMap<u64, Vec<_>> = BTreeMap::new();
        while (journal.kept_numbers().len() as u64) <= segments {
            let landed = land(journal, PART);
            living.entry(landed.place.segment()).or_default().push((landed.place, landed.lsn));
        }
        living
    }

    fn kill(journal: &Journal, living: &[(LogPlace, Lsn)]) {
        for (place, lsn) in living {
            journal.release(*place, PART as u64, *lsn);
        }
        keep(journal);
    }

    #[test]
    fn b89_contents_are_moved_one_segment_before_the_zone_is_full_and_spilled_only_then() {
        let (_, journal) = journal(6 * MIB + MIB / 2);
        let mut living = fill(&journal, 4);
        assert_eq!(journal.relief(), None);
        // Mostly dead, and yet nobody needs the room.
        kill(&journal, &living[&2][..3]);
        assert_eq!(journal.relief(), None);
        living.extend(fill(&journal, 5));
        assert_eq!(journal.relief(), Some(Relief::Forward(2)));
        kill(&journal, &living[&2][3..]);
        assert_eq!(journal.relief(), None);
        fill(&journal, 6);
        assert_eq!(journal.relief(), None, "all are mostly alive, and there is room");
        fill(&journal, 7);
        assert!(matches!(journal.relief(), Some(Relief::Spill(_))));
    }

    #[test]
    fn files_beyond_those_kept_ready_are_made_only_for_one_who_waits() {
        let (_, journal) = journal(64 * MIB);
        let free = journal.free_bytes(Use::Accept);
        let taken = poll(journal.reserve_bytes(Use::Essential, free + 1));
        assert!(matches!(taken, Poll::Ready(Ok(_))));
        assert!(!journal.keep_step(), "nobody waits");
        let mut waits = std::pin::pin!(journal.reserve_bytes(Use::Accept, 1));
        assert!(poll(waits.as_mut()).is_pending());
        assert!(journal.keep_step());
        assert!(matches!(poll(waits), Poll::Ready(Ok(_))));
    }

    #[test]
    fn b89_a_zone_that_is_filled_to_its_last_byte_is_not_spilled() {
        let (_, journal) = journal(5 * MIB);
        fill(&journal, 4);
        assert!(!journal.zone_is_full());
        assert_eq!(journal.relief(), None);
        fill(&journal, 5);
        assert!(journal.zone_is_full());
        assert_eq!(journal.relief(), Some(Relief::Spill(1)));
    }

    #[test]
    fn freed_files_are_kept_for_reuse_up_to_eight_or_a_quarter_of_the_zone() {
        for (zone, kept) in [(4 * MIB, KEPT_FILES), (60 * MIB, 15)] {
            let (_, journal) = journal(zone);
            let living = fill(&journal, 20);
            living.values().for_each(|living| kill(&journal, living));
            assert_eq!(journal.kept_numbers().len(), 21, "no checkpoint is behind them");
            assert_eq!(journal.retire(Lsn::MAX), 20 * MIB);
            assert_eq!(journal.append.lock().layout.ready_files().len(), kept);
            assert_eq!(journal.disk_bytes(), (kept as u64 + 1) * MIB);
        }
    }

    #[test]
    fn what_only_waits_for_a_checkpoint_is_counted_until_there_is_one() {
        let (_, journal) = journal(64 * MIB);
        let living = fill(&journal, 3);
        assert_eq!(journal.waiting_for_checkpoint(), 0);
        kill(&journal, &living[&1]);
        kill(&journal, &living[&2][1..]);
        assert_eq!(journal.waiting_for_checkpoint(), MIB);
        assert_eq!(journal.retire(Lsn::MAX), MIB);
        assert_eq!(journal.waiting_for_checkpoint(), 0);
    }

    #[test]
    fn files_are_short_only_while_the_disk_has_no_room_for_one_that_is_wanted() {
        let (disk, journal) = journal(64 * MIB);
        assert!(!journal.is_short());
        disk.set_capacity(journal.disk_bytes());
        while !journal.is_short() {
            land(&journal, PART);
        }
        assert!(journal.append.lock().layout.ready_files().len() < READY_FILES);
        disk.set_capacity(u64::MAX);
        keep(&journal);
        assert!(!journal.is_short());
    }

    #[test]
    fn more_files_than_are_kept_ready_are_made_only_for_those_who_wait() {
        let (_, journal) = journal(64 * MIB);
        let ready = || journal.append.lock().layout.ready_files().len();
        let room = journal.reserve_bytes(Use::Essential, 4 * MIB);
        let Poll::Ready(Ok(_room)) = poll(room) else { panic!("there is room") };
        keep(&journal);
        assert_eq!(ready(), READY_FILES);
        let mut waits = Box::pin(journal.reserve_bytes(Use::Accept, 4 * MIB));
        assert!(poll(waits.as_mut()).is_pending());
        keep(&journal);
        assert!(ready() > READY_FILES);
        assert!(matches!(poll(waits.as_mut()), Poll::Ready(Ok(_))));
    }

    #[test]
    fn a_place_is_held_only_inside_a_segment_that_is_there() {
        let (_, journal) = journal(64 * MIB);
        let place = land(&journal, PART).place;
        assert!(journal.holds(place, PART as u64));
        assert!(journal.holds(place, MIB - place.offset()));
        assert!(!journal.holds(place, MIB - place.offset() + 1));
        assert!(journal.holds(LogPlace::new(1, HEADER_BYTES), 1) && !journal.holds(LogPlace::new(1, 0), 1));
        assert!(!journal.holds(LogPlace::new(2, place.offset()), 1));
    }
}
