//! How a store is closed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use locus::{Clock, Durability, prelude::*};
use locus_testkit::{Fault, ManualClock, OpKind, SimDisk};
use rstest::rstest;
use tokio::sync::Notify;

use crate::support::{builder, in_time, open, open_with, until, write};

#[tokio::test]
async fn b87_a_closed_store_refuses_everything_and_the_next_start_sees_every_confirmed_change() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let kept = write(&locus, &acme, "kept").await;
    let done = write(&locus, &acme, "done").await;
    let leased = locus.scheduler().lease_key(&acme, &done).await.unwrap();
    locus.scheduler().complete(&leased.lease).await.unwrap();
    let held = write(&locus, &acme, "held").await;
    let held_lease = locus.scheduler().lease_key(&acme, &held).await.unwrap().lease;
    locus.shutdown().await.unwrap();

    let refused = [
        locus.pool().write(&acme, "late", WriteOptions::new()).await.unwrap_err(),
        locus.pool().read(&acme, &kept).await.unwrap_err(),
        locus.pool().delete(&acme, &kept).await.unwrap_err(),
        locus.scheduler().next(&acme).await.unwrap_err(),
        locus.scheduler().complete(&held_lease).await.unwrap_err(),
        locus.tenants().create("late").await.unwrap_err(),
        locus.workers(&acme).run_until_drained(|_| async { Ok(()) }).await.unwrap_err(),
    ];
    for (at, error) in refused.iter().enumerate() {
        assert!(matches!(error, Error::ShuttingDown), "call {at}: {error}");
    }
    locus.shutdown().await.unwrap();

    let (locus, acme) = open(temp.path()).await;
    assert_eq!(locus.scheduler().status(&acme, &kept).await.unwrap(), FileStatus::Pending);
    assert_eq!(locus.scheduler().status(&acme, &held).await.unwrap(), FileStatus::Pending);
    locus.cleanup().settled().await.unwrap();
    assert!(matches!(locus.scheduler().status(&acme, &done).await, Err(Error::FileNotFound { .. })));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b87_whoever_waits_for_files_is_told_of_the_close() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let (waiter, tenant) = (locus.clone(), acme.clone());
    let waiting =
        tokio::spawn(
            async move { waiter.scheduler().next_timeout(&tenant, Duration::from_secs(3_600)).await },
        );
    let workers = locus.workers(&acme).spawn(|_| async { Ok(()) }).unwrap();
    tokio::task::yield_now().await;
    in_time("shutdown", locus.shutdown()).await.unwrap();
    let told = in_time("the waiter", waiting).await.unwrap();
    assert!(matches!(told, Err(Error::ShuttingDown)), "{told:?}");
    in_time("the workers", workers.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b87_a_handler_that_ends_in_time_completes_its_file() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = write(&locus, &acme, "slow").await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signal, gate) = (begun.clone(), go_on.clone());
    let workers = locus
        .workers(&acme)
        .spawn(move |_| {
            let (signal, gate) = (signal.clone(), gate.clone());
            async move {
                signal.notify_one();
                gate.notified().await;
                Ok(())
            }
        })
        .unwrap();
    in_time("the handler", begun.notified()).await;
    let closing = locus.clone();
    let closing = tokio::spawn(async move { closing.shutdown().await });
    until("the store takes no work", || async {
        matches!(locus.scheduler().next(&acme).await, Err(Error::ShuttingDown))
    })
    .await;
    go_on.notify_one();
    in_time("the close", closing).await.unwrap().unwrap();
    assert_eq!(workers.summary().completed, 1);

    let (locus, acme) = open(temp.path()).await;
    locus.cleanup().settled().await.unwrap();
    assert!(matches!(locus.scheduler().status(&acme, &key).await, Err(Error::FileNotFound { .. })));
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b87_a_handler_that_does_not_end_in_time_is_dropped_and_its_file_released() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.workers.drain_timeout = Duration::ZERO;
    let locus = builder(temp.path()).settings(settings).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let key = write(&locus, &acme, "for ever").await;
    let begun = Arc::new(Notify::new());
    let signal = begun.clone();
    let workers = locus
        .workers(&acme)
        .spawn(move |_| {
            signal.notify_one();
            std::future::pending()
        })
        .unwrap();
    in_time("the handler", begun.notified()).await;
    in_time("the close", locus.shutdown()).await.unwrap();
    // Worker and store both give it back; who was first decides how the worker counts it.
    let summary = workers.summary();
    assert_eq!((summary.completed, summary.failed), (0, 0));

    let (locus, acme) = open(temp.path()).await;
    let info = locus.pool().info(&acme, &key).await.unwrap().unwrap();
    assert_eq!((info.status, info.attempts), (FileStatus::Pending, 0));
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_last_handle_stops_everything_and_frees_the_directory() {
    struct Flag(Arc<AtomicBool>);
    impl Drop for Flag {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = write(&locus, &acme, "kept").await;
    let (begun, dropped) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
    let (signal, flag) = (begun.clone(), dropped.clone());
    let workers = locus
        .workers(&acme)
        .spawn(move |_| {
            let flag = Flag(flag.clone());
            signal.notify_one();
            async move {
                let _flag = flag;
                std::future::pending().await
            }
        })
        .unwrap();
    in_time("the handler", begun.notified()).await;
    drop(locus);
    until("the handler is dropped", || async { dropped.load(Ordering::SeqCst) }).await;
    drop(workers);

    let locus = in_time("the directory is free", async {
        loop {
            match builder(temp.path()).build().await {
                Ok(locus) => return locus,
                Err(Error::AlreadyOpen { .. }) => tokio::task::yield_now().await,
                Err(other) => panic!("{other}"),
            }
        }
    })
    .await;
    let acme = locus.tenants().get("acme").await.unwrap();
    assert_eq!(locus.scheduler().status(&acme, &key).await.unwrap(), FileStatus::Pending);
    locus.shutdown().await.unwrap();
}

/// What a volume could not sync for want of something that passes is told, and tried once more before it is unmounted: also where
/// it had failed beside the work before.
#[rstest]
#[tokio::test]
async fn b66_a_sync_that_cannot_be_tried_at_the_close_is_tried_again(#[values(false, true)] before: bool) {
    let (disk, clock) = (SimDisk::new(1), ManualClock::new());
    let open = || {
        let builder = Locus::builder().disk(disk.clone()).data_dir("/srv/data").inline_content_max(0);
        let builder = builder.durability(Durability::Buffered).clock(clock.clone() as Arc<dyn Clock>);
        open_with(builder.add_volume(LocalVolume::new("vol-001", "/vol")).add_tenant("acme"))
    };
    let (locus, acme) = open().await;
    let key = write(&locus, &acme, "not synced yet").await;
    let failures = 1 + u64::from(before);
    let fault = Fault::too_many_files().on(OpKind::Open).at(|path| path.starts_with("/vol/acme"));
    let fault = disk.fail(fault.times(failures));
    if before {
        clock.advance(Duration::from_secs(1));
        until("a barrier fails", || async { disk.hits(fault) == 1 }).await;
    }
    let told = in_time("the close", locus.shutdown()).await;
    assert!(matches!(told, Err(Error::Io { .. })), "{told:?}");
    assert_eq!(disk.hits(fault), failures);
    drop((locus, acme));
    disk.crash();

    let (locus, acme) = open().await;
    assert_eq!(locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap(), "not synced yet");
    locus.shutdown().await.unwrap();
}
