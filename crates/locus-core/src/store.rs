//! The store seam: what a pool and a scheduler need of the keeper of records.

use std::{
    any::Any,
    fmt::{self, Debug},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Area, BlobPath, Checksum, Error, FileKey, FileRecord, FileStatus, Holdings, Lease, LeaseOptions, Leaving,
    Limit, LogicalDir, NewUpload, Properties, Result, Scope, Seal, SealKeyId, StoragePath, Stored, TenantId,
    Timestamp, UploadId, UploadInfo, UploadLoad, Usage, UsagePage, VolumeId, VolumeStanding,
    properties::{ORIGINAL_NAME_BYTES_MAX, PROPERTIES_BYTES_MAX, check_size, properties_bytes},
};

/// Longest idempotency key, in bytes. Only a keyed hash of it is kept.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 4_096;

/// Names a write, so that the same write made again returns the first key instead of a second file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The caller's name for the write; unique per tenant. At most 4,096 bytes.
    pub value: Arc<str>,
    /// How long it is remembered.
    pub remember: Remember,
}

impl IdempotencyKey {
    /// A key that is remembered until the record is gone and 24 h more.
    pub fn new(value: impl Into<Arc<str>>) -> Self {
        Self { value: value.into(), remember: Remember::default() }
    }

    /// A key that is remembered until it is told to be forgotten.
    pub fn until_forgotten(value: impl Into<Arc<str>>) -> Self {
        Self { value: value.into(), remember: Remember::UntilForgotten }
    }
}

impl<T: Into<Arc<str>>> From<T> for IdempotencyKey {
    fn from(value: T) -> Self {
        Self::new(value)
    }
}

/// How long an idempotency key is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum Remember {
    /// Until the file's record is gone, and then 24 h of store time.
    #[default]
    Day,
    /// Until [`MetadataStore::forget`].
    UntilForgotten,
}

/// Room for one file in every quota that applies, and the file's key. Dropping it gives the room back.
///
/// As long as it lives, a blob under its key counts as a write in flight: no sweep touches it.
#[must_use = "dropping a reservation gives its room back"]
pub struct Reservation {
    key: FileKey,
    give_back: Option<Box<dyn FnOnce(FileKey) + Send + Sync>>,
}

impl Reservation {
    /// A reservation for `key`; `give_back` runs once, when the reservation is dropped.
    pub fn new(key: FileKey, give_back: impl FnOnce(FileKey) + Send + Sync + 'static) -> Self {
        Self { key, give_back: Some(Box::new(give_back)) }
    }

    /// The key the file will have.
    #[must_use]
    pub const fn key(&self) -> FileKey {
        self.key
    }

    /// Leaves the room to the store that gave it, which now knows by itself what it is for.
    pub fn keep(mut self) {
        self.give_back = None;
    }
}

impl Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(give_back) = self.give_back.take() {
            give_back(self.key);
        }
    }
}

/// The answer to [`MetadataStore::reserve`].
#[derive(Debug)]
pub enum Reserved {
    /// There is room: write the content, then [`accept`](MetadataStore::accept).
    Room(Reservation),
    /// A write with this idempotency key was accepted before, and this is its file.
    Known(FileKey),
}

/// How much content a store takes itself. All zero: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InlineLimits {
    /// Longest content, in bytes.
    pub content_bytes_max: u64,
    /// Most bytes of all contents of one batch together.
    pub batch_bytes_max: u64,
}

/// Room for one content inside the store itself. Dropping it gives the room back.
#[must_use = "dropping a landing gives its room back"]
pub struct Landing {
    bytes: u64,
    hold: Box<dyn Any + Send + Sync>,
}

impl Landing {
    /// Room for `bytes`; `hold` is the store's own, given back when it is dropped.
    pub fn new(bytes: u64, hold: impl Any + Send + Sync) -> Self {
        Self { bytes, hold: Box::new(hold) }
    }

    /// For how many bytes.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What the store put in, when it is a `T`.
    pub fn into_hold<T: Any>(self) -> Option<T> {
        self.hold.downcast::<T>().ok().map(|hold| *hold)
    }
}

impl Debug for Landing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Landing").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The right to move the content of one file, out of the store or from its volume to another one: nobody else moves it
/// meanwhile, and a blob under its key counts as a write in flight. Dropping it gives the right up.
#[must_use = "dropping it gives the right to move up"]
pub struct Moving {
    record: FileRecord,
    to: Area,
    /// The [turn](Seal::turn) of what is sealed on its way.
    sealed_as: Option<u32>,
    avoid: Vec<VolumeId>,
    end: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Moving {
    /// The right to move what `record` names; `end` runs once, when it is dropped.
    pub fn new(record: FileRecord, end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self { to: record.area, record, sealed_as: None, avoid: Vec::new(), end: Some(Box::new(end)) }
    }

    /// The same right, but to a move to this area: with it the file becomes a dead letter, or ceases to be one.
    pub fn into_area(mut self, area: Area) -> Self {
        self.to = area;
        self
    }

    /// The same right, but to a move on which the content is sealed anew: it takes another name, also where it stays on its
    /// volume.
    pub fn to_be_sealed(mut self) -> Self {
        self.sealed_as = Some(match &self.record.seal {
            Some(seal) => seal.turn.saturating_add(1),
            // Its own extension may be a number.
            None if self.record.blob().extension == Seal::extension(1) => 2,
            None => 1,
        });
        self
    }

    /// The [turn](Seal::turn) of the content once it is there; `None` unless it is [to be sealed](Self::to_be_sealed).
    #[must_use]
    pub const fn sealed_as(&self) -> Option<u32> {
        self.sealed_as
    }

    /// The same right, but not to a move to these volumes.
    pub fn avoiding(mut self, volumes: Vec<VolumeId>) -> Self {
        self.avoid = volumes;
        self
    }

    /// The file, as of when the right was given.
    #[must_use]
    pub const fn record(&self) -> &FileRecord {
        &self.record
    }

    /// The address that the content is to have, wherever it is moved to.
    #[must_use]
    pub fn target(&self) -> BlobPath {
        let mut target = self.record.blob().in_area(self.to);
        if let Some(turn) = self.sealed_as {
            target.extension = Seal::extension(turn);
        }
        target
    }

    /// Volumes that it must not be moved to: what earlier moves left there waits to be removed, under the same name.
    #[must_use]
    pub fn avoid(&self) -> &[VolumeId] {
        &self.avoid
    }
}

impl Debug for Moving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moving").field("key", &self.record.info.key).finish_non_exhaustive()
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

/// A content that was sealed anew, where it is to rest from now on.
#[derive(Debug)]
pub struct SealedAnew {
    /// On a volume, durably, under the [target](Moving::target) of the move; or in memory.
    pub content: NewContent,
    /// Length of the sealed bytes.
    pub size: u64,
    /// BLAKE3 of the sealed bytes.
    pub checksum: Checksum,
    /// What the record says of it from now on: name and properties are part of it.
    pub seal: Seal,
    /// What the last worker that failed said, sealed.
    pub last_error: Option<String>,
}

/// What [`MetadataStore::resting_on`] gives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestingPage {
    /// Files, and whose they are.
    pub files: Vec<(TenantId, FileKey)>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// Where the content of a new file is.
#[derive(Debug)]
#[non_exhaustive]
pub enum NewContent {
    /// In memory, for the store to keep itself.
    Inline {
        /// The whole content.
        bytes: Bytes,
        /// Room for it, from [`MetadataStore::land`].
        landing: Landing,
    },
    /// Already on a volume.
    Stored {
        /// Which.
        volume: VolumeId,
        /// Whether bytes and name are known to survive power loss.
        synced: bool,
    },
}

/// A file to be accepted.
#[derive(Debug)]
pub struct NewFile {
    /// Whose.
    pub tenant: TenantId,
    /// The first path component of its bytes on volumes.
    pub owner: StoragePath,
    /// The caller's own grouping.
    pub directory: LogicalDir,
    /// The name the caller gave it, at most 1,024 bytes.
    pub original_name: Option<String>,
    /// The caller's own key-value pairs, at most 1,024 bytes together.
    pub properties: Properties,
    /// Length of the content, in bytes.
    pub size: u64,
    /// BLAKE3 of the content.
    pub checksum: Checksum,
    /// How the content is sealed, when it is: size and checksum are those of the sealed bytes then, and there is neither a name
    /// nor a property.
    pub seal: Option<Seal>,
    /// Where the content is.
    pub content: NewContent,
    /// Volumes that were tried before, and may hold, or come to hold, bytes under the same name: copies that nobody names, and
    /// that are removed.
    pub astray: Vec<VolumeId>,
    /// Names the write.
    pub idempotency: Option<IdempotencyKey>,
}

impl NewFile {
    /// Refuses names and properties over their bounds.
    ///
    /// # Errors
    /// [`Error::TooLarge`] names what is too long.
    pub fn check_names(
        original_name: Option<&str>,
        properties: &Properties,
        idempotency: Option<&IdempotencyKey>,
    ) -> Result<()> {
        check_size("original name", original_name.map_or(0, str::len), ORIGINAL_NAME_BYTES_MAX)?;
        check_size("properties", properties_bytes(properties), PROPERTIES_BYTES_MAX)?;
        let key = idempotency.map_or(0, |key| key.value.len());
        check_size("idempotency key", key, IDEMPOTENCY_KEY_BYTES_MAX)?;
        if idempotency.is_some() && key == 0 {
            return Err(Error::InvalidArgument { name: "idempotency key", why: "is empty" });
        }
        Ok(())
    }
}

/// A file that was just leased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The right to process it.
    pub lease: Lease,
    /// The file.
    pub record: FileRecord,
}

/// What became of a file whose worker failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailOutcome {
    /// It comes back at this time.
    Retry {
        /// When it is due, by today's wall clock.
        available_at: Timestamp,
    },
    /// It failed for the last time.
    GivenUp,
    /// The lease had ended before; nothing was changed.
    NoEffect,
}

/// How many files a tenant has, by state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TenantCounts {
    /// Waiting, delayed ones among them.
    pub pending: u64,
    /// Of the pending ones, those that wait for a due time.
    pub delayed: u64,
    /// Leased.
    pub processing: u64,
    /// Completed, bytes not yet removed.
    pub completed: u64,
    /// Failed for the last time.
    pub permanently_failed: u64,
    /// Deleted, bytes not yet removed.
    pub deleted: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Dead letters, those that were purged and whose bytes are not yet removed included. They count against no quota.
    pub dead_lettered: u64,
    /// Bytes of these.
    pub dead_letter_bytes: u64,
}

impl TenantCounts {
    /// How many are in this state; of dead letters, those that were purged and are not yet removed included.
    #[must_use]
    pub const fn of(&self, status: FileStatus) -> u64 {
        match status {
            FileStatus::Pending => self.pending,
            FileStatus::Processing => self.processing,
            FileStatus::Completed => self.completed,
            FileStatus::Failed => 0, // no file is: see the status
            FileStatus::PermanentlyFailed => self.permanently_failed,
            FileStatus::DeadLettered => self.dead_lettered,
            FileStatus::Deleted => self.deleted,
        }
    }

    /// All files that count against quotas: dead letters do not.
    #[must_use]
    pub const fn files(&self) -> u64 {
        self.pending + self.processing + self.completed + self.permanently_failed + self.deleted
    }
}

/// How many files a store has, tenant by tenant.
pub type StoreCounts = std::collections::BTreeMap<TenantId, TenantCounts>;

/// The keeper of records. Each method is atomic: it happens wholly or not at all, and `Ok` means as much as the
/// store's durability promises.
///
/// Unless a method says otherwise, dropping its future before it returns leaves the change either wholly made or not
/// made at all, and a lease that nobody received is released.
#[async_trait]
pub trait MetadataStore: Debug + Send + Sync {
    /// Takes room for one file of `bytes` in every quota that applies, or finds the file that `idempotency` names. Bytes that
    /// are not known yet take their room at [`accept`](Self::accept).
    ///
    /// # Errors
    /// [`Error::TenantQuotaExceeded`], [`Error::DirectoryQuotaExceeded`], [`Error::GlobalQuotaExceeded`],
    /// also when no number holds all the bytes that were announced.
    async fn reserve(
        &self,
        tenant: &TenantId,
        directory: &LogicalDir,
        bytes: Option<u64>,
        idempotency: Option<&IdempotencyKey>,
    ) -> Result<Reserved>;

    /// What [`reserve`](Self::reserve) would say now of a new file of `bytes`, without taking room.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve).
    fn check_room(&self, tenant: &TenantId, directory: &LogicalDir, bytes: u64) -> Result<()>;

    /// Turns reserved rooms and written contents into pending files, all or none. The keys come in the same order;
    /// where a file's idempotency key was accepted meanwhile, the earlier key is returned and the content that came
    /// with this one belongs to nobody.
    ///
    /// # Errors
    /// As [`reserve`](Self::reserve), when a content is longer than the room that was taken for it.
    async fn accept(&self, files: Vec<(NewFile, Reservation)>) -> Result<Vec<FileKey>>;

    /// Notes an upload that begins, with the room of its whole content. Its name is the key of the reservation. A store that
    /// takes no uploads leaves this and the methods of uploads below as they are.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the store takes none; [`Error::TooLarge`] when no more idempotency keys can be
    /// remembered, as the name of a finished upload is.
    async fn begin_upload(&self, _upload: NewUpload, _room: Reservation) -> Result<UploadId> {
        Err(Error::InvalidArgument {
            name: "upload",
            why: "is nothing that this store takes: write the file whole",
        })
    }

    /// Draws a new place for the bytes of an upload, and notes it; the place stays as soon as something is confirmed. Says
    /// what is known of the upload then.
    ///
    /// # Errors
    /// [`Error::UploadNotFound`].
    async fn stage_upload(&self, _tenant: &TenantId, id: &UploadId) -> Result<UploadInfo> {
        Err(Error::UploadNotFound { upload: *id })
    }

    /// Notes that these ranges of an upload are there, durably, at the place `staging` on its volume; without any it says
    /// that what was noted before is as safe as the store's durability promises. `false`, and nothing is noted, when its
    /// bytes are put together at another place by now.
    ///
    /// # Errors
    /// [`Error::UploadNotFound`]; [`Error::TooLarge`] when more than
    /// [`UPLOAD_RANGES_MAX`](crate::UPLOAD_RANGES_MAX) separate ranges would be confirmed.
    async fn confirm_upload(
        &self,
        _tenant: &TenantId,
        id: &UploadId,
        _staging: &FileKey,
        _ranges: &[Range<u64>],
    ) -> Result<bool> {
        Err(Error::UploadNotFound { upload: *id })
    }

    /// Returns when everything that was noted of an upload survives power loss, whatever the store's durability promises:
    /// what was staged is about to be used up. An upload that would soon be taken for given up is not, for a while.
    ///
    /// # Errors
    /// [`Error::UploadNotFound`]; [`Error::Poisoned`].
    async fn settle_upload(&self, _tenant: &TenantId, id: &UploadId) -> Result<()> {
        Err(Error::UploadNotFound { upload: *id })
    }

    /// Turns an upload whose whole content rests at its place, durably, into a pending file; one that was to be sealed with its
    /// seal, and with the checksum of the sealed bytes.
    ///
    /// # Errors
    /// [`Error::UploadNotFound`]; [`Error::UploadIncomplete`].
    async fn finish_upload(
        &self,
        _tenant: &TenantId,
        id: &UploadId,
        _checksum: Checksum,
        _seal: Option<Seal>,
    ) -> Result<FileKey> {
        Err(Error::UploadNotFound { upload: *id })
    }

    /// The file that an upload became, as long as that is remembered: until its record is gone, and then 24 h.
    async fn finished_upload(&self, _tenant: &TenantId, _id: &UploadId) -> Result<Option<FileKey>> {
        Ok(None)
    }

    /// Ends an upload without a file and gives its room back. `false` when there was none. Durable when it returns, whatever
    /// the store promises otherwise: what was staged is about to be removed.
    async fn end_upload(&self, _tenant: &TenantId, _id: &UploadId) -> Result<bool> {
        Ok(false)
    }

    /// An upload under way; `None` for an unknown one and for another tenant's.
    fn upload(&self, _tenant: &TenantId, _id: &UploadId) -> Option<UploadInfo> {
        None
    }

    /// Up to `max` of a tenant's uploads under way behind `after`, in the order in which they were begun.
    fn uploads(&self, _tenant: &TenantId, _after: Option<&UploadId>, _max: usize) -> Vec<UploadInfo> {
        Vec::new()
    }

    /// What uploads under way hold of a volume.
    fn uploads_on(&self, _volume: &VolumeId) -> UploadLoad {
        UploadLoad::default()
    }

    /// What the store takes itself ([`NewContent::Inline`]); none unless a store says otherwise.
    fn inline_limits(&self) -> InlineLimits {
        InlineLimits::default()
    }

    /// Room for a content of `bytes` in the store itself; waits while room is being made. `None` when the store is full,
    /// and the content belongs on a volume.
    async fn land(&self, _bytes: u64) -> Option<Landing> {
        None
    }

    /// Bytes of a content that the store itself holds ([`Place::Store`](crate::Place::Store)), after the whole of it was
    /// checked against its checksum. `range` lies within the content.
    ///
    /// # Errors
    /// [`Error::FileNotFound`] when the store does not hold it (any more): look its record up again.
    /// [`Error::ChecksumMismatch`], [`Error::Corrupt`], [`Error::Io`].
    async fn content(&self, record: &FileRecord, range: Range<u64>) -> Result<Bytes>;

    /// The right to move the content of a living file out of the store; `None` when the store does not hold it, or
    /// somebody moves it already. A memory operation.
    fn begin_move(&self, _tenant: &TenantId, _key: &FileKey) -> Option<Moving> {
        None
    }

    /// The right to move the content of a living file from `volume`, where it rests, to another one; `None` when it does
    /// not rest there, or somebody moves it already. A memory operation.
    fn begin_move_from(&self, _tenant: &TenantId, _key: &FileKey, _volume: &VolumeId) -> Option<Moving> {
        None
    }

    /// The right to move a file that failed for the last time to the dead letters; with it [`relocate`](Self::relocate) makes
    /// it one. `None` while somebody moves it, or removes what an earlier move left under its new name. A memory operation.
    ///
    /// # Errors
    /// [`Error::FileNotFound`]; [`Error::WrongStatus`] in every other state.
    fn begin_dead_letter(&self, _tenant: &TenantId, key: &FileKey) -> Result<Option<Moving>> {
        Err(Error::FileNotFound { key: *key })
    }

    /// The right to move a dead letter back, with room for it in every quota; with it [`relocate`](Self::relocate) makes it
    /// pending, with fresh counts and at its old place in the accept order. `None` while somebody moves it, or removes what
    /// an earlier move left under its new name. A memory operation.
    ///
    /// # Errors
    /// [`Error::FileNotFound`]; [`Error::WrongStatus`] when it is no dead letter; as [`reserve`](Self::reserve).
    fn begin_requeue(&self, _tenant: &TenantId, key: &FileKey) -> Result<Option<Moving>> {
        Err(Error::FileNotFound { key: *key })
    }

    /// Writes down, as durably as every change, that the content is about to be written to `volume` under the
    /// [`target`](Moving::target) of a move. Call it before: unless [`relocate`](Self::relocate) says that the content rests there,
    /// the store has that name removed when the right to move ends, whatever happens between, a crash included. `false`, and
    /// nothing is to be written, when the file is over by now.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] while what an earlier move left under that name is being removed. What the store says.
    ///
    /// # Cancel safety
    /// After a dropped future it is written down or not.
    async fn announce(&self, _moving: &Moving, _volume: &VolumeId) -> Result<bool> {
        Ok(true)
    }

    /// Files that stay and rest on a volume: a page of about `max`, from where an earlier page said to go on, or from the
    /// begin. Files that come or go between two pages may be in them or not; every other one is in one of them. A memory
    /// operation, bounded in time.
    fn resting_on(&self, _volume: &VolumeId, _from: Option<u64>, _max: usize) -> RestingPage {
        RestingPage::default()
    }

    /// Files that stay and are not sealed with this key: page by page, as [`resting_on`](Self::resting_on).
    fn not_sealed_with(&self, _key: SealKeyId, _from: Option<u64>, _max: usize) -> RestingPage {
        RestingPage::default()
    }

    /// The right to seal the content of a file anew; `None` when it is sealed with this key, leased or over, while somebody moves
    /// it, and while what an earlier move left beside it waits to be removed. A memory operation.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] when that could not be removed when it was tried last.
    fn begin_seal(&self, _tenant: &TenantId, _key: &FileKey, _with: SealKeyId) -> Result<Option<Moving>> {
        Ok(None)
    }

    /// As [`relocate`](Self::relocate), of a content that was sealed on its way. `false` as well when the file was leased
    /// meanwhile.
    ///
    /// # Errors
    /// As [`relocate`](Self::relocate); [`Error::TooLarge`] for the details.
    async fn seal_anew(&self, moving: Moving, _to: SealedAnew) -> Result<bool> {
        Err(Error::FileNotFound { key: moving.record().info.key })
    }

    /// Forgets up to `max` files that rest on a volume that never comes back: they are deleted, leased or not, and their
    /// records go without a look at the volume. When none is left, the uploads under way there end. Says how many files and
    /// uploads are left there. A bounded step: call it until none is.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::ShuttingDown`], [`Error::InsufficientStorage`]; what is forgotten is.
    async fn forget_on(&self, volume: &VolumeId, _max: usize) -> Result<u64> {
        Ok(self.files_on(volume))
    }

    /// What was decided about a volume. A memory operation.
    fn standing_of(&self, _volume: &VolumeId) -> VolumeStanding {
        VolumeStanding::InUse
    }

    /// All volumes that are not simply in use, in the order of their names. A memory operation.
    fn standings(&self) -> Vec<(VolumeId, VolumeStanding)> {
        Vec::new()
    }

    /// Decides about a volume; says what held before.
    ///
    /// # Errors
    /// [`Error::Poisoned`], [`Error::ShuttingDown`], [`Error::InsufficientStorage`]; unless the outcome is unknown, what
    /// held before holds.
    async fn set_standing(&self, volume: &VolumeId, _standing: VolumeStanding) -> Result<VolumeStanding> {
        Err(Error::VolumeUnavailable { volume: Some(volume.clone()), why: "cannot be decided about".into() })
    }

    /// Says that the content of `moving` now rests at `to`, durably, bytes and name, under its
    /// [target](Moving::target): if the file is still in the state in which the right was given, its record names that place
    /// from now on, and the new state, when the right is to another area. `false` when it is not: what lies at `to` belongs to
    /// nobody. What
    /// lies at an old place on a volume is handed out by [`Upkeep::reapable`](crate::Upkeep::reapable) once the move is
    /// durable, and not touched before.
    ///
    /// # Errors
    /// [`Error::InsufficientStorage`], [`Error::Poisoned`], [`Error::ShuttingDown`]; unless the outcome is unknown, the
    /// record names its old place.
    async fn relocate(&self, moving: Moving, _to: Stored) -> Result<bool> {
        Err(Error::FileNotFound { key: moving.record().info.key })
    }

    /// Hands out contents that the store wants to be moved to volumes, because it is full: up to `files` of them, up
    /// to `bytes` together but at least one.
    async fn spillable(&self, _files: usize, _bytes: u64) -> Result<Vec<Moving>> {
        Ok(Vec::new())
    }

    /// Returns when [`spillable`](Self::spillable) may have something. May return early.
    async fn spill_wanted(&self) {
        std::future::pending::<()>().await;
    }

    /// Leases up to `max` files of a tenant in accept order; fewer, or none, when fewer are ready.
    async fn lease(&self, tenant: &TenantId, max: usize, options: &LeaseOptions) -> Result<Vec<Leased>>;

    /// Leases up to `max` files of one tenant, chosen fairly among those that have some: in the long run, as long as they
    /// have any, tenants get files in proportion to the weight that `weigh` gives them. One that it gives 0 is passed by,
    /// and looked at again after [`tenant_changed`](Self::tenant_changed).
    async fn lease_any(
        &self,
        max: usize,
        options: &LeaseOptions,
        weigh: &(dyn for<'a> Fn(&'a TenantId) -> u32 + Send + Sync),
    ) -> Result<Vec<Leased>>;

    /// Leases this very file.
    ///
    /// # Errors
    /// [`Error::FileNotFound`], [`Error::AlreadyProcessing`], [`Error::NotDue`], [`Error::WrongStatus`],
    /// [`Error::VolumeUnavailable`].
    async fn lease_key(&self, tenant: &TenantId, key: &FileKey, options: &LeaseOptions) -> Result<Leased>;

    /// Gives a lease its time again, counted from now: `ttl`, or the time it was taken for.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    async fn renew(&self, lease: &Lease, ttl: Option<Duration>) -> Result<Lease>;

    /// Gives the file back at once; the attempt does not count.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    async fn release(&self, lease: &Lease) -> Result<()>;

    /// Completes all of these or none.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] for the first that cannot be completed.
    async fn complete(&self, leases: &[Lease]) -> Result<()>;

    /// Counts a failure: the file comes back later or is given up. `error` is cut at 1,024 bytes.
    ///
    /// # Errors
    /// [`Error::LeaseLost`].
    async fn fail(&self, lease: &Lease, error: &str) -> Result<FailOutcome>;

    /// Makes a delayed or given-up file pending now, with fresh counts. A dead letter is
    /// [requeued](Self::begin_requeue) instead.
    ///
    /// # Errors
    /// [`Error::FileNotFound`], [`Error::AlreadyProcessing`], [`Error::WrongStatus`].
    async fn reset(&self, tenant: &TenantId, key: &FileKey) -> Result<()>;

    /// Deletes a file; with `force` also one that is leased. Deleting a file that is being removed already succeeds.
    ///
    /// # Errors
    /// [`Error::FileNotFound`], [`Error::AlreadyProcessing`].
    async fn delete(&self, tenant: &TenantId, key: &FileKey, force: bool) -> Result<()>;

    /// Deletes a dead letter, and nothing that is none (any more).
    ///
    /// # Errors
    /// [`Error::FileNotFound`]; [`Error::WrongStatus`] in every other state.
    async fn purge(&self, _tenant: &TenantId, key: &FileKey) -> Result<()> {
        Err(Error::FileNotFound { key: *key })
    }

    /// The record of a file; `None` for an unknown key and for another tenant's.
    async fn get(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<FileRecord>>;

    /// The record of a leased file, for the holder of its lease, whatever the tenant's status. A keeper that knows
    /// tokens compares them; without that, the delivery's number is what tells leases apart.
    ///
    /// # Errors
    /// [`Error::LeaseLost`] when the file is not leased, or not by this lease.
    async fn leased(&self, lease: &Lease) -> Result<FileRecord> {
        let record = self.get(&lease.tenant, &lease.key).await?;
        let status = record.as_ref().map(|record| record.info.status);
        record
            .filter(|record| {
                record.info.status == FileStatus::Processing && record.info.attempts == lease.attempt
            })
            .ok_or(Error::LeaseLost { key: lease.key, expected: None, actual: lease.token, status })
    }

    /// The state behind a lease: `None` when its record is gone.
    async fn status(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<FileStatus>> {
        Ok(self.get(tenant, key).await?.map(|record| record.info.status))
    }

    /// Returns when the tenant may have a file to lease: one was confirmed, fell due, ran out, or its volume came
    /// back. May return early; call [`lease`](Self::lease) to know.
    async fn ready(&self, tenant: &TenantId) -> Result<()>;

    /// Returns when any tenant may have a file to lease.
    async fn ready_any(&self) -> Result<()>;

    /// A barrier: returns when everything confirmed so far is durable.
    async fn sync(&self) -> Result<()>;

    /// Whether files on this volume may be leased.
    fn volume_available(&self, volume: &VolumeId, available: bool);

    /// How many files rest on a volume, those waiting to be removed and what moves left behind included.
    fn files_on(&self, volume: &VolumeId) -> u64;

    /// How many bytes the files on a volume have, those waiting to be removed included.
    fn bytes_on(&self, _volume: &VolumeId) -> u64 {
        0
    }

    /// A tenant's status changed: those who wait for its files look again.
    fn tenant_changed(&self, tenant: &TenantId);

    /// What the store has of a tenant.
    fn holdings(&self, tenant: &TenantId) -> Holdings;

    /// From now on, and as long as the answer lives, nothing is taken in for this tenant and none of its files is handed
    /// out: such calls are refused with [`Error::TenantDisabled`]. What is leased stays so.
    ///
    /// # Errors
    /// [`Error::TenantLeaving`] when it is on its way out already; with `when_empty`, [`Error::TenantInUse`] unless there
    /// is nothing of it. Nothing changed then.
    fn begin_leaving(&self, tenant: &TenantId, when_empty: bool) -> Result<Leaving>;

    /// Ends up to `max` files of a tenant that leaves, leased ones among them, as [`delete`](Self::delete) does by force.
    /// Goes on `from` what the call before said. Says how many ended, and where to go on, unless that was all.
    ///
    /// # Errors
    /// What the store says. Those of the calls before are ended then.
    async fn end_files(&self, leaving: &Leaving, from: u32, max: usize) -> Result<(u64, Option<u32>)>;

    /// Forgets all else of a tenant that leaves: limits that were set at run time and idempotency keys. Durable when it
    /// returns, whatever the store promises otherwise.
    ///
    /// # Errors
    /// [`Error::TenantInUse`] unless there is nothing else of it; what the store says.
    async fn forget_tenant(&self, leaving: &Leaving) -> Result<()>;

    /// Tenants that have files or uploads under way, and the storage path that these lie under.
    fn tenants_with_files(&self) -> Vec<(TenantId, StoragePath)>;

    /// The file that an idempotency key names, when one was accepted with it and the key is remembered. The answer is as
    /// durable as the accept was promised to be.
    ///
    /// # Errors
    /// What the store says.
    async fn remembered(&self, tenant: &TenantId, idempotency: &str) -> Result<Option<FileKey>>;

    /// Forgets an idempotency key. `false` when it was not known.
    async fn forget(&self, tenant: &TenantId, idempotency: &str) -> Result<bool>;

    /// Sets a limit, which then wins over the settings. [`Limit::Inherit`] resets it to what the settings say.
    async fn set_limit(&self, scope: Scope, limit: Limit) -> Result<()>;

    /// Count and limit in force of a scope.
    fn usage(&self, scope: &Scope) -> Usage;

    /// Usage of about `max` of a tenant's logical directories, from where an earlier page said to go on, or from the begin.
    /// Directories that come or go between two pages may be in them or not; every other one is in one of them.
    fn directory_usage(&self, tenant: &TenantId, from: Option<u64>, max: usize) -> UsagePage;

    /// Counts by tenant and state.
    fn counts(&self) -> StoreCounts;

    /// The keys that contents are sealed with, and how many of each. A memory operation.
    fn seal_keys(&self) -> Vec<(SealKeyId, u64)> {
        Vec::new()
    }
}
