//! What a user would take instead of Locus, a file for each.

mod files;
pub(crate) mod fjall;
mod grouped;
pub(crate) mod postgres;
pub(crate) mod redb;
pub(crate) mod redis;
mod server;
pub(crate) mod spool;
pub(crate) mod sqlite_grouped;
pub(crate) mod sqlite_stock;
pub(crate) mod yaque;

use bytes::Bytes;
use locus_benches::BoxError;

/// Where a rival keeps contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Inside, in the row.
    Inside,
    /// In a file beside the row.
    Beside,
}

/// Only the figure of a content that came back as it was written counts.
fn compare(read: &[u8], content: &Bytes) -> Result<(), BoxError> {
    if read == content { Ok(()) } else { Err("another content came back".into()) }
}
