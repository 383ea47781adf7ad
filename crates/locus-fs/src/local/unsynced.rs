//! What was changed and not synced yet.

use std::{
    collections::BTreeSet,
    mem,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

/// Beyond this many, one sync of the whole file system is cheaper than one for each, also when others who write to it
/// have some 100 MiB of their own unsynced.
const FEW: usize = 16;

/// Some paths, or all there are.
#[derive(Debug, Default)]
pub(crate) struct Paths {
    some: BTreeSet<PathBuf>,
    all: bool,
}

impl Paths {
    pub(crate) fn all() -> Self {
        Self { some: BTreeSet::new(), all: true }
    }

    pub(crate) fn is_all(&self) -> bool {
        self.all
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Path> {
        self.some.iter().map(PathBuf::as_path)
    }

    fn add(&mut self, path: PathBuf) {
        if self.all {
            return;
        }
        self.some.insert(path);
        if self.some.len() > FEW {
            *self = Self::all();
        }
    }

    fn join(&mut self, other: Self) {
        if other.all {
            *self = Self::all();
        }
        other.some.into_iter().for_each(|path| self.add(path));
    }
}

/// What one sync has to do.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Blobs whose content is not durable.
    pub(crate) files: Paths,
    /// Directories in which a new name is not durable.
    pub(crate) dirs: Paths,
    /// Directories in which the removal of a name is not durable.
    pub(crate) removals: Paths,
}

/// The batch that the next sync takes.
#[derive(Debug, Default)]
pub(crate) struct Unsynced(Mutex<Batch>);

impl Unsynced {
    /// Nothing is known to be durable: an earlier process may have left anything unsynced.
    pub(crate) fn unknown() -> Self {
        Self(Mutex::new(Batch { files: Paths::all(), ..Batch::default() }))
    }

    pub(crate) fn add_blob(&self, blob: PathBuf, dir: PathBuf) {
        let mut batch = self.0.lock();
        batch.files.add(blob);
        batch.dirs.add(dir);
    }

    pub(crate) fn add_dir(&self, dir: PathBuf) {
        self.0.lock().dirs.add(dir);
    }

    /// The blob was removed, so its content need not become durable any more, but its absence must.
    pub(crate) fn removed(&self, blob: &Path, dir: PathBuf) {
        let mut batch = self.0.lock();
        batch.files.some.remove(blob);
        batch.removals.add(dir);
    }

    pub(crate) fn take(&self) -> Batch {
        mem::take(&mut self.0.lock())
    }

    pub(crate) fn take_removals(&self) -> Batch {
        Batch { removals: mem::take(&mut self.0.lock().removals), ..Batch::default() }
    }

    /// The sync did not come to try these.
    pub(crate) fn put_back(&self, taken: Batch) {
        let mut batch = self.0.lock();
        batch.files.join(taken.files);
        batch.dirs.join(taken.dirs);
        batch.removals.join(taken.removals);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_paths_become_all_of_them_and_memory_stays_bounded() {
        let unsynced = Unsynced::default();
        for n in 0..=FEW {
            unsynced.add_blob(format!("/v/a/{n}").into(), "/v/a".into());
        }
        let batch = unsynced.take();
        assert!(batch.files.is_all());
        assert_eq!(batch.files.iter().count(), 0);
        assert!(!batch.dirs.is_all());
        assert_eq!(batch.dirs.iter().count(), 1);
        unsynced.add_blob("/v/a/x".into(), "/v/a".into());
        unsynced.put_back(batch);
        assert!(unsynced.take().files.is_all());
    }

    #[test]
    fn a_removed_blob_needs_no_sync_of_its_content() {
        let unsynced = Unsynced::default();
        unsynced.add_blob("/v/a/x".into(), "/v/a".into());
        unsynced.removed(Path::new("/v/a/x"), "/v/a".into());
        let batch = unsynced.take();
        assert_eq!(batch.files.iter().count(), 0);
        assert_eq!(batch.removals.iter().collect::<Vec<_>>(), [Path::new("/v/a")]);
    }
}
