//! The syncs, orders and checks that the promises rest upon, by name.
//!
//! In every build but one they all stand, and asking costs nothing. The torture program's feature `break-sites` takes one
//! away at a time, to prove that its loss is noticed.

/// One place where a promise is kept: a sync, an order or a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum Site {
    /// Sync: a small file's content, before it replaces the old one.
    ReplacedContent,
    /// Sync: the name of a small file that was replaced.
    ReplacedName,
    /// Sync: the name of a directory that was just made.
    DirectoryName,
    /// Sync: the name of a directory that a killed run may have made.
    DirectoryFound,
    /// Sync: the names of the tenants that were found at an opening.
    TenantsFound,
    /// Sync: a volume's marker.
    Marker,
    /// Sync: the name of a volume's marker.
    MarkerName,
    /// Sync: a piece of an upload, before it is confirmed.
    StagedContent,
    /// Sync: the name under which an upload is staged.
    StagedName,
    /// Sync: a content on a volume, before it gets its name.
    BlobContent,
    /// Sync: a content's name.
    BlobName,
    /// Sync: the name of a directory on a volume.
    BlobDirectory,
    /// Sync: a content that lies on a volume already, before a record names it or it is believed.
    FoundContent,
    /// Sync: the name of such a content, and of the directories above it.
    FoundName,
    /// Sync: contents that a barrier makes durable.
    UnsyncedContent,
    /// Sync: their names.
    UnsyncedName,
    /// Sync: everything on a volume, when a barrier finds very much.
    UnsyncedVolume,
    /// Sync: that names are gone, before the records of their files go.
    RemovedName,
    /// Sync: a new segment file, before it gets its name.
    SegmentContent,
    /// Sync: the name of a new segment file.
    SegmentName,
    /// Sync: the log, before anybody is told that something is durable.
    LogCommit,
    /// Sync: the segments that were replayed, before they are believed.
    ReplayedSegment,
    /// Sync: a checkpoint, before it gets its name.
    CheckpointContent,
    /// Sync: a checkpoint's name, before what it makes superfluous is used again.
    CheckpointName,
    /// Sync: a file that is kept for the next checkpoint, so that a power cut on a full disk does not take it.
    SpareContent,
    /// Sync: the names of such files, and of the checkpoints that were found at an opening.
    SpareName,
    /// Sync: such a file that was found at an opening.
    SpareFound,
    /// Sync: the mark of a copy that is not finished, before anything else is in it.
    MarkName,
    /// Sync: a file of a copy.
    CopiedContent,
    /// Sync: the names in a copy.
    CopiedName,
    /// Sync: that a copy is finished.
    MarkGone,
    /// Sync: what is noted of sources in a watched folder.
    NotedSource,
    /// Order: bytes are removed only when the end of their file is durable.
    ReapedWhenDurable,
    /// Order: a segment is used again only behind the older of two checkpoints.
    ReusedBehindCheckpoint,
    /// Order: a segment is used again only when no content lives in it.
    ReusedWithoutContent,
    /// Order: what was moved away is given up only when the move is durable.
    GivenUpWhenDurable,
    /// Order: a checkpoint is published only when the log is durable up to its end.
    PublishedWhenDurable,
    /// Order: a lease is told only when its record is written.
    ToldWhenWritten,
    /// Order: a change is confirmed only when it is durable.
    ToldWhenDurable,
    /// Order: a source in a watched folder is noted before it is brought in.
    NotedBeforeBroughtIn,
    /// Order: a source is given up only when its file is durable.
    SourceGoneWhenDurable,
    /// Order: a source is forgotten only when it is gone.
    ForgottenWhenGone,
    /// Order: in Buffered mode the log is not durable beyond a record whose content is not.
    ContentBeforeLog,
    /// Check: a file that is kept for the next checkpoint is not one of those that are needed.
    SparesSeparated,
    /// Check: recovery reads from the disk, not from pages that a failed sync left clean.
    CacheDropped,
    /// Check: recovery looks for contents that were not synced before their records.
    ContentLookedFor,
    /// Check: a record is what its checksum says.
    RecordChecksum,
    /// Check: a content in the journal is what its checksum says.
    AttachmentChecksum,
    /// Check: who holds another token than the last has lost the lease.
    LeaseToken,
    /// Check: a write whose name is known is not made again.
    NameKnown,
    /// Check: a quota holds.
    QuotaHeld,
}

impl Site {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::ReplacedContent,
        Self::ReplacedName,
        Self::DirectoryName,
        Self::DirectoryFound,
        Self::TenantsFound,
        Self::Marker,
        Self::MarkerName,
        Self::StagedContent,
        Self::StagedName,
        Self::BlobContent,
        Self::BlobName,
        Self::BlobDirectory,
        Self::FoundContent,
        Self::FoundName,
        Self::UnsyncedContent,
        Self::UnsyncedName,
        Self::UnsyncedVolume,
        Self::RemovedName,
        Self::SegmentContent,
        Self::SegmentName,
        Self::LogCommit,
        Self::ReplayedSegment,
        Self::CheckpointContent,
        Self::CheckpointName,
        Self::SpareContent,
        Self::SpareName,
        Self::SpareFound,
        Self::MarkName,
        Self::CopiedContent,
        Self::CopiedName,
        Self::MarkGone,
        Self::NotedSource,
        Self::ReapedWhenDurable,
        Self::ReusedBehindCheckpoint,
        Self::ReusedWithoutContent,
        Self::GivenUpWhenDurable,
        Self::PublishedWhenDurable,
        Self::ToldWhenWritten,
        Self::ToldWhenDurable,
        Self::NotedBeforeBroughtIn,
        Self::SourceGoneWhenDurable,
        Self::ForgottenWhenGone,
        Self::ContentBeforeLog,
        Self::SparesSeparated,
        Self::CacheDropped,
        Self::ContentLookedFor,
        Self::RecordChecksum,
        Self::AttachmentChecksum,
        Self::LeaseToken,
        Self::NameKnown,
        Self::QuotaHeld,
    ];

    /// Whether the promise is kept here: always, but in the builds of the torture program that break it.
    #[cfg(not(feature = "break-sites"))]
    #[inline]
    #[must_use]
    pub const fn stands(self) -> bool {
        true
    }

    /// Whether the promise is kept here: unless it was [broken](Self::break_it).
    #[cfg(feature = "break-sites")]
    #[must_use]
    pub fn stands(self) -> bool {
        BROKEN.load(std::sync::atomic::Ordering::Relaxed) != self as u8
    }

    /// Takes this one away, in the whole process. The one that was away before stands again.
    #[cfg(feature = "break-sites")]
    pub fn break_it(self) {
        BROKEN.store(self as u8, std::sync::atomic::Ordering::Relaxed);
    }
}

/// Whether this build can take sites away. A build for anything but torture refuses to compile when it can.
pub const SITES_CAN_BREAK: bool = cfg!(feature = "break-sites");

#[cfg(feature = "break-sites")]
static BROKEN: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(u8::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_site_is_listed_once_and_stands() {
        for (number, site) in Site::ALL.iter().enumerate() {
            assert_eq!(usize::from(*site as u8), number);
            assert!(site.stands());
        }
    }
}
