//! An [`Intake`] that keeps everything in memory, and refuses what a test tells it to.

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use locus_core::{Content, Error, FileKey, Incoming, Intake, Result, TenantId, TenantStatus, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A file that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its logical directory.
    pub directory: String,
    /// The name of its source.
    pub name: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

type Refusal = Box<dyn FnMut(&Incoming) -> Option<Error> + Send>;
type Happening = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct State {
    tenants: BTreeMap<TenantId, TenantStatus>,
    version: u64,
    known: BTreeMap<(TenantId, String), FileKey>,
    arrived: Vec<Arrival>,
    refusal: Option<Refusal>,
    sync_fails: bool,
    forgetting: Forgetting,
    at_sync: Option<Happening>,
    stalled: Option<String>,
    own: Vec<PathBuf>,
    written: u64,
}

/// How it goes when a source is to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forgetting {
    /// It is forgotten.
    #[default]
    Works,
    /// Each attempt ends in an error.
    Fails,
    /// No attempt ends.
    Stalls,
}

/// Takes everything in unless it is told to refuse. What it took it remembers, also over what a test calls a restart.
#[derive(Default)]
pub struct MemoryIntake {
    state: Mutex<State>,
    changed: Notify,
}

impl fmt::Debug for MemoryIntake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryIntake")
            .field("arrived", &self.state.lock().arrived.len())
            .finish_non_exhaustive()
    }
}

impl MemoryIntake {
    /// With these tenants, all of them enabled.
    ///
    /// # Panics
    /// When one of them is no tenant id.
    #[must_use]
    pub fn new(tenants: &[&str]) -> Arc<Self> {
        let intake = Arc::new(Self::default());
        tenants.iter().for_each(|tenant| intake.set_tenant(tenant, Some(TenantStatus::Enabled)));
        intake
    }

    /// Creates or switches a tenant, or removes it with all that is known of it.
    ///
    /// # Panics
    /// When it is no tenant id.
    pub fn set_tenant(&self, tenant: &str, status: Option<TenantStatus>) {
        let tenant = TenantId::parse(tenant).expect("because tests know what a tenant id is");
        let mut state = self.state.lock();
        match status {
            Some(status) => drop(state.tenants.insert(tenant, status)),
            None => {
                state.known.retain(|(owner, _), _| *owner != tenant);
                state.tenants.remove(&tenant);
            }
        }
        state.version += 1;
        drop(state);
        self.changed.notify_waiters();
    }

    /// Asks this before each file; what it says the file is refused with.
    pub fn refuse_by(&self, refusal: impl FnMut(&Incoming) -> Option<Error> + Send + 'static) {
        self.state.lock().refusal = Some(Box::new(refusal));
    }

    /// Refuses nothing any more.
    pub fn refuse_nothing(&self) {
        self.state.lock().refusal = None;
    }

    /// Lets this happen at the next [`sync`](Intake::sync).
    pub fn at_sync(&self, happens: impl FnOnce() + Send + 'static) {
        self.state.lock().at_sync = Some(Box::new(happens));
    }

    /// A source of this name is neither taken in nor refused, until another name is said.
    pub fn stall(&self, name: Option<&str>) {
        self.state.lock().stalled = name.map(str::to_owned);
        self.changed.notify_waiters();
    }

    async fn until_moving(&self, name: &str) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.state.lock().stalled.as_deref() != Some(name) {
                return;
            }
            changed.await;
        }
    }

    /// Whether [`sync`](Intake::sync) fails.
    pub fn let_sync_fail(&self, fails: bool) {
        self.state.lock().sync_fails = fails;
    }

    /// How it goes when a source is to be [forgotten](Intake::forget).
    pub fn let_forgetting(&self, forgetting: Forgetting) {
        self.state.lock().forgetting = forgetting;
        self.changed.notify_waiters();
    }

    /// The directories of the store.
    pub fn set_own_places(&self, places: Vec<PathBuf>) {
        self.state.lock().own = places;
    }

    /// Everything that arrived, in its order.
    #[must_use]
    pub fn arrived(&self) -> Vec<Arrival> {
        self.state.lock().arrived.clone()
    }

    /// How many sources are remembered.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.state.lock().known.len()
    }

    /// How many changes were made: files taken in, and sources forgotten.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.state.lock().written
    }
}

#[async_trait]
impl Intake for MemoryIntake {
    async fn is_known(&self, tenant: &TenantId, identity: &str) -> Result<bool> {
        Ok(self.state.lock().known.contains_key(&(tenant.clone(), identity.to_owned())))
    }

    async fn bring_in(&self, mut file: Incoming) -> Result<FileKey> {
        self.until_moving(&file.original_name).await;
        self.check_tenant(&file.tenant)?;
        let refused = self.state.lock().refusal.as_mut().and_then(|refusal| refusal(&file));
        if let Some(error) = refused {
            return Err(error);
        }
        let bytes = read(&mut file.content).await.map_err(|source| Error::Source { source })?;
        let Incoming { tenant, original_name, directory, identity, .. } = file;
        let mut state = self.state.lock();
        if let Some(key) = state.known.get(&(tenant.clone(), identity.clone())) {
            return Ok(*key);
        }
        let mut random = [0; 10];
        random[2..].copy_from_slice(&state.written.to_be_bytes());
        let key = FileKey::generate(Timestamp::from_micros(0), &random);
        state.written += 1;
        state.known.insert((tenant.clone(), identity), key);
        let directory = directory.as_str().to_owned();
        state.arrived.push(Arrival { tenant, directory, name: original_name, bytes });
        Ok(key)
    }

    async fn sync(&self) -> Result<()> {
        let happens = self.state.lock().at_sync.take();
        if let Some(happens) = happens {
            happens();
        }
        match self.state.lock().sync_fails {
            true => Err(Error::io("sync", "journal")(std::io::Error::other("a test said so"))),
            false => Ok(()),
        }
    }

    async fn forget(&self, tenant: &TenantId, identity: &str) -> Result<()> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let forgetting = self.state.lock().forgetting;
            match forgetting {
                Forgetting::Works => break,
                Forgetting::Fails => {
                    return Err(Error::io("write", "journal")(std::io::Error::other("a test said so")));
                }
                Forgetting::Stalls => changed.await,
            }
        }
        let mut state = self.state.lock();
        let forgotten = state.known.remove(&(tenant.clone(), identity.to_owned())).is_some();
        state.written += u64::from(forgotten);
        Ok(())
    }

    fn check_tenant(&self, tenant: &TenantId) -> Result<()> {
        match self.state.lock().tenants.get(tenant) {
            None => Err(Error::TenantNotFound { tenant: tenant.clone() }),
            Some(TenantStatus::Enabled) => Ok(()),
            Some(&status) => Err(Error::TenantDisabled { tenant: tenant.clone(), status }),
        }
    }

    async fn enabled_tenants(&self) -> Result<Vec<TenantId>> {
        let state = self.state.lock();
        let enabled = state.tenants.iter().filter(|(_, status)| **status == TenantStatus::Enabled);
        Ok(enabled.map(|(tenant, _)| tenant.clone()).collect())
    }

    fn tenants_version(&self) -> u64 {
        self.state.lock().version
    }

    async fn tenants_changed(&self, seen: u64) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if self.tenants_version() != seen {
                return;
            }
            changed.await;
        }
    }

    fn own_places(&self) -> Vec<PathBuf> {
        self.state.lock().own.clone()
    }
}

async fn read(content: &mut Content) -> std::io::Result<Vec<u8>> {
    const PIECE: usize = 64 << 10;
    if let Some(bytes) = content.as_bytes() {
        return Ok(bytes.to_vec());
    }
    let mut all = Vec::new();
    loop {
        let want = all.len() + PIECE;
        content.read_chunk(&mut all, want).await?;
        if all.len() < want {
            return Ok(all);
        }
    }
}
