//! A blob on its way in: staged, hashed, synced, published.

use std::{
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{BlobPath, Content, Durability, Error, Hasher, Result, Site, StoredBlob};

use crate::{
    disk::{DiskFile, EntryKind},
    door::may_block_here,
    local::{
        core::{CHUNK_BYTES, Core, is_absent},
        in_flight::Claim,
    },
    synced::sync_data,
};

/// A staged blob. Dropping it removes the staging, without blocking whoever drops it.
#[derive(Debug)]
pub(crate) struct Draft {
    core: Arc<Core>,
    at: BlobPath,
    durable: bool,
    /// Length as it was announced.
    announced: Option<u64>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    hasher: Box<Hasher>, // 2 KiB that need not move along
    length: u64,
    /// The staging name is gone.
    done: bool,
    names: Option<Names>,
}

/// The names that a write uses: that of its staging, and that which it gives in the end.
#[derive(Debug)]
pub(crate) struct Names {
    _staging: Claim,
    _blob: Claim,
}

impl Names {
    /// Claims them, before the first hop.
    pub(crate) fn claim(core: &Core, at: &BlobPath) -> Option<Self> {
        let staging = core.layout.staging(&at.key.to_string());
        Some(Self {
            _staging: core.in_flight.claim(&staging)?,
            _blob: core.in_flight.claim(&core.layout.blob(at))?,
        })
    }
}

impl Draft {
    /// Stages an empty blob.
    pub(crate) fn begin(
        core: &Arc<Core>,
        at: &BlobPath,
        announced: Option<u64>,
        how: Durability,
        names: Names,
    ) -> Result<Self> {
        core.may_write()?;
        core.measure_when_old();
        let path = core.layout.staging(&at.key.to_string());
        let file = create(core, &path).map_err(|failed| match failed {
            Failed::Disk(error) => core.failed("create", &path, announced.unwrap_or(0), error),
            Failed::Volume(error) => error,
        })?;
        Ok(Self {
            core: Arc::clone(core),
            at: at.clone(),
            durable: how == Durability::Durable,
            announced,
            path,
            file,
            hasher: Box::default(),
            length: 0,
            done: false,
            names: Some(names),
        })
    }

    /// Adds bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let after = self.length.saturating_add(bytes.len() as u64);
        self.file.write_at(bytes, self.length).map_err(|error| {
            let required = self.announced.unwrap_or(after).max(after);
            self.core.failed("write", &self.path, required, error)
        })?;
        self.hasher.update(bytes);
        self.length = after;
        self.core.gauge.wrote(bytes.len() as u64);
        Ok(())
    }

    /// Gives the blob its name. The order matters: content durable, then the name, then the name durable.
    pub(crate) fn publish(mut self) -> Result<StoredBlob> {
        if let Err(error) = self.try_publish() {
            self.discard();
            return Err(error);
        }
        Ok(StoredBlob { length: self.length, checksum: self.hasher.finish() })
    }

    fn try_publish(&mut self) -> Result<()> {
        let core = Arc::clone(&self.core);
        core.may_write()?;
        if self.durable {
            sync_data(&*self.file, Site::BlobContent).map_err(|error| core.poison(&self.path, error))?;
        }
        let dir = give_name(&core, &self.path, &self.at, self.durable).map_err(|failed| match failed {
            Failed::Disk(error) => core.failed("publish", &core.layout.blob(&self.at), self.length, error),
            Failed::Volume(error) => error,
        })?;
        self.done = true;
        let path = core.layout.blob(&self.at);
        if self.durable {
            return core.sync_dir(&dir, Site::BlobName).inspect_err(|_| core.unpublish(&path));
        }
        core.unsynced.add_blob(path, dir);
        Ok(())
    }

    /// Removes the staging now.
    pub(crate) fn discard(mut self) {
        if !mem::replace(&mut self.done, true) {
            remove(&self.core, &self.path, self.names.take());
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let (core, path, names) = (Arc::clone(&self.core), mem::take(&mut self.path), self.names.take());
        if !core.disk.blocks() || may_block_here() {
            remove(&core, &path, names);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Behind the gate: many drafts that are dropped on a disk that hangs do not take all threads.
            let file = Arc::clone(&self.file);
            drop(runtime.spawn(async move {
                core.write_hop(move |core| {
                    drop(file);
                    remove(core, &path, names);
                })
                .await;
            }));
        }
        // Elsewhere the staging stays, in nobody's flight, until it is tidied.
    }
}

/// The names are let go when the staging is gone.
fn remove(core: &Core, path: &Path, names: Option<Names>) {
    match core.disk.remove_file(path) {
        Err(error) if !is_absent(&error) => core.left_behind(path, &error),
        _ => {}
    }
    drop(names);
}

/// One step of a write: begins it when it has not begun, adds a piece, publishes after the last one.
pub(crate) fn step(
    core: &Arc<Core>,
    at: &BlobPath,
    how: Durability,
    so_far: SoFar,
    piece: &[u8],
    is_last: bool,
) -> Result<Progress> {
    let mut draft = match so_far {
        SoFar::Named(names) => Draft::begin(core, at, None, how, names)?,
        SoFar::Begun(draft) => draft,
    };
    if let Err(error) = core.may_write().and_then(|()| draft.push(piece)) {
        draft.discard();
        return Err(error);
    }
    if is_last { draft.publish().map(Progress::Done) } else { Ok(Progress::Open(SoFar::Begun(draft))) }
}

/// What there is of a write.
#[derive(Debug)]
pub(crate) enum SoFar {
    Named(Names),
    Begun(Draft),
}

/// Where a write stands.
#[derive(Debug)]
pub(crate) enum Progress {
    Open(SoFar),
    Done(StoredBlob),
}

/// Writes bytes that are in memory.
pub(crate) fn write_bytes(
    core: &Arc<Core>,
    at: &BlobPath,
    bytes: &[u8],
    how: Durability,
    names: Names,
) -> Result<StoredBlob> {
    let mut draft = Draft::begin(core, at, Some(bytes.len() as u64), how, names)?;
    match draft.push(bytes) {
        Ok(()) => draft.publish(),
        Err(error) => {
            draft.discard();
            Err(error)
        }
    }
}

/// Writes all of a source that blocks.
pub(crate) fn write_blocking(
    core: &Arc<Core>,
    at: &BlobPath,
    content: &mut Content,
    how: Durability,
    names: Names,
) -> Result<StoredBlob> {
    let announced = content.size_hint();
    let room = announced.and_then(|len| usize::try_from(len).ok()).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
    let mut chunk = Vec::with_capacity(room);
    let mut draft = Draft::begin(core, at, announced, how, names)?;
    loop {
        chunk.clear();
        let read = content.read_chunk_blocking(&mut chunk, CHUNK_BYTES);
        let pushed = read.map_err(|source| Error::Source { source }).and_then(|()| draft.push(&chunk));
        if let Err(error) = pushed {
            draft.discard();
            return Err(error);
        }
        if chunk.len() < CHUNK_BYTES {
            return draft.publish();
        }
    }
}

/// A failure that may be looked at, or one that is final.
pub(crate) enum Failed {
    Disk(io::Error),
    Volume(Error),
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Self {
        Self::Disk(error)
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Volume(error)
    }
}

/// Gives what is staged at `from` the name of a blob; that it has it is not durable yet. Gives the directory.
pub(crate) fn give_name(core: &Core, from: &Path, at: &BlobPath, durable: bool) -> Result<PathBuf, Failed> {
    name_by(core, at, durable, |to| core.disk.rename_new(from, to))
}

/// Makes the directories of a blob and then lets `give` give it its name. Gives the directory.
pub(crate) fn name_by(
    core: &Core,
    at: &BlobPath,
    durable: bool,
    give: impl Fn(&Path) -> io::Result<()>,
) -> Result<PathBuf, Failed> {
    let to = core.layout.blob(at);
    let name = || loop {
        let in_use = core.dirs.in_use(); // until the name is given
        match make_dirs(core, at, durable)? {
            Place::Ready(dir) => {
                give(&to)?;
                core.residue.lock().remove(&to); // an earlier one is gone
                return Ok(dir);
            }
            Place::Found(dir) => {
                drop(in_use);
                make_anew(core, &dir)?;
            }
        }
    };
    match name() {
        Err(Failed::Disk(error)) if is_absent(&error) => {
            // Somebody removed a directory that we remember, or the mount is gone.
            core.check_identity()?;
            core.dirs.forget(&core.layout.dirs(at));
            name()
        }
        other => other,
    }
}

/// Makes the staging file in place of one that an earlier write left. The name is claimed, so nobody uses that one.
fn create(core: &Core, path: &Path) -> Result<Arc<dyn DiskFile>, Failed> {
    match core.disk.create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            core.disk.remove_file(path)?;
            Ok(core.disk.create_new(path)?)
        }
        Err(error) if is_absent(&error) => {
            core.check_identity()?;
            Ok(core.create_staged(path)?)
        }
        other => Ok(other?),
    }
}

/// How far the directories of a blob are made.
enum Place {
    /// They are there; the one that holds it.
    Ready(PathBuf),
    /// This one was there, and this process has not made it.
    Found(PathBuf),
}

/// Makes the directories of a blob where they are missing; durable when `durable`.
fn make_dirs(core: &Core, at: &BlobPath, durable: bool) -> Result<Place, Failed> {
    let mut parent = core.layout.mount.clone();
    for dir in core.layout.dirs(at) {
        if !core.dirs.knows(&dir, durable) {
            if !make_dir(core, &dir)? && !core.dirs.is_made(&dir) {
                return Ok(Place::Found(dir));
            }
            core.dirs.made(&dir);
            if durable {
                let synced = core.sync_dir(&parent, Site::BlobDirectory);
                synced.inspect_err(|_| core.dirs.forget(std::slice::from_ref(&dir)))?;
            } else {
                core.unsynced.add_dir(parent);
            }
            core.dirs.learn(&dir, durable);
        }
        parent = dir;
    }
    Ok(Place::Ready(parent))
}

/// Makes an empty directory that was found once more: the sync of its name may have failed for whoever made it, and later
/// ones would say that all is well. One that holds something stays.
fn make_anew(core: &Core, dir: &Path) -> Result<(), Failed> {
    let _alone = core.dirs.alone();
    if core.dirs.is_made(dir) {
        return Ok(());
    }
    if core.disk.remove_dir(dir).is_ok() {
        make_dir(core, dir)?;
    }
    core.dirs.made(dir);
    Ok(())
}

/// Says whether it was made; it may have been there.
fn make_dir(core: &Core, dir: &Path) -> io::Result<bool> {
    match core.disk.create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // A link would lead out of the volume.
            match core.disk.metadata(dir)?.kind {
                EntryKind::Dir => Ok(false),
                EntryKind::File | EntryKind::Other => Err(io::ErrorKind::NotADirectory.into()),
            }
        }
        made => made.map(|()| true),
    }
}
