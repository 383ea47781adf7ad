//! Salvage: a new log of what can be read of a damaged one.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use locus_core::{Error, FileKey, FileStatus, Limit, MetadataStore, Result, Scope};
use locus_fs::Disk;
use locus_storage::{
    EmbeddedStore, FreshDir, LostRecords, SalvageReport, VerifyLevel, WriteOptions, salvage,
};
use locus_testkit::{Fault, OpKind};
use rstest::rstest;

use crate::{
    bench::Bench,
    inline::{again, content, end, find, flip, open, roomy, segments, try_open, world},
    verify::{Full, full, long_content, small_content},
    world::{End, World, files_below},
};

const NEW: &str = "/new";

fn try_salvage(world: &mut World) -> Result<SalvageReport> {
    let (disk, clock, entropy) = (world.disk.clone(), world.clock.clone(), world.entropy.clone());
    let salvaging = async move {
        let into = FreshDir::begin(disk.clone(), NEW)?;
        let report = salvage(Path::new("/data"), &into, disk, clock, entropy).await?;
        into.finish()?;
        Ok(report)
    };
    world.stepper.block_on(salvaging, || false)
}

/// Salvages, checks that no byte of the damaged store changed, and opens the new one with the volumes of the old.
#[track_caller]
fn salvaged(mut world: World) -> (Bench, SalvageReport) {
    let before = files_below(&*world.disk, Path::new("/data"));
    let report = try_salvage(&mut world).unwrap();
    assert!(files_below(&*world.disk, Path::new("/data")) == before, "the damaged store was changed");
    world.dir = NEW.into();
    let mut bench = open(world);
    let opened = &bench.engine.report;
    assert_eq!((opened.dropped, opened.contents_damaged, opened.checkpoints_damaged), (0, 0, 0));
    assert_eq!(opened.files, report.files);
    assert_eq!(bench.verify(VerifyLevel::Contents).findings, []);
    (bench, report)
}

#[track_caller]
fn refused(world: World) -> World {
    match try_open(world) {
        Err(failed) => {
            assert!(matches!(failed.1, Error::Corrupt { .. }), "{:?}", failed.1);
            failed.0
        }
        Ok(_) => panic!("the damage was not noticed"),
    }
}

#[rstest]
fn a_whole_store_is_brought_over_with_everything(#[values(End::Kill, End::PowerCut, End::Close)] how: End) {
    let Full { mut bench, in_journal, on_volume } = full();
    let held = bench.take(in_journal[5]);
    let store = bench.engine.store.clone();
    let scope = Scope::Tenant(bench.acme.id().clone());
    let limited = scope.clone();
    bench.run(async move { store.set_limit(limited, Limit::Files(500)).await }).unwrap();
    let epoch = bench.engine.report.epoch;
    let (mut bench, report) = salvaged(end(bench, how));
    assert!(report.is_whole(), "{report:?}");
    assert_eq!((report.files, report.contents), (27, 20)); // one is completed, and one is empty
    assert_eq!(report.store, bench.engine.store.id());
    assert_eq!(bench.engine.report.epoch.count, epoch.count + 1);
    assert_eq!(bench.engine.store.usage(&scope).limit, Some(500), "limits");
    let known = WriteOptions::new().idempotency_key("2");
    assert_eq!(bench.write_with("anything", known).unwrap(), on_volume[2], "idempotency keys");
    assert_eq!(bench.status_of(in_journal[10]), Some(FileStatus::Pending));
    let fresh = bench.take(in_journal[5]);
    assert_ne!(fresh.token.epoch, held.token.epoch);
    bench.complete(vec![fresh]);
    let mut live: BTreeMap<_, _> = (0..20).map(|n| (in_journal[n], small_content(n))).collect();
    live.insert(in_journal[20], Vec::new());
    live.extend((0..5).map(|n| (on_volume[n], long_content(n))));
    [5, 11].iter().for_each(|n| drop(live.remove(&in_journal[*n])));
    bench.check(&live, &[in_journal[5], in_journal[11], on_volume[5]], "salvaged");
    let mut bench = again(bench, End::PowerCut);
    bench.check(&live, &[], "and opened again");
}

/// A log without a checkpoint: five files one by one, a batch of three, then leases and their ends.
struct Log {
    bench: Bench,
    keys: Vec<FileKey>,
}

fn log() -> Log {
    let mut bench = open(world(21, roomy(), 1));
    let mut keys: Vec<_> = (0..5).map(|n| bench.write(small_content(n))).collect();
    keys.extend(bench.write_all(&[small_content(5), small_content(6), small_content(7)]).unwrap());
    bench.finish(&keys[..1]);
    let lease = bench.take(keys[1]);
    let scheduler = bench.scheduler.clone();
    bench.run(async move { scheduler.fail(&lease, "no").await }).unwrap();
    bench.sync();
    Log { bench, keys }
}

/// Every record in the segments of the log: path, where it begins, its length, its LSN.
fn records(world: &World) -> Vec<(PathBuf, usize, usize, u64)> {
    let mut records = Vec::new();
    for (path, bytes) in segments(world).into_values() {
        let mut at = 4_096;
        while bytes.get(at..at + 4) == Some(b"LBAT") {
            let number = |at: usize| u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
            let mut record = at + 64;
            for _ in 0..number(at + 12) {
                let length = 48 + number(record + 8) + number(record + 12);
                let lsn = u64::from_le_bytes(*bytes[record..].first_chunk().unwrap());
                records.push((path.clone(), record, length, lsn));
                record += length;
            }
            at += number(at + 8);
        }
    }
    records
}

#[rstest]
#[case::head(20)]
#[case::length(8)]
#[case::body(52)]
fn b57_whichever_record_is_damaged_no_file_is_lost_because_of_another(#[case] within: usize) {
    let count = records(&end(log().bench, End::Close)).len();
    assert!(count > 10, "{count}");
    for victim in 0..count {
        let Log { bench, keys } = log();
        let world = end(bench, End::Close);
        let (path, at, length, lsn) = records(&world)[victim].clone();
        if within >= length {
            continue;
        }
        // In a batch of its own, or among others.
        flip(&world, &path, at + within);
        let last = records(&world).len() == victim;
        let world = if last { world } else { refused(world) };
        let (mut bench, report) = salvaged(world);
        let [LostRecords { place: Some((_, named, offset)), first, last, .. }] = &report.records_lost[..]
        else {
            panic!("record {victim}: {report:?}")
        };
        assert_eq!((named, first.0, last.0), (&path, lsn, lsn), "record {victim}");
        assert!(*offset as usize <= at, "record {victim}");
        assert_eq!(report.contents_lost, []);
        // What is lost is lost by its own record: one file, or a batch wholly.
        let missing: Vec<_> = (0..8).filter(|n| bench.status_of(keys[*n]).is_none()).collect();
        assert!(
            matches!(&missing[..], [] | [0] | [_] | [0, _] | [5, 6, 7] | [0, 5, 6, 7]),
            "record {victim}: {missing:?}"
        );
        for (n, key) in keys.iter().enumerate().skip(1).filter(|(n, _)| !missing.contains(n)) {
            assert_eq!(bench.read(*key).unwrap(), small_content(n), "record {victim}");
        }
        let more = bench.write(content(50, 100));
        let mut bench = again(bench, End::Kill);
        assert_eq!(bench.read(more).unwrap(), content(50, 100));
    }
}

#[test]
fn what_is_behind_lost_records_is_believed() {
    let Log { bench, keys } = log();
    let world = end(bench, End::Close);
    let all = records(&world);
    // Accepted by six records; then the lease of the first file, its completion, the lease of the second, its failure.
    let opened = 1;
    let (lease, _complete, second) = (opened + 6, opened + 7, opened + 8);
    for victim in [lease, second] {
        let (path, at, ..) = &all[victim];
        flip(&world, path, at + 20);
    }
    let (mut bench, report) = salvaged(refused(world));
    assert_eq!(report.records_lost.len(), 2, "{report:?}");
    assert!(bench.status_of(keys[0]).is_none_or(FileStatus::is_over), "a completion that is read counts");
    let (pool, acme, key) = (bench.pool.clone(), bench.acme.clone(), keys[1]);
    let info = bench.run(async move { pool.info(&acme, &key).await }).unwrap().unwrap();
    assert_eq!((info.status, info.retry_count), (FileStatus::Pending, 1), "as does a failure");
}

#[test]
fn a_file_whose_end_is_lost_comes_back() {
    let Log { bench, keys } = log();
    let world = end(bench, End::Close);
    let (path, at, ..) = records(&world)[8].clone();
    flip(&world, &path, at + 20);
    let (mut bench, _) = salvaged(refused(world));
    assert_eq!(bench.status_of(keys[0]), Some(FileStatus::Pending));
    assert_eq!(bench.read(keys[0]).unwrap(), small_content(0));
}

#[test]
fn a_file_whose_content_is_lost_is_listed_and_its_name_is_free() {
    let mut bench = open(world(31, roomy(), 1));
    let named = || WriteOptions::new().idempotency_key("once").directory("/in").original_name("a.txt");
    let spoilt = bench.write_with(small_content(1), named()).unwrap();
    let whole = bench.write(small_content(2));
    let world = end(bench, End::Close);
    let (segment, path, at) = find(&world, &small_content(1));
    flip(&world, &path, at + 3);
    let (mut bench, report) = salvaged(world);
    let [lost] = &report.contents_lost[..] else { panic!("{report:?}") };
    assert_eq!((lost.key, lost.size, lost.segment, lost.offset), (spoilt, 2_001, segment, at as u64));
    assert_eq!((lost.directory.as_str(), lost.original_name.as_deref()), ("/in", Some("a.txt")));
    assert_eq!(
        (lost.tenant.clone(), report.files, report.records_lost.len()),
        (bench.acme.id().clone(), 1, 0)
    );
    assert!(!report.is_whole());
    assert_eq!(bench.read(whole).unwrap(), small_content(2));
    let again = bench.write_with(small_content(1), named()).unwrap();
    assert_ne!(again, spoilt, "its owner may write it once more");
}

#[test]
fn a_segment_without_a_header_loses_what_is_in_it_and_nothing_else() {
    let mut bench = open(world(41, roomy(), 1));
    // Three segments of 1 MiB.
    let keys: Vec<_> = (0..60).map(|n| bench.write(content(n, 50_000))).collect();
    let world = end(bench, End::Close);
    let all = segments(&world);
    let (path, _) = all.values().nth(1).unwrap();
    flip(&world, path, 50);
    flip(&world, path, 2_048 + 50);
    let path = path.clone();
    let (mut bench, report) = salvaged(refused(world));
    assert_eq!(report.segments_unreadable, [path]);
    assert!(report.records_lost.iter().any(|lost| lost.place.is_none()), "{report:?}");
    let missing: Vec<_> = (0..60).filter(|n| bench.status_of(keys[*n]).is_none()).collect();
    assert!(missing.len() > 5 && missing.len() < 50, "{missing:?}");
    assert_eq!(missing.len(), missing[missing.len() - 1] - missing[0] + 1, "they lay side by side");
    for n in (0..60).filter(|n| !missing.contains(n)) {
        assert_eq!(bench.read(keys[n]).unwrap(), content(n as u64, 50_000), "{n}");
    }
}

#[test]
fn sectors_that_cannot_be_read_lose_what_is_in_them() {
    let Log { bench, keys } = log();
    let world = end(bench, End::Close);
    let (_, path, _) = find(&world, &small_content(2));
    // One read of the whole segment fails, and then those of a few sectors.
    let at = path.clone();
    let fault = world.disk.fail(Fault::io().on(OpKind::Read).at(move |path| path == at).after(1).times(20));
    let mut world = world;
    let report = try_salvage(&mut world).unwrap();
    assert!(world.disk.hits(fault) > 0);
    world.disk.heal_all();
    world.dir = NEW.into();
    let mut bench = open(world);
    assert!(!report.records_lost.is_empty(), "{report:?}");
    assert_eq!(bench.read(keys[7]).unwrap(), small_content(7));
}

#[rstest]
fn a_damaged_checkpoint_is_passed_over_and_without_one_the_records_are_all_there_is(
    #[values(1, 2)] damaged: usize,
) {
    let Full { bench, in_journal, on_volume } = full();
    let world = end(bench, End::Close);
    let files = files_below(&*world.disk, Path::new("/data/journal"));
    let checkpoints: Vec<_> =
        files.into_keys().filter(|path| path.to_string_lossy().contains("checkpoint-")).collect();
    assert_eq!(checkpoints.len(), 2);
    checkpoints.iter().rev().take(damaged).for_each(|path| flip(&world, path, 100));
    let (mut bench, report) = salvaged(world);
    assert_eq!(report.checkpoints_damaged.len(), damaged);
    assert_eq!(report.checkpoint, (damaged == 1).then(|| checkpoints[0].clone()));
    assert_eq!(report.records_lost, []);
    for n in (0..20).filter(|n| *n != 11) {
        assert_eq!(bench.read(in_journal[n]).unwrap(), small_content(n));
    }
    for (n, key) in on_volume.iter().enumerate().take(5) {
        assert_eq!(bench.read(*key).unwrap(), long_content(n));
    }
    assert!(bench.status_of(in_journal[11]).is_none_or(FileStatus::is_over));
}

#[test]
fn b58_a_store_whose_identity_is_lost_is_known_by_its_segments() {
    let Full { bench, in_journal, on_volume } = full();
    let id = bench.engine.store.id();
    let world = end(bench, End::Close);
    world.disk.remove_file(Path::new("/data/STORE")).unwrap();
    let (mut bench, report) = salvaged(refused(world));
    assert_eq!((report.store, report.identity_lost, report.is_whole()), (id, true, false));
    assert_eq!(bench.read(in_journal[1]).unwrap(), small_content(1));
    assert_eq!(bench.read(on_volume[1]).unwrap(), long_content(1), "its volumes know it");
}

#[test]
fn where_nothing_can_be_read_that_is_said() {
    let Full { bench, .. } = full();
    let mut world = end(bench, End::Close);
    for path in files_below(&*world.disk, Path::new("/data/journal")).into_keys() {
        world.disk.remove_file(&path).unwrap();
    }
    assert!(matches!(try_salvage(&mut world), Err(Error::Corrupt { .. })));
    assert!(
        EmbeddedStore::inspect(Path::new(NEW), &*world.disk).unwrap_err().to_string().contains("UNFINISHED")
    );
}

#[test]
fn a_crash_at_any_operation_leaves_the_damaged_store_as_it_was_and_no_half_of_a_new_one() {
    let Log { bench, keys } = log();
    let world = end(bench, End::Close);
    let (path, at, ..) = records(&world)[3].clone();
    flip(&world, &path, at + 20);
    let mut world = refused(world);
    world.disk.crash(); // whatever the refused open left
    let before = files_below(&*world.disk, Path::new("/data"));
    let (mut refusals, mut whole) = (0, 0);
    for k in 0.. {
        world.disk.crash_at(world.disk.ops() + 1 + k);
        let done = try_salvage(&mut world);
        let reached = world.disk.is_down();
        assert!(reached || done.is_ok(), "operation {k}: {done:?}");
        world.end(End::PowerCut);
        assert!(files_below(&*world.disk, Path::new("/data")) == before, "operation {k}");
        if world.disk.read_dir(Path::new(NEW)).map_or(0, Iterator::count) > 0 {
            match EmbeddedStore::inspect(Path::new(NEW), &*world.disk) {
                Ok(found) => {
                    assert_eq!(found.in_journal, 7, "operation {k}");
                    whole += 1;
                }
                Err(why) => {
                    assert!(done.is_err(), "operation {k}: {why}");
                    assert!(why.to_string().contains("UNFINISHED"), "operation {k}: {why}");
                    refusals += 1;
                }
            }
        }
        if !reached {
            break;
        }
        remove_all(&world, Path::new(NEW));
    }
    assert!(refusals > 30 && whole > 0, "{refusals} refused, {whole} whole");
    world.dir = NEW.into();
    let mut bench = open(world);
    assert_eq!(bench.read(keys[6]).unwrap(), small_content(6));
}

fn remove_all(world: &World, dir: &Path) {
    let Ok(entries) = world.disk.read_dir(dir) else { return };
    for entry in entries {
        let path = dir.join(entry.unwrap().name);
        if world.disk.remove_file(&path).is_err() {
            remove_all(world, &path);
        }
    }
    let _ = world.disk.remove_dir(dir);
}

#[rstest]
fn a_completed_file_that_is_kept_for_a_while_keeps_its_content(#[values(End::Kill, End::Close)] how: End) {
    let retention = std::time::Duration::from_secs(3_600);
    let options = locus_storage::EngineOptions { completed_retention: retention, ..roomy() };
    let mut bench = open(world(58, options, 1));
    let key = bench.write(content(1, 5_000));
    let lease = bench.take(key);
    bench.complete(vec![lease]);
    let (mut bench, report) = salvaged(end(bench, how));
    assert_eq!((report.files, report.contents, report.contents_lost.len()), (1, 1, 0));
    assert_eq!(bench.read(key).unwrap(), content(1, 5_000));
}
