//! What an operator and a sweeper do: dead letters, there and back, and blobs that nobody wrote.

use locus_core::{
    Area, BlobPath, Checksum, Content, Durability, Error, Extension, FileKey, MetadataStore, Orphan, Result,
    TenantContext, Upkeep, VolumeSet,
};

use crate::world::Engine;

/// Brings a dead letter back, unless its old name is not free yet: the call would wait for that.
pub(crate) async fn requeue(engine: &Engine, tenant: &TenantContext, key: &FileKey) -> Result<bool> {
    // What its last move left goes only when that is durable.
    engine.store.sync().await?;
    engine.sweeper.reap_step().await?;
    match engine.store.begin_requeue(tenant.id(), key)? {
        None => Ok(false),
        Some(right) => {
            drop(right);
            engine.scheduler.reset(tenant, key).await.map(|()| true)
        }
    }
}

/// Plants a blob that nobody wrote, and makes it a file, as a sweep does: claimed, looked at, made durable, adopted.
pub(crate) async fn adopt(
    engine: &Engine,
    tenant: &TenantContext,
    key: FileKey,
    content: Vec<u8>,
) -> Result<bool> {
    let volumes = engine.registry.all();
    let volume = &volumes[content.len() % volumes.len()];
    let (owner, extension) = (tenant.storage_path().clone(), Extension::NONE);
    let blob = BlobPath { area: Area::Live, owner, key, extension };
    let (size, checksum) = (content.len() as u64, Checksum::of(&content));
    volume.write(&blob, &mut Content::from(content), Durability::Buffered).await?;
    // Others sweep as well.
    let Some(claim) = engine.store.claim(volume.id(), &blob) else { return Ok(false) };
    match volume.sync_blob(&blob).await {
        Ok(()) => {}
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            claim.release();
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    let orphan = Orphan { volume: volume.id().clone(), blob, size, checksum };
    engine.store.adopt(claim, orphan).await
}
