//! Where records come to lie. It is decided when a record is appended, in memory, so that whoever appends knows its place
//! at once; the writer then follows.

use std::collections::VecDeque;

use bytes::Bytes;
use locus_core::Lsn;
use smallvec::{SmallVec, smallvec};

use super::{
    format::{BATCH_HEAD_BYTES, HEADER_BYTES, RECORD_HEAD_BYTES, batch_bytes},
    segment::SegmentFile,
};

/// Most that one write hands to the kernel, unless a single record is longer.
const BATCH_BYTES_MAX: u64 = 1 << 20;

/// A record on its way to the disk.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) lsn: Lsn,
    pub(super) body: Vec<u8>,
    pub(super) body_checksum: u64,
    pub(super) attachment: Attachment,
    pub(super) flags: u32,
}

/// Contents one after the other; most records carry at most one.
pub(crate) type Parts = SmallVec<[Bytes; 1]>;

/// Bytes that ride in a record and are no part of its meaning.
#[derive(Debug, Default)]
pub(crate) struct Attachment {
    pub(crate) parts: Parts,
    /// Of all parts one after the other, as [`plain_checksum`](super::plain_checksum) says it.
    pub(crate) checksum: u64,
}

impl Attachment {
    pub(crate) fn len(&self) -> u64 {
        self.parts.iter().map(|part| part.len() as u64).sum()
    }
}

impl Pending {
    fn len(&self) -> u64 {
        (RECORD_HEAD_BYTES + self.body.len()) as u64 + self.attachment.len()
    }
}

/// Batches that wait to be written: one, unless the log outruns its writer.
pub(super) type Batches = SmallVec<[Batch; 1]>;

/// Records that are written by one call.
#[derive(Debug)]
pub(super) struct Batch {
    /// The file that becomes a segment with this batch.
    pub(super) begins: Option<SegmentFile>,
    /// Where in its segment it lies.
    pub(super) position: u64,
    pub(super) records: SmallVec<[Pending; 1]>,
    /// Of the records alone.
    record_bytes: u64,
}

impl Batch {
    /// Of the whole batch, padding included.
    pub(super) fn len(&self) -> u64 {
        batch_bytes(self.record_bytes)
    }
}

/// Where a record came to lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Laid {
    /// Number of its segment.
    pub(super) number: u64,
    /// Where its attachment begins there.
    pub(super) attachment_at: u64,
    /// The segment begins with it.
    pub(super) begins: bool,
}

/// The end of the log, as far as it is decided.
#[derive(Debug)]
pub(super) struct Layout {
    /// The segment in which the log ends.
    pub(super) number: u64,
    pub(super) size: u64,
    /// Where the next batch begins there.
    end: u64,
    /// Files ready to become segments.
    ready: VecDeque<SegmentFile>,
    /// Bytes that batches may still take: the rest of the segment and all ready files.
    free: u64,
    pending: Batches,
    pending_bytes: u64,
}

impl Layout {
    /// A log that ends at the beginning of a segment of this number and size.
    pub(super) fn new(number: u64, size: u64, ready: VecDeque<SegmentFile>) -> Self {
        let free = size - HEADER_BYTES + ready.iter().map(SegmentFile::usable).sum::<u64>();
        Self { number, size, end: HEADER_BYTES, ready, free, pending: Batches::new(), pending_bytes: 0 }
    }

    /// Bytes that batches may take until only `keep` ready files are left: none when fewer are ready, or what is still to
    /// be drained would come to share the rest of the segment with what lives long.
    pub(super) fn free_but(&self, keep: usize) -> u64 {
        if self.ready.len() < keep {
            return 0;
        }
        let kept: u64 = self.ready.iter().rev().take(keep).map(SegmentFile::usable).sum();
        self.free - kept
    }

    pub(super) fn ready_files(&self) -> impl ExactSizeIterator<Item = &SegmentFile> {
        self.ready.iter()
    }

    pub(super) fn add_ready(&mut self, file: SegmentFile) {
        self.free += file.usable();
        self.ready.push_back(file);
    }

    /// Bytes of records that wait to be written.
    pub(super) fn pending_bytes(&self) -> u64 {
        self.pending_bytes
    }

    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Takes all that waits to be written; what is appended next begins a batch of its own.
    pub(super) fn take_pending(&mut self) -> Batches {
        self.pending_bytes = 0;
        std::mem::take(&mut self.pending)
    }

    /// Lays a record at the end of the log. `None`, and nothing has changed, when no file is ready for it.
    pub(super) fn push(&mut self, record: Pending) -> Option<Laid> {
        let length = record.len();
        let body = (RECORD_HEAD_BYTES + record.body.len()) as u64;
        let before = self.end;
        if let Some(batch) = self.pending.last_mut() {
            let joined = batch.record_bytes + length;
            let fits = batch.record_bytes == 0 || joined <= BATCH_BYTES_MAX;
            if fits && batch.position + batch_bytes(joined) <= self.size {
                let at = batch.position + BATCH_HEAD_BYTES as u64 + batch.record_bytes;
                batch.record_bytes = joined;
                batch.records.push(record);
                self.end = batch.position + batch.len();
                self.free -= self.end - before;
                self.pending_bytes += length;
                return Some(Laid { number: self.number, attachment_at: at + body, begins: false });
            }
        }
        let begins = self.begin_batch(batch_bytes(length))?;
        let at = self.end + BATCH_HEAD_BYTES as u64;
        let laid = Laid { number: self.number, attachment_at: at + body, begins: begins.is_some() };
        self.push_batch(Batch {
            begins,
            position: self.end,
            records: smallvec![record],
            record_bytes: length,
        });
        self.pending_bytes += length;
        Some(laid)
    }

    /// Lays a batch without records at the end of the log, unless one with records waits to be written. Says whether a
    /// segment begins with it; `None` when there is no room.
    pub(super) fn push_note(&mut self) -> Option<bool> {
        if self.has_pending() {
            return Some(false);
        }
        let begins = self.begin_batch(batch_bytes(0))?;
        let begun = begins.is_some();
        self.push_batch(Batch { begins, position: self.end, records: SmallVec::new(), record_bytes: 0 });
        Some(begun)
    }

    /// The file that the newest segment begins with, while it is not written.
    pub(super) fn newest_file(&self) -> Option<&SegmentFile> {
        self.pending.last()?.begins.as_ref()
    }

    fn push_batch(&mut self, batch: Batch) {
        self.end += batch.len();
        self.free -= batch.len();
        self.pending.push(batch);
    }

    /// Makes sure that a batch of `bytes` fits at `end`, if need be in a new segment, whose file is returned.
    fn begin_batch(&mut self, bytes: u64) -> Option<Option<SegmentFile>> {
        if self.end + bytes <= self.size {
            return Some(None);
        }
        let file = self.ready.pop_front()?;
        self.free -= self.size - self.end;
        self.number += 1;
        (self.size, self.end) = (file.size, HEADER_BYTES);
        Some(Some(file))
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use locus_fs::Disk;
    use locus_testkit::SimDisk;
    use proptest::prelude::*;

    use super::*;
    use crate::journal::format::ALIGN;

    const SIZE: u64 = 4 << 20;

    fn layout(ready: usize) -> Layout {
        let disk = SimDisk::new(1);
        let file = |n| {
            let path = Path::new("/").join(format!("{n}"));
            SegmentFile { file: Arc::clone(&disk).create_new(&path).unwrap(), path, size: SIZE }
        };
        Layout::new(7, SIZE, (0..ready).map(file).collect())
    }

    fn record(lsn: u64, body: usize, attachment: usize) -> Pending {
        let parts = if attachment == 0 { Parts::new() } else { smallvec![Bytes::from(vec![0; attachment])] };
        Pending {
            lsn: Lsn(lsn),
            body: vec![0; body],
            body_checksum: 0,
            attachment: Attachment { parts, checksum: 0 },
            flags: 0,
        }
    }

    #[test]
    fn records_that_wait_for_the_same_write_share_a_batch() {
        let mut layout = layout(0);
        let first = layout.push(record(1, 100, 0)).unwrap();
        let second = layout.push(record(2, 10, 5)).unwrap();
        let behind = first.attachment_at + (RECORD_HEAD_BYTES + 10) as u64;
        assert_eq!(second, Laid { number: 7, attachment_at: behind, begins: false });
        assert_eq!(layout.take_pending().len(), 1);
        // What was taken is on its way: the next one begins a batch of its own.
        layout.push(record(3, 10, 0)).unwrap();
        assert_eq!(layout.take_pending()[0].position, HEADER_BYTES + ALIGN);
    }

    #[test]
    fn a_batch_holds_a_mebibyte_of_records_and_more_only_for_one_that_is_longer() {
        let mut layout = layout(0);
        let half = BATCH_BYTES_MAX as usize / 2 - RECORD_HEAD_BYTES;
        for lsn in 1..=2 {
            layout.push(record(lsn, 0, half)).unwrap();
        }
        layout.push(record(3, 0, 0)).unwrap();
        layout.push(record(4, 0, BATCH_BYTES_MAX as usize + 1)).unwrap();
        let batches = layout.take_pending();
        let lsns: Vec<Vec<u64>> =
            batches.iter().map(|batch| batch.records.iter().map(|record| record.lsn.0).collect()).collect();
        assert_eq!(lsns, [vec![1, 2], vec![3], vec![4]]);
    }

    #[test]
    fn nothing_is_free_for_those_who_must_leave_more_files_than_are_ready() {
        let layout = layout(2);
        let file = SIZE - HEADER_BYTES;
        assert_eq!([0, 1, 2, 3].map(|keep| layout.free_but(keep)), [3 * file, 2 * file, file, 0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn batches_lie_one_behind_the_other_inside_their_segments_and_the_rest_is_free(
            steps in prop::collection::vec((0..3_000_usize, 0..900_000_usize, 0..6_u8), 1..50),
        ) {
            let mut layout = layout(6);
            let (mut number, mut end) = (7, HEADER_BYTES);
            for (lsn, (body, attachment, then)) in (1..).zip(steps) {
                let wanted = batch_bytes((RECORD_HEAD_BYTES + body + attachment) as u64);
                let before = (layout.free_but(0), layout.pending_bytes(), layout.ready_files().len());
                let Some(laid) = layout.push(record(lsn, body, attachment)) else {
                    prop_assert_eq!(before.2, 0, "refused although a file is ready");
                    prop_assert!(wanted > SIZE - layout.end);
                    prop_assert_eq!((layout.free_but(0), layout.pending_bytes()), (before.0, before.1));
                    continue;
                };
                // With a batch of its own and the padding of a segment's end: no more than room was reserved for.
                prop_assert!(before.0 - layout.free_but(0) <= 2 * wanted);
                prop_assert_eq!(layout.pending_bytes(), before.1 + (RECORD_HEAD_BYTES + body + attachment) as u64);
                prop_assert_eq!(laid.number, layout.number);
                prop_assert_eq!(laid.begins, layout.newest_file().is_some() && layout.pending.last().is_some_and(
                    |batch| batch.records.len() == 1,
                ));
                let batch = layout.pending.last().unwrap();
                let records: u64 = batch.records.iter().map(Pending::len).sum();
                prop_assert_eq!(batch.len(), batch_bytes(records));
                prop_assert_eq!(
                    laid.attachment_at + attachment as u64,
                    batch.position + BATCH_HEAD_BYTES as u64 + records
                );
                if then == 0 && layout.has_pending() {
                    for batch in layout.take_pending() {
                        if batch.begins.is_some() {
                            (number, end) = (number + 1, HEADER_BYTES);
                        }
                        prop_assert_eq!(batch.position, end);
                        end += batch.len();
                        prop_assert!(end <= SIZE);
                    }
                    prop_assert_eq!((layout.number, layout.end, layout.pending_bytes()), (number, end, 0));
                }
                let ready = layout.ready_files().len() as u64 * (SIZE - HEADER_BYTES);
                prop_assert_eq!(layout.free_but(0), SIZE - layout.end + ready);
            }
        }
    }
}
