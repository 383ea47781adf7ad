//! Which volumes were mounted where, noted beside the store for those who look at it from outside.
//!
//! | bytes | what |
//! |---|---|
//! | 7 | `LMOUNTS` |
//! | 1 | format, 1 |
//! | 8 | the first 8 bytes of BLAKE3 over the format and the body |
//! | rest | the body in postcard: a list of volume id, path, and whether files may rest there |
//!
//! A volume where files may rest must be found at the next start: the empty mount point of an unplugged disk is not
//! taken for a new volume. A damaged note is none.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{FileFrame, Result, VolumeId};
use locus_fs::{Disk, off_thread, read_bounded, replace};
use locus_storage::{StoragePool, VolumeInfo};
use serde::{Deserialize, Serialize};

const NAME: &str = "mounts";
pub(crate) const FRAME: FileFrame = FileFrame::new(b"LMOUNTS", 1);
const FILE_BYTES_MAX: u64 = 16 << 20;

/// A volume of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mount {
    pub(crate) id: VolumeId,
    pub(crate) path: PathBuf,
    /// Files may rest there.
    pub(crate) used: bool,
}

/// In order of their names.
pub(crate) type Mounts = Vec<Mount>;

/// What is mounted now, and what was noted before and may hold files still. `rests` says how many files rest on a
/// volume, or is `None` while that changes all the time.
pub(crate) fn of(
    volumes: &[VolumeInfo],
    before: &Mounts,
    rests: Option<&(dyn Fn(&VolumeId) -> u64 + Sync)>,
) -> Mounts {
    let used = |id: &VolumeId| rests.is_none_or(|rests| rests(id) > 0);
    // One without a path, too: at the next start it must be found as well.
    let now = volumes.iter().map(|volume| Mount {
        id: volume.id.clone(),
        path: volume.mount_path.clone().unwrap_or_default(),
        used: used(&volume.id),
    });
    let absent = |mount: &&Mount| mount.used && !volumes.iter().any(|volume| volume.id == mount.id);
    let kept = before.iter().filter(absent).map(|mount| Mount { used: used(&mount.id), ..mount.clone() });
    let mut all: Mounts = now.chain(kept.filter(|mount| mount.used)).collect();
    all.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    all
}

/// The note of an open store, kept up to date.
#[derive(Debug, Clone)]
pub(crate) struct MountNote {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    noted: Arc<tokio::sync::Mutex<Mounts>>,
}

impl MountNote {
    /// Continues what was noted in `dir`. Blocks the thread.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        let noted = Arc::new(tokio::sync::Mutex::new(read(&*disk, &dir)));
        Self { disk, dir, noted }
    }

    /// Whether files may rest on this volume since an earlier run.
    pub(crate) async fn expects(&self, id: &VolumeId) -> bool {
        self.noted.lock().await.iter().any(|mount| mount.id == *id && mount.used)
    }

    /// The directories of the volumes that are noted.
    pub(crate) async fn places(&self) -> Vec<PathBuf> {
        let noted = self.noted.lock().await;
        noted.iter().map(|mount| mount.path.clone()).filter(|path| !path.as_os_str().is_empty()).collect()
    }

    /// Notes what is mounted now, when that is news.
    pub(crate) async fn refresh(
        &self,
        pool: &StoragePool,
        rests: Option<&(dyn Fn(&VolumeId) -> u64 + Sync)>,
    ) -> Result<()> {
        let mut noted = self.noted.lock().await;
        let now = of(&pool.volumes(), &noted, rests);
        if *noted == now {
            return Ok(());
        }
        let (disk, dir, mounts) = (Arc::clone(&self.disk), self.dir.clone(), now.clone());
        off_thread(&*self.disk, move || write(&*disk, &dir, &mounts)).await?;
        *noted = now;
        Ok(())
    }
}

/// Notes `mounts` in `dir`. Blocks the thread.
pub(crate) fn write(disk: &dyn Disk, dir: &Path, mounts: &Mounts) -> Result<()> {
    replace(disk, &dir.join(NAME), &encode(mounts))
}

pub(crate) fn encode(mounts: &Mounts) -> Vec<u8> {
    FRAME.seal(&postcard::to_stdvec(mounts).unwrap_or_default()) // a path that is no text is not noted
}

/// Notes in `to` what is noted in `from`, if anything is. Blocks the thread.
pub(crate) fn copy(disk: &dyn Disk, from: &Path, to: &Path) -> Result<()> {
    let mounts = read(disk, from);
    if mounts.is_empty() { Ok(()) } else { write(disk, to, &mounts) }
}

/// What was noted in `dir`; nothing when there is no note that can be read. Blocks the thread.
pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Mounts {
    let bytes = read_bounded(disk, &dir.join(NAME), FILE_BYTES_MAX).ok().flatten().unwrap_or_default();
    decode(&bytes).unwrap_or_default()
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Mounts> {
    postcard::from_bytes(FRAME.open(Path::new(NAME), bytes).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use locus_fs::OsDisk;

    use super::*;

    #[test]
    fn mounts_are_noted_and_read_and_damage_is_no_note() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(read(&OsDisk, temp.path()), []);
        let mounts =
            vec![Mount { id: VolumeId::parse("vol-1").unwrap(), path: "/mnt/one".into(), used: true }];
        write(&OsDisk, temp.path(), &mounts).unwrap();
        assert_eq!(read(&OsDisk, temp.path()), mounts);

        let path = temp.path().join(NAME);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(bytes.len() as u64 - 1).unwrap();
        assert_eq!(read(&OsDisk, temp.path()), []);
    }
}
