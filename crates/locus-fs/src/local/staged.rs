//! A blob that is put together from pieces under a name in the staging directory, over restarts.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{Area, BlobPath, Error, Extension, FileKey, Result, Site, Staged, Staging};

use crate::{
    disk::DiskFile,
    local::{
        blob,
        core::{Core, is_absent},
        draft::{self, Failed},
        in_flight::Claim,
    },
    synced::sync_data,
};

/// The open staging of one upload.
pub(crate) struct StagedBlob(Arc<Inner>);

struct Inner {
    core: Arc<Core>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.core.close_file(&self.file);
    }
}

impl fmt::Debug for StagedBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StagedBlob({})", self.0.path.display())
    }
}

impl StagedBlob {
    /// `claim` of what was published, when it is to be taken back.
    pub(crate) fn begin(
        core: &Arc<Core>,
        at: &BlobPath,
        how: Staging,
        _claim: Option<Claim>,
    ) -> Result<Self> {
        core.may_write()?;
        core.measure_when_old();
        let path = core.layout.upload(at);
        let file = match how {
            Staging::New => create(core, &path)?,
            Staging::Resume => core.open_there(&path, true)?,
            Staging::Published { key, extension } => {
                let blob = published(at, key, extension);
                unpublish(core, &core.layout.blob(&blob), &path)?
            }
        };
        Ok(Self(Arc::new(Inner { core: Arc::clone(core), path, file })))
    }

    /// The name that `begin` takes away.
    pub(crate) fn claim(core: &Core, at: &BlobPath, how: Staging) -> Result<Option<Claim>> {
        match how {
            Staging::New | Staging::Resume => Ok(None),
            Staging::Published { key, extension } => {
                core.claim_name(&published(at, key, extension)).map(Some)
            }
        }
    }
}

/// The blob that what is staged at `at` became.
fn published(at: &BlobPath, key: FileKey, extension: Extension) -> BlobPath {
    BlobPath { area: Area::Live, owner: at.owner.clone(), key, extension }
}

/// Makes an empty staging file, durable by name.
fn create(core: &Core, path: &Path) -> Result<Arc<dyn DiskFile>> {
    let created = match core.disk.create_new(path) {
        Err(error) if is_absent(&error) => {
            core.check_identity()?;
            core.create_staged(path)
        }
        created => created,
    };
    let file = created.map_err(|error| core.failed("create", path, 0, error))?;
    sync_name(core)?;
    Ok(file)
}

/// Takes the name of a blob away: it is staged at `path`, or was all the time.
fn unpublish(core: &Core, blob: &Path, path: &Path) -> Result<Arc<dyn DiskFile>> {
    match core.open_there(path, true) {
        Err(error) if error.is_absent() => {
            let renamed = match core.disk.rename_new(blob, path) {
                Err(error) if is_absent(&error) => {
                    core.check_identity()?;
                    core.make_staging_dir().and_then(|()| core.disk.rename_new(blob, path))
                }
                renamed => renamed,
            };
            renamed.map_err(|error| core.failed("unpublish", blob, 0, error))?;
            sync_name(core)?;
            core.open_there(path, true)
        }
        Ok(file) => match core.disk.remove_file(blob) {
            Err(error) if !is_absent(&error) => Err(Error::io("delete", blob)(error)),
            _ => Ok(file),
        },
        failed => failed,
    }
}

/// Makes the name of what is staged durable; the staging directory may have been made anew just now.
fn sync_name(core: &Core) -> Result<()> {
    core.sync_dir(&core.layout.staging_dir(), Site::StagedName)?;
    core.sync_dir(&core.layout.mount, Site::StagedName)
}

/// Removes what is staged. Its name may come back by a power cut before names are synced: whoever looks for stale staging
/// finds it then.
pub(crate) fn discard(core: &Core, at: &BlobPath) -> Result<bool> {
    core.may_be_used()?;
    let path = core.layout.upload(at);
    match core.disk.remove_file(&path) {
        Err(error) if is_absent(&error) => {
            core.check_identity()?;
            Ok(false)
        }
        removed => {
            removed.map_err(Error::io("delete", &path))?;
            core.unsynced.removed(&path, core.layout.staging_dir());
            core.measure_when_old();
            Ok(true)
        }
    }
}

#[async_trait]
impl Staged for StagedBlob {
    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let (core, inner) = (&self.0.core, Arc::clone(&self.0));
        let range = offset..offset.saturating_add(bytes.len() as u64);
        let Some(piece) = core.pieces.begin(&inner.path, range) else {
            return Err(core.unavailable("still has an earlier call that writes the same piece"));
        };
        core.write_hop(move |_| {
            let written = inner.write_at(offset, &bytes);
            drop(piece); // not before, also when nobody waits any more
            written
        })
        .await
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let inner = Arc::clone(&self.0);
        let range = offset..offset.saturating_add(len as u64);
        let read = self.0.core.read_hop(move |_| blob::read(&*inner.file, range)).await;
        read.map_err(Error::io("read", &self.0.path))
    }

    async fn sync(&self) -> Result<()> {
        let inner = Arc::clone(&self.0);
        self.0.core.write_hop(move |_| inner.sync()).await
    }

    async fn publish(&self, to: &BlobPath, length: u64) -> Result<()> {
        let (inner, to) = (Arc::clone(&self.0), to.clone());
        let claim = inner.core.claim_name(&to)?;
        self.0.core.write_hop(move |_| inner.publish(&to, length, claim)).await
    }
}

impl Inner {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.core.may_write()?;
        let after = offset.saturating_add(bytes.len() as u64);
        let written = self.file.write_at(bytes, offset);
        written.map_err(|error| self.core.failed("write", &self.path, after, error))?;
        self.core.gauge.wrote(bytes.len() as u64);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.core.may_write()?;
        let synced = sync_data(&*self.file, Site::StagedContent);
        synced.map_err(|error| self.core.poison(&self.path, error))?;
        self.core.may_write() // a sync that follows a failed one says nothing
    }

    fn publish(&self, at: &BlobPath, length: u64, _claim: Claim) -> Result<()> {
        let core = &self.core;
        core.may_write()?;
        let found = self.file.len().map_err(Error::io("measure", &self.path))?;
        if found != length {
            let why = format!("it has {found} bytes where {length} were confirmed");
            return Err(Error::Corrupt { place: self.path.display().to_string(), why: why.into() });
        }
        let to = core.layout.blob(at);
        match draft::give_name(core, &self.path, at, true) {
            // From here on the content is nowhere else: also when this sync fails it stays.
            Ok(dir) => core.sync_dir(&dir, Site::BlobName),
            Err(Failed::Disk(error)) => Err(core.failed("publish", &to, length, error)),
            Err(Failed::Volume(error)) => Err(error),
        }
    }
}
