//! The note beside the store of where tours stand, so that they go on over a restart.

use std::{
    io, mem,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Error, Result};
use locus_fs::{Disk, off_thread, read_bounded, replace};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use crate::stands::{self, Stands};

/// The note of one store.
#[derive(Debug)]
pub(crate) struct StandNote {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    noted: Arc<Mutex<Noted>>,
}

#[derive(Debug)]
struct Noted {
    /// What the file holds; `None` when it cannot be read.
    stands: Option<Stands>,
    /// The last attempt failed, and that was told.
    is_failing: bool,
}

impl StandNote {
    /// The note in `dir`, and what it says; nothing when it says nothing that can be read. Blocks the thread.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> (Self, Stands) {
        let path = dir.join(stands::NAME);
        let stands = read(&*disk, &path).inspect_err(|error| {
            let error = error as &dyn std::error::Error;
            warn!(path = %path.display(), error, "note of where sweeps stand cannot be read, they begin anew");
        });
        let stands = stands.ok();
        let said = stands.clone().unwrap_or_default();
        let noted = Arc::new(Mutex::new(Noted { stands, is_failing: false }));
        (Self { disk, path, noted }, said)
    }

    /// Notes a change. What fails is told, and tried again with the next one: a note that is too old costs another look.
    ///
    /// # Cancel safety
    /// What was begun is done to its end.
    pub(crate) async fn keep(&self, change: impl FnOnce(&mut Stands)) {
        let mut noted = Arc::clone(&self.noted).lock_owned().await;
        let mut now = noted.stands.clone().unwrap_or_default();
        change(&mut now);
        if noted.stands.as_ref() == Some(&now) {
            return;
        }
        let (disk, path) = (Arc::clone(&self.disk), self.path.clone());
        off_thread(&*self.disk, move || match write(&*disk, &path, &now) {
            Ok(()) => *noted = Noted { stands: Some(now), is_failing: false },
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                if mem::replace(&mut noted.is_failing, true) {
                    debug!(path = %path.display(), error, "where sweeps stand could not be noted");
                } else {
                    warn!(path = %path.display(), error, "where sweeps stand could not be noted, tried again later");
                }
            }
        })
        .await;
    }
}

fn read(disk: &dyn Disk, path: &Path) -> Result<Stands> {
    match read_bounded(disk, path, stands::FILE_BYTES_MAX)? {
        Some(bytes) => stands::decode(path, &bytes),
        None => Ok(Stands::default()),
    }
}

fn write(disk: &dyn Disk, path: &Path, stands: &Stands) -> Result<()> {
    if *stands != Stands::default() {
        return replace(disk, path, &stands::encode(stands));
    }
    match disk.remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}
