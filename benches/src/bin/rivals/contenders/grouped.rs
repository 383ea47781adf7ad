//! An embedded store as its docs advise to use it: one writer, who writes many changes in one transaction.

use std::{
    collections::VecDeque,
    mem,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use bytes::Bytes;
use locus_benches::{
    BoxError,
    cycles::{AsTask, Contender, Kind, Label, Load, Promise, Round},
};
use parking_lot::{Condvar, Mutex};
use tokio::{runtime::Handle, sync::oneshot, task::spawn_blocking};

use super::{
    Contents, compare,
    files::{self, Files},
};

/// A store of rows.
pub(super) trait Rows: std::fmt::Debug + Send + Sync + 'static {
    /// Makes all of these in one transaction, with the promise that it was opened with.
    fn commit(&self, changes: &[Change]) -> Result<(), BoxError>;

    /// The content of a row.
    fn read(&self, id: u64) -> Result<Vec<u8>, BoxError>;
}

/// A change of the rows.
#[derive(Debug)]
pub(super) enum Change {
    Add { id: u64, content: Bytes },
    Remove { id: u64 },
}

/// Rows with one writer. What is ready to be leased, and what is leased, is in memory: after a crash all rows are ready again.
#[derive(Debug)]
pub(super) struct Grouped<R> {
    label: Label,
    settings: String,
    shared: Arc<Shared<R>>,
    writer: Option<JoinHandle<()>>,
    runtime: Handle,
}

#[derive(Debug)]
struct Shared<R> {
    rows: R,
    files: Option<Arc<Files>>,
    waits_for_completions: bool,
    next: AtomicU64,
    ready: Mutex<VecDeque<u64>>,
    queue: Mutex<Queue>,
    work: Condvar,
    /// Held by whoever writes a group.
    turn: Mutex<()>,
}

type Told = oneshot::Sender<Result<(), String>>;

#[derive(Debug, Default)]
struct Queue {
    changes: Vec<Change>,
    waiting: Vec<Told>,
    closed: bool,
}

impl<R: Rows> Grouped<R> {
    /// Starts the writer. Contents that rest beside the rows are in `dir`.
    pub(super) fn start(
        name: &str,
        promise: Promise,
        settings: &str,
        rows: R,
        contents: Contents,
        dir: &Path,
        runtime: Handle,
    ) -> Result<Self, BoxError> {
        let (said, files) = match contents {
            Contents::Inside => ("content inside", None),
            Contents::Beside => {
                (files::SAID, Some(Arc::new(Files::create(&dir.join("files"), promise.is_durable())?)))
            }
        };
        let completions = match promise {
            Promise::Durable => "completions waited for",
            Promise::LazyCompletions | Promise::Buffered => "completions go with the next group",
        };
        let settings = format!(
            "{settings}; one writer, a transaction for all who wait; leases in memory, {completions}; {said}"
        );
        let shared = Arc::new(Shared {
            rows,
            files,
            waits_for_completions: promise == Promise::Durable,
            next: AtomicU64::new(0),
            ready: Mutex::default(),
            queue: Mutex::default(),
            work: Condvar::new(),
            turn: Mutex::default(),
        });
        let theirs = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("rival-writer".into()).spawn(move || theirs.run())?;
        let label = Label::new(name, Kind::Tuned, promise);
        Ok(Self { label, settings, shared, writer: Some(writer), runtime })
    }
}

impl<R: Rows> Contender for Grouped<R> {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_tasks(&self.runtime, &self.shared, load, content)
    }
}

impl<R> Drop for Grouped<R> {
    fn drop(&mut self) {
        self.shared.queue.lock().closed = true;
        self.shared.work.notify_all();
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

impl<R: Rows> AsTask for Shared<R> {
    async fn cycle(&self, content: &Bytes, alone: bool) -> Result<(), BoxError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let row = match &self.files {
            None => content.clone(),
            Some(files) => {
                write_file(files, id, content, alone).await?;
                Bytes::new()
            }
        };
        self.change(Change::Add { id, content: row }, alone).await?;
        self.ready.lock().push_back(id);

        let leased = self.ready.lock().pop_front().ok_or("no file was ready")?;
        let read = match &self.files {
            None => self.rows.read(leased)?,
            Some(files) => files.read(leased)?,
        };
        compare(&read, content)?;
        let remove = Change::Remove { id: leased };
        if self.waits_for_completions {
            self.change(remove, alone).await?;
        } else {
            self.queue(remove, None);
        }
        if let Some(files) = &self.files {
            files.remove(leased)?;
        }
        Ok(())
    }

    async fn settle(&self) -> Result<(), BoxError> {
        self.write_group();
        if self.ready.lock().is_empty() { Ok(()) } else { Err("files are left".into()) }
    }
}

async fn write_file(files: &Arc<Files>, id: u64, content: &Bytes, alone: bool) -> Result<(), BoxError> {
    if alone {
        return Ok(files.write(id, content)?);
    }
    let (files, content) = (Arc::clone(files), content.clone());
    Ok(spawn_blocking(move || files.write(id, &content)).await??)
}

impl<R: Rows> Shared<R> {
    /// Makes a change and waits until it is as durable as promised: here when `alone`, else through the writer.
    async fn change(&self, change: Change, alone: bool) -> Result<(), BoxError> {
        let (told, hears) = oneshot::channel();
        self.queue(change, Some(told));
        if alone {
            self.write_group();
        } else {
            self.work.notify_one();
        }
        Ok(hears.await.map_err(|_| "the writer is gone")??)
    }

    fn queue(&self, change: Change, told: Option<Told>) {
        let mut queue = self.queue.lock();
        queue.changes.push(change);
        queue.waiting.extend(told);
    }

    fn run(&self) {
        loop {
            let mut queue = self.queue.lock();
            while queue.waiting.is_empty() && !queue.closed {
                self.work.wait(&mut queue);
            }
            let ends = queue.closed && queue.waiting.is_empty();
            drop(queue);
            if ends {
                return;
            }
            self.write_group();
        }
    }

    fn write_group(&self) {
        let _turn = self.turn.lock();
        let (changes, waiting) = {
            let mut queue = self.queue.lock();
            (mem::take(&mut queue.changes), mem::take(&mut queue.waiting))
        };
        if changes.is_empty() {
            return;
        }
        let done = self.rows.commit(&changes).map_err(|error| error.to_string());
        for told in waiting {
            drop(told.send(done.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use locus_benches::cycles::content;

    use super::*;

    /// Rows in memory, and how many transactions there were.
    #[derive(Debug, Default)]
    struct Memory {
        rows: Mutex<BTreeMap<u64, Bytes>>,
        commits: AtomicU64,
    }

    impl Rows for Arc<Memory> {
        fn commit(&self, changes: &[Change]) -> Result<(), BoxError> {
            self.commits.fetch_add(1, Ordering::Relaxed);
            let mut rows = self.rows.lock();
            for change in changes {
                match change {
                    Change::Add { id, content } => assert!(rows.insert(*id, content.clone()).is_none()),
                    Change::Remove { id } => assert!(rows.remove(id).is_some()),
                }
            }
            Ok(())
        }

        fn read(&self, id: u64) -> Result<Vec<u8>, BoxError> {
            Ok(self.rows.lock().get(&id).ok_or("no such row")?.to_vec())
        }
    }

    fn round(promise: Promise, contents: Contents, in_flight: usize) -> (Arc<Memory>, usize) {
        let (temp, runtime) = (tempfile::tempdir().unwrap(), tokio::runtime::Runtime::new().unwrap());
        let memory = Arc::new(Memory::default());
        let handle = runtime.handle().clone();
        let rows = Arc::clone(&memory);
        let grouped = Grouped::start("memory", promise, "", rows, contents, temp.path(), handle).unwrap();
        let load = Load { in_flight, cycles_max: 200, time_max: Duration::MAX };
        let round = grouped.round(load, &content(100)).unwrap();
        drop(grouped);
        let left = temp.path().join("files").read_dir().map_or(0, Iterator::count);
        assert_eq!(round.times.len(), 200);
        (memory, left)
    }

    #[test]
    fn every_row_and_every_file_is_gone_after_a_round() {
        for contents in [Contents::Inside, Contents::Beside] {
            for in_flight in [1, 8] {
                let (memory, left) = round(Promise::LazyCompletions, contents, in_flight);
                assert!(memory.rows.lock().is_empty() && left == 0);
            }
        }
    }

    #[test]
    fn a_lazy_completion_costs_no_transaction_of_its_own() {
        let commits = |promise| round(promise, Contents::Inside, 1).0.commits.load(Ordering::Relaxed);
        assert_eq!(commits(Promise::LazyCompletions), 201, "the last one goes when the round ends");
        assert_eq!(commits(Promise::Durable), 400);
    }
}
