//! The machine's disk, used on the thread of the caller.

use std::{io, path::Path, sync::Arc};

use locus_fs::{DirEntry, Disk, DiskFile, DiskLock, Meta, OsDisk, Space};

/// [`OsDisk`], but said not to block: what a call does to the disk then happens on its own thread, in order, so that the
/// `k`-th system call is the same one each time.
#[derive(Debug, Clone, Copy)]
pub struct OnCaller;

impl Disk for OnCaller {
    fn blocks(&self) -> bool {
        false
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        OsDisk.create_new(path)
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        OsDisk.open(path, writable)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename_new(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
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
        OsDisk.sync_dir(path)
    }

    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_all(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        OsDisk.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        OsDisk.lock(path)
    }
}
