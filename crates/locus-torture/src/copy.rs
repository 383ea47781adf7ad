//! Backups of the tortured store: one that was confirmed is durable, one that was cut short says so.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use locus_core::{Error, Result};
use locus_fs::{Disk, EntryKind};
use locus_storage::{BackupContents, EmbeddedStore, FreshDir};

use crate::{
    violation::{Kind, Violation, ensure},
    world::{Engine, World},
};

/// Where it lies.
pub(crate) const COPY: &str = "/copy";

/// How long a marker is (docs/format.md).
const MARKER_BYTES: usize = 512;

/// Takes a backup in place of the one before.
pub(crate) async fn take(engine: &Engine) -> Result<()> {
    let dir = Path::new(COPY);
    remove(&*engine.disk, dir).map_err(Error::io("remove", dir))?;
    let into = FreshDir::begin(engine.disk.clone(), dir)?;
    engine.store.backup(&into, BackupContents::Copy).await?;
    engine.directory.copy_to(&dir.join("tenants"))?;
    into.finish()
}

/// Every file of the copy, by a hash of its bytes.
pub(crate) fn look(world: &World) -> BTreeMap<PathBuf, blake3::Hash> {
    let mut found = BTreeMap::new();
    let _ = walk(&*world.disk, Path::new(COPY), &mut |path, bytes| {
        // Behind a marker stands who used it last, for people only.
        let bytes =
            if path.ends_with(".locus-volume") { &bytes[..MARKER_BYTES.min(bytes.len())] } else { bytes };
        found.insert(path.to_owned(), blake3::hash(bytes));
    });
    found
}

/// After a crash: a confirmed copy is as it was, and what looks finished is a store.
pub(crate) fn check(
    world: &World,
    confirmed: Option<BTreeMap<PathBuf, blake3::Hash>>,
) -> Result<(), Violation> {
    let dir = Path::new(COPY);
    let now = look(world);
    if let Some(confirmed) = confirmed {
        let other = confirmed.iter().find(|(path, hash)| now.get(*path) != Some(hash)).map(|(path, _)| path);
        let extra = now.keys().find(|path| !confirmed.contains_key(*path));
        return ensure(other.is_none() && extra.is_none(), Kind::Lost, || {
            format!("a confirmed backup is not what it was: {other:?} is gone or other, {extra:?} is new")
        });
    }
    let looks_finished = now.keys().any(|path| path.starts_with(dir.join("journal")))
        && !now.contains_key(&dir.join("UNFINISHED"));
    if looks_finished {
        EmbeddedStore::inspect(dir, &*world.disk).map_err(|why| {
            Violation::new(Kind::Lost, format!("a backup that looks finished cannot be read: {why:?}"))
        })?;
    }
    remove(&*world.disk, dir)
        .map_err(|why| Violation::new(Kind::Unexpected, format!("a backup cannot be removed: {why}")))
}

fn walk(disk: &dyn Disk, dir: &Path, visit: &mut dyn FnMut(&Path, &[u8])) -> io::Result<()> {
    for entry in disk.read_dir(dir)? {
        let entry = entry?;
        let path = dir.join(&entry.name);
        if entry.kind == EntryKind::Dir {
            walk(disk, &path, visit)?;
        } else {
            let file = disk.open(&path, false)?;
            let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0)];
            file.read_at(&mut bytes, 0)?;
            visit(&path, &bytes);
        }
    }
    Ok(())
}

fn remove(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let entries = match disk.read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = dir.join(&entry.name);
        if entry.kind == EntryKind::Dir {
            remove(disk, &path)?;
        } else {
            disk.remove_file(&path)?;
        }
    }
    disk.remove_dir(dir)
}
