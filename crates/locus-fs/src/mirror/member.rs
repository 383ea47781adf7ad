//! One member: how it is opened, and the volume while it is open.

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use locus_core::{Error, Result, StorageVolume, VolumeId, VolumeStatus};
use parking_lot::Mutex;

use crate::volume_spec::{VolumeContext, VolumeSpec};

/// A description that can be opened again after it failed or its volume was closed.
pub(crate) trait Again: VolumeSpec + Sync {
    fn once(&self) -> Box<dyn VolumeSpec>;
}

impl<T: VolumeSpec + Clone + Sync + 'static> Again for T {
    fn once(&self) -> Box<dyn VolumeSpec> {
        Box::new(self.clone())
    }
}

#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) id: VolumeId,
    spec: Arc<dyn Again>,
    must_exist: bool,
    state: Mutex<State>,
    /// How often it took something unsynced, and how much of that a sync has covered.
    taken: AtomicU64,
    covered: AtomicU64,
}

#[derive(Debug)]
enum State {
    Open(Arc<dyn StorageVolume>),
    Away(Cow<'static, str>),
}

impl Member {
    pub(crate) fn new(id: VolumeId, spec: Arc<dyn Again>, must_exist: bool) -> Self {
        let state = Mutex::new(State::Away("was not opened yet".into()));
        Self { id, spec, must_exist, state, taken: AtomicU64::new(0), covered: AtomicU64::new(0) }
    }

    /// The volume, when it is open, whatever its health is.
    pub(crate) fn open_volume(&self) -> Option<Arc<dyn StorageVolume>> {
        match &*self.state.lock() {
            State::Open(volume) => Some(Arc::clone(volume)),
            State::Away(_) => None,
        }
    }

    /// The volume, when it can be used.
    pub(crate) fn up(&self) -> Option<Arc<dyn StorageVolume>> {
        self.open_volume().filter(|volume| volume.status().is_healthy)
    }

    /// The volume, when it takes writes.
    pub(crate) fn writable(&self) -> Option<Arc<dyn StorageVolume>> {
        self.open_volume().filter(|volume| volume.status().takes_writes())
    }

    pub(crate) fn status(&self) -> VolumeStatus {
        match &*self.state.lock() {
            State::Open(volume) => volume.status(),
            State::Away(why) => VolumeStatus {
                total: 0,
                available: 0,
                is_healthy: false,
                read_only: false,
                why: Some(why.clone()),
            },
        }
    }

    /// Opens the volume, for the caller to look at before it is [let in](Self::enter).
    pub(crate) async fn open(&self, context: &VolumeContext) -> Result<Arc<dyn StorageVolume>> {
        let mut spec = self.spec.once();
        if self.must_exist {
            spec.expect_existing();
        }
        spec.open(context.clone()).await
    }

    pub(crate) fn enter(&self, volume: Arc<dyn StorageVolume>) {
        *self.state.lock() = State::Open(volume);
    }

    pub(crate) fn stay_away(&self, error: &Error) {
        let why = match error {
            Error::VolumeUnavailable { why, .. } => why.clone(),
            other => format!("cannot be opened: {other}").into(),
        };
        *self.state.lock() = State::Away(why);
    }

    pub(crate) fn took_unsynced(&self) {
        self.taken.fetch_add(1, Relaxed);
    }

    /// How often it took something unsynced.
    pub(crate) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// A sync covered what it had taken so far, or the others make up for it.
    pub(crate) fn synced(&self, taken: u64) {
        self.covered.fetch_max(taken, Relaxed);
    }

    /// Whether no sync has covered what it had taken so far.
    pub(crate) fn lacks_sync_of(&self, taken: u64) -> bool {
        self.covered.load(Relaxed) < taken
    }
}
