//! How long a volume may take to answer what the pool itself asks of it.

use std::{sync::Arc, time::Duration};

use locus_core::{Clock, Error, Result, StorageVolume, VolumeId, VolumeStatus};
use tracing::warn;

/// A probe that takes longer has failed.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opening a volume may take longer: it is rare, and a disk may have to spin up.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// A volume that is taken out of use is waited for so long; then it ends by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The answer of `work`, unless the time is over first. Dropped then: what blocks goes on by itself.
pub(super) async fn within<T>(
    clock: &Arc<dyn Clock>,
    timeout: Duration,
    work: impl Future<Output = T>,
) -> Option<T> {
    let deadline = clock.monotonic().saturating_add(timeout);
    tokio::select! {
        biased;
        done = work => Some(done),
        () = clock.sleep_until(deadline) => None,
    }
}

/// The error of a volume that did not do something in time.
pub(super) fn late(id: &VolumeId, what: &str, timeout: Duration) -> Error {
    let why = format!("did not {what} within {} s", timeout.as_secs()).into();
    Error::VolumeUnavailable { volume: Some(id.clone()), why }
}

/// Measures a volume, in time.
pub(super) async fn probe(clock: &Arc<dyn Clock>, volume: &dyn StorageVolume) -> Result<VolumeStatus> {
    let answer = within(clock, PROBE_TIMEOUT, volume.probe()).await;
    answer.unwrap_or_else(|| Err(late(volume.id(), "answer a probe", PROBE_TIMEOUT)))
}

/// Lets go of a volume that is out of use already.
pub(super) async fn close(clock: &Arc<dyn Clock>, volume: &dyn StorageVolume) {
    match within(clock, CLOSE_TIMEOUT, volume.close()).await {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            warn!(volume = %volume.id(), error = &error as &dyn std::error::Error, "volume was not closed cleanly");
        }
        None => {
            warn!(volume = %volume.id(), "volume has calls that do not return, its lock is let go with the last of them");
        }
    }
}
