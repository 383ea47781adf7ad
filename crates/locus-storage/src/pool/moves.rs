//! Content on its way out of the store, to a volume.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use locus_core::{
    BlobPath, Durability, Error, FileKey, FileRecord, Moving, Outcome, Place, Result, SealedAnew,
    StorageVolume, Stored, TenantId, undisturbed,
};
use tokio::sync::{Notify, futures::Notified};

use super::{StoragePool, mounts::Ticket, reader::CHUNK_BYTES, residue::Unrecorded};

/// Whoever waits for somebody else's move looks again after this long, if nobody says that it is over: the store may
/// move content by itself.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Wakes those who wait for the end of a move.
#[derive(Debug, Default)]
pub(super) struct Moves(Arc<Notify>);

/// The right to move a content. Fields are dropped in this order: who is woken finds the right free.
pub(super) struct Right {
    pub(super) moving: Moving,
    pub(super) ended: Ended,
}

pub(super) struct Ended(Arc<Notify>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.notify_waiters();
    }
}

impl Moves {
    /// Returns when some move ended after it was enabled.
    pub(super) fn ended(&self) -> Notified<'_> {
        self.0.notified()
    }

    pub(super) fn right(&self, moving: Moving) -> Right {
        Right { moving, ended: Ended(Arc::clone(&self.0)) }
    }
}

/// What came of a move.
pub(super) enum Moved {
    /// The content rests on this volume now.
    To(Arc<dyn StorageVolume>),
    /// It was sealed where it is, in the store.
    WithinStore,
    /// The file was over before; nothing of it is left on a volume.
    Over,
}

impl StoragePool {
    /// The path of a living file, which is moved out of the store if need be.
    pub(super) async fn path_of(&self, tenant: &TenantId, key: &FileKey) -> Result<PathBuf> {
        if self.living(tenant, key).await?.seal.is_some() {
            return Err(Error::NotMaterializable { key: *key, why: "its content is sealed" });
        }
        loop {
            // From here on the end of a move is heard of.
            let ended = self.inner.moves.ended();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if let Some(moving) = self.inner.store.begin_move(tenant, key) {
                return self.move_to_path(self.inner.moves.right(moving)).await;
            }
            let record = self.living(tenant, key).await?;
            if let Place::Volume(id) = &record.place {
                return path_on(&*self.inner.mounts.usable(id)?, &record);
            }
            let clock = &self.inner.context.clock;
            tokio::select! {
                () = ended => {}
                () = clock.sleep_until(clock.monotonic().saturating_add(LOOK_AGAIN)) => {}
            }
        }
    }

    async fn move_to_path(&self, right: Right) -> Result<PathBuf> {
        let record = right.moving.record().clone();
        let (key, at) = (record.info.key, record.blob());
        if !self.inner.mounts.all().iter().any(|volume| volume.local_path(&at).is_some()) {
            let why = "its content rests in the store, and no mounted volume has paths on this machine";
            return Err(Error::NotMaterializable { key, why });
        }
        match self.move_out(right, true).await? {
            Moved::To(volume) => path_on(&*volume, &record),
            Moved::WithinStore | Moved::Over => Err(Error::FileNotFound { key }),
        }
    }

    /// Moves one content to a volume: bytes and name durable there before the record says so. With `to_path` to a volume
    /// that gives it a path.
    pub(super) async fn move_out(&self, right: Right, to_path: bool) -> Result<Moved> {
        let record = right.moving.record().clone();
        let (at, length) = (right.moving.target(), record.info.size);
        let ticket = self.place(Some(length), to_path.then_some(&at)).await?;
        let bytes = match self.inner.store.content(&record, 0..length).await {
            Err(Error::FileNotFound { .. }) => return Ok(Moved::Over),
            answer => answer?,
        };
        let Some((ticket, blob)) = self.bring_out(&right.moving, bytes, ticket, to_path).await? else {
            return Ok(Moved::Over);
        };
        let volume = Arc::clone(ticket.volume());
        self.arrive(right, &volume, blob, None).await
    }

    /// The content rests on `volume`, durably, and maybe sealed anew: says so, and removes it again where it is not wanted any
    /// more.
    pub(super) async fn arrive(
        &self,
        right: Right,
        volume: &Arc<dyn StorageVolume>,
        blob: Unrecorded,
        sealed: Option<SealedAnew>,
    ) -> Result<Moved> {
        let record = right.moving.record().clone();
        let Right { moving, ended: _ended } = right;
        let is_sealed_anew = sealed.is_some();
        let recorded = match sealed {
            None => {
                let (length, checksum) = (record.info.size, record.info.checksum);
                let to = Stored { place: Place::Volume(volume.id().clone()), length, checksum };
                self.inner.store.relocate(moving, to).await
            }
            Some(sealed) => self.record_sealed(moving, sealed).await,
        };
        match recorded {
            Ok(true) => {
                blob.settle();
                Ok(Moved::To(Arc::clone(volume)))
            }
            // Its name is a copy that the store has removed: the file may be sealed again, to that very name.
            Ok(false) if is_sealed_anew => {
                blob.settle();
                Ok(Moved::Over)
            }
            Err(error) if is_sealed_anew => {
                blob.settle();
                Err(error)
            }
            Ok(false) => {
                self.give_up(&record, blob).await;
                Ok(Moved::Over)
            }
            Err(error) => {
                self.take_back(&record, blob, &error).await;
                Err(error)
            }
        }
    }

    /// The right to move a file from where a record of it says that it rests.
    pub(super) fn right_to(&self, record: &FileRecord) -> Option<Right> {
        let (tenant, key) = (&record.info.tenant, &record.info.key);
        let moving = match &record.place {
            Place::Volume(id) => self.inner.store.begin_move_from(tenant, key, id),
            _ => self.inner.store.begin_move(tenant, key),
        };
        Some(self.inner.moves.right(moving?))
    }

    /// Writes to the volume of the ticket, and to one after the other when volumes fail. `None` when the file is over.
    async fn bring_out(
        &self,
        moving: &Moving,
        bytes: Bytes,
        mut ticket: Ticket,
        to_path: bool,
    ) -> Result<Option<(Ticket, Unrecorded)>> {
        let (at, mut tried) = (moving.target(), Vec::new());
        loop {
            let volume = Arc::clone(ticket.volume());
            let error = match self.inner.store.announce(moving, volume.id()).await {
                Ok(false) => return Ok(None),
                Ok(true) => {
                    // Never removed without asking the store: unlike a new file's, its name may be used again by the next move.
                    let blob = Unrecorded::new(&self.inner.residue, &volume, at.clone()).accepting();
                    match put(&*volume, &at, &bytes).await {
                        Ok(()) => {
                            ticket.landed();
                            return Ok(Some((ticket, blob)));
                        }
                        // A write that was given up still has the name: remembered as residue.
                        Err(error) if error.is_taken() => error,
                        Err(error) => {
                            blob.settle();
                            self.judge(&volume, &error).await;
                            error
                        }
                    }
                }
                // What an earlier move left there is just being removed.
                Err(error @ Error::VolumeUnavailable { .. }) => error,
                Err(error) => return Err(error),
            };
            tried.push(volume.id().clone());
            let path_of = to_path.then_some(&at);
            match self.inner.mounts.place(&self.inner.placement, Some(bytes.len() as u64), &tried, path_of) {
                Ok(next) => ticket = next,
                Err(_) => return Err(error),
            }
        }
    }

    /// Removes what was written for a move that did not happen, as far as nobody else may count on it.
    async fn take_back(&self, record: &FileRecord, blob: Unrecorded, error: &Error) {
        if matches!(error, Error::Poisoned { outcome: Outcome::Unknown }) {
            return blob.settle();
        }
        self.give_up(record, blob).await;
    }

    /// Removes what was written for a move that did not happen. A file that is over is never moved again, but one that still
    /// lives, or was only reset, may be, to this very name, and that move would adopt what we are about to remove: so under a
    /// right of our own. Without it the blob is left to that move, or to the tidying of residue.
    async fn give_up(&self, record: &FileRecord, blob: Unrecorded) {
        let Some(right) = self.right_to(record) else {
            let now = self.inner.store.get(&record.info.tenant, &record.info.key).await;
            if now.is_ok_and(|now| now.is_none_or(|now| now.info.status.is_over())) {
                blob.remove().await;
            }
            return;
        };
        undisturbed(async move {
            blob.remove().await;
            drop(right);
        })
        .await;
    }
}

fn path_on(volume: &dyn StorageVolume, record: &FileRecord) -> Result<PathBuf> {
    let why = "its volume has no paths on this machine";
    volume.local_path(&record.blob()).ok_or(Error::NotMaterializable { key: record.info.key, why })
}

/// Makes `bytes` rest at `at`, durably. Nobody but who has the right to move may write there: a name found taken is what
/// an earlier move left, and is adopted when it is the same.
async fn put(volume: &dyn StorageVolume, at: &BlobPath, bytes: &Bytes) -> Result<()> {
    let write = async || volume.write(at, &mut bytes.clone().into(), Durability::Durable).await.map(drop);
    match write().await {
        Err(taken) if taken.is_taken() => match holds(volume, at, bytes).await {
            Ok(true) => volume.sync_blob(at).await,
            Ok(false) => {
                volume.delete(at).await?;
                write().await
            }
            Err(error) if error.is_absent() => Err(taken),
            Err(error) => Err(error),
        },
        answer => answer,
    }
}

/// Whether the blob at `at` is exactly `bytes`.
async fn holds(volume: &dyn StorageVolume, at: &BlobPath, bytes: &Bytes) -> Result<bool> {
    let opened = volume.open(at, 0..CHUNK_BYTES.min(bytes.len() as u64)).await?;
    if opened.length != bytes.len() as u64 || opened.head_offset != 0 {
        return Ok(false);
    }
    let mut rest = bytes.clone();
    let mut piece = opened.head;
    loop {
        if !rest.starts_with(&piece) {
            return Ok(false);
        }
        rest = rest.split_off(piece.len());
        if rest.is_empty() {
            return Ok(true);
        }
        let offset = (bytes.len() - rest.len()) as u64;
        piece = opened.blob.read_at(offset, rest.len().min(CHUNK_BYTES as usize)).await?;
        if piece.is_empty() {
            return Ok(false);
        }
    }
}
