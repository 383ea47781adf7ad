//! One member: how it is opened, and the volume while it is open.

use std::{
    borrow::Cow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use locus_core::{Clock, Error, Result, StorageVolume, VolumeId, VolumeStatus, in_time};
use parking_lot::Mutex;
use tokio::{runtime::Handle, task::JoinHandle};

use crate::{
    volume_spec::{VolumeContext, VolumeSpec},
    watched::WatchedVolume,
};

/// How long the others wait for a member to be opened, and for a probe of it: together less than a probe of the mirror may
/// take.
const PATIENCE: Duration = Duration::from_secs(4);

/// After so many probes in a row that were late the member is away, and nobody waits for it any more.
const LATE_PROBES_MAX: u32 = 2;

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
    /// An opening under way: one that hangs is the only one.
    opening: tokio::sync::Mutex<Option<Opening>>,
    late_probes: AtomicU32,
    /// How often it took something unsynced, and how much of that a sync has covered.
    taken: AtomicU64,
    covered: AtomicU64,
}

type Opening = JoinHandle<Result<Arc<dyn StorageVolume>>>;

#[derive(Debug)]
enum State {
    Open(Arc<WatchedVolume>),
    Away(Cow<'static, str>),
}

impl Member {
    pub(crate) fn new(id: VolumeId, spec: Arc<dyn Again>, must_exist: bool) -> Self {
        let state = Mutex::new(State::Away("was not opened yet".into()));
        Self {
            id,
            spec,
            must_exist,
            state,
            opening: tokio::sync::Mutex::default(),
            late_probes: AtomicU32::new(0),
            taken: AtomicU64::new(0),
            covered: AtomicU64::new(0),
        }
    }

    fn watched(&self) -> Option<Arc<WatchedVolume>> {
        match &*self.state.lock() {
            State::Open(volume) => Some(Arc::clone(volume)),
            State::Away(_) => None,
        }
    }

    /// The volume, when it is open, whatever its health is.
    pub(crate) fn open_volume(&self) -> Option<Arc<dyn StorageVolume>> {
        self.watched().map(|volume| volume as _)
    }

    /// The directories that it uses, whether it is open or away.
    pub(crate) fn places(&self) -> Vec<PathBuf> {
        let mut places = self.spec.places();
        if let Some(volume) = self.open_volume() {
            places.extend(
                volume.places().into_iter().filter(|place| !places.contains(place)).collect::<Vec<_>>(),
            );
        }
        places
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

    /// Opens the volume, for the caller to look at before it is [let in](Self::enter). One that hangs is asked for its answer
    /// again by the next who wants it open.
    pub(crate) async fn open(&self, context: &VolumeContext) -> Result<Arc<dyn StorageVolume>> {
        let open = || {
            let mut spec = self.spec.once();
            if self.must_exist {
                spec.expect_existing();
            }
            spec.open(context.clone())
        };
        let Some(runtime) = Handle::try_current().ok().filter(|_| context.disk.blocks()) else {
            return open().await;
        };
        let mut slot = self.opening.lock().await;
        let opening = slot.get_or_insert_with(|| runtime.spawn(open()));
        let Some(opened) = in_time(&*context.clock, PATIENCE, opening).await else {
            return Err(self.late("open"));
        };
        *slot = None;
        opened.unwrap_or_else(|failed| match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::ShuttingDown), // the runtime itself is being closed
        })
    }

    pub(crate) fn enter(&self, volume: Arc<dyn StorageVolume>) {
        self.late_probes.store(0, Relaxed);
        *self.state.lock() = State::Open(Arc::new(WatchedVolume::new(volume)));
    }

    /// Measures it when it is open. One that is late again is given up, until it answers.
    pub(crate) async fn probe(&self, clock: &dyn Clock) -> Option<Result<()>> {
        let volume = self.watched()?;
        let answer = in_time(clock, PATIENCE, volume.probe()).await;
        let late = if answer.is_some() { 0 } else { self.late_probes.load(Relaxed).saturating_add(1) };
        self.late_probes.store(late, Relaxed);
        let answer = answer.unwrap_or_else(|| Err(self.late("answer a probe")));
        match &answer {
            Ok(_) => volume.trust(),
            Err(error) if late >= LATE_PROBES_MAX || volume.is_given_up() => volume.give_up(why(error)),
            Err(_) => {}
        }
        Some(answer.map(drop))
    }

    fn late(&self, what: &str) -> Error {
        let why = format!("did not {what} within {} s", PATIENCE.as_secs()).into();
        Error::VolumeUnavailable { volume: Some(self.id.clone()), why }
    }

    pub(crate) fn stay_away(&self, error: &Error) {
        *self.state.lock() = State::Away(why(error));
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

/// What keeps a member away.
fn why(error: &Error) -> Cow<'static, str> {
    match error {
        Error::VolumeUnavailable { why, .. } => why.clone(),
        other => format!("cannot be used: {other}").into(),
    }
}
