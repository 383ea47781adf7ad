//! What is told while it runs.

use std::collections::BTreeSet;

use locus_benches::{
    cycles::{Contender, Outcome},
    size, thousands,
};

/// How everybody is set up, but for what was `told` before.
pub(crate) fn settings(contenders: &[Box<dyn Contender>], told: &mut BTreeSet<String>) {
    for contender in contenders {
        let label = contender.label();
        let (kind, completions) = (label.kind.name(), label.promise.completions());
        let line = format!("- {} ({kind}, completions {completions}): {}", label.name, contender.settings());
        if !told.contains(&line) {
            println!("{line}");
            told.insert(line);
        }
    }
    println!();
}

/// A table of one cell.
pub(crate) fn cell(outcomes: &mut [Outcome]) {
    let Some(first) = outcomes.first() else { return };
    println!(
        "### {}, {} / {} in flight\n",
        first.label.promise.durability(),
        size(first.size_bytes),
        first.in_flight
    );
    println!("| | kind | completions | cycles/s: median (lowest..highest) | p99 of a cycle, us |");
    println!("|---|---|---|---|---|");
    for outcome in outcomes {
        let (rates, p99) = (outcome.cycles_per_second(), outcome.p99());
        let label = &outcome.label;
        let (kind, completions) = (label.kind.name(), label.promise.completions());
        println!("| {} | {kind} | {completions} | {rates} | {} |", label.name, thousands(p99));
    }
    println!();
}
