//! The threads of an open store, and the lock of its directory, which they outlive in no case.

use std::sync::Arc;

use locus_fs::DirLock;
use locus_storage::EngineThreads;
use parking_lot::Mutex;

/// The lock of the data directory, until the store is closed.
pub(crate) type SharedLock = Arc<Mutex<Option<DirLock>>>;

/// Keeps the directory locked as long as a thread may write to it.
pub(crate) struct Threads {
    threads: Option<EngineThreads>,
    lock: SharedLock,
}

impl Threads {
    pub(crate) const fn new(threads: EngineThreads, lock: SharedLock) -> Self {
        Self { threads: Some(threads), lock }
    }

    /// Ends the threads, waits for them, and gives the lock back. Blocks the thread.
    pub(crate) fn join(mut self) -> SharedLock {
        if let Some(threads) = self.threads.take() {
            threads.stop();
        }
        Arc::clone(&self.lock)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let Some(threads) = self.threads.take() else { return };
        let lock = Arc::clone(&self.lock);
        let waiter = move || {
            threads.stop();
            drop(lock);
        };
        // Without a thread to wait in, the threads end all the same, unawaited.
        let _ = std::thread::Builder::new().name("locus-closing".into()).spawn(waiter);
    }
}
