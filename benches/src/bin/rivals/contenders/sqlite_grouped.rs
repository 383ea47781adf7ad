//! SQLite as its docs advise: a write-ahead log, one writer who groups, readers of their own.

use std::path::{Path, PathBuf};

use locus_benches::{
    BoxError,
    cycles::{Contender, Promise},
};
use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::runtime::Handle;

use super::{
    Contents,
    grouped::{Change, Grouped, Rows},
};

/// SQLite's own measurements of blobs inside against files beside recommend 8 or 16 KiB.
const PAGE_BYTES: u32 = 8_192;

#[derive(Debug)]
struct Sqlite {
    path: PathBuf,
    writer: Mutex<Connection>,
    /// Those that nobody reads with just now.
    readers: Mutex<Vec<Connection>>,
}

/// With contents inside, or beside.
pub(crate) fn open(
    dir: &Path,
    contents: Contents,
    promise: Promise,
    runtime: Handle,
) -> Result<Box<dyn Contender>, BoxError> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join("files.sqlite");
    let writer = Connection::open(&path)?;
    let synchronous = if promise.is_durable() { "FULL" } else { "NORMAL" };
    writer.execute_batch(&format!(
        "PRAGMA page_size = {PAGE_BYTES}; PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         CREATE TABLE files (id INTEGER PRIMARY KEY, content BLOB NOT NULL);"
    ))?;
    let name = match contents {
        Contents::Inside => "SQLite grouped inside",
        Contents::Beside => "SQLite grouped row + file",
    };
    let settings = format!(
        "journal_mode = WAL, synchronous = {synchronous}, page_size = {PAGE_BYTES}, cached statements, readers of their own"
    );
    let rows = Sqlite { path, writer: Mutex::new(writer), readers: Mutex::default() };
    Ok(Box::new(Grouped::start(name, promise, &settings, rows, contents, dir, runtime)?))
}

impl Rows for Sqlite {
    fn commit(&self, changes: &[Change]) -> Result<(), BoxError> {
        let mut writer = self.writer.lock();
        let transaction = writer.transaction()?;
        for change in changes {
            let changed = match change {
                Change::Add { id, content } => transaction
                    .prepare_cached("INSERT INTO files (id, content) VALUES (?1, ?2)")?
                    .execute((id, content.as_ref()))?,
                Change::Remove { id } => {
                    transaction.prepare_cached("DELETE FROM files WHERE id = ?1")?.execute([id])?
                }
            };
            if changed != 1 {
                return Err("no such row".into());
            }
        }
        Ok(transaction.commit()?)
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, BoxError> {
        let idle = self.readers.lock().pop();
        let reader = idle.map_or_else(|| Connection::open(&self.path), Ok)?;
        let content = reader
            .prepare_cached("SELECT content FROM files WHERE id = ?1")?
            .query_one([id], |row| row.get(0))?;
        self.readers.lock().push(reader);
        Ok(content)
    }
}
