//! Verification: nothing is found where nothing is wrong, whatever happens meanwhile; and every damage is, with its place.

use std::{path::Path, sync::Arc};

use locus_core::{Checksum, Error, FileKey, Outcome, VolumeSet};
use locus_fs::Disk;
use locus_storage::{EngineOptions, Finding, VerifyLevel, VerifyProgress, WriteOptions};
use locus_testkit::{Fault, OpKind};
use parking_lot::Mutex;
use rstest::rstest;

use crate::{
    bench::{Bench, Hang, poll_once, vol},
    inline::{again, content, end, find, flip, open, roomy, small, world},
    world::{End, files_below},
};

const LEVELS: [VerifyLevel; 3] = [VerifyLevel::Counts, VerifyLevel::Records, VerifyLevel::Contents];

/// Files in every state, in the journal and on a volume, two checkpoints, several segments.
pub(crate) struct Full {
    pub(crate) bench: Bench,
    pub(crate) in_journal: Vec<FileKey>,
    pub(crate) on_volume: Vec<FileKey>,
}

pub(crate) fn small_content(number: usize) -> Vec<u8> {
    content(number as u64, 2_000 + number)
}

pub(crate) fn long_content(number: usize) -> Vec<u8> {
    content(1_000 + number as u64, 100_000 + number)
}

pub(crate) fn full() -> Full {
    let mut bench = open(world(7, roomy(), 1));
    let mut in_journal: Vec<_> = (0..20).map(|n| bench.write(small_content(n))).collect();
    bench.checkpoint();
    let on_volume: Vec<_> = (0..6)
        .map(|n| {
            let options = WriteOptions::new()
                .directory("/in/deep")
                .original_name("scan.pdf")
                .idempotency_key(n.to_string());
            bench.write_with(long_content(n), options).unwrap()
        })
        .collect();
    in_journal.push(bench.write(Vec::new()));
    bench.checkpoint();
    let leases: Vec<_> = in_journal[10..14].iter().map(|key| bench.take(*key)).collect();
    let scheduler = bench.scheduler.clone();
    bench.run(async move {
        scheduler.fail(&leases[0], "not now").await.unwrap();
        scheduler.complete(&leases[1]).await.unwrap();
        scheduler.release(&leases[2]).await.unwrap();
    });
    let lease = bench.take(on_volume[5]);
    bench.complete(vec![lease]);
    Full { bench, in_journal, on_volume }
}

fn findings(bench: &mut Bench, level: VerifyLevel) -> Vec<Finding> {
    let report = bench.verify(level);
    assert_eq!(report.findings_total, report.findings.len() as u64);
    assert_eq!(report.is_clean(), report.findings.is_empty());
    report.findings
}

#[rstest]
fn b51_nothing_is_found_in_a_healthy_store(
    #[values(None, Some(End::Kill), Some(End::PowerCut), Some(End::Close))] how: Option<End>,
) {
    let Full { mut bench, .. } = full();
    if let Some(how) = how {
        bench = again(bench, how);
    }
    for level in LEVELS {
        let report = bench.verify(level);
        assert_eq!(report.findings, [], "{level:?}");
        assert_eq!((report.files, report.blobs, report.unchecked), (27, 5, 0), "{level:?}");
        let read = (report.checkpoints, report.segments > 0, report.records > 30, report.contents);
        let expected = match level {
            VerifyLevel::Counts => (0, false, false, 0),
            VerifyLevel::Records => (2, true, true, 0),
            VerifyLevel::Contents => (2, true, true, 25),
        };
        assert_eq!(read, expected, "{level:?}");
    }
    bench.reap();
    assert_eq!(findings(&mut bench, VerifyLevel::Contents), []);
}

#[test]
fn progress_never_goes_back_and_ends_at_its_total() {
    let Full { mut bench, .. } = full();
    for level in LEVELS {
        let told = Arc::new(Mutex::new(Vec::<VerifyProgress>::new()));
        let (store, tell) = (bench.engine.store.clone(), told.clone());
        let report = bench.run(async move { store.verify(level, &|at| tell.lock().push(at)).await }).unwrap();
        let told = std::mem::take(&mut *told.lock());
        for pair in told.windows(2) {
            assert!(pair[0].files_done <= pair[1].files_done && pair[0].bytes_done <= pair[1].bytes_done);
        }
        assert!(told.iter().all(|at| at.files_done <= at.files_total && at.bytes_done <= at.bytes_total));
        let first = told[0];
        assert_eq!((first.files_done, first.files_total), (0, 27));
        assert_eq!(first.bytes_total > 0, level > VerifyLevel::Counts);
        let last = told.last().unwrap();
        assert_eq!((last.files_done, last.bytes_done), (report.files, report.bytes));
        assert_eq!((last.files_done, last.bytes_done), (last.files_total, last.bytes_total));
    }
}

// ---- contents on volumes ------------------------------------------------------------------------------------------------

#[test]
fn b73_a_content_that_is_missing_on_its_volume_is_found_by_name() {
    let Full { mut bench, on_volume, .. } = full();
    let path = bench.engine.registry.volume(&vol(0)).unwrap().mount_path().unwrap().to_owned();
    let (lost, _) = files_below(&*bench.world.disk, &path)
        .into_iter()
        .find(|(path, _)| path.to_string_lossy().contains(&on_volume[2].to_string()))
        .unwrap();
    bench.world.disk.remove_file(&lost).unwrap();
    for level in LEVELS {
        let missing = Finding::BlobMissing {
            tenant: bench.acme.id().clone(),
            key: on_volume[2],
            volume: vol(0),
            path: lost.clone(),
        };
        assert_eq!(findings(&mut bench, level), [missing]);
    }
}

pub(crate) fn blob(bench: &Bench, key: FileKey) -> std::path::PathBuf {
    let files = files_below(&*bench.world.disk, Path::new("/vol-0"));
    files.into_keys().find(|path| path.to_string_lossy().contains(&key.to_string())).unwrap()
}

#[test]
fn a_content_on_a_volume_that_is_too_short_or_damaged_is_found_with_its_path() {
    let Full { mut bench, on_volume, .. } = full();
    let (short, spoilt) = (blob(&bench, on_volume[0]), blob(&bench, on_volume[1]));
    bench.world.disk.open(&short, true).unwrap().set_len(99_999).unwrap();
    flip(&bench.world, &spoilt, 70_000);
    let tenant = bench.acme.id().clone();
    let too_short = Finding::BlobLength {
        tenant: tenant.clone(),
        key: on_volume[0],
        volume: vol(0),
        path: short,
        recorded: 100_000,
        found: 99_999,
    };
    let mut bytes = long_content(1);
    bytes[70_000] ^= 0x10;
    let damaged = Finding::ContentDamaged {
        tenant,
        key: on_volume[1],
        volume: Some(vol(0)),
        path: spoilt,
        offset: 0,
        recorded: Checksum::of(&long_content(1)),
        found: Checksum::of(&bytes),
    };
    let all = [too_short, damaged];
    assert_eq!(findings(&mut bench, VerifyLevel::Counts), all[..1]);
    assert_eq!(findings(&mut bench, VerifyLevel::Contents), all);
}

#[test]
fn a_content_that_cannot_be_read_is_found_with_what_the_disk_said() {
    let Full { mut bench, on_volume, .. } = full();
    let path = blob(&bench, on_volume[3]);
    let at = path.clone();
    bench.world.disk.fail(Fault::io().on(OpKind::Read).at(move |path| path == at).for_good());
    let found = findings(&mut bench, VerifyLevel::Contents);
    let [Finding::ContentUnreadable { key, volume, path: named, why, .. }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((*key, volume, named), (on_volume[3], &Some(vol(0)), &path));
    assert!(why.contains("read") && why.contains(": "), "{why}");
}

#[test]
fn files_of_a_volume_that_is_not_there_are_unchecked_and_no_finding() {
    let Full { mut bench, .. } = full();
    let pool = bench.pool.clone();
    bench.run(async move { pool.unmount(&vol(0)).await }).unwrap();
    let report = bench.verify(VerifyLevel::Contents);
    assert_eq!((report.findings, report.unchecked, report.blobs), (vec![], 5, 0));
}

// ---- the journal --------------------------------------------------------------------------------------------------------

#[test]
fn a_damaged_content_in_the_journal_is_found_with_its_place() {
    let Full { mut bench, in_journal, .. } = full();
    let (segment, path, at) = find(&bench.world, &small_content(3));
    flip(&bench.world, &path, at + 5);
    assert_eq!(findings(&mut bench, VerifyLevel::Counts), []);
    let records = findings(&mut bench, VerifyLevel::Records);
    let [Finding::AttachmentDamaged { segment: of, path: named, offset, lsn }] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!((*of, named, *offset), (segment, &path, at as u64));
    assert!(lsn.0 > 0);
    let mut bytes = small_content(3);
    bytes[5] ^= 0x10;
    let damaged = Finding::ContentDamaged {
        tenant: bench.acme.id().clone(),
        key: in_journal[3],
        volume: None,
        path,
        offset: at as u64,
        recorded: Checksum::of(&small_content(3)),
        found: Checksum::of(&bytes),
    };
    assert_eq!(findings(&mut bench, VerifyLevel::Contents), [damaged, records[0].clone()]);
}

#[rstest]
fn a_damaged_record_is_found_wherever_its_segment_stands(
    #[values(false, true)] restart: bool,
    #[values(48, 20)] before: usize,
) {
    let Full { mut bench, .. } = full();
    if restart {
        // The segment is kept for what lives in it alone.
        bench.checkpoint();
        bench.checkpoint();
        bench = again(bench, End::Close);
        bench.checkpoint();
        bench.checkpoint();
        bench = again(bench, End::Close);
    }
    assert_eq!(findings(&mut bench, VerifyLevel::Records), []);
    let (segment, path, at) = find(&bench.world, &small_content(3));
    flip(&bench.world, &path, at - before); // within its body, or its head
    let found = findings(&mut bench, VerifyLevel::Records);
    let [Finding::RecordDamaged { segment: of, path: named, offset, lsn }] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!((*of, named), (segment, &path));
    assert!(*offset % 512 == 0 && (*offset as usize) < at && at - *offset as usize <= 1_024, "{offset} {at}");
    assert!(lsn.0 > 0);
}

#[test]
fn a_header_is_damaged_when_both_its_copies_are() {
    let Full { mut bench, .. } = full();
    let (segment, path, _) = find(&bench.world, &small_content(3));
    flip(&bench.world, &path, 40);
    assert_eq!(findings(&mut bench, VerifyLevel::Records), []);
    flip(&bench.world, &path, 2_048 + 40);
    assert_eq!(findings(&mut bench, VerifyLevel::Records), [Finding::HeaderDamaged { segment, path }]);
}

#[test]
fn a_damaged_checkpoint_is_found_by_name() {
    let Full { mut bench, .. } = full();
    let files = files_below(&*bench.world.disk, Path::new("/data/journal"));
    let path = files.into_keys().find(|path| path.ends_with("checkpoint-00000002")).unwrap();
    flip(&bench.world, &path, 200);
    assert_eq!(findings(&mut bench, VerifyLevel::Counts), []);
    let found = findings(&mut bench, VerifyLevel::Records);
    let [Finding::CheckpointDamaged { path: named, why }] = &found[..] else { panic!("{found:?}") };
    assert_eq!(*named, path);
    assert!(why.contains("checksum is wrong"), "{why}");
}

#[test]
fn a_segment_that_cannot_be_read_is_found_and_the_others_are_read() {
    let Full { mut bench, .. } = full();
    bench.checkpoint();
    let bench_end = end(bench, End::Close);
    let mut bench = open(bench_end);
    let (segment, path, _) = find(&bench.world, &small_content(3));
    let at = path.clone();
    bench.world.disk.fail(Fault::io().on(OpKind::Read).at(move |path| path == at).for_good());
    let report = bench.verify(VerifyLevel::Records);
    let [Finding::SegmentUnreadable { segment: of, path: named, why }] = &report.findings[..] else {
        panic!("{report:?}")
    };
    assert_eq!((*of, named), (segment, &path));
    assert!(why.contains("read"), "{why}");
    assert!(report.segments > 1, "{report:?}");
}

#[test]
fn a_place_in_a_segment_that_is_gone_is_found() {
    let Full { mut bench, in_journal, .. } = full();
    for _ in 0..2 {
        bench.checkpoint();
        bench.checkpoint();
        bench = again(bench, End::Close);
    }
    let (segment, path, at) = find(&bench.world, &small_content(3));
    let world = end(bench, End::Close);
    world.disk.remove_file(&path).unwrap();
    let mut bench = open(world);
    let found = findings(&mut bench, VerifyLevel::Counts);
    let offset = at as u64;
    let missing =
        Finding::PlaceMissing { tenant: bench.acme.id().clone(), key: in_journal[3], segment, offset };
    assert!(found.contains(&missing), "{found:?}");
    assert_eq!(findings(&mut bench, VerifyLevel::Contents), found);
}

// ---- beside running work ------------------------------------------------------------------------------------------------

#[rstest]
fn what_ends_while_it_is_looked_at_is_no_finding(#[values(false, true)] deleted: bool) {
    let Full { mut bench, on_volume, .. } = full();
    let hanging = bench.hanging(0);
    hanging.hang(Hang::Open);
    let store = bench.engine.store.clone();
    let mut verifying = Box::pin(async move { store.verify(VerifyLevel::Contents, &|_| ()).await });
    assert!(poll_once(verifying.as_mut()).is_pending());
    if deleted {
        let (pool, acme, key) = (bench.pool.clone(), bench.acme.clone(), on_volume[1]);
        bench.run(async move { pool.delete(&acme, &key).await }).unwrap();
    } else {
        let lease = bench.take(on_volume[1]);
        bench.complete(vec![lease]);
    }
    bench.reap();
    let late: Vec<_> = (50..60).map(|n| bench.write(small_content(n))).collect();
    hanging.go();
    let report = bench.run(verifying).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.blobs, 4);
    assert_eq!(late.len(), 10);
}

#[test]
fn counts_fit_whatever_is_changed_while_they_are_counted() {
    // More files than one page has, changed before and behind the mark while contents hang.
    let mut bench = open(world(9, EngineOptions { pending_bytes_max: 64 << 20, ..small() }, 1));
    let first = bench.write(long_content(0));
    let keys: Vec<_> = (0..50).flat_map(|n| bench.write_all(&vec![content(n, 3); 100]).unwrap()).collect();
    let hanging = bench.hanging(0);
    hanging.hang(Hang::Open);
    let store = bench.engine.store.clone();
    let mut verifying = Box::pin(async move { store.verify(VerifyLevel::Counts, &|_| ()).await });
    assert!(poll_once(verifying.as_mut()).is_pending()); // behind the first page
    bench.finish(&keys[..200]); // counted already
    bench.finish(&keys[4_900..]); // not yet
    bench.reap();
    let more: Vec<_> = (0..3).flat_map(|n| bench.write_all(&vec![content(n, 5); 100]).unwrap()).collect();
    let leases: Vec<_> = more[..20].iter().map(|key| bench.take(*key)).collect();
    let (pool, other) = (bench.pool.clone(), bench.other.clone());
    bench.run(async move { pool.write(&other, "of another", WriteOptions::new()).await }).unwrap();
    hanging.go();
    let report = bench.run(verifying).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.tenants, 2);
    assert!(report.files >= 4_096, "{report:?}");
    bench.complete(leases);
    assert!(bench.status_of(first).is_some());
    assert_eq!(findings(&mut bench, VerifyLevel::Contents), []);
}

#[test]
fn a_verification_that_is_dropped_leaves_nothing_behind() {
    let Full { mut bench, .. } = full();
    let hanging = bench.hanging(0);
    hanging.hang(Hang::Open);
    for _ in 0..3 {
        let store = bench.engine.store.clone();
        let mut verifying = Box::pin(async move { store.verify(VerifyLevel::Contents, &|_| ()).await });
        assert!(poll_once(verifying.as_mut()).is_pending());
        bench.write(small_content(77));
    }
    hanging.go();
    bench.reap();
    assert_eq!(findings(&mut bench, VerifyLevel::Contents), []);
}

#[test]
fn a_poisoned_store_is_reopened_before_it_is_verified() {
    let Full { mut bench, .. } = full();
    bench.world.disk.fail(Fault::io().on(OpKind::Sync).at(|path| path.starts_with("/data/journal")));
    assert!(bench.write_with("lost", WriteOptions::new()).is_err());
    let store = bench.engine.store.clone();
    let refused = bench.run(async move { store.verify(VerifyLevel::Counts, &|_| ()).await });
    assert!(matches!(refused, Err(Error::Poisoned { outcome: Outcome::NotDone })), "{refused:?}");
    let mut bench = again(bench, End::Kill);
    assert_eq!(findings(&mut bench, VerifyLevel::Contents), []);
}

#[test]
fn findings_are_listed_up_to_a_bound_and_counted_beyond_it() {
    let mut bench = open(world(11, EngineOptions { inline_content_max: 0, ..roomy() }, 1).with_inline(0));
    for n in 0..11 {
        bench.write_all(&vec![content(n, 3); 100]).unwrap();
    }
    for path in files_below(&*bench.world.disk, Path::new("/vol-0/tenant-0")).into_keys() {
        bench.world.disk.remove_file(&path).unwrap();
    }
    let report = bench.verify(VerifyLevel::Counts);
    assert_eq!((report.findings.len(), report.findings_total), (1_000, 1_100));
}
