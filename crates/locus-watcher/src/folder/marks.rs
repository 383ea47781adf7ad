//! What tells that a directory is a store's own, whoever opened that store, and whether it is open or not.

use std::{fs::File, io::Read, os::fd::AsFd};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, openat, statat},
    io::retry_on_intr,
};

/// It lies in each volume.
const VOLUME: &str = ".locus-volume";
/// It lies in each data directory, and begins so.
const STORE: &str = "STORE";
const STORE_BEGINS: &[u8; 8] = b"LOCUSSTO";
/// It lies in each data directory that was ever opened.
const LOCK: &str = "LOCK";

/// Whether this directory, which need not be readable, is a volume or a data directory. What cannot be asked is none.
pub(super) fn are_in(directory: &impl AsFd) -> bool {
    has_file(directory, VOLUME)
        || has_file(directory, STORE) && (has_file(directory, LOCK) || is_begun_as_store(directory))
}

fn has_file(directory: &impl AsFd, name: &str) -> bool {
    let stat = retry_on_intr(|| statat(directory, name, AtFlags::SYMLINK_NOFOLLOW));
    stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
}

fn is_begun_as_store(directory: &impl AsFd) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = retry_on_intr(|| openat(directory, STORE, flags, Mode::empty())) else { return false };
    let mut begins = [0; STORE_BEGINS.len()];
    File::from(file).read_exact(&mut begins).is_ok() && begins == *STORE_BEGINS
}
