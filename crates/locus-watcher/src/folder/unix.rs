//! Over `openat(2)` and its kin.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::{OsStrExt, OsStringExt},
            fs::FileExt,
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, RenameFlags, Timespec, Timestamps, fstat, futimens,
        linkat, mkdirat, openat, renameat_with, statat, unlinkat,
    },
    io::{Errno, retry_on_intr},
};

use super::{InFileSystem, Lies, marks};
use crate::source::{Kind, Stat};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A directory that is only asked what it is, which needs no right to read it where the system knows the difference.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LOOK: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const LOOK: OFlags = DIRECTORY;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// Opens a directory by a path of the operator's: links in it lead where they lead.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(retry_on_intr(|| openat(CWD, path, DIRECTORY, Mode::empty()))?))
    }

    /// Opens a directory in this one, not following a link.
    pub(crate) fn folder(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self(retry_on_intr(|| openat(&self.0, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty()))?))
    }

    /// Opens a file in this directory to read it. Neither follows a link nor waits for anybody at the other end; what it
    /// opened is to be looked at before it is believed.
    pub(crate) fn file(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        Ok(retry_on_intr(|| openat(&self.0, name, flags, Mode::empty()))?.into())
    }

    /// Creates a file in this directory that must not exist.
    pub(crate) fn create(&self, name: &OsStr) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(retry_on_intr(|| openat(&self.0, name, flags, Mode::from_raw_mode(0o666)))?.into())
    }

    /// Makes a directory in this one; that it is there already is success.
    pub(crate) fn make_folder(&self, name: &OsStr) -> io::Result<()> {
        match mkdirat(&self.0, name, Mode::from_raw_mode(0o777)) {
            Err(Errno::EXIST) => Ok(()),
            other => Ok(other?),
        }
    }

    /// What is known about this directory.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(told(&fstat(&self.0)?))
    }

    /// Whether this directory is marked as a volume or the data directory of a store, whoever's.
    pub(crate) fn is_marked(&self) -> bool {
        marks::are_in(&self.0)
    }

    /// Where this directory lies.
    pub(crate) fn lies(&self) -> io::Result<Lies> {
        lies(&self.0)
    }

    /// As [`lies`](Self::lies), of a directory that need not be readable.
    pub(crate) fn lies_at(path: &Path) -> io::Result<Lies> {
        lies(&retry_on_intr(|| openat(CWD, path, LOOK, Mode::empty()))?)
    }

    /// What is known about a name, or a path without links, in this directory; a link at its end is not followed.
    pub(crate) fn stat_of(&self, path: impl AsRef<Path>) -> io::Result<Stat> {
        Ok(told(&retry_on_intr(|| statat(&self.0, path.as_ref(), AtFlags::SYMLINK_NOFOLLOW))?))
    }

    /// What is known about an open file.
    pub(crate) fn stat_of_file(file: &File) -> io::Result<Stat> {
        Ok(told(&fstat(file)?))
    }

    pub(crate) fn entries(&self) -> io::Result<Entries> {
        Ok(Entries(Dir::read_from(&self.0)?))
    }

    /// Removes a file of this directory.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        Ok(unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Renames a file into another directory of the same file system, unless the name is taken there.
    pub(crate) fn rename_new(&self, name: &OsStr, to: &Self, to_name: &OsStr) -> io::Result<()> {
        match renameat_with(&self.0, name, &to.0, to_name, RenameFlags::NOREPLACE) {
            // Some file systems cannot; a second name first, then the first one away, replaces nothing either.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
                linkat(&self.0, name, &to.0, to_name, AtFlags::empty())?;
                to.sync_names()?; // the one name before the other goes
                self.remove(name)
            }
            other => Ok(other?),
        }
    }

    /// Makes what happened to the file system of this directory durable, as far as it lies on one.
    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        sync_file_system(&self.0)
    }

    /// Makes the names in this directory durable.
    pub(crate) fn sync_names(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.0)?)
    }

    /// Reads as much as there is room for from this place on.
    pub(crate) fn read_at(file: &File, room: &mut [u8], at: u64) -> io::Result<()> {
        file.read_exact_at(room, at)
    }

    /// Locks a file unless somebody else has; says whether it is ours. It is until the file is closed.
    ///
    /// # Errors
    /// Where the file system has no locks.
    pub(crate) fn lock(file: &File) -> io::Result<bool> {
        match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }

    /// Makes a file that is not the store's durable.
    pub(crate) fn sync_file(file: &File) -> io::Result<()> {
        Ok(rustix::fs::fsync(file)?)
    }

    /// Gives a file the times of another.
    pub(crate) fn copy_times(from: &Stat, to: &File) -> io::Result<()> {
        let (seconds, nanos) = from.modified;
        let time = Timespec { tv_sec: seconds, tv_nsec: nanos.into() };
        Ok(futimens(to, &Timestamps { last_access: time, last_modification: time })?)
    }
}

fn lies(directory: &OwnedFd) -> io::Result<Lies> {
    let mut chain = vec![told(&fstat(directory)?).place()];
    let mut is_marked = marks::are_in(directory);
    let mut above = retry_on_intr(|| openat(directory, "..", LOOK, Mode::empty()));
    while let Ok(directory) = above {
        let place = told(&fstat(&directory)?).place();
        if chain.last() == Some(&place) {
            break; // above the root is the root
        }
        chain.push(place);
        is_marked = is_marked || marks::are_in(&directory);
        above = retry_on_intr(|| openat(&directory, "..", LOOK, Mode::empty()));
    }
    Ok(Lies { chain, is_marked, in_file_system: InFileSystem::of(directory) })
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn sync_file_system(fd: &impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn sync_file_system(_: &impl AsFd) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// The names in a directory, read piece by piece.
#[derive(Debug)]
pub(crate) struct Entries(Dir);

impl Iterator for Entries {
    type Item = io::Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next()? {
                Ok(entry) => match entry.file_name().to_bytes() {
                    b"." | b".." => {}
                    name => return Some(Ok(OsStr::from_bytes(name).to_owned())),
                },
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

#[expect(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ between systems")]
fn told(stat: &rustix::fs::Stat) -> Stat {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Dir,
        FileType::Symlink => Kind::Link,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        _ => Kind::Device,
    };
    Stat {
        kind,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        links: u64::from(stat.st_nlink),
        modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u32),
        changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u32),
        inode: u64::from(stat.st_ino),
        device: stat.st_dev as u64,
    }
}

/// Whether something was not opened because it is a link.
pub(crate) fn is_link(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::LOOP)
}

/// A path as the system writes it.
pub(crate) fn name_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// The path that the system writes so.
pub(crate) fn path_of(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}
