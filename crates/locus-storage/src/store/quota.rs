//! Room in the quotas: taken before content is written, held until the file counts, given back when it is gone.

use std::sync::{Arc, atomic::Ordering};

use locus_core::{Error, FileKey, Limit, LogicalDir, Reservation, Result, Scope, TenantId, Usage, UsagePage};

use super::{
    embedded::{Cell, EmbeddedStore},
    event::Record,
    leaving::tenant_in,
    limits::{Limits, Tally},
    tenant::{Full, TenantState},
};
use crate::journal::Use;

/// What is told when there is no room.
fn refusal(tenant: &TenantId, why: Full) -> Error {
    let tenant = tenant.clone();
    match why {
        Full::Tenant(over) => {
            Error::TenantQuotaExceeded { tenant, used: over.used, limit: over.limit, unit: over.unit }
        }
        Full::Directory(directory, over) => Error::DirectoryQuotaExceeded {
            tenant,
            directory,
            used: over.used,
            limit: over.limit,
            unit: over.unit,
        },
        Full::Store(over) => {
            Error::GlobalQuotaExceeded { used: over.used, limit: over.limit, unit: over.unit }
        }
    }
}

impl EmbeddedStore {
    /// Takes room in every quota, under the tenant's lock. The cost grows with the depth of the directory alone.
    pub(super) fn take_room_now(
        &self,
        state: &mut TenantState,
        key: FileKey,
        directory: &LogicalDir,
        bytes: u64,
    ) -> Result<()> {
        let reserved = state.reserve(key, directory, bytes, &self.limits.read(), &self.places);
        reserved.map_err(|why| refusal(&state.id, why))
    }

    /// The same, to be given back when the answer is dropped.
    pub(super) fn take_room(
        &self,
        cell: &Arc<Cell>,
        state: &mut TenantState,
        key: FileKey,
        directory: &LogicalDir,
        bytes: u64,
    ) -> Result<Reservation> {
        self.take_room_now(state, key, directory, bytes)?;
        let (cell, places) = (Arc::clone(cell), Arc::clone(&self.places));
        Ok(Reservation::new(key, move |key| {
            // Both under the lock: what is taken is at any moment what the tenants say.
            let mut state = cell.state.lock();
            if let Some(room) = state.unreserve(&key) {
                places.give_back(room);
            }
            if state.leaving {
                cell.ready.notify_waiters(); // somebody may wait for the last one
            }
        }))
    }

    pub(super) fn new_key(&self) -> FileKey {
        let mut random = [0; 10];
        self.config.entropy.fill(&mut random);
        FileKey::generate(self.config.clock.wall(), &random)
    }

    /// Brings the rooms of contents to the lengths that they turned out to have; those that found room before one that did not
    /// keep it.
    pub(super) fn resize_rooms(
        &self,
        state: &mut TenantState,
        lengths: impl Iterator<Item = (FileKey, u64)>,
    ) -> Result<()> {
        let limits = self.limits.read();
        for (key, bytes) in lengths {
            state.resize(&key, bytes, &limits, &self.places).map_err(|why| refusal(&state.id, why))?;
        }
        Ok(())
    }

    pub(super) fn look_for_room(&self, tenant: &TenantId, directory: &LogicalDir, bytes: u64) -> Result<()> {
        // The tenant first, as everywhere: who holds the limits and waits for a tenant could wait for ever.
        let cell = self.cell(tenant);
        let mut unknown = TenantState::new(tenant.clone(), false);
        let mut known = cell.as_ref().map(|cell| cell.state.lock());
        let state = known.as_deref_mut().unwrap_or(&mut unknown);
        let limits = self.limits.read();
        let everywhere = || self.places.check_room(limits.of(&Scope::Global), Tally::one(bytes));
        let checked = state.check_room(directory, bytes, &limits);
        checked.and_then(|()| everywhere().map_err(Full::Store)).map_err(|why| refusal(tenant, why))
    }

    pub(super) async fn store_limit(&self, scope: Scope, limit: Limit) -> Result<()> {
        let record = Record::LimitSet { scope: scope.clone(), limit };
        let body = record.encode();
        // Only what a checkpoint does not name yet makes it longer.
        if limit != Limit::Inherit && !self.limits.read().is_set_at_run_time(&scope) {
            self.make_spare().await?;
        }
        let mut room = self.journal.reserve(Use::Accept, &[body.len()]).await?;
        let lsn = {
            // The tenant first, as everywhere.
            let cell = tenant_in(&scope).and_then(|tenant| self.cell(tenant));
            let state = cell.as_ref().map(|cell| cell.state.lock());
            state.as_ref().map_or(Ok(()), |state| state.check_staying())?;
            let mut limits = self.limits.write();
            let lsn = self.journal.append(&mut room, body, 0)?.lsn;
            limits.apply(lsn, scope, limit);
            lsn
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await
    }

    pub(super) fn usage_of(&self, scope: &Scope) -> Usage {
        let of = |tenant: &TenantId, counted: &dyn Fn(&TenantState) -> Tally| {
            self.cell(tenant).map_or_else(Tally::default, |cell| counted(&cell.state.lock()))
        };
        let counted = match scope {
            Scope::Tenant(tenant) => of(tenant, &TenantState::counted),
            Scope::Directory(tenant, path) => of(tenant, &|state| state.directory_held(path).0.counted),
            Scope::Subtree(tenant, path) => of(tenant, &|state| state.directory_held(path).1.counted),
            _ => Tally {
                files: self.places.files.load(Ordering::Acquire),
                bytes: self.places.bytes.load(Ordering::Acquire),
            },
        };
        usage(scope.clone(), counted, &self.limits.read())
    }

    pub(super) fn directory_usages(&self, tenant: &TenantId, from: Option<u64>, max: usize) -> UsagePage {
        let none = UsagePage { usages: Vec::new(), next: None };
        let (Some(cell), Ok(from)) = (self.cell(tenant), u32::try_from(from.unwrap_or(0))) else {
            return none;
        };
        // At least one, so that a page comes to an end.
        let max = u32::try_from(max.max(1)).unwrap_or(u32::MAX);
        let (found, next) = cell.state.lock().directories(from, max);
        let limits = self.limits.read();
        let scope = |path| Scope::Directory(tenant.clone(), path);
        let usages = found.into_iter().map(|(path, counted)| usage(scope(path), counted, &limits));
        UsagePage { usages: usages.collect(), next: next.map(u64::from) }
    }
}

fn usage(scope: Scope, Tally { files, bytes }: Tally, limits: &Limits) -> Usage {
    let ceiling = limits.of(&scope);
    Usage { scope, files, bytes, limit: ceiling.files, bytes_limit: ceiling.bytes }
}
