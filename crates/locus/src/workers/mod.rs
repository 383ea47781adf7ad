//! Workers: a handler of the caller's, run for each file, with its lease looked after.

mod crew;
mod file;
mod handle;
mod handling;
mod source;
mod stop;

use std::{future::Future, sync::Arc, time::Duration};

use locus_core::{BoxError, Error, LeaseOptions, Result};

pub(crate) use source::{Source, Tools};
pub(crate) use stop::Stop;

pub use file::WorkerFile;
pub use handle::{WorkSummary, WorkerHandle};

use crew::{Crew, Until};

/// Runs a handler for files, several at a time. Made by [`Locus::workers`](crate::Locus::workers) for one tenant and by
/// [`Locus::workers_any`](crate::Locus::workers_any) for all.
///
/// While a handler runs, its lease is renewed at each third of its time. A handler that returns `Ok` completes its
/// file; one that returns an error or panics fails it, with its message. A handler whose lease is lost is dropped at its
/// next `.await`.
///
/// ```
/// # use locus::prelude::*;
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// # let locus = Locus::builder().data_dir(temp.path()).add_tenant("acme").build().await?;
/// let acme = locus.tenants().get("acme").await?;
/// let done = locus
///     .workers(&acme)
///     .concurrency(8)
///     .run_until_drained(|file: WorkerFile| async move {
///         println!("{} bytes", file.bytes().await?.len());
///         Ok(())
///     })
///     .await?;
/// assert_eq!(done.completed, 0);
/// # locus.shutdown().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "workers do nothing until they are run"]
pub struct Workers {
    tools: Tools,
    source: Source,
    concurrency: usize,
    lease: LeaseOptions,
    drain_timeout: Duration,
}

impl Workers {
    pub(crate) fn new(tools: Tools, source: Source) -> Self {
        let (concurrency, drain_timeout) = (tools.settings.concurrency, tools.settings.drain_timeout);
        Self { tools, source, concurrency, lease: LeaseOptions::new().name("worker"), drain_timeout }
    }

    /// Files processed at the same time. Default `workers.concurrency` of the settings, 8.
    pub fn concurrency(mut self, files: usize) -> Self {
        self.concurrency = files;
        self
    }

    /// How long a lease lasts unless it is renewed. Default the store's visibility timeout.
    pub fn lease_time(mut self, ttl: Duration) -> Self {
        self.lease = self.lease.ttl(ttl);
        self
    }

    /// What is shown as `processing_by`. Default `worker`.
    pub fn name(mut self, name: impl Into<Arc<str>>) -> Self {
        self.lease = self.lease.name(name);
        self
    }

    /// How long handlers that run are waited for when the workers are stopped; then they are dropped and their files
    /// released. Default `workers.drain_timeout` of the settings, 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Processes files until the queue is drained: none of the tenant is pending, delayed ones included, and none is in
    /// the hands of these workers. Files that somebody else leased are not waited for; files on a volume that is
    /// unavailable are. For all tenants: of those that are enabled.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a concurrency of 0; [`Error::TenantDisabled`] and [`Error::TenantNotFound`];
    /// [`Error::ShuttingDown`] when the store is closed first; what stopped the store, such as [`Error::Poisoned`].
    /// Files in hand were ended or released before an error returns.
    ///
    /// # Cancel safety
    /// When the future is dropped, the handlers are dropped and their files released in the background.
    pub async fn run_until_drained<H, F>(self, handler: H) -> Result<WorkSummary>
    where
        H: Fn(WorkerFile) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.start(handler, Until::Drained)?.join().await
    }

    /// Processes files until the store is closed. While the tenant is disabled or suspended it waits.
    ///
    /// # Errors
    /// As [`run_until_drained`](Self::run_until_drained), without those about the tenant's status and about closing.
    ///
    /// # Cancel safety
    /// As [`run_until_drained`](Self::run_until_drained).
    pub async fn run<H, F>(self, handler: H) -> Result<WorkSummary>
    where
        H: Fn(WorkerFile) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.start(handler, Until::Stopped)?.join().await
    }

    /// [`run`](Self::run) in the background, until [`WorkerHandle::stop`] or the store is closed.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a concurrency of 0; [`Error::TooLarge`] for a name over 128 bytes;
    /// [`Error::ShuttingDown`].
    pub fn spawn<H, F>(self, handler: H) -> Result<WorkerHandle>
    where
        H: Fn(WorkerFile) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        self.start(handler, Until::Stopped)
    }

    fn start<H, F>(self, handler: H, until: Until) -> Result<WorkerHandle>
    where
        H: Fn(WorkerFile) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        if self.concurrency == 0 {
            return Err(Error::InvalidArgument { name: "concurrency", why: "must be at least 1" });
        }
        self.lease.check()?;
        if !self.tools.gate.is_open() {
            return Err(Error::ShuttingDown);
        }
        let crew = Crew::new(
            self.tools,
            self.source,
            self.lease,
            until,
            Box::new(move |file| Box::pin(handler(file))),
        );
        Ok(WorkerHandle::start(Arc::new(crew), self.concurrency, self.drain_timeout))
    }
}
