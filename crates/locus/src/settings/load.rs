//! Settings from a file and the environment.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use config::{Config, ConfigError, Environment, File, FileFormat, Map, Source, Value, ValueKind};
use locus_core::{Error, Result};
use serde::Deserialize;

use crate::settings::{
    docs,
    model::{Settings, invalid},
};

const PREFIX: &str = "LOCUS__";

impl Settings {
    /// Reads the TOML file at `path`, then lets variables `LOCUS__SECTION__KEY` of the environment win over it. Relative
    /// paths, from either source, are relative to the file. Lists (volumes, tenants, directory quotas) come from the
    /// file alone.
    ///
    /// ```no_run
    /// # use locus::Settings;
    /// let settings = Settings::load("config/locus.toml")?; // and LOCUS__LEASES__VISIBILITY_TIMEOUT=10m
    /// # Ok::<(), locus::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidSetting`] names an unknown key, a value of the wrong kind, or a contradiction; [`Error::Io`]
    /// when the file cannot be read.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        // Variables that are no text cannot be ours.
        let of_environment = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::load_with(path.as_ref(), std::env::vars_os().filter_map(of_environment))
    }

    /// As [`load`](Self::load), with an environment of the caller's.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read settings from", path))?;
        Self::from_text(&text, path, environment)
    }

    /// What the text of the file at `path` says.
    pub(crate) fn from_text(
        text: &str,
        path: &Path,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self> {
        let environment: HashMap<_, _> =
            environment.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        let merged = Config::builder()
            .add_source(File::from_str(text, FileFormat::Toml))
            .add_source(
                Environment::with_prefix("LOCUS")
                    .prefix_separator("__")
                    .separator("__")
                    .try_parsing(true)
                    .source(Some(environment)),
            )
            .build()
            .or_else(|error| invalid(path.display().to_string(), format!("is no settings file: {error}")))?;
        let mut settings = read(&merged)?;
        settings.resolve(&directory_of(path)?);
        settings.check()?;
        Ok(settings)
    }
}

fn read(merged: &Config) -> Result<Settings> {
    let tree = merged.collect().or_else(|error| invalid("settings", error.to_string()))?;
    let mut leaves = Vec::new();
    flatten("", &tree, &mut leaves);
    for (name, _) in &leaves {
        if !docs::is_known(name) {
            return invalid(name.clone(), unknown(name));
        }
    }
    match Settings::deserialize(merged.clone()) {
        Ok(settings) => Ok(settings),
        Err(error) => {
            // Whichever fails alone is the one to name.
            for (name, value) in leaves {
                if let Err(error) = alone(&name, value) {
                    return invalid(name, format!("cannot be read: {}", reason(error)));
                }
            }
            invalid("settings", error.to_string())
        }
    }
}

/// What is wrong with a name that is none, and what would be right.
fn unknown(name: &str) -> &'static str {
    if name.starts_with("cleanup.dead_letters.") {
        return "is unknown: dead letters lie in `.deadletter` of the volume that their file was on, and nowhere else; \
                docs/settings.md lists what can be set";
    }
    if name.starts_with("cleanup.completed.") {
        return "is unknown: finished files are removed as they end, and drains, requeues and purges wait for that, so that it \
                has no interval and cannot be turned off; docs/settings.md lists what can be set";
    }
    if name.starts_with("cleanup.timed_out.") {
        return "is unknown: leases are written back as they run out, so that counts tell the truth; it has no interval and \
                cannot be turned off; docs/settings.md lists what can be set";
    }
    if name.starts_with("cleanup.store.") {
        return "is unknown: the store is optimised as a whole, beside everything else; docs/settings.md lists what can be set";
    }
    "is unknown: docs/settings.md lists what can be set"
}

/// The names that were set, with dots between their parts. A list is one name.
fn flatten(under: &str, table: &Map<String, Value>, into: &mut Vec<(String, Value)>) {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_unstable_by_key(|(key, _)| *key);
    for (key, value) in keys {
        let name = if under.is_empty() { key.clone() } else { format!("{under}.{key}") };
        match &value.kind {
            ValueKind::Table(inner) if !docs::is_known(&name) => flatten(&name, inner, into),
            _ => into.push((name, value.clone())),
        }
    }
}

fn alone(name: &str, value: Value) -> Result<Settings, ConfigError> {
    Settings::deserialize(Config::builder().set_override(name, value)?.build()?)
}

/// The innermost reason, without the places that the name says already.
fn reason(error: ConfigError) -> String {
    match error {
        ConfigError::At { error, .. } => reason(*error),
        ConfigError::Type { unexpected, expected, .. } => {
            format!("{unexpected} where {expected} is expected")
        }
        other => other.to_string(),
    }
}

fn directory_of(file: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(file).map_err(Error::io("find the directory of", file))?;
    Ok(absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf))
}
