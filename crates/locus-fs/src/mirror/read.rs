//! The way out: from any member whose copy is good, and another one when it is not.

use std::{io, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{Blob, BlobPath, BlobReader, Error, Result, StorageVolume};
use parking_lot::Mutex;

use crate::mirror::{
    core::Core,
    seal::{BLOCK_BYTES, FOOTER_BYTES, Seal, content_len, is_footer, sealed_len},
};

/// A copy whose seal is good.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub(crate) seal: Arc<Seal>,
    blob: Arc<dyn Blob>,
    /// Bytes of content that came along and are good, from the block in which the expected range begins.
    head_offset: u64,
    head: Bytes,
}

/// Why there is no good copy.
#[derive(Debug)]
pub(crate) enum NoCopy {
    /// The member says that it has none.
    Absent,
    Damaged,
    Failed(Error),
}

impl From<Error> for NoCopy {
    fn from(error: Error) -> Self {
        match &error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Self::Absent,
            // What cannot be read although the member answers is a damaged sector, or no file at all.
            Error::Io { source, .. }
                if source.raw_os_error() == Some(EIO) || source.kind() == io::ErrorKind::InvalidInput =>
            {
                Self::Damaged
            }
            _ => Self::Failed(error),
        }
    }
}

/// `EIO` of every Unix.
const EIO: i32 = 5;

/// Opens a member's copy and reads its seal, in one call when it is short.
pub(crate) async fn look(
    volume: &Arc<dyn StorageVolume>,
    at: &BlobPath,
    expected: Range<u64>,
) -> Result<Look, NoCopy> {
    let start = floor(expected.start);
    // As far as the seal, should the content end where the caller expects it to.
    let end = sealed_len(ceil(expected.end)).unwrap_or(u64::MAX);
    let opened = volume.open(at, start..end).await?;
    let seal = read_seal(&opened, at).await?;
    let length = seal.length;
    let mut head = opened.head.slice(..opened.head.len().min(to_usize(length.saturating_sub(start))));
    if start.saturating_add(head.len() as u64) < length {
        head.truncate(to_usize(floor(head.len() as u64))); // whole blocks alone can be believed
    }
    if !seal.holds(start / BLOCK_BYTES, &head) {
        return Err(NoCopy::Damaged);
    }
    Ok(Look { seal: Arc::new(seal), blob: opened.blob, head_offset: start, head })
}

/// Most bytes of sums that are read, and held in memory, on the word of the copy's length alone: those of a GiB.
const SUMS_BELIEVED_BYTES: u64 = 64 << 10;

/// The length of a damaged file may be anything, and its sums more than the memory.
async fn read_seal(opened: &BlobReader, at: &BlobPath) -> Result<Seal, NoCopy> {
    let length = content_len(opened.length).ok_or(NoCopy::Damaged)?;
    if opened.length - length > SUMS_BELIEVED_BYTES {
        let footer = read_exactly(opened, opened.length - FOOTER_BYTES as u64..opened.length).await?;
        if !is_footer(&footer, length) {
            return Err(NoCopy::Damaged);
        }
    }
    let tail = read_exactly(opened, length..opened.length).await?;
    Seal::decode(&tail, at, length).ok_or(NoCopy::Damaged)
}

/// A range of a copy, from what came along with the opening when it is there.
async fn read_exactly(opened: &BlobReader, range: Range<u64>) -> Result<Bytes, NoCopy> {
    let len = range.end - range.start;
    if let Some(skip) = range.start.checked_sub(opened.head_offset)
        && let Some(end) = skip.checked_add(len)
        && end <= opened.head.len() as u64
    {
        return Ok(opened.head.slice(to_usize(skip)..to_usize(end)));
    }
    let bytes = opened.blob.read_at(range.start, to_usize(len)).await?;
    if bytes.len() as u64 == len { Ok(bytes) } else { Err(NoCopy::Damaged) }
}

impl Look {
    /// Blocks of the content: `range` begins where a block does, and ends where one does or with the content.
    pub(crate) async fn blocks(&self, range: Range<u64>) -> Result<Bytes, NoCopy> {
        let len = to_usize(range.end - range.start);
        let bytes = self.blob.read_at(range.start, len).await?;
        if bytes.len() == len && self.seal.holds(range.start / BLOCK_BYTES, &bytes) {
            return Ok(bytes);
        }
        Err(NoCopy::Damaged)
    }
}

impl Core {
    pub(crate) async fn open_blob(
        self: &Arc<Self>,
        at: &BlobPath,
        expected: Range<u64>,
    ) -> Result<BlobReader> {
        self.may_be_used()?;
        self.may_address(at)?;
        let (member, look) = self.find(at, expected.clone(), &[]).await?;
        let length = look.seal.length;
        let skip = expected.start - look.head_offset;
        let end = expected.end.min(look.head_offset.saturating_add(look.head.len() as u64));
        let head = if end > expected.start {
            look.head.slice(to_usize(skip)..to_usize(end - look.head_offset))
        } else {
            Bytes::new()
        };
        let checksum_of = Arc::clone(&look.seal);
        let current = Mutex::new((member, Look { head: Bytes::new(), ..look }));
        let blob = MirrorBlob { core: Arc::clone(self), at: at.clone(), seal: checksum_of, current };
        Ok(BlobReader { length, head_offset: expected.start, head, blob: Arc::new(blob) })
    }

    /// Whether there is a good copy; the error says how absent it is.
    pub(crate) async fn find_any(&self, at: &BlobPath) -> Result<()> {
        self.find(at, 0..0, &[]).await.map(drop)
    }

    /// A good copy on a member that is none of `but`. Copies that are missing or damaged are repaired soon.
    async fn find(&self, at: &BlobPath, expected: Range<u64>, but: &[usize]) -> Result<(usize, Look)> {
        let mut search = Search::default();
        for (n, member) in self.members.iter().enumerate() {
            let (noted, is_whole) = {
                let ledger = self.ledger.lock();
                (ledger.at(n, at).is_some(), ledger.is_whole(n))
            };
            if but.contains(&n) {
                search.is_passed_over = true;
                continue;
            }
            // Also when it is noted: it may have been written since by those who are away, and unknown to those who are here.
            let Some(volume) = member.up() else {
                search.is_unknown = true;
                continue;
            };
            if noted {
                continue; // what lies there is known to be wrong
            }
            match look(&volume, at, expected.clone()).await {
                Ok(look) => {
                    if search.is_absent || search.is_damaged {
                        self.suspect(at);
                    }
                    return Ok((n, look));
                }
                Err(NoCopy::Absent) => {
                    search.is_absent = true;
                    search.is_believed |= !is_whole;
                }
                Err(NoCopy::Damaged) => search.is_damaged = true,
                Err(NoCopy::Failed(error)) => search.error = Some(error),
            }
        }
        Err(self.not_found(at, search))
    }

    /// Absent is what all members say, and all are here; damaged is what has no good copy on any member.
    fn not_found(&self, at: &BlobPath, search: Search) -> Error {
        let Search { is_unknown, is_absent: _, is_believed, is_damaged, is_passed_over, error } = search;
        let is_bad = is_damaged || is_passed_over;
        let is_unknown = is_unknown || error.is_some();
        match error {
            Some(error) if !is_damaged => error,
            _ if is_bad && is_unknown => {
                let why = format!("has no good copy of {at}, but perhaps on a member that does not answer");
                self.unavailable(why)
            }
            _ if is_bad => Error::Corrupt {
                place: format!("{at} on volume {}", self.id),
                why: "no copy of it is good".into(),
            },
            _ if is_unknown || !is_believed => {
                self.unavailable(format!("cannot tell whether {at} is absent"))
            }
            _ => Error::io("open", at.to_string())(io::ErrorKind::NotFound.into()),
        }
    }
}

#[derive(Debug, Default)]
struct Search {
    is_unknown: bool,
    is_absent: bool,
    is_believed: bool,
    is_damaged: bool,
    is_passed_over: bool,
    error: Option<Error>,
}

/// An open blob of a mirror. Its name may go meanwhile; the copies of other members can be turned to only as long as it is
/// there.
#[derive(Debug)]
struct MirrorBlob {
    core: Arc<Core>,
    at: BlobPath,
    seal: Arc<Seal>,
    current: Mutex<(usize, Look)>,
}

#[async_trait]
impl Blob for MirrorBlob {
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let length = self.seal.length;
        let end = offset.saturating_add(len as u64).min(length);
        if offset >= end {
            return Ok(Bytes::new());
        }
        let blocks = floor(offset)..ceil(end).min(length);
        let mut tried = Vec::new();
        loop {
            let (member, look) = self.current.lock().clone();
            let is_same = look.seal.checksum == self.seal.checksum;
            let failed = match look.blocks(blocks.clone()).await {
                Ok(bytes) if is_same => {
                    return Ok(bytes.slice(to_usize(offset - blocks.start)..to_usize(end - blocks.start)));
                }
                Ok(_) | Err(NoCopy::Damaged) => None,
                Err(NoCopy::Absent) => None,
                Err(NoCopy::Failed(error)) => Some(error),
            };
            tried.push(member);
            if failed.is_none() {
                self.core.suspect(&self.at);
            }
            match (self.core.find(&self.at, 0..0, &tried).await, failed) {
                (Ok(next), _) => *self.current.lock() = next,
                (Err(_), Some(error)) | (Err(error), None) => return Err(error),
            }
        }
    }
}

fn floor(offset: u64) -> u64 {
    offset - offset % BLOCK_BYTES
}

fn ceil(offset: u64) -> u64 {
    offset.checked_next_multiple_of(BLOCK_BYTES).unwrap_or(u64::MAX)
}

/// Lengths in memory; a longer one cannot be read anyway.
fn to_usize(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use locus_core::{Area, Extension, FileKey, StoragePath};

    use super::*;

    /// Zeros without end, as a file whose length is damaged has them.
    #[derive(Debug, Default)]
    struct Zeros {
        longest: AtomicUsize,
    }

    #[async_trait]
    impl Blob for Zeros {
        async fn read_at(&self, _: u64, len: usize) -> Result<Bytes> {
            self.longest.fetch_max(len, Relaxed);
            Ok(Bytes::from(vec![0; len.min(1 << 20)]))
        }
    }

    #[tokio::test]
    async fn the_sums_of_a_file_whose_length_is_damaged_are_not_read() {
        let at = BlobPath {
            area: Area::Live,
            owner: StoragePath::parse("acme").unwrap(),
            key: FileKey::from_bytes([1; 16]),
            extension: Extension::NONE,
        };
        for content in [1 << 20, 1 << 40, 1 << 62] {
            let zeros = Arc::new(Zeros::default());
            let length = sealed_len(content).unwrap();
            let opened = BlobReader { length, head_offset: 0, head: Bytes::new(), blob: zeros.clone() };
            let seal = read_seal(&opened, &at).await;
            assert!(matches!(seal, Err(NoCopy::Damaged)), "{seal:?}");
            assert!(zeros.longest.load(Relaxed) as u64 <= SUMS_BELIEVED_BYTES, "{content}");
        }
    }
}
