//! The description of a local volume.

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use locus_core::{Error, Result, StorageVolume, VolumeId};

use crate::{
    door::off_thread,
    local::{
        adoption::Adopt,
        core::{READS_MAX, WRITES_MAX},
        layout::DEPTH_MAX,
        mount::{Wanted, mount},
        volume::OpenLocalVolume,
    },
    volume_spec::{VolumeContext, VolumeSpec},
};

/// A directory of a local file system, to be used as a volume. A plain description: nothing is touched, and nothing
/// is refused, before it is [opened](VolumeSpec::open).
///
/// The directory may be absent, empty, or a volume of the same store; one of another store is refused unless it is to be
/// [adopted](Self::adopt). Its marker `.locus-volume` says whose it is; an
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
    adopt: Option<Adopt>,
    reads_max: usize,
    writes_max: usize,
}

/// Most calls that a volume may be allowed at the same time.
const CALLS_MAX: usize = 1_024;

impl LocalVolume {
    /// The volume of this name in this directory. A relative path is taken from the directory that is the present one
    /// when the volume is opened.
    #[must_use]
    pub fn new(id: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            id: id.into(),
            path: path.into(),
            shard_depth: 1,
            must_exist: false,
            adopt: None,
            reads_max: READS_MAX,
            writes_max: WRITES_MAX,
        }
    }

    /// How many levels of 256 directories lie between an owner and its files: 0 to 3, default 1. Counts only when the
    /// volume is made; afterwards its marker says it.
    #[must_use]
    pub fn shard_depth(mut self, levels: u8) -> Self {
        self.shard_depth = levels;
        self
    }

    /// Takes over a volume of another store, whatever its name was there: its marker is replaced by one of this store, and the
    /// other store finds it no more. It is refused while anybody has it open. After a crash meanwhile the volume is the
    /// other store's or this one's. On a volume of this store it says nothing, so it may be said again; say it no longer
    /// than it is meant.
    ///
    /// A volume that this store [has used before](VolumeSpec::expect_existing) must have the right name, too.
    #[must_use]
    pub fn adopt(mut self, how: Adopt) -> Self {
        self.adopt = Some(how);
        self
    }

    /// Most calls that read it at the same time, each on a thread: 1 to 1,024, default 64. Others wait for their turn, in
    /// the order in which they came, so that a slow volume does not take the threads of all.
    #[must_use]
    pub fn reads_max(mut self, calls: usize) -> Self {
        self.reads_max = calls;
        self
    }

    /// Most calls that change something on it at the same time, each on a thread: 1 to 1,024, default 32. Others wait for
    /// their turn, in the order in which they came.
    #[must_use]
    pub fn writes_max(mut self, calls: usize) -> Self {
        self.writes_max = calls;
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

    fn places(&self) -> Vec<PathBuf> {
        std::path::absolute(&self.path).into_iter().collect()
    }

    async fn open(self: Box<Self>, context: VolumeContext) -> Result<Arc<dyn StorageVolume>> {
        let id = self.id()?;
        if self.shard_depth > DEPTH_MAX {
            return Err(Error::InvalidArgument { name: "shard_depth", why: "is more than 3" });
        }
        for (name, calls) in [("reads_max", self.reads_max), ("writes_max", self.writes_max)] {
            if !(1..=CALLS_MAX).contains(&calls) {
                return Err(Error::InvalidArgument { name, why: "is not 1 to 1,024" });
            }
        }
        if self.path.as_os_str().is_empty() {
            return Err(Error::InvalidArgument {
                name: "path",
                why: "is empty: name the volume's directory",
            });
        }
        let path = std::path::absolute(&self.path).map_err(Error::io("find", &self.path))?;
        let Self { shard_depth: depth, must_exist, adopt, reads_max, writes_max, .. } = *self;
        let wanted = Wanted { id, path, depth, must_exist, adopt, reads_max, writes_max };
        let disk = Arc::clone(&context.disk);
        let core = off_thread(&*disk, move || mount(wanted, context)).await?;
        Ok(Arc::new(OpenLocalVolume::new(core)))
    }
}
