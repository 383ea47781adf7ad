//! What threads and tasks meet at. Locks, atomics, wake-ups and threads of the journal and the store come from here alone, so that
//! `locus-interleave`, which compiles these sources too, has one place to put its own. The one exception is the thread that
//! reads a checkpoint while a store is opened: it meets nobody but whoever waits for its end.

pub(crate) use std::{
    sync::atomic::{AtomicBool, AtomicU64},
    thread,
};

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
pub(crate) use tokio::sync::{Notify, oneshot};

/// Tasks of the runtime that are ready go on first, once. Where no runtime is, nobody is waited for.
pub(crate) async fn give_way() {
    if tokio::runtime::Handle::try_current().is_err() {
        return;
    }
    // Not `yield_now` of tokio: that one waits until the thread has nothing to do, and the thread may wait for this.
    let mut gave_way = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut gave_way, true) {
            return std::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
