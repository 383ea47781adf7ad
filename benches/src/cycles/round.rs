//! One round: so many workers make cycles, each timed.

use std::{future::Future, sync::Arc, thread, time::Duration};

use bytes::Bytes;
use tokio::{runtime::Handle, task::JoinSet};

use super::Load;
use crate::BoxError;

/// What a round took.
#[derive(Debug)]
pub struct Round {
    /// From the start until all that a cycle leaves behind was done.
    pub took: Duration,
    /// Of each cycle.
    pub times: Vec<Duration>,
}

/// Makes cycles in tasks.
pub trait AsTask: Send + Sync + 'static {
    /// Makes one; `alone`: no other is made at the same time.
    fn cycle(&self, content: &Bytes, alone: bool) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Ends what the cycles left behind.
    fn settle(&self) -> impl Future<Output = Result<(), BoxError>> + Send {
        async { Ok(()) }
    }
}

/// Makes cycles on threads, because it blocks.
pub trait AsThread: Sync {
    /// Makes one; `alone`: no other is made at the same time.
    ///
    /// # Errors
    /// Whatever goes wrong, and a content that is not what was written.
    fn cycle(&self, content: &Bytes, alone: bool) -> Result<(), BoxError>;

    /// Ends what the cycles left behind.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn settle(&self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl Round {
    /// A task for each of those in flight.
    ///
    /// # Errors
    /// Of the first cycle that failed.
    pub fn of_tasks<C: AsTask>(
        runtime: &Handle,
        who: &Arc<C>,
        load: Load,
        content: &Bytes,
    ) -> Result<Self, BoxError> {
        runtime.block_on(async {
            let turns = Arc::new(load.turns());
            let mut workers = JoinSet::new();
            for _ in 0..load.in_flight {
                let (who, turns, content) = (Arc::clone(who), Arc::clone(&turns), content.clone());
                workers.spawn(async move {
                    let (mut times, mut began) = (Vec::new(), turns.now());
                    while turns.take(began) {
                        who.cycle(&content, load.is_alone()).await?;
                        let ended = turns.now();
                        times.push(ended.saturating_sub(began));
                        began = ended;
                    }
                    Ok::<_, BoxError>(times)
                });
            }
            let mut times = Vec::new();
            while let Some(worker) = workers.join_next().await {
                times.extend(worker??);
            }
            who.settle().await?;
            Ok(Self { took: turns.now(), times })
        })
    }

    /// A thread for each of those in flight.
    ///
    /// # Errors
    /// Of the first cycle that failed.
    pub fn of_threads(who: &impl AsThread, load: Load, content: &Bytes) -> Result<Self, BoxError> {
        let turns = load.turns();
        let times = thread::scope(|scope| {
            let worker = || {
                let (mut times, mut began) = (Vec::new(), turns.now());
                while turns.take(began) {
                    who.cycle(content, load.is_alone())?;
                    let ended = turns.now();
                    times.push(ended.saturating_sub(began));
                    began = ended;
                }
                Ok::<_, BoxError>(times)
            };
            let workers = (0..load.in_flight).map(|_| scope.spawn(worker)).collect::<Vec<_>>();
            let mut times = Vec::new();
            for worker in workers {
                times.extend(worker.join().map_err(|_| "a thread panicked")??);
            }
            Ok::<_, BoxError>(times)
        })?;
        who.settle()?;
        Ok(Self { took: turns.now(), times })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[derive(Default)]
    struct Counts {
        cycles: AtomicU64,
        settled: AtomicU64,
    }

    impl Counts {
        fn told(&self) -> (u64, u64) {
            (self.cycles.load(Ordering::Relaxed), self.settled.load(Ordering::Relaxed))
        }
    }

    impl AsThread for Counts {
        fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
            self.cycles.fetch_add(1, Ordering::Relaxed);
            if content.is_empty() { Err("broken".into()) } else { Ok(()) }
        }

        fn settle(&self) -> Result<(), BoxError> {
            self.settled.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    impl AsTask for Counts {
        async fn cycle(&self, content: &Bytes, alone: bool) -> Result<(), BoxError> {
            AsThread::cycle(self, content, alone)
        }

        async fn settle(&self) -> Result<(), BoxError> {
            AsThread::settle(self)
        }
    }

    const LOAD: Load = Load { in_flight: 4, cycles_max: 100, time_max: Duration::MAX };

    #[test]
    fn every_cycle_is_timed_and_what_it_left_behind_is_ended() {
        let content = Bytes::from_static(b"x");
        let threads = Counts::default();
        assert_eq!(Round::of_threads(&threads, LOAD, &content).unwrap().times.len(), 100);
        assert_eq!(threads.told(), (100, 1));

        let runtime = tokio::runtime::Runtime::new().unwrap();
        let tasks = Arc::new(Counts::default());
        assert_eq!(Round::of_tasks(runtime.handle(), &tasks, LOAD, &content).unwrap().times.len(), 100);
        assert_eq!(tasks.told(), (100, 1));
    }

    #[test]
    fn a_failed_cycle_is_no_figure() {
        assert!(Round::of_threads(&Counts::default(), LOAD, &Bytes::new()).is_err());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let tasks = Arc::new(Counts::default());
        assert!(Round::of_tasks(runtime.handle(), &tasks, LOAD, &Bytes::new()).is_err());
    }
}
