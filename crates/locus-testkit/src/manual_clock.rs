//! A clock that moves only when a test moves it.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use async_trait::async_trait;
use locus_core::{Clock, Timestamp};
use parking_lot::Mutex;

/// 2026-01-01T00:00:00Z, in microseconds since the Unix epoch.
const WALL_AT_START: i64 = 1_767_225_600_000_000;

/// A [`Clock`] that stands still until it is moved. The wall begins at 2026-01-01T00:00:00Z, monotonic time at 0.
///
/// [`sleep_until`](Clock::sleep_until) needs no runtime: whoever moves the clock wakes the sleepers.
///
/// ```
/// use std::time::Duration;
/// use locus_core::Clock;
/// use locus_testkit::ManualClock;
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.monotonic(), Duration::from_secs(5));
/// assert_eq!(clock.wall().to_string(), "2026-01-01T00:00:05Z");
/// ```
#[derive(Debug)]
pub struct ManualClock(Mutex<State>);

#[derive(Debug)]
struct State {
    monotonic: Duration,
    /// What the wall showed, or would have shown, at monotonic time 0.
    wall_at_zero: i64,
    /// By deadline; the number tells apart those with the same one, in the order they came.
    sleepers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
}

impl ManualClock {
    /// A clock at its beginning.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            monotonic: Duration::ZERO,
            wall_at_zero: WALL_AT_START,
            sleepers: BTreeMap::new(),
            next: 0,
        })))
    }

    /// Lets `by` pass, on both clocks, and wakes the sleepers whose deadline is reached, earliest first.
    pub fn advance(&self, by: Duration) {
        let due: Vec<Waker> = {
            let mut state = self.0.lock();
            state.monotonic = state.monotonic.saturating_add(by);
            let first_later = (state.monotonic.saturating_add(Duration::from_nanos(1)), 0);
            let later = state.sleepers.split_off(&first_later);
            std::mem::replace(&mut state.sleepers, later).into_values().collect()
        };
        due.into_iter().for_each(Waker::wake);
    }

    /// Lets time pass until the earliest deadline somebody sleeps for; `false` when nobody sleeps.
    pub fn advance_to_next(&self) -> bool {
        let Some(deadline) = self.next_deadline() else { return false };
        self.advance(deadline.saturating_sub(self.monotonic()));
        true
    }

    /// Moves the wall alone, back when `micros` is negative, as an administrator or NTP would.
    pub fn jump_wall(&self, micros: i64) {
        let mut state = self.0.lock();
        state.wall_at_zero = state.wall_at_zero.saturating_add(micros);
    }

    /// Sets the wall alone.
    pub fn set_wall(&self, to: Timestamp) {
        let mut state = self.0.lock();
        state.wall_at_zero = to.as_micros().saturating_sub(micros(state.monotonic));
    }

    /// The earliest deadline somebody sleeps for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        self.0.lock().sleepers.keys().next().map(|&(deadline, _)| deadline)
    }

    /// How many sleep.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.0.lock().sleepers.len()
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn wall(&self) -> Timestamp {
        let state = self.0.lock();
        Timestamp::from_micros(state.wall_at_zero.saturating_add(micros(state.monotonic)))
    }

    fn monotonic(&self) -> Duration {
        self.0.lock().monotonic
    }

    async fn sleep_until(&self, deadline: Duration) {
        Sleep { clock: self, deadline, number: None }.await;
    }
}

fn micros(of: Duration) -> i64 {
    i64::try_from(of.as_micros()).unwrap_or(i64::MAX)
}

/// One sleeper; takes itself off the list when it is dropped.
struct Sleep<'a> {
    clock: &'a ManualClock,
    deadline: Duration,
    number: Option<u64>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock;
        let mut state = clock.0.lock();
        if state.monotonic >= self.deadline {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| {
            state.next += 1;
            state.next
        });
        state.sleepers.insert((self.deadline, number), cx.waker().clone());
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.0.lock().sleepers.remove(&(self.deadline, number));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::Wake,
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_sleeper_wakes_when_its_deadline_is_reached_and_not_before() {
        let clock = ManualClock::new();
        let count = Arc::new(Count::default());
        let waker = Waker::from(count.clone());
        let mut cx = Context::from_waker(&waker);
        let mut sleep = pin!(clock.sleep_until(Duration::from_secs(2)));
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert!(sleep.as_mut().poll(&mut cx).is_pending());
        assert_eq!((clock.sleepers(), clock.next_deadline()), (1, Some(Duration::from_secs(2))));

        clock.advance(Duration::from_millis(1_999));
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        clock.advance(Duration::from_millis(1));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert_eq!(clock.sleepers(), 0);
        assert!(sleep.as_mut().poll(&mut cx).is_ready());
    }

    #[test]
    fn a_dropped_sleeper_leaves_the_list() {
        let clock = ManualClock::new();
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut sleep = pin!(clock.sleep_until(Duration::from_secs(1)));
            assert!(sleep.as_mut().poll(&mut cx).is_pending());
            assert_eq!(clock.sleepers(), 1);
        }
        assert_eq!((clock.sleepers(), clock.next_deadline()), (0, None));
        assert!(!clock.advance_to_next());
    }

    #[test]
    fn the_wall_jumps_alone() {
        let clock = ManualClock::new();
        clock.advance(Duration::from_secs(60));
        assert_eq!(clock.wall().to_string(), "2026-01-01T00:01:00Z");
        clock.jump_wall(-120_000_000);
        assert_eq!(clock.wall().to_string(), "2025-12-31T23:59:00Z");
        assert_eq!(clock.monotonic(), Duration::from_secs(60));
        clock.set_wall(Timestamp::from_micros(7));
        assert_eq!(clock.wall(), Timestamp::from_micros(7));
        clock.advance(Duration::from_micros(3));
        assert_eq!(clock.wall(), Timestamp::from_micros(10));
    }

    #[test]
    fn the_clock_moves_to_the_earliest_deadline() {
        let clock = ManualClock::new();
        let mut cx = Context::from_waker(Waker::noop());
        let mut late = pin!(clock.sleep_until(Duration::from_secs(9)));
        let mut early = pin!(clock.sleep_until(Duration::from_secs(4)));
        assert!(late.as_mut().poll(&mut cx).is_pending());
        assert!(early.as_mut().poll(&mut cx).is_pending());
        assert!(clock.advance_to_next());
        assert_eq!(clock.monotonic(), Duration::from_secs(4));
        assert!(early.as_mut().poll(&mut cx).is_ready());
        assert!(late.as_mut().poll(&mut cx).is_pending());
        assert_eq!(clock.sleepers(), 1);
    }
}
