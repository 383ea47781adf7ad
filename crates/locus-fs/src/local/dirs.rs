//! The directories that are known to be there, so that a write need not look.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Most directories remembered; then all are forgotten, which costs a look and a sync each.
const DIRS_MAX: usize = 65_536;

/// Directories that exist, and whether their names are durable.
#[derive(Debug, Default)]
pub(crate) struct Dirs {
    known: Mutex<HashMap<PathBuf, bool>>,
    used: RwLock<()>,
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
        self.known.lock().get(dir).is_some_and(|is_durable| *is_durable || !durable)
    }

    pub(crate) fn learn(&self, dir: &Path, durable: bool) {
        let mut known = self.known.lock();
        if known.len() >= DIRS_MAX {
            known.clear();
        }
        *known.entry(dir.to_owned()).or_default() |= durable;
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
        dirs.learn(dir, false);
        assert!(dirs.knows(dir, false) && !dirs.knows(dir, true));
        dirs.learn(dir, true);
        dirs.learn(dir, false);
        assert!(dirs.knows(dir, true));
        dirs.forget(&[dir.to_owned()]);
        assert!(!dirs.knows(dir, false));
    }
}
