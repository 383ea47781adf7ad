//! Giving up a key that nothing is sealed by any more.

use std::sync::Arc;

use super::store::Vault;
use crate::{
    error::{Result, VaultError},
    keyring::{KeyId, KeyringFile},
    metadata::SealedBy,
};

/// How careful [`Vault::retire_key`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "options do nothing until a key is retired by them"]
pub struct RetireOptions {
    despite_unreadable: bool,
}

impl RetireOptions {
    /// Whether files that cannot be read stand in the way (they do): one of them may name the key, and be of use once it is
    /// mended.
    pub fn despite_unreadable(self, despite_unreadable: bool) -> Self {
        Self { despite_unreadable }
    }
}

impl Vault {
    /// Destroys a key of the ring in `file`, unless something of this vault is sealed by it: reads all headers first, those
    /// of deleted entities too. What is sealed by it elsewhere, backups too, is lost for good. The vault goes on with the
    /// ring as it is then.
    ///
    /// The safe order is [rotate](KeyringFile::rotate), [`rewrap`](Self::rewrap), `retire_key`. It rests on all processes
    /// being opened with [`keyring_file`](super::VaultOptions::keyring_file): each notices the new key before it changes
    /// something that was rewrapped, and before it creates something. What is not noticed here is a write that began before
    /// the rotation and ends after the last header was read. A process without the file writes by the old key until it is
    /// told ([`set_keyring`](Self::set_keyring)): tell all of them before the rewrap.
    ///
    /// # Errors
    /// [`VaultError::KeyInUse`] says how many entities name the key and how many files cannot be read;
    /// [`VaultError::ReadFailed`] when a directory cannot be listed; [`VaultError::ReadOnly`]; those of
    /// [`KeyringFile::retire`]. Nothing was retired; after [`VaultError::WriteFailed`] as that says.
    ///
    /// # Cancel safety
    /// As [`KeyringFile::retire`].
    pub async fn retire_key(&self, file: &KeyringFile, key: KeyId, options: RetireOptions) -> Result<()> {
        self.inner.blobs.check_writable()?;
        let ring = file.refresh(&self.keyring()).await?;
        ring.check_retire(key)?;
        let (mut entities, mut unreadable, mut from) = (0, 0, None);
        loop {
            let page = self.run(move |inner| inner.blobs.shelf().list(from, true)).await?;
            unreadable += page.unreadable.len() as u64;
            let names = |by: &SealedBy| matches!(by, SealedBy::Suite { key: named, .. } if *named == key);
            entities += page.entries.iter().filter(|entry| names(&entry.sealed)).count() as u64;
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        if entities > 0 || (unreadable > 0 && !options.despite_unreadable) {
            return Err(VaultError::KeyInUse { id: key, entities, unreadable });
        }
        self.set_keyring(Arc::new(file.retire(&ring, key).await?));
        Ok(())
    }
}
