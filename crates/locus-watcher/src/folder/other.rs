//! Other systems have nothing that opens a name in an open directory without following it: nothing is watched there.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::Lies;
use crate::source::Stat;

/// There is none.
#[derive(Debug)]
pub(crate) struct Folder(Infallible);

impl Folder {
    pub(crate) fn open(_: &Path) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn folder(&self, _: &OsStr) -> io::Result<Self> {
        match self.0 {}
    }

    pub(crate) fn file(&self, _: &OsStr) -> io::Result<File> {
        match self.0 {}
    }

    pub(crate) fn create(&self, _: &OsStr) -> io::Result<File> {
        match self.0 {}
    }

    pub(crate) fn make_folder(&self, _: &OsStr) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn stat(&self) -> io::Result<Stat> {
        match self.0 {}
    }

    pub(crate) fn is_marked(&self) -> bool {
        match self.0 {}
    }

    pub(crate) fn lies(&self) -> io::Result<Lies> {
        match self.0 {}
    }

    pub(crate) fn lies_at(_: &Path) -> io::Result<Lies> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn stat_of(&self, _: impl AsRef<Path>) -> io::Result<Stat> {
        match self.0 {}
    }

    pub(crate) fn stat_of_file(_: &File) -> io::Result<Stat> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn entries(&self) -> io::Result<Entries> {
        match self.0 {}
    }

    pub(crate) fn remove(&self, _: &OsStr) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn rename_new(&self, _: &OsStr, _: &Self, _: &OsStr) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn sync_file_system(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn sync_names(&self) -> io::Result<()> {
        match self.0 {}
    }

    pub(crate) fn read_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn lock(_: &File) -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn sync_file(_: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn copy_times(_: &Stat, _: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// There is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InFileSystem(Infallible);

impl InFileSystem {
    pub(crate) fn join(&self, _: &Path) -> Self {
        match self.0 {}
    }

    pub(crate) fn lies_in(&self, _: &Self) -> bool {
        match self.0 {}
    }
}

/// There are none.
#[derive(Debug)]
pub(crate) struct Entries(Infallible);

impl Iterator for Entries {
    type Item = io::Result<OsString>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.0 {}
    }
}

pub(crate) fn is_link(_: &io::Error) -> bool {
    false
}

pub(crate) fn name_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

pub(crate) fn path_of(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8_lossy(&bytes).into_owned().into()
}
