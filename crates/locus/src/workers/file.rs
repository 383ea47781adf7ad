//! A file in a handler's hands.

use std::ops::Deref;

use bytes::Bytes;
use locus_core::Result;
use locus_storage::{FileReader, LeasedFile, StoragePool};

/// A leased file and the way to its content. Derefs to [`LeasedFile`]: `key`, `tenant`, `size`, `original_name`,
/// `attempt`, `lease` and so on.
///
/// The handler need not end the lease: what it returns does that.
#[derive(Debug, Clone)]
pub struct WorkerFile {
    file: LeasedFile,
    pool: StoragePool,
}

impl WorkerFile {
    pub(super) const fn new(file: LeasedFile, pool: StoragePool) -> Self {
        Self { file, pool }
    }

    /// The whole content in memory, checked against its checksum.
    ///
    /// # Errors
    /// As [`StoragePool::read_leased`] and [`FileReader::bytes`].
    pub async fn bytes(&self) -> Result<Bytes> {
        self.reader().await?.bytes().await
    }

    /// The content as a reader, for what should not be in memory at once.
    ///
    /// # Errors
    /// As [`StoragePool::read_leased`].
    pub async fn reader(&self) -> Result<FileReader> {
        self.pool.read_leased(&self.file.lease).await
    }
}

impl Deref for WorkerFile {
    type Target = LeasedFile;
    fn deref(&self) -> &LeasedFile {
        &self.file
    }
}
