//! How many cycles, and how many at a time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::Stopwatch;

/// What one round does: cycles until there were so many, or until the time is over.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Cycles at the same time.
    pub in_flight: usize,
    /// Most cycles in all.
    pub cycles_max: u64,
    /// No cycle begins later than this after the start.
    pub time_max: Duration,
}

impl Load {
    /// Starts now, and hands out the cycles to those who make them.
    #[must_use]
    pub fn turns(&self) -> Turns {
        Turns { left: AtomicU64::new(self.cycles_max), time_max: self.time_max, watch: Stopwatch::start() }
    }

    /// Whether only one cycle is made at a time.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.in_flight == 1
    }
}

/// Cycles that nobody has taken yet.
#[derive(Debug)]
pub struct Turns {
    left: AtomicU64,
    time_max: Duration,
    watch: Stopwatch,
}

impl Turns {
    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.watch.elapsed()
    }

    /// Takes one that begins `now`; `false` when there are none, or when the time is over.
    pub fn take(&self, now: Duration) -> bool {
        let one = |left: u64| left.checked_sub(1);
        now < self.time_max && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { in_flight: 1, cycles_max: 3, time_max: Duration::from_secs(1) };

    #[test]
    fn every_turn_is_taken_once() {
        let turns = LOAD.turns();
        assert_eq!((0..9).filter(|_| turns.take(Duration::ZERO)).count(), 3);
    }

    #[test]
    fn no_turn_begins_when_the_time_is_over() {
        let turns = LOAD.turns();
        assert!(turns.take(Duration::from_millis(999)));
        assert!(!turns.take(Duration::from_secs(1)));
        assert!(turns.take(Duration::ZERO), "a turn was lost");
    }
}
