//! The real disk with faults, a log of what was asked of it, and the means to stop a call half-way.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
};

use locus_fs::{DirEntry, Disk, DiskFile, DiskLock, Meta, OsDisk, Space};

#[derive(Debug)]
pub(crate) struct FaultyDisk {
    shared: Arc<Shared>,
    inner: Arc<dyn Disk>,
}

#[derive(Debug, Default)]
struct Shared {
    faults: Mutex<Vec<Fault>>,
    holds: Mutex<HashMap<&'static str, Hold>>,
    asked: Mutex<Vec<Asked>>,
    space: Mutex<Option<Space>>,
    hangs: Mutex<bool>,
    goes_on: Condvar,
}

/// Says that a call came, and waits for it to be let go on.
type Hold = (Sender<()>, Receiver<()>);

#[derive(Debug)]
struct Fault {
    op: &'static str,
    /// What the path must hold.
    part: &'static str,
    /// Calls that still succeed.
    spared: usize,
    kind: io::ErrorKind,
    /// What the operating system calls it, when that matters.
    code: Option<i32>,
}

/// One call: its name, path, and how many bytes it moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) op: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) len: usize,
}

impl FaultyDisk {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { shared: Arc::default(), inner: Arc::new(OsDisk) })
    }

    /// Lets calls of `op` on paths that hold `part` fail, after `spared` of them.
    pub(crate) fn fail(&self, op: &'static str, part: &'static str, spared: usize, kind: io::ErrorKind) {
        self.shared.faults.lock().unwrap().push(Fault { op, part, spared, kind, code: None });
    }

    /// Lets calls of `op` on paths that hold `part` fail with an error of the operating system.
    pub(crate) fn fail_by(&self, op: &'static str, part: &'static str, error: io::Error) {
        let (kind, code) = (error.kind(), error.raw_os_error());
        self.shared.faults.lock().unwrap().push(Fault { op, part, spared: 0, kind, code });
    }

    pub(crate) fn heal(&self) {
        self.shared.faults.lock().unwrap().clear();
    }

    /// Stops the next call of `op`: the answer hears when it came, and lets it go on when it sends or is dropped.
    pub(crate) fn hold(&self, op: &'static str) -> (Receiver<()>, Sender<()>) {
        let (came, has_come) = channel();
        let (go, may_go) = channel();
        self.shared.holds.lock().unwrap().insert(op, (came, may_go));
        (has_come, go)
    }

    /// Stops every call, or lets all of them go on.
    pub(crate) fn hang(&self, hangs: bool) {
        *self.shared.hangs.lock().unwrap() = hangs;
        self.shared.goes_on.notify_all();
    }

    pub(crate) fn set_space(&self, total: u64, available: u64) {
        *self.shared.space.lock().unwrap() = Some(Space { total, available });
    }

    /// What was asked since the last time.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }

    /// The paths on which `op` was asked since the last time, in order.
    pub(crate) fn asked_for(&self, op: &str) -> Vec<PathBuf> {
        self.asked().into_iter().filter(|asked| asked.op == op).map(|asked| asked.path).collect()
    }
}

impl Shared {
    /// Returns when calls do not hang any more.
    fn stop(&self) {
        drop(self.goes_on.wait_while(self.hangs.lock().unwrap(), |hangs| *hangs).unwrap());
    }

    fn ask(&self, op: &'static str, path: &Path, len: usize) -> io::Result<()> {
        let held = self.holds.lock().unwrap().remove(op);
        if let Some((came, may_go)) = held {
            came.send(()).unwrap();
            let _ = may_go.recv(); // also when the test is over
        }
        self.stop();
        self.asked.lock().unwrap().push(Asked { op, path: path.to_owned(), len });
        for fault in &mut *self.faults.lock().unwrap() {
            if fault.op == op && path.to_string_lossy().contains(fault.part) {
                if fault.spared == 0 {
                    return Err(fault.code.map_or_else(|| fault.kind.into(), io::Error::from_raw_os_error));
                }
                fault.spared -= 1;
            }
        }
        Ok(())
    }

    fn file(self: &Arc<Self>, path: &Path, inner: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FaultyFile { shared: Arc::clone(self), path: path.to_owned(), inner })
    }
}

impl Disk for FaultyDisk {
    fn blocks(&self) -> bool {
        true
    }

    fn beneath(&self, root: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        let beneath = self.inner.beneath(root)?;
        Ok(beneath.map(|inner| Arc::new(Self { shared: Arc::clone(&self.shared), inner }) as _))
    }

    fn let_go(&self) {
        self.inner.let_go();
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.ask("create_new", path, 0)?;
        Ok(self.shared.file(path, self.inner.create_new(path)?))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        self.shared.ask("open", path, 0)?;
        Ok(self.shared.file(path, self.inner.open(path, writable)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.ask("create_dir", path, 0)?;
        self.inner.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.ask("rename", to, 0)?;
        self.inner.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.ask("rename_new", to, 0)?;
        self.inner.rename_new(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.ask("link", to, 0)?;
        self.inner.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.shared.ask("remove_file", path, 0)?;
        self.inner.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.ask("remove_dir", path, 0)?;
        self.inner.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>> {
        self.shared.ask("read_dir", path, 0)?;
        self.inner.read_dir(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        self.shared.ask("metadata", path, 0)?;
        self.inner.metadata(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.ask("sync_dir", path, 0)?;
        self.inner.sync_dir(path)
    }

    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        self.shared.ask("sync_all", dir, 0)?;
        self.inner.sync_all(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.shared.ask("space", path, 0)?;
        let set = *self.shared.space.lock().unwrap();
        set.map_or_else(|| self.inner.space(path), Ok)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.shared.ask("lock", path, 0)?;
        self.inner.lock(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.shared.ask("lock", path, 0)?;
        self.inner.lock_shared(path)
    }
}

#[derive(Debug)]
struct FaultyFile {
    shared: Arc<Shared>,
    path: PathBuf,
    inner: Arc<dyn DiskFile>,
}

/// Closing hangs as any call does.
impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl DiskFile for FaultyFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.shared.ask("read_at", &self.path, buf.len())?;
        self.inner.read_at(buf, offset)
    }

    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        self.shared.ask("read_cached_at", &self.path, buf.len())?;
        self.inner.read_cached_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.shared.ask("write_at", &self.path, buf.len())?;
        self.inner.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.shared.ask("sync_data", &self.path, 0)?;
        self.inner.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.shared.ask("set_len", &self.path, 0)?;
        self.inner.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.inner.drop_cache()
    }
}
