//! Another store's volume, taken over because somebody said so.

use locus_core::{BlobPage, BlobPath, Cursor, Error, Result, Site};
use tracing::warn;

use crate::{
    disk::{Disk, DiskLock, EntryKind},
    local::{
        core::{Core, is_absent},
        layout::{self, Layout},
        listing,
        marker::{MARKER_BYTES, Marker},
    },
    synced::sync_data,
};

/// What may lie on a volume of another store that is [adopted](crate::LocalVolume::adopt).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adopt {
    /// No content and no upload: with any the volume is refused, and the first one named.
    Empty,
    /// Anything. What this store has no record of is an *orphan* from then on, put into quarantine or removed as its sweep is told
    /// to, and that is all of it, unless this store comes of the records that the contents belong to.
    RemoveUnknown,
}

/// Makes the volume behind `lock` this store's. Its marker is replaced whole: after a crash it is the other store's or this
/// one's. Gives back the new marker, locked.
pub(super) fn adopt(
    core: &Core,
    how: Adopt,
    found: &Marker,
    lock: Box<dyn DiskLock>,
) -> Result<(Marker, Box<dyn DiskLock>)> {
    if how == Adopt::Empty
        && let Some(blob) = first_content(core, found.depth)?
    {
        return Err(core.unavailable(format!(
            "cannot be adopted from store {}: it is not empty, {blob} lies there",
            found.store
        )));
    }
    let marker = Marker { volume: core.id.clone(), store: core.store, depth: found.depth };
    let adopted = replace_marker(core, &marker)?;
    drop(lock); // whoever waited for it has a file that is nobody's marker, and finds that out when it probes
    warn!(volume = %core.id, from = %found.store, was = %found.volume, ?how, "volume of another store adopted");
    Ok((marker, adopted))
}

/// The first content or upload there is.
fn first_content(core: &Core, depth: u8) -> Result<Option<BlobPath>> {
    let layout = Layout { mount: core.layout.mount.clone(), depth };
    let staged = if is_dir(&*core.disk, &layout)? {
        first_of(|from| listing::staged(&*core.disk, &layout, from, 1))?
    } else {
        None
    };
    match staged {
        None => first_of(|from| listing::page(&*core.disk, &layout, None, from, 1)),
        found => Ok(found),
    }
}

/// Goes on over pages that are empty.
fn first_of(page: impl Fn(Option<&Cursor>) -> Result<BlobPage>) -> Result<Option<BlobPath>> {
    let mut from = None;
    loop {
        let found = page(from.as_ref())?.whole()?;
        if let Some(blob) = found.blobs.into_iter().next() {
            return Ok(Some(blob.path));
        }
        from = found.next;
        if from.is_none() {
            return Ok(None);
        }
    }
}

/// Whether there is a staging directory.
fn is_dir(disk: &dyn Disk, layout: &Layout) -> Result<bool> {
    let staging = layout.staging_dir();
    match disk.metadata(&staging) {
        Err(error) if is_absent(&error) => Ok(false),
        found => Ok(found.map_err(Error::io("look at", staging))?.kind == EntryKind::Dir),
    }
}

/// A file of its own takes the marker's name, and it is locked before it has it. What a crash leaves of it is stale staging.
/// That it has that name is made durable as it is of any marker, before the volume is used.
fn replace_marker(core: &Core, marker: &Marker) -> Result<Box<dyn DiskLock>> {
    let name = format!("marker-{:016x}", core.entropy.next_u64());
    let (disk, draft) = (&*core.disk, core.layout.staging(&name));
    debug_assert!(!layout::is_upload(&name), "staging of uploads is never stale");
    core.create_staged(&draft).map_err(Error::io("create", &draft))?;
    let written = disk.lock(&draft).map_err(Error::io("lock", &draft)).and_then(|lock| {
        marker
            .write(lock.file())
            .map_err(|error| core.failed("write", &draft, MARKER_BYTES as u64, error))?;
        sync_data(lock.file(), Site::Marker).map_err(Error::io("sync", &draft))?;
        disk.rename(&draft, &core.layout.marker()).map_err(Error::io("replace", core.layout.marker()))?;
        Ok(lock)
    });
    if written.is_err() {
        let _ = disk.remove_file(&draft);
    }
    written
}
