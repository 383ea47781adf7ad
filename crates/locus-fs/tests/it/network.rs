//! A volume on a share: the suite, and a share that hangs.

use std::{
    fs,
    future::poll_fn,
    io,
    path::Path,
    pin::{Pin, pin},
    sync::{Arc, mpsc::Receiver},
    task::Poll,
    time::Duration,
};

use locus_core::{Content, Durability, Error, Result, Staging, StorageVolume, join_bounded};
use locus_fs::{NetworkVolume, OsDisk, VolumeContext, VolumeSpec};
use locus_testkit::{ManualClock, SimDisk, volume_suite};
use rstest::rstest;

use crate::{
    faulty::FaultyDisk,
    local_volume::{STORE, blob, files, head, on, open, write},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const STUCK_MAX: usize = 4;

#[tokio::test]
async fn it_passes_the_suite_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    volume_suite::run(async || {
        let path = dir.path().join(blob("acme", "").key.to_string());
        Box::new(NetworkVolume::new("vol-1", path)).open(on(Arc::new(OsDisk))).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn it_passes_the_suite_with_one_call_at_a_time() {
    // But for the check that needs two at the same time.
    let dir = tempfile::tempdir().unwrap();
    let spec = NetworkVolume::new("vol-1", dir.path().join("vol")).stuck_max(1);
    let volume = Box::new(spec).open(on(Arc::new(OsDisk))).await.unwrap();
    volume_suite::pages_list_every_blob_once(volume).await;
}

#[tokio::test]
async fn it_passes_the_suite_on_a_simulated_disk() {
    volume_suite::run(async || {
        Box::new(NetworkVolume::new("vol-1", "/vol")).open(on(SimDisk::new(1))).await.unwrap()
    })
    .await;
}

/// A share that can be made to hang, and its clock. Its threads are named after `id`.
async fn share(id: &str, dir: &Path) -> (Arc<FaultyDisk>, Arc<ManualClock>, Arc<dyn StorageVolume>) {
    let (disk, clock) = (FaultyDisk::new(), ManualClock::new());
    let context = VolumeContext { disk: disk.clone(), clock: clock.clone(), ..VolumeContext::new(STORE) };
    let spec = NetworkVolume::new(id, dir.join(id)).operation_timeout(TIMEOUT).stuck_max(STUCK_MAX);
    let volume = Box::new(spec).open(context).await.unwrap();
    disk.asked();
    (disk, clock, volume)
}

/// Runs `future` while time passes.
pub(crate) async fn in_time<T>(clock: &ManualClock, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|context| {
        if let Poll::Ready(done) = future.as_mut().poll(context) {
            return Poll::Ready(done);
        }
        clock.advance_to_next();
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

/// Polls a call that does not end until it has come to where the disk holds it.
async fn until_stopped(mut call: Pin<&mut impl Future>, came: &Receiver<()>) {
    poll_fn(|context| {
        assert!(call.as_mut().poll(context).is_pending());
        context.waker().wake_by_ref();
        if came.try_recv().is_ok() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Threads that are in calls to this share.
fn threads(id: &str) -> usize {
    let named = |entry: io::Result<fs::DirEntry>| fs::read_to_string(entry.unwrap().path().join("comm"));
    let all = fs::read_dir("/proc/self/task").unwrap();
    all.filter_map(|entry| named(entry).ok()).filter(|name| name.contains(id)).count()
}

/// Waits until all of them have returned.
async fn all_returned(id: &str) {
    while threads(id) > 0 {
        tokio::task::yield_now().await;
    }
}

fn is_unavailable<T>(done: &Result<T>) -> bool {
    matches!(done, Err(Error::VolumeUnavailable { .. }))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_share_that_hangs_keeps_few_threads_stalls_nobody_else_and_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, clock, volume) = share("hung", dir.path()).await;
    let at = blob("acme", "");
    write(&volume, &at, b"here").await;
    all_returned("hung").await;
    disk.hang(true);
    let calls: Vec<_> = (0..40).map(|_| volume.open(&at, 0..4)).collect();
    let answers = in_time(&clock, join_bounded(calls, 40)).await;
    assert!(answers.iter().all(is_unavailable), "{answers:?}");
    // A thread has its name a moment after it was begun.
    while threads("hung") < STUCK_MAX {
        tokio::task::yield_now().await;
    }
    assert_eq!(threads("hung"), STUCK_MAX);
    let status = volume.status();
    assert!(!status.is_healthy && status.why.as_deref() == Some("did not answer within 5s"), "{status:?}");

    // From now on nobody waits: no time passes.
    let refused = volume.write(&blob("acme", ""), &mut "x".into(), Durability::Durable).await;
    assert!(is_unavailable(&refused), "{refused:?}");
    assert!(is_unavailable(&volume.probe().await), "there is no thread left to ask with");
    assert_eq!(threads("hung"), STUCK_MAX);
    let other = open(Arc::new(OsDisk), &dir.path().join("other")).await.unwrap();
    let there = blob("acme", "");
    write(&other, &there, b"there").await;
    assert_eq!(head(&other, &there).await, b"there");

    disk.hang(false);
    all_returned("hung").await;
    assert!(!volume.probe().await.unwrap().is_healthy, "one good probe is not enough");
    assert!(is_unavailable(&volume.open(&at, 0..4).await));
    assert!(volume.probe().await.unwrap().takes_writes());
    assert_eq!(head(&volume, &at).await, b"here");
}

#[cfg(target_os = "linux")]
#[rstest]
#[case::whole("short".into())]
#[case::in_pieces(Content::reader(io::Cursor::new(vec![7; 3 << 20])))]
#[case::of_a_file_in_memory(vec![7; 3 << 20].into())]
#[tokio::test]
async fn a_write_that_succeeds_after_it_was_given_up_is_removed(#[case] mut content: Content) {
    let dir = tempfile::tempdir().unwrap();
    let (disk, clock, volume) = share("late", dir.path()).await;
    all_returned("late").await;
    let at = blob("acme", "");
    let (came, go) = disk.hold("rename_new");
    let mut given_up = Box::pin(volume.write(&at, &mut content, Durability::Durable));
    until_stopped(given_up.as_mut(), &came).await;
    assert!(is_unavailable(&in_time(&clock, given_up).await));
    let again = volume.write(&at, &mut "again".into(), Durability::Durable).await;
    assert!(again.is_err(), "the earlier write of this name has not ended");
    let removed = volume.delete(&at).await;
    assert!(
        matches!(&removed, Err(Error::VolumeUnavailable { why, .. }) if why.contains("names the same blob")),
        "{removed:?}"
    );
    drop(go);
    all_returned("late").await;
    let opened = volume.open(&at, 0..1).await;
    assert!(
        matches!(&opened, Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound),
        "{opened:?}"
    );
    let left = files(&dir.path().join("late"));
    assert_eq!(left.len(), 1, "more than the marker is left: {left:?}");
    write(&volume, &at, b"again").await;
    assert_eq!(head(&volume, &at).await, b"again");
}

/// A name that is given late, or taken away late, is that of whoever came after: nobody comes before it is over.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn nobody_publishes_again_while_an_earlier_call_may_still_do_so() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, clock, volume) = share("again", dir.path()).await;
    let (place, to) = (blob("acme", ""), blob("acme", "x.pdf"));
    let again = Staging::Published { key: to.key, extension: to.extension };
    let staged = volume.stage(&place, Staging::New).await.unwrap();
    staged.write_at(0, "bytes".into()).await.unwrap();
    staged.sync().await.unwrap();
    for publishing in [true, false] {
        let (came, go) = disk.hold("rename_new");
        let call = async {
            if publishing {
                return staged.publish(&to, 5).await;
            }
            volume.stage(&place, again).await.map(drop)
        };
        let mut given_up = Box::pin(call);
        until_stopped(given_up.as_mut(), &came).await;
        assert!(is_unavailable(&in_time(&clock, given_up).await));
        assert!(is_unavailable(&volume.stage(&place, again).await.map(drop)));
        assert!(is_unavailable(&staged.publish(&to, 5).await));
        drop(go);
        all_returned("again").await;
    }
    volume.stage(&place, again).await.unwrap().publish(&to, 5).await.unwrap();
    assert_eq!(head(&volume, &to).await, b"bytes");
}

#[tokio::test]
async fn sources_that_are_slow_do_not_make_a_share_unavailable() {
    let dir = tempfile::tempdir().unwrap();
    let (_, clock, volume) = share("slow", dir.path()).await;
    let at = blob("acme", "");
    write(&volume, &at, b"here").await;
    all_returned("slow").await; // every thread is free for a source
    let (ends, sources): (Vec<_>, Vec<_>) = (0..STUCK_MAX).map(|_| tokio::io::duplex(1)).unzip();
    let mut contents: Vec<_> = sources.into_iter().map(Content::reader).collect();
    let (one, other) = (blob("acme", ""), &volume);
    let ats: Vec<_> = contents.iter().map(|_| blob("acme", "")).collect();
    let writes = contents.iter_mut().zip(&ats);
    let writes: Vec<_> = writes.map(|(content, at)| other.write(at, content, Durability::Durable)).collect();
    let mut writes = pin!(join_bounded(writes, STUCK_MAX));
    poll_fn(|context| {
        assert!(writes.as_mut().poll(context).is_pending());
        Poll::Ready(())
    })
    .await;
    for _ in 0..5 {
        let refused = in_time(&clock, volume.open(&at, 0..4)).await;
        assert!(is_unavailable(&refused), "{refused:?}");
    }
    assert!(is_unavailable(&in_time(&clock, volume.write(&one, &mut "x".into(), Durability::Durable)).await));
    assert!(volume.status().is_healthy, "{:?}", volume.status());
    drop(ends);
    for written in writes.await {
        written.unwrap();
    }
    assert_eq!(head(&volume, &at).await, b"here");
}

#[tokio::test]
async fn only_what_changes_nothing_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, _, volume) = share("again", dir.path()).await;
    let at = blob("acme", "");
    write(&volume, &at, b"here").await;
    disk.asked();
    disk.fail("open", "", 0, io::ErrorKind::StaleNetworkFileHandle);
    volume.open(&at, 0..1).await.unwrap_err();
    assert_eq!(disk.asked_for("open").len(), 2);
    disk.heal();
    head(&volume, &at).await;
    disk.fail("remove_file", "", 0, io::ErrorKind::StaleNetworkFileHandle);
    disk.asked();
    volume.delete(&at).await.unwrap_err();
    assert_eq!(disk.asked_for("remove_file").len(), 1);
    disk.heal();
    assert_eq!(head(&volume, &at).await, b"here");
}

#[tokio::test]
async fn an_opening_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, clock) = (FaultyDisk::new(), ManualClock::new());
    disk.hang(true);
    let context = VolumeContext { disk: disk.clone(), clock: clock.clone(), ..VolumeContext::new(STORE) };
    let opened = Box::new(NetworkVolume::new("vol-1", dir.path().join("vol"))).open(context.clone());
    assert!(is_unavailable(&in_time(&clock, opened).await));
    disk.hang(false);
    // The opening that was given up holds the lock until it has ended.
    let spec = NetworkVolume::new("vol-1", dir.path().join("vol"));
    while Box::new(spec.clone()).open(context.clone()).await.is_err() {}
}

#[rstest]
#[case(NetworkVolume::new("v", "/v").operation_timeout(Duration::ZERO), "operation_timeout")]
#[case(NetworkVolume::new("v", "/v").stuck_max(0), "stuck_max")]
#[case(NetworkVolume::new("v", "/v").stuck_max(1_025), "stuck_max")]
#[case(NetworkVolume::new("v", "/v").failures_to_down(0), "failures_to_down")]
#[case(NetworkVolume::new("v", "/v").successes_to_up(0), "successes_to_up")]
#[tokio::test]
async fn manners_that_cannot_be_are_refused_by_name(#[case] spec: NetworkVolume, #[case] argument: &str) {
    let refused = Box::new(spec).open(on(SimDisk::new(1))).await;
    assert!(matches!(refused, Err(Error::InvalidArgument { name, .. }) if name == argument), "{refused:?}");
}
