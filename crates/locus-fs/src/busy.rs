//! Addresses that something is being done to: a repair must not meet a write or a deletion half-way.

use std::{collections::HashSet, sync::Arc};

use locus_core::BlobPath;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// The addresses in use.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    addresses: Mutex<HashSet<BlobPath>>,
    freed: Notify,
}

impl Busy {
    /// Takes an address; `None` when somebody has it.
    pub(crate) fn claim(self: &Arc<Self>, at: &BlobPath) -> Option<Claim> {
        self.addresses.lock().insert(at.clone()).then(|| Claim { busy: Arc::clone(self), at: at.clone() })
    }

    /// Takes an address when it is free.
    pub(crate) async fn wait(self: &Arc<Self>, at: &BlobPath) -> Claim {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable(); // before the look, so that nothing is missed between the two
            if let Some(claim) = self.claim(at) {
                return claim;
            }
            freed.await;
        }
    }
}

/// The use of an address, until it is dropped.
#[must_use = "the address is in use only as long as this lives"]
#[derive(Debug)]
pub(crate) struct Claim {
    busy: Arc<Busy>,
    at: BlobPath,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.busy.addresses.lock().remove(&self.at);
        self.busy.freed.notify_waiters();
    }
}
