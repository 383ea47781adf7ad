//! A blob that the members are given from what lies on one of them.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use locus_core::{Area, Blob, BlobPath, Content, Durability, Result, Staged, StoredBlob, join_bounded};

use crate::{
    feed::{CHUNK_BYTES, Feed, feed},
    mirror::core::Core,
};

/// What is read piece by piece.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    Staged(&'a dyn Staged),
    Blob(&'a dyn Blob),
}

impl Source<'_> {
    async fn read_at(self, offset: u64, len: usize) -> Result<Bytes> {
        match self {
            Self::Staged(staged) => staged.read_at(offset, len).await,
            Self::Blob(blob) => blob.read_at(offset, len).await,
        }
    }
}

impl Core {
    /// A copy on a member says where it lies, so that each address has copies of its own.
    pub(crate) async fn copy(self: &Arc<Self>, at: &BlobPath, to: Area) -> Result<()> {
        let from = self.open_blob(at, 0..0).await?;
        self.write_from(&at.in_area(to), Source::Blob(&*from.blob)).await.map(drop)
    }

    /// Writes what is read from `source` to the members, durably.
    pub(crate) async fn write_from(
        self: &Arc<Self>,
        to: &BlobPath,
        source: Source<'_>,
    ) -> Result<StoredBlob> {
        enum Done {
            Pumped(Result<()>),
            Written(Result<StoredBlob>),
        }
        type Boxed<'a> = Pin<Box<dyn Future<Output = Done> + Send + 'a>>;
        let (feeding, ends) = feed(1);
        let mut running: Vec<Boxed<'_>> = vec![Box::pin(async { Done::Pumped(pump(source, feeding).await) })];
        for end in ends {
            running.push(Box::pin(async {
                let mut content = Content::reader(end);
                Done::Written(self.write(to, &mut content, Durability::Durable).await)
            }));
        }
        let (count, mut stored, mut pumped) = (running.len(), None, Ok(()));
        for done in join_bounded(running, count).await {
            match done {
                Done::Pumped(done) => pumped = done,
                Done::Written(done) => stored = Some(done),
            }
        }
        let unread = || self.unavailable("has nobody who copies what was put together");
        pumped.and(stored.unwrap_or_else(|| Err(unread()))) // who cannot be read made the write fail
    }
}

async fn pump(source: Source<'_>, mut feed: Feed) -> Result<()> {
    let mut at = 0_u64;
    loop {
        let chunk = source.read_at(at, CHUNK_BYTES).await?;
        at = at.saturating_add(chunk.len() as u64);
        let is_last = chunk.len() < CHUNK_BYTES;
        if !chunk.is_empty() && !feed.give(chunk).await {
            return Ok(()); // the writer failed, and says so
        }
        if is_last {
            feed.end().await;
            return Ok(());
        }
    }
}
