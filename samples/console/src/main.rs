//! The console sample of Locus: takes the files of a folder in for several tenants, lets workers check each one, and
//! survives being killed at any moment. Without arguments it does so with the files of its own repository.

mod args;
mod dead_letters;
mod existing;
mod fate;
mod fault;
mod intake;
mod menu;
mod plan;
mod progress;
mod report;
mod run;
mod source;
mod status;
mod stop;
mod sweep;
mod table;
mod tally;
mod vault;
mod watch;
mod work;

use std::process::ExitCode;

use clap::Parser;
use locus::BoxError;
use tracing_subscriber::EnvFilter;

use crate::{
    args::{Cli, Command},
    plan::Plan,
};

/// What is told to a shell when Ctrl-C ended the run, as shells do it themselves.
const INTERRUPTED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(wanted).with_writer(std::io::stderr).init();
    match execute(cli.command).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", fault::in_one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn execute(command: Option<Command>) -> Result<ExitCode, BoxError> {
    match command {
        None => run(Plan::demo()?).await,
        Some(Command::Run(args)) => run(Plan::of(args)?).await,
        Some(Command::Status(args)) => {
            status::show(&args.data, args.json).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Watch(args)) => {
            watch::watch(args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Sweep(args)) => {
            sweep::sweep(args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::DeadLetters(args)) => {
            dead_letters::dead_letters(args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Vault(args)) => {
            vault::story(&args).await?;
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Menu) => {
            let all_succeeded = menu::tour().await?;
            Ok(if all_succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
    }
}

async fn run(plan: Plan) -> Result<ExitCode, BoxError> {
    let report = run::run(&plan).await?;
    if plan.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        println!("{}", report.table(&plan));
    }
    Ok(match () {
        () if !report.is_good() => ExitCode::FAILURE,
        () if report.interrupted => ExitCode::from(INTERRUPTED),
        () => ExitCode::SUCCESS,
    })
}
