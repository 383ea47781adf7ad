//! Handing files out: lease, renew, release, time-outs, and how to wait for a file.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use locus_core::{
    Error, FileKey, FileStatus, Lease, LeaseOptions, Leased, Lsn, Owner, Result, Site, StoreTime, TenantId,
    Token, VolumeId,
};
use smallvec::{SmallVec, smallvec};

use super::{
    decide,
    embedded::{Cell, EmbeddedStore},
    entry::{Entry, Rest, Waits},
    event::{Change, keys_bound},
    schedule::TenantNo,
    tenant::TenantState,
};
use crate::{
    journal::{Room, Use},
    sync::MutexGuard,
    time::Stamp,
};

/// So many due or overdue files are moved to the ready ones by one call, so that its cost is bounded whatever waits.
const MOVE_MAX: usize = 64;
/// Most files of one lease call.
pub(crate) const LEASE_MAX: usize = 4_096;

impl EmbeddedStore {
    pub(super) async fn lease_some(
        &self,
        tenant: &TenantId,
        max: usize,
        options: &LeaseOptions,
    ) -> Result<Vec<Leased>> {
        self.check_lease(max, options)?;
        let Some(cell) = self.cell(tenant) else { return Ok(Vec::new()) };
        self.lease_from(&cell, max, options).await
    }

    pub(super) async fn lease_fairly(
        &self,
        max: usize,
        options: &LeaseOptions,
        weigh: &(dyn for<'a> Fn(&'a TenantId) -> u32 + Send + Sync),
    ) -> Result<Vec<Leased>> {
        self.check_lease(max, options)?;
        // Each tenant that may have something is asked at most once.
        let turns = self.schedule.gather(self.clock.now(), self.watermark());
        for _ in 0..turns {
            let Some(no) = self.schedule.next() else { break };
            let cell = self.cell_at(no);
            let id = cell.state.lock().id.clone();
            let weight = weigh(&id);
            if weight == 0 {
                continue; // it is pushed again when its status changes
            }
            // A caller that goes away, or fails, meanwhile leaves the tenant its turn.
            let turn = Turn { schedule: &self.schedule, tenant: Some(no) };
            let leased = self.lease_from(&cell, max, options).await?;
            turn.taken();
            if !leased.is_empty() {
                self.schedule.charge(no, leased.len(), weight);
                return Ok(leased);
            }
        }
        Ok(Vec::new())
    }

    fn check_lease(&self, max: usize, options: &LeaseOptions) -> Result<()> {
        if max == 0 {
            return Err(Error::InvalidArgument { name: "batch size", why: "must be at least 1" });
        }
        if max > LEASE_MAX {
            return Err(Error::TooLarge { what: "batch size", size: max as u64, limit: LEASE_MAX as u64 });
        }
        options.check()?;
        self.tell_background_error()
    }

    async fn lease_from(&self, cell: &Arc<Cell>, max: usize, options: &LeaseOptions) -> Result<Vec<Leased>> {
        let by = options.name.as_ref().map_or(0, |name| name.len());
        // An empty queue is told from memory, whatever the state of the disk.
        let waiting = {
            let mut state = cell.state.lock();
            state.wake_due(self.clock.now(), MOVE_MAX);
            let waiting = state.has_ready(&self.places) || !state.overdue(self.clock.now(), 1).is_empty();
            if !waiting {
                self.requeue(cell, &mut state);
            }
            waiting
        };
        if !waiting {
            return Ok(Vec::new());
        }
        let mut room = match self.journal.reserve(Use::Essential, &lease_bodies(max, by)).await {
            Ok(room) => room,
            Err(why) => {
                // The tenant keeps its turn: nothing of it was looked at.
                self.schedule.push(cell.no);
                return Err(why);
            }
        };
        let stamp = self.clock.stamp();
        let handed = {
            let mut state = cell.state.lock();
            self.check_leasing()?;
            self.move_overdue(cell, &mut state, &mut room, stamp)?;
            state.wake_due(stamp.time, MOVE_MAX);
            let picked = self.pick(cell.no, &mut state, max);
            let handed = if picked.is_empty() {
                None
            } else {
                Some(self.hand_out(cell, &mut state, &mut room, stamp, &picked, options)?)
            };
            self.requeue(cell, &mut state);
            handed
        };
        let Some((lsn, leased)) = handed else { return Ok(Vec::new()) };
        self.deliver(cell, lsn, leased, room).await
    }

    /// Leases that have run out are pending again, or given up, before anything is picked (BEHAVIOUR 45).
    fn move_overdue(
        &self,
        cell: &Cell,
        state: &mut MutexGuard<'_, TenantState>,
        room: &mut Room,
        stamp: Stamp,
    ) -> Result<usize> {
        let overdue = state.overdue(stamp.time, MOVE_MAX);
        if overdue.is_empty() {
            return Ok(0);
        }
        let (given_up, keys): (Vec<_>, Vec<_>) = overdue
            .iter()
            .map(|at| (state.entry(*at).attempts >= self.max_deliveries, state.entry(*at).key))
            .partition(|(spent, _)| *spent);
        let strip = |pairs: Vec<(bool, FileKey)>| pairs.into_iter().map(|(_, key)| key).collect::<Vec<_>>();
        let (keys, given_up) = (strip(keys), strip(given_up));
        for key in keys.iter().chain(&given_up) {
            self.suspect_is_back(cell.no, key);
        }
        // Its own record: it is true whether or not the lease that follows is taken.
        self.commit(cell, state, room, stamp, &[Change::TimedOut { keys, given_up }])?;
        self.journal.commit_signal.raise(); // perhaps nobody waits for it
        Ok(overdue.len())
    }

    /// Chooses what to hand out: the oldest first; a suspect alone, also for those who ask for more, and only when no
    /// other is out.
    fn pick(&self, no: TenantNo, state: &mut TenantState, max: usize) -> SmallVec<[u32; 1]> {
        if state.leaving {
            return SmallVec::new();
        }
        let watermark = self.watermark();
        let front = state.front(&self.places, watermark);
        if let Some(suspect) = state.suspect_front(&self.places) {
            let oldest = front.is_none_or(|at| state.entry(suspect).order < state.entry(at).order);
            if oldest && self.take_suspect(no, state.entry(suspect).key) {
                return smallvec![suspect];
            }
        }
        let Some(first) = front else { return SmallVec::new() };
        if max == 1 {
            return smallvec![first];
        }
        state.fronts(&self.places, watermark, max).into()
    }

    pub(super) fn take_suspect(&self, no: TenantNo, key: FileKey) -> bool {
        let mut suspects = self.suspects.lock();
        if suspects.out.is_some() {
            suspects.waiting.insert(no);
            return false;
        }
        suspects.out = Some((no, key));
        true
    }

    /// Whether a suspect of this tenant could go; if not, the tenant is told when it can.
    fn suspect_may_go(&self, no: TenantNo, state: &TenantState) -> bool {
        if state.suspect_front(&self.places).is_none() {
            return false;
        }
        let mut suspects = self.suspects.lock();
        if suspects.out.is_some() {
            suspects.waiting.insert(no);
        }
        suspects.out.is_none()
    }

    /// A delivery of this file is over; if it was the suspect that is out, the next one may go.
    pub(super) fn suspect_is_back(&self, no: TenantNo, key: &FileKey) {
        let mut suspects = self.suspects.lock();
        if suspects.out == Some((no, *key)) {
            suspects.out = None;
            let waiting = std::mem::take(&mut suspects.waiting);
            drop(suspects);
            for tenant in waiting {
                self.schedule.push(tenant);
                self.cell_at(tenant).ready.notify_waiters();
            }
        }
    }

    fn hand_out(
        &self,
        cell: &Cell,
        state: &mut MutexGuard<'_, TenantState>,
        room: &mut Room,
        stamp: Stamp,
        picked: &[u32],
        options: &LeaseOptions,
    ) -> Result<(Lsn, Vec<Leased>)> {
        let ttl = options.ttl.unwrap_or(self.config.options.visibility_timeout);
        let keys: Vec<FileKey> = picked.iter().map(|at| state.entry(*at).key).collect();
        let change = Change::Leased {
            keys,
            deadline: stamp.time.saturating_add(ttl),
            ttl_micros: u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX),
            owner: options.owner,
            // Where the next checkpoint could not hold it, a lease goes without the name of its holder.
            by: options.name.as_deref().filter(|_| self.has_spare()).map(String::from),
        };
        let lsn = self.commit(cell, state, room, stamp, &[change]).inspect_err(|_| {
            for at in picked {
                self.suspect_is_back(cell.no, &state.entry(*at).key);
            }
        })?;
        let token = Token { epoch: self.epoch, lsn };
        let leased = picked.iter().map(|at| {
            let entry = state.entry(*at);
            let lease = Lease {
                tenant: state.id.clone(),
                key: entry.key,
                token,
                deadline: stamp.wall.saturating_add(ttl),
                attempt: entry.attempts,
            };
            Leased { lease, record: state.record(entry, &self.places, &self.clock) }
        });
        let leased = leased.collect();
        Ok((lsn, leased))
    }

    /// Gives the tenant its next turn, or notes when it will have one.
    fn requeue(&self, cell: &Cell, state: &mut MutexGuard<'_, TenantState>) {
        self.after(cell, state);
        let watermark = self.watermark();
        if self.suspect_may_go(cell.no, state) || state.front(&self.places, watermark).is_some() {
            self.schedule.push(cell.no);
        } else if let Some(lsn) = state.hidden(&self.places, watermark) {
            self.schedule.hide(cell.no, lsn);
        }
    }

    /// Waits until the lease is in the kernel, then gives it to the caller. A caller that went away meanwhile gives the
    /// files back: room for that record was reserved with the lease.
    async fn deliver(
        &self,
        cell: &Arc<Cell>,
        lsn: Lsn,
        leased: Vec<Leased>,
        room: Room,
    ) -> Result<Vec<Leased>> {
        let mut hand_over = HandOver { store: self, cell, leased, room: Some(room) };
        let confirmed = match Site::ToldWhenWritten.stands() {
            true => self.journal.confirm_written(lsn).await,
            false => Ok(()),
        };
        let leased = std::mem::take(&mut hand_over.leased);
        confirmed.map(|()| leased)
    }

    pub(super) async fn lease_one(
        &self,
        tenant: &TenantId,
        key: &FileKey,
        options: &LeaseOptions,
    ) -> Result<Leased> {
        self.check_lease(1, options)?;
        let unknown = || Error::FileNotFound { key: *key };
        let cell = self.cell(tenant).ok_or_else(unknown)?;
        let by = options.name.as_ref().map_or(0, |name| name.len());
        let mut room = self.journal.reserve(Use::Essential, &lease_bodies(1, by)).await?;
        let stamp = self.clock.stamp();
        let (lsn, leased) = {
            let mut state = cell.state.lock();
            self.check_leasing()?;
            state.check_staying()?;
            state.wake_due(stamp.time, MOVE_MAX);
            let at = state
                .find(key)
                .filter(|at| state.entry(*at).order.lsn() <= self.watermark())
                .ok_or_else(unknown)?;
            let entry = state.entry(at);
            self.check_certain(entry.last)?;
            match entry.status {
                FileStatus::Pending => {}
                FileStatus::Processing if matches!(entry.waits(), Waits::Leased(deadline) if deadline <= stamp.time) =>
                {
                    let (spent, key) = (entry.attempts >= self.max_deliveries, *key);
                    let (keys, given_up) = if spent { (vec![], vec![key]) } else { (vec![key], vec![]) };
                    self.suspect_is_back(cell.no, &key);
                    let change = Change::TimedOut { keys, given_up };
                    self.commit(&cell, &mut state, &mut room, stamp, &[change])?;
                    self.journal.commit_signal.raise();
                    if spent {
                        return Err(Error::WrongStatus { key, status: FileStatus::PermanentlyFailed });
                    }
                }
                FileStatus::Processing => return Err(Error::AlreadyProcessing { key: *key }),
                FileStatus::Completed | FileStatus::Deleted => return Err(unknown()),
                status => return Err(Error::WrongStatus { key: *key, status }),
            }
            let entry = state.entry(at);
            if entry.moment > stamp.time {
                return Err(Error::NotDue { key: *key, available_at: self.clock.wall_at(entry.moment) });
            }
            if let Rest::Volume(volume) = entry.rest
                && !self.places.is_available(volume)
            {
                let volume = Some(self.places.id(volume));
                return Err(Error::VolumeUnavailable { volume, why: "is not available".into() });
            }
            if entry.is_suspect() && !self.take_suspect(cell.no, *key) {
                return Err(Error::AlreadyProcessing { key: *key });
            }
            self.hand_out(&cell, &mut state, &mut room, stamp, &[at], options)?
        };
        let mut leased = self.deliver(&cell, lsn, leased, room).await?;
        leased.pop().ok_or_else(unknown)
    }

    pub(super) async fn renew_lease(&self, lease: &Lease, ttl: Option<Duration>) -> Result<Lease> {
        if ttl == Some(Duration::ZERO) {
            return Err(Error::InvalidArgument { name: "ttl", why: "must be longer than zero" });
        }
        let cell = self.lease_cell(lease)?;
        let mut room = self.journal.reserve(Use::Essential, &[keys_bound(1)]).await?;
        let stamp = self.clock.stamp();
        let (lsn, renewed) = {
            let mut state = cell.state.lock();
            let entry = state.get(&lease.key);
            decide::hold(entry, lease.key, lease.token)?;
            let taken_for =
                entry.and_then(|entry| Some(Duration::from_micros(entry.delivery.as_ref()?.ttl_micros)));
            let ttl = ttl.or(taken_for).unwrap_or(self.config.options.visibility_timeout);
            let change = Change::Renewed {
                key: lease.key,
                deadline: stamp.time.saturating_add(ttl),
                ttl_micros: u64::try_from(ttl.as_micros()).unwrap_or(u64::MAX),
            };
            let lsn = self.commit(&cell, &mut state, &mut room, stamp, &[change])?;
            (lsn, Lease { deadline: stamp.wall.saturating_add(ttl), ..lease.clone() })
        };
        drop(room);
        self.journal.confirm_written(lsn).await?;
        Ok(renewed)
    }

    pub(super) async fn release_lease(&self, lease: &Lease) -> Result<()> {
        let cell = self.lease_cell(lease)?;
        let mut room = self.journal.reserve(Use::Essential, &[keys_bound(1)]).await?;
        let lsn = {
            let mut state = cell.state.lock();
            decide::hold(state.get(&lease.key), lease.key, lease.token)?;
            self.suspect_is_back(cell.no, &lease.key);
            let change = Change::Released { key: lease.key };
            self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &[change])?
        };
        drop(room);
        self.journal.confirm_written(lsn).await
    }

    /// Gives back what workers inside this process still hold: the store is being closed. The attempts do not count.
    pub(super) async fn release_held(&self) -> Result<()> {
        // Each tenant's lock is taken once from here on: whoever leased before is seen, and nobody leases after.
        self.leasing_ended.store(true, Ordering::Release);
        let cells = self.cells.read().all.clone();
        for cell in cells {
            let held: Vec<FileKey> =
                cell.state.lock().entries().filter(|entry| is_held(entry)).map(|entry| entry.key).collect();
            for keys in held.chunks(MOVE_MAX) {
                let mut room = self.journal.reserve(Use::Essential, &[keys_bound(keys.len())]).await?;
                let mut state = cell.state.lock();
                let still = keys.iter().filter(|key| state.get(key).is_some_and(is_held));
                let changes: Vec<_> = still.map(|key| Change::Released { key: *key }).collect();
                if !changes.is_empty() {
                    self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &changes)?;
                }
            }
        }
        Ok(())
    }

    /// Whether files are still handed out; asked under the tenant's lock.
    fn check_leasing(&self) -> Result<()> {
        if self.leasing_ended.load(Ordering::Acquire) { Err(Error::ShuttingDown) } else { Ok(()) }
    }

    /// The tenant of a lease that must hold; a tenant without files has none.
    fn lease_cell(&self, lease: &Lease) -> Result<Arc<Cell>> {
        match self.cell(&lease.tenant) {
            Some(cell) => Ok(cell),
            None => decide::hold(None, lease.key, lease.token).map(|()| self.cell_or_new(&lease.tenant)),
        }
    }

    /// Writes overdue leases back, tenant by tenant.
    pub(super) async fn expire_some(&self, max: usize) -> Result<usize> {
        let mut expired = 0;
        while expired < max && self.schedule.next_deadline().is_some_and(|at| at <= self.clock.now()) {
            let mut room = self.journal.reserve(Use::Essential, &[keys_bound(MOVE_MAX)]).await?;
            // From here on nothing waits: a tenant taken out of the schedule stands in it again.
            let Some(no) = self.schedule.take_overdue(self.clock.now()) else { break };
            expired += self.write_overdue_back(&self.cell_at(no), &mut room)?;
        }
        self.confirm_expired(expired).await
    }

    /// Writes overdue leases of one tenant back.
    pub(super) async fn expire_some_of(&self, tenant: &TenantId, max: usize) -> Result<usize> {
        let Some(cell) = self.cell(tenant) else { return Ok(0) };
        let mut expired = 0;
        while expired < max && !cell.state.lock().overdue(self.clock.now(), 1).is_empty() {
            let mut room = self.journal.reserve(Use::Essential, &[keys_bound(MOVE_MAX)]).await?;
            expired += self.write_overdue_back(&cell, &mut room)?;
        }
        self.confirm_expired(expired).await
    }

    fn write_overdue_back(&self, cell: &Arc<Cell>, room: &mut Room) -> Result<usize> {
        let mut state = cell.state.lock();
        let moved = self.move_overdue(cell, &mut state, room, self.clock.stamp());
        self.after(cell, &mut state);
        moved
    }

    async fn confirm_expired(&self, expired: usize) -> Result<usize> {
        if expired > 0 {
            self.journal.confirm_written(self.journal.last_appended()).await?;
        }
        Ok(expired)
    }

    // ---- waiting ----------------------------------------------------------------------------------------------

    pub(super) async fn ready_for(&self, tenant: &TenantId) -> Result<()> {
        let cell = self.cell_or_new(tenant);
        let changes = cell.status_changes.load(Ordering::Acquire);
        loop {
            let notified = cell.ready.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if cell.status_changes.load(Ordering::Acquire) != changes {
                return Ok(()); // the caller looks again, and is told
            }
            let (due, hidden) = {
                let mut state = cell.state.lock();
                let now = self.clock.now();
                state.wake_due(now, MOVE_MAX);
                let suspect = self.suspect_may_go(cell.no, &state);
                let overdue = state.next_deadline().is_some_and(|deadline| deadline <= now);
                // Read once: a file that becomes visible between two looks would be neither ready nor hidden.
                let watermark = self.watermark();
                if suspect || overdue || state.front(&self.places, watermark).is_some() {
                    return Ok(());
                }
                (state.next_due(), state.hidden(&self.places, watermark))
            };
            self.wait_chance(notified, due, hidden).await?;
        }
    }

    pub(super) async fn ready_for_any(&self) -> Result<()> {
        loop {
            let notified = self.schedule.ready.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let chance = self.schedule.next_chance();
            let now = self.clock.now();
            let visible = chance.visible.is_some_and(|lsn| lsn <= self.watermark());
            if chance.now || visible || chance.at.is_some_and(|at| at <= now) {
                return Ok(());
            }
            self.wait_chance(notified, chance.at, chance.visible).await?;
        }
    }

    /// Waits for a notification, a time or a watermark, whichever comes first.
    async fn wait_chance(
        &self,
        notified: std::pin::Pin<&mut tokio::sync::futures::Notified<'_>>,
        due: Option<StoreTime>,
        hidden: Option<Lsn>,
    ) -> Result<()> {
        let time = async {
            match due {
                Some(at) => self.clock.sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let visible = async {
            match hidden {
                Some(lsn) => self.wait_visible(lsn).await,
                None => Err(self.journal.ended().await),
            }
        };
        crate::race::first3(
            async {
                notified.await;
                Ok(())
            },
            async {
                time.await;
                Ok(())
            },
            visible,
        )
        .await
    }

    /// A volume came or went.
    pub(super) fn set_volume_available(&self, volume: &VolumeId, available: bool) {
        if !self.places.set_available(volume, available) {
            return;
        }
        if !available {
            self.reap_changed.notify_waiters(); // who waits for what rests there hears that it may take long
            return;
        }
        for cell in &self.cells.read().all {
            self.schedule.push(cell.no);
            cell.ready.notify_waiters();
        }
        self.reap_changed.notify_waiters();
        if self.unchecked() > 0 {
            self.journal.written_something.notify_one(); // what drives the barriers looks at them
        }
    }

    /// A tenant's status changed.
    pub(super) fn look_again(&self, tenant: &TenantId) {
        if let Some(cell) = self.cell(tenant) {
            cell.status_changes.fetch_add(1, Ordering::AcqRel);
            self.schedule.push(cell.no);
            cell.ready.notify_waiters();
        }
    }
}

/// Whether a worker inside this process holds the file.
fn is_held(entry: &Entry) -> bool {
    entry.status == FileStatus::Processing
        && entry.delivery.as_ref().is_some_and(|delivery| delivery.owner == Owner::Process)
}

/// Bounds of the records that a lease of `max` files may need: time-outs, the lease, its release.
fn lease_bodies(max: usize, by: usize) -> [usize; 3] {
    [keys_bound(MOVE_MAX), keys_bound(max) + by, keys_bound(max)]
}

/// A tenant's turn; dropped before it was taken, the tenant keeps it.
struct Turn<'a> {
    schedule: &'a super::schedule::Schedule,
    tenant: Option<TenantNo>,
}

impl Turn<'_> {
    fn taken(mut self) {
        self.tenant = None;
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(tenant) = self.tenant {
            self.schedule.push(tenant);
        }
    }
}

/// Leased files on their way to a caller. Dropped with files in it, it gives them back, attempt included.
struct HandOver<'a> {
    store: &'a EmbeddedStore,
    cell: &'a Arc<Cell>,
    leased: Vec<Leased>,
    room: Option<Room>,
}

impl Drop for HandOver<'_> {
    fn drop(&mut self) {
        let Some(mut room) = self.room.take() else { return };
        if self.leased.is_empty() {
            return;
        }
        let mut state = self.cell.state.lock();
        let held = |leased: &&Leased| {
            decide::hold(state.get(&leased.lease.key), leased.lease.key, leased.lease.token).is_ok()
        };
        let keys: Vec<FileKey> = self.leased.iter().filter(held).map(|leased| leased.lease.key).collect();
        for key in &keys {
            self.store.suspect_is_back(self.cell.no, key);
        }
        let changes = keys.into_iter().map(|key| Change::Released { key }).collect::<Vec<_>>();
        if !changes.is_empty() {
            // Refused only when the journal is poisoned, and then reopening decides.
            let _ = self.store.commit(self.cell, &mut state, &mut room, self.store.clock.stamp(), &changes);
            // Nobody waits for it: the committer writes it.
            self.store.journal.commit_signal.raise();
        }
    }
}
