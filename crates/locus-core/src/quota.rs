//! Limits on how many files a scope may hold.

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
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::Global => f.write_str("all tenants"),
            Scope::Tenant(tenant) => write!(f, "{tenant}"),
            Scope::Directory(tenant, directory) => write!(f, "{tenant}{directory}"),
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
    /// At most this many files.
    Files(u64),
}

/// How much of a scope is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// What was counted.
    pub scope: Scope,
    /// Files that count now, reservations of writes under way not among them.
    pub files: u64,
    /// The limit in force, if there is one.
    pub limit: Option<u64>,
}

/// A limit on the files of a logical directory, as settings and the builder state it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryQuota {
    /// `tenant/directory`, for example `acme/invoices/2026`.
    pub pattern: String,
    /// At most this many files in the directory.
    pub max_files: u64,
    /// At most this many bytes; `None` is no limit on bytes.
    #[serde(default)]
    pub max_bytes: Option<u64>,
    /// A disabled quota limits nothing. Default true.
    #[serde(default = "yes")]
    pub enabled: bool,
}

const fn yes() -> bool {
    true
}
