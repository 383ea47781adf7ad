//! A pool that grows when room runs short.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use locus::{Builder, Shortage, VolumeProvider, VolumeSettings, VolumeSpec, prelude::*, provider_fn};
use locus_testkit::{Failing, FaultyVolume, ManualClock, VolumeFaults, VolumeOp};
use parking_lot::Mutex;

use crate::{
    counting::Counting,
    support::{in_time, open_with},
};

const KIB: u64 = 1 << 10;

fn builder(dir: &Path) -> Builder {
    Locus::builder()
        .data_dir(dir.join("data"))
        .add_tenant("acme")
        .inline_content_max(0)
        .durability(Durability::Buffered)
}

/// Gives volumes of 64 KiB, and notes why it was asked.
fn provider(asked: &Arc<Mutex<Vec<Shortage>>>) -> impl VolumeProvider + use<> {
    let asked = Arc::clone(asked);
    provider_fn(move |shortage: Shortage| {
        let number = shortage.mounted.len();
        asked.lock().push(shortage);
        async move {
            tokio::task::yield_now().await; // others come meanwhile
            Ok(Some(Box::new(Counting::new(number, 64 * KIB)) as Box<dyn VolumeSpec>))
        }
    })
}

async fn write(locus: &Locus, acme: &TenantContext, bytes: u64) -> Result<FileKey, Error> {
    in_time("a write", locus.pool().write(acme, vec![7; bytes as usize], WriteOptions::new())).await
}

#[tokio::test]
async fn below_the_threshold_the_next_volume_is_asked_for_once() {
    let temp = tempfile::tempdir().unwrap();
    let asked = Arc::default();
    let builder = builder(temp.path()).add_volume(Counting::new(0, 64 * KIB));
    let (locus, acme) = open_with(builder.volume_provider(provider(&asked))).await;
    write(&locus, &acme, 50 * KIB).await.unwrap();
    assert_eq!(locus.pool().expand_step().await.unwrap(), None, "more than a tenth is free");
    write(&locus, &acme, 8 * KIB).await.unwrap();
    let steps = (0..8).map(|_| {
        let pool = locus.pool().clone();
        tokio::spawn(async move { pool.expand_step().await.unwrap() })
    });
    let mut grown = 0;
    for step in steps.collect::<Vec<_>>() {
        grown += usize::from(step.await.unwrap().is_some());
    }
    assert_eq!(grown, 1);
    let asked = asked.lock().clone();
    let [shortage] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((shortage.available, shortage.total, shortage.required), (6 * KIB, 64 * KIB, 0));
    assert_eq!(locus.pool().volumes().len(), 2);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn room_on_a_volume_that_is_drained_is_none() {
    let temp = tempfile::tempdir().unwrap();
    let asked = Arc::default();
    let builder = builder(temp.path())
        .add_volume(Counting::new(0, 64 * KIB))
        .add_volume(Counting::new(1, 64 * KIB))
        .volume_provider(provider(&asked));
    let (locus, acme) = open_with(builder).await;
    locus.pool().drain(&Counting::new(0, 0).id().unwrap()).await.unwrap();
    write(&locus, &acme, 60 * KIB).await.unwrap();
    assert!(locus.pool().expand_step().await.unwrap().is_some(), "the last 4 KiB of all that takes content");
    let asked = asked.lock().clone();
    assert_eq!((asked[0].available, asked[0].total), (4 * KIB, 64 * KIB));
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn b81_a_provider_that_never_answers_keeps_no_volume_from_being_watched() {
    let temp = tempfile::tempdir().unwrap();
    let (clock, faults) = (ManualClock::new(), VolumeFaults::new());
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let silent = provider_fn(move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    });
    let volume = FaultyVolume::new(Counting::new(0, 0), faults.clone());
    let builder = builder(temp.path()).add_volume(volume).clock(clock.clone()).volume_provider(silent);
    let mut settings = Settings::default();
    settings.expansion.free_size_min = Some(1);
    let (locus, _) = open_with(builder.settings(settings)).await;
    let mut events = locus.pool().events();
    let ticks = async {
        loop {
            clock.advance(Duration::from_secs(10));
            tokio::task::yield_now().await;
            if asked.load(Ordering::SeqCst) == 1 {
                faults.fail(VolumeOp::Probe, 0, Failing::Refused);
            }
        }
    };
    let told = in_time("an event", async {
        tokio::select! {
            told = events.next() => told,
            () = ticks => None,
        }
    });
    assert!(matches!(told.await, Some(locus::VolumeEvent::Unavailable { .. })));
    locus.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_writers_without_room_wait_for_one_volume_at_a_time_and_none_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let asked = Arc::default();
    // Without any volume at first.
    let (locus, acme) = open_with(builder(temp.path()).volume_provider(provider(&asked))).await;
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let (locus, acme) = (locus.clone(), acme.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    write(&locus, &acme, 4 * KIB).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    // 640 KiB in volumes of 64.
    let volumes = locus.pool().volumes().len();
    assert!((10..=11).contains(&volumes), "{volumes}");
    assert_eq!(asked.lock().len(), volumes, "asked once for each");
    assert_eq!(locus.counts()[acme.id()].pending, 160);

    // What no volume that comes can hold is refused, and nobody waits for ever.
    let error = write(&locus, &acme, 65 * KIB).await.unwrap_err();
    assert!(matches!(error, Error::InsufficientStorage { .. }), "{error}");
    assert!(locus.pool().volumes().len() <= volumes + 4, "it is not grown for without end");
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_provider_that_fails_is_asked_again_after_a_pause() {
    let temp = tempfile::tempdir().unwrap();
    let clock = ManualClock::new();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let failing = provider_fn(move |_| {
        let times = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            match times {
                0 | 1 => Err(Error::VolumeUnavailable { volume: None, why: "no disk is there".into() }),
                _ => Ok(Some(Box::new(Counting::new(9, 64 * KIB)) as Box<dyn VolumeSpec>)),
            }
        }
    });
    let (locus, acme) = open_with(builder(temp.path()).clock(clock.clone()).volume_provider(failing)).await;
    for (pause, expected) in [(0, 1), (0, 1), (1, 2), (1, 2)] {
        clock.advance(Duration::from_secs(pause));
        let error = write(&locus, &acme, KIB).await.unwrap_err();
        assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error}");
        assert_eq!(asked.load(Ordering::SeqCst), expected, "twice as long after the second failure");
    }
    clock.advance(Duration::from_secs(1));
    write(&locus, &acme, KIB).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    locus.shutdown().await.unwrap();
}

#[tokio::test]
async fn spare_volumes_are_mounted_in_their_order_and_those_in_use_at_each_start() {
    let temp = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.expansion.free_size_min = Some(1 << 60); // always too little
    let spare = |name: &str| VolumeSettings::local(VolumeId::parse(name).unwrap(), temp.path().join(name));
    settings.expansion.volumes = vec![spare("spare-1"), spare("spare-2")];
    let open = async || open_with(builder(temp.path()).settings(settings.clone())).await;
    let mounted = |locus: &Locus| -> Vec<String> {
        locus.pool().volumes().iter().map(|volume| volume.id.to_string()).collect()
    };

    let (locus, acme) = open().await;
    assert!(mounted(&locus).is_empty());
    let key = write(&locus, &acme, KIB).await.unwrap();
    assert_eq!(mounted(&locus), ["spare-1"]);
    write(&locus, &acme, KIB).await.unwrap();
    assert_eq!(mounted(&locus), ["spare-1"], "there is room");
    locus.shutdown().await.unwrap();
    // As a process leaves it that ends before the mount is noted.
    std::fs::remove_file(temp.path().join("data/mounts")).unwrap();

    let (locus, acme) = open().await;
    assert_eq!(mounted(&locus), ["spare-1"]);
    let content = locus.pool().read(&acme, &key).await.unwrap().bytes().await.unwrap();
    assert_eq!(content.len() as u64, KIB);
    let next = locus.pool().expand_step().await.unwrap();
    assert_eq!(next.unwrap().as_str(), "spare-2");
    assert_eq!(locus.pool().expand_step().await.unwrap(), None, "there are no others");
    let files = vec![("x".into(), WriteOptions::new()), ("y".into(), WriteOptions::new())];
    locus.pool().set_placement(Placement::RoundRobin);
    locus.pool().write_batch(&acme, files).await.unwrap();
    locus.shutdown().await.unwrap();

    let (locus, _) = open().await;
    assert_eq!(mounted(&locus), ["spare-1", "spare-2"]);
    locus.shutdown().await.unwrap();
}
