//! A file's way through the queue.

use std::time::Duration;

use locus::prelude::*;
use locus_testkit::ManualClock;

use crate::support::{builder, open, until, write};

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
    let (locus, acme) = open(temp.path()).await;
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
