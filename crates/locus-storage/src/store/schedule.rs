//! Which tenants may have something to lease, without looking at those that have not: a ring of those that may, and when
//! the others will.

use std::collections::{BTreeSet, VecDeque};

use locus_core::{Lsn, StoreTime};

use crate::sync::{Mutex, Notify};

/// Number of a tenant in the table of cells.
pub(crate) type TenantNo = u32;

#[derive(Debug, Default)]
struct Inner {
    /// Tenants that may have something now, each once.
    ring: VecDeque<TenantNo>,
    in_ring: Vec<bool>,
    /// Tenants whose oldest file only waits for the watermark.
    hidden: BTreeSet<(Lsn, TenantNo)>,
    /// When a delayed file falls due or a lease runs out.
    due: Times,
    /// When a lease runs out.
    deadlines: Times,
}

/// One time per tenant, ordered.
#[derive(Debug, Default)]
struct Times {
    ordered: BTreeSet<(StoreTime, TenantNo)>,
    of: Vec<Option<StoreTime>>,
}

impl Times {
    /// Says whether the earliest time of all moved forward.
    fn set(&mut self, tenant: TenantNo, at: Option<StoreTime>) -> bool {
        let slot = tenant as usize;
        if self.of.len() <= slot {
            self.of.resize(slot + 1, None);
        }
        if self.of[slot] == at {
            return false;
        }
        let first = self.ordered.first().copied();
        if let Some(before) = self.of[slot] {
            self.ordered.remove(&(before, tenant));
        }
        self.of[slot] = at;
        if let Some(at) = at {
            self.ordered.insert((at, tenant));
        }
        match (self.ordered.first(), first) {
            (Some(now), Some(before)) => *now < before,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    fn earliest(&self) -> Option<StoreTime> {
        self.ordered.first().map(|(at, _)| *at)
    }

    fn take_until(&mut self, now: StoreTime) -> Option<TenantNo> {
        let &(at, tenant) = self.ordered.first()?;
        if at > now {
            return None;
        }
        self.ordered.pop_first();
        self.of[tenant as usize] = None;
        Some(tenant)
    }
}

/// The schedule of all tenants. Its lock is taken inside a tenant's, never the other way.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    inner: Mutex<Inner>,
    /// Something may be leased.
    pub(crate) ready: Notify,
    /// A deadline came nearer.
    pub(crate) deadline_changed: Notify,
}

impl Inner {
    fn push(&mut self, tenant: TenantNo) -> bool {
        let slot = tenant as usize;
        if self.in_ring.len() <= slot {
            self.in_ring.resize(slot + 1, false);
        }
        let new = !std::mem::replace(&mut self.in_ring[slot], true);
        if new {
            self.ring.push_back(tenant);
        }
        new
    }
}

impl Schedule {
    /// The tenant may have something to lease.
    pub(crate) fn push(&self, tenant: TenantNo) {
        self.inner.lock().push(tenant);
        self.ready.notify_waiters();
    }

    /// The tenant's oldest file is not visible before `lsn`.
    pub(crate) fn hide(&self, tenant: TenantNo, lsn: Lsn) {
        self.inner.lock().hidden.insert((lsn, tenant));
        self.ready.notify_waiters();
    }

    /// When the tenant's next delayed file is due, and when its next lease runs out.
    pub(crate) fn set_times(&self, tenant: TenantNo, due: Option<StoreTime>, deadline: Option<StoreTime>) {
        let (nearer, sooner) = {
            let mut inner = self.inner.lock();
            (inner.due.set(tenant, due), inner.deadlines.set(tenant, deadline))
        };
        if nearer {
            self.ready.notify_waiters();
        }
        if sooner {
            self.deadline_changed.notify_waiters();
        }
    }

    /// Moves those that are due or visible by now into the ring, and says how many are in it.
    pub(crate) fn gather(&self, now: StoreTime, watermark: Lsn) -> usize {
        let mut inner = self.inner.lock();
        while let Some(&(lsn, tenant)) = inner.hidden.first() {
            if lsn > watermark {
                break;
            }
            inner.hidden.pop_first();
            inner.push(tenant);
        }
        while let Some(tenant) = inner.due.take_until(now) {
            inner.push(tenant);
        }
        inner.ring.len()
    }

    /// The tenant whose turn it is; it leaves the ring until it is pushed again.
    pub(crate) fn next(&self) -> Option<TenantNo> {
        let mut inner = self.inner.lock();
        let tenant = inner.ring.pop_front()?;
        inner.in_ring[tenant as usize] = false;
        Some(tenant)
    }

    /// When something may be leased next, by time and by watermark, if nothing may now.
    pub(crate) fn next_chance(&self) -> Chance {
        let inner = self.inner.lock();
        Chance {
            now: !inner.ring.is_empty(),
            at: inner.due.earliest(),
            visible: inner.hidden.first().map(|(lsn, _)| *lsn),
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<StoreTime> {
        self.inner.lock().deadlines.earliest()
    }

    /// A tenant with a lease that has run out; its time must be set again.
    pub(crate) fn take_overdue(&self, now: StoreTime) -> Option<TenantNo> {
        self.inner.lock().deadlines.take_until(now)
    }
}

/// When something may be leased next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance {
    pub(crate) now: bool,
    pub(crate) at: Option<StoreTime>,
    pub(crate) visible: Option<Lsn>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b29_tenants_take_turns_and_idle_ones_are_not_looked_at() {
        let schedule = Schedule::default();
        for tenant in [1, 2, 1, 9_999] {
            schedule.push(tenant);
        }
        assert_eq!(schedule.gather(StoreTime::ZERO, Lsn::ZERO), 3);
        assert_eq!(
            [schedule.next(), schedule.next(), schedule.next(), schedule.next()],
            [Some(1), Some(2), Some(9_999), None]
        );
    }

    #[test]
    fn a_tenant_joins_when_it_is_due_or_visible() {
        let schedule = Schedule::default();
        schedule.set_times(3, Some(StoreTime::from_micros(10)), None);
        schedule.hide(4, Lsn(7));
        assert_eq!(schedule.gather(StoreTime::from_micros(9), Lsn(6)), 0);
        assert_eq!(schedule.gather(StoreTime::from_micros(10), Lsn(7)), 2);
        let chance = schedule.next_chance();
        assert_eq!((chance.now, chance.at, chance.visible), (true, None, None));
    }
}
