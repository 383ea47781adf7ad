//! The machine's disk, used on the thread of the caller.

use std::{io, path::Path, sync::Arc};

use locus_fs::{DirEntry, Disk, DiskFile, DiskLock, Meta, OsDisk, Space};

/// [`OsDisk`], but said not to block: what a call does to the disk then happens on its own thread, in order, so that the
/// `k`-th system call is the same one each time.
#[derive(Debug, Clone)]
pub struct OnCaller(Arc<dyn Disk>);

impl Default for OnCaller {
    fn default() -> Self {
        Self(Arc::new(OsDisk))
    }
}

impl Disk for OnCaller {
    fn blocks(&self) -> bool {
        false
    }

    fn beneath(&self, root: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        Ok(self.0.beneath(root)?.map(|beneath| Arc::new(Self(beneath)) as _))
    }

    fn let_go(&self) {
        self.0.let_go();
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.0.create_new(path)
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.0.open(path, writable)
    }

    fn is_own(&self, dir: &Path) -> io::Result<bool> {
        self.0.is_own(dir)
    }

    fn open_cached(&self, path: &Path) -> io::Result<Option<(Arc<dyn DiskFile>, u64)>> {
        self.0.open_cached(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename_new(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>> {
        self.0.read_dir(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        self.0.metadata(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }

    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_all(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.0.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.0.lock(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.0.lock_shared(path)
    }
}
