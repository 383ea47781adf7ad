//! Where contents are sealed on their way in, and opened on their way out. All that lies between has sealed bytes.

use std::{io, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use locus_core::{
    Blob, BlobPath, BlobReader, Checksum, Content, ERROR_BYTES_MAX, Error, FileRecord, Hasher, KeyHold,
    Lease, OpenContent, Place as Rest, Properties, Result, Seal, SealKeyId, SealedContent, SealedDetails,
    SealedFile, Sealer, StorageVolume,
};
use tracing::warn;

use super::{
    StoragePool,
    read::{Opened, Source},
    reader::CHUNK_BYTES,
};

/// Plaintext that is opened from what comes along with the opening of a blob: with what sealing adds it fits into a chunk.
const FIRST_BYTES: u64 = CHUNK_BYTES / 16 * 15;

/// The name that a caller gave, and the properties.
type Names = (Option<String>, Properties);

impl StoragePool {
    pub(super) fn sealer(&self) -> Option<&Arc<dyn Sealer>> {
        self.inner.sealer.as_ref()
    }

    /// How long a content of about so many bytes is where it rests.
    pub(super) fn stored_len(&self, plain: u64) -> u64 {
        self.sealer().map_or(plain, |sealer| sealer.sealed_len(plain))
    }

    /// What a record says, opened as far as it is sealed: size, checksum, name and properties of the content itself.
    ///
    /// # Errors
    /// [`Error::UnknownKey`]; [`Error::Tampered`].
    pub fn reveal(&self, mut record: FileRecord) -> Result<FileRecord> {
        if let Some(seal) = &record.seal {
            let sealer = self.sealer().ok_or(Error::UnknownKey { key: seal.key })?;
            let details = sealer.open_details(&record.sealed_file(), &record.info.checksum, seal)?;
            let info = &mut record.info;
            (info.size, info.checksum) = (details.size, details.checksum);
            (info.original_name, info.properties) = (details.original_name, details.properties);
        }
        if let Some(sealer) = self.sealer()
            && let Some(text) = record.last_error.take()
        {
            // That it does not open is no reason to hide the rest.
            let opened = sealer.open_text(&record.sealed_file(), text);
            record.last_error = Some(opened.unwrap_or_else(|why| why.to_string()));
        }
        Ok(record)
    }

    /// As [`reveal`](Self::reveal), but a record that cannot be opened is as it is: whoever has it learns why when its content is
    /// read.
    #[must_use]
    pub fn reveal_or_keep(&self, record: FileRecord) -> FileRecord {
        if record.seal.is_none() && (self.sealer().is_none() || record.last_error.is_none()) {
            return record;
        }
        self.reveal(record.clone()).unwrap_or_else(|error| {
            let error = &error as &dyn std::error::Error;
            warn!(key = %record.info.key, error, "what is known of a file cannot be opened");
            record
        })
    }

    /// What a worker said of a sealed file, as it is kept: with the key of the file, which is known to be needed. `None` where it
    /// is kept as it was said.
    pub(crate) async fn seal_error(&self, lease: &Lease, text: &str) -> Result<Option<String>> {
        if self.sealer().is_none() {
            return Ok(None);
        }
        let record = self.inner.store.get(&lease.tenant, &lease.key).await?;
        let Some((record, seal)) = record.and_then(|record| record.seal.clone().map(|seal| (record, seal)))
        else {
            return Ok(None);
        };
        self.seal_said(&record.sealed_file(), seal.key, text).map(Some)
    }

    /// What was said of a file, as it is kept beside a content that is sealed with `key`.
    pub(super) fn seal_said(&self, file: &SealedFile, key: SealKeyId, text: &str) -> Result<String> {
        let sealer = self.sealer().ok_or(Error::UnknownKey { key })?;
        sealer.seal_text(file, key, text, ERROR_BYTES_MAX)
    }

    /// Holds the keys of seals that records are about to name.
    pub(super) fn hold_keys<'a>(&self, seals: impl Iterator<Item = &'a Seal>) -> Result<Vec<KeyHold>> {
        let hold = |seal: &Seal| self.sealer().map(|sealer| sealer.hold(seal.key));
        seals.filter_map(hold).collect()
    }

    /// What the record is to say of a content whose stored bytes have the checksum `stored`: names and properties are part of its
    /// seal where it has one, and stay what they are where it has none.
    pub(super) fn seal_names(
        &self,
        file: &SealedFile,
        stored: &Checksum,
        content: Option<SealedContent>,
        (original_name, properties): Names,
    ) -> Result<(Option<Seal>, Names)> {
        let Some(sealer) = self.sealer() else { return Ok((None, (original_name, properties))) };
        let unread = || Error::Source { source: io::Error::other("it was not read to its end") };
        let SealedContent { key, size, checksum } = content.ok_or_else(unread)?;
        let details = SealedDetails { size, checksum, original_name, properties };
        Ok((Some(sealer.seal_details(file, key, stored, &details)?), Names::default()))
    }

    /// What the record of a blob that lies on a volume without one is to say of its seal.
    pub(super) async fn seal_found(
        &self,
        volume: &dyn StorageVolume,
        at: &BlobPath,
        checksum: &Checksum,
    ) -> Result<Option<Seal>> {
        let Some(sealer) = self.sealer() else { return Ok(None) };
        let blob = volume.open(at, 0..CHUNK_BYTES).await?;
        let (head, sealed_len) = (first(&blob, sealer.head_len()).await?, blob.length);
        let Some(key) = sealer.key_of(&head) else { return Ok(None) };
        let unlike = || Error::Tampered { place: format!("the name of volume {} at {at}", volume.id()) };
        let turn = Seal::turn_of(at.extension).ok_or_else(unlike)?;
        let file = SealedFile { owner: at.owner.clone(), key: at.key };
        let content = sealer.open(&file, &head, sealed_len)?;
        let size = content.plain_len();
        let place = format!("of volume {} at {at}", volume.id());
        let opened = OpenedBlob { sealed: blob.blob, content, place: place.clone() };
        if size == 0 {
            opened.read_at(0, 0).await?; // a longer one that was cut may have the length of an empty one
        }
        let opened = BlobReader { length: size, head_offset: 0, head: Bytes::new(), blob: Arc::new(opened) };
        let plain = opened.checksum().await?.ok_or(Error::Tampered { place: format!("content {place}") })?;
        let details =
            SealedDetails { size, checksum: plain, original_name: None, properties: Properties::new() };
        let seal = sealer.seal_details(&file, key, checksum, &details)?;
        Ok(Some(Seal { turn, ..seal }))
    }

    /// A content for a file, sealed where the pool is.
    pub(super) fn sealed(&self, content: Content, file: &SealedFile) -> Content {
        match self.sealer() {
            Some(sealer) => content.sealed(Arc::clone(sealer), file.clone()),
            None => content,
        }
    }

    /// Opens the content of a file and what is known about it; `range` of the content is what will be read.
    pub(super) async fn open_plain(&self, record: FileRecord, range: Range<u64>) -> Result<Opened> {
        let Some(seal) = &record.seal else {
            let opened = self.open(record, range.clone()).await?;
            return match opened.record.seal {
                None => Ok(opened),
                // It was sealed meanwhile.
                Some(_) => Box::pin(self.open_plain(opened.record, range)).await,
            };
        };
        let sealer = Arc::clone(self.sealer().ok_or(Error::UnknownKey { key: seal.key })?);
        let expected = match record.place {
            Rest::Store => 0..u64::MAX,
            _ if range.start < FIRST_BYTES => 0..sealer.sealed_len(range.end.min(FIRST_BYTES)),
            _ => 0..sealer.head_len(),
        };
        let Opened { record, source, place } = self.open(record, expected).await?;
        let (file, sealed_len) = (record.sealed_file(), record.info.size);
        let record = self.reveal(record)?;
        let head = match &source {
            Source::Memory(_, bytes) => bytes.clone(),
            Source::Blob(blob) => first(blob, sealer.head_len()).await?,
        };
        let content = sealer.open(&file, &head, sealed_len)?;
        let length = content.plain_len();
        if length != record.info.size {
            return Err(Error::Tampered { place: format!("content {place}") });
        }
        let open = |plain: Range<u64>, sealed: &[u8]| {
            let at = content.sealed(plain.clone());
            let at = usize::try_from(at.start).ok().zip(usize::try_from(at.end).ok());
            let held = at.and_then(|(start, end)| sealed.get(start..end));
            held.map(|held| content.open(plain, held)).transpose().map(Option::unwrap_or_default)
        };
        let source = match source {
            Source::Memory(_, bytes) => Source::Memory(0, open(0..length, &bytes)?),
            Source::Blob(blob) => {
                let head = open(0..length.min(FIRST_BYTES), &head)?;
                let blob = Arc::new(OpenedBlob { sealed: blob.blob, content, place: place.to_string() });
                Source::Blob(BlobReader { length, head_offset: 0, head, blob })
            }
        };
        Ok(Opened { record, source, place })
    }
}

/// The begin of a blob: all that came along with its opening, and at least so much.
async fn first(blob: &BlobReader, at_least: u64) -> Result<Bytes> {
    if blob.head_offset == 0 && blob.head.len() as u64 >= at_least.min(blob.length) {
        return Ok(blob.head.clone());
    }
    read_whole(&*blob.blob, 0..at_least.min(blob.length)).await
}

/// These bytes, fewer when the blob ends before.
async fn read_whole(blob: &dyn Blob, range: Range<u64>) -> Result<Bytes> {
    let mut whole = BytesMut::new();
    loop {
        let at = range.start.saturating_add(whole.len() as u64);
        let left = usize::try_from(range.end.saturating_sub(at)).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(whole.freeze());
        }
        let piece = blob.read_at(at, left).await?;
        if piece.is_empty() || (piece.len() == left && whole.is_empty()) {
            return Ok(if whole.is_empty() { piece } else { whole.freeze() });
        }
        whole.extend_from_slice(&piece);
    }
}

/// A sealed blob, as what is in it.
#[derive(Debug)]
struct OpenedBlob {
    sealed: Arc<dyn Blob>,
    content: Arc<dyn OpenContent>,
    place: String,
}

#[async_trait]
impl Blob for OpenedBlob {
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let end = offset.saturating_add(len as u64).min(self.content.plain_len());
        let at = self.content.sealed(offset.min(end)..end);
        let sealed = read_whole(&*self.sealed, at.clone()).await?;
        if (sealed.len() as u64) < at.end.saturating_sub(at.start) {
            let why = format!("it ends before byte {}", at.end).into();
            return Err(Error::Corrupt { place: format!("content {}", self.place), why });
        }
        self.content.open(offset.min(end)..end, &sealed)
    }
}

/// Seals a content that is in memory.
pub(in crate::pool) fn seal_bytes(
    sealer: &dyn Sealer,
    file: &SealedFile,
    key: SealKeyId,
    plain: &Bytes,
) -> Result<(Bytes, SealedContent)> {
    let mut sealing = sealer.seal(file, key)?;
    let mut sealed = Vec::with_capacity(usize::try_from(sealer.sealed_len(plain.len() as u64)).unwrap_or(0));
    sealed.extend(sealing.head());
    let mut pieces = plain.chunks(sealing.piece_bytes().max(1)).peekable();
    if pieces.peek().is_none() {
        sealing.seal(&[], true, &mut sealed);
    }
    while let Some(piece) = pieces.next() {
        sealing.seal(piece, pieces.peek().is_none(), &mut sealed);
    }
    let mut hasher = Hasher::new();
    hasher.update(plain);
    let sealed_as = SealedContent { key: sealing.key(), size: plain.len() as u64, checksum: hasher.finish() };
    Ok((sealed.into(), sealed_as))
}
