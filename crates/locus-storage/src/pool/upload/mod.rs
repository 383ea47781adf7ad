//! Large content in pieces, over restarts: room first, then pieces in any order, each confirmed by a record when it is
//! durable, and one record at the end that queues the file.

mod desk;
mod options;
mod pieces;
mod sealed;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use locus_core::{
    Checksum, Error, FileKey, Hasher, LogicalDir, NewFile, NewUpload, Reserved, Result, SealedFile, Staging,
    TenantAccess, TenantContext, TenantId, UploadId, UploadInfo, undisturbed,
};
use rangemap::RangeSet;

pub(super) use self::desk::Desks;
pub use self::options::{Chunk, UploadOptions};
use self::{
    desk::{Desk, Opened},
    pieces::Pieces,
};
use super::{StoragePool, reader::CHUNK_BYTES};

/// Most uploads that [`StoragePool::uploads`] tells at a time.
const LISTED_MAX: usize = 1_000;

/// An upload under way. Clones are the same upload, and so is every other handle of this name.
///
/// ```
/// # use locus_storage::{StoragePool, UploadOptions};
/// # use locus_core::{Result, TenantContext};
/// # async fn send(pool: &StoragePool, acme: &TenantContext, film: &[u8]) -> Result<()> {
/// let upload = pool.upload(acme, UploadOptions::new(film.len() as u64)).await?;
/// let id = upload.id(); // kept somewhere: it is all that one needs to go on
/// upload.write_at(0, film[..1_000].to_vec()).await?;
///
/// let upload = pool.resume_upload(acme, &id).await?; // also after a restart
/// for range in upload.info()?.missing() {
///     let piece = &film[range.start as usize..range.end as usize];
///     upload.write_at(range.start, piece.to_vec()).await?;
/// }
/// let key = upload.finish().await?; // queued; an answer that was lost is asked for again
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Upload {
    pool: StoragePool,
    tenant: TenantContext,
    id: UploadId,
    desk: Arc<Desk>,
}

impl StoragePool {
    /// Begins an upload: takes room for the whole of it in every quota, and chooses its volume. It lives until it is
    /// [finished](Upload::finish), [aborted](Upload::abort), or nothing came for the setting `upload_expiry` (1 day).
    ///
    /// # Errors
    /// As [`write`](Self::write), as far as that is known before a byte comes.
    ///
    /// # Cancel safety
    /// After a dropped future there is no upload, or one that nobody knows, which expires.
    pub async fn upload(&self, tenant: &TenantContext, options: UploadOptions) -> Result<Upload> {
        let owner = self.inner.tenants.admit(tenant, TenantAccess::Work)?;
        let UploadOptions { size, original_name, directory, properties, expected_checksum } = options;
        let directory = LogicalDir::parse(directory.as_deref().unwrap_or_default())?;
        NewFile::check_names(original_name.as_deref(), &properties, None)?;
        let stored = self.stored_len(size);
        let room = match self.inner.store.reserve(&owner.id, &directory, Some(stored), None).await? {
            Reserved::Room(room) => room,
            Reserved::Known(key) => return Err(Error::UploadNotFound { upload: UploadId::new(key) }),
        };
        self.allow(tenant, TenantAccess::Work)?; // a tenant with room taken is not removed
        let ticket = self.place(Some(stored), None).await?;
        let mut new = NewUpload {
            tenant: owner.id.clone(),
            owner: owner.storage_path.clone(),
            directory,
            original_name,
            properties,
            size,
            expected: expected_checksum,
            seal: None,
            volume: ticket.volume().id().clone(),
        };
        if let Some(sealer) = self.sealer() {
            let file = SealedFile { owner: new.owner.clone(), key: room.key() };
            sealed::seal(&**sealer, &file, &mut new)?;
        }
        let held = self.hold_keys(new.seal.iter())?;
        let id = self.inner.store.begin_upload(new, room).await?;
        drop(held);
        drop(ticket); // its bytes are counted as the upload's from now on
        Ok(self.handle(tenant, id))
    }

    /// Goes on with an upload, also after a restart.
    ///
    /// # Errors
    /// [`Error::UploadNotFound`], also when it is finished: [`finish_upload`](Self::finish_upload) tells its key.
    /// [`Error::TenantNotFound`], [`Error::TenantDisabled`] unless the tenant is enabled.
    pub async fn resume_upload(&self, tenant: &TenantContext, id: &UploadId) -> Result<Upload> {
        self.allow(tenant, TenantAccess::Work)?;
        let upload = self.handle(tenant, *id);
        upload.known()?;
        Ok(upload)
    }

    /// Finishes an upload by its name, or tells the key again when it was finished before: as [`Upload::finish`].
    ///
    /// # Errors
    /// As [`Upload::finish`].
    ///
    /// # Cancel safety
    /// As [`Upload::finish`].
    pub async fn finish_upload(&self, tenant: &TenantContext, id: &UploadId) -> Result<FileKey> {
        self.handle(tenant, *id).finish().await
    }

    /// A tenant's uploads under way behind `after`, in the order in which they were begun; up to 1,000.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::TenantDisabled`] when the tenant is disabled.
    pub async fn uploads(&self, tenant: &TenantContext, after: Option<&UploadId>) -> Result<Vec<UploadInfo>> {
        self.allow(tenant, TenantAccess::Read)?;
        let uploads = self.inner.store.uploads(tenant.id(), after, LISTED_MAX);
        Ok(uploads.into_iter().map(|info| self.reveal_upload(info.clone()).unwrap_or(info)).collect())
    }

    fn handle(&self, tenant: &TenantContext, id: UploadId) -> Upload {
        Upload { pool: self.clone(), tenant: tenant.clone(), id, desk: self.inner.desks.of(tenant.id(), id) }
    }

    /// Returns when every call for an upload of this tenant that is under way has come to its end. Whoever ended the uploads
    /// before knows then that nothing of them comes to a volume any more.
    pub async fn uploads_rest(&self, tenant: &TenantId) {
        for desk in self.inner.desks.all_of(tenant) {
            drop(desk.turn.write().await);
        }
    }
}

impl Upload {
    /// Its name, to go on with it elsewhere or later.
    #[must_use]
    pub const fn id(&self) -> UploadId {
        self.id
    }

    /// What is known of it: what is confirmed, and what is missing.
    ///
    /// # Errors
    /// [`Error::UploadNotFound`] when it is finished, aborted or expired; [`Error::TenantNotFound`];
    /// [`Error::TenantDisabled`] when the tenant is disabled.
    pub fn info(&self) -> Result<UploadInfo> {
        self.pool.allow(&self.tenant, TenantAccess::Read)?;
        self.known()
    }

    fn known(&self) -> Result<UploadInfo> {
        let info = self.pool.inner.store.upload(self.tenant.id(), &self.id);
        self.pool.reveal_upload(info.ok_or(Error::UploadNotFound { upload: self.id })?)
    }

    /// Writes a piece, of any length, in any order, any number at the same time. Once this returns, the piece is confirmed: its
    /// bytes are durable, and it need not be sent again. In a `Buffered` pool power loss may forget that a piece was
    /// confirmed, as it may any change of the last `max_unsynced`: it is missing then. What was confirmed before is not
    /// written again but compared. Costs one sync of the staged file; pieces of some MiB make it small.
    ///
    /// # Errors
    /// Nothing of the piece is confirmed then, unless its answer got lost: [`Error::ChecksumMismatch`] when the piece
    /// is not what its [`checksum`](Chunk::checksum) says; [`Error::InvalidArgument`] when it leads beyond the upload's
    /// size, or differs from what was confirmed at the same place; [`Error::TooLarge`] when more than 4,096 separate
    /// ranges would be confirmed: fill gaps first; in a sealed pool also when the pieces take more than twice the
    /// size and 64 MiB where they lie, in 4 KiB each. [`Error::UploadNotFound`]; [`Error::VolumeUnavailable`] while its
    /// volume is away, [`Error::InsufficientStorage`], [`Error::Io`]; [`Error::TenantNotFound`],
    /// [`Error::TenantDisabled`].
    ///
    /// # Cancel safety
    /// A dropped future does not stop the piece: it is confirmed or not, and nobody else writes there meanwhile.
    pub async fn write_at(&self, offset: u64, chunk: impl Into<Chunk>) -> Result<()> {
        let Chunk { bytes, checksum } = chunk.into();
        self.pool.allow(&self.tenant, TenantAccess::Work)?;
        let size = self.known()?.size;
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= size);
        let end = end.ok_or(Error::InvalidArgument {
            name: "offset",
            why: "leads beyond the size that the upload was begun with",
        })?;
        if let Some(expected) = checksum {
            let actual = self.pool.checksum(&bytes).await;
            if actual != expected {
                return Err(Error::ChecksumMismatch { place: "of a piece".into(), expected, actual });
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let this = self.clone();
        undisturbed(async move { this.put(offset..end, &bytes).await })
            .await
            .unwrap_or(Err(Error::ShuttingDown))
    }

    async fn put(&self, range: Range<u64>, bytes: &Bytes) -> Result<()> {
        let _turn = self.desk.turn.read().await;
        let _claimed = self.desk.claim(range.clone()).await;
        while !self.put_once(&range, bytes).await? {}
        Ok(())
    }

    /// `false` when it was written where the upload is not put together any more: another piece failed before anything was
    /// confirmed, and a third one began anew.
    async fn put_once(&self, range: &Range<u64>, bytes: &Bytes) -> Result<bool> {
        let info = self.known()?;
        let confirmed: RangeSet<u64> = info.confirmed.iter().cloned().collect();
        let part = |part: &Range<u64>| {
            let at = |offset: u64| usize::try_from(offset.saturating_sub(range.start)).unwrap_or(usize::MAX);
            bytes.slice(at(part.start)..at(part.end))
        };
        let gaps: Vec<_> = confirmed.gaps(range).collect();
        let opened = match self.staged(Staging::Resume).await {
            Err(error) if error.is_absent() && info.seal.is_none() => self.staged(published(&info)).await?,
            opened => opened?,
        };
        for known in confirmed.overlapping(range) {
            let known = known.start.max(range.start)..known.end.min(range.end);
            self.compare(&opened, &known, &part(&known)).await?;
        }
        if !gaps.is_empty() {
            let written = async {
                for gap in &gaps {
                    opened.write_at(gap.start, part(gap)).await?;
                }
                opened.staged.sync().await
            };
            self.judged(&opened, written.await).await?;
        }
        // Without any it waits until what was noted before is as safe as the pool promises.
        self.pool.inner.store.confirm_upload(self.tenant.id(), &self.id, &opened.at, &gaps).await
    }

    /// Refuses bytes that are not those that were confirmed.
    async fn compare(&self, opened: &Opened, range: &Range<u64>, bytes: &Bytes) -> Result<()> {
        let there = opened.read_at(range.start, bytes.len()).await;
        if self.judged(opened, there).await? == *bytes {
            return Ok(());
        }
        Err(Error::InvalidArgument {
            name: "chunk",
            why: "differs from what was confirmed at the same place",
        })
    }

    /// After a failure what is staged is opened anew by the next call: its volume may be mounted elsewhere by then.
    async fn judged<T>(&self, opened: &Opened, done: Result<T>) -> Result<T> {
        if let Err(error) = &done
            && !matches!(error, Error::ChecksumMismatch { .. })
        {
            *self.desk.staged.lock().await = None;
            self.pool.judge(&opened.volume, error).await;
        }
        done
    }

    /// What is staged on the volume as it is mounted now.
    async fn staged(&self, how: Staging) -> Result<Opened> {
        let mut slot = self.desk.staged.lock().await;
        let mut info = self.known()?;
        let volume = self.pool.inner.mounts.usable(&info.volume_id)?;
        let is_open = |opened: &&Opened| how == Staging::Resume && Arc::ptr_eq(&opened.volume, &volume);
        if let Some(opened) = slot.as_ref().filter(is_open) {
            return Ok(opened.clone());
        }
        if info.confirmed.is_empty() {
            // The place is known before anything lies there, and nothing that is left of a try is found again. It only takes
            // room: who writes there still begins anew.
            let given_up = info.staged_at();
            info = self.pool.inner.store.stage_upload(self.tenant.id(), &self.id).await?;
            info = self.pool.reveal_upload(info)?;
            if let Some(at) = given_up.filter(|_| info.confirmed.is_empty()) {
                let _ = volume.discard(&at).await; // a sweep finds what stays
            }
        }
        let at = info.staged_at().ok_or(Error::UploadNotFound { upload: self.id })?;
        let is_new = info.confirmed.is_empty() && how == Staging::Resume;
        let staged = volume.stage(&at, if is_new { Staging::New } else { how }).await?;
        let pieces = match &info.seal {
            Some(seal) => {
                let sealer = self.pool.sealer().ok_or(Error::UnknownKey { key: seal.key })?;
                let mut known = self.desk.pieces.lock().await;
                // Those who write by an earlier handle go on: what they add must be known, and no place given out twice.
                let pieces = match known.as_ref().filter(|(staging, _)| *staging == at.key) {
                    Some((_, pieces)) => Arc::clone(pieces),
                    None => {
                        let file = SealedFile { owner: at.owner.clone(), key: at.key };
                        let sealer = Arc::clone(sealer);
                        Arc::new(Pieces::find(sealer, file, seal.key, &*staged, info.size).await?)
                    }
                };
                *known = Some((at.key, Arc::clone(&pieces)));
                Some(pieces)
            }
            None => None,
        };
        let opened = Opened { volume, staged, at: at.key, pieces };
        *slot = Some(opened.clone());
        Ok(opened)
    }

    /// Finishes the upload: the file is queued, with the key that this returns. Called again it returns the same key,
    /// as long as the file's record is there, and then 24 hours. Reads the content once, for its checksum; half of
    /// `upload_expiry`, at least, is left for that.
    ///
    /// # Errors
    /// The upload goes on then: [`Error::UploadIncomplete`] names the first range that is missing;
    /// [`Error::ChecksumMismatch`] when the content is not what was expected: abort it. [`Error::UploadNotFound`];
    /// [`Error::VolumeUnavailable`] while its volume is away; [`Error::InsufficientStorage`], [`Error::Io`],
    /// [`Error::Poisoned`]; [`Error::TenantNotFound`], [`Error::TenantDisabled`].
    ///
    /// # Cancel safety
    /// A dropped future does not stop it: finish again to learn what came of it.
    pub async fn finish(&self) -> Result<FileKey> {
        self.pool.allow(&self.tenant, TenantAccess::Work)?;
        let this = self.clone();
        undisturbed(async move { this.complete().await }).await.unwrap_or(Err(Error::ShuttingDown))
    }

    async fn complete(&self) -> Result<FileKey> {
        let _turn = self.desk.turn.write().await;
        let (store, tenant) = (&self.pool.inner.store, self.tenant.id());
        let info = store.upload(tenant, &self.id).map(|info| self.pool.reveal_upload(info)).transpose()?;
        let Some(info) = info else {
            let finished = store.finished_upload(tenant, &self.id).await?;
            return finished.ok_or(Error::UploadNotFound { upload: self.id });
        };
        if let Some(missing) = info.missing().into_iter().next() {
            return Err(Error::UploadIncomplete { upload: self.id, missing });
        }
        // Publishing uses up what is staged: what was confirmed must not be forgotten behind it.
        store.settle_upload(tenant, &self.id).await?;
        if let Some(seal) = &info.seal {
            return self.seal_whole(&info, seal.key).await;
        }
        let checksum = match self.publish(&info, Staging::Resume).await {
            // An earlier try came as far as its name. Whether that is durable nobody can say: it is given again.
            Err(error) if error.is_absent() || error.is_taken() => {
                self.publish(&info, published(&info)).await?
            }
            published => published?,
        };
        *self.desk.staged.lock().await = None;
        store.finish_upload(tenant, &self.id, checksum, None).await
    }

    async fn publish(&self, info: &UploadInfo, how: Staging) -> Result<Checksum> {
        let opened = self.staged(how).await?;
        let mut hasher = Box::<Hasher>::default(); // 2 KiB that need not lie in a future
        let mut length = 0;
        while length < info.size {
            let left = (info.size - length).min(CHUNK_BYTES);
            let piece = opened.staged.read_at(length, usize::try_from(left).unwrap_or(usize::MAX)).await;
            let piece = self.judged(&opened, piece).await?;
            if piece.is_empty() {
                break; // too short: publishing it says so
            }
            hasher.update(&piece);
            length += piece.len() as u64;
        }
        let checksum = hasher.finish();
        is_expected(info, checksum)?;
        match opened.staged.publish(&info.blob(), info.size).await {
            Err(error) if error.is_taken() => Err(error),
            published => self.judged(&opened, published).await.map(|()| checksum),
        }
    }

    /// Ends the upload without a file, durably in any pool, and gives its room back. `false` when there is none (any more).
    ///
    /// # Errors
    /// [`Error::TenantNotFound`], [`Error::TenantDisabled`] when the tenant is disabled; [`Error::Poisoned`].
    ///
    /// # Cancel safety
    /// A dropped future does not stop it.
    pub async fn abort(&self) -> Result<bool> {
        self.pool.allow(&self.tenant, TenantAccess::Read)?;
        let this = self.clone();
        undisturbed(async move { this.give_up().await }).await.unwrap_or(Err(Error::ShuttingDown))
    }

    async fn give_up(&self) -> Result<bool> {
        let _turn = self.desk.turn.write().await;
        let info = self.known().ok();
        if !self.pool.inner.store.end_upload(self.tenant.id(), &self.id).await? {
            return Ok(false);
        }
        *self.desk.staged.lock().await = None;
        // What cannot be removed now is found by the sweep, which asks for uploads under way.
        if let Some(info) = info
            && let Ok(volume) = self.pool.inner.mounts.usable(&info.volume_id)
            && let Some(at) = info.staged_at()
        {
            let _ = volume.discard(&at).await;
        }
        Ok(true)
    }
}

fn is_expected(info: &UploadInfo, actual: Checksum) -> Result<()> {
    match info.expected_checksum {
        Some(expected) if expected != actual => {
            Err(Error::ChecksumMismatch { place: "that was uploaded".into(), expected, actual })
        }
        _ => Ok(()),
    }
}

/// How what has its name without its record is opened.
fn published(info: &UploadInfo) -> Staging {
    let blob = info.blob();
    Staging::Published { key: blob.key, extension: blob.extension }
}
