//! The lock of one entity among many, which any process may take: shared by readers, or exclusive.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{Clock, Timestamp};

use crate::{
    dir_lock::{host, named},
    disk::{Disk, DiskLock},
    door::off_thread,
};

/// Longest note about a holder that is read back, in bytes.
const NOTE_BYTES_MAX: usize = 256;

/// How often in a row a lock file may be gone, or be another one, by the time it is locked.
const TURNS_MAX: usize = 16;

/// How long who waits sleeps at first between two tries, and at most: twice as long each time.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// How a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LockMode {
    /// Together with any number of others who share it.
    Shared,
    /// Alone.
    Exclusive,
}

/// Who holds a lock, by what its file says. Of several who share one: who came last, even when that one has gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// The number of the process.
    pub process: u32,
    /// The name of its machine.
    pub host: String,
    /// Since when, by the wall clock there.
    pub since: Timestamp,
    /// How.
    pub mode: LockMode,
}

/// Why a lock was not taken, or not let go.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody else holds it.
    #[error("{} is locked{}", path.display(), by(holder.as_ref()))]
    AlreadyLocked {
        /// The lock file.
        path: PathBuf,
        /// Who, as far as the file tells.
        holder: Option<LockHolder>,
    },
    /// Somebody else held it all the time that was given.
    #[error("{} is locked{}, still after {waited:?}", path.display(), by(holder.as_ref()))]
    LockTimeout {
        /// The lock file.
        path: PathBuf,
        /// Who held it at the end, as far as the file tells.
        holder: Option<LockHolder>,
        /// The time that was given.
        waited: Duration,
    },
    /// The file could not be locked, nor said to be locked.
    #[error("cannot lock {}", path.display())]
    LockFailed {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The lock was not let go in good order. The file is closed, which lets go wherever the system works.
    #[error("cannot unlock {}", path.display())]
    UnlockFailed {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The manager gives out no more locks.
    #[error("no more locks are given out in {}", dir.display())]
    Closed {
        /// The directory of its lock files.
        dir: PathBuf,
    },
}

fn by(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(String::new, |holder| format!(" by {holder}"))
}

/// A lock on the file that stands for an entity, held until this is dropped or the process ends. Two of them exclude each
/// other in one process, too.
///
/// The file may be removed only by who holds it exclusively ([`remove`](Self::remove)): whoever locks a file looks
/// afterwards whether it still has its name, so nobody ever holds the lock of a file that is gone. The disk must tell files
/// apart ([`DiskLock::id`]) for that; where it does not, lock files must stay.
#[must_use = "the entity is locked only as long as this lives"]
#[derive(Debug)]
pub struct EntityLock {
    path: PathBuf,
    mode: LockMode,
    lock: Box<dyn DiskLock>,
}

impl EntityLock {
    /// Locks the file at `path`, which is created when absent, its directory not. Says in it who does, and that it is since
    /// `now`; where that cannot be written (a full disk) it is locked all the same. Never waits.
    ///
    /// # Errors
    /// [`LockError::AlreadyLocked`] names who has it; [`LockError::LockFailed`].
    pub fn try_acquire(
        disk: &dyn Disk,
        path: &Path,
        mode: LockMode,
        now: Timestamp,
    ) -> Result<Self, LockError> {
        let mut absent = None;
        for _ in 0..TURNS_MAX {
            let locked = match mode {
                LockMode::Shared => disk.lock_shared(path),
                LockMode::Exclusive => disk.lock(path),
            };
            let lock = match locked {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(LockError::AlreadyLocked {
                        path: path.to_owned(),
                        holder: LockHolder::of(disk, path),
                    });
                }
                // It was there, and then was not: or its directory is not there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    absent = Some(error);
                    continue;
                }
                other => other.map_err(failed(path))?,
            };
            if has_its_name(disk, path, &*lock).map_err(failed(path))? {
                LockHolder::this_process(mode, now).sign(&*lock);
                return Ok(Self { path: path.to_owned(), mode, lock });
            }
        }
        Err(match absent {
            Some(source) => failed(path)(source),
            None => LockError::AlreadyLocked { path: path.to_owned(), holder: None },
        })
    }

    /// As [`try_acquire`](Self::try_acquire), but waits while somebody else has it, for `timeout` at most: tries again after
    /// 1 ms, then after twice as long each time up to 64 ms. Who comes first is not promised to get it first. Tries once
    /// even when no time is given.
    ///
    /// # Errors
    /// [`LockError::LockTimeout`] names who had it at the end; [`LockError::LockFailed`].
    ///
    /// # Cancel safety
    /// Who drops the future has stopped waiting; a lock that was just taken is let go at once.
    pub async fn acquire(
        disk: &Arc<dyn Disk>,
        clock: &dyn Clock,
        path: &Path,
        mode: LockMode,
        timeout: Option<Duration>,
    ) -> Result<Self, LockError> {
        let deadline = timeout.map(|timeout| clock.monotonic().saturating_add(timeout));
        let mut pause = PAUSE_MIN;
        loop {
            let (their_disk, their_path, now) = (Arc::clone(disk), path.to_owned(), clock.wall());
            let tried = off_thread(&**disk, move || Self::try_acquire(&*their_disk, &their_path, mode, now));
            let held = match tried.await {
                Err(LockError::AlreadyLocked { path, holder }) => (path, holder),
                other => return other,
            };
            let next = clock.monotonic().saturating_add(pause);
            let last = deadline.is_some_and(|deadline| clock.monotonic() >= deadline);
            if let (true, Some(waited), (path, holder)) = (last, timeout, held) {
                return Err(LockError::LockTimeout { path, holder, waited });
            }
            // The last try comes when the time is over, not before.
            clock.sleep_until(deadline.map_or(next, |deadline| next.min(deadline))).await;
            pause = pause.saturating_mul(2).min(PAUSE_MAX);
        }
    }

    /// The file that is locked.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is held.
    #[must_use]
    pub fn mode(&self) -> LockMode {
        self.mode
    }

    /// Lets go, and says whether the system did.
    ///
    /// # Errors
    /// [`LockError::UnlockFailed`]: the file is closed nevertheless.
    pub fn release(self) -> Result<(), LockError> {
        let Self { path, lock, .. } = self;
        lock.unlock().map_err(|source| LockError::UnlockFailed { path, source })
    }

    /// Removes the lock file, and lets go afterwards. Who waited for it finds that it is gone and makes a new one. Where
    /// the disk does not tell files apart, the file stays.
    ///
    /// # Errors
    /// [`LockError::LockFailed`] when it is not held exclusively, of kind [`InvalidInput`](io::ErrorKind::InvalidInput),
    /// or the file could not be removed; [`LockError::UnlockFailed`].
    pub fn remove(self, disk: &dyn Disk) -> Result<(), LockError> {
        if self.mode != LockMode::Exclusive {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "a shared lock does not remove its file");
            return Err(failed(&self.path)(why));
        }
        if self.lock.id().map_err(failed(&self.path))?.is_some() {
            disk.remove_file(&self.path).map_err(failed(&self.path))?;
        }
        self.release()
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> LockError {
    |source| LockError::LockFailed { path: path.to_owned(), source }
}

/// Whether the file that was locked is still the one under its name.
fn has_its_name(disk: &dyn Disk, path: &Path, lock: &dyn DiskLock) -> io::Result<bool> {
    let Some(locked) = lock.id()? else { return Ok(true) };
    match disk.metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        found => Ok(found?.id == Some(locked)),
    }
}

impl LockHolder {
    fn this_process(mode: LockMode, since: Timestamp) -> Self {
        Self { process: std::process::id(), host: host(), since, mode }
    }

    /// Who holds the lock at `path`, as far as the file tells.
    #[must_use]
    pub fn of(disk: &dyn Disk, path: &Path) -> Option<Self> {
        let mut note = [0; NOTE_BYTES_MAX];
        let read = disk.open(path, false).and_then(|file| file.read_at(&mut note, 0)).ok()?;
        Self::decode(note.get(..read)?)
    }

    /// A wrong name would be worse than none.
    fn sign(&self, lock: &dyn DiskLock) {
        if lock.file().write_at(&self.encode(), 0).is_err() {
            let _ = lock.file().set_len(0);
        }
    }

    /// One line. What an earlier, longer one leaves behind it says nothing.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mode = match self.mode {
            LockMode::Shared => "shared",
            LockMode::Exclusive => "exclusive",
        };
        let mut line =
            format!("{} {} {mode} {}", self.process, self.since.as_micros(), self.host).into_bytes();
        line.truncate(NOTE_BYTES_MAX.saturating_sub(1));
        line.push(b'\n');
        line
    }

    /// Any bytes may stand there.
    pub(crate) fn decode(note: &[u8]) -> Option<Self> {
        let line = note.split(|byte| *byte == b'\n').next()?;
        let line = std::str::from_utf8(line).ok()?;
        let mut parts = line.splitn(4, ' ');
        let (process, since, mode, host) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            process: process.parse().ok()?,
            since: Timestamp::from_micros(since.parse().ok()?),
            mode: match mode {
                "shared" => LockMode::Shared,
                "exclusive" => LockMode::Exclusive,
                _ => return None,
            },
            host: named(host.as_bytes()),
        })
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = if self.mode == LockMode::Shared { ", shared" } else { "" };
        write!(f, "process {} on {} since {}{shared}", self.process, self.host, self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_says_who_and_what_stands_behind_its_line_says_nothing() {
        let since = Timestamp::from_micros(1_500_000);
        let holder = LockHolder { process: 4711, host: "elsewhere".into(), since, mode: LockMode::Shared };
        let mut note = holder.encode();
        note.extend(b"of an earlier one\n");
        assert_eq!(LockHolder::decode(&note), Some(holder.clone()));
        assert_eq!(holder.to_string(), "process 4711 on elsewhere since 1970-01-01T00:00:01.5Z, shared");
        for noise in [&b""[..], b"\n", b"4711\n", b"x 1 shared y\n", b"1 1 both y\n", b"\xff 1 shared y\n"] {
            assert_eq!(LockHolder::decode(noise), None, "{noise:?}");
        }
    }
}
