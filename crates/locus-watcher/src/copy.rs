//! What watchers keep, brought over to another data directory. Blocks the thread.

use std::{io, path::Path};

use locus_core::{Error, Result, Site};
use locus_fs::{Disk, create_dirs, sync_data, sync_dir};

const PIECE: usize = 64 << 10;

/// Copies everything of `from`, which may be absent, durably into `to`, where nothing of it is. A ledger that is being
/// added to is copied as far as it was.
pub(crate) fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    let entries = match disk.read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(Error::io("list", from))?,
    };
    create_dirs(disk, to)?;
    for entry in entries {
        let name = entry.map_err(Error::io("list", from))?.name;
        let is_kept = Path::new(&name).extension().is_some_and(|end| end == "watcher" || end == "ledger");
        if is_kept {
            copy_file(disk, &from.join(&name), &to.join(&name))?;
        }
    }
    sync_dir(disk, to, Site::CopiedName).map_err(Error::io("sync", to))
}

fn copy_file(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    let old = match disk.open(from, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()), // removed meanwhile
        other => other.map_err(Error::io("open", from))?,
    };
    let new = disk.create_new(to).map_err(Error::io("create", to))?;
    let (mut piece, mut at) = (vec![0; PIECE], 0);
    loop {
        let read = old.read_at(&mut piece, at).map_err(Error::io("read", from))?;
        new.write_at(&piece[..read], at).map_err(Error::io("write", to))?;
        at += read as u64;
        if read < PIECE {
            return sync_data(&*new, Site::CopiedContent).map_err(Error::io("sync", to));
        }
    }
}
