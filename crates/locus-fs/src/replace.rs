//! Small files that are replaced whole, durably.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use locus_core::{Error, Result, Site};

use crate::{
    disk::{Disk, DiskFile, EntryKind},
    synced::{sync_data, sync_dir},
};

/// Replaces the file at `path`, which may be absent, by `bytes`: after a crash it holds either what it held before or
/// all of `bytes`, and once this returned, `bytes`.
///
/// The new file is made beside it as `.<name>.new`, in the place of one that a crash left there. Only one caller at
/// a time may replace the same path.
///
/// # Errors
/// [`Error::Io`]. The file is then as it was, unless it is the directory that could not be synced (`op` is `sync`):
/// then it holds `bytes`, and power loss may bring the former content back.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    let draft = draft_of(path)?;
    let file = match disk.create_new(&draft) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            disk.remove_file(&draft).map_err(Error::io("remove", &draft))?;
            disk.create_new(&draft)
        }
        other => other,
    };
    let written = file
        .map_err(Error::io("create", &draft))
        .and_then(|file| write(&*file, &draft, bytes))
        .and_then(|()| disk.rename(&draft, path).map_err(Error::io("replace", path)));
    if written.is_err() {
        let _ = disk.remove_file(&draft); // else the next one does
    }
    written?;
    let parent = parent_of(path);
    sync_dir(disk, parent, Site::ReplacedName).map_err(Error::io("sync", parent))
}

fn write(file: &dyn DiskFile, path: &Path, bytes: &[u8]) -> Result<()> {
    file.write_at(bytes, 0).map_err(Error::io("write", path))?;
    sync_data(file, Site::ReplacedContent).map_err(Error::io("sync", path))
}

/// Reads a whole file of at most `max` bytes; `None` when it is absent.
///
/// # Errors
/// [`Error::Corrupt`] when it is longer than `max`; [`Error::Io`].
pub fn read_bounded(disk: &dyn Disk, path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
    let file = match disk.open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let len = file.len().map_err(Error::io("read", path))?;
    if len > max {
        return Err(Error::Corrupt {
            place: path.display().to_string(),
            why: format!("it is {len} bytes long, more than the {max} that it may hold").into(),
        });
    }
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let filled = file.read_at(&mut bytes, 0).map_err(Error::io("read", path))?;
    bytes.truncate(filled);
    Ok(Some(bytes))
}

/// Makes a directory and what is missing above it, durably. A directory that is there already is success.
///
/// # Errors
/// [`Error::Io`]; with kind `NotADirectory` when something else has one of the names. Directories made before the
/// failure stay, but for one whose name could not be synced: it is removed as far as that can be, because a later sync
/// would say that its name is durable although it is not.
pub fn create_dirs(disk: &dyn Disk, path: &Path) -> Result<()> {
    let mut missing = Vec::new();
    let mut at = path;
    while !is_dir(disk, at)? {
        missing.push(at);
        let Some(parent) = at.parent() else { break };
        at = parent;
    }
    // A run that was killed may have made the lowest one and not have synced its name.
    if let Some(parent) = at.parent() {
        match sync_dir(disk, parent, Site::DirectoryFound) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {} // then it is not of our making
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {}
            other => other.map_err(Error::io("sync", parent))?,
        }
    }
    for dir in missing.into_iter().rev() {
        match disk.create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_dir(disk, dir)? => {}
            other => other.map_err(Error::io("create", dir))?,
        }
        let parent = parent_of(dir);
        if let Err(error) = sync_dir(disk, parent, Site::DirectoryName) {
            let _ = disk.remove_dir(dir);
            return Err(Error::io("sync", parent)(error));
        }
    }
    Ok(())
}

/// Whether a directory is there, perhaps behind a link; an error when something else is.
fn is_dir(disk: &dyn Disk, path: &Path) -> Result<bool> {
    if path.as_os_str().is_empty() {
        return Ok(true); // the present directory
    }
    let found = match disk.metadata(path) {
        Ok(found) if found.kind == EntryKind::Other => disk.metadata(&path.join(".")),
        other => other,
    };
    match found {
        Ok(found) if found.kind == EntryKind::Dir => Ok(true),
        Ok(_) => Err(Error::io("create", path)(io::ErrorKind::NotADirectory.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path)(error)),
    }
}

/// The directory that holds `path`; for a bare name the empty path, which is the present directory.
pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

fn draft_of(path: &Path) -> Result<PathBuf> {
    let Some(name) = path.file_name() else {
        return Err(Error::io("replace", path)(io::ErrorKind::InvalidInput.into()));
    };
    let mut draft = OsString::from(".");
    draft.push(name);
    draft.push(".new");
    Ok(path.with_file_name(draft))
}
