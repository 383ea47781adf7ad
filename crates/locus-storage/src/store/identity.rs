//! Who a store is: drawn once, kept in the file `STORE` of its directory.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::{Path, PathBuf};

use locus_core::{Entropy, Error, Result, StoreId};
use locus_fs::{Disk, read_bounded, replace};

use super::{checkpoint::journal_dir, fresh_dir::refuse_unfinished};
use crate::journal::plain_checksum;

const MAGIC: [u8; 8] = *b"LOCUSSTO";
const FORMAT: u32 = 1;
const BYTES: usize = 8 + 4 + 4 + 16 + 32 + 8;
const FILE: &str = "STORE";

/// The content of `STORE`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) id: StoreId,
    /// Keys the hash of idempotency keys.
    pub(crate) secret: [u8; 32],
    /// A log was begun: from then on a missing log is damage, not a fresh store.
    pub(crate) begun: bool,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("id", &self.id).field("begun", &self.begun).finish_non_exhaustive()
    }
}

impl Identity {
    fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// Reads the identity of the store in `dir`; `None` when there is none. A directory that nobody finished is refused.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>> {
        refuse_unfinished(disk, dir)?;
        let path = Self::path(dir);
        match read_bounded(disk, &path, 4_096)? {
            None => Ok(None),
            Some(bytes) => Self::decode(&bytes, &path).map(Some),
        }
    }

    /// Reads the identity, or draws and stores one.
    pub(crate) fn read_or_draw(disk: &dyn Disk, dir: &Path, entropy: &dyn Entropy) -> Result<Self> {
        if let Some(identity) = Self::read(disk, dir)? {
            return Ok(identity);
        }
        // The journal's directory is made after this file, so it was lost: what the log holds belongs to no new store.
        if disk.metadata(&journal_dir(dir)).is_ok() {
            return Err(Error::Corrupt {
                place: Self::path(dir).display().to_string(),
                why: "it is missing, and there is a journal beside it".into(),
            });
        }
        let mut id = [0; 16];
        entropy.fill(&mut id);
        let mut secret = [0; 32];
        entropy.fill(&mut secret);
        let identity = Self { id: StoreId::from_bytes(id), secret, begun: false };
        identity.write(disk, dir)?;
        Ok(identity)
    }

    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        replace(disk, &Self::path(dir), &self.encode())
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        bytes.extend_from_slice(&u32::from(self.begun).to_le_bytes());
        bytes.extend_from_slice(self.id.as_bytes());
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&plain_checksum(&bytes).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let corrupt =
            |why: &'static str| Error::Corrupt { place: path.display().to_string(), why: why.into() };
        let parts = (|| {
            let (magic, rest) = bytes.split_first_chunk::<8>()?;
            let (format, rest) = rest.split_first_chunk::<4>()?;
            let (begun, rest) = rest.split_first_chunk::<4>()?;
            let (id, rest) = rest.split_first_chunk::<16>()?;
            let (secret, rest) = rest.split_first_chunk::<32>()?;
            let (checksum, rest) = rest.split_first_chunk::<8>()?;
            rest.is_empty().then_some((magic, format, begun, id, secret, checksum))
        })();
        let Some((magic, format, begun, id, secret, checksum)) = parts else {
            return Err(corrupt("it does not have the length of a store's identity"));
        };
        let covered = bytes.get(..BYTES - 8).unwrap_or_default();
        if *magic != MAGIC || plain_checksum(covered) != u64::from_le_bytes(*checksum) {
            return Err(corrupt("its checksum is wrong"));
        }
        let found = u32::from_le_bytes(*format);
        if found != FORMAT {
            return Err(Error::NewerFormat { place: path.display().to_string(), found, supported: FORMAT });
        }
        Ok(Self { id: StoreId::from_bytes(*id), secret: *secret, begun: u32::from_le_bytes(*begun) != 0 })
    }
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "these bytes are ours")]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_its_encoding_and_damage_is_named() {
        let identity = Identity { id: StoreId::from_bytes([3; 16]), secret: [4; 32], begun: true };
        let bytes = identity.encode();
        let path = Path::new("STORE");
        assert_eq!(Identity::decode(&bytes, path).unwrap(), identity);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(Identity::decode(&flipped, path), Err(Error::Corrupt { .. })), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Identity::decode(&bytes[..length], path).is_err(), "length {length}");
        }
    }
}
