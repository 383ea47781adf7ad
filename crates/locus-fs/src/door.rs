//! The one door from async code to work that may block.

use std::{cell::Cell, sync::Arc};

use parking_lot::Mutex;

use crate::disk::Disk;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// From now on this thread may block: [`off_thread`] does its work on it. For threads of our own that do nothing else.
pub(crate) fn let_this_thread_block() {
    MAY_BLOCK.set(true);
}

/// Whether this thread may block.
pub(crate) fn may_block_here() -> bool {
    MAY_BLOCK.get()
}

/// Does `work` where it may block: on a thread of tokio's blocking pool when the disk [blocks](Disk::blocks), else here
/// and now, which needs no runtime.
///
/// # Panics
/// When `work` panics, with the same panic. When the disk blocks and no tokio runtime runs here.
///
/// # Cancel safety
/// Once this was polled, dropping the future does not stop the work: it goes on to its end, and what it returns is
/// dropped on its own thread. Whatever must not outlive the work, such as a lock or a permit, goes into the closure.
pub async fn off_thread<T: Send + 'static>(disk: &dyn Disk, work: impl FnOnce() -> T + Send + 'static) -> T {
    if !disk.blocks() || may_block_here() {
        return work();
    }
    // A runtime that shuts down throws away work that was not begun: keep a hand on it, so as to do it here instead.
    let work = Arc::new(Mutex::new(Some(work)));
    let theirs = Arc::clone(&work);
    let take = |slot: &Mutex<Option<_>>| slot.lock().take().expect("because it is taken once");
    match tokio::task::spawn_blocking(move || take(&theirs)()).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => take(&work)(),
        },
    }
}

/// Says that work was done on the spot, without [the door](off_thread), and lets others run when that was so many times in a
/// row: who does nothing else would keep the thread for ever.
///
/// # Cancel safety
/// Dropping the future has no effect.
pub async fn on_the_spot() {
    tokio::task::consume_budget().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os_disk::OsDisk;

    #[tokio::test]
    async fn work_on_a_blocking_disk_leaves_the_thread() {
        let here = std::thread::current().id();
        let there = off_thread(&OsDisk, move || std::thread::current().id()).await;
        assert_ne!(here, there);
    }

    #[tokio::test]
    #[should_panic(expected = "out of the work")]
    async fn a_panic_of_the_work_comes_out() {
        off_thread(&OsDisk, || panic!("out of the work")).await;
    }

    #[test]
    fn work_thrown_away_by_a_runtime_is_done_here() {
        let gone = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let handle = gone.handle().clone();
        gone.shutdown_background();
        let _entered = handle.enter();
        let mut done = Box::pin(off_thread(&OsDisk, || 7));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert_eq!(done.as_mut().poll(&mut context), std::task::Poll::Ready(7));
    }
}
