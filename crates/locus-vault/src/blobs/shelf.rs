//! Where blobs lie, and how they get there.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use locus_core::{Checksum, Error, Site};
use locus_fs::{Disk, create_dirs, replace, sync_dir};
use parking_lot::Mutex;

use crate::{
    cipher::{SEGMENT_BYTES, TAG_BYTES, plain_len, sealed_len},
    error::VaultError,
    id::{EntityId, shard_of},
    metadata::{self, EntityMetadata, PREAMBLE_BYTES_MAX, SealedBy, Undecodable},
};

/// What the directories are called.
pub(super) const ENTITIES: &str = "entities";
pub(super) const LOCKS: &str = "locks";

/// What an entity's file is called after its name.
pub(super) const SUFFIX: &str = ".ent";

/// So much of a file is read at first: its preamble, and all of a small content.
const FIRST_BYTES: usize = 8 << 10;
const _: () = assert!(FIRST_BYTES >= PREAMBLE_BYTES_MAX);

/// The longest file that is read on the spot: to open a content of more than a segment takes longer than the way to
/// another thread.
const ON_THE_SPOT_MAX: u64 = (PREAMBLE_BYTES_MAX + SEGMENT_BYTES + TAG_BYTES) as u64;

/// The files of a directory. All calls block but those that say otherwise, and take no lock.
#[derive(Debug)]
pub(crate) struct Shelf {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    /// Of entities, 256 of them.
    dirs: Vec<PathBuf>,
    /// Longest file that is read or written, in bytes.
    bytes_max: u64,
    /// Which of the directories are known to be there, durably.
    shards: Mutex<[bool; 256]>,
    /// See [`Disk::is_own`].
    is_own: AtomicBool,
}

/// The beginning of an entity's file.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) metadata: EntityMetadata,
    /// The bytes of its file, all or a beginning of them that holds at least the preamble.
    pub(crate) bytes: Vec<u8>,
    pub(crate) preamble_len: usize,
}

impl Found {
    /// What stands before the sealed content.
    pub(crate) fn preamble(&self) -> &[u8] {
        self.bytes.get(..self.preamble_len).unwrap_or_default()
    }

    /// The sealed content, as far as it was read.
    pub(crate) fn sealed(&self) -> &[u8] {
        self.bytes.get(self.preamble_len..).unwrap_or_default()
    }
}

impl Shelf {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, blob_bytes_max: u64) -> Self {
        let bytes_max = sealed_len(blob_bytes_max).saturating_add(PREAMBLE_BYTES_MAX as u64);
        let dirs = (0..=u8::MAX).map(|shard| dir.join(ENTITIES).join(format!("{shard:02x}"))).collect();
        Self { disk, dir, dirs, bytes_max, shards: Mutex::new([false; 256]), is_own: AtomicBool::new(false) }
    }

    /// Looks whether files can be read on the spot. Without it none is.
    pub(super) fn survey(&self) {
        let is_own = self.disk.is_own(&self.dir.join(ENTITIES)).unwrap_or(false);
        self.is_own.store(is_own, Ordering::Relaxed);
    }

    pub(super) fn shard(&self, shard: u8) -> &Path {
        &self.dirs[usize::from(shard)]
    }

    /// Where the entity's file lies.
    pub(crate) fn path(&self, id: &EntityId) -> PathBuf {
        let mut name = id.file_name();
        let shard = shard_of(&name);
        name.push_str(SUFFIX);
        self.shard(shard).join(name)
    }

    /// Replaces the entity's file durably by `bytes`, preamble and sealed content. Whoever calls holds the entity alone.
    pub(crate) fn publish(&self, id: &EntityId, bytes: &[u8]) -> Result<(), VaultError> {
        let len = bytes.len() as u64;
        if len > self.bytes_max {
            return Err(VaultError::TooLarge { what: "entity", size: len, limit: self.bytes_max });
        }
        let path = self.path(id);
        self.make_shard(shard_of(&id.file_name()))
            .and_then(|()| replace(&*self.disk, &path, bytes))
            .map_err(|source| VaultError::WriteFailed { path, source })
    }

    fn make_shard(&self, shard: u8) -> Result<(), Error> {
        let at = usize::from(shard);
        if !self.shards.lock()[at] {
            create_dirs(&*self.disk, self.shard(shard))?;
            self.shards.lock()[at] = true;
        }
        Ok(())
    }

    /// Removes the entity's file durably; whether it was there. Whoever calls holds the entity alone.
    pub(crate) fn remove(&self, id: &EntityId) -> Result<bool, VaultError> {
        let path = self.path(id);
        match self.disk.remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            other => other.map_err(VaultError::write("remove", &path))?,
        }
        let shard = path.parent().unwrap_or(&path);
        match sync_dir(&*self.disk, shard, Site::RemovedName).map_err(Error::io("sync", shard)) {
            Ok(()) => Ok(true),
            Err(source) => Err(VaultError::WriteFailed { path, source }),
        }
    }

    /// The entity's whole file; `None` when there is none.
    pub(crate) fn read(&self, id: &EntityId) -> Result<Option<Found>, VaultError> {
        self.read_some(id, |_| u64::MAX)
    }

    /// As [`read`](Self::read), but of the sealed content no more needs to be read than `wanted` says of the preamble.
    pub(crate) fn read_some(
        &self,
        id: &EntityId,
        wanted: impl FnOnce(&[u8]) -> u64,
    ) -> Result<Option<Found>, VaultError> {
        let path = self.path(id);
        let Some(found) = self.look(&path, wanted)? else { return Ok(None) };
        if found.metadata.id != *id {
            return Err(misplaced(&path, &found.metadata));
        }
        Ok(Some(found))
    }

    /// As [`read_some`](Self::read_some), but waits for nothing. `None` also when that cannot be, and when anything is wrong.
    pub(crate) fn read_some_here(&self, id: &EntityId, wanted: impl FnOnce(&[u8]) -> u64) -> Option<Found> {
        if !self.is_own.load(Ordering::Relaxed) {
            return None;
        }
        let path = self.path(id);
        let (file, len) = self.disk.open_cached(&path).ok()??;
        if len > ON_THE_SPOT_MAX {
            return None;
        }
        let read = |bytes: &mut [u8], at| {
            let is_cached = file.read_cached_at(bytes, at)?;
            if is_cached { Ok(bytes.len()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        };
        self.look_in(&path, len, read, wanted).ok().filter(|found| found.metadata.id == *id)
    }

    /// The file at `path`: its preamble, and of what stands behind it at least as much as `wanted` says of that.
    pub(super) fn look(
        &self,
        path: &Path,
        wanted: impl FnOnce(&[u8]) -> u64,
    ) -> Result<Option<Found>, VaultError> {
        let file = match self.disk.open(path, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(VaultError::read("open", path))?,
        };
        let len = file.len().map_err(VaultError::read("read", path))?;
        self.look_in(path, len, |bytes, at| file.read_at(bytes, at), wanted).map(Some)
    }

    /// The file at `path`, of `len` bytes, by who reads it.
    fn look_in(
        &self,
        path: &Path,
        len: u64,
        read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
        wanted: impl FnOnce(&[u8]) -> u64,
    ) -> Result<Found, VaultError> {
        if len > self.bytes_max {
            return Err(VaultError::TooLarge { what: "entity's file", size: len, limit: self.bytes_max });
        }
        let whole = usize::try_from(len).unwrap_or(usize::MAX);
        let mut bytes = Vec::with_capacity(whole.min(ON_THE_SPOT_MAX as usize));
        bytes.resize(whole.min(FIRST_BYTES), 0);
        let mut filled = read(&mut bytes, 0).map_err(VaultError::read("read", path))?;
        bytes.truncate(filled);
        let tampered = |why: &str| VaultError::Tampered {
            what: format!("{} ({why})", path.display()).into(),
            source: None,
        };
        let (metadata, preamble_len) = metadata::decode(&bytes).map_err(|why| match why {
            Undecodable::Damaged(why) => tampered(why),
            Undecodable::Newer(found) => {
                let place = path.display().to_string();
                let (found, supported) = (found.into(), metadata::FORMAT.into());
                let source = Error::NewerFormat { place, found, supported };
                VaultError::ReadFailed { path: path.to_owned(), source }
            }
        })?;
        // Its length is known beforehand: a file that was cut or went on is none of ours.
        let sealed = len.saturating_sub(preamble_len as u64);
        let right = match metadata.sealed {
            SealedBy::Suite { .. } => plain_len(sealed) == Some(metadata.content_len),
            SealedBy::Foreign { .. } => sealed == metadata.content_len,
        };
        if !right {
            return Err(tampered("it has another length"));
        }
        let wanted = wanted(bytes.get(..preamble_len).unwrap_or_default());
        let wanted = (preamble_len as u64).saturating_add(wanted).min(len);
        let wanted = usize::try_from(wanted).unwrap_or(usize::MAX);
        if filled < wanted {
            bytes.reserve_exact(wanted.saturating_sub(filled));
            bytes.resize(wanted, 0);
            let (_, rest) = bytes.split_at_mut(filled);
            filled += read(rest, filled as u64).map_err(VaultError::read("read", path))?;
            if filled < wanted {
                return Err(tampered("it has another length"));
            }
        }
        Ok(Found { metadata, bytes, preamble_len })
    }

    /// Whether somebody else's blob is what was written.
    pub(crate) fn check_foreign(&self, found: &Found) -> Result<(), VaultError> {
        match found.metadata.sealed {
            SealedBy::Foreign { checksum, .. } if checksum != Checksum::of(found.sealed()) => {
                let path = self.path(&found.metadata.id);
                let what = format!("{} (it has another checksum)", path.display());
                Err(VaultError::Tampered { what: what.into(), source: None })
            }
            _ => Ok(()),
        }
    }
}

/// The file at `path` is another entity's.
pub(super) fn misplaced(path: &Path, found: &EntityMetadata) -> VaultError {
    let what = format!("{} (it holds entity {})", path.display(), found.id);
    VaultError::Tampered { what: what.into(), source: None }
}
