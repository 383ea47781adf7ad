//! How figures are taken and told.

use std::{fmt, time::Duration};

use locus_core::{Clock, SystemClock};

/// Measures time.
#[derive(Debug, Default)]
pub struct Stopwatch {
    clock: SystemClock,
}

impl Stopwatch {
    /// Starts now.
    #[must_use]
    pub fn start() -> Self {
        Self::default()
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.clock.monotonic()
    }
}

/// So many per second.
#[must_use]
pub fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
}

/// Median and range of some figures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The one in the middle.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
}

impl Spread {
    /// Of these; zeros when there are none.
    #[must_use]
    pub fn of(figures: &[f64]) -> Self {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let median = match sorted.as_slice() {
            [] => 0.0,
            all if all.len() % 2 == 1 => all[all.len() / 2],
            all => (all[all.len() / 2 - 1] + all[all.len() / 2]) / 2.0,
        };
        Self {
            median,
            min: sorted.first().copied().unwrap_or_default(),
            max: sorted.last().copied().unwrap_or_default(),
        }
    }
}

/// Whole numbers from 100 on, else two digits: `1,234 (1,100..1,300)`, `0.87 (0.80..0.91)`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { median, min, max } = *self;
        if median >= 100.0 {
            write!(f, "{} ({}..{})", thousands(median), thousands(min), thousands(max))
        } else {
            write!(f, "{median:.2} ({min:.2}..{max:.2})")
        }
    }
}

/// A whole number with commas.
#[must_use]
pub fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many bytes, in the largest unit that divides them: `512 B`, `16 KiB`, `1 MiB`.
#[must_use]
pub fn size(bytes: usize) -> String {
    match bytes {
        0 => "0 B".into(),
        _ if bytes.is_multiple_of(1 << 20) => format!("{} MiB", bytes >> 20),
        _ if bytes.is_multiple_of(1 << 10) => format!("{} KiB", bytes >> 10),
        _ => format!("{bytes} B"),
    }
}

/// The time that `part` (0 to 1) of these do not pass; zero when there are none.
#[must_use]
pub fn percentile(times: &mut [Duration], part: f64) -> Duration {
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    times.get((last as f64 * part).round() as usize).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_range_is_the_ends() {
        let spread = Spread::of(&[3.0, 1.0, 200.0]);
        assert_eq!((spread.median, spread.min, spread.max), (3.0, 1.0, 200.0));
        assert_eq!(Spread::of(&[1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of(&[]).median, 0.0);
    }

    #[test]
    fn numbers_are_told_with_commas() {
        assert_eq!(thousands(999.6), "1,000");
        assert_eq!(thousands(1_234_567.0), "1,234,567");
        assert_eq!(thousands(12.0), "12");
        assert_eq!(thousands(-123.0), "-123");
    }

    #[test]
    fn sizes_are_told_in_the_largest_unit_that_divides_them() {
        assert_eq!(
            [0, 1_000, 1 << 10, 100 << 10, 1 << 20].map(size),
            ["0 B", "1000 B", "1 KiB", "100 KiB", "1 MiB"]
        );
    }

    #[test]
    fn a_percentile_is_one_of_the_times() {
        let mut times: Vec<_> = (1..=101).rev().map(Duration::from_millis).collect();
        assert_eq!(percentile(&mut times, 0.99), Duration::from_millis(100));
        assert_eq!(percentile(&mut times, 1.0), Duration::from_millis(101));
        assert_eq!(percentile(&mut [], 0.5), Duration::ZERO);
    }
}
