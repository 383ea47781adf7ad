//! Opening what lies beneath a directory without following a link on the way.

use std::{
    ffi::OsStr,
    fs, io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::retry_on_intr,
};

/// To look into a directory, or to sync it.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY);

/// To do something with a name in a directory, or to look at what has the name.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) const PLACE: OFlags = DIRECTORY;

/// A directory and the way to what lies beneath it.
#[derive(Debug)]
pub(super) struct Root {
    /// As its user writes it; paths beneath it begin so.
    written: PathBuf,
    /// Where that led when it was found: absolute, without links.
    found: PathBuf,
    /// Whether the system resolves a whole path without links.
    whole: bool,
}

impl Root {
    pub(super) fn find(written: &Path) -> io::Result<Self> {
        Ok(Self { written: written.to_owned(), found: fs::canonicalize(written)?, whole: whole::is_known() })
    }

    /// As on a system that resolves no whole path without links.
    #[cfg(test)]
    pub(super) fn step_by_step(self) -> Self {
        Self { whole: false, ..self }
    }

    /// Opens `path`, not following a link wherever it is.
    pub(super) fn open(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        let beneath = self.beneath(path)?;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        if self.whole {
            return whole::open(&self.found.join(beneath), flags, mode);
        }
        let Some(name) = beneath.file_name() else { return self.open_itself(flags) };
        let mut dir = self.open_itself(PLACE)?;
        for step in beneath.parent().into_iter().flatten() {
            dir = retry_on_intr(|| {
                openat(&dir, step, PLACE | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            })?;
        }
        Ok(retry_on_intr(|| openat(&dir, name, flags, mode))?)
    }

    fn open_itself(&self, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(retry_on_intr(|| openat(CWD, &self.found, flags | OFlags::CLOEXEC, Mode::empty()))?)
    }

    /// The directory that holds `path`, which lies beneath this one, and its name there.
    pub(super) fn parent<'a>(&self, path: &'a Path, flags: OFlags) -> io::Result<(OwnedFd, &'a OsStr)> {
        let (dir, name) = split(path)?;
        Ok((self.open(dir, flags, Mode::empty())?, name))
    }

    /// What of `path` lies beneath: names alone.
    fn beneath<'a>(&self, path: &'a Path) -> io::Result<&'a Path> {
        path.strip_prefix(&self.written)
            .ok()
            .filter(|beneath| beneath.components().all(|part| matches!(part, Component::Normal(_))))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path leads out of its directory"))
    }
}

/// A path as the directory and the name in it.
pub(super) fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok((path.parent().unwrap_or(Path::new("")), name))
}

/// The call for whole paths: a path without links and without `..` stays where it begins.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod whole {
    use std::sync::LazyLock;

    use rustix::fs::{ResolveFlags, openat2};

    use super::{CWD, Mode, OFlags, OwnedFd, Path, io, retry_on_intr};

    /// Older kernels than 5.6 do not know the call, and some sandboxes forbid it.
    pub(super) fn is_known() -> bool {
        static KNOWN: LazyLock<bool> =
            LazyLock::new(|| open(Path::new("/"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).is_ok());
        *KNOWN
    }

    pub(super) fn open(path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        Ok(retry_on_intr(|| openat2(CWD, path, flags, mode, ResolveFlags::NO_SYMLINKS))?)
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod whole {
    use super::{Mode, OFlags, OwnedFd, Path, io};

    pub(super) fn is_known() -> bool {
        false
    }

    pub(super) fn open(_: &Path, _: OFlags, _: Mode) -> io::Result<OwnedFd> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
