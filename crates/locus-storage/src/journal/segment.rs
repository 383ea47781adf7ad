//! Segment files: pre-written, so that a sync touches no file-system metadata, and reused.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
};

use locus_core::{Error, Lsn, Result, Site};
use locus_fs::{Disk, DiskFile, sync_data, sync_dir};

use super::format::{HEADER_BYTES, SegmentKey};
use crate::sync::AtomicU64;

/// Smallest segment.
pub(crate) const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// What the name of a segment file ends with while it is made.
pub(crate) const UNFINISHED: &str = "new";

/// Bytes written at a time while a segment is made. A page cache with large folios keeps what one call wrote as one folio, and
/// ext4 then looks at all blocks of a folio whenever a few bytes of it are written: after writes of 1 MiB, each small record
/// costs three times as much.
const PREWRITE_BYTES: usize = 64 << 10;

/// A file that is ready to become a segment: its bytes are written, and are not part of the log.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) size: u64,
}

impl SegmentFile {
    /// What batches may take of it.
    pub(crate) fn usable(&self) -> u64 {
        self.size.saturating_sub(HEADER_BYTES)
    }
}

/// A segment that holds a stretch of the log.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: SegmentFile,
    pub(crate) number: u64,
    pub(crate) key: SegmentKey,
    /// LSN of the first record.
    pub(crate) first: Lsn,
    /// LSN of the last record so far; of the last one before it when there is none.
    pub(crate) last: Lsn,
    /// Whether `last` is that record. Of a segment that lies before all that was replayed nobody knows it exactly: then it
    /// is a bound.
    pub(crate) is_last_known: bool,
}

/// What readers and the counts of living bytes need of a segment. Holding it keeps the segment from being reused.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    /// Bytes of attachments that somebody still needs.
    pub(crate) live: AtomicU64,
    /// One more than the bytes that lived in it when it was found that none of them can be moved.
    pub(crate) passed: AtomicU64,
    /// The last record that made some of them needless: before it is durable, the bytes stay.
    pub(crate) released_at: AtomicU64,
}

impl Shared {
    pub(crate) fn new(file: &SegmentFile, live: u64) -> Arc<Self> {
        Arc::new(Self {
            file: Arc::clone(&file.file),
            path: file.path.clone(),
            size: file.size,
            live: AtomicU64::new(live),
            passed: AtomicU64::new(0),
            released_at: AtomicU64::new(0),
        })
    }

    pub(crate) fn live(&self) -> u64 {
        self.live.load(Ordering::Acquire)
    }
}

/// The path of the file with this index. The index is the file's for life; numbers of segments are inside.
pub(crate) fn segment_path(dir: &Path, index: u64) -> PathBuf {
    dir.join(format!("segment-{index:06}"))
}

/// The index in a file's name, when it is a segment file's.
pub(crate) fn segment_index(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?;
    (digits.len() >= 6 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// The path of a file while it is made: what a killed process left half-made is told by its name.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension(UNFINISHED)
}

/// Makes a segment file of `size` bytes: every byte written, content and name durable.
///
/// # Errors
/// On any error nothing is left behind, as far as the disk lets it be removed.
pub(crate) fn make_segment_file(disk: &dyn Disk, dir: &Path, index: u64, size: u64) -> Result<SegmentFile> {
    let path = segment_path(dir, index);
    let unfinished = unfinished(&path);
    let made = (|| {
        let file = disk.create_new(&unfinished)?;
        let zeros = vec![0; PREWRITE_BYTES.min(size as usize)];
        let mut at = 0;
        while at < size {
            let part = (size - at).min(zeros.len() as u64);
            file.write_at(&zeros[..part as usize], at)?;
            at += part;
        }
        sync_data(&*file, Site::SegmentContent)?;
        disk.rename_new(&unfinished, &path)?;
        sync_dir(disk, dir, Site::SegmentName)?;
        Ok(file)
    })();
    made.map(|file| SegmentFile { path: path.clone(), file, size }).map_err(|source: std::io::Error| {
        if source.kind() != std::io::ErrorKind::AlreadyExists {
            // Best effort: what stays is removed at the next open, or found blank and used.
            let _ = disk.remove_file(&unfinished);
            let _ = disk.remove_file(&path);
        }
        Error::Io { op: "make journal segment", path, source }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_read_from_a_name_and_from_no_other() {
        let path = segment_path(Path::new("j"), 12);
        assert_eq!(segment_index(path.file_name().unwrap().to_str().unwrap()), Some(12));
        for name in ["segment-", "segment-12", "segment-00001x", "checkpoint-000001", "segment-+00001"] {
            assert_eq!(segment_index(name), None, "{name}");
        }
    }
}
