//! The file floor: a file for each content, and a log of records.

use std::{
    collections::{BTreeSet, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    ENTRY_BYTES, NOTE_BYTES,
    group::{GroupLog, Record},
};
use crate::{
    BoxError,
    cycles::{AsThread, Contender, Kind, Label, Load, Promise, Rests, Round},
};

/// Directories among which the files are spread, as on a volume.
const SHARDS: u64 = 256;
/// Files whose removal is made durable by one sync of each directory.
const REAP_FILES: u64 = 1_024;

/// A cycle is a staged file, synced, renamed, its directory synced; a record in a group-committed log; a lease; a read
/// of the file; a completion; and, once that is durable, an unlink beside the others.
#[derive(Debug)]
pub struct FileFloor {
    label: Label,
    log: GroupLog,
    dir: PathBuf,
    shards: Vec<File>,
    promise: Promise,
    next: AtomicU64,
}

/// A file that was completed.
struct Over {
    number: u64,
    /// See [`GroupLog::ticket`].
    ticket: u64,
}

impl FileFloor {
    /// Makes directories and a log in `dir`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(dir: &Path, promise: Promise) -> io::Result<Self> {
        fs::create_dir_all(dir.join("staging"))?;
        let mut shards = Vec::new();
        for shard in 0..SHARDS {
            let path = dir.join(format!("{shard:02x}"));
            fs::create_dir(&path)?;
            shards.push(File::open(path)?);
        }
        let log = GroupLog::create(&dir.join("log"))?;
        let label = Label::new("file floor", Kind::Floor(Rests::File), promise);
        Ok(Self { label, log, dir: dir.into(), shards, promise, next: AtomicU64::new(0) })
    }

    fn cycle(&self, content: &Bytes, alone: bool) -> io::Result<Over> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (staged, path) = (self.dir.join("staging").join(format!("{number:032x}")), self.path(number));
        let is_durable = self.promise != Promise::Buffered;

        let mut file = OpenOptions::new().write(true).create_new(true).open(&staged)?;
        file.write_all(content)?;
        if is_durable {
            file.sync_data()?;
        }
        drop(file);
        renameat_with(CWD, &staged, CWD, &path, RenameFlags::NOREPLACE)?;
        if is_durable {
            self.shards[shard(number)].sync_all()?;
        }
        let record = Record { head: &[2; ENTRY_BYTES], content: Bytes::new() };
        if is_durable {
            self.log.durable_blocking(record, alone)?;
        } else {
            self.log.lazy(&record)?;
        }

        let note = || Record { head: &[1; NOTE_BYTES], content: Bytes::new() };
        self.log.lazy(&note())?; // the lease
        let mut read = vec![0; content.len()];
        File::open(&path)?.read_exact(&mut read)?;
        if read != *content {
            return Err(io::ErrorKind::InvalidData.into());
        }
        if self.promise == Promise::Durable {
            self.log.durable_blocking(note(), alone)?;
            return Ok(Over { number, ticket: 0 });
        }
        self.log.lazy(&note())?;
        Ok(Over { number, ticket: self.log.ticket() })
    }

    /// Removes what is durably over; makes that durable, many at a time, and notes it.
    fn reap(&self, ended: &mpsc::Receiver<Over>) -> io::Result<()> {
        let (mut waiting, mut removed) = (VecDeque::new(), 0);
        let mut touched = BTreeSet::new();
        let mut more = true;
        while more {
            match ended.recv() {
                Ok(over) => waiting.push_back(over),
                Err(_) => {
                    more = false;
                    self.log.sync()?;
                }
            }
            while let Some(Over { number, .. }) =
                waiting.pop_front_if(|over: &mut Over| self.log.is_durable(over.ticket))
            {
                fs::remove_file(self.path(number))?;
                touched.insert(shard(number));
                removed += 1;
            }
            if removed >= REAP_FILES || !more {
                for shard in std::mem::take(&mut touched) {
                    self.shards[shard].sync_all()?;
                }
                self.log.lazy(&Record { head: &[3; NOTE_BYTES], content: Bytes::new() })?;
                removed = 0;
            }
        }
        self.log.sync()
    }

    fn path(&self, number: u64) -> PathBuf {
        self.dir.join(format!("{:02x}/{number:032x}", shard(number)))
    }
}

impl Contender for FileFloor {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        "staged, fdatasync, renamed, sync of the directory; a record in a pre-written log, one fdatasync for all who wait; \
         unlinked once the completion is durable"
            .into()
    }

    /// The round ends when the files are durably gone.
    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        let (over, ended) = mpsc::channel();
        thread::scope(|scope| {
            let reaper = Mutex::new(Some(scope.spawn(move || self.reap(&ended))));
            Round::of_threads(
                &WithReaper { floor: self, over: Mutex::new(Some(over)), reaper },
                load,
                content,
            )
        })
    }
}

/// Makes the cycles of one round, and has what is over removed behind them.
struct WithReaper<'a, 'scope> {
    floor: &'a FileFloor,
    over: Mutex<Option<mpsc::Sender<Over>>>,
    reaper: Mutex<Option<thread::ScopedJoinHandle<'scope, io::Result<()>>>>,
}

impl AsThread for WithReaper<'_, '_> {
    fn cycle(&self, content: &Bytes, alone: bool) -> Result<(), BoxError> {
        let over = self.floor.cycle(content, alone)?;
        if let Some(to_reaper) = &*self.over.lock() {
            // The reaper ends early only when it failed, and then says so itself.
            drop(to_reaper.send(over));
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), BoxError> {
        drop(self.over.lock().take());
        let reaper = self.reaper.lock().take();
        Ok(reaper.map_or(Ok(Ok(())), thread::ScopedJoinHandle::join).map_err(|_| "the reaper panicked")??)
    }
}

fn shard(number: u64) -> usize {
    (number % SHARDS) as usize
}
