//! The shared-log floor: record and content together in one log.

use std::{io, path::Path, sync::Arc};

use bytes::Bytes;
use tokio::runtime::Handle;

use super::{
    ENTRY_BYTES, NOTE_BYTES,
    group::{GroupLog, Record},
};
use crate::{
    BoxError,
    cycles::{AsTask, Contender, Kind, Label, Load, Promise, Rests, Round},
};

/// A cycle is an entry with its content, synced once for all who wait; a lease; a read from the log; a completion.
#[derive(Debug)]
pub struct LogFloor {
    label: Label,
    shared: Arc<Shared>,
    runtime: Handle,
}

#[derive(Debug)]
struct Shared {
    log: GroupLog,
    promise: Promise,
}

impl LogFloor {
    /// Writes a log into `dir`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(dir: &Path, promise: Promise, runtime: Handle) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let log = GroupLog::create(&dir.join("log"))?;
        let label = Label::new("shared-log floor", Kind::Floor(Rests::Journal), promise);
        Ok(Self { label, shared: Arc::new(Shared { log, promise }), runtime })
    }
}

impl Contender for LogFloor {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        "entry with content, lease and completion in one pre-written log; one write and one fdatasync for all who wait"
            .into()
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_tasks(&self.runtime, &self.shared, load, content)
    }
}

impl AsTask for Shared {
    async fn cycle(&self, content: &Bytes, alone: bool) -> Result<(), BoxError> {
        let Self { log, promise } = self;
        let note = || Record { head: &[1; NOTE_BYTES], content: Bytes::new() };
        let entry = Record { head: &[2; ENTRY_BYTES], content: content.clone() };
        let at = match promise {
            Promise::Buffered => log.lazy(&entry)?,
            Promise::Durable | Promise::LazyCompletions => log.durable(entry, alone).await?,
        };
        log.lazy(&note())?; // the lease
        if log.read(at + ENTRY_BYTES as u64, content.len())? != *content {
            return Err("another content came back".into());
        }
        match promise {
            Promise::Durable => log.durable(note(), alone).await?,
            Promise::LazyCompletions | Promise::Buffered => log.lazy(&note())?,
        };
        Ok(())
    }

    async fn settle(&self) -> Result<(), BoxError> {
        Ok(self.log.sync()?)
    }
}
