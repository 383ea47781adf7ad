//! A vault and its keyring, where they lie.

use std::{sync::Arc, time::Duration};

use locus_fs::OsDisk;
use locus_vault::{
    BlobOptions, BlobStore, Caching, Keyring, KeyringFile, RingId, Schemas, Vault, VaultError, VaultOptions,
};

use crate::{
    args::{OpenArgs, PlaceArgs, UnlockArgs},
    failure::Failure,
};

impl PlaceArgs {
    pub(crate) fn keyring_file(&self) -> KeyringFile {
        KeyringFile::at(self.keyring())
    }

    pub(crate) fn schemas(&self) -> Schemas {
        Schemas::new(Arc::new(OsDisk), self.dir.join("schemas"))
    }

    /// The store beneath the vault, which must be there: only `init` makes one.
    pub(crate) async fn blobs(&self) -> Result<BlobStore, Failure> {
        match BlobStore::open(&self.dir, BlobOptions::default().read_only(true)).await {
            Err(VaultError::UnfitDirectory { dir, .. }) => Err(Failure::NoVault(dir)),
            opened => Ok(opened?),
        }
    }

    /// The same, to change something in it.
    pub(crate) async fn blobs_to_change(&self, lock_timeout: Duration) -> Result<BlobStore, Failure> {
        self.blobs().await?;
        Ok(BlobStore::open(&self.dir, BlobOptions::default().lock_timeout(lock_timeout)).await?)
    }

    /// The keyring, opened by what was given or is typed.
    pub(crate) async fn ring(&self, by: &UnlockArgs) -> Result<Keyring, Failure> {
        let file = self.keyring_file();
        // Nobody is asked in vain.
        self.check_ring(by.ring, file.inspect().await?.id)?;
        let ring = file.open(by.unlock()?).await?;
        self.check_ring(by.ring, ring.info().id)?;
        Ok(ring)
    }

    fn check_ring(&self, expected: Option<RingId>, found: RingId) -> Result<(), Failure> {
        match expected {
            Some(expected) if expected != found => {
                Err(VaultError::OtherKeyring { dir: self.dir.clone(), expected, found }.into())
            }
            _ => Ok(()),
        }
    }
}

impl OpenArgs {
    /// The keyring of a vault that is there, and no other.
    pub(crate) async fn ring(&self) -> Result<Keyring, Failure> {
        let named = self.place.blobs().await?.ring().await?;
        let ring = self.place.ring(&self.unlock).await?;
        self.place.check_ring(named, ring.info().id)?;
        Ok(ring)
    }

    /// How the vault is opened. One call keeps nothing for a next one.
    pub(crate) async fn options(&self) -> Result<VaultOptions, Failure> {
        let ring = Arc::new(self.ring().await?);
        Ok(VaultOptions::new(ring).keyring_file(self.place.keyring_file()).caching(Caching::Off))
    }

    /// The vault, to be read.
    pub(crate) async fn vault(&self) -> Result<Vault, Failure> {
        let options = self.options().await?.read_only(true);
        Ok(Vault::open(&self.place.dir, options).await?)
    }
}
