//! What is told while it runs.

use locus_benches::{
    Spread,
    cycles::{Contender, Kind, Outcome, ratios as over_floor},
    size, thousands,
};

use crate::entrants::Call;

/// How everybody is set up.
pub(crate) fn settings(contenders: &[Box<dyn Contender>]) {
    for contender in contenders {
        println!("- {}: {}", contender.label().name, contender.settings());
    }
    println!();
}

/// A table of one cell.
pub(crate) fn cell(outcomes: &mut [Outcome]) {
    println!("| | calls/s: median (lowest..highest) | p99 of a call, us |\n|---|---|---|");
    for outcome in outcomes {
        let (rates, p99) = (outcome.cycles_per_second(), outcome.p99());
        println!("| {} | {rates} | {} |", outcome.label.name, thousands(p99));
    }
    println!();
}

/// The vault over the floor, turn by turn, and over the others.
pub(crate) fn ratios(call: Call, all: &[Outcome]) {
    println!("### {}: the vault over the others, turn by turn: median (lowest..highest)\n", call.name());
    print!("{}", ratio_table(all));
    println!();
}

fn ratio_table(all: &[Outcome]) -> String {
    let mut table = String::new();
    for ours in all.iter().filter(|one| matches!(one.label.kind, Kind::Locus(_))) {
        let others = all.iter().filter(|other| {
            (other.size_bytes, other.in_flight) == (ours.size_bytes, ours.in_flight)
                && other.label.kind == Kind::LeanFloor
        });
        let others = others.collect::<Vec<_>>();
        if table.is_empty() {
            let heads = others.iter().map(|other| format!(" {} |", other.label.name)).collect::<String>();
            table = format!("| size / in flight | vault, calls/s | bare |{heads}\n|---|---|---|");
            table += &format!("{}\n", "---|".repeat(others.len()));
        }
        let [floor, ..] = over_floor(ours, all);
        let floor = floor.map_or("-".into(), |ratio| {
            let Spread { median, min, max } = ratio.times;
            format!("**{median:.2}** ({min:.2}..{max:.2})")
        });
        let others = others.iter().map(|other| {
            let each = ours.rates.iter().zip(&other.rates).map(|(ours, other)| ours / other);
            format!(" {} |", Spread::of(&each.collect::<Vec<_>>()))
        });
        table += &format!(
            "| {} / {} | {} | {floor} |{}\n",
            size(ours.size_bytes),
            ours.in_flight,
            thousands(ours.cycles_per_second().median),
            others.collect::<String>(),
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use locus_benches::cycles::{Label, Promise, Rests};

    use super::*;

    #[test]
    fn the_vault_is_held_against_all_of_its_cell() {
        let outcome = |name: &str, kind, in_flight, rates: &[f64]| {
            let mut outcome = Outcome::new(Label::new(name, kind, Promise::Durable), 4_096, in_flight);
            outcome.rates = rates.to_vec();
            outcome
        };
        let all = [
            outcome("vault", Kind::Locus(Rests::File), 1, &[80.0, 90.0, 300.0]),
            outcome("bare", Kind::Floor(Rests::File), 1, &[100.0, 100.0, 200.0]),
            outcome("leaner", Kind::LeanFloor, 1, &[160.0, 180.0, 600.0]),
            outcome("bare", Kind::Floor(Rests::File), 16, &[1e9]),
        ];
        let meant = "\
| size / in flight | vault, calls/s | bare | leaner |
|---|---|---|---|
| 4 KiB / 1 | 90 | **0.90** (0.80..1.50) | 0.50 (0.50..0.50) |
";
        assert_eq!(ratio_table(&all), meant);
        assert_eq!(ratio_table(&all[1..]), "");
    }
}
