//! JSON schemas, and contents checked against them.
//!
//! Each version of a schema is a file of its own, `s-<name>/<version>.json`, which is never changed. Nothing that a schema
//! refers to is fetched: it has to stand in the schema itself, or be one of the meta-schemas.

use std::{
    collections::{BTreeMap, HashMap},
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use jsonschema::Validator;
use locus_core::{Error, Site};
use locus_fs::{Disk, EntryKind, create_dirs, off_thread, read_bounded, replace, sync_dir};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    error::{Result, VaultError},
    id::excerpt,
    metadata::SCHEMA_ID_BYTES_MAX,
};

/// The longest schema, in bytes of its JSON.
pub const SCHEMA_BYTES_MAX: usize = 1 << 20;

/// Schemas that are kept compiled.
const COMPILED_MAX: usize = 256;

/// Whether the contents of a database have to keep to a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemaMode {
    /// Every content names a schema that is there, and keeps to it.
    Required,
    /// A content that names a schema which is there keeps to it. Others are not checked.
    #[default]
    IfPresent,
    /// Nothing is checked.
    Off,
}

/// The [`SchemaMode`] of each database.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SchemaModes {
    /// Of databases that are not named.
    pub default: SchemaMode,
    /// By name.
    pub databases: BTreeMap<String, SchemaMode>,
}

impl SchemaModes {
    /// The mode of this database.
    #[must_use]
    pub fn of(&self, database: &str) -> SchemaMode {
        self.databases.get(database).copied().unwrap_or(self.default)
    }
}

/// A version of a schema.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Schema {
    /// Its id.
    pub id: String,
    /// Its version: 1 for the first, and one more for each that follows.
    pub version: u32,
    /// The schema itself.
    pub document: Value,
}

/// The schemas in a directory. Any number of processes may read and write them.
///
/// An id is 1 to 64 bytes of any text without control characters. Contents are checked against the newest version, by
/// [draft](https://json-schema.org/specification) 2020-12 unless the schema's `$schema` names another. Schemas are not
/// secret: whoever can read the directory can read them, and whoever can write there can change what is checked.
///
/// ```
/// # use std::sync::Arc;
/// # use locus_fs::OsDisk;
/// use locus_vault::{SchemaMode, Schemas, VaultError};
/// use serde_json::json;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let schemas = Schemas::new(Arc::new(OsDisk), dir.path().join("schemas"));
/// let version = schemas.put("person", json!({"properties": {"age": {"type": "integer"}}})).await?;
/// assert_eq!(version, 1);
///
/// schemas.check(SchemaMode::Required, Some("person"), json!({"age": 7})).await?;
/// let refused = schemas.check(SchemaMode::Required, Some("person"), json!({"age": "seven"})).await;
/// assert!(matches!(refused, Err(VaultError::SchemaRejected { path, .. }) if path == "/age"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Schemas {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    /// The newest version that was met of each.
    compiled: Arc<Mutex<HashMap<String, Compiled>>>,
}

#[derive(Clone)]
struct Compiled {
    version: u32,
    validator: Arc<Validator>,
}

impl Schemas {
    /// The schemas in `dir`, which is made when the first one is put.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, dir: impl Into<PathBuf>) -> Self {
        Self { disk, dir: dir.into().into(), compiled: Arc::default() }
    }

    /// Puts a new version, durably, and says which; the version that is newest already when it is the same document.
    ///
    /// # Errors
    /// [`VaultError::SchemaInvalid`] when the document does not keep to its meta-schema, refers to what it does not hold,
    /// is nested more than 128 deep or longer than [`SCHEMA_BYTES_MAX`]; [`VaultError::InvalidId`];
    /// [`VaultError::AlreadyLocked`] when somebody else puts the same schema now; [`VaultError::LockFailed`],
    /// [`VaultError::ReadFailed`]: nothing was put. [`VaultError::WriteFailed`]: nor was anything, unless it is the
    /// directory that could not be synced.
    ///
    /// # Cancel safety
    /// When the future is dropped, the version is there, or will be, or never.
    pub async fn put(&self, id: &str, document: Value) -> Result<u32> {
        let (id, dir) = (id.to_owned(), self.dir_of(id)?);
        self.off_thread(move |this| this.put_here(&id, &dir, &document)).await
    }

    /// A version of a schema; the newest one for `None`.
    ///
    /// # Errors
    /// [`VaultError::SchemaNotFound`], [`VaultError::InvalidId`], [`VaultError::ReadFailed`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn get(&self, id: &str, version: Option<u32>) -> Result<Schema> {
        let (id, dir) = (id.to_owned(), self.dir_of(id)?);
        self.off_thread(move |this| {
            let wanted = match version {
                Some(version) => Some(version),
                None => this.newest(&dir)?,
            };
            let found = wanted.map(|version| this.read(&dir, version)).transpose()?.flatten();
            match (wanted, found) {
                (Some(version), Some(document)) => Ok(Schema { id, version, document }),
                _ => Err(VaultError::SchemaNotFound { id, version }),
            }
        })
        .await
    }

    /// The ids of all schemas with their newest versions, sorted.
    ///
    /// # Errors
    /// [`VaultError::ReadFailed`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn list(&self) -> Result<Vec<(String, u32)>> {
        self.off_thread(|this| {
            let mut found = Vec::new();
            for name in this.names(&this.dir, EntryKind::Dir)? {
                if let Some(id) = name.strip_prefix("s-").and_then(decoded)
                    && let Some(newest) = this.newest(&this.dir.join(&name))?
                {
                    found.push((id, newest));
                }
            }
            found.sort();
            Ok(found)
        })
        .await
    }

    /// Whether `content`, which names `schema`, may be put where contents are checked by `mode`. Says by which version it
    /// was checked; `None` when it did not have to be.
    ///
    /// # Errors
    /// [`VaultError::SchemaRejected`], with the place in the content and without its values;
    /// [`VaultError::SchemaNotFound`] when the schema is required and is not there; [`VaultError::SchemaInvalid`] and
    /// [`VaultError::ReadFailed`] when it is there and of no use: in doubt a content is refused.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn check(&self, mode: SchemaMode, schema: Option<&str>, content: Value) -> Result<Option<u32>> {
        if mode == SchemaMode::Off {
            return Ok(None);
        }
        let schema = schema.map(str::to_owned);
        self.off_thread(move |this| this.check_here(mode, schema.as_deref(), &content)).await
    }

    /// [`check`](Self::check), on this thread, which may block.
    pub(crate) fn check_here(
        &self,
        mode: SchemaMode,
        schema: Option<&str>,
        content: &Value,
    ) -> Result<Option<u32>> {
        let id = match (mode, schema) {
            (SchemaMode::Off, _) | (SchemaMode::IfPresent, None) => return Ok(None),
            (SchemaMode::Required, None) => {
                let why = "it names no schema, and its database requires one".into();
                return Err(VaultError::SchemaRejected { path: String::new(), why });
            }
            (_, Some(id)) => id,
        };
        let Some(Compiled { version, validator }) = self.compiled(id)? else {
            return match mode {
                SchemaMode::Required => Err(VaultError::SchemaNotFound { id: id.to_owned(), version: None }),
                _ => Ok(None),
            };
        };
        match validator.validate(content) {
            Ok(()) => Ok(Some(version)),
            Err(error) => Err(VaultError::SchemaRejected {
                path: error.instance_path().to_string(),
                why: error.masked_with("the value").to_string().into(),
            }),
        }
    }

    fn put_here(&self, id: &str, dir: &Path, document: &Value) -> Result<u32> {
        let bytes = serde_json::to_vec_pretty(document).map_err(|error| invalid(id, error.to_string()))?;
        if bytes.len() > SCHEMA_BYTES_MAX {
            return Err(invalid(id, "it is longer than 1 MiB"));
        }
        // What is written must be readable: JSON that is nested too deep is not.
        let document: Value =
            serde_json::from_slice(&bytes).map_err(|error| invalid(id, error.to_string()))?;
        compile(id, &document)?;
        create_dirs(&*self.disk, dir)
            .map_err(|source| VaultError::WriteFailed { path: dir.to_owned(), source })?;
        let _lock = crate::lock::take(&*self.disk, dir, &dir.join("lock"))?;
        let newest = self.newest(dir)?;
        if let Some(newest) = newest
            && self.read(dir, newest)?.as_ref() == Some(&document)
        {
            // Whoever put it may have been killed before its name was durable.
            let synced = sync_dir(&*self.disk, dir, Site::ReplacedName).map_err(Error::io("sync", dir));
            synced.map_err(|source| VaultError::WriteFailed { path: file(dir, newest), source })?;
            return Ok(newest);
        }
        let version =
            newest.unwrap_or(0).checked_add(1).ok_or_else(|| invalid(id, "it has no more versions"))?;
        let path = file(dir, version);
        replace(&*self.disk, &path, &bytes).map_err(|source| VaultError::WriteFailed { path, source })?;
        Ok(version)
    }

    /// The newest version, ready to check with; `None` when there is none.
    fn compiled(&self, id: &str) -> Result<Option<Compiled>> {
        let dir = self.dir_of(id)?;
        let Some(version) = self.newest(&dir)? else { return Ok(None) };
        if let Some(known) = self.compiled.lock().get(id).filter(|known| known.version == version) {
            return Ok(Some(known.clone()));
        }
        let document = self.read(&dir, version)?;
        let document = document
            .ok_or_else(|| VaultError::SchemaNotFound { id: id.to_owned(), version: Some(version) })?;
        let compiled = Compiled { version, validator: Arc::new(compile(id, &document)?) };
        let mut all = self.compiled.lock();
        if all.len() >= COMPILED_MAX {
            all.clear();
        }
        all.insert(id.to_owned(), compiled.clone());
        Ok(Some(compiled))
    }

    fn newest(&self, dir: &Path) -> Result<Option<u32>> {
        let names = self.names(dir, EntryKind::File)?;
        Ok(names.iter().filter_map(|name| version_of(name)).max())
    }

    fn read(&self, dir: &Path, version: u32) -> Result<Option<Value>> {
        let path = file(dir, version);
        let read = read_bounded(&*self.disk, &path, SCHEMA_BYTES_MAX as u64).and_then(|bytes| {
            let Some(bytes) = bytes else { return Ok(None) };
            serde_json::from_slice(&bytes).map(Some).map_err(|error| Error::Corrupt {
                place: path.display().to_string(),
                why: format!("it is no JSON: {error}").into(),
            })
        });
        read.map_err(|source| VaultError::ReadFailed { path, source })
    }

    /// The names of this kind in a directory that need not be there; those that are no text are not ours.
    fn names(&self, dir: &Path, kind: EntryKind) -> Result<Vec<String>> {
        let failed =
            |error| VaultError::ReadFailed { source: Error::io("list", dir)(error), path: dir.to_owned() };
        let entries = match self.disk.read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            if entry.kind == kind {
                names.extend(entry.name.into_string().ok());
            }
        }
        Ok(names)
    }

    fn dir_of(&self, id: &str) -> Result<PathBuf> {
        check_id(id)?;
        Ok(self.dir.join(format!("s-{}", encoded(id))))
    }

    async fn off_thread<T: Send + 'static>(&self, work: impl FnOnce(&Self) -> T + Send + 'static) -> T {
        let this = self.clone();
        off_thread(&*self.disk, move || work(&this)).await
    }
}

impl fmt::Debug for Schemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schemas").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// Whether a schema can be called so.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let why = if id.is_empty() {
        "is empty: a schema has a name"
    } else if id.len() > SCHEMA_ID_BYTES_MAX {
        "is longer than the 64 bytes that a schema's name may have"
    } else if id.chars().any(char::is_control) {
        "holds a control character"
    } else {
        return Ok(());
    };
    Err(VaultError::InvalidId { value: excerpt(id), why })
}

/// Whether a document is a schema that can be checked against.
pub(crate) fn check_document(id: &str, document: &Value) -> Result<()> {
    compile(id, document).map(drop)
}

fn compile(id: &str, document: &Value) -> Result<Validator> {
    jsonschema::options().offline().build(document).map_err(|error| VaultError::SchemaInvalid {
        id: id.to_owned(),
        path: error.instance_path().to_string(),
        why: error.to_string().into(),
    })
}

fn invalid(id: &str, why: impl Into<std::borrow::Cow<'static, str>>) -> VaultError {
    VaultError::SchemaInvalid { id: id.to_owned(), path: String::new(), why: why.into() }
}

fn file(dir: &Path, version: u32) -> PathBuf {
    dir.join(format!("{version}.json"))
}

/// The version that a file is called by, as [`file`] calls it.
fn version_of(name: &str) -> Option<u32> {
    let version = name.strip_suffix(".json")?.parse().ok().filter(|version| *version > 0)?;
    (name == format!("{version}.json")).then_some(version)
}

/// An id as a name that no file system takes for another: what is not a small letter, a digit or `-` is written `%` and
/// two small hexadecimal digits.
fn encoded(id: &str) -> String {
    let mut name = String::with_capacity(3 * id.len());
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name
}

fn decoded(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        bytes.push(if *byte == b'%' {
            let (digits, behind) = rest.split_first_chunk::<2>()?;
            rest = behind;
            u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?
        } else {
            *byte
        });
    }
    let id = String::from_utf8(bytes).ok()?;
    (encoded(&id) == name).then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_id_has_one_name_that_is_safe_and_tells_it(id in "\\PC{1,20}", other in "[a-zA-Z%./_-]{1,4}") {
            for id in [&id, &other] {
                let name = encoded(id);
                let told = decoded(&name);
                prop_assert_eq!(told.as_ref(), Some(id));
                prop_assert_eq!(&name.to_lowercase(), &name);
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'%')));
            }
        }

        #[test]
        fn names_that_were_not_written_are_of_no_id(name in "[a-z%0-9A-F]{1,6}") {
            prop_assert!(decoded(&name).is_none_or(|id| encoded(&id) == name));
        }
    }

    #[test]
    fn files_that_were_not_written_are_no_version() {
        assert_eq!(version_of("12.json"), Some(12));
        for name in ["0.json", "01.json", "+1.json", "1.jsonx", ".1.json.new", "1", "lock", "4294967296.json"]
        {
            assert_eq!(version_of(name), None, "{name}");
        }
    }
}
