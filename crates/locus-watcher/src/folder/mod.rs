//! Folders that are not ours: each name is used in a directory that was opened without following a link, and nothing is
//! opened that could block.

#[cfg_attr(unix, path = "unix.rs")]
#[cfg_attr(not(unix), path = "other.rs")]
mod sys;

pub(crate) use sys::{Entries, Folder, is_link, name_bytes, path_of};
