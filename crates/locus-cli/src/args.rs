//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use locus_vault::{Argon2Cost, EntityId, Expect, KeyId, RecipientKey, RingId, SchemaMode};

/// What a script can tell by.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed, as the message says: a disk, a file, or some of many
  2  the call itself is wrong
  3  there is no such vault, entity, key, recipient or schema
  4  something else is there than was expected, or stands in the way
  5  somebody else holds the lock
  6  what is there is not what was sealed, or an older version of it
  7  a key is lacking: a wrong passphrase, or another keyring
  8  the content is refused by its schema, or is no JSON

`locus vault lock` ends with the code of its command, and with 128 and the signal's number when that was killed.";

/// Vaults of encrypted entities on a directory that several processes and hosts share.
#[derive(Debug, Parser)]
#[command(name = "locus", version, after_long_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Works with a vault.
    #[command(subcommand, after_long_help = EXIT_CODES)]
    Vault(Box<Vault>),
    /// Writes what a shell completes this command by to stdout.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Writes the manual's pages into a directory, which must be there.
    Man {
        /// The directory.
        dir: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vault {
    /// Makes a vault, and a keyring for one passphrase.
    Init(InitArgs),
    /// Writes an entity, and says which version it is.
    Put(PutArgs),
    /// Reads an entity.
    Get(GetArgs),
    /// Shows what is known about an entity, proven by its seal.
    Stat(EntityArgs),
    /// Lists the entities. Needs no key, and proves nothing.
    Ls(LsArgs),
    /// Deletes an entity. That it was is remembered for a week.
    Rm(RmArgs),
    /// Holds the lock of an entity while a command runs. Needs no key.
    ///
    /// Changes of the entity by this and other programs wait for it, those of the command itself too. When this program is
    /// killed outright, the lock is let go though the command goes on.
    Lock(LockArgs),
    /// Opens everything, and tells what does not open.
    Verify(OpenArgs),
    /// Takes in a directory of the older layout: `files/<id>.json.enc`, `files/<id>.meta.json`, `templates/<schema>.json`.
    Import(ImportArgs),
    /// Forgets what was deleted a week ago, and removes what interrupted writes left. Needs no key.
    Sweep(PlaceArgs),
    /// Works with the keyring.
    #[command(subcommand)]
    Keys(Keys),
    /// Works with the schemas that contents are checked against. Needs no key.
    #[command(subcommand)]
    Schema(Schema),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Lists keys and recipients: proven when something to open the ring with is given, else as the file says.
    List(OpenArgs),
    /// Draws a new active key. What is there stays sealed by the old ones until `rewrap`.
    Rotate(OpenArgs),
    /// Seals everything again by the active key. Run again, it does what is left.
    Rewrap(RewrapArgs),
    /// Destroys a key that nothing is sealed by any more: after `rotate`, `rewrap`, and once every process has the new ring.
    Retire(RetireArgs),
    /// Lets somebody else open the ring.
    Add(AddArgs),
    /// Lets somebody open the ring no more. `rotate` afterwards: keys that were seen stay known.
    Remove(RemoveArgs),
    /// Copies the keyring. Needs no key.
    Backup(BackupArgs),
    /// Puts a copy of the keyring in its place.
    Restore(RestoreArgs),
    /// Makes an X25519 identity, and says its public half, for `add --recipient`.
    Identity(IdentityArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Schema {
    /// Puts a new version of a schema, and says which.
    Put(SchemaInArgs),
    /// Shows a schema.
    Get(SchemaGetArgs),
    /// Lists the schemas with their newest versions.
    Ls(PlaceArgs),
    /// Checks a content against a schema, and writes nothing.
    Check(SchemaInArgs),
}

/// Where a vault is.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlaceArgs {
    /// The vault's directory.
    pub(crate) dir: PathBuf,
    /// The file with its keyring [default: `keyring` in the vault's directory]
    #[arg(long, value_name = "FILE")]
    pub(crate) keyring: Option<PathBuf>,
    /// JSON instead of text: one object on stdout, or about an error on stderr.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What opens a keyring. Without any of it the passphrase is asked for.
#[derive(Debug, Args)]
pub(crate) struct UnlockArgs {
    /// A file with the passphrase, which nobody else may read (mode 0600). The end of a line at its end is none of it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["passphrase_fd", "identity_file"])]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// An open file descriptor to read the passphrase from.
    #[arg(long, value_name = "N", conflicts_with = "identity_file")]
    pub(crate) passphrase_fd: Option<u32>,
    /// A file with an X25519 identity, which nobody else may read (mode 0600).
    #[arg(long, value_name = "FILE")]
    pub(crate) identity_file: Option<PathBuf>,
    /// The one keyring to be opened, `locus-ring:` and 64 digits. A passphrase knows its ring by itself; an identity opens any
    /// that was made for it, unless this is said.
    #[arg(long, value_name = "RING")]
    pub(crate) ring: Option<RingId>,
}

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    #[command(flatten)]
    pub(crate) unlock: UnlockArgs,
}

/// What a passphrase that is new costs to guess.
#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// What a guess at the passphrase costs, by Argon2id: KiB of memory, passes, lanes.
    #[arg(long, value_name = "KIB,PASSES,LANES", default_value = "65536,3,4", value_parser = parse_cost)]
    pub(crate) cost: Argon2Cost,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// What the recipient with the passphrase is called.
    #[arg(long, default_value = "operator")]
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) cost: CostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct EntityArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// The entity.
    #[arg(value_name = "DATABASE/KEY")]
    pub(crate) id: EntityId,
}

/// How a change is made.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// What must be there: `absent`, `any`, or a version as it is printed.
    #[arg(long, default_value = "any", value_parser = parse_expect)]
    pub(crate) expect: Expect,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// Who writes, as `stat` tells it [default: the process and its machine]
    #[arg(long)]
    pub(crate) writer: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct WaitArgs {
    /// How long to wait for a lock that somebody else holds, in seconds.
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = parse_seconds)]
    pub(crate) lock_timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    #[command(flatten)]
    pub(crate) entity: EntityArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// The content [default: stdin]
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
    /// The schema that the content keeps to [default: that of what is there]
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) schema: Option<String>,
    /// Whether the content has to keep to a schema.
    #[arg(long, value_enum, default_value = "if-present")]
    pub(crate) schema_mode: Mode,
}

#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    pub(crate) entity: EntityArgs,
    /// Where the content goes, for its owner alone (mode 0600) [default: stdout]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// The schema that it must have been written by.
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) schema: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Only entities whose name begins so.
    #[arg(value_name = "PREFIX", default_value = "", hide_default_value = true)]
    pub(crate) prefix: String,
}

#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    #[command(flatten)]
    pub(crate) entity: EntityArgs,
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The entity.
    #[arg(value_name = "DATABASE/KEY")]
    pub(crate) id: EntityId,
    /// Shares the lock with others who do, and keeps out who changes the entity.
    #[arg(long)]
    pub(crate) shared: bool,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// The command, behind `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// The directory of the older layout. Nothing in it is changed.
    pub(crate) source: PathBuf,
    /// A file with the key of 32 bytes that it is sealed by: as they are, in hexadecimal digits, or in base64. Nobody else may
    /// read it (mode 0600).
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: PathBuf,
    /// Does everything but the writing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RewrapArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    #[command(flatten)]
    pub(crate) wait: WaitArgs,
    /// Most bytes of content in a second [default: as many as can be]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) bytes_per_second: Option<u64>,
    /// Most entities in a second [default: as many as can be]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) entities_per_second: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct RetireArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// The key.
    pub(crate) key: KeyId,
    /// Though there are files that cannot be read, which may be sealed by it.
    #[arg(long)]
    pub(crate) despite_unreadable: bool,
}

#[derive(Debug, Args)]
pub(crate) struct AddArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// What the recipient is called.
    pub(crate) name: String,
    /// Its public key, `locus-recipient:` and 64 digits [default: a passphrase of its own]
    #[arg(long, value_name = "KEY", conflicts_with_all = ["new_passphrase_file", "new_passphrase_fd"])]
    pub(crate) recipient: Option<RecipientKey>,
    /// A file with its passphrase (mode 0600).
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_fd")]
    pub(crate) new_passphrase_file: Option<PathBuf>,
    /// An open file descriptor to read its passphrase from.
    #[arg(long, value_name = "N")]
    pub(crate) new_passphrase_fd: Option<u32>,
    #[command(flatten)]
    pub(crate) cost: CostArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// The recipient's name or id.
    pub(crate) recipient: String,
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// Where the copy goes, for its owner alone (mode 0600).
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// The copy.
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: PathBuf,
    /// Though the keyring was changed since the copy was made. What is sealed by keys that are not in the copy is lost.
    #[arg(long)]
    pub(crate) despite_newer: bool,
}

#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// Where the identity goes, for its owner alone (mode 0600). It must not be there.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// JSON instead of text.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaInArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The schema's id.
    pub(crate) id: String,
    /// The document [default: stdin]
    #[arg(long = "in", value_name = "FILE")]
    pub(crate) input: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct SchemaGetArgs {
    #[command(flatten)]
    pub(crate) place: PlaceArgs,
    /// The schema's id.
    pub(crate) id: String,
    /// Which version [default: the newest]
    #[arg(long, value_name = "N")]
    pub(crate) version: Option<u32>,
}

/// A [`SchemaMode`], as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Mode {
    /// It names a schema that is there, and keeps to it.
    Required,
    /// When it names a schema which is there, it keeps to it.
    IfPresent,
    /// Nothing is checked.
    Off,
}

impl From<Mode> for SchemaMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Required => Self::Required,
            Mode::IfPresent => Self::IfPresent,
            Mode::Off => Self::Off,
        }
    }
}

impl PlaceArgs {
    pub(crate) fn keyring(&self) -> PathBuf {
        self.keyring.clone().unwrap_or_else(|| self.dir.join("keyring"))
    }
}

fn parse_expect(text: &str) -> Result<Expect, String> {
    match text {
        "any" => Ok(Expect::Any),
        "absent" => Ok(Expect::Absent),
        version => {
            version.parse().map(Expect::Version).map_err(|why| format!("neither absent nor any: {why}"))
        }
    }
}

fn parse_cost(text: &str) -> Result<Argon2Cost, String> {
    let numbers: Result<Vec<u32>, _> = text.split(',').map(str::parse).collect();
    match numbers.as_deref() {
        Ok(&[memory_kib, passes, lanes]) => Ok(Argon2Cost { memory_kib, passes, lanes }),
        _ => Err("three numbers, as in 65536,3,4".to_owned()),
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|why| why.to_string())?;
    Duration::try_from_secs_f64(seconds).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_expected_is_absent_any_or_a_version() {
        assert_eq!(parse_expect("absent"), Ok(Expect::Absent));
        assert_eq!(parse_expect("any"), Ok(Expect::Any));
        let version = "7@03030303-0303-0303-0303-030303030303";
        assert_eq!(parse_expect(version), Ok(Expect::Version(version.parse().unwrap())));
        assert!(parse_expect("7").is_err());
    }

    #[test]
    fn a_cost_is_three_numbers_and_a_time_is_not_negative() {
        assert_eq!(parse_cost("8,1,2"), Ok(Argon2Cost { memory_kib: 8, passes: 1, lanes: 2 }));
        assert!(parse_cost("8,1").is_err() && parse_cost("8,1,x").is_err());
        assert_eq!(parse_seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(parse_seconds("-1").is_err() && parse_seconds("NaN").is_err());
    }
}
