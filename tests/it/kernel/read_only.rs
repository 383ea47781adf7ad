//! Disks that become read-only under a running store.

use locus::{Durability, prelude::*};
use locus_tests::{Form, Plan};
use rstest::rstest;

use super::{
    files::Files,
    need::{Need, can},
};
use crate::{
    loop_disk::{LoopDisk, ReadOnly},
    support::{in_time, seed},
};

fn plan(dir: std::path::PathBuf, durability: Durability, seed: u64) -> Plan {
    Plan { dir, durability, form: Form::Short, seed, first: 0, on_caller: false }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b65_a_disk_that_turns_read_only_is_readable_and_loses_nothing(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    if !can("a disk that turns read-only", &Need::DISK) {
        return;
    }
    let (seed, disk) = (seed(), LoopDisk::new(64 << 20));
    let plan = plan(disk.dir(), durability, seed);
    let mut files = Files::new(seed);
    let locus = plan.open().await.unwrap();
    for bytes in [10, 40_000, 16_000, 70_000, 0, 300, 17_000] {
        files.write(&locus, bytes).await.unwrap();
    }
    files.complete(&locus, 1).await;
    locus.sync().await.unwrap();
    disk.abort();
    let mut unclean = files.count();
    for bytes in [10, 40_000, 10, 40_000] {
        let refused = files.write(&locus, bytes).await;
        let is_clean = |error: &Error| {
            matches!(error, Error::Poisoned { .. } | Error::Io { .. } | Error::VolumeUnavailable { .. })
        };
        match refused {
            Err(error) => assert!(is_clean(&error), "{error:?}"),
            Ok(()) => unclean += 1,
        }
    }
    files.check(&locus).await;
    // What was confirmed when nothing reached the disk any more is only in the page cache: buffered writes alone may be.
    assert!(durability == Durability::Buffered || unclean == files.count());
    let _ = in_time("a closed store", locus.shutdown()).await;
    drop(locus);
    disk.unmount();
    disk.mount(&[]);
    let locus = plan.open().await.unwrap();
    if durability == Durability::Durable {
        files.check(&locus).await;
    }
    files.write(&locus, 50_000).await.unwrap();
    locus.shutdown().await.unwrap();
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b73_volumes_that_are_read_only_for_a_while_are_used_again(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    if !can("volumes that are read-only for a while", &[Need::Root]) {
        return;
    }
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let plan = plan(temp.path().into(), durability, seed);
    let mut files = Files::new(seed);
    let locus = plan.open().await.unwrap();
    for bytes in [40_000, 10, 50_000, 60_000, 20, 70_000] {
        files.write(&locus, bytes).await.unwrap();
    }
    locus.cleanup().settled().await.unwrap();
    {
        let _read_only = plan.volumes().map(|volume| ReadOnly::over(&volume));
        let refused = files.write(&locus, 40_000).await.unwrap_err();
        assert!(matches!(refused, Error::Io { .. } | Error::VolumeUnavailable { .. }), "{refused:?}");
        files.write(&locus, 30).await.unwrap();
        files.check(&locus).await;
        assert_eq!(files.complete(&locus, 4).await, 4);
        let unsettled = in_time("an answer", locus.cleanup().settled()).await;
        assert!(matches!(unsettled, Err(Error::VolumeUnavailable { volume: Some(_), .. })), "{unsettled:?}");
        files.check(&locus).await;
    }
    // It is looked at again soon.
    while let Err(error) = files.write(&locus, 40_000).await {
        assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
        tokio::task::yield_now().await;
    }
    let settled = async {
        while let Err(error) = locus.cleanup().settled().await {
            assert!(matches!(error, Error::VolumeUnavailable { .. }), "{error:?}");
            tokio::task::yield_now().await;
        }
    };
    in_time("all is removed", settled).await;
    files.check(&locus).await;
    locus.shutdown().await.unwrap();
    let locus = plan.open().await.unwrap();
    files.check(&locus).await;
    let all = files.count();
    assert_eq!(files.complete(&locus, all + 1).await, all);
    locus.shutdown().await.unwrap();
}
