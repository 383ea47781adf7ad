//! What must never happen.

use std::fmt;

use crate::world::Stuck;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub kind: Kind,
    /// How it showed.
    pub what: String,
}

/// Which promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something confirmed is not there.
    Lost,
    /// A content is not the one that was written.
    Corrupted,
    /// A file was leased to two, or a token used twice.
    DoubleLease,
    /// Something that had ended is back.
    Resurrected,
    /// Counts, quotas or bytes on volumes are not those of the files.
    QuotaDrift,
    /// What a crash left was not opened.
    RefusedOpen,
    /// The program panicked.
    Panic,
    /// A call answered what no rule allows, or nobody could go on.
    Unexpected,
}

impl Violation {
    /// A broken promise, and how it showed.
    pub fn new(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.what)
    }
}

impl From<Stuck> for Violation {
    fn from(Stuck: Stuck) -> Self {
        Self::new(Kind::Unexpected, "everybody waits for somebody else")
    }
}

/// Fails with a violation unless `held`.
pub(crate) fn ensure(held: bool, kind: Kind, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if held { Ok(()) } else { Err(Violation::new(kind, what())) }
}
