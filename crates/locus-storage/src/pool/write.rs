//! The way of a write: room before bytes, bytes before the record.

use std::{mem, sync::Arc};

use bytes::Bytes;
use locus_core::{
    Area, BlobPath, Checksum, Content, Durability, Error, Extension, FileKey, NewContent, NewFile, Outcome,
    Reservation, Result, SealedFile, StorageVolume, StoredBlob, Tenant, TenantAccess, TenantContext,
};
use locus_fs::off_thread;
use smallvec::SmallVec;

use super::{
    StoragePool, WriteOptions,
    admission::{Draft, Fresh, Intake},
    mounts::Ticket,
    residue::Unrecorded,
};

/// Most files in one [`StoragePool::write_batch`].
pub const WRITE_BATCH_MAX: usize = 4_096;

/// Most bytes that are hashed on the caller's own thread.
const HASHED_HERE_BYTES_MAX: usize = 256 << 10;

/// A write that only lacks its record.
struct Written {
    file: NewFile,
    room: Reservation,
    /// Where its bytes rest; `None` when they go along with the record.
    rest: Option<Rest>,
}

/// Bytes on a volume.
struct Rest {
    blob: Unrecorded,
    /// Held until the record is there, so that the volume is not removed in between.
    ticket: Ticket,
    /// As well held: of those that failed the write, which the record names.
    tried: Vec<Ticket>,
}

impl StoragePool {
    /// Takes a file in and gives its key. Once this returns, content and record are as durable as the pool promises.
    ///
    /// Small content goes into the store while that takes it, also without any volume; a source of unknown length is read
    /// as far as is needed to know. A volume that fails is avoided until its next good probe, and the content goes to
    /// another one if it can be rewound.
    ///
    /// # Errors
    /// In this order, before a byte is written: [`Error::TenantNotFound`], [`Error::TenantDisabled`] unless the tenant
    /// is enabled; [`Error::TooLarge`] for the directory; [`Error::TenantQuotaExceeded`],
    /// [`Error::DirectoryQuotaExceeded`], [`Error::GlobalQuotaExceeded`]; [`Error::VolumeUnavailable`],
    /// [`Error::InsufficientStorage`]; [`Error::TooLarge`], [`Error::InvalidArgument`] for names.
    /// Then [`Error::Source`] when the content cannot be read (as early as its length is looked for),
    /// [`Error::ChecksumMismatch`] when it is not what was expected, what the last volume said when all failed. After all
    /// of these there is no file, the room is given back, and what could not be removed of the bytes is
    /// [`residue`](Self::residue). After [`Error::Poisoned`] with an unknown outcome, reopening decides; an idempotency
    /// key settles a second try.
    ///
    /// # Cancel safety
    /// After a dropped future there is either no file, and what lies on a volume of it is removed in the background, or
    /// the whole file.
    pub async fn write(
        &self,
        tenant: &TenantContext,
        content: impl Into<Content>,
        options: WriteOptions,
    ) -> Result<FileKey> {
        let tenant = self.inner.tenants.admit(tenant, TenantAccess::Work)?;
        let mut inline = self.inner.store.inline_limits();
        let draft = match self.admit(&tenant, content.into(), options, &mut inline).await? {
            Fresh::Known(key) => return Ok(key),
            Fresh::New(draft) => draft,
        };
        let written = self.put(&tenant, draft).await?;
        let keys = self.accept([written].into_iter()).await?;
        Ok(keys.into_iter().next().expect("because each file gets a key"))
    }

    /// Takes several files in by one record, all or none, and gives their keys in the same order. At most 4,096.
    ///
    /// # Errors
    /// As [`write`](Self::write), for the first file that is refused; none is then taken in.
    ///
    /// # Cancel safety
    /// As [`write`](Self::write): all of them are there or none.
    pub async fn write_batch(
        &self,
        tenant: &TenantContext,
        files: Vec<(Content, WriteOptions)>,
    ) -> Result<Vec<FileKey>> {
        if files.len() > WRITE_BATCH_MAX {
            let (size, limit) = (files.len() as u64, WRITE_BATCH_MAX as u64);
            return Err(Error::TooLarge { what: "batch", size, limit });
        }
        let tenant = self.inner.tenants.admit(tenant, TenantAccess::Work)?;
        let mut inline = self.inner.store.inline_limits();
        let mut drafts = Vec::with_capacity(files.len());
        for (content, options) in files {
            drafts.push(self.admit(&tenant, content, options, &mut inline).await?);
        }
        let written = self.put_all(&tenant, drafts).await?;
        let known: Vec<_> = written.iter().map(Fresh::known).collect();
        let mut accepted = self.accept(written.into_iter().filter_map(Fresh::into_new)).await?.into_iter();
        Ok(known.into_iter().filter_map(|known| known.or_else(|| accepted.next())).collect())
    }

    async fn put_all(&self, tenant: &Tenant, drafts: Vec<Fresh<Draft>>) -> Result<Vec<Fresh<Written>>> {
        let mut written = Vec::with_capacity(drafts.len());
        for draft in drafts {
            match draft {
                Fresh::Known(key) => written.push(Fresh::Known(key)),
                Fresh::New(draft) => match self.put(tenant, draft).await {
                    Ok(file) => written.push(Fresh::New(file)),
                    Err(error) => {
                        remove_all(written).await;
                        return Err(error);
                    }
                },
            }
        }
        Ok(written)
    }

    /// Brings the content to its place, or as near as it comes without its record.
    async fn put(&self, tenant: &Tenant, draft: Draft) -> Result<Written> {
        let Draft { options, directory, room, intake, sealed } = draft;
        let file = SealedFile { owner: tenant.storage_path.clone(), key: room.key() };
        let (stored, content, rest, astray, sealed) = match intake {
            Intake::Inline { bytes, landing } => {
                let stored = StoredBlob { length: bytes.len() as u64, checksum: self.checksum(&bytes).await };
                (stored, NewContent::Inline { bytes, landing }, None, Vec::new(), sealed)
            }
            Intake::Volume { mut content, ticket } => {
                // What kind of content it is, is nobody's business where it is sealed.
                let name = options.original_name.as_deref().filter(|_| self.sealer().is_none());
                let path = BlobPath {
                    area: Area::Live,
                    owner: tenant.storage_path.clone(),
                    key: room.key(),
                    extension: name.map_or(Extension::NONE, Extension::of),
                };
                let how = if options.synced { Durability::Durable } else { self.inner.durability };
                let (rest, stored) = self.put_somewhere(&path, &mut content, ticket, how).await?;
                let astray = rest.tried.iter().map(|tried| tried.volume().id().clone()).collect();
                let volume = rest.ticket.volume().id().clone();
                let synced = how == Durability::Durable;
                (stored, NewContent::Stored { volume, synced }, Some(rest), astray, content.sealed_as())
            }
        };
        let actual = sealed.map_or(stored.checksum, |sealed| sealed.checksum);
        let names = (options.original_name, options.properties);
        let named = match options.expected_checksum {
            Some(expected) if expected != actual => {
                Err(Error::ChecksumMismatch { place: "that was given".into(), expected, actual })
            }
            _ => self.seal_names(&file, &stored.checksum, sealed, names),
        };
        let (seal, (original_name, properties)) = match named {
            Ok(named) => named,
            Err(error) => {
                if let Some(rest) = rest {
                    rest.blob.remove().await;
                }
                return Err(error);
            }
        };
        let file = NewFile {
            tenant: tenant.id.clone(),
            owner: tenant.storage_path.clone(),
            directory,
            original_name,
            properties,
            size: stored.length,
            checksum: stored.checksum,
            seal,
            content,
            astray,
            idempotency: options.idempotency_key,
        };
        Ok(Written { file, room, rest })
    }

    /// The checksum of content in memory; a longer one is computed where that holds up nobody.
    pub(super) async fn checksum(&self, bytes: &Bytes) -> Checksum {
        if bytes.len() <= HASHED_HERE_BYTES_MAX {
            return Checksum::of(bytes);
        }
        let bytes = bytes.clone();
        off_thread(&*self.inner.context.disk, move || Checksum::of(&bytes)).await
    }

    /// Writes to the volume of the ticket, and to one after the other when volumes fail and the content can be rewound. Says
    /// which failed: a write that hangs may end whenever it likes, and a removal is not durable, so their names are told along
    /// with the record.
    async fn put_somewhere(
        &self,
        path: &BlobPath,
        content: &mut Content,
        mut ticket: Ticket,
        how: Durability,
    ) -> Result<(Rest, StoredBlob)> {
        content.mark().await.map_err(|source| Error::Source { source })?;
        let size_hint = content.size_hint();
        let (mut tried, mut tried_ids) = (Vec::new(), Vec::new());
        loop {
            let volume = Arc::clone(ticket.volume());
            let blob = Unrecorded::new(&self.inner.residue, &volume, path.clone());
            let error = match volume.write(path, content, how).await {
                Ok(stored) => {
                    ticket.landed();
                    return Ok((Rest { blob, ticket, tried }, stored));
                }
                Err(error) => error,
            };
            blob.remove().await;
            if matches!(error, Error::Source { .. }) {
                return Err(error);
            }
            self.judge(&volume, &error).await;
            tried_ids.push(volume.id().clone());
            if !content.rewind().await.map_err(|source| Error::Source { source })? {
                return Err(error);
            }
            let next = match self.inner.mounts.place(&self.inner.placement, size_hint, &tried_ids, None) {
                Ok(next) => next,
                Err(_) if error.is_full() => {
                    self.place_after_expansion(size_hint, &tried_ids, None, error).await?
                }
                Err(_) => return Err(error),
            };
            tried.push(mem::replace(&mut ticket, next));
        }
    }

    /// Notes what a failed write says about its volume. A full one is not ill: it goes on to be read and drained, and a
    /// fresh measurement tells placement that it is full.
    pub(super) async fn judge(&self, volume: &Arc<dyn StorageVolume>, error: &Error) {
        if error.is_full() {
            self.probe(vec![Arc::clone(volume)]).await;
        } else {
            self.inner.mounts.suspect(&**volume, error);
        }
    }

    /// One record for all, whose keys it gives in the same order. Bytes come before the record that names them; from here on
    /// the store decides.
    async fn accept(&self, written: impl Iterator<Item = Written>) -> Result<Vec<FileKey>> {
        let mut files = Vec::with_capacity(written.size_hint().1.unwrap_or_default());
        let (mut blobs, mut tickets) = (SmallVec::<[_; 1]>::new(), SmallVec::<[_; 1]>::new());
        for Written { file, room, rest } in written {
            let (blob, ticket) = rest.map(|rest| (rest.blob, (rest.ticket, rest.tried))).unzip();
            blobs.push((room.key(), blob.map(Unrecorded::accepting)));
            tickets.push(ticket);
            files.push((file, room));
        }
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let accepted = match self.hold_keys(files.iter().filter_map(|(file, _)| file.seal.as_ref())) {
            Ok(_held) => self.inner.store.accept(files).await,
            Err(error) => Err(error),
        };
        let accepted = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let unknown = matches!(error, Error::Poisoned { outcome: Outcome::Unknown });
                for blob in blobs.into_iter().filter_map(|(_, blob)| blob) {
                    if unknown { blob.settle() } else { blob.remove().await }
                }
                return Err(error);
            }
        };
        debug_assert_eq!(accepted.len(), blobs.len());
        // All that are settled first: removing waits, and may be dropped while it does.
        let mut unwanted = Vec::new();
        for ((key, blob), accepted) in blobs.into_iter().zip(&accepted) {
            let Some(blob) = blob else { continue };
            if key == *accepted { blob.settle() } else { unwanted.push(blob) }
        }
        for blob in unwanted {
            blob.remove().await;
        }
        Ok(accepted)
    }
}

/// Removes what a batch wrote before it was refused.
async fn remove_all(written: Vec<Fresh<Written>>) {
    for fresh in written {
        if let Fresh::New(Written { rest: Some(rest), .. }) = fresh {
            rest.blob.remove().await;
        }
    }
}
