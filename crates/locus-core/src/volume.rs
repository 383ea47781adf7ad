//! The volume seam: a place for bytes.

use std::{
    borrow::Cow,
    fmt::Debug,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Area, BlobPath, Checksum, Content, Error, Extension, FileKey, Hasher, Result, StoragePath, Tidy,
    TidyReport, VolumeId,
};

/// What `Ok` promises of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// It survives power loss.
    #[default]
    Durable,
    /// It is in the kernel: it survives the death of the process. Power loss loses at most `max_unsynced` from the
    /// end.
    Buffered,
}

/// A place for bytes: a local disk, a network mount, an object store, a decorator over others.
///
/// Blobs are written once and never overwritten. An implementation must be `Debug + Send + Sync`, must not panic on
/// what a disk can do, and passes the volume suite of `locus-testkit`.
#[async_trait]
pub trait StorageVolume: Debug + Send + Sync {
    /// Its name.
    fn id(&self) -> &VolumeId;

    /// Where it is mounted, when that is a path of this machine.
    fn mount_path(&self) -> Option<&Path>;

    /// All directories of this machine that it uses, also while it cannot use them: nobody else is to touch what lies there.
    /// By default where it is mounted; a volume over others names theirs.
    fn places(&self) -> Vec<PathBuf> {
        self.mount_path().into_iter().map(Path::to_path_buf).collect()
    }

    /// The path of a blob, when it has one on this machine. Says nothing about whether the blob exists.
    fn local_path(&self, at: &BlobPath) -> Option<PathBuf>;

    /// What was last measured. Never blocks.
    fn status(&self) -> VolumeStatus;

    /// Measures now, checks the identity of what is mounted, and leaves nothing behind.
    async fn probe(&self) -> Result<VolumeStatus>;

    /// Stores `content`, wholly or not at all: it becomes visible under its name only when all of it is there.
    /// `Durable`: bytes and name survive power loss once this returns. Never overwrites.
    ///
    /// # Errors
    /// On any error nothing is visible under the name; what could not be removed is left to [`tidy`](Self::tidy).
    /// [`Error::Source`](crate::Error::Source) means that the content could not be read, everything else that the
    /// volume failed and another volume may be tried after the content was rewound.
    ///
    /// # Cancel safety
    /// A dropped future leaves either nothing, or staging that [`tidy`](Self::tidy) removes, or the whole blob.
    async fn write(&self, at: &BlobPath, content: &mut Content, how: Durability) -> Result<StoredBlob>;

    /// A place beside the blobs where one is put together from pieces, until it is [published](Staged::publish). `at`
    /// names the place and is not used for anything else, ever; the extension says nothing.
    ///
    /// # Errors
    /// With [`Staging::New`] [`Error::Io`](crate::Error::Io) with kind `AlreadyExists` when something is staged there; with
    /// another one with kind `NotFound` when certainly nothing is.
    async fn stage(&self, at: &BlobPath, how: Staging) -> Result<Arc<dyn Staged>>;

    /// What is staged, `limit` at a time, as [`list`](Self::list) lists blobs.
    async fn staged(&self, from: Option<&Cursor>, limit: usize) -> Result<BlobPage>;

    /// Removes what is staged at `at`. Absent is success (`false`). Nobody writes to it any more. The removal is durable after
    /// [`sync_names`](Self::sync_names).
    async fn discard(&self, at: &BlobPath) -> Result<bool>;

    /// Gives a blob the same address in another area too, durably, content and name, whatever it was before: without copying its
    /// bytes where the volume can. Both are whole then, and one may be deleted without the other.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) with kind `AlreadyExists` when that address is taken; with kind `NotFound` when the blob
    /// is certainly absent. On any error but the first nothing is visible at the new address; what could not be removed
    /// is left to [`tidy`](Self::tidy).
    ///
    /// # Cancel safety
    /// A dropped future leaves either nothing, or staging, or the whole blob at the new address.
    async fn copy(&self, at: &BlobPath, to: Area) -> Result<()>;

    /// Opens a blob. `expected` is the range that will be read first; the start of it is brought along.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) with kind `NotFound` when the blob is certainly absent.
    async fn open(&self, at: &BlobPath, expected: Range<u64>) -> Result<BlobReader>;

    /// Removes a blob. Absent is success (`false`). The removal is durable after [`sync_names`](Self::sync_names).
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`](crate::Error::VolumeUnavailable) while an earlier call that gives or takes this name is at
    /// work, also when its future was dropped: only when it has ended is it known whether there is anything.
    ///
    /// # Cancel safety
    /// A dropped future leaves the blob, or removes it, maybe later; until then nothing else gets this name.
    async fn delete(&self, at: &BlobPath) -> Result<bool>;

    /// Makes all content and names so far durable.
    async fn sync(&self) -> Result<()>;

    /// Makes one blob durable, content and name, whoever wrote it and when: recovery asks for those that it is about to
    /// believe.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io) with kind `NotFound` when the blob is certainly absent.
    async fn sync_blob(&self, at: &BlobPath) -> Result<()>;

    /// Makes all removals so far durable.
    async fn sync_names(&self) -> Result<()>;

    /// The blobs of one owner, or of all, in all areas, `limit` at a time, in an order that does not change while they rest
    /// there.
    /// Memory is bounded by `limit`. A cursor may be given again after the volume was opened anew: go on about there, or
    /// refuse it.
    async fn list(
        &self,
        under: Option<&StoragePath>,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<BlobPage>;

    /// Removes what is not a blob and not needed.
    async fn tidy(&self, what: Tidy) -> Result<TidyReport>;

    /// Looks at all copies of all blobs and repairs what is missing or damaged, when this volume keeps more than one of
    /// each; `None` when it does not, and nothing was done. `progress` is called after each blob. Memory is bounded, and
    /// everything else goes on meanwhile.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`](crate::Error::VolumeUnavailable) when the volume is closed or what it is made of goes away:
    /// what was repaired stays so. [`Error::Io`](crate::Error::Io).
    ///
    /// # Cancel safety
    /// It may be dropped anywhere and begun again.
    async fn scrub(&self, progress: OnScrub<'_>) -> Result<Option<ScrubProgress>> {
        let _ = progress;
        Ok(None)
    }

    /// Lets go of what the volume holds (locks, handles). Later calls fail with
    /// [`Error::VolumeUnavailable`](crate::Error::VolumeUnavailable).
    async fn close(&self) -> Result<()>;
}

/// What somebody decided about a volume. It holds whether the volume is mounted or not, and over restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub enum VolumeStanding {
    /// Nothing: it takes content when it is mounted.
    #[default]
    InUse,
    /// It takes no new content, and its files are moved away.
    Draining,
    /// It never comes back: it is not mounted any more, and its records are kept.
    Retired,
}

/// What a volume last measured about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeStatus {
    /// Size of the file system, in bytes.
    pub total: u64,
    /// Bytes that may still be written.
    pub available: u64,
    /// Whether it can be used.
    pub is_healthy: bool,
    /// Whether it can only be read.
    pub read_only: bool,
    /// Why it cannot be used or written.
    pub why: Option<Cow<'static, str>>,
}

impl VolumeStatus {
    /// Whether new content may be written.
    #[must_use]
    pub const fn takes_writes(&self) -> bool {
        self.is_healthy && !self.read_only
    }

    /// Says why no new content may be written to this volume.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] unless it [takes writes](Self::takes_writes).
    pub fn check_writes(self, volume: &VolumeId) -> Result<()> {
        if self.takes_writes() {
            return Ok(());
        }
        let why = self.why.unwrap_or("takes no writes".into());
        Err(Error::VolumeUnavailable { volume: Some(volume.clone()), why })
    }
}

/// Content that was stored on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its length, in bytes.
    pub length: u64,
    /// BLAKE3 of it.
    pub checksum: Checksum,
}

/// An open blob: stays readable from this handle even when its name is removed.
#[async_trait]
pub trait Blob: Debug + Send + Sync {
    /// Reads up to `len` bytes at `offset`; fewer only at the end.
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes>;
}

/// What [`StorageVolume::stage`] opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staging {
    /// A new place, empty, and durable by name.
    New,
    /// One that is there, with what it holds.
    Resume,
    /// One that was [published](Staged::publish) as the blob with this key and extension, of the same owner, by a call that
    /// nobody relies on: to be read, not written, and published as the same again. Until then the blob may be absent. What is
    /// published again is durable, also where a sync failed the first time, and later ones find nothing left to do.
    Published {
        /// Key of the blob.
        key: FileKey,
        /// Extension of the blob.
        extension: Extension,
    },
}

/// A blob that is put together from pieces, in any order and at the same time. Made by [`StorageVolume::stage`].
#[async_trait]
pub trait Staged: Debug + Send + Sync {
    /// Writes `bytes` at `offset`.
    ///
    /// # Cancel safety
    /// After a dropped future the range holds anything, and may still be written to for a while.
    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()>;

    /// Reads up to `len` bytes at `offset`; fewer only at the end.
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes>;

    /// Makes everything written so far durable.
    async fn sync(&self) -> Result<()>;

    /// Gives what is staged, all of it synced, the name of the blob `to`, durably; then nothing is staged any more. It must
    /// have `length` bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt) when it has another length; [`Error::Io`](crate::Error::Io) with kind
    /// `AlreadyExists` when that name is taken, by what an earlier call made of the same. After any error it is
    /// staged, or has its name, or both, and is whole in each.
    async fn publish(&self, to: &BlobPath, length: u64) -> Result<()>;
}

/// What [`StorageVolume::open`] gives: the length, the first bytes, and a handle for the rest.
#[derive(Debug, Clone)]
pub struct BlobReader {
    /// Length of the whole blob, in bytes.
    pub length: u64,
    /// Where `head` begins.
    pub head_offset: u64,
    /// The bytes that came along with the opening.
    pub head: Bytes,
    /// Reads the rest.
    pub blob: Arc<dyn Blob>,
}

/// Bytes that are read at a time to know the checksum of a blob.
const CHUNK_BYTES: u64 = 1 << 20;

impl BlobReader {
    /// BLAKE3 of the whole blob; `None` when it ends before its length.
    ///
    /// # Errors
    /// What the volume says.
    ///
    /// # Cancel safety
    /// It only reads.
    pub async fn checksum(&self) -> Result<Option<Checksum>> {
        let mut hasher = Box::<Hasher>::default(); // 2 KiB that need not lie in a future
        let mut read = 0;
        if self.head_offset == 0 {
            hasher.update(&self.head);
            read = self.head.len() as u64;
        }
        while read < self.length {
            let chunk = self.blob.read_at(read, CHUNK_BYTES.min(self.length - read) as usize).await?;
            if chunk.is_empty() {
                return Ok(None);
            }
            hasher.update(&chunk);
            read += chunk.len() as u64;
        }
        Ok(Some(hasher.finish()))
    }
}

/// Where a listing goes on. Opaque outside the volume that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor(pub String);

/// One page of a listing.
#[derive(Debug, Clone, Default)]
pub struct BlobPage {
    /// Blobs found.
    pub blobs: Vec<ListedBlob>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
    /// What could not be looked at and was passed by: there may be more blobs in it.
    pub unread: Vec<Unread>,
}

/// A directory or file of a volume that could not be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Where it is.
    pub path: PathBuf,
    /// What the operating system said.
    pub kind: io::ErrorKind,
    /// The same in words.
    pub why: String,
}

impl Unread {
    /// What `failed` is about.
    #[must_use]
    pub fn of(path: PathBuf, failed: &io::Error) -> Self {
        Self { path, kind: failed.kind(), why: failed.to_string() }
    }

    /// The failure again.
    #[must_use]
    pub fn to_error(&self) -> Error {
        Error::Io {
            op: "look at",
            path: self.path.clone(),
            source: io::Error::new(self.kind, self.why.clone()),
        }
    }
}

impl BlobPage {
    /// The page, for those who must know all.
    ///
    /// # Errors
    /// [`Error::Io`] when something could not be looked at.
    pub fn whole(self) -> Result<Self> {
        self.unread.first().map_or(Ok(()), |unread| Err(unread.to_error()))?;
        Ok(self)
    }
}

/// A blob found by a listing.
#[derive(Debug, Clone)]
pub struct ListedBlob {
    /// Its address.
    pub path: BlobPath,
    /// Its length, in bytes.
    pub length: u64,
}

/// Who is told how far a scrub is.
pub type OnScrub<'a> = &'a mut (dyn FnMut(&ScrubProgress) + Send);

/// How far a scrub is, or, when it has ended, what it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ScrubProgress {
    /// Blobs looked at, all copies of each.
    pub looked_at: u64,
    /// Bytes of content looked at, of one copy of each.
    pub bytes: u64,
    /// Copies that were missing and were made again.
    pub repaired_missing: u64,
    /// Copies that were damaged and were replaced.
    pub repaired_damaged: u64,
    /// Copies of deleted blobs that were removed.
    pub removed: u64,
    /// Blobs of which no good copy was found, or good copies that differ: nothing was changed.
    pub undecidable: u64,
    /// Blobs that could not be looked at or repaired now, because a member did not answer or they were in use.
    pub postponed: u64,
}

/// The volumes that are mounted now.
pub trait VolumeSet: Debug + Send + Sync {
    /// The volume of this name.
    fn volume(&self, id: &VolumeId) -> Option<Arc<dyn StorageVolume>>;

    /// All of them, in the order of their names.
    fn all(&self) -> Vec<Arc<dyn StorageVolume>>;
}
