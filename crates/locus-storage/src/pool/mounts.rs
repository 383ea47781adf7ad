//! What the pool knows of each mounted volume beside the volume itself: what is under way to it, and whether it may be
//! used. One short lock; the answers of a volume that are asked under it never block.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use locus_core::{
    BlobPath, Error, MetadataStore, Result, StorageVolume, VolumeId, VolumeSet, VolumeStanding, VolumeStatus,
};
use locus_fs::WatchedVolume;
use parking_lot::Mutex;
use tracing::{info, warn};

use super::{
    events::{Telling, VolumeEvent},
    patience::{PROBE_TIMEOUT, late_probe, why_late},
    volumes::{GOOD_PROBES, was_retired},
};
use crate::{
    placement::{Candidate, Placer},
    volumes::VolumeRegistry,
};

#[derive(Debug)]
pub(super) struct Mounts {
    registry: Arc<VolumeRegistry>,
    store: Arc<dyn MetadataStore>,
    slots: Mutex<BTreeMap<VolumeId, Slot>>,
    pub(super) events: Telling,
}

#[derive(Debug, Default)]
struct Slot {
    /// Writes from the choice of the volume to their acceptance.
    writes: u64,
    in_flight: u64,
    health: Health,
    /// Since when it answers no probe, as far as that was noticed, in monotonic time.
    silent_since: Option<Duration>,
    /// It is about to be removed and takes no new content.
    leaving: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Health {
    #[default]
    Good,
    /// A write failed: it takes no new content until a probe says that all is well.
    Suspect(String),
    /// A probe failed: it is not used at all, until so many probes in a row were good.
    Down(String, u32),
}

impl Slot {
    /// One that answers again is trusted; nobody waits any more for one that was late twice, some time apart.
    fn watch(&mut self, volume: &WatchedVolume, is_late: bool, health: &Health, now: Duration) {
        match health {
            Health::Down(why, _) => {
                let since = self.silent_since.filter(|_| is_late);
                let is_lost = since.is_some_and(|since| now.saturating_sub(since) >= PROBE_TIMEOUT);
                if is_lost && !volume.is_given_up() {
                    warn!(volume = %volume.id(), "volume hangs, calls under way to it are given up");
                }
                if is_lost || volume.is_given_up() {
                    volume.give_up(if is_late {
                        why_late("answer a probe", PROBE_TIMEOUT)
                    } else {
                        why.clone()
                    });
                }
                self.silent_since = is_late.then(|| since.unwrap_or(now));
            }
            _ => {
                volume.trust();
                self.silent_since = None;
            }
        }
    }
}

impl Mounts {
    /// What is in the registry already counts as mounted, but for what was retired: that is taken out and let go.
    pub(super) fn new(registry: Arc<VolumeRegistry>, store: Arc<dyn MetadataStore>) -> Self {
        let mounts = Self { registry, store, slots: Mutex::default(), events: Telling::default() };
        for volume in mounts.registry.all() {
            if mounts.standing_of(volume.id()) == VolumeStanding::Retired {
                warn!(volume = %volume.id(), "volume was retired and is not used");
                mounts.registry.take(volume.id());
                continue;
            }
            mounts.slots.lock().insert(volume.id().clone(), Slot::default());
            mounts.store.volume_available(volume.id(), volume.status().is_healthy);
        }
        mounts
    }

    pub(super) fn all(&self) -> Vec<Arc<dyn StorageVolume>> {
        self.registry.all()
    }

    pub(super) fn get(&self, id: &VolumeId) -> Option<Arc<dyn StorageVolume>> {
        self.registry.volume(id)
    }

    /// The volume, when it is mounted and healthy.
    pub(super) fn usable(&self, id: &VolumeId) -> Result<Arc<dyn StorageVolume>> {
        let unavailable = |why| Error::VolumeUnavailable { volume: Some(id.clone()), why };
        let volume = self.get(id).ok_or_else(|| unavailable("is not mounted".into()))?;
        let down = match self.slots.lock().get(id).map(|slot| &slot.health) {
            Some(Health::Down(why, _)) => Some(Cow::Owned(format!("is unhealthy: {why}"))),
            _ => unhealthy(&volume.status()),
        };
        down.map_or(Ok(volume), |why| Err(unavailable(why)))
    }

    pub(super) fn insert(&self, volume: Arc<dyn StorageVolume>) -> Result<()> {
        let id = volume.id().clone();
        let healthy = volume.status().is_healthy;
        let mut slots = self.slots.lock();
        // Under the lock: who retires a volume says so first, and then takes out what is mounted.
        if self.standing_of(&id) == VolumeStanding::Retired {
            return Err(was_retired(&id));
        }
        self.registry.insert(volume)?;
        slots.insert(id.clone(), Slot::default());
        self.store.volume_available(&id, healthy);
        self.events.tell(VolumeEvent::Mounted { volume: id });
        Ok(())
    }

    /// Whether this very volume is mounted.
    pub(super) fn has(&self, volume: &Arc<dyn StorageVolume>) -> bool {
        self.registry.watched(volume.id()).is_some_and(|mounted| mounted.is_over(volume))
    }

    pub(super) fn standing_of(&self, id: &VolumeId) -> VolumeStanding {
        self.store.standing_of(id)
    }

    /// Says what is decided about a volume, and what was before. A write that was placed before that counts as
    /// [under way](Self::writes_to) when this returns.
    pub(super) async fn set_standing(
        &self,
        id: &VolumeId,
        standing: VolumeStanding,
    ) -> Result<VolumeStanding> {
        let before = self.standing_of(id);
        if before == standing { Ok(before) } else { self.store.set_standing(id, standing).await }
    }

    /// Whether a probe of it failed and it is not back yet.
    pub(super) fn is_down(&self, id: &VolumeId) -> bool {
        self.slots.lock().get(id).is_some_and(|slot| matches!(slot.health, Health::Down(..)))
    }

    /// Writes under way to a volume.
    pub(super) fn writes_to(&self, id: &VolumeId) -> u64 {
        self.slots.lock().get(id).map_or(0, |slot| slot.writes)
    }

    /// Takes a volume out, whatever rests on it: its files wait.
    pub(super) fn take(&self, id: &VolumeId) -> Result<Arc<WatchedVolume>> {
        let mut slots = self.slots.lock();
        let volume = self.registry.watched(id).ok_or_else(|| Error::VolumeNotFound { volume: id.clone() })?;
        self.registry.take(id);
        slots.remove(id);
        self.store.volume_available(id, false);
        self.events.tell(VolumeEvent::Unmounted { volume: id.clone() });
        Ok(volume)
    }

    /// Takes a volume out unless files rest on it or are on their way to it.
    pub(super) fn take_empty(&self, id: &VolumeId) -> Result<Arc<WatchedVolume>> {
        let writes = {
            let mut slots = self.slots.lock();
            let slot = slots.get_mut(id);
            slot.map(|slot| {
                slot.leaving = true;
                slot.writes
            })
        };
        // In this order: a write that is over by now has its record by now.
        let uploads = self.store.uploads_on(id).uploads;
        let files = self.store.files_on(id).saturating_add(uploads).saturating_add(writes.unwrap_or(0));
        if files > 0 {
            if let Some(slot) = self.slots.lock().get_mut(id) {
                slot.leaving = false;
            }
            return Err(Error::VolumeInUse { volume: id.clone(), files });
        }
        self.take(id)
    }

    /// Chooses a volume for content of about `size_hint` bytes, not one of `tried` and, with `path_of`, one that gives
    /// this blob a path, and counts the write as under way to it until the ticket is dropped.
    pub(super) fn place(
        self: &Arc<Self>,
        how: &Placer,
        size_hint: Option<u64>,
        tried: &[VolumeId],
        path_of: Option<&BlobPath>,
    ) -> Result<Ticket> {
        let mut slots = self.slots.lock();
        let mut volumes = self.registry.all();
        volumes.retain(|volume| {
            !tried.contains(volume.id()) && path_of.is_none_or(|blob| volume.local_path(blob).is_some())
        });
        let facts = volumes.iter().map(|volume| self.candidate(&**volume, slots.get(volume.id())));
        let chosen = how.choose(&facts.collect::<Vec<_>>(), size_hint)?;
        let volume = volumes.swap_remove(chosen);
        let bytes = size_hint.unwrap_or(0);
        if let Some(slot) = slots.get_mut(volume.id()) {
            slot.writes += 1;
            slot.in_flight = slot.in_flight.saturating_add(bytes);
        }
        Ok(Ticket { mounts: Arc::clone(self), volume, bytes })
    }

    /// Whether any volume but these takes new content, and else why not.
    pub(super) fn check_place(&self, how: &Placer, but: &[VolumeId]) -> Result<()> {
        let slots = self.slots.lock();
        let mut volumes = self.registry.all();
        let all = volumes.len();
        volumes.retain(|volume| !but.contains(volume.id()));
        if volumes.is_empty() && all > 0 {
            return Err(Error::VolumeUnavailable { volume: None, why: "no other volume is mounted".into() });
        }
        let facts = volumes.iter().map(|volume| self.candidate(&**volume, slots.get(volume.id())));
        how.choose(&facts.collect::<Vec<_>>(), None).map(drop)
    }

    /// Whether a probe could bring a volume back that failed a write.
    pub(super) fn suspects(&self) -> Vec<Arc<dyn StorageVolume>> {
        let slots = self.slots.lock();
        let mut volumes = self.registry.all();
        volumes.retain(|volume| {
            matches!(slots.get(volume.id()).map(|slot| &slot.health), Some(Health::Suspect(_)))
        });
        volumes
    }

    /// Notes that a write to a volume failed.
    pub(super) fn suspect(&self, volume: &dyn StorageVolume, error: &Error) {
        if let Some(slot) = self.slots.lock().get_mut(volume.id())
            && slot.health == Health::Good
        {
            warn!(volume = %volume.id(), error = error as &dyn std::error::Error, "volume failed a write, avoided until its next good probe");
            slot.health = Health::Suspect(error.to_string());
            self.events.tell(VolumeEvent::Suspect { volume: volume.id().clone(), why: error.to_string() });
        }
    }

    /// Notes what a probe said, or by `None` that it said nothing in time; tells the store and the log when that is a change.
    /// Returns whether it is.
    pub(super) fn probed(
        &self,
        volume: &Arc<dyn StorageVolume>,
        answer: Option<Result<VolumeStatus>>,
        now: Duration,
    ) -> bool {
        let id = volume.id();
        let is_late = answer.is_none();
        let health = match answer.unwrap_or_else(|| Err(late_probe(id))) {
            Ok(status) if status.is_healthy => Health::Good,
            Ok(status) => Health::Down(status.why.unwrap_or_default().into_owned(), 0),
            Err(error) => Health::Down(error.to_string(), 0),
        };
        // Held over the call to the store, so that an answer older than an unmount cannot overtake it.
        let mut slots = self.slots.lock();
        let Some(slot) = slots.get_mut(id) else { return false };
        if !self.registry.volume(id).is_some_and(|mounted| Arc::ptr_eq(&mounted, volume)) {
            return false;
        }
        if let Some(watched) = self.registry.watched(id) {
            slot.watch(&watched, is_late, &health, now);
        }
        let health = match (&slot.health, health) {
            (Health::Down(why, good), Health::Good) if good + 1 < GOOD_PROBES => {
                Health::Down(why.clone(), good + 1)
            }
            (_, health) => health,
        };
        let changed = matches!(slot.health, Health::Down(..)) != matches!(health, Health::Down(..));
        if changed {
            match &health {
                Health::Down(why, _) => warn!(volume = %id, why, "volume became unavailable, its files wait"),
                _ => info!(volume = %id, "volume came back"),
            }
        }
        match &health {
            Health::Down(why, _) if changed => {
                self.events.tell(VolumeEvent::Unavailable { volume: id.clone(), why: why.clone() });
            }
            Health::Good if slot.health != Health::Good => {
                self.events.tell(VolumeEvent::Returned { volume: id.clone() });
            }
            _ => {}
        }
        slot.health = health;
        // Told each time, not only at a change: the volume may have found out by itself, between two probes.
        self.store.volume_available(id, !matches!(slot.health, Health::Down(..)));
        changed
    }

    /// Why a volume takes no new content, if it takes none, and the bytes under way to it.
    pub(super) fn standing(&self, volume: &dyn StorageVolume) -> (Option<Cow<'static, str>>, u64) {
        let slots = self.slots.lock();
        let candidate = self.candidate(volume, slots.get(volume.id()));
        (candidate.unusable, candidate.in_flight)
    }

    fn candidate(&self, volume: &dyn StorageVolume, slot: Option<&Slot>) -> Candidate {
        let status = volume.status();
        let is_drained = || {
            (self.standing_of(volume.id()) == VolumeStanding::Draining).then_some("is being drained".into())
        };
        let uploads = self.store.uploads_on(volume.id()).bytes_left;
        Candidate {
            volume: volume.id().clone(),
            total: status.total,
            available: status.available,
            in_flight: slot.map_or(0, |slot| slot.in_flight).saturating_add(uploads),
            unusable: unusable(&status, slot).or_else(is_drained),
        }
    }
}

fn unhealthy(status: &VolumeStatus) -> Option<Cow<'static, str>> {
    let why = status.why.as_deref().unwrap_or("it does not say why");
    (!status.is_healthy).then(|| format!("is unhealthy: {why}").into())
}

fn unusable(status: &VolumeStatus, slot: Option<&Slot>) -> Option<Cow<'static, str>> {
    match slot.map(|slot| (&slot.health, slot.leaving)) {
        None => Some("is not mounted".into()),
        Some((_, true)) => Some("is being removed".into()),
        Some((Health::Down(why, _), _)) => Some(format!("is unhealthy: {why}").into()),
        Some((Health::Suspect(why), _)) => Some(format!("failed its last write: {why}").into()),
        Some((Health::Good, false)) => unhealthy(status).or_else(|| {
            let why = status.why.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
            status.read_only.then(|| format!("is read-only{why}").into())
        }),
    }
}

/// One write under way to one volume. Dropping it ends that.
#[derive(Debug)]
#[must_use = "the write counts as under way only while the ticket lives"]
pub(super) struct Ticket {
    mounts: Arc<Mounts>,
    volume: Arc<dyn StorageVolume>,
    bytes: u64,
}

impl Ticket {
    pub(super) fn volume(&self) -> &Arc<dyn StorageVolume> {
        &self.volume
    }

    /// The content lies there: from now on the volume itself counts it.
    pub(super) fn landed(&mut self) {
        self.with_slot(|slot, bytes| slot.in_flight = slot.in_flight.saturating_sub(bytes));
        self.bytes = 0;
    }

    fn with_slot(&self, change: impl FnOnce(&mut Slot, u64)) {
        let mut slots = self.mounts.slots.lock();
        let mounted = self.mounts.registry.volume(self.volume.id());
        // A volume of this name that was mounted since has counts of its own.
        if mounted.is_some_and(|mounted| Arc::ptr_eq(&mounted, &self.volume))
            && let Some(slot) = slots.get_mut(self.volume.id())
        {
            change(slot, self.bytes);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.with_slot(|slot, bytes| {
            slot.writes = slot.writes.saturating_sub(1);
            slot.in_flight = slot.in_flight.saturating_sub(bytes);
        });
    }
}
