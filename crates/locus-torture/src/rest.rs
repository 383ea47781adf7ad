//! What must hold at rest: contents, counts, quotas, and nothing on the volumes that nobody needs.

use std::{collections::BTreeMap, rc::Rc};

use locus_cleanup::SweepOptions;
use locus_core::{Error, FileKey, LogicalDir, MetadataStore, Scope, Upkeep, UploadId, VolumeSet};
use locus_storage::VerifyLevel;

use crate::{
    call::{DIRECTORIES, directory_name},
    model::{File, Model},
    uploads,
    violation::{Kind, Violation, ensure},
    world::{Engine, World},
};

/// Tidies up, and holds everything against the model.
pub(crate) fn check(world: &mut World, engine: &Rc<Engine>, model: &Model) -> Result<(), Violation> {
    let live: BTreeMap<FileKey, File> = model.live().map(|(key, file)| (*key, file.clone())).collect();
    let (at, files) = (engine.clone(), live.clone());
    let contents = world.run(engine, async move {
        let mut contents = Vec::new();
        for (key, file) in files {
            let reader = at.pool.read(&at.tenants[file.tenant], &key).await;
            contents.push(match reader {
                Ok(reader) => (key, reader.bytes().await),
                Err(why) => (key, Err(why)),
            });
        }
        contents
    })?;
    for (key, content) in contents {
        match content {
            Ok(content) => ensure(content == model.contents[&key], Kind::Corrupted, || {
                format!("the content of {key} is not what was written")
            })?,
            Err(why @ (Error::ChecksumMismatch { .. } | Error::Corrupt { .. } | Error::Tampered { .. })) => {
                return Err(Violation::new(Kind::Corrupted, format!("{key} cannot be read: {why}")));
            }
            Err(why) => return Err(Violation::new(Kind::Lost, format!("{key} cannot be read: {why:?}"))),
        }
    }

    // What is kept although it is completed goes now.
    world.advance(world.options.completed_retention);
    let (at, files) = (engine.clone(), live.clone());
    // An upload may have its name already, and the record that says so have been lost.
    let published: Vec<FileKey> = model.uploads.keys().map(UploadId::key).collect();
    let tidied = world.run(engine, async move {
        // A member of a mirror is not listed while it is behind: a probe makes up for that, and the next sweep sees it.
        while {
            for volume in at.registry.all().iter().filter(|_| at.mirrored.is_some()) {
                volume.probe().await?;
            }
            let mut swept = at.sweeper.leftovers(SweepOptions::default()).await?;
            // What a mirror finds damaged on all members can be put nowhere, and stays until somebody removes it.
            if at.mirrored.is_some() {
                swept.add(&at.remover.leftovers(SweepOptions::default()).await?);
            }
            at.mirrored.is_some() && swept.orphans_removed + swept.orphans_quarantined > 0
        } {}
        while at.sweeper.reap_step().await?.completed_removed > 0 {}
        at.store.sync().await?;
        while at.sweeper.reap_step().await?.completed_removed > 0 {}
        at.store.settled().await?;
        let mut blobs: Vec<FileKey> = at.blobs().await?.into_iter().map(|blob| blob.key).collect();
        blobs.retain(|key| !published.contains(key));
        blobs.sort_unstable();
        let mut expected = Vec::new();
        for (key, file) in files {
            let location = at.pool.location(&at.tenants[file.tenant], &key).await?;
            let location = location.ok_or(Error::FileNotFound { key })?;
            expected.extend(location.volume_id.map(|_| key));
        }
        Ok::<_, Error>((blobs, expected))
    })?;
    let (blobs, expected) =
        tidied.map_err(|why| Violation::new(Kind::Unexpected, format!("nothing can be tidied: {why:?}")))?;
    ensure(blobs == expected, Kind::QuotaDrift, || {
        let extra: Vec<_> = blobs.iter().filter(|key| !expected.contains(key)).collect();
        let missing: Vec<_> = expected.iter().filter(|key| !blobs.contains(key)).collect();
        format!(
            "blobs on the volumes are not the files that rest there: {extra:?} too many, {missing:?} missing"
        )
    })?;
    uploads::check(world, engine, model)?;
    // Contents are read again now and then.
    let level = if live.len().is_multiple_of(4) { VerifyLevel::Contents } else { VerifyLevel::Counts };
    let at = engine.clone();
    let verified = world.run(engine, async move { at.store.verify(level, &|_| ()).await })?;
    let verified =
        verified.map_err(|why| Violation::new(Kind::Unexpected, format!("cannot be verified: {why:?}")))?;
    ensure(verified.findings.is_empty() && verified.unchecked == 0, Kind::QuotaDrift, || {
        format!("verification found {:?}, and left out {}", verified.findings, verified.unchecked)
    })?;
    ensure(verified.files == live.len() as u64, Kind::QuotaDrift, || {
        format!("verification saw {} files of {}", verified.files, live.len())
    })?;
    count(engine, model)
}

/// Counts and quotas.
fn count(engine: &Engine, model: &Model) -> Result<(), Violation> {
    let drift = |what: String, counted: u64, is: u64| {
        ensure(counted == is, Kind::QuotaDrift, || {
            format!("{counted} files are counted for {what}, not {is}")
        })
    };
    for (tenant, context) in engine.tenants.iter().enumerate() {
        let files = model.count(tenant);
        drift(
            format!("tenant {tenant}"),
            engine.store.usage(&Scope::Tenant(context.id().clone())).files,
            files,
        )?;
        let directories = (0..=DIRECTORIES).map(|number| {
            let directory = LogicalDir::parse(&directory_name(number)).expect("because it is a name");
            engine.store.usage(&Scope::Directory(context.id().clone(), directory)).files
        });
        drift(format!("the directories of tenant {tenant}"), directories.sum(), files)?;
    }
    let live = model.live().count() as u64;
    let counted = model.live().filter(|(_, file)| file.counts()).count() as u64;
    drift("all".to_owned(), engine.store.usage(&Scope::Global).files, counted)?;
    let dead: u64 = engine.store.counts().values().map(|counts| counts.dead_lettered).sum();
    drift("the dead letters".to_owned(), dead, live - counted)?;
    let on_volumes: u64 = engine.registry.all().iter().map(|volume| engine.store.files_on(volume.id())).sum();
    let statistics = engine.store.statistics();
    drift("all places".to_owned(), on_volumes + statistics.files_in_journal, live)?;
    ensure(statistics.files_in_journal > 0 || statistics.bytes_in_journal == 0, Kind::QuotaDrift, || {
        format!("{} bytes live in the journal that nobody needs", statistics.bytes_in_journal)
    })
}
