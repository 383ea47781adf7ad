//! The states of a file and the one table of legal moves between them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a file is in its life. The numbers are those of the original design and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
#[non_exhaustive]
pub enum FileStatus {
    /// Waits for a worker, perhaps until a retry is due.
    Pending = 0,
    /// Leased to a worker.
    Processing = 1,
    /// Processed; its bytes are about to be removed.
    Completed = 2,
    /// Stays in the model for readers of the original; here a retryable failure is `Pending` with a due time.
    Failed = 3,
    /// Failed for the last time; never leased again unless it is reset.
    PermanentlyFailed = 4,
    /// Moved out of the queue, kept for inspection.
    DeadLettered = 5,
    /// Deleted by its owner; its bytes are about to be removed.
    Deleted = 6,
}

/// What can happen to a file after it was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A worker is given the file.
    Lease,
    /// The worker gives it back unprocessed.
    Release,
    /// The lease ran out, or its process died.
    TimeOut,
    /// The worker failed and the file is tried again.
    Retry,
    /// The file failed for the last time.
    GiveUp,
    /// The worker is done.
    Complete,
    /// An operator makes the file pending again with fresh counts.
    Reset,
    /// The owner deletes the file, or ends the time for which it is kept although it is completed, or purges it from the
    /// dead letters.
    Delete,
    /// A file that failed for the last time is moved out of the queue.
    DeadLetter,
    /// An operator brings a dead letter back, with fresh counts.
    Requeue,
}

impl FileStatus {
    /// The state after `happened`, or `None` when that cannot happen in this state.
    ///
    /// This is the only table of legal moves; the store decides and replays through it.
    #[must_use]
    pub const fn after(self, happened: Move) -> Option<Self> {
        use FileStatus::{Completed, DeadLettered, Deleted, Pending, PermanentlyFailed, Processing};
        Some(match (self, happened) {
            (Pending, Move::Lease) => Processing,
            (Processing, Move::Release | Move::TimeOut) | (Processing | Pending, Move::Retry) => Pending,
            (Processing | Pending, Move::GiveUp) => PermanentlyFailed,
            (Processing | Pending | PermanentlyFailed, Move::Complete) => Completed,
            (Pending | PermanentlyFailed, Move::Reset) | (DeadLettered, Move::Requeue) => Pending,
            (Pending | Processing | PermanentlyFailed | DeadLettered | Completed, Move::Delete) => Deleted,
            (PermanentlyFailed, Move::DeadLetter) => DeadLettered,
            _ => return None,
        })
    }

    /// Whether the bytes of a file in this state are waiting to be removed.
    #[must_use]
    pub const fn is_over(self) -> bool {
        matches!(self, FileStatus::Completed | FileStatus::Deleted)
    }
}

impl fmt::Display for FileStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            FileStatus::Pending => "pending",
            FileStatus::Processing => "processing",
            FileStatus::Completed => "completed",
            FileStatus::Failed => "failed",
            FileStatus::PermanentlyFailed => "permanently failed",
            FileStatus::DeadLettered => "dead-lettered",
            FileStatus::Deleted => "deleted",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_happens_to_a_file_that_left_the_queue_but_that_it_is_deleted_or_requeued() {
        let all = [
            Move::Lease,
            Move::Release,
            Move::TimeOut,
            Move::Retry,
            Move::GiveUp,
            Move::Complete,
            Move::Reset,
            Move::Delete,
            Move::DeadLetter,
            Move::Requeue,
        ];
        let happens =
            |status: FileStatus| all.into_iter().filter(move |happened| status.after(*happened).is_some());
        assert_eq!(happens(FileStatus::Deleted).collect::<Vec<_>>(), []);
        assert_eq!(happens(FileStatus::Completed).collect::<Vec<_>>(), [Move::Delete]);
        assert_eq!(happens(FileStatus::DeadLettered).collect::<Vec<_>>(), [Move::Delete, Move::Requeue]);
    }

    #[test]
    fn b76_only_what_failed_for_the_last_time_becomes_a_dead_letter_and_comes_back_pending() {
        for status in
            [FileStatus::Pending, FileStatus::Processing, FileStatus::Completed, FileStatus::DeadLettered]
        {
            assert_eq!(status.after(Move::DeadLetter), None, "{status}");
        }
        let dead = FileStatus::PermanentlyFailed.after(Move::DeadLetter);
        assert_eq!(dead, Some(FileStatus::DeadLettered));
        assert_eq!(FileStatus::DeadLettered.after(Move::Requeue), Some(FileStatus::Pending));
    }

    #[test]
    fn only_a_pending_file_is_leased() {
        assert_eq!(FileStatus::Pending.after(Move::Lease), Some(FileStatus::Processing));
        assert_eq!(FileStatus::Processing.after(Move::Lease), None);
        assert_eq!(FileStatus::PermanentlyFailed.after(Move::Lease), None);
    }

    #[test]
    fn the_numbers_of_the_original_are_kept() {
        assert_eq!(
            [
                FileStatus::Pending,
                FileStatus::Processing,
                FileStatus::Completed,
                FileStatus::Failed,
                FileStatus::PermanentlyFailed
            ]
            .map(|s| s as u8),
            [0, 1, 2, 3, 4]
        );
    }
}
