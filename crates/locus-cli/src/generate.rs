//! What is made of the command line itself.

use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::{args::Cli, content::to_stdout, failure::Failure};

pub(crate) fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "locus", &mut script);
    to_stdout(&script)
}

pub(crate) fn man(dir: &Path) -> Result<(), Failure> {
    let failed = Failure::io(format!("cannot write pages into {}", dir.display()));
    clap_mangen::generate_to(Cli::command(), dir).map_err(failed)
}
