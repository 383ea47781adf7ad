//! Backups of the tortured store: one that was confirmed is durable, one that was cut short says so.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use locus_core::Result;
use locus_fs::{Disk, EntryKind};
use locus_storage::{BackupContents, EmbeddedStore, FreshDir};
use locus_watcher::FileWatchers;

use crate::{
    violation::{Kind, Violation, ensure},
    world::{Engine, WATCHERS, World},
};

/// Where one lies. No two of them lie at the same place: what a removal left may come back.
pub(crate) fn place(number: u64) -> PathBuf {
    PathBuf::from(format!("/copy-{number}"))
}

/// A backup that was taken in this life, or begun.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) number: u64,
    /// Its files, when it was confirmed.
    pub(crate) confirmed: Option<BTreeMap<PathBuf, blake3::Hash>>,
}

/// How long a marker is (docs/format.md).
const MARKER_BYTES: usize = 512;

/// Takes a backup.
pub(crate) async fn take(engine: &Engine, number: u64) -> Result<()> {
    let dir = place(number);
    let into = FreshDir::begin(engine.disk.clone(), &dir)?;
    engine.store.backup(&into, BackupContents::Copy).await?;
    engine.directory.copy_to(&dir.join("tenants"))?;
    if engine.inbox.is_some() {
        FileWatchers::copy(&*engine.disk, Path::new(WATCHERS), &dir.join("watchers"))?;
    }
    into.finish()
}

/// Every file of a copy, by a hash of its bytes.
pub(crate) fn look(world: &World, number: u64) -> BTreeMap<PathBuf, blake3::Hash> {
    let mut found = BTreeMap::new();
    let _ = walk(&*world.disk, &place(number), &mut |path, bytes| {
        // What a volume was about to write, and is swept when it is mounted.
        if path.components().any(|part| part.as_os_str() == ".staging") {
            return;
        }
        // Behind a marker stands who used it last, for people only.
        let bytes =
            if path.ends_with(".locus-volume") { &bytes[..MARKER_BYTES.min(bytes.len())] } else { bytes };
        found.insert(path.to_owned(), blake3::hash(bytes));
    });
    found
}

/// After a crash: a confirmed copy is as it was, and what looks finished is a store.
pub(crate) fn check(world: &World, taken: Taken) -> Result<(), Violation> {
    let dir = place(taken.number);
    let now = look(world, taken.number);
    if let Some(confirmed) = taken.confirmed {
        let other = confirmed.iter().find(|(path, hash)| now.get(*path) != Some(hash)).map(|(path, _)| path);
        let extra = now.keys().find(|path| !confirmed.contains_key(*path));
        ensure(other.is_none() && extra.is_none(), Kind::Lost, || {
            format!("a confirmed backup is not what it was: {other:?} is gone or other, {extra:?} is new")
        })?;
    } else if now.keys().any(|path| path.starts_with(dir.join("journal")))
        && !now.contains_key(&dir.join("UNFINISHED"))
    {
        EmbeddedStore::inspect(&dir, &*world.disk).map_err(|why| {
            Violation::new(Kind::Lost, format!("a backup that looks finished cannot be read: {why:?}"))
        })?;
    }
    remove(&*world.disk, &dir)
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
