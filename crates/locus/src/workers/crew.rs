//! A crew: workers that share a handler and a source of files.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use locus_core::{BoxError, Error, ErrorKind, LeaseOptions, Result};
use locus_storage::LeasedFile;
use parking_lot::Mutex;
use tracing::{error, warn};

use crate::workers::{
    file::WorkerFile,
    handle::WorkSummary,
    handling::{End, Handling},
    source::{Source, Tools},
    stop::Stop,
};

/// How long a worker waits after an error that may pass, and how often one that waits for the queue to drain looks
/// whether somebody else drained it.
const PAUSE: Duration = Duration::from_secs(1);

/// What a handler's call gives.
pub(super) type Work = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The caller's handler.
pub(super) type Handler = Box<dyn Fn(WorkerFile) -> Work + Send + Sync>;

/// When a crew ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    Drained,
    Stopped,
}

pub(super) struct Crew {
    pub(super) tools: Tools,
    pub(super) stop: Stop,
    pub(super) handler: Handler,
    /// Time of each lease.
    ttl: Duration,
    source: Source,
    lease: LeaseOptions,
    until: Until,
    /// Workers that look for a file or have one: while there are any, a file may come back.
    busy: AtomicUsize,
    drained: AtomicBool,
    summary: Mutex<WorkSummary>,
    failure: Mutex<Option<Error>>,
}

impl fmt::Debug for Crew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crew")
            .field("source", &self.source)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

/// What a worker found when it looked.
enum Found {
    File(Box<LeasedFile>),
    Nothing,
    Stop,
}

impl Crew {
    pub(super) fn new(
        tools: Tools,
        source: Source,
        lease: LeaseOptions,
        until: Until,
        handler: Handler,
    ) -> Self {
        Self {
            stop: tools.stop.child(),
            ttl: lease.ttl.unwrap_or(tools.visibility_timeout),
            tools,
            handler,
            source,
            lease,
            until,
            busy: AtomicUsize::new(0),
            drained: AtomicBool::new(false),
            summary: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// One worker's life.
    pub(super) async fn work(self: Arc<Self>) {
        loop {
            self.busy.fetch_add(1, Ordering::SeqCst);
            let found = self.look().await;
            let worked = matches!(found, Found::File(_));
            if let Found::File(file) = found {
                self.process(*file).await;
            }
            // The last one that has nothing to do decides: nobody is left who could bring a file back.
            let idle = self.busy.fetch_sub(1, Ordering::SeqCst) == 1;
            if self.stop.drain.is_cancelled() {
                return;
            }
            if worked {
                continue;
            }
            if self.until == Until::Drained && idle && self.source.is_empty(&self.tools) {
                self.drained.store(true, Ordering::SeqCst);
                self.stop.drain.cancel();
                return;
            }
            self.wait().await;
        }
    }

    async fn look(&self) -> Found {
        let next = tokio::select! {
            biased;
            () = self.stop.drain.cancelled() => return Found::Stop,
            next = self.source.next(&self.tools, self.lease.clone()) => next,
        };
        match next {
            Ok(Some(file)) => Found::File(Box::new(file)),
            Ok(None) => Found::Nothing,
            Err(error) => self.met(error).await,
        }
    }

    /// Returns when looking again may help.
    async fn wait(&self) {
        let ready = tokio::select! {
            biased;
            () = self.stop.drain.cancelled() => return,
            ready = self.source.ready(&self.tools) => ready,
            // Somebody else may have taken the last file: nobody wakes us for that.
            () = self.pause(), if self.until == Until::Drained => return,
        };
        if let Err(error) = ready {
            self.met(error).await;
        }
    }

    /// Waits where an error passes, else ends the crew.
    async fn met(&self, error: Error) -> Found {
        let allowed = async {
            match &error {
                Error::TenantDisabled { .. } if self.until == Until::Stopped => {
                    self.source.until_allowed(&self.tools).await;
                    true
                }
                Error::TenantDisabled { .. } | Error::ShuttingDown => false,
                error if matches!(error.kind(), ErrorKind::Wait | ErrorKind::Retry) || error.is_full() => {
                    warn!(error = error as &dyn std::error::Error, "no file could be leased, tried again");
                    self.pause().await;
                    true
                }
                _ => false,
            }
        };
        let passes = tokio::select! {
            biased;
            () = self.stop.drain.cancelled() => return Found::Stop,
            passes = allowed => passes,
        };
        if passes {
            return Found::Nothing;
        }
        self.end_with(error);
        Found::Stop
    }

    /// Ends the crew because of an error; the first one is what the caller is told.
    fn end_with(&self, error: Error) {
        let mut failure = self.failure.lock();
        if failure.is_none() && !matches!((&error, self.until), (Error::ShuttingDown, Until::Stopped)) {
            *failure = Some(error);
        }
        self.stop.drain.cancel();
    }

    async fn process(self: &Arc<Self>, file: LeasedFile) {
        let end = Handling::new(self, file).run().await;
        let mut summary = self.summary.lock();
        match end {
            End::Completed => summary.completed += 1,
            End::Failed { last } => {
                summary.failed += 1;
                summary.given_up += u64::from(last);
            }
            End::Lost => summary.lost += 1,
            End::Released => summary.released += 1,
            End::Unknown(cause) => {
                drop(summary);
                error!(
                    error = &cause as &dyn std::error::Error,
                    "workers stopped: a file could not be ended"
                );
                self.end_with(cause);
            }
        }
    }

    /// A third of a lease's time from now.
    pub(super) fn next_renewal(&self) -> Duration {
        let third = (self.ttl / 3).max(Duration::from_millis(1));
        self.tools.clock.monotonic().saturating_add(third)
    }

    pub(super) async fn pause(&self) {
        self.tools.clock.sleep_until(self.tools.clock.monotonic().saturating_add(PAUSE)).await;
    }

    pub(super) fn summary(&self) -> WorkSummary {
        *self.summary.lock()
    }

    /// What the crew did, once it has ended.
    pub(super) fn outcome(&self) -> Result<WorkSummary> {
        if let Some(error) = self.failure.lock().take() {
            return Err(error);
        }
        if self.until == Until::Drained && !self.drained.load(Ordering::SeqCst) {
            return Err(Error::ShuttingDown);
        }
        Ok(self.summary())
    }
}
