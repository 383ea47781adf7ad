//! One content on its way from a volume to another one.

use std::{io, sync::Arc};

use locus_core::{
    BlobPath, Content, Durability, Error, FileRecord, NewContent, Place, Result, SealedContent,
    StorageVolume, StoredBlob, VolumeId,
};

use super::{
    FileReader, StoragePool,
    mounts::Ticket,
    moves::{Moved, Right},
    pace::{Pace, Paced},
    reader::CHUNK_BYTES,
    residue::Unrecorded,
};

/// Why a content was not moved; it is where it was.
#[derive(Debug)]
pub(super) enum NotMoved {
    /// It cannot be read as it was written.
    Damaged(Error),
    /// Something else failed.
    Failed(Error),
}

impl StoragePool {
    /// Moves one content to another volume, or, when it is to be sealed, to any: bytes and name durable there, and checked, before
    /// the record says so. What it leaves behind is removed when that is durable.
    pub(super) async fn transfer(&self, right: Right, pace: &Arc<Pace>) -> Result<Moved, NotMoved> {
        let record = right.moving.record().clone();
        let is_sealed_anew = right.moving.sealed_as().is_some();
        let from = match &record.place {
            Place::Volume(from) => Some(from),
            _ => None,
        };
        let mut tried = right.moving.avoid().to_vec();
        tried.extend(from.filter(|_| !is_sealed_anew).cloned());
        let mut ticket = self.place_away(&record, &tried).await.map_err(NotMoved::Failed)?;
        loop {
            let volume = Arc::clone(ticket.volume());
            let at = right.moving.target();
            match self.inner.store.announce(&right.moving, volume.id()).await {
                Ok(true) => {}
                Ok(false) => return Ok(Moved::Over),
                // What an earlier move left there is just being removed.
                Err(busy @ Error::VolumeUnavailable { .. }) => {
                    tried.push(volume.id().clone());
                    ticket = self.place_away(&record, &tried).await.map_err(|_| NotMoved::Failed(busy))?;
                    continue;
                }
                Err(error) => return Err(NotMoved::Failed(error)),
            }
            // Never removed without asking the store: its name may be used again by the next move.
            let blob = Unrecorded::new(&self.inner.residue, &volume, at.clone()).accepting();
            let error = match self.copy(&record, is_sealed_anew, &*volume, &at, pace).await {
                Ok(Some((stored, sealed))) => {
                    ticket.landed();
                    let content = NewContent::Stored { volume: volume.id().clone(), synced: true };
                    let sealed = sealed.map(|sealed| self.sealed_anew(&record, content, stored, sealed));
                    let sealed = sealed.transpose().map_err(NotMoved::Failed)?;
                    return self.arrive(right, &volume, blob, sealed).await.map_err(NotMoved::Failed);
                }
                Ok(None) => {
                    blob.settle();
                    return Ok(Moved::Over);
                }
                Err(NotMoved::Damaged(error)) => {
                    blob.settle(); // a volume that fails to take content leaves none
                    return Err(NotMoved::Damaged(error));
                }
                Err(NotMoved::Failed(error)) => error,
            };
            if error.is_taken() {
                drop(blob);
            } else {
                blob.settle();
            }
            // It is the source that is gone, not the target.
            if matches!(&error, Error::VolumeUnavailable { volume: Some(gone), .. } if Some(gone) == from) {
                return Err(NotMoved::Failed(error));
            }
            self.judge(&volume, &error).await;
            // What that left beside the content goes before the content moves to another volume.
            if is_sealed_anew && Some(volume.id()) == from {
                return Err(NotMoved::Failed(error));
            }
            tried.push(volume.id().clone());
            match self.place_away(&record, &tried).await {
                Ok(next) => ticket = next,
                Err(_) => return Err(NotMoved::Failed(error)),
            }
        }
    }

    async fn place_away(&self, record: &FileRecord, tried: &[VolumeId]) -> Result<Ticket> {
        self.place_or_probe(Some(record.info.size), tried, None).await
    }

    /// Makes the content of a file rest on `to`, durably, as it is or sealed anew. `None` when the file is over.
    async fn copy(
        &self,
        record: &FileRecord,
        is_sealed_anew: bool,
        to: &dyn StorageVolume,
        at: &BlobPath,
        pace: &Arc<Pace>,
    ) -> Result<Option<(StoredBlob, Option<SealedContent>)>, NotMoved> {
        let opened = match is_sealed_anew {
            true => self.open_plain(record.clone(), 0..u64::MAX).await,
            false => self.open(record.clone(), 0..record.info.size).await,
        };
        let opened = match opened {
            Err(Error::FileNotFound { .. }) => return Ok(None),
            opened => opened.map_err(of_source)?,
        };
        let expected = (opened.record.info.size, opened.record.info.checksum);
        let mut content = Content::seekable_of(Paced::new(FileReader::new(opened), pace), expected.0);
        if is_sealed_anew {
            content = self.sealed(content, &record.sealed_file());
        }
        content.mark().await.map_err(|source| of_source(Error::Source { source }))?;
        let stored = match to.write(at, &mut content, Durability::Durable).await {
            Err(taken) if taken.is_taken() => {
                match holds(to, at, record).await {
                    Ok(true) if !is_sealed_anew => {
                        to.sync_blob(at).await.map_err(NotMoved::Failed)?;
                        return Ok(Some((StoredBlob { length: expected.0, checksum: expected.1 }, None)));
                    }
                    Ok(_) => {}
                    Err(error) if error.is_absent() => return Err(NotMoved::Failed(taken)),
                    Err(error) => return Err(NotMoved::Failed(error)),
                }
                to.delete(at).await.map_err(NotMoved::Failed)?;
                content.rewind().await.map_err(|source| of_source(Error::Source { source }))?;
                to.write(at, &mut content, Durability::Durable).await
            }
            answer => answer,
        };
        let stored = stored.map_err(|error| match error {
            Error::Source { .. } => of_source(error),
            error => NotMoved::Failed(error),
        })?;
        let sealed = content.sealed_as();
        let actual = sealed.map_or((stored.length, stored.checksum), |sealed| (sealed.size, sealed.checksum));
        if actual == expected {
            return Ok(Some((stored, sealed)));
        }
        // Read whole and wrong: what was written of it is wrong as well.
        to.delete(at).await.map_err(NotMoved::Failed)?;
        let place = format!("of file {}", record.info.key).into();
        let (expected, actual) = (expected.1, actual.1);
        Err(NotMoved::Damaged(Error::ChecksumMismatch { place, expected, actual }))
    }
}

/// A failure to read what is to be moved.
pub(super) fn of_source(error: Error) -> NotMoved {
    let error = match error {
        Error::Source { source } => match source.downcast::<Error>() {
            Ok(inner) => inner,
            Err(source) => Error::Source { source },
        },
        error => error,
    };
    match error {
        Error::VolumeUnavailable { .. } | Error::Poisoned { .. } | Error::ShuttingDown => {
            NotMoved::Failed(error)
        }
        Error::Io { op, path, source } if source.kind() == io::ErrorKind::Interrupted => {
            NotMoved::Failed(Error::Io { op, path, source })
        }
        error => NotMoved::Damaged(error),
    }
}

/// Whether the blob at `at` is what the record says, by its checksum.
pub(super) async fn holds(volume: &dyn StorageVolume, at: &BlobPath, record: &FileRecord) -> Result<bool> {
    let size = record.info.size;
    let opened = volume.open(at, 0..CHUNK_BYTES.min(size)).await?;
    if opened.length != size {
        return Ok(false);
    }
    Ok(opened.checksum().await? == Some(record.info.checksum))
}
