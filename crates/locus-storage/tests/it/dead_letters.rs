//! Files that failed for good leave the queue, and come back.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::{sync::Arc, time::Duration};

use locus_core::{
    Area, BlobPath, Durability, Error, FileKey, FileRecord, FileStatus, Lease, Limit, LogicalDir,
    MetadataStore, Place, Result, RetryPolicy, Scope, Upkeep,
};
use locus_fs::LocalVolume;
use locus_storage::{BackupContents, EngineOptions, FreshDir, LeasedFile, Retire, VerifyLevel, WriteOptions};
use locus_testkit::{Failing, Fault, FaultyVolume, OpKind, VolumeFaults, VolumeOp};
use rstest::rstest;

use crate::{
    bench::{Bench, Hang, poll_once, vol},
    world::{End, World},
};

const LONG: usize = 4_000;

/// The first failure is the last.
fn strict(durability: Durability) -> EngineOptions {
    let retry_policy = RetryPolicy { max_retries: 1, ..RetryPolicy::default() };
    EngineOptions { durability, retry_policy, ..EngineOptions::default() }
}

/// Contents up to 1 KiB rest in the journal.
fn bench() -> Bench {
    seeded(76, Durability::Durable)
}

fn seeded(seed: u64, durability: Durability) -> Bench {
    Bench::open_at(World::new(seed, strict(durability)).with_inline(1 << 10))
}

impl Bench {
    /// A file that failed for the last time, and the lease of its worker.
    fn failed(&mut self, length: usize) -> (FileKey, Lease) {
        let named = WriteOptions::new().original_name("scan.pdf").directory("/in");
        let key = self.write_with(vec![7; length], named).unwrap();
        (key, self.fail_next())
    }

    fn lease_next(&mut self) -> Option<LeasedFile> {
        let (scheduler, acme) = (self.scheduler.clone(), self.acme.clone());
        self.run(async move { scheduler.next(&acme).await }).unwrap()
    }

    fn fail_next(&mut self) -> Lease {
        let lease = self.lease_next().unwrap().lease;
        let (scheduler, failed) = (self.scheduler.clone(), lease.clone());
        self.run(async move { scheduler.fail(&failed, "no such page").await }).unwrap();
        lease
    }

    fn dead_letter(&mut self, key: FileKey) -> Result<bool> {
        let (pool, acme) = (self.pool.clone(), self.acme.id().clone());
        self.run(async move { pool.dead_letter(&acme, &key).await })
    }

    /// A dead letter.
    fn dead(&mut self, length: usize) -> (FileKey, Lease) {
        let (key, lease) = self.failed(length);
        assert!(self.dead_letter(key).unwrap());
        self.reap_all();
        (key, lease)
    }

    fn reset(&mut self, key: FileKey) -> Result<()> {
        let (scheduler, acme) = (self.scheduler.clone(), self.acme.clone());
        self.run(async move { scheduler.reset(&acme, &key).await })
    }

    fn delete(&mut self, key: FileKey) {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        self.run(async move { pool.delete(&acme, &key).await }).unwrap();
    }

    fn reap_all(&mut self) {
        let (sweeper, store) = (self.engine.sweeper.clone(), self.engine.store.clone());
        self.run(async move {
            store.sync().await.unwrap();
            while sweeper.reap_step().await.unwrap().space_freed > 0 {}
        });
    }

    fn record(&mut self, key: FileKey) -> Option<FileRecord> {
        let (store, acme) = (self.engine.store.clone(), self.acme.id().clone());
        self.run(async move { store.get(&acme, &key).await }).unwrap()
    }

    fn status(&mut self, key: FileKey) -> Option<FileStatus> {
        self.record(key).map(|record| record.info.status)
    }

    /// The addresses of all blobs on all volumes.
    fn addresses(&mut self) -> Vec<BlobPath> {
        let Self { world, engine, .. } = self;
        world.run(engine, engine.blobs()).unwrap()
    }

    fn areas(&mut self) -> Vec<Area> {
        self.addresses().into_iter().map(|blob| blob.area).collect()
    }

    fn counted(&self) -> [u64; 3] {
        let (acme, directory) = (self.acme.id().clone(), LogicalDir::parse("/in").unwrap());
        [Scope::Global, Scope::Tenant(acme.clone()), Scope::Directory(acme, directory)]
            .map(|scope| self.engine.store.usage(&scope).files)
    }

    #[track_caller]
    fn is_sound(&mut self) {
        let report = self.verify(VerifyLevel::Contents);
        assert!(report.findings.is_empty(), "{report:?}");
        assert_eq!(report.unchecked, 0);
    }
}

#[rstest]
fn b76_a_file_that_failed_for_good_is_moved_to_the_dead_letters_of_a_volume(
    #[values(100, LONG)] length: usize,
) {
    let mut bench = bench();
    let (key, _) = bench.failed(length);
    let before = bench.record(key).unwrap();
    assert!(bench.dead_letter(key).unwrap());
    let record = bench.record(key).unwrap();
    assert_eq!((record.info.status, record.area), (FileStatus::DeadLettered, Area::DeadLetters));
    assert_eq!((record.last_error.as_deref(), record.info.retry_count), (Some("no such page"), 1));
    if length == LONG {
        assert_eq!(record.place, before.place, "it stays on its volume");
    }
    bench.reap_all();
    assert_eq!(bench.addresses(), [record.blob()]);
    assert_eq!(bench.read(key).unwrap(), vec![7; length]);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let path = bench.run(async move { pool.materialize(&acme, &key).await }).unwrap();
    assert!(path.iter().any(|part| part == ".deadletter"), "{}", path.display());
    bench.is_sound();
}

#[test]
fn b76_a_file_in_any_other_state_is_left_where_it_is() {
    let mut bench = bench();
    let key = bench.write(vec![7; LONG]);
    assert!(!bench.dead_letter(key).unwrap());
    let leased = bench.lease_next().unwrap();
    assert!(!bench.dead_letter(key).unwrap());
    let scheduler = bench.scheduler.clone();
    bench.run(async move { scheduler.complete(&leased.lease).await }).unwrap();
    assert!(!bench.dead_letter(key).unwrap());
    let (dead, _) = bench.dead(LONG);
    assert!(!bench.dead_letter(dead).unwrap());
    assert!(!bench.dead_letter(FileKey::from_bytes([9; 16])).unwrap());
}

#[rstest]
fn b40_b76_a_dead_letter_is_never_leased(#[values(End::Kill, End::Close)] end: End) {
    let mut bench = bench();
    let (key, _) = bench.dead(LONG);
    for _ in 0..2 {
        assert!(bench.lease_next().is_none());
        let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
        let refused = bench.run(async move { scheduler.lease_key(&acme, &key).await });
        assert!(matches!(refused, Err(Error::WrongStatus { status: FileStatus::DeadLettered, .. })));
        bench = bench.restart_after(end);
    }
}

#[test]
fn b31_whoever_completes_or_fails_a_dead_letter_late_has_lost_the_lease() {
    let mut bench = bench();
    let (key, lease) = bench.dead(LONG);
    for turn in 0..2 {
        let (scheduler, held) = (bench.scheduler.clone(), lease.clone());
        let completed = bench.run(async move { scheduler.complete(&held).await });
        let (scheduler, held) = (bench.scheduler.clone(), lease.clone());
        let failed = bench.run(async move { scheduler.fail(&held, "late").await });
        assert!(matches!(completed, Err(Error::LeaseLost { expected: None, .. })), "{turn}: {completed:?}");
        assert!(matches!(failed, Err(Error::LeaseLost { .. })), "{turn}: {failed:?}");
        if turn == 0 {
            bench.reset(key).unwrap();
        }
    }
    assert_eq!(bench.status(key), Some(FileStatus::Pending));
}

#[test]
fn b31_a_file_that_is_completed_late_while_it_is_moved_does_not_become_a_dead_letter() {
    let mut bench = bench();
    let (key, lease) = bench.failed(100); // content of the journal is written to a volume
    let hanging = [bench.hanging(0), bench.hanging(1)];
    hanging.iter().for_each(|volume| volume.hang(Hang::After));
    let (pool, acme) = (bench.pool.clone(), bench.acme.id().clone());
    let mut moved = Box::pin(async move { pool.dead_letter(&acme, &key).await });
    assert!(poll_once(moved.as_mut()).is_pending());
    let scheduler = bench.scheduler.clone();
    bench.run(async move { scheduler.complete(&lease).await }).unwrap();
    hanging.iter().for_each(|volume| volume.go());
    assert!(!bench.run(moved).unwrap());
    bench.reap_all();
    assert_eq!((bench.status(key), bench.addresses()), (None, vec![]));
    bench.is_sound();
}

#[rstest]
fn b41_a_dead_letter_that_is_reset_is_pending_again_with_fresh_counts_at_its_old_place(
    #[values(100, LONG)] length: usize,
) {
    let mut bench = bench();
    let (key, _) = bench.dead(length);
    let later = bench.write(vec![8; LONG]);
    bench.reset(key).unwrap();
    let record = bench.record(key).unwrap();
    assert_eq!((record.info.status, record.area), (FileStatus::Pending, Area::Live));
    assert_eq!((record.info.retry_count, record.info.attempts), (0, 0));
    bench.reap_all();
    assert_eq!(bench.areas(), [Area::Live, Area::Live]);
    assert_eq!(bench.read(key).unwrap(), vec![7; length]);
    assert_eq!([bench.lease_next(), bench.lease_next()].map(|file| file.unwrap().key), [key, later]);
    bench.is_sound();
}

#[test]
fn b41_b76_a_file_goes_there_and_back_any_number_of_times() {
    let mut bench = bench();
    let (key, _) = bench.failed(LONG);
    for _ in 0..3 {
        assert!(bench.dead_letter(key).unwrap());
        // Its old name is not free yet: whoever requeues it waits for the reaper.
        let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
        let mut back = Box::pin(async move { scheduler.reset(&acme, &key).await });
        assert!(poll_once(back.as_mut()).is_pending());
        assert_eq!(bench.counted(), [0, 0, 0], "who waits has no room");
        bench.reap_all();
        bench.run_on(back).unwrap();
        bench.fail_next();
        assert!(!bench.dead_letter(key).unwrap(), "nor is that among the dead letters");
        bench.reap_all();
    }
    assert_eq!(bench.read(key).unwrap(), vec![7; LONG]);
    bench.is_sound();
}

#[rstest]
fn b50_b51_a_dead_letter_gives_its_place_in_every_quota_back_once_and_takes_it_again(
    #[values(100, LONG)] length: usize,
    #[values(false, true)] restarts: bool,
) {
    let mut bench = bench();
    let again = |bench: Bench| if restarts { bench.restart_after(End::Kill) } else { bench };
    let (key, _) = bench.failed(length);
    assert_eq!((bench.counted(), bench.counts().bytes), ([1, 1, 1], length as u64));
    bench.dead_letter(key).unwrap();
    bench = again(bench);
    bench.reap_all();
    assert_eq!((bench.counted(), bench.counts().bytes), ([0, 0, 0], 0));
    assert_eq!((bench.counts().dead_lettered, bench.counts().dead_letter_bytes), (1, length as u64));
    bench.is_sound();
    bench.reset(key).unwrap();
    bench = again(bench);
    assert_eq!((bench.counted(), bench.counts().bytes), ([1, 1, 1], length as u64));
    assert_eq!(bench.counts().dead_lettered, 0);
    bench.is_sound();
}

#[rstest]
#[case(Scope::Global)]
#[case(Scope::Tenant(crate::world::tenant(0)))]
#[case(Scope::Directory(crate::world::tenant(0), LogicalDir::parse("/in").unwrap()))]
fn b41_b49_a_dead_letter_stays_one_when_the_quota_is_full(#[case] scope: Scope) {
    let mut bench = bench();
    let (key, _) = bench.dead(LONG);
    let before = bench.record(key);
    let store = bench.engine.store.clone();
    bench.run(async move { store.set_limit(scope, Limit::Files(1)).await }).unwrap();
    let in_the_way = bench.write_with("x", WriteOptions::new().directory("/in")).unwrap();
    let refused = bench.reset(key);
    assert!(
        matches!(
            refused,
            Err(Error::TenantQuotaExceeded { used: 1, limit: 1, .. }
                | Error::DirectoryQuotaExceeded { used: 1, limit: 1, .. }
                | Error::GlobalQuotaExceeded { used: 1, limit: 1, .. })
        ),
        "{refused:?}"
    );
    assert_eq!((bench.record(key), bench.areas()), (before, vec![Area::DeadLetters]));
    bench.is_sound();
    bench.delete(in_the_way);
    bench.reap_all();
    bench.reset(key).unwrap();
    assert_eq!(bench.counted(), [1, 1, 1]);
}

#[rstest]
fn b50_a_dead_letter_that_is_purged_never_counts_again(
    #[values(None, Some(End::Kill), Some(End::PowerCut))] restarts: Option<End>,
    #[values(0, 2)] checkpoints: usize,
) {
    let mut bench = bench();
    let (key, _) = bench.dead(LONG);
    bench.delete(key);
    assert_eq!((bench.status(key), bench.counted()), (Some(FileStatus::Deleted), [0, 0, 0]));
    for _ in 0..checkpoints {
        let store = bench.engine.store.clone();
        bench.run(async move { store.checkpoint().await }).unwrap();
    }
    if let Some(end) = restarts {
        bench = bench.restart_after(end);
        assert_eq!(bench.counted(), [0, 0, 0]);
    }
    bench.is_sound();
    bench.reap_all();
    assert_eq!((bench.status(key), bench.addresses()), (None, vec![]));
    assert_eq!((bench.counted(), bench.counts()), ([0, 0, 0], Default::default()));
    bench.is_sound();
}

#[test]
fn b41_a_requeue_on_a_volume_where_nothing_can_be_removed_says_so() {
    let mut bench = bench();
    let (key, _) = bench.failed(LONG);
    assert!(bench.dead_letter(key).unwrap());
    let volume = bench.volume_of(key);
    for number in [0, 1] {
        bench.fault(number, OpKind::Create, Fault::io().for_good());
        bench.fault(number, OpKind::Remove, Fault::io().for_good());
    }
    let pool = bench.pool.clone();
    bench.run(pool.probe_all());
    match bench.reset(key).unwrap_err() {
        Error::VolumeUnavailable { volume: Some(named), .. } => assert_eq!(named, volume),
        other => panic!("{other:?}"),
    }
    bench.world.disk.heal_all();
    bench.run(pool.probe_all());
    bench.reap_all();
    bench.reset(key).unwrap();
    assert_eq!(bench.status(key), Some(FileStatus::Pending));
}

#[test]
fn b76_without_its_volume_a_file_neither_becomes_a_dead_letter_nor_ceases_to_be_one() {
    let mut bench = Bench::open_at({
        let mut world = World::new(76, strict(Durability::Durable));
        world.volumes = 1;
        world
    });
    let (dead, _) = bench.dead(LONG);
    let (failed, _) = bench.failed(LONG);
    let before = (bench.record(dead), bench.record(failed));
    let pool = bench.pool.clone();
    bench.run(pool.unmount(&vol(0))).unwrap();
    assert!(matches!(bench.dead_letter(failed), Err(Error::VolumeUnavailable { .. })));
    assert!(matches!(bench.reset(dead), Err(Error::VolumeUnavailable { .. })));
    assert_eq!((bench.record(dead), bench.record(failed)), before);
    assert_eq!(bench.counted(), [1, 1, 1], "no room is kept");
    bench.run(pool.mount(LocalVolume::new("vol-0", "/vol-0"))).unwrap();
    assert!(bench.dead_letter(failed).unwrap());
    bench.reset(dead).unwrap();
    bench.is_sound();
}

#[test]
fn b76_b27_a_pool_without_volumes_keeps_what_failed_in_the_journal() {
    let mut bench = Bench::open_at({
        let mut world = World::new(76, strict(Durability::Durable)).with_inline(1 << 10);
        world.volumes = 0;
        world
    });
    let (key, _) = bench.failed(100);
    assert!(matches!(bench.dead_letter(key), Err(Error::VolumeUnavailable { .. })));
    assert_eq!(bench.status(key), Some(FileStatus::PermanentlyFailed));
    assert_eq!(bench.read(key).unwrap(), vec![7; 100]);
}

/// Writes, gives up, dead-letters, requeues, gives up, dead-letters and purges, until the disk is gone.
fn story(bench: &mut Bench, length: usize) -> Vec<&'static str> {
    let (pool, scheduler, acme) = (bench.pool.clone(), bench.scheduler.clone(), bench.acme.clone());
    let (sweeper, store) = (bench.engine.sweeper.clone(), bench.engine.store.clone());
    let told = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
    let telling = told.clone();
    let story = async move {
        let tell = |what| telling.lock().push(what);
        let give_up = async || {
            let lease = scheduler.next(&acme).await?.unwrap().lease;
            scheduler.fail(&lease, "no such page").await
        };
        let reap = async || {
            store.sync().await?;
            while sweeper.reap_step().await?.space_freed > 0 {}
            Ok::<_, Error>(())
        };
        let key = pool.write(&acme, vec![7; length], WriteOptions::new()).await?;
        tell("written");
        give_up().await?;
        tell("given up");
        assert!(pool.dead_letter(acme.id(), &key).await?);
        tell("dead");
        reap().await?;
        scheduler.reset(&acme, &key).await?;
        tell("requeued");
        reap().await?;
        give_up().await?;
        assert!(pool.dead_letter(acme.id(), &key).await?);
        tell("dead again");
        pool.delete(&acme, &key).await?;
        tell("purged");
        reap().await?;
        tell("gone");
        Ok::<_, Error>(())
    };
    let _ = bench.poll(2_000, story);
    let told = told.lock();
    told.clone()
}

/// Whatever a crash comes into: one record, one place, counts that are right, and nothing left after a sweep.
#[rstest]
fn b76_b50_a_crash_anywhere_leaves_one_record_in_one_place(
    #[values(End::Kill, End::PowerCut)] end: End,
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[values(100, LONG)] length: usize,
) {
    for seed in [1, 2] {
        let mut at = 0;
        loop {
            let mut bench = seeded(seed, durability);
            bench.world.disk.crash_at(bench.world.disk.ops() + at);
            let told = story(&mut bench, length);
            let survived = !bench.world.disk.is_down();
            let mut bench = bench.restart_after(end);
            let what = format!("seed {seed}, operation {at} after {told:?}");
            let sweeper = bench.engine.sweeper.clone();
            bench.reap_all();
            bench
                .run(async move { sweeper.leftovers(locus_cleanup::SweepOptions::default()).await })
                .unwrap();
            bench.reap_all();
            let (store, acme) = (bench.engine.store.clone(), bench.acme.id().clone());
            let found: Vec<_> =
                [FileStatus::Pending, FileStatus::PermanentlyFailed, FileStatus::DeadLettered]
                    .into_iter()
                    .flat_map(|status| store.page(&acme, status, Duration::ZERO, None, 9).files)
                    .collect();
            assert!(found.len() <= 1, "{what}: {found:?}");
            let kept = durability == Durability::Durable || end == End::Kill;
            let status = found.first().map(|record| record.info.status);
            let expected: &[Option<FileStatus>] = match told.last().filter(|_| kept) {
                None => &[],
                Some(&"written") => &[Some(FileStatus::Pending), Some(FileStatus::PermanentlyFailed)],
                Some(&"given up") => &[Some(FileStatus::PermanentlyFailed), Some(FileStatus::DeadLettered)],
                Some(&"dead") => &[Some(FileStatus::DeadLettered), Some(FileStatus::Pending)],
                Some(&"requeued") => &[
                    Some(FileStatus::Pending),
                    Some(FileStatus::PermanentlyFailed),
                    Some(FileStatus::DeadLettered),
                ],
                Some(&"dead again") => &[Some(FileStatus::DeadLettered), None],
                Some(_) => &[None],
            };
            assert!(expected.is_empty() || expected.contains(&status), "{what}: {status:?}");
            for record in &found {
                assert_eq!(bench.read(record.info.key).unwrap(), vec![7; length], "{what}");
            }
            let on_volumes = found.iter().filter(|record| matches!(record.place, Place::Volume(_)));
            let expected: Vec<_> = on_volumes.map(FileRecord::blob).collect();
            assert_eq!(bench.addresses(), expected, "{what}");
            let counted = u64::from(status.is_some_and(|status| status != FileStatus::DeadLettered));
            assert_eq!(bench.counted()[..2], [counted, counted], "{what}");
            bench.is_sound();
            if survived {
                assert!(told.last() == Some(&"gone") && at > 20, "the story was short: {what}");
                break;
            }
            at += 1;
        }
    }
}

/// What a call that was given up wrote is residue, and nothing else changed; or it happened.
#[rstest]
fn b6_b76_a_dead_letter_whose_future_is_dropped_is_one_or_not(#[values(100, LONG)] length: usize) {
    for polls in 0..60 {
        let mut bench = bench();
        let (key, _) = bench.failed(length);
        let (pool, acme) = (bench.pool.clone(), bench.acme.id().clone());
        let done = bench.poll(polls, async move { pool.dead_letter(&acme, &key).await });
        let status = bench.status(key).unwrap();
        assert!(done.is_none() || status == FileStatus::DeadLettered, "{polls}");
        let (pool, store) = (bench.pool.clone(), bench.engine.store.clone());
        bench.run(async move { while pool.tidy_residue(&*store).await > 0 {} });
        bench.reap_all();
        let record = bench.record(key).unwrap();
        let expected = if record.place == Place::Store { vec![] } else { vec![record.blob()] };
        assert_eq!(bench.addresses(), expected, "{polls}: {status}");
        bench.is_sound();
        if let Some(done) = done {
            assert!(done.unwrap() && polls > 0);
            return;
        }
    }
    panic!("it never came to its end");
}

#[test]
fn b6_b41_a_requeue_whose_future_is_dropped_keeps_no_room() {
    for polls in 0..60 {
        let mut bench = bench();
        let (key, _) = bench.dead(LONG);
        let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
        let done = bench.poll(polls, async move { pool.requeue(&acme, &key).await });
        let counted = u64::from(bench.status(key) == Some(FileStatus::Pending));
        assert_eq!(bench.counted(), [counted; 3], "{polls}");
        bench.is_sound();
        if done.is_some() {
            assert_eq!(counted, 1);
            return;
        }
    }
    panic!("it never came to its end");
}

#[test]
fn b77_a_drain_moves_dead_letters_to_the_dead_letters_of_other_volumes() {
    let mut bench = Bench::open_at(World::new(77, strict(Durability::Durable)));
    let (key, _) = bench.dead(LONG);
    let from = bench.volume_of(key);
    let (pool, sweeper, id) = (bench.pool.clone(), bench.engine.sweeper.clone(), from.clone());
    let reaper = bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
    let report = bench.run_on(async move { pool.drain(&id).await }).unwrap();
    bench.world.stepper.drop_task(reaper);
    assert_eq!((report.moved, report.files_left), (1, 0));
    assert_ne!(bench.volume_of(key), from);
    assert_eq!(bench.areas(), [Area::DeadLetters]);
    assert_eq!(bench.read(key).unwrap(), vec![7; LONG]);
    assert_eq!(bench.status(key), Some(FileStatus::DeadLettered));
    bench.is_sound();
}

#[test]
fn b77_dead_letters_on_a_volume_that_never_comes_back_are_forgotten() {
    let mut bench = Bench::open_at({
        let mut world = World::new(77, strict(Durability::Durable));
        world.volumes = 1;
        world
    });
    let (key, _) = bench.dead(LONG);
    let pool = bench.pool.clone();
    assert_eq!(bench.run_on(async move { pool.retire(&vol(0), Retire::Forget).await }).unwrap(), 1);
    assert_eq!((bench.status(key), bench.counts()), (None, Default::default()));
}

#[test]
fn dead_letters_keep_a_tenant_and_end_with_it() {
    let mut bench = bench();
    let (key, _) = bench.dead(LONG);
    let (store, acme) = (bench.engine.store.clone(), bench.acme.id().clone());
    assert_eq!((store.holdings(&acme).files, store.holdings(&acme).bytes), (1, LONG as u64));
    assert!(matches!(store.begin_leaving(&acme, true), Err(Error::TenantInUse { files: 1, .. })));
    let leaving = store.begin_leaving(&acme, false).unwrap();
    let (ending, sweeper) = (store.clone(), bench.engine.sweeper.clone());
    bench.run(async move {
        assert_eq!(ending.end_files(&leaving, 0, 99).await.unwrap(), (1, None));
        sweeper.emptied(&leaving).await.unwrap();
        ending.forget_tenant(&leaving).await.unwrap();
    });
    assert_eq!((bench.status(key), bench.addresses()), (None, vec![]));
}

/// The copy stops at the first content of the first tenant: the second one's are looked for after its file was moved.
#[test]
fn a_backup_holds_dead_letters_where_its_records_say() {
    let mut bench = Bench::open_at(World::new(78, strict(Durability::Durable)));
    let (dead, _) = bench.dead(LONG);
    let (pool, scheduler, other) = (bench.pool.clone(), bench.scheduler.clone(), bench.other.clone());
    let failed = bench.run(pool.write(&other, vec![8; LONG], WriteOptions::new())).unwrap();
    let leased = bench.run(scheduler.next(&other)).unwrap().unwrap();
    bench.run(scheduler.fail(&leased.lease, "no such page")).unwrap();
    let volumes = [bench.hanging(0), bench.hanging(1)];
    volumes.iter().for_each(|volume| volume.hang(Hang::Open));
    let (store, disk) = (bench.engine.store.clone(), bench.world.disk.clone());
    let into = FreshDir::begin(disk, "/copy").unwrap();
    let backing = store.clone();
    let mut backup = Box::pin(async move {
        let report = backing.backup(&into, BackupContents::Copy).await?;
        into.finish().map(|()| report)
    });
    bench.still_waits(200, backup.as_mut());
    volumes.iter().for_each(|volume| volume.hang(Hang::No));
    assert!(bench.run(pool.dead_letter(other.id(), &failed)).unwrap());
    bench.reap_all();
    assert_eq!(bench.areas().len(), 3, "what is held is not removed");
    volumes.iter().for_each(|volume| volume.go());
    let report = bench.run(backup).unwrap();
    assert_eq!((report.blobs.values().sum::<u64>(), report.damaged), (2, vec![]));
    bench.reap_all();
    assert_eq!(bench.areas(), [Area::DeadLetters, Area::DeadLetters]);
    let Bench { mut world, engine, .. } = bench;
    drop((engine, pool, scheduler, store, volumes));
    world.end(End::Kill);
    (world.dir, world.volumes_dir) = ("/copy".into(), "/copy/volumes".into());
    let mut copy = Bench::open_at(world);
    assert_eq!(copy.status(dead), Some(FileStatus::DeadLettered));
    assert_eq!(copy.read(dead).unwrap(), vec![7; LONG]);
    let pool = copy.pool.clone();
    let info = copy.run(pool.info(&other, &failed)).unwrap().unwrap();
    assert_eq!(info.status, FileStatus::PermanentlyFailed);
    assert_eq!(copy.run(pool.read_range(&other, &failed, 0..u64::MAX)).unwrap(), vec![8; LONG]);
    copy.is_sound();
}

#[test]
fn b41_a_file_that_is_reset_while_it_is_moved_stays_in_the_queue() {
    let mut bench = bench();
    let (key, _) = bench.failed(100); // content of the journal is written to a volume
    let hanging = [bench.hanging(0), bench.hanging(1)];
    hanging.iter().for_each(|volume| volume.hang(Hang::After));
    let (pool, acme) = (bench.pool.clone(), bench.acme.id().clone());
    let mut moved = Box::pin(async move { pool.dead_letter(&acme, &key).await });
    assert!(poll_once(moved.as_mut()).is_pending());
    bench.reset(key).unwrap();
    hanging.iter().for_each(|volume| volume.go());
    assert!(!bench.run(moved).unwrap());
    assert_eq!((bench.status(key), bench.addresses()), (Some(FileStatus::Pending), vec![]));
    bench.is_sound();
}

#[test]
fn b76_only_a_dead_letter_is_purged() {
    let mut bench = bench();
    let (dead, _) = bench.dead(LONG);
    let (failed, _) = bench.failed(LONG);
    let purge = |bench: &mut Bench, key| {
        let (store, acme) = (bench.engine.store.clone(), bench.acme.id().clone());
        bench.run(async move { store.purge(&acme, &key).await })
    };
    assert!(matches!(purge(&mut bench, failed), Err(Error::WrongStatus { .. })));
    purge(&mut bench, dead).unwrap();
    assert!(matches!(purge(&mut bench, dead), Err(Error::WrongStatus { .. })));
    bench.reap_all();
    assert!(matches!(purge(&mut bench, dead), Err(Error::FileNotFound { .. })));
    assert_eq!((bench.status(failed), bench.counted()), (Some(FileStatus::PermanentlyFailed), [1, 1, 1]));
}

#[test]
fn a_reader_that_finds_its_content_dead_lettered_meanwhile_looks_the_place_up_once_more() {
    let mut bench = bench();
    let (key, _) = bench.failed(LONG);
    let hanging = [bench.hanging(0), bench.hanging(1)];
    hanging.iter().for_each(|volume| volume.hang(Hang::Open));
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let mut reading = Box::pin(async move { pool.read(&acme, &key).await?.bytes().await });
    assert!(poll_once(reading.as_mut()).is_pending());
    hanging.iter().for_each(|volume| volume.hang(Hang::No));
    assert!(bench.dead_letter(key).unwrap());
    bench.reap_all();
    hanging.iter().for_each(|volume| volume.go());
    assert_eq!(bench.run(reading).unwrap(), vec![7; LONG]);
}

#[test]
fn b75_a_requeue_whose_name_cannot_be_freed_says_so_and_works_once_it_can() {
    let mut bench = bench();
    let (key, _) = bench.failed(LONG);
    let id = bench.volume_of(key);
    let faults = VolumeFaults::new();
    let inner = bench.engine.registry.take(&id).unwrap();
    bench.engine.registry.insert(Arc::new(FaultyVolume::new(inner, faults.clone()))).unwrap();
    assert!(bench.dead_letter(key).unwrap());
    faults.fail(VolumeOp::Delete, 0, Failing::Refused);
    let sweeper = bench.engine.sweeper.clone();
    let store = bench.engine.store.clone();
    bench.run(store.sync()).unwrap();
    assert_eq!(bench.run(sweeper.reap_step()).unwrap().errors, 1);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let refused = bench.run(async move { pool.requeue(&acme, &key).await }).unwrap_err();
    assert!(
        matches!(&refused, Error::VolumeUnavailable { volume: Some(at), .. } if *at == id),
        "{refused:?}"
    );
    faults.heal();
    bench.world.clock.advance(Duration::from_secs(60));
    assert_eq!(bench.run(sweeper.reap_step()).unwrap().copies_removed, 1);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    bench.run(async move { pool.requeue(&acme, &key).await }).unwrap();
    assert_eq!(bench.status_of(key), Some(FileStatus::Pending));
}
