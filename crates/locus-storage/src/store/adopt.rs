//! Blobs that nothing names become files.

use locus_core::{Area, BlobPath, BriefClaim, Claim, Error, LogicalDir, Orphan, Properties, Result};

use super::{
    embedded::EmbeddedStore,
    event::{Accepted, Change, Resting, body_bound},
    upload::sealed,
};
use crate::journal::Use;

impl EmbeddedStore {
    pub(super) async fn adopt_orphan(&self, claim: Claim, orphan: Orphan) -> Result<bool> {
        let _claim = BriefClaim::from(claim);
        let refused = |name, why| Error::InvalidArgument { name, why };
        let Orphan { volume, blob, size, checksum, seal } = orphan;
        let BlobPath { area, owner, key, extension } = blob;
        if area != Area::Live {
            return Err(refused("blob", "does not lie among the files of the queue"));
        }
        let Some(tenant) = owner.tenant() else { return Err(refused("blob", "is no tenant's")) };
        let own = owner.as_str() == tenant.as_str();
        let change = Change::Accepted(Accepted {
            key,
            owner: (!own).then_some(owner),
            directory: LogicalDir::root(),
            // The extension comes from the name, and the address from the extension.
            original_name: (seal.is_none() && !extension.is_empty()).then(|| format!("{key}.{extension}")),
            properties: Properties::new(),
            size,
            checksum,
            place: Resting::Volume { id: volume, synced: true },
            idempotency: None,
        });
        let changes: Vec<_> = [change].into_iter().chain(sealed(key, seal)?).collect();
        self.make_spare().await?;
        let bound = body_bound(&changes);
        let mut room = self.journal.reserve(Use::Accept, &[bound]).await?;
        let cell = self.cell_or_new(&tenant);
        let lsn = {
            let mut state = cell.state.lock();
            state.check_staying()?;
            if !state.is_claimed(&key) {
                return Err(refused("claim", "is not one on this blob"));
            }
            if state.get(&key).is_some() {
                return Ok(false);
            }
            self.take_room_now(&mut state, key, &LogicalDir::root(), size)?;
            let stamp = self.clock.stamp();
            let done = self.commit(&cell, &mut state, &mut room, stamp, &changes);
            // It counts by itself now, or not at all.
            if let Some(taken) = state.unreserve(&key).filter(|_| done.is_err()) {
                self.places.give_back(taken);
            }
            done?
        };
        drop(room);
        self.confirm(lsn, self.config.options.durability).await?;
        Ok(true)
    }
}
