//! The real disk, one call of which fails.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use locus_fs::{DirEntry, Disk, DiskFile, DiskLock, Meta, OsDisk, Space};

/// Fails the one changing call it was told to fail; everything else goes to the real disk.
#[derive(Debug)]
pub(crate) struct FailingDisk {
    left: Arc<AtomicI64>,
}

impl Default for FailingDisk {
    fn default() -> Self {
        Self { left: Arc::new(AtomicI64::new(i64::MAX)) }
    }
}

impl FailingDisk {
    /// Fails the changing call after the next `calls`.
    pub(crate) fn fail_call(&self, calls: i64) {
        self.left.store(calls, Ordering::SeqCst);
    }

    /// Whether the call came and failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}

fn count(left: &AtomicI64) -> io::Result<()> {
    if left.fetch_sub(1, Ordering::SeqCst) == 0 { Err(io::Error::other("told to fail")) } else { Ok(()) }
}

impl Disk for FailingDisk {
    fn blocks(&self) -> bool {
        true
    }
    fn beneath(&self, root: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        OsDisk.beneath(root)
    }
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        count(&self.left)?;
        Ok(Arc::new(FailingFile { file: OsDisk.create_new(path)?, left: self.left.clone() }))
    }
    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        OsDisk.open(path, writable)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        count(&self.left)?;
        OsDisk.create_dir(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        count(&self.left)?;
        OsDisk.rename(from, to)
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        count(&self.left)?;
        OsDisk.rename_new(from, to)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        count(&self.left)?;
        OsDisk.link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        count(&self.left)?;
        OsDisk.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_dir(path)
    }
    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>> {
        OsDisk.read_dir(path)
    }
    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        OsDisk.metadata(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        count(&self.left)?;
        OsDisk.sync_dir(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        OsDisk.space(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        OsDisk.lock(path)
    }
    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        OsDisk.lock_shared(path)
    }
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn DiskFile>,
    left: Arc<AtomicI64>,
}

impl DiskFile for FailingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        count(&self.left)?;
        self.file.write_at(buf, offset)
    }
    fn sync_data(&self) -> io::Result<()> {
        count(&self.left)?;
        self.file.sync_data()
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}
