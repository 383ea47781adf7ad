//! An open volume on a share.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{
    Area, Blob, BlobPage, BlobPath, BlobReader, Content, Cursor, Durability, Error, Result, Staged, Staging,
    StoragePath, StorageVolume, StoredBlob, Tidy, TidyReport, VolumeId, VolumeStatus,
};

use crate::{
    busy::Claim,
    disk::Disk,
    feed::{CHUNK_BYTES, feed, next_chunk},
    network::{
        guard::{Guard, Running, Work, is_of_transport, named},
        staged::NetworkStaged,
    },
};

/// A directory of a mounted share; [`NetworkVolume`](crate::NetworkVolume) describes one.
#[derive(Debug)]
pub struct OpenNetworkVolume {
    inner: Arc<dyn StorageVolume>,
    guard: Arc<Guard>,
    disk: Arc<dyn Disk>,
}

type Inner = Arc<dyn StorageVolume>;

impl OpenNetworkVolume {
    pub(crate) fn new(inner: Inner, guard: Guard, disk: Arc<dyn Disk>) -> Self {
        Self { inner, guard: Arc::new(guard), disk }
    }

    /// One call that is made once.
    async fn once<T: Send + 'static>(&self, call: impl FnOnce(Inner) -> Work<Result<T>>) -> Result<T> {
        self.guard.may_ask()?;
        let done = self.guard.run(call(Arc::clone(&self.inner)), None).await;
        self.guard.learn(&done);
        done
    }

    /// A call that changes nothing: it is made once more when the connection failed.
    async fn again<T: Send + 'static>(&self, call: impl Fn(Inner) -> Work<Result<T>>) -> Result<T> {
        match self.once(&call).await {
            Err(Error::Io { source, .. }) if is_of_transport(&source) => self.once(&call).await,
            done => done,
        }
    }

    async fn stream(
        &self,
        at: &BlobPath,
        content: &mut Content,
        how: Durability,
    ) -> Result<(StoredBlob, Claim)> {
        let (mut feeding, ends) = feed(1);
        let Some(end) = ends.into_iter().next() else { return Err(self.guard.unavailable("has no reader")) };
        let running = self.begin_write(at, Content::reader(end), how).await?;
        loop {
            let chunk = match next_chunk(&*self.disk, content).await {
                Ok(chunk) => chunk,
                Err(source) => {
                    drop(feeding); // the writer fails, and discards what it has
                    let _ = running.wait(&self.guard).await;
                    return Err(Error::Source { source });
                }
            };
            let is_last = chunk.len() < CHUNK_BYTES;
            match self.guard.in_time(feeding.give(chunk)).await {
                None => return Err(self.guard.late()),
                Some(false) => return running.wait(&self.guard).await,
                Some(true) if is_last => {
                    if self.guard.in_time(feeding.end()).await.is_none() {
                        return Err(self.guard.late());
                    }
                    return running.wait(&self.guard).await;
                }
                Some(true) => {}
            }
        }
    }

    async fn begin_write(
        &self,
        at: &BlobPath,
        mut content: Content,
        how: Durability,
    ) -> Result<Running<(StoredBlob, Claim)>> {
        let to = at.clone();
        self.begin_at(at, move |inner| Box::pin(async move { inner.write(&to, &mut content, how).await }))
            .await
    }

    /// Begins what makes a blob at `at`, which is removed again when nobody waits for it any more.
    async fn begin_at<T: Send + 'static>(
        &self,
        at: &BlobPath,
        make: impl FnOnce(Arc<dyn StorageVolume>) -> Work<Result<T>>,
    ) -> Result<Running<(T, Claim)>> {
        let Some(claim) = self.guard.try_claim(at) else {
            return Err(Error::io("write", at.to_string())(io::ErrorKind::AlreadyExists.into()));
        };
        let making = make(Arc::clone(&self.inner));
        // The claim goes with the answer, or with the last thing that is done to this name.
        let work: Work<Result<(T, Claim)>> = Box::pin(async move { Ok((making.await?, claim)) });
        let (inner, to) = (Arc::clone(&self.inner), at.clone());
        let undo: Work<()> = Box::pin(async move { drop(inner.delete(&to).await) });
        self.guard.begin(work, Some(undo)).await
    }
}

#[async_trait]
impl StorageVolume for OpenNetworkVolume {
    fn id(&self) -> &VolumeId {
        self.inner.id()
    }

    fn mount_path(&self) -> Option<&Path> {
        self.inner.mount_path()
    }

    fn places(&self) -> Vec<PathBuf> {
        self.inner.places()
    }

    fn local_path(&self, at: &BlobPath) -> Option<PathBuf> {
        self.inner.local_path(at)
    }

    fn status(&self) -> VolumeStatus {
        let status = self.inner.status();
        match self.guard.why() {
            Some(why) if status.is_healthy => VolumeStatus { is_healthy: false, why: Some(why), ..status },
            _ => status,
        }
    }

    /// Also when the share is not there: this is how it is found again.
    async fn probe(&self) -> Result<VolumeStatus> {
        let inner = Arc::clone(&self.inner);
        let done = self.guard.run(Box::pin(async move { inner.probe().await }), None).await;
        self.guard.learn(&done);
        done.map(|_| self.status())
    }

    /// # Cancel safety
    /// As the trait says; a write that ends after its future was dropped is removed again.
    async fn write(&self, at: &BlobPath, content: &mut Content, how: Durability) -> Result<StoredBlob> {
        if !self.guard.blocks {
            return self.inner.write(at, content, how).await;
        }
        self.guard.may_ask()?;
        content.mark().await.map_err(|source| Error::Source { source })?;
        let done = match content.as_bytes().cloned() {
            Some(bytes) => match self.begin_write(at, bytes.into(), how).await {
                Ok(running) => running.wait(&self.guard).await,
                Err(error) => Err(error),
            },
            None => self.stream(at, content, how).await,
        };
        self.guard.learn(&done);
        done.map(|(stored, _claim)| stored)
    }

    async fn stage(&self, at: &BlobPath, how: Staging) -> Result<Arc<dyn Staged>> {
        let to = at.clone();
        let claim = match how {
            Staging::New | Staging::Resume => None,
            Staging::Published { key, extension } => {
                let blob = BlobPath { area: Area::Live, owner: at.owner.clone(), key, extension };
                Some(self.guard.claim(&blob)?)
            }
        };
        let staging = |inner: Inner| -> Work<_> { Box::pin(async move { inner.stage(&to, how).await }) };
        let inner = self.once(|inner| named(claim, staging(inner))).await?;
        Ok(Arc::new(NetworkStaged { inner, guard: Arc::clone(&self.guard) }))
    }

    async fn staged(&self, from: Option<&Cursor>, limit: usize) -> Result<BlobPage> {
        self.again(|inner| {
            let from = from.cloned();
            Box::pin(async move { inner.staged(from.as_ref(), limit).await })
        })
        .await
    }

    async fn discard(&self, at: &BlobPath) -> Result<bool> {
        let at = at.clone();
        self.once(|inner| Box::pin(async move { inner.discard(&at).await })).await
    }

    /// # Cancel safety
    /// As the trait says; a copy that ends after its future was dropped is removed again.
    async fn copy(&self, at: &BlobPath, to: Area) -> Result<()> {
        let (from, to) = (at.clone(), at.in_area(to));
        let begun =
            self.begin_at(&to, move |inner| Box::pin(async move { inner.copy(&from, to.area).await }));
        let done = match begun.await {
            Ok(running) => running.wait(&self.guard).await,
            Err(error) => Err(error),
        };
        self.guard.learn(&done);
        done.map(drop)
    }

    async fn open(&self, at: &BlobPath, expected: Range<u64>) -> Result<BlobReader> {
        let opened = self
            .again(|inner| {
                let (at, expected) = (at.clone(), expected.clone());
                Box::pin(async move { inner.open(&at, expected).await })
            })
            .await?;
        if !self.guard.blocks {
            return Ok(opened);
        }
        let blob = Arc::new(NetworkBlob { inner: opened.blob, guard: Arc::clone(&self.guard) });
        Ok(BlobReader { blob, ..opened })
    }

    async fn delete(&self, at: &BlobPath) -> Result<bool> {
        let (at, claim) = (at.clone(), self.guard.claim(at)?);
        let deleting = |inner: Inner| -> Work<_> { Box::pin(async move { inner.delete(&at).await }) };
        self.once(|inner| named(Some(claim), deleting(inner))).await
    }

    async fn sync(&self) -> Result<()> {
        self.once(|inner| Box::pin(async move { inner.sync().await })).await
    }

    async fn sync_blob(&self, at: &BlobPath) -> Result<()> {
        let at = at.clone();
        self.once(|inner| Box::pin(async move { inner.sync_blob(&at).await })).await
    }

    async fn sync_names(&self) -> Result<()> {
        self.once(|inner| Box::pin(async move { inner.sync_names().await })).await
    }

    async fn list(
        &self,
        under: Option<&StoragePath>,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<BlobPage> {
        self.again(|inner| {
            let (under, from) = (under.cloned(), from.cloned());
            Box::pin(async move { inner.list(under.as_ref(), from.as_ref(), limit).await })
        })
        .await
    }

    async fn tidy(&self, what: Tidy) -> Result<TidyReport> {
        self.once(|inner| Box::pin(async move { inner.tidy(what).await })).await
    }

    /// Waits for calls that hang no longer than for any other: then they end by themselves, and the lock with the last of
    /// them.
    async fn close(&self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        self.guard.run(Box::pin(async move { inner.close().await }), None).await
    }
}

#[derive(Debug)]
struct NetworkBlob {
    inner: Arc<dyn Blob>,
    guard: Arc<Guard>,
}

#[async_trait]
impl Blob for NetworkBlob {
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let mut tries = 0;
        loop {
            self.guard.may_ask()?;
            let inner = Arc::clone(&self.inner);
            let done = self.guard.run(Box::pin(async move { inner.read_at(offset, len).await }), None).await;
            self.guard.learn(&done);
            tries += 1;
            match done {
                Err(Error::Io { source, .. }) if tries == 1 && is_of_transport(&source) => {}
                done => return done,
            }
        }
    }
}
