//! Uploads to a mirror: put together on one member, copied to all when they are published.
//!
//! So a piece that was confirmed rests on one member until the upload is finished: while that one is away the upload waits,
//! and only what was finished has as many copies as the mirror promises.

use std::{io::ErrorKind, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{
    Area, Blob, BlobPage, BlobPath, BlobReader, Cursor, Error, Result, Staged, Staging, StorageVolume,
};

use crate::mirror::{copy::Source, core::Core, listing::Place, member::Member};

#[derive(Debug)]
pub(crate) struct MirrorStaged {
    core: Arc<Core>,
    at: BlobPath,
    member: Arc<dyn StorageVolume>,
    inner: Arc<dyn Staged>,
}

impl Core {
    pub(crate) async fn stage(self: &Arc<Self>, at: &BlobPath, how: Staging) -> Result<Arc<dyn Staged>> {
        self.may_be_used()?;
        self.may_address(at)?;
        let (member, inner) = match how {
            Staging::New => self.begin(at).await?,
            Staging::Resume => self.resume(at, true).await?,
            Staging::Published { key, extension } => {
                let to = BlobPath { area: Area::Live, owner: at.owner.clone(), key, extension };
                match self.resume(at, false).await {
                    // What was staged was discarded when the copies were durable, and not before.
                    Err(error) if error.is_absent() => return Ok(Arc::new(self.published(to).await?)),
                    found => {
                        let found = found?;
                        self.delete(&to).await?;
                        found
                    }
                }
            }
        };
        Ok(Arc::new(MirrorStaged { core: Arc::clone(self), at: at.clone(), member, inner }))
    }

    /// The first member that takes it.
    async fn begin(&self, at: &BlobPath) -> Result<(Arc<dyn StorageVolume>, Arc<dyn Staged>)> {
        let mut failed = None;
        for member in self.members.iter().filter_map(Member::writable) {
            match member.stage(at, Staging::New).await {
                Ok(inner) => return Ok((member, inner)),
                Err(error) if error.is_taken() => return Err(error),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let why = || self.status().why.unwrap_or("has no member that can be written".into());
        Err(failed.unwrap_or_else(|| self.unavailable(why())))
    }

    async fn published(self: &Arc<Self>, to: BlobPath) -> Result<MirrorPublished> {
        let BlobReader { length, blob, .. } = self.open_blob(&to, 0..0).await?;
        Ok(MirrorPublished { core: Arc::clone(self), to, length, blob })
    }

    /// The member that has it. One that has it empty may have failed to say that it made the place, and another one was asked
    /// then: it counts only when nobody has more, and `may_be_empty`.
    async fn resume(
        &self,
        at: &BlobPath,
        may_be_empty: bool,
    ) -> Result<(Arc<dyn StorageVolume>, Arc<dyn Staged>)> {
        let (mut failed, mut empty) = (None, None);
        for (_, member) in self.up() {
            let opened = async {
                let inner = member.stage(at, Staging::Resume).await?;
                let is_empty = inner.read_at(0, 1).await?.is_empty();
                Ok((inner, is_empty))
            };
            match opened.await {
                Ok((inner, false)) => return Ok((member, inner)),
                Ok((inner, true)) => empty = Some((member, inner)),
                Err(error) if Error::is_absent(&error) => {}
                Err(error) => failed = Some(error),
            }
        }
        match (failed, empty) {
            (Some(error), _) => Err(error),
            _ if self.up().len() < self.members.len() => {
                Err(self.unavailable("may be putting it together on a member that is away"))
            }
            (None, Some(empty)) if may_be_empty => Ok(empty),
            _ => Err(Error::io("open", at.to_string())(ErrorKind::NotFound.into())),
        }
    }

    /// Pages of one member after the other. What is staged on one that is away is found when it is back.
    pub(crate) async fn staged(&self, from: Option<&Cursor>, limit: usize) -> Result<BlobPage> {
        self.may_be_used()?;
        let place = from.map_or(Ok(Place::default()), |from| Place::decode(from, self.members.len()))?;
        let Some((place, volume)) = self.up_from(place) else { return Ok(BlobPage::default()) };
        let mut page = volume.staged(place.from.as_ref(), limit).await?;
        page.next = self.go_on(place, page.next);
        Ok(page)
    }

    pub(crate) async fn discard(&self, at: &BlobPath) -> Result<bool> {
        self.may_be_used()?;
        self.may_address(at)?;
        let mut was_there = false;
        // One that is away is looked through when it is back, as for any other stale staging.
        for (_, volume) in self.up() {
            was_there |= volume.discard(at).await?;
        }
        Ok(was_there)
    }
}

#[async_trait]
impl Staged for MirrorStaged {
    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        self.core.may_be_used()?;
        self.inner.write_at(offset, bytes).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.inner.read_at(offset, len).await
    }

    async fn sync(&self) -> Result<()> {
        self.core.may_be_used()?;
        self.inner.sync().await
    }

    async fn publish(&self, to: &BlobPath, length: u64) -> Result<()> {
        let stored = self.core.write_from(to, Source::Staged(&*self.inner)).await?.length;
        if stored != length {
            self.core.delete(to).await?;
            let why = format!("it has {stored} bytes where {length} were confirmed");
            return Err(Error::Corrupt { place: self.at.to_string(), why: why.into() });
        }
        self.member.discard(&self.at).await.map(drop)
    }
}

/// What has its copies already.
#[derive(Debug)]
struct MirrorPublished {
    core: Arc<Core>,
    to: BlobPath,
    length: u64,
    blob: Arc<dyn Blob>,
}

#[async_trait]
impl Staged for MirrorPublished {
    async fn write_at(&self, _: u64, _: Bytes) -> Result<()> {
        Err(Error::InvalidArgument { name: "offset", why: "leads into what is published" })
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.blob.read_at(offset, len).await
    }

    async fn sync(&self) -> Result<()> {
        self.core.may_be_used()
    }

    async fn publish(&self, to: &BlobPath, length: u64) -> Result<()> {
        if *to != self.to || length != self.length {
            let why = format!("it is published as {} with {} bytes", self.to, self.length);
            return Err(Error::Corrupt { place: to.to_string(), why: why.into() });
        }
        self.core.sync_blob(to).await
    }
}
