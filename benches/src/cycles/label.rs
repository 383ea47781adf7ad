//! Who a contender is.

use super::Promise;

/// Who a contender is, and what it promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    /// One of its own, together with the promise.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it promises.
    pub promise: Promise,
}

impl Label {
    /// Of these three.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: Kind, promise: Promise) -> Self {
        Self { name: name.into(), kind, promise }
    }
}

/// What a contender is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Locus through its public facade.
    Locus(Rests),
    /// The system calls that the promise demands, and nothing else.
    Floor(Rests),
    /// Fewer than the promise demands: printed beside the others, and part of no ratio.
    LeanFloor,
    /// What a user would take instead, set up as its own docs advise: one committer, groups.
    Tuned,
    /// What most people would write first.
    Stock,
}

impl Kind {
    /// `locus`, `floor` or `rival`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Locus(_) => "locus",
            Self::Floor(_) | Self::LeanFloor => "floor",
            Self::Tuned | Self::Stock => "rival",
        }
    }
}

/// Where a content rests until it is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rests {
    /// In the log, in the record that takes the file in.
    Journal,
    /// In a file of its own.
    File,
}
