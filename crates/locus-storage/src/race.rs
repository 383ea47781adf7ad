//! Waiting for whichever comes first, without a runtime.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    task::Poll,
};

/// The output of the first future that is ready, asked in order.
pub(crate) async fn first3<T>(
    a: impl Future<Output = T>,
    b: impl Future<Output = T>,
    c: impl Future<Output = T>,
) -> T {
    let (mut a, mut b, mut c) = (pin!(a), pin!(b), pin!(c));
    poll_fn(|context| {
        if let Poll::Ready(output) = a.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        if let Poll::Ready(output) = b.as_mut().poll(context) {
            return Poll::Ready(output);
        }
        c.as_mut().poll(context)
    })
    .await
}
