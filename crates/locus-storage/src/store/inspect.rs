//! Looking at a store without opening it: read-only, without the lock, also while another process has it open.

use std::{collections::BTreeMap, path::Path, sync::atomic::Ordering};

use locus_core::{Error, Lsn, Place, Result, StoreCounts, StoreId, StoreTime, VolumeId};
use locus_fs::Disk;
use serde::Serialize;

use super::{
    checkpoint::journal_dir, embedded::EmbeddedStore, identity::Identity, limits::Limits, recovery::Reading,
};
use crate::EngineOptions;

/// A running store changes its files while they are read: so often a look that met a change is taken again.
const LOOKS_MAX: usize = 20;

/// What a look at a store's directory found: the state that the next open would recover, give or take what happened
/// meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Inspection {
    /// The store's identity.
    pub store: StoreId,
    /// Files by tenant and state.
    pub tenants: StoreCounts,
    /// Files by volume.
    pub volumes: BTreeMap<VolumeId, u64>,
    /// Files whose content rests in the journal.
    pub in_journal: u64,
    /// Bytes of all journal segments.
    pub journal_bytes: u64,
    /// Bytes of the newest checkpoint.
    pub checkpoint_bytes: u64,
    /// Last LSN in the log.
    pub end: Lsn,
    /// The highest LSN that the disk says is durable.
    pub durable: Lsn,
}

impl EmbeddedStore {
    /// Looks at the store in `dir`. Changes nothing. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`] when there is no store; [`Error::Corrupt`] and [`Error::NewerFormat`] as opening it would.
    pub fn inspect(dir: &Path, disk: &dyn Disk) -> Result<Inspection> {
        let mut looks = 0;
        loop {
            match look(dir, disk) {
                Err(Error::Corrupt { .. } | Error::Io { .. })
                    if looks < LOOKS_MAX && disk.metadata(dir).is_ok() =>
                {
                    looks += 1;
                }
                done => return done,
            }
        }
    }
}

fn look(dir: &Path, disk: &dyn Disk) -> Result<Inspection> {
    let identity = Identity::read(disk, dir)?.ok_or_else(|| {
        Error::io("find a store in", dir)(std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "it holds no STORE file",
        ))
    })?;
    let store = identity.id;
    disk.metadata(&journal_dir(dir)).map_err(Error::io("look at", journal_dir(dir)))?;
    let reading = Reading::read(disk, dir, identity, false)?;
    let limits = Limits::from_settings(&EngineOptions::default())?;
    let rebuilt = reading.rebuild(disk, dir, limits, reading.survey.end)?;
    let mut tenants = StoreCounts::new();
    let mut volumes: BTreeMap<VolumeId, u64> = BTreeMap::new();
    let mut in_journal = 0;
    for cell in &rebuilt.cells.all {
        let mut state = cell.state.lock();
        state.begin_live(&rebuilt.places, StoreTime::ZERO);
        for entry in state.entries() {
            match rebuilt.places.place(entry.rest) {
                Place::Volume(volume) => *volumes.entry(volume).or_default() += 1,
                _ => in_journal += 1,
            }
        }
        let counts = state.counts();
        if counts.files() + counts.dead_lettered > 0 {
            tenants.insert(state.id.clone(), counts);
        }
    }
    debug_assert_eq!(
        rebuilt.places.files.load(Ordering::Relaxed)
            + tenants.values().map(|counts| counts.dead_lettered).sum::<u64>(),
        volumes.values().sum::<u64>() + in_journal
    );
    Ok(Inspection {
        store,
        tenants,
        volumes,
        in_journal,
        journal_bytes: reading.journal_bytes(),
        checkpoint_bytes: reading.loaded.map_or(0, |loaded| loaded.bytes),
        end: reading.survey.end,
        durable: reading.survey.durable,
    })
}
