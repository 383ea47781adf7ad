//! The description of a volume, and how it becomes a volume.

use std::{fmt::Debug, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use locus_core::{Clock, Entropy, Result, StorageVolume, StoreId, SystemClock, SystemEntropy, VolumeId};

use crate::{disk::Disk, os_disk::OsDisk};

/// A volume that is not open yet: what a builder is given. Making one touches no disk and cannot fail; whatever is
/// wrong with it is said by [`open`](Self::open).
#[async_trait]
pub trait VolumeSpec: Debug + Send {
    /// Its name.
    ///
    /// # Errors
    /// [`Error::InvalidId`](locus_core::Error::InvalidId) when the text that was given is no name.
    fn id(&self) -> Result<VolumeId>;

    /// Says that the store has used this volume before: opening must find it and makes no new one, so that the empty
    /// mount point of an unplugged disk is unavailable, not empty. A kind of volume that is never made by opening it
    /// needs nothing here.
    fn expect_existing(&mut self) {}

    /// The directories of this machine that the volume will use, as far as the description names them; none by default.
    fn places(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Opens the volume, checks that it is what it should be, and measures it.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`](locus_core::Error::VolumeUnavailable) says why it cannot be used;
    /// [`Error::AlreadyOpen`](locus_core::Error::AlreadyOpen) when somebody has it open; what is wrong with the
    /// description; [`Error::Io`](locus_core::Error::Io).
    async fn open(self: Box<Self>, context: VolumeContext) -> Result<Arc<dyn StorageVolume>>;
}

/// What a volume is opened with.
#[derive(Debug, Clone)]
pub struct VolumeContext {
    /// The store that it belongs, or will belong, to.
    pub store: StoreId,
    /// Where its files are.
    pub disk: Arc<dyn Disk>,
    /// What it takes the time from.
    pub clock: Arc<dyn Clock>,
    /// What it takes randomness from.
    pub entropy: Arc<dyn Entropy>,
}

impl VolumeContext {
    /// The machine's own disk, clock and randomness.
    #[must_use]
    pub fn new(store: StoreId) -> Self {
        Self {
            store,
            disk: Arc::new(OsDisk),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
        }
    }
}
