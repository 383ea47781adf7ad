//! Reading what can be read of a damaged log: every good record, also behind damage, whatever is missing before it.
//!
//! A record's head is keyed by its segment's salt, so that a record that verifies was written there, in this life of the
//! segment; where it lies is then no matter. So the segment is searched byte by byte wherever nothing good is expected.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Error, Lsn, Result, StoreId};
use locus_fs::{Disk, DiskFile};

use super::{
    format::{
        ALIGN, BATCH_HEAD_BYTES, BatchHead, HEADER_BYTES, RawRecord, SegmentHeader, decode_record,
        record_extent,
    },
    place::LogPlace,
    scan::header_in,
    segment::segment_index,
};

/// A stretch of the log that is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lost {
    /// Segment and file, and where in it the first of the records should be; `None` when the segment itself is missing.
    pub(crate) place: Option<(u64, PathBuf, u64)>,
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
}

/// A segment whose header can be read.
#[derive(Debug)]
struct Remains {
    header: SegmentHeader,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    size: u64,
}

/// A damaged log.
#[derive(Debug)]
pub(crate) struct Wreck {
    /// By number.
    segments: Vec<Remains>,
    /// Files that may have been segments, whose headers cannot be read.
    pub(crate) headless: Vec<PathBuf>,
    /// The highest LSN that anything says was durable.
    pub(crate) durable: Lsn,
    /// The highest LSN of a good record.
    pub(crate) highest: Lsn,
    pub(crate) records: u64,
}

impl Wreck {
    /// Opens all segments. Changes nothing.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path, store: &StoreId) -> Result<Self> {
        let mut wreck = Self {
            segments: Vec::new(),
            headless: Vec::new(),
            durable: Lsn::ZERO,
            highest: Lsn::ZERO,
            records: 0,
        };
        for entry in disk.read_dir(dir).map_err(Error::io("list", dir))? {
            let entry = entry.map_err(Error::io("list", dir))?;
            if entry.name.to_str().and_then(segment_index).is_none() {
                continue;
            }
            let path = dir.join(&entry.name);
            let file = disk.open(&path, false).map_err(Error::io("open", &path))?;
            let size = file.len().map_err(Error::io("measure", &path))?;
            let area = load(&*file, HEADER_BYTES.min(size));
            let Some(header) = header_in(&area, store, &path)? else {
                if area.iter().any(|byte| *byte != 0) {
                    wreck.headless.push(path);
                }
                continue;
            };
            wreck.durable = wreck.durable.max(header.durable);
            wreck.segments.push(Remains { header, path, file, size });
        }
        wreck.headless.sort();
        wreck.segments.sort_by_key(|segment| segment.header.number);
        Ok(wreck)
    }

    /// The highest number of a segment.
    pub(crate) fn last_number(&self) -> u64 {
        self.segments.last().map_or(0, |segment| segment.header.number)
    }

    /// Bytes of all segments.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Hands every good record from `begin` on to `visit`, in the order of their LSNs, with the place of its attachment.
    /// Says what is lost between them.
    ///
    /// # Errors
    /// What `visit` says.
    pub(crate) fn each(
        &mut self,
        begin: Lsn,
        mut visit: impl FnMut(&RawRecord<'_>, LogPlace) -> Result<()>,
    ) -> Result<Vec<Lost>> {
        let mut lost = Vec::new();
        let mut tail = None;
        for at in 0..self.segments.len() {
            let segment = &self.segments[at];
            let next = self.segments.get(at + 1).map(|next| next.header);
            let before = at.checked_sub(1).map(|before| self.segments[before].header.number);
            // What no segment that is here leads to was in one that is not.
            if segment.header.predecessor != 0 && before != Some(segment.header.predecessor) {
                let first = tail.map_or(begin, |tail: (u64, PathBuf, u64, Lsn)| tail.3);
                lost.push(Lost { place: None, first, last: segment.header.predecessor_end });
            }
            let follows = next.filter(|next| next.predecessor == segment.header.number);
            let limit = match (follows, next) {
                (Some(next), _) => next.predecessor_end,
                (None, Some(next)) => Lsn(next.first.0.saturating_sub(1)),
                (None, None) => Lsn::MAX,
            };
            let bytes = load(&*segment.file, segment.size);
            let key = segment.header.key();
            let (number, mut expected, mut end) = (segment.header.number, segment.header.first, HEADER_BYTES);
            let mut offset = HEADER_BYTES;
            while let Some(rest) = bytes.get(offset as usize..).filter(|rest| !rest.is_empty()) {
                if offset.is_multiple_of(ALIGN) {
                    if let Some(batch) = BatchHead::decode(rest, &key, offset) {
                        self.durable = self.durable.max(batch.durable);
                        offset += BATCH_HEAD_BYTES as u64;
                        continue;
                    }
                    let block = &rest[..rest.len().min(ALIGN as usize)];
                    if block.iter().all(|byte| *byte == 0) {
                        offset += ALIGN;
                        continue;
                    }
                }
                let Some((lsn, length)) = record_extent(rest, &key, expected, limit) else {
                    offset += 1;
                    continue;
                };
                if let Some((record, _)) = decode_record(rest, &key) {
                    if lsn > expected {
                        let place = Some((number, segment.path.clone(), end));
                        lost.push(Lost { place, first: expected, last: Lsn(lsn.0 - 1) });
                    }
                    expected = lsn.next();
                    end = offset + length;
                    self.highest = self.highest.max(lsn);
                    if lsn >= begin {
                        self.records += 1;
                        visit(&record, LogPlace::new(number, offset + record.attachment_at as u64))?;
                    }
                }
                // Where only the head is good, the next record is known to lie behind this one.
                offset += length;
            }
            tail = Some((number, segment.path.clone(), end, expected));
            if let Some(next) = follows
                && expected <= next.predecessor_end
            {
                let place = Some((number, segment.path.clone(), end));
                lost.push(Lost { place, first: expected, last: next.predecessor_end });
            }
        }
        match tail {
            Some((number, path, end, expected)) if expected <= self.durable => {
                lost.push(Lost { place: Some((number, path, end)), first: expected, last: self.durable });
            }
            None if self.durable >= begin => {
                lost.push(Lost { place: None, first: begin, last: self.durable });
            }
            _ => {}
        }
        lost.retain(|lost| lost.last >= begin && lost.first <= lost.last);
        lost.iter_mut().for_each(|lost| lost.first = lost.first.max(begin));
        Ok(lost)
    }

    /// The bytes at a place; `None` when they are not there, or cannot be read.
    pub(crate) fn bytes_at(&self, place: LogPlace, size: u64) -> Option<Vec<u8>> {
        let segment = self.segments.iter().find(|segment| segment.header.number == place.segment())?;
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        let read = segment.file.read_at(&mut bytes, place.offset()).ok()?;
        (read == bytes.len()).then_some(bytes)
    }
}

/// The first `size` bytes of a file; zeros where the disk gives nothing.
fn load(file: &dyn DiskFile, size: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
    if file.read_at(&mut bytes, 0).is_ok() {
        return bytes;
    }
    for (at, part) in (0..).step_by(ALIGN as usize).zip(bytes.chunks_mut(ALIGN as usize)) {
        if file.read_at(part, at).is_err() {
            part.fill(0);
        }
    }
    bytes
}

/// The store whose segments lie in `dir`, as most of their headers say it; `None` when none can be read.
pub(crate) fn store_of(disk: &dyn Disk, dir: &Path) -> Result<Option<StoreId>> {
    let mut seen: Vec<(StoreId, u64)> = Vec::new();
    for entry in disk.read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        if entry.name.to_str().and_then(segment_index).is_none() {
            continue;
        }
        let Ok(file) = disk.open(&dir.join(&entry.name), false) else { continue };
        let mut area = vec![0; HEADER_BYTES as usize];
        if file.read_at(&mut area, 0).is_err() {
            continue;
        }
        let Some(store) = SegmentHeader::store_in(&area) else { continue };
        match seen.iter_mut().find(|(id, _)| *id == store) {
            Some((_, count)) => *count += 1,
            None => seen.push((store, 1)),
        }
    }
    Ok(seen.into_iter().max_by_key(|(_, count)| *count).map(|(store, _)| store))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            fixture::{MIB, journal, land},
            segment::make_segment_file,
        },
        *,
    };

    #[test]
    fn a_log_that_goes_on_behind_a_wreck_knows_its_last_number_and_all_that_it_could_hold() {
        let (disk, journal) = journal(64 * MIB);
        while journal.kept_numbers().len() < 4 {
            land(&journal, 200 << 10);
        }
        let wreck = Wreck::read(&*disk, &journal.config.dir, &journal.config.store).unwrap();
        assert_eq!((wreck.last_number(), wreck.bytes()), (4, journal.kept_bytes()));
        assert_eq!(wreck.bytes(), 4 * MIB, "files that are ready hold nothing of it");
    }

    #[test]
    fn a_directory_belongs_to_the_store_that_most_of_its_segments_name() {
        let (disk, journal) = journal(64 * MIB);
        let dir = journal.config.dir.clone();
        let ours = journal.config.store;
        while journal.kept_numbers().len() < 4 {
            land(&journal, 200 << 10);
        }
        assert_eq!(store_of(&*disk, &dir).unwrap(), Some(ours));
        // Somebody copied segments of another store here.
        for index in 100..103 {
            let header = SegmentHeader {
                store: StoreId::from_bytes([9; 16]),
                number: index,
                salt: [9; 16],
                predecessor: 0,
                predecessor_end: Lsn(0),
                first: Lsn(1),
                durable: Lsn(0),
            };
            let file = make_segment_file(&*disk, &dir, index, MIB).unwrap().file;
            file.write_at(&header.encode_area(), 0).unwrap();
        }
        assert_eq!(store_of(&*disk, &dir).unwrap(), Some(ours));
    }
}
