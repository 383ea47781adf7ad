//! A blob that gets an address in another area too.

use std::{io, sync::Arc};

use locus_core::{BlobPath, Durability, Error, Result, Site};

use crate::{
    disk::DiskFile,
    local::{
        core::{CHUNK_BYTES, Core, is_absent},
        draft::{self, Draft, Failed, Names},
    },
    synced::sync_data,
};

/// Gives the blob a second name; where the file system has no such thing, copies it.
pub(crate) fn copy(core: &Arc<Core>, at: &BlobPath, to: &BlobPath, names: Names) -> Result<()> {
    core.may_write()?;
    let from = core.layout.blob(at);
    let file = core.open_there(&from, false)?;
    match link(core, at, &*file, to) {
        Err(Failed::Disk(error)) if error.kind() == io::ErrorKind::Unsupported => {
            copy_bytes(core, &*file, to, names)
        }
        Err(Failed::Disk(error)) if is_absent(&error) => Err(Error::io("copy", from)(error)),
        Err(Failed::Disk(error)) => Err(core.failed("copy", &from, 0, error)),
        Err(Failed::Volume(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

/// The same order as for a new blob: content durable, then the name, then the name durable.
fn link(core: &Core, at: &BlobPath, file: &dyn DiskFile, to: &BlobPath) -> Result<(), Failed> {
    let from = core.layout.blob(at);
    sync_data(file, Site::FoundContent).map_err(|error| core.poison(&from, error))?;
    let dir = draft::name_by(core, to, true, |name| core.disk.link(&from, name))?;
    let path = core.layout.blob(to);
    Ok(core.sync_dir(&dir, Site::BlobName).inspect_err(|_| core.unpublish(&path))?)
}

fn copy_bytes(core: &Arc<Core>, file: &dyn DiskFile, to: &BlobPath, names: Names) -> Result<()> {
    let path = core.layout.blob(to);
    let length = file.len().map_err(Error::io("look at", &path))?;
    let mut draft = Draft::begin(core, to, Some(length), Durability::Durable, names)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut chunk, at).map_err(Error::io("read", &path));
        let pushed = read.and_then(|read| draft.push(&chunk[..read]).map(|()| read));
        match pushed {
            Ok(read) if read == CHUNK_BYTES => at += read as u64,
            Ok(_) => return draft.publish().map(drop),
            Err(error) => {
                draft.discard();
                return Err(error);
            }
        }
    }
}
