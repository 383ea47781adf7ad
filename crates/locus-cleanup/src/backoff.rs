//! How long a job waits after a step that got nowhere.

use std::time::Duration;

use locus_core::Clock;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles the wait with each failure in a row, from 100 ms to 30 s.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Whether the last step got somewhere.
    pub(crate) const fn is_fresh(&self) -> bool {
        self.failures == 0
    }

    pub(crate) async fn wait(&mut self, clock: &dyn Clock) {
        let delay = self.next_delay();
        clock.sleep_until(clock.monotonic().saturating_add(delay)).await;
    }

    fn next_delay(&mut self) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        FIRST.saturating_mul(factor).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_bound_and_begins_anew_after_a_success() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next_delay(), Duration::from_millis(100));
        assert_eq!(backoff.next_delay(), Duration::from_millis(200));
        for _ in 0..100 {
            backoff.next_delay();
        }
        assert_eq!(backoff.next_delay(), LONGEST);
        backoff.reset();
        assert_eq!(backoff.next_delay(), FIRST);
    }
}
