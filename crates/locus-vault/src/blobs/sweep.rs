//! What is left of entities that there are not, and of writes that did not come to their end.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use locus_core::Timestamp;
use locus_fs::LockGuard;

use super::{
    guard,
    list::Unreadable,
    probe,
    shelf::{LOCKS, SUFFIX, Shelf},
};
use crate::{error::VaultError, metadata::EntityMetadata};

/// What a sweep did.
#[derive(Debug, Default)]
pub struct SweepReport {
    /// Deleted entities that were forgotten.
    pub tombstones: u64,
    /// Beginnings of files that were removed.
    pub drafts: u64,
    /// Lock files that were removed.
    pub locks: u64,
    /// What somebody held.
    pub busy: u64,
    /// What cannot be read or removed.
    pub failed: Vec<Unreadable>,
}

/// Something to sweep.
#[derive(Debug)]
pub(super) struct Leftover {
    what: What,
    path: PathBuf,
    /// The lock under which it is removed, beneath the directory of locks.
    lock: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Tombstone,
    Draft,
    Lock,
    /// What a look at the file system left that was interrupted.
    Probe,
}

impl Leftover {
    pub(super) fn lock(&self) -> &Path {
        &self.lock
    }
}

impl SweepReport {
    pub(super) fn note(&mut self, swept: Result<Swept, Box<Unreadable>>) {
        match swept {
            Ok(Swept(Some(What::Tombstone))) => self.tombstones += 1,
            Ok(Swept(Some(What::Draft | What::Probe))) => self.drafts += 1,
            Ok(Swept(Some(What::Lock))) => self.locks += 1,
            Ok(Swept(None)) => {}
            Err(why) => self.failed.push(*why),
        }
    }
}

/// What was removed, if it was still to be.
#[derive(Debug)]
pub(super) struct Swept(Option<What>);

impl Shelf {
    /// What there seems to be to sweep of directory `shard`; and of the looks, with the first.
    pub(super) fn to_sweep(
        &self,
        shard: u8,
        now: Timestamp,
        retention: Duration,
    ) -> Result<Vec<Leftover>, VaultError> {
        let names = self.names(shard)?;
        let mut found = Vec::new();
        for path in names.entities {
            // One that cannot be read is no tombstone: verifying tells of it.
            if let Ok(Some(metadata)) = self.entry(&path)
                && is_over(&metadata, now, retention)
            {
                found.push(Leftover { what: What::Tombstone, lock: guard::name_of(&metadata.id), path });
            }
        }
        for path in names.drafts {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(name) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".ent.new")) {
                let lock = format!("{shard:02x}/{name}{}", guard::SUFFIX).into();
                found.push(Leftover { what: What::Draft, lock, path });
            }
        }
        for name in self.lock_names(Path::new(&format!("{shard:02x}")))? {
            if !self.is_there(&self.of_lock(&name))? {
                let path = self.dir.join(LOCKS).join(&name);
                found.push(Leftover { what: What::Lock, lock: name, path });
            }
        }
        if shard == 0 {
            for name in self.lock_names(Path::new(""))? {
                if name.to_str().is_some_and(|name| name.starts_with(probe::PREFIX)) {
                    let path = self.dir.join(LOCKS).join(&name);
                    found.push(Leftover { what: What::Probe, lock: name.with_extension("lock"), path });
                }
            }
        }
        Ok(found)
    }

    /// Removes `what` when it is still to be, under its lock.
    pub(super) fn sweep(
        &self,
        what: Leftover,
        lock: LockGuard,
        now: Timestamp,
        retention: Duration,
    ) -> Result<Swept, Box<Unreadable>> {
        let Leftover { what, path, .. } = what;
        let swept = match what {
            What::Tombstone => match self.entry(&path) {
                Ok(Some(metadata)) if is_over(&metadata, now, retention) => self.unlink(&path),
                Ok(_) => Ok(false),
                Err(why) => Err(why),
            },
            What::Draft => self.unlink(&path),
            What::Lock | What::Probe => Ok(true),
        };
        let entity = self.of_lock(lock.name());
        let swept = swept.and_then(|swept| {
            // The lock was made anew by being taken, and goes with the entity.
            if self.is_there(&entity)? {
                return Ok(swept && what != What::Lock);
            }
            if what == What::Probe {
                self.unlink(&path)?;
            }
            let at = self.dir.join(LOCKS).join(lock.name());
            match lock.remove() {
                Err(locus_fs::LockError::LockFailed { source, .. })
                    if source.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|error| VaultError::write("remove", at)(io::Error::other(error)))?,
            }
            Ok(swept)
        });
        match swept {
            Ok(swept) => Ok(Swept(swept.then_some(what))),
            Err(why) => Err(Box::new(Unreadable { path, why })),
        }
    }

    /// The file of the entity whose lock is called `name`.
    fn of_lock(&self, name: &Path) -> PathBuf {
        let name = name.with_extension("");
        let mut file = self.dir.join(super::shelf::ENTITIES).join(name).into_os_string();
        file.push(SUFFIX);
        file.into()
    }

    fn is_there(&self, path: &Path) -> Result<bool, VaultError> {
        match self.disk.metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|_| true).map_err(VaultError::read("look at", path)),
        }
    }

    fn unlink(&self, path: &Path) -> Result<bool, VaultError> {
        match self.disk.remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true).map_err(VaultError::write("remove", path)),
        }
    }

    /// The lock files in `dir` beneath the directory of locks, by their names beneath it.
    fn lock_names(&self, dir: &Path) -> Result<Vec<PathBuf>, VaultError> {
        let at = self.dir.join(LOCKS).join(dir);
        let entries = match self.disk.read_dir(&at) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(VaultError::read("list", &at))?,
        };
        let entries = entries.map(|entry| entry.map_err(VaultError::read("list", &at)));
        let names = entries.map(|entry| Ok(dir.join(entry?.name)));
        let is_ours = |name: &PathBuf| {
            let is_lock = name.extension().is_some_and(|suffix| suffix == "lock");
            is_lock || name.to_str().is_some_and(|name| name.starts_with(probe::PREFIX))
        };
        names.filter(|name: &Result<PathBuf, VaultError>| name.as_ref().map_or(true, is_ours)).collect()
    }
}

/// Whether it says that an entity was deleted so long ago that it may be forgotten.
fn is_over(metadata: &EntityMetadata, now: Timestamp, retention: Duration) -> bool {
    metadata.is_deleted && metadata.written_at.saturating_add(retention) <= now
}
