//! What every call of a share goes through: a thread of its own, a deadline, a bound on how many there are.
//!
//! A call into a share that hangs cannot be taken back. So it runs on a thread that nobody has to wait for, neither the
//! caller nor the runtime that ends; when its answer comes after all, nobody is there to take it, and what it did is
//! undone there.

use std::{
    borrow::Cow,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use locus_core::{BlobPath, Clock, Error, Result, VolumeId, in_time};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tracing::{info, warn};

use crate::{
    busy::{Busy, Claim},
    door::let_this_thread_block,
    network::health::{Health, Manners},
};

/// Work that has a name until it ends, whoever waits for it.
pub(crate) fn named<T: Send + 'static>(claim: Option<Claim>, work: Work<Result<T>>) -> Work<Result<T>> {
    Box::pin(async move {
        let done = work.await;
        drop(claim);
        done
    })
}

/// Work on its way to a thread.
pub(crate) type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) id: VolumeId,
    pub(crate) clock: Arc<dyn Clock>,
    /// Whether the disk blocks; else all is done here and now.
    pub(crate) blocks: bool,
    pub(crate) timeout: Duration,
    pub(crate) manners: Manners,
    stuck_max: usize,
    /// One for each thread.
    threads: Arc<Semaphore>,
    /// Threads whose answer nobody waits for any more.
    stuck: Arc<AtomicUsize>,
    health: Mutex<Health>,
    /// Names of blobs that calls under way give or take, also calls that were given up and have not ended.
    busy: Arc<Busy>,
}

impl Guard {
    pub(crate) fn new(
        id: VolumeId,
        clock: Arc<dyn Clock>,
        blocks: bool,
        timeout: Duration,
        stuck_max: usize,
        manners: Manners,
    ) -> Self {
        Self {
            id,
            clock,
            blocks,
            timeout,
            manners,
            stuck_max,
            threads: Arc::new(Semaphore::new(stuck_max)),
            stuck: Arc::default(),
            health: Mutex::new(Health::Up { failures: 0 }),
            busy: Arc::default(),
        }
    }

    pub(crate) fn unavailable(&self, why: impl Into<Cow<'static, str>>) -> Error {
        Error::VolumeUnavailable { volume: Some(self.id.clone()), why: why.into() }
    }

    /// Why the share is not there.
    pub(crate) fn why(&self) -> Option<Cow<'static, str>> {
        self.health.lock().why()
    }

    /// A share that is not there is not asked.
    pub(crate) fn may_ask(&self) -> Result<()> {
        self.why().map_or(Ok(()), |why| Err(self.unavailable(why)))
    }

    /// Takes the name of a blob; `None` when somebody has it.
    pub(crate) fn try_claim(&self, at: &BlobPath) -> Option<Claim> {
        self.busy.claim(at)
    }

    /// The name of a blob for a call that gives or takes it, to go along with the work.
    pub(crate) fn claim(&self, at: &BlobPath) -> Result<Claim> {
        let hangs = || self.unavailable("still has an earlier call that names the same blob");
        self.try_claim(at).ok_or_else(hangs)
    }

    /// Calls that nobody waits for any more and that have not returned.
    pub(crate) fn stuck(&self) -> usize {
        self.stuck.load(SeqCst)
    }

    /// Does `work` and waits for it until the deadline. What comes later is given to `undo`.
    ///
    /// # Cancel safety
    /// As when the deadline passes: the work goes on, and what came of it is undone.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: Work<Result<T>>,
        undo: Option<Work<()>>,
    ) -> Result<T> {
        if !self.blocks {
            return work.await;
        }
        self.begin(work, undo).await?.wait(self).await
    }

    /// Puts the work on a thread, when there is one left before the deadline.
    pub(crate) async fn begin<T: Send + 'static>(
        &self,
        work: Work<Result<T>>,
        undo: Option<Work<()>>,
    ) -> Result<Running<T>> {
        let full = || self.unavailable(format!("has {} calls that do not return", self.stuck_max));
        if self.stuck() >= self.stuck_max {
            return Err(full());
        }
        let Some(Ok(permit)) = self.in_time(Arc::clone(&self.threads).acquire_owned()).await else {
            // That says nothing about the share: a write waits for its source on its thread. A call that hangs tells by itself.
            return Err(self.unavailable(format!("has {} calls under way", self.stuck_max)));
        };
        let (answer, taken) = oneshot::channel();
        let stuck = Arc::new(Stuck { all: Arc::clone(&self.stuck), counted: Mutex::new(Some(false)) });
        let ours = Arc::clone(&stuck);
        let body = move || {
            let _permit = permit;
            let_this_thread_block();
            let done = block_on(work);
            // What came too late comes back, and holds what it holds until it is undone.
            if let Err(_too_late @ Ok(_)) = answer.send(done)
                && let Some(undo) = undo
            {
                block_on(undo);
            }
            ours.ended();
        };
        let named = thread::Builder::new().name(format!("locus-{}", self.id));
        named.spawn(body).map_err(Error::io("start a thread for", self.id.as_str()))?;
        Ok(Running { taken, stuck })
    }

    /// The answer of `future`, unless the time is over first.
    pub(crate) async fn in_time<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        in_time(&*self.clock, self.timeout, future).await
    }

    /// Learns from what a call came to. A refusal says nothing about the share.
    pub(crate) fn learn<T>(&self, done: &Result<T>) {
        match done {
            Err(Error::VolumeUnavailable { .. }) => {}
            Err(Error::Io { source, .. }) if is_of_transport(source) => {
                self.saw(Some(format!("failed: {source}").into()));
            }
            _ => self.saw(None),
        }
    }

    /// The error of a call that took too long.
    pub(crate) fn late(&self) -> Error {
        let why = format!("did not answer within {:?}", self.timeout);
        self.saw(Some(why.clone().into()));
        self.unavailable(why)
    }

    fn saw(&self, failed: Option<Cow<'static, str>>) {
        let mut health = self.health.lock();
        if health.saw(self.manners, failed) {
            match health.why() {
                Some(why) => warn!(volume = %self.id, %why, "share lost"),
                None => info!(volume = %self.id, "share is back"),
            }
        }
    }
}

/// Whether the share, not the file, is what failed.
pub(crate) fn is_of_transport(error: &io::Error) -> bool {
    use io::ErrorKind as K;
    matches!(
        error.kind(),
        K::TimedOut
            | K::StaleNetworkFileHandle
            | K::HostUnreachable
            | K::NetworkUnreachable
            | K::NetworkDown
            | K::NotConnected
            | K::ConnectionReset
            | K::ConnectionAborted
            | K::BrokenPipe
    )
}

/// Work on a thread.
#[derive(Debug)]
pub(crate) struct Running<T> {
    taken: oneshot::Receiver<Result<T>>,
    stuck: Arc<Stuck>,
}

impl<T> Running<T> {
    /// Its answer, unless the time is over first.
    pub(crate) async fn wait(mut self, guard: &Guard) -> Result<T> {
        match guard.in_time(&mut self.taken).await {
            Some(Ok(done)) => {
                self.stuck.ended();
                done
            }
            Some(Err(_)) => Err(guard.unavailable("has a call that panicked")),
            None => {
                self.taken.close();
                // It may have come while the time ran out.
                match self.taken.try_recv() {
                    Ok(done) => done,
                    Err(_) => Err(guard.late()),
                }
            }
        }
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.stuck.given_up();
    }
}

/// Counts a thread while nobody waits for it.
#[derive(Debug)]
struct Stuck {
    all: Arc<AtomicUsize>,
    /// Whether it is counted; `None` when it has ended.
    counted: Mutex<Option<bool>>,
}

impl Stuck {
    fn given_up(&self) {
        let mut counted = self.counted.lock();
        if *counted == Some(false) {
            *counted = Some(true);
            self.all.fetch_add(1, SeqCst);
        }
    }

    fn ended(&self) {
        if self.counted.lock().take() == Some(true) {
            self.all.fetch_sub(1, SeqCst);
        }
    }
}

impl Drop for Stuck {
    /// Also when the work panicked.
    fn drop(&mut self) {
        self.ended();
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end on this thread.
fn block_on<T>(mut work: Work<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match work.as_mut().poll(&mut context) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}
