//! The way into folders that are not ours.
//!
//! A call into a share that hangs cannot be taken back. So it is made on a thread that nobody has to wait for, neither who
//! asked nor the runtime that ends; and there are never more of them than was said, so that one that hangs is not followed by
//! others without end. Who says so makes each call where it is asked for instead, and waits for it as long as it takes.

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use locus_core::{Clock, in_time};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// A call that only looks has failed when it takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// As [`PATIENCE`], where somebody waits for the answer.
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_secs(10);

/// A thread that has nothing to do for so long ends.
const REST: Duration = Duration::from_secs(10);

/// What a thread does; it says when its thread is free again.
type Job = Box<dyn FnOnce(&dyn Fn()) + Send>;

/// A long call, as it sees itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Going {
    steps: Arc<AtomicU64>,
    unwanted: CancellationToken,
}

impl Going {
    /// Something was done.
    pub(crate) fn step(&self) {
        self.steps.fetch_add(1, Relaxed);
    }

    /// Whether anybody waits for it still.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.unwanted.is_cancelled()
    }
}

/// Threads for one folder. Clones are the same.
#[derive(Clone)]
pub(crate) struct Door {
    /// Calls are made where they are asked for.
    pub(crate) in_place: bool,
    clock: Arc<dyn Clock>,
    calls_max: usize,
    calls: Arc<Semaphore>,
    idle: Arc<Idle>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl Door {
    /// For so many calls at the same time; with `in_place` without threads, for as many as ask.
    pub(crate) fn new(clock: Arc<dyn Clock>, in_place: bool, calls_max: usize) -> Self {
        let calls = Arc::new(Semaphore::new(calls_max));
        Self { in_place, clock, calls_max, calls, idle: Arc::default() }
    }

    /// Waits until no call is under way, at most this long. Says whether that came to be.
    pub(crate) async fn is_idle_in(&self, patience: Duration) -> bool {
        let all = u32::try_from(self.calls_max).unwrap_or(u32::MAX);
        in_time(&*self.clock, patience, self.calls.acquire_many(all)).await.is_some()
    }

    /// As [`ask`](Self::ask), for what may take as long as it likes while it gets on: when a time of `patience` passes in which
    /// it took no step, it is given up, and is told that nobody waits for it any more, as when the future is dropped.
    ///
    /// # Errors
    /// As [`ask_in_time`](Self::ask_in_time).
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce(&Going) -> T + Send + 'static,
    ) -> io::Result<T> {
        let going = Going::default();
        let _unwanted_at_the_end = going.unwanted.clone().drop_guard();
        let mut working = pin!(self.ask({
            let going = going.clone();
            move || work(&going)
        }));
        loop {
            let before = going.steps.load(Relaxed);
            if let Some(done) = in_time(&*self.clock, patience, working.as_mut()).await {
                return done;
            }
            if going.steps.load(Relaxed) == before {
                let why = format!("it did not get on for {} s", patience.as_secs());
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }

    /// Whether a call is under way. Where nobody waits for one, it hangs.
    pub(crate) fn is_busy(&self) -> bool {
        self.calls.available_permits() < self.calls_max
    }

    /// As [`ask`](Self::ask), unless it takes longer than `patience`.
    ///
    /// # Errors
    /// [`TimedOut`](io::ErrorKind::TimedOut), and what keeps a thread from being started.
    pub(crate) async fn ask_in_time<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        in_time(&*self.clock, patience, self.ask(work)).await.unwrap_or_else(|| {
            let why = format!("it did not answer within {} s", patience.as_secs());
            Err(io::Error::new(io::ErrorKind::TimedOut, why))
        })
    }

    /// Does this where blocking harms nobody, or in place.
    ///
    /// # Errors
    /// What keeps a thread from being started.
    ///
    /// # Panics
    /// When `work` panics, with the same panic.
    ///
    /// # Cancel safety
    /// What was begun goes on to its end, and nobody waits for it.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        if self.in_place {
            return Ok(work());
        }
        let permit = Arc::clone(&self.calls).acquire_owned().await.expect("because it is never closed");
        let (answer, answered) = oneshot::channel();
        self.idle.give(Box::new(move |is_free| {
            let done = catch_unwind(AssertUnwindSafe(work));
            is_free();
            drop(permit);
            let _ = answer.send(done); // who asked may have gone
        }))?;
        match answered.await.expect("because a job always answers") {
            Ok(done) => Ok(done),
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Threads that wait for work, by number.
#[derive(Default)]
struct Idle(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    threads: Vec<(u64, mpsc::Sender<Job>)>,
    next: u64,
}

impl Idle {
    fn give(self: &Arc<Self>, job: Job) -> io::Result<()> {
        let waiting = self.0.lock().threads.pop();
        let job = match waiting {
            Some((_, thread)) => match thread.send(job) {
                Ok(()) => return Ok(()),
                Err(mpsc::SendError(job)) => job,
            },
            None => job,
        };
        let (sender, jobs) = mpsc::channel();
        let number = {
            let mut waiting = self.0.lock();
            waiting.next += 1;
            waiting.next
        };
        let idle = Arc::clone(self);
        let body = move || idle.serve(number, &sender, &jobs, job);
        thread::Builder::new().name("locus-watcher".into()).spawn(body).map(drop)
    }

    fn serve(&self, number: u64, sender: &mpsc::Sender<Job>, jobs: &mpsc::Receiver<Job>, first: Job) {
        let is_free = || self.0.lock().threads.push((number, sender.clone()));
        first(&is_free);
        loop {
            match jobs.recv_timeout(REST) {
                Ok(job) => job(&is_free),
                Err(_) => {
                    let mut waiting = self.0.lock();
                    let before = waiting.threads.len();
                    waiting.threads.retain(|(waits, _)| *waits != number);
                    if waiting.threads.len() < before {
                        return;
                    } // else work is on its way
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{pin::Pin, task::Poll};

    use locus_core::SystemClock;
    use locus_testkit::ManualClock;

    use super::*;

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up_in_time_and_takes_one_place_until_it_returns() {
        let clock = ManualClock::new();
        let door = Door::new(clock.clone(), false, 1);
        assert_eq!(door.ask(|| 7).await.unwrap(), 7);
        assert!(!door.is_busy());
        let (release, hanging) = mpsc::channel::<()>();
        let asked = tokio::spawn({
            let door = door.clone();
            async move { door.ask_in_time(PATIENCE, move || hanging.recv().is_ok()).await }
        });
        while !door.is_busy() {
            tokio::task::yield_now().await;
        }
        clock.advance(PATIENCE);
        assert_eq!(asked.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(door.is_busy());
        let mut next = Box::pin(door.ask_in_time(PATIENCE, || 8));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(next.as_mut().poll(&mut context).is_pending(), "there is no other thread");
        drop(release);
        assert_eq!(next.await.unwrap(), 8);
        assert_eq!(door.idle.0.lock().next, 1, "one thread did it all");
    }

    #[tokio::test]
    async fn what_gets_on_is_waited_for_and_what_does_not_is_told_that_nobody_waits() {
        let clock = ManualClock::new();
        let door = Door::new(clock.clone(), false, 1);
        let (act, acting) = mpsc::channel::<bool>();
        let (acted, mut done) = tokio::sync::mpsc::unbounded_channel();
        let working = tokio::spawn({
            let door = door.clone();
            async move {
                let work = move |going: &Going| {
                    for steps in acting {
                        if steps {
                            going.step();
                        }
                        acted.send(going.is_wanted()).unwrap();
                    }
                };
                door.work(PATIENCE, work).await
            }
        });
        act.send(true).unwrap();
        assert_eq!(done.recv().await, Some(true));
        // Once it waits with what was done before in mind, or had it in mind from the beginning.
        for _ in 0..2 {
            clock.advance(PATIENCE);
            tokio::task::yield_now().await;
            act.send(true).unwrap();
            assert_eq!(done.recv().await, Some(true), "it got on");
        }
        while !working.is_finished() {
            clock.advance(PATIENCE);
            tokio::task::yield_now().await;
        }
        assert_eq!(working.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        act.send(false).unwrap();
        assert_eq!(done.recv().await, Some(false));
        assert!(!door.is_idle_in(Duration::ZERO).await);
        drop(act);
        assert!(door.is_idle_in(PATIENCE).await);
    }

    #[test]
    fn in_place_every_call_is_made_at_once_by_whoever_asks_without_a_runtime() {
        let door = Door::new(Arc::new(SystemClock::new()), true, 1); // which sleeps in a runtime alone
        let here = thread::current().id();
        let by_whom = || thread::current().id();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let asked: [Pin<Box<dyn Future<Output = io::Result<thread::ThreadId>>>>; 3] = [
            Box::pin(door.ask(by_whom)),
            Box::pin(door.ask_in_time(PATIENCE, by_whom)),
            Box::pin(door.work(PATIENCE, move |_| by_whom())),
        ];
        for mut asking in asked {
            match asking.as_mut().poll(&mut context) {
                Poll::Ready(by) => assert_eq!(by.unwrap(), here),
                Poll::Pending => panic!("it waits"),
            }
        }
        assert!(pin!(door.is_idle_in(PATIENCE)).poll(&mut context).is_ready());
        assert_eq!(door.idle.0.lock().next, 0, "no thread was begun");
    }

    #[tokio::test]
    #[should_panic(expected = "out of the work")]
    async fn a_panic_of_the_work_comes_out() {
        let _ = Door::new(ManualClock::new(), false, 1).ask(|| panic!("out of the work")).await;
    }
}
