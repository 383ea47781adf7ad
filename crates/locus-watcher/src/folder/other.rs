//! Other systems have nothing that opens a name in an open directory without following it: nothing is watched there.

use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
};

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

    pub(crate) fn sync_file(_: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn copy_times(_: &Stat, _: &File) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
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
