//! An open blob.

use std::{fmt, ops::Range, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{Blob, Error, Result};

use crate::{disk::DiskFile, local::core::Core};

/// A blob's open file: readable even after its name is gone or its volume was closed.
pub(crate) struct OpenBlob {
    pub(crate) core: Arc<Core>,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) length: u64,
}

impl fmt::Debug for OpenBlob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenBlob({})", self.path.display())
    }
}

impl Drop for OpenBlob {
    fn drop(&mut self) {
        self.core.close_file(&self.file);
    }
}

#[async_trait]
impl Blob for OpenBlob {
    async fn read_at(&self, offset: u64, len: usize) -> Result<Bytes> {
        let range = offset..offset.saturating_add(len as u64).min(self.length);
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let file = Arc::clone(&self.file);
        self.core.read_hop(move |_| read(&*file, range)).await.map_err(Error::io("read", &self.path))
    }
}

/// The bytes of a range that lies inside the file; fewer when the file is shorter than it was.
pub(crate) fn read(file: &dyn DiskFile, range: Range<u64>) -> std::io::Result<Bytes> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; len];
    let filled = file.read_at(&mut bytes, range.start)?;
    bytes.truncate(filled);
    Ok(bytes.into())
}
