//! A volume that its owner may give up on: whoever waits for an answer of it is told so and goes on.

use std::{
    borrow::Cow,
    fmt,
    future::poll_fn,
    ops::Range,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{
    Area, Blob, BlobPage, BlobPath, BlobReader, Content, Cursor, Durability, Error, OnScrub, Result,
    ScrubProgress, Staged, Staging, StoragePath, StorageVolume, StoredBlob, Tidy, TidyReport, VolumeId,
    VolumeStatus,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A decorator over a volume that may hang. As long as nobody [gives it up](Self::give_up) every call is its own; from then
/// on each call of it, of what it opened and of what it staged fails with [`Error::VolumeUnavailable`], those under way too,
/// until it is [trusted](Self::trust) again. Probes and the closing go through.
///
/// What a call that was given up does to the volume it may still do, as after a dropped future.
#[derive(Debug)]
pub struct WatchedVolume {
    inner: Arc<dyn StorageVolume>,
    watch: Arc<Watch>,
}

struct Watch {
    id: VolumeId,
    /// Why nobody waits for it.
    given_up: Mutex<Option<Cow<'static, str>>>,
    told: Notify,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("given_up", &self.given_up).finish_non_exhaustive()
    }
}

impl WatchedVolume {
    /// `inner`, and nobody has given it up.
    #[must_use]
    pub fn new(inner: Arc<dyn StorageVolume>) -> Self {
        let id = inner.id().clone();
        Self { inner, watch: Arc::new(Watch { id, given_up: Mutex::default(), told: Notify::new() }) }
    }

    /// Whether this is what it was made of, or itself.
    #[must_use]
    pub fn is_over(&self, volume: &Arc<dyn StorageVolume>) -> bool {
        Arc::ptr_eq(&self.inner, volume) || std::ptr::addr_eq(self, Arc::as_ptr(volume))
    }

    /// Ends all calls under way, and refuses later ones, for this reason.
    pub fn give_up(&self, why: impl Into<Cow<'static, str>>) {
        *self.watch.given_up.lock() = Some(why.into());
        self.watch.told.notify_waiters();
    }

    /// Whether somebody gave it up and it was not trusted since.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.watch.given_up.lock().is_some()
    }

    /// Calls are its own again.
    pub fn trust(&self) {
        *self.watch.given_up.lock() = None;
    }
}

impl Watch {
    fn check(&self) -> Result<()> {
        let given_up = self.given_up.lock().clone();
        given_up.map_or(Ok(()), |why| Err(Error::VolumeUnavailable { volume: Some(self.id.clone()), why }))
    }

    /// The answer of `call`, unless the volume is given up first.
    async fn call<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let (mut call, mut told) = (pin!(call), pin!(self.told.notified()));
        self.check()?;
        poll_fn(|context| {
            if let Poll::Ready(done) = call.as_mut().poll(context) {
                return Poll::Ready(done);
            }
            while told.as_mut().poll(context).is_ready() {
                told.set(self.told.notified()); // before the look, so that nothing is missed between the two
                self.check()?; // it may be trusted again by now
            }
            Poll::Pending
        })
        .await
    }
}

#[async_trait]
impl StorageVolume for WatchedVolume {
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
        match self.watch.given_up.lock().clone() {
            Some(why) => VolumeStatus { is_healthy: false, read_only: false, why: Some(why), ..status },
            None => status,
        }
    }

    async fn probe(&self) -> Result<VolumeStatus> {
        self.inner.probe().await
    }

    async fn write(&self, at: &BlobPath, content: &mut Content, how: Durability) -> Result<StoredBlob> {
        self.watch.call(self.inner.write(at, content, how)).await
    }

    async fn stage(&self, at: &BlobPath, how: Staging) -> Result<Arc<dyn Staged>> {
        let inner = self.watch.call(self.inner.stage(at, how)).await?;
        Ok(Arc::new(WatchedStaged { inner, watch: Arc::clone(&self.watch) }))
    }

    async fn staged(&self, from: Option<&Cursor>, limit: usize) -> Result<BlobPage> {
        self.watch.call(self.inner.staged(from, limit)).await
    }

    async fn discard(&self, at: &BlobPath) -> Result<bool> {
        self.watch.call(self.inner.discard(at)).await
    }

    async fn copy(&self, at: &BlobPath, to: Area) -> Result<()> {
        self.watch.call(self.inner.copy(at, to)).await
    }

    async fn open(&self, at: &BlobPath, expected: Range<u64>) -> Result<BlobReader> {
        let opened = self.watch.call(self.inner.open(at, expected)).await?;
        let blob = WatchedBlob { inner: opened.blob, watch: Arc::clone(&self.watch) };
        Ok(BlobReader { blob: Arc::new(blob), ..opened })
    }

    async fn delete(&self, at: &BlobPath) -> Result<bool> {
        self.watch.call(self.inner.delete(at)).await
    }

    async fn sync(&self) -> Result<()> {
        self.watch.call(self.inner.sync()).await
    }

    async fn sync_blob(&self, at: &BlobPath) -> Result<()> {
        self.watch.call(self.inner.sync_blob(at)).await
    }

    async fn sync_names(&self) -> Result<()> {
        self.watch.call(self.inner.sync_names()).await
    }

    async fn list(
        &self,
        under: Option<&StoragePath>,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<BlobPage> {
        self.watch.call(self.inner.list(under, from, limit)).await
    }

    async fn tidy(&self, what: Tidy) -> Result<TidyReport> {
        self.watch.call(self.inner.tidy(what)).await
    }

    async fn scrub(&self, progress: OnScrub<'_>) -> Result<Option<ScrubProgress>> {
        self.watch.call(self.inner.scrub(progress)).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct WatchedBlob {
    inner: Arc<dyn Blob>,
    watch: Arc<Watch>,
}

#[async_trait]
impl Blob for WatchedBlob {
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.watch.call(self.inner.read_at(offset, len)).await
    }
}

#[derive(Debug)]
struct WatchedStaged {
    inner: Arc<dyn Staged>,
    watch: Arc<Watch>,
}

#[async_trait]
impl Staged for WatchedStaged {
    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.watch.call(self.inner.write_at(offset, bytes)).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.watch.call(self.inner.read_at(offset, len)).await
    }

    async fn sync(&self) -> Result<()> {
        self.watch.call(self.inner.sync()).await
    }

    async fn publish(&self, to: &BlobPath, length: u64) -> Result<()> {
        self.watch.call(self.inner.publish(to, length)).await
    }
}
