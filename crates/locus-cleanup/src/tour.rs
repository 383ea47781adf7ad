//! A tour over all volumes that many runs make together, each as far as its budget goes.

use std::collections::{BTreeMap, VecDeque};

use locus_core::VolumeId;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};
use tracing::warn;

use crate::{Sweeper, sweep::SweepOptions};

/// Most volumes that may be away in the midst of a tour and keep their place from one tour to the next.
const PLACES_MAX: usize = 256;

/// Where a tour stands. Small whatever the volumes hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stand<C> {
    /// What it has still to go through, the present volume first; nothing between two tours.
    pub(crate) ahead: VecDeque<VolumeId>,
    /// Where to go on in volumes that it left in their midst. One that is away when its turn comes keeps its place, so that
    /// it is not begun anew each time: only the tour after the one that goes on there is whole again.
    pub(crate) within: BTreeMap<VolumeId, C>,
}

impl<C> Default for Stand<C> {
    fn default() -> Self {
        Self { ahead: VecDeque::new(), within: BTreeMap::new() }
    }
}

/// A part of a tour, made by one run.
#[derive(Debug)]
pub(crate) struct Tour<'a, C> {
    sweeper: &'a Sweeper,
    /// Where runs over everything, which change something, go on from each other.
    shared: Option<MutexGuard<'a, Stand<C>>>,
    own: Stand<C>,
    left: u64,
}

impl Sweeper {
    /// Goes on with a tour, for a budget; for one tenant, or only to count, makes the whole of one.
    pub(crate) async fn tour<'a, C>(
        &'a self,
        shared: &'a Mutex<Stand<C>>,
        options: &SweepOptions<'_>,
        budget: u64,
    ) -> Tour<'a, C> {
        if !options.is_whole() {
            return self.whole_tour();
        }
        let shared = Some(shared.lock().await);
        let mut tour = Tour { sweeper: self, shared, own: Stand::default(), left: budget };
        tour.begin();
        tour
    }

    /// The whole of one, wherever the others stand.
    pub(crate) fn whole_tour<C>(&self) -> Tour<'_, C> {
        let mut tour = Tour { sweeper: self, shared: None, own: Stand::default(), left: u64::MAX };
        tour.begin();
        tour
    }
}

impl<C> Tour<'_, C> {
    fn stand(&mut self) -> &mut Stand<C> {
        self.shared.as_deref_mut().unwrap_or(&mut self.own)
    }

    /// Where runs go on from each other, when this is one of them.
    pub(crate) fn shared(&self) -> Option<&Stand<C>> {
        self.shared.as_deref()
    }

    /// Goes on with what is ahead, or with all volumes when that is over.
    fn begin(&mut self) {
        self.pass_absent();
        let volumes = self.sweeper.volumes.all();
        let stand = self.stand();
        if stand.ahead.is_empty() {
            stand.ahead = volumes.iter().map(|volume| volume.id().clone()).collect();
            if stand.within.len() > PLACES_MAX {
                stand.within.clear();
            }
        }
    }

    fn pass_absent(&mut self) {
        let sweeper = self.sweeper;
        while let Some(id) = self.stand().ahead.front().cloned()
            && sweeper.volumes.volume(&id).is_none()
        {
            if self.stand().within.contains_key(&id) {
                warn!(volume = %id, "volume was in the midst of a sweep and is not mounted, it goes on there when it is");
            }
            self.pass_by();
        }
    }

    /// The volume to go on with, where there, and how much to look at, of a batch at most. `None` when the tour is over, or the
    /// budget used up.
    pub(crate) fn next(&mut self, batch: usize) -> Option<(VolumeId, Option<&C>, usize)> {
        let most = batch.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return None;
        }
        self.pass_absent();
        let stand = self.stand();
        let id = stand.ahead.front()?;
        Some((id.clone(), stand.within.get(id), most))
    }

    /// So much was looked at, and there it goes on in that volume; `None` at its end.
    pub(crate) fn went_on(&mut self, looked_at: u64, next: Option<C>) {
        self.left = self.left.saturating_sub(looked_at.max(1));
        let stand = self.stand();
        let Some(id) = stand.ahead.front().cloned() else { return };
        match next {
            Some(next) => drop(stand.within.insert(id, next)),
            None => {
                stand.within.remove(&id);
                stand.ahead.pop_front();
            }
        }
    }

    /// Nothing can be looked at in that volume now.
    pub(crate) fn pass_by(&mut self) {
        self.stand().ahead.pop_front();
    }
}
