//! What the system says about this process.

use std::{fs, io};

/// Bytes of memory that this process has in RAM.
///
/// # Errors
/// Where there is no `/proc/self/statm`.
pub fn resident_bytes() -> io::Result<u64> {
    let statm = fs::read_to_string("/proc/self/statm")?;
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    let pages = pages.ok_or(io::ErrorKind::InvalidData)?;
    Ok(pages * rustix::param::page_size() as u64)
}
