//! What can go wrong, and what a script can tell by.

use std::{borrow::Cow, error::Error, fmt, io, path::PathBuf, process::ExitCode};

use locus_vault::VaultError;
use serde_json::{Value, json};

/// Why a command did not do what it was to do.
#[derive(Debug)]
pub(crate) enum Failure {
    Vault(VaultError),
    /// What this program itself has to say.
    Said {
        code: Code,
        why: Cow<'static, str>,
    },
    /// There is no vault in the directory.
    NoVault(PathBuf),
    /// Something of the machine's.
    Io {
        what: String,
        source: io::Error,
    },
    /// It was told already what; nothing but the code is left to say.
    Told(Code),
    /// A command that was run ended so.
    Ended(u8),
    /// Nobody reads what is written.
    Unread,
}

/// A class of failures, by its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Conflict = 4,
    Locked = 5,
    Tampered = 6,
    NoKey = 7,
    Refused = 8,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Locked => "locked",
            Self::Tampered => "tampered",
            Self::NoKey => "no-key",
            Self::Refused => "refused",
        }
    }

    pub(crate) fn of(error: &VaultError) -> Self {
        use VaultError as E;
        match error {
            E::InvalidId { .. } | E::InvalidArgument { .. } => Self::Usage,
            E::FileNotFound { .. }
            | E::KeyringNotFound { .. }
            | E::RecipientNotFound { .. }
            | E::SchemaNotFound { .. } => Self::NotFound,
            E::Conflict { .. }
            | E::KeyringExists { .. }
            | E::KeyringNewer { .. }
            | E::KeyRefused { .. }
            | E::KeyInUse { .. }
            | E::RecipientRefused { .. } => Self::Conflict,
            E::AlreadyLocked { .. } | E::LockTimeout { .. } => Self::Locked,
            E::Tampered { .. } | E::RolledBack { .. } => Self::Tampered,
            E::UnknownKey { .. }
            | E::NotARecipient { .. }
            | E::OtherKeyring { .. }
            | E::KeyWrapFailed { .. }
            | E::Foreign { .. } => Self::NoKey,
            E::SchemaRejected { .. } | E::SchemaInvalid { .. } | E::NotJson { .. } => Self::Refused,
            _ => Self::Failed,
        }
    }
}

impl Failure {
    /// The call itself is wrong.
    pub(crate) fn usage(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Said { code: Code::Usage, why: why.into() }
    }

    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io { what: what.into(), source }
    }

    fn code(&self) -> Code {
        match self {
            Self::Vault(error) => Code::of(error),
            Self::NoVault(_) => Code::NotFound,
            Self::Said { code, .. } | Self::Told(code) => *code,
            Self::Io { .. } | Self::Ended(_) | Self::Unread => Code::Failed,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Ended(code) => ExitCode::from(*code),
            Self::Unread => ExitCode::SUCCESS,
            other => ExitCode::from(other.code() as u8),
        }
    }

    /// What is said of it on stderr, if anything.
    pub(crate) fn message(&self, as_json: bool) -> Option<String> {
        match self {
            Self::Told(_) | Self::Ended(_) | Self::Unread => None,
            other if as_json => {
                let code = other.code();
                let error = json!({"code": code.name(), "exit": code as u8, "message": other.to_string()});
                Some(json!({ "error": error }).to_string())
            }
            other => Some(format!("error: {other}")),
        }
    }
}

impl From<VaultError> for Failure {
    fn from(error: VaultError) -> Self {
        Self::Vault(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault(error) => f.write_str(&in_one_line(error)),
            Self::Said { why, .. } => f.write_str(&shown(why)),
            Self::NoVault(dir) => {
                write!(f, "there is no vault in {}: make one with init", shown(&dir.display()))
            }
            Self::Io { what, source } => write!(f, "{what}: {source}"),
            Self::Told(_) | Self::Ended(_) | Self::Unread => Ok(()),
        }
    }
}

/// An error and what caused it. What stands in files and their names may be anything, and must not steer a terminal.
pub(crate) fn in_one_line(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: caused by: {error}");
        cause = error.source();
    }
    shown(&text)
}

/// A text that anybody may have written, on its line.
pub(crate) fn shown(text: &dyn fmt::Display) -> String {
    let mut safe = String::new();
    for c in text.to_string().chars() {
        if c.is_control() {
            safe.extend(c.escape_debug());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// A version or another field of JSON that may be missing.
pub(crate) fn optional(value: Option<impl fmt::Display>) -> Value {
    value.map_or(Value::Null, |value| value.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_spelled_out() {
        assert_eq!(shown(&"a\u{1b}[31m\nb\u{9b}é"), "a\\u{1b}[31m\\nb\\u{9b}é");
    }

    #[test]
    fn an_error_in_json_says_its_code() {
        let message = Failure::usage("so \"not\"").message(true).unwrap();
        assert_eq!(message, r#"{"error":{"code":"usage","exit":2,"message":"so \"not\""}}"#);
        assert_eq!(Failure::Unread.message(true), None);
    }
}
