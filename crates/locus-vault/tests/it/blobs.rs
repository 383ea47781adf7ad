//! Blobs that somebody sealed, without a key.

use std::{io::ErrorKind, path::Path, sync::Arc, time::Duration};

use locus_core::{Checksum, Error, Timestamp};
use locus_fs::{Disk, LockMode, OsDisk};
use locus_testkit::{Fault, OpKind};
use locus_vault::{
    BlobOptions, BlobStore, EntityId, EntityMetadata, Incarnation, ListCursor, SealedBy, VaultError, Version,
};
use rstest::rstest;

use crate::rig::{DIR, Rig, id};

/// As another program sealed it.
fn foreign(id: &EntityId, number: u64, blob: &[u8]) -> EntityMetadata {
    EntityMetadata {
        id: id.clone(),
        version: Version { incarnation: Incarnation::from_bytes([1; 16]), number },
        sealed: SealedBy::Foreign {
            algorithm: "AES-256-GCM".into(),
            key: "key-1".into(),
            iv: vec![7; 12],
            tag: vec![8; 16],
            checksum: Checksum::of(blob),
        },
        schema: Some("person".into()),
        writer: "somebody".into(),
        written_at: Timestamp::from_micros(1_000_000),
        is_deleted: false,
        content_len: blob.len() as u64,
    }
}

#[test]
fn a_blob_is_written_read_told_of_listed_and_deleted() {
    let rig = Rig::new(1);
    let (store, id) = (rig.blobs().unwrap(), id("db/key"));
    rig.run(async {
        assert!(!store.exists(&id).await.unwrap());
        assert!(matches!(store.read(&id).await, Err(VaultError::FileNotFound { .. })));
        assert!(matches!(store.stat(&id).await, Err(VaultError::FileNotFound { .. })));
        assert!(matches!(store.delete(&id).await, Err(VaultError::FileNotFound { .. })));

        for (number, blob) in [(1, b"sealed by somebody".to_vec()), (2, vec![9; 100_000])] {
            // What is said of the checksum is not believed.
            let metadata = foreign(&id, number, b"another");
            let metadata = EntityMetadata { content_len: blob.len() as u64, ..metadata };
            store.write(metadata, blob.clone()).await.unwrap();
            let read = store.read(&id).await.unwrap();
            assert!(read.sealed == blob);
            assert_eq!(read.metadata, foreign(&id, number, &blob));
            assert_eq!(store.stat(&id).await.unwrap(), read.metadata);
        }
        assert!(store.exists(&id).await.unwrap());
        let page = store.list(None).await.unwrap();
        assert_eq!(page.entries.iter().map(|entry| &entry.id).collect::<Vec<_>>(), [&id]);

        store.delete(&id).await.unwrap();
        assert!(!store.exists(&id).await.unwrap());
    });
}

#[test]
fn a_blob_that_is_not_what_its_metadata_say_is_refused() {
    let rig = Rig::new(1);
    let (store, id) = (rig.blobs().unwrap(), id("db/key"));
    let refused =
        |metadata, blob: &[u8]| rig.run(store.write(metadata, blob.to_vec())).unwrap_err().to_string();
    assert!(refused(foreign(&id, 1, b"four"), b"three").contains("content_len"));
    let long = EntityMetadata { writer: "w".repeat(256), ..foreign(&id, 1, b"x") };
    assert!(refused(long, b"x").contains("writer"));
    let small = rig.run(BlobStore::open(DIR, rig.blob_options().content_bytes_max(1_000))).unwrap();
    let blob = vec![1; 10_000];
    let large = rig.run(small.write(foreign(&id, 1, &blob), blob.clone())).unwrap_err();
    assert!(matches!(large, VaultError::TooLarge { size: 10_000.., .. }), "{large}");
    assert!(!rig.run(store.exists(&id)).unwrap(), "nothing was written");
    rig.run(store.write(foreign(&id, 1, &blob), blob)).unwrap();
    assert!(matches!(rig.run(small.read(&id)), Err(VaultError::TooLarge { .. })));
}

#[test]
fn a_damaged_blob_of_somebody_else_is_noticed_at_every_byte() {
    let rig = Rig::new(1);
    let (store, id) = (rig.blobs().unwrap(), id("db/key"));
    rig.run(store.write(foreign(&id, 1, b"blob"), b"blob".to_vec())).unwrap();
    let path = rig.file("db+key");
    let good = rig.content(&path);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x04;
        rig.forge(&path, &bad);
        match rig.run(store.read(&id)) {
            Err(VaultError::Tampered { .. }) => {}
            Err(VaultError::ReadFailed { source: Error::NewerFormat { found: 5, .. }, .. }) => {
                assert_eq!(at, 7);
            }
            other => panic!("byte {at}: {other:?}"),
        }
        rig.forge(&path, &good[..at]);
        let cut = rig.run(store.read(&id));
        assert!(matches!(cut, Err(VaultError::Tampered { .. })), "cut at {at}: {cut:?}");
    }
}

#[test]
fn a_guard_lets_its_holder_write_that_entity_and_nobody_else() {
    let rig = Rig::new(1);
    let (store, other) = (rig.blobs().unwrap(), rig.blobs().unwrap());
    let (one, two) = (id("db/one"), id("db/two"));
    rig.run(async {
        let guard = store.lock(&one, LockMode::Exclusive, None).await.unwrap();
        assert_eq!((guard.id(), guard.mode()), (&one, LockMode::Exclusive));
        store.write_with(&guard, foreign(&one, 1, b"x"), b"x".to_vec()).await.unwrap();
        for (store, metadata, why) in [
            (&store, foreign(&two, 1, b"x"), "another entity"),
            (&other, foreign(&one, 1, b"x"), "another store"),
        ] {
            let refused = store.write_with(&guard, metadata, b"x".to_vec()).await.unwrap_err().to_string();
            assert!(refused.contains(why), "{refused}");
        }
        for store in [&store, &other] {
            let busy = store.try_lock(&one, LockMode::Shared).await.unwrap_err().to_string();
            assert!(busy.contains(&format!("is locked by process {} on ", std::process::id())), "{busy}");
            let late = store.write(foreign(&one, 2, b"y"), b"y".to_vec()).await.unwrap_err();
            let waited = Duration::from_secs(30);
            assert!(matches!(late, VaultError::LockTimeout { waited: w, .. } if w == waited), "{late}");
        }
        store.write(foreign(&two, 1, b"y"), b"y".to_vec()).await.unwrap();
        guard.release().unwrap();
        let shared = store.lock(&one, LockMode::Shared, None).await.unwrap();
        let refused = store.write_with(&shared, foreign(&one, 2, b"y"), b"y".to_vec()).await.unwrap_err();
        assert!(refused.to_string().contains("is shared"), "{refused}");
        drop(shared);
        store.write(foreign(&one, 2, b"y"), b"y".to_vec()).await.unwrap();
    });
}

#[test]
fn a_closed_store_takes_no_writes() {
    let rig = Rig::new(1);
    let (store, id) = (rig.blobs().unwrap(), id("db/key"));
    rig.run(store.close());
    let refused = rig.run(store.write(foreign(&id, 1, b"x"), b"x".to_vec())).unwrap_err();
    assert!(matches!(refused, VaultError::ShuttingDown), "{refused}");
    assert!(!rig.run(store.exists(&id)).unwrap());
}

#[test]
fn pages_hold_every_blob_once_and_tell_of_what_cannot_be_read() {
    let rig = Rig::new(1);
    let store = rig.blobs().unwrap();
    let mut expected: Vec<EntityId> = (0..700).map(|number| id(&format!("db/{number}"))).collect();
    for id in &expected {
        rig.run(store.write(foreign(id, 1, b"x"), b"x".to_vec())).unwrap();
    }
    let deleted = EntityMetadata { is_deleted: true, content_len: 0, ..foreign(&expected[0], 2, b"") };
    rig.run(store.write(deleted, Vec::new())).unwrap();
    let (damaged, misplaced) = (rig.file("db+1.ent"), rig.file("db+2.ent"));
    rig.forge(&damaged, b"none");
    rig.forge(&misplaced, &rig.content(&rig.file("db+3.ent")));
    expected.retain(|id| !["0", "1", "2"].contains(&id.key()));

    let (mut found, mut unreadable, mut pages, mut from) = (Vec::new(), Vec::new(), 0, None::<ListCursor>);
    loop {
        let page = rig.run(store.list(from)).unwrap();
        found.extend(page.entries.into_iter().map(|entry| entry.id));
        unreadable.extend(page.unreadable.into_iter().map(|file| file.path));
        pages += 1;
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    found.sort();
    expected.sort();
    unreadable.sort();
    let mut bad = vec![damaged, misplaced];
    bad.sort();
    assert_eq!((found, unreadable), (expected, bad));
    assert!((2..=4).contains(&pages), "{pages}");
}

#[rstest]
#[case::locks_that_exclude_nobody("locks", |rig: &Rig| rig.disk.set_locks_exclude(false))]
#[case::no_locks("has no locks", |rig: &Rig| {
    rig.disk.fail(Fault::kind(ErrorKind::Unsupported).on(OpKind::Lock));
})]
#[case::renames_that_do_not_replace("replace", |rig: &Rig| {
    rig.disk.fail(Fault::kind(ErrorKind::AlreadyExists).on(OpKind::Rename));
})]
fn a_file_system_that_lies_is_refused_by_name_and_can_be_read(#[case] why: &str, #[case] lie: fn(&Rig)) {
    let rig = Rig::new(1);
    let id = id("db/key");
    rig.run(rig.blobs().unwrap().write(foreign(&id, 1, b"x"), b"x".to_vec())).unwrap();
    let before = rig.files();
    lie(&rig);
    match rig.blobs() {
        Err(VaultError::UnfitDirectory { dir, why: told }) => {
            assert!(dir.starts_with(DIR) && told.contains(why), "{told}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.files(), before, "a look leaves nothing");
    let store = rig.run(BlobStore::open(DIR, rig.blob_options().read_only(true))).unwrap();
    assert_eq!(rig.run(store.read(&id)).unwrap().sealed, b"x");
}

#[test]
fn what_is_open_to_be_read_writes_nothing() {
    let rig = Rig::new(1);
    let (id, read_only) = (id("db/key"), || BlobStore::open(DIR, rig.blob_options().read_only(true)));
    let none = rig.run(read_only()).unwrap_err();
    assert!(matches!(none, VaultError::UnfitDirectory { .. }), "{none}");
    rig.run(rig.blobs().unwrap().write(foreign(&id, 1, b"x"), b"x".to_vec())).unwrap();
    let store = rig.run(read_only()).unwrap();
    for kind in
        [OpKind::Create, OpKind::Write, OpKind::Rename, OpKind::Remove, OpKind::CreateDir, OpKind::Lock]
    {
        rig.disk.fail(Fault::kind(ErrorKind::ReadOnlyFilesystem).on(kind).for_good());
    }
    rig.run(async {
        let store = &store;
        assert!(store.exists(&id).await.unwrap());
        let refused = [
            store.write(foreign(&id, 1, b"x"), b"x".to_vec()).await.unwrap_err(),
            store.delete(&id).await.unwrap_err(),
            store.lock(&id, LockMode::Shared, None).await.unwrap_err(),
            store.try_lock(&id, LockMode::Shared).await.unwrap_err(),
            store.sweep(Duration::ZERO).await.unwrap_err(),
        ];
        assert!(refused.iter().all(|error| matches!(error, VaultError::ReadOnly { .. })), "{refused:?}");
    });
}

#[test]
fn a_directory_without_a_name_a_damaged_marker_and_a_newer_one_are_refused() {
    let rig = Rig::new(1);
    let unnamed = rig.run(BlobStore::open("", rig.blob_options())).unwrap_err();
    assert!(matches!(unnamed, VaultError::InvalidArgument { name: "dir", .. }), "{unnamed}");
    drop(rig.blobs().unwrap());
    drop(rig.blobs().unwrap());
    let marker = Path::new(DIR).join("VAULT");
    rig.forge(&marker, b"locus vault\nformat 3\nmore\n");
    let newer = rig.blobs().unwrap_err();
    let VaultError::ReadFailed { source: Error::NewerFormat { found: 3, supported: 2, .. }, .. } = newer
    else {
        panic!("{newer}");
    };
    let ring = format!("locus vault\nformat 1\nring locus-ring:{}\n", "00".repeat(32));
    for damaged in [
        &b""[..],
        b"locus vault\nformat x\n",
        b"locus vault\nformat 1\nmore\n",
        b"locus vault\nformat 2\n",
        b"locus vault\nformat 2\nring none\n",
        ring.as_bytes(),
        &[255; 300],
    ] {
        rig.forge(&marker, damaged);
        let error = rig.blobs().unwrap_err();
        assert!(matches!(error, VaultError::ReadFailed { source: Error::Corrupt { .. }, .. }), "{error}");
    }
}

#[test]
fn a_sweep_removes_what_is_over_and_nothing_else() {
    let rig = Rig::new(1);
    let store = rig.blobs().unwrap();
    let (kept, old, young, gone) = (id("db/kept"), id("db/old"), id("db/young"), id("db/gone"));
    let (day, week) = (Duration::from_secs(24 * 3_600), Duration::from_secs(7 * 24 * 3_600));
    let tombstone = |id: &EntityId| EntityMetadata {
        is_deleted: true,
        content_len: 0,
        written_at: rig.now(),
        ..foreign(id, 2, b"")
    };
    for id in [&kept, &gone] {
        rig.run(store.write(foreign(id, 1, b"x"), b"x".to_vec())).unwrap();
    }
    rig.run(store.delete(&gone)).unwrap();
    rig.run(store.write(tombstone(&old), Vec::new())).unwrap();
    rig.clock.advance(day);
    rig.run(store.write(tombstone(&young), Vec::new())).unwrap();
    rig.clock.advance(6 * day);
    // What a write left that was interrupted, and a look at the file system.
    let draft = rig.file("db+kept").with_file_name(".db+kept.ent.new");
    let probe = Path::new(DIR).join("locks").join("probe-0123456789abcdef.new");
    rig.forge(&draft, b"half");
    rig.forge(&probe, b"new");

    let held = rig.run(store.lock(&old, LockMode::Shared, None)).unwrap();
    let swept = rig.run(store.sweep(week)).unwrap();
    assert_eq!((swept.tombstones, swept.drafts, swept.locks, swept.busy), (0, 2, 1, 1), "{swept:?}");
    assert!(swept.failed.is_empty(), "{swept:?}");
    drop(held);
    let swept = rig.run(store.sweep(week)).unwrap();
    assert_eq!((swept.tombstones, swept.drafts, swept.locks, swept.busy), (1, 0, 0, 0), "{swept:?}");
    let swept = rig.run(store.sweep(week)).unwrap();
    assert_eq!((swept.tombstones, swept.drafts, swept.locks, swept.busy), (0, 0, 0, 0), "{swept:?}");

    let names: Vec<String> =
        rig.files().iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect();
    let mut expected =
        vec!["VAULT", "db+kept.ent", "db+kept.lock", "db+young.ent", "db+young.lock", "vault.lock"];
    let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
    names.sort_unstable();
    expected.sort_unstable();
    assert_eq!(names, expected);
    assert!(rig.run(store.stat(&young)).unwrap().is_deleted);
    assert!(matches!(rig.run(store.stat(&old)), Err(VaultError::FileNotFound { .. })));
    assert_eq!(rig.run(store.read(&kept)).unwrap().sealed, b"x");
}

#[tokio::test]
async fn the_machines_own_disk_can_be_shared() {
    let dir = tempfile::tempdir().unwrap();
    let options = || BlobOptions::default().disk(Arc::new(OsDisk));
    let (one, two) = tokio::join!(
        BlobStore::open(dir.path().join("v"), options()),
        BlobStore::open(dir.path().join("v"), options())
    );
    let (one, two, id) = (one.unwrap(), two.unwrap(), id("db/key"));
    one.write(foreign(&id, 1, b"x"), b"x".to_vec()).await.unwrap();
    assert_eq!(two.read(&id).await.unwrap().sealed, b"x");
    let held = two.lock(&id, LockMode::Exclusive, None).await.unwrap();
    assert!(matches!(one.try_lock(&id, LockMode::Shared).await, Err(VaultError::AlreadyLocked { .. })));
    drop(held);
    drop(one.try_lock(&id, LockMode::Shared).await.unwrap());
    assert!(OsDisk.metadata(&dir.path().join("v/VAULT")).is_ok());
}
