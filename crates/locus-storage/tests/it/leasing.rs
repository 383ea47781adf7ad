//! Handing files out, at the store itself: order, delays, crowds, crashes, tokens, fairness.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use locus_core::{
    Durability, Error, FailOutcome, FileKey, FileStatus, Lease, LeaseOptions, MetadataStore, NewContent,
    NewFile, Outcome, Owner, RetryPolicy, SystemClock, SystemEntropy, Upkeep,
};
use locus_fs::OsDisk;
use locus_storage::{EmbeddedStore, EngineOptions, OpenReport, StoreConfig, VolumeRegistry};
use locus_testkit::{Fault, OpKind};
use rstest::rstest;
use tokio::sync::watch;

use crate::{
    bench::poll_once,
    world::{End, Records, file_of, new_file, put, tenant, volume},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const MOMENT: Duration = Duration::from_micros(1);

/// Small segments, which open quickly.
fn durable() -> EngineOptions {
    EngineOptions { segment_size: 1 << 20, ..EngineOptions::default() }
}

fn buffered() -> EngineOptions {
    EngineOptions { durability: Durability::Buffered, ..durable() }
}

fn is_lost<T: std::fmt::Debug>(answer: &locus_core::Result<T>) -> bool {
    matches!(answer, Err(Error::LeaseLost { .. }))
}

// ---- crowds ---------------------------------------------------------------------------------------------------------

const FILES: usize = 100_000;
const WORKERS: usize = 16;
const TENANTS: usize = 4;

async fn open_real(dir: &Path) -> (Arc<EmbeddedStore>, OpenReport) {
    EmbeddedStore::identify(dir, &OsDisk, &SystemEntropy).unwrap();
    let config = StoreConfig {
        dir: PathBuf::from(dir),
        options: EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() },
        disk: Arc::new(OsDisk),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        volumes: VolumeRegistry::new(),
    };
    let (store, report) = EmbeddedStore::open(config).await.unwrap();
    store.volume_available(&volume(0), true);
    (store, report)
}

/// Leases until all files of all workers together are leased.
async fn work(
    store: Arc<EmbeddedStore>,
    worker: usize,
    leased: Arc<AtomicUsize>,
    done: Arc<watch::Sender<bool>>,
) -> Vec<Lease> {
    let mut leases = Vec::new();
    let mut over = done.subscribe();
    let options = LeaseOptions::new();
    for turn in worker.. {
        let some = match turn % 4 {
            0 => store.lease_any(1, &options, &|_| 1).await,
            1 => store.lease(&tenant(turn / 4 % TENANTS), 1 + turn % 40, &options).await,
            2 => store.lease_any(1 + turn % 17, &options, &|_| 1).await,
            _ => store.lease(&tenant(turn / 4 % TENANTS), 1, &options).await,
        };
        let some = some.unwrap();
        if leased.fetch_add(some.len(), Ordering::AcqRel) + some.len() == FILES {
            done.send_replace(true);
        }
        let none = some.is_empty();
        leases.extend(some.into_iter().map(|leased| leased.lease));
        if *over.borrow_and_update() {
            break;
        }
        if none {
            tokio::select! {
                ready = store.ready_any() => ready.unwrap(),
                changed = over.changed() => changed.unwrap(),
            }
        }
    }
    leases
}

#[test]
fn b87_who_asks_for_a_sync_when_the_threads_have_ended_is_told_and_waits_for_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (store, _) = runtime.block_on(open_real(dir.path()));
    let threads = store.spawn_threads().unwrap();
    let keys = runtime.block_on(put(&store, vec![file_of(0)])).unwrap();
    runtime.block_on(store.delete(&tenant(0), &keys[0], true)).unwrap();
    let mut reapable = Box::pin(store.reapable_ready());
    assert!(poll_once(reapable.as_mut()).is_pending());
    threads.stop();
    assert!(poll_once(reapable.as_mut()).is_pending(), "what is not durable is never reaped");
    let told = runtime.block_on(async { tokio::time::timeout(MINUTE, store.sync()).await });
    assert!(matches!(told, Ok(Err(Error::Poisoned { outcome: Outcome::Unknown }))), "{told:?}");
}

#[test]
fn b18_sixteen_threads_lease_every_one_of_a_hundred_thousand_files_once() {
    let dir = tempfile::tempdir().unwrap();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let (store, _) = runtime.block_on(open_real(dir.path()));
    let threads = store.spawn_threads().unwrap();
    let (barriers, checkpoints) = (store.clone(), store.clone());
    let background = [
        runtime.spawn(async move { barriers.run_barriers().await }),
        runtime.spawn(async move { checkpoints.run_checkpoints().await }),
    ];
    // Writers and workers at once.
    let writers: Vec<_> = (0..TENANTS)
        .map(|number| {
            let store = store.clone();
            runtime.spawn(async move {
                let mut keys = Vec::new();
                for _ in 0..FILES / TENANTS / 500 {
                    keys.extend(put(&store, (0..500).map(|_| file_of(number)).collect()).await.unwrap());
                }
                keys
            })
        })
        .collect();
    let (leased, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(watch::channel(false).0));
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let (store, leased, done) = (store.clone(), leased.clone(), done.clone());
            let handle = runtime.handle().clone();
            std::thread::spawn(move || handle.block_on(work(store, worker, leased, done)))
        })
        .collect();
    let mut written: Vec<FileKey> = Vec::new();
    for writer in writers {
        written.extend(runtime.block_on(writer).unwrap());
    }
    let mut leases = Vec::new();
    for worker in workers {
        leases.extend(worker.join().unwrap());
    }
    let mut keys: Vec<FileKey> = leases.iter().map(|lease| lease.key).collect();
    assert_eq!(keys.len(), FILES);
    keys.sort_unstable();
    written.sort_unstable();
    assert!(keys == written, "what was leased is not what was written");
    assert!(leases.iter().all(|lease| lease.attempt == 1));
    let counts = store.counts();
    assert_eq!(
        counts.values().map(|counts| (counts.pending, counts.processing)).collect::<Vec<_>>(),
        [(0, (FILES / TENANTS) as u64); TENANTS]
    );

    // The process dies with all of them leased: none is lost, and all are to be had again.
    for task in background {
        task.abort();
        let _ = runtime.block_on(task);
    }
    threads.stop();
    drop(store);
    let (store, report) = runtime.block_on(open_real(dir.path()));
    assert_eq!((report.files, report.leases_released, report.dropped), (FILES as u64, FILES as u64, 0));
    assert_eq!(store.counts().values().map(|counts| counts.pending).sum::<u64>(), FILES as u64);
}

// ---- order ----------------------------------------------------------------------------------------------------------

#[rstest]
fn b19_accept_order_is_lease_order_also_after_a_restart(
    #[values(End::Kill, End::PowerCut, End::Close)] end: End,
    #[values(false, true)] checkpoint: bool,
) {
    let mut records = Records::new(1, durable());
    let mut keys = vec![records.write()];
    keys.extend(records.write_many(30));
    keys.push(records.write());
    // What was handed out and came back keeps its place, not that of its return.
    let early = records.batch(3);
    for leased in early.iter().rev() {
        records.release(&leased.lease).unwrap();
    }
    if checkpoint {
        records.checkpoint().unwrap();
    }
    keys.extend(records.write_many(5));
    let mut records = records.restart(end);
    keys.push(records.write());
    let mut leased: Vec<FileKey> = records.batch(20).into_iter().map(|leased| leased.lease.key).collect();
    while let Some(one) = records.lease() {
        leased.push(one.lease.key);
    }
    assert_eq!(leased, keys);
}

#[test]
fn b19_files_back_from_an_absent_volume_come_in_accept_order() {
    let mut records = Records::new(1, durable());
    let on = |number| NewFile {
        content: NewContent::Stored { volume: volume(number), synced: true },
        ..new_file()
    };
    let keys: Vec<FileKey> = (0..20).map(|n| records.put(on(n % 2))).collect();
    records.store.volume_available(&volume(1), false);
    let there: Vec<FileKey> = records.batch(3).into_iter().map(|leased| leased.lease.key).collect();
    assert_eq!(there, [keys[0], keys[2], keys[4]]);
    let mut records = records.restart(End::Kill);
    records.store.volume_available(&volume(1), false);
    assert_eq!(records.lease().unwrap().lease.key, keys[0], "what was interrupted keeps its place");
    records.store.volume_available(&volume(1), true);
    let rest: Vec<FileKey> = records.batch(100).into_iter().map(|leased| leased.lease.key).collect();
    assert_eq!(rest, keys[1..]);
}

#[test]
fn b19_who_waits_is_woken_when_the_volume_returns() {
    let mut records = Records::new(1, durable());
    let key = records.write();
    records.store.volume_available(&volume(0), false);
    assert_eq!(records.lease(), None);
    assert_eq!(records.lease_any().unwrap(), None);
    let (one, any) = (records.store.clone(), records.store.clone());
    let here = tenant(0);
    let mut waits_for_one = Box::pin(async { one.ready(&here).await });
    let mut waits_for_any = Box::pin(async { any.ready_any().await });
    assert!(poll_once(waits_for_one.as_mut()).is_pending());
    assert!(poll_once(waits_for_any.as_mut()).is_pending());
    records.store.volume_available(&volume(0), true);
    assert!(poll_once(waits_for_one.as_mut()).is_ready());
    assert!(poll_once(waits_for_any.as_mut()).is_ready());
    assert_eq!(records.lease_any().unwrap().unwrap().lease.key, key);
}

// ---- delays ---------------------------------------------------------------------------------------------------------

fn delay(initial: Duration) -> EngineOptions {
    let retry_policy = RetryPolicy { initial_delay: initial, max_delay: initial, ..RetryPolicy::default() };
    EngineOptions { retry_policy, visibility_timeout: 1_000 * HOUR, ..durable() }
}

/// One file, failed now, and one behind it that is leased by somebody.
fn failed(records: &mut Records) -> FileKey {
    let key = records.write();
    let lease = records.lease().unwrap().lease;
    assert!(matches!(records.fail(&lease), Ok(FailOutcome::Retry { .. })));
    key
}

#[test]
fn b20_a_failed_file_comes_at_its_time_and_not_before_and_holds_up_nobody() {
    let mut records = Records::new(1, delay(5 * SECOND));
    let key = failed(&mut records);
    let behind = records.write();
    assert_eq!(records.lease().unwrap().lease.key, behind);
    records.world.advance(5 * SECOND - MOMENT);
    assert_eq!(records.lease(), None);
    assert_eq!(records.lease_any().unwrap(), None);
    // With no other event than time itself.
    let (one, any) = (records.store.clone(), records.store.clone());
    let here = tenant(0);
    let mut waits_for_one = Box::pin(async { one.ready(&here).await });
    let mut waits_for_any = Box::pin(async { any.ready_any().await });
    assert!(poll_once(waits_for_one.as_mut()).is_pending());
    assert!(poll_once(waits_for_any.as_mut()).is_pending());
    records.world.advance(MOMENT);
    assert!(poll_once(waits_for_one.as_mut()).is_ready());
    assert!(poll_once(waits_for_any.as_mut()).is_ready());
    assert_eq!(records.lease_any().unwrap().unwrap().lease.key, key);
}

#[rstest]
fn b20_the_remaining_delay_goes_on_over_a_restart(
    #[values(End::Kill, End::PowerCut, End::Close)] end: End,
    #[values(false, true)] checkpoint: bool,
) {
    let mut records = Records::new(1, delay(10 * SECOND));
    let key = failed(&mut records);
    records.world.advance(3 * SECOND);
    if checkpoint {
        records.checkpoint().unwrap();
    }
    let world = records.end(end);
    world.advance(4 * SECOND);
    let mut records = Records::open(world).map_err(|failed| failed.1).unwrap();
    assert!(records.record(key).unwrap().available_at.is_some());
    records.world.advance(3 * SECOND - MOMENT);
    assert_eq!(records.lease(), None);
    records.world.advance(MOMENT);
    let again = records.lease().unwrap();
    assert_eq!((again.lease.key, again.lease.attempt, again.record.info.retry_count), (key, 2, 1));
}

#[rstest]
#[case::killed(End::Kill, HOUR)]
#[case::power_cut(End::PowerCut, HOUR)]
#[case::closed(End::Close, Duration::ZERO)]
fn b20_time_that_passed_in_an_idle_store_has_passed_after_a_restart(
    #[case] end: End,
    #[case] late: Duration,
) {
    // Longer than the most that a restart makes up for.
    let mut records = Records::new(1, delay(50 * HOUR));
    records.run_background();
    failed(&mut records);
    records.pass(49 * HOUR, MINUTE);
    let mut records = records.restart(end);
    records.world.advance(HOUR - MOMENT);
    assert_eq!(records.lease(), None, "not before its time");
    records.world.advance(late + MOMENT);
    assert!(records.lease().is_some(), "not later than an idle store's stamps are old");
}

// ---- much that waits ------------------------------------------------------------------------------------------------

const MANY: usize = 200_000;

/// What one lease call did: records written, operations on the disk, delayed files that joined the ready ones.
fn cost(records: &mut Records) -> (Option<FileKey>, u64, u64, u64) {
    let before = (records.store.statistics().written.0, records.world.disk.ops(), records.counts().delayed);
    let key = records.lease().map(|leased| leased.lease.key);
    let after = (records.store.statistics().written.0, records.world.disk.ops(), records.counts().delayed);
    (key, after.0 - before.0, after.1 - before.1, before.2 - after.2)
}

#[test]
fn b21_a_lease_behind_many_overdue_and_unavailable_files_is_bounded_work() {
    let mut records = Records::new(1, buffered());
    let absent = || NewFile { content: NewContent::Stored { volume: volume(1), synced: true }, ..new_file() };
    for _ in 0..MANY / 1_000 {
        records.try_put((0..1_000).map(|_| absent()).collect()).unwrap();
    }
    records.store.volume_available(&volume(1), false);
    let overdue: BTreeSet<FileKey> = records.write_many(MANY).into_iter().collect();
    let mut leased = 0;
    while leased < MANY {
        leased += records.batch(4_096).len();
    }
    let key = records.write();
    records.sync();

    // Behind all of them.
    let (found, written, ops, _) = cost(&mut records);
    assert_eq!(found, Some(key));
    assert!(written == 1 && ops <= 3, "{written} records, {ops} operations");

    records.world.advance(EngineOptions::default().visibility_timeout - SECOND);
    let fresh = records.write();
    records.world.advance(SECOND);
    for _ in 0..3 {
        let before = records.counts().processing;
        let (found, written, ops, _) = cost(&mut records);
        assert!(found.is_some_and(|key| overdue.contains(&key)), "the oldest comes first");
        assert!(written <= 2 && ops <= 4, "{written} records, {ops} operations");
        assert!(before - records.counts().processing <= 64, "files moved by one call");
    }
    assert_eq!(records.status(fresh), Some(FileStatus::Pending));
}

#[test]
fn b21_a_lease_behind_many_delayed_files_is_bounded_work() {
    const DELAYED: usize = 20_000;
    let mut records = Records::new(1, EngineOptions { durability: Durability::Buffered, ..delay(HOUR) });
    let delayed: BTreeSet<FileKey> = records.write_many(DELAYED).into_iter().collect();
    let mut leases = Vec::new();
    while leases.len() < DELAYED {
        leases.extend(records.batch(4_096).into_iter().map(|leased| leased.lease));
    }
    records.call(|store| async move {
        for lease in &leases {
            store.fail(lease, "later").await.unwrap();
        }
    });
    let key = records.write();
    let (found, written, ops, moved) = cost(&mut records);
    assert_eq!(found, Some(key));
    assert!(written == 1 && ops <= 3 && moved == 0, "{written} records, {ops} operations, {moved} moved");
    records.write();
    records.world.advance(HOUR);
    let (found, written, ops, moved) = cost(&mut records);
    assert!(found.is_some_and(|key| delayed.contains(&key)), "the oldest comes first");
    assert!(written == 1 && ops <= 3 && moved <= 128, "{written} records, {ops} operations, {moved} moved");
}

#[test]
fn b67_a_batch_takes_4096_files_and_not_one_more() {
    let mut records = Records::new(1, durable());
    let files = |count: usize| {
        let short = || NewContent::Stored { volume: locus_core::VolumeId::parse("v").unwrap(), synced: true };
        (0..count).map(|_| NewFile { content: short(), ..new_file() }).collect::<Vec<_>>()
    };
    let refused = records.try_put(files(4_097));
    assert!(matches!(refused, Err(Error::TooLarge { size: 4_097, limit: 4_096, .. })), "{refused:?}");
    assert_eq!(records.counts().files(), 0);
    assert_eq!(records.try_put(files(4_096)).unwrap().len(), 4_096);
}

// ---- no room --------------------------------------------------------------------------------------------------------

/// Fills the journal until not even one file is taken in. No further segment can be made.
fn fill(records: &mut Records) {
    records.settle();
    records.world.disk.fail(
        Fault::no_space()
            .on(OpKind::Create)
            .at(|path| path.to_string_lossy().contains("segment-"))
            .for_good(),
    );
    let mut batch = 500;
    loop {
        match records.try_put((0..batch).map(|_| new_file()).collect()) {
            Ok(_) => {}
            Err(Error::InsufficientStorage { .. }) if batch > 1 => batch /= 2,
            Err(Error::InsufficientStorage { required, available }) => {
                assert!(required > available);
                return;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
}

#[test]
fn b22_without_room_for_the_lease_record_the_files_stay_pending() {
    let mut records = Records::new(1, buffered());
    records.write();
    let first = records.write();
    fill(&mut records);
    // What drains the disk has room where accepts have none, until that is used up as well.
    let held = records.lease().unwrap().lease;
    let mut renewals = 0;
    while records.renew(&held).is_ok() {
        renewals += 1;
    }
    assert!(renewals > 100, "{renewals}");
    let before = records.counts();
    for max in [1, 10, 4_096] {
        let refused = records.try_lease(max, LeaseOptions::new());
        assert!(matches!(refused, Err(Error::InsufficientStorage { .. })), "{refused:?}");
    }
    assert!(matches!(records.lease_any(), Err(Error::InsufficientStorage { .. })));
    let claimed =
        records.call(|s| async move { s.lease_key(&tenant(0), &first, &LeaseOptions::new()).await });
    assert!(matches!(claimed, Err(Error::InsufficientStorage { .. })), "{claimed:?}");
    assert_eq!(records.counts(), before);
    assert!(!records.store.is_poisoned());
    let record = records.record(first).unwrap();
    assert_eq!((record.info.status, record.info.attempts), (FileStatus::Pending, 0));

    // Room comes back, and with it everything, in order and by every way.
    records.world.disk.heal_all();
    assert_eq!(records.lease_any().unwrap().unwrap().lease.key, first);
    assert_eq!(records.batch(100).len(), 100);
}

#[test]
fn b37_without_room_for_the_completion_record_the_lease_goes_on_and_may_try_again() {
    let mut records = Records::new(1, buffered());
    let key = records.write();
    let held = records.lease().unwrap().lease;
    fill(&mut records);
    // What drains the disk has room where accepts have none, until that is used up as well.
    while records.renew(&held).is_ok() {}
    let refused = records.complete(&held);
    assert!(matches!(refused, Err(Error::InsufficientStorage { .. })), "{refused:?}");
    let refused = records.fail(&held);
    assert!(matches!(refused, Err(Error::InsufficientStorage { .. })), "{refused:?}");
    assert!(!records.store.is_poisoned());
    let record = records.record(key).unwrap();
    assert_eq!((record.info.status, record.info.retry_count), (FileStatus::Processing, 0));

    records.world.disk.heal_all();
    records.complete(&held).unwrap();
    assert!(records.status(key).is_none_or(FileStatus::is_over));
}

// ---- what is durable ------------------------------------------------------------------------------------------------

#[test]
fn b23_no_worker_sees_a_file_before_its_accept_is_durable() {
    let mut records = Records::new(1, durable());
    let other = records.put(file_of(1));
    records.settle();
    let store = records.store.clone();
    let mut writing = Box::pin(put(&store, vec![new_file()]));
    assert!(poll_once(writing.as_mut()).is_pending());
    // Somebody else's lease carries the accept into the kernel; that is not enough.
    let options = LeaseOptions::new();
    let mut lease = Box::pin(store.lease_any(1, &options, &|_| 1));
    let std::task::Poll::Ready(leased) = poll_once(lease.as_mut()) else {
        panic!("a lease waits for a sync")
    };
    assert_eq!(leased.unwrap()[0].lease.key, other);
    assert!(store.statistics().written > store.statistics().durable);
    let here = tenant(0);
    for max in [1, 10] {
        let mut lease = Box::pin(store.lease(&here, max, &options));
        let std::task::Poll::Ready(leased) = poll_once(lease.as_mut()) else {
            panic!("a lease waits for a sync")
        };
        assert!(leased.unwrap().is_empty(), "leased before it was durable");
    }
    let mut ready = Box::pin(store.ready(&here));
    assert!(poll_once(ready.as_mut()).is_pending());
    assert!(poll_once(writing.as_mut()).is_pending());
    while store.commit_step() {}
    let std::task::Poll::Ready(keys) = poll_once(writing.as_mut()) else {
        panic!("not confirmed by the sync")
    };
    assert!(poll_once(ready.as_mut()).is_ready());
    drop((writing, ready, lease));
    assert_eq!(records.lease().unwrap().lease.key, keys.unwrap()[0]);
}

#[test]
fn b23_no_completion_is_confirmed_before_it_is_durable() {
    let mut both = BTreeSet::new();
    for seed in 0..20 {
        let mut records = Records::new(seed, durable());
        records.write_many(2);
        let leases: Vec<Lease> = records.batch(2).into_iter().map(|leased| leased.lease).collect();
        records.complete(&leases[0]).unwrap();
        let store = records.store.clone();
        let mut completing = Box::pin(store.complete(&leases[1..]));
        assert!(poll_once(completing.as_mut()).is_pending(), "confirmed without a sync");
        // Written, by somebody else's call, is not durable either.
        records.write_in_passing();
        assert!(poll_once(completing.as_mut()).is_pending(), "confirmed without a sync");
        drop(completing);
        drop(store);
        let mut records = records.restart(End::PowerCut);
        assert_eq!(
            records.status(leases[0].key),
            Some(FileStatus::Completed),
            "what was confirmed is durable"
        );
        let status = records.status(leases[1].key).unwrap();
        assert!(matches!(status, FileStatus::Pending | FileStatus::Completed), "{status}");
        both.insert(status as u8);
    }
    assert_eq!(both.len(), 2, "the power cuts did not show that it had not been durable");
}

#[test]
fn b23_lazy_completions_are_confirmed_when_written_and_never_lose_a_file() {
    let lazy = EngineOptions { complete_durability: Some(Durability::Buffered), ..durable() };
    let mut both = BTreeSet::new();
    for seed in 0..20 {
        let mut records = Records::new(seed, lazy.clone());
        records.write();
        let leases = [records.lease().unwrap().lease];
        let store = records.store.clone();
        assert!(poll_once(Box::pin(store.complete(&leases)).as_mut()).is_ready(), "it waited for a sync");
        drop(store);
        let end = if seed % 4 == 0 { End::Kill } else { End::PowerCut };
        let mut records = records.restart(end);
        let status = records.status(leases[0].key).expect("because its accept was durable");
        assert!(matches!(status, FileStatus::Pending | FileStatus::Completed), "{status}");
        assert!(end == End::PowerCut || status == FileStatus::Completed, "a kill loses nothing");
        both.insert(status as u8);
    }
    assert_eq!(both.len(), 2, "the power cuts did not show that it was lazy");
}

// ---- crashes --------------------------------------------------------------------------------------------------------

#[rstest]
fn b24_after_a_crash_a_file_is_leased_under_the_same_token_or_pending(#[values(false, true)] synced: bool) {
    let mut survived = [0, 0];
    for seed in 0..30 {
        let mut records = Records::new(seed, durable());
        let keys = records.write_many(12);
        let mut leases = Vec::new();
        for turn in 0..12 {
            let owner = if turn % 2 == 0 { Owner::Process } else { Owner::Outside };
            leases.push(records.lease_with(LeaseOptions::new().owner(owner).ttl(MINUTE)).unwrap().lease);
        }
        if synced {
            records.sync();
        }
        records.world.advance(50 * SECOND);
        let mut records = records.restart(End::PowerCut);
        assert_eq!(leases.iter().map(|lease| lease.key).collect::<Vec<_>>(), keys);
        let mut pending = BTreeSet::new();
        for (turn, lease) in leases.iter().enumerate() {
            let record = records.record(lease.key).expect("because its accept was confirmed");
            let held = match record.info.status {
                FileStatus::Processing => true,
                FileStatus::Pending => false,
                other => panic!("seed {seed}: {other}"),
            };
            assert!(!held || turn % 2 == 1, "seed {seed}: a lease of the dead process goes on");
            assert!(held || turn % 2 == 0 || !synced, "seed {seed}: a durable lease of an outsider was lost");
            if turn % 2 == 0 && synced {
                assert_eq!(record.info.attempts, 1, "a delivery that ended with the process counts");
            }
            if !held {
                assert!(is_lost(&records.renew(lease)), "both leased and pending");
                pending.insert(lease.key);
            }
            survived[usize::from(held)] += 1;
        }
        // An outsider has its full time again, to the moment, counted from the opening.
        records.world.advance(MINUTE - MOMENT);
        let ready: BTreeSet<FileKey> = records.batch(100).iter().map(|leased| leased.lease.key).collect();
        assert_eq!(ready, pending);
        records.world.advance(MOMENT);
        let rest = records.batch(100);
        assert_eq!(rest.len(), 12 - pending.len());
        for lease in &leases {
            assert!(is_lost(&records.complete(lease)), "an old token still holds");
        }
    }
    assert!(survived[0] > 0 && survived[1] > 0, "the test saw both outcomes: {survived:?}");
}

#[test]
fn b24_an_outsider_goes_on_under_its_token_after_a_kill() {
    let mut records = Records::new(1, durable());
    records.write();
    let lease = records.lease_with(LeaseOptions::new().owner(Owner::Outside).ttl(MINUTE)).unwrap().lease;
    let mut records = records.restart(End::Kill);
    assert_eq!((records.report.leases_resumed, records.report.leases_released), (1, 0));
    let renewed = records.renew(&lease).unwrap();
    assert_eq!(renewed.token, lease.token);
    let mut records = records.restart(End::Close);
    assert_eq!(records.report.leases_resumed, 1);
    records.complete(&lease).unwrap();
    assert_eq!(records.status(lease.key), Some(FileStatus::Completed));
}

#[test]
fn b25_tokens_never_match_again_whatever_is_lost() {
    for seed in 0..25 {
        let mut records = Records::new(seed, durable());
        let key = records.write();
        let mut old: Vec<Lease> = Vec::new();
        for life in 0..6 {
            let lease = records.lease().unwrap().lease;
            assert_eq!(lease.key, key);
            for before in &old {
                assert_ne!(before.token, lease.token, "seed {seed}: a token was issued twice");
                assert!(before.token.lsn < lease.token.lsn, "seed {seed}: a position was used twice");
                assert!(is_lost(&records.renew(before)), "seed {seed}");
                assert!(is_lost(&records.release(before)), "seed {seed}");
                assert!(is_lost(&records.complete(before)), "seed {seed}");
                assert!(is_lost(&records.fail(before)), "seed {seed}");
            }
            let record = records.record(key).unwrap();
            assert_eq!((record.info.status, record.info.retry_count), (FileStatus::Processing, 0));
            old.push(lease);
            // The wall goes back, the power goes, and with it perhaps the record of the lease.
            let mut world = records.end(if life % 3 == 2 { End::Kill } else { End::PowerCut });
            world.clock.jump_wall(-86_400_000_000);
            world.options.max_deliveries = Some(1_000);
            records = Records::open(world).map_err(|failed| failed.1).unwrap();
        }
    }
}

#[test]
fn b26_a_delayed_file_on_an_absent_volume_hides_none_that_is_due_after_it() {
    let mut records = Records::new(1, delay(5 * SECOND));
    records.put(NewFile { content: NewContent::Stored { volume: volume(1), synced: true }, ..new_file() });
    let absent = records.lease().unwrap().lease;
    let later = records.write();
    let lease = records.lease().unwrap().lease;
    records.fail(&absent).unwrap();
    records.world.advance(SECOND);
    records.fail(&lease).unwrap();
    records.store.volume_available(&volume(1), false);
    assert!(records.lease_any().unwrap().is_none());
    records.world.advance(4 * SECOND);
    assert!(records.lease_any().unwrap().is_none(), "what is due is not there");
    records.world.advance(SECOND);
    assert_eq!(records.lease_any().unwrap().map(|leased| leased.lease.key), Some(later));
}

// ---- fairness -------------------------------------------------------------------------------------------------------

#[test]
fn b29_ten_thousand_idle_tenants_cost_nothing_and_a_hot_one_starves_nobody() {
    const IDLE: usize = 10_000;
    let mut records = Records::new(1, buffered());
    for number in 0..IDLE {
        records.put(file_of(number));
    }
    // Each has its turn once.
    let mut leases = Vec::new();
    while let Some(leased) = records.lease_any().unwrap() {
        leases.push(leased.lease);
    }
    let served: BTreeSet<_> = leases.iter().map(|lease| lease.tenant.clone()).collect();
    assert_eq!((leases.len(), served.len()), (IDLE, IDLE));
    for chunk in leases.chunks(1_000) {
        let chunk = chunk.to_vec();
        records.call(|store| async move { store.complete(&chunk).await }).unwrap();
    }
    assert_eq!(records.reap(), IDLE);
    while records.lease_any().unwrap().is_some() {}

    // Now all of them are idle: nobody looks at any, nothing waits for any, nothing touches the disk.
    let asked = Arc::new(AtomicUsize::new(0));
    let ops = records.world.disk.ops();
    for _ in 0..10 {
        let asked = asked.clone();
        let none = records.call(|store| async move {
            let count = |_: &_| {
                asked.fetch_add(1, Ordering::Relaxed);
                1
            };
            store.lease_any(10, &LeaseOptions::new(), &count).await
        });
        assert!(none.unwrap().is_empty());
    }
    let waiting = records.store.clone();
    let mut ready = Box::pin(waiting.ready_any());
    assert!(poll_once(ready.as_mut()).is_pending());
    assert_eq!((asked.load(Ordering::Relaxed), records.world.disk.ops() - ops), (0, 0));
    assert_eq!(records.world.clock.sleepers(), 0, "somebody waits for a time although nothing is due");
    drop(ready);

    // A tenant with more than it can ever get, and some with one file each.
    records.try_put((0..1_000).map(|_| file_of(7)).collect()).unwrap();
    let modest = [3, 500, 501, 4_242, 9_999];
    for number in modest {
        records.put(file_of(number));
    }
    let mut turns = Vec::new();
    for _ in 0..2 * (modest.len() + 1) {
        turns.push(records.lease_any().unwrap().unwrap().lease.tenant);
        records.put(file_of(7));
    }
    for number in modest {
        let turn = turns.iter().position(|served| *served == tenant(number));
        assert!(
            turn.is_some_and(|turn| turn <= modest.len() + 1),
            "{number} was served at {turn:?}: {turns:?}"
        );
    }
    assert!(turns.iter().filter(|served| **served == tenant(7)).count() >= 2, "the hot one has its share");
}

#[test]
fn b29_two_busy_tenants_take_turns() {
    let mut records = Records::new(1, buffered());
    records.try_put((0..50).map(|_| file_of(0)).collect()).unwrap();
    records.try_put((0..5).map(|_| file_of(1)).collect()).unwrap();
    let turns: Vec<_> = (0..10).map(|_| records.lease_any().unwrap().unwrap().lease.tenant).collect();
    for pair in turns.chunks(2) {
        assert_ne!(pair[0], pair[1], "{turns:?}");
    }
}
