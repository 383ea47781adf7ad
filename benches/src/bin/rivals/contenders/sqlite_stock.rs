//! SQLite as people first write it: one connection behind a mutex, a transaction for each step.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use locus_benches::{
    BoxError,
    cycles::{AsThread, Contender, Kind, Label, Load, Promise, Round},
};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};

use super::{
    Contents, compare,
    files::{self, Files},
};

/// A table of files, and a thread for each of those in flight.
#[derive(Debug)]
pub(crate) struct SqliteStock {
    label: Label,
    synchronous: &'static str,
    connection: Mutex<Connection>,
    files: Option<Files>,
    /// Id of the next file beside a row.
    next: AtomicU64,
}

impl SqliteStock {
    pub(crate) fn open(dir: &Path, contents: Contents, promise: Promise) -> Result<Self, BoxError> {
        std::fs::create_dir_all(dir)?;
        let connection = Connection::open(dir.join("files.sqlite"))?;
        let synchronous = if promise.is_durable() { "FULL" } else { "OFF" };
        connection.execute_batch(&format!(
            "PRAGMA synchronous = {synchronous};
             CREATE TABLE files (id INTEGER PRIMARY KEY, state INTEGER NOT NULL DEFAULT 0, content BLOB);
             CREATE INDEX ready ON files (state, id);"
        ))?;
        let (name, files) = match contents {
            Contents::Inside => ("SQLite inside", None),
            Contents::Beside => {
                ("SQLite row + file", Some(Files::create(&dir.join("files"), promise.is_durable())?))
            }
        };
        Ok(Self {
            label: Label::new(name, Kind::Stock, promise),
            synchronous,
            connection: Mutex::new(connection),
            files,
            next: AtomicU64::new(1),
        })
    }
}

impl Contender for SqliteStock {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        let files = if self.files.is_some() { files::SAID } else { "content inside" };
        let synchronous = self.synchronous;
        format!(
            "one connection behind a mutex, a transaction each for row, lease and completion; synchronous = {synchronous}, \
             default rollback journal; {files}"
        )
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_threads(self, load, content)
    }
}

impl AsThread for SqliteStock {
    fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        match &self.files {
            None => {
                self.connection
                    .lock()
                    .prepare_cached("INSERT INTO files (content) VALUES (?1)")?
                    .execute([content.as_ref()])?;
            }
            Some(files) => {
                // The row appears when its file is whole; its id is known before.
                let id = self.next.fetch_add(1, Ordering::Relaxed);
                files.write(id, content)?;
                self.connection.lock().prepare_cached("INSERT INTO files (id) VALUES (?1)")?.execute([id])?;
            }
        }
        let leased = self
            .connection
            .lock()
            .prepare_cached(
                "UPDATE files SET state = 1 WHERE id = (SELECT id FROM files WHERE state = 0 ORDER BY id LIMIT 1)
                 RETURNING id",
            )?
            .query_one([], |row| row.get::<_, u64>(0))
            .optional()?
            .ok_or("no file was ready")?;
        let read = match &self.files {
            None => self
                .connection
                .lock()
                .prepare_cached("SELECT content FROM files WHERE id = ?1")?
                .query_one([leased], |row| row.get(0))?,
            Some(files) => files.read(leased)?,
        };
        compare(&read, content)?;
        let gone =
            self.connection.lock().prepare_cached("DELETE FROM files WHERE id = ?1")?.execute([leased])?;
        if gone != 1 {
            return Err("a file went to two workers".into());
        }
        if let Some(files) = &self.files {
            files.remove(leased)?;
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), BoxError> {
        let left =
            self.connection.lock().query_one("SELECT count(*) FROM files", [], |row| row.get::<_, u64>(0))?;
        if left == 0 { Ok(()) } else { Err(format!("{left} files are left").into()) }
    }
}
