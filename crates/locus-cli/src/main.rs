//! The command `locus`: works with vaults of encrypted entities.

mod args;
mod content;
mod failure;
mod generate;
mod keys;
mod lock;
mod out;
mod place;
mod schema;
mod secret;
mod vault;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::{
    args::{Cli, Command},
    failure::Failure,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let wanted = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(wanted).with_writer(std::io::stderr).init();
    let as_json = is_json(&cli.command);
    match execute(cli.command).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message(as_json) {
                eprintln!("{message}");
            }
            failure.exit_code()
        }
    }
}

async fn execute(command: Command) -> Result<(), Failure> {
    match command {
        Command::Vault(verb) => vault::execute(*verb).await,
        Command::Completions { shell } => generate::completions(shell),
        Command::Man { dir } => generate::man(&dir),
    }
}

fn is_json(command: &Command) -> bool {
    match command {
        Command::Vault(verb) => vault::is_json(verb),
        Command::Completions { .. } | Command::Man { .. } => false,
    }
}
