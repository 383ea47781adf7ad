//! The embedded store: one process, one directory, state in memory, the journal beneath.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hashbrown::HashMap;
use locus_core::{
    Area, Clock, Durability, Entropy, Epoch, Error, FileKey, InlineLimits, Lsn, Outcome, Result, Site,
    StoreCounts, StoreId, TenantId, VolumeId, VolumeSet,
};
use locus_fs::{Disk, is_passing};
use tracing::error;

use super::{
    checkpoint::Checkpoints,
    entry::VolumeNo,
    event::{Change, encode_files},
    landing::Emptying,
    limits::Limits,
    places::Places,
    reap::{Over, ReapQueue},
    recovery::Doubtful,
    schedule::{Schedule, TenantNo},
    standings::Standings,
    tenant::{Scene, TenantState},
};
use crate::{
    EngineOptions,
    journal::{Appended, Attachment, Journal, Room},
    sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Notify, RwLock},
    time::{Stamp, StoreClock},
};

/// What an [`EmbeddedStore`] is opened with.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The data directory; it exists and is locked by the caller.
    pub dir: PathBuf,
    /// Settings.
    pub options: EngineOptions,
    /// Where the journal lies.
    pub disk: Arc<dyn Disk>,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub entropy: Arc<dyn Entropy>,
    /// The mounted volumes: recovery and barriers sync them.
    pub volumes: Arc<dyn VolumeSet>,
}

/// A [`MetadataStore`](locus_core::MetadataStore) inside this process, over a journal in one directory.
///
/// Look-ups are memory operations. A change is decided under its tenant's lock, appended to the journal and applied,
/// and confirmed when the journal has reached it.
#[derive(Debug)]
pub struct EmbeddedStore {
    pub(super) config: StoreConfig,
    pub(super) id: StoreId,
    /// Keys the hash of idempotency keys.
    pub(super) secret: [u8; 32],
    pub(super) epoch: Epoch,
    pub(super) max_deliveries: u32,
    pub(super) journal: Arc<Journal>,
    pub(super) clock: Arc<StoreClock>,
    pub(super) places: Arc<Places>,
    pub(super) limits: RwLock<Limits>,
    pub(super) standings: RwLock<Standings>,
    pub(super) schedule: Schedule,
    pub(super) cells: RwLock<Cells>,
    pub(super) reap: Arc<Mutex<ReapQueue>>,
    pub(super) reap_changed: Arc<Notify>,
    pub(super) suspects: Mutex<Suspects>,
    /// The store is being closed: nothing is handed out any more.
    pub(super) leasing_ended: AtomicBool,
    /// Volumes with content that was not synced before its accept.
    pub(super) unsynced_volumes: Mutex<BTreeSet<VolumeId>>,
    /// Contents that recovery could not look at, because their volume was not there: looked at when it is.
    pub(super) unchecked: Mutex<Vec<Doubtful>>,
    /// One barrier at a time.
    pub(super) barrier: tokio::sync::Mutex<()>,
    /// One verification at a time.
    pub(super) verifying: tokio::sync::Mutex<()>,
    pub(super) checkpoints: Checkpoints,
    pub(super) inline_limits: InlineLimits,
    pub(super) moved: Moved,
    pub(super) emptying: Emptying,
    /// A background failure that the next call shall tell.
    pub(super) background_error: Mutex<Option<Error>>,
}

/// Files whose last two deliveries ended with the process: one is out at a time (ENGINE 8).
#[derive(Debug, Default)]
pub(super) struct Suspects {
    pub(super) out: Option<(TenantNo, FileKey)>,
    /// Tenants that wait for it to come back.
    pub(super) waiting: BTreeSet<TenantNo>,
}

/// Contents that were moved since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) spilled: AtomicU64,
    pub(super) forward: AtomicU64,
}

/// The tenants that have files, or had some since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub(super) by_id: HashMap<TenantId, Arc<Cell>>,
    pub(super) all: Vec<Arc<Cell>>,
    /// Of all tenants: how long completed files are kept.
    pub(super) completed_retention: Duration,
}

/// One tenant: its state behind a lock that is held for microseconds and never across I/O.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) no: TenantNo,
    pub(super) state: Mutex<TenantState>,
    /// Something may be leased.
    pub(super) ready: Notify,
    /// How often the tenant's status changed since the store was opened.
    pub(super) status_changes: AtomicU64,
}

impl Cell {
    /// Nobody has a claim on a blob of this key any more.
    pub(super) fn end_claim(&self, key: &FileKey) {
        self.state.lock().end_claim(key);
    }

    /// Nobody moves the content any more. Says what was written for that in vain.
    fn end_move(&self, key: &FileKey) -> Vec<(Lsn, VolumeNo, Area)> {
        let mut state = self.state.lock();
        state.end_move(key);
        if state.leaving {
            self.ready.notify_waiters(); // somebody may wait for the last one
        }
        state.given_up(key)
    }
}

/// Numbers for people who watch a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct StoreStatistics {
    /// Bytes of all journal segments on the disk.
    pub journal_bytes: u64,
    /// Bytes of the newest checkpoint.
    pub checkpoint_bytes: u64,
    /// Checkpoints taken since the store was opened.
    pub checkpoints: u64,
    /// Journal segments that were freed and used again since the store was opened.
    pub segments_reused: u64,
    /// Last LSN in the kernel.
    pub written: Lsn,
    /// Last LSN that survives power loss.
    pub durable: Lsn,
    /// Idempotency keys that are remembered.
    pub idempotency_keys: u64,
    /// Files whose content rests in the journal.
    pub files_in_journal: u64,
    /// Bytes of those contents.
    pub bytes_in_journal: u64,
    /// Contents that were moved from the journal to volumes since the store was opened.
    pub spilled: u64,
    /// Contents that were moved forward in the journal since the store was opened.
    pub copied_forward: u64,
}

impl EmbeddedStore {
    /// The store's identity, which its volumes carry in their markers.
    #[must_use]
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// Numbers for people who watch.
    #[must_use]
    pub fn statistics(&self) -> StoreStatistics {
        let (checkpoints, checkpoint_bytes) = self.checkpoints.taken();
        StoreStatistics {
            journal_bytes: self.journal.disk_bytes(),
            checkpoint_bytes,
            checkpoints,
            segments_reused: self.journal.segments_reused(),
            written: self.journal.written(),
            durable: self.journal.durable(),
            idempotency_keys: self.places.remembered.load(Ordering::Acquire),
            files_in_journal: self.places.in_journal.load(Ordering::Acquire),
            bytes_in_journal: self.journal.live_bytes(),
            spilled: self.moved.spilled.load(Ordering::Acquire),
            copied_forward: self.moved.forward.load(Ordering::Acquire),
        }
    }

    /// Bytes of the segments that recovery would read or that hold contents, and of the newest checkpoint.
    pub(super) fn record_bytes(&self) -> u64 {
        self.journal.kept_bytes() + self.checkpoints.taken().1
    }

    /// Whether a write or sync failed, so that no change is taken until the store is reopened.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.journal.is_poisoned()
    }

    pub(super) fn counts_by_tenant(&self) -> StoreCounts {
        let cells = self.cells.read().all.clone();
        let counts = cells.iter().map(|cell| {
            let state = cell.state.lock();
            (state.id.clone(), state.counts())
        });
        counts.filter(|(_, counts)| counts.files() + counts.dead_lettered > 0).collect()
    }

    // ---- cells ------------------------------------------------------------------------------------------------

    pub(super) fn cell(&self, tenant: &TenantId) -> Option<Arc<Cell>> {
        self.cells.read().by_id.get(tenant).cloned()
    }

    /// This tenant's, if it has one, or all.
    pub(super) fn cells_of(&self, of: Option<&TenantId>) -> Vec<Arc<Cell>> {
        match of {
            Some(tenant) => self.cell(tenant).into_iter().collect(),
            None => self.cells.read().all.clone(),
        }
    }

    pub(super) fn cell_at(&self, no: TenantNo) -> Arc<Cell> {
        Arc::clone(&self.cells.read().all[no as usize])
    }

    pub(super) fn cell_or_new(&self, tenant: &TenantId) -> Arc<Cell> {
        if let Some(cell) = self.cell(tenant) {
            return cell;
        }
        let mut cells = self.cells.write();
        cells.get_or_new(tenant, true)
    }

    /// What the end of a right to move does: what was written in vain waits to be removed.
    pub(super) fn end_of_move(&self, cell: Arc<Cell>, key: FileKey) -> impl FnOnce() + Send + Sync + use<> {
        let (reap, reap_changed) = (Arc::clone(&self.reap), Arc::clone(&self.reap_changed));
        move || {
            let given_up = cell.end_move(&key);
            if given_up.is_empty() {
                return;
            }
            let mut reap = reap.lock();
            for (lsn, volume, area) in given_up {
                reap.push(volume, Over { lsn, tenant: cell.no, key, copy_in: Some(area) });
            }
            drop(reap);
            reap_changed.notify_waiters();
        }
    }

    // ---- visibility -------------------------------------------------------------------------------------------

    /// What callers may see: files whose accept is not above this.
    pub(super) fn watermark(&self) -> Lsn {
        match self.config.options.durability {
            Durability::Durable => self.journal.durable(),
            Durability::Buffered => self.journal.written(),
        }
    }

    pub(super) async fn wait_visible(&self, lsn: Lsn) -> Result<()> {
        match self.config.options.durability {
            Durability::Durable => self.journal.wait_durable(lsn).await,
            Durability::Buffered => self.journal.confirm_written(lsn).await,
        }
    }

    /// Refuses to answer from what a failed write or sync has made uncertain.
    pub(super) fn check_certain(&self, last: Lsn) -> Result<()> {
        if self.journal.is_poisoned() && last > self.journal.durable() {
            return Err(Error::Poisoned { outcome: Outcome::Unknown });
        }
        Ok(())
    }

    // ---- committing -------------------------------------------------------------------------------------------

    /// Appends one record of changes to one tenant's files and applies it. The caller decided them on this very state
    /// and holds its lock.
    pub(super) fn commit(
        &self,
        cell: &Cell,
        state: &mut MutexGuard<'_, TenantState>,
        room: &mut Room,
        stamp: Stamp,
        changes: &[Change],
    ) -> Result<Lsn> {
        self.commit_with(cell, state, room, stamp, changes, Attachment::default(), 0)
            .map(|appended| appended.lsn)
    }

    /// [`commit`](Self::commit) of a record with contents in its attachment.
    #[expect(clippy::too_many_arguments, reason = "all of it is decided by the caller, under its lock")]
    pub(super) fn commit_with(
        &self,
        cell: &Cell,
        state: &mut MutexGuard<'_, TenantState>,
        room: &mut Room,
        stamp: Stamp,
        changes: &[Change],
        attachment: Attachment,
        flags: u32,
    ) -> Result<Appended> {
        let body = encode_files(stamp, &[(&state.id, changes)]);
        let appended = self.journal.append_with(room, body, attachment, flags)?;
        self.apply(cell, state, appended, stamp, changes);
        Ok(appended)
    }

    /// Applies what was just appended, and tells everybody whom it concerns.
    pub(super) fn apply(
        &self,
        cell: &Cell,
        state: &mut MutexGuard<'_, TenantState>,
        appended: Appended,
        stamp: Stamp,
        changes: &[Change],
    ) {
        let scene = Scene {
            lsn: appended.lsn,
            stamp,
            epoch: self.epoch,
            places: &self.places,
            unknown_until: Lsn::ZERO,
            attachment: appended.place,
        };
        for (ordinal, change) in changes.iter().enumerate() {
            if let Err(why) = state.apply(&scene, ordinal, change) {
                // The log now holds a record that the state refuses: only a mistake of ours can do that.
                debug_assert!(false, "a decided change does not apply: {why}");
                error!(error = %why, tenant = %state.id, "decided change did not apply");
                self.journal.poison("apply", &why);
            }
        }
        self.after(cell, state);
    }

    /// Tells everybody whom the last changes of a tenant concern.
    pub(super) fn after(&self, cell: &Cell, state: &mut MutexGuard<'_, TenantState>) {
        let effects = std::mem::take(&mut state.effects);
        state.settle_uploads(self.journal.durable());
        let (due, deadline, kept) = (state.next_due(), state.next_deadline(), state.kept_until());
        if self.schedule.set_times(cell.no, due, deadline, kept) {
            self.reap_changed.notify_waiters();
        }
        if effects.ready {
            self.schedule.push(cell.no);
            cell.ready.notify_waiters();
        }
        for (lsn, place, bytes) in effects.released {
            self.journal.release(place, bytes, lsn);
        }
        if !effects.over.is_empty() || !effects.left.is_empty() {
            let mut reap = self.reap.lock();
            let mut first = false;
            for (lsn, volume, key) in effects.over {
                first |= reap.push(volume, Over { lsn, tenant: cell.no, key, copy_in: None });
            }
            for (lsn, volume, key, area) in effects.left {
                first |= reap.push(volume, Over { lsn, tenant: cell.no, key, copy_in: Some(area) });
            }
            drop(reap);
            if first {
                self.reap_changed.notify_waiters();
            }
        }
    }

    /// Waits until a change is as safe as `how` promises.
    pub(super) async fn confirm(&self, lsn: Lsn, how: Durability) -> Result<()> {
        match how {
            Durability::Buffered => self.journal.confirm_written(lsn).await,
            Durability::Durable if Site::ToldWhenDurable.stands() => self.make_durable(lsn).await,
            Durability::Durable => Ok(()),
        }
    }

    /// Waits until the log is durable up to `lsn`, syncing what its records rest on first.
    pub(super) async fn make_durable(&self, lsn: Lsn) -> Result<()> {
        while self.journal.is_held() && self.journal.durable() < lsn {
            if let Some(lost) = self.lift_holds().await? {
                // This change is safe; the content that is not is told by the next call.
                *self.background_error.lock() = Some(lost);
            }
        }
        self.journal.confirm_durable(lsn).await
    }

    /// Makes everything written so far durable: first what records rest on outside the log, then the log (ENGINE 3).
    pub(super) async fn barrier(&self) -> Result<()> {
        self.lift_holds().await?.map_or(Ok(()), Err)
    }

    /// [`barrier`](Self::barrier); gives what is durable but for content on a volume that failed for good.
    async fn lift_holds(&self) -> Result<Option<Error>> {
        let upto = self.journal.last_appended();
        let _one = self.barrier.lock().await;
        if self.journal.durable() >= upto {
            return Ok(None); // the one before did it for all who waited
        }
        let upto = self.journal.last_appended();
        self.journal.confirm_written(upto).await?;
        let mut missing = None;
        if self.journal.is_held() {
            let mut unsynced = Unsynced::take(self);
            for id in unsynced.volumes.clone() {
                match self.config.volumes.volume(&id) {
                    Some(volume) => {
                        if Site::ContentBeforeLog.stands()
                            && let Err(why) = volume.sync().await
                        {
                            if is_passing(&why) {
                                return Err(why); // it could not be tried, and is tried again
                            }
                            // It refuses writes from now on, and what it could not sync is told; the others go on (DESIGN 8).
                            error!(volume = %id, error = %why, "volume not synced, contents on it may be lost");
                            missing = Some(Error::VolumeUnavailable {
                                volume: Some(id),
                                why: format!("failed to make its content durable: {why}").into(),
                            });
                        }
                    }
                    // Unmounting syncs, so it went away by itself. What it had not synced is told now, and file by file
                    // when it is read; nobody else waits for it.
                    None => {
                        missing = Some(Error::VolumeUnavailable {
                            volume: Some(id),
                            why: "went away with content that was not durable yet".into(),
                        });
                    }
                }
            }
            unsynced.volumes.clear();
            // Without room for the record nothing is lost: recovery then looks at more contents than it had to.
            if let Some(mut room) = self.journal.reserve_now(8) {
                let barrier = self.journal.append_barrier(&mut room, upto)?;
                self.journal.confirm_written(barrier.lsn).await?;
            }
            self.journal.lift_hold(upto);
        }
        self.journal.confirm_durable(upto).await?;
        Ok(missing)
    }

    /// What a failed background job left to be told.
    pub(super) fn tell_background_error(&self) -> Result<()> {
        self.background_error.lock().take().map_or(Ok(()), Err)
    }
}

/// Volumes that a barrier syncs. Dropped before it is done, it puts them back: the next barrier syncs them.
struct Unsynced<'a> {
    store: &'a EmbeddedStore,
    volumes: BTreeSet<VolumeId>,
}

impl<'a> Unsynced<'a> {
    fn take(store: &'a EmbeddedStore) -> Self {
        Self { store, volumes: std::mem::take(&mut *store.unsynced_volumes.lock()) }
    }
}

impl Drop for Unsynced<'_> {
    fn drop(&mut self) {
        self.store.unsynced_volumes.lock().append(&mut self.volumes);
    }
}

impl Cells {
    pub(super) fn get_or_new(&mut self, tenant: &TenantId, live: bool) -> Arc<Cell> {
        if let Some(cell) = self.by_id.get(tenant) {
            return Arc::clone(cell);
        }
        let cell = Arc::new(Cell {
            no: self.all.len() as TenantNo,
            state: Mutex::new(TenantState::new(tenant.clone(), live)),
            ready: Notify::new(),
            status_changes: AtomicU64::new(0),
        });
        cell.state.lock().keep_completed(self.completed_retention);
        self.all.push(Arc::clone(&cell));
        self.by_id.insert(tenant.clone(), Arc::clone(&cell));
        cell
    }
}
