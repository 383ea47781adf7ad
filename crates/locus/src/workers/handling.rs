//! One file on its way through a handler.

use std::{any::Any, sync::Arc, time::Duration};

use locus_core::{BoxError, Error, FailOutcome, FileKey, Lease, Result};
use locus_storage::LeasedFile;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use crate::workers::{crew::Crew, file::WorkerFile};

/// How it ended.
#[derive(Debug)]
pub(super) enum End {
    Completed,
    Failed {
        last: bool,
    },
    /// Somebody else has the file, or it was reset or deleted.
    Lost,
    /// Given back because the workers stop.
    Released,
    /// The store could not say: the lease runs out by itself.
    Unknown(Error),
}

pub(super) struct Handling<'a> {
    crew: &'a Crew,
    key: FileKey,
    lease: Lease,
    /// When the lease is renewed next.
    renewal: Duration,
    /// The handler, in a task of its own: it may block its thread, and the lease is renewed all the same.
    task: AbortOnDropHandle<Result<(), BoxError>>,
}

/// What ended the handler.
enum Finish {
    Returned(Result<(), BoxError>),
    Panicked(String),
    LostLease,
    Stopped,
}

impl<'a> Handling<'a> {
    pub(super) fn new(crew: &'a Arc<Crew>, file: LeasedFile) -> Self {
        let (key, lease) = (file.key, file.lease.clone());
        let renewal = crew.next_renewal();
        let file = WorkerFile::new(file, crew.tools.pool.clone());
        let handlers = Arc::clone(crew);
        let task = tokio::spawn(async move { (handlers.handler)(file).await });
        Self { crew, key, lease, renewal, task: AbortOnDropHandle::new(task) }
    }

    pub(super) async fn run(mut self) -> End {
        let ended = match self.finish().await {
            Finish::Returned(Ok(())) => self.complete().await,
            Finish::Returned(Err(error)) => self.fail(&chain(&*error)).await,
            Finish::Panicked(message) => self.fail(&message).await,
            Finish::LostLease => Ok(End::Lost),
            Finish::Stopped => self.release().await,
        };
        match ended {
            Ok(End::Lost) | Err(Error::LeaseLost { .. }) => {
                warn!(tenant = %self.lease.tenant, key = %self.key, "lease lost while the file was processed");
                End::Lost
            }
            Ok(end) => end,
            Err(error) => End::Unknown(error),
        }
    }

    /// Waits for the handler and renews its lease meanwhile.
    async fn finish(&mut self) -> Finish {
        let clock = Arc::clone(&self.crew.tools.clock);
        loop {
            tokio::select! {
                biased;
                done = &mut self.task => return of_task(done).unwrap_or(Finish::Stopped),
                () = self.crew.stop.halt.cancelled() => return self.cancel().await.unwrap_or(Finish::Stopped),
                () = clock.sleep_until(self.renewal) => {}
            }
            self.renewal = self.crew.next_renewal();
            match self.crew.tools.scheduler.renew(&self.lease).await {
                Ok(renewed) => self.lease = renewed,
                Err(Error::LeaseLost { .. }) => return self.cancel().await.unwrap_or(Finish::LostLease),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(tenant = %self.lease.tenant, key = %self.key, error, "lease could not be renewed, tried again");
                }
            }
        }
    }

    /// Drops the handler at its next `.await`. It may have come to its end before.
    async fn cancel(&mut self) -> Option<Finish> {
        self.task.abort();
        of_task((&mut self.task).await)
    }

    async fn complete(&self) -> Result<End> {
        loop {
            match self.crew.tools.scheduler.complete(&self.lease).await {
                Ok(()) => return Ok(End::Completed),
                Err(error) => self.try_again(error).await?,
            }
        }
    }

    async fn fail(&self, message: &str) -> Result<End> {
        debug!(tenant = %self.lease.tenant, key = %self.key, error = message, "handler failed");
        loop {
            match self.crew.tools.scheduler.fail(&self.lease, message).await {
                Ok(outcome) => return Ok(End::Failed { last: outcome == FailOutcome::GivenUp }),
                Err(error) => self.try_again(error).await?,
            }
        }
    }

    async fn release(&self) -> Result<End> {
        self.crew.tools.scheduler.release(&self.lease).await?;
        Ok(End::Released)
    }

    /// A full disk may get room; the lease holds, or runs out, meanwhile.
    async fn try_again(&self, error: Error) -> Result<()> {
        if !error.is_full() || self.crew.stop.halt.is_cancelled() {
            return Err(error);
        }
        warn!(tenant = %self.lease.tenant, key = %self.key, error = &error as &dyn std::error::Error, "no room to end a lease, tried again");
        tokio::select! {
            () = self.crew.stop.halt.cancelled() => Err(error),
            () = self.crew.pause() => Ok(()),
        }
    }
}

/// How the task ended; `None` when it was dropped before its end.
fn of_task(done: Result<Result<(), BoxError>, JoinError>) -> Option<Finish> {
    match done {
        Ok(result) => Some(Finish::Returned(result)),
        Err(error) => {
            let panic = error.try_into_panic().ok()?;
            Some(Finish::Panicked(format!("handler panicked: {}", panic_text(&*panic))))
        }
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// An error with its causes, as one line.
fn chain(error: &(dyn std::error::Error + Send + Sync)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
