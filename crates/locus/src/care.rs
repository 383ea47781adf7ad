//! What an operator asks for: is everything as it should be, a copy, and what can be saved of a damaged store.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Error, Result, SystemClock, SystemEntropy};
use locus_fs::{DirLock, Disk, OsDisk, off_thread};
use locus_storage::{
    BackupContents, BackupReport, ContentHold, FreshDir, SalvageReport, VerifyLevel, VerifyProgress,
    VerifyReport, salvage,
};
use locus_tenant::TenantDirectory;
use locus_watcher::FileWatchers;
use serde::Serialize;

use crate::{
    Locus,
    handle::Opened,
    mounts::{self, Mount},
};

const TENANTS: &str = "tenants";
const WATCHERS: &str = "watchers";
const VOLUMES: &str = "volumes";

/// What [`Locus::salvage`] brought over, and what it could not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Salvaged {
    /// The journal and what it holds.
    pub store: SalvageReport,
    /// Files of tenants that cannot be read: the files of such a tenant are there, and are found again when it is
    /// created anew.
    pub tenants_damaged: Vec<PathBuf>,
}

impl Locus {
    /// Looks whether everything is as it should be, as deep as `level` says, beside running work: counts and references,
    /// the records of journal and checkpoints, contents. Repairs nothing; the report lists what is wrong.
    ///
    /// # Errors
    /// [`Error::Poisoned`]: reopen the store first. [`Error::ShuttingDown`].
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn verify(&self, level: VerifyLevel) -> Result<VerifyReport> {
        self.verify_with(level, |_| ()).await
    }

    /// [`verify`](Self::verify), telling `progress` now and then how far it is. It is called on the caller's task, and
    /// should return at once.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    ///
    /// # Cancel safety
    /// Dropping the future has no effect.
    pub async fn verify_with(
        &self,
        level: VerifyLevel,
        progress: impl Fn(VerifyProgress) + Send + Sync,
    ) -> Result<VerifyReport> {
        let Opened { tools, engine, .. } = self.opened();
        tools.gate.check_open()?;
        engine.verify(level, &progress).await
    }

    /// Copies the store into `dir`, which must be absent or empty, beside running work: a checkpoint, the segments of the
    /// journal that it needs, tenants, watchers, and every content on a volume, in a directory `volumes/<id>` for each. What it
    /// holds, and how it is restored, says `docs/operations.md`; in short: every file that was confirmed before and had
    /// not ended when this returns, and it is opened like any data directory, with `volumes/<id>` as its volumes.
    ///
    /// Everything is durable when this returns. Until then, and when it never does, the directory is refused by name.
    /// Until then contents on volumes take room although their files end.
    ///
    /// # Errors
    /// [`Error::Io`], with kind `DirectoryNotEmpty` when anything lies in `dir`; [`Error::VolumeUnavailable`] names a volume
    /// that files rest on and that is not mounted; [`Error::Corrupt`] when the journal is damaged, so that the copy
    /// would not open; [`Error::Poisoned`], [`Error::ShuttingDown`]. Remove what is in `dir` then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves `dir` unfinished, and the store as it was.
    pub async fn backup(&self, dir: impl AsRef<Path>) -> Result<BackupReport> {
        self.backup_with(dir, BackupContents::Copy).await
    }

    /// [`backup`](Self::backup), which copies contents on volumes or only lists them. Who lists them
    /// [holds](Self::hold_contents) them until the volumes were seen to.
    ///
    /// # Errors
    /// As [`backup`](Self::backup).
    ///
    /// # Cancel safety
    /// As [`backup`](Self::backup).
    pub async fn backup_with(&self, dir: impl AsRef<Path>, contents: BackupContents) -> Result<BackupReport> {
        let Opened { tools, engine, disk, dir: data, .. } = self.opened();
        tools.gate.check_open()?;
        let dir = absolute(dir.as_ref())?;
        let inner = Arc::clone(disk);
        let into = off_thread(&**disk, move || FreshDir::begin(inner, dir)).await?;
        let report = engine.backup(&into, contents).await?;
        // After the files: every tenant that has any is known by now.
        let (tenants, data) = (tools.gate.directory().clone(), data.clone());
        let copied = contents == BackupContents::Copy;
        let mounts: Vec<_> = report
            .blobs
            .keys()
            .map(|id| Mount { id: id.clone(), path: into.path().join(VOLUMES).join(id.as_str()), used: true })
            .collect();
        let inner = Arc::clone(disk);
        off_thread(&**disk, move || {
            tenants.copy_to(&into.path().join(TENANTS))?;
            FileWatchers::copy(&*inner, &data.join(WATCHERS), &into.path().join(WATCHERS))?;
            if copied {
                mounts::write(&*inner, into.path(), &mounts)?;
            } else {
                mounts::copy(&*inner, &data, into.path())?;
            }
            into.finish()
        })
        .await?;
        Ok(report)
    }

    /// From now on, and as long as the answer lives, no content is removed from a volume because its file ends. For copies
    /// of volumes that Locus does not make itself: hold, [`backup_with`](Self::backup_with) by name, copy or snapshot the
    /// volumes, let go. [`cleanup().settled()`](crate::StorageCleanup::settled) waits for it.
    pub fn hold_contents(&self) -> ContentHold {
        self.opened().engine.hold_contents()
    }

    /// Writes a new data directory at `into`, which must be absent or empty, of everything that can be read in the
    /// damaged one at `dir`, which is not open and stays as it is to the last byte. Says what was lost. The new directory is
    /// opened like any other, with the volumes of the damaged one: to them it is the same store.
    ///
    /// Contents on volumes are not looked at; afterwards [`verify`](Self::verify) does. Blobs of files whose records are
    /// lost are removed as leftovers when the new directory is opened with their volume: copy the volumes first where
    /// that matters.
    ///
    /// # Errors
    /// [`Error::AlreadyOpen`] while a process has `dir` open; [`Error::Corrupt`] when nothing there can be read;
    /// [`Error::NewerFormat`]; [`Error::Io`]. Remove what is in `into` then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves `into` unfinished, and it is refused by name.
    pub async fn salvage(dir: impl AsRef<Path>, into: impl AsRef<Path>) -> Result<Salvaged> {
        let (dir, target) = (absolute(dir.as_ref())?, absolute(into.as_ref())?);
        let disk: Arc<dyn Disk> = Arc::new(OsDisk);
        let (inner, at) = (Arc::clone(&disk), dir.clone());
        let (lock, into) = off_thread(&*disk, move || {
            let lock = DirLock::acquire_unsigned(&*inner, &at)?;
            Ok::<_, Error>((lock, FreshDir::begin(inner, target)?))
        })
        .await?;
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(SystemEntropy));
        let store = salvage(&dir, &into, Arc::clone(&disk), clock, entropy).await?;
        let inner = Arc::clone(&disk);
        let tenants_damaged = off_thread(&*disk, move || {
            let damaged = TenantDirectory::salvage(&*inner, &dir.join(TENANTS), &into.path().join(TENANTS))?;
            FileWatchers::copy(&*inner, &dir.join(WATCHERS), &into.path().join(WATCHERS))?;
            mounts::copy(&*inner, &dir, into.path())?;
            into.finish()?;
            drop(lock);
            Ok::<_, Error>(damaged)
        })
        .await?;
        Ok(Salvaged { store, tenants_damaged })
    }
}

fn absolute(dir: &Path) -> Result<PathBuf> {
    std::path::absolute(dir).map_err(Error::io("find the directory", dir))
}
