//! Leases that run out: what is overdue, decisions that come too late, files that kill their workers, clocks that jump.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use locus_core::{
    Clock, Durability, Error, FileKey, FileStatus, Lease, LeaseOptions, MetadataStore, Owner, RetryPolicy,
    Upkeep,
};
use locus_storage::{EngineOptions, LeasedFile, WriteOptions};
use rstest::rstest;

use crate::world::{End, Engine, Records, World, file_of, tenant};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const MOMENT: Duration = Duration::from_micros(1);
const YEAR_MICROS: i64 = 365 * 24 * 60 * 60 * 1_000_000;

fn minute() -> EngineOptions {
    EngineOptions { visibility_timeout: MINUTE, segment_size: 1 << 20, ..EngineOptions::default() }
}

fn is_lost<T: std::fmt::Debug>(answer: &locus_core::Result<T>) -> bool {
    matches!(answer, Err(Error::LeaseLost { .. }))
}

// ---- overdue --------------------------------------------------------------------------------------------------------

#[test]
fn b43_an_overdue_file_is_pending_again_and_only_the_attempt_counted() {
    let mut records = Records::new(1, minute());
    let (late, prompt) = (records.write(), records.write());
    let lease = records.lease().unwrap().lease;
    records.fail(&lease).unwrap();
    records.world.advance(5 * SECOND);
    let lease = records.lease().unwrap().lease;
    assert_eq!((lease.key, lease.attempt), (late, 2));
    let failed_at = records.record(late).unwrap().last_failed_at;
    records.world.advance(MOMENT);
    let longer = records.lease().unwrap().lease;
    assert_eq!(longer.key, prompt);

    records.world.advance(MINUTE - 2 * MOMENT);
    assert_eq!(records.expire(), 0, "not overdue yet");
    assert_eq!(records.status(late), Some(FileStatus::Processing));
    records.world.advance(MOMENT);
    assert_eq!(records.expire(), 1);
    assert_eq!(records.expire(), 0, "moved twice");
    let record = records.record(late).unwrap();
    assert_eq!(
        (record.info.status, record.info.retry_count, record.info.attempts),
        (FileStatus::Pending, 1, 2)
    );
    assert_eq!((record.last_error.as_deref(), record.last_failed_at), (Some("it did not work"), failed_at));
    assert_eq!(record.available_at, None, "it is to be had now");
    assert_eq!(records.status(prompt), Some(FileStatus::Processing), "not overdue: untouched");
    let again = records.lease().unwrap();
    assert_eq!((again.lease.key, again.lease.attempt), (late, 3));
    records.complete(&longer).unwrap();
}

#[test]
fn b43_the_sweep_of_one_tenant_is_bounded_and_reaches_every_tenant() {
    let mut records = Records::new(1, EngineOptions { durability: Durability::Buffered, ..minute() });
    for number in 0..5 {
        records.try_put((0..200).map(|_| file_of(number)).collect()).unwrap();
        let leased =
            records.call(|s| async move { s.lease(&tenant(number), 200, &LeaseOptions::new()).await });
        assert_eq!(leased.unwrap().len(), 200);
    }
    records.world.advance(MINUTE);
    let step = records.call(|store| async move { store.expire(None, 1).await }).unwrap();
    assert!((1..=64).contains(&step), "one step moved {step}");
    assert_eq!(records.expire(), 1_000 - step);
    assert!(records.store.counts().values().all(|counts| counts.pending == 200));
}

#[test]
fn b43_the_sweep_is_woken_at_the_first_deadline() {
    let mut records = Records::new(1, minute());
    records.write();
    records.write();
    records.lease_with(LeaseOptions::new().ttl(HOUR)).unwrap();
    let store = records.store.clone();
    let mut expirable = Box::pin(store.expirable());
    assert!(crate::bench::poll_once(expirable.as_mut()).is_pending());
    // A nearer deadline than the one it sleeps for.
    records.lease().unwrap();
    assert!(crate::bench::poll_once(expirable.as_mut()).is_pending());
    records.world.advance(MINUTE - MOMENT);
    assert!(crate::bench::poll_once(expirable.as_mut()).is_pending());
    records.world.advance(MOMENT);
    assert!(crate::bench::poll_once(expirable.as_mut()).is_ready());
    drop(expirable);
    assert_eq!(records.expire(), 1);
}

// ---- decisions that come too late -----------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy)]
enum Meets {
    Completion,
    Failure,
    Renewal,
    Lease,
    Release,
}

/// A time-out of an overdue lease and something else that is done with the file, at once and in any order.
#[rstest]
fn b44_a_time_out_that_meets_something_else_has_no_effect_live_or_replayed(
    #[values(Meets::Completion, Meets::Failure, Meets::Renewal, Meets::Lease, Meets::Release)] meets: Meets,
) {
    let mut outcomes = BTreeSet::new();
    for seed in 0..40 {
        // With hardly any room for unsynced bytes every call waits before it decides, and the seed says who goes first.
        let options = EngineOptions { durability: Durability::Buffered, max_unsynced_bytes: 1, ..minute() };
        let mut records = Records::new(seed, options);
        records.run_background();
        let key = records.write();
        let lease = records.lease().unwrap().lease;
        records.world.advance(MINUTE);
        let (store, held) = (records.store.clone(), lease.clone());
        let answer = std::rc::Rc::new(std::cell::RefCell::new(None));
        let (told, sweeping) = (answer.clone(), records.store.clone());
        records.world.stepper.spawn(async move {
            let done = match meets {
                Meets::Completion => store.complete(&[held]).await.map(|()| None),
                Meets::Failure => store.fail(&held, "late").await.map(|_| None),
                Meets::Renewal => store.renew(&held, None).await.map(|_| None),
                Meets::Release => store.release(&held).await.map(|()| None),
                Meets::Lease => {
                    let leased = store.lease(&tenant(0), 1, &LeaseOptions::new()).await;
                    leased.map(|mut leased| leased.pop().map(|leased| leased.lease))
                }
            };
            *told.borrow_mut() = Some(done);
        });
        records.world.stepper.spawn(async move {
            sweeping.expire(None, 10).await.unwrap();
        });
        records.settle();
        let answer = answer.take().expect("because everybody came to an end");
        // Whatever the order, and also after a replay: one of two states, and never a mixture.
        let found =
            records.record(key).map(|r| (r.info.status, r.info.retry_count, r.info.attempts)).unwrap();
        let expected = match (meets, &answer) {
            (Meets::Completion, Ok(_)) => (FileStatus::Completed, 0, 1),
            (Meets::Failure, Ok(_)) => (FileStatus::Pending, 1, 1),
            (Meets::Renewal, Ok(_)) => (FileStatus::Processing, 0, 1),
            (Meets::Release, Ok(_)) => (FileStatus::Pending, 0, 0),
            (Meets::Lease, Ok(leased)) => {
                assert!(leased.is_some(), "seed {seed}: the overdue file was not found");
                (FileStatus::Processing, 0, 2)
            }
            // The time-out was first, and that ends what only a holder may do.
            (Meets::Renewal | Meets::Release, Err(Error::LeaseLost { .. })) => (FileStatus::Pending, 0, 1),
            (_, Err(why)) => panic!("seed {seed}: {why:?}"),
        };
        assert_eq!(found, expected, "seed {seed}");
        outcomes.insert(answer.is_ok());
        if found.0 == FileStatus::Processing {
            records.world.advance(MINUTE - MOMENT);
            assert_eq!(records.expire(), 0, "seed {seed}: the new time was not given");
        }
        let delayed = records.record(key).unwrap().available_at;
        let mut records = records.restart(End::Kill);
        let record = records.record(key).unwrap();
        let status = if found.0 == FileStatus::Processing { FileStatus::Pending } else { found.0 };
        let replayed = (record.info.status, record.info.retry_count, record.info.attempts);
        assert_eq!(replayed, (status, found.1, found.2), "seed {seed}: replayed");
        assert_eq!(record.available_at, delayed, "seed {seed}: replayed");
    }
    if matches!(meets, Meets::Renewal | Meets::Release) {
        assert_eq!(outcomes.len(), 2, "only one order was seen");
    }
}

#[test]
fn b44_an_overdue_lease_that_was_issued_anew_is_not_taken_away() {
    let mut records = Records::new(1, minute());
    let key = records.write();
    let old = records.lease().unwrap().lease;
    records.world.advance(MINUTE);
    // The sweeper's schedule still knows the old deadline when the file has a new holder.
    let new = records.lease().unwrap().lease;
    assert_eq!(new.key, key);
    assert_eq!(records.expire(), 0);
    assert!(is_lost(&records.complete(&old)));
    assert_eq!(records.renew(&new).unwrap().token, new.token);
    let mut records = records.restart(End::Kill);
    assert!(is_lost(&records.complete(&old)));
    records.complete(&new).unwrap();
    assert_eq!(records.status(key), Some(FileStatus::Completed));
}

// ---- found by the same call -----------------------------------------------------------------------------------------

#[test]
fn b45_next_any_and_a_batch_find_what_is_overdue_in_the_same_call() {
    let mut records = Records::new(1, minute());
    let keys = records.write_many(3);
    for _ in 0..2 {
        records.lease().unwrap();
    }
    records.world.advance(MINUTE);
    let batch: Vec<FileKey> = records.batch(10).iter().map(|leased| leased.lease.key).collect();
    assert_eq!(batch, keys, "overdue ones and a ready one, in accept order");
    records.world.advance(MINUTE);
    let any = records.lease_any().unwrap().unwrap();
    assert_eq!((any.lease.key, any.lease.attempt), (keys[0], 3));
    let claimed =
        records.call(|s| async move { s.lease_key(&tenant(0), &keys[2], &LeaseOptions::new()).await });
    assert_eq!(claimed.unwrap().lease.attempt, 2);
}

#[test]
fn b45_a_file_whose_deliveries_are_spent_is_not_handed_out_by_that_call() {
    let retry_policy = RetryPolicy { max_retries: 2, ..RetryPolicy::default() };
    let mut records = Records::new(1, EngineOptions { retry_policy, max_deliveries: Some(2), ..minute() });
    let key = records.write();
    let mut last = None;
    for _ in 0..2 {
        last = records.lease();
        records.world.advance(MINUTE);
    }
    let behind = records.write();
    assert_eq!(records.lease().unwrap().lease.key, behind);
    let record = records.record(key).unwrap();
    assert_eq!((record.info.status, record.info.retry_count), (FileStatus::PermanentlyFailed, 0));
    // Its last worker was only slow.
    records.complete(&last.unwrap().lease).unwrap();
    assert_eq!(records.status(key), Some(FileStatus::Completed));
}

// ---- a file that kills its worker -----------------------------------------------------------------------------------

/// Everything that a worker leases in one process, until the poison is among it and kills the process.
fn work(world: &mut World, engine: &Engine, poison: FileKey, batch: usize, done: &mut Vec<FileKey>) -> bool {
    loop {
        let context = engine.tenants[0].clone();
        let leased: Vec<LeasedFile> =
            world.run(engine, engine.scheduler.next_batch(&context, batch)).unwrap();
        if leased.is_empty() {
            return false;
        }
        if leased.iter().any(|file| file.key == poison) {
            return true;
        }
        for file in leased {
            world.run(engine, engine.scheduler.complete(&file.lease)).unwrap();
            done.push(file.key);
        }
    }
}

#[rstest]
fn b46_a_file_that_always_kills_its_worker_is_given_up_and_takes_nobody_along(
    #[values(1, 4, 100)] batch: usize,
    #[values(0, 3, 7)] place: usize,
    #[values(End::Kill, End::PowerCut)] end: End,
) {
    const DELIVERIES: u32 = 6;
    let mut world = World::new(46, EngineOptions { max_deliveries: Some(DELIVERIES), ..minute() });
    let mut engine = world.open().unwrap();
    let mut keys = Vec::new();
    for _ in 0..8 {
        let context = engine.tenants[0].clone();
        keys.push(world.run(&engine, engine.pool.write(&context, "x", WriteOptions::new())).unwrap());
    }
    let poison = keys[place];
    let mut done = Vec::new();
    let mut deaths = 0;
    while work(&mut world, &engine, poison, batch, &mut done) {
        deaths += 1;
        assert!(deaths <= DELIVERIES, "it kills for ever");
        // While it is out, everybody else is served, by other workers, also when they come later.
        if deaths > 2 {
            let context = engine.tenants[0].clone();
            let late = world.run(&engine, engine.pool.write(&context, "x", WriteOptions::new())).unwrap();
            let mut beside = Vec::new();
            while let Some(file) = world.run(&engine, engine.scheduler.next(&context)).unwrap() {
                assert_ne!(file.key, poison, "leased twice");
                world.run(&engine, engine.scheduler.complete(&file.lease)).unwrap();
                beside.push(file.key);
            }
            assert!(beside.contains(&late), "a new file waits for the poison");
            done.extend(beside);
            keys.push(late);
        }
        // What the process was given stays given: only its death ends it.
        world.run(&engine, engine.store.sync()).unwrap();
        drop(engine);
        world.end(end);
        engine = world.open().unwrap();
    }
    assert_eq!(deaths, DELIVERIES, "given up after max_deliveries, neither before nor later");
    let context = engine.tenants[0].clone();
    let location = world.run(&engine, engine.pool.location(&context, &poison)).unwrap().unwrap();
    assert_eq!(location.info.status, FileStatus::PermanentlyFailed);
    assert_eq!((location.info.attempts, location.info.retry_count), (DELIVERIES, 0));
    let counts = engine.store.counts()[context.id()];
    assert_eq!((counts.permanently_failed, counts.pending, counts.processing), (1, 0, 0));
    done.sort_unstable();
    keys.retain(|key| *key != poison);
    keys.sort_unstable();
    assert_eq!(done, keys, "every innocent file was completed, once");
}

#[test]
fn b46_one_suspect_is_out_at_a_time_alone_and_others_pass_it() {
    let mut records = Records::new(1, minute());
    let suspects = records.write_many(3);
    for _ in 0..2 {
        assert_eq!(records.batch(10).len(), 3);
        records = records.restart(End::Kill);
    }
    let others = records.write_many(2);
    let keys =
        |leased: &[locus_core::Leased]| leased.iter().map(|leased| leased.lease.key).collect::<Vec<_>>();
    let out = records.batch(10);
    assert_eq!(keys(&out), suspects[..1], "a suspect is never in a batch, and waits for no empty queue");
    let out = out.into_iter().next().unwrap().lease;
    assert_eq!(keys(&records.batch(10)), others, "two suspects are out");
    assert_eq!(records.lease(), None, "two suspects are out");
    let other = records.write();
    assert_eq!(records.lease().unwrap().lease.key, other, "who comes later passes a waiting suspect");
    // Each way back lets the next one go.
    records.complete(&out).unwrap();
    let out = records.lease().unwrap().lease;
    assert_eq!(out.key, suspects[1]);
    records.fail(&out).unwrap();
    let out = records.lease_any().unwrap().unwrap().lease;
    assert_eq!(out.key, suspects[2]);
    records.world.advance(5 * SECOND);
    assert_eq!(
        records.lease().unwrap().lease.key,
        suspects[1],
        "a failure of its own clears a file of suspicion"
    );
    records.world.advance(MINUTE);
    assert_eq!(records.lease().unwrap().lease.key, suspects[1], "a time-out is no death");
    assert_eq!(records.lease().unwrap().lease.key, suspects[2]);
}

#[test]
fn b46_a_suspect_that_an_outsider_holds_is_still_out_after_a_restart() {
    let mut records = Records::new(2, minute());
    let suspects = records.write_many(2);
    for _ in 0..2 {
        assert_eq!(records.batch(10).len(), 2);
        records = records.restart(End::Kill);
    }
    let out = records.lease_with(LeaseOptions::new().owner(Owner::Outside)).unwrap().lease;
    assert_eq!(out.key, suspects[0]);
    records = records.restart(End::Kill);
    assert_eq!(records.lease(), None, "two suspects are out");
    records.complete(&out).unwrap();
    assert_eq!(records.lease().unwrap().lease.key, suspects[1]);
}

#[test]
fn b46_a_suspect_is_leased_by_its_key_unless_another_is_out() {
    let mut records = Records::new(3, minute());
    let suspects = records.write_many(2);
    for _ in 0..2 {
        assert_eq!(records.batch(10).len(), 2);
        records = records.restart(End::Kill);
    }
    let take = |records: &mut Records, key: FileKey| {
        records.call(|store| async move { store.lease_key(&tenant(0), &key, &LeaseOptions::new()).await })
    };
    let out = take(&mut records, suspects[1]).unwrap().lease;
    let refused = take(&mut records, suspects[0]);
    assert!(matches!(refused, Err(Error::AlreadyProcessing { key }) if key == suspects[0]), "{refused:?}");
    assert_eq!(records.status(suspects[0]), Some(FileStatus::Pending));
    records.complete(&out).unwrap();
    assert_eq!(take(&mut records, suspects[0]).unwrap().lease.key, suspects[0]);
}

// ---- renew and release ----------------------------------------------------------------------------------------------

#[test]
fn b47_a_renewed_lease_is_not_reclaimed_and_a_lost_one_not_renewed() {
    let mut records = Records::new(1, minute());
    let key = records.write();
    let lease = records.lease().unwrap().lease;
    for _ in 0..5 {
        records.world.advance(MINUTE - MOMENT);
        let renewed = records.renew(&lease).unwrap();
        assert_eq!((renewed.token, renewed.attempt), (lease.token, 1));
        assert_eq!(records.expire(), 0);
    }
    let record = records.record(key).unwrap();
    assert!(record.last_heartbeat > record.processing_started_at);
    // Overdue, but nobody noticed: the lease still holds.
    records.world.advance(2 * MINUTE);
    records.renew(&lease).unwrap();
    assert_eq!(records.expire(), 0);
    records.world.advance(MINUTE);
    assert_eq!(records.expire(), 1);
    let lost = records.renew(&lease);
    assert!(matches!(lost, Err(Error::LeaseLost { status: Some(FileStatus::Pending), .. })), "{lost:?}");
    assert!(is_lost(&records.release(&lease)));
    assert_eq!(records.record(key).unwrap().info.attempts, 1);
}

#[rstest]
fn b47_a_released_file_is_ready_at_once_and_its_attempt_given_back(#[values(false, true)] replayed: bool) {
    let mut records = Records::new(1, minute());
    let key = records.write();
    let behind = records.write();
    for _ in 0..20 {
        let lease = records.lease().unwrap().lease;
        assert_eq!((lease.key, lease.attempt), (key, 1), "releasing for ever gives no file up");
        records.release(&lease).unwrap();
        assert!(is_lost(&records.release(&lease)), "released twice");
    }
    if replayed {
        records = records.restart(End::Kill);
    }
    let record = records.record(key).unwrap();
    assert_eq!((record.info.status, record.info.attempts), (FileStatus::Pending, 0));
    assert_eq!(records.lease().unwrap().lease.key, key);
    assert_eq!(records.lease().unwrap().lease.key, behind);
}

// ---- clocks that jump -----------------------------------------------------------------------------------------------

struct Waiting {
    delayed: FileKey,
    leased: Lease,
    ready: FileKey,
}

/// A file that is delayed for 30 hours, one that an outsider holds for 40, and one that is ready.
fn waiting(records: &mut Records) -> Waiting {
    let delayed = records.write();
    let lease = records.lease().unwrap().lease;
    records.fail(&lease).unwrap();
    records.write();
    let ready = records.write();
    let leased = records.lease_with(LeaseOptions::new().owner(Owner::Outside).ttl(40 * HOUR)).unwrap().lease;
    Waiting { delayed, leased, ready }
}

fn patient() -> EngineOptions {
    let retry_policy =
        RetryPolicy { initial_delay: 30 * HOUR, max_delay: 30 * HOUR, ..RetryPolicy::default() };
    EngineOptions { retry_policy, ..minute() }
}

#[rstest]
fn b48_a_wall_clock_that_jumps_a_year_expires_freezes_and_reorders_nothing(
    #[values(-YEAR_MICROS, YEAR_MICROS)] jump: i64,
) {
    let mut records = Records::new(1, patient());
    records.run_background();
    let Waiting { delayed, leased, ready } = waiting(&mut records);
    records.world.clock.jump_wall(jump);
    records.settle();
    assert_eq!(records.expire(), 0);
    assert_eq!(records.status(leased.key), Some(FileStatus::Processing));
    // What is accepted after the jump stands behind what was accepted before it.
    let later = records.write();
    let order: Vec<FileKey> = records.batch(10).iter().map(|leased| leased.lease.key).collect();
    assert_eq!(order, [ready, later]);
    // Delays and deadlines go on as if nothing had been.
    records.world.advance(30 * HOUR - MOMENT);
    let claim = move |records: &mut Records| {
        records.call(|s| async move { s.lease_key(&tenant(0), &delayed, &LeaseOptions::new()).await })
    };
    let early = claim(&mut records);
    let due = records.world.clock.wall().saturating_add(MOMENT);
    assert!(matches!(early, Err(Error::NotDue { available_at, .. }) if available_at == due), "{early:?}");
    records.world.advance(MOMENT);
    assert_eq!(claim(&mut records).unwrap().lease.key, delayed);
    records.world.advance(10 * HOUR - MOMENT);
    records.expire();
    assert_eq!(records.status(leased.key), Some(FileStatus::Processing));
    records.world.advance(MOMENT);
    records.expire();
    assert_eq!(records.status(leased.key), Some(FileStatus::Pending));
}

#[rstest]
#[case::a_year_on(YEAR_MICROS, 24 * HOUR)]
#[case::a_year_back(-YEAR_MICROS, Duration::ZERO)]
#[case::a_day_and_a_bit(25 * 3_600_000_000, 24 * HOUR)]
#[case::five_hours(5 * 3_600_000_000, 5 * HOUR)]
#[case::a_second_back(-1_000_000, Duration::ZERO)]
fn b48_over_a_restart_store_time_moves_by_zero_to_one_day(
    #[case] jump: i64,
    #[case] passed: Duration,
    #[values(End::Kill, End::PowerCut, End::Close)] end: End,
    #[values(false, true)] checkpoint: bool,
) {
    let mut records = Records::new(1, patient());
    let Waiting { delayed, leased, ready } = waiting(&mut records);
    if checkpoint {
        records.checkpoint().unwrap();
    }
    records.sync();
    let world = records.end(end);
    world.clock.jump_wall(jump);
    let mut records = Records::open(world).map_err(|failed| failed.1).unwrap();
    assert_eq!(records.lease().unwrap().lease.key, ready, "nothing else became due");
    // The outsider has its full time again, whatever the clock says.
    assert_eq!(records.renew(&leased).unwrap().token, leased.token);
    records.world.advance(30 * HOUR - passed - MOMENT);
    records.expire();
    let keys = |records: &mut Records| -> BTreeMap<FileKey, u32> {
        records.batch(10).iter().map(|leased| (leased.lease.key, leased.lease.attempt)).collect()
    };
    assert!(!keys(&mut records).contains_key(&delayed), "due too early");
    records.world.advance(MOMENT);
    assert!(keys(&mut records).contains_key(&delayed), "due too late");
}

#[test]
fn b48_the_same_jump_at_many_restarts_never_moves_store_time_back() {
    let mut records = Records::new(1, patient());
    let Waiting { delayed, .. } = waiting(&mut records);
    for turn in 0..10 {
        let world = records.end(if turn % 2 == 0 { End::Kill } else { End::Close });
        world.clock.jump_wall(if turn % 3 == 0 { YEAR_MICROS } else { -YEAR_MICROS });
        records = Records::open(world).map_err(|failed| failed.1).unwrap();
        let due = records.record(delayed).unwrap().available_at;
        match turn {
            // A year on, a year back, a year back, a year on: one day each time that the clock was found ahead.
            0..=2 => assert_eq!(due, Some(records.world.clock.wall().saturating_add(6 * HOUR))),
            _ => assert!(due.is_none_or(|due| due <= records.world.clock.wall()), "turn {turn}: {due:?}"),
        }
    }
    assert_eq!(records.lease().unwrap().lease.key, delayed);
}
