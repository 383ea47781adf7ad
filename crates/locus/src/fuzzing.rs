//! Doors for fuzzers to what this crate reads from a disk. Nothing may panic, and what was read and is written again reads
//! the same. Not part of the API.

use std::path::Path;

use crate::{Settings, mounts};

/// The note of which volumes were mounted where: as it is, and as the body of one whose checksum is right.
pub fn mounts(bytes: &[u8]) {
    for bytes in [bytes, &mounts::FRAME.seal(bytes)] {
        if let Some(noted) = mounts::decode(bytes) {
            assert_eq!(mounts::decode(&mounts::encode(&noted)), Some(noted));
        }
    }
}

/// A file of settings.
pub fn settings(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Settings::from_text(text, Path::new("/etc/locus.toml"), []);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mounts::Mount;

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            mounts(&bytes);
            settings(&bytes);
        }

        #[test]
        fn mounts_survive_their_encoding_and_harm_does_no_harm(
            paths in prop::collection::vec("/[a-zä]{0,20}", 0..9), used: bool,
            at in prop::collection::vec(any::<(usize, u8)>(), 0..6), cut: usize,
        ) {
            let id = |n| locus_core::VolumeId::parse(&format!("vol-{n}")).unwrap();
            let mount = |(n, path): (usize, String)| Mount { id: id(n), path: path.into(), used };
            let noted: Vec<Mount> = paths.into_iter().enumerate().map(mount).collect();
            let mut bytes = mounts::encode(&noted);
            prop_assert_eq!(mounts::decode(&bytes), Some(noted));
            let length = bytes.len();
            at.iter().for_each(|(place, byte)| bytes[place % length] ^= byte);
            bytes.truncate(cut % (length + 1));
            mounts(&bytes);
            mounts(bytes.get(16..).unwrap_or_default());
        }

        #[test]
        fn harmed_settings_are_read_or_refused(at in prop::collection::vec(any::<(usize, u8)>(), 1..4), from: usize) {
            let mut bytes = include_bytes!("../../../config/locus.toml").to_vec();
            let length = bytes.len();
            at.iter().for_each(|(place, byte)| bytes[place % length] = byte % 128);
            settings(&bytes);
            settings(&bytes[from % length..]);
        }
    }
}
