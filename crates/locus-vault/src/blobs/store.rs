//! The store of blobs.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{Checksum, Clock, Entropy, SystemClock, SystemEntropy};
use locus_fs::{Disk, LockGuard, LockManager, LockMode, OsDisk, create_dirs, off_thread};

use super::{
    guard::{EntityGuard, name_of},
    list::{ListCursor, ListPage},
    marker::Marker,
    probe::probe,
    shelf::{ENTITIES, Found, LOCKS, Shelf},
    sweep::SweepReport,
};
use crate::{
    cipher::sealed_len,
    error::VaultError,
    id::EntityId,
    keyring::{RingId, RingInfo},
    metadata::{self, EntityMetadata, SealedBy},
};

/// The lock that is held while the marker is made.
const MARKER_LOCK: &str = "vault.lock";

/// How a [`BlobStore`] is opened.
#[must_use = "options do nothing before something is opened with them"]
#[derive(Debug, Clone)]
pub struct BlobOptions {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) lock_timeout: Duration,
    pub(crate) content_bytes_max: u64,
    pub(crate) read_only: bool,
}

impl Default for BlobOptions {
    fn default() -> Self {
        Self {
            disk: Arc::new(OsDisk),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            lock_timeout: Duration::from_secs(30),
            content_bytes_max: 64 << 20,
            read_only: false,
        }
    }
}

impl BlobOptions {
    /// On this disk instead of the machine's own.
    pub fn disk(self, disk: Arc<dyn Disk>) -> Self {
        Self { disk, ..self }
    }

    /// By this clock instead of the machine's own.
    pub fn clock(self, clock: Arc<dyn Clock>) -> Self {
        Self { clock, ..self }
    }

    /// With this randomness instead of the machine's own.
    pub fn entropy(self, entropy: Arc<dyn Entropy>) -> Self {
        Self { entropy, ..self }
    }

    /// How long a write waits for an entity that somebody else holds (30 s).
    pub fn lock_timeout(self, lock_timeout: Duration) -> Self {
        Self { lock_timeout, ..self }
    }

    /// Longest content, in bytes (64 MiB): one is held in memory as a whole. More is neither written nor read.
    pub fn content_bytes_max(self, content_bytes_max: u64) -> Self {
        Self { content_bytes_max, ..self }
    }

    /// Whether it is only to be read (no): then nothing at all is written to the directory, and it need not lock.
    pub fn read_only(self, read_only: bool) -> Self {
        Self { read_only, ..self }
    }
}

/// Sealed blobs in a directory that any number of processes and hosts share, each with what is known about it. Needs no
/// key, opens nothing, and takes what somebody else sealed as it is.
///
/// A blob is one file, replaced as a whole: who reads sees one write of it, never parts of two, and takes no lock. Writes
/// of one entity exclude each other, those of two have nothing to do with each other. Cheap to clone; clones share
/// everything.
#[derive(Debug, Clone)]
pub struct BlobStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shelf: Shelf,
    locks: LockManager,
    options: BlobOptions,
}

/// A blob as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// What is known about it.
    pub metadata: EntityMetadata,
    /// The sealed content.
    pub sealed: Vec<u8>,
}

impl BlobStore {
    /// Opens the store in `dir`, which is made when absent. Tries first whether its file system locks and replaces, because
    /// some on a network only say so.
    ///
    /// # Errors
    /// [`VaultError::InvalidArgument`] when `dir` is empty; [`VaultError::UnfitDirectory`] when processes cannot share it,
    /// or when it is to be read and holds no vault; [`VaultError::ReadFailed`] when the marker is none, or a newer version's;
    /// [`VaultError::WriteFailed`]; [`VaultError::LockFailed`].
    ///
    /// # Cancel safety
    /// Directories and the marker may be there when the future was dropped.
    pub async fn open(dir: impl Into<PathBuf>, options: BlobOptions) -> Result<Self, VaultError> {
        Self::open_for(dir.into(), options, None).await
    }

    /// As [`open`](Self::open), for who seals with the keys of this ring.
    pub(crate) async fn open_for(
        dir: PathBuf,
        options: BlobOptions,
        ring: Option<RingInfo>,
    ) -> Result<Self, VaultError> {
        if dir.as_os_str().is_empty() {
            return Err(VaultError::InvalidArgument { name: "dir", why: "is empty: name a directory" });
        }
        let locks = LockManager::new(Arc::clone(&options.disk), Arc::clone(&options.clock), dir.join(LOCKS));
        let shelf = Shelf::new(Arc::clone(&options.disk), dir, options.content_bytes_max);
        let store = Self { inner: Arc::new(Inner { shelf, locks, options }) };
        let theirs = ring.clone();
        let prepare = move |inner: &Inner| {
            let prepared = inner.prepare(theirs.as_ref());
            inner.shelf.survey();
            prepared
        };
        if store.run(prepare).await? {
            let name = Path::new(MARKER_LOCK);
            let timeout = Some(store.inner.options.lock_timeout);
            let lock = store.inner.locks.acquire(name, LockMode::Exclusive, timeout).await?;
            store.run(move |inner| inner.mark(lock, ring.as_ref())).await?;
        }
        Ok(store)
    }

    /// The keyring of the vault in this directory, as its marker names it; `None` while it was never opened with one. Not
    /// proven: who can write the directory can write the marker.
    ///
    /// # Errors
    /// [`VaultError::ReadFailed`].
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn ring(&self) -> Result<Option<RingId>, VaultError> {
        let marker = self.run(|inner| Marker::read(&*inner.shelf.disk, &inner.shelf.dir)).await?;
        Ok(marker.and_then(|marker| marker.ring))
    }

    /// Writes `blob` as the content of `metadata.id`, in the place of what was there, durably. Its version is the caller's
    /// business, and so is what was there: hold the [lock](Self::lock) and [`write_with`](Self::write_with) it where that
    /// matters.
    ///
    /// # Errors
    /// [`VaultError::InvalidArgument`] when the metadata say another length, or are too long; [`VaultError::TooLarge`];
    /// [`VaultError::LockTimeout`]; [`VaultError::LockFailed`]; [`VaultError::ReadOnly`]. After [`VaultError::WriteFailed`]
    /// the [outcome](VaultError::outcome) says whether the blob may be there nevertheless; after all others nothing was written.
    ///
    /// # Cancel safety
    /// Who drops the future before it has the lock has written nothing. From then on the write comes to its end, and the
    /// lock is held until then.
    pub async fn write(&self, metadata: EntityMetadata, blob: Vec<u8>) -> Result<(), VaultError> {
        let id = metadata.id.clone();
        self.run_locked(&id, move |inner, _lock| inner.write(metadata, blob)).await
    }

    /// As [`write`](Self::write), under a lock that is held already.
    ///
    /// # Errors
    /// As there, and [`VaultError::InvalidArgument`] when the guard is another entity's, another store's or shared.
    ///
    /// # Cancel safety
    /// The write comes to its end, and the lock is held until then.
    pub async fn write_with(
        &self,
        guard: &EntityGuard,
        metadata: EntityMetadata,
        blob: Vec<u8>,
    ) -> Result<(), VaultError> {
        let lock = self.exclusive(guard, &metadata.id)?;
        self.run(move |inner| {
            let _lock = lock;
            inner.write(metadata, blob)
        })
        .await
    }

    /// The blob of an entity. Of what this crate sealed nothing is proven before it is opened.
    ///
    /// # Errors
    /// [`VaultError::FileNotFound`], also of one that was deleted; [`VaultError::Tampered`] when it is not what was written,
    /// as far as that is seen without a key; [`VaultError::TooLarge`]; [`VaultError::ReadFailed`], also of what a newer
    /// version wrote.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn read(&self, id: &EntityId) -> Result<Blob, VaultError> {
        let id = id.clone();
        self.run(move |inner| {
            let found = inner.shelf.read(&id)?;
            let found = found.filter(|found| !found.metadata.is_deleted);
            let found = found.ok_or(VaultError::FileNotFound { id })?;
            inner.shelf.check_foreign(&found)?;
            let Found { metadata, mut bytes, preamble_len } = found;
            bytes.drain(..preamble_len);
            Ok(Blob { metadata, sealed: bytes })
        })
        .await
    }

    /// What is known about an entity; of one that was deleted, when and by whom, for a while. Nothing is proven of it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn stat(&self, id: &EntityId) -> Result<EntityMetadata, VaultError> {
        let id = id.clone();
        self.run(move |inner| {
            let found = inner.shelf.read_some(&id, |_| 0)?;
            found.map(|found| found.metadata).ok_or(VaultError::FileNotFound { id })
        })
        .await
    }

    /// Whether there is an entity of this name.
    ///
    /// # Errors
    /// As [`read`](Self::read), but for [`VaultError::FileNotFound`].
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn exists(&self, id: &EntityId) -> Result<bool, VaultError> {
        match self.stat(id).await {
            Err(VaultError::FileNotFound { .. }) => Ok(false),
            found => Ok(!found?.is_deleted),
        }
    }

    /// Removes an entity's file, whatever it holds, durably. Nothing remembers its versions then: a vault deletes otherwise.
    ///
    /// # Errors
    /// [`VaultError::FileNotFound`]; [`VaultError::LockTimeout`]; [`VaultError::LockFailed`]; [`VaultError::ReadOnly`].
    /// After [`VaultError::WriteFailed`] the [outcome](VaultError::outcome) says whether it may be gone nevertheless.
    ///
    /// # Cancel safety
    /// As [`write`](Self::write).
    pub async fn delete(&self, id: &EntityId) -> Result<(), VaultError> {
        let entity = id.clone();
        self.run_locked(id, move |inner, _lock| {
            let removed = inner.shelf.remove(&entity)?;
            removed.then_some(()).ok_or(VaultError::FileNotFound { id: entity })
        })
        .await
    }

    /// The entities that there are, from the beginning or from where a page ended. What is written meanwhile may be in it
    /// or not. Keeps a page in memory, of some hundred entities, or of a 256th of them where that is more.
    ///
    /// # Errors
    /// [`VaultError::ReadFailed`] when a directory cannot be listed; of a file that cannot be read the page tells.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn list(&self, from: Option<ListCursor>) -> Result<ListPage, VaultError> {
        self.run(move |inner| inner.shelf.list(from, false)).await
    }

    /// Locks an entity, for as long as the answer lives. Waits for `timeout` while somebody else holds it; without one for
    /// the time that the store was opened with.
    ///
    /// # Errors
    /// [`VaultError::LockTimeout`] names who has it; [`VaultError::LockFailed`]; [`VaultError::ReadOnly`];
    /// [`VaultError::ShuttingDown`].
    ///
    /// # Cancel safety
    /// Who drops the future has stopped waiting, and holds nothing.
    pub async fn lock(
        &self,
        id: &EntityId,
        mode: LockMode,
        timeout: Option<Duration>,
    ) -> Result<EntityGuard, VaultError> {
        self.check_writable()?;
        let timeout = timeout.unwrap_or(self.inner.options.lock_timeout);
        let lock = self.inner.locks.acquire(&name_of(id), mode, Some(timeout)).await;
        Ok(EntityGuard { id: id.clone(), lock: lock? })
    }

    /// As [`lock`](Self::lock), but waits for nobody.
    ///
    /// # Errors
    /// [`VaultError::AlreadyLocked`] names who has it; [`VaultError::LockFailed`]; [`VaultError::ReadOnly`];
    /// [`VaultError::ShuttingDown`].
    ///
    /// # Cancel safety
    /// As [`lock`](Self::lock).
    pub async fn try_lock(&self, id: &EntityId, mode: LockMode) -> Result<EntityGuard, VaultError> {
        self.check_writable()?;
        let lock = self.inner.locks.try_acquire(&name_of(id), mode).await;
        Ok(EntityGuard { id: id.clone(), lock: lock? })
    }

    /// Tidies up: forgets deleted entities that were deleted `tombstone_retention` ago or earlier, by the wall clock, and
    /// removes lock files of entities that there are not and what interrupted writes left. What somebody holds is passed
    /// over. A crash may bring things back; the next sweep removes them.
    ///
    /// # Errors
    /// [`VaultError::ReadFailed`] when a directory cannot be listed; [`VaultError::ReadOnly`]. What cannot be removed is in
    /// the report.
    ///
    /// # Cancel safety
    /// What was done is done; the next sweep does the rest.
    pub async fn sweep(&self, tombstone_retention: Duration) -> Result<SweepReport, VaultError> {
        self.check_writable()?;
        let mut report = SweepReport::default();
        for shard in 0..=u8::MAX {
            let (locks, now) = (self.inner.locks.clone(), self.inner.options.clock.wall());
            let found = self.run(move |inner| inner.shelf.to_sweep(shard, now, tombstone_retention)).await?;
            for what in found {
                let Ok(lock) = locks.try_acquire(what.lock(), LockMode::Exclusive).await else {
                    report.busy += 1;
                    continue;
                };
                let swept = self.run(move |inner| inner.shelf.sweep(what, lock, now, tombstone_retention));
                report.note(swept.await);
            }
        }
        Ok(report)
    }

    /// Gives out no more locks, and returns when all are let go: no write is under way then.
    ///
    /// # Cancel safety
    /// No more locks are given out once this was polled.
    pub async fn close(&self) {
        self.inner.locks.close().await;
    }

    pub(crate) fn shelf(&self) -> &Shelf {
        &self.inner.shelf
    }

    pub(crate) fn options(&self) -> &BlobOptions {
        &self.inner.options
    }

    /// What keeps the lock of `guard`, when it allows to write `id`.
    pub(crate) fn exclusive(&self, guard: &EntityGuard, id: &EntityId) -> Result<LockGuard, VaultError> {
        let refused = |why| Err(VaultError::InvalidArgument { name: "guard", why });
        match guard {
            _ if guard.id != *id => refused("is of another entity"),
            _ if !guard.lock.is_of(&self.inner.locks) => refused("is of another store"),
            _ if guard.mode() != LockMode::Exclusive => refused("is shared: lock the entity exclusively"),
            _ => Ok(guard.lock.clone()),
        }
    }

    pub(crate) fn check_writable(&self) -> Result<(), VaultError> {
        let dir = &self.inner.shelf.dir;
        if self.inner.options.read_only { Err(VaultError::ReadOnly { dir: dir.clone() }) } else { Ok(()) }
    }

    /// Does `work` where it may block, with the right to write the entity.
    async fn run_locked<T: Send + 'static>(
        &self,
        id: &EntityId,
        work: impl FnOnce(&Inner, LockGuard) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let inner = Arc::clone(&self.inner);
        self.locked(id, move |lock| work(&inner, lock)).await
    }

    /// As [`lock`](Self::lock), exclusive, for the time of `work`, which may block.
    pub(crate) async fn locked<T: Send + 'static>(
        &self,
        id: &EntityId,
        work: impl FnOnce(LockGuard) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        self.check_writable()?;
        let timeout = Some(self.inner.options.lock_timeout);
        self.inner.locks.acquire_then(&name_of(id), LockMode::Exclusive, timeout, work).await?
    }

    /// Does `work` where it may block.
    async fn run<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> T + Send + 'static) -> T {
        let inner = Arc::clone(&self.inner);
        off_thread(&*self.inner.options.disk, move || work(&inner)).await
    }
}

impl Inner {
    /// Whoever calls holds the entity alone.
    fn write(&self, mut metadata: EntityMetadata, blob: Vec<u8>) -> Result<(), VaultError> {
        let expected = match &mut metadata.sealed {
            SealedBy::Suite { .. } => sealed_len(metadata.content_len),
            SealedBy::Foreign { checksum, .. } => {
                *checksum = Checksum::of(&blob);
                metadata.content_len
            }
        };
        if expected != blob.len() as u64 {
            let why = "is not the length of the blob";
            return Err(VaultError::InvalidArgument { name: "content_len", why });
        }
        if let Some(name) = metadata.too_long() {
            return Err(VaultError::InvalidArgument { name, why: "is longer than what a header takes" });
        }
        self.shelf.publish(&metadata.id, &[metadata::encode(&metadata), blob].concat())
    }

    /// Makes the directory ready for `ring`; whether it has still to be marked.
    fn prepare(&self, ring: Option<&RingInfo>) -> Result<bool, VaultError> {
        let Shelf { disk, dir, .. } = &self.shelf;
        let marker = Marker::read(&**disk, dir)?;
        if let (Some(marker), Some(ring)) = (marker, ring) {
            self.check_ring(marker, ring)?;
        }
        if self.options.read_only {
            let why = "there is no vault in it, and it is to be read only";
            return match marker {
                Some(_) => Ok(false),
                None => Err(VaultError::UnfitDirectory { dir: dir.clone(), why }),
            };
        }
        let locks = dir.join(LOCKS);
        for dir in [&dir.join(ENTITIES), &locks] {
            create_dirs(&**disk, dir)
                .map_err(|source| VaultError::WriteFailed { path: dir.clone(), source })?;
        }
        probe(&**disk, &locks, &*self.options.entropy)?;
        Ok(marker.is_none_or(|marker| marker.ring.is_none() && ring.is_some()))
    }

    /// Whoever opens it at the same time waits for the lock, and finds the marker.
    fn mark(&self, lock: LockGuard, ring: Option<&RingInfo>) -> Result<(), VaultError> {
        let Shelf { disk, dir, .. } = &self.shelf;
        match (Marker::read(&**disk, dir)?, ring) {
            (None, ring) => Marker { ring: ring.map(|ring| ring.id) }.write(&**disk, dir)?,
            (Some(Marker { ring: None }), Some(ring)) => {
                if self.is_ring_of(ring)? {
                    Marker { ring: Some(ring.id) }.write(&**disk, dir)?;
                }
            }
            (Some(marker), Some(ring)) => self.check_ring(marker, ring)?,
            (Some(_), None) => {}
        }
        drop(lock);
        Ok(())
    }

    fn check_ring(&self, marker: Marker, ring: &RingInfo) -> Result<(), VaultError> {
        match marker.ring {
            Some(expected) if expected != ring.id => {
                let dir = self.shelf.dir.clone();
                Err(VaultError::OtherKeyring { dir, expected, found: ring.id })
            }
            _ => Ok(()),
        }
    }

    /// Whether `ring` has the keys of what lies here, as far as the first page tells: who opens an unnamed vault with a
    /// wrong ring must not shut out the right one.
    fn is_ring_of(&self, ring: &RingInfo) -> Result<bool, VaultError> {
        let page = self.shelf.list(None, true)?;
        Ok(page.entries.iter().all(|entry| match entry.sealed {
            SealedBy::Suite { key, .. } => ring.keys.iter().any(|known| known.id == key),
            SealedBy::Foreign { .. } => true,
        }))
    }
}
