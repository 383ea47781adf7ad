//! One content on its way from a volume to another one.

use std::{io, sync::Arc};

use locus_core::{
    BlobPath, Content, Durability, Error, FileRecord, Place, Result, StorageVolume, StoredBlob, VolumeId,
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
    /// Moves one content from its volume to another one: bytes and name durable there, and checked, before the record says
    /// so. What it leaves behind is removed when that is durable.
    pub(super) async fn transfer(&self, right: Right, pace: &Arc<Pace>) -> Result<Moved, NotMoved> {
        let record = right.moving.record().clone();
        let Place::Volume(from) = &record.place else { return Ok(Moved::Over) };
        let mut tried = right.moving.avoid().to_vec();
        tried.push(from.clone());
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
            let error = match self.copy(&record, &*volume, &at, pace).await {
                Ok(true) => {
                    ticket.landed();
                    return self.arrive(right, &volume, blob).await.map_err(NotMoved::Failed);
                }
                Ok(false) => {
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
            if matches!(&error, Error::VolumeUnavailable { volume: Some(gone), .. } if gone == from) {
                return Err(NotMoved::Failed(error));
            }
            self.judge(&volume, &error).await;
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

    /// Makes the content of a file rest on `to`, durably. `false` when the file is over.
    async fn copy(
        &self,
        record: &FileRecord,
        to: &dyn StorageVolume,
        at: &BlobPath,
        pace: &Arc<Pace>,
    ) -> Result<bool, NotMoved> {
        let opened = match self.open(record.clone(), 0..record.info.size).await {
            Err(Error::FileNotFound { .. }) => return Ok(false),
            opened => opened.map_err(of_source)?,
        };
        let mut content = Content::seekable(Paced::new(FileReader::new(opened), pace));
        content.mark().await.map_err(|source| of_source(Error::Source { source }))?;
        let stored = match to.write(at, &mut content, Durability::Durable).await {
            Err(taken) if taken.is_taken() => {
                match holds(to, at, record).await {
                    Ok(true) => {
                        to.sync_blob(at).await.map_err(NotMoved::Failed)?;
                        return Ok(true);
                    }
                    Ok(false) => {}
                    Err(error) if error.is_absent() => return Err(NotMoved::Failed(taken)),
                    Err(error) => return Err(NotMoved::Failed(error)),
                }
                to.delete(at).await.map_err(NotMoved::Failed)?;
                content.rewind().await.map_err(|source| of_source(Error::Source { source }))?;
                to.write(at, &mut content, Durability::Durable).await
            }
            answer => answer,
        };
        let StoredBlob { length, checksum: actual } = stored.map_err(|error| match error {
            Error::Source { .. } => of_source(error),
            error => NotMoved::Failed(error),
        })?;
        let expected = record.info.checksum;
        if actual == expected && length == record.info.size {
            return Ok(true);
        }
        // Read whole and wrong: what was written of it is wrong as well.
        to.delete(at).await.map_err(NotMoved::Failed)?;
        let place = format!("of file {}", record.info.key).into();
        Err(NotMoved::Damaged(Error::ChecksumMismatch { place, expected, actual }))
    }
}

/// A failure to read what is to be moved.
fn of_source(error: Error) -> NotMoved {
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
