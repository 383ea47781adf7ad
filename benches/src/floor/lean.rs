//! A file for each content and nothing else: what even fewer system calls would reach.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};

use crate::{
    BoxError,
    cycles::{AsThread, Contender, Kind, Label, Load, Promise, Round},
};

/// Directories among which the files are spread.
const SHARDS: u64 = 256;

/// A cycle is a file, synced once and given its name (no directory is synced); a lease in memory; a read; an unlink.
/// There is no record, so after power loss nobody knows which files there were.
#[derive(Debug)]
pub struct LeanFloor {
    label: Label,
    naming: Naming,
    dir: PathBuf,
    next: AtomicU64,
}

/// How a written file gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// By a rename without replacing.
    Rename,
    /// It has none until it is linked (`O_TMPFILE`, `linkat`).
    Link,
}

impl LeanFloor {
    /// Makes directories in `dir`.
    ///
    /// # Errors
    /// What the disk says.
    pub fn create(dir: &Path, naming: Naming, promise: Promise) -> io::Result<Self> {
        for shard in 0..SHARDS {
            fs::create_dir_all(dir.join(format!("{shard:02x}")))?;
        }
        let name = match naming {
            Naming::Rename => "temp + rename",
            Naming::Link => "O_TMPFILE + linkat",
        };
        let label = Label::new(name, Kind::LeanFloor, promise);
        Ok(Self { label, naming, dir: dir.into(), next: AtomicU64::new(0) })
    }

    fn publish(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let staged = path.with_extension("tmp");
        let mut file = match self.naming {
            Naming::Rename => OpenOptions::new().write(true).create_new(true).open(&staged)?,
            Naming::Link => {
                let flags = rustix::fs::OFlags::TMPFILE.bits();
                let flags = i32::try_from(flags).map_err(io::Error::other)?;
                let dir = path.parent().unwrap_or(path);
                OpenOptions::new().write(true).custom_flags(flags).open(dir)?
            }
        };
        file.write_all(content)?;
        if self.label.promise.is_durable() {
            file.sync_data()?;
        }
        match self.naming {
            Naming::Rename => renameat_with(CWD, &staged, CWD, path, RenameFlags::NOREPLACE)?,
            Naming::Link => {
                let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
                linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
            }
        }
        Ok(())
    }
}

impl Contender for LeanFloor {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        "a file each, no directory is synced, no record, lease in memory, unlinked at once".into()
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_threads(self, load, content)
    }
}

impl AsThread for LeanFloor {
    fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{:02x}/{number:032x}", number % SHARDS));
        self.publish(&path, content)?;
        let mut read = vec![0; content.len()];
        File::open(&path)?.read_exact(&mut read)?;
        if read != *content {
            return Err("another content came back".into());
        }
        Ok(fs::remove_file(path)?)
    }
}
