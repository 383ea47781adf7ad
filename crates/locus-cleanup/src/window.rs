//! A time of the day.

use std::{fmt, str::FromStr, time::Duration};

use locus_core::Timestamp;
use serde::{Deserialize, Serialize};

const DAY_MINUTES: u16 = 24 * 60;
const MINUTE_MICROS: i64 = 60_000_000;

/// From one minute of the day to another, in UTC, perhaps over midnight: `22:00-04:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// Minutes since midnight.
    from: u16,
    /// Not part of it any more.
    to: u16,
}

/// What is wrong with a text that should be a [`Window`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no time of the day: use two times that differ, in UTC, such as 02:00-04:30")]
pub struct NotAWindow {
    text: String,
}

impl Window {
    /// How long from `now` on until it is that time; zero while it is.
    #[must_use]
    pub fn opens_in(&self, now: Timestamp) -> Duration {
        let day = i64::from(DAY_MINUTES) * MINUTE_MICROS;
        let of_day = now.as_micros().rem_euclid(day);
        let since = |minute: u16| (of_day - i64::from(minute) * MINUTE_MICROS).rem_euclid(day);
        if since(self.from) < since(self.to) {
            return Duration::ZERO;
        }
        let wait = day - since(self.from);
        Duration::from_micros(wait.unsigned_abs())
    }
}

impl FromStr for Window {
    type Err = NotAWindow;

    fn from_str(text: &str) -> Result<Self, NotAWindow> {
        let time = |text: &str| -> Option<u16> {
            let (hours, minutes) = text.trim().split_once(':')?;
            let two_digits = |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            if !two_digits(hours) || !two_digits(minutes) {
                return None;
            }
            let (hours, minutes) = (hours.parse::<u16>().ok()?, minutes.parse::<u16>().ok()?);
            (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
        };
        let parse = || {
            let (from, to) = text.split_once('-')?;
            let (from, to) = (time(from)?, time(to)?);
            (from != to).then_some(Self { from, to })
        };
        parse().ok_or_else(|| NotAWindow { text: text.to_owned() })
    }
}

impl TryFrom<String> for Window {
    type Error = NotAWindow;

    fn try_from(text: String) -> Result<Self, NotAWindow> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("02:00-04:30", 1, 59, 60)]
    #[case("02:00-04:30", 2, 0, 0)]
    #[case("02:00-04:30", 4, 29, 0)]
    #[case("02:00-04:30", 4, 30, 21 * 3600 + 1800)]
    #[case("22:00-04:30", 23, 0, 0)]
    #[case("22:00-04:30", 3, 0, 0)]
    #[case("22:00-04:30", 5, 0, 17 * 3600)]
    fn b80_it_is_known_when_the_time_comes(
        #[case] window: &str,
        #[case] hour: i64,
        #[case] minute: i64,
        #[case] seconds: u64,
    ) {
        let window: Window = window.parse().unwrap();
        for days in [-3, 0, 20_000] {
            let now = Timestamp::from_micros((days * 24 * 60 + hour * 60 + minute) * MINUTE_MICROS);
            assert_eq!(window.opens_in(now), Duration::from_secs(seconds));
        }
    }

    #[rstest]
    fn what_is_no_time_of_the_day_is_refused(
        #[values(
            "",
            "2",
            "02:00",
            "2:00-3:00",
            "02:00-24:00",
            "02:60-03:00",
            "02:00-02:00",
            "a-b",
            "+1:00-02:00"
        )]
        text: &str,
    ) {
        assert!(text.parse::<Window>().is_err());
    }

    #[test]
    fn a_window_is_read_as_it_is_written() {
        for text in ["02:00-04:30", "22:15-00:00"] {
            assert_eq!(text.parse::<Window>().unwrap().to_string(), text);
        }
    }
}
