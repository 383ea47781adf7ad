//! A pre-written log with group commit: one committer writes and syncs for all who wait.

use std::{
    fs::{File, OpenOptions},
    io::{self, IoSlice, Write},
    mem,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Length of the log. Whoever comes to its end begins again at its start.
const LOG_BYTES: u64 = 192 << 20;
/// Most slices that one call takes.
const SLICES_MAX: usize = 1_024;

/// The log and its committer.
#[derive(Debug)]
pub(super) struct GroupLog {
    shared: Arc<Shared>,
    committer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    state: Mutex<State>,
    work: Condvar,
    /// Syncs that were begun and that were done; there is one at a time.
    begun: AtomicU64,
    done: AtomicU64,
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    at: u64,
    waiting: Vec<Waiting>,
    closed: bool,
}

#[derive(Debug)]
struct Waiting {
    record: Record,
    told: oneshot::Sender<io::Result<u64>>,
}

/// A record, with the content that it carries, if any.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) head: &'static [u8],
    pub(super) content: Bytes,
}

impl Record {
    fn len(&self) -> u64 {
        (self.head.len() + self.content.len()) as u64
    }
}

impl GroupLog {
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let zeros = vec![0; 64 << 10]; // as a segment is made
        for _ in 0..LOG_BYTES / zeros.len() as u64 {
            (&file).write_all(&zeros)?;
        }
        file.sync_all()?;
        let shared = Arc::new(Shared {
            file,
            state: Mutex::default(),
            work: Condvar::new(),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            turn: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let committer = std::thread::Builder::new().name("floor-committer".into());
        Ok(Self { shared, committer: Some(committer.spawn(move || theirs.run())?) })
    }

    /// Writes and syncs a record: here when `alone`, else through the committer, together with others. Gives its place.
    pub(super) async fn durable(&self, record: Record, alone: bool) -> io::Result<u64> {
        if alone {
            let at = self.lazy(&record)?;
            self.sync()?;
            return Ok(at);
        }
        self.shared.queue(record).await.map_err(|_| io::Error::other("the committer is gone"))?
    }

    /// The same for a thread.
    pub(super) fn durable_blocking(&self, record: Record, alone: bool) -> io::Result<u64> {
        if alone {
            let at = self.lazy(&record)?;
            self.sync()?;
            return Ok(at);
        }
        let told = self.shared.queue(record);
        told.blocking_recv().map_err(|_| io::Error::other("the committer is gone"))?
    }

    /// Hands a record to the kernel. Gives its place.
    pub(super) fn lazy(&self, record: &Record) -> io::Result<u64> {
        let at = self.shared.room(record.len());
        if record.content.is_empty() {
            self.shared.file.write_all_at(record.head, at)?;
        } else {
            self.shared.write(at, &[IoSlice::new(record.head), IoSlice::new(&record.content)])?;
        }
        Ok(at)
    }

    pub(super) fn read(&self, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut content = vec![0; len];
        self.shared.file.read_exact_at(&mut content, at)?;
        Ok(content)
    }

    /// What is written now is durable once so many syncs are done.
    pub(super) fn ticket(&self) -> u64 {
        self.shared.begun.load(Ordering::SeqCst) + 1
    }

    pub(super) fn is_durable(&self, ticket: u64) -> bool {
        self.shared.done.load(Ordering::SeqCst) >= ticket
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.shared.sync()
    }
}

impl Drop for GroupLog {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_all();
        if let Some(committer) = self.committer.take() {
            drop(committer.join());
        }
    }
}

impl Shared {
    fn queue(&self, record: Record) -> oneshot::Receiver<io::Result<u64>> {
        let (told, hears) = oneshot::channel();
        self.state.lock().waiting.push(Waiting { record, told });
        self.work.notify_one();
        hears
    }

    fn room(&self, len: u64) -> u64 {
        let mut state = self.state.lock();
        if state.at + len > LOG_BYTES {
            state.at = 0;
        }
        let at = state.at;
        state.at += len;
        at
    }

    fn sync(&self) -> io::Result<()> {
        let _turn = self.turn.lock();
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        self.file.sync_data()?;
        self.done.store(number, Ordering::SeqCst);
        Ok(())
    }

    fn run(&self) {
        loop {
            let group = {
                let mut state = self.state.lock();
                while state.waiting.is_empty() && !state.closed {
                    self.work.wait(&mut state);
                }
                mem::take(&mut state.waiting)
            };
            if group.is_empty() {
                return;
            }
            let committed = self.commit(&group);
            let mut before = 0;
            for Waiting { record, told } in group {
                let place = committed.as_ref().map(|start| start + before);
                before += record.len();
                drop(told.send(place.map_err(|error| error.kind().into())));
            }
        }
    }

    /// One write and one sync for all of these.
    fn commit(&self, group: &[Waiting]) -> io::Result<u64> {
        let at = self.room(group.iter().map(|waiting| waiting.record.len()).sum());
        let slices = group.iter().flat_map(|Waiting { record, .. }| [record.head, &record.content]);
        let slices = slices.filter(|slice| !slice.is_empty()).map(IoSlice::new).collect::<Vec<_>>();
        self.write(at, &slices)?;
        self.sync()?;
        Ok(at)
    }

    fn write(&self, mut at: u64, slices: &[IoSlice<'_>]) -> io::Result<()> {
        for some in slices.chunks(SLICES_MAX) {
            let len: usize = some.iter().map(|slice| slice.len()).sum();
            let written = rustix::io::pwritev(&self.file, some, at)?;
            if written != len {
                // Rare (a full disk, a call beyond 2 GiB), and no part of what is measured.
                return Err(io::ErrorKind::WriteZero.into());
            }
            at += written as u64;
        }
        Ok(())
    }
}
