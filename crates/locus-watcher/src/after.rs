//! What becomes of a source once its file survives power loss. Blocks the thread.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::Path,
    sync::Arc,
};

use crate::{
    folder::Folder,
    names::numbered,
    source::{Kind, Stat},
    walk::Found,
};

/// Most names that are tried for one source.
const NAMES_MAX: u32 = 100_000;
/// The beginning of the name of a copy that is not finished.
const DRAFT: &str = ".locus-moving-";

/// Removes the source, unless something else has its name by now.
pub(crate) fn remove(found: &Found) -> io::Result<()> {
    match still(found) {
        Ok(true) => ignore_gone(found.folder.remove(&found.name)),
        Ok(false) => Ok(()),
        Err(error) => ignore_gone(Err(error)),
    }
}

/// Moves the source beneath `target`, which is made when it is absent. A name that is taken gets a number.
pub(crate) fn move_to(found: &Found, target: &Path) -> io::Result<()> {
    if !still(found).or_else(|error| ignore_gone(Err(error)).map(|()| false))? {
        return Ok(());
    }
    std::fs::create_dir_all(target)?;
    let mut folder = Arc::new(Folder::open(target)?);
    for name in found.path.parent().into_iter().flatten() {
        folder.make_folder(name)?;
        folder = Arc::new(folder.folder(name)?);
    }
    if folder.stat()?.device != found.stat.device {
        return copy(found, &folder);
    }
    let moved = under_free_name(&found.name, |name| found.folder.rename_new(&found.name, &folder, name));
    match moved {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(found, &folder),
        other => ignore_gone(other),
    }
}

/// To another file system: the copy is durable before the source goes. One that was made before a crash is found again
/// by its size and time.
fn copy(found: &Found, folder: &Folder) -> io::Result<()> {
    let is_copy = |name: &OsStr| -> io::Result<bool> {
        let there = folder.stat_of(name)?;
        let alike =
            (there.kind, there.size, there.modified) == (Kind::File, found.stat.size, found.stat.modified);
        if alike {
            Folder::sync_file(&folder.file(name)?)?;
        }
        Ok(alike)
    };
    let mut draft = OsString::from(DRAFT);
    draft.push(found.stat.inode.to_string());
    let mut is_drafted = false;
    under_free_name(&found.name, |name| {
        match is_copy(name) {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => ignore_gone(Err(error))?,
        }
        if !is_drafted {
            ignore_gone(folder.remove(&draft))?;
            write_copy(found, folder, &draft)?;
            is_drafted = true;
        }
        folder.rename_new(&draft, folder, name)
    })?;
    folder.sync_file_system()?; // the names of folders that were made, too
    remove(found)
}

fn write_copy(found: &Found, folder: &Folder, draft: &OsStr) -> io::Result<()> {
    let mut source = found.folder.file(&found.name)?;
    let check = |file: &File| match Folder::stat_of_file(file)?.print() == found.stat.print() {
        true => Ok(()),
        false => Err(io::Error::other("it changed while it was moved")),
    };
    check(&source)?;
    let mut copy = folder.create(draft)?;
    io::copy(&mut source, &mut copy)?;
    check(&source)?;
    Folder::copy_times(&found.stat, &copy)?;
    Folder::sync_file(&copy)
}

/// Whether what has the name is what was imported. What was only looked at, or renamed, is the same: its content is.
fn still(found: &Found) -> io::Result<bool> {
    let now = found.folder.stat_of(&found.name)?;
    let same =
        |a: &Stat, b: &Stat| (a.kind, a.size, a.modified, a.inode) == (b.kind, b.size, b.modified, b.inode);
    Ok(same(&now, &found.stat))
}

fn under_free_name(name: &OsStr, mut take: impl FnMut(&OsStr) -> io::Result<()>) -> io::Result<()> {
    for number in 0..NAMES_MAX {
        let taken = if number == 0 { take(name) } else { take(&numbered(name, number)) };
        match taken {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

fn ignore_gone(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
