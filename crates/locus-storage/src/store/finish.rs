//! Ending a file's stay: complete, fail, reset, delete, and reaping what is over.

use locus_core::{ERROR_BYTES_MAX, Error, FailOutcome, FileKey, FileStatus, Lease, Lsn, Result, TenantId};
use smallvec::SmallVec;

use super::{
    decide::{self, Verdict},
    embedded::EmbeddedStore,
    event::{Change, encode_files, keys_bound},
    leases::LEASE_MAX,
    tenant::TenantState,
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
        // Tenants are locked in the order of their ids, so that two batches cannot wait for each other.
        let mut leases: SmallVec<[&Lease; 1]> = leases.iter().collect();
        leases.sort_by(|one, other| one.tenant.cmp(&other.tenant));
        let of_tenants = || leases.chunk_by(|one, other| one.tenant == other.tenant);
        let bound = of_tenants().map(|leases| keys_bound(leases.len())).sum();
        let mut room = self.journal.reserve(Use::Essential, &[bound]).await?;
        let cells: SmallVec<[_; 1]> = of_tenants().map(|of| (self.cell(&of[0].tenant), of)).collect();
        let lsn = {
            let mut rests_on = Lsn::ZERO;
            let mut decided = SmallVec::<[_; 1]>::new();
            for (cell, leases) in &cells {
                let Some(cell) = cell else {
                    rests_on = self.journal.last_appended();
                    continue;
                };
                let state = cell.state.lock();
                let mut keys = Vec::with_capacity(leases.len());
                for lease in *leases {
                    let entry = state.get(&lease.key);
                    match decide::complete(entry, lease.key, lease.token)? {
                        Verdict::Effect => keys.push(lease.key),
                        Verdict::NoEffect => {
                            rests_on =
                                rests_on.max(entry.map_or_else(|| self.journal.last_appended(), |e| e.last));
                        }
                    }
                }
                keys.sort_unstable();
                keys.dedup(); // who completes twice in one batch completes once
                if !keys.is_empty() {
                    decided.push((cell, state, [Change::Completed { keys }]));
                }
            }
            if decided.is_empty() {
                rests_on
            } else {
                let stamp = self.clock.stamp();
                let body = {
                    let groups: SmallVec<[_; 1]> =
                        decided.iter().map(|(_, state, changes)| (&state.id, &changes[..])).collect();
                    encode_files(stamp, &groups)
                };
                let appended = self.journal.append(&mut room, body, 0)?;
                for (cell, state, changes) in &mut decided {
                    self.apply(cell, state, appended, stamp, changes);
                    for change in changes {
                        let Change::Completed { keys } = change else { continue };
                        keys.iter().for_each(|key| self.suspect_is_back(cell.no, key));
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
                    let lsn = self.commit(&cell, &mut state, &mut room, stamp, &[change])?;
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
            self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &[change])?
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
            if entry.status == FileStatus::Processing && !force {
                return Err(Error::AlreadyProcessing { key: *key });
            }
            if self.can_be_deleted(&state, entry) {
                self.suspect_is_back(cell.no, key);
                let change = Change::Deleted { key: *key };
                self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &[change])?
            } else {
                entry.last
            }
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await
    }

    /// Deletes a file that is in this very state.
    pub(super) async fn dispose_of(
        &self,
        tenant: &TenantId,
        key: &FileKey,
        status: FileStatus,
    ) -> Result<bool> {
        self.end_if(tenant, key, |state| {
            let entry = state.visible(key, self.watermark()).filter(|entry| entry.status == status);
            Ok(entry.is_some_and(|entry| self.can_be_deleted(state, entry)))
        })
        .await
    }

    /// Deletes a file for which `may` says so; says whether it did.
    pub(super) async fn end_if(
        &self,
        tenant: &TenantId,
        key: &FileKey,
        may: impl FnOnce(&TenantState) -> Result<bool>,
    ) -> Result<bool> {
        let Some(cell) = self.cell(tenant) else { return Ok(false) };
        let mut room = self.journal.reserve(Use::Essential, &[keys_bound(1)]).await?;
        let lsn = {
            let mut state = cell.state.lock();
            if !may(&state)? {
                return Ok(false);
            }
            let change = Change::Deleted { key: *key };
            self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &[change])?
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await?;
        Ok(true)
    }

    // ---- reaping ----------------------------------------------------------------------------------------------

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
            let until = self.kept_until();
            if next.is_some_and(|lsn| lsn <= self.journal.durable())
                || until.is_some_and(|until| until <= self.clock.now())
            {
                return;
            }
            let durable = async {
                match next {
                    Some(lsn) if self.journal.wait_durable(lsn).await.is_ok() => {}
                    // Nothing more becomes durable, or there is nothing that has to.
                    _ => std::future::pending().await,
                }
            };
            let over = async {
                match until {
                    Some(until) => self.clock.sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            crate::race::first3(notified, durable, over).await;
        }
    }

    pub(super) async fn wait_settled(&self) -> Result<()> {
        loop {
            // What completed lazily becomes reapable by a barrier; and it makes durable what was reaped.
            self.barrier().await?;
            let notified = self.reap_changed.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            self.let_kept_go();
            let is_due = self.schedule.next_kept().is_some_and(|until| until <= self.clock.now());
            let (settled, unsynced) = {
                let reap = self.reap.lock();
                let next = reap.next(|volume| self.places.is_available(volume));
                let settled = reap.is_settled(|volume| self.places.is_available(volume));
                (settled && !is_due, next.is_some_and(|lsn| lsn > self.journal.durable()))
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
