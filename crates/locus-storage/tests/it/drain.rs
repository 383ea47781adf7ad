//! Draining: files move from one volume to the others.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use locus_cleanup::SweepOptions;
use locus_core::{
    Area, BlobPath, Content, Durability, Error, Extension, FileKey, FileStatus, Knowledge, LeaseOptions,
    MetadataStore, Place, TenantId, Upkeep,
};
use locus_fs::LocalVolume;
use locus_storage::{
    BackupContents, DrainOptions, DrainProgress, DrainReport, EngineOptions, Finding, FreshDir, VerifyLevel,
    VolumeEvent, WriteOptions,
};
use locus_testkit::{Fault, OpKind};
use parking_lot::Mutex;
use rstest::rstest;
use tokio::io::AsyncReadExt;

use crate::bench::{Bench, Hang, vol};

fn bytes(number: usize, len: usize) -> Vec<u8> {
    (0..len).map(|index| ((index + number) % 251) as u8).collect()
}

/// For drains that are polled by hand: time stands still then.
fn unthrottled() -> DrainOptions {
    DrainOptions::new().bytes_per_second(None)
}

impl Bench {
    /// Files of some sizes on `vol-0`, which then has company again.
    fn with_files(options: EngineOptions, files: usize) -> (Self, BTreeMap<FileKey, Vec<u8>>) {
        let mut bench = Self::with(options, 2);
        let pool = bench.pool.clone();
        bench.run(pool.unmount(&vol(1))).unwrap();
        let mut written = BTreeMap::new();
        for number in 0..files {
            let content = bytes(number, [0, 1, 4_000, 70_000][number % 4]);
            let named = WriteOptions::new().original_name(format!("{number}.txt"));
            written.insert(bench.write_with(content.clone(), named).unwrap(), content);
        }
        bench.run(pool.mount(LocalVolume::new("vol-1", "/vol-1"))).unwrap();
        (bench, written)
    }

    /// Drains `vol-<n>`, the reaper beside it.
    fn drain(&mut self, volume: usize, options: DrainOptions) -> Result<DrainReport, Error> {
        let (pool, sweeper) = (self.pool.clone(), self.engine.sweeper.clone());
        let reaper = self.world.stepper.spawn(async move { sweeper.run_reaper().await });
        let drained = self.run_on(async move { pool.drain_with(&vol(volume), options, |_| ()).await });
        self.world.stepper.drop_task(reaper);
        drained
    }

    fn stop_draining(&mut self, volume: usize) -> Result<(), Error> {
        let pool = self.pool.clone();
        self.run_on(async move { pool.stop_draining(&vol(volume)).await })
    }

    fn files_on(&self, volume: usize) -> u64 {
        self.engine.store.files_on(&vol(volume))
    }

    fn expect(&mut self, written: &BTreeMap<FileKey, Vec<u8>>, volume: usize) {
        for (key, content) in written {
            assert_eq!(self.volume_of(*key), vol(volume));
            assert_eq!(self.read(*key).unwrap(), *content);
        }
    }

    fn sweep(&mut self) -> u64 {
        let sweeper = self.engine.sweeper.clone();
        self.run(async move { sweeper.leftovers(SweepOptions::default()).await }).unwrap().orphans_removed
    }

    fn is_clean(&mut self) -> bool {
        self.verify(VerifyLevel::Contents).findings.is_empty()
    }
}

#[rstest]
#[case::durable(Durability::Durable)]
#[case::buffered(Durability::Buffered)]
fn b77_a_drained_volume_is_empty_and_can_be_removed(#[case] durability: Durability) {
    let options = EngineOptions { durability, ..EngineOptions::default() };
    let (mut bench, written) = Bench::with_files(options, 40);
    let mut events = bench.pool.events();
    let (all, size) = (bench.files_on(0), bench.pool.volumes()[0].bytes);
    assert_eq!((all, size), (40, 10 * 74_001));
    let report = bench.drain(0, DrainOptions::new()).unwrap();
    assert_eq!((report.moved, report.moved_bytes, report.files_left), (all, size, 0));
    assert!(report.damaged.is_empty());
    bench.expect(&written, 1);
    assert_eq!(bench.blobs().len(), 40);
    assert_eq!(bench.counts().pending, 40);
    assert!(bench.is_clean());
    let pool = bench.pool.clone();
    bench.run(pool.remove(&vol(0))).unwrap();
    bench.expect(&written, 1);
    for expected in [
        VolumeEvent::Draining { volume: vol(0) },
        VolumeEvent::Drained { volume: vol(0) },
        VolumeEvent::Unmounted { volume: vol(0) },
    ] {
        assert_eq!(bench.run(events.next()), Some(expected));
    }
}

#[test]
fn new_content_passes_a_volume_that_is_being_drained_until_that_is_stopped() {
    let (mut bench, _) = Bench::with_files(EngineOptions::default(), 4);
    bench.drain(0, DrainOptions::new()).unwrap();
    assert!(bench.pool.volumes()[0].draining);
    assert_eq!(bench.pool.volumes()[0].unusable.as_deref(), Some("is being drained"));
    // The other one is fuller, and is taken all the same.
    let key = bench.write("new");
    assert_eq!(bench.volume_of(key), vol(1));
    bench.stop_draining(0).unwrap();
    assert!(!bench.pool.volumes()[0].draining);
    let key = bench.write("newer");
    assert_eq!(bench.volume_of(key), vol(0));
}

#[test]
fn b9_a_drain_with_nowhere_to_go_is_refused_and_changes_nothing() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 4);
    let pool = bench.pool.clone();
    bench.run(pool.unmount(&vol(1))).unwrap();
    let refused = bench.drain(0, DrainOptions::new());
    assert!(matches!(refused, Err(Error::VolumeUnavailable { volume: None, .. })), "{refused:?}");
    assert!(!pool.volumes()[0].draining && pool.volumes()[0].unusable.is_none());
    bench.run(pool.mount(LocalVolume::new("vol-1", "/vol-1"))).unwrap();
    bench.world.disk.set_capacity(0);
    bench.run(pool.probe_all());
    let refused = bench.drain(0, DrainOptions::new());
    assert!(matches!(refused, Err(Error::InsufficientStorage { .. })), "{refused:?}");
    assert!(!pool.volumes()[0].draining);
    bench.expect(&written, 0);
    let unknown = bench.drain(7, DrainOptions::new());
    assert!(matches!(unknown, Err(Error::VolumeNotFound { .. })), "{unknown:?}");
    for wrong in [DrainOptions::new().at_once(0), DrainOptions::new().bytes_per_second(Some(0))] {
        assert!(matches!(bench.drain(0, wrong), Err(Error::InvalidArgument { .. })));
    }
}

#[test]
fn an_empty_volume_is_drained_although_it_is_the_only_one() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    assert_eq!(bench.drain(0, DrainOptions::new()).unwrap(), DrainReport::default());
    let refused = bench.write_with("x", WriteOptions::new());
    assert!(matches!(refused, Err(Error::VolumeUnavailable { .. })), "{refused:?}");
}

#[test]
fn a_target_that_fills_up_ends_the_drain_and_another_call_goes_on_where_it_was() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 40);
    bench
        .world
        .disk
        .fail(Fault::no_space().on(OpKind::Write).at(|path| path.starts_with("/vol-1")).after(20).for_good());
    let ended = bench.drain(0, DrainOptions::new());
    assert!(ended.as_ref().is_err_and(Error::is_full), "{ended:?}");
    let left = bench.files_on(0);
    assert!((1..40).contains(&left), "{left}");
    assert!(bench.pool.volumes()[0].draining);
    for (key, content) in &written {
        assert_eq!(bench.read(*key).unwrap(), *content);
    }
    bench.world.disk.heal_all();
    let pool = bench.pool.clone();
    bench.run(pool.probe_all());
    let report = bench.drain(0, DrainOptions::new()).unwrap();
    assert_eq!(report.files_left, 0);
    bench.expect(&written, 1);
    assert!(bench.is_clean());
}

#[test]
fn a_damaged_file_is_reported_and_left_and_the_others_go() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 8);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let (broken, _) = written.iter().find(|(_, content)| content.len() == 4_000).unwrap();
    let path = bench.run(pool.materialize(&acme, broken)).unwrap();
    let file = locus_fs::Disk::open(&*bench.world.disk, &path, true).unwrap();
    locus_fs::DiskFile::write_at(&*file, b"!", 1_234).unwrap();
    let report = bench.drain(0, DrainOptions::new()).unwrap();
    assert_eq!((report.moved, report.files_left), (7, 1));
    assert_eq!(report.damaged.iter().map(|file| file.key).collect::<Vec<_>>(), [*broken]);
    assert!(report.damaged[0].why.contains("checksum"), "{}", report.damaged[0].why);
    assert_eq!((bench.volume_of(*broken), bench.blobs().len()), (vol(0), 8));
    assert!(bench.pool.residue().is_empty());
    let refused = bench.run(pool.remove(&vol(0)));
    assert!(matches!(refused, Err(Error::VolumeInUse { files: 1, .. })), "{refused:?}");
}

#[test]
fn leased_files_move_and_their_readers_and_workers_go_on() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 4);
    let (pool, store, acme) = (bench.pool.clone(), bench.engine.store.clone(), bench.acme.clone());
    let leased = bench.run(store.lease(acme.id(), 4, &LeaseOptions::default())).unwrap();
    assert_eq!(leased.len(), 4);
    let mut readers = Vec::new();
    for one in &leased {
        readers.push(bench.run(pool.read(&acme, &one.record.info.key)).unwrap());
    }
    assert_eq!(bench.drain(0, DrainOptions::new()).unwrap().moved, 4);
    for mut reader in readers {
        let mut content = Vec::new();
        bench.run(reader.read_to_end(&mut content)).unwrap();
        assert_eq!(content, written[&reader.info().key]);
    }
    let leases: Vec<_> = leased.into_iter().map(|leased| leased.lease).collect();
    for lease in &leases {
        assert_eq!(bench.run(pool.read_leased(lease)).unwrap().len(), written[&lease.key].len() as u64);
    }
    bench.run(store.complete(&leases)).unwrap();
    assert_eq!(bench.counts().processing, 0);
}

/// The look-up came before the move and the removal of the volume, the opening comes after.
#[test]
fn a_reader_that_finds_the_volume_gone_looks_the_place_up_once_more() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 1);
    let hanging = bench.hanging(0);
    let (pool, acme, key) = (bench.pool.clone(), bench.acme.clone(), *written.keys().next().unwrap());
    hanging.hang(Hang::Open);
    let reading = pool.read(&acme, &key);
    let mut reading = Box::pin(reading);
    assert!(crate::bench::poll_once(reading.as_mut()).is_pending());
    hanging.hang(Hang::No);
    bench.drain(0, DrainOptions::new()).unwrap();
    bench.run(pool.remove(&vol(0))).unwrap();
    hanging.go();
    assert_eq!(bench.run(reading).unwrap().info().key, key);
}

#[test]
fn a_file_that_ends_while_it_moves_leaves_nothing_anywhere() {
    for polls in 0..40 {
        let (mut bench, written) = Bench::with_files(EngineOptions::default(), 1);
        let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
        let key = *written.keys().next().unwrap();
        let mut drain = Box::pin(async { pool.drain_with(&vol(0), unthrottled(), |_| ()).await });
        for _ in 0..polls {
            if crate::bench::poll_once(drain.as_mut()).is_ready() {
                break;
            }
            bench.commit();
        }
        let deleting = pool.clone();
        bench.run(deleting.delete(&acme, &key)).unwrap();
        drop(drain);
        settle(&mut bench);
        assert!(bench.blobs().is_empty(), "after {polls} polls");
        assert_eq!((bench.files_on(0), bench.files_on(1), bench.counts().files()), (0, 0, 0));
    }
}

/// A drain that is dropped after any poll: each file is whole at the place that its record says, and nowhere else once
/// things are tidied.
#[rstest]
fn b6_a_drain_dropped_after_any_poll_leaves_each_file_in_one_place(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let (mut before, mut after) = (0, 0);
    for polls in 0..40 {
        let options = EngineOptions { durability, ..EngineOptions::default() };
        let (mut bench, written) = Bench::with_files(options, 3);
        let pool = bench.pool.clone();
        let done =
            bench.poll(polls, async move { pool.drain_with(&vol(0), unthrottled(), |_| ()).await }).is_some();
        bench.commit();
        settle(&mut bench);
        for (key, content) in &written {
            assert_eq!(bench.read(*key).unwrap(), *content);
            if bench.volume_of(*key) == vol(0) { before += 1 } else { after += 1 }
        }
        assert_eq!(bench.blobs().len(), 3, "after {polls} polls");
        assert_eq!(bench.files_on(0) + bench.files_on(1), 3);
        assert!(bench.is_clean() && !done);
    }
    assert!(before > 0 && after > 0, "{before} {after}");
}

/// Everything that tidies, until there is nothing to do.
fn settle(bench: &mut Bench) {
    let (pool, store, sweeper) =
        (bench.pool.clone(), bench.engine.store.clone(), bench.engine.sweeper.clone());
    for _ in 0..3 {
        bench.run(store.sync()).unwrap();
        let step = bench.run(sweeper.reap_step()).unwrap();
        assert_eq!(step.errors, 0);
        bench.run(pool.tidy_residue(&*store));
    }
    assert_eq!(bench.sweep(), 0, "the sweep of leftovers found what nobody remembered");
}

/// Buffered: the move is written and not durable. What it left must outlast the power going.
#[test]
fn b88_what_a_move_leaves_stays_until_the_move_is_durable() {
    let options = EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() };
    let (mut bench, written) = Bench::with_files(options, 3);
    let (pool, store) = (bench.pool.clone(), bench.engine.store.clone());
    bench.run(store.sync()).unwrap();
    let mut drain = Box::pin(async move { pool.drain_with(&vol(0), unthrottled(), |_| ()).await });
    // Their targets are written down, durably; the moves themselves are not durable yet.
    let _ = crate::bench::poll_once(drain.as_mut());
    bench.commit();
    let _ = crate::bench::poll_once(drain.as_mut());
    assert!(bench.engine.store.resting_on(&vol(0), None, 9).files.is_empty());
    drop(drain);
    // Neither the reaper nor the sweep touches it.
    assert_eq!(bench.files_on(0), 3);
    let (sweeper, tenant) = (bench.engine.sweeper.clone(), bench.acme.storage_path().clone());
    assert_eq!(
        crate::bench::poll_once(Box::pin(sweeper.reap_step()).as_mut())
            .map(|step| step.unwrap().copies_removed),
        std::task::Poll::Ready(0)
    );
    for key in written.keys() {
        let blob =
            BlobPath { area: Area::Live, owner: tenant.clone(), key: *key, extension: Extension::NONE };
        assert_eq!(bench.engine.store.knows(&vol(0), &blob), Knowledge::InFlight);
        assert!(bench.engine.store.claim(&vol(0), &blob).is_none());
    }
    // Durable: it goes.
    bench.run(store.sync()).unwrap();
    assert_eq!(bench.run(sweeper.reap_step()).unwrap().copies_removed, 3);
    assert_eq!(bench.files_on(0), 0);
    bench.expect(&written, 1);
}

#[rstest]
fn b88_power_cut_anywhere_in_a_drain_leaves_each_file_in_exactly_one_place(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let mut moved = 0;
    for crash in 0..400 {
        let options = EngineOptions { durability, ..EngineOptions::default() };
        let (mut bench, written) = Bench::with_files(options, 3);
        let store = bench.engine.store.clone();
        bench.run(store.sync()).unwrap();
        let (pool, sweeper) = (bench.pool.clone(), bench.engine.sweeper.clone());
        let reaper = bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
        let before = bench.world.disk.ops();
        bench.world.disk.crash_at(before + crash);
        let drained = bench.poll(400, async move { pool.drain_with(&vol(0), unthrottled(), |_| ()).await });
        bench.world.stepper.run_until_idle();
        bench.world.stepper.drop_task(reaper);
        let finished = !bench.world.disk.is_down();
        let mut bench = bench.restart_after_power_cut();
        bench.sweep();
        let sweeper = bench.engine.sweeper.clone();
        bench.run(sweeper.reap_step()).unwrap();
        for (key, content) in &written {
            assert_eq!(bench.read(*key).unwrap(), *content, "crash {crash}");
            moved += u64::from(bench.volume_of(*key) == vol(1));
        }
        assert_eq!(bench.blobs().len(), 3, "crash {crash}");
        assert!(bench.is_clean());
        // And it goes on where the files are.
        assert_eq!(bench.drain(0, DrainOptions::new()).unwrap().files_left, 0);
        bench.expect(&written, 1);
        if finished {
            assert!(crash > 20 && moved > 0, "{crash} {moved} {drained:?}");
            return;
        }
    }
    panic!("the drain never came to its end");
}

#[test]
fn a_file_goes_back_to_a_volume_only_after_what_it_left_there_is_gone() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 1);
    let (pool, store, acme) = (bench.pool.clone(), bench.engine.store.clone(), bench.acme.clone());
    let key = *written.keys().next().unwrap();
    // No reaper: the file is on 1, and its copy on 0 is not removed.
    let mut drain = Box::pin(async { pool.drain_with(&vol(0), unthrottled(), |_| ()).await });
    while !bench.engine.store.resting_on(&vol(0), None, 9).files.is_empty() {
        let _ = crate::bench::poll_once(drain.as_mut());
        bench.commit();
    }
    drop(drain);
    bench.stop_draining(0).unwrap();
    let moving = store.begin_move_from(acme.id(), &key, &vol(1)).unwrap();
    assert_eq!((moving.avoid(), &moving.record().place), ([vol(0)].as_slice(), &Place::Volume(vol(1))));
    drop(moving);
    let nowhere = pool.clone();
    let refused = bench.run_on(async move { nowhere.drain(&vol(1)).await });
    assert!(matches!(refused, Err(Error::VolumeUnavailable { .. })), "{refused:?}");
    bench.stop_draining(1).unwrap();
    settle(&mut bench);
    assert_eq!(bench.drain(1, DrainOptions::new()).unwrap().files_left, 0);
    bench.expect(&written, 0);
    assert!(bench.is_clean());
}

#[test]
fn a_drain_is_as_fast_as_it_may_be_and_tells_how_far_it_is() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 40);
    let size: u64 = written.values().map(|content| content.len() as u64).sum();
    let told = std::sync::Arc::new(Mutex::new(Vec::new()));
    let (pool, sweeper) = (bench.pool.clone(), bench.engine.sweeper.clone());
    let reaper = bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
    let (began, telling) = (bench.world.clock_now(), told.clone());
    let options = DrainOptions::new().bytes_per_second(Some(10_000));
    bench
        .run_on(
            async move { pool.drain_with(&vol(0), options, |progress| telling.lock().push(progress)).await },
        )
        .unwrap();
    bench.world.stepper.drop_task(reaper);
    // The last file of all is not waited for.
    let least = Duration::from_secs((size - 70_000) / 10_000);
    let took = bench.world.clock_now() - began;
    assert!(took >= least && took < 2 * least, "{took:?} for at least {least:?}");
    let told = told.lock();
    let DrainProgress { files_left, bytes_left, moved, moved_bytes, damaged, .. } = *told.last().unwrap();
    assert_eq!((files_left, bytes_left, moved, moved_bytes, damaged), (0, 0, 40, size, 0));
}

#[test]
fn one_drain_of_a_volume_runs_at_a_time() {
    let (mut bench, _) = Bench::with_files(EngineOptions::default(), 1);
    let pool = bench.pool.clone();
    let mut first = Box::pin(async { pool.drain_with(&vol(0), unthrottled(), |_| ()).await });
    assert!(crate::bench::poll_once(first.as_mut()).is_pending());
    let second = bench.drain(0, DrainOptions::new());
    assert!(matches!(second, Err(Error::VolumeBusy { .. })), "{second:?}");
    assert!(matches!(bench.stop_draining(0), Err(Error::VolumeBusy { .. })));
    drop(first);
    assert_eq!(bench.drain(0, DrainOptions::new()).unwrap().files_left, 0);
}

#[test]
fn a_write_under_way_to_the_volume_is_waited_for_and_moved() {
    let mut bench = Bench::with(EngineOptions::default(), 2);
    let hanging = bench.hanging(0);
    hanging.hang(Hang::Before);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let mut write = Box::pin(pool.write(&acme, Content::from("late"), WriteOptions::new()));
    assert!(crate::bench::poll_once(write.as_mut()).is_pending());
    let draining = pool.clone();
    let (told, mut drained) = tokio::sync::oneshot::channel();
    let sweeper = bench.engine.sweeper.clone();
    bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
    bench.world.stepper.spawn(async move { told.send(draining.drain(&vol(0)).await).unwrap() });
    bench.world.stepper.run_until_idle();
    assert!(drained.try_recv().is_err());
    hanging.go();
    let key = bench.run(write).unwrap();
    assert_eq!(bench.run_on(drained).unwrap().unwrap().moved, 1);
    assert_eq!(bench.volume_of(key), vol(1));
}

#[test]
fn what_cannot_be_removed_from_a_read_only_volume_does_not_hold_up_its_drain() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 4);
    bench.fault(0, OpKind::Create, Fault::io().for_good());
    bench.fault(0, OpKind::Remove, Fault::io().for_good());
    let pool = bench.pool.clone();
    bench.run(pool.probe_all());
    let report = bench.drain(0, DrainOptions::new()).unwrap();
    assert_eq!((report.moved, report.files_left), (4, 4));
    bench.expect(&written, 1);
}

#[test]
fn b60_a_moved_file_is_where_it_was_moved_to_after_a_checkpoint_and_a_restart() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 12);
    bench.drain(0, DrainOptions::new()).unwrap();
    let store = bench.engine.store.clone();
    bench.run(async move { store.checkpoint().await }).unwrap();
    let mut bench = bench.restart();
    bench.expect(&written, 1);
    assert_eq!((bench.files_on(0), bench.files_on(1), bench.sweep()), (0, 12, 0));
}

/// The journal of the copy says where a file rested when it was copied, so its content must be copied to there.
#[test]
fn a_file_that_moves_while_a_backup_is_taken_is_in_the_copy_where_its_record_says() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 4);
    let (store, pool, other) = (bench.engine.store.clone(), bench.pool.clone(), bench.other.clone());
    let late = bench.run(pool.write(&other, "late", WriteOptions::new())).unwrap();
    assert_eq!(bench.run(pool.location(&other, &late)).unwrap().unwrap().volume_id, Some(vol(0)));
    let disk: std::sync::Arc<dyn locus_fs::Disk> = bench.world.disk.clone();
    let into = FreshDir::begin(disk, PathBuf::from("/copy")).unwrap();
    // The copy stops at the first content of the first tenant: the second one's are looked for after the drain.
    let hanging = bench.hanging(0);
    hanging.hang(Hang::Open);
    let mut backup = Box::pin(store.backup(&into, BackupContents::Copy));
    bench.still_waits(40, backup.as_mut());
    hanging.hang(Hang::No);
    let drained = bench.poll(400, pool.drain_with(&vol(0), unthrottled(), |_| ()));
    assert!(drained.is_none() && bench.files_on(1) == 5, "what is held is not removed");
    let sweeper = bench.engine.sweeper.clone();
    assert_eq!(bench.run(sweeper.reap_step()).unwrap().copies_removed, 0);
    hanging.go();
    let report = bench.run(backup).unwrap();
    assert!(report.damaged.is_empty(), "{:?}", report.damaged);
    assert_eq!(bench.run(sweeper.reap_step()).unwrap().copies_removed, 5);
    into.finish().unwrap();
    let mut world = bench.world;
    world.disk.kill();
    (world.dir, world.volumes_dir) = ("/copy".into(), "/copy/volumes".into());
    let mut copy = Bench::open_at(world);
    copy.expect(&written, 0);
    let (pool, other) = (copy.pool.clone(), copy.other.clone());
    assert_eq!(copy.run(pool.read_range(&other, &late, 0..9)).unwrap(), "late");
}

#[test]
fn a_file_of_another_tenant_is_not_moved_by_a_wrong_name() {
    let (mut bench, written) = Bench::with_files(EngineOptions::default(), 1);
    let store = bench.engine.store.clone();
    let key = written.keys().next().unwrap();
    let stranger = TenantId::parse("stranger").unwrap();
    for (tenant, volume) in [(bench.other.id(), vol(0)), (&stranger, vol(0)), (bench.acme.id(), vol(1))] {
        assert!(store.begin_move_from(tenant, key, &volume).is_none());
    }
    let moving = store.begin_move_from(bench.acme.id(), key, &vol(0)).unwrap();
    assert!(store.begin_move_from(bench.acme.id(), key, &vol(0)).is_none());
    assert_eq!(moving.record().info.status, FileStatus::Pending);
    drop(moving);
    assert!(store.begin_move_from(bench.acme.id(), key, &vol(0)).is_some());
    assert!(
        !bench
            .verify(VerifyLevel::Contents)
            .findings
            .iter()
            .any(|finding| matches!(finding, Finding::Count { .. }))
    );
}
