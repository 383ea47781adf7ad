//! The file of a ledger. Blocks the thread.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Error, Result, Site};
use locus_fs::{Disk, DiskFile, sync_data, sync_dir};
use tracing::warn;

use super::format::{ENTRY_BYTES_MAX, decode, encode, head, split_head};
use crate::source::Noted;

/// Bytes that are read or written at once.
const PIECE: usize = 64 << 10;

/// A ledger that is added to.
#[derive(Debug)]
pub(crate) struct LedgerFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    end: u64,
}

impl LedgerFile {
    pub(crate) fn append(&mut self, entries: &[Noted], durable: bool) -> Result<()> {
        let mut bytes = Vec::new();
        for noted in entries {
            encode(noted, &mut bytes);
        }
        self.file.write_at(&bytes, self.end).map_err(Error::io("write", &self.path))?;
        self.end += bytes.len() as u64;
        if durable {
            sync_data(&*self.file, Site::NotedSource).map_err(Error::io("sync", &self.path))?;
        }
        Ok(())
    }
}

/// The old ledger as far as it was read, and the new one that takes its place when it is whole.
#[derive(Debug)]
pub(crate) struct Draft {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    old: Option<Arc<dyn DiskFile>>,
    /// The old one is of a folder with another path.
    pub(crate) is_of_another: bool,
    /// What was read of the old one and not decoded, and where the next piece begins.
    ahead: Vec<u8>,
    at: u64,
    new: LedgerFile,
    /// What was kept and not written.
    behind: Vec<u8>,
}

impl Draft {
    pub(crate) fn begin(disk: &Arc<dyn Disk>, path: &Path, folder: &Path) -> Result<Self> {
        let old = match disk.open(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other.map_err(Error::io("open", path))?),
        };
        let new_path = path.with_extension("ledger.new");
        match disk.remove_file(&new_path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove", new_path)(error));
            }
            _ => {}
        }
        let file = disk.create_new(&new_path).map_err(Error::io("create", &new_path))?;
        let (new, head) = (LedgerFile { file, path: new_path, end: 0 }, head(folder));
        let mut draft = Self {
            disk: Arc::clone(disk),
            path: path.to_owned(),
            old,
            is_of_another: false,
            ahead: Vec::new(),
            at: 0,
            new,
            behind: head.clone(),
        };
        draft.fill()?;
        match split_head(path, &draft.ahead)? {
            Some((old, rest)) => {
                draft.is_of_another = old != head;
                draft.ahead = rest.to_vec();
            }
            None => draft.give_up(),
        }
        Ok(draft)
    }

    /// Up to `max` entries; none when that was all.
    pub(crate) fn read(&mut self, max: usize) -> Result<Vec<Noted>> {
        let mut entries = Vec::new();
        while entries.len() < max {
            if self.ahead.len() < ENTRY_BYTES_MAX {
                self.fill()?;
            }
            let mut rest = self.ahead.as_slice();
            let before = rest.len();
            while entries.len() < max
                && let Some((noted, after)) = decode(rest)
            {
                entries.push(noted);
                rest = after;
            }
            if rest.len() == before {
                self.give_up();
                break;
            }
            let used = before - rest.len();
            self.ahead.drain(..used);
        }
        Ok(entries)
    }

    pub(crate) fn keep(&mut self, entries: &[Noted]) -> Result<()> {
        for noted in entries {
            encode(noted, &mut self.behind);
        }
        if self.behind.len() >= PIECE { self.write() } else { Ok(()) }
    }

    /// The new ledger, and whether it is the ledger.
    pub(crate) fn publish(mut self) -> (LedgerFile, Result<()>) {
        let published = self.write().and_then(|()| {
            sync_data(&*self.new.file, Site::ReplacedContent).map_err(Error::io("sync", &self.new.path))?;
            self.disk.rename(&self.new.path, &self.path).map_err(Error::io("replace", &self.path))?;
            let dir = self.path.parent().unwrap_or(Path::new(""));
            sync_dir(&*self.disk, dir, Site::ReplacedName).map_err(Error::io("sync", dir))
        });
        self.new.path = self.path;
        (self.new, published)
    }

    fn write(&mut self) -> Result<()> {
        self.new.file.write_at(&self.behind, self.new.end).map_err(Error::io("write", &self.new.path))?;
        self.new.end += self.behind.len() as u64;
        self.behind.clear();
        Ok(())
    }

    fn fill(&mut self) -> Result<()> {
        let Some(old) = &self.old else { return Ok(()) };
        let begun = self.ahead.len();
        self.ahead.resize(begun + PIECE, 0);
        let read = match self.ahead.get_mut(begun..) {
            Some(room) => old.read_at(room, self.at).map_err(Error::io("read", &self.path))?,
            None => 0,
        };
        self.ahead.truncate(begun + read);
        self.at += read as u64;
        Ok(())
    }

    /// Here the old ledger ends: where it should, or where a write was torn.
    fn give_up(&mut self) {
        if !self.ahead.is_empty() {
            warn!(path = %self.path.display(), bytes = self.ahead.len(), "ledger ends in what is no entry, the rest is left out");
        }
        self.ahead = Vec::new();
        self.old = None;
    }
}
