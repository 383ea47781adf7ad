//! Mounting, unmounting, looking after the volumes of a pool.

use std::{borrow::Cow, collections::BTreeSet, path::PathBuf, sync::Arc};

use locus_core::{
    Error, Result, ScrubProgress, StorageVolume, VolumeId, VolumeSet, VolumeStanding, VolumeStatus, in_time,
    join_bounded,
};
use locus_fs::VolumeSpec;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::{
    StoragePool,
    patience::{OPEN_TIMEOUT, SYNC_TIMEOUT, close, late, late_probe, let_go, probe},
};

/// Probes that are under way at once.
const PROBES_MAX: usize = 16;

/// Good probes in a row until a volume is mounted, or used again after it was unavailable.
pub(super) const GOOD_PROBES: u32 = 2;

/// A mounted volume, as [`StoragePool::volumes`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its name.
    pub id: VolumeId,
    /// Where it is mounted, when that is a path of this machine.
    pub mount_path: Option<PathBuf>,
    /// What it last measured about itself.
    pub status: VolumeStatus,
    /// Files that rest on it, those waiting to be removed and what moves left behind included.
    pub files: u64,
    /// Bytes of the files that rest on it, those waiting to be removed included.
    pub bytes: u64,
    /// Bytes of writes under way to it.
    pub in_flight: u64,
    /// It takes no new content because its files are moved away.
    pub draining: bool,
    /// Why it takes no new content, when it takes none.
    pub unusable: Option<Cow<'static, str>>,
}

/// Names whose volumes are being opened, so that a mount that hangs keeps back no other but its own twin.
#[derive(Debug, Default)]
pub(super) struct Opening(Arc<Mutex<BTreeSet<VolumeId>>>);

pub(super) struct OpeningOne(Arc<Mutex<BTreeSet<VolumeId>>>, VolumeId);

impl Opening {
    pub(super) fn begin(&self, id: &VolumeId) -> Result<OpeningOne> {
        if self.0.lock().insert(id.clone()) {
            Ok(OpeningOne(Arc::clone(&self.0), id.clone()))
        } else {
            Err(Error::VolumeExists { volume: id.clone() })
        }
    }
}

impl Drop for OpeningOne {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

impl StoragePool {
    /// Opens a volume, probes it twice, and takes it into use. Files that rest on it are handed out again.
    ///
    /// # Errors
    /// [`Error::VolumeExists`] when one of this name is mounted or being mounted; [`Error::VolumeUnavailable`] when it was
    /// [retired](Self::retire), in this run or an earlier one; [`Error::InvalidId`]; [`Error::AlreadyOpen`] when another volume has its directory; whatever is wrong with the volume, as
    /// [`VolumeSpec::open`] says it. Nothing is mounted then.
    ///
    /// # Cancel safety
    /// After a dropped future the volume is either mounted or not; one that was open is let go when it is dropped.
    pub async fn mount(&self, spec: impl VolumeSpec + 'static) -> Result<VolumeId> {
        self.mount_boxed(Box::new(spec)).await
    }

    /// [`mount`](Self::mount) of a spec in a box.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub async fn mount_boxed(&self, mut spec: Box<dyn VolumeSpec>) -> Result<VolumeId> {
        let id = spec.id()?;
        let opening = self.inner.opening.begin(&id)?;
        if self.inner.mounts.get(&id).is_some() {
            return Err(Error::VolumeExists { volume: id });
        }
        self.check_not_retired(&id)?;
        if self.inner.store.files_on(&id) > 0 {
            spec.expect_existing();
        }
        let volume = self.open_in_time(&id, spec, opening).await?;
        self.attach(volume).await?;
        Ok(id)
    }

    /// Opens a volume, in time. One that hangs keeps its name until it returns: however often it is tried, no more than one
    /// call of it hangs.
    pub(super) async fn open_in_time(
        &self,
        id: &VolumeId,
        spec: Box<dyn VolumeSpec>,
        opening: OpeningOne,
    ) -> Result<Arc<dyn StorageVolume>> {
        let context = self.inner.context.clone();
        let work = async move {
            let opened = spec.open(context).await;
            (opened, opening)
        };
        let opened = match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                match in_time(&**self.clock(), OPEN_TIMEOUT, runtime.spawn(work)).await {
                    Some(Ok(opened)) => Some(opened),
                    Some(Err(error)) => match error.try_into_panic() {
                        Ok(panic) => std::panic::resume_unwind(panic),
                        Err(_) => return Err(Error::ShuttingDown), // the runtime itself is being closed
                    },
                    None => None,
                }
            }
            Err(_) => in_time(&**self.clock(), OPEN_TIMEOUT, work).await,
        };
        opened.map_or_else(|| Err(late(id, "open", OPEN_TIMEOUT)), |(opened, _opening)| opened)
    }

    /// Takes a volume into use that is open already, after two good probes of it. What cannot be taken is closed, unless it is
    /// mounted already.
    ///
    /// # Errors
    /// [`Error::VolumeExists`]; what the probe says; [`Error::VolumeUnavailable`] when it says that the volume is
    /// unhealthy, or when it was [retired](Self::retire).
    pub async fn attach(&self, volume: Arc<dyn StorageVolume>) -> Result<()> {
        let checked = self.check(&*volume).await;
        let attached = checked.and_then(|()| self.inner.mounts.insert(Arc::clone(&volume)));
        match attached {
            Ok(()) => info!(volume = %volume.id(), "volume mounted"),
            Err(_) if self.inner.mounts.has(&volume) => {}
            Err(_) => _ = close(self.clock(), &*volume).await,
        }
        attached
    }

    /// Looks at all copies of everything that rests on a mirrored volume, and repairs what is missing or damaged; begins with
    /// what is noted of members that were away. `progress` is called after each blob, with the counts so far; the counts of
    /// the whole are given back. Everything else goes on meanwhile.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`]; [`Error::InvalidArgument`] when the volume keeps one copy of each content, so that there is
    /// nothing to compare and to repair from; [`Error::VolumeUnavailable`] when it, or a member, goes away: what was repaired
    /// stays so. [`Error::Io`].
    ///
    /// # Cancel safety
    /// It may be dropped anywhere and begun again.
    pub async fn scrub(
        &self,
        id: &VolumeId,
        mut progress: impl FnMut(&ScrubProgress) + Send,
    ) -> Result<ScrubProgress> {
        let found = self.inner.mounts.get(id);
        let volume = found.ok_or_else(|| Error::VolumeNotFound { volume: id.clone() })?;
        let none =
            Error::InvalidArgument { name: "id", why: "is of a volume that keeps one copy of each content" };
        volume.scrub(&mut progress).await?.ok_or(none)
    }

    fn check_not_retired(&self, id: &VolumeId) -> Result<()> {
        if self.inner.mounts.standing_of(id) == VolumeStanding::Retired {
            Err(was_retired(id))
        } else {
            Ok(())
        }
    }

    /// Two good probes in a row, or what is wrong.
    pub(super) async fn check(&self, volume: &dyn StorageVolume) -> Result<()> {
        for _ in 0..GOOD_PROBES {
            let answer = probe(self.clock(), volume).await;
            let status = answer.unwrap_or_else(|| Err(late_probe(volume.id())))?;
            if !status.is_healthy {
                let why = status.why.unwrap_or("is unhealthy".into());
                return Err(Error::VolumeUnavailable { volume: Some(volume.id().clone()), why });
            }
        }
        Ok(())
    }

    /// Takes a volume out of use, whatever rests on it: its files wait, and are handed out again when it is mounted
    /// again. Readers that are open go on as far as the volume lets them.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`].
    ///
    /// # Cancel safety
    /// Once begun the volume is out of use; when the future is dropped, letting go of it may come later.
    pub async fn unmount(&self, id: &VolumeId) -> Result<()> {
        // What was confirmed before it was synced is made durable while the volume is still there for everybody.
        if self.inner.mounts.get(id).is_some()
            && let Err(error) = self.undelayed(self.inner.store.sync()).await
        {
            warn!(volume = %id, error = &error as &dyn std::error::Error, "volume unmounted before it was synced");
        }
        let volume = self.inner.mounts.take(id)?;
        info!(volume = %id, "volume unmounted");
        let_go(self.clock(), &volume).await;
        Ok(())
    }

    /// Takes a volume out of use for good. Its marker stays, so that nobody mistakes it for an empty directory. That it was
    /// [drained](Self::drain) is forgotten: mounted again it takes content.
    ///
    /// # Errors
    /// [`Error::VolumeInUse`] while files rest on it, those waiting to be removed, uploads and writes under way included;
    /// [`Error::VolumeNotFound`]. [`Error::Poisoned`], [`Error::ShuttingDown`]: it is removed, and would still be drained when
    /// it is mounted again.
    ///
    /// # Cancel safety
    /// As [`unmount`](Self::unmount).
    pub async fn remove(&self, id: &VolumeId) -> Result<()> {
        let volume = self.inner.mounts.take_empty(id)?;
        info!(volume = %id, "volume removed");
        // Nothing else that was decided meanwhile.
        let forgotten = match self.inner.mounts.standing_of(id) {
            VolumeStanding::Draining => self.inner.mounts.set_standing(id, VolumeStanding::InUse).await,
            standing => Ok(standing),
        };
        let_go(self.clock(), &volume).await;
        forgotten.map(drop)
    }

    /// The mounted volumes, in the order of their names, as they were last measured.
    #[must_use]
    pub fn volumes(&self) -> Vec<VolumeInfo> {
        let each = self.inner.mounts.all().into_iter();
        each.map(|volume| {
            let (unusable, in_flight) = self.inner.mounts.standing(&*volume);
            VolumeInfo {
                id: volume.id().clone(),
                mount_path: volume.mount_path().map(Into::into),
                status: volume.status(),
                files: self.inner.store.files_on(volume.id()),
                bytes: self.inner.store.bytes_on(volume.id()),
                draining: self.inner.mounts.standing_of(volume.id()) == VolumeStanding::Draining,
                in_flight,
                unusable,
            }
        })
        .collect()
    }

    /// Bytes that all healthy volumes hold when they are empty, as last measured. Volumes on one file system each count
    /// it whole.
    #[must_use]
    pub fn total_capacity(&self) -> u64 {
        Self::sum(&self.inner.mounts.all(), |status| status.total)
    }

    /// Bytes that may still be written to all healthy volumes together, as last measured; none to those that are being
    /// drained. Volumes on one file system each count it whole.
    #[must_use]
    pub fn available_space(&self) -> u64 {
        Self::sum(&self.kept(), |status| if status.takes_writes() { status.available } else { 0 })
    }

    /// What the volumes hold when they are empty that are to be filled again.
    pub(super) fn kept_capacity(&self) -> u64 {
        Self::sum(&self.kept(), |status| status.total)
    }

    /// The volumes that are not being drained.
    fn kept(&self) -> Vec<Arc<dyn StorageVolume>> {
        let mut volumes = self.inner.mounts.all();
        volumes.retain(|volume| self.inner.mounts.standing_of(volume.id()) == VolumeStanding::InUse);
        volumes
    }

    fn sum(volumes: &[Arc<dyn StorageVolume>], bytes: impl Fn(&VolumeStatus) -> u64) -> u64 {
        let healthy = volumes.iter().map(|volume| volume.status()).filter(|status| status.is_healthy);
        healthy.map(|status| bytes(&status)).fold(0, u64::saturating_add)
    }

    /// A step of the watch over volumes: measures all of them once, side by side. Files of one that fell ill wait from
    /// now on; those of one whose second probe in a row was good are handed out again; one that failed a write is written
    /// to again after one good probe. Calls under way to one that did not answer for 20 s end. Says for how many that was a
    /// change.
    pub async fn probe_all(&self) -> usize {
        self.probe(self.inner.mounts.all()).await
    }

    /// Does `work`, which may wait for any volume, to its end. As long as it takes, the volumes are measured every 10 s, so
    /// that one which hangs is given up and does not hold it up for ever.
    ///
    /// # Cancel safety
    /// That of `work`.
    pub async fn undelayed<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match in_time(&**self.clock(), SYNC_TIMEOUT, work.as_mut()).await {
                Some(done) => return done,
                None => _ = self.probe_all().await,
            }
        }
    }

    /// Measures the volumes that failed a write.
    pub(super) async fn probe_suspects(&self) -> bool {
        let suspects = self.inner.mounts.suspects();
        let any = !suspects.is_empty();
        self.probe(suspects).await;
        any
    }

    /// Measures these volumes and notes the answers. Says for how many that was a change.
    pub(super) async fn probe(&self, volumes: Vec<Arc<dyn StorageVolume>>) -> usize {
        let probes = volumes.into_iter().map(|volume| async move {
            let answer = probe(self.clock(), &*volume).await;
            self.inner.mounts.probed(&volume, answer, self.clock().monotonic())
        });
        let changed = join_bounded(probes.collect(), PROBES_MAX).await;
        changed.into_iter().filter(|changed| *changed).count()
    }
}

/// Why a volume that is there is not taken.
#[must_use]
pub fn was_retired(id: &VolumeId) -> Error {
    let why = "was retired and does not come back, unless it is unretired".into();
    Error::VolumeUnavailable { volume: Some(id.clone()), why }
}

/// The volumes that answer: whoever sweeps is not held up by one that hangs.
impl VolumeSet for StoragePool {
    fn volume(&self, id: &VolumeId) -> Option<Arc<dyn StorageVolume>> {
        self.inner.mounts.get(id).filter(|_| !self.inner.mounts.is_down(id))
    }

    fn all(&self) -> Vec<Arc<dyn StorageVolume>> {
        let mut volumes = self.inner.mounts.all();
        volumes.retain(|volume| !self.inner.mounts.is_down(volume.id()));
        volumes
    }
}
