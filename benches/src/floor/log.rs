//! The shared-log floor: record and content together in one log.

use std::{io, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::{
    ENTRY_BYTES, Load, NOTE_BYTES, Promise,
    group::{GroupLog, Record},
};
use crate::{BoxError, Stopwatch};

/// A cycle is an entry with its content, synced once for all who wait; a lease; a read from the log; a completion.
#[derive(Debug)]
pub struct LogFloor {
    log: Arc<GroupLog>,
    promise: Promise,
}

impl LogFloor {
    /// Writes a log into `dir`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(dir: &Path, promise: Promise) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { log: Arc::new(GroupLog::create(&dir.join("log"))?), promise })
    }

    /// Makes so many cycles and a sync. Says how long that took.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn round(&self, load: Load, content: &Bytes) -> Result<Duration, BoxError> {
        let turns = Arc::new(load.turns());
        let watch = Stopwatch::start();
        let mut workers = JoinSet::new();
        for _ in 0..load.in_flight {
            let (log, promise, alone) = (Arc::clone(&self.log), self.promise, load.in_flight == 1);
            let (turns, content) = (Arc::clone(&turns), content.clone());
            workers.spawn(async move {
                while turns.take() {
                    cycle(&log, promise, alone, &content).await?;
                }
                Ok::<_, io::Error>(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        self.log.sync()?;
        Ok(watch.elapsed())
    }
}

async fn cycle(log: &GroupLog, promise: Promise, alone: bool, content: &Bytes) -> io::Result<()> {
    let note = || Record { head: &[1; NOTE_BYTES], content: Bytes::new() };
    let entry = Record { head: &[2; ENTRY_BYTES], content: content.clone() };
    let at = match promise {
        Promise::Buffered => log.lazy(&entry)?,
        Promise::Durable | Promise::LazyCompletions => log.durable(entry, alone).await?,
    };
    log.lazy(&note())?; // the lease
    if log.read(at + ENTRY_BYTES as u64, content.len())? != *content {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match promise {
        Promise::Durable => log.durable(note(), alone).await?,
        Promise::LazyCompletions | Promise::Buffered => log.lazy(&note())?,
    };
    Ok(())
}
