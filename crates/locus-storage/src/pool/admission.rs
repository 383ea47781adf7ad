//! Admission of a write: quota, then room for its bytes, then names. Small content goes into the store while that takes
//! it, everything else to a volume.

use bytes::Bytes;
use locus_core::{
    BlobPath, Content, Error, FileKey, InlineLimits, Landing, LogicalDir, NewFile, Reservation, Reserved,
    Result, SealedContent, SealedFile, Tenant, TenantAccess, VolumeId,
};
use locus_fs::off_thread;

use super::{StoragePool, WriteOptions, mounts::Ticket, sealed::seal_bytes};

/// What becomes of one file of a batch.
pub(super) enum Fresh<T> {
    /// Its idempotency key was accepted before.
    Known(FileKey),
    New(T),
}

impl<T> Fresh<T> {
    pub(super) fn known(&self) -> Option<FileKey> {
        match self {
            Self::Known(key) => Some(*key),
            Self::New(_) => None,
        }
    }

    pub(super) fn into_new(self) -> Option<T> {
        match self {
            Self::Known(_) => None,
            Self::New(new) => Some(new),
        }
    }
}

/// A write that was let in: there is room in the quotas and for its bytes.
pub(super) struct Draft {
    pub(super) options: WriteOptions,
    pub(super) directory: LogicalDir,
    pub(super) room: Reservation,
    pub(super) intake: Intake,
    /// What it was sealed as, when that is done.
    pub(super) sealed: Option<SealedContent>,
}

/// The way that the content of a write takes.
pub(super) enum Intake {
    /// Into the store, with its record.
    Inline { bytes: Bytes, landing: Landing },
    /// To a volume.
    Volume { content: Content, ticket: Ticket },
}

impl StoragePool {
    /// `left`: what the store takes itself of the rest of the batch.
    pub(super) async fn admit(
        &self,
        tenant: &Tenant,
        content: Content,
        options: WriteOptions,
        left: &mut InlineLimits,
    ) -> Result<Fresh<Draft>> {
        let directory = LogicalDir::parse(options.directory.as_deref().unwrap_or_default())?;
        let named = options.idempotency_key.as_ref();
        let length = content.size_hint().map(|plain| self.stored_len(plain));
        let room = match self.inner.store.reserve(&tenant.id, &directory, length, named).await? {
            Reserved::Known(key) => return Ok(Fresh::Known(key)),
            Reserved::Room(room) => room,
        };
        // A tenant with a write under way is not removed: who it is now, it is to the end.
        let now = self.inner.tenants.check(&tenant.id, TenantAccess::Work)?;
        if now.storage_path != tenant.storage_path {
            return Err(Error::TenantNotFound { tenant: tenant.id.clone() });
        }
        let file = SealedFile { owner: now.storage_path.clone(), key: room.key() };
        let (intake, sealed) = self.take_in(content, &file, left).await?;
        NewFile::check_names(options.original_name.as_deref(), &options.properties, named)?;
        Ok(Fresh::New(Draft { options, directory, room, intake, sealed }))
    }

    async fn take_in(
        &self,
        content: Content,
        file: &SealedFile,
        left: &mut InlineLimits,
    ) -> Result<(Intake, Option<SealedContent>)> {
        let (mut content, short) = self.take_short(content, left).await?;
        if let Some(bytes) = short {
            if let Some(landing) = self.inner.store.land(self.stored_len(bytes.len() as u64)).await {
                let (bytes, sealed) = match self.sealer() {
                    Some(sealer) => {
                        let (bytes, sealed) = seal_bytes(&**sealer, file, sealer.key(), &bytes)?;
                        (bytes, Some(sealed))
                    }
                    None => (bytes, None),
                };
                return Ok((Intake::Inline { bytes, landing }, sealed));
            }
            content = bytes.into();
        }
        let content = self.sealed(content, file);
        let ticket = self.place(content.size_hint(), None).await?;
        Ok((Intake::Volume { content, ticket }, None))
    }

    /// The content in memory, when it is small. What is brought into memory counts against the batch.
    async fn take_short(
        &self,
        mut content: Content,
        left: &mut InlineLimits,
    ) -> Result<(Content, Option<Bytes>)> {
        // Sealing makes a shorter content no longer than it makes this one.
        let limit = left.content_bytes_max.min(left.batch_bytes_max);
        let limit = limit.saturating_sub(self.stored_len(limit).saturating_sub(limit));
        let announced = content.size_hint();
        if left.content_bytes_max == 0 || announced.is_some_and(|length| length > limit) {
            return Ok((content, None));
        }
        let max = usize::try_from(limit).unwrap_or(usize::MAX);
        let short = if content.is_blocking() {
            let work = move || {
                let short = content.take_short_blocking(max);
                (content, short)
            };
            let (back, short) = off_thread(&*self.inner.context.disk, work).await;
            content = back;
            short
        } else {
            content.take_short(max).await
        };
        let short = short.map_err(|source| Error::Source { source })?;
        let in_memory = short.as_ref().map_or(limit, |bytes| self.stored_len(bytes.len() as u64));
        left.batch_bytes_max = left.batch_bytes_max.saturating_sub(in_memory);
        Ok((content, short))
    }

    /// A volume for content of about `size_hint` bytes; with `path_of` one that gives this blob a path.
    pub(super) async fn place(&self, size_hint: Option<u64>, path_of: Option<&BlobPath>) -> Result<Ticket> {
        match self.place_or_probe(size_hint, &[], path_of).await {
            Err(refused) => self.place_after_expansion(size_hint, &[], path_of, refused).await,
            answer => answer,
        }
    }

    /// One of the mounted volumes that is none of `tried`: better one that failed a write and may be well again than none.
    pub(super) async fn place_or_probe(
        &self,
        size_hint: Option<u64>,
        tried: &[VolumeId],
        path_of: Option<&BlobPath>,
    ) -> Result<Ticket> {
        let choose = || self.inner.mounts.place(&self.inner.placement, size_hint, tried, path_of);
        match choose() {
            Err(Error::VolumeUnavailable { .. }) if self.probe_suspects().await => choose(),
            answer => answer,
        }
    }
}
