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

/// What a staged file may take beside twice its content: for short pieces, and those that are sent again.
const SPARE_BYTES: u64 = 64 << 20;

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
    /// Most bytes of the staged file: short pieces take much more than what is in them.
    limit: u64,
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
        let limit = size.saturating_mul(2).saturating_add(SPARE_BYTES);
        let found = Self { sealer, file, key, limit, known: Mutex::default() };
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
        if self.sealer.key_of(&head) != Some(self.key) {
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
            let (at, end) = (known.end, end_of(known.end, sealed_len));
            if end > self.limit {
                let what = "room of an upload in pieces that are too short, or were sent too often,";
                return Err(Error::TooLarge { what, size: end, limit: self.limit });
            }
            known.end = end;
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

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use locus_core::{BlobPath, FileKey, StoragePath, StoreId};
    use locus_testkit::{ManualClock, SeededEntropy, SimDisk, Stepper};
    use locus_vault::{Argon2Cost, KeyringFile, NewRecipient, Passphrase, PoolSealer};

    use super::*;

    /// A staged file in memory.
    #[derive(Debug, Default)]
    struct Memory(Mutex<Vec<u8>>);

    #[async_trait]
    impl Staged for Memory {
        async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
            let (mut all, at) = (self.0.lock(), offset as usize);
            let end = at + bytes.len();
            let len = all.len().max(end);
            all.resize(len, 0);
            all[at..end].copy_from_slice(&bytes);
            Ok(())
        }

        async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
            let all = self.0.lock();
            let at = all.len().min(offset as usize);
            Ok(Bytes::copy_from_slice(&all[at..all.len().min(at.saturating_add(len))]))
        }

        async fn sync(&self) -> Result<()> {
            Ok(())
        }

        async fn publish(&self, _to: &BlobPath, _length: u64) -> Result<()> {
            Ok(())
        }
    }

    fn sealer() -> Arc<dyn Sealer> {
        let entropy = Arc::new(SeededEntropy::new(1));
        let file = KeyringFile::new(SimDisk::new(1), ManualClock::new(), entropy.clone(), "/keyring");
        let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let first = NewRecipient::passphrase("test", Passphrase::new(b"test").unwrap()).cost(cost);
        let ring = Stepper::new(1).block_on(file.create(first), || false).unwrap();
        Arc::new(PoolSealer::new(StoreId::from_bytes([1; 16]), Arc::new(ring), entropy))
    }

    fn run<T>(work: impl Future<Output = T>) -> T {
        Stepper::new(1).block_on(work, || false)
    }

    fn find(sealer: &Arc<dyn Sealer>, staged: &Memory, size: u64) -> Pieces {
        let owner = StoragePath::parse("acme").unwrap();
        let file = SealedFile { owner, key: FileKey::from_bytes([3; 16]) };
        run(Pieces::find(sealer.clone(), file, sealer.key(), staged, size)).unwrap()
    }

    fn write(pieces: &Pieces, staged: &Memory, offset: u64, bytes: &'static [u8]) {
        run(pieces.write_at(staged, offset, &Bytes::from_static(bytes))).unwrap();
    }

    fn read(pieces: &Pieces, staged: &Memory) -> Bytes {
        run(pieces.read_at(staged, 0, 100)).unwrap()
    }

    #[test]
    fn pieces_are_found_again_the_last_one_counts_and_what_is_none_is_passed_by() {
        let (sealer, staged) = (sealer(), Memory::default());
        let pieces = find(&sealer, &staged, 10);
        for (offset, bytes) in [(5, b"world".as_slice()), (0, b"HELLO"), (0, b"hello")] {
            write(&pieces, &staged, offset, bytes);
        }
        assert_eq!(read(&pieces, &staged), "helloworld");
        assert_eq!(read(&find(&sealer, &staged, 10), &staged), "helloworld");
        // The first of those that came torn, and what was never a piece.
        staged.0.lock()[80] ^= 1;
        staged.0.lock().extend([7; 9_000]);
        let found = find(&sealer, &staged, 10);
        assert_eq!(read(&found, &staged), "hello");
        write(&found, &staged, 5, b"there");
        assert_eq!(read(&found, &staged), "hellothere");
        assert_eq!(read(&find(&sealer, &staged, 10), &staged), "hellothere");
        assert_eq!(read(&find(&sealer, &staged, 9), &staged), "hello", "beyond the end");
    }

    #[test]
    fn short_pieces_take_no_more_room_than_is_foreseen() {
        let (sealer, staged) = (sealer(), Memory::default());
        let pieces = find(&sealer, &staged, 10);
        let mut sent: u64 = 0;
        let refused = loop {
            match run(pieces.write_at(&staged, 3, &Bytes::from_static(b"x"))) {
                Ok(()) => sent += 1,
                Err(refused) => break refused,
            }
        };
        assert!(matches!(refused, Error::TooLarge { limit, .. } if limit == SPARE_BYTES + 20), "{refused}");
        assert_eq!(sent, SPARE_BYTES / ALIGN);
    }
}
