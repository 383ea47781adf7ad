//! Directories that stay open from one call to the next, so that what belongs together opens them once.

use std::{
    collections::VecDeque,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

/// Most directories that wait for the sync of a name. Others are opened again for it.
const NAMED_MAX: usize = 16;

/// They are never believed for long: whoever is refused by one opens it anew, and all are let go from time to time.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The one from which a file was renamed last: the next one is made there.
    from: Mutex<Option<(PathBuf, Arc<OwnedFd>)>>,
    /// Those in which a file got its name, until that is synced. The sync wants the directory in which the name is,
    /// whatever has its path by then.
    named: Mutex<VecDeque<(PathBuf, OwnedFd)>>,
}

impl Kept {
    pub(super) fn from(&self, dir: &Path) -> Option<Arc<OwnedFd>> {
        self.from.lock().as_ref().filter(|(path, _)| path == dir).map(|(_, kept)| Arc::clone(kept))
    }

    pub(super) fn keep_from(&self, dir: &Path, opened: Arc<OwnedFd>) {
        *self.from.lock() = Some((dir.to_owned(), opened));
    }

    pub(super) fn forget_from(&self) {
        *self.from.lock() = None;
    }

    pub(super) fn keep_named(&self, dir: &Path, opened: OwnedFd) {
        let mut named = self.named.lock();
        named.retain(|(path, _)| path != dir);
        named.push_back((dir.to_owned(), opened));
        if named.len() > NAMED_MAX {
            named.pop_front();
        }
    }

    pub(super) fn take_named(&self, dir: &Path) -> Option<OwnedFd> {
        let mut named = self.named.lock();
        let at = named.iter().position(|(path, _)| path == dir)?;
        named.remove(at).map(|(_, opened)| opened)
    }

    pub(super) fn forget_all(&self) {
        self.forget_from();
        self.named.lock().clear();
    }
}
