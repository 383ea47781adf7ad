//! Copies of a keyring, and what becomes of the ring in whose place they are put.

use std::path::Path;

use locus_core::Error;
use locus_vault::{Keyring, KeyringFile, Result, Unlock, VaultError};

use crate::rig::{Rig, passphrase};

const COPY: &str = "/copy";

fn copy(rig: &Rig) -> KeyringFile {
    KeyringFile::new(rig.disk.clone(), rig.clock.clone(), rig.entropy.clone(), COPY)
}

fn restore(rig: &Rig, despite_newer: bool) -> Result<Keyring> {
    let ring = rig.run(copy(rig).open(Unlock::Passphrase(passphrase())))?;
    rig.run(rig.keyring_file().restore(ring, despite_newer))
}

#[test]
fn a_copy_opens_and_comes_back_in_the_place_of_a_ring_that_is_damaged_or_gone() {
    for damage in [None, Some(&b"nothing"[..]), Some(b"")] {
        let rig = Rig::new(1);
        let ring = rig.make_keyring();
        rig.run(rig.keyring_file().backup(COPY)).unwrap();
        assert_eq!(rig.content(Path::new(COPY)), rig.content(Path::new("/keyring")));
        match damage {
            None => locus_fs::Disk::remove_file(&*rig.disk, Path::new("/keyring")).unwrap(),
            Some(bytes) => rig.forge(Path::new("/keyring"), bytes),
        }
        let restored = restore(&rig, false).unwrap();
        rig.disk.crash();
        for ring_now in [&restored, &rig.open_keyring()] {
            assert_eq!((ring_now.active().0, ring_now.info().id), (ring.active().0, ring.info().id));
        }
        // Who had opened it goes on with it.
        rig.run(rig.keyring_file().refresh(&ring)).unwrap();
    }
}

#[test]
fn a_newer_ring_is_replaced_only_when_that_is_said_and_nobody_takes_it_for_an_old_one() {
    let rig = Rig::new(2);
    let old = rig.make_keyring();
    rig.run(rig.keyring_file().backup(COPY)).unwrap();
    let newer = rig.run(rig.keyring_file().rotate(&old)).unwrap();
    let before = rig.content(Path::new("/keyring"));
    let refused = restore(&rig, false).unwrap_err();
    assert!(matches!(refused, VaultError::KeyringNewer { found: 2, given: 1, .. }), "{refused}");
    assert_eq!(rig.content(Path::new("/keyring")), before);
    assert_eq!(restore(&rig, true).unwrap().info().generation, 3);
    let seen = rig.run(rig.keyring_file().refresh(&newer)).unwrap();
    assert_eq!(seen.active().0, old.active().0);
}

#[test]
fn a_ring_of_another_name_or_a_copy_that_does_not_open_replaces_nothing() {
    let rig = Rig::new(3);
    rig.make_keyring();
    rig.run(rig.keyring_file().backup(COPY)).unwrap();
    let copied = rig.content(Path::new(COPY));
    locus_fs::Disk::remove_file(&*rig.disk, Path::new("/keyring")).unwrap();
    rig.make_keyring();
    let other = rig.content(Path::new("/keyring"));
    let refused = restore(&rig, true).unwrap_err();
    assert!(matches!(refused, VaultError::KeyringExists { .. }), "{refused}");
    rig.forge(Path::new(COPY), &copied[..copied.len() - 1]);
    let refused = restore(&rig, true).unwrap_err();
    assert!(matches!(refused, VaultError::ReadFailed { source: Error::Corrupt { .. }, .. }), "{refused}");
    assert_eq!(rig.content(Path::new("/keyring")), other);
    // Nor is a damaged ring worth a copy.
    rig.forge(Path::new("/keyring"), b"nothing");
    let refused = rig.run(rig.keyring_file().backup("/second")).unwrap_err();
    assert!(matches!(refused, VaultError::ReadFailed { .. }), "{refused}");
    assert!(locus_fs::Disk::metadata(&*rig.disk, Path::new("/second")).is_err());
}
