//! Contents in files beside a store that says which there are.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A directory of files, each synced before its row is written, if at all. The row says whether a file is whole, so none is
/// renamed, and the directory is not synced: less than Locus does.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    sync: bool,
}

/// What is said of it among the settings.
pub(super) const SAID: &str = "files: created in place, fsync when durable, directory not synced";

impl Files {
    pub(super) fn create(dir: &Path, sync: bool) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.into(), sync })
    }

    pub(super) fn write(&self, id: u64, content: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(self.path(id))?;
        file.write_all(content)?;
        if self.sync { file.sync_all() } else { Ok(()) }
    }

    pub(super) fn read(&self, id: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        io::Read::read_to_end(&mut File::open(self.path(id))?, &mut content)?;
        Ok(content)
    }

    pub(super) fn remove(&self, id: u64) -> io::Result<()> {
        fs::remove_file(self.path(id))
    }

    fn path(&self, id: u64) -> PathBuf {
        self.dir.join(format!("{id:016x}"))
    }
}
