//! The directories that are known to be there, so that a write need not look.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Bound,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Most directories remembered; then all are forgotten, which costs a look and a sync each.
const DIRS_MAX: usize = 65_536;

/// Directories that exist.
#[derive(Debug, Default)]
pub(crate) struct Dirs {
    known: Mutex<HashMap<PathBuf, Entry>>,
    /// Those that lost a blob.
    emptied: Mutex<Emptied>,
    used: RwLock<()>,
    /// How many were removed so far.
    removed: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    known: Known,
    /// A write used it since [`Dirs::take_used`].
    used: bool,
}

/// Directories that may have become empty.
#[derive(Debug, Default)]
struct Emptied {
    dirs: BTreeSet<PathBuf>,
    /// There are more than are remembered.
    more: bool,
}

/// What is known of one, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    /// This process made it, or looked whether it has to.
    Made,
    /// Its name is made durable by the next sync of all.
    Unsynced,
    Durable,
}

impl Dirs {
    /// Held by whoever looks for a directory, until something lies in it.
    pub(crate) fn in_use(&self) -> RwLockReadGuard<'_, ()> {
        self.used.read()
    }

    /// Held by whoever removes one that is empty, and makes it again.
    pub(crate) fn alone(&self) -> RwLockWriteGuard<'_, ()> {
        self.used.write()
    }

    pub(crate) fn knows(&self, dir: &Path, durable: bool) -> bool {
        self.has(dir, if durable { Known::Durable } else { Known::Unsynced })
    }

    /// Whether this process made it, and needs not do so again.
    pub(crate) fn is_made(&self, dir: &Path) -> bool {
        self.has(dir, Known::Made)
    }

    fn has(&self, dir: &Path, least: Known) -> bool {
        self.known.lock().get_mut(dir).is_some_and(|entry| {
            entry.used = true;
            entry.known >= least
        })
    }

    pub(crate) fn learn(&self, dir: &Path, durable: bool) {
        self.note(dir, if durable { Known::Durable } else { Known::Unsynced });
    }

    pub(crate) fn made(&self, dir: &Path) {
        self.note(dir, Known::Made);
    }

    fn note(&self, dir: &Path, new: Known) {
        let mut known = self.known.lock();
        if known.len() >= DIRS_MAX {
            known.clear();
        }
        let entry = known.entry(dir.to_owned()).or_insert(Entry { known: new, used: true });
        entry.known = new.max(entry.known);
    }

    /// Whether a write used it since this was asked last.
    pub(crate) fn take_used(&self, dir: &Path) -> bool {
        self.known.lock().get_mut(dir).is_some_and(|entry| std::mem::take(&mut entry.used))
    }

    /// A blob was removed from it.
    pub(crate) fn lost_one(&self, dir: PathBuf) {
        let mut emptied = self.emptied.lock();
        if emptied.dirs.len() < DIRS_MAX {
            emptied.dirs.insert(dir);
        } else {
            emptied.more = true;
        }
    }

    /// Whether more lost a blob since this was asked last than are remembered: then none is.
    pub(crate) fn forget_emptied_if_more(&self) -> bool {
        let mut emptied = self.emptied.lock();
        if emptied.more {
            *emptied = Emptied::default();
            return true;
        }
        false
    }

    /// The last one that lost a blob of those before `before`, or of all: what is in a directory comes before it. It is
    /// remembered no more.
    pub(crate) fn take_emptied(&self, before: Option<&Path>) -> Option<PathBuf> {
        let dirs = &mut self.emptied.lock().dirs;
        let last = match before {
            Some(before) => dirs.range::<Path, _>((Bound::Unbounded, Bound::Excluded(before))).next_back(),
            None => dirs.last(),
        };
        let last = last.cloned()?;
        dirs.remove(&last);
        Some(last)
    }

    /// One was removed, and the sync that makes this durable is asked for.
    pub(crate) fn removed_one(&self) {
        self.removed.fetch_add(1, Ordering::AcqRel);
    }

    /// How many were removed so far.
    pub(crate) fn removed(&self) -> u64 {
        self.removed.load(Ordering::Acquire)
    }

    pub(crate) fn forget(&self, dirs: &[PathBuf]) {
        let mut known = self.known.lock();
        for dir in dirs {
            known.remove(dir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_durable_is_not_enough_for_a_durable_write() {
        let dirs = Dirs::default();
        let dir = Path::new("/v/acme");
        dirs.made(dir);
        assert!(dirs.is_made(dir) && !dirs.knows(dir, false));
        dirs.learn(dir, false);
        assert!(dirs.knows(dir, false) && !dirs.knows(dir, true));
        dirs.learn(dir, true);
        dirs.learn(dir, false);
        assert!(dirs.knows(dir, true));
        dirs.forget(&[dir.to_owned()]);
        assert!(!dirs.knows(dir, false));
    }
}
