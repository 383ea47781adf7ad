//! Encryption at rest: a keyring makes the sealer of the pool. Without the feature there is none.

use std::sync::Arc;

use locus_core::{Entropy, Error, MetadataStore, Result, Sealer, StoreId};
#[cfg(feature = "encryption")]
use locus_storage::{SealOptions, SealProgress, SealReport, StoragePool};
#[cfg(feature = "encryption")]
use locus_vault::{KeyId, Keyring, KeyringFile, PoolSealer, VaultError};

/// What a store is sealed with.
#[derive(Default)]
pub(crate) struct Keys {
    #[cfg(feature = "encryption")]
    pub(crate) ring: Option<Arc<Keyring>>,
}

/// What seals, when something does.
#[derive(Default)]
pub(crate) struct Seals {
    #[cfg(feature = "encryption")]
    by: Option<PoolSealer>,
}

impl Keys {
    #[cfg(feature = "encryption")]
    pub(crate) fn seals(self, store: StoreId, entropy: &Arc<dyn Entropy>) -> Seals {
        Seals { by: self.ring.map(|ring| PoolSealer::new(store, ring, Arc::clone(entropy))) }
    }

    #[cfg(not(feature = "encryption"))]
    pub(crate) fn seals(self, _store: StoreId, _entropy: &Arc<dyn Entropy>) -> Seals {
        Seals::default()
    }
}

impl Seals {
    #[cfg(feature = "encryption")]
    pub(crate) fn sealer(&self) -> Option<Arc<dyn Sealer>> {
        self.by.clone().map(|sealer| Arc::new(sealer) as _)
    }

    #[cfg(not(feature = "encryption"))]
    #[expect(clippy::unused_self, reason = "only with the feature there is something to seal with")]
    pub(crate) fn sealer(&self) -> Option<Arc<dyn Sealer>> {
        None
    }

    #[cfg(feature = "encryption")]
    pub(crate) fn encryption(
        &self,
        store: &Arc<dyn MetadataStore>,
        pool: &StoragePool,
    ) -> Option<Encryption> {
        Some(Encryption { sealer: self.by.clone()?, store: Arc::clone(store), pool: pool.clone() })
    }
}

/// The keys of a sealed store while it runs. Made by [`Locus::encryption`](crate::Locus::encryption).
///
/// A store that was there before its keys: [`seal_all`](Self::seal_all) seals what it holds.
///
/// To change the key: [`rotate`](Self::rotate), [`seal_all`](Self::seal_all) or wait until nothing [needs](Self::keys_in_use) the old
/// one any more, and [`retire`](Self::retire) it.
#[cfg(feature = "encryption")]
#[derive(Debug, Clone)]
pub struct Encryption {
    sealer: PoolSealer,
    store: Arc<dyn MetadataStore>,
    pool: StoragePool,
}

#[cfg(feature = "encryption")]
impl Encryption {
    /// The ring that it seals and opens with.
    #[must_use]
    pub fn keyring(&self) -> Arc<Keyring> {
        self.sealer.keyring()
    }

    /// The keys that contents and uploads under way are sealed with, and how many of each. A memory operation.
    #[must_use]
    pub fn keys_in_use(&self) -> Vec<(KeyId, u64)> {
        let keys = self.store.seal_keys().into_iter();
        keys.map(|(key, count)| (KeyId::from_bytes(*key.as_bytes()), count)).collect()
    }

    /// Seals every content that is not sealed with the active key, beside running work, and says now and then how far it is. Returns
    /// when that is done.
    ///
    /// # Errors
    /// As [`StoragePool::seal_all`].
    ///
    /// # Cancel safety
    /// What is sealed is sealed, the rest is as it was: call it again.
    pub async fn seal_all(
        &self,
        options: SealOptions,
        progress: impl Fn(SealProgress) + Send + Sync,
    ) -> Result<SealReport> {
        self.pool.seal_all(options, progress).await
    }

    /// Seals and opens with these keys from now on, after the ring was changed elsewhere. An earlier generation of the ring that it
    /// has is passed by.
    ///
    /// # Errors
    /// [`VaultError::UnknownKey`] when something could not be opened with them; it goes on with those that it has.
    pub fn set_keyring(&self, keyring: impl Into<Arc<Keyring>>) -> Result<(), VaultError> {
        let (keyring, own) = (keyring.into(), self.keyring().info());
        if keyring.info().id == own.id && keyring.info().generation < own.generation {
            return Ok(()); // somebody was faster, with a later one
        }
        for (key, _) in self.keys_in_use() {
            keyring.key(key)?;
        }
        self.sealer.set_keyring(keyring);
        Ok(())
    }

    /// Gives the ring a new active key, and seals with it what comes from now on. What is there stays as it is.
    ///
    /// # Errors
    /// As [`KeyringFile::rotate`].
    ///
    /// # Cancel safety
    /// After a dropped future the ring has the new key or not; [`set_keyring`](Self::set_keyring) takes it.
    pub async fn rotate(&self, file: &KeyringFile) -> Result<(), VaultError> {
        let rotated = file.rotate(&self.keyring()).await?;
        self.set_keyring(rotated)
    }

    /// Destroys a key that nothing here is sealed with. Whether a backup, a vault or another store needs it, nobody asks.
    ///
    /// # Errors
    /// [`VaultError::KeyInUse`] says how many contents, uploads and writes under way need it; as [`KeyringFile::retire`]. It is not
    /// retired then. A write that was begun before the ring was rotated and ends later fails with [`Error::UnknownKey`].
    ///
    /// # Cancel safety
    /// As [`rotate`](Self::rotate).
    pub async fn retire(&self, file: &KeyringFile, key: KeyId) -> Result<(), VaultError> {
        let in_use = |entities| VaultError::KeyInUse { id: key, entities, unreadable: 0 };
        let _retiring = self.sealer.begin_retire(key).map_err(in_use)?;
        // By now nothing can come to name it, and a power cut brings nothing back that named it.
        let path = file.path().to_owned();
        self.store.sync().await.map_err(|source| VaultError::WriteFailed { path, source })?;
        if let Some((_, entities)) = self.keys_in_use().into_iter().find(|(used, _)| *used == key) {
            return Err(in_use(entities));
        }
        let retired = file.retire(&self.keyring(), key).await?;
        self.set_keyring(retired)
    }
}

/// Refuses what could not be opened.
pub(crate) fn check_keys(store: &dyn MetadataStore, sealer: Option<&Arc<dyn Sealer>>) -> Result<()> {
    for (key, _) in store.seal_keys() {
        sealer.map_or(Err(Error::UnknownKey { key }), |sealer| sealer.check(key))?;
    }
    Ok(())
}
