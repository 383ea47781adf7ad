//! Uploads to a share: a piece whose call did not return in time may be written still, long after somebody sent it again.

use std::{collections::HashMap, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{BlobPath, Result, Staged};
use parking_lot::Mutex;

use crate::{
    busy::{Busy, Claim},
    network::guard::{Guard, Work},
};

/// The pieces that are being written now, those that nobody waits for any more among them.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Mutex<HashMap<BlobPath, Vec<Range<u64>>>>);

/// A piece that is being written, until this is dropped.
struct Piece {
    all: Arc<Pieces>,
    at: BlobPath,
    range: Range<u64>,
}

impl Pieces {
    /// `None` while an earlier call writes there.
    fn begin(self: &Arc<Self>, at: &BlobPath, range: Range<u64>) -> Option<Piece> {
        let mut all = self.0.lock();
        let pieces = all.entry(at.clone()).or_default();
        let overlaps = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        if pieces.iter().any(overlaps) {
            return None;
        }
        pieces.push(range.clone());
        Some(Piece { all: Arc::clone(self), at: at.clone(), range })
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        let Some(pieces) = all.get_mut(&self.at) else { return };
        if let Some(mine) = pieces.iter().position(|range| *range == self.range) {
            pieces.swap_remove(mine);
        }
        if pieces.is_empty() {
            all.remove(&self.at);
        }
    }
}

/// Takes the name of a blob for a call that makes it or takes it away: an earlier one may hang, and still do so later.
pub(crate) fn claim(guard: &Guard, busy: &Arc<Busy>, blob: &BlobPath) -> Result<Claim> {
    let hangs = || guard.unavailable("still has an earlier call that names the same blob");
    busy.claim(blob).ok_or_else(hangs)
}

#[derive(Debug)]
pub(crate) struct NetworkStaged {
    pub(crate) inner: Arc<dyn Staged>,
    pub(crate) at: BlobPath,
    pub(crate) guard: Arc<Guard>,
    pub(crate) pieces: Arc<Pieces>,
    /// Names of blobs that a call makes or takes away.
    pub(crate) busy: Arc<Busy>,
}

impl NetworkStaged {
    async fn once<T: Send + 'static>(
        &self,
        call: impl FnOnce(Arc<dyn Staged>) -> Work<Result<T>>,
    ) -> Result<T> {
        self.guard.may_ask()?;
        let done = self.guard.run(call(Arc::clone(&self.inner)), None).await;
        self.guard.learn(&done);
        done
    }
}

#[async_trait]
impl Staged for NetworkStaged {
    async fn write_at(&self, offset: u64, bytes: Bytes) -> Result<()> {
        let range = offset..offset.saturating_add(bytes.len() as u64);
        let Some(piece) = self.pieces.begin(&self.at, range) else {
            return Err(self.guard.unavailable("still has an earlier call that writes the same piece"));
        };
        self.once(|inner| {
            Box::pin(async move {
                let written = inner.write_at(offset, bytes).await;
                drop(piece); // not before, also when nobody waits any more
                written
            })
        })
        .await
    }

    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        self.once(|inner| Box::pin(async move { inner.read_at(offset, len).await })).await
    }

    async fn sync(&self) -> Result<()> {
        self.once(|inner| Box::pin(async move { inner.sync().await })).await
    }

    async fn publish(&self, to: &BlobPath, length: u64) -> Result<()> {
        let (to, claim) = (to.clone(), claim(&self.guard, &self.busy, to)?);
        self.once(|inner| {
            Box::pin(async move {
                let published = inner.publish(&to, length).await;
                drop(claim); // not before, also when nobody waits any more
                published
            })
        })
        .await
    }
}
