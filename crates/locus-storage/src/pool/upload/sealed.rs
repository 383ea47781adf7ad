//! Uploads to a sealed pool: what is known of one is sealed when it begins, its pieces as they come, and its content when it ends.

use std::{
    io, mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use locus_core::{
    Checksum, Content, Durability, Error, FileKey, NewUpload, Result, SealKeyId, SealedDetails, SealedFile,
    Sealer, Staging, StoredBlob, UploadInfo,
};
use tokio::io::{AsyncRead, ReadBuf};

use super::{Upload, desk::Opened, is_expected};
use crate::pool::{StoragePool, reader::CHUNK_BYTES};

/// In the place of a checksum that nobody expects.
const NOT_EXPECTED: Checksum = Checksum::from_bytes([0; 32]);

/// Seals what is known of an upload that begins.
pub(super) fn seal(sealer: &dyn Sealer, file: &SealedFile, new: &mut NewUpload) -> Result<()> {
    let details = SealedDetails {
        size: new.size,
        checksum: new.expected.take().unwrap_or(NOT_EXPECTED),
        original_name: new.original_name.take(),
        properties: mem::take(&mut new.properties),
    };
    new.size = sealer.sealed_len(details.size);
    new.seal = Some(sealer.seal_details(file, sealer.key(), &of_begin(file), &details)?);
    Ok(())
}

/// What stands for the content's checksum while there is none. Nothing else is ever sealed with it: no two uploads have a key.
fn of_begin(file: &SealedFile) -> Checksum {
    Checksum::of(file.key.as_bytes())
}

impl StoragePool {
    /// What is known of an upload, opened as far as it is sealed.
    pub(super) fn reveal_upload(&self, mut info: UploadInfo) -> Result<UploadInfo> {
        let Some(seal) = &info.seal else { return Ok(info) };
        let sealer = self.sealer().ok_or(Error::UnknownKey { key: seal.key })?;
        let file = SealedFile { owner: info.storage_path.clone(), key: info.id.key() };
        let details = sealer.open_details(&file, &of_begin(&file), seal)?;
        info.size = details.size;
        info.expected_checksum = Some(details.checksum).filter(|expected| *expected != NOT_EXPECTED);
        (info.original_name, info.properties) = (details.original_name, details.properties);
        // At the end of the upload the store is told of what sealing added.
        info.confirmed.iter_mut().for_each(|range| range.end = range.end.min(details.size));
        info.confirmed.retain(|range| !range.is_empty());
        Ok(info)
    }
}

impl Upload {
    /// Seals the whole content and ends the upload with it. Whatever an earlier try left under its name is nobody's: there is no
    /// record of it.
    pub(super) async fn seal_whole(&self, info: &UploadInfo, key: SealKeyId) -> Result<FileKey> {
        let (pool, store) = (&self.pool, &self.pool.inner.store);
        let sealer = pool.sealer().ok_or(Error::UnknownKey { key })?;
        let opened = self.staged(Staging::Resume).await?;
        let at = info.blob();
        let file = SealedFile { owner: at.owner.clone(), key: at.key };
        let content =
            || Content::reader(Reading::new(opened.clone(), info.size)).sealed(sealer.clone(), file.clone());
        let (mut source, mut again) = (content(), content());
        let written = match opened.volume.write(&at, &mut source, Durability::Durable).await {
            Err(taken) if taken.is_taken() => {
                let removed = opened.volume.delete(&at).await;
                self.judged(&opened, removed).await?;
                mem::swap(&mut source, &mut again);
                opened.volume.write(&at, &mut source, Durability::Durable).await
            }
            written => written,
        };
        let StoredBlob { length, checksum } = self.judged(&opened, written.map_err(of_piece)).await?;
        let unread = || Error::Tampered { place: format!("the content of upload {}", self.id) };
        let sealed = source.sealed_as().filter(|sealed| sealed.size == info.size).ok_or_else(unread)?;
        if let Err(error) = is_expected(info, sealed.checksum) {
            let _ = opened.volume.delete(&at).await; // a sweep finds what stays
            return Err(error);
        }
        let details = SealedDetails {
            size: sealed.size,
            checksum: sealed.checksum,
            original_name: info.original_name.clone(),
            properties: info.properties.clone(),
        };
        let seal = sealer.seal_details(&file, sealed.key, &checksum, &details)?;
        let tenant = self.tenant.id();
        // What sealing added is there as well.
        if !store
            .confirm_upload(tenant, &self.id, &opened.at, std::slice::from_ref(&(info.size..length)))
            .await?
        {
            return Err(Error::UploadNotFound { upload: self.id });
        }
        let held = pool.hold_keys(std::iter::once(&seal))?;
        let key = store.finish_upload(tenant, &self.id, checksum, Some(seal)).await?;
        drop(held);
        *self.desk.staged.lock().await = None;
        // Power loss may take a record back that is not durable, and then the upload goes on with what is staged.
        if pool.inner.durability == Durability::Durable
            && let Some(staged) = info.staged_at()
        {
            let _ = opened.volume.discard(&staged).await; // as above
        }
        Ok(key)
    }
}

/// What was wrong with the pieces, where the content could not be read.
fn of_piece(error: Error) -> Error {
    match error {
        Error::Source { source } => match source.downcast::<Error>() {
            Ok(inner) => inner,
            Err(source) => Error::Source { source },
        },
        error => error,
    }
}

type Fetch = Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>;

/// The whole content, out of its pieces.
struct Reading {
    opened: Opened,
    at: u64,
    size: u64,
    left: Bytes,
    fetch: Option<Fetch>,
}

impl Reading {
    fn new(opened: Opened, size: u64) -> Self {
        Self { opened, at: 0, size, left: Bytes::new(), fetch: None }
    }
}

impl AsyncRead for Reading {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.left.is_empty() && this.at < this.size {
            let fetch = this.fetch.get_or_insert_with(|| {
                let (opened, at) = (this.opened.clone(), this.at);
                let len = CHUNK_BYTES.min(this.size.saturating_sub(at));
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                Box::pin(async move { opened.read_at(at, len).await })
            });
            let fetched = ready!(fetch.as_mut().poll(context));
            this.fetch = None;
            this.left = fetched.map_err(io::Error::other)?;
            this.at = this.at.saturating_add(this.left.len() as u64);
        }
        let len = this.left.len().min(into.remaining());
        into.put_slice(this.left.get(..len).unwrap_or_default());
        this.left.advance(len);
        Poll::Ready(Ok(()))
    }
}
