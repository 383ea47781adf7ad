//! Uploads to a share: a call that did not return in time may be at work still, long after somebody made it again. The volume
//! beneath keeps pieces apart, whoever waits for them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{BlobPath, Result, Staged};

use crate::{
    busy::{Busy, Claim},
    network::guard::{Guard, Work},
};

/// Takes the name of a blob for a call that makes it or takes it away: an earlier one may hang, and still do so later.
pub(crate) fn claim(guard: &Guard, busy: &Arc<Busy>, blob: &BlobPath) -> Result<Claim> {
    let hangs = || guard.unavailable("still has an earlier call that names the same blob");
    busy.claim(blob).ok_or_else(hangs)
}

#[derive(Debug)]
pub(crate) struct NetworkStaged {
    pub(crate) inner: Arc<dyn Staged>,
    pub(crate) guard: Arc<Guard>,
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
        self.once(|inner| Box::pin(async move { inner.write_at(offset, bytes).await })).await
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
