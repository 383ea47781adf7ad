//! Volumes that fall ill, are retired, or come back from elsewhere.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::path::Path;

use locus_core::{Error, ErrorKind, FileKey, LeaseOptions, MetadataStore, StorageVolume, VolumeId};
use locus_fs::{Disk, EntryKind, LocalVolume, create_dirs};
use locus_storage::{EngineOptions, Retire, StoragePool, VerifyLevel, VolumeEvent, WriteOptions};
use locus_testkit::{Fault, OpKind};
use rstest::rstest;

use crate::bench::{Bench, vol};

impl Bench {
    fn probe(&mut self) -> usize {
        let pool = self.pool.clone();
        self.run(async move { pool.probe_all().await })
    }

    /// Files on each of the two volumes.
    fn spread(&mut self) -> Vec<FileKey> {
        (0..12).map(|number| self.write(vec![number; 100 + usize::from(number) * 7_000])).collect()
    }

    fn on(&mut self, keys: &[FileKey], volume: usize) -> Vec<FileKey> {
        keys.iter().copied().filter(|key| self.volume_of(*key) == vol(volume)).collect()
    }
}

#[test]
fn b81_a_volume_that_was_lost_comes_back_with_its_second_good_probe_in_a_row() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let key = bench.write("hello");
    let mut events = bench.pool.events();
    let lost = |bench: &mut Bench| {
        let fault = bench.fault(0, OpKind::Space, Fault::io().for_good());
        bench.probe();
        bench.world.disk.heal(fault);
    };
    lost(&mut bench);
    assert!(matches!(bench.read(key), Err(Error::VolumeUnavailable { .. })));
    assert_eq!(bench.probe(), 0);
    assert!(matches!(bench.read(key), Err(Error::VolumeUnavailable { .. })));
    // A bad one in between: counted from the begin.
    lost(&mut bench);
    assert_eq!(bench.probe(), 0);
    assert!(bench.pool.volumes()[0].unusable.is_some());
    assert_eq!(bench.probe(), 1);
    assert_eq!(bench.read(key).unwrap(), b"hello");
    assert!(matches!(bench.run(events.next()), Some(VolumeEvent::Unavailable { .. })));
    assert_eq!(bench.run(events.next()), Some(VolumeEvent::Returned { volume: vol(0) }));
}

/// Passes on all but its second probe.
#[test]
fn b81_a_mount_needs_two_good_probes() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let pool = bench.pool.clone();
    // One measurement by the opening itself, one for each probe of the mount: the last of them fails.
    bench.world.disk.fail(Fault::io().on(OpKind::Space).at(|path| path.starts_with("/vol-5")).after(2));
    let refused = bench.run(pool.mount(LocalVolume::new("vol-5", "/vol-5")));
    assert!(matches!(refused, Err(Error::Io { .. })), "{refused:?}");
    assert_eq!(pool.volumes().len(), 1);
    bench.run(pool.mount(LocalVolume::new("vol-5", "/vol-5"))).unwrap();
}

#[test]
fn b81_what_cannot_be_mounted_is_refused_by_name_and_leaves_nothing() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let pool = bench.pool.clone();
    let mut mount = |id: &str, path: &str| bench.run(pool.mount(LocalVolume::new(id, path))).unwrap_err();
    assert!(matches!(mount("vol-0", "/elsewhere"), Error::VolumeExists { .. }));
    let upper = mount("VOL-0", "/elsewhere");
    assert!(matches!(upper, Error::InvalidId { .. }) && upper.to_string().contains("lower"), "{upper}");
    let taken = mount("vol-9", "/vol-0");
    assert!(matches!(taken, Error::VolumeUnavailable { .. } | Error::AlreadyOpen { .. }), "{taken:?}");
    assert_eq!(pool.volumes().len(), 1);
    assert!(bench.world.disk.metadata(Path::new("/elsewhere")).is_err());
    bench.write("the volume that has the place goes on");
}

#[test]
fn b81_an_open_volume_that_is_attached_twice_stays_in_use() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let key = bench.write("here");
    let (pool, registry) = (bench.pool.clone(), bench.engine.registry.clone());
    let open = registry.take(&vol(0)).unwrap();
    registry.insert(open.clone()).unwrap();
    let mounted = locus_core::VolumeSet::volume(&pool, &vol(0)).unwrap();
    for again in [open, mounted] {
        let refused = bench.run(pool.attach(again));
        assert!(matches!(refused, Err(Error::VolumeExists { .. })), "{refused:?}");
        assert_eq!(bench.read(key).unwrap(), b"here");
    }
}

#[rstest]
fn b77_b50_a_volume_is_retired_and_its_records_are_forgotten_and_charged_back_once(
    #[values(true, false)] mounted: bool,
) {
    let mut bench = Bench::new();
    let keys = bench.spread();
    let (gone, stay) = (bench.on(&keys, 0), bench.on(&keys, 1));
    assert!(!gone.is_empty() && !stay.is_empty());
    let (pool, store, acme) = (bench.pool.clone(), bench.engine.store.clone(), bench.acme.clone());
    let leased = bench.run(store.lease_key(acme.id(), &gone[0], &LeaseOptions::default())).unwrap();
    if !mounted {
        bench.run(pool.unmount(&vol(0))).unwrap();
    }
    bench.world.disk.listen();
    assert_eq!(bench.run_on(pool.retire(&vol(0), Retire::Forget)).unwrap(), gone.len() as u64);
    let heard = bench.world.disk.heard();
    assert!(!heard.iter().any(|(kind, _)| *kind == OpKind::Remove), "{heard:?}");
    assert_eq!((store.files_on(&vol(0)), bench.counts().files()), (0, stay.len() as u64));
    for key in &gone {
        assert!(matches!(bench.read(*key), Err(Error::FileNotFound { .. })));
    }
    bench.run(store.complete(&[leased.lease])).unwrap(); // its record is gone: without effect
    assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
    let mut bench = bench.restart();
    assert_eq!(bench.counts().files(), stay.len() as u64);
    for key in &stay {
        bench.read(*key).unwrap();
    }
}

#[test]
fn b77_records_of_a_retired_volume_are_kept_when_asked_for_and_forgotten_later() {
    let mut bench = Bench::new();
    let keys = bench.spread();
    let gone = bench.on(&keys, 0);
    let (pool, store, acme) = (bench.pool.clone(), bench.engine.store.clone(), bench.acme.clone());
    assert_eq!(bench.run_on(pool.retire(&vol(0), Retire::Keep)).unwrap(), gone.len() as u64);
    assert_eq!((store.files_on(&vol(0)), bench.counts().pending), (gone.len() as u64, 12));
    assert!(matches!(bench.read(gone[0]), Err(Error::VolumeUnavailable { .. })));
    let leased = bench.run(store.lease(acme.id(), 99, &LeaseOptions::default())).unwrap();
    assert_eq!(leased.len(), 12 - gone.len());
    let back = bench.run(pool.mount(LocalVolume::new("vol-0", "/vol-0")));
    assert!(back.as_ref().is_err_and(|error| error.to_string().contains("retired")), "{back:?}");
    bench.run_on(pool.retire(&vol(0), Retire::Forget)).unwrap();
    assert_eq!(store.files_on(&vol(0)), 0);
    let unknown = bench.run_on(pool.retire(&vol(0), Retire::Forget));
    assert!(matches!(unknown, Err(Error::VolumeNotFound { .. })), "{unknown:?}");
    // The name is free for a new volume.
    bench.run(pool.mount(LocalVolume::new("vol-0", "/vol-0-again"))).unwrap();
}

/// Everything below one directory, below another one.
fn copy_tree(disk: &dyn Disk, from: &Path, to: &Path) {
    create_dirs(disk, to).unwrap();
    for entry in disk.read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        if entry.kind == EntryKind::Dir {
            copy_tree(disk, &from, &to);
            continue;
        }
        let file = disk.open(&from, false).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(&mut bytes, 0).unwrap();
        disk.create_new(&to).unwrap().write_at(&bytes, 0).unwrap();
    }
}

fn replace(bench: &mut Bench, pool: &StoragePool, id: &str, path: &str) -> Result<(), Error> {
    bench.run(pool.replace(&vol(0), LocalVolume::new(id, path)))
}

#[rstest]
fn b15_a_volume_is_replaced_by_its_copy_in_another_place(#[values(true, false)] mounted: bool) {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let keys = bench.spread();
    let pool = bench.pool.clone();
    if !mounted {
        bench.run(pool.unmount(&vol(0))).unwrap();
    }
    copy_tree(&*bench.world.disk, Path::new("/vol-0"), Path::new("/copy"));
    replace(&mut bench, &pool, "vol-0", "/copy").unwrap();
    assert_eq!(pool.volumes()[0].mount_path.as_deref(), Some(Path::new("/copy")));
    for key in &keys {
        bench.read(*key).unwrap();
    }
    assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
}

#[test]
fn what_is_not_the_volume_does_not_replace_it() {
    let mut bench = Bench::new();
    let keys = bench.spread();
    let pool = bench.pool.clone();
    let other = replace(&mut bench, &pool, "vol-1", "/copy");
    assert!(matches!(other, Err(Error::InvalidArgument { .. })), "{other:?}");
    for empty in ["/nothing", "/vol-1/.locus-staging"] {
        let refused = replace(&mut bench, &pool, "vol-0", empty);
        assert!(matches!(refused, Err(Error::VolumeUnavailable { .. })), "{refused:?}");
    }
    copy_tree(&*bench.world.disk, Path::new("/vol-1"), Path::new("/wrong"));
    let wrong = replace(&mut bench, &pool, "vol-0", "/wrong");
    assert!(matches!(wrong, Err(Error::VolumeUnavailable { .. })), "{wrong:?}");
    assert_eq!(wrong.unwrap_err().kind(), ErrorKind::Wait);
    assert_eq!(pool.volumes()[0].mount_path.as_deref(), Some(Path::new("/vol-0")));
    for key in &keys {
        bench.read(*key).unwrap();
    }
    let unknown = VolumeId::parse("vol-7").unwrap();
    let refused = bench.run(pool.replace(&unknown, LocalVolume::new("vol-7", "/vol-7")));
    assert!(matches!(refused, Err(Error::VolumeNotFound { .. })), "{refused:?}");
}

#[test]
fn a_listener_that_is_slow_is_told_how_much_it_missed() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let (pool, mut events) = (bench.pool.clone(), bench.pool.events());
    for _ in 0..600 {
        bench.run(pool.unmount(&vol(0))).unwrap();
        bench.run(pool.mount(LocalVolume::new("vol-0", "/vol-0"))).unwrap();
    }
    assert_eq!(bench.run(events.next()), Some(VolumeEvent::Missed { events: 1_200 - 1_024 }));
    assert_eq!(bench.run(events.next()), Some(VolumeEvent::Unmounted { volume: vol(0) }));
    bench.write_with("x", WriteOptions::new()).unwrap();
    let volume = locus_core::VolumeSet::volume(&pool, &vol(0)).unwrap();
    assert!(StorageVolume::status(&*volume).is_healthy);
}

/// Too many open files, and a link in the place of a directory: the sync was never asked for.
#[rstest]
fn a_directory_that_cannot_be_opened_for_its_sync_fails_a_write_and_not_the_volume(
    #[values(Fault::too_many_files(), Fault::os(40), Fault::os(20))] fault: Fault,
) {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    bench.write("before");
    let fault = bench.fault(0, OpKind::SyncDir, fault.for_good());
    let failed = bench.write_with("meanwhile", WriteOptions::new());
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    assert_eq!(bench.blobs().len(), 1);
    bench.world.disk.heal(fault);
    bench.probe();
    assert!(bench.pool.volumes()[0].status.takes_writes());
    bench.write("after");
    // A sync that was asked for and failed is another thing.
    bench.fault(0, OpKind::SyncDir, Fault::io());
    bench.write_with("lost", WriteOptions::new()).unwrap_err();
    bench.probe();
    assert!(!bench.pool.volumes()[0].status.takes_writes());
}
