//! The volumes that are mounted now, shared by the pool (which mounts and chooses), the store (which makes their
//! content durable at a barrier) and the sweeper.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use locus_core::{Error, Result, StorageVolume, VolumeId, VolumeSet};
use locus_fs::WatchedVolume;

use crate::sync::RwLock;

/// A table of mounted volumes. Made once, before the store is opened, and shared. Whoever waits for a volume that hangs is
/// told so when the pool gives it up.
#[derive(Debug, Default)]
pub struct VolumeRegistry {
    mounted: RwLock<BTreeMap<VolumeId, Arc<WatchedVolume>>>,
    /// The directories of all that were ever mounted here: files may wait in those of one that was taken out.
    places: RwLock<BTreeSet<PathBuf>>,
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
        self.places.write().extend(volume.places());
        mounted.insert(volume.id().clone(), Arc::new(WatchedVolume::new(volume)));
        Ok(())
    }

    /// Takes a volume out.
    pub fn take(&self, id: &VolumeId) -> Option<Arc<dyn StorageVolume>> {
        self.mounted.write().remove(id).map(|volume| volume as _)
    }

    /// The directories of all volumes that were ever mounted here, in order, those that were taken out among them: what lies
    /// there is the store's.
    #[must_use]
    pub fn places(&self) -> Vec<PathBuf> {
        let mut places = self.places.read().clone();
        self.all().iter().for_each(|volume| places.extend(volume.places()));
        places.into_iter().collect()
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
