//! What is known about a file: for its owner ([`FileInfo`]), for an operator ([`FileLocation`]), and inside
//! ([`FileRecord`]).

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    Area, BlobPath, Checksum, FileKey, FileStatus, LogicalDir, Properties, Seal, SealedFile, StoragePath,
    TenantId, Timestamp, VolumeId,
};

/// A file as its owner sees it: immutable content plus its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its key.
    pub key: FileKey,
    /// Whose it is.
    pub tenant: TenantId,
    /// Length of the content, in bytes.
    pub size: u64,
    /// BLAKE3 of the content.
    pub checksum: Checksum,
    /// The name the caller gave it. Data only: it may hold anything, so never use it as a path unchecked.
    pub original_name: Option<String>,
    /// The caller's own grouping.
    pub directory: LogicalDir,
    /// The caller's own key-value pairs.
    pub properties: Properties,
    /// When it was accepted, by the wall clock of that moment.
    pub created_at: Timestamp,
    /// When its state last changed, by the wall clock of that moment.
    pub modified_at: Timestamp,
    /// Where it is in its life.
    pub status: FileStatus,
    /// How many times it failed.
    pub retry_count: u32,
    /// How many times it was handed out (a released lease does not count).
    pub attempts: u32,
}

/// A file as an operator sees it: its [`FileInfo`], where its bytes rest, and what workers did with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileLocation {
    /// What the owner sees.
    pub info: FileInfo,
    /// The volume that holds the bytes; `None` while they rest in the journal.
    pub volume_id: Option<VolumeId>,
    /// The path of the bytes, when they have one on this machine and their volume is mounted.
    pub physical_path: Option<PathBuf>,
    /// When it last failed.
    pub last_failed_at: Option<Timestamp>,
    /// What the worker said when it last failed, cut at 1,024 bytes.
    pub last_error: Option<String>,
    /// When a delayed file is due again.
    pub available_at: Option<Timestamp>,
    /// When the present lease was taken.
    pub processing_started_at: Option<Timestamp>,
    /// The name of the worker that holds it.
    pub processing_by: Option<String>,
    /// When the present lease was taken or last renewed.
    pub last_heartbeat: Option<Timestamp>,
}

/// Where content rests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Place {
    /// Inside the store itself; ask the store for it.
    Store,
    /// On a volume, under [`FileRecord::blob`].
    Volume(VolumeId),
}

/// Content as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it rests.
    pub place: Place,
    /// Its length, in bytes.
    pub length: u64,
    /// BLAKE3 of it.
    pub checksum: Checksum,
}

/// A file as a [`MetadataStore`](crate::MetadataStore) knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    /// What the owner sees.
    pub info: FileInfo,
    /// Where the content rests.
    pub place: Place,
    /// How the content is sealed, when it is: size and checksum are then those of the sealed bytes, and names and properties are
    /// in here.
    pub seal: Option<Seal>,
    /// The first path component of its bytes on a volume.
    pub owner: StoragePath,
    /// The part of a volume in which its bytes lie, or would lie.
    pub area: Area,
    /// When it last failed.
    pub last_failed_at: Option<Timestamp>,
    /// What the worker said then.
    pub last_error: Option<String>,
    /// When a delayed file is due again.
    pub available_at: Option<Timestamp>,
    /// When the present lease was taken.
    pub processing_started_at: Option<Timestamp>,
    /// Who holds it.
    pub processing_by: Option<String>,
    /// When the present lease was taken or last renewed.
    pub last_heartbeat: Option<Timestamp>,
}

impl FileRecord {
    /// The address of the bytes inside a volume. Computed, never stored.
    #[must_use]
    pub fn blob(&self) -> BlobPath {
        BlobPath {
            area: self.area,
            owner: self.owner.clone(),
            key: self.info.key,
            extension: Seal::extension_of(self.seal.as_ref(), self.info.original_name.as_deref()),
        }
    }

    /// What its sealed parts are bound to.
    #[must_use]
    pub fn sealed_file(&self) -> SealedFile {
        SealedFile { owner: self.owner.clone(), key: self.info.key }
    }
}
