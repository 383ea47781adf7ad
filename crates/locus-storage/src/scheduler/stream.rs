//! Files as they come.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use locus_core::{Error, LeaseOptions, Result, TenantContext};

use super::{FileScheduler, LeasedFile};

type Waiting = Pin<Box<dyn Future<Output = Result<LeasedFile>> + Send>>;

/// The files of a tenant as they become ready, each leased when it is asked for.
///
/// It goes on for ever: an error is given out once and ends it, and so does the closing of the store, without an error.
///
/// # Cancel safety
/// A dropped stream leaves nothing leased but what it gave out.
pub struct FileStream {
    scheduler: FileScheduler,
    tenant: TenantContext,
    options: LeaseOptions,
    waiting: Option<Waiting>,
    ended: bool,
}

impl fmt::Debug for FileStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStream")
            .field("tenant", &self.tenant)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl FileStream {
    pub(super) const fn new(scheduler: FileScheduler, tenant: TenantContext, options: LeaseOptions) -> Self {
        Self { scheduler, tenant, options, waiting: None, ended: false }
    }

    /// The next file, waited for; `None` after the end.
    ///
    /// # Cancel safety
    /// A dropped future loses nothing: the next call goes on.
    pub async fn next(&mut self) -> Option<Result<LeasedFile>> {
        std::future::poll_fn(|context| Pin::new(&mut *self).poll_next(context)).await
    }
}

impl Stream for FileStream {
    type Item = Result<LeasedFile>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.get_mut();
        if stream.ended {
            return Poll::Ready(None);
        }
        let waiting = stream.waiting.get_or_insert_with(|| {
            let (scheduler, tenant) = (stream.scheduler.clone(), stream.tenant.clone());
            let options = stream.options.clone();
            Box::pin(async move { scheduler.wait_next(&tenant, &options).await })
        });
        let Poll::Ready(next) = waiting.as_mut().poll(context) else { return Poll::Pending };
        stream.waiting = None;
        stream.ended = next.is_err();
        Poll::Ready(match next {
            Err(Error::ShuttingDown) => None,
            next => Some(next),
        })
    }
}
