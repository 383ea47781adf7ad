//! What one contender reached at one size with so many in flight.

use std::time::Duration;

use serde::Serialize;

use super::{Label, Round};
use crate::{Spread, percentile, rate};

/// What one contender reached at one size with so many in flight, turn by turn.
#[derive(Debug)]
pub struct Outcome {
    /// Who.
    pub label: Label,
    /// Of each content.
    pub size_bytes: usize,
    /// Cycles at the same time.
    pub in_flight: usize,
    /// Cycles per second, of each turn in its order.
    pub rates: Vec<f64>,
    /// Of each cycle of all turns.
    times: Vec<Duration>,
}

impl Outcome {
    /// Without any turn.
    #[must_use]
    pub fn new(label: Label, size_bytes: usize, in_flight: usize) -> Self {
        Self { label, size_bytes, in_flight, rates: Vec::new(), times: Vec::new() }
    }

    /// Adds a turn.
    pub fn add(&mut self, round: Round) {
        self.rates.push(rate(round.times.len() as u64, round.took));
        self.times.extend(round.times);
    }

    /// Cycles per second.
    #[must_use]
    pub fn cycles_per_second(&self) -> Spread {
        Spread::of(&self.rates)
    }

    /// 99 % of all cycles took no longer, in microseconds.
    pub fn p99(&mut self) -> f64 {
        percentile(&mut self.times, 0.99).as_secs_f64() * 1e6
    }

    /// As it is told to programs.
    pub fn cell(&mut self, file_system: &str) -> Cell {
        let p99_us = self.p99();
        Cell {
            name: self.label.name.clone(),
            kind: self.label.kind.name(),
            durability: self.label.promise.durability(),
            completions: self.label.promise.completions(),
            size_bytes: self.size_bytes,
            in_flight: self.in_flight,
            cycles_per_second: self.cycles_per_second().median,
            p99_us,
            runs: self.rates.len(),
            file_system: file_system.into(),
        }
    }
}

/// What `--json` tells of a contender at one size with so many in flight.
#[derive(Debug, Serialize)]
pub struct Cell {
    name: String,
    /// `locus`, `floor` or `rival`.
    kind: &'static str,
    /// `durable` or `buffered`.
    durability: &'static str,
    /// `durable` or `lazy`.
    completions: &'static str,
    size_bytes: usize,
    in_flight: usize,
    /// Median of the runs.
    cycles_per_second: f64,
    /// Of a cycle, over all runs, in microseconds.
    p99_us: f64,
    /// How many.
    runs: usize,
    file_system: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycles::{Kind, Promise};

    #[test]
    fn a_cell_has_the_fields_that_programs_expect() {
        let label = Label::new("redb", Kind::Tuned, Promise::LazyCompletions);
        let mut outcome = Outcome::new(label, 1_024, 64);
        for cycles in [100, 300, 200] {
            let times = vec![Duration::from_micros(cycles); cycles as usize];
            outcome.add(Round { took: Duration::from_secs(1), times });
        }
        let said = serde_json::to_value([outcome.cell("ext4 with a journal")]).unwrap();
        let meant = serde_json::json!([{
            "name": "redb",
            "kind": "rival",
            "durability": "durable",
            "completions": "lazy",
            "size_bytes": 1_024,
            "in_flight": 64,
            "cycles_per_second": 200.0,
            "p99_us": 300.0,
            "runs": 3,
            "file_system": "ext4 with a journal",
        }]);
        assert_eq!(said, meant);
    }
}
