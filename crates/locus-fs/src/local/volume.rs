//! An open local volume.

use std::{
    io, mem,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use locus_core::{
    Area, BlobPage, BlobPath, BlobReader, Content, Cursor, Durability, Error, Result, Staged, Staging,
    StoragePath, StorageVolume, StoredBlob, Tidy, TidyReport, VolumeId, VolumeStatus,
};

use crate::{
    local::{
        copy,
        core::{CHUNK_BYTES, Core},
        draft::{self, Names, Progress, SoFar},
        listing,
        staged::{self, StagedBlob},
        tidy,
        unsynced::{Batch, Unsynced},
    },
    lost::Lost,
};

/// A mounted directory of a local file system; [`LocalVolume`](crate::LocalVolume) describes one. Its lock is held
/// until it is closed or dropped.
///
/// A failed sync ends its life as a place for new content: it refuses writes until it is opened again, and what it
/// holds can still be read and deleted.
#[derive(Debug)]
pub struct OpenLocalVolume {
    core: Arc<Core>,
}

impl OpenLocalVolume {
    pub(crate) fn new(core: Core) -> Self {
        Self { core: Arc::new(core) }
    }

    /// A source that waits: a hop for each chunk, the only one for a short source.
    async fn write_stream(
        &self,
        at: &BlobPath,
        content: &mut Content,
        how: Durability,
        names: Names,
    ) -> Result<StoredBlob> {
        let mut open = SoFar::Named(names);
        let mut chunk = Vec::new();
        loop {
            chunk.clear();
            if let Err(source) = content.read_chunk(&mut chunk, CHUNK_BYTES).await {
                if let SoFar::Begun(draft) = open {
                    self.core.write_hop(move |_| draft.discard()).await;
                }
                return Err(Error::Source { source });
            }
            let is_last = chunk.len() < CHUNK_BYTES;
            let (at, piece) = (at.clone(), mem::take(&mut chunk));
            let stepped = self.core.write_hop(move |core| {
                draft::step(core, &at, how, open, &piece, is_last).map(|progress| (progress, piece))
            });
            match stepped.await? {
                (Progress::Done(stored), _) => return Ok(stored),
                (Progress::Open(so_far), piece) => (open, chunk) = (so_far, piece),
            }
        }
    }

    async fn sync_what(&self, take: fn(&Unsynced) -> Batch) -> Result<()> {
        let turn = Arc::clone(&self.core.gates.sync).lock_owned().await;
        self.core.write_hop(move |core| core.sync(take, turn)).await
    }
}

#[async_trait]
impl StorageVolume for OpenLocalVolume {
    fn id(&self) -> &VolumeId {
        &self.core.id
    }

    fn mount_path(&self) -> Option<&Path> {
        Some(&self.core.layout.mount)
    }

    fn local_path(&self, at: &BlobPath) -> Option<PathBuf> {
        Some(self.core.layout.blob(at))
    }

    fn status(&self) -> VolumeStatus {
        self.core.gauge.status()
    }

    async fn probe(&self) -> Result<VolumeStatus> {
        self.core.probe_hop().await
    }

    /// # Cancel safety
    /// As the trait says. Content from a file is lent to the work while it runs: when this future is dropped, the
    /// caller's [`Content`] is lost and says so when it is read.
    async fn write(&self, at: &BlobPath, content: &mut Content, how: Durability) -> Result<StoredBlob> {
        self.core.may_write()?;
        content.mark().await.map_err(|source| Error::Source { source })?;
        let taken = || Error::io("write", self.core.layout.blob(at))(io::ErrorKind::AlreadyExists.into());
        let names = Names::claim(&self.core, at).ok_or_else(taken)?;
        let to = at.clone();
        if let Some(bytes) = content.as_bytes().cloned() {
            return self.core.write_hop(move |core| draft::write_bytes(core, &to, &bytes, how, names)).await;
        }
        if content.is_blocking() {
            let mut lent = mem::replace(content, Content::reader(Lost));
            let (lent, stored) = self
                .core
                .write_hop(move |core| {
                    let stored = draft::write_blocking(core, &to, &mut lent, how, names);
                    (lent, stored)
                })
                .await;
            *content = lent;
            return stored;
        }
        self.write_stream(at, content, how, names).await
    }

    async fn stage(&self, at: &BlobPath, how: Staging) -> Result<Arc<dyn Staged>> {
        let (at, claim) = (at.clone(), StagedBlob::claim(&self.core, at, how)?);
        let staged = self.core.write_hop(move |core| StagedBlob::begin(core, &at, how, claim)).await?;
        Ok(Arc::new(staged))
    }

    async fn staged(&self, from: Option<&Cursor>, limit: usize) -> Result<BlobPage> {
        let from = from.cloned();
        self.core
            .read_hop(move |core| {
                core.may_be_used()?;
                core.check_identity()?;
                listing::staged(&*core.disk, &core.layout, from.as_ref(), limit)
            })
            .await
    }

    async fn discard(&self, at: &BlobPath) -> Result<bool> {
        let at = at.clone();
        self.core.write_hop(move |core| staged::discard(core, &at)).await
    }

    async fn copy(&self, at: &BlobPath, to: Area) -> Result<()> {
        let (at, to) = (at.clone(), at.in_area(to));
        let names = Names::claim(&self.core, &to).ok_or_else(|| self.core.still_named())?;
        self.core.write_hop(move |core| copy::copy(core, &at, &to, names)).await
    }

    async fn open(&self, at: &BlobPath, expected: Range<u64>) -> Result<BlobReader> {
        let at = at.clone();
        self.core.read_hop(move |core| core.open(&at, expected)).await
    }

    async fn delete(&self, at: &BlobPath) -> Result<bool> {
        let (at, claim) = (at.clone(), self.core.claim_name(at)?);
        self.core.write_hop(move |core| core.delete(&at, claim)).await
    }

    async fn sync(&self) -> Result<()> {
        self.sync_what(Unsynced::take).await
    }

    async fn sync_blob(&self, at: &BlobPath) -> Result<()> {
        let at = at.clone();
        self.core.write_hop(move |core| core.sync_blob(&at)).await
    }

    async fn sync_names(&self) -> Result<()> {
        self.sync_what(Unsynced::take_removals).await
    }

    async fn list(
        &self,
        under: Option<&StoragePath>,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<BlobPage> {
        let (under, from) = (under.cloned(), from.cloned());
        self.core
            .read_hop(move |core| {
                core.may_be_used()?;
                core.check_identity()?; // an empty mount point is not an empty volume
                listing::page(&*core.disk, &core.layout, under.as_ref(), from.as_ref(), limit)
            })
            .await
    }

    async fn tidy(&self, what: Tidy) -> Result<TidyReport> {
        self.core
            .write_hop(move |core| match &what {
                Tidy::StaleStaging => core.remove_stale_staging(false),
                Tidy::CountStaleStaging => core.remove_stale_staging(true),
                Tidy::EmptyDirectories(sweep) => tidy::empty_dirs(core, sweep),
                Tidy::Junk(sweep) => tidy::junk(core, sweep),
                _ => Ok(TidyReport::default()),
            })
            .await
    }

    async fn close(&self) -> Result<()> {
        self.core.gauge.close();
        self.core.quiet().await;
        drop(self.core.lock.lock().take());
        self.core.disk.let_go();
        Ok(())
    }
}
