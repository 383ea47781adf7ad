//! The marker `.locus-volume`: which volume, of which store, lies here.
//!
//! The first 512 bytes are text, filled up with spaces and ended by a line feed; each line ends with a line feed:
//!
//! ```text
//! locus volume
//! format 1
//! volume vol-001
//! store 00112233445566778899aabbccddeeff
//! depth 1
//! checksum <BLAKE3 of all lines before this one, 64 hexadecimal digits>
//! ```
//!
//! The first two lines are the same in every format. Behind the 512 bytes stands, for people, who mounted it last.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::io;

use locus_core::{Checksum, Error, Result, StoreId, VolumeId};

use crate::{disk::DiskFile, local::layout::DEPTH_MAX};

/// Length of the marker proper.
pub(crate) const MARKER_BYTES: usize = 512;

/// The format that is written, and the newest one that is read.
const FORMAT: u32 = 1;

/// What the marker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) volume: VolumeId,
    pub(crate) store: StoreId,
    pub(crate) depth: u8,
}

impl Marker {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { volume, store, depth } = self;
        let mut text =
            format!("locus volume\nformat {FORMAT}\nvolume {volume}\nstore {store}\ndepth {depth}\n");
        text.push_str(&format!("checksum {}\n", Checksum::of(text.as_bytes())));
        format!("{text:<width$}\n", width = MARKER_BYTES.saturating_sub(1)).into_bytes()
    }

    /// Reads the marker of an open file; `place` names it in errors.
    ///
    /// # Errors
    /// [`Error::NewerFormat`], [`Error::Corrupt`]; [`Error::Io`].
    pub(crate) fn read(file: &dyn DiskFile, place: &std::path::Path) -> Result<Self> {
        let mut bytes = [0; MARKER_BYTES];
        let filled = file.read_at(&mut bytes, 0).map_err(Error::io("read", place))?;
        let place = place.display().to_string();
        match decode(bytes.get(..filled).unwrap_or_default()) {
            Ok(marker) => Ok(marker),
            Err(Refused::Newer(found)) => Err(Error::NewerFormat { place, found, supported: FORMAT }),
            Err(Refused::Damaged(why)) => Err(Error::Corrupt { place, why: why.into() }),
        }
    }

    /// Writes the marker into its open, locked file; the caller makes it durable.
    pub(crate) fn write(&self, file: &dyn DiskFile) -> io::Result<()> {
        file.set_len(0)?;
        file.write_at(&self.encode(), 0)
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    Newer(u32),
    Damaged(&'static str),
}

pub(crate) fn decode(bytes: &[u8]) -> Result<Marker, Refused> {
    use Refused::Damaged;
    let text = str::from_utf8(bytes).map_err(|_| Damaged("it is no text"))?;
    let mut lines = text.lines();
    if lines.next() != Some("locus volume") {
        return Err(Damaged("it is no marker of a volume"));
    }
    let mut field = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(' ');
    match field("format").and_then(|format| format.parse().ok()) {
        Some(FORMAT) => {}
        Some(newer) if newer > FORMAT => return Err(Refused::Newer(newer)),
        _ => return Err(Damaged("it names no format")),
    }
    let (summed, rest) = text.split_once("checksum ").ok_or(Damaged("it is cut short"))?;
    if rest.lines().next() != Some(&Checksum::of(summed.as_bytes()).to_string()) {
        return Err(Damaged("its checksum is wrong"));
    }
    let volume = field("volume").and_then(|id| VolumeId::parse(id).ok());
    let store = field("store").and_then(parse_store);
    let depth = field("depth").and_then(|depth| depth.parse().ok()).filter(|depth| *depth <= DEPTH_MAX);
    match (volume, store, depth) {
        (Some(volume), Some(store), Some(depth)) => Ok(Marker { volume, store, depth }),
        _ => Err(Damaged("a field is missing or wrong")),
    }
}

fn parse_store(hex: &str) -> Option<StoreId> {
    if hex.len() != 32 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    Some(StoreId::from_bytes(u128::from_str_radix(hex, 16).ok()?.to_be_bytes()))
}

#[cfg(test)]
#[expect(clippy::indexing_slicing, reason = "these bytes are ours")]
mod tests {
    use super::*;

    fn marker() -> Marker {
        Marker {
            volume: VolumeId::parse(&"v".repeat(63)).unwrap(),
            store: StoreId::from_bytes([0xa5; 16]),
            depth: 2,
        }
    }

    #[test]
    fn a_marker_survives_its_bytes() {
        let bytes = marker().encode();
        assert_eq!(bytes.len(), MARKER_BYTES);
        assert_eq!(decode(&bytes), Ok(marker()));
    }

    #[test]
    fn a_changed_byte_is_noticed_wherever_it_is() {
        let bytes = marker().encode();
        let said = bytes.iter().rposition(|b| !b.is_ascii_whitespace()).unwrap() + 1;
        for at in 0..said {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            assert_ne!(decode(&bytes), Ok(marker()), "byte {at}");
        }
    }

    #[test]
    fn a_cut_or_empty_marker_is_damaged() {
        let bytes = marker().encode();
        let said = bytes.iter().rposition(|b| !b.is_ascii_whitespace()).unwrap() + 1;
        for len in 0..said {
            assert!(matches!(decode(&bytes[..len]), Err(Refused::Damaged(_))), "{len}");
        }
        assert!(decode(&[0; MARKER_BYTES]).is_err());
    }

    #[test]
    fn b68_a_newer_format_is_named_and_not_misread() {
        assert_eq!(decode(b"locus volume\nformat 7\nanything\n"), Err(Refused::Newer(7)));
    }
}
