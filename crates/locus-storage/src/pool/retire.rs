//! Volumes that never come back, and volumes that come back from elsewhere.

use locus_core::{Error, Result, VolumeId, VolumeStanding};
use locus_fs::VolumeSpec;
use tracing::{info, warn};

use super::{
    StoragePool,
    events::VolumeEvent,
    patience::{close, let_go},
};

/// Most files that one step of a retirement forgets.
const FORGET_FILES: usize = 256;

/// What becomes of the records of a volume that never comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retire {
    /// They stay: their files are known, count, and are not handed out, and their reads say
    /// [`Error::VolumeUnavailable`].
    Keep,
    /// They end: the files are deleted, leased or not, and charged back, and uploads under way there end. Their bytes are not
    /// touched.
    Forget,
}

impl StoragePool {
    /// Declares that a volume, mounted or not, never comes back. A mounted one is taken out of use and closed. Says how
    /// many files are kept, or were forgotten.
    ///
    /// [`mount`](Self::mount) refuses a volume that was retired and whose records were kept, over restarts, too: do not name it
    /// in the settings any more. The records can be forgotten later, and then the name is free; or the volume is
    /// [unretired](Self::unretire).
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`] when it is not mounted, not retired, and neither a file nor an upload rests there;
    /// [`Error::VolumeBusy`] while it is being drained. Nothing happened then. [`Error::Poisoned`], [`Error::ShuttingDown`], [`Error::InsufficientStorage`]: what
    /// was forgotten is, call it again.
    ///
    /// # Cancel safety
    /// As after an error: files are forgotten in steps, call it again. A write to the volume that was under way when it
    /// was retired may be accepted afterwards: its file is there, and is forgotten by another call.
    pub async fn retire(&self, id: &VolumeId, how: Retire) -> Result<u64> {
        let _one = self.inner.draining.begin(id)?;
        let files = self.inner.store.files_on(id);
        let is_mounted = self.inner.mounts.get(id).is_some();
        let uploads = self.inner.store.uploads_on(id).uploads;
        let is_retired = self.inner.mounts.standing_of(id) == VolumeStanding::Retired;
        if !is_mounted && !is_retired && files == 0 && uploads == 0 {
            return Err(Error::VolumeNotFound { volume: id.clone() });
        }
        self.inner.mounts.set_standing(id, VolumeStanding::Retired).await?;
        // Asked again: it may have been mounted meanwhile. From now on it cannot be.
        if self.inner.mounts.get(id).is_some() {
            // What was moved away from it may not be durable yet; what cannot be synced is lost with the volume.
            if let Err(error) = self.undelayed(self.inner.store.sync()).await {
                warn!(volume = %id, error = &error as &dyn std::error::Error, "volume retired before it was synced");
            }
            if let Ok(volume) = self.inner.mounts.take(id) {
                let_go(self.clock(), &volume).await;
            }
        }
        if how == Retire::Forget {
            while self.inner.store.forget_on(id, FORGET_FILES).await? > 0 {
                tokio::task::yield_now().await;
            }
            self.inner.mounts.set_standing(id, VolumeStanding::InUse).await?;
        }
        info!(volume = %id, files, ?how, "volume retired");
        self.inner.mounts.events.tell(VolumeEvent::Retired { volume: id.clone(), how });
        Ok(files)
    }

    /// Takes back that a volume never comes back: it can be mounted again, and its files are handed out then.
    ///
    /// # Errors
    /// [`Error::VolumeNotFound`] when it is not retired; [`Error::VolumeBusy`] while it is being retired.
    /// [`Error::Poisoned`], [`Error::ShuttingDown`], [`Error::InsufficientStorage`].
    ///
    /// # Cancel safety
    /// After a dropped future it is retired or not.
    pub async fn unretire(&self, id: &VolumeId) -> Result<()> {
        let _one = self.inner.draining.begin(id)?;
        if self.inner.mounts.standing_of(id) != VolumeStanding::Retired {
            return Err(Error::VolumeNotFound { volume: id.clone() });
        }
        self.inner.mounts.set_standing(id, VolumeStanding::InUse).await?;
        info!(volume = %id, "volume unretired");
        Ok(())
    }

    /// The volumes that were retired and whose records are kept, in the order of their names.
    #[must_use]
    pub fn retired(&self) -> Vec<VolumeId> {
        let mut decided = self.inner.store.standings();
        decided.retain(|(_, standing)| *standing == VolumeStanding::Retired);
        decided.into_iter().map(|(volume, _)| volume).collect()
    }

    /// Puts a volume of the same identity in the place of a mounted one, or of one that is not mounted: its disk is mounted
    /// elsewhere by now, or its content was copied. The marker must say that it is this volume of this store.
    ///
    /// Copy only what does not change: unmount the volume first, or see to it that nothing is written to it. A file that is
    /// missing in the copy is one whose bytes are missing.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the spec is for another volume; [`Error::VolumeNotFound`] when no volume of this
    /// name is mounted and neither a file nor an upload rests there; [`Error::VolumeBusy`] while it is being drained;
    /// [`Error::VolumeExists`] while an earlier try to mount or replace it hangs; what is wrong with the new one, as
    /// [`VolumeSpec::open`] says it, or that it did not open within 60 s. The old one then stays as it was, unless both are
    /// the same disk: its lock
    /// must be let go for the new one to be opened, and when that fails the volume is unmounted and its files wait.
    ///
    /// # Cancel safety
    /// After a dropped future one of the two is mounted, or none.
    pub async fn replace(&self, id: &VolumeId, spec: impl VolumeSpec + Clone + 'static) -> Result<()> {
        let _one = self.inner.draining.begin(id)?;
        let mut spec = spec;
        if spec.id()? != *id {
            return Err(Error::InvalidArgument { name: "spec", why: "is of another volume" });
        }
        let is_mounted = self.inner.mounts.get(id).is_some();
        let store = &self.inner.store;
        if !is_mounted && store.files_on(id) == 0 && store.uploads_on(id).uploads == 0 {
            return Err(Error::VolumeNotFound { volume: id.clone() });
        }
        spec.expect_existing();
        if !is_mounted {
            self.mount(spec).await?;
            return Ok(());
        }
        let opening = self.inner.opening.begin(id)?;
        let new = match self.open_in_time(id, Box::new(spec.clone()), opening).await {
            // The same disk in another place: one lock.
            Err(Error::AlreadyOpen { .. }) => {
                self.unmount(id).await?;
                self.open_in_time(id, Box::new(spec), self.inner.opening.begin(id)?).await?
            }
            opened => {
                let opened = opened?;
                let checked = match self.check(&*opened).await {
                    Ok(()) => self.unmount(id).await,
                    failed => failed,
                };
                if let Err(error) = checked {
                    close(self.clock(), &*opened).await;
                    return Err(error);
                }
                opened
            }
        };
        self.attach(new).await?;
        info!(volume = %id, "volume replaced");
        Ok(())
    }
}
