//! What a worker does with a file: hashes the content and compares it with what the source had at intake.

use std::sync::Arc;

use locus::prelude::*;
use locus_core::{BoxError, Checksum, Hasher};
use tokio::io::AsyncReadExt;

use crate::{
    fate,
    progress::Progress,
    source::{HASH, PATH, SMALL_BYTES_MAX},
    tally::Tally,
};

const CHUNK_BYTES: usize = 256 << 10;

/// The handler that is given to the workers. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    pub(crate) fail_percent: f64,
    pub(crate) tally: Arc<Tally>,
    pub(crate) progress: Progress,
}

/// Why an attempt failed.
#[derive(Debug)]
enum Failed {
    OnPurpose,
    Mismatch(String),
    Other(BoxError),
}

impl Work {
    /// Completes the file, or says why it is to be tried again.
    pub(crate) async fn process(self, file: WorkerFile) -> Result<(), BoxError> {
        match self.check(&file).await {
            Ok(()) => {
                self.tally.processed_one(file.location().volume_id.is_none());
                self.progress.processed_one();
                Ok(())
            }
            Err(failed) => {
                self.tally.failed_one(file.key);
                Err(match failed {
                    Failed::OnPurpose => "failed on purpose, at the first attempt only".into(),
                    Failed::Mismatch(what) => {
                        self.tally.mismatched_one(file.key);
                        what.into()
                    }
                    Failed::Other(error) => error,
                })
            }
        }
    }

    async fn check(&self, file: &WorkerFile) -> Result<(), Failed> {
        let path = file.properties.get(PATH).map(String::as_str).unwrap_or_default();
        if file.retry_count == 0 && fate::fails_once(path, self.fail_percent) {
            return Err(Failed::OnPurpose);
        }
        let found = hash(file).await?.to_string();
        match file.properties.get(HASH) {
            Some(expected) if *expected == found => Ok(()),
            Some(expected) => Err(Failed::Mismatch(format!("{path} had {expected} at intake, is {found}"))),
            None => Err(Failed::Other("the file does not say what its source had at intake".into())),
        }
    }
}

/// The hash of a content, read whole when it is small and piece by piece when it is not.
async fn hash(file: &WorkerFile) -> Result<Checksum, Failed> {
    if file.size <= SMALL_BYTES_MAX {
        return Ok(Checksum::of(&file.bytes().await?));
    }
    let mut reader = file.reader().await?;
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match reader.read(&mut chunk).await? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(chunk.get(..read).unwrap_or_default()),
        }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        match error {
            Error::ChecksumMismatch { .. } => Self::Mismatch(error.to_string()),
            error => Self::Other(error.into()),
        }
    }
}

/// A reader wraps the error of the store.
impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        match error.downcast::<Error>() {
            Ok(error) => error.into(),
            Err(error) => Self::Other(error.into()),
        }
    }
}
