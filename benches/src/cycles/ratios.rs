//! Locus over the floor and over the best of its rivals.

use super::{Kind, Outcome};
use crate::{Spread, thousands};

/// Locus over one of the others, turn by turn.
#[derive(Debug)]
pub struct Ratio<'a> {
    /// The other.
    pub over: &'a Outcome,
    /// Locus's rate over the other's, in each turn.
    pub times: Spread,
}

impl<'a> Ratio<'a> {
    fn of(locus: &Outcome, over: &'a Outcome) -> Self {
        let each = locus.rates.iter().zip(&over.rates).map(|(locus, other)| locus / other);
        Self { over, times: Spread::of(&each.collect::<Vec<_>>()) }
    }

    fn told(ratio: Option<Self>) -> String {
        ratio.map_or("-".into(), |Self { over, times }| {
            let Spread { median, min, max } = times;
            format!(
                "**{median:.2}** ({min:.2}..{max:.2}) {} {}",
                over.label.name,
                thousands(over.cycles_per_second().median)
            )
        })
    }
}

/// Of one Locus: over its floor, over the best tuned rival, over the best stock rival; each `None` where there is none that
/// promises as much.
#[must_use]
pub fn ratios<'a>(locus: &Outcome, all: &'a [Outcome]) -> [Option<Ratio<'a>>; 3] {
    let best = |is_meant: &dyn Fn(Kind) -> bool| {
        all.iter()
            .filter(|other| is_meant(other.label.kind))
            .filter(|other| (other.size_bytes, other.in_flight) == (locus.size_bytes, locus.in_flight))
            .filter(|other| other.label.promise.is_rival_of(locus.label.promise))
            .max_by(|a, b| a.cycles_per_second().median.total_cmp(&b.cycles_per_second().median))
            .map(|other| Ratio::of(locus, other))
    };
    let floor = |kind: Kind| matches!((kind, locus.label.kind), (Kind::Floor(a), Kind::Locus(b)) if a == b);
    let floor = all
        .iter()
        .filter(|other| floor(other.label.kind) && other.label.promise == locus.label.promise)
        .find(|other| (other.size_bytes, other.in_flight) == (locus.size_bytes, locus.in_flight))
        .map(|other| Ratio::of(locus, other));
    [floor, best(&|kind| kind == Kind::Tuned), best(&|kind| kind == Kind::Stock)]
}

/// The table of ratios, a row for each Locus in each cell; empty without any Locus.
#[must_use]
pub fn ratio_table(all: &[Outcome]) -> String {
    let mut rows = String::new();
    for locus in all.iter().filter(|one| matches!(one.label.kind, Kind::Locus(_))) {
        let [floor, tuned, stock] = ratios(locus, all).map(Ratio::told);
        let promise = locus.label.promise;
        rows += &format!(
            "| {}, {} completions | {} / {} | {} | {} | {floor} | {tuned} | {stock} |\n",
            promise.durability(),
            promise.completions(),
            crate::size(locus.size_bytes),
            locus.in_flight,
            locus.label.name,
            thousands(locus.cycles_per_second().median),
        );
    }
    if rows.is_empty() {
        return rows;
    }
    format!(
        "| promise | size / in flight | Locus | cycles/s | over its floor | over the best tuned rival | over the best stock rival |\n\
         |---|---|---|---|---|---|---|\n{rows}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cycles::{Label, Promise, Rests};

    fn outcome(name: &str, kind: Kind, promise: Promise, rates: &[f64]) -> Outcome {
        let mut outcome = Outcome::new(Label::new(name, kind, promise), 1_024, 64);
        outcome.rates = rates.to_vec();
        outcome
    }

    fn all() -> Vec<Outcome> {
        let (durable, lazy) = (Promise::Durable, Promise::LazyCompletions);
        let mut elsewhere = outcome("elsewhere", Kind::Tuned, lazy, &[1e9]);
        elsewhere.in_flight = 1;
        vec![
            outcome("Locus", Kind::Locus(Rests::Journal), lazy, &[100.0, 300.0, 200.0]),
            outcome("log floor", Kind::Floor(Rests::Journal), lazy, &[200.0, 300.0, 400.0]),
            outcome("log floor, all synced", Kind::Floor(Rests::Journal), durable, &[1.0]),
            outcome("file floor", Kind::Floor(Rests::File), lazy, &[1e9]),
            outcome("leaner", Kind::LeanFloor, lazy, &[1e9]),
            outcome("slow", Kind::Tuned, lazy, &[10.0, 10.0, 10.0]),
            outcome("fast, and more is promised", Kind::Tuned, durable, &[50.0, 100.0, 100.0]),
            outcome("buffered", Kind::Stock, Promise::Buffered, &[1e9]),
            elsewhere,
        ]
    }

    #[test]
    fn locus_is_held_against_its_own_floor_and_the_best_who_promises_as_much() {
        let all = all();
        let [floor, tuned, stock] = ratios(&all[0], &all);
        let floor = floor.unwrap();
        assert_eq!((floor.over.label.name.as_str(), floor.times.median), ("log floor", 0.5));
        let tuned = tuned.unwrap();
        assert_eq!(tuned.over.label.name, "fast, and more is promised");
        assert_eq!((tuned.times.min, tuned.times.median, tuned.times.max), (2.0, 2.0, 3.0));
        assert!(stock.is_none());
    }

    #[test]
    fn the_table_has_a_row_for_each_locus() {
        let table = ratio_table(&all());
        assert_eq!(table.lines().count(), 3);
        let row = table.lines().last().unwrap();
        assert_eq!(
            row,
            "| durable, lazy completions | 1 KiB / 64 | Locus | 200 | **0.50** (0.50..1.00) log floor 300 \
             | **2.00** (2.00..3.00) fast, and more is promised 100 | - |"
        );
        assert_eq!(ratio_table(&all()[1..]), "");
    }
}
