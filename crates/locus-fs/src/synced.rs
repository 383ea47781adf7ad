//! The doors through which everything durable goes: each sync says which promise rests upon it.

use std::{io, path::Path};

use locus_core::Site;

use crate::disk::{Disk, DiskFile};

/// [`DiskFile::sync_data`], for the promise that `site` names.
///
/// # Errors
/// As there: after one nobody knows what is on the disk.
pub fn sync_data(file: &dyn DiskFile, site: Site) -> io::Result<()> {
    if site.stands() { file.sync_data() } else { Ok(()) }
}

/// [`Disk::sync_dir`], for the promise that `site` names.
///
/// # Errors
/// As there.
pub fn sync_dir(disk: &dyn Disk, dir: &Path, site: Site) -> io::Result<()> {
    if site.stands() { disk.sync_dir(dir) } else { Ok(()) }
}

/// [`Disk::sync_all`], for the promise that `site` names.
///
/// # Errors
/// As there.
pub fn sync_all(disk: &dyn Disk, dir: &Path, site: Site) -> io::Result<()> {
    if site.stands() { disk.sync_all(dir) } else { Ok(()) }
}
