//! Cycles (write, lease, read, complete of one file) of Locus through its public facade, of the floors, and of what a user would
//! take instead, in turns: `cargo run --release -p locus-benches --features rivals --bin rivals -- --help`.

mod arguments;
mod chart;
mod contenders;
mod entrants;
mod report;

use std::{collections::BTreeSet, process::ExitCode};

use clap::Parser;
use locus_benches::{
    BoxError, Ground,
    cycles::{Contest, content, ratio_table},
};
use tokio::runtime::Runtime;

use self::arguments::Arguments;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(failed) if failed.is_empty() => ExitCode::SUCCESS,
        Ok(failed) => {
            failed.iter().for_each(|what| eprintln!("failed: {what}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Gives what failed.
fn run(arguments: &Arguments) -> Result<Vec<String>, BoxError> {
    let plan = arguments.plan();
    entrants::check(&arguments.wanted.only)?;
    let ground = Ground::below(&arguments.dir)?;
    ground.open_to_others()?; // servers run as somebody else
    println!("# Cycles per second\n\n{ground}\nrounds:      {plan}\n");
    let runtime = Runtime::new()?;
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    let mut told = BTreeSet::new();
    for (durability, size) in plan.sheets() {
        println!("## {durability}, {}\n", locus_benches::size(size));
        // Opened anew for each size: what one leaves behind is no other's burden, and does not fill the disk.
        let dir = ground.path().join(format!("{durability}-{size}"));
        let entered = entrants::enter(&dir, durability, size, &arguments.wanted, runtime.handle())?;
        if entered.is_empty() {
            println!("nobody who is wanted takes part here\n");
            continue;
        }
        report::settings(&entered, &mut told);
        let mut contest = Contest::new(&ground, plan.form, entered);
        let content = content(size);
        for in_flight in &plan.in_flight {
            let mut outcomes = contest.cell(&content, *in_flight)?;
            report::cell(&mut outcomes);
            all.extend(outcomes);
        }
        let (said, broken) = contest.close();
        said.iter().for_each(|words| println!("- {words}"));
        failed.extend(broken);
        std::fs::remove_dir_all(dir)?;
        println!();
    }

    if all.is_empty() && failed.is_empty() {
        return Err("nobody who is wanted took part".into());
    }
    println!(
        "## Ratios\n\nLocus over the others of the same run, taken turn by turn: median (lowest..highest), who, its cycles/s.\n"
    );
    println!("{}", ratio_table(&all));
    for path in chart::write(&all, &arguments.out)? {
        println!("chart: {}", path.display());
    }
    if arguments.json {
        let file_system = ground.file_system();
        let cells = all.iter_mut().map(|outcome| outcome.cell(&file_system)).collect::<Vec<_>>();
        println!("{}", serde_json::to_string(&cells)?);
    }
    Ok(failed)
}
