//! The file that says what a directory is, and whose keys its entities are sealed by.

use std::path::{Path, PathBuf};

use locus_core::Error;
use locus_fs::{Disk, read_bounded, replace};

use crate::{error::VaultError, keyring::RingId};

const NAME: &str = "VAULT";
const BYTES_MAX: u64 = 256;
/// The newest that is known. The first names no keyring.
const FORMAT: u32 = 2;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    /// The keyring of the vault; `None` while none was opened with it.
    pub(super) ring: Option<RingId>,
}

/// Why bytes are no marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoMarker {
    Damaged,
    Newer(u32),
}

impl Marker {
    pub(crate) fn encode(self) -> String {
        match self.ring {
            None => "locus vault\nformat 1\n".to_owned(),
            Some(ring) => format!("locus vault\nformat 2\nring {ring}\n"),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NoMarker> {
        let text = String::from_utf8_lossy(bytes);
        let mut lines = text.strip_prefix("locus vault\nformat ").unwrap_or_default().lines();
        let format = lines.next().and_then(|format| format.parse::<u32>().ok());
        if let Some(newer) = format.filter(|format| *format > FORMAT) {
            return Err(NoMarker::Newer(newer));
        }
        let ring = lines.next().and_then(|line| line.strip_prefix("ring ")?.parse().ok());
        let marker = Self { ring };
        // Nothing but what is written so is one.
        if marker.encode().as_bytes() == bytes { Ok(marker) } else { Err(NoMarker::Damaged) }
    }

    /// The marker of `dir`; `None` when there is no vault in it.
    pub(super) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, VaultError> {
        let path = path_in(dir);
        let failed = |source| VaultError::ReadFailed { path: path.clone(), source };
        let Some(bytes) = read_bounded(disk, &path, BYTES_MAX).map_err(failed)? else { return Ok(None) };
        let place = path.display().to_string();
        Self::decode(&bytes).map(Some).map_err(|why| {
            failed(match why {
                NoMarker::Damaged => Error::Corrupt { place, why: "it is no vault's marker".into() },
                NoMarker::Newer(found) => Error::NewerFormat { place, found, supported: FORMAT },
            })
        })
    }

    /// Puts it in the place of what `dir` has. Whoever calls holds the lock of that.
    pub(super) fn write(self, disk: &dyn Disk, dir: &Path) -> Result<(), VaultError> {
        let path = path_in(dir);
        replace(disk, &path, self.encode().as_bytes())
            .map_err(|source| VaultError::WriteFailed { path, source })
    }
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join(NAME)
}
