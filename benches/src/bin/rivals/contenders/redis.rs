//! Redis: a stream with a consumer group.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use locus_benches::{
    BoxError,
    cycles::{AsTask, Contender, Kind, Label, Load, Promise, Round},
};
use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection, cmd, pipe, streams::StreamReadReply};
use tokio::{runtime::Handle, task::spawn_blocking};

use super::{
    Contents, compare,
    files::{self, Files},
    server::{Account, Running, Server, find},
};

/// How many times a server that starts is asked whether it is ready.
const ASKED_MAX: u32 = 200;

/// A stream of files.
#[derive(Debug)]
pub(crate) struct Redis {
    label: Label,
    settings: String,
    stream: Arc<Stream>,
    runtime: Handle,
}

struct Stream {
    name: &'static str,
    connection: MultiplexedConnection,
    files: Option<Arc<Files>>,
    next: AtomicU64,
    _running: Arc<Running>,
}

/// Starts a server in `dir`: a stream with contents inside, another with files beside.
pub(crate) fn open(
    dir: &Path,
    promise: Promise,
    runtime: &Handle,
) -> Result<Vec<Box<dyn Contender>>, BoxError> {
    let fsync = if promise.is_durable() { "always" } else { "everysec" };
    let (running, connection) = start(dir, fsync, runtime)?;
    let running = Arc::new(running);
    let mut contenders: Vec<Box<dyn Contender>> = Vec::new();
    for contents in [Contents::Inside, Contents::Beside] {
        let (name, stream, said, files) = match contents {
            Contents::Inside => ("Redis inside", "inside", "content inside, given by the lease", None),
            Contents::Beside => {
                let files = Files::create(&dir.join("files"), promise.is_durable())?;
                ("Redis entry + file", "beside", files::SAID, Some(Arc::new(files)))
            }
        };
        let settings = format!(
            "appendonly yes, appendfsync {fsync}, save \"\"; a stream with a consumer group (XADD, XREADGROUP, XACK + XDEL), \
             one multiplexed connection over a unix socket; {said}"
        );
        let stream = Stream {
            name: stream,
            connection: connection.clone(),
            files,
            next: AtomicU64::new(0),
            _running: Arc::clone(&running),
        };
        runtime.block_on(stream.create())?;
        contenders.push(Box::new(Redis {
            label: Label::new(name, Kind::Stock, promise),
            settings,
            stream: Arc::new(stream),
            runtime: runtime.clone(),
        }));
    }
    Ok(contenders)
}

fn start(dir: &Path, fsync: &str, runtime: &Handle) -> Result<(Running, MultiplexedConnection), BoxError> {
    let program = find("redis-server", &[]).ok_or("redis-server is not installed")?;
    let account = Account::ours()?;
    let data = dir.join("redis");
    account.directory(&data)?;
    let folder = account.socket_directory()?;
    let socket = folder.path().join("redis.sock").display().to_string();
    let data = data.display().to_string();
    let arguments = [
        "--port",
        "0",
        "--unixsocket",
        &socket,
        "--dir",
        &data,
        "--save",
        "",
        "--appendonly",
        "yes",
        "--appendfsync",
        fsync,
    ]
    .map(Into::into);
    let log = dir.join("redis.log");
    let server = Server::start(&program, &arguments, &log)?;
    let client = Client::open(format!("redis+unix://{socket}"))?;
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    let connect = async |_: &Path| client.get_multiplexed_async_connection_with_config(&config).await;
    runtime.block_on(server.ready(folder, &log, ASKED_MAX, connect))
}

impl Stream {
    async fn create(&self) -> Result<(), BoxError> {
        let mut connection = self.connection.clone();
        let made = cmd("XGROUP").arg(&["CREATE", self.name, "workers", "$", "MKSTREAM"]).to_owned();
        Ok(made.exec_async(&mut connection).await?)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Contender for Redis {
    fn label(&self) -> &Label {
        &self.label
    }

    fn settings(&self) -> String {
        self.settings.clone()
    }

    fn round(&self, load: Load, content: &Bytes) -> Result<Round, BoxError> {
        Round::of_tasks(&self.runtime, &self.stream, load, content)
    }
}

impl AsTask for Stream {
    async fn cycle(&self, content: &Bytes, _alone: bool) -> Result<(), BoxError> {
        let mut redis = self.connection.clone();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let named = id.to_string();
        let entry = match &self.files {
            None => content.as_ref(),
            Some(files) => {
                let (files, content) = (Arc::clone(files), content.clone());
                spawn_blocking(move || files.write(id, &content)).await??;
                named.as_bytes()
            }
        };
        cmd("XADD").arg(&[self.name, "*", "content"]).arg(entry).exec_async(&mut redis).await?;

        let lease = ["GROUP", "workers", "one", "COUNT", "1", "STREAMS", self.name, ">"];
        let reply: Option<StreamReadReply> = cmd("XREADGROUP").arg(&lease).query_async(&mut redis).await?;
        let leased = reply.and_then(|reply| reply.keys.into_iter().next()?.ids.into_iter().next());
        let leased = leased.ok_or("no file was ready")?;
        let entry: Vec<u8> = leased.get("content").ok_or("an entry without content")?;
        let beside = match &self.files {
            None => {
                compare(&entry, content)?;
                None
            }
            Some(files) => {
                let id = std::str::from_utf8(&entry)?.parse()?;
                compare(&files.read(id)?, content)?;
                Some((files, id))
            }
        };
        let gone: (u64, u64) = pipe()
            .cmd("XACK")
            .arg(&[self.name, "workers", &leased.id])
            .cmd("XDEL")
            .arg(&[self.name, &leased.id])
            .query_async(&mut redis)
            .await?;
        if gone != (1, 1) {
            return Err("a file went to two workers".into());
        }
        if let Some((files, id)) = beside {
            files.remove(id)?;
        }
        Ok(())
    }

    async fn settle(&self) -> Result<(), BoxError> {
        let mut redis = self.connection.clone();
        match cmd("XLEN").arg(self.name).query_async(&mut redis).await? {
            0_u64 => Ok(()),
            left => Err(format!("{left} files are left").into()),
        }
    }
}
