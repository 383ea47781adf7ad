//! How a directory becomes a mounted volume.

use std::{io, path::PathBuf, sync::Arc};

use locus_core::{Error, Result, Site, VolumeId};
use tracing::{info, warn};

use crate::{
    dir_lock::{self, DirLock},
    disk::{DiskLock, EntryKind},
    local::{
        adoption::{self, Adopt},
        core::{Core, Gates, is_absent},
        dirs::Dirs,
        gauge::Gauge,
        layout::{self, Layout, MARKER},
        marker::{MARKER_BYTES, Marker},
        unsynced::Unsynced,
    },
    replace::create_dirs,
    synced::{sync_data, sync_dir},
    volume_spec::VolumeContext,
};

/// What is to be mounted; all of it was checked.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) id: VolumeId,
    pub(crate) path: PathBuf,
    /// For a marker that has to be made.
    pub(crate) depth: u8,
    /// Whether no marker may be made.
    pub(crate) must_exist: bool,
    /// Whether a volume of another store is taken over.
    pub(crate) adopt: Option<Adopt>,
    /// Most calls at the same time that read,
    pub(crate) reads_max: usize,
    /// and that change something.
    pub(crate) writes_max: usize,
}

/// Mounts: directory, lock, marker, staging, first probe. Blocks.
pub(crate) fn mount(wanted: Wanted, context: VolumeContext) -> Result<Core> {
    let Wanted { id, path, depth, must_exist, adopt, reads_max, writes_max } = wanted;
    let mut core = Core {
        id,
        layout: Layout { mount: path, depth },
        store: context.store,
        disk: context.disk,
        clock: context.clock,
        entropy: context.entropy,
        gauge: Gauge::new(),
        in_flight: Arc::default(),
        pieces: Arc::default(),
        dirs: Dirs::default(),
        unsynced: Unsynced::default(),
        lock: parking_lot::Mutex::default(),
        gates: Gates::new(reads_max, writes_max),
        residue: parking_lot::Mutex::default(),
        leftovers: parking_lot::Mutex::default(),
    };
    find_directory(&core, must_exist)?;
    let beneath = core.disk.beneath(&core.layout.mount);
    if let Some(beneath) = beneath.map_err(Error::io("find", &core.layout.mount))? {
        core.disk = beneath;
    }
    expect_marker(&core, must_exist)?;
    let mut lock =
        match dir_lock::lock(&*core.disk, &core.layout.mount, &core.layout.marker(), MARKER_BYTES as u64) {
            // Whose it is says more than who has it, when it is not the one that is looked for.
            Err(open @ Error::AlreadyOpen { .. }) if must_exist && adopt.is_none() => {
                return Err(other_volume(&core).err().unwrap_or(open));
            }
            locked => locked?,
        };
    let (mut marker, is_new) = find_marker(&core, &*lock, must_exist)?;
    if let Some(how) = adopt.filter(|_| marker.store != core.store) {
        if must_exist {
            core.check_name(&marker)?;
        }
        (marker, lock) = adoption::adopt(&core, how, &marker, lock)?;
    }
    core.check_marker(&marker)?;
    core.layout.depth = marker.depth;
    if let Err(error) = settle(&core, &*lock) {
        if is_new {
            // Its name may never become durable, whatever a later sync says: better there is none.
            let _ = core.disk.remove_file(&core.layout.marker());
        }
        return Err(error);
    }
    if !is_new {
        core.unsynced = Unsynced::unknown();
    }
    *core.lock.get_mut() = Some(lock);
    core.probe()?;
    info!(volume = %core.id, path = %core.layout.mount.display(), is_new, "volume mounted");
    Ok(core)
}

/// Sees to it that there is a directory.
fn find_directory(core: &Core, must_exist: bool) -> Result<()> {
    let path = &core.layout.mount;
    match core.disk.metadata(path) {
        Ok(found) if found.kind == EntryKind::File => {
            Err(core.unavailable(format!("cannot be mounted: {} is a file", path.display())))
        }
        Err(error) if is_absent(&error) && must_exist => {
            Err(core.unavailable(format!("is not mounted: there is no {}", path.display())))
        }
        _ => create_dirs(&*core.disk, path),
    }
}

/// Whether there is a marker, or an empty directory that may get one.
fn expect_marker(core: &Core, must_exist: bool) -> Result<()> {
    let path = &core.layout.mount;
    match core.disk.metadata(&core.layout.marker()) {
        Ok(_) => Ok(()),
        Err(error) if !is_absent(&error) => Err(Error::io("look at", core.layout.marker())(error)),
        Err(_) if !is_empty(core)? => Err(core.unavailable(format!(
            "is not mounted: {} is not empty and has no marker {MARKER}",
            path.display()
        ))),
        Err(_) if must_exist => Err(core
            .unavailable(format!("is not mounted: {} is empty and has no marker {MARKER}", path.display()))),
        Err(_) => Ok(()),
    }
}

/// Refuses the volume that somebody has open here when its marker says that it is another one.
fn other_volume(core: &Core) -> Result<()> {
    let path = core.layout.marker();
    match core.disk.open(&path, false).map(|file| Marker::read(&*file, &path)) {
        Ok(Ok(marker)) => core.check_marker(&marker),
        _ => Ok(()),
    }
}

/// Whether nothing lies in the directory but a marker, and what a file system itself puts there.
fn is_empty(core: &Core) -> Result<bool> {
    let path = &core.layout.mount;
    for entry in core.disk.read_dir(path).map_err(Error::io("list", path))? {
        let entry = entry.map_err(Error::io("list", path))?;
        if !matches!(layout::text(&entry.name), Some(MARKER | "lost+found")) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads the marker, or makes it: in an empty directory what a crash left of one is no marker yet. Under the lock.
fn find_marker(core: &Core, lock: &dyn DiskLock, must_exist: bool) -> Result<(Marker, bool)> {
    let path = core.layout.marker();
    // What could not be written back when it was made may look clean in the page cache: read what the device holds.
    lock.file().drop_cache().map_err(Error::io("drop the cached pages of", &path))?;
    match Marker::read(lock.file(), &path) {
        Err(damaged @ Error::Corrupt { .. }) => {
            if must_exist || !is_empty(core)? {
                return Err(damaged);
            }
            let marker = Marker { volume: core.id.clone(), store: core.store, depth: core.layout.depth };
            marker
                .write(lock.file())
                .map_err(|error| core.failed("write", &path, MARKER_BYTES as u64, error))?;
            Ok((marker, true))
        }
        other => Ok((other?, false)),
    }
}

/// Makes durable what an earlier run may have left half done, and says who is here.
fn settle(core: &Core, lock: &dyn DiskLock) -> Result<()> {
    let (disk, mount, marker) = (&core.disk, &core.layout.mount, core.layout.marker());
    let staging = core.layout.staging_dir();
    unless_read_only(sync_data(lock.file(), Site::Marker)).map_err(Error::io("sync", &marker))?;
    // Before anything else lies here: a directory that is not empty must have its marker.
    unless_read_only(sync_dir(&**disk, mount, Site::MarkerName)).map_err(Error::io("sync", mount))?;
    match unless_read_only(disk.create_dir(&staging)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if disk.metadata(&staging).map_err(Error::io("look at", &staging))?.kind != EntryKind::Dir {
                return Err(Error::io("create", staging)(io::ErrorKind::NotADirectory.into()));
            }
        }
        other => other.map_err(Error::io("create", &staging))?,
    }
    // For people only: a volume that cannot be written is mounted without.
    if let Err(error) = dir_lock::sign(lock, MARKER_BYTES as u64, &DirLock::me()) {
        warn!(volume = %core.id, path = %marker.display(), %error, "marker could not be signed");
    }
    Ok(())
}

/// A volume that can only be read is mounted all the same.
fn unless_read_only(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Ok(()),
        other => other,
    }
}
