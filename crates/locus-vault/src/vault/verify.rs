//! Whether everything opens.

use std::collections::BTreeMap;

use super::{seal, store::Inner};
use crate::{blobs::Unreadable, id::EntityId, keyring::KeyId, metadata::SealedBy};

/// What a look at everything found.
#[derive(Debug, Default)]
pub struct VerifyReport {
    /// Entities that open.
    pub entities: u64,
    /// Their contents, in bytes.
    pub bytes: u64,
    /// Deleted entities that are remembered.
    pub deleted: u64,
    /// What somebody else sealed: not opened, but as it was written.
    pub foreign: u64,
    /// By how many of all of them each key is needed.
    pub keys: BTreeMap<KeyId, u64>,
    /// What cannot be read or does not open.
    pub damaged: Vec<Unreadable>,
}

impl Inner {
    pub(super) fn verify(&self, id: &EntityId, mut report: VerifyReport) -> VerifyReport {
        let shelf = self.blobs.shelf();
        let looked = shelf.read(id).and_then(|found| {
            let Some(found) = found else { return Ok(()) }; // it has gone meanwhile
            let SealedBy::Suite { key, .. } = found.metadata.sealed else {
                shelf.check_foreign(&found)?;
                report.foreign += 1;
                return Ok(());
            };
            *report.keys.entry(key).or_default() += 1;
            let key = self.with_ring(|ring| seal::content_key(&found, ring))?;
            let (metadata, _) = seal::open(found, &key)?;
            if metadata.is_deleted {
                report.deleted += 1;
            } else {
                report.entities += 1;
                report.bytes = report.bytes.saturating_add(metadata.content_len);
            }
            Ok(())
        });
        if let Err(why) = looked {
            report.damaged.push(Unreadable { path: shelf.path(id), why });
        }
        report
    }
}
