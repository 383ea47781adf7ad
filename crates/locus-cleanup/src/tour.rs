//! A tour over all volumes that many runs make together, each as far as its budget goes.

use std::collections::VecDeque;

use locus_core::VolumeId;
use tokio::sync::{Mutex, MutexGuard};

use crate::{Sweeper, sweep::SweepOptions};

/// Where a tour stands. Small whatever the volumes hold.
#[derive(Debug)]
pub(crate) struct Stand<C> {
    volumes: VecDeque<VolumeId>,
    /// Where in the first of them; `None` before its beginning.
    from: Option<C>,
}

/// A part of a tour, made by one run.
#[derive(Debug)]
pub(crate) struct Tour<'a, C> {
    sweeper: &'a Sweeper,
    /// Where runs over everything, which change something, go on from each other.
    shared: Option<MutexGuard<'a, Option<Stand<C>>>>,
    own: Option<Stand<C>>,
    left: u64,
}

impl Sweeper {
    /// Goes on with a tour, for a budget; for one tenant, or only to count, makes the whole of one.
    pub(crate) async fn tour<'a, C>(
        &'a self,
        shared: &'a Mutex<Option<Stand<C>>>,
        options: &SweepOptions<'_>,
        budget: u64,
    ) -> Tour<'a, C> {
        let shared = shared.lock().await;
        match options.is_whole() {
            true => Tour { sweeper: self, shared: Some(shared), own: None, left: budget },
            false => Tour { sweeper: self, shared: None, own: None, left: u64::MAX },
        }
    }
}

impl<C> Tour<'_, C> {
    fn stand(&mut self) -> &mut Option<Stand<C>> {
        match &mut self.shared {
            Some(shared) => shared,
            None => &mut self.own,
        }
    }

    /// The volume to go on with, where there, and how much to look at, of a batch at most. `None` when the tour is over, or the
    /// budget used up.
    pub(crate) fn next(&mut self, batch: usize) -> Option<(VolumeId, Option<&C>, usize)> {
        let most = batch.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return None;
        }
        let sweeper = self.sweeper;
        let all = || sweeper.volumes.all().iter().map(|volume| volume.id().clone()).collect();
        let is_over = {
            let going = self.stand().get_or_insert_with(|| Stand { volumes: all(), from: None });
            going.volumes.is_empty()
        };
        if is_over {
            *self.stand() = None;
            return None;
        }
        let going = self.stand().as_ref()?;
        Some((going.volumes.front()?.clone(), going.from.as_ref(), most))
    }

    /// So much was looked at, and there it goes on in that volume; `None` at its end.
    pub(crate) fn went_on(&mut self, looked_at: u64, next: Option<C>) {
        self.left = self.left.saturating_sub(looked_at.max(1));
        let Some(going) = self.stand() else { return };
        going.from = next;
        if going.from.is_none() {
            going.volumes.pop_front();
        }
    }
}
