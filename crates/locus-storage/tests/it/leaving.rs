//! A tenant leaves the store, and one of its name comes after it.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::pin::pin;

use locus_core::{
    Checksum, Durability, Error, Holdings, IdempotencyKey, Leaving, Limit, LogicalDir, MetadataStore,
    NewFile, Place, Reserved, Scope, Stored, TenantStatus, Upkeep,
};
use locus_storage::EngineOptions;
use rstest::rstest;

use crate::{
    bench::poll_once,
    world::{End, Records, file_of, new_file, tenant, volume},
};

fn durable() -> EngineOptions {
    EngineOptions::default()
}

fn buffered() -> EngineOptions {
    EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() }
}

fn named(name: &str) -> NewFile {
    NewFile { idempotency: Some(IdempotencyKey::until_forgotten(name)), ..new_file() }
}

fn leave(records: &Records) -> Leaving {
    records.store.begin_leaving(&tenant(0), false).unwrap()
}

fn end_all(records: &mut Records, leaving: &Leaving, max: usize) -> u64 {
    let (mut ended, mut from) = (0, Some(0));
    while let Some(at) = from {
        let (more, next) =
            records.call(|store| async move { store.end_files(leaving, at, max).await }).unwrap();
        (ended, from) = (ended + more, next);
    }
    ended
}

fn forget(records: &mut Records) -> Result<(), Error> {
    let leaving = leave(records);
    records.call(|store| async move { store.forget_tenant(&leaving).await })
}

fn limits() -> [Scope; 3] {
    let directory = LogicalDir::parse("/in").unwrap();
    [
        Scope::Tenant(tenant(0)),
        Scope::Directory(tenant(0), directory.clone()),
        Scope::Subtree(tenant(0), directory),
    ]
}

/// A tenant with limits and idempotency keys, all of whose files are gone, and another one like it.
fn left_behind(records: &mut Records) {
    records.put(named("first"));
    records.put(NewFile { tenant: tenant(1), owner: (&tenant(1)).into(), ..named("first") });
    for of in limits().into_iter().chain([Scope::Tenant(tenant(1))]) {
        records.call(|store| async move { store.set_limit(of, Limit::Files(7)).await }).unwrap();
    }
    while let Some(leased) = records.lease_any().unwrap() {
        records.complete(&leased.lease).unwrap();
    }
    assert_eq!(records.reap(), 2);
    records.sync();
}

/// Whether the store remembers what it knew of tenant 0: all of it, or nothing.
fn remembers(records: &mut Records) -> bool {
    let known = records.call(|store| async move {
        let name = IdempotencyKey::new("first");
        matches!(
            store.reserve(&tenant(0), &LogicalDir::root(), None, Some(&name)).await,
            Ok(Reserved::Known(_))
        )
    });
    for scope in limits() {
        assert_eq!(records.store.usage(&scope).limit.is_some(), known, "{scope:?}");
    }
    // The other one is never concerned.
    let other = records.store.usage(&Scope::Tenant(tenant(1))).limit;
    assert_eq!((other, records.store.statistics().idempotency_keys), (Some(7), 1 + u64::from(known)));
    known
}

#[rstest]
fn a_tenant_that_went_leaves_nothing_to_the_next_of_its_name(
    #[values(durable(), buffered())] options: EngineOptions,
    #[values(0, 1, 2)] checkpoints_before: usize,
    #[values(0, 1, 2)] checkpoints_after: usize,
    #[values(End::PowerCut, End::Kill, End::Close)] end: End,
) {
    let mut records = Records::new(1, options);
    left_behind(&mut records);
    (0..checkpoints_before).for_each(|_| records.checkpoint().unwrap());
    assert!(remembers(&mut records));
    forget(&mut records).unwrap();
    assert!(!remembers(&mut records));
    (0..checkpoints_after).for_each(|_| records.checkpoint().unwrap());
    let mut records = records.restart(end);
    assert!(!remembers(&mut records));

    // What the next one says is its own, and nothing that came before takes it away.
    let key = records.put(named("first"));
    records
        .call(|store| async move { store.set_limit(Scope::Tenant(tenant(0)), Limit::Files(3)).await })
        .unwrap();
    assert_eq!(records.put(named("first")), key);
    records.sync();
    let mut records = records.restart(end);
    assert_eq!(records.put(named("first")), key);
    assert_eq!(records.store.usage(&Scope::Tenant(tenant(0))).limit, Some(3));
}

#[test]
fn a_crash_at_any_step_leaves_all_that_is_known_of_a_tenant_or_nothing() {
    let (mut kept, mut gone) = (0, 0);
    for (seed, step) in (0..24).flat_map(|seed| (0..6).map(move |step| (seed, step))) {
        let mut records = Records::new(seed, durable());
        left_behind(&mut records);
        records.world.disk.crash_at(records.world.disk.ops() + step);
        let forgotten = forget(&mut records);
        let mut records = records.restart(End::PowerCut);
        let known = remembers(&mut records);
        assert!(!(known && forgotten.is_ok()), "seed {seed}, step {step}: it was confirmed");
        if known {
            kept += 1;
        } else {
            gone += 1;
        }
        forget(&mut records).unwrap(); // goes on
        assert!(!remembers(&mut records), "seed {seed}, step {step}");
    }
    assert!(kept > 0 && gone > 0, "{kept} {gone}");
}

/// A checkpoint is taken slice by slice beside all this: what it holds and what is replayed over it must come to the same.
#[test]
fn b59_a_tenant_that_goes_while_a_checkpoint_is_taken_is_gone() {
    for turns in 0..40 {
        let mut records = Records::new(turns, durable());
        left_behind(&mut records);
        let store = records.store.clone();
        records.world.stepper.spawn(async move { store.checkpoint().await.unwrap() });
        (0..turns).for_each(|_| {
            records.world.stepper.step();
        });
        forget(&mut records).unwrap();
        let key = records.put(named("first"));
        records.settle();
        let mut records = records.restart(End::PowerCut);
        assert_eq!(records.put(named("first")), key, "turn {turns}");
        assert_eq!(records.store.usage(&Scope::Tenant(tenant(0))).limit, None, "turn {turns}");
    }
}

#[test]
fn b14_nothing_is_taken_in_or_handed_out_for_a_tenant_that_leaves() {
    let mut records = Records::new(1, durable());
    let key = records.write();
    let room = match records
        .call(|store| async move { store.reserve(&tenant(0), &LogicalDir::root(), Some(8), None).await })
        .unwrap()
    {
        Reserved::Room(room) => room,
        Reserved::Known(key) => panic!("{key} is known"),
    };
    let leaving = leave(&records);
    assert!(matches!(records.store.begin_leaving(&tenant(0), false), Err(Error::TenantLeaving { .. })));
    let accepted = records.call(|store| async move { store.accept(vec![(new_file(), room)]).await });
    let refused = [
        accepted.map(drop).unwrap_err(),
        records.try_put(vec![new_file()]).map(drop).unwrap_err(),
        records
            .call(|store| async move { store.lease_key(&tenant(0), &key, &Default::default()).await })
            .map(drop)
            .unwrap_err(),
        records
            .call(|store| async move { store.set_limit(limits()[1].clone(), Limit::Files(1)).await })
            .unwrap_err(),
    ];
    for (at, error) in refused.iter().enumerate() {
        let disabled = matches!(error, Error::TenantDisabled { status: TenantStatus::Disabled, .. });
        assert!(disabled, "call {at}: {error}");
    }
    assert_eq!(records.lease(), None);
    assert_eq!(records.lease_any().unwrap(), None);

    drop(leaving); // it stays after all
    assert_eq!(records.lease().unwrap().lease.key, key);
    records.write();
}

#[test]
fn a_tenant_with_anything_is_in_use_and_all_of_it_is_named() {
    let mut records = Records::new(1, durable());
    let in_use = |records: &Records| match records.store.begin_leaving(&tenant(0), true) {
        Err(Error::TenantInUse { files, writes, uploads, .. }) => (files, writes, uploads),
        other => panic!("{other:?}"),
    };
    let room = records
        .call(|store| async move { store.reserve(&tenant(0), &LogicalDir::root(), Some(8), None).await })
        .unwrap();
    assert_eq!(in_use(&records), (0, 1, 0));
    drop(room);
    records.write();
    assert_eq!(in_use(&records), (1, 0, 0));
    let lease = records.lease().unwrap().lease;
    assert_eq!(in_use(&records), (1, 0, 0));
    records.complete(&lease).unwrap();
    assert_eq!(in_use(&records), (1, 0, 0), "its bytes are still there");
    records.reap();
    let leaving = records.store.begin_leaving(&tenant(0), true).unwrap();
    records.call(|store| async move { store.forget_tenant(&leaving).await }).unwrap();
}

#[test]
fn a_tenant_that_leaves_is_emptied_whatever_its_files_wait_for() {
    let mut records = Records::new(1, durable());
    let ready = records.write_many(10);
    let other = records.put(file_of(1));
    let leases = records.batch(4);
    records.fail(&leases[0].lease).unwrap(); // waits for its time
    records.complete(&leases[1].lease).unwrap(); // over already
    let leaving = leave(&records);
    assert_eq!(records.store.holdings(&tenant(0)), Holdings { files: 10, bytes: 70, writes: 0, uploads: 0 });
    assert_eq!(end_all(&mut records, &leaving, 3), 9);

    let refused = records.call(|store| async move { store.forget_tenant(&leaving).await }).unwrap_err();
    assert!(matches!(refused, Error::TenantInUse { files: 10, .. }), "{refused}");

    let leaving = leave(&records);
    let store = records.store.clone();
    let mut emptied = pin!(store.emptied(&leaving));
    records.sync();
    assert!(poll_once(emptied.as_mut()).is_pending());
    assert_eq!(records.reap(), 10);
    records.call(|_| emptied).unwrap();
    assert!(store.holdings(&tenant(0)).is_empty());
    assert!(ready.iter().all(|key| records.record(*key).is_none()));
    assert_eq!(records.lease_any().unwrap().unwrap().lease.key, other, "the other tenant is not concerned");

    // Its leases are as those of unknown files.
    records.complete(&leases[2].lease).unwrap();
    assert!(matches!(records.renew(&leases[3].lease), Err(Error::LeaseLost { status: None, .. })));
}

#[test]
fn b26_what_rests_on_an_absent_volume_is_named_and_keeps_the_tenant() {
    let mut records = Records::new(1, durable());
    records.write_many(3);
    records.store.volume_available(&volume(0), false);
    let leaving = leave(&records);
    end_all(&mut records, &leaving, 100);
    let error = records.call(|store| {
        let leaving = &leaving;
        async move { store.emptied(leaving).await }
    });
    match error.unwrap_err() {
        Error::VolumeUnavailable { volume: Some(id), .. } => assert_eq!(id, volume(0)),
        other => panic!("{other}"),
    }
    records.store.volume_available(&volume(0), true);
    assert_eq!(records.reap(), 3);
    records.call(|store| async move { store.emptied(&leaving).await }).unwrap();
}

#[test]
fn a_write_under_way_is_waited_for() {
    let mut records = Records::new(1, durable());
    let room = records
        .call(|store| async move { store.reserve(&tenant(0), &LogicalDir::root(), Some(8), None).await })
        .unwrap();
    let leaving = leave(&records);
    let store = records.store.clone();
    let mut emptied = pin!(store.emptied(&leaving));
    records.sync();
    assert!(poll_once(emptied.as_mut()).is_pending());
    drop(room);
    records.call(|_| emptied).unwrap();
}

#[test]
fn a_move_under_way_is_waited_for_and_so_is_what_it_leaves() {
    let mut records = Records::new(1, durable());
    records.store.volume_available(&volume(1), true);
    let (moved, moving) = (records.write(), records.write());
    let begin = |records: &Records, key| records.store.begin_move_from(&tenant(0), &key, &volume(0)).unwrap();
    let (right, under_way) = (begin(&records, moved), begin(&records, moving));
    let to = Stored { place: Place::Volume(volume(1)), length: 7, checksum: Checksum::of(b"content") };
    assert!(records.call(|store| async move { store.relocate(right, to).await }).unwrap());
    let leaving = leave(&records);
    end_all(&mut records, &leaving, 100);
    records.sync();
    let over = records.call(|store| async move { store.reapable(None, 9).await }).unwrap();
    let (copies, files): (Vec<_>, Vec<_>) = over.into_iter().partition(|file| file.is_copy);
    assert_eq!((copies.len(), files.len()), (1, 2));
    records.call(|store| async move { store.reaped(&files).await }).unwrap();
    assert!(records.store.holdings(&tenant(0)).is_empty());

    let store = records.store.clone();
    let mut emptied = pin!(store.emptied(&leaving));
    let mut is_waited_for = |what: &str| {
        for _ in 0..5 {
            assert!(poll_once(emptied.as_mut()).is_pending(), "{what}");
            store.commit_step();
        }
    };
    is_waited_for("the move under way");
    drop(under_way);
    is_waited_for("what the other one left");
    records.call(|store| async move { store.reaped(&copies).await }).unwrap();
    records.call(|_| emptied).unwrap();
}
