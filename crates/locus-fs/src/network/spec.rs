//! The description of a volume on a share.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use locus_core::{Error, Result, StorageVolume, VolumeId};

use crate::{
    local::{Adopt, LocalVolume},
    network::{guard::Guard, health::Manners, volume::OpenNetworkVolume},
    volume_spec::{VolumeContext, VolumeSpec},
};

/// A directory of a mounted share (NFS, SMB, a FUSE file system), to be used as a volume: laid out as a
/// [`LocalVolume`], and asked as something that may never answer.
///
/// Every call has a time-out. A call that hangs keeps a thread until it returns, and no more than
/// [`stuck_max`](Self::stuck_max) threads are ever in calls at the same time; beyond them calls are refused. After some failures in a
/// row nothing but probes is tried, until some of them succeed in a row. Opening, reading and listing are tried once more when
/// the connection failed; what changes something never is. A write that succeeds after it was given up is removed again.
///
/// ```
/// # use std::time::Duration;
/// # use locus_fs::{NetworkVolume, VolumeSpec};
/// let volume = NetworkVolume::new("nas-1", "/mnt/nas/locus").operation_timeout(Duration::from_secs(10)).stuck_max(8);
/// assert_eq!(volume.id()?.as_str(), "nas-1");
/// # Ok::<(), locus_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct NetworkVolume {
    local: LocalVolume,
    timeout: Duration,
    stuck_max: usize,
    manners: Manners,
}

impl NetworkVolume {
    /// The volume of this name in this directory of a share.
    #[must_use]
    pub fn new(id: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            local: LocalVolume::new(id, path),
            timeout: Duration::from_secs(30),
            stuck_max: 32,
            manners: Manners { failures_to_down: 3, successes_to_up: 2 },
        }
    }

    /// How many levels of 256 directories lie between an owner and its files: 0 to 3, default 1. Counts only when the
    /// volume is made.
    #[must_use]
    pub fn shard_depth(mut self, levels: u8) -> Self {
        self.local = self.local.shard_depth(levels);
        self
    }

    /// Takes over a volume of another store, as [`LocalVolume::adopt`] has it.
    #[must_use]
    pub fn adopt(mut self, how: Adopt) -> Self {
        self.local = self.local.adopt(how);
        self
    }

    /// How long a call may take, or, of a write from a file or reader, each MiB of it: content in memory is one call.
    /// Default 30 s.
    #[must_use]
    pub fn operation_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Most calls under way at the same time, those that hang included: 1 to 1,024, default 32. Each has a thread.
    #[must_use]
    pub fn stuck_max(mut self, calls: usize) -> Self {
        self.stuck_max = calls;
        self
    }

    /// How many failures in a row make the share unavailable, at least 1, default 3.
    #[must_use]
    pub fn failures_to_down(mut self, failures: u32) -> Self {
        self.manners.failures_to_down = failures;
        self
    }

    /// How many good probes in a row make it available again, at least 1, default 2.
    #[must_use]
    pub fn successes_to_up(mut self, successes: u32) -> Self {
        self.manners.successes_to_up = successes;
        self
    }

    fn check(&self) -> Result<()> {
        let wrong = |name, why| Err(Error::InvalidArgument { name, why });
        if self.timeout.is_zero() {
            return wrong("operation_timeout", "is 0: no call would ever succeed");
        }
        if !(1..=1_024).contains(&self.stuck_max) {
            return wrong("stuck_max", "is not 1 to 1,024");
        }
        if self.manners.failures_to_down == 0 {
            return wrong("failures_to_down", "is 0");
        }
        if self.manners.successes_to_up == 0 {
            return wrong("successes_to_up", "is 0");
        }
        Ok(())
    }
}

#[async_trait]
impl VolumeSpec for NetworkVolume {
    fn id(&self) -> Result<VolumeId> {
        self.local.id()
    }

    fn expect_existing(&mut self) {
        self.local.expect_existing();
    }

    fn places(&self) -> Vec<PathBuf> {
        self.local.places()
    }

    async fn open(self: Box<Self>, context: VolumeContext) -> Result<Arc<dyn StorageVolume>> {
        let id = self.id()?;
        self.check()?;
        let (clock, disk) = (Arc::clone(&context.clock), Arc::clone(&context.disk));
        let guard = Guard::new(id, clock, disk.blocks(), self.timeout, self.stuck_max, self.manners);
        // One that opens too late is dropped, and its lock with it.
        let inner = guard.run(Box::new(self.local).open(context), None).await?;
        Ok(Arc::new(OpenNetworkVolume::new(inner, guard, disk)))
    }
}
