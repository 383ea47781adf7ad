//! Folders that are not ours: each name is used in a directory that was opened without following a link, and nothing is
//! opened that could block.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(not(unix), path = "other.rs")]
mod sys;

#[cfg(unix)]
mod marks;
#[cfg(unix)]
mod mounts;

#[cfg(unix)]
pub(crate) use mounts::InFileSystem;
#[cfg(not(unix))]
pub(crate) use sys::InFileSystem;
pub(crate) use sys::{Entries, Folder, is_link, name_bytes, path_of};

/// Where a directory lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lies {
    /// Device and inode of itself and of all above it, nearest first, as far as they can be asked.
    pub(crate) chain: Vec<(u64, u64)>,
    /// Itself or a directory above it is marked as a volume or the data directory of a store.
    pub(crate) is_marked: bool,
    /// `None` where the system does not say.
    pub(crate) in_file_system: Option<InFileSystem>,
}
