//! Leasing, completing, failing.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::{pin::pin, time::Duration};

use futures_core::Stream;
use locus_core::{
    Error, FailOutcome, FileKey, FileStatus, Lease, LeaseOptions, Lsn, MetadataStore, Owner, Result,
    RetryPolicy, TenantManager, TenantStatus, Timestamp, Token,
};
use locus_storage::{EngineOptions, LEASE_BATCH_MAX, WriteOptions};

use crate::{
    bench::{Bench, poll_once},
    world::World,
};

const SECOND: Duration = Duration::from_secs(1);

/// Leases acme's next file, which must be ready.
fn next(bench: &mut Bench) -> locus_storage::LeasedFile {
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    bench.run(scheduler.next(&acme)).unwrap().expect("a file is ready")
}

fn status(bench: &mut Bench, key: FileKey) -> FileStatus {
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    bench.run(scheduler.status(&acme, &key)).unwrap()
}

/// Retry count, attempts and time of return.
fn counts(bench: &mut Bench, key: FileKey) -> (u32, u32, Option<Timestamp>) {
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let location = bench.run(pool.location(&acme, &key)).unwrap().unwrap();
    (location.info.retry_count, location.info.attempts, location.available_at)
}

fn complete(bench: &mut Bench, lease: &Lease) -> Result<()> {
    let scheduler = bench.scheduler.clone();
    bench.run(scheduler.complete(lease))
}

fn fail(bench: &mut Bench, lease: &Lease) -> Result<FailOutcome> {
    let scheduler = bench.scheduler.clone();
    bench.run(scheduler.fail(lease, "did not work"))
}

fn renew(bench: &mut Bench, lease: &Lease) -> Result<Lease> {
    let scheduler = bench.scheduler.clone();
    bench.run(scheduler.renew(lease))
}

fn is_lost<T: std::fmt::Debug>(answer: &Result<T>, now: Option<Token>, held: Token, is: FileStatus) -> bool {
    matches!(answer, Err(Error::LeaseLost { expected, actual, status, .. })
        if *expected == now && *actual == held && *status == Some(is))
}

fn lost<T: std::fmt::Debug>(answer: Result<T>) {
    assert!(matches!(answer, Err(Error::LeaseLost { .. })), "{answer:?}");
}

/// Lets every lease that was taken for the default time run out.
fn overdue(bench: &Bench) {
    bench.world.advance(EngineOptions::default().visibility_timeout + SECOND);
}

#[test]
fn a_leased_file_says_what_its_worker_needs() {
    let mut bench = Bench::new();
    let options = WriteOptions::new().original_name("a.txt").directory("/in").property("k", "v");
    let key = bench.write_with("hello", options).unwrap();
    let file = next(&mut bench);
    assert_eq!((file.key, file.size, file.attempt, file.retry_count), (key, 5, 1, 0));
    assert_eq!((file.tenant.clone(), file.directory.as_str()), (bench.acme.clone(), "/in"));
    assert_eq!((file.original_name.as_deref(), &*file.properties["k"]), (Some("a.txt"), "v"));
    assert_eq!((file.lease.key, file.lease.attempt), (key, 1));
    assert_eq!(file.location().info.status, FileStatus::Processing);
    assert_eq!(status(&mut bench, key), FileStatus::Processing);
}

#[test]
fn b19_files_come_in_the_order_they_were_accepted() {
    let mut bench = Bench::new();
    let keys = (0..10).map(|number| bench.write(vec![number])).collect::<Vec<_>>();
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let mut leased = vec![next(&mut bench).key];
    leased.extend(bench.run(scheduler.next_batch(&acme, 4)).unwrap().iter().map(|file| file.key));
    leased.extend(bench.run(scheduler.next_batch(&acme, 100)).unwrap().iter().map(|file| file.key));
    assert_eq!(leased, keys);
}

#[test]
fn b20_a_failed_file_comes_back_when_it_is_due_and_keeps_back_nobody() {
    let mut bench = Bench::new();
    let (late, prompt) = (bench.write("late"), bench.write("prompt"));
    let lease = next(&mut bench).lease;
    assert!(matches!(fail(&mut bench, &lease), Ok(FailOutcome::Retry { .. })));
    assert_eq!(next(&mut bench).key, prompt);
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    bench.world.advance(5 * SECOND - Duration::from_micros(1));
    assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
    // At the moment, with no other event: whoever waits is woken by it.
    let file = bench.run_on(scheduler.next_timeout(&acme, 60 * SECOND)).unwrap();
    assert_eq!((file.key, file.attempt, file.retry_count), (late, 2, 1));
}

#[test]
fn b27_an_empty_queue_gives_nothing_and_touches_no_disk() {
    let mut bench = Bench::new();
    bench.commit();
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let ops = bench.world.disk.ops();
    assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
    assert!(bench.run(scheduler.next_batch(&acme, 10)).unwrap().is_empty());
    assert!(bench.run(scheduler.next_any()).unwrap().is_none());
    assert_eq!(bench.world.disk.ops(), ops);
}

#[test]
fn b27_waiting_ends_when_the_time_is_over_and_not_before() {
    let mut bench = Bench::new();
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let mut waiting = Box::pin(scheduler.next_timeout(&acme, 10 * SECOND));
    assert!(poll_once(waiting.as_mut()).is_pending());
    bench.world.advance(9 * SECOND);
    assert!(poll_once(waiting.as_mut()).is_pending());
    bench.world.advance(SECOND);
    match bench.run(waiting) {
        Err(Error::NoFilesAvailable { tenant }) => assert_eq!(tenant, *acme.id()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn waiting_ends_with_a_file_as_soon_as_one_is_there() {
    let mut bench = Bench::new();
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let mut waiting = Box::pin(scheduler.next_timeout(&acme, 10 * SECOND));
    assert!(poll_once(waiting.as_mut()).is_pending());
    let key = bench.write("hello");
    assert_eq!(bench.run(waiting).unwrap().key, key);
}

#[test]
fn who_waits_for_a_tenant_hears_that_it_was_disabled() {
    let mut bench = Bench::new();
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let mut waiting = Box::pin(scheduler.next_timeout(&acme, 10 * SECOND));
    assert!(poll_once(waiting.as_mut()).is_pending());
    let tenants = bench.engine.directory.clone();
    bench.run(tenants.set_status(acme.id(), TenantStatus::Disabled)).unwrap();
    bench.engine.store.tenant_changed(acme.id());
    assert!(matches!(bench.run(waiting), Err(Error::TenantDisabled { .. })));
}

#[test]
fn b27_a_batch_of_none_or_of_too_many_is_an_error_of_the_argument() {
    let mut bench = Bench::new();
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let none = bench.run(scheduler.next_batch(&acme, 0));
    assert!(matches!(none, Err(Error::InvalidArgument { name: "files_max", .. })), "{none:?}");
    assert!(bench.run(scheduler.next_batch(&acme, LEASE_BATCH_MAX)).is_ok());
    let many = bench.run(scheduler.next_batch(&acme, LEASE_BATCH_MAX + 1));
    assert!(matches!(many, Err(Error::TooLarge { .. })));
    let options = LeaseOptions::new().ttl(Duration::ZERO);
    assert!(matches!(bench.run(scheduler.next_with(&acme, options)), Err(Error::InvalidArgument { .. })));
    let options = LeaseOptions::new().name("n".repeat(129));
    assert!(matches!(bench.run(scheduler.next_with(&acme, options)), Err(Error::TooLarge { .. })));
}

#[test]
fn b28_of_several_that_claim_a_key_one_wins() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let claims = (0..5).map(|_| scheduler.lease_key(&acme, &key)).collect();
    let answers = bench.run(locus_core::join_bounded(claims, 5));
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    let losers = answers.iter().filter(|answer| matches!(answer, Err(Error::AlreadyProcessing { .. })));
    assert_eq!(losers.count(), 4);
}

#[test]
fn b28_a_file_that_is_not_due_is_refused_with_its_time() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let lease = next(&mut bench).lease;
    let Ok(FailOutcome::Retry { available_at }) = fail(&mut bench, &lease) else { panic!() };
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    match bench.run(scheduler.lease_key(&acme, &key)) {
        Err(Error::NotDue { key: named, available_at: due }) => assert_eq!((named, due), (key, available_at)),
        other => panic!("{other:?}"),
    }
    bench.world.advance(5 * SECOND);
    assert_eq!(bench.run(scheduler.lease_key(&acme, &key)).unwrap().attempt, 2);
}

#[test]
fn b29_next_any_passes_by_tenants_that_may_not_work() {
    let mut bench = Bench::new();
    bench.write("hello");
    let (pool, scheduler) = (bench.pool.clone(), bench.scheduler.clone());
    let (acme, other) = (bench.acme.clone(), bench.other.clone());
    bench.run(pool.write(&other, "other", WriteOptions::new())).unwrap();
    let tenants = bench.engine.directory.clone();
    bench.run(tenants.set_status(acme.id(), TenantStatus::Suspended)).unwrap();
    assert_eq!(bench.run(scheduler.next_any()).unwrap().unwrap().tenant, other);
    assert!(bench.run(scheduler.next_any()).unwrap().is_none());
    let mut waiting = Box::pin(scheduler.ready_any());
    while poll_once(waiting.as_mut()).is_ready() {
        assert!(bench.run(scheduler.next_any()).unwrap().is_none());
        waiting = Box::pin(scheduler.ready_any());
    }
    bench.run(tenants.set_status(acme.id(), TenantStatus::Enabled)).unwrap();
    bench.engine.store.tenant_changed(acme.id());
    bench.run(waiting).unwrap();
    assert_eq!(bench.run(scheduler.next_any()).unwrap().unwrap().tenant, acme);
}

#[test]
fn b30_a_lease_is_completed_twice_or_at_once_and_counts_once() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let lease = next(&mut bench).lease;
    let scheduler = bench.scheduler.clone();
    let calls = (0..3).map(|_| scheduler.complete(&lease)).collect();
    for answer in bench.run(locus_core::join_bounded(calls, 3)) {
        answer.unwrap();
    }
    complete(&mut bench, &lease).unwrap();
    assert_eq!(status(&mut bench, key), FileStatus::Completed);
    assert_eq!((bench.counts().completed, bench.counts().files()), (1, 1));
    let store = bench.engine.store.clone();
    let reap = bench.engine.sweeper.reap_step();
    let done = bench.world.stepper.block_on(reap, || store.commit_step() | store.keep_step()).unwrap();
    assert_eq!((done.completed_removed, bench.counts().files()), (1, 0));
    // The record is gone, and completing again is still a success without effect.
    complete(&mut bench, &lease).unwrap();
}

#[test]
fn b31_a_late_completion_is_taken_while_nobody_else_has_the_file() {
    let mut bench = Bench::new();
    let (failed, timed_out) = (bench.write("failed"), bench.write("timed out"));
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let leases = bench.run(scheduler.next_batch(&acme, 2)).unwrap();
    fail(&mut bench, &leases[0].lease).unwrap();
    overdue(&bench);
    let sweeper = &bench.engine.sweeper;
    let store = bench.engine.store.clone();
    let step =
        bench.world.stepper.block_on(sweeper.expire_step(), || store.commit_step() | store.keep_step());
    assert_eq!(step.unwrap().timed_out_reset, 1);
    assert_eq!(status(&mut bench, timed_out), FileStatus::Pending);
    for (lease, key) in leases.iter().map(|file| &file.lease).zip([failed, timed_out]) {
        complete(&mut bench, lease).unwrap();
        assert_eq!(status(&mut bench, key), FileStatus::Completed);
    }
    overdue(&bench);
    assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
}

#[test]
fn b31_a_late_completion_of_a_file_given_up_is_taken_and_after_a_reset_it_is_lost() {
    let retry_policy = RetryPolicy { max_retries: 1, ..RetryPolicy::default() };
    let mut bench = Bench::with(EngineOptions { retry_policy, ..EngineOptions::default() }, 2);
    let (first, second) = (bench.write("first"), bench.write("second"));
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let leases = bench.run(scheduler.next_batch(&acme, 2)).unwrap();
    for file in &leases {
        assert_eq!(fail(&mut bench, &file.lease).unwrap(), FailOutcome::GivenUp);
    }
    assert_eq!(status(&mut bench, first), FileStatus::PermanentlyFailed);
    complete(&mut bench, &leases[0].lease).unwrap();
    assert_eq!(status(&mut bench, first), FileStatus::Completed);
    bench.run(scheduler.reset(&acme, &second)).unwrap();
    assert_eq!(counts(&mut bench, second), (0, 0, None));
    lost(complete(&mut bench, &leases[1].lease));
    lost(fail(&mut bench, &leases[1].lease));
    assert_eq!(next(&mut bench).key, second);
}

#[test]
fn b32_who_was_overtaken_has_lost_the_lease() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let first = next(&mut bench).lease;
    overdue(&bench);
    let second = next(&mut bench).lease;
    assert_eq!((second.key, second.attempt), (key, 2));
    let now = Some(second.token);
    let before = counts(&mut bench, key);
    assert!(is_lost(&complete(&mut bench, &first), now, first.token, FileStatus::Processing));
    assert!(is_lost(&fail(&mut bench, &first), now, first.token, FileStatus::Processing));
    assert!(is_lost(&renew(&mut bench, &first), now, first.token, FileStatus::Processing));
    assert_eq!(counts(&mut bench, key), before);
    fail(&mut bench, &second).unwrap();
    lost(complete(&mut bench, &first));
    lost(fail(&mut bench, &first));
    assert_eq!(counts(&mut bench, key).0, 1);
    complete(&mut bench, &second).unwrap();
}

#[test]
fn b33_a_token_that_was_never_issued_is_lost() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let lease = next(&mut bench).lease;
    let mut forged = lease.clone();
    forged.token.lsn = Lsn(lease.token.lsn.0 + 1);
    lost(complete(&mut bench, &forged));
    lost(fail(&mut bench, &forged));
    lost(renew(&mut bench, &forged));
    forged.token = lease.token;
    forged.token.epoch.random ^= 1;
    lost(complete(&mut bench, &forged));
    assert_eq!(status(&mut bench, key), FileStatus::Processing);
    complete(&mut bench, &lease).unwrap();
}

#[test]
fn b34_a_lease_failed_twice_counts_once() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let lease = next(&mut bench).lease;
    fail(&mut bench, &lease).unwrap();
    let once = counts(&mut bench, key);
    bench.world.advance(SECOND);
    assert_eq!(fail(&mut bench, &lease).unwrap(), FailOutcome::NoEffect);
    assert_eq!(counts(&mut bench, key), once);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let location = bench.run(pool.location(&acme, &key)).unwrap().unwrap();
    assert_eq!((location.info.retry_count, location.last_error.as_deref()), (1, Some("did not work")));
}

#[test]
fn b35_failing_after_completing_has_no_effect() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let lease = next(&mut bench).lease;
    complete(&mut bench, &lease).unwrap();
    assert_eq!(fail(&mut bench, &lease).unwrap(), FailOutcome::NoEffect);
    assert_eq!(status(&mut bench, key), FileStatus::Completed);
    lost(renew(&mut bench, &lease));
}

#[test]
fn b36_a_race_of_completing_and_failing_ends_completed() {
    for complete_first in [true, false] {
        let mut bench = Bench::new();
        let key = bench.write("hello");
        let lease = next(&mut bench).lease;
        let scheduler = bench.scheduler.clone();
        let complete = pin!(scheduler.complete(&lease));
        let fail = pin!(scheduler.fail(&lease, "no"));
        bench.run(async {
            if complete_first {
                let (completed, failed) = tokio::join!(complete, fail);
                assert!(completed.is_ok() && failed.is_ok());
            } else {
                let (failed, completed) = tokio::join!(fail, complete);
                assert!(completed.is_ok() && failed.is_ok());
            }
        });
        assert_eq!(status(&mut bench, key), FileStatus::Completed);
        assert_eq!((bench.counts().completed, bench.counts().files()), (1, 1));
        overdue(&bench);
        let acme = bench.acme.clone();
        assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
    }
}

#[test]
fn a_batch_of_completions_is_taken_wholly_or_not_at_all() {
    let mut bench = Bench::new();
    for number in 0..3 {
        bench.write(vec![number]);
    }
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let files = bench.run(scheduler.next_batch(&acme, 3)).unwrap();
    let mut leases = files.iter().map(|file| file.lease.clone()).collect::<Vec<_>>();
    let good = leases.clone();
    leases[2].token.lsn = Lsn(leases[2].token.lsn.0 + 7);
    lost(bench.run(scheduler.complete_batch(&leases)));
    assert_eq!((bench.counts().processing, bench.counts().completed), (3, 0));
    bench.run(scheduler.complete_batch(&good)).unwrap();
    bench.run(scheduler.complete_batch(&[])).unwrap();
    assert_eq!((bench.counts().processing, bench.counts().completed), (0, 3));
}

#[test]
fn b41_reset_makes_a_delayed_file_pending_and_refuses_what_it_must() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let lease = next(&mut bench).lease;
    let leased = bench.run(scheduler.reset(&acme, &key));
    assert!(matches!(leased, Err(Error::AlreadyProcessing { .. })));
    fail(&mut bench, &lease).unwrap();
    bench.run(scheduler.reset(&acme, &key)).unwrap();
    let file = next(&mut bench);
    assert_eq!((file.key, file.attempt, file.retry_count), (key, 1, 0));
    complete(&mut bench, &file.lease).unwrap();
    let over = bench.run(scheduler.reset(&acme, &key));
    assert!(matches!(over, Err(Error::WrongStatus { status: FileStatus::Completed, .. })), "{over:?}");
}

#[test]
fn b42_an_unknown_key_has_no_status_and_its_lease_ends_without_effect() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let mut lease = next(&mut bench).lease;
    lease.key = FileKey::generate(Timestamp::from_micros(0), &[9; 10]);
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let unknown = bench.run(scheduler.status(&acme, &lease.key));
    assert!(matches!(unknown, Err(Error::FileNotFound { key }) if key == lease.key));
    complete(&mut bench, &lease).unwrap();
    assert_eq!(fail(&mut bench, &lease).unwrap(), FailOutcome::NoEffect);
    lost(renew(&mut bench, &lease));
    assert_eq!(status(&mut bench, key), FileStatus::Processing);
}

#[test]
fn b45_what_ran_out_is_handed_out_by_the_same_call_that_finds_nothing_else() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let first = next(&mut bench).lease;
    overdue(&bench);
    let again = next(&mut bench);
    assert_eq!((again.key, again.attempt, again.retry_count), (key, 2, 0));
    assert_ne!(again.lease.token, first.token);
}

#[test]
fn b47_a_renewed_lease_does_not_run_out_and_a_released_one_costs_nothing() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let options = LeaseOptions::new().ttl(10 * SECOND).owner(Owner::Outside);
    let file = bench.run(scheduler.next_with(&acme, options)).unwrap().unwrap();
    bench.world.advance(9 * SECOND);
    let renewed = renew(&mut bench, &file.lease).unwrap();
    assert!(renewed.deadline > file.lease.deadline);
    bench.world.advance(9 * SECOND);
    assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
    let longer = bench.run(scheduler.renew_for(&renewed, 60 * SECOND)).unwrap();
    bench.world.advance(59 * SECOND);
    assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
    assert!(matches!(
        bench.run(scheduler.renew_for(&longer, Duration::ZERO)),
        Err(Error::InvalidArgument { .. })
    ));
    bench.run(scheduler.release(&longer)).unwrap();
    assert_eq!(counts(&mut bench, key).1, 0);
    assert_eq!(next(&mut bench).attempt, 1);
    lost(bench.run(scheduler.release(&longer)));
}

#[test]
fn b6_a_dropped_next_leaves_nothing_leased_and_no_attempt_spent() {
    for polls in 0..10 {
        let mut bench = Bench::new();
        let key = bench.write("hello");
        let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
        let got = bench.poll(polls, scheduler.next(&acme));
        bench.commit();
        if got.is_none() {
            assert_eq!(status(&mut bench, key), FileStatus::Pending);
            assert_eq!(counts(&mut bench, key).1, 0);
        }
        let waited = bench.poll(polls, scheduler.next_timeout(&acme, SECOND));
        bench.commit();
        if got.is_none() && waited.is_none() {
            assert_eq!(next(&mut bench).attempt, 1);
        }
    }
}

#[test]
fn b6_a_lease_that_is_dropped_before_it_is_written_is_given_back() {
    let mut bench = Bench::open_at(World::new(6, EngineOptions::default()).with_inline(64 << 10));
    let key = bench.write("hello");
    // More than a caller writes for others: it waits for the committer, and so does all that comes after it.
    let (pool, scheduler, acme) = (bench.pool.clone(), bench.scheduler.clone(), bench.acme.clone());
    let write = |_| Box::pin(pool.write(&acme, vec![7; 60 << 10], WriteOptions::new()));
    let mut writing: Vec<_> = (0..6).map(write).collect();
    assert!(writing.iter_mut().all(|writing| poll_once(writing.as_mut()).is_pending()));
    let mut leasing = Box::pin(scheduler.next(&acme));
    assert!(poll_once(leasing.as_mut()).is_pending());
    drop(leasing);
    bench.commit();
    assert_eq!(status(&mut bench, key), FileStatus::Pending);
    assert_eq!(counts(&mut bench, key).1, 0);
    let leased = next(&mut bench);
    assert_eq!((leased.key, leased.attempt), (key, 1));
}

#[test]
fn a_stream_gives_files_as_they_come_and_ends_with_its_error() {
    let mut bench = Bench::new();
    let first = bench.write("first");
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let mut stream = scheduler.stream(&acme);
    assert_eq!(bench.run(stream.next()).unwrap().unwrap().key, first);
    let mut waiting = Box::pin(stream.next());
    assert!(poll_once(waiting.as_mut()).is_pending());
    // A dropped wait loses nothing.
    drop(waiting);
    let second = bench.write("second");
    assert_eq!(bench.run(stream.next()).unwrap().unwrap().key, second);
    let tenants = bench.engine.directory.clone();
    bench.run(tenants.set_status(acme.id(), TenantStatus::Suspended)).unwrap();
    let mut stream = pin!(stream);
    let ended = bench.run(std::future::poll_fn(|context| stream.as_mut().poll_next(context)));
    assert!(matches!(ended, Some(Err(Error::TenantDisabled { .. }))), "{ended:?}");
    assert!(bench.run(std::future::poll_fn(|context| stream.as_mut().poll_next(context))).is_none());
}
