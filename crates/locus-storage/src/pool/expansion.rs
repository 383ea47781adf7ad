//! Growing: when room runs short, the next volume is asked for and mounted, by one caller for all.

use std::{sync::Arc, time::Duration};

use locus_core::{BlobPath, Error, Result, VolumeId};
use locus_fs::{Shortage, VolumeProvider};
use parking_lot::RwLock;
use tracing::{info, warn};

use super::{StoragePool, mounts::Ticket};

/// Longest that a write without room waits for the next volume.
pub const EXPANSION_WAIT_MAX: Duration = Duration::from_secs(30);
/// Most volumes that come while one write waits: what does not fit then is refused.
const VOLUMES_PER_WRITE_MAX: usize = 4;
/// After a failure the provider is asked again after this time, which doubles with each failure in a row
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(5 * 60);

/// Below which free space of all healthy volumes together the next volume is asked for. Those that are being drained do not
/// count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpandBelow {
    /// In bytes.
    pub bytes: u64,
    /// In percent of what they hold when they are empty.
    pub percent: u8,
}

impl ExpandBelow {
    /// Whether so much is too little.
    #[must_use]
    pub fn is_short(self, available: u64, total: u64) -> bool {
        available < self.bytes || u128::from(available) * 100 < u128::from(total) * u128::from(self.percent)
    }
}

#[derive(Debug, Clone)]
struct Plan {
    provider: Arc<dyn VolumeProvider>,
    below: ExpandBelow,
}

#[derive(Debug, Default)]
pub(super) struct Expansion {
    plan: RwLock<Option<Plan>>,
    /// Held by the one expansion under way.
    one: tokio::sync::Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    in_a_row: u32,
    /// Monotonic time before which nobody is asked again.
    not_before: Duration,
}

impl Failures {
    fn add(&mut self, now: Duration) {
        let pause = PAUSE_MIN.saturating_mul(1 << self.in_a_row.min(16)).min(PAUSE_MAX);
        self.in_a_row += 1;
        self.not_before = now.saturating_add(pause);
    }
}

impl StoragePool {
    /// From now on asks `provider` for the next volume when what is free falls `below` this, or a write finds no room.
    pub fn set_provider(&self, provider: Arc<dyn VolumeProvider>, below: ExpandBelow) {
        *self.inner.expansion.plan.write() = Some(Plan { provider, below });
    }

    /// A step of growing: when what is free has fallen below the threshold, asks for the next volume and mounts it. Says
    /// which, if that was done. A failure is told in the log, and for 1 s, doubling up to 5 min, nobody is asked again.
    ///
    /// # Errors
    /// What the provider says, or the mount.
    ///
    /// # Cancel safety
    /// What was begun is done.
    pub async fn expand_step(&self) -> Result<Option<VolumeId>> {
        let plan = self.inner.expansion.plan.read().clone();
        let is_short = |plan: &Plan| plan.below.is_short(self.available_space(), self.kept_capacity());
        let Some(plan) = plan.filter(is_short) else { return Ok(None) };
        let pool = self.clone();
        let growing = to_its_end(async move {
            let mut failures = pool.inner.expansion.one.lock().await;
            // Somebody else may have done it meanwhile.
            if !plan.below.is_short(pool.available_space(), pool.kept_capacity()) {
                return Ok(None);
            }
            pool.expand(&plan, &mut failures, 0).await
        });
        growing.await.unwrap_or(Err(Error::ShuttingDown))
    }

    /// A volume for a write that found no room on any: after the next one was mounted, if there is one in time.
    pub(super) async fn place_after_expansion(
        &self,
        size_hint: Option<u64>,
        tried: &[VolumeId],
        path_of: Option<&BlobPath>,
        refused: Error,
    ) -> Result<Ticket> {
        let Some(plan) = self.inner.expansion.plan.read().clone() else { return Err(refused) };
        let clock = Arc::clone(self.clock());
        let deadline = clock.monotonic().saturating_add(EXPANSION_WAIT_MAX);
        for _ in 0..VOLUMES_PER_WRITE_MAX {
            let mounted = {
                let (pool, plan) = (self.clone(), plan.clone());
                let before = self.volume_ids();
                let growing = to_its_end(async move {
                    let mut failures = pool.inner.expansion.one.lock().await;
                    if pool.volume_ids() != before {
                        return true; // somebody else did it meanwhile
                    }
                    matches!(pool.expand(&plan, &mut failures, size_hint.unwrap_or(0)).await, Ok(Some(_)))
                });
                tokio::select! {
                    mounted = growing => mounted.unwrap_or(false),
                    () = clock.sleep_until(deadline) => false,
                }
            };
            match self.inner.mounts.place(&self.inner.placement, size_hint, tried, path_of) {
                Ok(ticket) => return Ok(ticket),
                Err(_) if mounted && clock.monotonic() < deadline => {} // too small, or full already
                Err(_) => break,
            }
        }
        Err(refused)
    }

    async fn expand(&self, plan: &Plan, failures: &mut Failures, required: u64) -> Result<Option<VolumeId>> {
        let now = self.clock().monotonic();
        if failures.in_a_row > 0 && now < failures.not_before {
            return Ok(None);
        }
        let shortage = Shortage {
            available: self.available_space(),
            total: self.kept_capacity(),
            required,
            mounted: self.volume_ids().into_iter().collect(),
        };
        let mounted = match plan.provider.next_volume(shortage).await {
            Ok(Some(spec)) => self.mount_boxed(spec).await.map(Some),
            Ok(None) => Ok(None),
            Err(why) => Err(why),
        };
        match &mounted {
            Ok(Some(id)) => {
                *failures = Failures::default();
                info!(volume = %id, "pool grew by a volume");
            }
            Ok(None) => failures.add(now), // there may be one later
            Err(why) => {
                failures.add(now);
                warn!(error = why as &dyn std::error::Error, "pool could not grow, tried again later");
            }
        }
        mounted
    }

    fn volume_ids(&self) -> Vec<VolumeId> {
        self.inner.mounts.all().iter().map(|volume| volume.id().clone()).collect()
    }
}

/// Does `work` to its end, also when this future is dropped, as far as a runtime runs here. `None` when that ends.
async fn to_its_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => runtime.spawn(work).await.ok(),
        Err(_) => Some(work.await),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::enough(ExpandBelow { bytes: 100, percent: 10 }, 100, 1_000, false)]
    #[case::too_few_bytes(ExpandBelow { bytes: 101, percent: 10 }, 100, 1_000, true)]
    #[case::too_small_a_share(ExpandBelow { bytes: 0, percent: 10 }, 99, 1_000, true)]
    #[case::never(ExpandBelow::default(), 0, 1_000, false)]
    #[case::without_any_volume(ExpandBelow { bytes: 1, percent: 0 }, 0, 0, true)]
    #[case::beyond_64_bits(ExpandBelow { bytes: 0, percent: 99 }, u64::MAX - 1, u64::MAX, false)]
    fn a_pool_is_short_below_either_threshold(
        #[case] below: ExpandBelow,
        #[case] available: u64,
        #[case] total: u64,
        #[case] short: bool,
    ) {
        assert_eq!(below.is_short(available, total), short);
    }
}
