//! The command line.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use locus::Durability;

use crate::{
    fate,
    plan::{DATA_DIR, WATCH_DATA_DIR},
};

/// Takes files in, processes them, and survives being killed.
///
/// Without a command it takes in the files of its own repository for two tenants, with eight workers; a few files fail
/// once on purpose. Started again, it begins anew, or finishes what it was killed in.
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Takes the files of a folder in and processes them. Started again it goes on where it was stopped or killed.
    Run(RunArgs),
    /// Shows what a data directory holds, also while a run has it open.
    Status(StatusArgs),
    /// Watches folders: drop files into them, and see them processed. Ends at Ctrl-C.
    Watch(WatchArgs),
    /// Tidies a data directory, all of it or one job.
    Sweep(SweepArgs),
    /// Lists files that failed for good, brings them back, or removes them.
    DeadLetters(DeadLetterArgs),
    /// The story of a vault: secrets that stay and change, sealed, from the first key to another one.
    Vault(VaultArgs),
    /// A tour of what Locus does, item by item. Reads its choices from the keyboard or from a pipe.
    Menu,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Where Locus keeps everything.
    #[arg(long, value_name = "DIR", default_value = WATCH_DATA_DIR)]
    pub(crate) data: PathBuf,
    /// A settings file with one `[[watchers]]` for each folder [default: the sample's own console.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Ends after so many files were processed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) files: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The folder to take in: regular files only, without links, `.git`, `target` and the data directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) input: PathBuf,
    /// Where Locus keeps everything [default: what --config says, else ./locus-console-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Volumes, made in the data directory. Those that it has already are used in any case
    /// [default: those that --config names, else 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=999))]
    pub(crate) volumes: Option<u32>,
    /// Tenants that share the files. Fixed by the first run on a data directory.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) tenants: u32,
    /// Files that are processed at the same time [default: what the settings say, 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub(crate) workers: Option<u32>,
    /// So many % of the files fail on their first attempt.
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = fate::parse_percent)]
    pub(crate) fail_percent: f64,
    /// What is promised of each file that was taken in [default: what the settings say, durable]
    #[arg(long, value_enum)]
    pub(crate) durability: Option<Promise>,
    /// After this many deliveries a file is given up [default: what the settings say, 1000]
    #[arg(long, value_name = "N")]
    pub(crate) max_deliveries: Option<u32>,
    /// Content up to this size rests in the journal and has no path, for example 64KiB; 0: every content is a file on a
    /// volume [default: what the settings say, 64 KiB]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) inline: Option<u64>,
    /// Most bytes of journal segments that contents may occupy, at least 4MiB. A segment is then an eighth of it, and
    /// --inline at most a sixteenth of that [default: what the settings say, 10 % of the free disk]
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    pub(crate) landing_zone: Option<u64>,
    /// A settings file; config/locus.toml lists what it may say [default: samples/console/console.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// No progress; the last line of stdout is one JSON object.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// The data directory to look at.
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub(crate) data: PathBuf,
    /// One JSON object instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SweepArgs {
    /// The job: completed, timed-out, leftovers, permanently-failed, dead-letters, orphans, missing, junk, empty-directories or store
    /// [default: all that the settings enable]
    pub(crate) job: Option<String>,
    /// The data directory to tidy, which no other process may have open.
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub(crate) data: PathBuf,
    /// Only what is this tenant's.
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// Counts what would be done.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// A settings file; its section `[cleanup]` says what is tidied [default: the defaults]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// One JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeadLetterArgs {
    /// What to do with them.
    #[arg(value_enum, default_value_t = DeadLetterAction::List)]
    pub(crate) action: DeadLetterAction,
    /// The data directory that they are in, which no other process may have open.
    #[arg(long, value_name = "DIR", default_value = DATA_DIR)]
    pub(crate) data: PathBuf,
    /// Only this tenant's.
    #[arg(long, value_name = "TENANT")]
    pub(crate) tenant: Option<String>,
    /// To be requeued or purged: those whose last error contains this [default: all].
    #[arg(long, value_name = "TEXT")]
    pub(crate) error: Option<String>,
    /// To be requeued or purged: those whose original name contains this [default: all].
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// Counts what would be requeued or purged.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VaultArgs {
    /// Leaves the vault where it was made, to be looked into.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What can be done with dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeadLetterAction {
    /// Shows them.
    List,
    /// Brings them back into the queue.
    Requeue,
    /// Removes them, record and bytes.
    Purge,
}

fn parse_size(text: &str) -> Result<u64, String> {
    text.parse::<ByteSize>().map(|size| size.as_u64()).map_err(|why| format!("no size such as 64KiB: {why}"))
}

/// What `Ok` of a write promises, as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Promise {
    /// It survives power loss.
    Durable,
    /// It survives the death of the process.
    Buffered,
}

impl From<Promise> for Durability {
    fn from(promise: Promise) -> Self {
        match promise {
            Promise::Durable => Self::Durable,
            Promise::Buffered => Self::Buffered,
        }
    }
}
