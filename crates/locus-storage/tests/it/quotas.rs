//! Quotas at the engine: crowds at a limit, counts over replay and crashes, what counts, limits that change.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use locus_core::{
    DirectoryQuota, Durability, Error, FileStatus, LeaseOptions, Limit, LogicalDir, MetadataStore, NewFile,
    Reserved, Scope, TenantCounts, Upkeep,
};
use locus_storage::{EmbeddedStore, EngineOptions, WriteOptions};
use rstest::rstest;

use crate::world::{End, Engine, Records, World, file_of, new_file, put, tenant};

fn dir(path: &str) -> LogicalDir {
    LogicalDir::parse(path).unwrap()
}

fn in_dir(path: &str) -> NewFile {
    NewFile { directory: dir(path), ..new_file() }
}

fn directory_quota(pattern: &str, max_files: u64) -> DirectoryQuota {
    DirectoryQuota { pattern: pattern.into(), max_files, max_bytes: None, enabled: true }
}

impl Records {
    fn limit(&mut self, scope: &Scope, limit: Limit) {
        let scope = scope.clone();
        self.call(|store| async move { store.set_limit(scope, limit).await }).unwrap();
    }

    /// Used and limit that a refusal says; `None` when the file was taken in.
    fn refusal(&mut self, file: NewFile) -> Option<(u64, u64)> {
        self.try_put(vec![file]).err().map(|why| refused(&why))
    }
}

fn refused(why: &Error) -> (u64, u64) {
    match *why {
        Error::TenantQuotaExceeded { used, limit, .. }
        | Error::DirectoryQuotaExceeded { used, limit, .. }
        | Error::GlobalQuotaExceeded { used, limit, .. } => (used, limit),
        ref other => panic!("{other:?}"),
    }
}

// ---- crowds ---------------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Tenant,
    Directory,
    Subtree,
    Global,
    Bytes,
}

const LIMIT: u64 = 40;

fn limited(over: Over) -> EngineOptions {
    let options = EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() };
    match over {
        Over::Tenant => EngineOptions { tenant_quota: Some(LIMIT), ..options },
        Over::Global => EngineOptions { global_quota: Some(LIMIT), ..options },
        // Files of seven bytes: room for exactly so many of them.
        Over::Bytes => EngineOptions { global_quota_bytes: Some(LIMIT * 7 + 6), ..options },
        Over::Subtree => EngineOptions { subtree_quotas: vec![directory_quota("*/in", LIMIT)], ..options },
        Over::Directory => {
            EngineOptions { directory_quotas: vec![directory_quota("tenant-0/in", LIMIT)], ..options }
        }
    }
}

/// Writes until it is refused for the `refusals`th time; says how many were taken in. Each takes its room, does
/// something else, and only then brings the record.
fn crowd(store: &Arc<EmbeddedStore>, over: Over, threads: usize, refusals: usize) -> u64 {
    let taken = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (store, taken) = (store.clone(), &taken);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let file = match over {
                    Over::Global | Over::Bytes => file_of(thread),
                    Over::Subtree => in_dir(&format!("/in/{thread}/deep")),
                    _ => in_dir("/in"),
                };
                let mut refusals = refusals;
                while refusals > 0 {
                    match runtime.block_on(put(&store, vec![crate::world::copy_of(&file)])) {
                        Ok(_) => {
                            taken.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(why) => {
                            let (used, limit) = refused(&why);
                            let most = if over == Over::Bytes { LIMIT * 7 } else { LIMIT };
                            assert!(used >= most && used <= limit, "{why:?}");
                            refusals -= 1;
                        }
                    }
                }
            });
        }
    });
    taken.into_inner()
}

/// Runs a call while the engine's own threads drive the store.
fn beside_threads<T>(call: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(call)
}

#[rstest]
fn b49_of_more_concurrent_writes_than_the_limit_exactly_so_many_succeed(
    #[values(Over::Tenant, Over::Directory, Over::Subtree, Over::Global, Over::Bytes)] over: Over,
) {
    let records = Records::new(49, limited(over));
    let threads = records.store.spawn_threads().unwrap();
    for round in 0..60 {
        assert_eq!(crowd(&records.store, over, 8, 1), LIMIT, "round {round}");
        assert_eq!(crowd(&records.store, over, 4, 2), 0, "round {round}");
        assert_eq!(records.used(&Scope::Global), LIMIT, "round {round}");
        // Room for the next round: nothing may have leaked.
        beside_threads(async {
            let mut leases = Vec::new();
            loop {
                let leased = records.store.lease_any(100, &LeaseOptions::new(), &|_| 1).await.unwrap();
                if leased.is_empty() {
                    break;
                }
                leases.extend(leased.into_iter().map(|leased| leased.lease));
            }
            assert_eq!(leases.len() as u64, LIMIT);
            records.store.complete(&leases).await.unwrap();
            records.store.sync().await.unwrap();
            let over = records.store.reapable(None, usize::MAX).await.unwrap();
            assert_eq!(over.len() as u64, LIMIT);
            records.store.reaped(&over).await.unwrap();
        });
    }
    threads.stop();
}

#[test]
fn b49_files_that_change_make_no_room_under_a_global_limit() {
    let mut records = Records::new(49, limited(Over::Global));
    records.try_put((0..LIMIT as usize).map(|_| file_of(100)).collect()).unwrap();
    let threads = records.store.spawn_threads().unwrap();
    let (store, stop) = (records.store.clone(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // The files of one tenant come and go between its queues, as long as others try to get in.
            beside_threads(async {
                while stop.load(Ordering::Relaxed) == 0 {
                    for leased in store.lease(&tenant(100), 10, &LeaseOptions::new()).await.unwrap() {
                        store.release(&leased.lease).await.unwrap();
                    }
                }
            });
        });
        let taken = crowd(&records.store, Over::Global, 2, 100_000);
        stop.store(1, Ordering::Relaxed);
        assert_eq!(taken, 0, "the store was full");
    });
    threads.stop();
}

#[test]
fn b49_bytes_that_no_number_holds_are_refused_and_leave_nothing() {
    let mut records = Records::new(1, EngineOptions::default());
    records.write();
    let before = records.counts();
    let reserve = |records: &mut Records, bytes: u64| {
        let root = LogicalDir::root();
        records.call(|s| async move { s.reserve(&tenant(1), &root, Some(bytes), None).await })
    };
    let most = reserve(&mut records, 1 << 63).unwrap();
    for bytes in [u64::MAX, 1 << 63] {
        let full = reserve(&mut records, bytes).unwrap_err();
        assert!(matches!(full, Error::GlobalQuotaExceeded { limit: u64::MAX, .. }), "{full:?}");
        let full = records.call(|s| async move { s.check_room(&tenant(1), &LogicalDir::root(), bytes) });
        assert!(full.is_err(), "{bytes}");
    }
    drop(most);
    drop(reserve(&mut records, 1 << 63).unwrap());
    assert_eq!((records.counts(), records.used(&Scope::Global)), (before, 1));
    records.write();
}

#[test]
fn b49_room_that_is_reserved_counts_and_a_dropped_reservation_gives_it_back_once() {
    let options = EngineOptions {
        global_quota: Some(4),
        tenant_quota: Some(3),
        directory_quotas: vec![directory_quota("tenant-0/in", 2)],
        ..EngineOptions::default()
    };
    let mut records = Records::new(1, options);
    let room = |records: &mut Records, number: usize, path: &'static str| {
        let reserved =
            records.call(|s| async move { s.reserve(&tenant(number), &dir(path), None, None).await });
        reserved.map(|reserved| match reserved {
            Reserved::Room(room) => room,
            Reserved::Known(key) => panic!("{key} was never named"),
        })
    };
    let mut rooms = vec![room(&mut records, 0, "/in").unwrap(), room(&mut records, 0, "/in").unwrap()];
    let full = room(&mut records, 0, "/in").unwrap_err();
    assert!(
        matches!(&full, Error::DirectoryQuotaExceeded { directory, used: 2, limit: 2, .. } if *directory == dir("/in")),
        "{full:?}"
    );
    rooms.push(room(&mut records, 0, "/out").unwrap());
    let full = room(&mut records, 0, "/out").unwrap_err();
    assert!(matches!(full, Error::TenantQuotaExceeded { used: 3, limit: 3, .. }), "{full:?}");
    rooms.push(room(&mut records, 1, "/in").unwrap());
    let full = room(&mut records, 1, "/in").unwrap_err();
    assert!(matches!(full, Error::GlobalQuotaExceeded { used: 4, limit: 4, .. }), "{full:?}");
    // No file is counted yet, and a refused one holds nothing.
    assert_eq!(records.used(&Scope::Global), 0);
    drop(rooms.remove(0));
    let again = room(&mut records, 0, "/in").unwrap();
    assert!(room(&mut records, 0, "/in").is_err());
    drop((again, rooms));
    // An accept that fails gives its room back as well.
    for _ in 0..3 {
        let tried = records.call(|store| async move {
            let Reserved::Room(room) = store.reserve(&tenant(0), &dir("/in"), None, None).await? else {
                unreachable!()
            };
            store
                .accept(vec![(NewFile { original_name: Some("x".repeat(1_025)), ..in_dir("/in") }, room)])
                .await
        });
        assert!(matches!(tried, Err(Error::TooLarge { .. })), "{tried:?}");
    }
    for _ in 0..2 {
        records.put(in_dir("/in"));
    }
    assert_eq!(records.refusal(in_dir("/in")), Some((2, 2)));
    records.put(in_dir("/out"));
    assert_eq!(records.used(&Scope::Tenant(tenant(0))), 3);
    records.put(file_of(1));
    assert_eq!(records.refusal(file_of(1)), Some((4, 4)));
}

// ---- bytes, patterns, subtrees ---------------------------------------------------------------------------------------

fn sized(path: &str, size: u64) -> NewFile {
    NewFile { size, ..in_dir(path) }
}

fn bytes_quota(pattern: &str, max_bytes: u64) -> DirectoryQuota {
    DirectoryQuota { pattern: pattern.into(), max_files: u64::MAX, max_bytes: Some(max_bytes), enabled: true }
}

#[test]
fn b49_bytes_are_limited_to_the_last_one_in_every_scope() {
    let options = EngineOptions {
        global_quota_bytes: Some(1_000),
        tenant_quota_bytes: Some(500),
        directory_quotas: vec![bytes_quota("tenant-0/in", 100)],
        subtree_quotas: vec![bytes_quota("tenant-0/in", 150)],
        ..EngineOptions::default()
    };
    let mut records = Records::new(1, options);
    let directory = |path| Scope::Directory(tenant(0), dir(path));
    records.put(sized("/in", 60));
    assert_eq!(records.refusal(sized("/in", 41)), Some((60, 100)));
    records.put(sized("/in", 40));
    records.put(sized("/in", 0));
    assert_eq!(records.refusal(sized("/in", 1)), Some((100, 100)));
    assert_eq!(records.refusal(sized("/in/deep", 51)), Some((100, 150)), "the subtree is full");
    records.put(sized("/in/deep", 50));
    assert_eq!(records.refusal(sized("/other", 351)), Some((150, 500)), "the tenant is full");
    records.put(sized("/other", 350));
    records.put(NewFile { size: 500, ..file_of(1) });
    let full = records.try_put(vec![NewFile { size: 1, ..file_of(2) }]).unwrap_err();
    assert_eq!(full.to_string(), "the store is full: 1000 of 1000 bytes");
    records.put(NewFile { size: 0, ..file_of(2) });
    let mut records = records.restart(End::PowerCut);
    assert_eq!(records.refusal(sized("/in/deep", 1)), Some((500, 500)));
    let usage = records.store.usage(&directory("/in"));
    assert_eq!((usage.files, usage.bytes, usage.limit, usage.bytes_limit), (3, 100, None, Some(100)));
    let usage = records.store.usage(&Scope::Subtree(tenant(0), dir("/in")));
    assert_eq!((usage.files, usage.bytes, usage.bytes_limit), (4, 150, Some(150)));
    assert_eq!(records.store.usage(&Scope::Global).bytes, 1_000);
}

#[test]
fn b49_a_content_of_unknown_length_takes_its_bytes_when_they_are_known() {
    let options = EngineOptions { tenant_quota_bytes: Some(100), ..EngineOptions::default() };
    let mut records = Records::new(1, options);
    let written = |announced: Option<u64>, size: u64| {
        move |store: Arc<EmbeddedStore>| async move {
            let Reserved::Room(room) = store.reserve(&tenant(0), &dir("/in"), announced, None).await? else {
                unreachable!()
            };
            store.accept(vec![(sized("/in", size), room)]).await
        }
    };
    let full = records.call(written(None, 101)).unwrap_err();
    assert_eq!(refused(&full), (0, 100));
    let full = records.call(written(Some(50), 101)).unwrap_err();
    assert_eq!(refused(&full), (50, 100), "what it had counts, too");
    assert_eq!(refused(&records.call(written(Some(101), 1)).unwrap_err()), (0, 100));
    // Shorter than announced: the rest is given back.
    records.call(written(Some(100), 10)).unwrap();
    records.call(written(None, 80)).unwrap();
    assert_eq!(records.refusal(sized("/", 11)), Some((90, 100)));
    records.put(sized("/", 10));
    assert_eq!(records.used(&Scope::Tenant(tenant(0))), 3);
}

#[test]
fn b54_each_directory_that_a_pattern_matches_has_a_count_of_its_own() {
    let disabled = DirectoryQuota { enabled: false, ..directory_quota("tenant-0/free", 0) };
    let options = EngineOptions {
        directory_quotas: vec![directory_quota("*/*", 2), directory_quota("tenant-0/in", 1), disabled],
        ..EngineOptions::default()
    };
    let mut records = Records::new(1, options);
    records.put(in_dir("/in"));
    assert_eq!(records.refusal(in_dir("/in")), Some((1, 1)), "exact beats pattern");
    for path in ["/a", "/b", "/free"] {
        records.put(in_dir(path));
        records.put(in_dir(path));
        assert_eq!(records.refusal(in_dir(path)), Some((2, 2)), "{path}");
    }
    for path in ["/", "/a/b"] {
        for _ in 0..4 {
            records.put(in_dir(path));
        }
    }
    // What is set at run time holds at once, over the pattern, over a restart, until it is reset.
    let scope = Scope::Directory(tenant(0), dir("/a"));
    records.limit(&scope, Limit::Files(3));
    let mut records = records.restart(End::PowerCut);
    assert_eq!(records.report.limits_differ, std::slice::from_ref(&scope));
    records.put(in_dir("/a"));
    assert_eq!(records.refusal(in_dir("/a")), Some((3, 3)));
    records.limit(&scope, Limit::Unlimited);
    records.put(in_dir("/a"));
    records.limit(&scope, Limit::Inherit);
    assert_eq!(records.refusal(in_dir("/a")), Some((4, 2)), "a lowered limit blocks new files only");
}

#[test]
fn b54_a_subtree_is_limited_as_a_whole_beside_its_directories() {
    let mut records = Records::new(1, EngineOptions::default());
    let scope = Scope::Subtree(tenant(0), dir("/in"));
    records.put(in_dir("/in/old/deep"));
    records.limit(&scope, Limit::Files(4));
    records.put(in_dir("/in"));
    records.put(in_dir("/in/a"));
    records.put(in_dir("/in/a/b/c"));
    for path in ["/in", "/in/a", "/in/new"] {
        let full = records.try_put(vec![in_dir(path)]).unwrap_err();
        assert!(
            matches!(&full, Error::DirectoryQuotaExceeded { directory, used: 4, limit: 4, .. } if *directory == dir("/in")),
            "{full:?}"
        );
    }
    records.put(in_dir("/inside"));
    records.put(in_dir("/"));
    assert_eq!(records.used(&scope), 4);
    let mut records = records.restart(End::Kill);
    assert_eq!((records.used(&scope), records.refusal(in_dir("/in/x"))), (4, Some((4, 4))));
    assert_eq!(records.used(&Scope::Subtree(tenant(0), dir("/"))), 6);
}

#[test]
fn b51_the_pages_of_usage_show_every_directory_once() {
    let mut records = Records::new(1, EngineOptions::default());
    for n in 0..30 {
        for _ in 0..=n % 3 {
            records.put(sized(&format!("/d/{n}"), 10));
        }
    }
    let mut seen = std::collections::BTreeMap::new();
    let mut from = None;
    loop {
        let page = records.store.directory_usage(&tenant(0), from, 7);
        for usage in page.usages {
            let Scope::Directory(_, path) = &usage.scope else { panic!("{usage:?}") };
            assert_eq!(seen.insert(path.to_string(), (usage.files, usage.bytes)), None, "{path} twice");
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen.len(), 32, "those that stand above others are there");
    assert_eq!((seen["/d/7"], seen["/d/8"], seen["/d"], seen["/"]), ((2, 20), (3, 30), (0, 0), (0, 0)));
    assert!(records.store.directory_usage(&tenant(5), None, 7).usages.is_empty());
}

#[test]
fn b55_a_directory_that_became_empty_is_gone_with_those_that_stood_for_it() {
    let mut records = Records::new(1, EngineOptions::default());
    let key = records.put(in_dir("/a/b/c"));
    records.put(in_dir("/a"));
    let known = |records: &Records| records.store.directory_usage(&tenant(0), None, 100).usages.len();
    assert_eq!(known(&records), 4);
    // A refused write, and the question whether there is room, leave nothing behind.
    records.limit(&Scope::Subtree(tenant(0), dir("/x")), Limit::Files(0));
    assert!(records.refusal(in_dir("/x/y/z")).is_some());
    assert!(records.store.check_room(&tenant(0), &dir("/x/y/z"), 1).is_err());
    assert!(records.store.check_room(&tenant(0), &dir("/free/y/z"), 1).is_ok());
    assert_eq!(known(&records), 4);
    records.call(|store| async move { store.delete(&tenant(0), &key, false).await }).unwrap();
    records.call(|store| async move { store.sync().await }).unwrap();
    records
        .call(|store| async move {
            let over = store.reapable(None, 10).await?;
            store.reaped(&over).await
        })
        .unwrap();
    assert_eq!(known(&records), 2);
}

// ---- charged once ---------------------------------------------------------------------------------------------------

/// Writes, fails, completes, deletes and reaps; `Err` when the disk went down.
fn life(world: &mut World, engine: &Engine) -> locus_core::Result<()> {
    let context = engine.tenants[0].clone();
    for n in 0..6_u8 {
        let options =
            WriteOptions::new().directory(format!("dir-{}", n % 2)).idempotency_key(format!("file {n}"));
        world.run(engine, engine.pool.write(&context, vec![n; 100], options))?;
    }
    for file in world.run(engine, engine.scheduler.next_batch(&context, 3))? {
        world.run(engine, engine.scheduler.complete(&file.lease))?;
    }
    if let Some(file) = world.run(engine, engine.scheduler.next(&context))? {
        world.run(engine, engine.scheduler.fail(&file.lease, "for good"))?;
    }
    if let Some(file) = world.run(engine, engine.scheduler.next(&context))? {
        world.run(engine, engine.pool.delete_with(&context, &file.key, true))?;
    }
    world.run(engine, engine.store.checkpoint())?;
    sweep(world, engine)
}

fn sweep(world: &mut World, engine: &Engine) -> locus_core::Result<()> {
    world.run(engine, engine.store.sync())?;
    loop {
        let swept = world.run(engine, engine.sweeper.reap_step())?;
        if swept.completed_removed == 0 {
            return world.run(engine, engine.store.sync());
        }
    }
}

/// What is charged, three ways, and what there is.
fn charged(engine: &Engine) -> [u64; 4] {
    let context = &engine.tenants[0];
    let directories = ["dir-0", "dir-1"]
        .map(|path| engine.store.usage(&Scope::Directory(context.id().clone(), dir(path))).files);
    [
        engine.store.usage(&Scope::Global).files,
        engine.store.usage(&Scope::Tenant(context.id().clone())).files,
        directories.into_iter().sum(),
        engine.store.counts().get(context.id()).map_or(0, TenantCounts::files),
    ]
}

#[rstest]
fn b50_b51_whatever_the_crash_each_file_is_charged_once_and_given_back_once(
    #[values(End::Kill, End::PowerCut)] end: End,
) {
    // The third failure is the last; here the first one is.
    let retry_policy = locus_core::RetryPolicy { max_retries: 1, ..locus_core::RetryPolicy::default() };
    let options = EngineOptions {
        retry_policy,
        max_deliveries: Some(50),
        segment_size: 1 << 20,
        ..EngineOptions::default()
    };
    let mut crashes = 0;
    for k in 0.. {
        let mut world = World::new(50 + k, options.clone());
        world.tenants = 1;
        let engine = world.open().unwrap();
        world.disk.crash_at(world.disk.ops() + 1 + k);
        let done = life(&mut world, &engine);
        let finished = !world.disk.is_down();
        assert!(!finished || done.is_ok(), "operation {k}: {done:?}");
        drop(engine);
        world.end(end);
        let engine = world.open().unwrap();
        crashes += 1;
        // Charged is what there is, at once.
        let found = charged(&engine);
        assert!(found.iter().all(|n| *n == found[0]), "operation {k}: {found:?}");
        // The cleaning that was cut short is done again, and once more after another restart.
        sweep(&mut world, &engine).unwrap();
        world.run(&engine, engine.store.settled()).unwrap();
        let settled = charged(&engine);
        let counts = engine.store.counts().get(engine.tenants[0].id()).copied().unwrap_or_default();
        assert_eq!((counts.completed, counts.deleted), (0, 0));
        assert!(settled.iter().all(|n| *n == settled[0]), "operation {k}: {settled:?}");
        drop(engine);
        world.end(End::Kill);
        let engine = world.open().unwrap();
        sweep(&mut world, &engine).unwrap();
        assert_eq!(charged(&engine), settled, "operation {k}: given back twice or not at all");
        // The writes made again come to six files in all, over and above those that were worked off.
        let context = engine.tenants[0].clone();
        for n in 0..6_u8 {
            let options =
                WriteOptions::new().directory(format!("dir-{}", n % 2)).idempotency_key(format!("file {n}"));
            world.run(&engine, engine.pool.write(&context, vec![n; 100], options)).unwrap();
        }
        let all = charged(&engine);
        assert!(all[0] <= 6 && all.iter().all(|n| *n == all[0]), "operation {k}: {all:?}");
        // All of it worked off: nothing is charged any more.
        let mut leases = Vec::new();
        while let Some(file) = world.run(&engine, engine.scheduler.next(&context)).unwrap() {
            leases.push(file.lease);
        }
        for lease in &leases {
            world.run(&engine, engine.scheduler.complete(lease)).unwrap();
        }
        sweep(&mut world, &engine).unwrap();
        let given_up = engine.store.counts().get(context.id()).map_or(0, |counts| counts.permanently_failed);
        assert_eq!(charged(&engine), [given_up; 4], "operation {k}");
        if finished {
            assert_eq!((all[0], given_up), (2, 1), "one was given up, one never touched");
            break;
        }
    }
    assert!(crashes > 50, "{crashes} crashes");
}

#[test]
fn b51_completed_and_deleted_files_count_until_their_bytes_are_gone() {
    let mut records = Records::new(1, EngineOptions { tenant_quota: Some(3), ..EngineOptions::default() });
    let keys = records.write_many(3);
    assert_eq!(records.refusal(new_file()), Some((3, 3)));
    let lease = records.lease().unwrap().lease;
    records.complete(&lease).unwrap();
    let deleted = keys[1];
    records.call(|s| async move { s.delete(&tenant(0), &deleted, false).await }).unwrap();
    let counts = records.counts();
    assert_eq!((counts.pending, counts.completed, counts.deleted, counts.bytes), (1, 1, 1, 21));
    assert_eq!(records.refusal(new_file()), Some((3, 3)), "their bytes are still there");
    let mut records = records.restart(End::Kill);
    assert_eq!(records.refusal(new_file()), Some((3, 3)));
    assert_eq!(records.reap(), 2);
    assert_eq!((records.counts().files(), records.counts().bytes), (1, 7));
    records.write();
    records.write();
    assert_eq!(records.refusal(new_file()), Some((3, 3)));
}

// ---- limits ---------------------------------------------------------------------------------------------------------

#[test]
fn b52_inherit_unlimited_and_a_number_are_three_things_at_every_write() {
    let mut records = Records::new(1, EngineOptions { tenant_quota: Some(2), ..EngineOptions::default() });
    let scope = Scope::Tenant(tenant(0));
    records.write_many(2);
    assert_eq!(records.refusal(new_file()), Some((2, 2)), "the setting holds for who has nothing of its own");
    records.limit(&scope, Limit::Unlimited);
    records.write_many(10);
    assert_eq!(records.store.usage(&scope).limit, None);
    records.limit(&scope, Limit::Files(13));
    records.write();
    assert_eq!(records.refusal(new_file()), Some((13, 13)));
    records.limit(&scope, Limit::Files(0));
    assert_eq!(records.refusal(new_file()), Some((13, 0)));
    records.limit(&scope, Limit::Inherit);
    assert_eq!(records.refusal(new_file()), Some((13, 2)));
    records.put(file_of(1));
}

#[rstest]
#[case::tenant(Scope::Tenant(tenant(0)))]
#[case::directory(Scope::Directory(tenant(0), dir("/")))]
#[case::global(Scope::Global)]
fn b52_a_lowered_limit_blocks_new_files_only(#[case] scope: Scope) {
    let mut records = Records::new(1, EngineOptions::default());
    let keys = records.write_many(6);
    records.limit(&scope, Limit::Files(2));
    assert_eq!(records.refusal(new_file()), Some((6, 2)));
    // Everything that is there goes its way.
    let lease = records.lease().unwrap().lease;
    records.fail(&lease).unwrap();
    records.call(|s| async move { s.reset(&tenant(0), &keys[0]).await }).unwrap();
    for left in (0..6).rev() {
        let lease = records.lease().unwrap().lease;
        records.complete(&lease).unwrap();
        assert_eq!(records.reap(), 1);
        assert_eq!(records.used(&scope), left);
        if left == 2 {
            assert_eq!(records.refusal(new_file()), Some((2, 2)));
        }
    }
    records.write_many(2);
    assert_eq!(records.refusal(new_file()), Some((2, 2)));
}

#[rstest]
fn b52_limits_set_at_run_time_survive_and_win_over_the_settings(
    #[values(End::Kill, End::PowerCut, End::Close)] end: End,
    #[values(0, 1, 3)] checkpoints: usize,
) {
    let settings = EngineOptions {
        global_quota: Some(100),
        tenant_quota: Some(50),
        directory_quotas: vec![directory_quota("tenant-0/in", 9), directory_quota("tenant-0/out", 9)],
        ..EngineOptions::default()
    };
    let mut records = Records::new(1, settings);
    let scopes = [
        (Scope::Global, Limit::Unlimited, None),
        (Scope::Tenant(tenant(0)), Limit::Files(4), Some(4)),
        (Scope::Tenant(tenant(1)), Limit::Inherit, Some(50)),
        (Scope::Directory(tenant(0), dir("/in")), Limit::Files(2), Some(2)),
        (Scope::Directory(tenant(0), dir("/out")), Limit::Inherit, Some(9)),
        (Scope::Directory(tenant(0), dir("/new")), Limit::Files(1), Some(1)),
    ];
    for (scope, limit, _) in &scopes {
        records.limit(scope, Limit::Files(77));
        records.limit(scope, *limit);
    }
    for _ in 0..checkpoints {
        records.checkpoint().unwrap();
    }
    let mut records = records.restart(end);
    for (scope, _, limit) in &scopes {
        assert_eq!(records.store.usage(scope).limit, *limit, "{scope}");
    }
    assert_eq!(records.report.limits_differ.len(), 2, "{:?}", records.report.limits_differ);
    records.put(in_dir("/new"));
    assert_eq!(records.refusal(in_dir("/new")), Some((1, 1)));
    records.put(in_dir("/in"));
    records.put(in_dir("/in"));
    assert_eq!(records.refusal(in_dir("/in")), Some((2, 2)));
    records.put(in_dir("/else"));
    assert_eq!(records.refusal(in_dir("/else")), Some((4, 4)));
    // Inherit means whatever the settings of the day say.
    let mut world = records.end(End::Kill);
    world.options.tenant_quota = Some(1);
    let mut records = Records::open(world).map_err(|failed| failed.1).unwrap();
    records.put(file_of(1));
    assert_eq!(records.refusal(file_of(1)), Some((1, 1)));
}

#[test]
fn a_quota_setting_that_is_no_quota_is_refused_by_name() {
    for pattern in ["*/[z-a]", "Tenant-0/in", ""] {
        let mut world = World::new(1, EngineOptions::default());
        world.options.directory_quotas = vec![directory_quota(pattern, 1)];
        let why = Records::open(world).map(|_| ()).map_err(|failed| failed.1).unwrap_err();
        assert!(matches!(&why, Error::InvalidSetting { name, .. } if name.contains(pattern)), "{why:?}");
    }
}

// ---- directories ----------------------------------------------------------------------------------------------------

#[test]
fn b53_spellings_of_one_directory_share_one_limit_and_one_count() {
    let options = EngineOptions {
        directory_quotas: vec![directory_quota("tenant-0/a", 6), directory_quota("tenant-0/", 1)],
        ..EngineOptions::default()
    };
    let mut records = Records::new(1, options);
    for spelling in ["a", "/a/", "//a", "./a", "/x/../a", "/../a"] {
        records.put(in_dir(spelling));
    }
    for spelling in ["a", "/a/", "//a", "./a", "/x/../a", "/../a"] {
        assert_eq!(records.refusal(in_dir(spelling)), Some((6, 6)), "{spelling}");
        assert_eq!(records.used(&Scope::Directory(tenant(0), dir(spelling))), 6);
    }
    // A blank one is the root, a backslash is a character, and what lies beneath has a count of its own.
    records.put(in_dir("  "));
    assert_eq!(records.refusal(in_dir("/")), Some((1, 1)));
    records.put(in_dir("a\\b"));
    records.put(in_dir("/a/b"));
    assert_eq!(records.used(&Scope::Directory(tenant(0), dir("/a"))), 6);
    // Another tenant's directory of the same name is another directory.
    records.put(NewFile { directory: dir("/a"), ..file_of(1) });
    let mut records = records.restart(End::Kill);
    assert_eq!(records.refusal(in_dir("/y/../a")), Some((6, 6)), "after a restart as well");
}

#[test]
fn b53_a_retry_that_is_given_up_keeps_its_place_in_the_quota() {
    let retry_policy = locus_core::RetryPolicy { max_retries: 1, ..locus_core::RetryPolicy::default() };
    let options = EngineOptions { retry_policy, tenant_quota: Some(1), ..EngineOptions::default() };
    let mut records = Records::new(1, options);
    let key = records.write();
    let lease = records.lease().unwrap().lease;
    records.fail(&lease).unwrap();
    assert_eq!(records.status(key), Some(FileStatus::PermanentlyFailed));
    assert_eq!(records.refusal(new_file()), Some((1, 1)));
    records.call(|s| async move { s.delete(&tenant(0), &key, false).await }).unwrap();
    records.reap();
    assert_eq!(records.refusal(new_file()), None);
}
