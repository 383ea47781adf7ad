//! Copies that nobody names: what a move left, or wrote in vain, is known until it is gone, whatever becomes of its file.

use std::time::Duration;

use locus_core::{BlobPath, Durability, FileKey, Knowledge, MetadataStore, Upkeep, VolumeSet};
use locus_storage::{DrainOptions, EngineOptions, Placement, VerifyLevel, WriteOptions};
use locus_testkit::{Failing, VolumeOp};
use rstest::rstest;

use crate::{
    bench::{Bench, poll_once, vol},
    world::{End, World},
};

impl Bench {
    /// Every blob that lies on a volume, and what the store knows of it.
    fn known(&mut self) -> Vec<(FileKey, Knowledge)> {
        let (registry, store) = (self.engine.registry.clone(), self.engine.store.clone());
        self.run(async move {
            let mut known = Vec::new();
            for volume in registry.all() {
                let page = volume.list(None, None, 100).await.unwrap();
                assert_eq!(page.next, None);
                let of = |at: BlobPath| (at.key, store.knows(volume.id(), &at));
                known.extend(page.blobs.into_iter().map(|found| of(found.path)));
            }
            known
        })
    }

    #[track_caller]
    fn nothing_is_unknown(&mut self, when: &str) {
        let known = self.known();
        assert!(known.iter().all(|(_, knows)| *knows != Knowledge::Unknown), "{when}: {known:?}");
    }

    /// Files by one record, each by the name of its write.
    fn write_named(&mut self, names: [&str; 3]) -> Vec<FileKey> {
        let named = |name| WriteOptions::new().original_name("a.txt").idempotency_key(name);
        let files = names.map(|name| (vec![7; 4_000].into(), named(name)));
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        self.run(async move { pool.write_batch(&acme, files.into()).await }).unwrap()
    }

    fn complete_each(&mut self) {
        let (scheduler, acme) = (self.scheduler.clone(), self.acme.clone());
        self.run(async move {
            while let Some(file) = scheduler.next(&acme).await.unwrap() {
                scheduler.complete(&file.lease).await.unwrap();
            }
        });
    }

    /// Every file ends, and bytes and record of each go. What else lies there stays.
    fn end_records(&mut self) {
        self.complete_each();
        let (registry, store) = (self.engine.registry.clone(), self.engine.store.clone());
        self.run(async move {
            store.sync().await.unwrap();
            let (copies, own): (Vec<_>, Vec<_>) =
                store.reapable(None, 100).await.unwrap().into_iter().partition(|file| file.is_copy);
            for file in &own {
                let Some(id) = &file.volume else { continue };
                let volume = registry.volume(id).unwrap();
                assert!(volume.delete(&file.blob).await.unwrap());
                volume.sync_names().await.unwrap();
            }
            assert_eq!(own.len(), 3);
            store.reaped(&own).await.unwrap();
            store.not_reaped(copies);
            store.sync().await.unwrap();
        });
    }

    fn remove_copies(&mut self) {
        let sweeper = self.engine.sweeper.clone();
        assert_eq!(self.run(sweeper.reap_step()).unwrap().errors, 0);
    }
}

/// Contents on `vol-0`, on `vol-1` and in the journal.
fn bench(durability: Durability) -> (Bench, Vec<FileKey>) {
    let options = EngineOptions { durability, ..EngineOptions::default() };
    let mut world = World::new(38, options).with_inline(1 << 10);
    world.volumes = 2;
    let mut bench = Bench::open_at(world);
    let named = || WriteOptions::new().original_name("a.txt");
    let keys = [100, 4_000, 70_000].map(|length| bench.write_with(vec![7; length], named()).unwrap());
    (bench, keys.to_vec())
}

/// Moves each of them at least once.
fn moves(bench: &Bench, keys: Vec<FileKey>) -> impl Future<Output = ()> + use<> {
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    async move {
        for key in keys {
            let _ = pool.materialize(&acme, &key).await;
        }
        for volume in [0, 1] {
            let unthrottled = DrainOptions::new().bytes_per_second(None);
            let _ = pool.drain_with(&vol(volume), unthrottled, |_| ()).await;
            let _ = pool.stop_draining(&vol(volume)).await;
        }
    }
}

/// The file that a crash left a name of ends, its record goes, and only then somebody looks: the name is that of a copy, in this
/// life and in the next one, and not of an orphan, which could be made a file again.
#[rstest]
fn b38_b70_a_name_that_a_move_left_is_no_orphans_when_its_file_has_ended(
    #[values(End::Kill, End::PowerCut)] end: End,
    #[values(false, true)] checkpoint: bool,
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let mut outlived = 0;
    // Together the cases crash at every third operation or so.
    let first = u64::from(checkpoint) * 3 + u64::from(end == End::Kill) * 6;
    for crash in (first..2_000).step_by(11) {
        let (mut bench, keys) = bench(durability);
        let store = bench.engine.store.clone();
        bench.run(async move { store.sync().await }).unwrap();
        let moving = moves(&bench, keys);
        bench.world.disk.crash_at(bench.world.disk.ops() + crash);
        bench.poll(400, moving);
        let done = !bench.world.disk.is_down();
        let mut bench = bench.restart_after(end);
        bench.end_records();
        bench.nothing_is_unknown(&format!("crash {crash}"));
        if checkpoint {
            let store = bench.engine.store.clone();
            bench.run(store.checkpoint()).unwrap();
        }
        let mut bench = bench.restart_after(end);
        bench.nothing_is_unknown(&format!("crash {crash}, one life later"));
        outlived += bench.known().len();
        bench.remove_copies();
        assert_eq!(bench.known(), [], "crash {crash}");
        assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
        if done {
            assert!(outlived > 0);
            return;
        }
    }
    panic!("the moves never came to their end");
}

/// A volume failed a write and kept its bytes, and could not remove them; another one took the file. Its name on the first is told by
/// the record that accepted it.
#[rstest]
fn b38_b70_what_a_failed_write_left_is_no_orphans_when_its_file_went_elsewhere_and_has_ended(
    #[values(End::Kill, End::PowerCut)] end: End,
    #[values(false, true)] checkpoint: bool,
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let options = EngineOptions { durability, ..EngineOptions::default() };
    let mut bench = Bench::with(options, 2);
    bench.pool.set_placement(Placement::RoundRobin);
    let faults = bench.switched(0);
    faults.fail(VolumeOp::Write, 0, Failing::AnswerLost);
    faults.fail(VolumeOp::Delete, 0, Failing::Refused);
    for key in bench.write_named(["a", "b", "c"]) {
        assert_eq!(bench.volume_of(key), vol(1));
    }
    assert!(bench.known().iter().any(|(_, knows)| *knows == Knowledge::InFlight));
    bench.nothing_is_unknown("beside its file");
    bench.end_records();
    bench.nothing_is_unknown("without its file");
    if checkpoint {
        let store = bench.engine.store.clone();
        bench.run(store.checkpoint()).unwrap();
    }
    let mut bench = bench.restart_after(end);
    bench.nothing_is_unknown("one life later");
    // What was not synced may be gone with the power.
    let is_there = !bench.known().is_empty();
    assert!(is_there || (end, durability) == (End::PowerCut, Durability::Buffered));
    bench.remove_copies();
    assert_eq!(bench.known(), []);
    assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
}

/// A write whose name is known makes no file, so that nothing is said of what it left.
#[test]
fn b5_what_a_failed_write_left_is_not_told_of_a_file_that_there_is_already() {
    let mut bench = Bench::with(EngineOptions::default(), 2);
    bench.pool.set_placement(Placement::RoundRobin);
    let faults = bench.switched(0);
    faults.fail(VolumeOp::Write, 0, Failing::AnswerLost);
    let keys = bench.write_named(["a", "b", "b"]);
    assert_eq!(keys[1], keys[2]);
    let mut bench = bench.restart_after(End::Kill);
    for key in keys {
        bench.read(key).unwrap();
    }
}

/// What waits to be removed on a volume may be of an earlier copy there than the one that lies there now.
#[test]
fn b88_a_copy_waits_for_its_own_move_to_be_durable_whatever_lay_there_before() {
    let options = EngineOptions {
        durability: Durability::Buffered,
        max_unsynced: Duration::from_secs(3_600),
        ..EngineOptions::default()
    };
    let mut world = World::new(88, options).with_inline(1 << 10);
    world.volumes = 3;
    let mut bench = Bench::open_at(world);
    let key = bench.write_with(vec![7; 4_000], WriteOptions::new()).unwrap();
    let store = bench.engine.store.clone();
    bench.run(store.sync()).unwrap();
    let first = bench.volume_of(key);
    let leaves = |bench: &Bench, from| {
        let pool = bench.pool.clone();
        let unthrottled = DrainOptions::new().bytes_per_second(None);
        Box::pin(async move { pool.drain_with(&from, unthrottled, |_| ()).await })
    };
    // Announced, and given up; then it goes there after all.
    let mut given_up = leaves(&bench, first.clone());
    assert!(poll_once(given_up.as_mut()).is_pending());
    bench.commit();
    drop(given_up);
    let moves_on = |bench: &mut Bench| {
        let from = bench.volume_of(key);
        let mut leaving = leaves(bench, from.clone());
        for _ in 0..2 {
            assert!(poll_once(leaving.as_mut()).is_pending());
            if bench.volume_of(key) == from {
                bench.commit();
            }
        }
        assert_ne!(bench.volume_of(key), from);
    };
    moves_on(&mut bench);
    let second = bench.volume_of(key);
    bench.run(store.sync()).unwrap();
    // And on to the third, which is not durable yet.
    moves_on(&mut bench);
    let reapable = |bench: &mut Bench| {
        let taken = bench.run(store.reapable(None, 100)).unwrap();
        let volumes: Vec<_> = taken.iter().filter_map(|file| file.volume.clone()).collect();
        store.not_reaped(taken);
        volumes
    };
    assert_eq!(reapable(&mut bench), std::slice::from_ref(&first));
    bench.run(store.sync()).unwrap();
    let mut both = reapable(&mut bench);
    both.sort();
    both.dedup();
    let mut left = vec![first, second];
    left.sort();
    assert_eq!(both, left);
}
