//! What is sealed again by another key.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use locus_core::{Checksum, Clock};
use locus_fs::LockMode;
use locus_vault::{
    Caching, EntityMetadata, Expect, Incarnation, KeyId, Keyring, PutOptions, RewrapOptions, RewrapReport,
    SealedBy, Vault, VaultError, Version,
};
use rstest::rstest;
use serde_json::json;

use crate::rig::{Rig, id, keyring};

/// A vault with a ring of its own.
fn open(rig: &Rig, ring: &Arc<Keyring>) -> Vault {
    rig.open_with(rig.options_with(Arc::clone(ring)).caching(Caching::Off)).unwrap()
}

fn rewrap(rig: &Rig, vault: &Vault) -> RewrapReport {
    rig.run(vault.rewrap(RewrapOptions::default(), &mut |_| {})).unwrap()
}

fn key_of(metadata: &EntityMetadata) -> KeyId {
    match metadata.sealed {
        SealedBy::Suite { key, .. } => key,
        SealedBy::Foreign { .. } => panic!("{metadata:?}"),
    }
}

/// Three entities, one of several segments and one with a schema, and one that was deleted.
fn fill(rig: &Rig, vault: &Vault) {
    rig.run(async {
        vault.put(&id("db/small"), &json!({"a": 1}), PutOptions::default().schema("thing")).await.unwrap();
        vault.put_bytes(&id("db/large"), vec![7; 70_000], Expect::Any).await.unwrap();
        vault.put(&id("db/often"), &1, Expect::Any).await.unwrap();
        vault.put(&id("db/often"), &2, Expect::Any).await.unwrap();
        vault.put(&id("db/gone"), &1, Expect::Any).await.unwrap();
        vault.delete(&id("db/gone"), Expect::Any).await.unwrap();
    });
}

const NAMES: [&str; 4] = ["db/small", "db/large", "db/often", "db/gone"];

/// All that is known and held of each, but how it is sealed.
fn all(rig: &Rig, vault: &Vault) -> Vec<(EntityMetadata, Option<Vec<u8>>)> {
    let one = |name: &&str| {
        let known = rig.run(vault.stat(&id(name))).unwrap_or_else(|error| panic!("{name}: {error}"));
        let content = (!known.is_deleted).then(|| rig.run(vault.get(&id(name))).unwrap().bytes().to_vec());
        let sealed = SealedBy::Foreign {
            algorithm: String::new(),
            key: String::new(),
            iv: Vec::new(),
            tag: Vec::new(),
            checksum: Checksum::of(b""),
        };
        (EntityMetadata { sealed, ..known }, content)
    };
    NAMES.iter().map(one).collect()
}

#[test]
fn what_is_rewrapped_has_another_key_and_is_otherwise_what_it_was() {
    let rig = Rig::new(1);
    let old = rig.make_keyring();
    let (vault, reader) = (open(&rig, &old), rig.open_with(rig.options_with(old.clone())).unwrap());
    fill(&rig, &vault);
    let (before, version) = (all(&rig, &reader), rig.run(vault.stat(&id("db/often"))).unwrap().version);
    rig.clock.advance(Duration::from_secs(3_600));
    let new = Arc::new(rig.run(rig.keyring_file().rotate(&old)).unwrap());
    assert_eq!(all(&rig, &vault), before, "a rotated ring seals anew, and nothing else");
    for vault in [&vault, &reader] {
        vault.set_keyring(Arc::clone(&new));
    }

    let mut told = Vec::new();
    let report = rig.run(vault.rewrap(RewrapOptions::default(), &mut |at| told.push(*at))).unwrap();
    assert_eq!((report.key, report.rewrapped, report.already, report.failed), (new.active().0, 4, 0, 0));
    assert_eq!((report.bytes, report.foreign, report.left), (70_008, 0, BTreeMap::new()));
    let looked_at: Vec<_> = told.iter().map(|at| at.looked_at).collect();
    assert_eq!(looked_at, [1, 2, 3, 4, 4]);
    let last = told[4];
    assert_eq!((last.rewrapped, last.bytes, last.failed, last.directories), (4, 70_008, 0, 256));
    assert!(told[..4].iter().all(|at| at.directories == 0));

    for vault in [&vault, &reader, &open(&rig, &new)] {
        assert_eq!(all(&rig, vault), before);
        for name in NAMES {
            assert_eq!(key_of(&rig.run(vault.stat(&id(name))).unwrap()), new.active().0, "{name}");
        }
    }
    let again = rewrap(&rig, &vault);
    assert_eq!((again.rewrapped, again.already, again.failed), (0, 4, 0));
    // Who read it before may change what he read.
    let next = rig.run(vault.put(&id("db/often"), &3, Expect::Version(version))).unwrap();
    assert_eq!(next, Version { number: 3, ..version });
    // And what was deleted is forgotten when it would have been.
    rig.clock.advance(Duration::from_secs(7 * 24 * 3_600 - 3_600));
    assert_eq!(rig.run(vault.sweep()).unwrap().tombstones, 1);
}

#[test]
fn an_entity_that_is_held_or_damaged_is_reported_and_all_others_are_rewrapped() {
    let rig = Rig::new(2);
    let old = rig.make_keyring();
    let (vault, other) = (open(&rig, &old), open(&rig, &old));
    fill(&rig, &vault);
    rig.run(vault.put(&id("db/damaged"), &1, Expect::Any)).unwrap();
    rig.run(vault.put(&id("db/headless"), &1, Expect::Any)).unwrap();
    let (damaged, headless) = (rig.file("db+damaged"), rig.file("db+headless"));
    let mut bad = rig.content(&damaged);
    *bad.last_mut().unwrap() ^= 1;
    rig.forge(&damaged, &bad);
    rig.forge(&headless, b"nothing");
    let foreign = EntityMetadata {
        id: id("db/foreign"),
        version: Version { incarnation: Incarnation::from_bytes([1; 16]), number: 1 },
        sealed: SealedBy::Foreign {
            algorithm: "ROT13".into(),
            key: "none".into(),
            iv: Vec::new(),
            tag: Vec::new(),
            checksum: Checksum::of(b""),
        },
        schema: None,
        writer: "somebody".into(),
        written_at: rig.now(),
        is_deleted: false,
        content_len: 4,
    };
    rig.run(vault.blobs().write(foreign, b"blob".to_vec())).unwrap();
    vault.set_keyring(Arc::new(rig.run(rig.keyring_file().rotate(&old)).unwrap()));

    let guard = rig.run(other.lock(&id("db/often"), LockMode::Shared, None)).unwrap();
    let begun = rig.clock.monotonic();
    let report = rewrap(&rig, &vault);
    assert_eq!(rig.clock.monotonic() - begun, Duration::from_secs(30), "it waited for who holds it");
    assert_eq!((report.rewrapped, report.failed, report.foreign), (3, 3, 1));
    assert_eq!(report.left, BTreeMap::from([(old.active().0, 2)]));
    let failure = |name: &str| {
        let path = rig.file(name);
        let failed = report.failures.iter().find(|failed| failed.path == path);
        &failed.unwrap_or_else(|| panic!("{name} is not in {report:?}")).why
    };
    assert!(matches!(failure("db+often"), VaultError::LockTimeout { .. }), "{report:?}");
    assert!(matches!(failure("db+damaged"), VaultError::Tampered { .. }), "{report:?}");
    assert!(matches!(failure("db+headless"), VaultError::Tampered { .. }), "{report:?}");
    assert_eq!(rig.content(&damaged), bad, "what does not open stays as it is");

    drop(guard);
    let report = rewrap(&rig, &vault);
    assert_eq!((report.rewrapped, report.already, report.failed), (1, 3, 2));
}

#[test]
fn an_old_file_that_was_put_back_is_not_sealed_anew() {
    let rig = Rig::new(3);
    let old = rig.make_keyring();
    let vault = open(&rig, &old);
    let name = id("db/key");
    rig.run(vault.put(&name, &1, Expect::Any)).unwrap();
    let path = rig.file("db+key");
    let first = rig.content(&path);
    rig.run(vault.put(&name, &2, Expect::Any)).unwrap();
    rig.forge(&path, &first);
    vault.set_keyring(Arc::new(rig.run(rig.keyring_file().rotate(&old)).unwrap()));
    let report = rewrap(&rig, &vault);
    assert!(matches!(report.failures[0].why, VaultError::RolledBack { .. }), "{report:?}");
    assert_eq!(rig.content(&path), first);
}

#[rstest]
#[case::entities(RewrapOptions::default().entities_per_second(Some(2)), 2_000)]
#[case::bytes(RewrapOptions::default().bytes_per_second(Some(1_000)), 4_000)]
#[case::none(RewrapOptions::default(), 0)]
fn a_rewrap_goes_no_faster_than_it_may(#[case] options: RewrapOptions, #[case] millis: u64) {
    let rig = Rig::new(4);
    let old = rig.make_keyring();
    let vault = open(&rig, &old);
    for name in 0..5 {
        rig.run(vault.put_bytes(&id(&format!("db/{name}")), vec![1; 1_000], Expect::Any)).unwrap();
    }
    vault.set_keyring(Arc::new(rig.run(rig.keyring_file().rotate(&old)).unwrap()));
    let begun = rig.clock.monotonic();
    // Not after the last one, and never for what needs not be sealed.
    assert_eq!(rig.run(vault.rewrap(options, &mut |_| {})).unwrap().rewrapped, 5);
    assert_eq!(rig.clock.monotonic() - begun, Duration::from_millis(millis));
    assert_eq!(rig.run(vault.rewrap(options, &mut |_| {})).unwrap().already, 5);
    assert_eq!(rig.clock.monotonic() - begun, Duration::from_millis(millis));
    let none = rig.run(vault.rewrap(options.entities_per_second(Some(0)), &mut |_| {})).unwrap_err();
    assert!(matches!(none, VaultError::InvalidArgument { name: "entities_per_second", .. }), "{none}");
}

#[test]
fn a_vault_that_is_read_only_or_closed_is_not_rewrapped() {
    let rig = Rig::new(5);
    rig.open().unwrap();
    let vault = rig.open_with(rig.options().read_only(true)).unwrap();
    let refused = rig.run(vault.rewrap(RewrapOptions::default(), &mut |_| {})).unwrap_err();
    assert!(matches!(refused, VaultError::ReadOnly { .. }), "{refused}");
    let vault = rig.open().unwrap();
    rig.run(vault.put(&id("db/key"), &1, Expect::Any)).unwrap();
    rig.run(vault.close());
    vault.set_keyring(keyring(2)); // one by which nothing is sealed
    let refused = rig.run(vault.rewrap(RewrapOptions::default(), &mut |_| {})).unwrap_err();
    assert!(matches!(refused, VaultError::ShuttingDown), "{refused}");
}

#[rstest]
fn a_crash_at_any_moment_of_a_rotation_and_a_rewrap_leaves_every_entity_readable(
    #[values(false, true)] power_goes: bool,
) {
    let (mut half, mut runs) = (0, 0);
    for op in 1.. {
        let rig = Rig::new(op);
        let old = rig.make_keyring();
        let vault = open(&rig, &old);
        fill(&rig, &vault);
        let before = all(&rig, &vault);
        rig.disk.crash_at(rig.disk.ops() + op);
        if let Ok(new) = rig.run(rig.keyring_file().rotate(&old)) {
            vault.set_keyring(Arc::new(new));
            let _ = rig.run(vault.rewrap(RewrapOptions::default(), &mut |_| {}));
        }
        let went_down = rig.disk.is_down();
        if power_goes {
            rig.disk.crash();
        } else {
            rig.disk.kill();
        }

        let vault = open(&rig, &rig.open_keyring());
        assert_eq!(all(&rig, &vault), before, "operation {op}");
        let rest = rewrap(&rig, &vault);
        assert_eq!((rest.rewrapped + rest.already, rest.failed), (4, 0), "operation {op}");
        assert_eq!(all(&rig, &vault), before, "operation {op}");
        let report = rig.run(vault.verify()).unwrap();
        assert_eq!(report.keys, BTreeMap::from([(rest.key, 4)]), "operation {op}");
        half += usize::from(rest.rewrapped > 0 && rest.already > 0);
        runs += 1;
        if !went_down {
            break;
        }
    }
    assert!(half > 10, "{half} of {runs} runs were interrupted between two entities");
}
