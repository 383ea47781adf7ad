//! The pool: content in, a key out; nobody who uses it needs to know which volume holds a file.

mod admission;
mod dead_letters;
mod disposal;
mod drain;
mod events;
mod expansion;
mod mounts;
mod moves;
mod options;
mod pace;
mod patience;
mod read;
mod reader;
mod residue;
mod retire;
mod seal_all;
mod sealed;
mod spill;
mod tally;
mod transfer;
mod upload;
mod volumes;
mod write;

use std::{path::PathBuf, sync::Arc};

use locus_core::{
    Clock, Durability, Error, FileInfo, FileKey, FileLocation, FileRecord, FileStatus, MetadataStore, Place,
    Result, Sealer, TenantAccess, TenantContext, TenantId, TenantManager, VolumeId,
};
use locus_fs::VolumeContext;

use self::{
    drain::Draining, expansion::Expansion, mounts::Mounts, moves::Moves, residue::ResidueList, upload::Desks,
    volumes::Opening,
};
use crate::{
    placement::{Placement, Placer},
    volumes::VolumeRegistry,
};

pub use self::{
    drain::{DrainOptions, DrainProgress, DrainReport},
    events::{VOLUME_EVENTS_MAX, VolumeEvent, VolumeEvents},
    expansion::{EXPANSION_WAIT_MAX, ExpandBelow},
    options::WriteOptions,
    reader::FileReader,
    residue::{RESIDUE_MAX, Residue},
    retire::Retire,
    seal_all::{SealOptions, SealProgress, SealReport},
    spill::SpillReport,
    tally::{DAMAGED_NAMED_MAX, UnmovedFile},
    upload::{Chunk, Upload, UploadOptions},
    volumes::{VolumeInfo, was_retired},
    write::WRITE_BATCH_MAX,
};

/// Keeps the files of all tenants on its volumes. Cheap to clone; clones are the same pool.
///
/// Every call asks the [`TenantManager`] whether the tenant may make it, never the context. An unknown key and the key
/// of another tenant's file get the same answer.
#[derive(Debug, Clone)]
pub struct StoragePool {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Arc<dyn MetadataStore>,
    tenants: Arc<dyn TenantManager>,
    context: VolumeContext,
    durability: Durability,
    placement: Placer,
    expansion: Expansion,
    mounts: Arc<Mounts>,
    opening: Opening,
    draining: Draining,
    moves: Moves,
    residue: Arc<ResidueList>,
    desks: Arc<Desks>,
    sealer: Option<Arc<dyn Sealer>>,
}

impl StoragePool {
    /// A pool over what `volumes` holds, which may be nothing yet. `durability` is what `Ok` of a write promises;
    /// `context` is what volumes are opened with.
    #[must_use]
    pub fn new(
        store: Arc<dyn MetadataStore>,
        volumes: Arc<VolumeRegistry>,
        tenants: Arc<dyn TenantManager>,
        context: VolumeContext,
        durability: Durability,
    ) -> Self {
        Self::sealed_by(store, volumes, tenants, context, durability, None)
    }

    /// As [`new`](Self::new), of a pool whose new contents are sealed, with their names, properties and errors. What was
    /// written before stays as it is; a file that is sealed has no path ([`materialize`](Self::materialize)).
    #[must_use]
    pub fn sealed_by(
        store: Arc<dyn MetadataStore>,
        volumes: Arc<VolumeRegistry>,
        tenants: Arc<dyn TenantManager>,
        context: VolumeContext,
        durability: Durability,
        sealer: Option<Arc<dyn Sealer>>,
    ) -> Self {
        let mounts = Arc::new(Mounts::new(volumes, Arc::clone(&store)));
        let residue = Arc::default();
        let placement = Placer::new(Arc::clone(&context.entropy));
        let expansion = Expansion::default();
        let opening = Opening::default();
        let (moves, draining, desks) = (Moves::default(), Draining::default(), Arc::default());
        let inner = Inner {
            store,
            tenants,
            context,
            durability,
            placement,
            expansion,
            mounts,
            opening,
            draining,
            moves,
            residue,
            desks,
            sealer,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Chooses volumes for new content in this way from now on; at first [`Placement::MostAvailable`].
    pub fn set_placement(&self, placement: Placement) {
        self.inner.placement.set(placement);
    }

    /// What is known about a file; `None` for an unknown key.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::TenantDisabled`] when the tenant is disabled. In a sealed pool
    /// [`Error::UnknownKey`], [`Error::Tampered`].
    pub async fn info(&self, tenant: &TenantContext, key: &FileKey) -> Result<Option<FileInfo>> {
        self.allow(tenant, TenantAccess::Read)?;
        let record = self.inner.store.get(tenant.id(), key).await?;
        Ok(record.map(|record| self.reveal(record)).transpose()?.map(|record| record.info))
    }

    /// What is known about a file and where its bytes rest; `None` for an unknown key. The path is there while the
    /// volume is mounted and has paths on this machine, unless the content is sealed; it says nothing about the next moment.
    ///
    /// # Errors
    /// As [`info`](Self::info).
    pub async fn location(&self, tenant: &TenantContext, key: &FileKey) -> Result<Option<FileLocation>> {
        self.allow(tenant, TenantAccess::Read)?;
        let record = self.inner.store.get(tenant.id(), key).await?;
        record.map(|record| Ok(self.place_of(&record).with(self.reveal(record)?))).transpose()
    }

    /// Sees to it that a file lies on a volume, and gives its path: content in the store is moved out for good. The path
    /// is valid until the file is completed, deleted, or moved because its volume is [drained](Self::drain); never change
    /// what is there.
    ///
    /// # Errors
    /// [`Error::FileNotFound`], also when the file is completed or deleted, before or meanwhile;
    /// [`Error::NotMaterializable`] when it is sealed, or when no path of this machine leads to it, or to any volume for content in the store;
    /// [`Error::VolumeUnavailable`]; [`Error::TenantNotFound`]; [`Error::TenantDisabled`] when the tenant is disabled.
    /// For content in the store also [`Error::InsufficientStorage`], [`Error::ChecksumMismatch`], [`Error::Corrupt`],
    /// and what the last volume said when all failed: it is then where it was.
    ///
    /// # Cancel safety
    /// After a dropped future the content rests in one of the two places, whole. What a move that was given up left on a
    /// volume is [`residue`](Self::residue), or adopted by the next one.
    pub async fn materialize(&self, tenant: &TenantContext, key: &FileKey) -> Result<PathBuf> {
        self.allow(tenant, TenantAccess::Read)?;
        self.path_of(tenant.id(), key).await
    }

    /// Deletes a file. Its bytes are removed in the background. Deleting a file that is being removed already succeeds.
    ///
    /// # Errors
    /// [`Error::FileNotFound`]; [`Error::AlreadyProcessing`] while it is leased, see
    /// [`delete_with`](Self::delete_with); [`Error::TenantNotFound`]; [`Error::TenantDisabled`] when the tenant is
    /// disabled.
    ///
    /// # Cancel safety
    /// After a dropped future the file is either deleted or untouched.
    pub async fn delete(&self, tenant: &TenantContext, key: &FileKey) -> Result<()> {
        self.delete_with(tenant, key, false).await
    }

    /// Deletes a file; with `force` also one that is leased, whose worker then finds its lease without effect.
    ///
    /// # Errors
    /// As [`delete`](Self::delete); [`Error::AlreadyProcessing`] only without `force`.
    ///
    /// # Cancel safety
    /// After a dropped future the file is either deleted or untouched.
    pub async fn delete_with(&self, tenant: &TenantContext, key: &FileKey, force: bool) -> Result<()> {
        self.allow(tenant, TenantAccess::Read)?;
        self.inner.store.delete(tenant.id(), key, force).await
    }

    /// Forgets an idempotency key, so that a write with it makes a new file. `false` when it was not known.
    ///
    /// # Errors
    /// [`Error::TenantNotFound`]; [`Error::TenantDisabled`] when the tenant is disabled.
    pub async fn forget(&self, tenant: &TenantContext, idempotency_key: &str) -> Result<bool> {
        self.allow(tenant, TenantAccess::Read)?;
        self.inner.store.forget(tenant.id(), idempotency_key).await
    }

    /// A barrier: returns when every write and every change confirmed so far survives power loss.
    ///
    /// # Errors
    /// [`Error::Poisoned`] when that can no longer be promised.
    pub async fn sync(&self) -> Result<()> {
        self.inner.store.sync().await
    }

    fn allow(&self, tenant: &TenantContext, access: TenantAccess) -> Result<()> {
        self.inner.tenants.admit(tenant, access).map(drop)
    }

    /// The record of a file that is not over.
    async fn living(&self, tenant: &TenantId, key: &FileKey) -> Result<FileRecord> {
        let record = self.inner.store.get(tenant, key).await?;
        record.filter(|record| !record.info.status.is_over()).ok_or(Error::FileNotFound { key: *key })
    }

    /// The clock that volumes were opened with.
    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.context.clock
    }

    /// A record with its path as of now, as far as it can be opened.
    pub(crate) fn locate(&self, record: FileRecord) -> FileLocation {
        self.place_of(&record).with(self.reveal_or_keep(record))
    }

    fn place_of(&self, record: &FileRecord) -> PlaceNow {
        let volume_id = match &record.place {
            Place::Volume(id) if record.info.status != FileStatus::Deleted => Some(id.clone()),
            _ => None,
        };
        let volume = volume_id.as_ref().and_then(|id| self.inner.mounts.get(id));
        // What lies at the path of a sealed content is not the content.
        let volume = volume.filter(|_| record.seal.is_none());
        PlaceNow { path: volume.and_then(|volume| volume.local_path(&record.blob())), volume_id }
    }
}

/// Where a content lies now.
struct PlaceNow {
    volume_id: Option<VolumeId>,
    path: Option<PathBuf>,
}

impl PlaceNow {
    fn with(self, record: FileRecord) -> FileLocation {
        FileLocation {
            physical_path: self.path,
            volume_id: self.volume_id,
            last_failed_at: record.last_failed_at,
            last_error: record.last_error,
            available_at: record.available_at,
            processing_started_at: record.processing_started_at,
            processing_by: record.processing_by,
            last_heartbeat: record.last_heartbeat,
            info: record.info,
        }
    }
}
