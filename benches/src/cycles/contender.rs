//! Somebody who makes cycles.

use std::fmt;

use bytes::Bytes;

use super::{Label, Load, Round};
use crate::BoxError;

/// Somebody who makes cycles. Every content is compared with what was written, and every file goes to one worker.
pub trait Contender: fmt::Debug {
    /// Who it is.
    fn label(&self) -> &Label;

    /// How it is set up, in a line.
    fn settings(&self) -> String;

    /// Whether it takes part where contents have `bytes`.
    fn takes(&self, _bytes: usize) -> bool {
        true
    }

    /// Makes a round; nothing of it is left when it ends.
    ///
    /// # Errors
    /// Whatever goes wrong, and a content that is not what was written.
    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError>;

    /// Ends, and says what there is to be said at the end.
    ///
    /// # Errors
    /// Whatever goes wrong.
    fn close(self: Box<Self>) -> Result<Option<String>, BoxError> {
        Ok(None)
    }
}
