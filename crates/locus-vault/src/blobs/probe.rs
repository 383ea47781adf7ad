//! Whether several processes can share a directory.

use std::{io, path::Path};

use locus_core::Entropy;
use locus_fs::Disk;

use crate::error::VaultError;

/// What the files of a look begin with.
pub(super) const PREFIX: &str = "probe-";

/// Looks whether two handles exclude each other in `dir`, and a rename replaces. What it makes there it removes.
pub(super) fn probe(disk: &dyn Disk, dir: &Path, entropy: &dyn Entropy) -> Result<(), VaultError> {
    let name = format!("{PREFIX}{:016x}", entropy.next_u64());
    let (locked, draft) = (dir.join(format!("{name}.lock")), dir.join(format!("{name}.new")));
    let looked = look(disk, &locked, &draft);
    for path in [&draft, &locked] {
        let _ = disk.remove_file(path); // else a sweep does
    }
    match looked {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(VaultError::UnfitDirectory { dir: dir.to_owned(), why }),
        Err(source) if source.kind() == io::ErrorKind::Unsupported => {
            Err(VaultError::UnfitDirectory { dir: dir.to_owned(), why: "its file system has no locks" })
        }
        Err(source) => Err(VaultError::write("try locks and renames in", dir)(source)),
    }
}

/// What is wrong.
fn look(disk: &dyn Disk, locked: &Path, draft: &Path) -> io::Result<Option<&'static str>> {
    let is_busy = |refused: io::Result<_>| match refused {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
        Ok(_) => Ok(false),
    };
    let shared = [disk.lock_shared(locked)?, disk.lock_shared(locked)?];
    if !is_busy(disk.lock(locked))? {
        return Ok(Some("its file system locks a file that others share"));
    }
    drop(shared);
    let lock = disk.lock(locked)?;
    if !is_busy(disk.lock(locked))? || !is_busy(disk.lock_shared(locked))? {
        return Ok(Some("its file system locks a file twice"));
    }
    let id = lock.id()?;
    if disk.metadata(locked)?.id != id {
        return Ok(Some("its file system does not tell which file was locked"));
    }
    disk.create_new(draft)?.write_at(b"new", 0)?;
    match disk.rename(draft, locked) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Ok(Some("its file system does not replace by renaming"));
        }
        other => other?,
    }
    let mut content = [0; 4];
    let read = disk.open(locked, false)?.read_at(&mut content, 0)?;
    let replaced = content.get(..read) == Some(b"new") && (id.is_none() || disk.metadata(locked)?.id != id);
    Ok((!replaced).then_some("its file system does not replace by renaming"))
}
