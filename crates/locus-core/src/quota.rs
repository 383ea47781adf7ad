//! Limits on how many files and bytes a scope may hold.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{LogicalDir, TenantId};

/// What a limit applies to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Scope {
    /// All files of the store.
    Global,
    /// All files of one tenant.
    Tenant(TenantId),
    /// The files of one tenant in exactly one logical directory (not those beneath it).
    Directory(TenantId, LogicalDir),
    /// The files of one tenant in a logical directory and in all those beneath it, together.
    Subtree(TenantId, LogicalDir),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Global => f.write_str("all tenants"),
            Scope::Tenant(tenant) => write!(f, "{tenant}"),
            Scope::Directory(tenant, directory) => write!(f, "{tenant}{directory}"),
            Scope::Subtree(tenant, directory) => write!(f, "{tenant}{directory} and all beneath it"),
        }
    }
}

/// A limit on a scope: three different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
pub enum Limit {
    /// Nothing was said here: what the settings say holds, and where they say nothing, nothing is limited.
    #[default]
    Inherit,
    /// Said to be without limit, whatever the settings say.
    Unlimited,
    /// At most this many files, of any size.
    Files(u64),
    /// At most this many bytes of content, in any number of files.
    Bytes(u64),
    /// At most this many files, and at most this many bytes together.
    FilesAndBytes {
        /// Most files.
        files: u64,
        /// Most bytes.
        bytes: u64,
    },
}

/// What a limit counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum QuotaUnit {
    /// Files.
    Files,
    /// Bytes of content.
    Bytes,
}

impl fmt::Display for QuotaUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Files => "files",
            Self::Bytes => "bytes",
        })
    }
}

/// How much of a scope is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// What was counted.
    pub scope: Scope,
    /// Files that count now, reservations of writes under way not among them.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// The limit on files in force, if there is one.
    pub limit: Option<u64>,
    /// The limit on bytes in force, if there is one.
    pub bytes_limit: Option<u64>,
}

/// Usage of some of a tenant's logical directories, and where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsagePage {
    /// Of directories that hold files or writes under way, or stand above such, in no order.
    pub usages: Vec<Usage>,
    /// Where the next page begins; `None` when this is the last one.
    pub next: Option<u64>,
}

/// A limit on logical directories, as settings and the builder state it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryQuota {
    /// `tenant/directory`, for example `acme/invoices/2026`, or a glob over that: `*` stands for one name or a part of it,
    /// `**` for any number of levels, `?` for one character, `[a-c]` and `{a,b}` for one of these. Each directory that it
    /// matches has a count of its own. What names a directory exactly wins over a glob, and of two globs the one with more
    /// ordinary characters.
    pub pattern: String,
    /// At most this many files in each such directory; `u64::MAX`, the default, is no limit on files.
    #[serde(default = "unlimited")]
    pub max_files: u64,
    /// At most this many bytes in each such directory; `None`, the default, is no limit on bytes.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// A disabled quota limits nothing, and wins over nothing. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
}

const fn unlimited() -> u64 {
    u64::MAX
}

const fn yes() -> bool {
    true
}
