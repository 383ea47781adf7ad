//! The entity locks of one directory, as a process uses them from many tasks.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{Clock, in_time};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::{
    disk::Disk,
    door::off_thread,
    entity_lock::{EntityLock, LockError, LockHolder, LockMode},
};

/// Locks of entities, each a file beneath one directory that any number of processes and hosts may use.
///
/// Tasks of this process wait for each other in the order in which they came, and for other processes by trying again
/// ([`EntityLock::acquire`]). Any number of tasks share an entity. Entities have nothing to do with each other: while one
/// is held or waited for, all others are taken and let go without waiting.
///
/// Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub struct LockManager {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    dir: PathBuf,
    known: Mutex<Known>,
    /// Rung when nobody uses any entity.
    idle: Notify,
}

#[derive(Debug, Default)]
struct Known {
    /// The entities that somebody holds or waits for.
    entities: HashMap<PathBuf, Entity>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Entity {
    turns: Arc<RwLock<()>>,
    users: usize,
}

impl LockManager {
    /// A manager of the lock files beneath `dir`, which must exist.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, clock: Arc<dyn Clock>, dir: PathBuf) -> Self {
        Self { inner: Arc::new(Inner { disk, clock, dir, known: Mutex::default(), idle: Notify::new() }) }
    }

    /// Takes the lock `name`, a path beneath the directory; the directory that holds it is made when absent. Waits for
    /// `timeout` at most while somebody else has it; for ever without one.
    ///
    /// # Errors
    /// [`LockError::LockTimeout`] names who had it at the end; [`LockError::Closed`]; [`LockError::LockFailed`].
    ///
    /// # Cancel safety
    /// Who drops the future has stopped waiting; a lock that was just taken is let go at once.
    pub async fn acquire(
        &self,
        name: &Path,
        mode: LockMode,
        timeout: Option<Duration>,
    ) -> Result<LockGuard, LockError> {
        let begun = self.inner.clock.monotonic();
        let own = self.take_turn(name, mode, timeout).await?;
        self.acquire_in_turn(own, mode, timeout, begun).await
    }

    /// As [`acquire`](Self::acquire), and then does `work` with the lock. Both happen where they may block, and where the lock
    /// is free there is no way back between the two.
    ///
    /// # Errors
    /// As [`acquire`](Self::acquire); `work` is not done.
    ///
    /// # Cancel safety
    /// Who drops the future before the lock is taken has stopped waiting, and `work` is not done. From then on it is done to
    /// its end, and keeps the lock as long as it likes.
    pub async fn acquire_then<T: Send + 'static>(
        &self,
        name: &Path,
        mode: LockMode,
        timeout: Option<Duration>,
        work: impl FnOnce(LockGuard) -> T + Send + 'static,
    ) -> Result<T, LockError> {
        let begun = self.inner.clock.monotonic();
        let own = self.take_turn(name, mode, timeout).await?;
        let (disk, path) = (Arc::clone(&self.inner.disk), self.inner.dir.join(name));
        let now = self.inner.clock.wall();
        // Lives as long as this future.
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        let tried =
            off_thread(&*self.inner.disk, move || match EntityLock::try_acquire(&*disk, &path, mode, now) {
                Ok(lock) if is_wanted.strong_count() > 0 => Ok(work(own.hold(lock))),
                _ => Err((own, work)),
            });
        let (own, work) = match tried.await {
            Ok(done) => return Ok(done),
            Err(left) => left,
        };
        drop(wanted);
        // Somebody has it, or its directory is not there.
        let guard = self.acquire_in_turn(own, mode, timeout, begun).await?;
        Ok(off_thread(&*self.inner.disk, move || work(guard)).await)
    }

    /// This process's own turn.
    async fn take_turn(
        &self,
        name: &Path,
        mode: LockMode,
        timeout: Option<Duration>,
    ) -> Result<Own, LockError> {
        let place = Inner::place(&self.inner, name)?;
        let turn = match timeout {
            None => Some(place.turn(mode).await),
            Some(timeout) => in_time(&*self.inner.clock, timeout, place.turn(mode)).await,
        };
        match turn {
            Some(turn) => Ok(Own { turn, place }),
            None => {
                let path = self.inner.dir.join(name);
                let (holder, waited) = (self.holder(&path).await, timeout.unwrap_or_default());
                Err(LockError::LockTimeout { path, holder, waited })
            }
        }
    }

    /// The lock among processes, for who `begun` so long ago.
    async fn acquire_in_turn(
        &self,
        own: Own,
        mode: LockMode,
        timeout: Option<Duration>,
        begun: Duration,
    ) -> Result<LockGuard, LockError> {
        let clock = &*self.inner.clock;
        let path = self.inner.dir.join(&own.place.name);
        let left = timeout.map(|timeout| timeout.saturating_sub(clock.monotonic().saturating_sub(begun)));
        let acquire = || EntityLock::acquire(&self.inner.disk, clock, &path, mode, left);
        let lock = match acquire().await {
            Err(error) if is_absent(&error) => {
                self.make_dir(&path).await?;
                acquire().await
            }
            other => other,
        };
        // The time that was given began before the turn.
        let lock = lock.map_err(|error| match (error, timeout) {
            (LockError::LockTimeout { path, holder, .. }, Some(waited)) => {
                LockError::LockTimeout { path, holder, waited }
            }
            (error, _) => error,
        })?;
        Ok(own.hold(lock))
    }

    /// As [`acquire`](Self::acquire), but waits for nobody.
    ///
    /// # Errors
    /// [`LockError::AlreadyLocked`] names who has it; [`LockError::Closed`]; [`LockError::LockFailed`].
    ///
    /// # Cancel safety
    /// As [`acquire`](Self::acquire).
    pub async fn try_acquire(&self, name: &Path, mode: LockMode) -> Result<LockGuard, LockError> {
        match self.acquire(name, mode, Some(Duration::ZERO)).await {
            Err(LockError::LockTimeout { path, holder, .. }) => {
                Err(LockError::AlreadyLocked { path, holder })
            }
            other => other,
        }
    }

    /// Gives out no more locks, and returns when all are let go that were given out or waited for.
    ///
    /// # Cancel safety
    /// No more locks are given out once this was polled.
    pub async fn close(&self) {
        self.inner.known.lock().closed = true;
        loop {
            let mut idle = std::pin::pin!(self.inner.idle.notified());
            idle.as_mut().enable(); // before the look, so that nothing is missed between the two
            if self.inner.known.lock().entities.is_empty() {
                return;
            }
            idle.await;
        }
    }

    async fn holder(&self, path: &Path) -> Option<LockHolder> {
        let (disk, path) = (Arc::clone(&self.inner.disk), path.to_owned());
        off_thread(&*self.inner.disk, move || LockHolder::of(&*disk, &path)).await
    }

    /// A lock file needs not be durable, nor does its directory.
    async fn make_dir(&self, path: &Path) -> Result<(), LockError> {
        let (disk, path) = (Arc::clone(&self.inner.disk), path.to_owned());
        off_thread(&*self.inner.disk, move || match disk.create_dir(path.parent().unwrap_or(&path)) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(LockError::LockFailed { path, source })
            }
            _ => Ok(()),
        })
        .await
    }
}

fn is_absent(error: &LockError) -> bool {
    matches!(error, LockError::LockFailed { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

impl Inner {
    fn place(this: &Arc<Self>, name: &Path) -> Result<Place, LockError> {
        let mut known = this.known.lock();
        if known.closed {
            return Err(LockError::Closed { dir: this.dir.clone() });
        }
        known.entities.entry(name.to_owned()).or_default().users += 1;
        Ok(Place { manager: Arc::clone(this), name: name.to_owned() })
    }
}

/// The use of an entity's entry, by who holds it or waits for it.
#[derive(Debug)]
struct Place {
    manager: Arc<Inner>,
    name: PathBuf,
}

impl Place {
    /// This process's own turn.
    async fn turn(&self, mode: LockMode) -> Turn {
        let turns =
            self.manager.known.lock().entities.get(&self.name).map(|entity| Arc::clone(&entity.turns));
        let turns = turns.unwrap_or_default();
        match mode {
            LockMode::Shared => Turn::Shared(turns.read_owned().await),
            LockMode::Exclusive => Turn::Exclusive(turns.write_owned().await),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.manager.known.lock();
        if let Some(entity) = known.entities.get_mut(&self.name) {
            entity.users -= 1;
            if entity.users == 0 {
                known.entities.remove(&self.name);
            }
        }
        if known.entities.is_empty() {
            self.manager.idle.notify_waiters();
        }
    }
}

/// What keeps everybody else of this process waiting, in the order in which it is let go.
#[derive(Debug)]
struct Own {
    turn: Turn,
    place: Place,
}

impl Own {
    fn hold(self, lock: EntityLock) -> LockGuard {
        let Self { turn, place } = self;
        LockGuard(Arc::new(Held { lock, _turn: turn, place }))
    }
}

#[derive(Debug)]
#[expect(dead_code, reason = "what is held is held by being there")]
enum Turn {
    Shared(OwnedRwLockReadGuard<()>),
    Exclusive(OwnedRwLockWriteGuard<()>),
}

/// A lock that is held until this and its clones are dropped.
#[must_use = "the entity is locked only as long as this lives"]
#[derive(Debug, Clone)]
pub struct LockGuard(Arc<Held>);

/// In the order in which they are let go.
#[derive(Debug)]
struct Held {
    lock: EntityLock,
    _turn: Turn,
    place: Place,
}

impl LockGuard {
    /// Which lock it is: the name that was asked for.
    #[must_use]
    pub fn name(&self) -> &Path {
        &self.0.place.name
    }

    /// How it is held.
    #[must_use]
    pub fn mode(&self) -> LockMode {
        self.0.lock.mode()
    }

    /// Whether it is a lock of this manager.
    #[must_use]
    pub fn is_of(&self, manager: &LockManager) -> bool {
        Arc::ptr_eq(&self.0.place.manager, &manager.inner)
    }

    /// Lets go, unless a clone holds on, and says whether the system did. Blocks the thread for a moment, as dropping does.
    ///
    /// # Errors
    /// [`LockError::UnlockFailed`]: the file is closed nevertheless.
    pub fn release(self) -> Result<(), LockError> {
        match Arc::try_unwrap(self.0) {
            Ok(Held { lock, _turn: turn, place }) => {
                let released = lock.release();
                drop((turn, place));
                released
            }
            Err(_) => Ok(()),
        }
    }

    /// Removes the lock file and lets go, unless a clone holds on: the file then stays. Blocks the thread. See
    /// [`EntityLock::remove`].
    ///
    /// # Errors
    /// As there.
    pub fn remove(self) -> Result<(), LockError> {
        match Arc::try_unwrap(self.0) {
            Ok(Held { lock, _turn: turn, place }) => {
                let removed = lock.remove(&*place.manager.disk);
                drop((turn, place));
                removed
            }
            Err(_) => Ok(()),
        }
    }
}
