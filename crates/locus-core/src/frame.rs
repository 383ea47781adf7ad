//! What small files that are replaced whole have in common.
//!
//! | bytes | what |
//! |---|---|
//! | 7 | a mark: what kind of file this is |
//! | 1 | its format |
//! | 8 | the first 8 bytes of BLAKE3 over the format and the body |
//! | rest | the body |

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::path::Path;

use crate::{Error, Hasher, Result};

/// A kind of small file: its mark, and the format that is written. Pure functions of bytes.
#[derive(Debug, Clone, Copy)]
pub struct FileFrame {
    mark: &'static [u8; 7],
    format: u8,
}

impl FileFrame {
    /// The kind with this mark. Each body has an encoding of its own, of which `format` is the newest.
    #[must_use]
    pub const fn new(mark: &'static [u8; 7], format: u8) -> Self {
        Self { mark, format }
    }

    /// A file with this body.
    #[must_use]
    pub fn seal(&self, body: &[u8]) -> Vec<u8> {
        [self.mark.as_slice(), &[self.format], &sum(self.format, body), body].concat()
    }

    /// The body in `bytes`, which were read from `path`.
    ///
    /// # Errors
    /// [`Error::NewerFormat`]; [`Error::Corrupt`] for whatever was not [sealed](Self::seal) so. Both name the path.
    pub fn open<'a>(&self, path: &Path, bytes: &'a [u8]) -> Result<&'a [u8]> {
        let rest =
            bytes.strip_prefix(self.mark).ok_or_else(|| corrupt(path, "it does not begin as it should"))?;
        let (&format, rest) = rest.split_first().ok_or_else(|| corrupt(path, "it ends before its format"))?;
        if format > self.format {
            let (place, found) = (path.display().to_string(), u32::from(format));
            return Err(Error::NewerFormat { place, found, supported: u32::from(self.format) });
        }
        let (found, body) =
            rest.split_first_chunk::<8>().ok_or_else(|| corrupt(path, "it ends before its content"))?;
        if format != self.format || *found != sum(format, body) {
            return Err(corrupt(path, "its checksum does not match its content"));
        }
        Ok(body)
    }
}

fn corrupt(path: &Path, why: &'static str) -> Error {
    Error::Corrupt { place: path.display().to_string(), why: why.into() }
}

fn sum(format: u8, body: &[u8]) -> [u8; 8] {
    let mut hasher = Hasher::new();
    hasher.update(&[format]);
    hasher.update(body);
    *hasher.finish().as_bytes().first_chunk().expect("because a checksum has 32 bytes")
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "tests damage what they wrote")]
mod tests {
    use super::*;

    const FRAME: FileFrame = FileFrame::new(b"LSAMPLE", 2);

    #[test]
    fn a_body_survives_and_any_damage_is_named() {
        let good = FRAME.seal(b"body");
        assert_eq!(FRAME.open(Path::new("x"), &good).unwrap(), b"body");
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let error = FRAME.open(Path::new("data/sample"), &bad).unwrap_err();
            assert!(error.to_string().starts_with("data/sample"), "byte {at}: {error}");
            assert!(FRAME.open(Path::new("x"), &good[..at]).is_err(), "cut at {at}");
        }
        assert!(FRAME.open(Path::new("x"), &[good.as_slice(), b"more"].concat()).is_err());
        assert!(FileFrame::new(b"LANOTHR", 2).open(Path::new("x"), &good).is_err());
    }

    #[test]
    fn b68_a_newer_format_is_refused_by_name_and_an_unknown_older_one_is_damage() {
        let newer = FileFrame::new(b"LSAMPLE", 3).seal(b"");
        let error = FRAME.open(Path::new("x"), &newer).unwrap_err();
        assert!(matches!(error, Error::NewerFormat { found: 3, supported: 2, .. }), "{error}");
        let older = FileFrame::new(b"LSAMPLE", 1).seal(b"");
        assert!(matches!(FRAME.open(Path::new("x"), &older), Err(Error::Corrupt { .. })));
    }
}
