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
    time::Duration,
};

use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    ENTRY_BYTES, Load, NOTE_BYTES, Promise,
    group::{GroupLog, Record},
};
use crate::{BoxError, Stopwatch};

/// Directories among which the files are spread, as on a volume.
const SHARDS: u64 = 256;
/// Files whose removal is made durable by one sync of each directory.
const REAP_FILES: u64 = 1_024;

/// A cycle is a staged file, synced, renamed, its directory synced; a record in a group-committed log; a lease; a read
/// of the file; a completion; and, once that is durable, an unlink beside the others.
#[derive(Debug)]
pub struct FileFloor {
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
        Ok(Self { log, dir: dir.into(), shards, promise, next: AtomicU64::new(0) })
    }

    /// Makes so many cycles, on a thread each, until the files are durably gone. Says how long that took.
    ///
    /// # Errors
    /// What the disk says.
    pub fn round(&self, load: Load, content: &Bytes) -> Result<Duration, BoxError> {
        let turns = load.turns();
        let watch = Stopwatch::start();
        thread::scope(|scope| {
            let (over, ended) = mpsc::channel();
            let reaper = scope.spawn(move || self.reap(&ended));
            let workers = (0..load.in_flight).map(|_| {
                let (over, turns) = (over.clone(), &turns);
                scope.spawn(move || {
                    while turns.take() {
                        // The reaper ends early only when it failed, and then says so itself.
                        drop(over.send(self.cycle(load.in_flight == 1, content)?));
                    }
                    Ok::<_, io::Error>(())
                })
            });
            let workers = workers.collect::<Vec<_>>();
            drop(over);
            for thread in workers.into_iter().chain([reaper]) {
                thread.join().map_err(|_| "a thread panicked")??;
            }
            Ok::<_, BoxError>(())
        })?;
        Ok(watch.elapsed())
    }

    fn cycle(&self, alone: bool, content: &Bytes) -> io::Result<Over> {
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

fn shard(number: u64) -> usize {
    (number % SHARDS) as usize
}
