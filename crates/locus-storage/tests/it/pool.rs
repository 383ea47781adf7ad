//! Writing, reading, volumes.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::{io, path::Path};

use locus_cleanup::SweepOptions;
use locus_core::{
    Checksum, Content, DirectoryQuota, Error, FileStatus, LeaseOptions, Limit, MetadataStore, Scope,
    TenantContext, TenantId, TenantManager, TenantStatus, Timestamp,
};
use locus_fs::{Disk, LocalVolume};
use locus_storage::{EngineOptions, WRITE_BATCH_MAX, WriteOptions};
use locus_testkit::{Fault, OpKind};
use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncSeekExt, ReadBuf, SeekFrom};

use crate::bench::{Bench, Hang, vol};

/// Gives some bytes, then fails.
struct Broken(usize);

impl tokio::io::AsyncRead for Broken {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        if self.0 == 0 {
            return std::task::Poll::Ready(Err(io::Error::other("the source broke")));
        }
        let take = self.0.min(into.remaining());
        into.put_slice(&vec![7; take]);
        self.0 -= take;
        std::task::Poll::Ready(Ok(()))
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

fn one_file_only() -> EngineOptions {
    EngineOptions { tenant_quota: Some(1), ..EngineOptions::default() }
}

// ---- writing ----------------------------------------------------------------------------------------------------

#[test]
fn what_was_written_is_read_and_known() {
    let mut bench = Bench::new();
    let options = WriteOptions::new()
        .original_name("scan.pdf")
        .directory("invoices//2026/")
        .property("source", "scanner-7")
        .expected_checksum(Checksum::of(b"hello"));
    let key = bench.write_with("hello", options).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"hello");
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let info = bench.run(pool.info(&acme, &key)).unwrap().unwrap();
    assert_eq!(info.size, 5);
    assert_eq!(info.checksum, Checksum::of(b"hello"));
    assert_eq!(info.original_name.as_deref(), Some("scan.pdf"));
    assert_eq!(info.directory.as_str(), "/invoices/2026");
    assert_eq!(info.properties["source"], "scanner-7");
    assert_eq!(info.status, FileStatus::Pending);
    let path = bench.run(pool.materialize(&acme, &key)).unwrap();
    let location = bench.run(pool.location(&acme, &key)).unwrap().unwrap();
    assert_eq!(location.physical_path.as_deref(), Some(&*path));
    assert_eq!(path.extension().and_then(|e| e.to_str()), Some("pdf"));
}

#[test]
fn b3_a_write_whose_source_breaks_leaves_nothing() {
    let mut bench = Bench::with(one_file_only(), 2);
    let broken = Content::reader(Broken(3 << 20));
    assert!(matches!(bench.write_with(broken, WriteOptions::new()), Err(Error::Source { .. })));
    assert!(bench.blobs().is_empty() && bench.pool.residue().is_empty());
    assert_eq!(bench.counts().files(), 0);
    // The room is there again, and no volume is blamed for a source.
    assert!(bench.pool.volumes().iter().all(|volume| volume.unusable.is_none() && volume.in_flight == 0));
    bench.write("fits");
}

#[test]
fn b4_residue_that_cannot_be_removed_is_tracked_and_its_room_given_back_once() {
    let mut bench = Bench::with(one_file_only(), 1);
    let fault = bench.fault(0, OpKind::Remove, Fault::io().for_good());
    let wrong = WriteOptions::new().expected_checksum(Checksum::of(b"something else"));
    assert!(matches!(bench.write_with("hello", wrong), Err(Error::ChecksumMismatch { .. })));
    let (pool, store) = (bench.pool.clone(), bench.engine.store.clone());
    assert_eq!(pool.residue().len(), 1);
    assert_eq!(bench.blobs(), [pool.residue()[0].blob.key]);
    // Tried again and failed again: still there.
    assert_eq!(bench.run(pool.tidy_residue(&*store)), 1);
    bench.world.disk.heal(fault);
    assert_eq!(bench.run(pool.tidy_residue(&*store)), 0);
    assert!(bench.blobs().is_empty());
    // Given back once: one file fits, a second does not.
    bench.write("fits");
    let full = bench.write_with("does not", WriteOptions::new());
    assert!(matches!(full, Err(Error::TenantQuotaExceeded { used: 1, limit: 1, .. })), "{full:?}");
}

#[test]
fn b5_an_accept_that_fails_is_settled_by_its_idempotency_key_after_reopening() {
    let mut bench = Bench::new();
    let options = || WriteOptions::new().idempotency_key("letter-1");
    bench.world.disk.fail(Fault::io().on(OpKind::Sync).at(|path| path.starts_with("/data")));
    assert!(matches!(bench.write_with("hello", options()), Err(Error::Poisoned { .. })));
    let mut bench = bench.restart();
    let first = bench.write_with("hello", options()).unwrap();
    assert_eq!(bench.write_with("hello", options()).unwrap(), first);
    let sweeping = bench.engine.sweeper.leftovers(SweepOptions::default());
    let store = bench.engine.store.clone();
    bench.world.stepper.block_on(sweeping, || store.commit_step() | store.keep_step()).unwrap();
    assert_eq!(bench.blobs(), [first]);
    assert_eq!(bench.counts().pending, 1);
    assert_eq!(bench.read(first).unwrap(), b"hello");
}

#[rstest]
#[case::before_the_bytes(Hang::Before)]
#[case::after_the_bytes(Hang::After)]
fn b6_a_write_dropped_at_its_volume_leaves_nothing(#[case] hang: Hang) {
    let mut bench = Bench::with(one_file_only(), 1);
    let hanging = bench.hanging(0);
    hanging.hang(hang);
    let (pool, acme, store) = (bench.pool.clone(), bench.acme.clone(), bench.engine.store.clone());
    assert!(bench.poll(3, pool.write(&acme, "hello", WriteOptions::new())).is_none());
    assert_eq!(bench.blobs().len(), usize::from(hang == Hang::After));
    assert_eq!(pool.volumes()[0].in_flight, 0);
    hanging.hang(Hang::No);
    while bench.run(pool.tidy_residue(&*store)) > 0 {}
    assert!(bench.blobs().is_empty());
    bench.write("fits");
}

#[rstest]
#[case::tidied_by_steps(false)]
#[case::tidied_in_the_background(true)]
fn b6_a_write_dropped_after_any_poll_is_there_or_not(#[case] in_background: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _entered = in_background.then(|| runtime.enter());
    let (mut there, mut not) = (0, 0);
    for polls in 0..20 {
        let mut bench = Bench::with(one_file_only(), 1);
        let (pool, acme, store) = (bench.pool.clone(), bench.acme.clone(), bench.engine.store.clone());
        let done = bench.poll(polls, pool.write(&acme, "hello", WriteOptions::new()));
        // What was left to the runtime runs before the committer comes to its next step.
        if in_background {
            runtime.block_on(async {
                for _ in 0..10 {
                    tokio::task::yield_now().await;
                }
            });
        }
        bench.commit();
        while bench.run(pool.tidy_residue(&*store)) > 0 {}
        match bench.blobs().as_slice() {
            [] => {
                assert!(done.is_none() && bench.counts().files() == 0);
                bench.write("fits");
                not += 1;
            }
            [key] => {
                assert_eq!(bench.counts().pending, 1);
                assert_eq!(bench.read(*key).unwrap(), b"hello");
                there += 1;
            }
            more => panic!("{more:?}"),
        }
    }
    assert!(there > 0 && not > 0, "{there} {not}");
}

#[rstest]
#[case(0)]
#[case(1)]
#[case((1 << 20) - 1)]
#[case(1 << 20)]
#[case((5 << 20) / 2)]
fn b8_the_size_of_a_stream_is_what_came(#[case] len: usize) {
    let mut bench = Bench::new();
    let content = bytes(len);
    let key = bench.write(Content::reader(io::Cursor::new(content.clone())));
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    assert_eq!(bench.run(pool.info(&acme, &key)).unwrap().unwrap().size, len as u64);
    assert_eq!(bench.read(key).unwrap(), content);
}

#[test]
fn b7_b9_a_volume_that_fails_half_way_is_passed_by_and_avoided() {
    let mut bench = Bench::new();
    let content = bytes(3 << 20);
    let mut source = io::Cursor::new(content.clone());
    source.set_position(1_000);
    bench.fault(0, OpKind::Write, Fault::io().after(1));
    let key = bench.write(Content::seekable(source));
    assert_eq!(bench.volume_of(key), vol(1));
    assert_eq!(bench.blobs(), [key]);
    assert_eq!(bench.read(key).unwrap(), content[1_000..]);
    assert_eq!(bench.counts().files(), 1);
    // Avoided until a probe says that all is well.
    for _ in 0..3 {
        let key = bench.write("small");
        assert_eq!(bench.volume_of(key), vol(1));
    }
    assert!(bench.pool.volumes()[0].unusable.is_some());
    let pool = bench.pool.clone();
    bench.run(pool.probe_all());
    assert!(bench.pool.volumes()[0].unusable.is_none());
    let key = bench.write("small");
    assert_eq!(bench.volume_of(key), vol(0));
}

#[test]
fn b9_without_a_way_back_in_the_source_the_error_is_clean() {
    let mut bench = Bench::with(one_file_only(), 2);
    bench.fault(0, OpKind::Write, Fault::io().after(1));
    let content = Content::reader(io::Cursor::new(bytes(3 << 20)));
    let failed = bench.write_with(content, WriteOptions::new());
    assert!(matches!(failed, Err(Error::Io { .. })), "{failed:?}");
    assert!(bench.blobs().is_empty() && bench.pool.residue().is_empty());
    bench.write("fits");
}

#[test]
fn a_lone_volume_that_failed_a_write_is_probed_and_used_again() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    bench.fault(0, OpKind::Write, Fault::io());
    bench.write_with("hello", WriteOptions::new()).unwrap_err();
    bench.write("hello");
}

#[test]
fn b10_without_a_volume_nothing_is_written_and_the_room_given_back() {
    let mut bench = Bench::with(one_file_only(), 1);
    let pool = bench.pool.clone();
    bench.run(pool.unmount(&vol(0))).unwrap();
    for _ in 0..3 {
        let refused = bench.write_with("hello", WriteOptions::new());
        assert!(matches!(refused, Err(Error::VolumeUnavailable { volume: None, .. })), "{refused:?}");
    }
    bench.run(pool.mount(LocalVolume::new("vol-0", "/vol-0"))).unwrap();
    bench.write("fits");
}

#[test]
fn b10_full_volumes_are_said_with_what_is_needed_and_what_there_is() {
    let mut bench = Bench::new();
    let content = bytes(100_000);
    bench.world.disk.set_capacity(0);
    let pool = bench.pool.clone();
    bench.run(pool.probe_all());
    let writes = bench.fault(0, OpKind::Write, Fault::io().for_good());
    let refused = bench.write_with(content.clone(), WriteOptions::new());
    let Err(Error::InsufficientStorage { required, available }) = refused else { panic!("{refused:?}") };
    assert_eq!((required, available), (100_000, 0));
    assert_eq!(bench.world.disk.hits(writes), 0);
    assert_eq!(pool.available_space(), 0);
    // A full disk is no ill disk: it works again as soon as there is room.
    bench.world.disk.heal_all();
    bench.world.disk.set_capacity(1 << 30);
    bench.run(pool.probe_all());
    bench.write(content);
}

#[test]
fn a_disk_that_fills_up_during_a_write_is_full_and_not_ill() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    bench.fault(0, OpKind::Write, Fault::no_space());
    let refused = bench.write_with(bytes(100), WriteOptions::new());
    assert!(refused.as_ref().is_err_and(Error::is_full), "{refused:?}");
    assert!(bench.pool.volumes()[0].unusable.is_none());
    assert!(bench.blobs().is_empty());
    bench.write("fits");
}

#[rstest]
#[case("../x", "")]
#[case("a/b", "")]
#[case("nul\0.txt", "txt")]
#[case("x.\u{202e}fdp", "")]
#[case("CON", "")]
#[case("x.tar.gz:stream", "")]
#[case("/etc/passwd", "")]
#[case("X.PDF", "pdf")]
fn b11_a_hostile_name_is_data_only(#[case] name: &str, #[case] extension: &str) {
    let mut bench = Bench::new();
    let key = bench.write_with("hello", WriteOptions::new().original_name(name)).unwrap();
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let location = bench.run(pool.location(&acme, &key)).unwrap().unwrap();
    assert_eq!(location.info.original_name.as_deref(), Some(name));
    let path = location.physical_path.unwrap();
    let root = Path::new("/").join(location.volume_id.unwrap().as_str()).join(acme.storage_path().as_str());
    assert!(path.starts_with(root) && path.components().count() == 5, "{}", path.display());
    let dot = if extension.is_empty() { "" } else { "." };
    assert_eq!(path.file_name().unwrap().to_str(), Some(&*format!("{key}{dot}{extension}")));
}

#[rstest]
#[case::name(WriteOptions::new().original_name("n".repeat(1_025)), "original name")]
#[case::properties(WriteOptions::new().property("k", "v".repeat(1_024)), "properties")]
#[case::key(WriteOptions::new().idempotency_key("k".repeat(4_097)), "idempotency key")]
#[case::directory(WriteOptions::new().directory("d/".repeat(33)), "directory depth")]
fn b11_what_is_too_long_is_refused_by_name(#[case] options: WriteOptions, #[case] name: &str) {
    let mut bench = Bench::with(one_file_only(), 1);
    match bench.write_with("hello", options) {
        Err(Error::TooLarge { what, .. }) => assert_eq!(what, name),
        other => panic!("{other:?}"),
    }
    assert!(bench.blobs().is_empty());
    bench.write("fits");
}

#[test]
fn what_is_wrong_is_said_in_the_order_tenant_quota_volume_name() {
    let mut bench = Bench::with(EngineOptions { tenant_quota: Some(0), ..EngineOptions::default() }, 1);
    let (pool, acme, store) = (bench.pool.clone(), bench.acme.clone(), bench.engine.store.clone());
    bench.run(pool.unmount(&vol(0))).unwrap();
    let tenants = bench.engine.directory.clone();
    bench.run(tenants.set_status(acme.id(), TenantStatus::Disabled)).unwrap();
    let long = || WriteOptions::new().original_name("n".repeat(2_000));
    assert!(matches!(bench.write_with("x", long()), Err(Error::TenantDisabled { .. })));
    bench.run(tenants.set_status(acme.id(), TenantStatus::Enabled)).unwrap();
    assert!(matches!(bench.write_with("x", long()), Err(Error::TenantQuotaExceeded { .. })));
    bench.run(store.set_limit(Scope::Tenant(acme.id().clone()), Limit::Unlimited)).unwrap();
    assert!(matches!(bench.write_with("x", long()), Err(Error::VolumeUnavailable { .. })));
    bench.run(pool.mount(LocalVolume::new("vol-0", "/vol-0"))).unwrap();
    assert!(matches!(bench.write_with("x", long()), Err(Error::TooLarge { .. })));
}

#[test]
fn a_full_directory_refuses_before_a_byte_is_written() {
    let quota =
        DirectoryQuota { pattern: "tenant-0/in".into(), max_files: 1, max_bytes: None, enabled: true };
    let mut bench =
        Bench::with(EngineOptions { directory_quotas: vec![quota], ..EngineOptions::default() }, 1);
    bench.write_with("1", WriteOptions::new().directory("in")).unwrap();
    let refused = bench.write_with("2", WriteOptions::new().directory("/in/"));
    assert!(matches!(refused, Err(Error::DirectoryQuotaExceeded { .. })), "{refused:?}");
    bench.write_with("2", WriteOptions::new().directory("out")).unwrap();
    assert_eq!(bench.blobs().len(), 2);
}

#[test]
fn an_idempotency_key_gives_the_first_key_again_until_it_is_forgotten() {
    let mut bench = Bench::new();
    let options = || WriteOptions::new().idempotency_key("letter-1");
    let first = bench.write_with("hello", options()).unwrap();
    assert_eq!(bench.write_with("anything", options()).unwrap(), first);
    assert_eq!(bench.blobs(), [first]);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    assert!(bench.run(pool.forget(&acme, "letter-1")).unwrap());
    assert!(!bench.run(pool.forget(&acme, "letter-1")).unwrap());
    assert_ne!(bench.write_with("hello", options()).unwrap(), first);
}

#[test]
fn of_two_writes_with_one_idempotency_key_the_first_accept_wins_and_one_blob_stays() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let hanging = bench.hanging(0);
    hanging.hang(Hang::After);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let options = || WriteOptions::new().idempotency_key("letter-1");
    let mut slow = Box::pin(pool.write(&acme, "slow", options()));
    assert!(crate::bench::poll_once(slow.as_mut()).is_pending());
    hanging.hang(Hang::No);
    let fast = bench.write_with("fast", options()).unwrap();
    hanging.go();
    assert_eq!(bench.run(slow).unwrap(), fast);
    assert_eq!(bench.blobs(), [fast]);
    assert_eq!((bench.counts().files(), bench.pool.residue().len()), (1, 0));
}

#[test]
fn b67_a_batch_is_taken_in_wholly_or_not_at_all() {
    let mut bench = Bench::new();
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let good = |number: u8| (Content::from(vec![number]), WriteOptions::new());
    let bad = (Content::reader(Broken(10)), WriteOptions::new());
    let refused = bench.run(pool.write_batch(&acme, vec![good(1), good(2), bad]));
    assert!(matches!(refused, Err(Error::Source { .. })));
    assert!(bench.blobs().is_empty() && bench.counts().files() == 0);
    let keys = bench.run(pool.write_batch(&acme, (0..50).map(good).collect())).unwrap();
    assert_eq!((keys.len(), bench.counts().pending), (50, 50));
    for (number, key) in keys.into_iter().enumerate() {
        assert_eq!(bench.read(key).unwrap(), [number as u8]);
    }
    assert!(bench.run(pool.write_batch(&acme, Vec::new())).unwrap().is_empty());
    let many = (0..=WRITE_BATCH_MAX).map(|_| good(0)).collect();
    assert!(matches!(bench.run(pool.write_batch(&acme, many)), Err(Error::TooLarge { .. })));
}

#[test]
fn a_batch_gives_known_keys_in_their_places() {
    let mut bench = Bench::new();
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let named = |name: &str| (Content::from(name), WriteOptions::new().idempotency_key(name));
    let b = bench.write_with("b", WriteOptions::new().idempotency_key("b")).unwrap();
    let keys =
        bench.run(pool.write_batch(&acme, vec![named("a"), named("b"), named("c"), named("a")])).unwrap();
    assert_eq!((keys[1], keys[3]), (b, keys[0]));
    assert_eq!(bench.read(keys[2]).unwrap(), b"c");
    assert_eq!((bench.counts().files(), bench.blobs().len()), (3, 3));
}

// ---- reading ----------------------------------------------------------------------------------------------------

#[test]
fn b13_the_key_of_another_tenant_is_an_unknown_key() {
    let mut bench = Bench::new();
    let foreign = bench.write("hello");
    let unknown = locus_core::FileKey::generate(Timestamp::from_micros(0), &[9; 10]);
    let (pool, scheduler, other) = (bench.pool.clone(), bench.scheduler.clone(), bench.other.clone());
    for key in [foreign, unknown] {
        assert_eq!(bench.run(pool.info(&other, &key)).unwrap(), None);
        assert_eq!(bench.run(pool.location(&other, &key)).unwrap(), None);
        let refusals = [
            bench.run(pool.read(&other, &key)).map(drop),
            bench.run(pool.read_range(&other, &key, 0..1)).map(drop),
            bench.run(pool.materialize(&other, &key)).map(drop),
            bench.run(pool.delete(&other, &key)),
            bench.run(pool.delete_with(&other, &key, true)),
            bench.run(scheduler.lease_key(&other, &key)).map(drop),
            bench.run(scheduler.reset(&other, &key)),
            bench.run(scheduler.status(&other, &key)).map(drop),
        ];
        for refused in refusals {
            assert!(
                matches!(&refused, Err(Error::FileNotFound { key: named }) if *named == key),
                "{refused:?}"
            );
        }
    }
    assert_eq!(bench.read(foreign).unwrap(), b"hello");
}

#[rstest]
#[case(TenantStatus::Disabled, false)]
#[case(TenantStatus::Suspended, true)]
fn b14_a_tenant_that_is_not_enabled_is_refused(#[case] status: TenantStatus, #[case] reads: bool) {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let (pool, scheduler, acme) = (bench.pool.clone(), bench.scheduler.clone(), bench.acme.clone());
    let tenants = bench.engine.directory.clone();
    bench.run(tenants.set_status(acme.id(), status)).unwrap();
    let work = [
        bench.run(pool.write(&acme, "x", WriteOptions::new())).map(drop),
        bench.run(pool.write_batch(&acme, vec![])).map(drop),
        bench.run(scheduler.next(&acme)).map(drop),
        bench.run(scheduler.next_batch(&acme, 2)).map(drop),
        bench.run(scheduler.lease_key(&acme, &key)).map(drop),
    ];
    for refused in work {
        assert!(matches!(refused, Err(Error::TenantDisabled { status: said, .. }) if said == status));
    }
    assert!(bench.run(scheduler.next_any()).unwrap().is_none());
    let looks = [
        bench.run(pool.read(&acme, &key)).map(drop),
        bench.run(pool.read_range(&acme, &key, 0..1)).map(drop),
        bench.run(pool.info(&acme, &key)).map(drop),
        bench.run(pool.location(&acme, &key)).map(drop),
        bench.run(pool.materialize(&acme, &key)).map(drop),
        bench.run(scheduler.status(&acme, &key)).map(drop),
        bench.run(scheduler.reset(&acme, &key)),
        bench.run(pool.delete(&acme, &key)),
    ];
    for looked in looks {
        assert_eq!(looked.is_ok(), reads, "{looked:?}");
        assert!(reads || matches!(looked, Err(Error::TenantDisabled { .. })));
    }
    // In force at once the other way round, too, with the same context.
    bench.run(tenants.set_status(acme.id(), TenantStatus::Enabled)).unwrap();
    bench.write("again");
}

#[rstest]
#[case(TenantStatus::Disabled)]
#[case(TenantStatus::Suspended)]
fn b14_the_holder_of_a_live_lease_may_end_its_work(#[case] status: TenantStatus) {
    let mut bench = Bench::new();
    for content in ["complete", "fail", "release"] {
        bench.write(content);
    }
    let (pool, scheduler, acme) = (bench.pool.clone(), bench.scheduler.clone(), bench.acme.clone());
    let files = bench.run(scheduler.next_batch(&acme, 3)).unwrap();
    let tenants = bench.engine.directory.clone();
    bench.run(tenants.set_status(acme.id(), status)).unwrap();
    let mut leases = Vec::new();
    for file in &files {
        let content = bench.run(async { pool.read_leased(&file.lease).await?.bytes().await }).unwrap();
        assert_eq!(content.len() as u64, file.size);
        leases.push(bench.run(scheduler.renew(&file.lease)).unwrap());
    }
    bench.run(scheduler.complete(&leases[0])).unwrap();
    bench.run(scheduler.fail(&leases[1], "no")).unwrap();
    bench.run(scheduler.release(&leases[2])).unwrap();
    for lease in &leases {
        let refused = bench.run(pool.read_leased(lease));
        assert!(matches!(refused, Err(Error::LeaseLost { .. })), "{refused:?}");
    }
}

#[test]
fn an_unknown_tenant_is_named() {
    let mut bench = Bench::new();
    let id = TenantId::parse("nobody").unwrap();
    let (pool, nobody) = (bench.pool.clone(), TenantContext::new(id.clone(), (&id).into()));
    let refused = bench.run(pool.write(&nobody, "x", WriteOptions::new()));
    assert!(matches!(refused, Err(Error::TenantNotFound { tenant }) if tenant == id));
}

#[rstest]
#[case::inner(3..7, b"3456")]
#[case::to_the_end(7..10, b"789")]
#[case::across_the_end(8..100, b"89")]
#[case::beyond_the_end(10..11, b"")]
#[case::far_beyond(u64::MAX - 1..u64::MAX, b"")]
#[case::empty(5..5, b"")]
#[case::whole(0..10, b"0123456789")]
fn b16_a_range_is_cut_at_the_end(#[case] range: std::ops::Range<u64>, #[case] expected: &[u8]) {
    let mut bench = Bench::new();
    let key = bench.write("0123456789");
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    assert_eq!(bench.run(pool.read_range(&acme, &key, range)).unwrap(), expected);
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "that is what is tested")]
fn b16_a_reversed_range_is_refused_and_a_long_one_is_put_together() {
    let mut bench = Bench::new();
    let content = bytes(3 << 20);
    let key = bench.write(content.clone());
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let refused = bench.run(pool.read_range(&acme, &key, 7..3));
    assert!(matches!(refused, Err(Error::InvalidArgument { name: "range", .. })));
    let part = bench.run(pool.read_range(&acme, &key, 17..(5 << 19))).unwrap();
    assert_eq!(part, content[17..(5 << 19)]);
    let empty = bench.write("");
    assert_eq!(bench.run(pool.read_range(&acme, &empty, 0..5)).unwrap(), "");
    assert_eq!(bench.read(empty).unwrap(), b"");
}

/// Changes one byte on the disk.
fn damage(bench: &mut Bench, key: locus_core::FileKey, offset: u64) -> std::path::PathBuf {
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let path = bench.run(pool.materialize(&acme, &key)).unwrap();
    bench.world.disk.open(&path, true).unwrap().write_at(b"!", offset).unwrap();
    path
}

#[rstest]
#[case::first(0)]
#[case::middle((3 << 20) / 2)]
#[case::last((3 << 20) - 1)]
fn b16_damaged_content_ends_in_an_error_that_names_volume_and_path(#[case] offset: u64) {
    let mut bench = Bench::new();
    let content = bytes(3 << 20);
    let key = bench.write(content);
    let path = damage(&mut bench, key, offset);
    let volume = bench.volume_of(key);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let mut read = Vec::new();
    let failed = bench.run(async { pool.read(&acme, &key).await.unwrap().read_to_end(&mut read).await });
    let failed = failed.unwrap_err();
    assert_eq!(failed.kind(), io::ErrorKind::InvalidData);
    let inner = failed.get_ref().unwrap().downcast_ref::<Error>().unwrap();
    assert!(matches!(inner, Error::ChecksumMismatch { .. }));
    let message = inner.to_string();
    assert!(message.contains(volume.as_str()) && message.contains(&*path.to_string_lossy()), "{message}");
    // The last bytes never come, so nobody takes what came for the whole.
    assert!(read.len() < 3 << 20);
    let whole = bench.run(pool.read_range(&acme, &key, 0..u64::MAX));
    assert!(matches!(whole, Err(Error::ChecksumMismatch { .. })));
}

#[rstest]
#[case::shorter(-1)]
#[case::longer(1)]
fn b16_content_of_another_length_is_refused_at_once(#[case] by: i64) {
    let mut bench = Bench::new();
    let key = bench.write(bytes(1_000));
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let path = bench.run(pool.materialize(&acme, &key)).unwrap();
    let file = bench.world.disk.open(&path, true).unwrap();
    file.set_len(1_000_u64.saturating_add_signed(by)).unwrap();
    let refused = bench.run(pool.read(&acme, &key));
    assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
}

#[test]
fn a_reader_seeks_anywhere_and_reads_on_after_the_file_was_removed() {
    let mut bench = Bench::new();
    let content = bytes(3 << 20);
    let key = bench.write(content.clone());
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let mut reader = bench.run(pool.read(&acme, &key)).unwrap();
    assert_eq!((reader.len(), reader.is_empty(), reader.info().key), (3 << 20, false, key));
    bench.run(pool.delete(&acme, &key)).unwrap();
    let step = bench.engine.sweeper.reap_step();
    let store = bench.engine.store.clone();
    bench.world.stepper.block_on(step, || store.commit_step() | store.keep_step()).unwrap();
    assert!(bench.blobs().is_empty());
    bench.run(async {
        let mut part = vec![0; 1_000];
        for from in [2_500_000, 10, 1 << 20, (1 << 20) - 500] {
            reader.seek(SeekFrom::Start(from)).await.unwrap();
            reader.read_exact(&mut part).await.unwrap();
            assert_eq!(part, content[from as usize..from as usize + 1_000]);
        }
        assert_eq!(reader.seek(SeekFrom::End(-3)).await.unwrap(), (3 << 20) - 3);
        part.clear();
        reader.read_to_end(&mut part).await.unwrap();
        assert_eq!(part, content[content.len() - 3..]);
        assert_eq!(reader.seek(SeekFrom::Current(5)).await.unwrap(), (3 << 20) + 5);
        assert_eq!(reader.read(&mut [0; 8]).await.unwrap(), 0);
        assert!(reader.seek(SeekFrom::Current(-(4 << 20))).await.is_err());
        reader.rewind().await.unwrap();
        let mut whole = Vec::new();
        reader.read_to_end(&mut whole).await.unwrap();
        assert!(whole == content);
    });
    let gone = bench.run(pool.read(&acme, &key));
    assert!(matches!(gone, Err(Error::FileNotFound { .. })), "{gone:?}");
}

#[test]
fn bytes_that_are_missing_under_a_living_record_are_no_unknown_file() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let path = bench.run(pool.materialize(&acme, &key)).unwrap();
    bench.world.disk.remove_file(&path).unwrap();
    let missing = bench.run(pool.read(&acme, &key));
    assert!(matches!(missing, Err(Error::Io { path: named, .. }) if named == path));
}

#[test]
fn a_completed_file_whose_bytes_are_gone_is_not_found() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let (pool, scheduler, acme) = (bench.pool.clone(), bench.scheduler.clone(), bench.acme.clone());
    let path = bench.run(pool.materialize(&acme, &key)).unwrap();
    let file = bench.run(scheduler.next(&acme)).unwrap().unwrap();
    bench.run(scheduler.complete(&file.lease)).unwrap();
    // The reaper is between the bytes and the record.
    bench.world.disk.remove_file(&path).unwrap();
    assert!(matches!(bench.run(pool.read(&acme, &key)), Err(Error::FileNotFound { .. })));
    assert!(matches!(bench.run(pool.materialize(&acme, &key)), Err(Error::FileNotFound { .. })));
}

#[test]
fn a_leased_file_is_deleted_only_by_force() {
    let mut bench = Bench::new();
    let key = bench.write("hello");
    let (pool, scheduler, acme) = (bench.pool.clone(), bench.scheduler.clone(), bench.acme.clone());
    let file = bench.run(scheduler.next(&acme)).unwrap().unwrap();
    assert!(matches!(bench.run(pool.delete(&acme, &key)), Err(Error::AlreadyProcessing { .. })));
    bench.run(pool.delete_with(&acme, &key, true)).unwrap();
    bench.run(pool.delete(&acme, &key)).unwrap();
    bench.run(scheduler.complete(&file.lease)).unwrap();
    assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
}

#[test]
fn calls_may_move_between_threads() {
    fn spawnable<T: Send>(_: T) {}
    let bench = Bench::new();
    let (pool, scheduler, acme) = (&bench.pool, &bench.scheduler, &bench.acme);
    let key = locus_core::FileKey::generate(Timestamp::from_micros(0), &[1; 10]);
    spawnable(pool.write(acme, "x", WriteOptions::new()));
    spawnable(pool.write_batch(acme, Vec::new()));
    spawnable(async { pool.read(acme, &key).await?.bytes().await });
    spawnable(pool.read_range(acme, &key, 0..1));
    spawnable(pool.probe_all());
    spawnable(pool.tidy_residue(&*bench.engine.store));
    spawnable(pool.mount(LocalVolume::new("vol-9", "/vol-9")));
    spawnable(scheduler.next_timeout(acme, std::time::Duration::ZERO));
    spawnable(scheduler.next_any());
    spawnable(scheduler.stream(acme));
    spawnable(bench.engine.sweeper.run_all(SweepOptions::default()));
    spawnable(bench.engine.sweeper.run_reaper());
}

// ---- volumes ----------------------------------------------------------------------------------------------------

#[test]
fn b15_a_volume_mounted_elsewhere_is_the_same_volume() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let key = bench.write_with("hello", WriteOptions::new().original_name("a.txt")).unwrap();
    let pool = bench.pool.clone();
    bench.run(pool.unmount(&vol(0))).unwrap();
    bench.world.disk.rename(Path::new("/vol-0"), Path::new("/moved")).unwrap();
    bench.run(pool.mount(LocalVolume::new("vol-0", "/moved"))).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"hello");
    let acme = bench.acme.clone();
    let path = bench.run(pool.materialize(&acme, &key)).unwrap();
    assert!(path.starts_with("/moved"));
    bench.run(pool.delete(&acme, &key)).unwrap();
    let step = bench.engine.sweeper.reap_step();
    let store = bench.engine.store.clone();
    bench.world.stepper.block_on(step, || store.commit_step() | store.keep_step()).unwrap();
    assert!(bench.blobs().is_empty());
}

#[test]
fn b26_files_of_an_unmounted_volume_wait_for_it() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let key = bench.write("hello");
    let (pool, scheduler, acme) = (bench.pool.clone(), bench.scheduler.clone(), bench.acme.clone());
    bench.run(pool.unmount(&vol(0))).unwrap();
    assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
    let refused = bench.run(pool.read(&acme, &key));
    assert!(matches!(refused, Err(Error::VolumeUnavailable { volume: Some(id), .. }) if id == vol(0)));
    assert_eq!(bench.run(pool.location(&acme, &key)).unwrap().unwrap().physical_path, None);
    assert!(bench.run(pool.info(&acme, &key)).unwrap().is_some());
    bench.run(pool.mount(LocalVolume::new("vol-0", "/vol-0"))).unwrap();
    assert_eq!(bench.run(scheduler.next(&acme)).unwrap().unwrap().key, key);
}

#[test]
fn b26_files_of_an_ill_volume_wait_until_it_is_well() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let key = bench.write("hello");
    let (pool, scheduler, acme) = (bench.pool.clone(), bench.scheduler.clone(), bench.acme.clone());
    let fault = bench.fault(0, OpKind::Space, Fault::io().for_good());
    assert_eq!(bench.run(pool.probe_all()), 1);
    assert_eq!(bench.run(pool.probe_all()), 0);
    assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
    assert!(matches!(bench.run(pool.read(&acme, &key)), Err(Error::VolumeUnavailable { .. })));
    assert!(bench.pool.volumes()[0].unusable.is_some());
    bench.world.disk.heal(fault);
    // One good probe is none: two in a row.
    assert_eq!(bench.run(pool.probe_all()), 0);
    assert!(bench.run(scheduler.next(&acme)).unwrap().is_none());
    assert_eq!(bench.run(pool.probe_all()), 1);
    assert_eq!(bench.run(scheduler.next(&acme)).unwrap().unwrap().key, key);
    assert_eq!(bench.read(key).unwrap(), b"hello");
}

#[test]
fn b81_a_volume_that_is_mounted_is_not_mounted_twice() {
    let mut bench = Bench::new();
    let pool = bench.pool.clone();
    let twice = bench.run(pool.mount(LocalVolume::new("vol-0", "/elsewhere")));
    assert!(matches!(twice, Err(Error::VolumeExists { volume }) if volume == vol(0)));
    assert!(bench.world.disk.metadata(Path::new("/elsewhere")).is_err());
    let same_place = bench.run(pool.mount(LocalVolume::new("vol-9", "/vol-0")));
    assert!(same_place.is_err(), "{same_place:?}");
    assert_eq!(pool.volumes().len(), 2);
}

#[test]
fn a_volume_is_removed_only_when_nothing_rests_on_it() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let hanging = bench.hanging(0);
    hanging.hang(Hang::After);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let mut writing = Box::pin(pool.write(&acme, "hello", WriteOptions::new()));
    assert!(crate::bench::poll_once(writing.as_mut()).is_pending());
    let on_the_way = bench.run(pool.remove(&vol(0)));
    assert!(matches!(on_the_way, Err(Error::VolumeInUse { files: 1, .. })), "{on_the_way:?}");
    hanging.go();
    let key = bench.run(writing).unwrap();
    assert!(matches!(bench.run(pool.remove(&vol(0))), Err(Error::VolumeInUse { files: 1, .. })));
    assert_eq!(pool.volumes()[0].files, 1);
    bench.run(pool.delete(&acme, &key)).unwrap();
    let step = bench.engine.sweeper.reap_step();
    let store = bench.engine.store.clone();
    bench.world.stepper.block_on(step, || store.commit_step() | store.keep_step()).unwrap();
    bench.run(pool.remove(&vol(0))).unwrap();
    assert!(pool.volumes().is_empty());
    assert!(matches!(bench.run(pool.remove(&vol(0))), Err(Error::VolumeNotFound { .. })));
    assert!(matches!(bench.run(pool.unmount(&vol(0))), Err(Error::VolumeNotFound { .. })));
}

#[test]
fn writes_spread_over_volumes_by_what_is_in_flight() {
    let mut bench = Bench::new();
    let (first, second) = (bench.hanging(0), bench.hanging(1));
    first.hang(Hang::Before);
    second.hang(Hang::Before);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let content = || Content::from(bytes(10_000));
    let mut writes =
        (0..4).map(|_| Box::pin(pool.write(&acme, content(), WriteOptions::new()))).collect::<Vec<_>>();
    for write in &mut writes {
        assert!(crate::bench::poll_once(write.as_mut()).is_pending());
    }
    assert_eq!(pool.volumes().iter().map(|volume| volume.in_flight).collect::<Vec<_>>(), [20_000, 20_000]);
    drop(writes);
    assert_eq!(pool.volumes().iter().map(|volume| volume.in_flight).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn capacity_is_that_of_all_volumes() {
    let bench = Bench::new();
    let each = bench.pool.volumes();
    let total = each.iter().map(|volume| volume.status.total).sum::<u64>();
    let available = each.iter().map(|volume| volume.status.available).sum::<u64>();
    assert!(total > 0);
    assert_eq!((bench.pool.total_capacity(), bench.pool.available_space()), (total, available));
}

#[test]
fn a_lease_taken_for_an_outsider_reads_by_its_lease() {
    let mut bench = Bench::new();
    bench.write("hello");
    let (pool, scheduler, acme) = (bench.pool.clone(), bench.scheduler.clone(), bench.acme.clone());
    let options = LeaseOptions::new().name("scanner-7");
    let file = bench.run(scheduler.next_with(&acme, options)).unwrap().unwrap();
    assert_eq!(file.location().processing_by.as_deref(), Some("scanner-7"));
    assert_eq!(file.location().physical_path, bench.run(pool.materialize(&acme, &file.key)).ok());
    let content = bench.run(async { pool.read_leased(&file.lease).await?.bytes().await });
    assert_eq!(content.unwrap(), "hello");
}
