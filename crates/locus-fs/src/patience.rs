//! Waiting, but not for ever.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use locus_core::Clock;

/// The answer of `future`, unless the time is over first.
pub(crate) async fn in_time<T>(
    clock: &dyn Clock,
    timeout: Duration,
    future: impl Future<Output = T>,
) -> Option<T> {
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
