//! A spool folder, as a maildir: staged, synced, renamed into `new`; leased by a rename into `cur`; unlinked.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use locus_benches::{
    BoxError,
    cycles::{AsThread, Contender, Kind, Label, Load, Promise, Round},
};
use rustix::fs::rename;

use super::compare;

/// Three folders, and a thread for each of those in flight.
#[derive(Debug)]
pub(crate) struct Spool {
    label: Label,
    staging: PathBuf,
    new: PathBuf,
    leased: PathBuf,
    next: AtomicU64,
}

impl Spool {
    pub(crate) fn create(dir: &Path, promise: Promise) -> io::Result<Self> {
        let [staging, new, leased] = ["tmp", "new", "cur"].map(|name| dir.join(name));
        for folder in [&staging, &new, &leased] {
            fs::create_dir_all(folder)?;
        }
        let label = Label::new("spool folder", Kind::Stock, promise);
        Ok(Self { label, staging, new, leased, next: AtomicU64::new(0) })
    }

    fn write(&self, content: &[u8]) -> io::Result<()> {
        let name = format!("{:016x}", self.next.fetch_add(1, Ordering::Relaxed));
        let staged = self.staging.join(&name);
        let mut file = OpenOptions::new().write(true).create_new(true).open(&staged)?;
        file.write_all(content)?;
        if self.label.promise.is_durable() {
            file.sync_all()?;
        }
        rename(&staged, self.new.join(name))?;
        if self.label.promise.is_durable() {
            File::open(&self.new)?.sync_all()?;
        }
        Ok(())
    }

    /// A rename succeeds for one worker alone.
    fn lease(&self) -> io::Result<PathBuf> {
        loop {
            for entry in fs::read_dir(&self.new)? {
                let entry = entry?;
                let to = self.leased.join(entry.file_name());
                match rename(entry.path(), &to) {
                    Err(rustix::io::Errno::NOENT) => {}
                    other => return other.map(|()| to).map_err(Into::into),
                }
            }
        }
    }
}

impl Contender for Spool {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        let synced = if self.label.promise.is_durable() { "fsync of file and folder" } else { "no fsync" };
        format!("as a maildir: tmp, rename to new, {synced}; leased by a rename to cur; unlinked, not synced")
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_threads(self, load, content)
    }
}

impl AsThread for Spool {
    fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        self.write(content)?;
        let path = self.lease()?;
        let mut read = Vec::with_capacity(content.len());
        File::open(&path)?.read_to_end(&mut read)?;
        compare(&read, content)?;
        Ok(fs::remove_file(path)?)
    }
}
