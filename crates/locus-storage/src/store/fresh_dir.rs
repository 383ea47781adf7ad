//! A directory that is being filled: refused by name until it is finished.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Error, Result, Site};
use locus_fs::{Disk, create_dirs, sync_dir};

use super::checkpoint::journal_dir;

/// Lies in the directory until it is finished.
const MARK: &str = "UNFINISHED";

/// A directory into which a backup or a salvage writes a store. Until it is [finished](Self::finish) whoever opens it is
/// told that it is unfinished, whatever it holds: also after a crash.
#[derive(Debug)]
#[must_use = "the directory is refused until it is finished"]
pub struct FreshDir {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

impl FreshDir {
    /// Takes a directory that is absent or empty, and marks it, durably. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`], with kind `DirectoryNotEmpty` when anything lies in it.
    pub fn begin(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        create_dirs(&*disk, &dir)?;
        if disk.read_dir(&dir).map_err(Error::io("list", &dir))?.next().is_some() {
            return Err(Error::io("write a store into", dir)(io::ErrorKind::DirectoryNotEmpty.into()));
        }
        let mark = dir.join(MARK);
        let file = disk.create_new(&mark).map_err(Error::io("create", &mark))?;
        // Its name is durable before anything else is here.
        sync_dir(&*disk, &dir, Site::MarkName).map_err(Error::io("sync", &dir))?;
        let text = "What was written into this directory did not end: remove all of it.\n";
        file.write_at(text.as_bytes(), 0).map_err(Error::io("write", &mark))?;
        let journal = journal_dir(&dir);
        // Its name becomes durable with the end.
        disk.create_dir(&journal).map_err(Error::io("create", &journal))?;
        Ok(Self { disk, dir })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }

    pub(super) fn journal(&self) -> PathBuf {
        journal_dir(&self.dir)
    }

    /// What was written, all of it synced, is a store from now on, durably. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`]; when it is the last sync that failed, power loss may bring the mark back.
    pub fn finish(self) -> Result<()> {
        let sync = |dir: &Path, site| sync_dir(&*self.disk, dir, site).map_err(Error::io("sync", dir));
        sync(&self.journal(), Site::CopiedName)?;
        sync(&self.dir, Site::CopiedName)?;
        let mark = self.dir.join(MARK);
        self.disk.remove_file(&mark).map_err(Error::io("remove", &mark))?;
        sync(&self.dir, Site::MarkGone)
    }
}

/// Refuses a directory that nobody finished.
pub(super) fn refuse_unfinished(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let mark = dir.join(MARK);
    match disk.metadata(&mark) {
        Ok(_) => Err(Error::Corrupt {
            place: mark.display().to_string(),
            why: "the backup or salvage that wrote this directory did not end: remove the directory".into(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("look at", mark)(error)),
    }
}
