//! Writing (whoever holds the role, for all) and syncing (one committer, for all).

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use locus_core::{Error, Lsn, Outcome, Result, Site};
use locus_fs::sync_data;
use tracing::debug;

use super::{
    format::{BATCH_HEAD_BYTES, BatchHead, RecordHead},
    layout::{Batch, Batches},
    log::{Append, Journal, Writer, begin_segment},
    room::Room,
    segment::SegmentFile,
    waiters::{Reached, wake},
};
use crate::sync::thread;

/// A caller that holds the write role passes it to the committer after this many rounds,
const ROUNDS_MAX: usize = 4;
/// and never takes it for more than this.
const INLINE_BYTES_MAX: u64 = 256 << 10;

enum Role {
    Taken(Batches),
    Nothing,
    Busy,
    TooMuch,
}

/// What is written, but not safe from a power cut or not known to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsynced {
    /// So many bytes are unsynced, the oldest of them since then (monotonic time).
    Since(Duration, u64),
    /// All up to here is synced, or about to be, but the disk was not told how far the log is durable.
    Unnoted(Lsn),
    /// Nothing was written since the disk was told.
    Nothing,
}

/// The committer's end, also by a panic.
struct Ended<'a>(&'a Journal);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Journal {
    /// Writes what is pending, unless somebody else does or it is much; what is left goes to the committer.
    pub(super) fn write_inline(&self) {
        for _ in 0..ROUNDS_MAX {
            match self.take_role(INLINE_BYTES_MAX) {
                Role::Taken(batches) => self.write_round(batches),
                Role::Nothing | Role::Busy => return,
                Role::TooMuch => break,
            }
        }
        self.commit_signal.raise();
    }

    /// Writes all that is pending.
    fn write_all(&self) {
        while self.write_pending() {}
    }

    /// Writes what is pending now, by one round: what comes meanwhile goes with the next, so that a sync serves many. Says
    /// whether there was anything.
    fn write_pending(&self) -> bool {
        loop {
            match self.take_role(u64::MAX) {
                Role::Taken(batches) => {
                    self.write_round(batches);
                    return true;
                }
                Role::Busy => {
                    // The holder sees what is pending before it gives the role up; wait for it here.
                    drop(self.writer.lock());
                    thread::yield_now();
                }
                Role::Nothing | Role::TooMuch => return false,
            }
        }
    }

    fn take_role(&self, bytes_max: u64) -> Role {
        let mut append = self.append.lock();
        if append.writing {
            return Role::Busy;
        }
        if !append.layout.has_pending() || self.is_poisoned() {
            return Role::Nothing;
        }
        if append.layout.pending_bytes() > bytes_max {
            return Role::TooMuch;
        }
        append.writing = true;
        Role::Taken(append.layout.take_pending())
    }

    /// Writes these batches, then gives the role up.
    fn write_round(&self, batches: Batches) {
        let last = batches.iter().rev().find_map(|batch| batch.records.last()).map(|record| record.lsn);
        let result = {
            let mut writer = self.writer.lock();
            batches.into_iter().try_fold(0, |bytes, batch| Ok(bytes + self.write_batch(&mut writer, batch)?))
        };
        let mut append = self.append.lock();
        append.writing = false;
        let reached = match result {
            Ok(bytes) => {
                append.unsynced_bytes += bytes;
                if last.is_some() {
                    self.begin_unsynced(&mut append);
                }
                if append.unsynced_bytes > self.config.max_unsynced_bytes {
                    self.written_something.notify_one();
                }
                if let Some(last) = last {
                    self.written.store(last.0, Ordering::Release);
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

    fn write_batch(&self, writer: &mut Writer, mut batch: Batch) -> Result<u64> {
        let first = batch.records.first().map_or_else(|| writer.current.last.next(), |record| record.lsn);
        if let Some(file) = batch.begins.take() {
            self.roll(writer, file, first)?;
        }
        let durable = self.durable();
        let stamp = self.clock.stamp();
        let length = batch.len();
        let head = BatchHead {
            length: length as u32,
            count: batch.records.len() as u32,
            first,
            durable,
            wall: stamp.wall,
            time: stamp.time,
        };
        let Writer { current, buffer, .. } = writer;
        buffer.clear();
        buffer.reserve(length as usize);
        buffer.extend_from_slice(&head.encode(&current.key, batch.position));
        debug_assert_eq!(buffer.len(), BATCH_HEAD_BYTES);
        for record in &batch.records {
            let head = RecordHead {
                lsn: record.lsn,
                body_len: record.body.len() as u32,
                attachment_len: record.attachment.len() as u32,
                body_checksum: record.body_checksum,
                attachment_checksum: record.attachment.checksum,
                flags: record.flags,
            };
            buffer.extend_from_slice(&head.encode(&current.key));
            buffer.extend_from_slice(&record.body);
            record.attachment.parts.iter().for_each(|part| buffer.extend_from_slice(part));
        }
        buffer.resize(length as usize, 0);
        current.file.file.write_at(buffer, batch.position).map_err(Error::io("write", &current.file.path))?;
        if let Some(last) = batch.records.last() {
            current.last = last.lsn;
        }
        self.noted.store(durable.0, Ordering::Release);
        Ok(length)
    }

    /// Ends the current segment and begins the next one, whose first record will be `first`.
    fn roll(&self, writer: &mut Writer, file: SegmentFile, first: Lsn) -> Result<()> {
        let before = &writer.current;
        let number = before.number + 1;
        let next =
            begin_segment(&self.config, file, number, before.number, before.last, first, self.durable())?;
        let closed = std::mem::replace(&mut writer.current, next);
        writer.dirty.push(Arc::clone(&closed.file.file));
        let size = closed.file.size;
        if self.segments.read().get(&closed.number).is_some_and(|shared| shared.live() > 0) {
            self.occupied.fetch_add(size, Ordering::AcqRel);
        }
        writer.closed.push(closed);
        self.begun(size);
        debug!(number, %first, "journal segment begun");
        Ok(())
    }

    // ---- sync -------------------------------------------------------------------------------------------------

    /// The committer: takes its steps whenever it is asked to, until [stopped](crate::signal::Signal::stop).
    pub(crate) fn commit_until_stopped(&self) {
        let _ended = Ended(self);
        while self.commit_signal.wait() {
            while self.commit_step() {}
        }
    }

    /// One step of the committer: writes what is pending, and syncs when somebody waits for it. Says whether it did
    /// anything.
    pub(crate) fn commit_step(&self) -> bool {
        let wrote = self.write_pending();
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
            if let Err(source) = sync_data(&*file, Site::LogCommit) {
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
        if durable < written {
            // What is held waits for a barrier, and nobody may write again to ask for one.
            self.begin_unsynced(&mut append);
        }
        if self.freeable.load(Ordering::Acquire) {
            self.keep_signal.raise();
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

    /// Writes and syncs everything on this thread: for opening and closing, when no committer runs.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when that failed.
    pub(crate) fn flush_here(&self) -> Result<()> {
        self.write_all();
        self.sync_now();
        if self.is_poisoned() { Err(Error::Poisoned { outcome: Outcome::Unknown }) } else { Ok(()) }
    }

    /// From now on something written is unsynced. Who drives barriers is woken if it sees nothing to do; otherwise it looks
    /// again in time by itself, and a commit does not wake it.
    fn begin_unsynced(&self, append: &mut Append) {
        if append.unsynced_since.is_none() {
            append.unsynced_since = Some(self.clock.clock().monotonic());
            if std::mem::take(&mut append.barriers_idle) {
                self.written_something.notify_one();
            }
        }
    }

    /// What somebody who drives barriers has to do. Who is told that it is [`Unsynced::Nothing`] is woken when that changes;
    /// any other looks again within `max_unsynced`.
    pub(crate) fn unsynced(&self) -> Unsynced {
        let mut append = self.append.lock();
        let unsynced = match append.unsynced_since {
            Some(since) => Unsynced::Since(since, append.unsynced_bytes),
            None if self.noted() < self.written() => Unsynced::Unnoted(self.written()),
            None => Unsynced::Nothing,
        };
        append.barriers_idle = unsynced == Unsynced::Nothing;
        unsynced
    }

    pub(crate) fn max_unsynced_bytes(&self) -> u64 {
        self.config.max_unsynced_bytes
    }

    /// The durable LSN that the disk was last told.
    fn noted(&self) -> Lsn {
        Lsn(self.noted.load(Ordering::Acquire))
    }

    /// Writes an empty batch that tells the durable LSN. `room` must hold one record's cost.
    pub(crate) fn note_durable(&self, mut room: Room) {
        let cost = room.take(Room::cost(0));
        {
            let mut append = self.append.lock();
            append.reserved = append.reserved.saturating_sub(cost);
            if append.layout.push_note() == Some(true) {
                self.share_newest(&append);
            }
        }
        self.write_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::AtomicUsize,
        task::{Context, Poll, Wake, Waker},
    };

    use super::{
        super::{
            fixture::{MIB, attachment, journal, poll},
            room::Use,
        },
        *,
    };

    fn append(journal: &Arc<Journal>, bytes: u64) -> Lsn {
        let mut room = journal.reserve_with(0, bytes).unwrap();
        journal.append_with(&mut room, Vec::new(), attachment(bytes as usize), 0).unwrap().lsn
    }

    #[test]
    fn a_caller_writes_up_to_256_kib_for_all_and_leaves_more_to_the_committer() {
        let (_, journal) = journal(64 * MIB);
        let small = append(&journal, 200 << 10);
        assert!(matches!(poll(journal.confirm_written(small)), Poll::Ready(Ok(()))));
        append(&journal, 200 << 10);
        let much = append(&journal, 200 << 10);
        assert!(poll(journal.confirm_written(much)).is_pending());
        assert!(journal.commit_step());
        assert!(matches!(poll(journal.confirm_written(much)), Poll::Ready(Ok(()))));
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_because_too_much_is_pending_is_woken_when_that_is_written() {
        let (_, journal) = journal(256 * MIB);
        while !journal.is_crowded(&journal.append.lock()) {
            if let Some(mut room) = journal.reserve_with(0, MIB / 2) {
                journal.append_with(&mut room, Vec::new(), attachment(MIB as usize / 2), 0).unwrap();
            }
            journal.keep_step();
        }
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut waits = pin!(journal.reserve_bytes(Use::Essential, 512));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        let before = woken.0.load(Ordering::Relaxed);
        assert!(journal.commit_step());
        assert!(woken.0.load(Ordering::Relaxed) > before);
        assert!(matches!(waits.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(_))));
    }

    #[test]
    fn who_waits_for_room_is_woken_when_a_record_took_less_than_it_had() {
        let (_, journal) = journal(64 * MIB);
        let Poll::Ready(Ok(mut all)) =
            poll(journal.reserve_bytes(Use::Essential, journal.free_bytes(Use::Accept)))
        else {
            panic!("nobody else has it")
        };
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut waits = pin!(journal.reserve_bytes(Use::Accept, 512));
        assert!(waits.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        journal.append(&mut all, Vec::new(), 0).unwrap();
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert!(matches!(waits.as_mut().poll(&mut Context::from_waker(&waker)), Poll::Ready(Ok(_))));
    }

    #[test]
    fn b66_what_is_unsynced_is_counted_from_its_first_write_to_its_sync() {
        let (_, journal) = journal(64 * MIB);
        assert_eq!(journal.unsynced(), Unsynced::Nothing);
        append(&journal, 1_000);
        assert_eq!(journal.unsynced(), Unsynced::Nothing, "what is pending is not in the kernel");
        journal.write_inline();
        let since = journal.clock.clock().monotonic();
        assert_eq!(journal.unsynced(), Unsynced::Since(since, 1_536));
        journal.flush_here().unwrap();
        assert_eq!(
            journal.unsynced(),
            Unsynced::Unnoted(journal.durable()),
            "the disk does not know that it is durable"
        );
        journal.note_durable(journal.reserve_now(0).unwrap());
        assert_eq!(journal.unsynced(), Unsynced::Nothing);
    }

    #[test]
    fn b66_who_drives_barriers_is_woken_by_a_write_only_when_it_saw_nothing_to_do() {
        let (_, journal) = journal(64 * MIB);
        let is_woken = || {
            let mut told = pin!(journal.written_something.notified());
            told.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        };
        let write = || {
            append(&journal, 1_000);
            journal.write_inline();
        };
        write();
        assert!(!is_woken(), "it has not looked");
        journal.flush_here().unwrap();
        journal.note_durable(journal.reserve_now(0).unwrap());
        assert_eq!(journal.unsynced(), Unsynced::Nothing);
        write();
        assert!(is_woken());
        // It looks again in time by itself, whatever is synced and written until then.
        assert!(matches!(journal.unsynced(), Unsynced::Since(..)));
        journal.flush_here().unwrap();
        write();
        assert!(!is_woken());
        journal.flush_here().unwrap();
        assert_eq!(journal.unsynced(), Unsynced::Unnoted(journal.durable()));
        write();
        assert!(!is_woken());
    }

    #[test]
    fn b66_while_a_sync_is_under_way_there_is_something_left_to_note() {
        let (_, journal) = journal(64 * MIB);
        append(&journal, 1_000);
        journal.write_inline();
        journal.append.lock().unsynced_since = None; // as a sync does that has begun
        assert_eq!(journal.unsynced(), Unsynced::Unnoted(journal.written()));
        // What is written meanwhile is another state: a note waits until the log is idle.
        append(&journal, 1_000);
        journal.write_inline();
        journal.append.lock().unsynced_since = None;
        let later = journal.unsynced();
        assert!(
            matches!(later, Unsynced::Unnoted(upto) if upto == journal.written() && upto > journal.durable())
        );
    }
}
