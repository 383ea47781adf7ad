//! Whether a share is there: some failures in a row to lose it, some successes in a row to trust it again.

use std::borrow::Cow;

/// How many, in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Manners {
    pub(crate) failures_to_down: u32,
    pub(crate) successes_to_up: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Health {
    Up { failures: u32 },
    Down { why: Cow<'static, str>, successes: u32 },
}

impl Health {
    /// Takes what came of a call; `true` when the share went or came back.
    pub(crate) fn saw(&mut self, manners: Manners, failed: Option<Cow<'static, str>>) -> bool {
        match (&mut *self, failed) {
            (Self::Up { failures }, None) => *failures = 0,
            (Self::Up { failures }, Some(why)) => {
                *failures = failures.saturating_add(1);
                if *failures >= manners.failures_to_down {
                    *self = Self::Down { why, successes: 0 };
                    return true;
                }
            }
            (Self::Down { successes, .. }, None) => {
                *successes = successes.saturating_add(1);
                if *successes >= manners.successes_to_up {
                    *self = Self::Up { failures: 0 };
                    return true;
                }
            }
            (Self::Down { why, successes }, Some(again)) => (*why, *successes) = (again, 0),
        }
        false
    }

    /// Why the share is not there.
    pub(crate) fn why(&self) -> Option<Cow<'static, str>> {
        match self {
            Self::Up { .. } => None,
            Self::Down { why, .. } => Some(why.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// `+` a success, `-` a failure: after all of them, is it up?
    #[rstest]
    #[case("", true)]
    #[case("--", true)]
    #[case("---", false)]
    #[case("--+--", true)]
    #[case("---+", false)]
    #[case("---++", true)]
    #[case("---+-+", false)]
    #[case("---+-++", true)]
    #[case("---++--", true)]
    fn a_share_is_lost_by_failures_in_a_row_and_trusted_after_successes_in_a_row(
        #[case] seen: &str,
        #[case] is_up: bool,
    ) {
        let manners = Manners { failures_to_down: 3, successes_to_up: 2 };
        let mut health = Health::Up { failures: 0 };
        for one in seen.chars() {
            health.saw(manners, (one == '-').then_some("failed".into()));
        }
        assert_eq!(health.why().is_none(), is_up, "{seen}");
    }
}
