//! Entities as programs put, change, read and delete them.

use std::{task::Poll, time::Duration};

use locus_fs::LockMode;
use locus_testkit::{OpKind, Stepper};
use locus_vault::{
    Caching, Expect, PutOptions, SCHEMA_ID_BYTES_MAX, SchemaMode, SchemaModes, Vault, VaultError,
    VaultOptions, Version,
};
use serde_json::{Value, json};

use crate::rig::{DIR, Rig, id, keyring};

const SECOND: Duration = Duration::from_secs(1);

/// Lets the other tasks go on.
async fn others_go_on() {
    let mut was_here = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut was_here, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// How often files of entities were read since the disk listens.
fn reads(rig: &Rig) -> usize {
    let heard = rig.disk.heard();
    heard
        .iter()
        .filter(|(kind, path)| *kind == OpKind::Read && path.extension().is_some_and(|x| x == "ent"))
        .count()
}

#[test]
fn what_is_put_is_got_with_all_that_is_known_about_it() {
    let rig = Rig::new(1);
    let (vault, id) = (rig.open().unwrap(), id("db/a/key"));
    rig.run(async {
        assert!(matches!(vault.get(&id).await, Err(VaultError::FileNotFound { .. })));
        assert!(!vault.exists(&id).await.unwrap());
        let options = PutOptions::default().schema("person");
        let first = vault.put(&id, &json!({"name": "Ada"}), options).await.unwrap();
        let entity = vault.get(&id).await.unwrap();
        assert_eq!((entity.version(), first.number), (first, 1));
        assert_eq!(entity.json::<Value>().unwrap(), json!({"name": "Ada"}));
        let known = entity.metadata();
        assert_eq!((&known.id, known.schema.as_deref(), &*known.writer), (&id, Some("person"), "the test"));
        assert_eq!((known.written_at, known.content_len, known.is_deleted), (rig.now(), 14, false));
        assert_eq!(known.key_id(), vault.keyring().active().0.to_string());
        assert_eq!(&vault.stat(&id).await.unwrap(), known);
        assert_eq!(vault.get_as(&id, "person").await.unwrap().version(), first);
        let other = vault.get_as(&id, "animal").await.unwrap_err();
        assert!(matches!(other, VaultError::SchemaRejected { .. }), "{other}");
        assert!(vault.exists(&id).await.unwrap());

        // The schema stays until another one is named.
        let second = vault.put(&id, &7, Expect::Version(first)).await.unwrap();
        assert_eq!(second, Version { number: 2, ..first });
        assert_eq!(vault.stat(&id).await.unwrap().schema.as_deref(), Some("person"));
        let page = vault.list(None).await.unwrap();
        assert_eq!(page.entries, [vault.stat(&id).await.unwrap()]);
    });
}

#[test]
fn contents_of_every_length_come_back() {
    let rig = Rig::new(1);
    let vault = rig.open_with(rig.options().caching(Caching::Off)).unwrap();
    for len in [0, 1, 4_000, 65_535, 65_536, 65_537, 131_072, 300_000] {
        let (id, content) =
            (id(&format!("db/{len}")), (0..len).map(|at| (at % 251) as u8).collect::<Vec<_>>());
        rig.run(vault.put_bytes(&id, content.clone(), Expect::Absent)).unwrap();
        let read = rig.run(vault.get(&id)).unwrap();
        assert!(read.bytes() == content, "{len} bytes");
        assert_eq!(rig.run(vault.stat(&id)).unwrap().content_len, len as u64);
    }
    let report = rig.run(vault.verify()).unwrap();
    assert_eq!(
        (report.entities, report.bytes, report.damaged.len()),
        (8, 4_001 + 65_535 + 65_536 + 65_537 + 131_072 + 300_000, 0)
    );
}

#[test]
fn another_version_than_the_expected_one_is_a_conflict_and_nothing_is_changed() {
    let rig = Rig::new(1);
    let (vault, id) = (rig.open().unwrap(), id("db/key"));
    rig.run(async {
        let first = vault.put(&id, &1, Expect::Absent).await.unwrap();
        let second = vault.put(&id, &2, Expect::Version(first)).await.unwrap();
        for expected in [Expect::Absent, Expect::Version(first)] {
            let refused = [
                vault.put(&id, &3, expected).await.unwrap_err(),
                vault.delete(&id, expected).await.unwrap_err(),
            ];
            for error in refused {
                let VaultError::Conflict { expected: told, found, .. } = error else { panic!("{error}") };
                assert_eq!((told, found), (expected, Some(second)));
            }
        }
        assert_eq!(vault.get(&id).await.unwrap().version(), second);
    });
}

#[test]
fn versions_never_restart_and_an_entity_that_is_created_again_has_another_life() {
    let rig = Rig::new(1);
    let (vault, id) = (rig.open().unwrap(), id("db/key"));
    rig.run(async {
        let first = vault.put(&id, &1, Expect::Any).await.unwrap();
        let deleted = vault.delete(&id, Expect::Version(first)).await.unwrap();
        assert_eq!(deleted, Version { number: 2, ..first });
        assert!(matches!(vault.get(&id).await, Err(VaultError::FileNotFound { .. })));
        assert!(matches!(vault.delete(&id, Expect::Any).await, Err(VaultError::FileNotFound { .. })));
        assert!(!vault.exists(&id).await.unwrap());
        let tombstone = vault.stat(&id).await.unwrap();
        assert_eq!(
            (tombstone.version, tombstone.is_deleted, &*tombstone.writer),
            (deleted, true, "the test")
        );
        assert!(vault.list(None).await.unwrap().entries.is_empty());
        let stale = vault.put(&id, &2, Expect::Version(first)).await.unwrap_err();
        assert!(matches!(stale, VaultError::Conflict { found: None, .. }), "{stale}");

        let again = vault.put(&id, &2, Expect::Absent).await.unwrap();
        assert_eq!(again.number, 3);
        assert_ne!(again.incarnation, first.incarnation);
        let stale = vault.put(&id, &3, Expect::Version(Version { number: 3, ..first })).await.unwrap_err();
        assert!(
            matches!(stale, VaultError::Conflict { found: Some(found), .. } if found == again),
            "{stale}"
        );

        // Forgotten, it begins anew, in yet another life.
        vault.delete(&id, Expect::Any).await.unwrap();
        rig.clock.advance(8 * 24 * 3_600 * SECOND);
        assert_eq!(vault.sweep().await.unwrap().tombstones, 1);
        assert!(matches!(vault.stat(&id).await, Err(VaultError::FileNotFound { .. })));
        let anew = vault.put(&id, &4, Expect::Absent).await.unwrap();
        assert_eq!(anew.number, 1);
        assert!(anew.incarnation != again.incarnation && anew.incarnation != first.incarnation);
    });
}

#[test]
fn an_update_is_lock_read_change_write_and_a_change_that_fails_writes_nothing() {
    let rig = Rig::new(1);
    let (vault, id) = (rig.open().unwrap(), id("db/key"));
    rig.run(async {
        let absent = vault.update(&id, |_| Ok(())).await.unwrap_err();
        assert!(matches!(absent, VaultError::FileNotFound { .. }), "{absent}");
        let first = vault.put(&id, &json!({"count": 1}), Expect::Any).await.unwrap();
        let changed = vault.update(&id, |value| {
            value["count"] = json!(2);
            Ok(())
        });
        assert_eq!(changed.await.unwrap(), Version { number: 2, ..first });
        let failed = vault.update(&id, |value| {
            value["count"] = json!(3);
            Err("no more".into())
        });
        let failed = failed.await.unwrap_err();
        let VaultError::ChangeFailed { source, .. } = failed else { panic!("{failed}") };
        assert_eq!(source.to_string(), "no more");
        assert_eq!(vault.get(&id).await.unwrap().json::<Value>().unwrap(), json!({"count": 2}));

        let guard = vault.lock(&id, LockMode::Exclusive, None).await.unwrap();
        let third = vault.update_with(&guard, |value| {
            value["count"] = json!(4);
            Ok(())
        });
        let third = third.await.unwrap();
        let fourth = vault.put_with(&guard, b"[]".to_vec(), Expect::Version(third)).await.unwrap();
        assert_eq!(fourth, Version { number: 4, ..first });
        let late = vault.put(&id, &0, Expect::Any).await.unwrap_err();
        assert!(matches!(late, VaultError::LockTimeout { waited, .. } if waited == 30 * SECOND), "{late}");
        guard.release().unwrap();
        let shared = vault.try_lock(&id, LockMode::Shared).await.unwrap();
        assert!(vault.update_with(&shared, |_| Ok(())).await.unwrap_err().to_string().contains("shared"));
    });
}

#[test]
fn what_cannot_be_the_name_of_a_schema_is_refused_in_every_database() {
    let rig = Rig::new(1);
    let id = id("db/key");
    for mode in [SchemaMode::Required, SchemaMode::IfPresent, SchemaMode::Off] {
        let schemas = SchemaModes { default: mode, ..SchemaModes::default() };
        let vault = rig.open_with(rig.options().schemas(schemas)).unwrap();
        for name in ["", "a\nb", &"s".repeat(SCHEMA_ID_BYTES_MAX + 1)] {
            let refused = rig.run(vault.put(&id, &1, PutOptions::default().schema(name))).unwrap_err();
            assert!(matches!(refused, VaultError::InvalidId { .. }), "{refused}");
        }
        assert!(!rig.run(vault.exists(&id)).unwrap());
    }
    let vault = rig.open().unwrap();
    let longest = PutOptions::default().schema("s".repeat(SCHEMA_ID_BYTES_MAX));
    rig.run(vault.put(&id, &1, longest)).unwrap();
}

#[test]
fn an_error_about_json_tells_the_place_and_not_what_stands_there() {
    let rig = Rig::new(1);
    let (vault, id) = (rig.open().unwrap(), id("db/key"));
    rig.run(vault.put(&id, &json!({"pin": "hunter2"}), Expect::Any)).unwrap();
    let entity = rig.run(vault.get(&id)).unwrap();
    #[derive(Debug, serde::Deserialize)]
    struct Pin {
        #[expect(dead_code, reason = "it is only to be read")]
        pin: u32,
    }
    let error = entity.json::<Pin>().unwrap_err();
    assert!(matches!(error, VaultError::NotJson { line: 1, column: 16, .. }), "{error}");
    for text in [format!("{error} {error:?}"), format!("{entity:?} {vault:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn updates_of_four_processes_are_all_made_and_their_versions_have_no_gap() {
    const EACH: u64 = 25;
    let key = || id("db/key");
    for seed in 0..5 {
        let rig = Rig::new(seed);
        let id = key();
        let vaults: Vec<Vault> = (0..4).map(|_| rig.open().unwrap()).collect();
        let first = rig.run(vaults[0].put(&id, &0_u64, Expect::Absent)).unwrap();
        let mut stepper = Stepper::new(seed);
        for vault in &vaults {
            // Three tasks each: one changes, one looks and then expects, one looks and writes under a lock.
            let (changes, looks, holds) = (vault.clone(), vault.clone(), vault.clone());
            stepper.spawn(async move {
                for _ in 0..EACH {
                    let add = |value: &mut Value| {
                        *value = json!(value.as_u64().unwrap() + 1);
                        Ok(())
                    };
                    changes.update(&key(), add).await.unwrap();
                }
            });
            stepper.spawn(async move {
                let mut done = 0;
                while done < EACH {
                    let seen = looks.get(&key()).await.unwrap();
                    others_go_on().await;
                    let next = seen.json::<u64>().unwrap() + 1;
                    match looks.put(&key(), &next, Expect::Version(seen.version())).await {
                        Err(VaultError::Conflict { .. }) => {}
                        put => {
                            assert_eq!(put.unwrap().number, seen.version().number + 1);
                            done += 1;
                        }
                    }
                }
            });
            stepper.spawn(async move {
                for _ in 0..EACH {
                    let guard = holds.lock(&key(), LockMode::Exclusive, None).await.unwrap();
                    let next = holds.get(&key()).await.unwrap().json::<u64>().unwrap() + 1;
                    others_go_on().await;
                    holds.put_with(&guard, next.to_string().into_bytes(), Expect::Any).await.unwrap();
                }
            });
        }
        stepper.run_until_idle();
        while rig.clock.advance_to_next() {
            stepper.run_until_idle();
        }
        assert!(stepper.tasks().is_empty());
        let last = rig.run(vaults[0].get(&id)).unwrap();
        assert_eq!(last.json::<u64>().unwrap(), 12 * EACH, "seed {seed}");
        assert_eq!(last.version(), Version { number: 1 + 12 * EACH, ..first });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn updates_on_the_machines_own_disk_are_all_made() {
    let dir = tempfile::tempdir().unwrap();
    let id = id("db/key");
    let open = || Vault::open(dir.path(), VaultOptions::new(keyring(1)));
    let first = open().await.unwrap();
    first.put(&id, &0, Expect::Absent).await.unwrap();
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (vault, id) = (open().await.unwrap(), id.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..20 {
                let add = |value: &mut Value| {
                    *value = json!(value.as_u64().unwrap() + 1);
                    Ok(())
                };
                vault.update(&id, add).await.unwrap();
            }
        }));
    }
    // Who reads meanwhile sees whole values, and never an older one again.
    let mut seen = 0;
    while tasks.iter().any(|task| !task.is_finished()) {
        let now = first.get(&id).await.unwrap().json::<u64>().unwrap();
        assert!(now >= seen);
        seen = now;
    }
    for task in tasks {
        task.await.unwrap();
    }
    let last = first.get(&id).await.unwrap();
    assert_eq!((last.json::<u64>().unwrap(), last.version().number), (80, 81));
}

#[tokio::test]
async fn a_write_whose_future_is_dropped_comes_to_its_end_or_was_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (vault, id) = (Vault::open(dir.path(), VaultOptions::new(keyring(1))).await.unwrap(), id("db/key"));
    let mut version = vault.put(&id, &0, Expect::Absent).await.unwrap();
    for round in 0..40_u32 {
        // Its hops end at other places each time.
        let put = vault.put(&id, &round, Expect::Version(version));
        let mut put = Box::pin(put);
        for _ in 0..round % 5 {
            let polled = std::future::poll_fn(|cx| Poll::Ready(put.as_mut().poll(cx))).await;
            if polled.is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(put);
        // Who has the lock comes after it.
        let guard = vault.lock(&id, LockMode::Exclusive, None).await.unwrap();
        let now = vault.get(&id).await.unwrap();
        assert!(now.version() == version || now.version().number == version.number + 1, "round {round}");
        if now.version() != version {
            assert_eq!(now.json::<u32>().unwrap(), round);
        }
        version = now.version();
        drop(guard);
    }
}

#[test]
fn a_strict_cache_reads_the_beginning_of_a_file_and_believes_nothing_else() {
    let rig = Rig::new(1);
    let (one, two, id) = (rig.open().unwrap(), rig.open().unwrap(), id("db/key"));
    let large = vec![7; 200_000];
    rig.run(async {
        one.put_bytes(&id, large.clone(), Expect::Any).await.unwrap();
        let first = two.get(&id).await.unwrap();
        rig.disk.listen();
        let again = two.get(&id).await.unwrap();
        assert_eq!((reads(&rig), again.version()), (1, first.version()));
        assert!(again.bytes() == large);
        let changed = one.put_bytes(&id, vec![8; 200_000], Expect::Any).await.unwrap();
        let fresh = two.get(&id).await.unwrap();
        assert_eq!((fresh.version(), fresh.bytes()[0]), (changed, 8));
        one.delete(&id, Expect::Any).await.unwrap();
        assert!(matches!(two.get(&id).await, Err(VaultError::FileNotFound { .. })));
    });
}

#[test]
fn a_cache_with_a_time_is_stale_for_that_long_and_never_about_its_own_writes() {
    let rig = Rig::new(1);
    let (one, id) = (rig.open().unwrap(), id("db/key"));
    let two = rig.open_with(rig.options().caching(Caching::Ttl(5 * SECOND))).unwrap();
    rig.run(async {
        one.put(&id, &1, Expect::Any).await.unwrap();
        let get = async || two.get(&id).await.map(|entity| entity.json::<u32>().unwrap());
        assert_eq!(get().await.unwrap(), 1);
        one.put(&id, &2, Expect::Any).await.unwrap();
        rig.clock.advance(5 * SECOND - Duration::from_nanos(1));
        rig.disk.listen();
        assert_eq!((get().await.unwrap(), reads(&rig)), (1, 0));
        rig.clock.advance(Duration::from_nanos(1));
        assert_eq!(get().await.unwrap(), 2);
        two.put(&id, &3, Expect::Any).await.unwrap();
        assert_eq!(get().await.unwrap(), 3);
        two.delete(&id, Expect::Any).await.unwrap();
        assert!(matches!(get().await, Err(VaultError::FileNotFound { .. })));
    });
}

#[test]
fn a_cache_keeps_no_more_than_it_may_and_none_keeps_nothing() {
    for (caching, bytes, reads_again) in
        [(Caching::Strict, 1 << 20, 1), (Caching::Strict, 100_000, 2), (Caching::Off, 1 << 20, 2)]
    {
        let rig = Rig::new(1);
        let (vault, id) =
            (rig.open_with(rig.options().caching(caching).cache_bytes_max(bytes)).unwrap(), id("db/key"));
        rig.run(vault.put_bytes(&id, vec![7; 60_000], Expect::Any)).unwrap();
        rig.disk.listen();
        rig.run(vault.get(&id)).unwrap();
        assert_eq!(reads(&rig), reads_again, "{caching:?} of {bytes}");
    }
}

#[test]
fn planted_plaintext_is_nowhere_in_the_directory() {
    let rig = Rig::new(1);
    let vault = rig.open().unwrap();
    for number in 0..20 {
        let id = id(&format!("db/{number}"));
        rig.run(vault.put(&id, &json!({"secret": "planted plaintext", "number": number}), Expect::Any))
            .unwrap();
        rig.run(vault.update(&id, |value| {
            value["more"] = json!("planted plaintext");
            Ok(())
        }))
        .unwrap();
    }
    assert!(rig.files().len() > 20);
    for path in rig.files() {
        let content = rig.content(&path);
        assert!(!content.windows(7).any(|window| window == b"planted"), "{}", path.display());
    }
}

#[test]
fn a_closed_vault_takes_no_change_and_a_vault_to_be_read_none() {
    let rig = Rig::new(1);
    let (vault, id) = (rig.open().unwrap(), id("db/key"));
    rig.run(async {
        vault.put(&id, &1, Expect::Any).await.unwrap();
        vault.close().await;
        assert!(matches!(vault.put(&id, &2, Expect::Any).await, Err(VaultError::ShuttingDown)));
        let reader = Vault::open(DIR, rig.options().read_only(true)).await.unwrap();
        assert!(matches!(reader.put(&id, &2, Expect::Any).await, Err(VaultError::ReadOnly { .. })));
        assert!(matches!(reader.delete(&id, Expect::Any).await, Err(VaultError::ReadOnly { .. })));
        assert!(matches!(reader.update(&id, |_| Ok(())).await, Err(VaultError::ReadOnly { .. })));
        assert!(matches!(reader.sweep().await, Err(VaultError::ReadOnly { .. })));
        assert_eq!(reader.get(&id).await.unwrap().json::<u32>().unwrap(), 1);
    });
    let long = rig.open_with(rig.options().writer("w".repeat(256))).unwrap_err();
    assert!(matches!(long, VaultError::InvalidArgument { name: "writer", .. }), "{long}");
}

#[test]
fn a_content_keeps_to_the_schema_that_its_database_asks_for_or_is_not_written() {
    let rig = Rig::new(1);
    let modes = |mode| SchemaModes { default: mode, ..SchemaModes::default() };
    let open = |mode| rig.open_with(rig.options().schemas(modes(mode))).unwrap();
    let (vault, id) = (open(SchemaMode::Required), id("db/key"));
    let person = || PutOptions::default().schema("person");
    let schema = json!({"type": "object", "properties": {"age": {"type": "integer"}}});
    rig.run(async {
        let none = vault.put(&id, &json!({"age": 7}), Expect::Any).await.unwrap_err();
        assert!(matches!(none, VaultError::SchemaRejected { .. }), "{none}");
        let absent = vault.put(&id, &json!({"age": 7}), person()).await.unwrap_err();
        assert!(matches!(absent, VaultError::SchemaNotFound { .. }), "{absent}");
        open(SchemaMode::IfPresent).schemas().put("person", schema).await.unwrap();

        let first = vault.put(&id, &json!({"age": 7}), person()).await.unwrap();
        let refused = [
            vault.put(&id, &json!({"age": "hunter2"}), person()).await.unwrap_err(),
            // The schema of what is there stays in force.
            vault.put(&id, &json!({"age": "hunter2"}), Expect::Version(first)).await.unwrap_err(),
            vault
                .update(&id, |value| {
                    value["age"] = json!("hunter2");
                    Ok(())
                })
                .await
                .unwrap_err(),
        ];
        for error in refused {
            assert!(matches!(&error, VaultError::SchemaRejected { path, .. } if path == "/age"), "{error}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
        let no_json = vault.put_bytes(&id, b"none".to_vec(), person()).await.unwrap_err();
        assert!(matches!(no_json, VaultError::NotJson { .. }), "{no_json}");
        assert_eq!(vault.get(&id).await.unwrap().version(), first, "nothing was written");

        let (if_present, off) = (open(SchemaMode::IfPresent), open(SchemaMode::Off));
        let refused = if_present.put(&id, &json!({"age": "x"}), Expect::Any).await.unwrap_err();
        assert!(matches!(refused, VaultError::SchemaRejected { .. }), "{refused}");
        let other = PutOptions::default().schema("nobody's");
        if_present.put(&id, &json!({"age": "x"}), other).await.unwrap();
        off.put_bytes(&id, b"none".to_vec(), person()).await.unwrap();
        if_present.put_bytes(&"db/other".parse().unwrap(), b"none".to_vec(), Expect::Any).await.unwrap();
    });
}
