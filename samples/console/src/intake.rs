//! Takes the files of a folder in, several at a time, each once per data directory.

use std::{path::PathBuf, sync::Arc, time::Duration};

use locus::prelude::*;
use locus_core::BoxError;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use crate::{
    fate,
    fault::in_one_line,
    progress::Progress,
    source::{self, Source},
    stop::Stop,
    tally::Tally,
};

/// Sources that are taken in at once: those that are confirmed together share one sync.
const INTAKES: usize = 32;
/// Sources that were found and wait for one of the intakes.
const FOUND_MAX: usize = 256;
/// How long a source waits for room before it is tried again.
const PATIENCE: Duration = Duration::from_millis(50);

/// What takes sources in. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    pub(crate) locus: Locus,
    pub(crate) tenants: Arc<[TenantContext]>,
    /// Takes in again what earlier runs took in.
    pub(crate) again: bool,
    /// Idempotency keys at start.
    pub(crate) before: u64,
    pub(crate) tally: Arc<Tally>,
    pub(crate) progress: Progress,
    pub(crate) stop: Stop,
}

impl Intake {
    /// Takes in what is under `input`, `left_out` excepted, until all is there or the run is to end. What cannot be read
    /// is named, counted and passed by.
    pub(crate) async fn run(&self, input: PathBuf, left_out: Vec<PathBuf>) -> Result<(), BoxError> {
        let (found, sources) = mpsc::channel(FOUND_MAX);
        let sources = Arc::new(Mutex::new(sources));
        let mut tasks = JoinSet::new();
        let walker = self.clone();
        tasks.spawn_blocking(move || walker.walk(input, left_out, &found));
        for _ in 0..INTAKES {
            tasks.spawn(self.clone().take_in_all(Arc::clone(&sources)));
        }
        drop(sources);

        let mut outcome = Ok(());
        while let Some(ended) = tasks.join_next().await {
            let ended = ended.map_err(BoxError::from).and_then(|result| result.map_err(BoxError::from));
            if ended.is_err() && outcome.is_ok() {
                self.stop.now(); // the other intakes need not go on
                outcome = ended;
            }
        }
        outcome
    }

    /// Blocks the thread.
    fn walk(
        &self,
        input: PathBuf,
        left_out: Vec<PathBuf>,
        found: &mpsc::Sender<Source>,
    ) -> Result<(), Error> {
        for source in source::walk(&input, left_out) {
            match source {
                Ok(source) => {
                    self.progress.found_one();
                    if self.stop.is_asked() || found.blocking_send(source).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    let path = error.path().map(|path| path.display().to_string()).unwrap_or_default();
                    self.skip(&path, &error);
                }
            }
        }
        Ok(())
    }

    async fn take_in_all(self, sources: Arc<Mutex<mpsc::Receiver<Source>>>) -> Result<(), Error> {
        while !self.stop.is_asked() {
            let Some(source) = sources.lock().await.recv().await else { break };
            self.take_in(Arc::new(source)).await?;
        }
        Ok(())
    }

    /// One source: opened and hashed, then written. Whoever has seen it before gets the earlier file.
    async fn take_in(&self, source: Arc<Source>) -> Result<(), Error> {
        let Some(tenant) = self.tenants.get(fate::tenant_of(&source.name, self.tenants.len())) else {
            return Ok(()); // there is at least one
        };
        if self.again && self.locus.pool().forget(tenant, &source.name).await? {
            self.tally.forgot_one();
        }
        while !self.stop.is_asked() {
            let opened = Arc::clone(&source);
            let prepared = match tokio::task::spawn_blocking(move || opened.prepare()).await {
                Ok(Ok(prepared)) => prepared,
                Ok(Err(error)) => return self.passed_by(&source, &error),
                Err(_) => return Err(Error::ShuttingDown), // the runtime is being closed
            };
            let options = WriteOptions::new()
                .original_name(source.file_name())
                .directory(source.directory())
                .properties(source.properties(prepared.checksum))
                .expected_checksum(prepared.checksum)
                .idempotency_key(IdempotencyKey::until_forgotten(source.name.as_str()));
            match self.locus.pool().write(tenant, prepared.content, options).await {
                Ok(_) => {
                    self.tally.took_in(prepared.bytes);
                    self.progress.took_in(self.to_process());
                    break;
                }
                // It changed, or went, since it was hashed.
                Err(error @ (Error::ChecksumMismatch { .. } | Error::Source { .. })) => {
                    return self.passed_by(&source, &error);
                }
                Err(error) if is_want_of_room(&error) && self.workers_make_room() => {
                    tokio::time::sleep(PATIENCE).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Files that this run has to process, as far as it knows.
    fn to_process(&self) -> u64 {
        let keys = self.locus.statistics().idempotency_keys + self.tally.forgotten();
        self.locus.open_report().recovered + keys.saturating_sub(self.before)
    }

    fn passed_by(&self, source: &Source, why: &(dyn std::error::Error + 'static)) -> Result<(), Error> {
        self.skip(&source.path.display().to_string(), why);
        Ok(())
    }

    fn skip(&self, path: &str, why: &(dyn std::error::Error + 'static)) {
        self.tally.skipped_one();
        self.progress.say(format_args!("skipped {path}: {}", in_one_line(why)));
    }

    /// Whether a file may still be completed, and its room be given back.
    fn workers_make_room(&self) -> bool {
        self.locus.counts().values().any(|tenant| tenant.files() > tenant.permanently_failed)
    }
}

fn is_want_of_room(error: &Error) -> bool {
    let is_quota = matches!(
        error,
        Error::TenantQuotaExceeded { .. }
            | Error::DirectoryQuotaExceeded { .. }
            | Error::GlobalQuotaExceeded { .. }
    );
    is_quota || error.is_full()
}
