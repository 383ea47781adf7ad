//! Pieces of an upload to a sealed pool: each is sealed by itself, and lies in the staged file behind those that came before,
//! with the place that it has in the content. A piece that is sent again lies behind the first one, and is the one that counts.
//!
//! Each begins at a multiple of [`ALIGN`]: the length of what follows, as a `u64`, and a sealed content, which is the place in the
//! content, as a `u64`, and the bytes. They are bound to the place where the upload is put together.

use std::{ops::Range, sync::Arc};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use locus_core::{Error, OpenContent, Result, SealKeyId, SealedFile, Sealer, Staged};
use parking_lot::Mutex;
use rangemap::RangeMap;

use crate::pool::sealed::seal_bytes;

/// Where pieces may begin.
const ALIGN: u64 = 4_096;

/// Of what stands before a sealed piece, and before the bytes in it.
const WORD: u64 = 8;

/// A piece in the staged file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    /// Where it begins there.
    at: u64,
    /// How long it is sealed.
    sealed_len: u64,
    /// Where its bytes belong in the content.
    offset: u64,
}

/// The pieces of a staged file.
#[derive(Debug)]
pub(super) struct Pieces {
    sealer: Arc<dyn Sealer>,
    file: SealedFile,
    /// The key that the upload was begun with: that it is needed is known as long as the upload is under way.
    key: SealKeyId,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    pieces: RangeMap<u64, Piece>,
    /// Where the next one begins.
    end: u64,
}

impl Pieces {
    /// Looks for what is there. Reads a little of each piece, and more where there is none.
    pub(super) async fn find(
        sealer: Arc<dyn Sealer>,
        file: SealedFile,
        key: SealKeyId,
        staged: &dyn Staged,
        size: u64,
    ) -> Result<Self> {
        let found = Self { sealer, file, key, known: Mutex::default() };
        let mut at: u64 = 0;
        loop {
            let start = staged.read_at(at, usize::try_from(WORD).unwrap_or(0)).await?;
            if (start.len() as u64) < WORD {
                break;
            }
            let mut next = at.saturating_add(ALIGN);
            if let Some((piece, len)) = found.piece_at(staged, at, (&start[..]).get_u64_le()).await?
                && let Some(end) = piece.offset.checked_add(len).filter(|end| *end <= size)
            {
                next = end_of(at, piece.sealed_len);
                if len > 0 {
                    found.known.lock().pieces.insert(piece.offset..end, piece);
                }
            }
            found.known.lock().end = next;
            at = next;
        }
        Ok(found)
    }

    /// The piece that begins here and how long it is opened, unless something else does.
    async fn piece_at(&self, staged: &dyn Staged, at: u64, sealed_len: u64) -> Result<Option<(Piece, u64)>> {
        let piece = Piece { at, sealed_len, offset: 0 };
        let Some(content) = self.open(staged, &piece).await? else { return Ok(None) };
        match self.read_of(staged, &piece, &*content, 0..WORD).await {
            Ok(offset) if offset.len() as u64 == WORD => {
                let offset = (&offset[..]).get_u64_le();
                Ok(Some((Piece { offset, ..piece }, content.plain_len().saturating_sub(WORD))))
            }
            Ok(_) | Err(Error::Tampered { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Opens what begins like a piece.
    async fn open(&self, staged: &dyn Staged, piece: &Piece) -> Result<Option<Arc<dyn OpenContent>>> {
        let head = usize::try_from(self.sealer.head_len()).unwrap_or(usize::MAX);
        let head = staged.read_at(piece.at.saturating_add(WORD), head).await?;
        if self.sealer.key_of(&head).is_none() {
            return Ok(None);
        }
        match self.sealer.open(&self.file, &head, piece.sealed_len) {
            Ok(content) => Ok(Some(content)),
            Err(Error::Tampered { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn read_of(
        &self,
        staged: &dyn Staged,
        piece: &Piece,
        content: &dyn OpenContent,
        plain: Range<u64>,
    ) -> Result<Bytes> {
        let at = content.sealed(plain.clone());
        let len = usize::try_from(at.end.saturating_sub(at.start)).unwrap_or(usize::MAX);
        let begin = piece.at.saturating_add(WORD).saturating_add(at.start);
        content.open(plain, &staged.read_at(begin, len).await?)
    }

    /// Seals a piece and writes it; it is there once the staged file is synced.
    pub(super) async fn write_at(&self, staged: &dyn Staged, offset: u64, bytes: &Bytes) -> Result<()> {
        let mut plain = BytesMut::with_capacity(bytes.len().saturating_add(8));
        plain.put_u64_le(offset);
        plain.put_slice(bytes);
        let (sealed, _) = seal_bytes(&*self.sealer, &self.file, self.key, &plain.freeze())?;
        let sealed_len = sealed.len() as u64;
        let mut framed = BytesMut::with_capacity(sealed.len().saturating_add(8));
        framed.put_u64_le(sealed_len);
        framed.put_slice(&sealed);
        let at = {
            let mut known = self.known.lock();
            let at = known.end;
            known.end = end_of(at, sealed_len);
            at
        };
        staged.write_at(at, framed.freeze()).await?;
        let end = offset.saturating_add(bytes.len() as u64);
        if offset < end {
            self.known.lock().pieces.insert(offset..end, Piece { at, sealed_len, offset });
        }
        Ok(())
    }

    /// Reads up to `len` bytes of the content at `offset`; fewer only where nothing is known to be.
    pub(super) async fn read_at(&self, staged: &dyn Staged, offset: u64, len: usize) -> Result<Bytes> {
        let mut read = BytesMut::new();
        while read.len() < len {
            let at = offset.saturating_add(read.len() as u64);
            let found =
                self.known.lock().pieces.get_key_value(&at).map(|(range, piece)| (range.end, piece.clone()));
            let Some((end, piece)) = found else { break };
            let end = end.min(offset.saturating_add(len as u64));
            let changed = || Error::Tampered { place: format!("a piece of upload {}", self.file.key) };
            let content = self.open(staged, &piece).await?.ok_or_else(changed)?;
            let inside = |at: u64| at.saturating_sub(piece.offset).saturating_add(WORD);
            let bytes = self.read_of(staged, &piece, &*content, inside(at)..inside(end)).await?;
            if bytes.is_empty() {
                return Err(changed());
            }
            read.put_slice(&bytes);
        }
        Ok(read.freeze())
    }
}

/// Where the piece behind this one begins.
fn end_of(at: u64, sealed_len: u64) -> u64 {
    at.saturating_add(WORD).saturating_add(sealed_len).checked_next_multiple_of(ALIGN).unwrap_or(u64::MAX)
}
