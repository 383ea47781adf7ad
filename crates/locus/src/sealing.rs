//! Encryption at rest: a keyring makes the sealer of the pool. Without the feature there is none.

use std::sync::Arc;

use locus_core::{Entropy, Error, MetadataStore, Result, Sealer, StoreId};
#[cfg(feature = "encryption")]
use locus_vault::{Keyring, PoolSealer};

/// What a store is sealed with.
#[derive(Default)]
pub(crate) struct Keys {
    #[cfg(feature = "encryption")]
    pub(crate) ring: Option<Arc<Keyring>>,
}

impl Keys {
    #[cfg(feature = "encryption")]
    pub(crate) fn sealer(&self, store: StoreId, entropy: &Arc<dyn Entropy>) -> Option<Arc<dyn Sealer>> {
        let ring = self.ring.as_ref()?;
        Some(Arc::new(PoolSealer::new(store, Arc::clone(ring), Arc::clone(entropy))))
    }

    #[cfg(not(feature = "encryption"))]
    #[expect(clippy::unused_self, reason = "only with the feature there is something to seal with")]
    pub(crate) fn sealer(&self, _store: StoreId, _entropy: &Arc<dyn Entropy>) -> Option<Arc<dyn Sealer>> {
        None
    }
}

/// Refuses what could not be opened.
pub(crate) fn check_keys(store: &dyn MetadataStore, sealer: Option<&Arc<dyn Sealer>>) -> Result<()> {
    for (key, _) in store.seal_keys() {
        sealer.map_or(Err(Error::UnknownKey { key }), |sealer| sealer.check(key))?;
    }
    Ok(())
}
