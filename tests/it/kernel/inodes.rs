//! A file system whose inodes are used up long before its bytes.

use locus::{Durability, prelude::*};
use locus_tests::{Form, Plan};
use rstest::rstest;

use super::{
    files::Files,
    need::{Need, can},
};
use crate::{
    loop_disk::LoopDisk,
    support::{in_time, seed},
};

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b3_without_inodes_writes_are_refused_and_completions_go_on(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    if !can("a file system with few inodes", &[Need::Root]) {
        return;
    }
    let (seed, disk) = (seed(), LoopDisk::in_memory("size=256m,nr_inodes=90"));
    let plan = Plan { dir: disk.dir(), durability, form: Form::Short, seed, first: 0, on_caller: false };
    let mut files = Files::new(seed);
    let locus = plan.open().await.unwrap();
    let refused = loop {
        match files.write(&locus, 30_000).await {
            Ok(()) => assert!(files.count() < 90),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::InsufficientStorage { .. }), "{refused:?}");
    let (full, at_first) = (files.count(), 8);
    files.write(&locus, 100).await.unwrap(); // needs no name
    files.check(&locus).await;
    assert_eq!(files.complete(&locus, at_first).await, at_first);
    in_time("room", locus.cleanup().settled()).await.unwrap();
    for _ in 0..at_first / 2 {
        files.write(&locus, 30_000).await.unwrap();
    }
    locus.shutdown().await.unwrap();
    // Again to the last one, and through a new start.
    let locus = plan.open().await.unwrap();
    while files.write(&locus, 30_000).await.is_ok() {}
    locus.shutdown().await.unwrap();
    let locus = plan.open().await.unwrap();
    files.check(&locus).await;
    assert!(files.count() >= full / 2);
    let all = files.count();
    assert_eq!(files.complete(&locus, all + 1).await, all);
    locus.cleanup().settled().await.unwrap();
    assert!(locus.counts().is_empty());
    locus.shutdown().await.unwrap();
}
