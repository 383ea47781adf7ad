//! Taking in what lies in the older layout.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::Error;
use locus_fs::{Disk, EntryKind, LockGuard, off_thread, read_bounded};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{
    rewrap::FAILURES_NAMED_MAX,
    seal::Draft,
    store::{Inner, Vault},
};
use crate::{
    blobs::Unreadable,
    cipher::{DataKey, TAG_BYTES},
    error::{Result, VaultError},
    expect,
    id::EntityId,
    import::{self, META_BYTES_MAX, OlderMeta},
    metadata::{Incarnation, NAME_BYTES_MAX, Version},
    schemas::{self, SCHEMA_BYTES_MAX},
};

const FILES: &str = "files";
const TEMPLATES: &str = "templates";
const CONTENT: &str = ".json.enc";
const META: &str = ".meta.json";
const TEMPLATE: &str = ".json";

/// How [`Vault::import`] goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "options do nothing until something is imported by them"]
pub struct ImportOptions {
    dry_run: bool,
}

impl ImportOptions {
    /// Whether everything is done but the writing (no): a content whose schema comes with the same import is then not
    /// checked against it.
    pub fn dry_run(self, dry_run: bool) -> Self {
        Self { dry_run }
    }
}

/// What became of a file of the source.
#[derive(Debug)]
#[non_exhaustive]
pub enum Imported {
    /// The entity is there now; in a dry run it would be.
    Entity {
        /// Its name here.
        id: EntityId,
        /// Its version here; `None` in a dry run.
        version: Option<Version>,
    },
    /// The entity was there already, with the same content.
    EntityThere {
        /// Its name here.
        id: EntityId,
    },
    /// The schema is there now; in a dry run it would be.
    Schema {
        /// Its id.
        id: String,
    },
    /// The schema was there already, with the same document.
    SchemaThere {
        /// Its id.
        id: String,
    },
    /// It was not imported.
    Failed {
        /// Why not.
        why: VaultError,
    },
}

/// Who is told what became of each file, by its path and at once.
pub type OnImport<'a> = &'a mut (dyn FnMut(&Path, &Imported) + Send);

/// What an import did.
#[derive(Debug, Default)]
pub struct ImportReport {
    /// Entities that are there now, and were not.
    pub entities: u64,
    /// Their contents, in bytes.
    pub bytes: u64,
    /// Entities that were there already.
    pub entities_there: u64,
    /// Schemas that are there now, and were not.
    pub schemas: u64,
    /// Schemas that were there already.
    pub schemas_there: u64,
    /// Files that are none of the layout's.
    pub ignored: u64,
    /// Files that were not imported.
    pub failed: u64,
    /// The first [`FAILURES_NAMED_MAX`] of these.
    pub failures: Vec<Unreadable>,
}

/// A source, of which nothing is believed.
#[derive(Debug, Clone)]
struct Source {
    /// Follows no links below the directory.
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    content_bytes_max: u64,
}

/// An entity of a source, opened.
struct Found {
    meta: OlderMeta,
    content: Zeroizing<Vec<u8>>,
}

fn refused(path: &Path, why: impl Into<std::borrow::Cow<'static, str>>) -> VaultError {
    VaultError::NotImportable { path: path.to_owned(), why: why.into() }
}

impl Source {
    fn open(disk: &Arc<dyn Disk>, dir: PathBuf, content_bytes_max: u64) -> Result<Self> {
        let beneath = disk.beneath(&dir).map_err(VaultError::read("open", &dir))?;
        Ok(Self { disk: beneath.unwrap_or_else(|| Arc::clone(disk)), dir, content_bytes_max })
    }

    /// What `dir` holds, sorted by name; nothing when it is not there.
    fn names(&self, dir: &str) -> Result<Vec<(String, EntryKind)>> {
        let path = self.dir.join(dir);
        let entries = match self.disk.read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(VaultError::read("list", &path))?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(VaultError::read("list", &path))?;
            // One that is no text gets a name that no file of the layout has.
            names.push((entry.name.into_string().unwrap_or_default(), entry.kind));
        }
        names.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        Ok(names)
    }

    fn read(&self, path: &Path, max: u64) -> Result<Option<Vec<u8>>> {
        match self.disk.metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Ok(meta) if meta.kind != EntryKind::File => return Err(refused(path, "it is no regular file")),
            Ok(meta) if meta.len > max => {
                return Err(VaultError::TooLarge { what: "file", size: meta.len, limit: max });
            }
            found => found.map_err(VaultError::read("look at", path))?,
        };
        let failed = |source: Error| VaultError::ReadFailed { path: path.to_owned(), source };
        read_bounded(&*self.disk, path, max).map_err(failed)
    }

    /// The entity whose files are called `name`.
    fn entity(&self, name: &str, key: &DataKey) -> Result<Found> {
        let path = |suffix| self.dir.join(FILES).join(format!("{name}{suffix}"));
        let (content, meta) = (path(CONTENT), path(META));
        let said =
            self.read(&meta, META_BYTES_MAX)?.ok_or_else(|| refused(&content, "it has no metadata"))?;
        let sealed_max = self.content_bytes_max.saturating_add(TAG_BYTES as u64);
        let sealed = self.read(&content, sealed_max)?.ok_or_else(|| refused(&meta, "it has no content"))?;
        let meta = OlderMeta::parse(&said).map_err(|why| refused(&meta, why))?;
        let (sealed, tag) = match meta.tag {
            Some(tag) => (&*sealed, tag),
            None => {
                let cut = sealed.split_last_chunk::<TAG_BYTES>();
                let (sealed, tag) = cut.ok_or_else(|| refused(&content, "it has no tag"))?;
                (sealed, *tag)
            }
        };
        let plain = import::open(key, &meta.nonce, sealed, &tag).ok_or_else(|| VaultError::Tampered {
            what: format!("{} (or this is not its key)", content.display()).into(),
            source: None,
        })?;
        Ok(Found { meta, content: plain })
    }
}

impl Vault {
    /// Takes in what lies in `source` in the older layout of two files for an entity, sealed by AES-256-GCM with this key:
    /// `files/<id>.json.enc`, the sealed bytes, and `files/<id>.meta.json`; `templates/<schema>.json`. Nothing of it is
    /// changed. What is there already with the same content is passed over, so that an import that was interrupted goes on;
    /// with another content it is a [`VaultError::Conflict`], and stays.
    ///
    /// Of the metadata these are read, in small or capital letters, with or without `_` and `-`: the key's id (not needed),
    /// `algorithm` or `alg`, `iv` or `nonce` (12 bytes), `tag` or `authTag` (16 bytes; without one it stands behind the
    /// sealed content), `schemaId` or `schema`, `version`, `writerId` or `writer`, `timestamp`, `writtenAt` or
    /// `updatedAt` (RFC 3339, or a number since 1970), `database` or `db`, `entityKey` or `key`. Bytes are base64. Database
    /// and key in them say which entity it is, whatever the file is called; where two files say the same, the first by name
    /// counts and the second fails. Schema, writer, time and the version's number are kept: the number is at least 1, and
    /// larger than what a deleted entity of the name had.
    ///
    /// The source is believed nothing: no link in it is followed, no file read beyond its bound. Nothing bound these
    /// metadata to their content, so nothing can prove them. Keeps the names of the files of one directory in memory.
    ///
    /// # Errors
    /// [`VaultError::ReadFailed`] when a directory cannot be listed; [`VaultError::ReadOnly`]; [`VaultError::ShuttingDown`].
    /// Of what was not imported the report tells.
    ///
    /// # Cancel safety
    /// What was imported is; the next run does the rest.
    pub async fn import(
        &self,
        source: impl Into<PathBuf>,
        key: &DataKey,
        options: ImportOptions,
        told: OnImport<'_>,
    ) -> Result<ImportReport> {
        self.inner.blobs.check_writable()?;
        let (disk, dir) = (Arc::clone(&self.inner.blobs.options().disk), source.into());
        let max = self.inner.blobs.options().content_bytes_max;
        let opened = off_thread(&*disk, {
            let disk = Arc::clone(&disk);
            move || Source::open(&disk, dir, max)
        });
        let source = opened.await?;
        let key = Arc::new(DataKey::from_bytes(key.expose()));
        let mut report = ImportReport::default();
        for (name, kind) in self.listed(&source, TEMPLATES).await? {
            let path = source.dir.join(TEMPLATES).join(&name);
            match name.strip_suffix(TEMPLATE) {
                Some(id) if kind != EntryKind::Dir => {
                    let imported = self.import_schema(&source, &path, id, options).await;
                    report.note(&path, imported, told)?;
                }
                _ => report.ignored += 1,
            }
        }
        let mut from: HashMap<EntityId, String> = HashMap::new();
        for (name, kind) in self.listed(&source, FILES).await? {
            let path = source.dir.join(FILES).join(&name);
            let id = match (name.strip_suffix(CONTENT), name.strip_suffix(META)) {
                _ if kind == EntryKind::Dir => None,
                (Some(id), _) => Some(id),
                // Told of with its content, unless there is none.
                (None, Some(id)) => {
                    let content = source.dir.join(FILES).join(format!("{id}{CONTENT}"));
                    let disk = Arc::clone(&source.disk);
                    let is_there = off_thread(&*source.disk, move || disk.metadata(&content).is_ok()).await;
                    if is_there {
                        continue;
                    }
                    Some(id)
                }
                (None, None) => None,
            };
            let Some(id) = id else {
                report.ignored += 1;
                continue;
            };
            let imported = self.import_entity(&source, id, &key, options, &mut from, &mut report).await;
            report.note(&path, imported, told)?;
        }
        Ok(report)
    }

    async fn listed(&self, source: &Source, dir: &'static str) -> Result<Vec<(String, EntryKind)>> {
        let source = source.clone();
        self.run(move |_| source.names(dir)).await
    }

    async fn import_schema(
        &self,
        source: &Source,
        path: &Path,
        id: &str,
        options: ImportOptions,
    ) -> Result<Imported> {
        schemas::check_id(id)?;
        let (theirs, path) = (source.clone(), path.to_owned());
        let document = self.run(move |_| {
            let bytes = theirs.read(&path, SCHEMA_BYTES_MAX as u64)?;
            let bytes = bytes.ok_or_else(|| refused(&path, "it has gone meanwhile"))?;
            serde_json::from_slice::<Value>(&bytes).map_err(|_| refused(&path, "it is no JSON"))
        });
        let document = document.await?;
        let id = id.to_owned();
        match self.schemas().get(&id, None).await {
            Ok(there) if there.document == document => Ok(Imported::SchemaThere { id }),
            Ok(_) => Err(VaultError::SchemaInvalid {
                id,
                path: String::new(),
                why: "there is another one of this id".into(),
            }),
            Err(VaultError::SchemaNotFound { .. }) if options.dry_run => {
                schemas::check_document(&id, &document)?;
                Ok(Imported::Schema { id })
            }
            Err(VaultError::SchemaNotFound { .. }) => {
                self.schemas().put(&id, document).await?;
                Ok(Imported::Schema { id })
            }
            Err(error) => Err(error),
        }
    }

    async fn import_entity(
        &self,
        source: &Source,
        name: &str,
        key: &Arc<DataKey>,
        options: ImportOptions,
        from: &mut HashMap<EntityId, String>,
        report: &mut ImportReport,
    ) -> Result<Imported> {
        let (theirs, file, key) = (source.clone(), name.to_owned(), Arc::clone(key));
        let found = self.run(move |_| theirs.entity(&file, &key)).await?;
        let (id, bytes) = (found.meta.id.clone(), found.content.len() as u64);
        if let Some(first) = from.get(&id) {
            let path = source.dir.join(FILES).join(format!("{name}{META}"));
            return Err(refused(&path, format!("it says to be {id}, as {first} did")));
        }
        from.insert(id.clone(), name.to_owned());
        let imported = if options.dry_run {
            self.run(move |inner| inner.import(None, &found)).await?
        } else {
            let lock = self.hold(&id).await?;
            self.run(move |inner| inner.import(Some(lock), &found)).await?
        };
        if let Imported::Entity { .. } = imported {
            report.bytes = report.bytes.saturating_add(bytes);
        }
        Ok(imported)
    }
}

impl ImportReport {
    fn note(&mut self, path: &Path, imported: Result<Imported>, told: OnImport<'_>) -> Result<()> {
        let imported = match imported {
            Err(stop @ (VaultError::ShuttingDown | VaultError::ReadOnly { .. })) => return Err(stop),
            Err(why) => Imported::Failed { why },
            Ok(imported) => imported,
        };
        match &imported {
            Imported::Entity { .. } => self.entities += 1,
            Imported::EntityThere { .. } => self.entities_there += 1,
            Imported::Schema { .. } => self.schemas += 1,
            Imported::SchemaThere { .. } => self.schemas_there += 1,
            Imported::Failed { .. } => self.failed += 1,
        }
        told(path, &imported);
        if let Imported::Failed { why } = imported
            && self.failures.len() < FAILURES_NAMED_MAX
        {
            self.failures.push(Unreadable { path: path.to_owned(), why });
        }
        Ok(())
    }
}

impl Inner {
    /// Without a lock nothing is written.
    fn import(&self, lock: Option<LockGuard>, found: &Found) -> Result<Imported> {
        let (id, meta) = (&found.meta.id, &found.meta);
        let there = self.head(id)?;
        if let Some(there) = there.as_ref().filter(|there| !there.is_deleted) {
            let same = self.get(id)?.bytes() == &**found.content;
            return if same {
                Ok(Imported::EntityThere { id: id.clone() })
            } else {
                let (expected, found) = (expect::Expect::Absent, Some(there.version));
                Err(VaultError::Conflict { id: id.clone(), expected, found })
            };
        }
        meta.schema.as_deref().map_or(Ok(()), schemas::check_id)?;
        let writer = meta.writer.as_deref().unwrap_or(self.writer());
        if writer.len() > NAME_BYTES_MAX {
            return Err(VaultError::InvalidArgument { name: "writer", why: "is longer than 255 bytes" });
        }
        self.check_schema(id, meta.schema.as_deref(), &found.content)?;
        let Some(lock) = lock else { return Ok(Imported::Entity { id: id.clone(), version: None }) };
        if there.is_none() {
            self.renew_ring(&self.ring())?;
        }
        let blobs = self.blobs.options();
        let next = expect::next(there.as_ref(), || Incarnation::draw(blobs.clock.wall(), &*blobs.entropy))?;
        let version = Version { number: next.number.max(meta.version), ..next };
        let (schema, content) = (meta.schema.clone(), &*found.content);
        let written_at = meta.written_at.unwrap_or_else(|| blobs.clock.wall());
        self.publish(&lock, Draft { id, version, schema, writer, written_at, is_deleted: false, content })?;
        Ok(Imported::Entity { id: id.clone(), version: Some(version) })
    }
}
