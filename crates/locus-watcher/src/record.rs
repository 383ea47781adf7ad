//! What was said about a watcher at run time, in a small file of its own that is replaced whole.
//!
//! | bytes | what |
//! |---|---|
//! | 7 | `LWATCHR` |
//! | 1 | format, 1 |
//! | 8 | the first 8 bytes of BLAKE3 over the format and the body |
//! | rest | the body in postcard: set (with the description) or removed |

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::Path;

use locus_core::{Error, FileFrame, Result};
use serde::{Deserialize, Serialize};

use crate::config::FileWatcherConfig;

/// No such file is longer, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 20;

/// Of the files of watchers.
pub(crate) const FRAME: FileFrame = FileFrame::new(b"LWATCHR", 1);

/// What wins over builder and settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Said {
    /// This describes the watcher.
    Set(Box<FileWatcherConfig>),
    /// There is none, whatever builder and settings describe.
    Removed,
}

pub(crate) fn encode(said: &Said) -> Vec<u8> {
    FRAME.seal(&postcard::to_stdvec(said).expect("because a description was checked to be text"))
}

/// What stands in `bytes`, which were read from `path`.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Said> {
    let body = FRAME.open(path, bytes)?;
    postcard::from_bytes(body).map_err(|_| Error::Corrupt {
        place: path.display().to_string(),
        why: "its content describes no watcher".into(),
    })
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests damage what they wrote")]
mod tests {
    use super::*;
    use crate::config::AfterImport;

    #[test]
    fn what_was_said_survives_the_disk_and_any_damage_is_named() {
        let config = FileWatcherConfig::new("/inbox")
            .id("in")
            .tenant("acme")
            .include("*.pdf")
            .size_max(7)
            .after_import(AfterImport::Move("/done".into()));
        for said in [Said::Removed, Said::Set(Box::new(config))] {
            let good = encode(&said);
            assert_eq!(decode(Path::new("x"), &good).unwrap(), said);
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 0x10;
                let error = decode(Path::new("watchers/in"), &bad).unwrap_err();
                assert!(error.to_string().starts_with("watchers/in"), "byte {at}: {error}");
                assert!(decode(Path::new("x"), &good[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn b68_a_newer_format_is_refused_by_name() {
        let mut newer = encode(&Said::Removed);
        newer[7] = 2;
        let error = decode(Path::new("x"), &newer).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 2, supported: 1, .. }), "{error}");
    }
}
