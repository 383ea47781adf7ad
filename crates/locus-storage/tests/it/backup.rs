//! Backups taken beside running work, and what a restored one is.

use std::{collections::BTreeMap, path::Path};

use locus_core::{
    Durability, Error, FileKey, FileStatus, LeaseOptions, MetadataStore, Outcome, Owner, Result, Upkeep,
};
use locus_fs::Disk;
use locus_storage::{BackupContents, BackupReport, EmbeddedStore, EngineOptions, FreshDir, WriteOptions};
use locus_testkit::{Fault, OpKind};
use rstest::rstest;

use crate::{
    bench::{Bench, Hang, poll_once, vol},
    inline::{again, content, end, find, flip, open, roomy, small, try_open, world},
    verify::{Full, blob, full, long_content, small_content},
    world::{End, World, files_below},
};

const COPY: &str = "/copy";

/// The call that takes a backup, and finishes its directory.
fn backup(bench: &Bench, contents: BackupContents) -> impl Future<Output = Result<BackupReport>> + 'static {
    let (disk, store) = (bench.world.disk.clone(), bench.engine.store.clone());
    async move {
        let into = FreshDir::begin(disk, COPY)?;
        let report = store.backup(&into, contents).await?;
        into.finish()?;
        Ok(report)
    }
}

/// The world in which the copy is the store.
fn restored(mut world: World) -> World {
    world.dir = COPY.into();
    world.volumes_dir = Path::new(COPY).join("volumes");
    world
}

fn contents_of(full: &Full) -> BTreeMap<FileKey, Vec<u8>> {
    let journal = full.in_journal.iter().enumerate().take(20).map(|(n, key)| (*key, small_content(n)));
    let volume = full.on_volume.iter().enumerate().map(|(n, key)| (*key, long_content(n)));
    journal.chain(volume).chain([(full.in_journal[20], Vec::new())]).collect()
}

#[rstest]
fn a_restored_copy_holds_what_was_confirmed(
    #[values(End::Kill, End::PowerCut, End::Close)] how: End,
    #[values(false, true)] reaped: bool,
) {
    let mut full = full();
    let mut live = contents_of(&full);
    let over = [full.in_journal[11], full.on_volume[5]];
    over.iter().for_each(|key| drop(live.remove(key)));
    if reaped {
        full.bench.reap();
    }
    let mut bench = full.bench;
    let taking = backup(&bench, BackupContents::Copy);
    let report = bench.run(taking).unwrap();
    assert_eq!((report.blobs, report.damaged), (BTreeMap::from([(vol(0), 5)]), vec![]));
    assert_eq!(report.blob_bytes, (0..5).map(|n| 100_000 + n).sum::<u64>());
    assert!(
        report.segments > 0 && report.journal_bytes > 0 && report.checkpoint_bytes > 0,
        "{:?}",
        report.end
    );
    // The original goes on as if nothing had been.
    bench.check(&live, &over, "the original");
    let mut bench = open(restored(end(bench, how)));
    assert_eq!((bench.engine.report.dropped, bench.engine.report.contents_damaged), (0, 0));
    bench.check(&live, &over, "the copy");
    // It is a store like any other.
    let key = bench.write(content(99, 900));
    live.insert(key, content(99, 900));
    bench.checkpoint();
    bench.checkpoint();
    let mut bench = again(bench, how);
    bench.check(&live, &over, "the copy, opened again");
    let known = WriteOptions::new().idempotency_key("3");
    assert_eq!(bench.write_with("anything", known).unwrap(), full.on_volume[3], "names come along");
}

#[test]
fn a_restored_copy_knows_no_token_of_the_originals_later_life() {
    let Full { mut bench, in_journal, .. } = full();
    let before = bench.take(in_journal[1]);
    let outside = LeaseOptions::new().owner(Owner::Outside);
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let held = in_journal[2];
    let held = bench.run(async move { scheduler.lease_key_with(&acme, &held, outside).await }).unwrap().lease;
    let taking = backup(&bench, BackupContents::Copy);
    bench.run(taking).unwrap();
    let after = bench.take(in_journal[3]);
    let mut bench = again(bench, End::Kill);
    let later = bench.take(in_journal[4]);
    let (first, next) = (before.token.epoch, later.token.epoch);
    let mut bench = open(restored(end(bench, End::Kill)));
    let own = bench.engine.report.epoch;
    // The copy opens as often as the original did, and is another life all the same.
    assert_eq!((own.count, next.count), (first.count + 1, first.count + 1));
    assert_ne!(own.random, next.random);
    assert_eq!((bench.engine.report.leases_released, bench.engine.report.leases_resumed), (2, 1));
    for (key, lost) in [(in_journal[3], after), (in_journal[4], later)] {
        let mine = bench.take(key);
        assert_ne!(mine.token, lost.token);
        let scheduler = bench.scheduler.clone();
        let refused = bench.run(async move { scheduler.complete(&lost).await });
        assert!(matches!(refused, Err(Error::LeaseLost { .. })), "{refused:?}");
        assert_eq!(bench.status_of(key), Some(FileStatus::Processing));
    }
    // What was leased when the backup was taken may be ended by its holder.
    bench.complete(vec![before, held]);
}

#[rstest]
fn b38_files_that_end_while_a_backup_runs_are_readable_in_it(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let options = EngineOptions { durability, ..roomy() };
    let mut bench = open(world(5, options, 1));
    let small_keys: Vec<_> = (0..10).map(|n| bench.write(small_content(n))).collect();
    let long_keys: Vec<_> = (0..6).map(|n| bench.write(long_content(n))).collect();
    bench.finish(&[small_keys[9], long_keys[5]]); // over before, not yet reaped
    let hanging = bench.hanging(0);
    hanging.hang(Hang::Open);
    let mut taking = Box::pin(backup(&bench, BackupContents::Copy));
    while poll_once(taking.as_mut()).is_pending()
        && bench.world.disk.metadata(Path::new("/copy/STORE")).is_err()
    {
        bench.commit();
    }
    // It waits for the first content: everything ends meanwhile, much is written, segments come and go.
    bench.finish(&small_keys[..9]);
    bench.finish(&long_keys[..4]);
    let (pool, acme, deleted) = (bench.pool.clone(), bench.acme.clone(), long_keys[4]);
    bench.run(async move { pool.delete(&acme, &deleted).await }).unwrap();
    let mut late = Vec::new();
    for n in 100..180 {
        late.push(bench.write(content(n, 50_000)));
        bench.finish(&late[late.len() - 1..]);
        if n % 20 == 0 {
            reap(&mut bench);
            bench.checkpoint();
            bench.checkpoint();
        }
    }
    let newer = bench.write(long_content(77));
    reap(&mut bench);
    // Five were alive; what was over before goes as ever.
    assert_eq!(bench.blobs().len(), 6, "contents are held");
    hanging.go();
    let report = bench.run(taking).unwrap();
    assert_eq!((report.damaged, report.blobs), (vec![], BTreeMap::from([(vol(0), 5)])));
    bench.reap();
    assert_eq!(bench.blobs(), [newer], "and let go when the backup is done");

    let mut bench = open(restored(end(bench, End::Kill)));
    let mut live: BTreeMap<_, _> = (0..9).map(|n| (small_keys[n], small_content(n))).collect();
    live.extend((0..5).map(|n| (long_keys[n], long_content(n))));
    bench.check(&live, &[small_keys[9], long_keys[5], newer], "the copy");
    late.iter().for_each(|key| assert_eq!(bench.status_of(*key), None));
    // None of them twice.
    let everything: Vec<_> = live.keys().copied().collect();
    bench.finish(&everything);
    let scheduler = bench.scheduler.clone();
    let acme = bench.acme.clone();
    assert!(bench.run(async move { scheduler.next(&acme).await }).unwrap().is_none());
}

/// Removes what may be removed now.
fn reap(bench: &mut Bench) {
    let Bench { world, engine, .. } = bench;
    world.run(engine, async {
        engine.store.sync().await.unwrap();
        while engine.sweeper.reap_step().await.unwrap().completed_removed > 0 {}
        engine.store.sync().await.unwrap();
    });
}

#[test]
fn a_reaper_waits_for_held_contents_and_for_nothing_else() {
    let Full { mut bench, in_journal, on_volume } = full();
    bench.reap();
    let hold = bench.engine.store.hold_contents();
    bench.finish(&on_volume[..1]);
    bench.commit();
    let store = bench.engine.store.clone();
    let mut reapable = Box::pin(async move { store.reapable_ready().await });
    assert!(poll_once(reapable.as_mut()).is_pending(), "a reaper that is woken finds something");
    let store = bench.engine.store.clone();
    let mut settled = Box::pin(async move { store.settled().await });
    bench.still_waits(5, settled.as_mut());
    bench.finish(&in_journal[..1]);
    assert!(poll_once(reapable.as_mut()).is_ready(), "content in the journal is not held");
    reap(&mut bench);
    assert_eq!(bench.blobs().len(), 5);
    drop(hold);
    reap(&mut bench);
    assert_eq!(bench.blobs().len(), 4);
    bench.run(settled).unwrap();
}

#[test]
fn by_name_contents_are_listed_with_volume_length_checksum_and_path() {
    let Full { mut bench, on_volume, .. } = full();
    let hold = bench.engine.store.hold_contents();
    let taking = backup(&bench, BackupContents::ByName);
    let report = bench.run(taking).unwrap();
    assert_eq!(report.blobs, BTreeMap::from([(vol(0), 5)]));
    let files = files_below(&*bench.world.disk, Path::new(COPY));
    let text = String::from_utf8(files[Path::new("/copy/BLOBS")].clone()).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("locus blobs"));
    assert_eq!(lines.next(), Some("format 1"));
    assert_eq!(lines.next(), Some(&*format!("store {}", bench.engine.store.id())));
    let mut listed: Vec<_> = lines.by_ref().take(5).map(str::to_owned).collect();
    listed.sort_unstable();
    let mut expected: Vec<_> = (0..5)
        .map(|n| {
            let path = blob(&bench, on_volume[n]);
            let checksum = locus_core::Checksum::of(&long_content(n));
            format!(
                "blob vol-0 {} {checksum} {}",
                100_000 + n,
                path.strip_prefix("/vol-0").unwrap().display()
            )
        })
        .collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    let covered = text.rfind("end ").unwrap();
    let checksum = locus_core::Checksum::of(&text.as_bytes()[..covered]);
    assert_eq!(lines.next(), Some(&*format!("end 5 {checksum}")));
    assert!(files.keys().all(|path| !path.starts_with("/copy/volumes")));
    drop(hold);
    // With the volumes as they are the copy is whole.
    let mut world = end(bench, End::Close);
    world.dir = COPY.into();
    let mut bench = open(world);
    assert_eq!(bench.read(on_volume[4]).unwrap(), long_content(4));
}

#[rstest]
fn a_crash_at_any_operation_leaves_the_original_as_it_was_and_no_half_of_a_copy(
    #[values(End::Kill, End::PowerCut)] how: End,
) {
    let (mut refused, mut whole) = (0, 0);
    for k in 0.. {
        let mut bench = open(world(3, small(), 1));
        let mut live = BTreeMap::new();
        for n in 0..3 {
            live.insert(bench.write(small_content(n)), small_content(n));
        }
        live.insert(bench.write(long_content(1)), long_content(1));
        bench.checkpoint();
        bench.world.disk.crash_at(bench.world.disk.ops() + 1 + k);
        let taking = backup(&bench, BackupContents::Copy);
        let done = bench.run(taking);
        let reached = bench.world.disk.is_down();
        assert!(reached || done.is_ok(), "operation {k}: {done:?}");
        let mut world = end(bench, how);
        let of = format!("operation {k}");
        // Some of the names and bytes were there and some were not.
        let names = world.disk.read_dir(Path::new(COPY)).map_or(0, Iterator::count);
        if names > 0 {
            let found = EmbeddedStore::inspect(Path::new(COPY), &*world.disk);
            match found {
                Ok(_) => {
                    let mut copy = open(restored(world));
                    copy.check(&live, &[], &of);
                    whole += 1;
                    world = end(copy, End::Kill);
                    world.dir = "/data".into();
                    world.volumes_dir = "/".into();
                }
                Err(why) => {
                    assert!(done.is_err(), "{of}: it was confirmed, and is refused: {why}");
                    assert!(why.to_string().contains("UNFINISHED"), "{of}: {why}");
                    let (back, why) = match try_open(restored(world)) {
                        Err(failed) => *failed,
                        Ok(_) => panic!("{of}: half of a copy was opened"),
                    };
                    assert!(why.to_string().contains("UNFINISHED"), "{of}: {why}");
                    refused += 1;
                    world = back;
                    world.dir = "/data".into();
                    world.volumes_dir = "/".into();
                }
            }
        }
        let mut bench = open(world);
        bench.check(&live, &[], &format!("{of}, the original"));
        if !reached {
            break;
        }
    }
    assert!(refused > 30 && whole > 0, "{refused} refused, {whole} whole");
}

#[test]
fn a_directory_that_holds_anything_is_refused_and_stays_as_it_is() {
    let Full { mut bench, .. } = full();
    let taking = backup(&bench, BackupContents::Copy);
    bench.run(taking).unwrap();
    let before = files_below(&*bench.world.disk, Path::new(COPY));
    let taking = backup(&bench, BackupContents::Copy);
    let Err(Error::Io { path, source, .. }) = bench.run(taking) else { panic!("it was taken") };
    assert_eq!((path.as_path(), source.kind()), (Path::new(COPY), std::io::ErrorKind::DirectoryNotEmpty));
    assert!(files_below(&*bench.world.disk, Path::new(COPY)) == before);
}

#[test]
fn a_damaged_content_is_told_and_all_else_is_copied() {
    let Full { mut bench, on_volume, .. } = full();
    flip(&bench.world, &blob(&bench, on_volume[1]), 9);
    bench.world.disk.remove_file(&blob(&bench, on_volume[2])).unwrap();
    let unreadable = blob(&bench, on_volume[3]);
    bench.world.disk.fail(Fault::io().on(OpKind::Read).at(move |path| path == unreadable).for_good());
    let taking = backup(&bench, BackupContents::Copy);
    let report = bench.run(taking).unwrap();
    bench.world.disk.heal_all();
    let damaged: Vec<_> = report.damaged.iter().map(|damaged| damaged.key).collect();
    assert_eq!(damaged, on_volume[1..4]);
    let mut bench = open(restored(end(bench, End::Close)));
    assert_eq!(bench.read(on_volume[0]).unwrap(), long_content(0));
    assert!(matches!(bench.read(on_volume[1]), Err(Error::ChecksumMismatch { .. })));
    assert!(matches!(bench.read(on_volume[2]), Err(Error::Io { .. })));
}

#[test]
fn a_volume_that_is_not_there_is_named_unless_contents_go_by_name() {
    let Full { mut bench, .. } = full();
    let pool = bench.pool.clone();
    bench.run(async move { pool.unmount(&vol(0)).await }).unwrap();
    let taking = backup(&bench, BackupContents::Copy);
    let refused = bench.run(taking);
    assert!(
        matches!(&refused, Err(Error::VolumeUnavailable { volume: Some(id), .. }) if *id == vol(0)),
        "{refused:?}"
    );
    assert!(EmbeddedStore::inspect(Path::new(COPY), &*bench.world.disk).is_err());
    let (disk, store) = (bench.world.disk.clone(), bench.engine.store.clone());
    let by_name = async move {
        let into = FreshDir::begin(disk, "/by-name")?;
        let report = store.backup(&into, BackupContents::ByName).await?;
        into.finish()?;
        Ok::<_, Error>(report)
    };
    assert_eq!(bench.run(by_name).unwrap().blobs, BTreeMap::from([(vol(0), 5)]));
}

#[test]
fn a_copy_that_would_not_open_is_told_at_once() {
    let Full { mut bench, .. } = full();
    let into = FreshDir::begin(bench.world.disk.clone(), COPY).unwrap();
    let key = bench.write(small_content(50));
    let (_, path, at) = find(&bench.world, &small_content(50));
    flip(&bench.world, &path, at - 20);
    let store = bench.engine.store.clone();
    let refused = bench.run(async move { store.backup(&into, BackupContents::ByName).await });
    let Err(Error::Corrupt { place, .. }) = refused else { panic!("{refused:?}") };
    assert!(place.contains("segment-"), "{place}");
    assert!(bench.status_of(key).is_some());
}

#[test]
fn a_poisoned_store_gives_no_backup() {
    let Full { mut bench, .. } = full();
    bench.world.disk.fail(Fault::io().on(OpKind::Sync).at(|path| path.starts_with("/data/journal")));
    assert!(bench.write_with("lost", WriteOptions::new()).is_err());
    let taking = backup(&bench, BackupContents::Copy);
    let refused = bench.run(taking);
    assert!(matches!(refused, Err(Error::Poisoned { outcome: Outcome::NotDone })), "{refused:?}");
}

#[test]
fn a_backup_that_is_dropped_holds_nothing_any_more() {
    let Full { mut bench, on_volume, .. } = full();
    let hanging = bench.hanging(0);
    hanging.hang(Hang::Open);
    let mut taking = Box::pin(backup(&bench, BackupContents::Copy));
    bench.still_waits(20, taking.as_mut());
    bench.finish(&on_volume[..2]);
    drop(taking);
    hanging.go();
    bench.reap();
    assert_eq!(bench.blobs().len(), 3);
    assert!(EmbeddedStore::inspect(Path::new(COPY), &*bench.world.disk).is_err());
}
