//! Contents that were there before the keys, sealed while work goes on.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::{collections::BTreeMap, path::PathBuf, pin::Pin};

use locus_core::{Durability, Error, FileKey, FileRecord, LeaseOptions, MetadataStore, Place, SealKeyId};
use locus_storage::{
    BackupContents, DrainOptions, EngineOptions, FreshDir, SealOptions, SealReport, VerifyLevel, WriteOptions,
};
use locus_testkit::Fault;
use rstest::rstest;

use crate::{
    bench::{Bench, Hang, poll_once, vol},
    world::{End, World},
};

const INLINE: u64 = 1 << 10;

fn unthrottled() -> SealOptions {
    SealOptions::new().bytes_per_second(None)
}

type Written = BTreeMap<FileKey, (String, Vec<u8>)>;

impl Bench {
    /// Contents in the journal and on volumes, that were written without keys; now there are some.
    fn that_gets_keys(durability: Durability, volumes: usize) -> (Self, Written) {
        let options = EngineOptions { durability, ..EngineOptions::default() };
        let mut world = World::new(51, options).with_inline(INLINE);
        (world.volumes, world.sealed) = (volumes, false);
        let mut bench = Bench::open_at(world);
        let mut written = Written::new();
        // The last of them has the extension that a blob has when it was sealed anew.
        for (number, name) in ["a.pdf", "plain", "b.1"].into_iter().enumerate() {
            for length in [0, 100, 4_000, 70_000] {
                let content = vec![number as u8 + 1; length];
                let named = WriteOptions::new().original_name(name).property("n", name);
                written.insert(bench.write_with(content.clone(), named).unwrap(), (name.into(), content));
            }
        }
        let store = bench.engine.store.clone();
        bench.run(store.sync()).unwrap();
        bench.world.sealed = true;
        (bench.restart(), written)
    }

    /// Seals all, the reaper beside it.
    fn seal_all(&mut self) -> Result<SealReport, Error> {
        let (pool, sweeper) = (self.pool.clone(), self.engine.sweeper.clone());
        let reaper = self.world.stepper.spawn(async move { sweeper.run_reaper().await });
        let sealed = self.run_on(async move { pool.seal_all(unthrottled(), |_| ()).await });
        self.world.stepper.drop_task(reaper);
        sealed
    }

    /// As [`still_waits`](Self::still_waits), what was spawned beside it.
    fn still_waits_beside_others<F: Future + ?Sized>(&mut self, polls: usize, mut call: Pin<&mut F>) {
        for _ in 0..polls {
            assert!(poll_once(call.as_mut()).is_pending());
            self.world.stepper.run_until_idle();
            self.commit();
        }
    }

    fn remove_what_is_over(&mut self) {
        let (store, sweeper) = (self.engine.store.clone(), self.engine.sweeper.clone());
        self.run(store.sync()).unwrap();
        self.run(sweeper.reap_step()).unwrap();
    }

    fn kept(&mut self, key: FileKey) -> FileRecord {
        let (store, acme) = (self.engine.store.clone(), self.acme.id().clone());
        self.run(async move { store.get(&acme, &key).await }).unwrap().unwrap()
    }

    /// Everybody sees what was written, whether it is sealed by now or not.
    fn still_shows(&mut self, written: &Written, when: &str) {
        for (key, (name, content)) in written {
            let (pool, acme) = (self.pool.clone(), self.acme.clone());
            let of = *key;
            let info = self.run(async move { pool.info(&acme, &of).await }).unwrap().unwrap();
            assert_eq!(info.original_name.as_ref(), Some(name), "{when}");
            assert_eq!(info.properties["n"], *name, "{when}");
            assert_eq!(info.size, content.len() as u64, "{when}");
            assert_eq!(self.read(*key).unwrap(), *content, "{when}");
        }
    }

    /// Nothing lies on a volume but what records name, and nothing is wrong.
    fn is_tidy(&mut self, written: &Written, when: &str) {
        let on_volumes = written.keys().filter(|key| self.kept(**key).place != Place::Store).count();
        assert_eq!(self.blobs().len(), on_volumes, "{when}");
        assert_eq!(self.verify(VerifyLevel::Contents).findings, [], "{when}");
    }

    fn is_all_sealed(&mut self, written: &Written, when: &str) {
        for key in written.keys() {
            let record = self.kept(*key);
            assert!(record.seal.is_some(), "{when}");
            assert_eq!((record.info.original_name, record.info.properties.len()), (None, 0), "{when}");
        }
    }
}

#[rstest]
fn all_that_was_there_is_sealed_where_it_is_and_stays_what_it_was(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[values(1, 2)] volumes: usize,
) {
    let (mut bench, written) = Bench::that_gets_keys(durability, volumes);
    bench.still_shows(&written, "before");
    let report = bench.seal_all().unwrap();
    assert_eq!((report.sealed, report.damaged.len()), (12, 0));
    assert_eq!(report.sealed_bytes, 3 * 74_100);
    bench.remove_what_is_over();
    bench.is_all_sealed(&written, "sealed");
    bench.still_shows(&written, "sealed");
    bench.is_tidy(&written, "sealed");
    let in_journal = written.keys().filter(|key| bench.kept(**key).place == Place::Store).count();
    assert_eq!(in_journal, 6, "what the store held it holds still");
    assert_eq!(bench.seal_all().unwrap(), SealReport::default());
    let store = bench.engine.store.clone();
    bench.run(store.checkpoint()).unwrap();
    for end in [End::Kill, End::PowerCut] {
        bench = bench.restart_after(end);
        bench.is_all_sealed(&written, "opened again");
        bench.still_shows(&written, "opened again");
        bench.is_tidy(&written, "opened again");
    }
}

#[test]
fn what_a_worker_has_and_what_is_sealed_already_is_left_alone() {
    let mut world = World::new(51, EngineOptions::default());
    world.sealed = true;
    let mut bench = Bench::open_at(world);
    let key = bench.write("hello");
    let (own, another) = (bench.kept(key).seal.unwrap().key, SealKeyId::from_bytes([9; 16]));
    let (store, acme) = (bench.engine.store.clone(), bench.acme.id().clone());
    let begins = |with| store.begin_seal(&acme, &key, with).unwrap().is_some();
    assert_eq!([own, another].map(begins), [false, true]);
    let (scheduler, worker) = (bench.scheduler.clone(), bench.acme.clone());
    let leased = bench.run(scheduler.next(&worker)).unwrap().unwrap();
    assert_eq!([own, another].map(begins), [false, false]);
    bench.run(scheduler.release(&leased.lease)).unwrap();
    assert_eq!([own, another].map(begins), [false, true]);
}

#[rstest]
fn a_crash_anywhere_in_sealing_leaves_each_content_as_it_was_or_sealed(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[values(End::Kill, End::PowerCut)] end: End,
    #[values(false, true)] checkpoint: bool,
) {
    // Together the cases crash at every operation or so.
    let first = u64::from(checkpoint) * 2 + u64::from(end == End::Kill) * 4;
    for crash in (first..2_000).step_by(9) {
        let (mut bench, written) = Bench::that_gets_keys(durability, 1);
        let (pool, sweeper) = (bench.pool.clone(), bench.engine.sweeper.clone());
        let reaper = bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
        bench.world.disk.crash_at(bench.world.disk.ops() + crash);
        bench.poll(600, async move { pool.seal_all(unthrottled(), |_| ()).await });
        bench.world.stepper.run_until_idle();
        bench.world.stepper.drop_task(reaper);
        let finished = !bench.world.disk.is_down();
        let mut bench = bench.restart_after(end);
        let when = format!("crash {crash}");
        bench.still_shows(&written, &when);
        if checkpoint {
            let store = bench.engine.store.clone();
            bench.run(store.checkpoint()).unwrap();
            bench = bench.restart_after(end);
            bench.still_shows(&written, &when);
        }
        bench.remove_what_is_over();
        bench.is_tidy(&written, &when);
        let left = bench.seal_all().unwrap().sealed;
        bench.remove_what_is_over();
        bench.is_all_sealed(&written, &when);
        bench.still_shows(&written, &when);
        bench.is_tidy(&written, &when);
        if finished {
            assert!(left == 0 && crash > 40, "{left} {crash}");
            return;
        }
    }
    panic!("sealing never came to its end");
}

#[rstest]
fn whatever_fails_once_in_sealing_nothing_is_lost_and_the_next_call_goes_on(
    #[values(Fault::io, Fault::no_space)] fault: fn() -> Fault,
) {
    for at in (0..2_000).step_by(3) {
        let (mut bench, written) = Bench::that_gets_keys(Durability::Durable, 1);
        let planted = bench.world.disk.fail(fault().from_op(bench.world.disk.ops() + at));
        let sealed = bench.seal_all();
        let struck = bench.world.disk.hits(planted) > 0;
        bench.world.disk.heal(planted);
        let when = format!("operation {at}: {sealed:?}");
        if !sealed.as_ref().is_ok_and(|report| report.damaged.is_empty()) {
            bench = bench.restart(); // the store may be poisoned, its volume ill
        }
        let pool = bench.pool.clone();
        bench.run(pool.probe_all());
        bench.still_shows(&written, &when);
        bench.seal_all().unwrap();
        bench.remove_what_is_over();
        bench.is_all_sealed(&written, &when);
        bench.still_shows(&written, &when);
        bench.is_tidy(&written, &when);
        if !struck {
            assert!(at > 60, "{at}");
            return;
        }
    }
    panic!("sealing never came to its end");
}

#[test]
fn a_leased_file_is_waited_for_and_what_its_worker_said_is_sealed_with_it() {
    let (mut bench, written) = Bench::that_gets_keys(Durability::Durable, 1);
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let leased = bench.run(scheduler.next(&acme)).unwrap().unwrap();
    let (pool, sweeper) = (bench.pool.clone(), bench.engine.sweeper.clone());
    bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
    let mut sealing = Box::pin(pool.seal_all(unthrottled(), |_| ()));
    bench.still_waits_beside_others(2_000, sealing.as_mut());
    assert!(bench.kept(leased.key).seal.is_none());
    let others = written.keys().filter(|key| **key != leased.key);
    assert!(others.copied().all(|key| bench.kept(key).seal.is_some()));
    bench.run(scheduler.fail(&leased.lease, "told")).unwrap();
    assert_eq!(bench.kept(leased.key).last_error.as_deref(), Some("told"));
    let report = bench.run_on(sealing).unwrap();
    assert_eq!(report.sealed, 12);
    let record = bench.kept(leased.key);
    let said = record.last_error.clone().unwrap();
    assert!(record.seal.is_some() && said.starts_with("\u{1}sealed:"), "{said}");
    assert_eq!(bench.pool.reveal(record).unwrap().last_error.as_deref(), Some("told"));
}

#[test]
fn what_sealing_left_beside_a_content_goes_before_the_content_moves_again() {
    let (mut bench, written) = Bench::that_gets_keys(Durability::Durable, 2);
    let pool = bench.pool.clone();
    // Nobody removes anything yet.
    bench.run_on(async move { pool.seal_all(unthrottled(), |_| ()).await }).unwrap();
    let bulky: Vec<_> =
        written.keys().copied().filter(|key| bench.kept(*key).place != Place::Store).collect();
    assert_eq!(bulky.len(), 6);
    assert_eq!(bench.blobs().len(), 12, "the old ones as well");
    for volume in [0, 1] {
        let pool = bench.pool.clone();
        let unthrottled = DrainOptions::new().bytes_per_second(None);
        let drained =
            bench.poll(200, async move { pool.drain_with(&vol(volume), unthrottled, |_| ()).await });
        assert!(drained.is_none(), "what is beside is in the way: {drained:?}");
        let pool = bench.pool.clone();
        bench.run(async move { pool.stop_draining(&vol(volume)).await }).unwrap();
    }
    bench.remove_what_is_over();
    bench.is_tidy(&written, "reaped");
    let (pool, sweeper) = (bench.pool.clone(), bench.engine.sweeper.clone());
    bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
    let report = bench.run_on(async move { pool.drain(&vol(0)).await }).unwrap();
    assert_eq!(report.files_left, 0);
    bench.still_shows(&written, "drained");
    bench.is_tidy(&written, "drained");
}

#[test]
fn a_content_that_is_sealed_while_a_backup_is_taken_is_in_the_copy_as_it_was() {
    let (mut bench, written) = Bench::that_gets_keys(Durability::Durable, 1);
    let store = bench.engine.store.clone();
    let disk: std::sync::Arc<dyn locus_fs::Disk> = bench.world.disk.clone();
    let into = FreshDir::begin(disk, PathBuf::from("/copy")).unwrap();
    // The copy stops at the first content: the others are looked for when all are sealed.
    let hanging = bench.hanging(0);
    hanging.hang(Hang::Open);
    let mut backup = Box::pin(store.backup(&into, BackupContents::Copy));
    bench.still_waits(40, backup.as_mut());
    hanging.hang(Hang::No);
    let pool = bench.pool.clone();
    let sealed = bench.run_on(async move { pool.seal_all(unthrottled(), |_| ()).await }).unwrap();
    assert_eq!(sealed.sealed, 12);
    hanging.go();
    let report = bench.run(backup).unwrap();
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
    into.finish().unwrap();
    bench.remove_what_is_over();
    bench.is_tidy(&written, "beside the backup");
    let mut world = bench.world;
    world.disk.kill();
    (world.dir, world.volumes_dir) = ("/copy".into(), "/copy/volumes".into());
    let mut copy = Bench::open_at(world);
    copy.still_shows(&written, "of the copy");
    copy.is_tidy(&written, "of the copy");
    assert_eq!(copy.seal_all().unwrap().sealed, 12, "it is as it was");
}

#[test]
fn a_damaged_content_is_told_and_stays_and_all_others_are_sealed() {
    let (mut bench, written) = Bench::that_gets_keys(Durability::Durable, 1);
    let bulky = written.iter().find(|(_, (_, content))| content.len() == 70_000);
    let (key, (name, _)) = bulky.map(|(key, written)| (*key, written.clone())).unwrap();
    let at = bench.kept(key).blob();
    let volume = bench.engine.registry.take(&vol(0)).unwrap();
    let path = volume.local_path(&at).unwrap();
    bench.engine.registry.insert(volume).unwrap();
    let file = locus_fs::Disk::open(&*bench.world.disk, &path, true).unwrap();
    file.write_at(b"x", 50_000).unwrap();
    let report = bench.seal_all().unwrap();
    assert_eq!((report.sealed, report.damaged.len()), (11, 1));
    assert_eq!(report.damaged[0].key, key);
    let record = bench.kept(key);
    assert_eq!((record.info.original_name, record.seal), (Some(name), None));
    bench.remove_what_is_over();
    assert!(matches!(bench.read(key), Err(Error::ChecksumMismatch { .. })));
    let rest: Written = written.into_iter().filter(|(other, _)| *other != key).collect();
    bench.is_all_sealed(&rest, "the others");
    bench.still_shows(&rest, "the others");
    assert_eq!(bench.verify(VerifyLevel::Contents).findings.len(), 1);
}

#[test]
fn without_room_in_the_journal_a_content_of_the_store_is_sealed_on_its_way_to_a_volume() {
    let (mut bench, written) = Bench::that_gets_keys(Durability::Durable, 1);
    // Sealed it is longer than the store takes.
    let key = bench.write(vec![9; 1_000]);
    let of_store: Vec<_> =
        written.keys().copied().filter(|key| bench.kept(*key).place == Place::Store).collect();
    assert_ne!(bench.kept(key).place, Place::Store);
    bench.world.options.inline_content_max = 0;
    let mut bench = bench.restart();
    bench.seal_all().unwrap();
    assert!(of_store.into_iter().all(|key| bench.kept(key).place != Place::Store));
    bench.remove_what_is_over();
    bench.still_shows(&written, "on the volume");
    bench.is_all_sealed(&written, "on the volume");
    assert_eq!(bench.verify(VerifyLevel::Contents).findings, []);
}

/// Each operation fails in turn: that of a content which was to stay on its volume as well, when there is another one.
#[test]
fn what_failed_beside_a_content_goes_before_it_is_sealed_to_another_volume() {
    for at in (0..2_000).step_by(5) {
        let (mut bench, written) = Bench::that_gets_keys(Durability::Durable, 2);
        let fault = bench.world.disk.fail(Fault::no_space().from_op(bench.world.disk.ops() + at));
        let _ = bench.seal_all();
        let struck = bench.world.disk.hits(fault) > 0;
        bench.world.disk.heal(fault);
        let when = format!("operation {at}");
        bench = bench.restart(); // its volume may be ill
        bench.remove_what_is_over();
        bench.still_shows(&written, &when);
        bench.is_tidy(&written, &when);
        bench.seal_all().unwrap();
        bench.remove_what_is_over();
        bench.is_all_sealed(&written, &when);
        bench.is_tidy(&written, &when);
        if !struck {
            return;
        }
    }
    panic!("sealing never came to its end");
}

#[test]
fn what_a_worker_said_while_its_file_was_being_sealed_is_kept() {
    let (mut bench, written) = Bench::that_gets_keys(Durability::Durable, 1);
    let key = written.iter().find(|(_, (_, content))| content.len() == 70_000).map(|(key, _)| *key).unwrap();
    let hanging = bench.hanging(0);
    hanging.hang(Hang::After);
    let (pool, sweeper) = (bench.pool.clone(), bench.engine.sweeper.clone());
    bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
    let mut sealing = Box::pin(pool.seal_all(unthrottled(), |_| ()));
    bench.still_waits_beside_others(200, sealing.as_mut());
    // It is on its way; now it is leased, and fails.
    let (scheduler, acme, store) = (bench.scheduler.clone(), bench.acme.clone(), bench.engine.store.clone());
    assert!(bench.kept(key).seal.is_none());
    let leased =
        bench.run(async move { store.lease_key(acme.id(), &key, &LeaseOptions::default()).await }).unwrap();
    bench.run(scheduler.fail(&leased.lease, "told")).unwrap();
    hanging.go();
    bench.run_on(sealing).unwrap();
    let record = bench.kept(key);
    assert!(record.seal.is_some());
    assert_eq!(bench.pool.reveal(record).unwrap().last_error.as_deref(), Some("told"));
    bench.still_shows(&written, "sealed");
}
