//! fjall: a log-structured merge tree.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode};
use locus_benches::{
    BoxError,
    cycles::{Contender, Promise},
};
use tokio::runtime::Handle;

use super::{
    Contents,
    grouped::{Change, Grouped, Rows},
};

struct Fjall {
    database: Database,
    files: Keyspace,
    persist: PersistMode,
}

/// With contents inside, or beside.
pub(crate) fn open(
    dir: &Path,
    contents: Contents,
    promise: Promise,
    runtime: Handle,
) -> Result<Box<dyn Contender>, BoxError> {
    std::fs::create_dir_all(dir)?;
    let database = Database::builder(dir.join("fjall")).open()?;
    let (name, separated) = match contents {
        Contents::Inside => ("fjall", Some(KvSeparationOptions::default())),
        Contents::Beside => ("fjall + file", None),
    };
    let files =
        database.keyspace("files", || KeyspaceCreateOptions::default().with_kv_separation(separated))?;
    let (persist, said) = if promise.is_durable() {
        (PersistMode::SyncData, "PersistMode::SyncData")
    } else {
        (PersistMode::Buffer, "PersistMode::Buffer")
    };
    let separated =
        if contents == Contents::Inside { ", key-value separation with its defaults" } else { "" };
    let settings = format!("a WriteBatch with {said}{separated}");
    let rows = Fjall { database, files, persist };
    Ok(Box::new(Grouped::start(name, promise, &settings, rows, contents, dir, runtime)?))
}

impl std::fmt::Debug for Fjall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fjall").field("persist", &self.persist).finish_non_exhaustive()
    }
}

impl Rows for Fjall {
    fn commit(&self, changes: &[Change]) -> Result<(), BoxError> {
        let mut batch = self.database.batch().durability(Some(self.persist));
        for change in changes {
            match change {
                Change::Add { id, content } => {
                    batch.insert(&self.files, id.to_be_bytes(), content.as_ref());
                }
                Change::Remove { id } => batch.remove(&self.files, id.to_be_bytes()),
            }
        }
        Ok(batch.commit()?)
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, BoxError> {
        Ok(self.files.get(id.to_be_bytes())?.ok_or("no such row")?.to_vec())
    }
}
