//! What became of many files that were to be moved, pass by pass.

use std::{collections::HashSet, mem};

use locus_core::{Error, FileKey, Result, TenantId};
use tracing::warn;

use super::{moves::Moved, transfer::NotMoved};

/// Most damaged files that a report names.
pub const DAMAGED_NAMED_MAX: usize = 1_024;

/// A file that could not be moved, because it is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnmovedFile {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub key: FileKey,
    /// What is wrong with it.
    pub why: String,
}

#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Files that were moved.
    pub(super) moved: u64,
    /// Bytes of these.
    pub(super) moved_bytes: u64,
    /// Damaged files, as many as are named.
    pub(super) damaged: Vec<UnmovedFile>,
    all_damaged: HashSet<FileKey>,
    /// Moved, or over before they were moved, in this pass.
    settled: u64,
    /// Living files seen in this pass that stay for now.
    stayed: u64,
    /// The first failure of this pass that is not one of a single file.
    failure: Option<Error>,
    /// There was one, in this pass or an earlier one.
    pub(super) has_failed: bool,
}

/// What a pass came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Some went: what was in the way of one file may not be in the way of the next pass.
    Settled,
    /// Some are there, and none went.
    Stayed,
    /// None was there that could go.
    Nothing,
}

impl Tally {
    pub(super) fn begin_pass(&mut self) {
        (self.settled, self.stayed, self.failure) = (0, 0, None);
    }

    /// # Errors
    /// The first failure, when no file went.
    pub(super) fn end_pass(&mut self) -> Result<After> {
        match mem::take(&mut self.failure) {
            _ if self.settled > 0 => Ok(After::Settled),
            Some(failure) => Err(failure),
            None if self.stayed > 0 => Ok(After::Stayed),
            None => Ok(After::Nothing),
        }
    }

    /// Notes what became of a file; `None`: somebody else moves it, or it cannot be moved for now.
    ///
    /// # Errors
    /// After which no other file goes.
    pub(super) fn take(
        &mut self,
        tenant: TenantId,
        key: FileKey,
        size: u64,
        moved: Option<Result<Moved, NotMoved>>,
    ) -> Result<()> {
        match moved {
            None => self.stayed += 1,
            Some(Ok(Moved::Over)) => self.settled += 1,
            Some(Ok(Moved::To(_) | Moved::WithinStore)) => {
                self.settled += 1;
                self.moved += 1;
                self.moved_bytes += size;
            }
            Some(Err(NotMoved::Damaged(error))) => {
                warn!(%tenant, %key, error = &error as &dyn std::error::Error, "damaged file not moved");
                self.all_damaged.insert(key);
                if self.damaged.len() < DAMAGED_NAMED_MAX {
                    self.damaged.push(UnmovedFile { tenant, key, why: error.to_string() });
                }
            }
            Some(Err(NotMoved::Failed(last @ (Error::Poisoned { .. } | Error::ShuttingDown)))) => {
                return Err(last);
            }
            Some(Err(NotMoved::Failed(error))) => {
                self.stayed += 1;
                self.has_failed = true;
                self.failure.get_or_insert(error);
            }
        }
        Ok(())
    }

    pub(super) fn is_damaged(&self, key: &FileKey) -> bool {
        self.all_damaged.contains(key)
    }

    /// How many are damaged.
    pub(super) fn damaged_files(&self) -> u64 {
        self.all_damaged.len() as u64
    }
}
