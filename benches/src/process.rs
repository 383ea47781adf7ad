//! What the system says about this process.

use std::{fs, io, time::Duration};

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

/// CPU time of this process, all threads, in steps of a clock tick (mostly 10 ms).
///
/// # Errors
/// Where there is no `/proc/self/stat`.
pub fn cpu_time() -> io::Result<Duration> {
    let ticks = cpu_ticks(&fs::read_to_string("/proc/self/stat")?).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// In user mode and in the kernel. The name, which may hold anything, ends with the last bracket.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system) = (fields.next()?.parse::<u64>().ok()?, fields.next()?.parse::<u64>().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_that_of_user_and_kernel() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 400 23 0 0 20";
        assert_eq!(cpu_ticks(stat), Some(423));
        assert_eq!(cpu_ticks("7 (a"), None);
        assert!(cpu_time().is_ok() && resident_bytes().unwrap() > 0);
    }
}
