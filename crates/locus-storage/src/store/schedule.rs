//! Which tenants may have something to lease, without looking at those that have not: those that may, in the order of
//! their turns, and when the others will.
//!
//! Turns are weighted by stride scheduling (Waldspurger and Weihl 1995): each file that a tenant is given moves its next
//! turn on by a step that is the shorter the larger its weight. Who comes back after a while stands where the turns are
//! now, so that being idle earns nothing.

use std::collections::BTreeSet;

use locus_core::{Lsn, StoreTime};

use crate::sync::{Mutex, Notify};

/// Number of a tenant in the table of cells.
pub(crate) type TenantNo = u32;

/// The step of a file given to a tenant of weight 1. Large, so that dividing it by a weight loses little.
const STEP: u128 = 1 << 32;

/// What one who knows of no time sleeps until.
const NEVER: StoreTime = StoreTime::from_micros(u64::MAX);

/// Where a tenant stands among the turns.
#[derive(Debug, Clone, Copy, Default)]
struct Turn {
    /// The next turn is at this point or later.
    at: u128,
    /// Its place in [`Inner::turns`], while it has one: of equals, who came first.
    waits: Option<(u128, u64)>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Tenants that may have something now, each once, in the order of their turns.
    turns: BTreeSet<(u128, u64, TenantNo)>,
    of: Vec<Turn>,
    /// The point of the last turn that was taken.
    now: u128,
    /// How many came so far.
    came: u64,
    /// Tenants whose oldest file only waits for the watermark.
    hidden: BTreeSet<(Lsn, TenantNo)>,
    /// When a delayed file falls due or a lease runs out.
    due: Times,
    /// When a lease runs out.
    deadlines: Times,
    /// When a completed file need not be kept any more.
    kept: Times,
}

/// One time per tenant, ordered.
#[derive(Debug, Default)]
struct Times {
    ordered: BTreeSet<(StoreTime, TenantNo)>,
    of: Vec<Option<StoreTime>>,
    /// Nobody sleeps for longer who asked for the earliest time since sleepers were last woken: most times that are set are
    /// behind that, and wake nobody.
    told: StoreTime,
}

impl Times {
    /// Says whether somebody may sleep for too long now, and is to be woken.
    fn set(&mut self, tenant: TenantNo, at: Option<StoreTime>) -> bool {
        let slot = tenant as usize;
        if self.of.len() <= slot {
            self.of.resize(slot + 1, None);
        }
        if self.of[slot] == at {
            return false;
        }
        if let Some(before) = self.of[slot] {
            self.ordered.remove(&(before, tenant));
        }
        self.of[slot] = at;
        if let Some(at) = at {
            self.ordered.insert((at, tenant));
        }
        let wakes = at.is_some_and(|at| at < self.told);
        if wakes {
            self.told = StoreTime::ZERO;
        }
        wakes
    }

    /// The earliest time of all. Who sleeps until then asks again when it is woken.
    fn earliest(&mut self) -> Option<StoreTime> {
        let earliest = self.ordered.first().map(|(at, _)| *at);
        self.told = self.told.max(earliest.unwrap_or(NEVER));
        earliest
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
    fn turn(&mut self, tenant: TenantNo) -> &mut Turn {
        let slot = tenant as usize;
        if self.of.len() <= slot {
            self.of.resize(slot + 1, Turn::default());
        }
        &mut self.of[slot]
    }

    fn push(&mut self, tenant: TenantNo) {
        let (now, came) = (self.now, self.came);
        let turn = self.turn(tenant);
        if turn.waits.is_some() {
            return;
        }
        turn.at = turn.at.max(now);
        turn.waits = Some((turn.at, came));
        let at = turn.at;
        self.came += 1;
        self.turns.insert((at, came, tenant));
    }

    fn pop(&mut self) -> Option<TenantNo> {
        let (at, _, tenant) = self.turns.pop_first()?;
        self.now = self.now.max(at);
        self.turn(tenant).waits = None;
        Some(tenant)
    }

    fn charge(&mut self, tenant: TenantNo, step: u128) {
        let turn = self.turn(tenant);
        turn.at += step;
        if let Some((at, came)) = turn.waits.take() {
            self.turns.remove(&(at, came, tenant));
            self.push(tenant);
        }
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

    /// When the tenant's next delayed file is due, when its next lease runs out, and until when the next completed file is
    /// kept. Says whether the last of these came nearer, over all tenants.
    pub(crate) fn set_times(
        &self,
        tenant: TenantNo,
        due: Option<StoreTime>,
        deadline: Option<StoreTime>,
        kept: Option<StoreTime>,
    ) -> bool {
        let (nearer, sooner, earlier) = {
            let mut inner = self.inner.lock();
            (inner.due.set(tenant, due), inner.deadlines.set(tenant, deadline), inner.kept.set(tenant, kept))
        };
        if nearer {
            self.ready.notify_waiters();
        }
        if sooner {
            self.deadline_changed.notify_waiters();
        }
        earlier
    }

    /// Gives those that are due or visible by now a turn, and says how many have one.
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
        inner.turns.len()
    }

    /// The tenant whose turn it is; it has no other until it is pushed again.
    pub(crate) fn next(&self) -> Option<TenantNo> {
        self.inner.lock().pop()
    }

    /// The tenant was given so many files, and has this weight.
    pub(crate) fn charge(&self, tenant: TenantNo, files: usize, weight: u32) {
        self.inner.lock().charge(tenant, files as u128 * STEP / u128::from(weight.max(1)));
    }

    /// When something may be leased next, by time and by watermark, if nothing may now.
    pub(crate) fn next_chance(&self) -> Chance {
        let mut inner = self.inner.lock();
        Chance {
            now: !inner.turns.is_empty(),
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

    pub(crate) fn next_kept(&self) -> Option<StoreTime> {
        self.inner.lock().kept.earliest()
    }

    /// A tenant with a completed file whose time is over; its time must be set again.
    pub(crate) fn take_kept(&self, now: StoreTime) -> Option<TenantNo> {
        self.inner.lock().kept.take_until(now)
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

    /// All of these always have something; says how many files each got.
    fn shares(weights: &[u32], turns: usize, batch: impl Fn(usize) -> usize) -> Vec<usize> {
        let schedule = Schedule::default();
        (0..weights.len()).for_each(|tenant| schedule.push(tenant as TenantNo));
        let mut got = vec![0; weights.len()];
        for turn in 0..turns {
            let tenant = schedule.next().unwrap();
            schedule.push(tenant); // as a lease does, before it is charged
            schedule.charge(tenant, batch(turn), weights[tenant as usize]);
            got[tenant as usize] += batch(turn);
        }
        got
    }

    #[test]
    fn b29_turns_are_shared_by_weight_whatever_the_batches() {
        assert_eq!(shares(&[1, 2, 5], 8_000, |_| 1), [1_000, 2_000, 5_000]);
        assert_eq!(shares(&[1_000, 1], 1_001, |_| 1), [1_000, 1]);
        let got = shares(&[1, 2, 5], 8_000, |turn| 1 + turn * 7 % 64);
        let all: usize = got.iter().sum();
        for (files, weight) in got.iter().zip([1, 2, 5]) {
            assert!(files.abs_diff(all * weight / 8) * 50 <= all, "{got:?}");
        }
    }

    #[test]
    fn b29_who_comes_back_has_earned_nothing_while_away_and_is_not_kept_waiting() {
        let schedule = Schedule::default();
        schedule.push(0);
        for _ in 0..1_000 {
            let tenant = schedule.next().unwrap();
            schedule.push(tenant);
            schedule.charge(tenant, 1, 1);
        }
        schedule.push(1);
        let mut turns = Vec::new();
        for _ in 0..10 {
            let tenant = schedule.next().unwrap();
            schedule.push(tenant);
            schedule.charge(tenant, 1, 1);
            turns.push(tenant);
        }
        assert!(turns[..2].contains(&1), "{turns:?}");
        assert_eq!(turns.iter().filter(|tenant| **tenant == 1).count(), 5, "{turns:?}");
    }

    #[test]
    fn only_a_time_that_comes_before_all_that_was_told_wakes() {
        let mut times = Times::default();
        let at = |micros| Some(StoreTime::from_micros(micros));
        assert!(!times.set(1, at(10)), "nobody asked");
        assert_eq!(times.earliest(), at(10));
        // A lease ends and the next begins: who sleeps until the first one's time looks again then.
        assert!(!times.set(1, None));
        assert!(!times.set(1, at(20)));
        assert!(times.set(2, at(9)));
        assert!(!times.set(3, at(8)), "all were woken, and none has asked again");
        assert_eq!(times.earliest(), at(8));
        // One sleeps until 8, and another one, who asks later, until 20.
        assert!(!times.set(3, None) && !times.set(2, None));
        assert_eq!(times.earliest(), at(20));
        assert!(times.set(2, at(15)));
        assert!(!times.set(2, None) && !times.set(1, None));
        assert_eq!(times.earliest(), None);
        assert!(times.set(1, at(1_000)), "whoever knew of no time waits for any");
    }

    #[test]
    fn a_tenant_joins_when_it_is_due_or_visible() {
        let schedule = Schedule::default();
        schedule.set_times(3, Some(StoreTime::from_micros(10)), None, None);
        schedule.hide(4, Lsn(7));
        assert_eq!(schedule.gather(StoreTime::from_micros(9), Lsn(6)), 0);
        assert_eq!(schedule.gather(StoreTime::from_micros(10), Lsn(7)), 2);
        let chance = schedule.next_chance();
        assert_eq!((chance.now, chance.at, chance.visible), (true, None, None));
    }
}
