//! How long a volume may take to answer what the pool itself asks of it.

use std::{sync::Arc, time::Duration};

use locus_core::{Clock, Error, Result, StorageVolume, VolumeId, VolumeStatus, in_time};
use locus_fs::WatchedVolume;
use tracing::warn;

/// A probe that takes longer has failed. Once it is late again, so long after the first one, nobody waits for the volume any
/// more.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Opening a volume may take longer: it is rare, and a disk may have to spin up.
pub(super) const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// A volume that is taken out of use is waited for so long; then it ends by itself.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Who waits so long for all volumes to be synced asks whether they are there.
pub(super) const SYNC_TIMEOUT: Duration = Duration::from_secs(10);

/// The error of a volume that did not do something in time.
pub(super) fn late(id: &VolumeId, what: &str, timeout: Duration) -> Error {
    Error::VolumeUnavailable { volume: Some(id.clone()), why: why_late(what, timeout).into() }
}

pub(super) fn why_late(what: &str, timeout: Duration) -> String {
    format!("did not {what} within {} s", timeout.as_secs())
}

/// Measures a volume; `None` when it takes too long.
pub(super) async fn probe(
    clock: &Arc<dyn Clock>,
    volume: &dyn StorageVolume,
) -> Option<Result<VolumeStatus>> {
    in_time(&**clock, PROBE_TIMEOUT, volume.probe()).await
}

/// The error of a volume that did not answer a probe in time.
pub(super) fn late_probe(id: &VolumeId) -> Error {
    late(id, "answer a probe", PROBE_TIMEOUT)
}

/// Lets go of a volume that is out of use already. Says whether it let go in time.
pub(super) async fn close(clock: &Arc<dyn Clock>, volume: &dyn StorageVolume) -> bool {
    match in_time(&**clock, CLOSE_TIMEOUT, volume.close()).await {
        Some(Ok(())) => true,
        Some(Err(error)) => {
            warn!(volume = %volume.id(), error = &error as &dyn std::error::Error, "volume was not closed cleanly");
            true
        }
        None => {
            warn!(volume = %volume.id(), "volume has calls that do not return, its lock is let go with the last of them");
            false
        }
    }
}

/// As [`close`]; whoever waits for one that does not let go in time waits no longer.
pub(super) async fn let_go(clock: &Arc<dyn Clock>, volume: &WatchedVolume) {
    if !close(clock, volume).await {
        volume.give_up("was unmounted while it hung");
    }
}
