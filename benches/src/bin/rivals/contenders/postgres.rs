//! PostgreSQL: a table, `FOR UPDATE SKIP LOCKED`, a connection for each worker.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use bytes::Bytes;
use locus_benches::{
    BoxError,
    cycles::{AsTask, Contender, Kind, Label, Load, Promise, Round},
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, task::spawn_blocking};
use tokio_postgres::{Client, Config, NoTls, Statement};

use super::{
    Contents, compare,
    files::{self, Files},
    server::{Account, Running, Server, find},
};

/// What its docs advise for many small writes; the rest are the defaults.
const TUNING: [&str; 5] = [
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
    "autovacuum_naptime=5s",
    "max_connections=200",
];

/// How many times a server that starts is asked whether it is ready.
const ASKED_MAX: u32 = 600;

/// A table of files.
#[derive(Debug)]
pub(crate) struct Postgres {
    label: Label,
    settings: String,
    table: Arc<Table>,
    runtime: Handle,
}

struct Table {
    name: &'static str,
    /// Connections that nobody works with just now.
    idle: Mutex<Vec<Worker>>,
    files: Option<Arc<Files>>,
    next: AtomicI64,
    running: Arc<Running>,
}

struct Worker {
    client: Client,
    insert: Statement,
    lease: Statement,
    remove: Statement,
}

/// Starts a server in `dir`: a table with contents inside, another with files beside.
pub(crate) fn open(
    dir: &Path,
    promise: Promise,
    runtime: &Handle,
) -> Result<Vec<Box<dyn Contender>>, BoxError> {
    let synchronous = if promise.is_durable() { "on" } else { "off" };
    let running = Arc::new(start(dir, synchronous, runtime)?);
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    for contents in [Contents::Inside, Contents::Beside] {
        let (name, table, said, files) = match contents {
            Contents::Inside => ("PostgreSQL bytea", "inside", "content inside, given by the lease", None),
            Contents::Beside => {
                let files = Files::create(&dir.join("files"), promise.is_durable())?;
                ("PostgreSQL row + file", "beside", files::SAID, Some(Arc::new(files)))
            }
        };
        let settings = format!(
            "SKIP LOCKED, a transaction each for row, lease and completion, a connection each over a unix socket, prepared statements; \
             synchronous_commit={synchronous} {}; {said}",
            TUNING.join(" ")
        );
        let table = Table {
            name: table,
            idle: Mutex::default(),
            files,
            next: AtomicI64::new(1),
            running: Arc::clone(&running),
        };
        runtime.block_on(table.create())?;
        contenders.push(Box::new(Postgres {
            label: Label::new(name, Kind::Stock, promise),
            settings,
            table: Arc::new(table),
            runtime: runtime.clone(),
        }));
    }
    Ok(contenders)
}

fn start(dir: &Path, synchronous: &str, runtime: &Handle) -> Result<Running, BoxError> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders = versions.map(|version| version.path().join("bin")).collect::<Vec<PathBuf>>();
    folders.sort();
    folders.reverse();
    let initdb = find("initdb", &folders).ok_or("initdb is not installed")?;
    let postgres = find("postgres", &folders).ok_or("postgres is not installed")?;

    let account = Account::ours()?;
    let data = dir.join("postgres");
    account.directory(&data)?;
    let mut command = Command::new(initdb);
    account.lend(&mut command);
    command.args(["--username=locus", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync", "-D"]);
    let made = command.arg(&data).current_dir("/").output()?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        return Err(format!("initdb as another account, in {}: {}", data.display(), said.trim()).into());
    }

    let socket = account.socket_directory()?;
    let mut arguments = vec!["-D".into(), data.display().to_string()];
    for setting in TUNING.iter().map(ToString::to_string).chain([
        format!("synchronous_commit={synchronous}"),
        format!("unix_socket_directories={}", socket.path().display()),
        "listen_addresses=".into(),
    ]) {
        arguments.extend(["-c".into(), setting]);
    }
    let log = dir.join("postgres.log");
    let server = Server::start(&postgres, &arguments, &log)?;
    Ok(runtime.block_on(server.ready(socket, &log, ASKED_MAX, connect))?.0)
}

async fn connect(socket: &Path) -> Result<Client, tokio_postgres::Error> {
    let mut config = Config::new();
    let (client, connection) =
        config.host_path(socket).user("locus").dbname("postgres").connect(NoTls).await?;
    tokio::spawn(connection); // ends with its client
    Ok(client)
}

impl Table {
    async fn create(&self) -> Result<(), BoxError> {
        let name = self.name;
        let client = connect(self.running.socket.path()).await?;
        let made = format!(
            "CREATE TABLE {name} (id bigint PRIMARY KEY, state smallint NOT NULL DEFAULT 0, content bytea);
             CREATE INDEX {name}_ready ON {name} (id) WHERE state = 0;
             ALTER TABLE {name} ALTER COLUMN content SET STORAGE EXTERNAL;"
        );
        Ok(client.batch_execute(&made).await?)
    }

    async fn worker(&self) -> Result<Worker, BoxError> {
        let idle = self.idle.lock().pop();
        if let Some(worker) = idle {
            return Ok(worker);
        }
        let name = self.name;
        let client = connect(self.running.socket.path()).await?;
        let insert = client.prepare(&format!("INSERT INTO {name} (id, content) VALUES ($1, $2)")).await?;
        let lease = client
            .prepare(&format!(
                "UPDATE {name} SET state = 1 WHERE id = (
                     SELECT id FROM {name} WHERE state = 0 ORDER BY id FOR UPDATE SKIP LOCKED LIMIT 1
                 ) RETURNING id, content"
            ))
            .await?;
        let remove = client.prepare(&format!("DELETE FROM {name} WHERE id = $1")).await?;
        Ok(Worker { client, insert, lease, remove })
    }

    async fn left(&self) -> Result<i64, BoxError> {
        let client = connect(self.running.socket.path()).await?;
        Ok(client.query_one(&format!("SELECT count(*) FROM {}", self.name), &[]).await?.get(0))
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Contender for Postgres {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_tasks(&self.runtime, &self.table, load, content)
    }

    fn close(self: Box<Self>) -> Result<Option<String>, BoxError> {
        match self.runtime.block_on(self.table.left())? {
            0 => Ok(None),
            left => Err(format!("{left} files are left").into()),
        }
    }
}

impl AsTask for Table {
    async fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        let worker = self.worker().await?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let inside = match &self.files {
            None => Some(content.as_ref()),
            Some(files) => {
                let (files, content) = (Arc::clone(files), content.clone());
                spawn_blocking(move || files.write(id.unsigned_abs(), &content)).await??;
                None
            }
        };
        worker.client.execute(&worker.insert, &[&id, &inside]).await?;
        // Whoever looks while others commit may find all locked that it sees.
        let row = loop {
            if let Some(row) = worker.client.query_opt(&worker.lease, &[]).await? {
                break row;
            }
        };
        let leased: i64 = row.try_get(0)?;
        match &self.files {
            None => compare(row.try_get::<_, &[u8]>(1)?, content)?,
            Some(files) => compare(&files.read(leased.unsigned_abs())?, content)?,
        }
        if worker.client.execute(&worker.remove, &[&leased]).await? != 1 {
            return Err("a file went to two workers".into());
        }
        if let Some(files) = &self.files {
            files.remove(leased.unsigned_abs())?;
        }
        self.idle.lock().push(worker);
        Ok(())
    }
}
