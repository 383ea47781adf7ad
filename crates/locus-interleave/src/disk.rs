//! A disk between whose steps others go on, and that remembers what it was told to keep.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use locus_fs::{DirEntry, Disk, DiskFile, DiskLock, Meta, Space};
use locus_testkit::SimDisk;
use parking_lot::Mutex;

use crate::sync::point;

/// What a segment file is made of before it is used: said to be there, and kept by nobody.
static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

/// A [`SimDisk`] whose writes and reads happen in two halves, and whose syncs cover what was written when they began.
/// Between the halves, and before and after a sync, somebody else may go on.
#[derive(Debug)]
pub(crate) struct SteppedDisk {
    pub(crate) sim: Arc<SimDisk>,
    files: Mutex<Vec<Weak<SteppedFile>>>,
    reading: Arc<Reading>,
}

/// What happens in the middle of each read.
#[derive(Default)]
struct Reading(Mutex<Option<Arc<dyn Fn() + Send + Sync>>>);

#[derive(Debug)]
struct SteppedFile {
    file: Arc<dyn DiskFile>,
    reading: Arc<Reading>,
    writes: Mutex<Vec<Write>>,
    /// Where the zeros end that it was made of.
    blank: AtomicU64,
}

#[derive(Debug)]
struct Write {
    bytes: Vec<u8>,
    is_durable: bool,
}

impl SteppedDisk {
    pub(crate) fn new() -> Arc<Self> {
        let sim = SimDisk::new(1);
        sim.set_twin_names(false);
        Arc::new(Self { sim, files: Mutex::default(), reading: Arc::default() })
    }

    /// Does this in the middle of each read from now on.
    pub(crate) fn amid_reads(&self, what: impl Fn() + Send + Sync + 'static) {
        *self.reading.0.lock() = Some(Arc::new(what));
    }

    /// Whether these bytes were written as a part of something.
    pub(crate) fn has_written(&self, bytes: &[u8]) -> bool {
        self.has(bytes, |_| true)
    }

    /// Whether they survive power loss.
    pub(crate) fn has_synced(&self, bytes: &[u8]) -> bool {
        self.has(bytes, |write| write.is_durable)
    }

    fn has(&self, bytes: &[u8], counts: impl Fn(&Write) -> bool) -> bool {
        let files = self.files.lock();
        files.iter().filter_map(Weak::upgrade).any(|file| {
            let writes = file.writes.lock();
            writes.iter().filter(|write| counts(write)).any(|write| contains(&write.bytes, bytes))
        })
    }

    fn stepped(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        let reading = Arc::clone(&self.reading);
        let file =
            Arc::new(SteppedFile { file, reading, writes: Mutex::default(), blank: AtomicU64::new(0) });
        self.files.lock().push(Arc::downgrade(&file));
        file
    }
}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reading")
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    let Some(first) = part.first() else { return true };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| byte == first) {
        rest = &rest[at..];
        if rest.starts_with(part) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

impl Disk for SteppedDisk {
    fn blocks(&self) -> bool {
        false
    }

    fn beneath(&self, root: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        self.sim.beneath(root)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        point();
        Ok(self.stepped(self.sim.create_new(path)?))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        point();
        Ok(self.stepped(self.sim.open(path, writable)?))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.sim.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        point();
        self.sim.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        point();
        self.sim.rename_new(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        point();
        self.sim.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        point();
        self.sim.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.sim.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>> {
        self.sim.read_dir(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        self.sim.metadata(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        point();
        self.sim.sync_dir(path)
    }

    fn sync_all(&self, dir: &Path) -> io::Result<()> {
        self.sim.sync_all(dir)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.sim.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.sim.lock(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.sim.lock_shared(path)
    }
}

impl SteppedFile {
    fn read_with_zeros(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let read = self.file.read_at(buf, offset)?;
        let there = self.len()?.saturating_sub(offset).min(buf.len() as u64) as usize;
        buf[read..there].fill(0);
        Ok(there)
    }
}

impl DiskFile for SteppedFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        point();
        let (begin, rest) = buf.split_at_mut(buf.len() / 2);
        let read = self.read_with_zeros(begin, offset)?;
        if read < begin.len() {
            return Ok(read);
        }
        point();
        let amid = self.reading.0.lock().clone();
        if let Some(amid) = amid {
            amid();
        }
        Ok(read + self.read_with_zeros(rest, offset + read as u64)?)
    }

    fn read_cached_at(&self, buf: &mut [u8], offset: u64) -> io::Result<bool> {
        self.read_at(buf, offset).map(|read| read == buf.len())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        if ZEROS.starts_with(buf) && offset >= self.file.len()? {
            self.blank.fetch_max(offset + buf.len() as u64, Ordering::Relaxed);
            return Ok(());
        }
        point();
        let (begin, rest) = buf.split_at(buf.len() / 2);
        self.file.write_at(begin, offset)?;
        point();
        self.file.write_at(rest, offset + begin.len() as u64)?;
        self.writes.lock().push(Write { bytes: buf.to_vec(), is_durable: false });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let covered = self.writes.lock().len();
        point();
        self.file.sync_data()?;
        point();
        self.writes.lock()[..covered].iter_mut().for_each(|write| write.is_durable = true);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.len()?.max(self.blank.load(Ordering::Relaxed)))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.file.drop_cache()
    }
}
