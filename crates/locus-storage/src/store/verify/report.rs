//! What a verification looked at and found.

use std::path::PathBuf;

use locus_core::{Checksum, FileKey, LogicalDir, Lsn, TenantId, VolumeId};
use serde::Serialize;

/// Findings that a report lists; the others are only counted.
pub(crate) const FINDINGS_MAX: usize = 1_000;

/// How much a verification looks at. Each level includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum VerifyLevel {
    /// Counts and references: what is counted as files come and go is counted anew, and every file is where its record
    /// says, with the length it says. Reads no content.
    Counts,
    /// The kept checkpoints and every segment of the journal are read again from the disk, and their checksums compared.
    Records,
    /// Every content is read and compared with its checksum.
    Contents,
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyProgress {
    /// Files whose record and place were looked at.
    pub files_done: u64,
    /// Files that there were when it began, or more when more came.
    pub files_total: u64,
    /// Bytes of checkpoints, segments and contents that were read.
    pub bytes_done: u64,
    /// Bytes that are to be read, as reckoned when it began, or more when more came.
    pub bytes_total: u64,
}

/// What [`EmbeddedStore::verify`](crate::EmbeddedStore::verify) looked at, and what it found wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerifyReport {
    /// How much was looked at.
    pub level: VerifyLevel,
    /// Tenants that have files, or had some since the store was opened.
    pub tenants: u64,
    /// Files, those waiting to be removed included.
    pub files: u64,
    /// Contents on volumes that were found by name.
    pub blobs: u64,
    /// Checkpoints that were read.
    pub checkpoints: u64,
    /// Segments of the journal that were read.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Contents that were read and compared, in the journal and on volumes.
    pub contents: u64,
    /// Bytes of checkpoints, segments and contents that were read.
    pub bytes: u64,
    /// Files that could not be looked at because their volume is not mounted or does not answer.
    pub unchecked: u64,
    /// What is wrong, the first 1,000 of it.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub findings_total: u64,
}

impl VerifyReport {
    pub(super) fn new(level: VerifyLevel) -> Self {
        Self {
            level,
            tenants: 0,
            files: 0,
            blobs: 0,
            checkpoints: 0,
            segments: 0,
            records: 0,
            contents: 0,
            bytes: 0,
            unchecked: 0,
            findings: Vec::new(),
            findings_total: 0,
        }
    }

    /// Whether nothing was found wrong. Files that could not be looked at are no finding.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.findings_total == 0
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.findings_total += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        }
    }
}

/// A number that is held as files come and go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub enum Counted {
    /// Pending files of a tenant.
    Pending,
    /// Leased files of a tenant.
    Processing,
    /// Completed files of a tenant that are not yet reaped.
    Completed,
    /// Files of a tenant that failed for the last time.
    PermanentlyFailed,
    /// Deleted files of a tenant that are not yet reaped.
    Deleted,
    /// Bytes of all files of a tenant.
    Bytes,
    /// Files in the queues from which a tenant's files are leased.
    Waiting,
    /// Deadlines of a tenant's leases.
    Leased,
    /// Files of a logical directory.
    DirectoryFiles,
    /// Bytes of the files of a logical directory.
    DirectoryBytes,
    /// Writes under way into a logical directory.
    DirectoryReserved,
    /// Bytes that these writes have room for.
    DirectoryReservedBytes,
    /// Files of a logical directory and of all beneath it,
    SubtreeFiles,
    /// their bytes,
    SubtreeBytes,
    /// writes under way there,
    SubtreeReserved,
    /// and the bytes that these have room for.
    SubtreeReservedBytes,
    /// Files, writes and directories that keep a logical directory known.
    DirectoryUses,
    /// How often a logical directory is found by its name.
    DirectoryNames,
    /// Bytes that a tenant's writes under way have room for.
    ReservedBytes,
    /// Files of the whole store.
    Files,
    /// Bytes of all files of the whole store.
    AllBytes,
    /// Files and writes under way of the whole store, which its limit is held against.
    Taken,
    /// Bytes of these.
    TakenBytes,
    /// Files whose content rests in the journal.
    InJournal,
    /// Files that rest on a volume.
    OnVolume,
    /// Uploads that are put together on a volume,
    UploadsOnVolume,
    /// and the bytes that they have still to write there.
    UploadBytesOnVolume,
    /// Bytes of contents that live in a segment of the journal.
    LiveBytes,
    /// Bytes that all files take in a checkpoint, at most.
    CheckpointBytes,
    /// Idempotency keys that are remembered.
    IdempotencyKeys,
    /// Contents that are sealed with a key.
    SealedWithKey,
    /// Files that wait to be reaped.
    ToReap,
    /// Dead letters of a tenant,
    DeadLettered,
    /// and their bytes.
    DeadLetterBytes,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Finding {
    /// A number that is held is not what the files add up to. Reopening the store counts all of them anew.
    Count {
        /// Which number.
        what: Counted,
        /// Whose, when it is a tenant's.
        tenant: Option<TenantId>,
        /// Of which of its directories, when it is a directory's.
        directory: Option<LogicalDir>,
        /// Of which volume, when it is a volume's.
        volume: Option<VolumeId>,
        /// Of which segment of the journal, when it is a segment's.
        segment: Option<u64>,
        /// What is held.
        held: u64,
        /// What the files add up to.
        actual: u64,
    },
    /// A file does not wait where its state says, or cannot be found by its key. Reopening the store queues it anew.
    Misfiled {
        /// Whose file.
        tenant: TenantId,
        /// Which file.
        key: FileKey,
    },
    /// A file's content is said to rest in the journal where no segment is.
    PlaceMissing {
        /// Whose file.
        tenant: TenantId,
        /// Which file.
        key: FileKey,
        /// The segment that is named.
        segment: u64,
        /// The place in it.
        offset: u64,
    },
    /// A file's content is not on its volume, although the volume is there.
    BlobMissing {
        /// Whose file.
        tenant: TenantId,
        /// Which file.
        key: FileKey,
        /// The volume.
        volume: VolumeId,
        /// Where the content should be.
        path: PathBuf,
    },
    /// A file's content on a volume does not have the length that was recorded.
    BlobLength {
        /// Whose file.
        tenant: TenantId,
        /// Which file.
        key: FileKey,
        /// The volume.
        volume: VolumeId,
        /// Where the content is.
        path: PathBuf,
        /// The length that was recorded, in bytes.
        recorded: u64,
        /// The length that was found, in bytes.
        found: u64,
    },
    /// A content does not match its checksum.
    ContentDamaged {
        /// Whose file.
        tenant: TenantId,
        /// Which file.
        key: FileKey,
        /// The volume; `None` when the content rests in the journal.
        volume: Option<VolumeId>,
        /// The file that holds the content.
        path: PathBuf,
        /// Where the content begins in it.
        offset: u64,
        /// The checksum that was recorded.
        recorded: Checksum,
        /// That of the bytes that were read.
        found: Checksum,
    },
    /// A content could not be read.
    ContentUnreadable {
        /// Whose file.
        tenant: TenantId,
        /// Which file.
        key: FileKey,
        /// The volume; `None` when the content rests in the journal.
        volume: Option<VolumeId>,
        /// The file that holds the content.
        path: PathBuf,
        /// What the disk said.
        why: String,
    },
    /// A checkpoint cannot be read. The next one replaces it; until then the one before it, with the log since, says the
    /// same.
    CheckpointDamaged {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Neither copy of a segment's header is what it should be: the next open would not know the segment.
    HeaderDamaged {
        /// The segment.
        segment: u64,
        /// Its file.
        path: PathBuf,
    },
    /// A record is missing or bad.
    RecordDamaged {
        /// The segment.
        segment: u64,
        /// Its file.
        path: PathBuf,
        /// Where in it the batch begins that should hold the record.
        offset: u64,
        /// The record that should be there.
        lsn: Lsn,
    },
    /// The contents that a record carries do not match the checksum of all of them. Which living files are concerned,
    /// the level [`VerifyLevel::Contents`] tells; there may be none.
    AttachmentDamaged {
        /// The segment.
        segment: u64,
        /// Its file.
        path: PathBuf,
        /// Where in it the contents begin.
        offset: u64,
        /// The record.
        lsn: Lsn,
    },
    /// A segment of the journal could not be read.
    SegmentUnreadable {
        /// The segment.
        segment: u64,
        /// Its file.
        path: PathBuf,
        /// What the disk said.
        why: String,
    },
}
