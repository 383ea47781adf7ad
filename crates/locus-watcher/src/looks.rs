//! Looks that callers make themselves, with a schedule of their own.

use std::sync::Arc;

use locus_core::Result;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::{
    report::ScanReport,
    scan::{Memory, Scanned, Scanner},
    task::Status,
};

/// The looks through one folder, one after the other.
#[derive(Debug)]
pub(crate) struct Looks {
    /// Held by whoever looks. What was made for the first look serves the next ones.
    pub(crate) scanner: tokio::sync::Mutex<Option<Scanner>>,
    pub(crate) status: Mutex<Status>,
    pub(crate) memory: Arc<Mutex<Memory>>,
    halted: CancellationToken,
}

impl Looks {
    /// None are made any more when `stop` is cancelled.
    pub(crate) fn new(stop: &CancellationToken) -> Self {
        let (scanner, status, memory) = Default::default();
        Self { scanner, status, memory, halted: stop.child_token() }
    }

    /// Looks once it is this one's turn; `None` when no look may be made here any more.
    ///
    /// # Errors
    /// As [`Scanner::scan`].
    ///
    /// # Cancel safety
    /// As [`Scanner::scan`].
    pub(crate) async fn look(&self, scanner: impl FnOnce() -> Result<Scanner>) -> Option<Result<ScanReport>> {
        let looking = async {
            let mut turn = self.scanner.lock().await;
            if self.halted.is_cancelled() {
                return None;
            }
            let scanner = match &mut *turn {
                Some(scanner) => scanner,
                none => match scanner() {
                    Ok(mut scanner) => {
                        scanner.memory = Arc::clone(&self.memory);
                        none.insert(scanner)
                    }
                    Err(error) => return Some(Err(error)),
                },
            };
            let mut scanned = Scanned::default();
            let ended = scanner.scan(&mut scanned).await;
            self.status.lock().note(&scanned, ended.as_ref().err(), scanner.clock.wall());
            Some(ended.map(|()| scanned.report))
        };
        tokio::select! {
            biased;
            () = self.halted.cancelled() => None,
            looked = looking => looked,
        }
    }

    /// No look is begun any more, and one under way ends where it waits next.
    pub(crate) fn halt(&self) {
        self.halted.cancel();
    }

    /// Waits until none is under way, and nothing is written of the ledger. To be [halted](Self::halt) first.
    pub(crate) async fn ended(&self) {
        let scanner = self.scanner.lock().await.take();
        if let Some(scanner) = scanner {
            scanner.ledger.rest().await;
        }
    }
}
