//! A look at a store from outside.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Result, Tenant, VolumeId};
use locus_fs::Disk;
use locus_storage::EmbeddedStore;
use locus_tenant::TenantDirectory;

use crate::mounts;

/// What a data directory holds. Made by [`Locus::inspect`](crate::Locus::inspect).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// Files by tenant and state, sizes of journal and checkpoints.
    pub store: locus_storage::Inspection,
    /// All tenants, in order of their names.
    pub tenants: Vec<Tenant>,
    /// The volumes of this machine that were mounted when the store was last open, in order of their names.
    pub volumes: Vec<InspectedVolume>,
}

/// A volume as it is seen from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedVolume {
    /// Its name.
    pub id: VolumeId,
    /// Its directory.
    pub path: PathBuf,
    /// Size of its file system and what may still be written, in bytes; `None` when it cannot be measured now.
    pub space: Option<(u64, u64)>,
}

/// Blocks the thread.
pub(crate) fn inspect<D: Disk + 'static>(disk: &Arc<D>, dir: &Path) -> Result<Inspection> {
    let store = EmbeddedStore::inspect(dir, &**disk)?;
    let tenants = TenantDirectory::read(&**disk, &dir.join("tenants"))?;
    let volumes = mounts::read(&**disk, dir).into_iter().map(|mount| InspectedVolume {
        space: disk.space(&mount.path).ok().map(|space| (space.total, space.available)),
        id: mount.id,
        path: mount.path,
    });
    Ok(Inspection { store, tenants, volumes: volumes.collect() })
}
