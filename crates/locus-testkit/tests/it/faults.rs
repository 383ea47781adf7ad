//! Failing operations and full disks.

use std::{io::ErrorKind, path::Path};

use locus_fs::Disk;
use locus_testkit::{Fault, OpKind, SimDisk};

fn at(path: &str) -> &Path {
    Path::new(path)
}

#[test]
fn a_fault_hits_the_operations_it_names_as_often_as_it_says() {
    let disk = SimDisk::new(1);
    let fault = disk.fail(Fault::io().on(OpKind::Create).at(|path| path.starts_with("/d")).after(1).times(2));
    disk.create_dir(at("/d")).unwrap();
    disk.create_new(at("/a")).unwrap();
    disk.create_new(at("/d/1")).unwrap();
    for _ in 0..2 {
        assert_eq!(disk.create_new(at("d/../d/2")).unwrap_err().raw_os_error(), Some(5));
    }
    disk.create_new(at("/d/2")).unwrap();
    assert_eq!(disk.hits(fault), 2);

    let fault = disk.fail(Fault::kind(ErrorKind::PermissionDenied).on(OpKind::Rename).for_good());
    for _ in 0..3 {
        assert_eq!(disk.rename(at("/a"), at("/b")).unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    disk.heal(fault);
    disk.rename(at("/a"), at("/b")).unwrap();
    disk.fail(Fault::too_many_files().for_good());
    assert_eq!(disk.open(at("/b"), false).unwrap_err().raw_os_error(), Some(24));
    disk.crash();
    assert!(disk.metadata(at("/")).is_err(), "a fault outlives a crash");
    disk.heal_all();
    disk.metadata(at("/")).unwrap();
}

#[test]
fn a_failed_write_may_have_written_a_beginning() {
    let lens: std::collections::BTreeSet<u64> = (0..100)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            let file = disk.create_new(at("/a")).unwrap();
            disk.fail(Fault::no_space().on(OpKind::Write));
            assert_eq!(file.write_at(&[1; 4_096], 0).unwrap_err().kind(), ErrorKind::StorageFull);
            file.len().unwrap()
        })
        .collect();
    assert!(lens.contains(&0) && lens.contains(&4_096) && lens.len() > 5, "{lens:?}");
}

#[test]
fn a_short_write_stores_a_beginning_and_never_all() {
    let lens: std::collections::BTreeSet<u64> = (0..100)
        .map(|seed| {
            let disk = SimDisk::new(seed);
            let file = disk.create_new(at("/a")).unwrap();
            disk.fail(Fault::short_write());
            assert_eq!(file.len().unwrap(), 0, "it hits writes alone");
            assert_eq!(file.write_at(&[1; 4_096], 0).unwrap_err().kind(), ErrorKind::WriteZero);
            file.len().unwrap()
        })
        .collect();
    assert!(lens.first() >= Some(&1) && lens.last() < Some(&4_096) && lens.len() > 5, "{lens:?}");
}

#[test]
fn a_fault_hits_the_nth_operation_whatever_it_is() {
    let story = |disk: &SimDisk| {
        disk.listen();
        disk.create_dir(at("/d")).is_ok()
            && disk.create_new(at("/d/a")).is_ok_and(|file| {
                file.write_at(b"a", 0).is_ok() && file.sync_data().is_ok() && file.len().is_ok()
            })
            && disk.sync_dir(at("/d")).is_ok()
            && disk.read_dir(at("/d")).is_ok()
    };
    let disk = SimDisk::new(1);
    assert!(story(&disk));
    let heard = disk.heard();
    let kinds = heard.iter().map(|(kind, _)| *kind).collect::<Vec<_>>();
    use OpKind as K;
    assert_eq!(kinds, [K::CreateDir, K::Create, K::Write, K::Sync, K::Metadata, K::SyncDir, K::ReadDir]);
    assert_eq!(heard[2].1, at("/d/a"));
    for op in 1..=disk.ops() {
        let failing = SimDisk::new(1);
        let fault = failing.fail(Fault::interrupted().from_op(op));
        assert!(!story(&failing), "operation {op} did not fail");
        assert_eq!((failing.ops(), failing.hits(fault)), (op, 1));
    }
}

#[test]
fn a_failed_sync_loses_data_although_the_next_one_succeeds() {
    for seed in 0..100 {
        for crash in [true, false] {
            let disk = SimDisk::new(seed);
            let file = disk.create_new(at("/a")).unwrap();
            file.write_at(&[1; 1_024], 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_dir(at("/")).unwrap();

            file.write_at(&[2; 1_024], 0).unwrap();
            disk.fail(Fault::io().on(OpKind::Sync));
            file.sync_data().unwrap_err();
            file.sync_data().unwrap();
            let mut seen = [0; 1_024];
            file.read_at(&mut seen, 0).unwrap();
            assert_eq!(seen, [2; 1_024], "the page cache looks well");
            if crash {
                disk.crash();
            } else {
                file.drop_cache().unwrap();
            }
            disk.open(at("/a"), false).unwrap().read_at(&mut seen, 0).unwrap();
            assert_eq!(seen, [1; 1_024], "seed {seed}");
        }
    }
}

#[test]
fn a_failed_sync_of_a_directory_leaves_names_that_the_next_one_does_not_make_durable() {
    let kept = (0..100)
        .filter(|seed| {
            let disk = SimDisk::new(*seed);
            disk.create_new(at("/a")).unwrap();
            disk.fail(Fault::io().on(OpKind::SyncDir));
            disk.sync_dir(at("/")).unwrap_err();
            disk.sync_dir(at("/")).unwrap();
            disk.crash();
            disk.metadata(at("/a")).is_ok()
        })
        .count();
    assert!(kept > 0 && kept < 100, "{kept}");
}

#[test]
fn a_full_disk_refuses_and_has_room_again() {
    let disk = SimDisk::new(1);
    let empty = disk.space(at("/")).unwrap();
    disk.set_capacity(10_240);
    let file = disk.create_new(at("/a")).unwrap();
    let before = disk.space(at("/")).unwrap();
    assert_eq!((before.total, before.available), (10_240, 10_240 - 2 * 512));

    assert_eq!(file.write_at(&[1; 20_000], 0).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), before.available, "what fits is written");
    assert_eq!(disk.space(at("/")).unwrap().available, 0);
    file.write_at(&[2; 9_000], 0).unwrap();
    assert_eq!(disk.create_new(at("/b")).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(disk.create_dir(at("/b")).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(file.set_len(9_217).unwrap_err().kind(), ErrorKind::StorageFull);
    file.set_len(100).unwrap();
    disk.create_dir(at("/b")).unwrap();

    disk.remove_file(at("/a")).unwrap();
    let open = disk.space(at("/")).unwrap().available;
    drop(file);
    assert_eq!(disk.space(at("/")).unwrap().available, open + 1_024, "an open file keeps its room");
    disk.remove_dir(at("/b")).unwrap();
    disk.set_capacity(empty.total);
    assert_eq!(disk.space(at("/")).unwrap(), empty);
    disk.kill();
    assert_eq!(disk.space(at("/")).unwrap(), empty);
}
