//! A keyring that another process rotated, and one that is not the vault's.

use std::{path::Path, sync::Arc};

use locus_vault::{BlobStore, Expect, KeyId, Keyring, RewrapOptions, SealedBy, Vault, VaultError};
use serde_json::json;

use crate::rig::{DIR, Rig, id, keyring};

struct Two {
    rig: Rig,
    /// Whose ring is rotated.
    one: Vault,
    /// Who is not told.
    other: Vault,
}

fn two() -> Two {
    let rig = Rig::new(1);
    let ring = rig.make_keyring();
    let open = || {
        let options = rig.options_with(Arc::clone(&ring)).keyring_file(rig.keyring_file());
        rig.open_with(options).unwrap()
    };
    let (one, other) = (open(), open());
    Two { one, other, rig }
}

impl Two {
    fn rotate(&self) -> KeyId {
        let ring = self.rig.run(self.rig.keyring_file().rotate(&self.one.keyring())).unwrap();
        let key = ring.active().0;
        self.one.set_keyring(Arc::new(ring));
        key
    }

    fn key_of(&self, name: &str) -> KeyId {
        match self.rig.run(self.one.stat(&id(name))).unwrap().sealed {
            SealedBy::Suite { key, .. } => key,
            other @ SealedBy::Foreign { .. } => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_key_that_a_vault_lacks_is_looked_for_in_the_file_of_its_ring() {
    let it = two();
    let name = id("db/key");
    let (new, rig) = (it.rotate(), &it.rig);
    rig.run(it.one.put(&name, &json!({"n": 1}), Expect::Any)).unwrap();
    assert_ne!(it.other.keyring().active().0, new);
    assert_eq!(rig.run(it.other.get(&name)).unwrap().bytes(), br#"{"n":1}"#);
    assert_eq!(it.other.keyring().active().0, new, "and it is kept");

    // What is only looked at, changed or verified is as good a reason.
    let newer = it.rotate();
    rig.run(it.one.put(&name, &1, Expect::Any)).unwrap();
    assert_eq!(rig.run(it.other.stat(&name)).unwrap().version.number, 2);
    assert_eq!(it.other.keyring().active().0, newer);
    it.rotate();
    rig.run(it.one.put(&name, &2, Expect::Any)).unwrap();
    assert!(rig.run(it.other.verify()).unwrap().damaged.is_empty());
    it.rotate();
    rig.run(it.one.put(&name, &3, Expect::Any)).unwrap();
    rig.run(it.other.update(&name, |_| Ok(()))).unwrap();
    assert_eq!(it.key_of("db/key"), it.one.keyring().active().0);
}

#[test]
fn who_creates_an_entity_or_changes_one_that_was_rewrapped_does_so_by_the_active_key() {
    let it = two();
    let rig = &it.rig;
    rig.run(it.other.put(&id("db/there"), &1, Expect::Any)).unwrap();
    let new = it.rotate();
    rig.run(it.other.put(&id("db/new"), &1, Expect::Absent)).unwrap();
    assert_eq!(it.key_of("db/new"), new);

    let newer = it.rotate();
    assert_eq!(rig.run(it.one.rewrap(RewrapOptions::default(), &mut |_| {})).unwrap().rewrapped, 2);
    rig.run(it.other.put(&id("db/there"), &2, Expect::Any)).unwrap();
    assert_eq!(it.key_of("db/there"), newer);
}

#[test]
fn a_rewrap_is_by_the_key_that_is_active_in_the_file() {
    let it = two();
    it.rig.run(it.other.put(&id("db/key"), &1, Expect::Any)).unwrap();
    let (old, new) = (it.other.keyring().active().0, it.rotate());
    let report = it.rig.run(it.other.rewrap(RewrapOptions::default(), &mut |_| {})).unwrap();
    assert_eq!((report.key, report.rewrapped), (new, 1));
    assert_ne!(it.key_of("db/key"), old);
}

#[test]
fn a_key_that_nobody_has_is_unknown_whatever_became_of_the_ring() {
    let it = two();
    let (rig, name) = (&it.rig, id("db/key"));
    rig.run(it.one.put(&name, &1, Expect::Any)).unwrap();
    let store = rig.blobs().unwrap();
    let blob = rig.run(store.read(&name)).unwrap();
    let SealedBy::Suite { suite, salt, .. } = blob.metadata.sealed else { panic!() };
    let stranger = keyring(2).active().0;
    let mut metadata = blob.metadata.clone();
    metadata.sealed = SealedBy::Suite { suite, salt, key: stranger };
    rig.run(store.write(metadata, blob.sealed)).unwrap();
    let is_unknown = |vault: &Vault| match rig.run(vault.get(&name)) {
        Err(VaultError::UnknownKey { id, retired: false }) => id == stranger,
        other => panic!("{other:?}"),
    };
    assert!(is_unknown(&it.other));
    // Not even when the ring cannot be read.
    rig.forge(Path::new("/keyring"), b"none");
    assert!(is_unknown(&it.other));
    // But nothing new is sealed without a look at it.
    let refused = rig.run(it.other.put(&id("db/new"), &1, Expect::Any)).unwrap_err();
    assert!(matches!(refused, VaultError::ReadFailed { .. }), "{refused}");
    assert!(!rig.run(store.exists(&id("db/new"))).unwrap());
}

fn open(rig: &Rig, ring: &Arc<Keyring>) -> Result<Vault, VaultError> {
    rig.open_with(rig.options_with(Arc::clone(ring)))
}

fn marker(rig: &Rig) -> String {
    String::from_utf8(rig.content(&Path::new(DIR).join("VAULT"))).unwrap()
}

#[test]
fn a_vault_is_not_opened_with_another_ring_than_its_own() {
    let rig = Rig::new(2);
    let (ours, theirs) = (keyring(1), keyring(2));
    drop(open(&rig, &ours).unwrap());
    assert_eq!(marker(&rig), format!("locus vault\nformat 2\nring {}\n", ours.info().id));
    for read_only in [false, true] {
        let options = rig.options_with(Arc::clone(&theirs)).read_only(read_only);
        let refused = rig.open_with(options).unwrap_err();
        let VaultError::OtherKeyring { expected, found, .. } = &refused else { panic!("{refused}") };
        assert_eq!((*expected, *found), (ours.info().id, theirs.info().id));
        for ring in [&ours, &theirs] {
            assert!(refused.to_string().contains(&ring.info().id.to_string()), "{refused}");
        }
    }
    open(&rig, &ours).unwrap();
    // Who needs no keys has none to compare.
    let store = rig.run(BlobStore::open(DIR, rig.blob_options())).unwrap();
    assert_eq!(rig.run(store.ring()).unwrap(), Some(ours.info().id));
}

#[test]
fn an_older_marker_is_told_the_ring_by_the_first_who_has_the_keys() {
    let rig = Rig::new(3);
    let (ours, theirs) = (keyring(1), keyring(2));
    let old = "locus vault\nformat 1\n";
    let store = rig.blobs().unwrap();
    assert_eq!(rig.run(store.ring()).unwrap(), None);
    assert_eq!(marker(&rig), old, "who has no keys names none");
    drop(rig.open_with(rig.options_with(Arc::clone(&ours)).read_only(true)).unwrap());
    assert_eq!(marker(&rig), old, "who only reads changes nothing");
    rig.run(open(&rig, &ours).unwrap().put(&id("db/key"), &1, Expect::Any)).unwrap();
    assert!(marker(&rig).contains(&ours.info().id.to_string()));

    rig.forge(&Path::new(DIR).join("VAULT"), old.as_bytes());
    drop(open(&rig, &theirs).unwrap());
    assert_eq!(marker(&rig), old, "who lacks the keys shuts nobody out");
    drop(open(&rig, &ours).unwrap());
    assert!(marker(&rig).contains(&ours.info().id.to_string()));
}
