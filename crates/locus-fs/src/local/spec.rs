//! The description of a local volume.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use locus_core::{Error, Result, StorageVolume, VolumeId};

use crate::{
    door::off_thread,
    local::{
        layout::DEPTH_MAX,
        mount::{Wanted, mount},
        volume::OpenLocalVolume,
    },
    volume_spec::{VolumeContext, VolumeSpec},
};

/// A directory of a local file system, to be used as a volume. A plain description: nothing is touched, and nothing
/// is refused, before it is [opened](VolumeSpec::open).
///
/// The directory may be absent, empty, or a volume of the same store. Its marker `.locus-volume` says whose it is; an
/// empty or absent directory gets one when it is opened for the first time.
///
/// ```
/// # use locus_fs::{LocalVolume, VolumeSpec};
/// let volume = LocalVolume::new("vol-001", "./data/vol-001").shard_depth(2);
/// assert_eq!(volume.id()?.as_str(), "vol-001");
/// # Ok::<(), locus_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct LocalVolume {
    id: String,
    path: PathBuf,
    shard_depth: u8,
    must_exist: bool,
}

impl LocalVolume {
    /// The volume of this name in this directory. A relative path is taken from the directory that is the present one
    /// when the volume is opened.
    #[must_use]
    pub fn new(id: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self { id: id.into(), path: path.into(), shard_depth: 1, must_exist: false }
    }

    /// How many levels of 256 directories lie between an owner and its files: 0 to 3, default 1. Counts only when the
    /// volume is made; afterwards its marker says it.
    #[must_use]
    pub fn shard_depth(mut self, levels: u8) -> Self {
        self.shard_depth = levels;
        self
    }
}

#[async_trait]
impl VolumeSpec for LocalVolume {
    fn id(&self) -> Result<VolumeId> {
        VolumeId::parse(&self.id)
    }

    fn expect_existing(&mut self) {
        self.must_exist = true;
    }

    async fn open(self: Box<Self>, context: VolumeContext) -> Result<Arc<dyn StorageVolume>> {
        let id = self.id()?;
        if self.shard_depth > DEPTH_MAX {
            return Err(Error::InvalidArgument { name: "shard_depth", why: "is more than 3" });
        }
        if self.path.as_os_str().is_empty() {
            return Err(Error::InvalidArgument {
                name: "path",
                why: "is empty: name the volume's directory",
            });
        }
        let path = std::path::absolute(&self.path).map_err(Error::io("find", &self.path))?;
        let wanted = Wanted { id, path, depth: self.shard_depth, must_exist: self.must_exist };
        let disk = Arc::clone(&context.disk);
        let core = off_thread(&*disk, move || mount(wanted, context)).await?;
        Ok(Arc::new(OpenLocalVolume::new(core)))
    }
}
