//! Reading a log after whatever happened to it: where it ends, and whether what is missing was ever promised.
//!
//! The rule (ENGINE 6): D is the highest LSN that any valid batch, segment header or checkpoint says was durable. A bad
//! record at or below D is corruption, and nothing is touched. The first bad record above D ends the log, and whatever
//! follows is its tail, dropped and counted.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use locus_core::{Error, Lsn, Result, Site, StoreId};
use locus_fs::{Disk, EntryKind, sync_data};

use super::{
    format::{
        ALIGN, BatchHead, FLAG_BARRIER, FLAG_HELD, FORMAT, HEADER_BYTES, HEADER_COPIES, HeaderFault,
        RECORD_HEAD_BYTES, RawRecord, SegmentHeader, SegmentKey,
    },
    keep::Pin,
    log::Resume,
    place::LogPlace,
    segment::{Segment, SegmentFile, UNFINISHED, segment_index},
    walk::walk,
};
use crate::time::Stamp;

/// LSNs that are left out at each open beyond those that files could hold: more than can ever be pending in memory.
const LSN_CUSHION: u64 = 1 << 23;

/// A segment file as it was found.
#[derive(Debug)]
pub(crate) struct Found {
    file: SegmentFile,
    /// `None` when it belongs to no log.
    header: Option<SegmentHeader>,
}

/// All segment files of a journal directory.
#[derive(Debug)]
pub(crate) struct Directory {
    found: Vec<Found>,
    next_index: u64,
    /// Files that somebody died over while they were made.
    unfinished: Vec<PathBuf>,
}

/// What a survey found out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// Positions in [`Directory::found`] of the segments that hold the log, oldest first.
    chain: Vec<usize>,
    /// The last LSN of the log.
    pub(crate) end: Lsn,
    /// D.
    pub(crate) durable: Lsn,
    /// Records behind the end that looked valid.
    pub(crate) dropped: u64,
    /// Records at or below D whose attachment is damaged: only what they carry is lost.
    pub(crate) damaged: u64,
    /// The highest LSN that was seen anywhere.
    highest: Lsn,
    /// The last stamp in the log.
    pub(crate) stamp: Option<Stamp>,
    /// The highest barrier: what records up to it rest on outside the log is durable.
    pub(crate) barrier: Lsn,
    /// Records above the barrier that rest on something outside the log.
    pub(crate) held: Vec<Lsn>,
    /// Bytes of the records that are replayed.
    pub(crate) bytes: u64,
    /// Whether there is any log at all.
    pub(crate) is_blank: bool,
}

impl Directory {
    /// Opens all segment files of `dir` and reads their headers.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] when one was written by a newer version.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path, store: &StoreId, writable: bool) -> Result<Self> {
        let mut found = Vec::new();
        let mut unfinished = Vec::new();
        let mut next_index = 1;
        for entry in disk.read_dir(dir).map_err(Error::io("list", dir))? {
            let entry = entry.map_err(Error::io("list", dir))?;
            if entry.kind != EntryKind::File {
                continue;
            }
            let path = Path::new(&entry.name);
            if path.extension().is_some_and(|extension| extension == UNFINISHED)
                && path.file_stem().and_then(|stem| segment_index(stem.to_str()?)).is_some()
            {
                unfinished.push(dir.join(path));
            }
            let Some(index) = entry.name.to_str().and_then(segment_index) else { continue };
            next_index = next_index.max(index + 1);
            let path = dir.join(&entry.name);
            let file = disk.open(&path, writable).map_err(Error::io("open", &path))?;
            let size = file.len().map_err(Error::io("measure", &path))?;
            // What was not written back may look clean in the page cache: read what the device holds.
            if Site::CacheDropped.stands() {
                file.drop_cache().map_err(Error::io("drop the cached pages of", &path))?;
            }
            let mut area = [0; HEADER_BYTES as usize];
            let read = file.read_at(&mut area, 0).map_err(Error::io("read", &path))?;
            let area = area.get(..read).unwrap_or_default();
            let header = header_in(area, store, &path)?;
            found.push(Found { file: SegmentFile { path, file, size }, header });
        }
        // One order whatever the disk says, so that the same log is always read the same way.
        found.sort_by(|a, b| a.file.path.cmp(&b.file.path));
        Ok(Self { found, next_index, unfinished })
    }

    /// Whether no file holds, or ever held, a part of a log of this store.
    pub(crate) fn is_blank(&self) -> bool {
        self.found.iter().all(|found| found.header.is_none())
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        self.found.iter().map(|found| found.file.size).sum()
    }

    /// Finds the log that is needed from LSN `begin` on, its end and its tail. `known` is the highest LSN that
    /// something beside the log (a checkpoint) says was durable.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when anything at or below D is missing or bad.
    pub(crate) fn survey(&self, begin: Lsn, known: Lsn) -> Result<Survey> {
        let by_number = self.by_number();
        let mut survey = Survey { durable: known, is_blank: by_number.is_empty(), ..Survey::default() };
        survey.end = Lsn(begin.0.saturating_sub(1));
        survey.chain = self.chain(&by_number, begin);
        let mut expected = begin;
        let mut bad: Option<(usize, u64)> = None;
        let mut bad_attachments = Vec::new();
        let mut walked = Vec::new();
        let first_number = survey.chain.first().map_or(0, |at| self.header(*at).number);
        for step in 0..survey.chain.len() {
            let at = survey.chain[step];
            let header = self.header(at);
            expected = header.first;
            let bytes = self.load(at)?;
            let stop =
                walk(&bytes, &header.key(), expected, self.limit(&survey.chain, step), |batch, record| {
                    survey.durable = survey.durable.max(batch.durable);
                    survey.stamp = Some(Stamp { wall: batch.wall, time: batch.time });
                    let Some((record, _)) = record else { return Ok(true) };
                    if !record.attachment_good {
                        bad_attachments.push(record.head.lsn);
                    }
                    if record.head.lsn >= begin {
                        survey.bytes += (RECORD_HEAD_BYTES + record.body.len()) as u64;
                    }
                    if record.head.flags & FLAG_BARRIER != 0 {
                        let upto =
                            record.body.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
                        survey.barrier = survey.barrier.max(Lsn(upto));
                    }
                    if record.head.flags & FLAG_HELD != 0 {
                        survey.held.push(record.head.lsn);
                    }
                    Ok(true)
                })?;
            survey.durable = survey.durable.max(header.durable);
            expected = stop.expected;
            walked.push((header.first, expected));
            let next = survey.chain.get(step + 1).map(|next| self.header(*next));
            let goes_on = stop.clean && next.is_some_and(|next| next.predecessor_end.next() == expected);
            // What lies behind the end that the next segment names was dropped, and counted, by an earlier recovery.
            self.look_behind(at, &bytes, stop.offset, !goes_on, &mut survey);
            if !goes_on {
                bad = Some((at, stop.offset));
                // What comes later belongs to the tail.
                survey.chain.truncate(step + 1);
                break;
            }
        }
        // The tail: every later segment, whether the chain leads to it or not.
        let last_number = survey.chain.last().map_or(0, |at| self.header(*at).number);
        for (number, at) in by_number.range(first_number..) {
            if !survey.chain.contains(at) {
                let header = self.header(*at);
                survey.durable = survey.durable.max(header.durable);
                survey.highest = survey.highest.max(header.first);
                let bytes = self.load(*at)?;
                self.look_behind(*at, &bytes, HEADER_BYTES, *number > last_number, &mut survey);
            }
        }
        if survey.chain.is_empty() {
            if survey.durable >= begin {
                return Err(Error::Corrupt {
                    place: "the journal".into(),
                    why: format!(
                        "the segment with LSN {begin} is missing, and the log was durable up to {}",
                        survey.durable
                    )
                    .into(),
                });
            }
        } else {
            survey.end = Lsn(expected.0.saturating_sub(1)).max(survey.end);
            if expected <= survey.durable {
                let (at, offset) = bad.unwrap_or_default();
                return Err(Error::Corrupt {
                    place: format!("{} at offset {offset}", self.found[at].file.path.display()),
                    why: format!(
                        "record {expected} is missing or bad, and the log was durable up to {}",
                        survey.durable
                    )
                    .into(),
                });
            }
        }
        survey.highest = survey.highest.max(survey.end);
        // Above D a bad attachment makes the record bad, and ends the log; below, it damages what it carries alone.
        let durable = survey.durable;
        if let Some(first) = bad_attachments.iter().copied().filter(|lsn| *lsn > durable).min() {
            let behind = walked.iter().map(|(from, to): &(Lsn, Lsn)| to.0.saturating_sub(from.max(&first).0));
            survey.dropped += behind.sum::<u64>();
            survey.end = Lsn(first.0 - 1);
        }
        survey.damaged = bad_attachments.iter().filter(|lsn| **lsn <= durable).count() as u64;
        let (barrier, end) = (survey.barrier, survey.end);
        survey.held.retain(|lsn| *lsn > barrier && *lsn <= end);
        Ok(survey)
    }

    fn by_number(&self) -> BTreeMap<u64, usize> {
        let found = self.found.iter().enumerate();
        found.filter_map(|(at, found)| Some((found.header.as_ref()?.number, at))).collect()
    }

    /// The segments from the one that holds `begin` to the newest that they lead to, oldest first.
    fn chain(&self, by_number: &BTreeMap<u64, usize>, begin: Lsn) -> Vec<usize> {
        // A newer header may have reached the disk while one before it did not: then an older one is the newest.
        for top in by_number.values().rev() {
            let mut chain = vec![*top];
            let mut header = self.header(*top);
            loop {
                if header.first <= begin || header.predecessor_end < begin {
                    chain.reverse();
                    return chain;
                }
                let Some(before) = by_number.get(&header.predecessor) else { break };
                header = self.header(*before);
                chain.push(*before);
            }
        }
        Vec::new()
    }

    /// Looks for batches on every boundary from `from` on: they tell what was durable, and are otherwise dropped, which
    /// is counted when it is `new`.
    fn look_behind(&self, at: usize, bytes: &[u8], from: u64, new: bool, survey: &mut Survey) {
        let key = self.header(at).key();
        let mut offset = from.next_multiple_of(ALIGN);
        while let Some(rest) = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..)) {
            if rest.is_empty() {
                break;
            }
            if let Some(batch) = BatchHead::decode(rest, &key, offset) {
                survey.durable = survey.durable.max(batch.durable);
                survey.dropped += if new { u64::from(batch.count) } else { 0 };
                survey.highest =
                    survey.highest.max(Lsn(batch.first.0.saturating_add(u64::from(batch.count))));
            }
            offset += ALIGN;
        }
    }

    /// Hands every record of the log from `begin` to `end` to `visit`, in order, with the place of its attachment.
    ///
    /// # Errors
    /// What `visit` says; [`Error::Corrupt`] when the log is not what the survey saw.
    pub(crate) fn replay(
        &self,
        survey: &Survey,
        begin: Lsn,
        end: Lsn,
        mut visit: impl FnMut(&RawRecord<'_>, LogPlace) -> Result<()>,
    ) -> Result<()> {
        let mut reached = begin.0.saturating_sub(1);
        for (step, at) in survey.chain.iter().enumerate() {
            let header = self.header(*at);
            // LSNs between a predecessor's end and its successor's first do not exist. The newest segment may be without
            // any record: the process died as soon as it had begun it.
            if reached >= header.predecessor_end.0 {
                reached = reached.max(header.first.0.saturating_sub(1));
            }
            let bytes = self.load(*at)?;
            walk(&bytes, &header.key(), header.first, self.limit(&survey.chain, step), |_, record| {
                let Some((record, offset)) = record else { return Ok(true) };
                if record.head.lsn > end {
                    return Ok(false);
                }
                if record.head.lsn >= begin {
                    visit(record, LogPlace::new(header.number, offset + record.attachment_at as u64))?;
                    reached = record.head.lsn.0;
                }
                Ok(true)
            })?;
        }
        if reached < end.0 {
            return Err(Error::Corrupt {
                place: "the journal".into(),
                why: format!("record {} was there a moment ago and is not now", reached + 1).into(),
            });
        }
        Ok(())
    }

    /// Syncs every segment that was replayed: what was recovered is made durable before it is believed.
    pub(crate) fn sync(&self, survey: &Survey) -> Result<()> {
        for at in &survey.chain {
            let file = &self.found[*at].file;
            sync_data(&*file.file, Site::ReplayedSegment).map_err(Error::io("sync", &file.path))?;
        }
        Ok(())
    }

    /// What [`Journal::start`](super::Journal::start) needs to go on behind `end`. Segments whose last record is
    /// before `needed`, and in which nothing of `live` (bytes by segment) lies, are free; files smaller than `smallest`
    /// are of no use any more.
    pub(crate) fn resume(
        self,
        survey: &Survey,
        end: Lsn,
        needed: Lsn,
        live: BTreeMap<u64, u64>,
        smallest: u64,
    ) -> Resume {
        let total: u64 = self.bytes();
        let (chain, end_segment, log_end) = self.ending(survey, end);
        let last_number =
            self.found.iter().filter_map(|found| Some(found.header.as_ref()?.number)).max().unwrap_or(0);
        let mut lasts: BTreeMap<usize, Lsn> = BTreeMap::new();
        for pair in chain.windows(2) {
            if let [this, next] = pair {
                lasts.insert(*this, self.header(*next).predecessor_end);
            }
        }
        // What was not replayed because of a newer checkpoint is needed by the older one.
        let by_number = self.by_number();
        let mut first = chain.first().map(|at| self.header(*at));
        // A newest segment without a record leads to the one in which the log ends.
        if chain.is_empty()
            && let Some(at) = by_number.get(&end_segment)
        {
            lasts.insert(*at, log_end);
            first = Some(self.header(*at));
        }
        let oldest = first.map_or(needed, |header| header.first.max(needed));
        while let Some(header) = first.filter(|header| header.predecessor_end >= needed) {
            let before = by_number.get(&header.predecessor);
            before.map(|at| lasts.insert(*at, header.predecessor_end));
            first = before.map(|at| self.header(*at));
        }
        if let Some(at) = chain.last() {
            lasts.insert(*at, log_end);
        }
        let mut resume = Resume {
            next_index: self.next_index,
            last_number,
            end_segment,
            end: log_end,
            replayed_bytes: survey.bytes,
            first: Lsn(survey.highest.max(end).0 + total / RECORD_HEAD_BYTES as u64 + LSN_CUSHION),
            floor: needed,
            ..Resume::default()
        };
        for (at, Found { file, header }) in self.found.into_iter().enumerate() {
            let Some(header) = header else {
                resume.free.push(file);
                continue;
            };
            // The segment in which the log ends is named by the next one's header, so it stays until a checkpoint.
            let (last, is_last_known) = match lasts.get(&at) {
                Some(&last) if last >= needed || header.number == end_segment => (last, true),
                // Behind what was replayed, and kept for what lives in it: all of its records are before that.
                _ if live.contains_key(&header.number) => (Lsn(oldest.0.saturating_sub(1)), false),
                _ => {
                    resume.free.push(file);
                    continue;
                }
            };
            let SegmentHeader { number, first, .. } = header;
            resume.segments.push(Segment { file, number, key: header.key(), first, last, is_last_known });
        }
        resume.live = live;
        resume.segments.sort_by_key(|segment| segment.number);
        // What was never wholly written (by a process that died), or was made under other settings, is made anew.
        let useless = resume.free.extract_if(.., |file| file.size < smallest);
        resume.scrap = useless.map(|file| file.path).chain(self.unfinished).collect();
        resume
    }

    /// The segments up to the one in which a log that ends at `end` ends, the number of that one, and the last LSN that is
    /// there: when recovery cut the log, what lies behind belongs to nothing any more. A segment without a record of its
    /// own, which a killed open left, is used again.
    fn ending(&self, survey: &Survey, end: Lsn) -> (Vec<usize>, u64, Lsn) {
        let mut chain = survey.chain.clone();
        let mut log_end = end;
        while let Some(at) = chain.last() {
            let header = self.header(*at);
            if header.first <= end {
                return (chain.clone(), header.number, log_end);
            }
            log_end = log_end.min(header.predecessor_end);
            let before = header.predecessor;
            chain.pop();
            if chain.is_empty() {
                return (chain, before, log_end);
            }
        }
        (chain, 0, log_end)
    }

    /// The last LSN that belongs to the log in this segment: what its successor says. A segment may hold valid records
    /// behind it, which an earlier recovery dropped.
    fn limit(&self, chain: &[usize], step: usize) -> Lsn {
        chain.get(step + 1).map_or(Lsn::MAX, |next| self.header(*next).predecessor_end)
    }

    fn header(&self, at: usize) -> &SegmentHeader {
        self.found[at].header.as_ref().expect("because only segments with a header are in a chain")
    }

    fn load(&self, at: usize) -> Result<Vec<u8>> {
        let SegmentFile { path, file, size } = &self.found[at].file;
        let mut bytes = vec![0; usize::try_from(*size).unwrap_or(usize::MAX)];
        let read = file.read_at(&mut bytes, 0).map_err(Error::io("read", path))?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

/// The newest of the headers in a header area, if there is a good one.
pub(super) fn header_in(area: &[u8], store: &StoreId, path: &Path) -> Result<Option<SegmentHeader>> {
    // Two copies, so that one bad sector does not hide a segment; a torn write may leave an older one beside a newer one.
    let mut header: Option<SegmentHeader> = None;
    for copy in HEADER_COPIES {
        match SegmentHeader::decode(area.get(copy..).unwrap_or_default(), store) {
            Ok(found) => {
                header = header.filter(|header| header.number > found.number).or(Some(found));
            }
            Err(HeaderFault::Blank | HeaderFault::Bad) => {}
            Err(HeaderFault::Newer(found)) => {
                let place = path.display().to_string();
                return Err(Error::NewerFormat { place, found, supported: FORMAT });
            }
        }
    }
    Ok(header)
}

/// A segment of an open log as far as it was written, to be read record by record.
#[derive(Debug)]
pub(crate) struct KeptSegment {
    pub(crate) pin: Pin,
    pub(crate) number: u64,
    pub(crate) key: SegmentKey,
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
    pub(crate) is_last_known: bool,
    pub(crate) size: u64,
    /// Bytes of attachments that lived in it when it was pinned.
    pub(crate) live_then: u64,
}

/// What a segment looks like on the device.
#[derive(Debug, Default)]
pub(crate) struct SegmentCheck {
    pub(crate) records: u64,
    /// Neither copy of the header is what it should be.
    pub(crate) header_bad: bool,
    /// Records whose attachment is damaged, and where these begin.
    pub(crate) attachments_bad: Vec<(Lsn, u64)>,
    /// Where the batch that follows the good ones begins, and the LSN that would come next.
    pub(crate) end: u64,
    pub(crate) next: Lsn,
    /// Where the last good record ends: in a batch whose later ones are bad, that is beyond its beginning.
    pub(crate) reached: u64,
}

impl KeptSegment {
    /// Hands every record to `visit`, with the place of its attachment, up to the first that is bad: what recovery dropped
    /// may lie behind the last one. Memory is bounded by the segment's size. Blocks.
    pub(crate) fn records(
        &self,
        mut visit: impl FnMut(&RawRecord<'_>, LogPlace) -> Result<()>,
    ) -> Result<()> {
        walk(&self.load()?, &self.key, self.first, self.last, |_, record| {
            if let Some((record, offset)) = record {
                visit(record, LogPlace::new(self.number, offset + record.attachment_at as u64))?;
            }
            Ok(true)
        })?;
        Ok(())
    }

    /// The next reads come from the device, as far as the system allows. Blocks.
    pub(crate) fn drop_cache(&self) -> Result<()> {
        let (file, path) = self.pin.file();
        file.drop_cache().map_err(Error::io("drop the cached pages of", path))
    }

    /// Looks at the header and at every record. Blocks; memory is bounded by the segment's size.
    pub(crate) fn check(&self, store: &StoreId) -> Result<SegmentCheck> {
        let bytes = self.load()?;
        let header_good = HEADER_COPIES.iter().any(|copy| {
            let header = SegmentHeader::decode(bytes.get(*copy..).unwrap_or_default(), store);
            header.is_ok_and(|header| header.number == self.number && header.first == self.first)
        });
        let mut check = SegmentCheck { header_bad: !header_good, ..SegmentCheck::default() };
        let stop = walk(&bytes, &self.key, self.first, self.last, |_, record| {
            if let Some((record, offset)) = record {
                check.records += 1;
                check.reached = offset + record.attachment_at as u64 + u64::from(record.head.attachment_len);
                if !record.attachment_good {
                    check.attachments_bad.push((record.head.lsn, offset + record.attachment_at as u64));
                }
            }
            Ok(true)
        })?;
        (check.end, check.next) = (stop.offset, stop.expected);
        Ok(check)
    }

    /// Where what is written ends. Blocks.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when a record before that is missing or bad.
    pub(crate) fn written(&self, store: &StoreId) -> Result<u64> {
        let SegmentCheck { end, next, .. } = self.check(store)?;
        if next <= self.last {
            return Err(Error::Corrupt {
                place: format!("{} at offset {end}", self.pin.file().1.display()),
                why: format!("record {next} is missing or bad").into(),
            });
        }
        Ok(end)
    }

    fn load(&self) -> Result<Vec<u8>> {
        let (file, path) = self.pin.file();
        let mut bytes = vec![0; usize::try_from(self.size).unwrap_or(usize::MAX)];
        let read = file.read_at(&mut bytes, 0).map_err(Error::io("read", path))?;
        bytes.truncate(read);
        Ok(bytes)
    }
}
