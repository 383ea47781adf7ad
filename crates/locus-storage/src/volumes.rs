//! The volumes that are mounted now, shared by the pool (which mounts and chooses), the store (which makes their
//! content durable at a barrier) and the sweeper.

use std::{collections::BTreeMap, sync::Arc};

use locus_core::{Error, Result, StorageVolume, VolumeId, VolumeSet};
use locus_fs::WatchedVolume;

use crate::sync::RwLock;

/// A table of mounted volumes. Made once, before the store is opened, and shared. Whoever waits for a volume that hangs is
/// told so when the pool gives it up.
#[derive(Debug, Default)]
pub struct VolumeRegistry {
    mounted: RwLock<BTreeMap<VolumeId, Arc<WatchedVolume>>>,
}

impl VolumeRegistry {
    /// An empty table.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Adds a volume.
    ///
    /// # Errors
    /// [`Error::VolumeExists`] when one of this name is there already.
    pub fn insert(&self, volume: Arc<dyn StorageVolume>) -> Result<()> {
        let mut mounted = self.mounted.write();
        if mounted.contains_key(volume.id()) {
            return Err(Error::VolumeExists { volume: volume.id().clone() });
        }
        mounted.insert(volume.id().clone(), Arc::new(WatchedVolume::new(volume)));
        Ok(())
    }

    /// Takes a volume out.
    pub fn take(&self, id: &VolumeId) -> Option<Arc<dyn StorageVolume>> {
        self.mounted.write().remove(id).map(|volume| volume as _)
    }

    /// The volume, to be given up or trusted again.
    pub(crate) fn watched(&self, id: &VolumeId) -> Option<Arc<WatchedVolume>> {
        self.mounted.read().get(id).cloned()
    }
}

impl VolumeSet for VolumeRegistry {
    fn volume(&self, id: &VolumeId) -> Option<Arc<dyn StorageVolume>> {
        self.watched(id).map(|volume| volume as _)
    }

    fn all(&self) -> Vec<Arc<dyn StorageVolume>> {
        self.mounted.read().values().map(|volume| Arc::clone(volume) as _).collect()
    }
}
