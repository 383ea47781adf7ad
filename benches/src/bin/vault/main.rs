//! The vault beside the same bytes written and read bare, with the same syncs, and the cipher over them; its JSON and its
//! schemas apart; its locks: `cargo run --release -p locus-benches --bin vault -- --help`.

mod arguments;
mod bare;
mod entrants;
mod json;
mod locks;
mod ours;
mod report;
mod slots;

use std::{process::ExitCode, sync::Arc};

use clap::Parser;
use locus_benches::{
    BoxError, Ground,
    cycles::{Contest, Outcome, content},
    size,
};
use locus_vault::{Argon2Cost, Keyring, KeyringFile, NewRecipient, Passphrase};
use tokio::runtime::Runtime;

use self::{
    arguments::{Arguments, Part},
    entrants::Call,
};

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
    let ground = Ground::below(&arguments.dir)?;
    println!("# The vault\n\n{ground}\nrounds:      {plan}\n");
    let runtime = Runtime::new()?;
    let ring = Arc::new(runtime.block_on(draw_ring(&ground))?);
    let (mut told, mut failed) = (Vec::new(), Vec::new());
    for call in arguments.parts().into_iter().filter_map(Part::call) {
        let (all, broken) = contest(call, arguments, &ground, &ring, &runtime)?;
        report::ratios(call, &all);
        failed.extend(broken);
        let file_system = ground.file_system();
        for mut outcome in all {
            told.push(serde_json::to_value(outcome.cell(&file_system))?);
        }
    }
    if arguments.parts().contains(&Part::Locks) {
        let figures = locks::run(&ground, plan.form, &ring, &runtime)?;
        told.extend(figures.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?);
    }
    if arguments.json {
        println!("{}", serde_json::to_string(&told)?);
    }
    Ok(failed)
}

/// One kind of call at all sizes, with all numbers in flight.
fn contest(
    call: Call,
    arguments: &Arguments,
    ground: &Ground,
    ring: &Arc<Keyring>,
    runtime: &Runtime,
) -> Result<(Vec<Outcome>, Vec<String>), BoxError> {
    let plan = arguments.plan();
    let (mut all, mut failed) = (Vec::new(), Vec::new());
    println!("## {}\n", call.title());
    for (first, bytes) in plan.sizes.iter().enumerate().map(|(at, bytes)| (at == 0, *bytes)) {
        let dir = ground.path().join(format!("{}-{bytes}", call.name()));
        let content = content(bytes);
        let entered = entrants::enter(call, &dir, &content, ring, runtime)?;
        if first {
            report::settings(&entered);
        }
        let mut contest = Contest::new(ground, plan.form, entered);
        for in_flight in &plan.in_flight {
            println!("### {}, {} / {in_flight} in flight\n", call.name(), size(bytes));
            let mut outcomes = contest.cell(&content, *in_flight)?;
            report::cell(&mut outcomes);
            all.extend(outcomes);
        }
        failed.extend(contest.close().1);
        std::fs::remove_dir_all(dir)?;
    }
    Ok((all, failed))
}

/// Keys for the run. Nobody guesses at this passphrase: it costs as little as it can.
async fn draw_ring(ground: &Ground) -> Result<Keyring, BoxError> {
    let passphrase = Passphrase::new(b"of no secret").ok_or("an empty passphrase")?;
    let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let first = NewRecipient::passphrase("bench", passphrase).cost(cost);
    Ok(KeyringFile::at(ground.path().join("keyring")).create(first).await?)
}
