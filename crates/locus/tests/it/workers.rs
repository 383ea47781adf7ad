//! Workers: what a handler's end does to its file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use locus::prelude::*;
use locus_testkit::ManualClock;
use tokio::sync::{Notify, mpsc};

use crate::support::{builder, in_time, open, until, write};

/// Failed files come back at once.
fn at_once() -> RetryPolicy {
    RetryPolicy { initial_delay: Duration::ZERO, ..RetryPolicy::default() }
}

/// Says when it is dropped.
struct OnDrop(mpsc::UnboundedSender<&'static str>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b18_every_file_is_processed_once_and_the_queue_is_drained() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let files: Vec<_> =
        (0..200_u32).map(|n| (Content::from(n.to_string().into_bytes()), WriteOptions::new())).collect();
    locus.pool().write_batch(&acme, files).await.unwrap();
    let sum = Arc::new(AtomicU64::new(0));
    let total = sum.clone();
    let done = locus
        .workers(&acme)
        .concurrency(16)
        .run_until_drained(move |file: WorkerFile| {
            let total = total.clone();
            async move {
                let number: u64 = std::str::from_utf8(&file.bytes().await?)?.parse()?;
                total.fetch_add(number, Ordering::SeqCst);
                Ok(())
            }
        })
        .await
        .unwrap();
    assert_eq!((done.completed, done.failed, done.lost, done.released), (200, 0, 0, 0));
    assert_eq!(sum.load(Ordering::SeqCst), 199 * 200 / 2);
    locus.cleanup().settled().await.unwrap();
    assert!(locus.counts().is_empty());
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_handler_fails_the_file_with_its_message_until_it_is_given_up() {
    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("no number")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let temp = tempfile::tempdir().unwrap();
    let locus = builder(temp.path()).retry_policy(at_once()).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let key = write(&locus, &acme, "x").await;
    let done = locus
        .workers(&acme)
        .run_until_drained(|_| async { Err(Outer("x".parse::<u32>().unwrap_err()).into()) })
        .await
        .unwrap();
    assert_eq!((done.completed, done.failed, done.given_up), (0, 3, 1));
    let location = locus.pool().location(&acme, &key).await.unwrap().unwrap();
    assert_eq!(location.info.status, FileStatus::PermanentlyFailed);
    assert_eq!(location.last_error.as_deref(), Some("no number: invalid digit found in string"));
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_handler_fails_the_file_and_the_worker_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let locus = builder(temp.path()).retry_policy(at_once()).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let key = write(&locus, &acme, "x").await;
    let seen = Arc::new(parking_lot::Mutex::new(None));
    let (pool, noted) = (locus.pool().clone(), seen.clone());
    let done = locus
        .workers(&acme)
        .concurrency(1)
        .run_until_drained(move |file: WorkerFile| {
            assert!(file.attempt > 1, "boom {}", file.attempt);
            let (pool, noted) = (pool.clone(), noted.clone());
            async move {
                *noted.lock() = pool.location(&file.tenant, &file.key).await?;
                Ok(())
            }
        })
        .await
        .unwrap();
    assert_eq!((done.completed, done.failed), (1, 1));
    let location = seen.lock().take().unwrap();
    assert_eq!(location.info.key, key);
    assert_eq!(location.last_error.as_deref(), Some("handler panicked: boom 1"));
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b47_a_lease_is_renewed_while_its_handler_runs() {
    let temp = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let timeout = Duration::from_secs(30);
    let locus = builder(temp.path()).clock(clock.clone()).visibility_timeout(timeout).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let key = write(&locus, &acme, "slow").await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (signal, gate) = (begun.clone(), go_on.clone());
    let workers = locus
        .workers(&acme)
        .name("renewer")
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
    for round in 1..=6_u64 {
        clock.advance(timeout / 3);
        let now = locus::Clock::wall(&*clock);
        until("the lease is renewed", || async {
            let location = locus.pool().location(&acme, &key).await.unwrap().unwrap();
            location.last_heartbeat == Some(now)
        })
        .await;
        let location = locus.pool().location(&acme, &key).await.unwrap().unwrap();
        assert_eq!(
            (location.info.status, location.info.attempts),
            (FileStatus::Processing, 1),
            "round {round}"
        );
        assert_eq!(location.processing_by.as_deref(), Some("renewer"));
    }
    go_on.notify_one();
    let done = in_time("the stop", workers.stop()).await.unwrap();
    assert_eq!((done.completed, done.lost), (1, 0));
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_whose_lease_is_lost_is_dropped() {
    let temp = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let locus = builder(temp.path()).clock(clock.clone()).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let key = write(&locus, &acme, "taken away").await;
    let (events, mut seen) = mpsc::unbounded_channel();
    let workers = locus
        .workers(&acme)
        .lease_time(Duration::from_secs(30))
        .spawn(move |_| {
            let events = events.clone();
            async move {
                let _flag = OnDrop(events.clone());
                let _ = events.send("begun");
                std::future::pending().await
            }
        })
        .unwrap();
    assert_eq!(in_time("the handler", seen.recv()).await, Some("begun"));
    locus.pool().delete_with(&acme, &key, true).await.unwrap();
    clock.advance(Duration::from_secs(10));
    assert_eq!(in_time("the drop", seen.recv()).await, Some("dropped"));
    until("the loss is counted", || async { workers.summary().lost == 1 }).await;
    let done = in_time("the stop", workers.stop()).await.unwrap();
    assert_eq!((done.completed, done.failed, done.lost), (0, 0, 1));
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_workers_release_what_does_not_end_in_time() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    for text in ["one", "two", "three"] {
        write(&locus, &acme, text).await;
    }
    let (events, mut seen) = mpsc::unbounded_channel();
    let workers = locus
        .workers(&acme)
        .concurrency(2)
        .drain_timeout(Duration::ZERO)
        .spawn(move |_| {
            let events = events.clone();
            async move {
                let _flag = OnDrop(events.clone());
                let _ = events.send("begun");
                std::future::pending().await
            }
        })
        .unwrap();
    for _ in 0..2 {
        assert_eq!(in_time("a handler", seen.recv()).await, Some("begun"));
    }
    let done = in_time("the stop", workers.stop()).await.unwrap();
    assert_eq!((done.released, done.completed, done.failed), (2, 0, 0));
    for _ in 0..2 {
        assert_eq!(seen.recv().await, Some("dropped"));
    }
    let files = locus.scheduler().next_batch(&acme, 9).await.unwrap();
    assert_eq!(files.iter().map(|file| file.attempt).collect::<Vec<_>>(), [1, 1, 1], "no attempt was spent");
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_run_releases_its_files() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let key = write(&locus, &acme, "x").await;
    let begun = Arc::new(Notify::new());
    let signal = begun.clone();
    let run = locus.workers(&acme).run(move |_| {
        signal.notify_one();
        std::future::pending()
    });
    tokio::select! {
        done = run => panic!("{done:?}"),
        () = begun.notified() => {}
    }
    until("the file is released", || async {
        let info = locus.pool().info(&acme, &key).await.unwrap().unwrap();
        info.status == FileStatus::Pending && info.attempts == 0
    })
    .await;
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_queue_has_no_delayed_files_left() {
    let temp = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let locus = builder(temp.path()).clock(clock.clone()).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let key = write(&locus, &acme, "x").await;
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let run = tokio::spawn(locus.workers(&acme).run_until_drained(move |file: WorkerFile| {
        counted.fetch_add(1, Ordering::SeqCst);
        async move { if file.attempt == 1 { Err("not yet".into()) } else { Ok(()) } }
    }));
    until("the first failure", || async {
        let location = locus.pool().location(&acme, &key).await.unwrap().unwrap();
        location.available_at.is_some()
    })
    .await;
    assert!(!run.is_finished());
    clock.advance(Duration::from_secs(5));
    let done = in_time("the second attempt", run).await.unwrap().unwrap();
    assert_eq!((done.completed, done.failed, attempts.load(Ordering::SeqCst)), (1, 1, 2));
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_for_all_tenants_pass_those_by_that_may_not_work() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let beta = locus.tenants().create("beta").await.unwrap();
    let idle = locus.tenants().create("idle").await.unwrap();
    for tenant in [&acme, &beta, &idle, &acme, &beta] {
        write(&locus, tenant, "x").await;
    }
    locus.tenants().suspend("idle").await.unwrap();
    let done = locus.workers_any().run_until_drained(|_| async { Ok(()) }).await.unwrap();
    assert_eq!(done.completed, 4);
    locus.cleanup().settled().await.unwrap();
    let left = locus.counts();
    assert_eq!(left.keys().collect::<Vec<_>>(), [idle.id()]);
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_wait_while_their_tenant_is_suspended() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    write(&locus, &acme, "x").await;
    locus.tenants().suspend("acme").await.unwrap();
    let error = locus.workers(&acme).run_until_drained(|_| async { Ok(()) }).await.unwrap_err();
    assert!(matches!(error, Error::TenantDisabled { .. }), "{error}");

    let (events, mut seen) = mpsc::unbounded_channel();
    let workers = locus
        .workers(&acme)
        .spawn(move |file: WorkerFile| {
            let _ = events.send(file.key);
            async { Ok(()) }
        })
        .unwrap();
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(seen.try_recv().is_err());
    locus.tenants().enable("acme").await.unwrap();
    assert!(in_time("the file", seen.recv()).await.is_some());
    in_time("the stop", workers.stop()).await.unwrap();
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_crew_of_none_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme) = open(temp.path()).await;
    let error = locus.workers(&acme).concurrency(0).run(|_| async { Ok(()) }).await.unwrap_err();
    assert!(matches!(error, Error::InvalidArgument { name: "concurrency", .. }), "{error}");
    locus.shutdown().await.unwrap();
}
