//! What is told of dead letters.

use locus_core::{Error, FileLocation};

/// A page of dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DeadLetterPage {
    /// Dead letters, in no order.
    pub letters: Vec<FileLocation>,
    /// Where to go on; `None` at the end.
    pub next: Option<u64>,
}

/// What became of dead letters that were to be requeued.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct RequeueReport {
    /// Files that are in the queue again.
    pub requeued: u64,
    /// Files that could not be brought back: they are the dead letters that they were.
    pub failed: u64,
    /// Why the first of these could not.
    pub first_failure: Option<Error>,
}

impl RequeueReport {
    pub(super) fn pass_by(&mut self, error: Error) {
        self.failed += 1;
        self.first_failure.get_or_insert(error);
    }
}
