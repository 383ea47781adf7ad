//! How workers are told to stop, and how that is waited for.

use locus_core::Clock;
use std::time::Duration;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Two signals, one after the other, and the tasks that hear them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop {
    /// Take no new file.
    pub(crate) drain: CancellationToken,
    /// Drop what runs and release it.
    pub(crate) halt: CancellationToken,
    /// All workers of the store.
    pub(crate) tasks: TaskTracker,
}

impl Stop {
    /// Signals of one crew, which hears those of the whole store too.
    pub(crate) fn child(&self) -> Self {
        Self { drain: self.drain.child_token(), halt: self.halt.child_token(), tasks: self.tasks.clone() }
    }

    /// Drains, waits for `ended` until the time is over, then halts. A handler that never gives way may go on after it.
    pub(crate) async fn drain_then_halt(
        &self,
        clock: &dyn Clock,
        timeout: Duration,
        ended: impl Future<Output = ()>,
    ) {
        let mut ended = std::pin::pin!(ended);
        self.drain.cancel();
        tokio::select! {
            biased;
            () = &mut ended => return,
            () = clock.sleep_until(clock.monotonic().saturating_add(timeout)) => {}
        }
        self.halt.cancel();
        ended.await;
    }

    /// Both signals at once.
    pub(crate) fn now(&self) {
        self.drain.cancel();
        self.halt.cancel();
    }
}
