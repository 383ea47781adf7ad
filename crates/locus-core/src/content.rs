//! Content on its way in, and its checksum.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    pin::Pin,
    sync::Arc,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt};

use crate::{SealContent, SealKeyId, SealedFile, Sealer};

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
    File { file: File, start: Option<u64>, check: Option<Check> },
    Reader(Plain),
    Seekable { reader: Pin<Box<dyn ReadSeek>>, start: Option<u64>, size: Option<u64> },
    Sealed(Box<Sealing>),
}

/// A content that is sealed while it is read.
struct Sealing {
    plain: Content,
    sealer: Arc<dyn Sealer>,
    file: SealedFile,
    /// Begun with the first byte, and anew when it is read again: what was sealed once is never sealed alike.
    begun: Option<Begun>,
}

struct Begun {
    seal: Box<dyn SealContent>,
    /// Plaintext that was read and not sealed: a piece is only known to be the last when nothing comes behind it.
    ahead: Vec<u8>,
    /// Sealed bytes that were not given out.
    left: Bytes,
    hasher: Box<Hasher>,
    size: u64,
    ended: bool,
}

impl Begun {
    fn new(seal: Box<dyn SealContent>) -> Self {
        let left = seal.head().into();
        Self { seal, ahead: Vec::new(), left, hasher: Box::default(), size: 0, ended: false }
    }

    /// Gives out what is sealed, until `chunk` holds `max` bytes. Whether more is to be sealed for it.
    fn give(&mut self, chunk: &mut Vec<u8>, max: usize) -> bool {
        let room = max.saturating_sub(chunk.len());
        chunk.extend_from_slice(&self.left.split_to(self.left.len().min(room)));
        chunk.len() < max && !self.ended
    }

    /// How much plaintext is to be read ahead.
    fn wanted(&self) -> usize {
        self.seal.piece_bytes().saturating_add(1)
    }

    /// Seals the next piece of what was read ahead.
    fn seal(&mut self) {
        self.ended = self.ahead.len() < self.wanted();
        let piece = &self.ahead[..self.ahead.len().min(self.seal.piece_bytes())];
        let mut sealed = Vec::with_capacity(piece.len().saturating_add(64));
        self.seal.seal(piece, self.ended, &mut sealed);
        self.hasher.update(piece);
        let piece = piece.len();
        self.size = self.size.saturating_add(piece as u64);
        self.ahead.drain(..piece);
        self.left = sealed.into();
    }
}

impl Sealing {
    fn begun(&mut self) -> io::Result<&mut Begun> {
        let begun = match self.begun.take() {
            Some(begun) => begun,
            None => {
                let seal = self.sealer.seal(&self.file, self.sealer.key());
                Begun::new(seal.map_err(io::Error::other)?)
            }
        };
        Ok(self.begun.insert(begun))
    }

    async fn read_chunk(&mut self, chunk: &mut Vec<u8>, max: usize) -> io::Result<()> {
        while self.begun()?.give(chunk, max) {
            let Self { plain, begun: Some(begun), .. } = self else { break };
            let wanted = begun.wanted();
            Box::pin(plain.read_chunk(&mut begun.ahead, wanted)).await?;
            begun.seal();
        }
        Ok(())
    }

    fn read_chunk_blocking(&mut self, chunk: &mut Vec<u8>, max: usize) -> io::Result<()> {
        while self.begun()?.give(chunk, max) {
            let Self { plain, begun: Some(begun), .. } = self else { break };
            let wanted = begun.wanted();
            plain.read_chunk_blocking(&mut begun.ahead, wanted)?;
            begun.seal();
        }
        Ok(())
    }
}

/// What is known of a content once it was sealed as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedContent {
    /// The key that it is sealed with.
    pub key: SealKeyId,
    /// Length of the plaintext, in bytes.
    pub size: u64,
    /// BLAKE3 of the plaintext.
    pub checksum: Checksum,
}

/// Says whether a file is still what it was.
type Check = Box<dyn FnMut(&File) -> io::Result<()> + Send>;

/// A reader that cannot go back, but for what was read ahead of it.
struct Plain {
    reader: Pin<Box<dyn AsyncRead + Send>>,
    /// Bytes that were read ahead and come first, and how many of them were given out.
    ahead: Vec<u8>,
    given: usize,
    /// Bytes were given out that are not at hand any more.
    touched: bool,
}

impl Plain {
    async fn read_chunk(&mut self, chunk: &mut Vec<u8>, max: usize) -> io::Result<()> {
        let room = max.saturating_sub(chunk.len());
        let rest = &self.ahead[self.given..];
        let rest = &rest[..rest.len().min(room)];
        chunk.extend_from_slice(rest);
        self.given += rest.len();
        if chunk.len() >= max {
            return Ok(());
        }
        self.touched = true;
        (self.ahead, self.given) = (Vec::new(), 0); // no way back, so no need to keep it
        fill(&mut self.reader, chunk, max).await
    }

    /// What comes next, read ahead as far as `max` bytes and one more. Dropping the future loses nothing.
    async fn peek(&mut self, max: usize) -> io::Result<&[u8]> {
        let until = self.given.saturating_add(max).saturating_add(1);
        fill(&mut self.reader, &mut self.ahead, until).await?;
        Ok(&self.ahead[self.given..])
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Bytes(bytes) => write!(f, "{} bytes", bytes.len()),
            Source::File { file, .. } => write!(f, "{file:?}"),
            Source::Reader(_) => f.write_str("a reader"),
            Source::Seekable { .. } => f.write_str("a seekable reader"),
            Source::Sealed(sealing) => write!(f, "{:?}, sealed", sealing.plain.source),
        }
    }
}

impl Content {
    /// Content from a reader of unknown length. It cannot be rewound: when a volume fails half-way, so does the write.
    pub fn reader(reader: impl AsyncRead + Send + 'static) -> Self {
        let reader = Box::pin(reader);
        Self { source: Source::Reader(Plain { reader, ahead: Vec::new(), given: 0, touched: false }) }
    }

    /// Content from a reader that can seek, from its present position to its end.
    pub fn seekable(reader: impl AsyncRead + AsyncSeek + Send + 'static) -> Self {
        Self { source: Source::Seekable { reader: Box::pin(reader), start: None, size: None } }
    }

    /// As [`seekable`](Self::seekable), of a reader that says how many bytes it will give from its present position, at its best
    /// knowledge.
    pub fn seekable_of(reader: impl AsyncRead + AsyncSeek + Send + 'static, bytes: u64) -> Self {
        Self { source: Source::Seekable { reader: Box::pin(reader), start: None, size: Some(bytes) } }
    }

    /// Content from a file that must not change while it is read: `check` is asked after each piece, the last one too,
    /// and what it refuses is no content. It may block.
    pub fn checked(file: File, check: impl FnMut(&File) -> io::Result<()> + Send + 'static) -> Self {
        Self { source: Source::File { file, start: None, check: Some(Box::new(check)) } }
    }

    /// The same content, sealed for this file. It is read in chunks, and sealed as it is read: anew after a
    /// [`rewind`](Self::rewind), because a source may have changed.
    #[must_use]
    pub fn sealed(self, sealer: Arc<dyn Sealer>, file: SealedFile) -> Self {
        let plain = match self.source {
            // Bytes are not read in chunks.
            Source::Bytes(bytes) => {
                let size = bytes.len() as u64;
                Self::seekable_of(io::Cursor::new(bytes), size)
            }
            source => Self { source },
        };
        Self { source: Source::Sealed(Box::new(Sealing { plain, sealer, file, begun: None })) }
    }

    /// What it was sealed as, once it was read to its end. `None` for what is not [`sealed`](Self::sealed).
    #[must_use]
    pub fn sealed_as(&self) -> Option<SealedContent> {
        let Source::Sealed(sealing) = &self.source else { return None };
        let begun = sealing.begun.as_ref().filter(|begun| begun.ended && begun.left.is_empty())?;
        Some(SealedContent { key: begun.seal.key(), size: begun.size, checksum: begun.hasher.finish() })
    }

    /// The bytes, when they are in memory.
    #[must_use]
    pub fn as_bytes(&self) -> Option<&Bytes> {
        match &self.source {
            Source::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The length as far as it is known before reading: exact for bytes, what the metadata says for a file, what was
    /// [told](Self::seekable_of) of a reader, `None` for other readers. A source may turn out longer or shorter.
    #[must_use]
    pub fn size_hint(&self) -> Option<u64> {
        match &self.source {
            Source::Bytes(bytes) => Some(bytes.len() as u64),
            Source::File { file, start, .. } => {
                let start = start.map_or_else(|| (&*file).stream_position().ok(), Some)?;
                Some(file.metadata().ok()?.len().saturating_sub(start))
            }
            Source::Seekable { size, .. } => *size,
            Source::Sealed(sealing) => {
                sealing.plain.size_hint().map(|plain| sealing.sealer.sealed_len(plain))
            }
            Source::Reader(_) => None,
        }
    }

    /// Whether reading a chunk blocks the thread, so that it should happen where blocking is allowed.
    #[must_use]
    pub fn is_blocking(&self) -> bool {
        match &self.source {
            Source::File { .. } => true,
            Source::Sealed(sealing) => sealing.plain.is_blocking(),
            _ => false,
        }
    }

    /// Notes where a file or seekable source stands, so that [`rewind`](Self::rewind) can return there. Idempotent.
    ///
    /// # Errors
    /// What the source says.
    pub async fn mark(&mut self) -> io::Result<()> {
        match &mut self.source {
            Source::File { file, start, .. } if start.is_none() => *start = Some(file.stream_position()?),
            Source::Seekable { reader, start, .. } if start.is_none() => {
                *start = Some(reader.stream_position().await?);
            }
            Source::Sealed(sealing) => Box::pin(sealing.plain.mark()).await?,
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
            Source::File { file, start, .. } => {
                if let Some(start) = *start {
                    file.seek(SeekFrom::Start(start))?;
                }
            }
            Source::Reader(plain) if plain.touched => return Ok(false),
            Source::Reader(plain) => plain.given = 0,
            Source::Seekable { reader, start, .. } => {
                if let Some(start) = *start {
                    reader.seek(SeekFrom::Start(start)).await?;
                }
            }
            Source::Sealed(sealing) => {
                sealing.begun = None;
                return Box::pin(sealing.plain.rewind()).await;
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
            Source::Reader(plain) => plain.read_chunk(chunk, max).await,
            Source::Seekable { reader, .. } => fill(reader, chunk, max).await,
            Source::Sealed(sealing) if sealing.plain.is_blocking() => sealing.read_chunk_blocking(chunk, max),
            Source::Sealed(sealing) => sealing.read_chunk(chunk, max).await,
        }
    }

    /// [`read_chunk`](Self::read_chunk) for sources that [block](Self::is_blocking); for others it gives nothing.
    ///
    /// # Errors
    /// What the source says.
    pub fn read_chunk_blocking(&mut self, chunk: &mut Vec<u8>, max: usize) -> io::Result<()> {
        let (file, check) = match &mut self.source {
            Source::File { file, check, .. } => (file, check),
            Source::Sealed(sealing) if sealing.plain.is_blocking() => {
                return sealing.read_chunk_blocking(chunk, max);
            }
            _ => return Ok(()),
        };
        let room = max.saturating_sub(chunk.len()) as u64;
        file.by_ref().take(room).read_to_end(chunk)?;
        check.as_mut().map_or(Ok(()), |check| check(file))
    }

    /// The whole content in memory, from where it stands, when it ends within `max` bytes. `None` when it is longer (or
    /// [`sealed`](Self::sealed)): then it stands where it stood, and what was read of a plain reader, at most `max + 1` bytes, is kept in memory and comes
    /// first when it is read again.
    ///
    /// # Errors
    /// What the source says.
    ///
    /// # Cancel safety
    /// When the future is dropped, a plain reader stands where it stood, and a seekable one anywhere until it is rewound.
    pub async fn take_short(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        self.mark().await?;
        match &mut self.source {
            Source::Sealed(_) => Ok(None),
            Source::Bytes(bytes) => Ok((bytes.len() <= max).then(|| bytes.clone())),
            Source::File { .. } => self.take_short_blocking(max),
            Source::Reader(plain) => {
                let head = plain.peek(max).await?;
                let short = (head.len() <= max).then(|| Bytes::copy_from_slice(head));
                if short.is_some() {
                    plain.given = plain.ahead.len();
                }
                Ok(short)
            }
            Source::Seekable { reader, .. } => {
                let stood = reader.stream_position().await?;
                let mut head = Vec::new();
                fill(reader, &mut head, max.saturating_add(1)).await?;
                if head.len() <= max {
                    return Ok(Some(exact(head)));
                }
                reader.seek(SeekFrom::Start(stood)).await?;
                Ok(None)
            }
        }
    }

    /// [`take_short`](Self::take_short) for sources that [block](Self::is_blocking); for others it gives nothing.
    ///
    /// # Errors
    /// What the source says.
    pub fn take_short_blocking(&mut self, max: usize) -> io::Result<Option<Bytes>> {
        let Source::File { file, start, check } = &mut self.source else { return Ok(None) };
        let stood = file.stream_position()?;
        start.get_or_insert(stood);
        let mut head = Vec::new();
        file.by_ref().take((max as u64).saturating_add(1)).read_to_end(&mut head)?;
        if let Some(check) = check {
            check(file)?;
        }
        if head.len() <= max {
            return Ok(Some(exact(head)));
        }
        file.seek(SeekFrom::Start(stood))?;
        Ok(None)
    }
}

/// Without the room that was made for more.
fn exact(bytes: Vec<u8>) -> Bytes {
    bytes.into_boxed_slice().into()
}

/// Most room that is made before anything is read.
const RESERVED_BYTES_MAX: usize = 1 << 20;

async fn fill<R: AsyncRead + ?Sized>(
    reader: &mut Pin<Box<R>>,
    chunk: &mut Vec<u8>,
    max: usize,
) -> io::Result<()> {
    chunk.reserve(max.saturating_sub(chunk.len()).min(RESERVED_BYTES_MAX));
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
        Self { source: Source::File { file, start: None, check: None } }
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

    #[tokio::test]
    async fn a_checked_file_is_no_content_once_its_check_refuses_also_after_the_last_piece() {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"abcdef").unwrap();
        file.rewind().unwrap();
        let mut asked = 0;
        let mut content = Content::checked(file, move |_| {
            asked += 1;
            if asked < 4 { Ok(()) } else { Err(io::Error::other("changed")) }
        });
        assert_eq!((content.size_hint(), content.is_blocking()), (Some(6), true));
        let told = Content::seekable_of(io::Cursor::new(b"abcdef"), 6);
        assert_eq!((told.size_hint(), told.is_blocking()), (Some(6), false));
        assert_eq!(content.take_short(2).await.unwrap(), None);
        let mut chunk = Vec::new();
        content.read_chunk(&mut chunk, 4).await.unwrap();
        content.read_chunk(&mut chunk, 6).await.unwrap();
        assert_eq!(chunk, b"abcdef");
        assert_eq!(content.read_chunk(&mut chunk, 7).await.unwrap_err().to_string(), "changed");
        content.rewind().await.unwrap();
        assert!(content.take_short(9).await.is_err());
    }

    async fn rest_of(content: &mut Content) -> Vec<u8> {
        let mut whole = Vec::new();
        loop {
            let before = whole.len();
            content.read_chunk(&mut whole, before + 3).await.unwrap();
            if whole.len() < before + 3 {
                return whole;
            }
        }
    }

    #[tokio::test]
    async fn short_content_is_taken_whole_from_where_it_stands() {
        let mut cursor = io::Cursor::new(b"..abcde".to_vec());
        cursor.set_position(2);
        let seekable = Content::seekable(cursor);
        for mut content in ["abcde".into(), Content::reader(&b"abcde"[..]), seekable] {
            for _ in 0..2 {
                assert_eq!(content.take_short(5).await.unwrap().unwrap(), "abcde", "{content:?}");
                assert!(content.rewind().await.unwrap(), "{content:?}");
            }
        }
        assert_eq!(Content::reader(&b""[..]).take_short(0).await.unwrap().unwrap(), "");
    }

    #[tokio::test]
    async fn long_content_is_not_taken_and_stands_where_it_stood() {
        let mut cursor = io::Cursor::new(b"..abcdefgh".to_vec());
        cursor.set_position(2);
        let seekable = Content::seekable(cursor);
        for mut content in [Content::reader(&b"abcdefgh"[..]), seekable] {
            assert_eq!(content.take_short(7).await.unwrap(), None, "{content:?}");
            assert_eq!(content.take_short(4).await.unwrap(), None, "{content:?}");
            assert!(content.rewind().await.unwrap(), "{content:?}");
            assert_eq!(rest_of(&mut content).await, b"abcdefgh", "{content:?}");
        }
    }

    #[tokio::test]
    async fn a_file_is_taken_when_it_is_short_and_left_where_it_stands_when_it_is_long() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let rest = &std::fs::read(path).unwrap()[2..];
        let open = || {
            let mut file = File::open(path).unwrap();
            file.seek(SeekFrom::Start(2)).unwrap();
            Content::from(file)
        };
        assert_eq!(open().take_short(rest.len()).await.unwrap().unwrap(), rest);
        let mut long = open();
        assert_eq!(long.take_short(rest.len() - 1).await.unwrap(), None);
        assert_eq!(rest_of(&mut long).await, rest);
        assert!(long.rewind().await.unwrap());
        assert_eq!(long.take_short_blocking(rest.len()).unwrap().unwrap(), rest);
    }

    #[tokio::test]
    async fn a_plain_reader_can_be_rewound_only_while_all_that_was_read_is_at_hand() {
        let mut content = Content::reader(&b"abcdefgh"[..]);
        assert_eq!(content.take_short(3).await.unwrap(), None);
        let mut chunk = Vec::new();
        content.read_chunk(&mut chunk, 3).await.unwrap();
        assert_eq!(chunk, b"abc");
        assert!(content.rewind().await.unwrap());
        content.read_chunk(&mut chunk, 9).await.unwrap();
        assert_eq!(chunk, b"abcabcdef");
        assert!(!content.rewind().await.unwrap());
        assert_eq!(rest_of(&mut content).await, b"gh");
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
