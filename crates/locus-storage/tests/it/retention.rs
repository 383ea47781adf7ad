//! Completed files that are kept for a while.

use std::time::Duration;

use locus_core::{FileKey, FileStatus, LogicalDir, MetadataStore, Place, Scope, Upkeep};
use locus_storage::{BackupContents, EngineOptions, FreshDir, Retire, VerifyLevel};
use rstest::rstest;

use crate::{
    bench::{Bench, poll_once, vol},
    world::{End, Records, World, tenant},
};

const RETENTION: Duration = Duration::from_secs(3_600);
const SHORT: Duration = Duration::from_secs(1);

fn keeping() -> EngineOptions {
    EngineOptions { completed_retention: RETENTION, ..EngineOptions::default() }
}

impl Records {
    fn completed(&mut self) -> FileKey {
        self.world.advance(SHORT);
        self.write();
        let leased = self.lease().unwrap();
        self.complete(&leased.lease).unwrap();
        leased.record.info.key
    }

    /// How many are handed out now; they are given back.
    fn reapable(&mut self) -> usize {
        self.sync();
        self.call(|store| async move {
            let files = store.reapable(None, 1_000).await.unwrap();
            let count = files.len();
            store.not_reaped(files);
            count
        })
    }
}

#[test]
fn b74_a_completed_file_goes_when_it_is_old_enough_and_not_before() {
    let mut records = Records::new(741, keeping());
    let key = records.completed();
    records.world.advance(RETENTION - SHORT);
    assert_eq!((records.reapable(), records.status(key)), (0, Some(FileStatus::Completed)));
    records.world.advance(SHORT);
    assert_eq!((records.reap(), records.status(key)), (1, None));
}

#[test]
fn b74_a_deleted_file_goes_at_once() {
    let mut records = Records::new(742, keeping());
    let key = records.write();
    records.call(|store| async move { store.delete(&tenant(0), &key, false).await }).unwrap();
    assert_eq!(records.reap(), 1);
}

#[test]
fn b74_b51_a_file_that_is_kept_counts_until_it_goes() {
    let mut records = Records::new(743, keeping());
    records.completed();
    let everywhere =
        [Scope::Global, Scope::Tenant(tenant(0)), Scope::Directory(tenant(0), LogicalDir::root())];
    assert_eq!((records.counts().completed, records.counts().files()), (1, 1));
    assert!(everywhere.iter().all(|scope| records.used(scope) == 1));
    records.world.advance(RETENTION);
    records.reap();
    assert!(everywhere.iter().all(|scope| records.used(scope) == 0));
}

#[rstest]
fn b74_the_rest_of_the_time_goes_on_over_a_restart(
    #[values(End::Kill, End::PowerCut, End::Close)] end: End,
    #[values(false, true)] from_a_checkpoint: bool,
) {
    let mut records = Records::new(744, keeping());
    let key = records.completed();
    if from_a_checkpoint {
        records.checkpoint().unwrap();
        records.checkpoint().unwrap();
    }
    records.world.advance(RETENTION / 2);
    records.write(); // tells the disk the time
    let mut records = records.restart(end);
    assert_eq!((records.reapable(), records.status(key)), (0, Some(FileStatus::Completed)));
    records.world.advance(RETENTION / 2 - SHORT);
    assert_eq!(records.reapable(), 0);
    records.world.advance(SHORT);
    assert_eq!((records.reap(), records.status(key)), (1, None));
}

#[test]
fn b74_another_retention_holds_from_the_next_opening_on_for_what_is_kept() {
    let mut records = Records::new(745, keeping());
    let key = records.completed();
    let mut world = records.end(End::Close);
    world.options.completed_retention = Duration::ZERO;
    let mut records = Records::open(world).unwrap_or_else(|failed| panic!("{:?}", failed.1));
    assert_eq!((records.reap(), records.status(key)), (1, None));
}

#[test]
fn b74_whoever_reaps_is_woken_when_it_is_due_and_not_before() {
    let mut records = Records::new(746, keeping());
    let store = records.store.clone();
    let mut woken = Box::pin(store.reapable_ready());
    assert!(poll_once(woken.as_mut()).is_pending());
    records.completed();
    records.world.advance(RETENTION - SHORT);
    assert!(poll_once(woken.as_mut()).is_pending());
    records.world.advance(SHORT);
    assert!(poll_once(woken.as_mut()).is_ready());
}

#[test]
fn b74_settled_waits_for_what_is_due_and_for_nothing_else() {
    let mut records = Records::new(747, keeping());
    let kept = records.completed();
    records.call(|store| async move { store.settled().await }).unwrap();
    assert_eq!(records.status(kept), Some(FileStatus::Completed));
    records.world.advance(RETENTION);
    let store = records.store.clone();
    let mut settled = Box::pin(store.settled());
    for _ in 0..8 {
        assert!(poll_once(settled.as_mut()).is_pending());
        while records.store.commit_step() | records.store.keep_step() {}
    }
    assert_eq!(records.reap(), 1);
    records.call(|_| settled).unwrap();
}

#[test]
fn b51_numbers_fit_while_files_are_kept_and_as_they_go() {
    let mut bench = Bench::open_at(World::new(748, keeping()).with_inline(1 << 10));
    for content in [vec![1; 100], vec![2; 4_000]] {
        bench.write(content);
    }
    finish_all(&mut bench);
    for _ in 0..2 {
        let report = bench.verify(VerifyLevel::Contents);
        assert!(report.findings.is_empty(), "{report:?}");
        bench.world.advance(RETENTION);
    }
    assert_eq!(reap(&mut bench), 2);
    assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
}

/// Leases and completes everything.
fn finish_all(bench: &mut Bench) {
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    bench.run(async move {
        while let Some(file) = scheduler.next(&acme).await.unwrap() {
            scheduler.complete(&file.lease).await.unwrap();
        }
    });
}

fn reap(bench: &mut Bench) -> u64 {
    let (sweeper, store) = (bench.engine.sweeper.clone(), bench.engine.store.clone());
    bench.run(async move {
        store.sync().await.unwrap();
        sweeper.reap_step().await.unwrap().completed_removed
    })
}

#[rstest]
fn b74_a_file_that_is_kept_can_be_read_until_it_goes(#[values(100, 4_000)] length: usize) {
    let mut bench = Bench::open_at(World::new(749, keeping()).with_inline(1 << 10));
    let key = bench.write(vec![7; length]);
    finish_all(&mut bench);
    bench.world.advance(RETENTION - SHORT);
    assert_eq!((reap(&mut bench), bench.read(key).unwrap()), (0, vec![7; length]));
    bench.world.advance(SHORT);
    assert_eq!((reap(&mut bench), bench.blobs()), (1, vec![]));
    assert!(bench.read(key).is_err());
}

#[test]
fn b74_deleting_a_file_that_is_kept_ends_its_time() {
    let mut bench = Bench::with(keeping(), 2);
    let key = bench.write(vec![7; 4_000]);
    finish_all(&mut bench);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    bench.run(async move { pool.delete(&acme, &key).await }).unwrap();
    assert_eq!((reap(&mut bench), bench.blobs()), (1, vec![]));
    // Nobody remembers it when its time would have been over.
    bench.world.advance(RETENTION);
    assert_eq!(reap(&mut bench), 0);
    assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
}

#[test]
fn b74_settled_waits_for_what_is_due_and_held() {
    let mut records = Records::new(752, keeping());
    records.completed();
    let hold = records.store.hold_contents();
    records.world.advance(RETENTION);
    let store = records.store.clone();
    let mut settled = Box::pin(store.settled());
    for _ in 0..8 {
        assert!(poll_once(settled.as_mut()).is_pending());
        while records.store.commit_step() | records.store.keep_step() {}
    }
    drop(hold);
    assert_eq!(records.reap(), 1);
    records.call(|_| settled).unwrap();
}

#[test]
fn b77_a_drain_moves_what_is_kept() {
    let mut bench = Bench::with(keeping(), 2);
    let key = bench.write(vec![7; 4_000]);
    finish_all(&mut bench);
    let from = bench.volume_of(key);
    let (pool, sweeper) = (bench.pool.clone(), bench.engine.sweeper.clone());
    let reaper = bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
    let id = from.clone();
    let report = bench.run_on(async move { pool.drain(&id).await }).unwrap();
    bench.world.stepper.drop_task(reaper);
    assert_eq!((report.moved, report.files_left), (1, 0));
    assert_ne!(bench.volume_of(key), from);
    assert_eq!(bench.read(key).unwrap(), vec![7; 4_000]);
    assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
    bench.world.advance(RETENTION);
    assert_eq!((reap(&mut bench), bench.blobs()), (1, vec![]), "once, wherever it went");
}

#[test]
fn b77_what_is_kept_on_a_volume_that_never_comes_back_is_forgotten() {
    let mut bench = Bench::with(keeping(), 1);
    bench.write(vec![7; 4_000]);
    finish_all(&mut bench);
    let pool = bench.pool.clone();
    let forgotten = bench.run_on(async move { pool.retire(&vol(0), Retire::Forget).await });
    assert_eq!((forgotten.unwrap(), bench.engine.store.files_on(&vol(0))), (1, 0));
    assert_eq!(bench.counts().files(), 0);
}

#[test]
fn b88_what_is_kept_moves_out_of_the_journal_like_what_lives() {
    let mut bench = Bench::open_at(World::new(750, keeping()).with_inline(1 << 10));
    let key = bench.write(vec![7; 100]);
    finish_all(&mut bench);
    let (store, acme) = (bench.engine.store.clone(), bench.acme.clone());
    let moving = store.begin_move(acme.id(), &key).expect("because it is kept");
    drop(moving);
    bench.world.advance(RETENTION);
    reap(&mut bench);
    assert!(store.begin_move(acme.id(), &key).is_none());
}

#[test]
fn b74_b38_a_file_whose_time_is_over_while_a_backup_runs_is_in_it() {
    let mut bench = Bench::with(keeping(), 1);
    let key = bench.write(vec![7; 4_000]);
    finish_all(&mut bench);
    let hold = bench.engine.store.hold_contents();
    bench.world.advance(RETENTION);
    assert_eq!(reap(&mut bench), 0);
    let (store, disk) = (bench.engine.store.clone(), bench.world.disk.clone());
    let report = bench.run(async move {
        let fresh = FreshDir::begin(disk, "/copy")?;
        store.backup(&fresh, BackupContents::Copy).await
    });
    assert_eq!(report.unwrap().blobs.values().sum::<u64>(), 1);
    drop(hold);
    assert_eq!(reap(&mut bench), 1);
    assert!(bench.read(key).is_err());
}

#[test]
fn b74_the_place_of_a_file_that_is_kept_is_told() {
    let mut records = Records::new(751, keeping());
    let key = records.completed();
    let record = records.record(key).unwrap();
    assert_eq!(record.place, Place::Volume(vol(0)));
    assert_eq!(record.available_at, None, "since when it is completed is not when it is due");
}
