//! When a failed file comes back.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often, and after what delay, a failed file is tried again. A pure function: it knows no clock.
///
/// It counts failures: with `max_retries: 3` the third failure is the last and the file is then
/// [`PermanentlyFailed`](crate::FileStatus::PermanentlyFailed).
///
/// ```
/// # use locus_core::RetryPolicy;
/// # use std::time::Duration;
/// let policy = RetryPolicy::default();
/// assert_eq!(policy.delay(1), Some(Duration::from_secs(5)));
/// assert_eq!(policy.delay(2), Some(Duration::from_secs(10)));
/// assert_eq!(policy.delay(3), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// The failure with this number is the last. Default 3; 0 is taken as 1.
    pub max_retries: u32,
    /// Delay after the first failure. Default 5 s.
    pub initial_delay: Duration,
    /// Whether the delay doubles with each failure. Default true.
    pub exponential: bool,
    /// No delay is longer than this. Default 5 min.
    pub max_delay: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_retries: 3,
            initial_delay: Duration::from_secs(5),
            exponential: true,
            max_delay: Duration::from_secs(300),
        }
    }
}

impl RetryPolicy {
    /// The delay after failure number `failures` (1 for the first), or `None` when that failure was the last.
    ///
    /// With backoff `min(initial_delay * 2^(failures - 1), max_delay)`, without `min(initial_delay, max_delay)`.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Option<Duration> {
        if failures >= self.max_retries {
            return None;
        }
        let doublings = if self.exponential { failures.saturating_sub(1) } else { 0 };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        Some(self.initial_delay.saturating_mul(factor).min(self.max_delay))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::first(1, Some(5))]
    #[case::second(2, Some(10))]
    #[case::last(3, None)]
    #[case::beyond(10_000, None)]
    fn b39_the_default_policy_waits_5_then_10_seconds_then_gives_up(
        #[case] failures: u32,
        #[case] seconds: Option<u64>,
    ) {
        assert_eq!(RetryPolicy::default().delay(failures), seconds.map(Duration::from_secs));
    }

    #[test]
    fn b39_a_count_of_ten_thousand_does_not_overflow() {
        let policy = RetryPolicy { max_retries: u32::MAX, ..RetryPolicy::default() };
        assert_eq!(policy.delay(10_000), Some(policy.max_delay));
        assert_eq!(policy.delay(33), Some(policy.max_delay));
    }

    #[test]
    fn b39_without_backoff_the_delay_is_the_smaller_of_initial_and_max() {
        let policy = RetryPolicy { exponential: false, max_retries: 9, ..RetryPolicy::default() };
        assert_eq!(policy.delay(7), Some(Duration::from_secs(5)));
        let policy = RetryPolicy { max_delay: Duration::from_secs(2), ..policy };
        assert_eq!(policy.delay(7), Some(Duration::from_secs(2)));
    }
}
