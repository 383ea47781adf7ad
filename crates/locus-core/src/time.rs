//! Two kinds of time: [`Timestamp`] is what people read, [`StoreTime`] is what delays and ages are counted in.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A point in wall-clock time, in microseconds since the Unix epoch (UTC). Prints as RFC 3339.
///
/// Serialised as that number of microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The timestamp `micros` microseconds after (or before, when negative) the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// This timestamp moved forward by `by`, held at the largest value that can be said.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// This timestamp moved back by `by`, held at the smallest value that can be said.
    #[must_use]
    pub fn saturating_sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(at) => write!(f, "{at}"),
            Err(_) => write!(f, "{} us since the epoch", self.0),
        }
    }
}

/// Store time: microseconds that pass while a store is open, plus at most `downtime_max` for each time it was closed.
///
/// Every delay, age and retention counts in it, so a wall clock that jumps expires nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StoreTime(u64);

impl StoreTime {
    /// The beginning of a store's life.
    pub const ZERO: Self = Self(0);

    /// The point `micros` microseconds into the store's life.
    #[must_use]
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds into the store's life.
    #[must_use]
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// This point moved forward by `by`, held at the largest value that can be said.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_prints_as_rfc_3339() {
        assert_eq!(Timestamp::from_micros(1_500_000).to_string(), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(StoreTime::from_micros(u64::MAX).saturating_add(Duration::MAX).as_micros(), u64::MAX);
        assert_eq!(StoreTime::ZERO.saturating_since(StoreTime::from_micros(5)), Duration::ZERO);
        assert_eq!(Timestamp::from_micros(3).saturating_since(Timestamp::from_micros(5)), Duration::ZERO);
    }
}
