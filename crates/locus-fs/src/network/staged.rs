//! Uploads to a share: a call that did not return in time may be at work still, long after somebody made it again. The volume
//! beneath keeps pieces apart, whoever waits for them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{BlobPath, Result, Staged};

use crate::network::guard::{Guard, Work, named};

#[derive(Debug)]
pub(crate) struct NetworkStaged {
    pub(crate) inner: Arc<dyn Staged>,
    pub(crate) guard: Arc<Guard>,
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
        let (to, claim) = (to.clone(), self.guard.claim(to)?);
        self.once(|inner| named(Some(claim), Box::pin(async move { inner.publish(&to, length).await }))).await
    }
}
