//! A file being read.

use std::{
    fmt, io,
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use locus_core::{Blob, Checksum, Error, FileInfo, Hasher, Result};
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf, SeekFrom};

use super::read::{Opened, Place, Source};

/// How much is fetched at once, and held in memory by a reader.
pub(super) const CHUNK_BYTES: u64 = 1 << 20;

type Fetch = Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>;

/// A file being read, from a handle of its own: it stays readable when the file is completed meanwhile.
///
/// Read from the beginning to the end, the content is checked against its checksum before its last bytes are given out.
/// On a mismatch an [`io::Error`] of kind [`InvalidData`](io::ErrorKind::InvalidData) that holds
/// [`Error::ChecksumMismatch`] comes instead of them. What is skipped by a seek is not checked.
///
/// ```
/// # async fn sizes(pool: &locus_storage::StoragePool, tenant: &locus_core::TenantContext, key: &locus_core::FileKey)
/// #     -> Result<(), Box<dyn std::error::Error>> {
/// use tokio::io::AsyncReadExt;
///
/// let mut reader = pool.read(tenant, key).await?;
/// let mut content = Vec::new();
/// reader.read_to_end(&mut content).await?;
/// # Ok(())
/// # }
/// ```
pub struct FileReader {
    info: FileInfo,
    place: Place,
    blob: Option<Arc<dyn Blob>>,
    /// Where the next byte is read.
    position: u64,
    /// Bytes that were fetched, and where they begin.
    chunk: Bytes,
    chunk_offset: u64,
    fetching: Option<(u64, Fetch)>,
    /// Hashes what is on a volume, from the beginning up to `hashed`.
    hasher: Option<Box<Hasher>>,
    hashed: u64,
    /// The checksum that was found where another was expected.
    mismatch: Option<Checksum>,
}

impl fmt::Debug for FileReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileReader")
            .field("key", &self.info.key)
            .field("place", &format_args!("{}", self.place))
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl FileReader {
    pub(super) fn new(opened: Opened) -> Self {
        let mut reader = Self {
            info: opened.record.info,
            place: opened.place,
            blob: None,
            position: 0,
            chunk: Bytes::new(),
            chunk_offset: 0,
            fetching: None,
            hasher: None,
            hashed: 0,
            mismatch: None,
        };
        match opened.source {
            // Checked where it was read: not hashed again.
            Source::Memory(offset, bytes) => (reader.chunk_offset, reader.chunk) = (offset, bytes),
            Source::Blob(opened) => {
                (reader.blob, reader.hasher) = (Some(opened.blob), Some(Box::default()));
                reader.take_chunk(opened.head_offset, opened.head);
            }
        }
        reader
    }

    /// What is known about the file, as of its opening.
    #[must_use]
    pub const fn info(&self) -> &FileInfo {
        &self.info
    }

    /// Length of the content, in bytes.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.info.size
    }

    /// Whether the content is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.info.size == 0
    }

    /// The whole content in memory, checked, wherever the reader stood.
    ///
    /// # Errors
    /// [`Error::ChecksumMismatch`], [`Error::Corrupt`], [`Error::Io`].
    pub async fn bytes(mut self) -> Result<Bytes> {
        self.range(0..self.info.size).await
    }

    /// The bytes of a range within the content.
    pub(super) async fn range(&mut self, range: Range<u64>) -> Result<Bytes> {
        self.position = range.start;
        let mut whole = BytesMut::new();
        loop {
            let rest = std::future::poll_fn(|context| self.poll_rest(context)).await?;
            // Lengths were compared when the content was opened: never more than what is there.
            let wanted = usize::try_from(range.end - self.position).unwrap_or(usize::MAX);
            let taken = rest.slice(..rest.len().min(wanted));
            self.position += taken.len() as u64;
            match (taken.len() == wanted, whole.is_empty()) {
                (true, true) => return Ok(taken),
                (false, true) => whole.reserve(wanted),
                _ => {}
            }
            whole.extend_from_slice(&taken);
            if self.position == range.end {
                return Ok(whole.freeze());
            }
        }
    }

    /// The bytes at hand from the position on, fetched if need be; none at the end.
    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Result<Bytes>> {
        loop {
            if let Some(actual) = self.mismatch {
                let (place, expected) = (self.place.to_string().into(), self.info.checksum);
                return Poll::Ready(Err(Error::ChecksumMismatch { place, expected, actual }));
            }
            if self.position >= self.info.size {
                return Poll::Ready(Ok(Bytes::new()));
            }
            if let Some(skip) = self.position.checked_sub(self.chunk_offset)
                && skip < self.chunk.len() as u64
            {
                // The cast loses nothing: it is less than a length.
                return Poll::Ready(Ok(self.chunk.slice(skip as usize..)));
            }
            let (offset, chunk) = ready!(self.poll_fetch(context))?;
            if chunk.is_empty() {
                let why = format!("it ends at {offset} where {} bytes were stored", self.info.size).into();
                return Poll::Ready(Err(Error::Corrupt { place: format!("content {}", self.place), why }));
            }
            self.take_chunk(offset, chunk);
        }
    }

    fn poll_fetch(&mut self, context: &mut Context<'_>) -> Poll<Result<(u64, Bytes)>> {
        // What is being fetched for a place that was left by a seek is of no use.
        if self.fetching.as_ref().is_some_and(|(offset, _)| *offset != self.position) {
            self.fetching = None;
        }
        let Some(blob) = &self.blob else { return Poll::Ready(Ok((self.position, Bytes::new()))) };
        let (offset, fetch) = self.fetching.get_or_insert_with(|| {
            let (blob, offset) = (Arc::clone(blob), self.position);
            let len = CHUNK_BYTES.min(self.info.size - offset) as usize;
            (offset, Box::pin(async move { blob.read_at(offset, len).await }))
        });
        let offset = *offset;
        let chunk = ready!(fetch.as_mut().poll(context));
        self.fetching = None;
        Poll::Ready(chunk.map(|chunk| (offset, chunk)))
    }

    /// Keeps fetched bytes at hand, and hashes those that go on where hashing stopped.
    fn take_chunk(&mut self, offset: u64, chunk: Bytes) {
        if let Some(hasher) = &mut self.hasher
            && let Some(seen) = self.hashed.checked_sub(offset)
            && (seen < chunk.len() as u64 || self.info.size == 0)
        {
            hasher.update(&chunk[seen as usize..]);
            self.hashed = offset + chunk.len() as u64;
            let actual = (self.hashed >= self.info.size).then(|| hasher.finish());
            self.mismatch = actual.filter(|actual| *actual != self.info.checksum);
        }
        (self.chunk_offset, self.chunk) = (offset, chunk);
    }
}

impl AsyncRead for FileReader {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let reader = self.get_mut();
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut rest = ready!(reader.poll_rest(context)).map_err(into_io)?;
        let take = rest.len().min(into.remaining());
        into.put_slice(&rest[..take]);
        rest.advance(take);
        reader.position += take as u64;
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for FileReader {
    fn start_seek(self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        let reader = self.get_mut();
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => reader.info.size.checked_add_signed(by),
            SeekFrom::Current(by) => reader.position.checked_add_signed(by),
        };
        let before = "cannot seek to before the beginning of a file";
        reader.position = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, before))?;
        Ok(())
    }

    fn poll_complete(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Poll::Ready(Ok(self.position))
    }
}

/// An [`io::Error`] that holds the whole error.
fn into_io(error: Error) -> io::Error {
    let kind = match &error {
        Error::Io { source, .. } => source.kind(),
        Error::ChecksumMismatch { .. } | Error::Corrupt { .. } | Error::Tampered { .. } => {
            io::ErrorKind::InvalidData
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}
