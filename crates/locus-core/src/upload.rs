//! Large content that comes in pieces.

use std::{fmt, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Area, BlobPath, Checksum, Error, Extension, FileKey, LogicalDir, Properties, Seal, StoragePath, TenantId,
    Timestamp, VolumeId,
};

/// Most separate ranges of one upload that are confirmed at a time.
pub const UPLOAD_RANGES_MAX: usize = 4_096;

/// Names an upload, over restarts: whoever has it can go on. Prints as a hyphenated UUID; it is the [`FileKey`] that the
/// file will have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadId(FileKey);

impl UploadId {
    /// The upload that becomes the file `key`.
    #[must_use]
    pub const fn new(key: FileKey) -> Self {
        Self(key)
    }

    /// The key that the file will have. Nothing is known under it before the upload is finished.
    #[must_use]
    pub const fn key(&self) -> FileKey {
        self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UploadId({})", self.0)
    }
}

impl FromStr for UploadId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        FileKey::parse(text).map(Self)
    }
}

/// An upload to be begun.
#[derive(Debug, Clone)]
pub struct NewUpload {
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
    /// Length of the whole content, in bytes.
    pub size: u64,
    /// BLAKE3 that the whole content must have, when that is known.
    pub expected: Option<Checksum>,
    /// What is known about the content, when it is to be sealed: the size is then that of the sealed bytes, and nothing is said of
    /// name, properties and expected checksum.
    pub seal: Option<Seal>,
    /// Where its bytes are staged, and will rest.
    pub volume: VolumeId,
}

/// What is known of an upload under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct UploadInfo {
    /// Its name.
    pub id: UploadId,
    /// Whose.
    pub tenant: TenantId,
    /// The first path component of its bytes on volumes.
    pub storage_path: StoragePath,
    /// The caller's own grouping.
    pub directory: LogicalDir,
    /// The name the caller gave it.
    pub original_name: Option<String>,
    /// The caller's own key-value pairs.
    pub properties: Properties,
    /// Length of the whole content, in bytes.
    pub size: u64,
    /// BLAKE3 that the whole content must have, when that was said.
    pub expected_checksum: Option<Checksum>,
    /// Where its bytes are staged, and will rest.
    pub volume_id: VolumeId,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// Names the place on its volume where its bytes are put together, once they are.
    pub staging: Option<FileKey>,
    /// What is there for good, in order, without overlap: these bytes need not be sent again.
    pub confirmed: Vec<Range<u64>>,
    /// What is known about the content, as a store keeps it when it is to be sealed.
    #[serde(skip)]
    pub seal: Option<Seal>,
}

impl UploadInfo {
    /// What is known of an upload of which nothing is confirmed.
    #[must_use]
    pub fn begun(id: UploadId, upload: NewUpload, begun_at: Timestamp) -> Self {
        Self {
            id,
            tenant: upload.tenant,
            storage_path: upload.owner,
            directory: upload.directory,
            original_name: upload.original_name,
            properties: upload.properties,
            size: upload.size,
            expected_checksum: upload.expected,
            volume_id: upload.volume,
            begun_at,
            staging: None,
            confirmed: Vec::new(),
            seal: upload.seal,
        }
    }

    /// Where its content will rest on its volume.
    #[must_use]
    pub fn blob(&self) -> BlobPath {
        BlobPath {
            area: Area::Live,
            owner: self.storage_path.clone(),
            key: self.id.key(),
            extension: Seal::extension_of(self.seal.as_ref(), self.original_name.as_deref()),
        }
    }

    /// Where its bytes are put together on its volume, once they are.
    #[must_use]
    pub fn staged_at(&self) -> Option<BlobPath> {
        let key = self.staging?;
        Some(BlobPath { area: Area::Live, owner: self.storage_path.clone(), key, extension: Extension::NONE })
    }

    /// What has still to be sent, in order.
    #[must_use]
    pub fn missing(&self) -> Vec<Range<u64>> {
        let mut at = 0;
        let mut missing = Vec::new();
        for range in &self.confirmed {
            if at < range.start {
                missing.push(at..range.start);
            }
            at = range.end;
        }
        if at < self.size {
            missing.push(at..self.size);
        }
        missing
    }
}

/// What uploads under way hold of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UploadLoad {
    /// How many there are.
    pub uploads: u64,
    /// Bytes that they have still to write.
    pub bytes_left: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_everything_that_is_not_confirmed() {
        let tenant = TenantId::parse("acme").unwrap();
        let new = NewUpload {
            owner: StoragePath::from(&tenant),
            tenant,
            directory: LogicalDir::root(),
            original_name: Some("film.MP4".into()),
            properties: Properties::new(),
            size: 100,
            expected: None,
            seal: None,
            volume: VolumeId::parse("vol-1").unwrap(),
        };
        let id = UploadId::new(FileKey::from_bytes([7; 16]));
        let mut info = UploadInfo::begun(id, new, Timestamp::from_micros(1));
        assert_eq!(info.missing(), [Range { start: 0, end: 100 }]);
        assert_eq!(info.blob().to_string(), format!("acme/{id}.mp4"));
        info.confirmed = vec![10..20, 30..100];
        assert_eq!(info.missing(), [0..10, 20..30]);
        info.confirmed = vec![Range { start: 0, end: 100 }];
        assert!(info.missing().is_empty());
    }

    #[test]
    fn an_upload_id_survives_its_text_form() {
        let id = UploadId::new(FileKey::from_bytes([7; 16]));
        assert_eq!(id.to_string().parse::<UploadId>().unwrap(), id);
    }
}
