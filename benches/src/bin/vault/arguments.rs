//! What is asked for.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use locus_benches::{cycles::Form, size};

use crate::entrants::Call;

/// The vault beside the same bytes written and read bare, with the same syncs, and the cipher over them; its JSON and its
/// schemas apart; its locks.
///
/// Without arguments: 4 KiB, 64 KiB and 1 MiB, 1 and 16 in flight, in about two minutes.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// The long form: more and longer rounds
    #[arg(long)]
    full: bool,
    /// Where the data rests meanwhile
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) dir: PathBuf,
    /// The last line of the output is an array of all cells
    #[arg(long)]
    pub(crate) json: bool,
    /// Only these parts
    #[arg(long, value_name = "PART", value_delimiter = ',')]
    only: Vec<Part>,
    /// Bytes of a content: 1 to 16777216
    #[arg(long, value_name = "BYTES", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=16 << 20))]
    size: Vec<u32>,
    /// Calls at the same time: 1 to 64
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=64))]
    in_flight: Vec<u16>,
    /// Length of a round, in milliseconds: 10 to 600000
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(10..=600_000))]
    millis: Option<u64>,
    /// Rounds of each contender in each cell: 1 to 1000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: Option<u16>,
}

/// A part of the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Durable writes
    Put,
    /// Reads
    Get,
    /// Locks of a thousand entities
    Locks,
}

/// Which cells are run, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sizes: Vec<usize>,
    pub(crate) in_flight: Vec<usize>,
    pub(crate) form: Form,
}

impl Arguments {
    /// Those that are meant, in their order.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let all = Part::value_variants().iter().copied();
        all.filter(|part| self.only.is_empty() || self.only.contains(part)).collect()
    }

    /// The form that is meant, narrowed to what is asked for.
    pub(crate) fn plan(&self) -> Plan {
        let form = if self.full {
            Form { round: Duration::from_secs(1), runs: 7 }
        } else {
            Form { round: Duration::from_millis(300), runs: 3 }
        };
        let sizes = self.size.iter().map(|bytes| *bytes as usize).collect::<Vec<_>>();
        let in_flight = self.in_flight.iter().map(|n| usize::from(*n)).collect::<Vec<_>>();
        Plan {
            sizes: if sizes.is_empty() { vec![4 << 10, 64 << 10, 1 << 20] } else { sizes },
            in_flight: if in_flight.is_empty() { vec![1, 16] } else { in_flight },
            form: Form {
                round: self.millis.map_or(form.round, Duration::from_millis),
                runs: self.runs.map_or(form.runs, usize::from),
            },
        }
    }
}

impl Part {
    /// The calls that it makes, when these are held against others.
    pub(crate) fn call(self) -> Option<Call> {
        match self {
            Self::Put => Some(Call::Put),
            Self::Get => Some(Call::Get),
            Self::Locks => None,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.sizes.iter().map(|bytes| size(*bytes)).collect::<Vec<_>>().join(", ");
        let in_flight = self.in_flight.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let Form { round, runs } = self.form;
        write!(f, "{runs} of {round:?} each, in turns; contents of {sizes}; {in_flight} in flight")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(format!("vault {words}").split_whitespace())
    }

    #[test]
    fn every_form_has_all_sizes_and_both_numbers_in_flight() {
        for words in ["", "--full"] {
            let plan = parse(words).unwrap().plan();
            assert_eq!((plan.sizes, plan.in_flight), (vec![4 << 10, 64 << 10, 1 << 20], vec![1, 16]));
        }
    }

    #[test]
    fn a_form_can_be_narrowed() {
        let asked =
            parse("--full --size 512,4096 --in-flight 8 --millis 50 --runs 9 --only locks,put").unwrap();
        let plan = asked.plan();
        assert_eq!((plan.sizes, plan.in_flight), (vec![512, 4_096], vec![8]));
        assert_eq!((plan.form.round, plan.form.runs), (Duration::from_millis(50), 9));
        assert_eq!(asked.parts(), [Part::Put, Part::Locks]);
    }

    #[test]
    fn what_cannot_be_is_told() {
        for (words, said) in [
            ("--size 0", "1..=16777216"),
            ("--in-flight 65", "1..=64"),
            ("--millis 9", "10..=600000"),
            ("--runs 0", "1..=1000"),
            ("--only delete", "possible values: put, get, locks"),
        ] {
            let error = parse(words).expect_err(words).to_string();
            assert!(error.contains(said), "{words}: {error}");
        }
    }
}
