//! A wake-up for a thread that drives a step function.

use crate::sync::{Condvar, Mutex};

#[derive(Debug, Default)]
struct State {
    raised: bool,
    stopped: bool,
}

/// Raised by whoever has work, awaited by the one thread that does it. A raise while nobody waits is kept.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<State>,
    condvar: Condvar,
}

impl Signal {
    /// There is work.
    pub(crate) fn raise(&self) {
        let mut state = self.state.lock();
        if !state.raised {
            state.raised = true;
            self.condvar.notify_one();
        }
    }

    /// The thread shall end.
    pub(crate) fn stop(&self) {
        self.state.lock().stopped = true;
        self.condvar.notify_all();
    }

    /// Waits for work; `false` when the thread shall end instead and no work is left.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.state.lock();
        while !state.raised {
            if state.stopped {
                return false;
            }
            self.condvar.wait(&mut state);
        }
        state.raised = false;
        true
    }
}
