//! What can go wrong, with what a person needs to act on it.

use std::{borrow::Cow, io, path::PathBuf};

use crate::{
    Checksum, FileKey, FileStatus, IdWord, LogicalDir, QuotaUnit, SealKeyId, TenantId, TenantStatus,
    Timestamp, Token, UploadId, VolumeId, WatcherId,
};

/// An error of the caller's own, as a worker's handler returns it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// `std`'s result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What is known about a change when its journal could no longer be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It may or may not be there after reopening.
    Unknown,
    /// It did not happen.
    NotDone,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Outcome::Unknown => "whether this change happened is decided at reopening",
            Outcome::NotDone => "this change did not happen",
        })
    }
}

/// What to do about an error. See [`Error::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The call is wrong: the same call fails again.
    FixCall,
    /// The same call may succeed now.
    Retry,
    /// The same call may succeed when something else has happened: room was made, a volume came back, work is due.
    Wait,
    /// Someone must look at the machine.
    Operator,
}

/// Every error of Locus. [`kind`](Self::kind) says what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No tenant of this name exists.
    #[error("there is no tenant {tenant}: create it first")]
    TenantNotFound {
        /// The name that was asked for.
        tenant: TenantId,
    },
    /// A tenant of this name exists already.
    #[error("tenant {tenant} exists already")]
    TenantExists {
        /// The name.
        tenant: TenantId,
    },
    /// The tenant is disabled or suspended, and the call is one that its status does not allow.
    #[error("tenant {tenant} is {status}")]
    TenantDisabled {
        /// The tenant.
        tenant: TenantId,
        /// Disabled or suspended.
        status: TenantStatus,
    },
    /// The tenant cannot be deleted, because it is not empty.
    #[error(
        "tenant {tenant} still has {files} files, {writes} writes under way and {uploads} open uploads: let them end, or purge it"
    )]
    TenantInUse {
        /// The tenant.
        tenant: TenantId,
        /// Its files in all states that count, those waiting to be removed included.
        files: u64,
        /// Writes under way.
        writes: u64,
        /// Uploads that are open.
        uploads: u64,
    },
    /// The tenant is being deleted or purged, which ends this call's say over it.
    #[error("tenant {tenant} is being removed")]
    TenantLeaving {
        /// The tenant.
        tenant: TenantId,
    },
    /// The store has files of a tenant whose own file is missing.
    #[error("the file of tenant {tenant} is missing: create the tenant to bring its files back, or purge it")]
    TenantLost {
        /// The tenant.
        tenant: TenantId,
    },
    /// The tenant has no file with this key.
    #[error("there is no file {key}")]
    FileNotFound {
        /// The key that was asked for.
        key: FileKey,
    },
    /// The tenant has no upload of this name: it was aborted, or nothing came for too long.
    #[error("there is no upload {upload}")]
    UploadNotFound {
        /// The name that was asked for.
        upload: UploadId,
    },
    /// The upload cannot be finished: something has still to be sent.
    #[error("upload {upload} is not complete: bytes {} to {} are missing", missing.start, missing.end)]
    UploadIncomplete {
        /// The upload.
        upload: UploadId,
        /// The first range that is missing.
        missing: std::ops::Range<u64>,
    },
    /// The logical directory is full, or the one above it whose subtree is limited.
    #[error("directory {directory} of tenant {tenant} is full: {used} of {limit} {unit}")]
    DirectoryQuotaExceeded {
        /// Whose directory.
        tenant: TenantId,
        /// Which directory.
        directory: LogicalDir,
        /// Files, or bytes, in it, writes under way included.
        used: u64,
        /// The limit in force.
        limit: u64,
        /// What both count. With bytes, `used` may be below the limit: the new content does not fit.
        unit: QuotaUnit,
    },
    /// The tenant is full.
    #[error("tenant {tenant} is full: {used} of {limit} {unit}")]
    TenantQuotaExceeded {
        /// The tenant.
        tenant: TenantId,
        /// Its files, or their bytes, writes under way included.
        used: u64,
        /// The limit in force.
        limit: u64,
        /// What both count. With bytes, `used` may be below the limit: the new content does not fit.
        unit: QuotaUnit,
    },
    /// The store as a whole is full.
    #[error("the store is full: {used} of {limit} {unit}")]
    GlobalQuotaExceeded {
        /// Files, or bytes, of all tenants, writes under way included.
        used: u64,
        /// The limit in force.
        limit: u64,
        /// What both count. With bytes, `used` may be below the limit: the new content does not fit.
        unit: QuotaUnit,
    },
    /// No volume can be used for this call.
    #[error("{}{why}", volume.as_ref().map(|id| format!("volume {id} ")).unwrap_or_default())]
    VolumeUnavailable {
        /// The volume that was needed; `None` when any would have done.
        volume: Option<VolumeId>,
        /// Why not.
        why: Cow<'static, str>,
    },
    /// No volume of this name is mounted.
    #[error("there is no volume {volume}")]
    VolumeNotFound {
        /// The name that was asked for.
        volume: VolumeId,
    },
    /// A volume of this name is mounted already.
    #[error("volume {volume} is mounted already")]
    VolumeExists {
        /// The name.
        volume: VolumeId,
    },
    /// Something goes on with the volume that goes on once at a time.
    #[error("volume {volume} is being {doing} already")]
    VolumeBusy {
        /// The volume.
        volume: VolumeId,
        /// What is done to it, as a participle.
        doing: &'static str,
    },
    /// There is no watcher of this name.
    #[error("there is no watcher {watcher}")]
    WatcherNotFound {
        /// The name that was asked for.
        watcher: WatcherId,
    },
    /// There is a watcher of this name already.
    #[error("watcher {watcher} exists already")]
    WatcherExists {
        /// The name.
        watcher: WatcherId,
    },
    /// The watcher is switched off.
    #[error("watcher {watcher} is disabled: enable it first")]
    WatcherDisabled {
        /// The watcher.
        watcher: WatcherId,
    },
    /// The folder of a watcher cannot be looked into. It is looked for again by itself.
    #[error("watcher {watcher} cannot look into {}", path.display())]
    FolderUnavailable {
        /// The watcher.
        watcher: WatcherId,
        /// Its folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Files rest on the volume, so it cannot be removed.
    #[error("volume {volume} still holds {files} files: complete, delete or drain them first")]
    VolumeInUse {
        /// The volume.
        volume: VolumeId,
        /// How many files rest there.
        files: u64,
    },
    /// There is not enough room.
    #[error("not enough room: {required} bytes are needed, {available} are available")]
    InsufficientStorage {
        /// Bytes needed.
        required: u64,
        /// Bytes available where most are.
        available: u64,
    },
    /// No file came within the time asked for.
    #[error("no file of tenant {tenant} is ready")]
    NoFilesAvailable {
        /// Whose queue is empty.
        tenant: TenantId,
    },
    /// The file is leased.
    #[error("file {key} is being processed")]
    AlreadyProcessing {
        /// The file.
        key: FileKey,
    },
    /// The file failed before and its delay is not over.
    #[error("file {key} is not due before {available_at}")]
    NotDue {
        /// The file.
        key: FileKey,
        /// When it will be.
        available_at: Timestamp,
    },
    /// The file's state does not allow the call.
    #[error("file {key} is {status}, which does not allow this")]
    WrongStatus {
        /// The file.
        key: FileKey,
        /// Its state.
        status: FileStatus,
    },
    /// The lease does not hold any more; somebody else may have the file.
    #[error("the lease {actual} of file {key} is lost{}", status.map(|s| format!(": the file is {s}")).unwrap_or_default())]
    LeaseLost {
        /// The file.
        key: FileKey,
        /// The token that would be taken now; `None` when there is none.
        expected: Option<Token>,
        /// The token that was presented.
        actual: Token,
        /// The file's state; `None` when its record is gone.
        status: Option<FileStatus>,
    },
    /// A text is no identifier.
    #[error("{word} \"{value}\" {why}")]
    InvalidId {
        /// What it was meant to be.
        word: IdWord,
        /// The beginning of the text.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A setting is out of its range, unknown, or contradicts another.
    #[error("setting {name} {why}")]
    InvalidSetting {
        /// Its full name, for example `engine.segment_size`.
        name: Cow<'static, str>,
        /// What is wrong with it and what would be right.
        why: Cow<'static, str>,
    },
    /// An argument of the call is out of its range.
    #[error("argument {name} {why}")]
    InvalidArgument {
        /// The argument's name.
        name: &'static str,
        /// What is wrong with it and what would be right.
        why: &'static str,
    },
    /// Something is larger than its bound.
    #[error("{what} is {size}, more than the {limit} that are allowed")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size.
        size: u64,
        /// The bound.
        limit: u64,
    },
    /// Content is not what it should be.
    #[error("content {place} has checksum {actual} where {expected} was expected")]
    ChecksumMismatch {
        /// Where the content is or comes from.
        place: Cow<'static, str>,
        /// What was expected.
        expected: Checksum,
        /// What was found.
        actual: Checksum,
    },
    /// The file cannot be given a path.
    #[error("file {key} cannot be given a path: {why}")]
    NotMaterializable {
        /// The file.
        key: FileKey,
        /// Why not.
        why: &'static str,
    },
    /// Another process, or another part of this one, has the directory open.
    #[error("{} is already open{}", path.display(), if holder.is_empty() { String::new() } else { format!(" by {holder}") })]
    AlreadyOpen {
        /// The directory.
        path: PathBuf,
        /// Who has it, as far as the lock file tells.
        holder: String,
    },
    /// What is on the disk is damaged; nothing was changed.
    #[error("{place} is damaged: {why}")]
    Corrupt {
        /// File and offset, or whatever names the place.
        place: String,
        /// What is wrong there.
        why: Cow<'static, str>,
    },
    /// Something is sealed with a key that is not there.
    #[error("key {key} is needed and not there: open the pool with the ring that has it")]
    UnknownKey {
        /// The key.
        key: SealKeyId,
    },
    /// What is sealed does not open: it is not what was sealed.
    #[error("{place} does not open: it is not what was sealed there")]
    Tampered {
        /// Whatever names the place.
        place: String,
    },
    /// What is on the disk was written by a newer version.
    #[error(
        "{place} has format {found}, newer than the {supported} that this version reads: use a newer Locus"
    )]
    NewerFormat {
        /// File or directory.
        place: String,
        /// Its format.
        found: u32,
        /// The newest format that can be read.
        supported: u32,
    },
    /// A write or sync failed earlier, so the store takes no more changes until it is reopened; or its threads ended before this
    /// call's change was durable.
    #[error("the store takes no changes until it is reopened, because a write or sync failed; {outcome}")]
    Poisoned {
        /// What is known about this call's own change.
        outcome: Outcome,
    },
    /// The store is being closed and takes no new work.
    #[error("the store is being closed")]
    ShuttingDown,
    /// The operating system refused.
    #[error("cannot {op} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        op: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The caller's own source of content failed.
    #[error("cannot read the content to be written")]
    Source {
        /// How it failed.
        source: io::Error,
    },
}

impl Error {
    /// What is [too large](Self::TooLarge) when the store remembers as many idempotency keys as it may: no matter of the one
    /// file, and it passes as keys are forgotten.
    pub const IDEMPOTENCY_KEYS: &str = "number of idempotency keys";

    /// What to do about it.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        use Error as E;
        match self {
            E::TenantNotFound { .. }
            | E::TenantExists { .. }
            | E::FileNotFound { .. }
            | E::UploadNotFound { .. }
            | E::UploadIncomplete { .. }
            | E::VolumeNotFound { .. }
            | E::VolumeExists { .. }
            | E::WatcherNotFound { .. }
            | E::WatcherExists { .. }
            | E::WrongStatus { .. }
            | E::LeaseLost { .. }
            | E::InvalidId { .. }
            | E::InvalidSetting { .. }
            | E::InvalidArgument { .. }
            | E::TooLarge { .. }
            | E::NotMaterializable { .. } => ErrorKind::FixCall,
            E::Source { .. } => ErrorKind::Retry,
            E::TenantDisabled { .. }
            | E::TenantInUse { .. }
            | E::TenantLeaving { .. }
            | E::DirectoryQuotaExceeded { .. }
            | E::TenantQuotaExceeded { .. }
            | E::GlobalQuotaExceeded { .. }
            | E::VolumeUnavailable { .. }
            | E::VolumeBusy { .. }
            | E::VolumeInUse { .. }
            | E::WatcherDisabled { .. }
            | E::FolderUnavailable { .. }
            | E::InsufficientStorage { .. }
            | E::NoFilesAvailable { .. }
            | E::AlreadyProcessing { .. }
            | E::NotDue { .. }
            | E::AlreadyOpen { .. }
            | E::ShuttingDown => ErrorKind::Wait,
            E::TenantLost { .. }
            | E::ChecksumMismatch { .. }
            | E::Corrupt { .. }
            | E::UnknownKey { .. }
            | E::Tampered { .. }
            | E::NewerFormat { .. }
            | E::Poisoned { .. }
            | E::Io { .. } => ErrorKind::Operator,
        }
    }

    /// An [`Error::Io`] from its parts; made for `map_err`.
    pub fn io(op: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::Io { op, path: path.into(), source }
    }

    /// Whether the error says that a name is taken (`AlreadyExists`).
    #[must_use]
    pub fn is_taken(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists)
    }

    /// Whether the error says that there is nothing of this name (`NotFound`).
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether the error says that a disk, or the share of it that may be used, is full.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Error::InsufficientStorage { .. } => true,
            Error::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_or_absent_by_the_kind_of_its_io_error_alone() {
        let of = |kind: io::ErrorKind| Error::io("open", "x")(kind.into());
        let (taken, absent) = (of(io::ErrorKind::AlreadyExists), of(io::ErrorKind::NotFound));
        assert_eq!((taken.is_taken(), taken.is_absent()), (true, false));
        assert_eq!((absent.is_taken(), absent.is_absent()), (false, true));
        let source = io::ErrorKind::NotFound.into();
        assert!(!Error::Source { source }.is_absent(), "a source that is gone is no blob");
    }

    #[test]
    fn a_message_is_lower_case_and_does_not_print_its_source() {
        let error = Error::io("open", "/data/x")(io::Error::other("inner"));
        assert_eq!(error.to_string(), "cannot open /data/x");
        assert!(std::error::Error::source(&error).is_some());
        assert_eq!(error.kind(), ErrorKind::Operator);
    }

    #[test]
    fn a_volume_is_named_when_there_is_one() {
        let volume = Some(VolumeId::parse("vol-1").unwrap());
        let error = Error::VolumeUnavailable { volume, why: "is not mounted".into() };
        assert_eq!(error.to_string(), "volume vol-1 is not mounted");
        let error = Error::VolumeUnavailable { volume: None, why: "no volume is mounted".into() };
        assert_eq!(error.to_string(), "no volume is mounted");
    }
}
