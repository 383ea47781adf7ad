//! What an upload and its pieces can be told.

use bytes::Bytes;
use locus_core::{Checksum, Properties};

/// What is known of a large content before it comes, in pieces: its size, and what goes with the file.
///
/// ```
/// # use locus_storage::UploadOptions;
/// let options = UploadOptions::new(6 << 30).original_name("scan.tif").directory("/maps");
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until they are given to an upload"]
pub struct UploadOptions {
    pub(super) size: u64,
    pub(super) original_name: Option<String>,
    pub(super) directory: Option<String>,
    pub(super) properties: Properties,
    pub(super) expected_checksum: Option<Checksum>,
}

impl UploadOptions {
    /// A content of `size` bytes, without a name, without properties, in directory `/`.
    pub fn new(size: u64) -> Self {
        Self {
            size,
            original_name: None,
            directory: None,
            properties: Properties::new(),
            expected_checksum: None,
        }
    }

    /// The name the content had. Data only, at most 1,024 bytes; of it only a sanitised extension reaches a disk.
    pub fn original_name(mut self, name: impl Into<String>) -> Self {
        self.original_name = Some(name.into());
        self
    }

    /// The logical directory, in any spelling. At most 1,024 bytes and 32 levels.
    pub fn directory(mut self, directory: impl Into<String>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Adds one property. All keys and values together may take 1,024 bytes.
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(key.into(), value.into());
        self
    }

    /// Refuses to finish when the whole content turns out to have another checksum.
    pub fn expected_checksum(mut self, checksum: Checksum) -> Self {
        self.expected_checksum = Some(checksum);
        self
    }
}

/// A piece of an upload.
#[derive(Debug, Clone)]
pub struct Chunk {
    pub(super) bytes: Bytes,
    pub(super) checksum: Option<Checksum>,
}

impl Chunk {
    /// These bytes, as they are.
    pub fn new(bytes: impl Into<Bytes>) -> Self {
        Self { bytes: bytes.into(), checksum: None }
    }

    /// Refuses the piece when its bytes have another checksum: they were damaged on their way here.
    #[must_use]
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = Some(checksum);
        self
    }
}

impl<T: Into<Bytes>> From<T> for Chunk {
    fn from(bytes: T) -> Self {
        Self::new(bytes)
    }
}
