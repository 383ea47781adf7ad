//! The write-ahead log. It knows no tenant and no file: bytes and attachments in, LSN and places out.
//!
//! [`format`] says what is on the disk, [`segment`] handles the files, [`scan`] reads a log after whatever happened to
//! it, segment by segment as [`walk`] goes through one. [`layout`] decides where a record comes to lie, [`log`] appends it and makes room for it, [`write`] writes and
//! syncs, [`keep`] knows what lives in which segment and which is free.

#[cfg(test)]
mod fixture;
pub(crate) mod format;
mod keep;
mod layout;
mod log;
mod place;
mod room;
pub(crate) mod scan;
mod segment;
mod waiters;
pub(crate) mod walk;
mod wreck;
mod write;

pub(crate) use format::{FLAG_BARRIER as BARRIER, FLAG_HELD as HELD, plain_checksum};
pub(crate) use keep::{Pin, Relief};
pub(crate) use layout::{Attachment, Parts};
pub(crate) use log::{Appended, Journal, JournalConfig, Resume};
pub(crate) use place::LogPlace;
pub(crate) use room::{Room, Use};
pub(crate) use scan::KeptSegment;
pub(crate) use segment::SEGMENT_BYTES_MIN;
pub(crate) use wreck::{Lost, Wreck, store_of};
pub(crate) use write::Unsynced;
