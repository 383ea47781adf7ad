//! All watchers of a store, for one that asks what the others watch.

use std::{collections::BTreeMap, sync::Arc};

use locus_core::WatcherId;
use parking_lot::Mutex;

use crate::config::FileWatcherConfig;

/// What describes them. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Neighbours(Arc<Mutex<BTreeMap<WatcherId, Arc<FileWatcherConfig>>>>);

impl Neighbours {
    pub(crate) fn set(&self, id: &WatcherId, config: Option<&FileWatcherConfig>) {
        let mut all = self.0.lock();
        match config {
            Some(config) => drop(all.insert(id.clone(), Arc::new(config.clone()))),
            None => drop(all.remove(id)),
        }
    }

    /// All but this one.
    pub(crate) fn others(&self, id: &WatcherId) -> Vec<(WatcherId, Arc<FileWatcherConfig>)> {
        let all = self.0.lock();
        all.iter()
            .filter(|(other, _)| *other != id)
            .map(|(id, config)| (id.clone(), Arc::clone(config)))
            .collect()
    }
}
