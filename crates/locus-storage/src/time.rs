//! Store time: monotonic while open, moved on at open by what the wall clock says passed, within bounds.

use std::{sync::Arc, time::Duration};

use locus_core::{Clock, StoreTime, Timestamp};

/// Wall clock and store time of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Stamp {
    pub(crate) wall: Timestamp,
    pub(crate) time: StoreTime,
}

/// The clock of an open store.
#[derive(Debug)]
pub(crate) struct StoreClock {
    clock: Arc<dyn Clock>,
    base: StoreTime,
    origin: Duration,
}

impl StoreClock {
    /// Goes on from the last stamp: store time advances by the wall clock's difference, held within 0..`downtime_max`.
    pub(crate) fn resume(clock: Arc<dyn Clock>, last: Option<Stamp>, downtime_max: Duration) -> Self {
        let base = match last {
            None => StoreTime::ZERO,
            Some(last) => {
                last.time.saturating_add(clock.wall().saturating_since(last.wall).min(downtime_max))
            }
        };
        let origin = clock.monotonic();
        Self { clock, base, origin }
    }

    pub(crate) fn now(&self) -> StoreTime {
        self.base.saturating_add(self.clock.monotonic().saturating_sub(self.origin))
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { wall: self.clock.wall(), time: self.now() }
    }

    /// What the wall clock will presumably say at `at`.
    pub(crate) fn wall_at(&self, at: StoreTime) -> Timestamp {
        let stamp = self.stamp();
        if at >= stamp.time {
            stamp.wall.saturating_add(at.saturating_since(stamp.time))
        } else {
            stamp.wall.saturating_sub(stamp.time.saturating_since(at))
        }
    }

    /// Returns once store time has reached `at`.
    pub(crate) async fn sleep_until(&self, at: StoreTime) {
        self.clock.sleep_until(self.origin.saturating_add(at.saturating_since(self.base))).await;
    }

    pub(crate) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }
}
