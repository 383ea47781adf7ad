//! What an operator and a sweeper do: dead letters, there and back, and blobs that nobody wrote.

use std::{collections::BTreeSet, rc::Rc};

use locus_cleanup::SweepOptions;
use locus_core::{
    Area, BlobPath, Checksum, Content, Durability, Error, Extension, FileKey, MetadataStore, Orphan, Result,
    TenantContext, Upkeep, VolumeSet,
};

use crate::{
    model::{File, Model},
    violation::{Kind, Violation, ensure},
    world::{Engine, World},
};

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
    let orphan = Orphan { volume: volume.id().clone(), blob, size, checksum, seal: None };
    engine.store.adopt(claim, orphan).await
}

/// Makes files of what no record names, after a crash: writes that were never accepted, or did not last. What was completed or
/// deleted is not among them. They are deleted again.
pub(crate) fn import(world: &mut World, engine: &Rc<Engine>, model: &Model) -> Result<(), Violation> {
    let (at, known) = (engine.clone(), model.live().map(|(key, _)| *key).collect::<BTreeSet<_>>());
    let imported = world.run(engine, async move {
        let Some(importer) = &at.importer else { return Ok(Vec::new()) };
        importer.leftovers(SweepOptions::default()).await?;
        let mut imported = Vec::new();
        for blob in at.blobs().await?.into_iter().filter(|blob| !known.contains(&blob.key)) {
            let owner = at.tenants.iter().find(|tenant| *tenant.storage_path() == blob.owner);
            let Some(tenant) = owner else { continue };
            let info = at.pool.info(tenant, &blob.key).await?;
            if info.is_some_and(|info| !info.status.is_over()) {
                imported.push((blob.key, at.pool.read(tenant, &blob.key).await?.bytes().await?));
                at.pool.delete_with(tenant, &blob.key, true).await?;
            }
        }
        Ok::<_, Error>(imported)
    })?;
    let imported = imported
        .map_err(|why| Violation::new(Kind::Unexpected, format!("nothing can be imported: {why:?}")))?;
    if world.trace && !imported.is_empty() {
        let keys: Vec<_> = imported.iter().map(|(key, _)| key.to_string()).collect();
        eprintln!("   imported and deleted: {}", keys.join(" "));
    }
    // Where content moves, a copy that was given up may come back, and after a failed sync a removal may be undone.
    let is_sure = !world.faults && !model.moved;
    for (key, content) in imported {
        let ended = |file: &File| !file.lives() && !model.unproven.contains(&key);
        let is_over = model.facts.files.get(&key).is_some_and(ended);
        ensure(!is_sure || !is_over, Kind::Resurrected, || format!("{key} is over, and was imported"))?;
        let told = model.contents.get(&key).filter(|_| world.options.durability == Durability::Durable);
        ensure(told.is_none_or(|told| *told == content), Kind::Corrupted, || {
            format!("{key} was imported and is not what was written")
        })?;
    }
    Ok(())
}
