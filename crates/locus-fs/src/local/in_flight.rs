//! The names that calls under way give or take: of blobs, and in the staging directory.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

/// The names in use.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<HashSet<PathBuf>>);

impl InFlight {
    /// Takes a name; `None` when somebody has it.
    pub(crate) fn claim(self: &Arc<Self>, name: &Path) -> Option<Claim> {
        let name = name.to_owned();
        self.0.lock().insert(name.clone()).then(|| Claim { all: Arc::clone(self), name })
    }
}

/// The use of a name, until it is dropped. It goes along with the work: a call that nobody waits for any more goes on, and has
/// its names until it ends.
#[must_use = "the name is in use only as long as this lives"]
#[derive(Debug)]
pub(crate) struct Claim {
    all: Arc<InFlight>,
    name: PathBuf,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.all.0.lock().remove(&self.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_claimed_once_at_a_time() {
        let all = Arc::new(InFlight::default());
        let first = all.claim(Path::new("a"));
        assert!(first.is_some());
        assert!(all.claim(Path::new("a")).is_none());
        assert!(all.claim(Path::new("b")).is_some());
        drop(first);
        assert!(all.claim(Path::new("a")).is_some());
    }
}
