//! Reservations: never more than there is, and all of it comes back, also from callers who vanish.

use std::{
    iter,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use locus_core::{Error, LogicalDir, MetadataStore, Scope};
use shuttle::{future, thread};

use crate::{
    EngineOptions,
    journal::{Journal, Use},
    world::{Log, Mark, World, file, join, room, tenant, vanish},
};

const SEGMENT_BYTES: u64 = 8 << 10;
/// Records that each caller reserves room for at once: two callers find room side by side, more do not.
const RECORDS: [usize; 10] = [8; 10];

/// How many records there is room for now.
fn rooms(journal: &Arc<Journal>) -> usize {
    iter::from_fn(|| journal.reserve_now(8)).collect::<Vec<_>>().len()
}

/// Callers who want more room than there is, wait for each other, and vanish at any moment.
pub fn room_in_the_log() {
    let log = Log::new(SEGMENT_BYTES, 8 << 20);
    let before = rooms(&log.journal);
    assert!((2 * RECORDS.len()..4 * RECORDS.len()).contains(&before), "room for {before} records");
    let held = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (journal, held) = (Arc::clone(&log.journal), Arc::clone(&held));
            future::spawn(async move {
                for _ in 0..2 {
                    let room =
                        journal.reserve(Use::Essential, &RECORDS).await.expect("because some comes back");
                    let now = held.fetch_add(RECORDS.len() as u64, Ordering::SeqCst) + RECORDS.len() as u64;
                    assert!(now as usize <= before, "{now} rooms are held, and there were {before}");
                    thread::yield_now();
                    held.fetch_sub(RECORDS.len() as u64, Ordering::SeqCst);
                    drop(room);
                }
            })
        })
        .collect();
    callers[..2].iter().for_each(vanish);
    for caller in callers {
        let _ = future::block_on(caller);
    }
    assert_eq!(rooms(&log.journal), before, "room for so many records came back");
    assert_eq!(promised(&log.journal), (0, 0, 0));
}

/// Callers who append under a bound of pending bytes so small that they wait for each other's writes, in segments so small
/// that they wait for the keeper; some vanish.
pub fn room_for_those_who_append() {
    let mut log = Log::new(SEGMENT_BYTES, 64).with_committer().with_keeper();
    let callers: Vec<_> = (0..3u8)
        .map(|caller| {
            let journal = Arc::clone(&log.journal);
            future::spawn(async move {
                for number in 0..3 {
                    // More than the records need: the rest goes back.
                    let mut room =
                        journal.reserve(Use::Accept, &[8, 1_000]).await.expect("because the disk has room");
                    let mark = Mark::new(caller, number);
                    let lsn =
                        journal.append(&mut room, mark.bytes().to_vec(), 0).expect("because it had room").lsn;
                    drop(room);
                    if number == 1 {
                        journal.confirm_durable(lsn).await.expect("because nothing fails");
                    }
                }
            })
        })
        .collect();
    vanish(&callers[0]);
    for caller in callers {
        let _ = future::block_on(caller);
    }
    log.stop();
    assert_eq!(promised(&log.journal), (0, 0, 0), "promised to nobody who is there");
}

/// What the log says of itself: bytes promised, those who wait for room, and how much they wait for.
fn promised(journal: &Journal) -> (u64, u64, u64) {
    let said = format!("{journal:?}");
    let number = |name: &str| {
        let rest = said.split_once(name).expect("because the log says it").1;
        rest.split([',', ' ']).next().and_then(|number| number.parse().ok()).expect("because it is a number")
    };
    (number(" reserved: "), number(" room_waiters: "), number(" waited_bytes: "))
}

/// Files that all tenants together may have, and each of them.
const GLOBAL: u64 = 3;
const EACH: u64 = 2;

/// Writers of two tenants under limits that they cannot all stay below; some vanish with a reservation, or while they wait
/// for their record.
pub fn shares_of_quotas() {
    let options =
        EngineOptions { global_quota: Some(GLOBAL), tenant_quota: Some(EACH), ..EngineOptions::default() };
    let mut world = World::new(options).with_threads();
    let writers: Vec<_> = (0..5)
        .map(|writer| {
            let store = Arc::clone(&world.store);
            let tenant = tenant(writer % 2);
            future::spawn(async move {
                let reservation = match room(&store, &tenant).await {
                    Ok(reservation) => reservation,
                    Err(Error::TenantQuotaExceeded { .. } | Error::GlobalQuotaExceeded { .. }) => return,
                    Err(why) => panic!("{why}"),
                };
                if writer < 4 {
                    store.accept(vec![(file(&tenant), reservation)]).await.expect("because nothing fails");
                }
            })
        })
        .collect();
    let store = Arc::clone(&world.store);
    let watcher = thread::spawn(move || {
        for _ in 0..4 {
            let all = store.usage(&Scope::Global).files;
            assert!(all <= GLOBAL, "{all} files where {GLOBAL} may be");
            for number in 0..2 {
                let files = store.usage(&Scope::Tenant(tenant(number))).files;
                assert!(files <= EACH, "{files} files where {EACH} may be");
            }
        }
    });
    writers[..2].iter().for_each(vanish);
    for writer in writers {
        let _ = future::block_on(writer);
    }
    join(watcher);
    // What is left can be reserved, to the last file, and not one more.
    let store = &world.store;
    let files = |number| store.usage(&Scope::Tenant(tenant(number))).files;
    let (first, second) = (files(0), files(1));
    let all = store.usage(&Scope::Global).files;
    assert_eq!(all, first + second);
    let mut kept = Vec::new();
    for number in 0..2 {
        while let Ok(reservation) = future::block_on(room(store, &tenant(number))) {
            kept.push(reservation);
        }
    }
    let left = (EACH - first + EACH - second).min(GLOBAL - all);
    assert_eq!(kept.len() as u64, left, "with {first} and {second} files");
    drop(kept);
    let reserved = future::block_on(store.reserve(&tenant(0), &LogicalDir::root(), None, None));
    assert_eq!(reserved.is_ok(), files(0) < EACH && all < GLOBAL);
    drop(reserved);
    world.stop();
}
