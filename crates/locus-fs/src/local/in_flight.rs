//! The staging names that a running write uses, so that tidying leaves them alone.

use std::{collections::HashSet, sync::Arc};

use parking_lot::Mutex;

/// The names in use.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<HashSet<String>>);

impl InFlight {
    /// Takes a name; `None` when somebody has it.
    pub(crate) fn claim(self: &Arc<Self>, name: &str) -> Option<Claim> {
        let name = name.to_owned();
        self.0.lock().insert(name.clone()).then(|| Claim { all: Arc::clone(self), name })
    }
}

/// The use of a staging name, until it is dropped.
#[must_use = "the name is in use only as long as this lives"]
#[derive(Debug)]
pub(crate) struct Claim {
    all: Arc<InFlight>,
    name: String,
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
        let first = all.claim("a");
        assert!(first.is_some());
        assert!(all.claim("a").is_none());
        assert!(all.claim("b").is_some());
        drop(first);
        assert!(all.claim("a").is_some());
    }
}
