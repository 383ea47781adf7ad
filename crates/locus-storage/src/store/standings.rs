//! What was decided about volumes: it holds whether they are mounted or not, and over restarts.

use std::collections::BTreeMap;

use locus_core::{Lsn, Result, VolumeId, VolumeStanding};

use super::{embedded::EmbeddedStore, event::Record};
use crate::journal::Use;

/// Every volume about which something was said, and the record that said it.
#[derive(Debug, Default)]
pub(crate) struct Standings(BTreeMap<VolumeId, (VolumeStanding, Lsn)>);

impl Standings {
    pub(crate) fn of(&self, volume: &VolumeId) -> VolumeStanding {
        self.0.get(volume).map(|(standing, _)| *standing).unwrap_or_default()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&VolumeId, VolumeStanding, Lsn)> {
        self.0.iter().map(|(volume, (standing, lsn))| (volume, *standing, *lsn))
    }

    /// Applies a record, unless a later one was applied.
    pub(crate) fn apply(&mut self, lsn: Lsn, volume: VolumeId, standing: VolumeStanding) {
        if self.0.get(&volume).is_none_or(|(_, last)| *last < lsn) {
            self.0.insert(volume, (standing, lsn));
        }
    }

    /// Forgets volumes in use of which records before `begin` said so: a checkpoint that begins there says the same by not
    /// naming them.
    pub(crate) fn forget_usual(&mut self, begin: Lsn) {
        self.0.retain(|_, (standing, last)| *standing != VolumeStanding::InUse || *last >= begin);
    }
}

impl EmbeddedStore {
    pub(super) async fn store_standing(
        &self,
        volume: &VolumeId,
        standing: VolumeStanding,
    ) -> Result<VolumeStanding> {
        let body = Record::VolumeStands { volume: volume.clone(), standing }.encode();
        // As a completion does: a full disk is what a volume may be drained for.
        let mut room = self.journal.reserve(Use::Essential, &[body.len()]).await?;
        let (before, lsn) = {
            let mut standings = self.standings.write();
            let before = standings.of(volume);
            let lsn = self.journal.append(&mut room, body, 0)?.lsn;
            standings.apply(lsn, volume.clone(), standing);
            (before, lsn)
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await?;
        Ok(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_record_counts_and_what_is_usual_is_forgotten_behind_a_checkpoint() {
        let volume = VolumeId::parse("vol-1").unwrap();
        let mut standings = Standings::default();
        standings.apply(Lsn(7), volume.clone(), VolumeStanding::Draining);
        standings.apply(Lsn(5), volume.clone(), VolumeStanding::Retired);
        assert_eq!(standings.of(&volume), VolumeStanding::Draining);
        standings.forget_usual(Lsn(100));
        assert_eq!(standings.count(), 1);
        standings.apply(Lsn(9), volume.clone(), VolumeStanding::InUse);
        standings.forget_usual(Lsn(9)); // the checkpoint may have been told what holds before
        assert_eq!(standings.count(), 1);
        standings.forget_usual(Lsn(10));
        assert_eq!((standings.count(), standings.of(&volume)), (0, VolumeStanding::InUse));
    }
}
