//! Where content goes, through the real pool with many writers at once.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

use std::{path::Path, sync::atomic::Ordering};

use locus::prelude::*;
use rstest::rstest;

use crate::{counting::Counting, support::in_time};

/// A store over volumes of these sizes, every content on a volume.
async fn open(dir: &Path, placement: Placement, sizes: &[u64]) -> (Locus, TenantContext, Vec<Counting>) {
    let volumes: Vec<_> =
        sizes.iter().enumerate().map(|(number, size)| Counting::new(number, *size)).collect();
    let builder = Locus::builder()
        .data_dir(dir)
        .add_tenant("acme")
        .inline_content_max(0)
        .durability(Durability::Buffered)
        .placement(placement);
    let builder = volumes.iter().fold(builder, |builder, volume| builder.add_volume(volume.clone()));
    let locus = builder.build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    (locus, acme, volumes)
}

const BYTES: u64 = 16;

#[rstest]
#[case(Placement::MostAvailable, [0.0, 0.0, 0.0, 20.0, 80.0])]
#[case(Placement::RoundRobin, [20.0, 20.0, 20.0, 20.0, 20.0])]
#[case(Placement::LeastUsed, [5.0, 10.0, 20.0, 25.0, 40.0])]
#[case(Placement::CapacityWeighted, [5.0, 10.0, 20.0, 25.0, 40.0])]
#[case(Placement::TwoChoices, [5.0, 10.0, 20.0, 25.0, 40.0])]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_sixteen_writers_at_once_land_as_the_strategy_says(
    #[case] placement: Placement,
    #[case] promised: [f64; 5],
) {
    let temp = tempfile::tempdir().unwrap();
    let sizes = [2_000, 4_000, 8_000, 10_000, 16_000].map(|files| files * BYTES);
    let (locus, acme, volumes) = open(temp.path(), placement, &sizes).await;
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let (pool, acme) = (locus.pool().clone(), acme.clone());
            tokio::spawn(async move {
                for _ in 0..625 {
                    pool.write(&acme, vec![7; BYTES as usize], WriteOptions::new()).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        in_time("a writer", writer).await.unwrap();
    }
    let landed: Vec<_> = volumes.iter().map(|volume| (volume.used() / BYTES) as f64 / 100.0).collect();
    for (landed, promised) in landed.iter().zip(promised) {
        assert!((landed - promised).abs() <= 2.0, "{placement:?}: {landed} where {promised} was promised");
    }
    assert!(locus.pool().volumes().iter().all(|volume| volume.in_flight == 0));
    locus.shutdown().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn b09_when_a_volume_fails_every_strategy_goes_on_with_the_others(
    #[values(
        Placement::MostAvailable,
        Placement::RoundRobin,
        Placement::LeastUsed,
        Placement::CapacityWeighted,
        Placement::TwoChoices
    )]
    placement: Placement,
) {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme, volumes) = open(temp.path(), placement, &[1 << 20; 3]).await;
    volumes[0].fails.store(true, Ordering::SeqCst);
    for _ in 0..30 {
        locus.pool().write(&acme, vec![7; BYTES as usize], WriteOptions::new()).await.unwrap();
    }
    assert_eq!(volumes[0].used(), 0);
    assert_eq!(volumes[1].used() + volumes[2].used(), 30 * BYTES);
    assert!(volumes[1].used() > 0 && volumes[2].used() > 0, "{placement:?}");
    locus.shutdown().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn b10_large_files_go_where_they_fit_and_are_refused_where_none_does(
    #[values(
        Placement::MostAvailable,
        Placement::RoundRobin,
        Placement::LeastUsed,
        Placement::CapacityWeighted,
        Placement::TwoChoices
    )]
    placement: Placement,
) {
    let temp = tempfile::tempdir().unwrap();
    let (locus, acme, volumes) = open(temp.path(), placement, &[1_000, 2_000, 50_000]).await;
    for _ in 0..5 {
        locus.pool().write(&acme, vec![7; 9_000], WriteOptions::new()).await.unwrap();
    }
    assert_eq!((volumes[0].used(), volumes[1].used(), volumes[2].used()), (0, 0, 45_000));
    let error = locus.pool().write(&acme, vec![7; 9_000], WriteOptions::new()).await.unwrap_err();
    let (required, available) = (9_000, 5_000);
    assert!(
        matches!(error, Error::InsufficientStorage { required: r, available: a } if (r, a) == (required, available)),
        "{error}"
    );
    locus.shutdown().await.unwrap();
}
