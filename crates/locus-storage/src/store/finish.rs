//! Ending a file's stay: complete, fail, reset, delete, and reaping what is over.

use std::collections::{BTreeMap, BTreeSet};

use locus_core::{
    BlobPath, Claim, ERROR_BYTES_MAX, Error, Extension, FailOutcome, FileKey, FileStatus, Knowledge, Lease,
    Lsn, Reapable, Result, StoragePath, TenantId, VolumeId,
};

use super::{
    decide::{self, Verdict},
    embedded::EmbeddedStore,
    entry::{JOURNAL, Rest},
    event::{CHANGE_BYTES, Change, FRAME_BYTES, KEY_BYTES, Record, keys_bound},
    leases::LEASE_MAX,
    reap::Over,
};
use crate::journal::Use;

impl EmbeddedStore {
    /// Completes all of these leases or none, in one record, also when they belong to several tenants.
    pub(super) async fn complete_leases(&self, leases: &[Lease]) -> Result<()> {
        if leases.len() > LEASE_MAX {
            let (size, limit) = (leases.len() as u64, LEASE_MAX as u64);
            return Err(Error::TooLarge { what: "batch of completions", size, limit });
        }
        let how = self.config.options.complete_durability.unwrap_or(self.config.options.durability);
        let mut by_tenant: BTreeMap<&TenantId, Vec<&Lease>> = BTreeMap::new();
        for lease in leases {
            by_tenant.entry(&lease.tenant).or_default().push(lease);
        }
        let bound = leases.len() * KEY_BYTES + by_tenant.len() * (FRAME_BYTES + CHANGE_BYTES);
        let mut room = self.journal.reserve(Use::Essential, &[bound]).await?;
        // Tenants are locked in the order of their ids, so that two batches cannot wait for each other.
        let cells: Vec<_> =
            by_tenant.into_iter().map(|(tenant, leases)| (self.cell(tenant), leases)).collect();
        let lsn = {
            let mut rests_on = Lsn::ZERO;
            let mut decided = Vec::with_capacity(cells.len());
            for (cell, leases) in &cells {
                let Some(cell) = cell else {
                    rests_on = self.journal.last_appended();
                    continue;
                };
                let state = cell.state.lock();
                let mut keys = BTreeSet::new();
                for lease in leases {
                    let entry = state.get(&lease.key);
                    match decide::complete(entry, lease.key, lease.token)? {
                        Verdict::Effect => {
                            keys.insert(lease.key);
                        }
                        Verdict::NoEffect => {
                            rests_on =
                                rests_on.max(entry.map_or_else(|| self.journal.last_appended(), |e| e.last));
                        }
                    }
                }
                if !keys.is_empty() {
                    decided.push((cell, state, keys));
                }
            }
            if decided.is_empty() {
                rests_on
            } else {
                let stamp = self.clock.stamp();
                let groups = decided
                    .iter_mut()
                    .map(|(_, state, keys)| {
                        (
                            state.id.clone(),
                            vec![Change::Completed { keys: std::mem::take(keys).into_iter().collect() }],
                        )
                    })
                    .collect();
                let record = Record::Files { wall: stamp.wall, time: stamp.time, groups };
                let appended = self.journal.append(&mut room, record.encode(), 0)?;
                if let Record::Files { groups, .. } = &record {
                    for ((cell, state, _), (_, changes)) in decided.iter_mut().zip(groups) {
                        self.apply(cell, state, appended, stamp, changes);
                        for change in changes {
                            let Change::Completed { keys } = change else { continue };
                            keys.iter().for_each(|key| self.suspect_is_back(cell.no, key));
                        }
                    }
                }
                appended.lsn.max(rests_on)
            }
        };
        drop(room);
        self.confirm(lsn, how).await
    }

    pub(super) async fn fail_lease(&self, lease: &Lease, error: &str) -> Result<FailOutcome> {
        // Where the next checkpoint could not hold it, a failure goes without its text: draining must need no room.
        let error = if self.has_spare() { cut(error) } else { "" };
        let Some(cell) = self.cell(&lease.tenant) else {
            decide::fail(None, lease.key, lease.token)?;
            self.confirm(self.journal.last_appended(), self.config.options.durability).await?;
            return Ok(FailOutcome::NoEffect);
        };
        let mut room = self.journal.reserve(Use::Essential, &[keys_bound(1) + error.len()]).await?;
        let (lsn, outcome) = {
            let mut state = cell.state.lock();
            let entry = state.get(&lease.key);
            match (decide::fail(entry, lease.key, lease.token)?, entry) {
                (Verdict::Effect, Some(entry)) => {
                    let stamp = self.clock.stamp();
                    let delay = self.config.options.retry_policy.delay(entry.retry_count.saturating_add(1));
                    let delay = delay.filter(|_| entry.attempts < self.max_deliveries);
                    let available_at = delay.map(|delay| stamp.time.saturating_add(delay));
                    self.suspect_is_back(cell.no, &lease.key);
                    let change = Change::Failed { key: lease.key, error: error.to_owned(), available_at };
                    let lsn = self.commit(&cell, &mut state, &mut room, stamp, vec![change])?;
                    let outcome = match delay {
                        Some(delay) => FailOutcome::Retry { available_at: stamp.wall.saturating_add(delay) },
                        None => FailOutcome::GivenUp,
                    };
                    (lsn, outcome)
                }
                (_, entry) => (
                    entry.map_or_else(|| self.journal.last_appended(), |entry| entry.last),
                    FailOutcome::NoEffect,
                ),
            }
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await?;
        Ok(outcome)
    }

    pub(super) async fn reset_file(&self, tenant: &TenantId, key: &FileKey) -> Result<()> {
        let unknown = || Error::FileNotFound { key: *key };
        let cell = self.cell(tenant).ok_or_else(unknown)?;
        let mut room = self.journal.reserve(Use::Essential, &[keys_bound(1)]).await?;
        let lsn = {
            let mut state = cell.state.lock();
            let entry = state.visible(key, self.watermark()).ok_or_else(unknown)?;
            match entry.status {
                FileStatus::Pending | FileStatus::PermanentlyFailed => {}
                FileStatus::Processing => return Err(Error::AlreadyProcessing { key: *key }),
                status => return Err(Error::WrongStatus { key: *key, status }),
            }
            let change = Change::Reset { key: *key };
            self.commit(&cell, &mut state, &mut room, self.clock.stamp(), vec![change])?
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await
    }

    pub(super) async fn delete_file(&self, tenant: &TenantId, key: &FileKey, force: bool) -> Result<()> {
        let unknown = || Error::FileNotFound { key: *key };
        let cell = self.cell(tenant).ok_or_else(unknown)?;
        let mut room = self.journal.reserve(Use::Essential, &[keys_bound(1)]).await?;
        let lsn = {
            let mut state = cell.state.lock();
            let entry = state.visible(key, self.watermark()).ok_or_else(unknown)?;
            match entry.status {
                FileStatus::Completed | FileStatus::Deleted => entry.last,
                FileStatus::Processing if !force => return Err(Error::AlreadyProcessing { key: *key }),
                _ => {
                    self.suspect_is_back(cell.no, key);
                    let change = Change::Deleted { key: *key };
                    self.commit(&cell, &mut state, &mut room, self.clock.stamp(), vec![change])?
                }
            }
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await
    }

    // ---- reaping ----------------------------------------------------------------------------------------------

    pub(super) fn take_reapable(&self, max: usize) -> Vec<Reapable> {
        if self.journal.is_poisoned() {
            return Vec::new();
        }
        let taken =
            self.reap.lock().take(max, self.journal.durable(), |volume| self.places.is_available(volume));
        let mut files = Vec::with_capacity(taken.len());
        for (volume, over) in taken {
            let cell = self.cell_at(over.tenant);
            let state = cell.state.lock();
            match state.get(&over.key).filter(|entry| entry.status.is_over()) {
                Some(entry) => {
                    let name = entry.cold.as_ref().and_then(|cold| cold.original_name.as_deref());
                    files.push(Reapable {
                        tenant: state.id.clone(),
                        key: over.key,
                        volume: (volume != JOURNAL).then(|| self.places.id(volume)),
                        blob: BlobPath {
                            owner: entry.owner(&state.id),
                            key: over.key,
                            extension: name.map_or(Extension::NONE, Extension::of),
                        },
                        size: entry.size,
                    });
                }
                None => self.reap.lock().came_back(1),
            }
        }
        files
    }

    pub(super) async fn record_reaped(&self, files: &[Reapable]) -> Result<()> {
        let mut by_tenant: BTreeMap<&TenantId, Vec<FileKey>> = BTreeMap::new();
        for file in files {
            by_tenant.entry(&file.tenant).or_default().push(file.key);
        }
        for (tenant, keys) in by_tenant {
            let Some(cell) = self.cell(tenant) else { continue };
            for keys in keys.chunks(LEASE_MAX) {
                let mut room = self.journal.reserve(Use::Essential, &[keys_bound(keys.len())]).await?;
                let mut state = cell.state.lock();
                let change = Change::Reaped { keys: keys.to_vec() };
                self.commit(&cell, &mut state, &mut room, self.clock.stamp(), vec![change])?;
            }
        }
        self.journal.confirm_written(self.journal.last_appended()).await?;
        self.reap.lock().came_back(files.len());
        self.reap_changed.notify_waiters();
        Ok(())
    }

    pub(super) fn give_back_unreaped(&self, files: Vec<Reapable>) {
        let mut reap = self.reap.lock();
        reap.came_back(files.len());
        for file in files {
            let volume = file.volume.as_ref().map_or(Some(JOURNAL), |id| self.places.find(id));
            let (Some(cell), Some(volume)) = (self.cell(&file.tenant), volume) else { continue };
            // It was durably over when it was handed out, so it is now.
            reap.push(volume, Over { lsn: Lsn::ZERO, tenant: cell.no, key: file.key });
        }
        drop(reap);
        self.reap_changed.notify_waiters();
    }

    pub(super) async fn wait_reapable(&self) {
        loop {
            if self.journal.is_poisoned() {
                // Nothing is reaped any more.
                return std::future::pending().await;
            }
            let notified = self.reap_changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let next = self.reap.lock().next(|volume| self.places.is_available(volume));
            match next {
                Some(lsn) if lsn <= self.journal.durable() => return,
                Some(lsn) => {
                    let durable = self.journal.wait_durable(lsn);
                    let reached = crate::race::first3(
                        async {
                            notified.await;
                            true
                        },
                        async { durable.await.is_ok() },
                        std::future::pending(),
                    )
                    .await;
                    if !reached {
                        continue; // poisoned
                    }
                }
                None => notified.await,
            }
        }
    }

    pub(super) async fn wait_settled(&self) -> Result<()> {
        loop {
            // What completed lazily becomes reapable by a barrier; and it makes durable what was reaped.
            self.barrier().await?;
            let notified = self.reap_changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            let (settled, unsynced) = {
                let reap = self.reap.lock();
                let next = reap.next(|volume| self.places.is_available(volume));
                let settled = reap.is_settled(|volume| self.places.is_available(volume));
                (settled, next.is_some_and(|lsn| lsn > self.journal.durable()))
            };
            if settled {
                return self.barrier().await;
            }
            if unsynced {
                continue;
            }
            // After the end of the journal nothing is reaped, whatever was durable before it.
            let over = self.journal.ended();
            let ended = crate::race::first3(
                async { Some(over.await) },
                async {
                    notified.await;
                    None
                },
                std::future::pending(),
            );
            if let Some(why) = ended.await {
                return Err(why);
            }
        }
    }

    /// The right to remove a blob that no record names. A living file whose content rests in the journal could be moved to
    /// that very name: it is not, while the claim lives.
    pub(super) fn claim_unknown(
        &self,
        volume: &VolumeId,
        owner: &StoragePath,
        key: &FileKey,
    ) -> Option<Claim> {
        if self.knowledge(volume, owner, key) != Knowledge::Unknown {
            return None;
        }
        let cell = owner.tenant().and_then(|tenant| self.cell(&tenant));
        let Some(cell) = cell else { return Some(Claim::free()) };
        let mut state = cell.state.lock();
        let Some(entry) = state.get(key) else { return Some(Claim::free()) };
        if let Rest::Volume(at) = entry.rest {
            // It may have been moved to this very name meanwhile; what rests elsewhere stays there.
            return (self.places.find(volume) != Some(at)).then(Claim::free);
        }
        if !state.begin_move(*key) {
            return None;
        }
        drop(state);
        let key = *key;
        Some(Claim::new(move || cell.state.lock().end_move(&key)))
    }

    pub(super) fn knowledge(&self, volume: &VolumeId, owner: &StoragePath, key: &FileKey) -> Knowledge {
        let cell = owner.tenant().and_then(|tenant| self.cell(&tenant));
        let Some(cell) = cell else { return Knowledge::Unknown };
        let state = cell.state.lock();
        if state.is_in_flight(key) {
            return Knowledge::InFlight;
        }
        match state.get(key) {
            Some(entry)
                if self.places.find(volume).is_some_and(|volume| entry.rest == Rest::Volume(volume))
                    && entry.owner(&state.id) == *owner =>
            {
                Knowledge::Recorded
            }
            _ => Knowledge::Unknown,
        }
    }
}

/// The text up to its bound, cut at a character.
fn cut(error: &str) -> &str {
    let mut end = error.len().min(ERROR_BYTES_MAX);
    while !error.is_char_boundary(end) {
        end -= 1;
    }
    &error[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_is_cut_at_a_character() {
        assert_eq!(cut("short"), "short");
        let long = format!("{}ä", "x".repeat(ERROR_BYTES_MAX - 1));
        assert_eq!(cut(&long).len(), ERROR_BYTES_MAX - 1);
    }
}
