//! The floors: the system calls that a promise demands, and nothing else.

mod file;
mod group;
mod lean;
mod log;

pub use self::{
    file::FileFloor,
    lean::{LeanFloor, Naming},
    log::LogFloor,
};

/// Bytes of the record that takes a file in: key, checksum, size, times, place, and its head.
const ENTRY_BYTES: usize = 160;
/// Bytes of every other record: key, token, time, and its head.
const NOTE_BYTES: usize = 64;
