//! The way of a read: look up the place, open, and look it up once more when the bytes have moved meanwhile.

use std::{fmt, io, ops::Range, sync::Arc};

use bytes::Bytes;
use locus_core::{
    BlobPath, BlobReader, Error, FileKey, FileRecord, FileStatus, Lease, Place as Rest, Result,
    StorageVolume, TenantAccess, TenantContext, TenantId,
};

use super::{FileReader, StoragePool, reader::CHUNK_BYTES};

/// An open content, wherever it rests.
pub(super) enum Source {
    /// In memory, from this offset on, and checked already.
    Memory(u64, Bytes),
    /// On a volume.
    Blob(BlobReader),
}

/// A content that was opened, and where.
pub(super) struct Opened {
    pub(super) record: FileRecord,
    pub(super) source: Source,
    pub(super) place: Place,
}

/// Where a content was opened, for errors.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Store(FileKey),
    Volume(Arc<dyn StorageVolume>, BlobPath),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(key) => write!(f, "of file {key}"),
            Self::Volume(volume, at) => match volume.local_path(at) {
                Some(path) => write!(f, "of volume {} at {}", volume.id(), path.display()),
                None => write!(f, "of volume {} at {at}", volume.id()),
            },
        }
    }
}

impl StoragePool {
    /// Opens a file for reading. See [`FileReader`] for what it checks.
    ///
    /// # Errors
    /// [`Error::FileNotFound`]; [`Error::VolumeUnavailable`] while the volume is not mounted or unhealthy;
    /// [`Error::Corrupt`] when the content does not have its length; [`Error::Io`]; [`Error::TenantNotFound`];
    /// [`Error::TenantDisabled`] when the tenant is disabled, see [`read_leased`](Self::read_leased).
    pub async fn read(&self, tenant: &TenantContext, key: &FileKey) -> Result<FileReader> {
        self.allow(tenant, TenantAccess::Read)?;
        let record = self.find(tenant.id(), key).await?;
        self.open_plain(record, 0..u64::MAX).await.map(FileReader::new)
    }

    /// Opens the file of a live lease for reading, whatever the tenant's status: who holds the lease may end its work.
    ///
    /// # Errors
    /// [`Error::LeaseLost`]; as [`read`](Self::read) otherwise, without those about the tenant.
    pub async fn read_leased(&self, lease: &Lease) -> Result<FileReader> {
        let record = self.inner.store.leased(lease).await?;
        self.open_plain(record, 0..u64::MAX).await.map(FileReader::new)
    }

    /// Reads bytes `range` of a file into memory. What lies beyond the end is cut off, so a range beyond the end, like an
    /// empty one, gives no bytes. Of content on a volume, only a range that holds the whole of it is checked against its
    /// checksum; content in the store always is.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the range ends before it begins; [`Error::ChecksumMismatch`]; else as
    /// [`read`](Self::read).
    pub async fn read_range(
        &self,
        tenant: &TenantContext,
        key: &FileKey,
        range: Range<u64>,
    ) -> Result<Bytes> {
        self.allow(tenant, TenantAccess::Read)?;
        if range.end < range.start {
            return Err(Error::InvalidArgument { name: "range", why: "ends before it begins" });
        }
        let record = self.find(tenant.id(), key).await?;
        let size = self.size_of(&record)?;
        let range = range.start.min(size)..range.end.min(size);
        if range.is_empty() && size > 0 {
            return Ok(Bytes::new());
        }
        let mut reader = FileReader::new(self.open_plain(record, range.clone()).await?);
        reader.range(range).await
    }

    /// Length of the content.
    fn size_of(&self, record: &FileRecord) -> Result<u64> {
        let Some(seal) = &record.seal else { return Ok(record.info.size) };
        let sealer = self.sealer().ok_or(Error::UnknownKey { key: seal.key })?;
        let why = || Error::Tampered { place: format!("content of file {}", record.info.key) };
        sealer.plain_len(record.info.size).ok_or_else(why)
    }

    async fn find(&self, tenant: &TenantId, key: &FileKey) -> Result<FileRecord> {
        let record = self.inner.store.get(tenant, key).await?;
        record
            .filter(|record| record.info.status != FileStatus::Deleted)
            .ok_or(Error::FileNotFound { key: *key })
    }

    /// `expected` is what will be read, as far as it is known.
    pub(super) async fn open(&self, record: FileRecord, expected: Range<u64>) -> Result<Opened> {
        match self.open_at(&record, expected.clone()).await {
            Err(gone) if is_gone(&gone) => {
                let again = self.find(&record.info.tenant, &record.info.key).await?;
                let is_elsewhere = again.place != record.place || again.blob() != record.blob();
                if is_elsewhere || again.info.checksum != record.info.checksum {
                    return self.open_at(&again, expected).await.map(|opened| opened.with(again));
                }
                // It is not missing but over; a record that is alive without its bytes is damage.
                if !matches!(gone, Error::VolumeUnavailable { .. }) && again.info.status.is_over() {
                    return Err(Error::FileNotFound { key: record.info.key });
                }
                Err(gone)
            }
            answer => answer.map(|opened| opened.with(record)),
        }
    }

    async fn open_at(&self, record: &FileRecord, expected: Range<u64>) -> Result<Found> {
        let size = record.info.size;
        let Rest::Volume(id) = &record.place else {
            let range = expected.start.min(size)..expected.end.min(size);
            let content = self.inner.store.content(record, range.clone()).await?;
            return Ok(Found {
                source: Source::Memory(range.start, content),
                place: Place::Store(record.info.key),
            });
        };
        let expected = expected.start..expected.end.min(expected.start.saturating_add(CHUNK_BYTES));
        let volume = self.inner.mounts.usable(id)?;
        let at = record.blob();
        let blob = volume.open(&at, expected).await?;
        let place = Place::Volume(volume, at);
        if blob.length != size {
            let why = format!("it holds {} bytes where {size} were stored", blob.length).into();
            return Err(Error::Corrupt { place: format!("content {place}"), why });
        }
        Ok(Found { source: Source::Blob(blob), place })
    }
}

/// Whether an opening says that the content is not, or not any more, where its record said.
fn is_gone(error: &Error) -> bool {
    match error {
        Error::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        // A drained volume may have been removed.
        Error::FileNotFound { .. } | Error::VolumeUnavailable { .. } => true,
        _ => false,
    }
}

/// [`Opened`] before its record is known to be the right one.
struct Found {
    source: Source,
    place: Place,
}

impl Found {
    fn with(self, record: FileRecord) -> Opened {
        Opened { record, source: self.source, place: self.place }
    }
}
