//! Scenarios that a first implementation got wrong: each stood as a proof before the engine was mended.

use std::{path::Path, task::Poll, time::Duration};

use locus_core::{Durability, Error, LeaseOptions, Limit, MetadataStore, NewContent, NewFile, Scope, Upkeep};
use locus_fs::Disk;
use locus_storage::{EngineOptions, WriteOptions};
use locus_testkit::{Fault, OpKind};

use crate::{
    bench::{Bench, Hang, poll_once},
    world::{End, Records, World, files_below, new_file, volume},
};

fn buffered() -> EngineOptions {
    EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() }
}

/// Crash at every operation of an open, and open again: must never be refused.
#[test]
fn b56_an_open_that_dies_at_any_step_opens_again() {
    for power in [false, true] {
        for ahead in 1..400u64 {
            let mut records = Records::new(ahead, EngineOptions::default());
            for _ in 0..3 {
                records.write();
            }
            let world = records.end(End::Kill);
            let at = world.disk.ops() + ahead;
            world.disk.crash_at(at);
            let mut world = match Records::open(world) {
                Ok(r) => {
                    if !r.world.disk.is_down() {
                        break;
                    }
                    let Records { world, store, .. } = r;
                    drop(store);
                    world
                }
                Err(f) => f.0,
            };
            world.end(if power { End::PowerCut } else { End::Kill });
            match Records::open(world) {
                Ok(r) => assert_eq!(r.counts().pending, 3),
                Err(f) => panic!("refused, power {power} ahead {ahead}: {:?}", f.1),
            }
        }
    }
}

#[test]
fn b66_a_cut_that_spans_segments_opens_again() {
    let mut b = Bench::with(EngineOptions { segment_size: 1 << 20, ..buffered() }, 1);
    let lost = b.write("first");
    let big = "x".repeat(1000);
    for _ in 0..900 {
        b.write_with(
            "more",
            WriteOptions::new().original_name(big.clone()).property("p", big[..900].to_string()),
        )
        .unwrap();
    }
    let path = {
        let (pool, acme) = (b.pool.clone(), b.acme.clone());
        b.run(async move { pool.location(&acme, &lost).await }).unwrap().unwrap().physical_path.unwrap()
    };
    let Bench { mut world, engine, .. } = b;
    drop(engine);
    world.disk.kill();
    world.disk.remove_file(&path).unwrap(); // what power loss may do to unsynced content
    let engine = world.open().unwrap();
    assert_eq!(engine.report.content_lost, Some(lost));
    drop(engine);
    world.disk.kill();
    world.open().unwrap();
}

#[test]
fn b66_content_that_nobody_could_check_ends_no_log_confirmed_since() {
    let mut r = Records::new(3, buffered());
    r.put(NewFile { content: NewContent::Stored { volume: volume(0), synced: false }, ..new_file() });
    let mut world = r.end(End::Kill);
    world.options.durability = Durability::Durable;
    let mut r = Records::open(world).map_err(|f| f.1).unwrap();
    for _ in 0..5 {
        r.put(NewFile { content: NewContent::Stored { volume: volume(1), synced: true }, ..new_file() });
    }
    let mut world = r.end(End::Close);
    let e = world.open().unwrap();
    assert!(
        e.store.counts().values().map(locus_core::TenantCounts::files).sum::<u64>() >= 5,
        "{:?} {:?}",
        e.store.counts(),
        e.report
    );
}

/// The failure is told once; who asks again is told of the rest alone, and may rely on what was synced by itself.
#[test]
fn b66_synced_content_is_not_in_doubt_with_others_of_its_volume() {
    let mut lost = 0;
    for seed in 0..20 {
        let mut world = World::new(seed, buffered());
        world.volumes = 1;
        let mut b = Bench::open_at(world);
        let synced = b.write_with("synced", WriteOptions::new().synced()).unwrap();
        let other = b.write("other");
        for kind in [OpKind::Sync, OpKind::SyncDir] {
            b.world.disk.fail(Fault::io().for_good().on(kind).at(|path| path.starts_with("/vol-0")));
        }
        let store = b.engine.store.clone();
        assert!(matches!(b.run(store.sync()), Err(Error::VolumeUnavailable { .. })));
        b.run(store.sync()).unwrap();
        drop(store);
        let mut b = b.restart_after_power_cut();
        assert_eq!(b.read(synced).unwrap(), b"synced");
        lost += usize::from(b.read(other).is_err());
    }
    assert!(lost > 0, "no power cut took anything: this would say nothing");
}

#[test]
fn b66_what_was_written_during_a_barrier_is_synced_too() {
    let mut b = Bench::with(buffered(), 1);
    b.write("a");
    let store = b.engine.store.clone();
    let mut sync = Box::pin(async move { store.sync().await });
    assert!(poll_once(sync.as_mut()).is_pending());
    b.poll(1, {
        let (pool, acme) = (b.pool.clone(), b.acme.clone());
        async move { pool.write(&acme, "b", WriteOptions::new()).await }
    })
    .unwrap()
    .unwrap();
    b.commit();
    assert!(poll_once(sync.as_mut()).is_ready());
    let store = b.engine.store.clone();
    b.world.stepper.spawn(async move { store.run_barriers().await });
    for _ in 0..60 {
        b.world.stepper.run_until_idle();
        b.commit();
        b.world.advance(Duration::from_secs(1));
    }
    let s = b.engine.store.statistics();
    assert_eq!(s.written, s.durable);
}

/// The next barrier must sync the volume again.
#[test]
fn b66_a_dropped_barrier_leaves_its_volumes_to_the_next() {
    let mut b = Bench::with(buffered(), 1);
    let hanging = b.hanging(0);
    b.write("a");
    hanging.hang(Hang::Before);
    let store = b.engine.store.clone();
    assert!(b.poll(5, async move { store.sync().await }).is_none());
    let synced = hanging.syncs();
    hanging.go();
    let store = b.engine.store.clone();
    b.run(async move { store.sync().await }).unwrap();
    assert!(hanging.syncs() > synced, "sync() said Ok and the volume was never synced");
}

#[test]
fn b26_a_volume_taken_away_stops_nobody() {
    let mut b = Bench::with(EngineOptions { max_unsynced_bytes: 4096, ..buffered() }, 2);
    let key = b.write("a");
    let of = b.volume_of(key);
    let pool = b.pool.clone();
    b.run(async move { pool.unmount(&of).await }).unwrap();
    let store = b.engine.store.clone();
    b.world.stepper.spawn(async move { store.run_barriers().await });
    for n in 0..20 {
        let mut call = {
            let (pool, acme) = (b.pool.clone(), b.acme.clone());
            Box::pin(async move { pool.write(&acme, "b", WriteOptions::new()).await })
        };
        let mut done = None;
        for _ in 0..30 {
            if let Poll::Ready(answer) = poll_once(call.as_mut()) {
                done = Some(answer);
                break;
            }
            b.world.stepper.run_until_idle();
            b.commit();
            b.world.advance(Duration::from_secs(1));
        }
        assert!(matches!(done, Some(Ok(_))), "write {n}: {done:?}");
    }
}

#[test]
fn b6_a_dropped_next_any_keeps_the_turn() {
    let mut b = Bench::with(EngineOptions { max_unsynced_bytes: 1, ..buffered() }, 1);
    b.write("a");
    let s = b.scheduler.clone();
    assert!(b.poll(1, async move { s.next_any().await }).is_none());
    let store = b.engine.store.clone();
    b.run(async move { store.sync().await }).unwrap();
    let s = b.scheduler.clone();
    assert!(b.run(async move { s.next_any().await }).unwrap().is_some());
}

#[test]
fn b64_restarts_do_not_grow_the_log() {
    let mut r = Records::new(8, EngineOptions { segment_size: 4 << 20, ..EngineOptions::default() });
    for _ in 0..60 {
        r.write();
        if r.store.checkpoint_due() {
            r.checkpoint().unwrap();
        }
        r = r.restart(End::Close);
    }
    assert!(r.store.statistics().journal_bytes < 100 << 20, "{}", r.store.statistics().journal_bytes);
}

#[test]
fn b56_the_tail_is_counted_once() {
    let mut r = Records::new(0, buffered());
    for _ in 0..20 {
        r.write();
    }
    let r = r.restart(End::PowerCut);
    assert!(r.report.dropped > 0);
    assert_eq!(r.restart(End::Close).report.dropped, 0);
}

/// One bad sector: the header of the newest segment. What the session confirmed must not vanish without a word.
#[test]
fn b57_a_damaged_header_hides_no_segment() {
    let mut r = Records::new(5, EngineOptions::default());
    for _ in 0..3 {
        r.write();
    }
    let mut r = r.restart(End::Close);
    for _ in 0..3 {
        r.write();
    }
    let world = r.end(End::Close);
    let newest = files_below(&*world.disk, Path::new("/data/journal"))
        .into_iter()
        .filter(|(_, bytes)| bytes.starts_with(b"LOCUSLOG"))
        .max_by_key(|(_, bytes)| u64::from_le_bytes(*bytes[32..].first_chunk().unwrap()))
        .unwrap()
        .0;
    let file = world.disk.open(&newest, true).unwrap();
    file.write_at(&[0x55], 40).unwrap();
    file.sync_data().unwrap();
    match Records::open(world) {
        Ok(r) => assert_eq!(r.counts().pending, 6, "{:?}", r.report),
        Err(f) => panic!("refused: {:?}", f.1),
    }
}

#[test]
fn b15_content_on_an_absent_volume_is_looked_at_when_the_volume_returns() {
    let mut b = Bench::with(buffered(), 2);
    let key = b.write("a");
    let of = b.volume_of(key);
    let Bench { mut world, engine, .. } = b;
    drop(engine);
    world.disk.kill();
    let away = Path::new("/").join(of.as_str());
    world.disk.rename(&away, Path::new("/elsewhere")).unwrap();
    world.volumes = 0;
    let engine = world.open().unwrap();
    assert_eq!((engine.report.unchecked, engine.report.content_lost), (1, None));
    let store = engine.store.clone();
    world.stepper.spawn(async move { store.run_barriers().await });
    world.stepper.run_until_idle();
    assert_eq!(engine.store.unchecked(), 1, "its volume is still away");
    let pool = engine.pool.clone();
    let volume = locus_fs::LocalVolume::new(of.as_str(), "/elsewhere");
    world.run(&engine, async move { pool.mount(volume).await }).unwrap();
    world.stepper.run_until_idle();
    assert_eq!(engine.store.unchecked(), 0);
}

/// Who waits for a file is told when none will come any more.
#[test]
fn b65_b87_who_waits_at_an_empty_queue_is_told_of_the_end() {
    for poisoned in [false, true] {
        let mut r = Records::new(5, EngineOptions::default());
        let store = r.store.clone();
        let mut one = Box::pin(async move { store.ready(&crate::world::tenant(0)).await });
        let store = r.store.clone();
        let mut any = Box::pin(async move { store.ready_any().await });
        assert!(poll_once(one.as_mut()).is_pending());
        assert!(poll_once(any.as_mut()).is_pending());
        if poisoned {
            let at = r.world.disk.ops();
            r.world.disk.crash_at(at + 1);
            let limit = Limit::Files(5); // a change that makes no file ready
            assert!(r.call(|store| async move { store.set_limit(Scope::Global, limit).await }).is_err());
        } else {
            r.call(|store| async move { store.shutdown().await }).unwrap();
        }
        for answer in [poll_once(one.as_mut()), poll_once(any.as_mut())] {
            match answer {
                Poll::Ready(Err(Error::Poisoned { .. })) if poisoned => {}
                Poll::Ready(Err(Error::ShuttingDown)) if !poisoned => {}
                other => panic!("poisoned {poisoned}: {other:?}"),
            }
        }
    }
}

/// Who reaps would otherwise look, find nothing and look again, for ever.
#[test]
fn b65_nobody_is_woken_to_reap_once_the_store_is_poisoned() {
    let mut r = Records::new(5, EngineOptions::default());
    r.write_many(1);
    let lease = r.lease().unwrap().lease;
    r.complete(&lease).unwrap();
    r.sync();
    let store = r.store.clone();
    let mut over = Box::pin(async move { store.reapable_ready().await });
    assert!(poll_once(over.as_mut()).is_ready());
    r.world.disk.crash_at(r.world.disk.ops() + 1);
    let limit = Limit::Files(5);
    assert!(r.call(|store| async move { store.set_limit(Scope::Global, limit).await }).is_err());
    let store = r.store.clone();
    let mut over = Box::pin(async move { store.reapable_ready().await });
    assert!(poll_once(over.as_mut()).is_pending());
}

/// What was over and durable before the poison stays where it is.
#[test]
fn b65_who_waits_for_all_to_be_removed_is_told_of_the_poison() {
    let mut r = Records::new(5, EngineOptions::default());
    r.write_many(1);
    let lease = r.lease().unwrap().lease;
    r.complete(&lease).unwrap();
    r.sync();
    let store = r.store.clone();
    let mut settled = Box::pin(async move { store.settled().await });
    assert!(poll_once(settled.as_mut()).is_pending());
    r.world.disk.crash_at(r.world.disk.ops() + 1);
    let limit = Limit::Files(5);
    assert!(r.call(|store| async move { store.set_limit(Scope::Global, limit).await }).is_err());
    let told = poll_once(settled.as_mut());
    assert!(matches!(told, Poll::Ready(Err(Error::Poisoned { .. }))), "{told:?}");
}

/// A lease that were granted while the store is being closed would count as one that ended with its process.
#[test]
fn b87_nothing_is_handed_out_once_the_store_is_being_closed() {
    let mut r = Records::new(6, EngineOptions::default());
    let keys = r.write_many(2);
    r.lease().unwrap();
    let store = r.store.clone();
    let mut closing = Box::pin(async move { store.shutdown().await });
    assert!(poll_once(closing.as_mut()).is_pending());
    let refused = r.try_lease(1, LeaseOptions::new());
    assert!(matches!(refused, Err(Error::ShuttingDown)), "{refused:?}");
    r.call(|_| closing).unwrap();
    let mut r = r.restart(End::Kill);
    for key in keys {
        assert_eq!(r.record(key).unwrap().info.attempts, 0);
    }
}

/// Keys whose time is over make room at the limit, also those of a tenant that writes no more.
#[test]
fn idempotency_keys_of_a_silent_tenant_fade() {
    let options = EngineOptions { idempotency_max: 3, ..EngineOptions::default() };
    let mut r = Records::new(7, options);
    for n in 0..3 {
        r.put(NewFile { idempotency: Some(format!("name-{n}").as_str().into()), ..new_file() });
    }
    let named = |n: usize| NewFile {
        idempotency: Some(format!("other-{n}").as_str().into()),
        ..crate::world::file_of(1)
    };
    assert!(matches!(r.try_put(vec![named(0)]), Err(Error::TooLarge { .. })));
    for _ in 0..3 {
        let lease = r.lease().unwrap().lease;
        r.complete(&lease).unwrap();
    }
    r.sync();
    while r.reap() > 0 {}
    r.world.advance(Duration::from_secs(25 * 60 * 60));
    r.put(named(0));
    assert_eq!(r.store.statistics().idempotency_keys, 1);
}

/// The segment in which the log ends is kept for the older checkpoint, also when an opening died before its first record.
#[test]
fn b61_a_damaged_newest_checkpoint_is_passed_over_after_openings_that_died() {
    for point in 1..150 {
        let mut r = Records::new(7, EngineOptions { segment_size: 1 << 20, ..EngineOptions::default() });
        r.settle();
        r.write_many(50);
        r.checkpoint().unwrap();
        r.write_many(50);
        r.sync();
        r.checkpoint().unwrap();
        let world = r.end(End::Kill);
        world.disk.crash_at(world.disk.ops() + point);
        let mut world = match Records::open(world) {
            Ok(r) => {
                let Records { world, store, .. } = r;
                drop(store);
                world
            }
            Err(failed) => failed.0,
        };
        let died = world.disk.is_down();
        world.end(End::Kill);
        let world = Records::open(world).map_err(|failed| failed.1).unwrap().end(End::Kill);
        let newest = world.disk.open(Path::new("/data/journal/checkpoint-00000002"), true).unwrap();
        newest.write_at(&[0xff; 64], 40).unwrap();
        newest.sync_data().unwrap();
        let r = Records::open(world).map_err(|failed| failed.1);
        assert_eq!(r.map(|r| r.counts().pending).ok(), Some(100), "an opening died at {point}");
        if !died {
            return;
        }
    }
    panic!("an opening takes more than 150 operations");
}

/// A full disk, and a crash between publishing a checkpoint and putting the oldest one aside.
#[test]
fn b59_b65_a_crash_within_a_checkpoint_on_a_full_disk_leaves_a_file_for_the_next() {
    for point in 1..30 {
        let mut r = Records::new(4, EngineOptions { segment_size: 1 << 20, ..EngineOptions::default() });
        r.settle();
        for _ in 0..3 {
            r.write_many(100);
            r.checkpoint().unwrap();
        }
        r.settle();
        let space = r.world.disk.space(Path::new("/")).unwrap();
        r.world.disk.set_capacity(space.total - space.available);
        r.world.disk.crash_at(r.world.disk.ops() + point);
        let _ = r.checkpoint();
        let died = r.world.disk.is_down();
        let mut r = Records::open(r.end(End::Kill)).map_err(|failed| failed.1).unwrap();
        r.checkpoint().unwrap_or_else(|why| panic!("after a crash at {point}: {why:?}"));
        assert_eq!(r.counts().pending, 300);
        if !died {
            return;
        }
    }
    panic!("a checkpoint takes more than 30 operations");
}
