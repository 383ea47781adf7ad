//! What becomes of a source once its file survives power loss. Blocks the thread.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read, Write},
    sync::Arc,
};

use crate::{
    door::Going,
    draft::Draft,
    folder::Folder,
    names::numbered,
    source::{Kind, Stat},
    target::Target,
    walk::Found,
};

/// Most names that are tried for one source.
const NAMES_MAX: u32 = 100_000;
/// Bytes that are compared at once.
const PIECE: u64 = 64 << 10;

/// Removes the source, unless something else has its name by now.
pub(crate) fn remove(found: &Found) -> io::Result<()> {
    match still(found) {
        Ok(true) => ignore_gone(found.folder.remove(&found.name)),
        Ok(false) => Ok(()),
        Err(error) => ignore_gone(Err(error)),
    }
}

/// Moves the source beneath `target`, which is made when it is absent. A name that is taken gets a number. `root` is the watched
/// folder.
pub(crate) fn move_to(found: &Found, target: &Target, root: &Arc<Folder>, going: &Going) -> io::Result<()> {
    if !still(found).or_else(|error| ignore_gone(Err(error)).map(|()| false))? {
        return Ok(());
    }
    let mut folder = target.open(root)?;
    for name in found.path.parent().into_iter().flatten() {
        folder.make_folder(name)?;
        folder = Arc::new(folder.folder(name)?);
    }
    if folder.stat()?.device != found.stat.device {
        return copy(found, &folder, going);
    }
    let moved = under_free_name(&found.name, |name| {
        // Where a file system cannot rename without replacing, a crash may have left it with both names.
        if found.stat.links > 1 && folder.stat_of(name).is_ok_and(|there| there.place() == found.stat.place())
        {
            folder.sync_names()?;
            return found.folder.remove(&found.name);
        }
        found.folder.rename_new(&found.name, &folder, name)
    });
    match moved {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(found, &folder, going),
        other => ignore_gone(other),
    }
}

/// To another file system: the copy is durable before the source goes. One that was made before a crash is found again
/// by its time and its content.
fn copy(found: &Found, folder: &Folder, going: &Going) -> io::Result<()> {
    let is_copy = |name: &OsStr| -> io::Result<bool> {
        let there = folder.stat_of(name)?;
        let alike =
            (there.kind, there.size, there.modified) == (Kind::File, found.stat.size, found.stat.modified);
        if !alike {
            return Ok(false);
        }
        let copy = folder.file(name)?;
        let alike = has_content_of(found, &copy, going)?;
        if alike {
            Folder::sync_file(&copy)?;
        }
        Ok(alike)
    };
    let mut draft = None;
    under_free_name(&found.name, |name| {
        match is_copy(name) {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => ignore_gone(Err(error))?,
        }
        if draft.is_none() {
            draft = Some(write_copy(found, folder, going)?);
        }
        draft.as_mut().map_or(Ok(()), |draft| draft.publish(name))
    })?;
    folder.sync_file_system()?; // the names of folders that were made, too
    remove(found)
}

/// Whether this file has the content of the source, byte by byte.
fn has_content_of(found: &Found, copy: &File, going: &Going) -> io::Result<bool> {
    let source = found.folder.file(&found.name)?;
    check(found, &source)?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    loop {
        for (file, piece) in [(&source, &mut ours), (copy, &mut theirs)] {
            piece.clear();
            file.take(PIECE).read_to_end(piece)?;
        }
        get_on(going)?;
        if ours != theirs {
            return Ok(false);
        }
        if ours.is_empty() {
            return check(found, &source).map(|()| true);
        }
    }
}

fn check(found: &Found, source: &File) -> io::Result<()> {
    match Folder::stat_of_file(source)?.print() == found.stat.print() {
        true => Ok(()),
        false => Err(io::Error::other("it changed while it was moved")),
    }
}

fn write_copy<'a>(found: &Found, folder: &'a Folder, going: &Going) -> io::Result<Draft<'a>> {
    let source = found.folder.file(&found.name)?;
    check(found, &source)?;
    let draft = Draft::begin(folder, &found.stat)?;
    let mut piece = Vec::new();
    loop {
        piece.clear();
        (&source).take(PIECE).read_to_end(&mut piece)?;
        if piece.is_empty() {
            break;
        }
        draft.file().write_all(&piece)?;
        get_on(going)?;
    }
    check(found, &source)?;
    Folder::copy_times(&found.stat, draft.file())?;
    Folder::sync_file(draft.file())?;
    going.step();
    Ok(draft)
}

/// Another watcher, or the same one anew, may be about to do this when nobody waits any more.
fn get_on(going: &Going) -> io::Result<()> {
    going.step();
    if going.is_wanted() { Ok(()) } else { Err(io::Error::other("nobody waits for the move any more")) }
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
