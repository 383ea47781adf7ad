//! Files that failed for good leave the queue for the dead letters of their volume, and come back.

use std::sync::Arc;

use locus_core::{Error, FileKey, Place, Result, StorageVolume, TenantAccess, TenantContext, TenantId};

use super::{
    StoragePool,
    moves::{LOOK_AGAIN, Moved, Right},
    residue::Unrecorded,
    transfer::holds,
};

impl StoragePool {
    /// Moves a file that failed for the last time out of the queue, to the dead letters of the volume that it rests on, or
    /// of one that is chosen when its content rests in the store. It ceases to count against quotas; it can still be read by
    /// its key. For upkeep: whatever the tenant's status is. `false`, and nothing changed, when it is in another state (by
    /// now), when there is no such file, or while somebody else moves it.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] when its volume, or any, is not there; for content in the store as
    /// [`materialize`](Self::materialize). What the volume says. Unless the outcome is unknown it is where it was.
    ///
    /// # Cancel safety
    /// After a dropped future it is a dead letter or not, whole in one of the two places. What else was written is
    /// [`residue`](Self::residue).
    pub async fn dead_letter(&self, tenant: &TenantId, key: &FileKey) -> Result<bool> {
        let moving = match self.inner.store.begin_dead_letter(tenant, key) {
            Ok(Some(moving)) => moving,
            Ok(None) | Err(Error::FileNotFound { .. } | Error::WrongStatus { .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        let right = self.inner.moves.right(moving);
        let moved = match right.moving.record().place.clone() {
            Place::Volume(id) => self.move_within(right, &self.inner.mounts.usable(&id)?).await?,
            _ => self.move_out(right, false).await?,
        };
        Ok(matches!(moved, Moved::To(_)))
    }

    /// Brings a dead letter back into the queue: pending, with fresh counts, at its place in the accept order, and counted
    /// again. Waits while somebody moves it, or removes what its last move left.
    ///
    /// # Errors
    /// [`Error::FileNotFound`]; [`Error::WrongStatus`] when it is no dead letter;
    /// [`Error::TenantQuotaExceeded`], [`Error::DirectoryQuotaExceeded`], [`Error::GlobalQuotaExceeded`];
    /// [`Error::VolumeUnavailable`] while its volume is not there, or takes no writes; [`Error::TenantNotFound`]; [`Error::TenantDisabled`]
    /// when the tenant is disabled. What the volume says. Unless the outcome is unknown it is the dead letter that it was.
    ///
    /// # Cancel safety
    /// As [`dead_letter`](Self::dead_letter).
    pub async fn requeue(&self, tenant: &TenantContext, key: &FileKey) -> Result<()> {
        self.allow(tenant, TenantAccess::Read)?;
        loop {
            // From here on the end of a move is heard of.
            let ended = self.inner.moves.ended();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if let Some(moving) = self.inner.store.begin_requeue(tenant.id(), key)? {
                let right = self.inner.moves.right(moving);
                let Place::Volume(id) = right.moving.record().place.clone() else {
                    return Err(Error::FileNotFound { key: *key }); // dead letters rest on volumes
                };
                let volume = self.inner.mounts.usable(&id)?;
                return match self.move_within(right, &volume).await? {
                    Moved::To(_) => Ok(()),
                    Moved::WithinStore | Moved::Over => Err(Error::FileNotFound { key: *key }),
                };
            }
            self.check_removable(tenant.id(), key).await?;
            let clock = self.clock();
            tokio::select! {
                () = ended => {}
                () = clock.sleep_until(clock.monotonic().saturating_add(LOOK_AGAIN)) => {}
            }
        }
    }

    /// What the last move of a file left goes before it is moved again: that never happens on a volume that takes no writes.
    async fn check_removable(&self, tenant: &TenantId, key: &FileKey) -> Result<()> {
        let Some(record) = self.inner.store.get(tenant, key).await? else { return Ok(()) };
        let Place::Volume(id) = record.place else { return Ok(()) };
        self.inner.mounts.usable(&id)?.status().check_writes(&id)
    }

    /// Gives the content the same address in another area of its volume, durably, and says so. What its old address holds
    /// is removed when that is durable.
    async fn move_within(&self, right: Right, volume: &Arc<dyn StorageVolume>) -> Result<Moved> {
        let (record, to) = (right.moving.record().clone(), right.moving.target());
        let at = record.blob();
        volume.status().check_writes(volume.id())?;
        if !self.inner.store.announce(&right.moving, volume.id()).await? {
            return Ok(Moved::Over);
        }
        // Never removed without asking the store: its name may be used again by the next move.
        let blob = Unrecorded::new(&self.inner.residue, volume, to.clone()).accepting();
        let copied = match volume.copy(&at, to.area).await {
            // What an earlier try left.
            Err(taken) if taken.is_taken() => match holds(&**volume, &to, &record).await {
                Ok(true) => volume.sync_blob(&to).await,
                Ok(false) => match volume.delete(&to).await {
                    Ok(_) => volume.copy(&at, to.area).await,
                    Err(error) => Err(error),
                },
                Err(error) if error.is_absent() => Err(taken),
                Err(error) => Err(error),
            },
            copied => copied,
        };
        if let Err(error) = copied {
            // Absent is what is wrong with the file, not with the volume, which leaves nothing when it fails.
            if !error.is_taken() {
                blob.settle();
                if !error.is_absent() {
                    self.judge(volume, &error).await;
                }
            }
            return Err(error);
        }
        self.arrive(right, volume, blob, None).await
    }
}
