//! A volume that fails when it is told to.

use std::{
    collections::HashMap,
    future::pending,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{
    Area, Blob, BlobPage, BlobPath, BlobReader, Content, Cursor, Durability, Error, OnScrub, Result,
    ScrubProgress, Staged, Staging, StoragePath, StorageVolume, StoredBlob, Tidy, TidyReport, VolumeId,
    VolumeStatus,
};
use locus_fs::{VolumeContext, VolumeSpec};
use parking_lot::Mutex;

/// A call of a [`StorageVolume`], or of a blob that it opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named as the calls are")]
pub enum VolumeOp {
    Probe,
    Write,
    Copy,
    Open,
    /// [`Blob::read_at`].
    Read,
    Delete,
    Sync,
    SyncBlob,
    SyncNames,
    List,
    Tidy,
    Stage,
    /// [`Staged::write_at`].
    StagedWrite,
    /// [`Staged::read_at`].
    StagedRead,
    /// [`Staged::sync`].
    StagedSync,
    /// [`Staged::publish`].
    Publish,
    /// [`StorageVolume::staged`].
    ListStaged,
    Discard,
}

impl VolumeOp {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Probe,
        Self::Write,
        Self::Copy,
        Self::Open,
        Self::Read,
        Self::Delete,
        Self::Sync,
        Self::SyncBlob,
        Self::SyncNames,
        Self::List,
        Self::Tidy,
        Self::Stage,
        Self::StagedWrite,
        Self::StagedRead,
        Self::StagedSync,
        Self::Publish,
        Self::ListStaged,
        Self::Discard,
    ];
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failing {
    /// Nothing is done, and the call fails with [`Error::Io`].
    Refused,
    /// All is done, and the call fails with [`Error::Io`] all the same.
    AnswerLost,
    /// Nothing is done, and the call never returns.
    Hanging,
}

/// The switches of a [`FaultyVolume`]. Clones are the same switches.
#[derive(Debug, Clone, Default)]
pub struct VolumeFaults(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    failing: HashMap<VolumeOp, Fault>,
    away: bool,
    failed: u64,
    hung: u64,
    /// What was read of blobs, when somebody listens.
    reads: Option<Vec<Range<u64>>>,
}

#[derive(Debug, Clone, Copy)]
struct Fault {
    spared: u64,
    how: Failing,
}

impl VolumeFaults {
    /// Nothing fails yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets calls of `op` fail, after `spared` more that succeed.
    pub fn fail(&self, op: VolumeOp, spared: u64, how: Failing) {
        self.0.lock().failing.insert(op, Fault { spared, how });
    }

    /// Takes the volume away, or brings it back: while it is away every call but `close` is refused with
    /// [`Error::VolumeUnavailable`], its opening too, and its status says so.
    pub fn set_away(&self, away: bool) {
        self.0.lock().away = away;
    }

    /// Ends all faults and brings the volume back.
    pub fn heal(&self) {
        let mut state = self.0.lock();
        state.failing.clear();
        state.away = false;
    }

    /// How many calls failed so far. Those that hang are not among them.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.lock().failed
    }

    /// How many calls hung so far.
    #[must_use]
    pub fn hung(&self) -> u64 {
        self.0.lock().hung
    }

    /// Notes every range of bytes that is read of a blob from now on, for [`reads`](Self::reads).
    pub fn listen(&self) {
        self.0.lock().reads = Some(Vec::new());
    }

    /// What was read of blobs since [`listen`](Self::listen), in order; with what was read while they were opened.
    #[must_use]
    pub fn reads(&self) -> Vec<Range<u64>> {
        self.0.lock().reads.clone().unwrap_or_default()
    }

    fn read(&self, offset: u64, bytes: &Bytes) {
        if let Some(reads) = &mut self.0.lock().reads
            && !bytes.is_empty()
        {
            reads.push(offset..offset + bytes.len() as u64);
        }
    }

    fn is_away(&self) -> bool {
        self.0.lock().away
    }

    /// What is to happen to this call.
    fn decide(&self, op: VolumeOp) -> Decided {
        let mut state = self.0.lock();
        if state.away {
            state.failed += 1;
            return Decided::Away;
        }
        let Some(fault) = state.failing.get_mut(&op) else { return Decided::Works };
        if fault.spared > 0 {
            fault.spared -= 1;
            return Decided::Works;
        }
        let how = fault.how;
        match how {
            Failing::Hanging => state.hung += 1,
            Failing::Refused | Failing::AnswerLost => state.failed += 1,
        }
        Decided::Fails(how)
    }

    async fn run<T>(
        &self,
        op: VolumeOp,
        id: &VolumeId,
        call: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let failed = || Error::io("reach", id.as_str())(io::Error::other("a fault was asked for"));
        match self.decide(op) {
            Decided::Works => call.await,
            Decided::Away => Err(Error::VolumeUnavailable { volume: Some(id.clone()), why: AWAY.into() }),
            Decided::Fails(Failing::Refused) => Err(failed()),
            Decided::Fails(Failing::AnswerLost) => call.await.and_then(|_| Err(failed())),
            Decided::Fails(Failing::Hanging) => pending().await,
        }
    }
}

const AWAY: &str = "is away";

enum Decided {
    Works,
    Away,
    Fails(Failing),
}

/// A decorator over a volume whose calls fail when its [`VolumeFaults`] say so. It is a volume, and the description of
/// one over another description.
#[derive(Debug, Clone)]
pub struct FaultyVolume<V> {
    inner: V,
    faults: VolumeFaults,
}

impl<V> FaultyVolume<V> {
    /// `inner` with these switches.
    pub fn new(inner: V, faults: VolumeFaults) -> Self {
        Self { inner, faults }
    }
}

#[async_trait]
impl<S: VolumeSpec + 'static> VolumeSpec for FaultyVolume<S> {
    fn id(&self) -> Result<VolumeId> {
        self.inner.id()
    }

    fn expect_existing(&mut self) {
        self.inner.expect_existing();
    }

    fn places(&self) -> Vec<PathBuf> {
        self.inner.places()
    }

    async fn open(self: Box<Self>, context: VolumeContext) -> Result<Arc<dyn StorageVolume>> {
        if self.faults.is_away() {
            return Err(Error::VolumeUnavailable { volume: Some(self.inner.id()?), why: AWAY.into() });
        }
        let inner = Box::new(self.inner).open(context).await?;
        Ok(Arc::new(FaultyVolume { inner, faults: self.faults }))
    }
}

#[async_trait]
impl StorageVolume for FaultyVolume<Arc<dyn StorageVolume>> {
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
        if self.faults.is_away() {
            return VolumeStatus { is_healthy: false, why: Some(AWAY.into()), ..status };
        }
        status
    }

    async fn probe(&self) -> Result<VolumeStatus> {
        self.faults.run(VolumeOp::Probe, self.id(), self.inner.probe()).await
    }

    async fn write(&self, at: &BlobPath, content: &mut Content, how: Durability) -> Result<StoredBlob> {
        self.faults.run(VolumeOp::Write, self.id(), self.inner.write(at, content, how)).await
    }

    async fn stage(&self, at: &BlobPath, how: Staging) -> Result<Arc<dyn Staged>> {
        let inner = self.faults.run(VolumeOp::Stage, self.id(), self.inner.stage(at, how)).await?;
        Ok(Arc::new(FaultyStaged { inner, id: self.id().clone(), faults: self.faults.clone() }))
    }

    async fn staged(&self, from: Option<&Cursor>, limit: usize) -> Result<BlobPage> {
        self.faults.run(VolumeOp::ListStaged, self.id(), self.inner.staged(from, limit)).await
    }

    async fn discard(&self, at: &BlobPath) -> Result<bool> {
        self.faults.run(VolumeOp::Discard, self.id(), self.inner.discard(at)).await
    }

    async fn copy(&self, at: &BlobPath, to: Area) -> Result<()> {
        self.faults.run(VolumeOp::Copy, self.id(), self.inner.copy(at, to)).await
    }

    async fn open(&self, at: &BlobPath, expected: Range<u64>) -> Result<BlobReader> {
        let opened = self.faults.run(VolumeOp::Open, self.id(), self.inner.open(at, expected)).await?;
        self.faults.read(opened.head_offset, &opened.head);
        let blob = FaultyBlob { inner: opened.blob, id: self.id().clone(), faults: self.faults.clone() };
        Ok(BlobReader { blob: Arc::new(blob), ..opened })
    }

    async fn delete(&self, at: &BlobPath) -> Result<bool> {
        self.faults.run(VolumeOp::Delete, self.id(), self.inner.delete(at)).await
    }

    async fn sync(&self) -> Result<()> {
        self.faults.run(VolumeOp::Sync, self.id(), self.inner.sync()).await
    }

    async fn sync_blob(&self, at: &BlobPath) -> Result<()> {
        self.faults.run(VolumeOp::SyncBlob, self.id(), self.inner.sync_blob(at)).await
    }

    async fn sync_names(&self) -> Result<()> {
        self.faults.run(VolumeOp::SyncNames, self.id(), self.inner.sync_names()).await
    }

    async fn list(
        &self,
        under: Option<&StoragePath>,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<BlobPage> {
        self.faults.run(VolumeOp::List, self.id(), self.inner.list(under, from, limit)).await
    }

    async fn tidy(&self, what: Tidy) -> Result<TidyReport> {
        self.faults.run(VolumeOp::Tidy, self.id(), self.inner.tidy(what)).await
    }

    /// Fails as its inner one does.
    async fn scrub(&self, progress: OnScrub<'_>) -> Result<Option<ScrubProgress>> {
        self.inner.scrub(progress).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct FaultyBlob {
    inner: Arc<dyn Blob>,
    id: VolumeId,
    faults: VolumeFaults,
}

#[async_trait]
impl Blob for FaultyBlob {
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let bytes = self.faults.run(VolumeOp::Read, &self.id, self.inner.read_at(offset, len)).await?;
        self.faults.read(offset, &bytes);
        Ok(bytes)
    }
}

#[derive(Debug)]
struct FaultyStaged {
    inner: Arc<dyn Staged>,
    id: VolumeId,
    faults: VolumeFaults,
}

#[async_trait]
impl Staged for FaultyStaged {
    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.faults.run(VolumeOp::StagedWrite, &self.id, self.inner.write_at(offset, bytes)).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.faults.run(VolumeOp::StagedRead, &self.id, self.inner.read_at(offset, len)).await
    }

    async fn sync(&self) -> Result<()> {
        self.faults.run(VolumeOp::StagedSync, &self.id, self.inner.sync()).await
    }

    async fn publish(&self, to: &BlobPath, length: u64) -> Result<()> {
        self.faults.run(VolumeOp::Publish, &self.id, self.inner.publish(to, length)).await
    }
}
