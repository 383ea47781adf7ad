//! A mirror one of whose members never answers: the others go on, and nothing piles up.

use std::{
    future::poll_fn,
    path::Path,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
};

use async_trait::async_trait;
use locus_core::{Durability, Result, StorageVolume, VolumeId};
use locus_fs::{LocalVolume, MirroredVolume, OsDisk, VolumeContext, VolumeSpec};
use locus_testkit::{Failing, ManualClock, SimDisk, VolumeOp};
use rstest::rstest;
use tokio::sync::Semaphore;

use crate::{
    faulty::FaultyDisk,
    local_volume::{STORE, blob, on, write},
    mirror::{Pair, read},
    network::in_time,
};

#[rstest]
#[tokio::test]
async fn a_member_that_hangs_is_given_up_after_two_probes_and_the_others_go_on(#[values(0, 1)] hung: usize) {
    let (pair, clock) = (Pair::new(Path::new("/"), 1), ManualClock::new());
    let context = VolumeContext { disk: SimDisk::new(1), clock: clock.clone(), ..VolumeContext::new(STORE) };
    let spec = pair.spec();
    let mirror = spec.handle();
    let volume: Arc<dyn StorageVolume> = Box::new(spec).open(context).await.unwrap();
    let (at, during, late) = (blob("acme", ""), blob("acme", ""), blob("acme", ""));
    write(&volume, &at, b"here").await;

    VolumeOp::ALL.iter().for_each(|op| pair.faults[hung].fail(*op, 0, Failing::Hanging));
    // Under way when nobody knows yet.
    let calls = {
        let (volume, at, during) = (volume.clone(), at.clone(), during.clone());
        tokio::spawn(async move {
            volume.write(&during, &mut "during".into(), Durability::Durable).await.unwrap();
            read(&volume, &at).await.unwrap()
        })
    };
    while pair.faults[hung].hung() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        assert!(in_time(&clock, volume.probe()).await.unwrap().is_healthy);
    }
    assert_eq!(calls.await.unwrap(), b"here");
    let status = volume.status();
    assert!(status.takes_writes() && status.why.unwrap().contains("did not answer a probe"), "{hung}");
    // From now on nobody waits: no time passes.
    let asked = pair.faults[hung].hung();
    volume.write(&late, &mut "late".into(), Durability::Durable).await.unwrap();
    assert_eq!(read(&volume, &late).await.unwrap(), b"late");
    volume.delete(&at).await.unwrap();
    volume.sync_names().await.unwrap();
    assert_eq!(pair.faults[hung].hung(), asked);
    assert_eq!(mirror.report().unwrap().away, 1);

    pair.faults[hung].heal();
    volume.probe().await.unwrap();
    mirror.scrub(|_| {}).await.unwrap();
    let report = mirror.report().unwrap();
    assert_eq!((report.away, report.behind, report.unknown), (0, 0, 0));
    pair.faults[1 - hung].set_away(true);
    for (at, content) in [(during, "during"), (late, "late")] {
        assert_eq!(read(&volume, &at).await.unwrap(), content.as_bytes());
    }
    read(&volume, &at).await.unwrap_err();
}

/// A description whose volume opens when it is let go, and the times that was asked for.
#[derive(Debug, Clone)]
struct Slow {
    inner: LocalVolume,
    go: Arc<Semaphore>,
    begun: Arc<AtomicUsize>,
    opened: Arc<AtomicUsize>,
}

impl Slow {
    fn new(inner: LocalVolume, go: usize) -> Self {
        Self { inner, go: Arc::new(Semaphore::new(go)), begun: Arc::default(), opened: Arc::default() }
    }
}

#[async_trait]
impl VolumeSpec for Slow {
    fn id(&self) -> Result<VolumeId> {
        self.inner.id()
    }

    async fn open(self: Box<Self>, context: VolumeContext) -> Result<Arc<dyn StorageVolume>> {
        self.begun.fetch_add(1, Relaxed);
        drop(self.go.acquire().await);
        let opened = Box::new(self.inner).open(context).await;
        self.opened.fetch_add(1, Relaxed);
        opened
    }
}

/// Runs `future`; once `is_ready`, its first deadline passes.
async fn past_one<T>(clock: &ManualClock, is_ready: impl Fn() -> bool, future: impl Future<Output = T>) -> T {
    let (mut future, mut passed) = (pin!(future), false);
    poll_fn(|context| {
        if let Poll::Ready(done) = future.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        passed = passed || (is_ready() && clock.advance_to_next());
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[tokio::test]
async fn a_member_whose_opening_hangs_is_opened_once_and_the_mirror_goes_on_without_it() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), ManualClock::new());
    let context = VolumeContext { disk: Arc::new(OsDisk), clock: clock.clone(), ..VolumeContext::new(STORE) };
    let one = Slow::new(LocalVolume::new("one", dir.path().join("one")), 0);
    let two = Slow::new(LocalVolume::new("two", dir.path().join("two")), 1);
    let spec = MirroredVolume::new("vol-m").add_member(one.clone()).add_member(two.clone()).quorum(1);
    let mirror = spec.handle();
    let is_ready = || two.opened.load(Relaxed) == 1;
    let volume = past_one(&clock, is_ready, Box::new(spec).open(context)).await.unwrap();
    write(&volume, &blob("acme", ""), b"here").await;
    for _ in 0..5 {
        let status = past_one(&clock, || true, volume.probe()).await.unwrap();
        assert!(status.takes_writes() && status.why.unwrap().contains("did not open"));
    }
    assert_eq!(one.begun.load(Relaxed), 1, "it was opened again while its opening hung");

    one.go.add_permits(1);
    while one.opened.load(Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    volume.probe().await.unwrap();
    assert_eq!(mirror.report().unwrap().away, 0);
    mirror.scrub(|_| {}).await.unwrap();
    assert_eq!(mirror.report().unwrap().unknown, 0);
    assert_eq!((one.begun.load(Relaxed), two.begun.load(Relaxed)), (1, 1));
    volume.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_stays_deleted_although_a_member_gets_it_later_from_a_write_that_was_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (pair, disk) = (Pair::new(dir.path(), 2), FaultyDisk::new());
    let spec = pair.spec();
    let mirror = spec.handle();
    let volume = Box::new(spec).open(on(disk.clone())).await.unwrap();
    let at = blob("acme", "");
    let (came, go) = disk.hold("rename_new"); // of one member
    let writing = tokio::spawn({
        let (volume, at) = (volume.clone(), at.clone());
        async move { volume.write(&at, &mut "late".into(), Durability::Durable).await }
    });
    came.recv().unwrap();
    writing.abort();
    writing.await.unwrap_err();
    // The other one may be at its write still.
    while volume.delete(&at).await.is_err() {
        tokio::task::yield_now().await;
    }
    volume.probe().await.unwrap();
    assert_eq!(mirror.report().unwrap().behind, 1, "it may get the blob yet");
    read(&volume, &at).await.unwrap_err();

    drop(go);
    while mirror.report().unwrap().behind > 0 {
        volume.probe().await.unwrap();
    }
    mirror.scrub(|_| {}).await.unwrap();
    read(&volume, &at).await.unwrap_err();
    assert_eq!((pair.copies("one").len(), pair.copies("two").len()), (0, 0));
}
