//! What happens to volumes, told to whoever listens.

use locus_core::VolumeId;
use tokio::sync::broadcast::{self, error::RecvError};

use super::{StoragePool, retire::Retire};

/// Events that a listener may be behind before it misses some.
pub const VOLUME_EVENTS_MAX: usize = 1_024;

/// Something that happened to a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeEvent {
    /// It was taken into use: files that rest on it are handed out.
    Mounted {
        /// Which.
        volume: VolumeId,
    },
    /// It was taken out of use: files that rest on it wait.
    Unmounted {
        /// Which.
        volume: VolumeId,
    },
    /// A write to it failed: it takes no new content until its next good probe.
    Suspect {
        /// Which.
        volume: VolumeId,
        /// How the write failed.
        why: String,
    },
    /// A probe failed: it is not used, and files that rest on it wait.
    Unavailable {
        /// Which.
        volume: VolumeId,
        /// How the probe failed.
        why: String,
    },
    /// It is used again after it was suspect or unavailable.
    Returned {
        /// Which.
        volume: VolumeId,
    },
    /// It takes no new content from now on, and its files are moved to other volumes.
    Draining {
        /// Which.
        volume: VolumeId,
    },
    /// Nothing rests on it any more.
    Drained {
        /// Which.
        volume: VolumeId,
    },
    /// It takes new content again, although files may have been moved away.
    DrainStopped {
        /// Which.
        volume: VolumeId,
    },
    /// It was declared that it never comes back.
    Retired {
        /// Which.
        volume: VolumeId,
        /// What became of its records.
        how: Retire,
    },
    /// The listener was too slow: so many events came and went before it looked.
    Missed {
        /// How many.
        events: u64,
    },
}

/// The events of a pool from when it was [asked for](StoragePool::events).
#[derive(Debug)]
pub struct VolumeEvents(broadcast::Receiver<VolumeEvent>);

impl VolumeEvents {
    /// The next event; `None` when the pool is gone. Whoever is more than 1,024 events behind is told how many it missed.
    ///
    /// # Cancel safety
    /// A dropped future loses no event.
    pub async fn next(&mut self) -> Option<VolumeEvent> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(RecvError::Lagged(events)) => Some(VolumeEvent::Missed { events }),
            Err(RecvError::Closed) => None,
        }
    }
}

/// Where events are told. Nobody has to listen.
#[derive(Debug)]
pub(super) struct Telling(broadcast::Sender<VolumeEvent>);

impl Default for Telling {
    fn default() -> Self {
        Self(broadcast::Sender::new(VOLUME_EVENTS_MAX))
    }
}

impl Telling {
    pub(super) fn tell(&self, event: VolumeEvent) {
        let _ = self.0.send(event); // nobody listens
    }
}

impl StoragePool {
    /// What happens to volumes from now on. Bounded: whoever listens too slowly misses events and is told how many.
    #[must_use]
    pub fn events(&self) -> VolumeEvents {
        VolumeEvents(self.inner.mounts.events.0.subscribe())
    }
}
