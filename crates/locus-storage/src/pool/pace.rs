//! Moving no faster than so many bytes a second, all moves of a drain together.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use locus_core::Clock;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncSeek, ReadBuf, SeekFrom};

use super::FileReader;

const NANOS: u128 = 1_000_000_000;

/// When the next byte may be moved.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    bytes_per_second: Option<u64>,
    next: Mutex<Duration>,
}

impl Pace {
    pub(super) fn new(clock: Arc<dyn Clock>, bytes_per_second: Option<u64>) -> Arc<Self> {
        let next = Mutex::new(clock.monotonic());
        Arc::new(Self { clock, bytes_per_second, next })
    }

    /// Counts bytes that were read, and waits as long as the next ones have to.
    pub(super) async fn wait(&self, bytes: u64) {
        if let Some(until) = self.spend(bytes) {
            self.clock.sleep_until(until).await;
        }
    }

    /// Counts bytes that were read. Says until when to wait before the next ones.
    fn spend(&self, bytes: u64) -> Option<Duration> {
        let rate = self.bytes_per_second?.max(1);
        let now = self.clock.monotonic();
        let nanos = (u128::from(bytes) * NANOS / u128::from(rate)).min(u64::MAX.into()) as u64;
        let mut next = self.next.lock();
        // What was not used is not saved up.
        *next = (*next).max(now).saturating_add(Duration::from_nanos(nanos));
        (*next > now).then_some(*next)
    }
}

/// A file that is read at a pace.
pub(super) struct Paced {
    file: FileReader,
    pace: Arc<Pace>,
    waiting: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Paced {
    pub(super) fn new(file: FileReader, pace: &Arc<Pace>) -> Self {
        Self { file, pace: Arc::clone(pace), waiting: None }
    }
}

impl AsyncRead for Paced {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(context));
            self.waiting = None;
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.file).poll_read(context, into))?;
        let read = (into.filled().len() - before) as u64;
        if let Some(until) = self.pace.spend(read).filter(|_| read > 0) {
            let clock = Arc::clone(&self.pace.clock);
            self.waiting = Some(Box::pin(async move { clock.sleep_until(until).await }));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncSeek for Paced {
    fn start_seek(mut self: Pin<&mut Self>, to: SeekFrom) -> io::Result<()> {
        Pin::new(&mut self.file).start_seek(to)
    }

    fn poll_complete(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<u64>> {
        Pin::new(&mut self.file).poll_complete(context)
    }
}

#[cfg(test)]
mod tests {
    use locus_testkit::ManualClock;

    use super::*;

    #[test]
    fn bytes_are_paid_for_by_waiting_and_idle_time_is_not_saved_up() {
        let clock = ManualClock::new();
        let pace = Pace::new(clock.clone(), Some(1_000));
        let begin = clock.monotonic();
        assert_eq!(pace.spend(500), Some(begin + Duration::from_millis(500)));
        assert_eq!(pace.spend(500), Some(begin + Duration::from_secs(1)));
        clock.advance(Duration::from_secs(60));
        assert_eq!(pace.spend(100), Some(begin + Duration::from_millis(60_100)));
        assert_eq!(Pace::new(clock, None).spend(u64::MAX), None);
    }
}
