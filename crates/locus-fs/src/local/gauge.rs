//! What a volume knows about itself without asking the disk: room, health, and whether it may be used.

use std::{
    borrow::Cow,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use locus_core::VolumeStatus;
use parking_lot::Mutex;

use crate::disk::Space;

/// A measurement older than this is taken again by the next write or delete.
const OLD: Duration = Duration::from_secs(1);

const CLOSED: &str = "is closed";
const POISONED: &str = "takes no writes because a sync failed: open it again";

/// Why a volume is not all that it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// What is mounted cannot be used, or is not this volume.
    Gone(Cow<'static, str>),
    /// It can be read but not written.
    ReadOnly(Cow<'static, str>),
}

/// The last measurement, and what happened since.
#[derive(Debug)]
pub(crate) struct Gauge {
    seen: Mutex<Seen>,
    /// Bytes written since; the status takes them off what was available, so that placement sees them at once.
    written: AtomicU64,
    poisoned: AtomicBool,
    closed: AtomicBool,
}

#[derive(Debug)]
struct Seen {
    space: Space,
    at: Option<Duration>,
    trouble: Option<Trouble>,
}

impl Gauge {
    pub(crate) fn new() -> Self {
        Self {
            seen: Mutex::new(Seen { space: Space { total: 0, available: 0 }, at: None, trouble: None }),
            written: AtomicU64::new(0),
            poisoned: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn status(&self) -> VolumeStatus {
        let (space, trouble) = {
            let seen = self.seen.lock();
            (seen.space, seen.trouble.clone())
        };
        let (is_healthy, read_only, why) = match trouble {
            _ if self.is_closed() => (false, false, Some(CLOSED.into())),
            Some(Trouble::Gone(why)) => (false, false, Some(why)),
            _ if self.poisoned.load(Relaxed) => (true, true, Some(POISONED.into())),
            Some(Trouble::ReadOnly(why)) => (true, true, Some(why)),
            None => (true, false, None),
        };
        let available = space.available.saturating_sub(self.written.load(Relaxed));
        VolumeStatus { total: space.total, available, is_healthy, read_only, why }
    }

    pub(crate) fn is_old(&self, now: Duration) -> bool {
        self.seen.lock().at.is_none_or(|at| now.saturating_sub(at) >= OLD)
    }

    pub(crate) fn measured(&self, space: Space, now: Duration) {
        let mut seen = self.seen.lock();
        seen.space = space;
        seen.at = Some(now);
        self.written.store(0, Relaxed);
    }

    pub(crate) fn wrote(&self, bytes: u64) {
        self.written.fetch_add(bytes, Relaxed);
    }

    pub(crate) fn found(&self, trouble: Option<Trouble>) {
        self.seen.lock().trouble = trouble;
    }

    /// Whether what was last found could not be used, or was not this volume.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.seen.lock().trouble, Some(Trouble::Gone(_)))
    }

    /// Refuses writes from now on; `true` the first time.
    pub(crate) fn poison(&self) -> bool {
        !self.poisoned.swap(true, Relaxed)
    }

    /// Why nothing may be synced any more.
    pub(crate) fn poisoned(&self) -> Option<&'static str> {
        self.poisoned.load(Relaxed).then_some(POISONED)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Why nothing may be done here any more.
    pub(crate) fn closed(&self) -> Option<&'static str> {
        self.is_closed().then_some(CLOSED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_written_come_off_the_room_until_it_is_measured_again() {
        let gauge = Gauge::new();
        gauge.measured(Space { total: 100, available: 50 }, Duration::ZERO);
        gauge.wrote(20);
        assert_eq!(gauge.status().available, 30);
        gauge.wrote(40);
        assert_eq!(gauge.status().available, 0);
        gauge.measured(Space { total: 100, available: 45 }, Duration::from_secs(1));
        assert_eq!(gauge.status().available, 45);
    }

    #[test]
    fn a_measurement_is_old_after_a_second() {
        let gauge = Gauge::new();
        assert!(gauge.is_old(Duration::ZERO));
        gauge.measured(Space { total: 1, available: 1 }, Duration::from_secs(9));
        assert!(!gauge.is_old(Duration::from_millis(9_999)));
        assert!(gauge.is_old(Duration::from_secs(10)));
    }

    #[test]
    fn a_poisoned_volume_is_healthy_to_read_and_a_good_probe_does_not_cure_it() {
        let gauge = Gauge::new();
        assert!(gauge.status().takes_writes());
        assert!(gauge.poison());
        assert!(!gauge.poison());
        gauge.found(None);
        let status = gauge.status();
        assert!(status.is_healthy && status.read_only && status.why.is_some());
        gauge.found(Some(Trouble::Gone("x".into())));
        assert!(!gauge.status().is_healthy);
    }
}
