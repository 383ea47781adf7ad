//! Open files and held locks of a simulated disk.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_fs::{DiskFile, DiskLock};
use parking_lot::{Mutex, MutexGuard};

use crate::sim_disk::{
    fault::OpKind,
    names::Ino,
    state::{State, crashed, read_only},
};

/// An open file. Dead once the process or the machine it belongs to is.
#[derive(Debug)]
pub(super) struct SimFile {
    disk: Shared,
    ino: Ino,
    life: u64,
    path: PathBuf,
    writable: bool,
}

/// The state of a disk, printed as no more than that.
#[derive(Clone)]
pub(super) struct Shared(pub(super) Arc<Mutex<State>>);

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SimDisk")
    }
}

impl SimFile {
    /// A handle on `ino`, in the life that `state`, the locked state of `disk`, is in.
    pub(super) fn new(disk: &Shared, state: &mut State, ino: Ino, path: &Path, writable: bool) -> Self {
        state.use_file(ino);
        Self { disk: disk.clone(), ino, life: state.life, path: path.to_owned(), writable }
    }

    /// The disk, if this handle is alive.
    fn alive(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.0.lock();
        if state.life == self.life { Ok(state) } else { Err(crashed()) }
    }

    fn to_write(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.alive()?;
        if self.writable { Ok(state) } else { Err(read_only()) }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.alive()?.op(OpKind::Read, &[&self.path], |state| Ok(state.read(self.ino, buf, offset)))
    }

    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        Ok(self.read_at(buf, offset)? == buf.len())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.to_write()?.write(self.ino, &self.path, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?.sync_file(self.ino, &self.path)
    }

    fn len(&self) -> io::Result<u64> {
        self.alive()?.op(OpKind::Metadata, &[&self.path], |state| Ok(state.file_len(self.ino)))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.to_write()?.op(OpKind::SetLen, &[&self.path], |state| state.set_len(self.ino, len))
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.alive()?.op(OpKind::DropCache, &[&self.path], |state| {
            state.drop_cache(self.ino);
            Ok(())
        })
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut state) = self.alive() {
            state.leave(self.ino);
        }
    }
}

/// A held lock.
#[derive(Debug)]
pub(super) struct SimLock(pub(super) SimFile);

impl DiskLock for SimLock {
    fn file(&self) -> &dyn DiskFile {
        &self.0
    }

    fn id(&self) -> io::Result<Option<u64>> {
        self.0.alive()?.op(OpKind::Metadata, &[&self.0.path], |_| Ok(Some(self.0.ino)))
    }

    /// Dropping it does it; a fault makes only the answer an error.
    fn unlock(self: Box<Self>) -> io::Result<()> {
        self.0.alive()?.op(OpKind::Unlock, &[&self.0.path], |_| Ok(()))
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.alive() {
            state.unlock(self.0.ino);
        }
    }
}
