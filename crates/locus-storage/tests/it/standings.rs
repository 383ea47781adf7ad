//! What was decided about volumes, and holds over restarts.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use locus_core::{Durability, Error, MetadataStore};
use locus_fs::LocalVolume;
use locus_storage::{DrainOptions, EngineOptions, Retire, UploadOptions, VerifyLevel};
use locus_testkit::OpKind;
use rstest::rstest;

use crate::bench::{Bench, vol};

/// How the standing comes over a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// In the journal,
    Journal,
    /// or only in a checkpoint, the journal behind it being used again.
    Checkpoint,
}

impl Bench {
    fn mount(&mut self, volume: usize) -> Result<(), Error> {
        let pool = self.pool.clone();
        let spec = LocalVolume::new(format!("vol-{volume}"), format!("/vol-{volume}"));
        self.run(async move { pool.mount(spec).await.map(drop) })
    }

    fn decide(&mut self, volume: usize, how: Retire) -> Result<u64, Error> {
        let pool = self.pool.clone();
        self.run_on(async move { pool.retire(&vol(volume), how).await })
    }

    fn drain_empty(&mut self, volume: usize) -> locus_storage::DrainReport {
        let (pool, sweeper) = (self.pool.clone(), self.engine.sweeper.clone());
        let reaper = self.world.stepper.spawn(async move { sweeper.run_reaper().await });
        let drained = self
            .run_on(async move { pool.drain_with(&vol(volume), DrainOptions::new(), |_| ()).await })
            .unwrap();
        self.world.stepper.drop_task(reaper);
        drained
    }

    fn again(mut self, kept: Kept) -> Self {
        if kept == Kept::Checkpoint {
            let store = self.engine.store.clone();
            self.run(async move { store.checkpoint().await }).unwrap();
        }
        self.restart_after_power_cut()
    }

    fn ids(&self) -> Vec<locus_core::VolumeId> {
        self.pool.volumes().into_iter().map(|volume| volume.id).collect()
    }
}

#[rstest]
fn b77_a_retired_volume_is_refused_over_restarts_until_it_is_unretired(
    #[values(Kept::Journal, Kept::Checkpoint)] kept: Kept,
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let mut bench = Bench::with(EngineOptions { durability, ..EngineOptions::default() }, 1);
    let key = bench.write("waits");
    bench.decide(0, Retire::Keep).unwrap();
    let store = bench.engine.store.clone();
    bench.run(async move { store.sync().await }).unwrap();
    // The bench opens it, as a program does that still has it in its settings.
    let mut bench = bench.again(kept).again(kept);
    assert_eq!((bench.ids(), bench.pool.retired()), (vec![], vec![vol(0)]));
    let refused = bench.mount(0).unwrap_err();
    assert!(matches!(&refused, Error::VolumeUnavailable { volume: Some(id), .. } if *id == vol(0)));
    assert!(refused.to_string().contains("retired"), "{refused}");
    assert!(matches!(bench.read(key), Err(Error::VolumeUnavailable { .. })));

    let pool = bench.pool.clone();
    bench.run(pool.unretire(&vol(0))).unwrap();
    assert!(matches!(bench.run(pool.unretire(&vol(0))), Err(Error::VolumeNotFound { .. })));
    bench.mount(0).unwrap();
    assert_eq!(bench.read(key).unwrap(), b"waits");
    let mut bench = bench.again(kept);
    assert_eq!((bench.ids(), bench.pool.retired()), (vec![vol(0)], vec![]));
    assert_eq!(bench.read(key).unwrap(), b"waits");
}

#[test]
fn b77_a_retired_volume_is_forgotten_after_a_restart() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    bench.write("gone");
    bench.decide(0, Retire::Keep).unwrap();
    let mut bench = bench.again(Kept::Journal);
    assert_eq!(bench.decide(0, Retire::Forget).unwrap(), 1);
    assert_eq!((bench.pool.retired(), bench.counts().files()), (vec![], 0));
    bench.mount(0).unwrap();
}

#[rstest]
fn b77_a_volume_that_is_being_drained_takes_no_content_after_a_restart_either(
    #[values(Kept::Journal, Kept::Checkpoint)] kept: Kept,
) {
    let mut bench = Bench::with(EngineOptions::default(), 2);
    bench.drain_empty(0);
    let mut bench = bench.again(kept).again(kept);
    let draining = |bench: &Bench| bench.pool.volumes()[0].draining;
    assert!(draining(&bench));
    assert_eq!(bench.pool.volumes()[0].unusable.as_deref(), Some("is being drained"));
    for _ in 0..8 {
        let key = bench.write("new");
        assert_eq!(bench.volume_of(key), vol(1));
    }
    let pool = bench.pool.clone();
    bench.run(pool.stop_draining(&vol(0))).unwrap();
    let bench = bench.again(kept);
    assert!(!draining(&bench));
}

#[test]
fn a_volume_that_was_drained_and_removed_takes_content_when_it_is_mounted_again() {
    let mut bench = Bench::with(EngineOptions::default(), 2);
    bench.drain_empty(0);
    let pool = bench.pool.clone();
    bench.run(pool.remove(&vol(0))).unwrap();
    bench.mount(0).unwrap();
    assert!(!bench.pool.volumes()[0].draining);
}

#[test]
fn uploads_on_a_drained_volume_are_told_and_end_when_the_volume_is_forgotten() {
    let mut bench = Bench::with(EngineOptions::default(), 1);
    let (pool, acme, store) = (bench.pool.clone(), bench.acme.clone(), bench.engine.store.clone());
    let uploads: Vec<_> =
        (0..70).map(|_| bench.run(pool.upload(&acme, UploadOptions::new(10))).unwrap().id()).collect();
    bench.write("and a file");
    bench.mount(1).unwrap();
    let report = bench.drain_empty(0);
    assert_eq!((report.files_left, report.uploads_left), (0, 70));
    assert!(matches!(bench.run(pool.remove(&vol(0))), Err(Error::VolumeInUse { files: 70, .. })));

    bench.world.disk.listen();
    bench.decide(0, Retire::Forget).unwrap();
    assert!(!bench.world.disk.heard().iter().any(|(kind, _)| *kind == OpKind::Remove));
    assert_eq!((store.uploads_on(&vol(0)).uploads, bench.pool.retired()), (0, vec![]));
    assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
    let resumed = bench.run(pool.resume_upload(&acme, &uploads[0]));
    assert!(matches!(resumed, Err(Error::UploadNotFound { .. })), "{resumed:?}");
    let bench = bench.restart();
    assert_eq!(bench.engine.store.uploads_on(&vol(0)).uploads, 0);
    assert_eq!(bench.counts().files(), 1);
}
