//! Why a source is not brought in.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why a source stays where it is. Some pass by themselves, some only when somebody changes the source or a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SkipReason {
    /// It is a symbolic link.
    Link,
    /// It has more names than this one: hard links.
    HardLinked,
    /// It is a FIFO.
    Fifo,
    /// It is a socket.
    Socket,
    /// It is a device.
    Device,
    /// An `exclude` pattern matches it.
    Excluded,
    /// No `include` pattern matches it.
    NotIncluded,
    /// It is empty.
    Empty,
    /// It is longer than `size_max`.
    TooLarge,
    /// It lies deeper than 32 folders, or its path is longer than 3,072 bytes.
    TooDeep,
    /// The folder leads back to one that it lies in.
    Loop,
    /// It belongs to the store or to another one (what holds the marker of a volume, or is a data directory, does), or is where
    /// imported sources are moved to.
    Own,
    /// It lies in no tenant's folder.
    NoTenant,
    /// Its folder has the name of no tenant.
    UnknownTenant,
    /// Its tenant takes no files at present.
    TenantDisabled,
    /// It, or its folder, cannot be read.
    Unreadable,
    /// It was changed less than `age_min` ago.
    Young,
    /// It was not yet seen alike over `stability_delay`.
    Settling,
    /// It changed while it was read.
    Changed,
    /// It was there when the folder was read, and is gone.
    Gone,
    /// The store takes no files at present: a quota, no room, or no volume.
    Waiting,
    /// The store refuses this one, by its name or its folder.
    Refused,
    /// It was imported before, and is kept.
    Imported,
    /// It was imported before; removing or moving it failed, and is tried again later.
    AfterImport,
}

impl SkipReason {
    /// As a part of a sentence about the source.
    const fn text(self) -> &'static str {
        match self {
            Self::Link => "is a symbolic link",
            Self::HardLinked => "has more than one hard link",
            Self::Fifo => "is a FIFO",
            Self::Socket => "is a socket",
            Self::Device => "is a device",
            Self::Excluded => "is excluded by a pattern",
            Self::NotIncluded => "is included by no pattern",
            Self::Empty => "is empty",
            Self::TooLarge => "is too large",
            Self::TooDeep => "lies too deep",
            Self::Loop => "leads back to a folder that it lies in",
            Self::Own => "belongs to a store or holds imported sources",
            Self::NoTenant => "lies in no tenant's folder",
            Self::UnknownTenant => "belongs to no tenant",
            Self::TenantDisabled => "belongs to a tenant that takes no files",
            Self::Unreadable => "cannot be read",
            Self::Young => "was changed a moment ago",
            Self::Settling => "was not watched for long enough",
            Self::Changed => "changed while it was read",
            Self::Gone => "is gone",
            Self::Waiting => "waits for the store to take files",
            Self::Refused => "is refused by the store",
            Self::Imported => "was imported and is kept",
            Self::AfterImport => "was imported and cannot be removed or moved",
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}
