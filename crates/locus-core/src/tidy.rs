//! What a volume is asked to tidy, and what that did.

use std::{fmt, sync::Arc};

use crate::{Cursor, StoragePath, Unread};

/// What [`StorageVolume::tidy`](crate::StorageVolume::tidy) removes. Each call is a bounded step; one that has not come to the end
/// says where the next begins.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Tidy {
    /// Staging of writes that no longer run.
    StaleStaging,
    /// The same, but it is only counted.
    CountStaleStaging,
    /// Directories that hold nothing: never the mount, an owner's own, or one that a running write is about to use.
    EmptyDirectories(DirSweep),
    /// Files of other programs, by name, in directories of blobs.
    Junk(JunkSweep),
}

/// Which empty directories.
#[derive(Debug, Clone, Default)]
pub struct DirSweep {
    /// Only those of this owner.
    pub owner: Option<StoragePath>,
    /// Only those that lost a blob since this was asked last, as long as the volume remembers them all. Says nothing together
    /// with an owner or a dry run.
    pub emptied: bool,
    /// Spare those that a write used since this was asked last: they would be made again at once.
    pub idle: bool,
    /// These stay.
    pub protected: Names,
    /// Count them, and remove none.
    pub dry_run: bool,
    /// Most directories that the step looks at; 0: as many as the volume likes.
    pub dirs_max: usize,
    /// Where the step before said to go on.
    pub from: Option<Cursor>,
}

/// Which files of other programs.
#[derive(Debug, Clone, Default)]
pub struct JunkSweep {
    /// Only those of this owner.
    pub owner: Option<StoragePath>,
    /// Their names. A name of a blob is never junk.
    pub names: Names,
    /// Count them, and remove none.
    pub dry_run: bool,
    /// Most directories that the step looks at; 0: as many as the volume likes.
    pub dirs_max: usize,
    /// Where the step before said to go on.
    pub from: Option<Cursor>,
}

/// A set of names, told by whether a name is in it. Empty by default.
#[derive(Clone, Default)]
pub struct Names(Option<Arc<Test>>);

type Test = dyn Fn(&str) -> bool + Send + Sync;

impl Names {
    /// Those of which `has` says `true`. Directories are asked about by their path below the mount, `acme/0f`, files by their
    /// name alone.
    pub fn new(has: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(has)))
    }

    /// Whether this name is one.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|has| has(name))
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("is_empty", &self.0.is_none()).finish_non_exhaustive()
    }
}

/// What [`StorageVolume::tidy`](crate::StorageVolume::tidy) did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TidyReport {
    /// How many were removed, or would have been.
    pub removed: u64,
    /// Bytes that freed.
    pub bytes: u64,
    /// How many could not be removed.
    pub failed: u64,
    /// Where the next step goes on; `None` when this was the last.
    pub next: Option<Cursor>,
    /// What could not be looked at and was passed by.
    pub unread: Vec<Unread>,
}
