//! A tenant leaves: nothing comes in any more, what is there ends, and the rest is forgotten.

use std::{collections::BTreeMap, sync::Arc};

use locus_core::{
    Error, FileKey, Holdings, Leaving, Result, Scope, Site, StoragePath, StoreTime, TenantId, TenantStatus,
};

use super::{
    embedded::{Cell, EmbeddedStore},
    event::{Change, FRAME_BYTES, Record, keys_bound},
    leases::LEASE_MAX,
    tenant::TenantState,
};
use crate::journal::Use;

/// Most entries that one look under the tenant's lock passes by.
const LOOK_MAX: u32 = 4_096;

impl TenantState {
    /// Refuses once the tenant leaves.
    pub(super) fn check_staying(&self) -> Result<()> {
        if self.leaving {
            return Err(Error::TenantDisabled { tenant: self.id.clone(), status: TenantStatus::Disabled });
        }
        Ok(())
    }

    /// All that keeps the tenant from being forgotten.
    fn holdings(&self) -> Holdings {
        let (counted, counts) = (self.counted(), self.counts());
        Holdings {
            files: counted.files + counts.dead_lettered,
            bytes: counted.bytes + counts.dead_letter_bytes,
            writes: self.reserved().files - self.uploads().count(),
            uploads: self.uploads().count(),
        }
    }
}

impl EmbeddedStore {
    pub(super) fn holdings_of(&self, tenant: &TenantId) -> Holdings {
        self.cell(tenant).map_or_else(Holdings::default, |cell| cell.state.lock().holdings())
    }

    pub(super) fn leave(&self, tenant: &TenantId, when_empty: bool) -> Result<Leaving> {
        let cell = self.cell_or_new(tenant);
        let mut state = cell.state.lock();
        if state.leaving {
            return Err(Error::TenantLeaving { tenant: tenant.clone() });
        }
        if when_empty {
            state.holdings().check_empty(tenant)?;
        }
        state.leaving = true;
        drop(state);
        Ok(Leaving::new(tenant.clone(), move || {
            cell.state.lock().leaving = false;
        }))
    }

    /// The tenant that leaves, of this store.
    fn cell_of(&self, leaving: &Leaving) -> Result<Arc<Cell>> {
        let cell = self.cell(leaving.tenant()).filter(|cell| cell.state.lock().leaving);
        cell.ok_or(Error::InvalidArgument { name: "leaving", why: "was begun in another store" })
    }

    pub(super) async fn end_some(
        &self,
        leaving: &Leaving,
        from: u32,
        max: usize,
    ) -> Result<(u64, Option<u32>)> {
        let cell = self.cell_of(leaving)?;
        let max = max.clamp(1, LEASE_MAX);
        let (uploads, lsn) = self.end_idle_of(&cell, StoreTime::from_micros(u64::MAX), max).await?;
        if uploads > 0 {
            self.confirm(lsn, self.config.options.durability).await?;
            return Ok((uploads as u64, Some(from)));
        }
        let mut room = self.journal.reserve(Use::Essential, &[keys_bound(max)]).await?;
        let (lsn, ended, next) = {
            let mut state = cell.state.lock();
            let end = state.entries_end().min(from.saturating_add(LOOK_MAX));
            let mut at = from;
            let mut keys: Vec<FileKey> = Vec::new();
            while at < end && keys.len() < max {
                keys.extend(state.entry_at(at).filter(|entry| state.stays(entry)).map(|entry| entry.key));
                at += 1;
            }
            let next = (at < state.entries_end()).then_some(at);
            if keys.is_empty() {
                (self.journal.last_appended(), 0, next)
            } else {
                keys.iter().for_each(|key| self.suspect_is_back(cell.no, key));
                let ended = keys.len() as u64;
                let changes: Vec<_> = keys.into_iter().map(|key| Change::Deleted { key }).collect();
                (self.commit(&cell, &mut state, &mut room, self.clock.stamp(), &changes)?, ended, next)
            }
        };
        drop(room);
        if ended > 0 || next.is_none() {
            self.confirm(lsn, self.config.options.durability).await?;
        }
        Ok((ended, next))
    }

    pub(super) async fn wait_emptied(&self, leaving: &Leaving) -> Result<()> {
        let cell = self.cell_of(leaving)?;
        // Nothing comes in any more, so that what was passed by is passed by for good.
        let mut at = 0;
        let mut stuck = BTreeMap::new();
        // What ended lazily is removed once it is durable.
        self.barrier().await?;
        loop {
            let reaped = self.reap_changed.notified();
            let given_back = cell.ready.notified();
            tokio::pin!(reaped, given_back);
            reaped.as_mut().enable();
            given_back.as_mut().enable();
            {
                let state = cell.state.lock();
                let end = state.entries_end();
                while at < end {
                    match state.entry_at(at).map(|entry| entry.rest.number()) {
                        Some(volume) if self.places.is_available(volume) => break,
                        Some(volume) => *stuck.entry(volume).or_insert(0_u64) += 1,
                        None => {}
                    }
                    at += 1;
                }
                if at >= end && state.reserved().files == 0 && state.is_unmoved(&self.places) {
                    break;
                }
            }
            let over = self.journal.ended();
            let ended = crate::race::first3(
                async { Some(over.await) },
                async {
                    reaped.await;
                    None
                },
                async {
                    given_back.await;
                    None
                },
            );
            if let Some(why) = ended.await {
                return Err(why);
            }
        }
        match stuck.first_key_value() {
            None => self.barrier().await,
            Some((volume, files)) => Err(Error::VolumeUnavailable {
                volume: Some(self.places.id(*volume)),
                why: format!("is not available, and holds {files} files that are to be removed").into(),
            }),
        }
    }

    pub(super) async fn forget_all_of(&self, leaving: &Leaving) -> Result<()> {
        let cell = self.cell_of(leaving)?;
        let tenant = leaving.tenant();
        let body = Record::TenantGone { tenant: tenant.clone() }.encode();
        let mut room = self.journal.reserve(Use::Essential, &[body.len().max(FRAME_BYTES)]).await?;
        let lsn = {
            let mut state = cell.state.lock();
            state.holdings().check_empty(tenant)?;
            let mut limits = self.limits.write();
            let lsn = self.journal.append(&mut room, body, 0)?.lsn;
            limits.forget_tenant(lsn, tenant);
            state.forget_all(lsn, &self.places);
            lsn
        };
        drop(room);
        if Site::ToldWhenDurable.stands() { self.make_durable(lsn).await } else { Ok(()) }
    }

    pub(super) fn owners(&self) -> Vec<(TenantId, StoragePath)> {
        let cells = self.cells.read().all.clone();
        let owner = |cell: Arc<Cell>| {
            let state = cell.state.lock();
            let of_files =
                state.entries().max_by_key(|entry| entry.order).map(|newest| newest.owner(&state.id));
            let of_uploads = || state.uploads().after(None).last().map(|newest| newest.owner(&state.id));
            Some((state.id.clone(), of_files.or_else(of_uploads)?))
        };
        cells.into_iter().filter_map(owner).collect()
    }
}

/// Whose limit this is, when it is a tenant's.
pub(super) const fn tenant_in(scope: &Scope) -> Option<&TenantId> {
    match scope {
        Scope::Tenant(tenant) | Scope::Directory(tenant, _) | Scope::Subtree(tenant, _) => Some(tenant),
        _ => None,
    }
}
