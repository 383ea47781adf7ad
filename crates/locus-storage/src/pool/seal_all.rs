//! Sealing what is there already: contents that came before the ring, or that an older key sealed.
//!
//! As a drain it is no more than the sum of its moves: each is complete by itself, and called again it goes on with what is left.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use locus_core::{
    Error, FileKey, FileRecord, Landing, Moving, NewContent, Place, Result, SealKeyId, SealedAnew,
    SealedContent, Sealer, StoredBlob, TenantId, join_bounded,
};
use tracing::info;

use super::{
    StoragePool,
    drain::DrainOptions,
    moves::{Moved, Right},
    pace::Pace,
    read::Source,
    sealed::seal_bytes,
    tally::{After, Tally, UnmovedFile},
    transfer::{NotMoved, of_source},
};

/// Most files that a page of a pass holds.
const PAGE_FILES: usize = 256;

/// Whoever waits for a lease to end looks again after this long, and then after twice as long each time,
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// up to this.
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(10);

/// How fast contents are sealed: no faster than a volume is drained.
pub type SealOptions = DrainOptions;

/// How far sealing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SealProgress {
    /// Files that this call sealed.
    pub sealed: u64,
    /// Bytes of these, as they were stored before.
    pub sealed_bytes: u64,
    /// Files that were there to be sealed when it began. Some may have ended since.
    pub files: u64,
    /// Files that are damaged and stay as they are.
    pub damaged: u64,
}

/// What sealing did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SealReport {
    /// Files that it sealed.
    pub sealed: u64,
    /// Bytes of these, as they were stored before.
    pub sealed_bytes: u64,
    /// Damaged files, which stay as they are; at most 1,024 are named.
    pub damaged: Vec<UnmovedFile>,
}

impl StoragePool {
    /// Seals every content that is not sealed with the key that new ones are sealed with, dead letters included, and tells
    /// `progress` now and then how far it is; that is called on the caller's task and should return at once. Returns when nothing is
    /// left but damaged files, which are reported; a file that is leased is waited for, an upload is not: its file is sealed as the
    /// upload was begun, and found by the next call.
    ///
    /// Each content is checked on its way, durable under its new name before its record says so, and its old bytes stay until that
    /// is durable; then they are removed in the background. A content in the store stays there while the store takes it. Sealed
    /// contents are a little longer, and count so: limits are not asked, and may be passed by that.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when the pool has no keys, and for the options. [`Error::VolumeUnavailable`] and
    /// [`Error::InsufficientStorage`] when nothing can be sealed any more; [`Error::UnknownKey`], [`Error::Poisoned`],
    /// [`Error::ShuttingDown`]. What was sealed is sealed.
    ///
    /// # Cancel safety
    /// What is sealed is sealed, the rest is as it was: call it again.
    pub async fn seal_all(
        &self,
        options: SealOptions,
        progress: impl Fn(SealProgress) + Send + Sync,
    ) -> Result<SealReport> {
        options.check()?;
        let refused = Error::InvalidArgument { name: "seal_all", why: "needs a store that has keys" };
        let sealer = Arc::clone(self.sealer().ok_or(refused)?);
        let mut run = Run {
            pool: self,
            sealer,
            at_once: options.files_at_once(),
            pace: options.pace(self.clock()),
            files: 0,
            tally: Tally::default(),
        };
        run.seal_all(&progress).await?;
        self.inner.store.sync().await?; // only then may anything be removed
        let Tally { moved: sealed, moved_bytes: sealed_bytes, damaged, .. } = run.tally;
        info!(sealed, damaged = damaged.len(), "contents sealed");
        Ok(SealReport { sealed, sealed_bytes, damaged })
    }

    /// What the record is to say of a content that was sealed on its way.
    pub(super) fn sealed_anew(
        &self,
        record: &FileRecord,
        content: NewContent,
        stored: StoredBlob,
        sealed: SealedContent,
    ) -> Result<SealedAnew> {
        let (file, StoredBlob { length: size, checksum }) = (record.sealed_file(), stored);
        let known = self.reveal(record.clone())?;
        let names = (known.info.original_name, known.info.properties);
        let (seal, _) = self.seal_names(&file, &checksum, Some(sealed), names)?;
        let seal = seal.ok_or(Error::UnknownKey { key: sealed.key })?;
        let last_error = known.last_error.map(|text| self.seal_said(&file, seal.key, &text)).transpose()?;
        Ok(SealedAnew { content, size, checksum, seal, last_error })
    }

    pub(super) async fn record_sealed(&self, moving: Moving, mut sealed: SealedAnew) -> Result<bool> {
        let _held = self.hold_keys(std::iter::once(&sealed.seal))?;
        sealed.seal.turn = moving.sealed_as().unwrap_or_default();
        self.inner.store.seal_anew(moving, sealed).await
    }

    /// Seals one content: in the store, where it is there and the store takes it again, else on its way to a volume.
    async fn seal_one(&self, right: Right, pace: &Arc<Pace>) -> Result<Moved, NotMoved> {
        let record = right.moving.record().clone();
        if record.place != Place::Store {
            return self.transfer(right, pace).await;
        }
        let opened = match self.open_plain(record.clone(), 0..u64::MAX).await {
            Err(Error::FileNotFound { .. }) => return Ok(Moved::Over),
            opened => opened.map_err(of_source)?,
        };
        let Source::Memory(_, plain) = opened.source else { return self.transfer(right, pace).await };
        let Some(landing) = self.inner.store.land(self.stored_len(plain.len() as u64)).await else {
            return self.transfer(right, pace).await;
        };
        pace.wait(plain.len() as u64).await;
        match self.seal_here(right, &record, &plain, landing).await {
            Ok(true) => Ok(Moved::WithinStore),
            Ok(false) => Ok(Moved::Over),
            Err(error) => Err(NotMoved::Failed(error)),
        }
    }

    async fn seal_here(
        &self,
        right: Right,
        record: &FileRecord,
        plain: &Bytes,
        landing: Landing,
    ) -> Result<bool> {
        let sealer = self.sealer().ok_or(Error::ShuttingDown)?;
        let (bytes, sealed) = seal_bytes(&**sealer, &record.sealed_file(), sealer.key(), plain)?;
        let stored = StoredBlob { length: bytes.len() as u64, checksum: self.checksum(&bytes).await };
        let anew = self.sealed_anew(record, NewContent::Inline { bytes, landing }, stored, sealed)?;
        let Right { moving, ended: _ended } = right;
        self.record_sealed(moving, anew).await
    }
}

/// Sealing under way.
struct Run<'a> {
    pool: &'a StoragePool,
    sealer: Arc<dyn Sealer>,
    at_once: usize,
    pace: Arc<Pace>,
    files: u64,
    tally: Tally,
}

impl Run<'_> {
    /// Passes over what is not sealed with the active key, until only damaged files are left.
    async fn seal_all(&mut self, progress: &(impl Fn(SealProgress) + Send + Sync)) -> Result<()> {
        self.files = self.count().await;
        let mut wait = LOOK_AGAIN;
        loop {
            self.tally.begin_pass();
            self.pass(progress).await?;
            match self.tally.end_pass()? {
                After::Settled => wait = LOOK_AGAIN,
                After::Stayed => {
                    // What a failed write left is in the way, and removed only from a volume that is known to be well.
                    self.pool.probe_suspects().await;
                    if self.tally.has_failed {
                        self.pool.inner.mounts.check_place(&self.pool.inner.placement, &[])?;
                    }
                    let clock = self.pool.clock();
                    clock.sleep_until(clock.monotonic().saturating_add(wait)).await;
                    // Each look passes over all files.
                    wait = wait.saturating_mul(2).min(LOOK_AGAIN_MAX);
                }
                After::Nothing => return Ok(()),
            }
        }
    }

    async fn count(&self) -> u64 {
        let (with, mut files, mut from) = (self.sealer.key(), 0, None);
        loop {
            let page = self.pool.inner.store.not_sealed_with(with, from, PAGE_FILES);
            files += page.files.len() as u64;
            from = page.next;
            if from.is_none() {
                return files;
            }
            tokio::task::yield_now().await;
        }
    }

    async fn pass(&mut self, progress: &(impl Fn(SealProgress) + Send + Sync)) -> Result<()> {
        // A key that is rotated meanwhile is the business of the next pass.
        let (with, mut from) = (self.sealer.key(), None);
        loop {
            let page = self.pool.inner.store.not_sealed_with(with, from, PAGE_FILES);
            self.seal_page(page.files, with).await?;
            progress(self.progress());
            from = page.next;
            if from.is_none() {
                return Ok(());
            }
            tokio::task::yield_now().await;
        }
    }

    async fn seal_page(&mut self, mut files: Vec<(TenantId, FileKey)>, with: SealKeyId) -> Result<()> {
        files.retain(|(_, key)| !self.tally.is_damaged(key));
        let (pool, pace) = (self.pool, &self.pace);
        let moves = files.into_iter().map(|(tenant, key)| async move {
            let moving = match pool.inner.store.begin_seal(&tenant, &key, with) {
                Ok(Some(moving)) => moving,
                Ok(None) => return (tenant, key, 0, None),
                Err(error) => return (tenant, key, 0, Some(Err(NotMoved::Failed(error)))),
            };
            let size = moving.record().info.size;
            // What was leased meanwhile is there still; what is over is not found again.
            let sealed = match pool.seal_one(pool.inner.moves.right(moving), pace).await {
                Ok(Moved::Over) => None,
                sealed => Some(sealed),
            };
            (tenant, key, size, sealed)
        });
        for (tenant, key, size, sealed) in join_bounded(moves.collect(), self.at_once).await {
            self.tally.take(tenant, key, size, sealed)?;
        }
        Ok(())
    }

    fn progress(&self) -> SealProgress {
        SealProgress {
            sealed: self.tally.moved,
            sealed_bytes: self.tally.moved_bytes,
            files: self.files,
            damaged: self.tally.damaged_files(),
        }
    }
}
