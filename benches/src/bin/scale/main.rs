//! Much of everything: pending files, tenants, a backlog, and the scenarios that the original published:
//! `cargo run --release -p locus-benches --bin scale -- --help`.

mod arguments;
mod backlog;
mod busy;
mod idle;
mod pending;
mod published;

use std::process::ExitCode;

use clap::Parser;
use locus_benches::{BoxError, Ground};
use tokio::runtime::Runtime;

use self::arguments::{Arguments, Part};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), BoxError> {
    let ground = Ground::below(&arguments.dir)?;
    if let Some(many) = &arguments.row {
        return Runtime::new()?.block_on(pending::row(many, &ground));
    }
    println!("# Scale\n\n{ground}\nsettings:    defaults but for what is said\n");
    for part in arguments.parts() {
        let full = arguments.full;
        let dir = ground.path().join(part.name());
        println!("## {}\n", part.title());
        match part {
            Part::Pending => pending::table(arguments)?,
            Part::Idle => Runtime::new()?.block_on(idle::run(&dir, full))?,
            Part::Busy => busy::run(&ground, &dir, full)?,
            Part::Backlog => Runtime::new()?.block_on(backlog::run(&ground, &dir, full))?,
            Part::Published => Runtime::new()?.block_on(published::run(&ground, &dir, full))?,
        }
        println!();
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
    }
    Ok(())
}
