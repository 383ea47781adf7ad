//! The clock seam: wall time for people, monotonic time for delays.

use std::{
    fmt::Debug,
    future::poll_fn,
    pin::pin,
    task::Poll,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;

use crate::Timestamp;

/// Where time comes from. Implementations: [`SystemClock`] and the manual clock of `locus-testkit`.
#[async_trait]
pub trait Clock: Debug + Send + Sync {
    /// The wall clock's time. It may jump either way; nothing but messages and store time at open rests on it.
    fn wall(&self) -> Timestamp;

    /// Time since an arbitrary origin; never goes back while the process lives.
    fn monotonic(&self) -> Duration;

    /// Returns once [`monotonic`](Self::monotonic) has reached `deadline`.
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    async fn sleep_until(&self, deadline: Duration);
}

/// The answer of `future`, unless `timeout` has passed first: `None` then, and the future is dropped. An answer that is there
/// counts, however late.
///
/// # Cancel safety
/// That of `future`.
pub async fn in_time<T>(clock: &dyn Clock, timeout: Duration, future: impl Future<Output = T>) -> Option<T> {
    let deadline = clock.monotonic().saturating_add(timeout);
    let (mut future, mut late) = (pin!(future), clock.sleep_until(deadline));
    poll_fn(|context| {
        if let Poll::Ready(answer) = future.as_mut().poll(context) {
            return Poll::Ready(Some(answer));
        }
        late.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// The machine's own clock. [`sleep_until`](Clock::sleep_until) needs a tokio runtime with its time driver.
#[derive(Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic origin is now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that everybody else asks")]
    fn wall(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Timestamp::from_micros(micros)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    async fn sleep_until(&self, deadline: Duration) {
        // A deadline too far away to be said is never reached.
        match self.origin.checked_add(deadline) {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        task::{Context, Waker},
    };

    use super::*;

    /// Every deadline has passed.
    #[derive(Debug)]
    struct Late;

    #[async_trait]
    impl Clock for Late {
        fn wall(&self) -> Timestamp {
            Timestamp::from_micros(0)
        }

        fn monotonic(&self) -> Duration {
            Duration::MAX
        }

        async fn sleep_until(&self, _: Duration) {}
    }

    fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn an_answer_that_is_there_counts_however_late_and_nobody_waits_for_another() {
        let timeout = Duration::from_secs(1);
        assert_eq!(poll(in_time(&Late, timeout, ready(1))), Poll::Ready(Some(1)));
        assert_eq!(poll(in_time(&Late, timeout, pending::<()>())), Poll::Ready(None));
    }
}
