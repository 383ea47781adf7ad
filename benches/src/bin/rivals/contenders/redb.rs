//! redb: a copy-on-write B-tree.

use std::{path::Path, time::Duration};

use locus_benches::{
    BoxError, Stopwatch,
    cycles::{Contender, Promise},
};
use parking_lot::Mutex;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use tokio::runtime::Handle;

use super::{
    Contents,
    grouped::{Change, Grouped, Rows},
};

const FILES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("files");

/// Without a sync, a commit reaches the disk with the next one that is synced.
const SYNC_EVERY: Duration = Duration::from_secs(1);

struct Redb {
    database: Database,
    promise: Promise,
    synced: Mutex<Stopwatch>,
}

/// With contents inside.
pub(crate) fn open(dir: &Path, promise: Promise, runtime: Handle) -> Result<Box<dyn Contender>, BoxError> {
    std::fs::create_dir_all(dir)?;
    let database = Database::create(dir.join("files.redb"))?;
    let write = database.begin_write()?;
    write.open_table(FILES)?;
    write.commit()?;
    let settings = match promise {
        Promise::Durable | Promise::LazyCompletions => "Durability::Immediate",
        Promise::Buffered => "Durability::None, and Immediate once a second",
    };
    let rows = Redb { database, promise, synced: Mutex::new(Stopwatch::start()) };
    Ok(Box::new(Grouped::start("redb", promise, settings, rows, Contents::Inside, dir, runtime)?))
}

impl std::fmt::Debug for Redb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redb").finish_non_exhaustive()
    }
}

impl Redb {
    fn durability(&self) -> Durability {
        let mut synced = self.synced.lock();
        if !self.promise.is_durable() && synced.elapsed() < SYNC_EVERY {
            return Durability::None;
        }
        *synced = Stopwatch::start();
        Durability::Immediate
    }
}

impl Rows for Redb {
    fn commit(&self, changes: &[Change]) -> Result<(), BoxError> {
        let mut write = self.database.begin_write()?;
        write.set_durability(self.durability())?;
        {
            let mut files = write.open_table(FILES)?;
            for change in changes {
                match change {
                    Change::Add { id, content } => drop(files.insert(id, content.as_ref())?),
                    Change::Remove { id } => drop(files.remove(id)?.ok_or("no such row")?),
                }
            }
        }
        Ok(write.commit()?)
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, BoxError> {
        let read = self.database.begin_read()?;
        let content = read.open_table(FILES)?.get(id)?.ok_or("no such row")?;
        Ok(content.value().to_vec())
    }
}
