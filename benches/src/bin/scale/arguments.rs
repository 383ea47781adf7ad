//! What is asked for.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::pending::Many;

/// Much of everything: pending files, tenants, a backlog, and the scenarios that the original published.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// The long form: up to 10,000,000 pending files and 10,000 tenants
    #[arg(long)]
    pub(crate) full: bool,
    /// Where the data rests meanwhile
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) dir: PathBuf,
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Pending files: 1000 to 10000000, instead of those of the form
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    pub(crate) pending: Vec<u64>,
    /// One row of the table of pending files, as `records:1000` or `contents:1000`: a process each, so that none counts what another
    /// gave back
    #[arg(long, hide = true)]
    pub(crate) row: Option<Many>,
}

/// A part of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Memory, opening, leases and checkpoints with ever more pending files
    Pending,
    /// CPU time of tenants without work
    Idle,
    /// Many tenants with work beside one
    Busy,
    /// More content than the landing zone holds
    Backlog,
    /// What the original published
    Published,
}

impl Arguments {
    /// Those that are meant, in their order.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let all = Part::value_variants().iter().copied();
        all.filter(|part| self.only.is_empty() || self.only.contains(part)).collect()
    }
}

impl Part {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Backlog => "backlog",
            Self::Published => "published",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Pending => "Pending files",
            Self::Idle => "Idle tenants",
            Self::Busy => "Busy tenants",
            Self::Backlog => "A backlog that outgrows the landing zone",
            Self::Published => "What the original published",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(format!("scale {words}").split_whitespace())
    }

    #[test]
    fn parts_come_in_their_order_and_all_of_them_unless_asked() {
        assert_eq!(parse("").unwrap().parts().len(), 5);
        assert_eq!(parse("--only busy,idle").unwrap().parts(), [Part::Idle, Part::Busy]);
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (words, said) in [
            ("--only quick", "possible values: pending, idle, busy, backlog, published"),
            ("--pending 999", "1000..=10000000"),
            ("--pending many", "invalid digit"),
            ("--row records", "records:1000"),
            ("--row files:1000", "records:1000"),
        ] {
            let error = parse(words).expect_err(words).to_string();
            assert!(error.contains(said), "{words}: {error}");
        }
    }
}
