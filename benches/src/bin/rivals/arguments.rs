//! What is asked for.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use locus_benches::{cycles::Form, size};

use crate::entrants::Wanted;

/// Cycles (write, lease, read, complete of one file) of Locus, of floors and of rivals, in turns.
///
/// Without arguments: 1 and 100 KiB, 1 and 64 in flight, durable, in under three minutes.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// The long form: 1, 16, 100 KiB and 1 MiB; 1, 8 and 64 in flight; durable and buffered
    #[arg(long)]
    full: bool,
    /// Where the data rests meanwhile
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub(crate) dir: PathBuf,
    /// The last line of the output is an array of all cells
    #[arg(long)]
    pub(crate) json: bool,
    /// Where charts are written
    #[arg(long, value_name = "DIR", default_value = "target/rivals")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Bytes of a content, such as 512, 16KiB or 1MiB: 1 byte to 64 MiB
    #[arg(long, value_name = "SIZE", value_delimiter = ',', value_parser = parse_size)]
    size: Vec<usize>,
    /// Cycles at the same time: 1 to 128
    #[arg(long, value_name = "N", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=128))]
    in_flight: Vec<u16>,
    /// What writes promise
    #[arg(long, value_name = "WHICH", value_delimiter = ',')]
    durability: Vec<Durability>,
    /// Length of a round: 0.01 to 600
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    seconds: Option<Duration>,
    /// Rounds of each contender in each cell: 1 to 1000
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    runs: Option<u16>,
}

/// What writes promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Durability {
    /// Content and record survive power loss
    Durable,
    /// Content and record are handed to the kernel
    Buffered,
}

/// Which cells are run, and how.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) sizes: Vec<usize>,
    pub(crate) in_flight: Vec<usize>,
    pub(crate) durabilities: Vec<Durability>,
    pub(crate) form: Form,
}

impl Arguments {
    /// The form that is meant, narrowed to what is asked for.
    pub(crate) fn plan(&self) -> Plan {
        let quick = Plan {
            sizes: vec![1 << 10, 100 << 10],
            in_flight: vec![1, 64],
            durabilities: vec![Durability::Durable],
            form: Form { round: Duration::from_millis(200), runs: 3 },
        };
        let full = Plan {
            sizes: vec![1 << 10, 16 << 10, 100 << 10, 1 << 20],
            in_flight: vec![1, 8, 64],
            durabilities: vec![Durability::Durable, Durability::Buffered],
            form: Form { round: Duration::from_millis(750), runs: 5 },
        };
        let form = if self.full { full } else { quick };
        let or = |asked: &[usize], meant| if asked.is_empty() { meant } else { asked.to_vec() };
        let in_flight = self.in_flight.iter().map(|n| usize::from(*n)).collect::<Vec<_>>();
        Plan {
            sizes: or(&self.size, form.sizes),
            in_flight: or(&in_flight, form.in_flight),
            durabilities: if self.durability.is_empty() {
                form.durabilities
            } else {
                self.durability.clone()
            },
            form: Form {
                round: self.seconds.unwrap_or(form.form.round),
                runs: self.runs.map_or(form.form.runs, usize::from),
            },
        }
    }
}

impl Plan {
    /// Each durability with each size.
    pub(crate) fn sheets(&self) -> impl Iterator<Item = (Durability, usize)> {
        self.durabilities.iter().flat_map(|durability| self.sizes.iter().map(|size| (*durability, *size)))
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

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Durable { "durable" } else { "buffered" })
    }
}

fn parse_size(text: &str) -> Result<usize, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = match text[digits.len()..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        _ => return Err("say bytes, KiB or MiB".into()),
    };
    let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
    match bytes {
        Some(bytes @ 1..=0x400_0000) => Ok(bytes),
        Some(_) => Err("it is not within 1 byte and 64 MiB".into()),
        None => Err("it is no whole number".into()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| "it is no number")?;
    if (0.01..=600.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("it is not within 0.01 and 600".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(format!("rivals {words}").split_whitespace())
    }

    #[test]
    fn the_quick_form_is_small_and_the_full_one_has_every_cell() {
        let quick = parse("").unwrap().plan();
        assert_eq!((quick.sizes, quick.in_flight), (vec![1_024, 102_400], vec![1, 64]));
        assert_eq!(quick.durabilities, [Durability::Durable]);
        let full = parse("--full").unwrap().plan();
        assert_eq!(full.sheets().count() * full.in_flight.len(), 24);
    }

    #[test]
    fn a_form_can_be_narrowed() {
        let plan =
            parse("--full --size 512,16KiB --in-flight 8 --durability buffered --seconds 0.5 --runs 9");
        let plan = plan.unwrap().plan();
        assert_eq!((plan.sizes, plan.in_flight), (vec![512, 16 << 10], vec![8]));
        assert_eq!(plan.durabilities, [Durability::Buffered]);
        assert_eq!((plan.form.round, plan.form.runs), (Duration::from_millis(500), 9));
    }

    #[test]
    fn what_is_out_of_range_is_told_with_its_range() {
        for (words, said) in [
            ("--size 0", "within 1 byte and 64 MiB"),
            ("--size 65MiB", "within 1 byte and 64 MiB"),
            ("--size 99999999999999999999", "no whole number"),
            ("--size KiB", "no whole number"),
            ("--size 1GiB", "say bytes, KiB or MiB"),
            ("--in-flight 0", "1..=128"),
            ("--in-flight 129", "1..=128"),
            ("--seconds 0", "within 0.01 and 600"),
            ("--seconds NaN", "within 0.01 and 600"),
            ("--seconds soon", "no number"),
            ("--runs 0", "1..=1000"),
            ("--durability maybe", "durable, buffered"),
            ("--completions never", "durable, lazy"),
            ("--quick", "unexpected argument"),
        ] {
            let error = parse(words).expect_err(words).to_string();
            assert!(error.contains(said), "{words}: {error}");
        }
    }
}
