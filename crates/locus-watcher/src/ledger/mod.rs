//! Which sources the store may remember: a small file for each watcher, appended to before a source is brought in.
//!
//! It is not what makes an import happen once: that is the name of the source in the record of its file. It is how those
//! names are forgotten in the end. So what is lost of it with the power is remembered for longer than needed, and no more.

mod file;
pub(crate) mod format;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Error, Result};
use locus_fs::{Disk, off_thread};
use tokio::sync::Mutex;

use self::file::{Draft, LedgerFile};
use crate::source::Noted;

/// Entries that are read and looked at together.
pub(crate) const PAGE: usize = 512;

/// The ledger of one watcher. Whatever is done with its file is done to its end even when the caller goes away, and
/// nothing else is done meanwhile.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// The watched one.
    folder: PathBuf,
    durable: bool,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    /// `None` until it was read through once, and after a write that failed.
    file: Option<LedgerFile>,
    /// Entries that the last reading kept.
    kept: u64,
    /// Entries since then.
    added: u64,
}

/// A reading of all entries, and the new file that those which are kept go to.
#[derive(Debug)]
pub(crate) struct Reading {
    draft: Option<Draft>,
    /// The ledger was of a folder with another path.
    pub(crate) is_of_another: bool,
    kept: u64,
}

impl Ledger {
    pub(crate) fn new(disk: Arc<dyn Disk>, path: PathBuf, folder: PathBuf, durable: bool) -> Self {
        Self { disk, path, folder, durable, inner: Arc::default() }
    }

    /// Whether entries can be added; if not, it is to be read through first.
    pub(crate) async fn is_open(&self) -> bool {
        self.inner.lock().await.file.is_some()
    }

    /// Entries that the last reading kept, and those added since.
    pub(crate) async fn entries(&self) -> (u64, u64) {
        let inner = self.inner.lock().await;
        (inner.kept, inner.added)
    }

    /// Adds entries; in Durable mode they are durable when this returns.
    ///
    /// # Errors
    /// [`Error::Io`]: then it is to be read through before anything is added again.
    pub(crate) async fn add(&self, entries: Vec<Noted>) -> Result<()> {
        let durable = self.durable;
        let path = self.path.clone();
        self.alone(move |_, inner| {
            let Some(mut file) = inner.file.take() else {
                return Err(Error::io("write", path)(std::io::ErrorKind::NotFound.into()));
            };
            file.append(&entries, durable)?;
            inner.added += entries.len() as u64;
            inner.file = Some(file);
            Ok(())
        })
        .await
    }

    /// Begins to read all entries.
    pub(crate) async fn read(&self) -> Result<Reading> {
        let (path, folder) = (self.path.clone(), self.folder.clone());
        let draft = self.alone(move |disk, _| Draft::begin(disk, &path, &folder)).await?;
        Ok(Reading { is_of_another: draft.is_of_another, draft: Some(draft), kept: 0 })
    }

    /// The next entries; none when that was all.
    pub(crate) async fn next(&self, reading: &mut Reading) -> Result<Vec<Noted>> {
        self.with(reading, |draft| draft.read(PAGE)).await
    }

    /// Keeps these.
    pub(crate) async fn keep(&self, reading: &mut Reading, entries: Vec<Noted>) -> Result<()> {
        reading.kept += entries.len() as u64;
        self.with(reading, move |draft| draft.keep(&entries)).await
    }

    /// What was kept is the ledger from now on.
    pub(crate) async fn finish(&self, mut reading: Reading) -> Result<()> {
        let Some(draft) = reading.draft.take() else { return Ok(()) };
        let kept = reading.kept;
        self.alone(move |_, inner| {
            let (file, published) = draft.publish();
            inner.file = published.is_ok().then_some(file);
            (inner.kept, inner.added) = (kept, 0);
            published
        })
        .await
    }

    /// Waits for what is being done. Nothing is done afterwards but what is asked for anew.
    pub(crate) async fn rest(&self) {
        drop(self.inner.lock().await);
    }

    async fn with<T: Send + 'static>(
        &self,
        reading: &mut Reading,
        work: impl FnOnce(&mut Draft) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let Some(mut draft) = reading.draft.take() else {
            return Err(Error::io("read", &self.path)(std::io::ErrorKind::NotFound.into()));
        };
        let (draft, done) = self
            .alone(move |_, _| {
                let done = work(&mut draft);
                (draft, done)
            })
            .await;
        reading.draft = Some(draft);
        done
    }

    async fn alone<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<dyn Disk>, &mut Inner) -> T + Send + 'static,
    ) -> T {
        let mut inner = Arc::clone(&self.inner).lock_owned().await;
        let disk = Arc::clone(&self.disk);
        off_thread(&*self.disk, move || work(&disk, &mut inner)).await
    }
}

/// Where the ledger of a watcher lies.
pub(crate) fn path_in(dir: &Path, watcher: &str) -> PathBuf {
    dir.join(format!("{watcher}.ledger"))
}
