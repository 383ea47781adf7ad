//! A volume for tests of where contents go.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use locus::{Checksum, StorageVolume, VolumeContext, VolumeSpec, VolumeStatus, prelude::*};
use locus_core::{
    Area, BlobPage, BlobPath, BlobReader, Cursor, Staged, Staging, StoragePath, StoredBlob, Tidy, TidyReport,
};

/// A volume of a certain size that counts what comes and keeps nothing.
#[derive(Debug, Clone)]
pub(crate) struct Counting {
    id: VolumeId,
    size: u64,
    used: Arc<AtomicU64>,
    pub(crate) fails: Arc<AtomicBool>,
}

impl Counting {
    pub(crate) fn new(number: usize, size: u64) -> Self {
        let id = VolumeId::parse(&format!("vol-{number}")).unwrap();
        Self { id, size, used: Arc::default(), fails: Arc::default() }
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl VolumeSpec for Counting {
    fn id(&self) -> Result<VolumeId, Error> {
        Ok(self.id.clone())
    }

    async fn open(self: Box<Self>, _: VolumeContext) -> Result<Arc<dyn StorageVolume>, Error> {
        Ok(Arc::new(*self))
    }
}

#[async_trait]
impl StorageVolume for Counting {
    fn id(&self) -> &VolumeId {
        &self.id
    }

    fn mount_path(&self) -> Option<&Path> {
        None
    }

    fn local_path(&self, _: &BlobPath) -> Option<PathBuf> {
        None
    }

    fn status(&self) -> VolumeStatus {
        let available = self.size - self.used();
        VolumeStatus { total: self.size, available, is_healthy: true, read_only: false, why: None }
    }

    async fn probe(&self) -> Result<VolumeStatus, Error> {
        Ok(self.status())
    }

    async fn write(&self, _: &BlobPath, content: &mut Content, _: Durability) -> Result<StoredBlob, Error> {
        tokio::task::yield_now().await; // others come meanwhile
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::io("write", "/nowhere")(io::Error::other("told to fail")));
        }
        let bytes = content.as_bytes().unwrap();
        self.used.fetch_add(bytes.len() as u64, Ordering::SeqCst);
        Ok(StoredBlob { length: bytes.len() as u64, checksum: Checksum::of(bytes) })
    }

    async fn stage(&self, _: &BlobPath, _: Staging) -> Result<Arc<dyn Staged>, Error> {
        Err(Error::io("stage", "/nowhere")(io::ErrorKind::Unsupported.into()))
    }

    async fn staged(&self, _: Option<&Cursor>, _: usize) -> Result<BlobPage, Error> {
        Ok(BlobPage::default())
    }

    async fn discard(&self, _: &BlobPath) -> Result<bool, Error> {
        Ok(false)
    }

    async fn open(&self, _: &BlobPath, _: Range<u64>) -> Result<BlobReader, Error> {
        Err(Error::io("open", "/nowhere")(io::ErrorKind::NotFound.into()))
    }

    async fn copy(&self, _: &BlobPath, _: Area) -> Result<(), Error> {
        Ok(())
    }

    async fn delete(&self, _: &BlobPath) -> Result<bool, Error> {
        Ok(true)
    }

    async fn sync(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn sync_blob(&self, _: &BlobPath) -> Result<(), Error> {
        Ok(())
    }

    async fn sync_names(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn list(&self, _: Option<&StoragePath>, _: Option<&Cursor>, _: usize) -> Result<BlobPage, Error> {
        Ok(BlobPage::default())
    }

    async fn tidy(&self, _: Tidy) -> Result<TidyReport, Error> {
        Ok(TidyReport::default())
    }

    async fn close(&self) -> Result<(), Error> {
        Ok(())
    }
}
