//! Locks of entities: by themselves, and as a manager gives them out.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Waker},
    time::Duration,
};

use locus_core::{Clock, SystemClock, Timestamp};
use locus_fs::{Disk, EntityLock, LockError, LockGuard, LockHolder, LockManager, LockMode, OsDisk};
use locus_testkit::{Fault, ManualClock, OpKind, SimDisk, Stepper};
use rstest::rstest;

use LockMode::{Exclusive, Shared};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const SECOND: Duration = Duration::from_secs(1);

fn path() -> &'static Path {
    Path::new("/e.lock")
}

fn take(disk: &dyn Disk, mode: LockMode) -> Result<EntityLock, LockError> {
    EntityLock::try_acquire(disk, path(), mode, NOW)
}

/// A simulated disk with a clock and a manager on it, as a process has them.
fn bench(seed: u64) -> (Arc<SimDisk>, Arc<ManualClock>, LockManager) {
    let (disk, clock) = (SimDisk::new(seed), ManualClock::new());
    disk.create_dir(Path::new("/locks")).unwrap();
    let manager = LockManager::new(disk.clone(), clock.clone(), "/locks".into());
    (disk, clock, manager)
}

#[rstest]
#[case::simulated(SimDisk::new(1), Path::new("/e.lock").to_owned())]
#[case::real(Arc::new(OsDisk), tempfile::tempdir().unwrap().keep().join("e.lock"))]
fn two_handles_exclude_each_other_and_the_holder_is_named(
    #[case] disk: Arc<dyn Disk>,
    #[case] path: PathBuf,
) {
    let take = |mode| EntityLock::try_acquire(&*disk, &path, mode, NOW);
    let held = take(Exclusive).unwrap();
    for mode in [Shared, Exclusive] {
        let Err(LockError::AlreadyLocked { path: at, holder: Some(holder) }) = take(mode) else {
            panic!("{mode:?} was not refused");
        };
        assert_eq!(
            (at, holder.process, holder.since, holder.mode),
            (path.clone(), std::process::id(), NOW, Exclusive)
        );
        assert!(!holder.host.is_empty());
    }
    held.release().unwrap();
    let readers = [take(Shared).unwrap(), take(Shared).unwrap()];
    let refused = take(Exclusive).unwrap_err().to_string();
    assert!(refused.contains(&format!("is locked by process {} on ", std::process::id())), "{refused}");
    assert!(refused.ends_with("since 2026-01-01T00:00:00Z, shared"), "{refused}");
    drop(readers);
    drop(take(Exclusive).unwrap());
    let _ = std::fs::remove_dir_all(path.parent().filter(|dir| dir.parent().is_some()).unwrap_or(&path));
}

#[test]
fn a_lock_of_a_killed_process_is_free_at_once() {
    let disk = SimDisk::new(1);
    let dead = take(&*disk, Exclusive).unwrap();
    disk.kill();
    let held = take(&*disk, Exclusive).unwrap();
    drop(dead);
    assert!(matches!(take(&*disk, Shared), Err(LockError::AlreadyLocked { .. })));
    drop(held);
}

#[test]
fn a_file_that_takes_no_note_is_locked_all_the_same_and_names_nobody() {
    let disk = SimDisk::new(1);
    drop(EntityLock::try_acquire(&*disk, path(), Exclusive, Timestamp::from_micros(7)).unwrap());
    disk.fail(Fault::io().on(OpKind::Write));
    let held = take(&*disk, Exclusive).unwrap();
    let refused = take(&*disk, Exclusive).unwrap_err();
    assert!(matches!(refused, LockError::AlreadyLocked { holder: None, .. }), "{refused}");
    assert_eq!(refused.to_string(), "/e.lock is locked");
    drop(held);
}

#[test]
fn what_the_disk_refuses_is_told_by_its_name() {
    let disk = SimDisk::new(1);
    let absent = EntityLock::try_acquire(&*disk, Path::new("/no/e.lock"), Shared, NOW).unwrap_err();
    assert!(matches!(absent, LockError::LockFailed { .. }), "{absent}");
    disk.fail(Fault::io().on(OpKind::Lock));
    let refused = take(&*disk, Exclusive).unwrap_err();
    assert!(matches!(refused, LockError::LockFailed { .. }), "{refused}");

    let held = take(&*disk, Exclusive).unwrap();
    disk.fail(Fault::io().on(OpKind::Unlock));
    let refused = held.release().unwrap_err();
    assert!(matches!(refused, LockError::UnlockFailed { .. }), "{refused}");
    drop(take(&*disk, Exclusive).unwrap());
}

#[test]
fn the_holder_removes_the_file_when_it_holds_it_alone() {
    let disk = SimDisk::new(1);
    let refused = take(&*disk, Shared).unwrap().remove(&*disk).unwrap_err();
    assert!(
        matches!(refused, LockError::LockFailed { ref source, .. } if source.kind() == io::ErrorKind::InvalidInput)
    );
    assert!(disk.metadata(path()).is_ok());
    take(&*disk, Exclusive).unwrap().remove(&*disk).unwrap();
    assert_eq!(disk.metadata(path()).unwrap_err().kind(), io::ErrorKind::NotFound);
}

/// Each opens the file before it locks it, so that the file is often gone by then.
#[test]
fn nobody_holds_the_lock_of_a_file_that_was_removed() {
    let dir = tempfile::tempdir().unwrap();
    let (path, inside) = (dir.path().join("e.lock"), AtomicBool::new(false));
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| {
                let mut held = 0;
                while held < 1_000 {
                    match EntityLock::try_acquire(&OsDisk, &path, Exclusive, NOW) {
                        Err(LockError::AlreadyLocked { .. }) => std::thread::yield_now(),
                        lock => {
                            let lock = lock.unwrap();
                            assert!(!inside.swap(true, Ordering::SeqCst), "two hold it");
                            inside.store(false, Ordering::SeqCst);
                            lock.remove(&OsDisk).unwrap();
                            held += 1;
                        }
                    }
                }
            });
        }
    });
}

#[test]
fn who_waits_tries_less_and_less_often_and_once_more_when_the_time_is_over() {
    let (disk, clock) = (SimDisk::new(1), ManualClock::new());
    let held = take(&*disk, Exclusive).unwrap();
    disk.listen();
    let mut stepper = Stepper::new(1);
    let shared: Arc<dyn Disk> = disk.clone();
    let tried_at = RefCell::new(Vec::new());
    let tries = || disk.heard().iter().filter(|(kind, _)| *kind == OpKind::Lock).count();
    let waited = stepper.block_on(
        EntityLock::acquire(&shared, &*clock, path(), Exclusive, Some(Duration::from_millis(200))),
        || {
            tried_at.borrow_mut().push(clock.monotonic().as_millis());
            assert_eq!(tries(), tried_at.borrow().len(), "one try at a time");
            clock.advance_to_next()
        },
    );
    let Err(LockError::LockTimeout { holder: Some(holder), waited, .. }) = waited else {
        panic!("{waited:?}")
    };
    assert_eq!((holder.process, waited), (std::process::id(), Duration::from_millis(200)));
    assert_eq!(tried_at.into_inner(), [0, 1, 3, 7, 15, 31, 63, 127, 191], "and once at 200");
    assert_eq!((tries(), clock.monotonic().as_millis()), (10, 200));
    drop(held);
}

#[test]
fn who_waits_gets_the_lock_when_it_is_let_go_and_without_a_limit_waits_for_ever() {
    let (disk, clock) = (SimDisk::new(1), ManualClock::new());
    let held = Cell::new(Some(take(&*disk, Exclusive).unwrap()));
    let shared: Arc<dyn Disk> = disk.clone();
    let got = Stepper::new(1).block_on(EntityLock::acquire(&shared, &*clock, path(), Shared, None), || {
        if clock.monotonic() > 3_600 * SECOND {
            held.take();
        }
        clock.advance_to_next()
    });
    assert_eq!(got.unwrap().mode(), Shared);
}

#[tokio::test]
async fn who_stops_waiting_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, clock) = (dir.path().join("e.lock"), SystemClock::new());
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    for _ in 0..50 {
        let mut cx = Context::from_waker(Waker::noop());
        // Its try is under way on another thread when nobody waits for the answer any more.
        let given_up = EntityLock::acquire(&disk, &clock, &path, Exclusive, None);
        drop(pin!(given_up).poll(&mut cx));
        drop(EntityLock::acquire(&disk, &clock, &path, Exclusive, None).await.unwrap());
    }
}

#[test]
fn any_number_of_tasks_share_an_entity_and_nobody_writes_beside_them() {
    let (_, _, manager) = bench(1);
    let mut stepper = Stepper::new(1);
    let name = Path::new("aa/e");
    let mut readers: Vec<_> =
        (0..500).map(|_| stepper.block_on(manager.try_acquire(name, Shared), || false).unwrap()).collect();
    let refused = stepper.block_on(manager.try_acquire(name, Exclusive), || false).unwrap_err();
    assert!(matches!(refused, LockError::AlreadyLocked { holder: Some(_), .. }), "{refused}");
    let last = readers.pop().unwrap();
    drop(readers);
    assert!(stepper.block_on(manager.try_acquire(name, Exclusive), || false).is_err());
    let clone = last.clone();
    last.release().unwrap();
    assert!(stepper.block_on(manager.try_acquire(name, Exclusive), || false).is_err(), "a clone holds on");
    drop(clone);
    assert_eq!(stepper.block_on(manager.try_acquire(name, Exclusive), || false).unwrap().mode(), Exclusive);
}

#[test]
fn managers_of_two_processes_exclude_each_other() {
    let (disk, clock, here) = bench(1);
    let there = LockManager::new(disk, clock.clone(), "/locks".into());
    let mut stepper = Stepper::new(1);
    let name = Path::new("aa/e");
    let reads = stepper.block_on(there.acquire(name, Shared, None), || false).unwrap();
    drop(stepper.block_on(here.try_acquire(name, Shared), || false).unwrap());
    let refused = stepper
        .block_on(here.acquire(name, Exclusive, Some(SECOND)), || clock.advance_to_next())
        .unwrap_err();
    assert!(matches!(refused, LockError::LockTimeout { waited: SECOND, .. }), "{refused}");
    drop(reads);
    drop(stepper.block_on(here.try_acquire(name, Exclusive), || false).unwrap());
}

#[test]
fn work_is_done_with_the_lock_and_not_without_it() {
    let (disk, clock, manager) = bench(5);
    let elsewhere = LockManager::new(disk, clock.clone(), "/locks".into());
    let mut stepper = Stepper::new(5);
    let name = Path::new("aa/e");
    let done = Arc::new(AtomicBool::new(false));
    let (other, seen) = (elsewhere.clone(), done.clone());
    let work = move |guard: LockGuard| {
        assert_eq!((guard.name(), guard.mode()), (name, Exclusive));
        let refused = Stepper::new(1).block_on(other.try_acquire(name, Shared), || false);
        assert!(matches!(refused, Err(LockError::AlreadyLocked { .. })));
        seen.store(true, Ordering::SeqCst);
        guard
    };
    // Its directory is made; afterwards it is there; then another one has it first.
    for turn in 0..3 {
        let held =
            (turn == 2).then(|| stepper.block_on(elsewhere.try_acquire(name, Shared), || false).unwrap());
        if held.is_some() {
            let refused = manager.acquire_then(name, Exclusive, Some(SECOND), work.clone());
            let refused = stepper.block_on(refused, || clock.advance_to_next()).unwrap_err();
            assert!(matches!(refused, LockError::LockTimeout { waited: SECOND, .. }), "{refused}");
            assert!(!done.load(Ordering::SeqCst));
        }
        let (mut held, start) = (held, clock.monotonic());
        let got = stepper.block_on(manager.acquire_then(name, Exclusive, None, work.clone()), || {
            if clock.monotonic() > start + SECOND {
                held = None;
            }
            clock.advance_to_next()
        });
        assert!(done.swap(false, Ordering::SeqCst));
        drop(got.unwrap());
    }
    drop(stepper.block_on(elsewhere.try_acquire(name, Exclusive), || false).unwrap());
}

#[test]
fn work_of_who_goes_before_the_lock_is_taken_is_not_done() {
    let dir = tempfile::tempdir().unwrap();
    let manager = LockManager::new(Arc::new(OsDisk), Arc::new(SystemClock::new()), dir.path().into());
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_time().build();
    let runtime = runtime.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let work = || {
        let done = done.clone();
        manager.acquire_then(Path::new("e"), Exclusive, None, move |_| done.store(true, Ordering::SeqCst))
    };
    // The only thread that may block is taken, until whoever wants the lock is gone.
    let (gate, shut) = std::sync::mpsc::channel::<()>();
    let taken = runtime.spawn_blocking(move || shut.recv());
    let _entered = runtime.enter();
    {
        let goes = pin!(work());
        assert!(goes.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(gate);
    assert!(runtime.block_on(taken).unwrap().is_err());
    drop(runtime.block_on(manager.acquire(Path::new("e"), Exclusive, None)).unwrap());
    assert!(!done.load(Ordering::SeqCst));
    runtime.block_on(work()).unwrap();
    assert!(done.load(Ordering::SeqCst));
}

#[test]
fn tasks_of_one_process_wait_in_the_order_in_which_they_came() {
    for seed in 0..20 {
        let (_, clock, manager) = bench(seed);
        let mut stepper = Stepper::new(seed);
        let held = stepper.block_on(manager.acquire(Path::new("e"), Shared, None), || false).unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        // A reader behind a writer waits for it, or writers would wait for ever.
        for (number, mode) in [Exclusive, Shared, Exclusive].into_iter().enumerate() {
            let (manager, order) = (manager.clone(), order.clone());
            stepper.spawn(async move {
                let guard = manager.acquire(Path::new("e"), mode, None).await.unwrap();
                order.borrow_mut().push(number);
                drop(guard);
            });
            stepper.run_until_idle();
        }
        assert!(order.borrow().is_empty());
        drop(held);
        stepper.run_until_idle();
        assert_eq!(*order.borrow(), [0, 1, 2], "seed {seed}");
        assert_eq!(clock.sleepers(), 0, "nobody of this process had to try again");
    }
}

#[test]
fn who_waits_for_another_task_has_the_time_that_was_given_and_may_go() {
    let (_, clock, manager) = bench(1);
    let mut stepper = Stepper::new(1);
    let name = Path::new("e");
    let held = stepper.block_on(manager.acquire(name, Exclusive, None), || false).unwrap();
    let waited = stepper.block_on(manager.acquire(name, Exclusive, Some(SECOND)), || clock.advance_to_next());
    let Err(LockError::LockTimeout { holder: Some(LockHolder { process, .. }), waited, path }) = waited
    else {
        panic!("{waited:?}");
    };
    assert_eq!((process, waited, clock.monotonic()), (std::process::id(), SECOND, SECOND));
    assert_eq!(path, Path::new("/locks/e"));

    let patient = manager.clone();
    let waiting = stepper.spawn(async move { drop(patient.acquire(Path::new("e"), Shared, None).await) });
    stepper.run_until_idle();
    assert!(stepper.drop_task(waiting));
    drop(held);
    drop(stepper.block_on(manager.try_acquire(name, Exclusive), || false).unwrap());
}

#[test]
fn a_thousand_entities_are_locked_from_64_tasks_while_one_of_them_is_held_and_waited_for() {
    let (disk, clock, manager) = bench(7);
    let elsewhere = LockManager::new(disk, clock.clone(), "/locks".into());
    let mut stepper = Stepper::new(7);
    let name = |entity: usize| PathBuf::from(format!("{:02x}/{entity}", entity % 16));
    // One is held by this process and one by another, and there are queues for both.
    let here = stepper.block_on(manager.acquire(&name(0), Exclusive, None), || false).unwrap();
    let there = stepper.block_on(elsewhere.acquire(&name(1), Exclusive, None), || false).unwrap();
    let queue: Vec<_> = (0..16)
        .map(|number| {
            let manager = manager.clone();
            stepper.spawn(
                async move { drop(manager.acquire(&name(number % 2), Exclusive, None).await.unwrap()) },
            )
        })
        .collect();
    stepper.run_until_idle();

    let taken = Rc::new(RefCell::new(BTreeSet::new()));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (manager, taken) = (manager.clone(), taken.clone());
            stepper.spawn(async move {
                for entity in (2 + task..1_000).step_by(64) {
                    let guard = manager.acquire(&name(entity), Exclusive, None).await.unwrap();
                    assert!(taken.borrow_mut().insert(entity));
                    guard.release().unwrap();
                }
            })
        })
        .collect();
    stepper.run_until_idle();
    assert!(tasks.iter().all(|task| stepper.is_done(*task)), "nobody waits for who waits");
    assert_eq!((taken.borrow().len(), clock.monotonic()), (998, Duration::ZERO));
    assert!(queue.iter().all(|task| !stepper.is_done(*task)));

    drop((here, there));
    let closed = manager.close();
    stepper.block_on(closed, || clock.advance_to_next());
    assert!(queue.iter().all(|task| stepper.is_done(*task)), "the queues went on, too");
}

#[test]
fn a_closed_manager_gives_out_no_lock_and_waits_for_those_it_gave_out() {
    let (_, _, manager) = bench(1);
    let mut stepper = Stepper::new(1);
    let held = stepper.block_on(manager.acquire(Path::new("e"), Shared, None), || false).unwrap();
    let closing = manager.clone();
    let closed = stepper.spawn(async move { closing.close().await });
    stepper.run_until_idle();
    assert!(!stepper.is_done(closed));
    let refused = stepper.block_on(manager.try_acquire(Path::new("other"), Shared), || false).unwrap_err();
    assert!(matches!(refused, LockError::Closed { .. }), "{refused}");
    drop(held);
    stepper.run_until_idle();
    assert!(stepper.is_done(closed));
}

#[test]
fn a_guard_says_what_it_holds_and_removes_its_file_when_it_is_the_last() {
    let (disk, clock, manager) = bench(1);
    let mut stepper = Stepper::new(1);
    let guard = stepper.block_on(manager.acquire(Path::new("aa/e"), Exclusive, None), || false).unwrap();
    let other = LockManager::new(disk.clone(), clock, "/locks".into());
    assert_eq!((guard.name(), guard.is_of(&manager), guard.is_of(&other)), (Path::new("aa/e"), true, false));
    let clone = guard.clone();
    guard.remove().unwrap();
    assert!(disk.metadata(Path::new("/locks/aa/e")).is_ok());
    clone.remove().unwrap();
    assert!(disk.metadata(Path::new("/locks/aa/e")).is_err());
}
