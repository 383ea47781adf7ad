//! What the tests of pool and scheduler share: an open engine, a volume that hangs on command, a future polled by hand.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::{
    ops::Range,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{
    Area, BlobPage, BlobPath, BlobReader, Content, Cursor, Durability, FileKey, MetadataStore, Result,
    Staged, Staging, StoragePath, StorageVolume, StoredBlob, TenantContext, TenantCounts, Tidy, TidyReport,
    VolumeId, VolumeStatus,
};
use locus_storage::{EngineOptions, FileScheduler, StoragePool, VerifyLevel, VerifyReport, WriteOptions};
use locus_testkit::{Fault, FaultId, OpKind};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::world::{End, Engine, World};

/// An open engine with two volumes and two tenants.
pub(crate) struct Bench {
    pub(crate) world: World,
    pub(crate) engine: Engine,
    pub(crate) pool: StoragePool,
    pub(crate) scheduler: FileScheduler,
    pub(crate) acme: TenantContext,
    pub(crate) other: TenantContext,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(EngineOptions::default(), 2)
    }

    pub(crate) fn with(options: EngineOptions, volumes: usize) -> Self {
        let mut world = World::new(1, options);
        world.volumes = volumes;
        Self::open(world)
    }

    /// A world of its own.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self::open(World::new(seed, EngineOptions::default()))
    }

    pub(crate) fn open_at(world: World) -> Self {
        Self::open(world)
    }

    fn open(mut world: World) -> Self {
        let engine = world.open().unwrap();
        let (pool, scheduler) = (engine.pool.clone(), engine.scheduler.clone());
        let (acme, other) = (engine.tenants[0].clone(), engine.tenants[1].clone());
        Self { world, engine, pool, scheduler, acme, other }
    }

    /// The process dies and comes back.
    pub(crate) fn restart(self) -> Self {
        let Self { world, .. } = self;
        world.disk.heal_all();
        world.disk.kill();
        Self::open(world)
    }

    /// This life ends so, and the next begins.
    pub(crate) fn restart_after(self, end: End) -> Self {
        let Self { mut world, engine, pool, scheduler, .. } = self;
        drop((engine, pool, scheduler));
        world.end(end);
        Self::open(world)
    }

    /// The power goes and comes back.
    pub(crate) fn restart_after_power_cut(self) -> Self {
        let Self { world, .. } = self;
        world.disk.heal_all();
        world.disk.crash();
        world.disk.crash_at(u64::MAX);
        Self::open(world)
    }

    pub(crate) fn run<T>(&mut self, call: impl Future<Output = T>) -> T {
        self.world.run(&self.engine, call)
    }

    /// Like `run`; the clock moves to the next deadline whenever nobody else can go on.
    pub(crate) fn run_on<T>(&mut self, call: impl Future<Output = T>) -> T {
        let (store, clock) = (self.engine.store.clone(), self.world.clock.clone());
        let idle = move || (store.commit_step() | store.keep_step()) || clock.advance_to_next();
        self.world.stepper.block_on(call, idle)
    }

    /// Polls by hand up to `polls` times, the committer in between. Drops the future when it is not done by then.
    pub(crate) fn poll<T>(&mut self, polls: usize, call: impl Future<Output = T>) -> Option<T> {
        let mut call = Box::pin(call);
        for _ in 0..polls {
            if let Poll::Ready(done) = poll_once(call.as_mut()) {
                return Some(done);
            }
            self.commit();
        }
        None
    }

    /// Polls by hand so often, the committer in between: it is not done by then.
    pub(crate) fn still_waits<F: Future + ?Sized>(&self, polls: usize, mut call: Pin<&mut F>) {
        for _ in 0..polls {
            assert!(poll_once(call.as_mut()).is_pending());
            self.commit();
        }
    }

    /// Steps of committer and keeper until there is nothing to do.
    pub(crate) fn commit(&self) {
        while self.engine.store.commit_step() | self.engine.store.keep_step() {}
    }

    pub(crate) fn write(&mut self, content: impl Into<Content>) -> FileKey {
        self.write_with(content, WriteOptions::new()).unwrap()
    }

    pub(crate) fn write_with(
        &mut self,
        content: impl Into<Content>,
        options: WriteOptions,
    ) -> Result<FileKey> {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        let content = content.into();
        self.run(async move { pool.write(&acme, content, options).await })
    }

    /// The content of one of acme's files, checked.
    pub(crate) fn read(&mut self, key: FileKey) -> Result<Vec<u8>> {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        self.run(async move { Ok(pool.read(&acme, &key).await?.bytes().await?.to_vec()) })
    }

    pub(crate) fn volume_of(&mut self, key: FileKey) -> VolumeId {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        let location = self.run(async move { pool.location(&acme, &key).await }).unwrap().unwrap();
        location.volume_id.unwrap()
    }

    /// Keys of all blobs on all volumes.
    pub(crate) fn blobs(&mut self) -> Vec<FileKey> {
        let blobs = {
            let Self { world, engine, .. } = self;
            world.run(engine, engine.blobs()).unwrap()
        };
        blobs.into_iter().map(|blob| blob.key).collect()
    }

    pub(crate) fn verify(&mut self, level: VerifyLevel) -> VerifyReport {
        let store = self.engine.store.clone();
        self.run(async move { store.verify(level, &|_| ()).await }).unwrap()
    }

    pub(crate) fn counts(&self) -> TenantCounts {
        self.engine.store.counts().get(self.acme.id()).copied().unwrap_or_default()
    }

    /// Plants a fault on what happens under `/vol-<n>`.
    pub(crate) fn fault(&self, volume: usize, kind: OpKind, fault: Fault) -> FaultId {
        let root = PathBuf::from(format!("/vol-{volume}"));
        self.world.disk.fail(fault.on(kind).at(move |path| path.starts_with(&root)))
    }

    /// Puts a volume that hangs on command in the place of `vol-<n>`.
    pub(crate) fn hanging(&mut self, volume: usize) -> Arc<Hanging> {
        let id = vol(volume);
        let inner = self.engine.registry.take(&id).unwrap();
        let hanging = Arc::new(Hanging { inner, gate: Arc::default(), syncs: Default::default() });
        self.engine.registry.insert(hanging.clone()).unwrap();
        hanging
    }
}

pub(crate) fn poll_once<F: Future + ?Sized>(call: Pin<&mut F>) -> Poll<F::Output> {
    call.poll(&mut Context::from_waker(Waker::noop()))
}

pub(crate) fn vol(number: usize) -> VolumeId {
    VolumeId::parse(&format!("vol-{number}")).unwrap()
}

/// Where a write stops until it is told to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Hang {
    #[default]
    No,
    Before,
    After,
    /// An opening instead.
    Open,
    /// A piece of an upload instead, when it is synced.
    Piece,
    /// An upload instead, before it is given its name.
    Publish,
}

#[derive(Debug)]
pub(crate) struct Hanging {
    inner: Arc<dyn StorageVolume>,
    gate: Arc<Gate>,
    syncs: std::sync::atomic::AtomicU64,
}

#[derive(Debug, Default)]
struct Gate {
    hang: Mutex<Hang>,
    go: Notify,
}

impl Gate {
    async fn pass(&self, at: Hang) {
        let go = self.go.notified();
        let hangs = *self.hang.lock() == at;
        if hangs {
            go.await;
        }
    }
}

#[derive(Debug)]
struct HangingStaged {
    inner: Arc<dyn Staged>,
    gate: Arc<Gate>,
}

#[async_trait]
impl Staged for HangingStaged {
    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.inner.write_at(offset, bytes).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.inner.read_at(offset, len).await
    }

    async fn sync(&self) -> Result<()> {
        self.inner.sync().await?;
        self.gate.pass(Hang::Piece).await;
        Ok(())
    }

    async fn publish(&self, to: &BlobPath, length: u64) -> Result<()> {
        self.gate.pass(Hang::Publish).await;
        self.inner.publish(to, length).await
    }
}

impl Hanging {
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Who hangs already does so until it is told to [go](Self::go).
    pub(crate) fn hang(&self, hang: Hang) {
        *self.gate.hang.lock() = hang;
    }

    pub(crate) fn go(&self) {
        self.hang(Hang::No);
        self.gate.go.notify_waiters();
    }
}

#[async_trait]
impl StorageVolume for Hanging {
    fn id(&self) -> &VolumeId {
        self.inner.id()
    }

    fn mount_path(&self) -> Option<&Path> {
        self.inner.mount_path()
    }

    fn local_path(&self, at: &BlobPath) -> Option<PathBuf> {
        self.inner.local_path(at)
    }

    fn status(&self) -> VolumeStatus {
        self.inner.status()
    }

    async fn probe(&self) -> Result<VolumeStatus> {
        self.inner.probe().await
    }

    async fn write(&self, at: &BlobPath, content: &mut Content, how: Durability) -> Result<StoredBlob> {
        self.gate.pass(Hang::Before).await;
        let stored = self.inner.write(at, content, how).await;
        self.gate.pass(Hang::After).await;
        stored
    }

    async fn stage(&self, at: &BlobPath, how: Staging) -> Result<Arc<dyn Staged>> {
        let inner = self.inner.stage(at, how).await?;
        Ok(Arc::new(HangingStaged { inner, gate: Arc::clone(&self.gate) }))
    }

    async fn staged(&self, from: Option<&Cursor>, limit: usize) -> Result<BlobPage> {
        self.inner.staged(from, limit).await
    }

    async fn discard(&self, at: &BlobPath) -> Result<bool> {
        self.inner.discard(at).await
    }

    async fn open(&self, at: &BlobPath, expected: Range<u64>) -> Result<BlobReader> {
        self.gate.pass(Hang::Open).await;
        self.inner.open(at, expected).await
    }

    async fn copy(&self, at: &BlobPath, to: Area) -> Result<()> {
        self.inner.copy(at, to).await
    }

    async fn delete(&self, at: &BlobPath) -> Result<bool> {
        self.inner.delete(at).await
    }

    async fn sync(&self) -> Result<()> {
        self.gate.pass(Hang::Before).await;
        self.syncs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.inner.sync().await
    }

    async fn sync_blob(&self, at: &BlobPath) -> Result<()> {
        self.inner.sync_blob(at).await
    }

    async fn sync_names(&self) -> Result<()> {
        self.inner.sync_names().await
    }

    async fn list(
        &self,
        under: Option<&StoragePath>,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<BlobPage> {
        self.inner.list(under, from, limit).await
    }

    async fn tidy(&self, what: Tidy) -> Result<TidyReport> {
        self.inner.tidy(what).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}
