//! The list of contents on volumes that belong to a copy. `docs/format.md` says it line by line.

use std::{fmt::Write as _, path::Path, path::PathBuf, sync::Arc};

use locus_core::{Error, Hasher, Result, Site, StoreId};
use locus_fs::{Disk, DiskFile, off_thread, sync_data};

use super::blobs::Needed;
use crate::store::fresh_dir::FreshDir;

const FILE: &str = "BLOBS";
const FORMAT: u32 = 1;
/// Written at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// The list, as far as it is written.
pub(super) struct Manifest {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    lines: String,
    offset: u64,
    count: u64,
    hasher: Hasher,
}

impl Manifest {
    pub(super) async fn create(disk: Arc<dyn Disk>, into: &FreshDir, store: &StoreId) -> Result<Self> {
        let path = into.path().join(FILE);
        let (inner, at) = (Arc::clone(&disk), path.clone());
        let file =
            off_thread(&*disk, move || inner.create_new(&at)).await.map_err(Error::io("create", &path))?;
        let lines = format!("locus blobs\nformat {FORMAT}\nstore {store}\n");
        Ok(Self { disk, file, path, lines, offset: 0, count: 0, hasher: Hasher::new() })
    }

    /// Adds a content; `path` is below the directory of its volume.
    pub(super) async fn push(&mut self, blob: &Needed, path: &Path) -> Result<()> {
        let Needed { volume, size, checksum, .. } = blob;
        let _ = writeln!(self.lines, "blob {volume} {size} {checksum} {}", path.display());
        self.count += 1;
        if self.lines.len() >= CHUNK_BYTES { self.flush(false).await } else { Ok(()) }
    }

    /// Writes the end, and makes all of it durable but for its name.
    pub(super) async fn end(mut self) -> Result<()> {
        let mut hasher = self.hasher.clone();
        hasher.update(self.lines.as_bytes());
        let _ = writeln!(self.lines, "end {} {}", self.count, hasher.finish());
        self.flush(true).await
    }

    async fn flush(&mut self, sync: bool) -> Result<()> {
        let lines = std::mem::take(&mut self.lines);
        self.hasher.update(lines.as_bytes());
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        self.offset += lines.len() as u64;
        off_thread(&*self.disk, move || {
            file.write_at(lines.as_bytes(), offset)?;
            if sync { sync_data(&*file, Site::CopiedContent) } else { Ok(()) }
        })
        .await
        .map_err(Error::io("write", &self.path))
    }
}
