//! Content on its way in, and its checksum.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    pin::Pin,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};

/// The BLAKE3 hash of a whole content. Prints as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checksum([u8; 32]);

impl Checksum {
    /// The checksum of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The checksum with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Checksum({self})")
    }
}

/// Computes a [`Checksum`] piece by piece.
#[derive(Debug, Clone, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// A hasher that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The checksum of all pieces so far.
    #[must_use]
    pub fn finish(&self) -> Checksum {
        Checksum(*self.0.finalize().as_bytes())
    }
}

trait ReadSeek: AsyncRead + AsyncSeek + Send {}
impl<T: AsyncRead + AsyncSeek + Send> ReadSeek for T {}

/// Content on its way in: bytes in memory, a file, or a reader of unknown length.
///
/// A source that can be rewound (all but [`Content::reader`]) is written to another volume when the first one fails.
/// A file or a seekable reader is stored from its present position to its end.
///
/// ```
/// # use locus_core::Content;
/// let from_text: Content = "hello".into();
/// let from_bytes: Content = vec![1, 2, 3].into();
/// let from_reader = Content::reader(&b"any AsyncRead"[..]);
/// ```
#[derive(Debug)]
pub struct Content {
    source: Source,
}

enum Source {
    Bytes(Bytes),
    File { file: File, start: Option<u64> },
    Reader { reader: Pin<Box<dyn AsyncRead + Send>>, touched: bool },
    Seekable { reader: Pin<Box<dyn ReadSeek>>, start: Option<u64> },
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Source::File { file, .. } => write!(f, "{file:?}"),
            Source::Reader { .. } => f.write_str("a reader"),
            Source::Seekable { .. } => f.write_str("a seekable reader"),
        }
    }
}

impl Content {
    /// Content from a reader of unknown length. It cannot be rewound: when a volume fails half-way, so does the write.
    pub fn reader(reader: impl AsyncRead + Send + 'static) -> Self {
        Self { source: Source::Reader { reader: Box::pin(reader), touched: false } }
    }

    /// Content from a reader that can seek, from its present position to its end.
    pub fn seekable(reader: impl AsyncRead + AsyncSeek + Send + 'static) -> Self {
        Self { source: Source::Seekable { reader: Box::pin(reader), start: None } }
    }

    /// The bytes, when they are in memory.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.source {
            Source::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The length as far as it is known before reading: exact for bytes, what the metadata says for a file, `None`
    /// for readers. A source may turn out longer or shorter.
    #[must_use]
    pub fn size_hint(&self) -> Option<u64> {
        match &self.source {
            Source::Bytes(bytes) => Some(bytes.len() as u64),
            Source::File { file, start } => {
                let start = start.map_or_else(|| (&*file).stream_position().ok(), Some)?;
                Some(file.metadata().ok()?.len().saturating_sub(start))
            }
            Source::Reader { .. } | Source::Seekable { .. } => None,
        }
    }

    /// Whether reading a chunk blocks the thread, so that it should happen where blocking is allowed.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        matches!(self.source, Source::File { .. })
    }

    /// Notes where a file or seekable source stands, so that [`rewind`](Self::rewind) can return there. Idempotent.
    ///
    /// # Errors
    /// What the source says.
    pub async fn mark(&mut self) -> io::Result<()> {
        match &mut self.source {
            Source::File { file, start } if start.is_none() => *start = Some(file.stream_position()?),
            Source::Seekable { reader, start } if start.is_none() => {
                *start = Some(reader.stream_position().await?);
            }
            _ => {}
        }
        Ok(())
    }

    /// Goes back to where the source stood at [`mark`](Self::mark). `false` when it cannot: some of a plain reader was
    /// read.
    ///
    /// # Errors
    /// What the source says.
    pub async fn rewind(&mut self) -> io::Result<bool> {
        match &mut self.source {
            Source::Bytes(_) => {}
            Source::File { file, start } => {
                if let Some(start) = *start {
                    file.seek(SeekFrom::Start(start))?;
                }
            }
            Source::Reader { touched, .. } => return Ok(!*touched),
            Source::Seekable { reader, start } => {
                if let Some(start) = *start {
                    reader.seek(SeekFrom::Start(start)).await?;
                }
            }
        }
        Ok(true)
    }

    /// Reads into `chunk`, after what is in it, until it holds `max` bytes or the source ends. For content in memory
    /// use [`as_bytes`](Self::as_bytes) instead: here it gives nothing.
    ///
    /// # Errors
    /// What the source says.
    ///
    /// # Cancel safety
    /// Bytes that were read are in `chunk`; the source stands behind them.
    pub async fn read_chunk(&mut self, chunk: &mut Vec<u8>, max: usize) -> io::Result<()> {
        match &mut self.source {
            Source::Bytes(_) => Ok(()),
            Source::File { .. } => self.read_chunk_blocking(chunk, max),
            Source::Reader { reader, touched } => {
                *touched = true;
                fill(reader, chunk, max).await
            }
            Source::Seekable { reader, .. } => fill(reader, chunk, max).await,
        }
    }

    /// [`read_chunk`](Self::read_chunk) for sources that [block](Self::is_blocking); for others it gives nothing.
    ///
    /// # Errors
    /// What the source says.
    pub fn read_chunk_blocking(&mut self, chunk: &mut Vec<u8>, max: usize) -> io::Result<()> {
        if let Source::File { file, .. } = &mut self.source {
            let room = max.saturating_sub(chunk.len()) as u64;
            file.by_ref().take(room).read_to_end(chunk)?;
        }
        Ok(())
    }
}

async fn fill<R: AsyncRead + ?Sized>(
    reader: &mut Pin<Box<R>>,
    chunk: &mut Vec<u8>,
    max: usize,
) -> io::Result<()> {
    chunk.reserve(max.saturating_sub(chunk.len()));
    while chunk.len() < max {
        let room = (max - chunk.len()) as u64;
        if AsyncReadExt::take(&mut *reader, room).read_buf(chunk).await? == 0 {
            break;
        }
    }
    Ok(())
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self { source: Source::Bytes(bytes) }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        Bytes::from(text).into()
    }
}

/// Copies.
impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        Bytes::copy_from_slice(bytes).into()
    }
}

/// Copies.
impl<const N: usize> From<&[u8; N]> for Content {
    fn from(bytes: &[u8; N]) -> Self {
        Bytes::copy_from_slice(bytes).into()
    }
}

/// Copies.
impl From<&str> for Content {
    fn from(text: &str) -> Self {
        Bytes::copy_from_slice(text.as_bytes()).into()
    }
}

impl From<File> for Content {
    fn from(file: File) -> Self {
        Self { source: Source::File { file, start: None } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn b7_a_seekable_source_is_read_from_its_position_and_rewound_to_it() {
        let mut cursor = io::Cursor::new(b"0123456789".to_vec());
        cursor.set_position(4);
        let mut content = Content::seekable(cursor);
        content.mark().await.unwrap();
        for _ in 0..2 {
            let mut chunk = Vec::new();
            content.read_chunk(&mut chunk, 100).await.unwrap();
            assert_eq!(chunk, b"456789");
            assert!(content.rewind().await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_plain_reader_that_was_read_cannot_be_rewound() {
        let mut content = Content::reader(&b"abc"[..]);
        assert!(content.rewind().await.unwrap());
        let mut chunk = Vec::new();
        content.read_chunk(&mut chunk, 2).await.unwrap();
        assert_eq!(chunk, b"ab");
        assert!(!content.rewind().await.unwrap());
    }

    #[test]
    fn the_checksum_of_pieces_is_that_of_the_whole() {
        let mut hasher = Hasher::new();
        hasher.update(b"ab");
        hasher.update(b"c");
        assert_eq!(hasher.finish(), Checksum::of(b"abc"));
        assert_eq!(hasher.finish().to_string().len(), 64);
    }
}
