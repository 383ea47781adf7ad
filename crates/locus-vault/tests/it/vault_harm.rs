//! Files that somebody changed.

use std::path::Path;

use locus_core::Error;
use locus_vault::{BlobStore, Caching, EntityMetadata, Expect, SealedBy, Vault, VaultError};
use serde_json::json;

use crate::rig::{DIR, Rig, id, keyring};

/// A vault that keeps nothing.
fn open(rig: &Rig) -> Vault {
    rig.open_with(rig.options().caching(Caching::Off)).unwrap()
}

fn is_tampered(rig: &Rig, vault: &Vault, name: &str) -> bool {
    let id = id(name);
    let got = rig.run(vault.get(&id));
    let known = rig.run(vault.stat(&id));
    // Neither is there a way to write over it, unseen.
    let put = rig.run(vault.put(&id, &0, Expect::Any));
    let all = [got.map(drop), known.map(drop), put.map(drop)];
    all.iter().all(|result| matches!(result, Err(VaultError::Tampered { .. })))
}

#[test]
fn every_flipped_byte_and_every_missing_or_added_end_is_noticed() {
    let rig = Rig::new(1);
    let name = "db/key";
    rig.run(open(&rig).put(&id(name), &json!({"a": "small entity"}), Expect::Any)).unwrap();
    let path = rig.file("db+key");
    let good = rig.content(&path);
    let vault = open(&rig);
    for at in 0..good.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[at] ^= mask;
            rig.forge(&path, &bad);
            // The one byte that says so may mean that a newer version wrote it.
            if at == 7 && bad[at] > 1 {
                let newer = rig.run(vault.get(&id(name))).unwrap_err();
                assert!(
                    matches!(newer, VaultError::ReadFailed { source: Error::NewerFormat { .. }, .. }),
                    "{newer}"
                );
            } else {
                assert!(is_tampered(&rig, &vault, name), "byte {at}, mask {mask:x}");
            }
        }
        rig.forge(&path, &good[..at]);
        assert!(is_tampered(&rig, &vault, name), "cut at {at}");
    }
    for more in [1, 15, 16, 17, 70_000] {
        rig.forge(&path, &[good.clone(), vec![0; more]].concat());
        assert!(is_tampered(&rig, &vault, name), "{more} more");
    }
    rig.forge(&path, &good);
    assert_eq!(rig.run(vault.get(&id(name))).unwrap().bytes(), br#"{"a":"small entity"}"#);
    assert!(rig.run(vault.verify()).unwrap().damaged.is_empty());
}

#[test]
fn segments_in_another_order_or_cut_off_are_noticed() {
    let rig = Rig::new(1);
    let name = "db/key";
    rig.run(open(&rig).put_bytes(&id(name), vec![7; 200_000], Expect::Any)).unwrap();
    let (path, vault) = (rig.file("db+key"), open(&rig));
    let good = rig.content(&path);
    let head = good.len() - 200_000 - 4 * 16;
    let segment = |number: usize| &good[head + number * 65_552..good.len().min(head + (number + 1) * 65_552)];
    let swapped = [&good[..head], segment(1), segment(0), segment(2), segment(3)].concat();
    rig.forge(&path, &swapped);
    assert!(is_tampered(&rig, &vault, name));
    let swapped = [&good[..head], segment(0), segment(2), segment(1), segment(3)].concat();
    rig.forge(&path, &swapped);
    assert!(matches!(rig.run(vault.get(&id(name))), Err(VaultError::Tampered { .. })));
    assert_eq!(rig.run(vault.verify()).unwrap().damaged.len(), 1);
    rig.forge(&path, &good[..head + 2 * 65_552]);
    assert!(is_tampered(&rig, &vault, name));
}

#[test]
fn a_file_in_the_place_of_another_is_noticed() {
    let rig = Rig::new(1);
    let vault = open(&rig);
    for name in ["db/one", "db/two"] {
        rig.run(vault.put(&id(name), &json!(name), Expect::Any)).unwrap();
    }
    let (one, two) = (rig.file("db+one"), rig.file("db+two"));
    let (first, second) = (rig.content(&one), rig.content(&two));
    rig.forge(&one, &second);
    rig.forge(&two, &first);
    let fresh = open(&rig);
    assert!(is_tampered(&rig, &fresh, "db/one") && is_tampered(&rig, &fresh, "db/two"));
    let page = rig.run(fresh.list(None)).unwrap();
    assert_eq!((page.entries.len(), page.unreadable.len()), (0, 2));
    assert_eq!(rig.run(fresh.verify()).unwrap().damaged.len(), 2);
}

/// Whoever can write the file can make its header right again, as far as no key is needed for it.
#[test]
fn a_header_that_was_written_anew_is_noticed() {
    let rig = Rig::new(1);
    let (vault, name) = (open(&rig), id("db/key"));
    rig.run(vault.put(&name, &1, Expect::Any)).unwrap();
    let store: BlobStore = rig.blobs().unwrap();
    let blob = rig.run(store.read(&name)).unwrap();
    let good = blob.metadata.clone();
    let SealedBy::Suite { suite, salt, .. } = good.sealed else { panic!() };
    let other_key = SealedBy::Suite { suite, salt, key: keyring(2).active().0 };
    let mut next = good.version;
    next.number += 1;
    let forged = [
        EntityMetadata { version: next, ..good.clone() },
        EntityMetadata { schema: Some("another".into()), ..good.clone() },
        EntityMetadata { writer: "another".into(), ..good.clone() },
        EntityMetadata { is_deleted: true, ..good.clone() },
        EntityMetadata { written_at: locus_core::Timestamp::from_micros(0), ..good.clone() },
    ];
    for metadata in forged {
        rig.run(store.write(metadata.clone(), blob.sealed.clone())).unwrap();
        assert!(is_tampered(&rig, &vault, "db/key"), "{metadata:?}");
    }
    rig.run(store.write(EntityMetadata { sealed: other_key, ..good.clone() }, blob.sealed.clone())).unwrap();
    let unknown = rig.run(vault.get(&name)).unwrap_err();
    assert!(matches!(unknown, VaultError::UnknownKey { id, .. } if id == keyring(2).active().0), "{unknown}");
    rig.run(store.write(good, blob.sealed)).unwrap();
    assert!(rig.run(vault.get(&name)).is_ok());
}

#[test]
fn an_old_file_that_was_put_back_is_noticed_by_who_has_seen_the_new_one() {
    let rig = Rig::new(1);
    for caching in [Caching::Off, Caching::Strict] {
        let name = id("db/key");
        let (writer, reader) = (open(&rig), rig.open_with(rig.options().caching(caching)).unwrap());
        let first = rig.run(writer.put(&name, &1, Expect::Any)).unwrap();
        let path = rig.file("db+key");
        let old = rig.content(&path);
        rig.run(reader.get(&name)).unwrap();
        let second = rig.run(writer.put(&name, &2, Expect::Any)).unwrap();
        rig.run(reader.get(&name)).unwrap();
        rig.forge(&path, &old);
        for vault in [&writer, &reader] {
            let refused = [
                rig.run(vault.get(&name)).map(drop).unwrap_err(),
                rig.run(vault.stat(&name)).map(drop).unwrap_err(),
                rig.run(vault.put(&name, &3, Expect::Any)).map(drop).unwrap_err(),
                rig.run(vault.update(&name, |_| Ok(()))).map(drop).unwrap_err(),
                rig.run(vault.delete(&name, Expect::Any)).map(drop).unwrap_err(),
            ];
            for error in refused {
                let VaultError::RolledBack { seen, found, .. } = error else { panic!("{error}") };
                assert_eq!((seen, found), (second, first));
            }
        }
        // Who has seen neither cannot know.
        assert_eq!(rig.run(open(&rig).get(&name)).unwrap().version(), first);
        rig.run(rig.blobs().unwrap().delete(&name)).unwrap();
    }
}

#[test]
fn a_vault_with_other_keys_says_which_one_it_lacks() {
    let rig = Rig::new(1);
    let name = id("db/key");
    let key = keyring(1).active().0;
    rig.run(open(&rig).put(&name, &1, Expect::Any)).unwrap();
    rig.forge(&Path::new(DIR).join("VAULT"), b"locus vault\nformat 1\n");
    let other = Vault::open(DIR, {
        let options = locus_vault::VaultOptions::new(keyring(2));
        options.disk(rig.disk.clone()).clock(rig.clock.clone()).entropy(rig.entropy.clone())
    });
    let other = rig.run(other).unwrap();
    let missing = |error: VaultError| matches!(error, VaultError::UnknownKey { id, .. } if id == key);
    assert!(missing(rig.run(other.get(&name)).unwrap_err()));
    assert!(missing(rig.run(other.stat(&name)).unwrap_err()));
    assert!(missing(rig.run(other.put(&name, &2, Expect::Any)).unwrap_err()));
    let report = rig.run(other.verify()).unwrap();
    assert_eq!((report.entities, report.keys.get(&key), report.damaged.len()), (0, Some(&1), 1));
    other.set_keyring(keyring(1));
    assert!(rig.run(other.get(&name)).is_ok());
}

#[test]
fn what_somebody_else_sealed_is_named_and_not_opened() {
    let rig = Rig::new(1);
    let (vault, name) = (open(&rig), id("db/key"));
    rig.run(vault.put(&name, &1, Expect::Any)).unwrap();
    let store = vault.blobs();
    let mut metadata = rig.run(store.stat(&name)).unwrap();
    metadata.sealed = SealedBy::Foreign {
        algorithm: "ROT13".into(),
        key: "none".into(),
        iv: Vec::new(),
        tag: Vec::new(),
        checksum: locus_core::Checksum::of(b""),
    };
    metadata.content_len = 4;
    rig.run(store.write(metadata, b"blob".to_vec())).unwrap();
    for result in [rig.run(vault.get(&name)).map(drop), rig.run(vault.put(&name, &2, Expect::Any)).map(drop)]
    {
        assert!(
            matches!(result, Err(VaultError::Foreign { ref algorithm, .. }) if algorithm == "ROT13"),
            "{result:?}"
        );
    }
    let report = rig.run(vault.verify()).unwrap();
    assert_eq!((report.entities, report.foreign, report.damaged.len()), (0, 1, 0));
}
