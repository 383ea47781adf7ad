//! The write-ahead log. It knows no tenant and no file: bytes and attachments in, LSN and places out.
//!
//! [`format`] says what is on the disk, [`segment`] handles the files, [`scan`] reads a log after whatever happened to
//! it, [`log`] appends, writes and syncs.

pub(crate) mod format;
mod log;
mod room;
pub(crate) mod scan;
mod segment;
mod waiters;

pub(crate) use format::{FLAG_BARRIER as BARRIER, FLAG_HELD as HELD, plain_checksum};
pub(crate) use log::{Journal, JournalConfig};
pub(crate) use room::Room;
pub(crate) use segment::SEGMENT_BYTES_MIN;
