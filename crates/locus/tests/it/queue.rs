//! A file's way through the queue.

use std::time::Duration;

use locus::prelude::*;
use locus_testkit::ManualClock;

use crate::support::{builder, in_time, open, open_with, open_without_inline, until, write};

#[tokio::test]
async fn a_file_is_written_leased_read_and_completed() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let options = WriteOptions::new().original_name("hello.txt").directory("letters").property("lang", "en");
    let key = locus.pool().write(&acme, "hello", options).await.unwrap();

    let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
    assert_eq!((file.key, file.size, file.attempt), (key, 5, 1));
    assert_eq!(file.original_name.as_deref(), Some("hello.txt"));
    assert_eq!(file.directory.as_str(), "/letters");
    assert_eq!(locus.pool().read_range(&acme, &key, 1..3).await.unwrap(), "el");
    let path = locus.pool().materialize(&acme, &key).await.unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");

    locus.scheduler().complete(&file.lease).await.unwrap();
    locus.cleanup().settled().await.unwrap();
    assert!(!path.exists());
    assert_eq!(locus.pool().info(&acme, &key).await.unwrap(), None);
    assert_eq!(locus.cleanup().statistics().completed_removed, 1);
    assert!(locus.counts().is_empty());
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b27_an_empty_queue_is_no_error() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    assert_eq!(locus.scheduler().next(&acme).await.unwrap(), None);
    assert_eq!(locus.scheduler().next_any().await.unwrap(), None);
    assert_eq!(locus.scheduler().next_batch(&acme, 5).await.unwrap(), []);
    let error = locus.scheduler().next_timeout(&acme, Duration::ZERO).await.unwrap_err();
    assert!(matches!(&error, Error::NoFilesAvailable { tenant } if tenant == acme.id()), "{error}");
    let error = locus.scheduler().next_batch(&acme, 0).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { .. }), "{error}");
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b30_a_lease_completed_many_times_succeeds_each_time_and_is_charged_back_once() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    write(&locus, &acme, "other").await;
    let key = write(&locus, &acme, "once").await;
    let lease = locus.scheduler().lease_key(&acme, &key).await.unwrap().lease;
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (locus, lease) = (locus.clone(), lease.clone());
            tokio::spawn(async move { locus.scheduler().complete(&lease).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    locus.scheduler().complete(&lease).await.unwrap();
    locus.cleanup().settled().await.unwrap();
    locus.scheduler().complete(&lease).await.unwrap();
    assert_eq!(locus.quotas().count(&Scope::Tenant(acme.id().clone())), 1);
    assert_eq!(locus.cleanup().statistics().completed_removed, 1);
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overdue_lease_is_written_back_without_anybody_asking() {
    let temp = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let locus = builder(temp.path()).clock(clock.clone()).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let key = write(&locus, &acme, "left alone").await;
    locus.scheduler().next(&acme).await.unwrap().unwrap();
    clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(locus.scheduler().status(&acme, &key).await.unwrap(), FileStatus::Processing);
    clock.advance(Duration::from_secs(2 * 60));
    until("the lease is written back", || async { locus.cleanup().statistics().timed_out_reset == 1 }).await;
    assert_eq!(locus.scheduler().status(&acme, &key).await.unwrap(), FileStatus::Pending);
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_that_is_unmounted_keeps_its_files_until_it_is_back() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_without_inline(temp.path()).await;
    let key = write(&locus, &acme, "waits").await;
    let id = VolumeId::parse("vol-001").unwrap();
    locus.pool().unmount(&id).await.unwrap();
    assert_eq!(locus.scheduler().next(&acme).await.unwrap(), None);
    assert!(matches!(locus.pool().read(&acme, &key).await, Err(Error::VolumeUnavailable { .. })));
    locus.pool().mount(LocalVolume::new("vol-001", temp.path().join("vol-001"))).await.unwrap();
    assert_eq!(locus.scheduler().next(&acme).await.unwrap().unwrap().key, key);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_file_in_the_journal_needs_no_volume() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = write(&locus, &acme, "small").await;
    locus.pool().unmount(&VolumeId::parse("vol-001").unwrap()).await.unwrap();
    let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
    let location = file.location();
    assert_eq!((file.key, &location.volume_id, &location.physical_path), (key, &None, &None));
    assert_eq!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap(), "small");
    assert_eq!((locus.statistics().files_in_journal, locus.statistics().bytes_in_journal), (1, 5));
    locus.scheduler().complete(&file.lease).await.unwrap();
    locus.cleanup().settled().await.unwrap();
    assert_eq!((locus.statistics().files_in_journal, locus.statistics().bytes_in_journal), (0, 0));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn content_beyond_the_inline_limit_is_a_file_on_a_volume() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(builder(temp.path()).inline_content_max(5)).await;
    let small = write(&locus, &acme, "12345").await;
    let large = write(&locus, &acme, "123456").await;
    let of = async |key| locus.pool().location(&acme, key).await.unwrap().unwrap();
    assert_eq!((of(&small).await.volume_id, of(&small).await.physical_path), (None, None));
    assert_eq!(of(&large).await.volume_id, Some(VolumeId::parse("vol-001").unwrap()));
    assert_eq!(std::fs::read(of(&large).await.physical_path.unwrap()).unwrap(), b"123456");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b92_what_is_in_the_journal_stays_readable_when_the_inline_limit_becomes_0() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let earlier = write(&locus, &acme, "of before").await;
    locus.shutdown().await.unwrap();

    let (locus, acme) = open_without_inline(temp.path()).await;
    let later = write(&locus, &acme, "of now").await;
    let on_volume = locus.pool().location(&acme, &later).await.unwrap().unwrap();
    assert!(on_volume.physical_path.is_some());
    for (key, content) in [(earlier, "of before"), (later, "of now")] {
        let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
        assert_eq!(file.key, key);
        assert_eq!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap(), content);
        locus.scheduler().complete(&file.lease).await.unwrap();
    }
    locus.cleanup().settled().await.unwrap();
    assert!(locus.counts().is_empty());
    locus.shutdown().await.unwrap();
}

/// A store whose landing zone holds four segments of 1 MiB.
fn small_zone(dir: &std::path::Path) -> locus::Builder {
    builder(dir).segment_size(1 << 20).landing_zone_max(4 << 20)
}

/// 40 KiB that only this file has.
fn content(n: u32) -> Vec<u8> {
    n.to_le_bytes().repeat(10 << 10)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b89_a_full_landing_zone_spills_to_volumes_and_nobody_stalls() {
    const FILES: u32 = 400; // four times as much as the zone holds
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(small_zone(temp.path())).await;
    for n in 0..FILES {
        in_time("room", locus.pool().write(&acme, content(n), WriteOptions::new())).await.unwrap();
    }
    until("something is spilled", || async { locus.statistics().spilled > 0 }).await;
    let on_volumes: u64 = locus.pool().volumes().iter().map(|volume| volume.files).sum();
    assert!(on_volumes > 0 && locus.statistics().bytes_in_journal <= 4 << 20);

    for n in 0..FILES {
        let file = locus.scheduler().next(&acme).await.unwrap().unwrap();
        let found = locus.pool().read(&acme, &file.key).await.unwrap().bytes().await.unwrap();
        assert!(found == content(n), "file {n} of {FILES}, in the order in which they were accepted");
        locus.scheduler().complete(&file.lease).await.unwrap();
    }
    locus.cleanup().settled().await.unwrap();
    assert!(locus.counts().is_empty());
    assert_eq!(locus.cleanup().leftovers().await.unwrap().orphans_removed, 0);
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b89_stragglers_are_copied_forward_and_the_landing_zone_does_not_clog() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open_with(small_zone(temp.path())).await;
    let mut stragglers = Vec::new();
    let mut n = 0;
    let passing = async {
        while locus.statistics().copied_forward == 0 || locus.statistics().segments_reused == 0 {
            let key = locus.pool().write(&acme, content(n), WriteOptions::new()).await.unwrap();
            if n.is_multiple_of(20) && stragglers.len() < 20 {
                stragglers.push((n, key));
            } else {
                locus.pool().delete(&acme, &key).await.unwrap();
            }
            n += 1;
        }
    };
    in_time("a content is copied forward", passing).await;
    locus.cleanup().settled().await.unwrap();
    for (n, key) in stragglers {
        let found = locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap();
        assert!(found == content(n), "the straggler {n}");
    }
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn what_killed_writes_left_is_removed_and_files_stay() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = write(&locus, &acme, "a file").await;
    let kept = locus.pool().materialize(&acme, &key).await.unwrap();
    // A blob at the key path of a file that nobody accepted.
    let name = kept.file_name().unwrap().to_str().unwrap();
    let other = if name.starts_with('0') { name.replacen('0', "1", 1) } else { format!("0{}", &name[1..]) };
    let orphan = kept.with_file_name(other);
    std::fs::copy(&kept, &orphan).unwrap();

    let done = locus.cleanup().leftovers().await.unwrap();
    assert_eq!(done.orphans_removed, 1);
    assert!(!orphan.exists() && kept.exists());
    locus.shutdown().await.unwrap();
}
