//! Every disk, and the volume that fails when it is told to, pass their suites.

use std::{
    path::Path,
    sync::Arc,
    task::{Context, Waker},
};

use locus_core::{Entropy, StorageVolume, StoreId, SystemEntropy};
use locus_fs::{Disk, LocalVolume, OsDisk, VolumeContext, VolumeSpec};
use locus_testkit::{
    Failing, FaultyVolume, MemoryIntake, SimDisk, VolumeFaults, VolumeOp, disk_suite, intake_suite,
    volume_suite,
};

#[test]
fn the_simulated_disk_keeps_the_contract_of_a_disk() {
    for seed in 0..5 {
        let disk = SimDisk::new(seed);
        disk_suite::run(&*disk, Path::new("/"));
        disk.create_dir(Path::new("/below")).unwrap();
        disk_suite::run(&*disk, Path::new("below"));
    }
}

#[test]
fn the_disk_of_the_system_keeps_the_contract_of_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    disk_suite::run(&OsDisk, dir.path());
}

async fn faulty(root: &Path) -> (Arc<dyn StorageVolume>, VolumeFaults) {
    let faults = VolumeFaults::new();
    let mut random = [0; 8];
    SystemEntropy.fill(&mut random);
    let path = root.join(format!("{:016x}", u64::from_le_bytes(random)));
    let context = VolumeContext::new(StoreId::from_bytes([7; 16]));
    let spec = Box::new(FaultyVolume::new(LocalVolume::new("vol-1", path), faults.clone()));
    (spec.open(context).await.unwrap(), faults)
}

#[tokio::test]
async fn a_faulty_volume_that_is_not_told_to_fail_is_a_volume() {
    let dir = tempfile::tempdir().unwrap();
    volume_suite::run(async || faulty(dir.path()).await.0).await;
}

#[tokio::test]
async fn a_faulty_volume_fails_as_it_is_told_to_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    volume_suite::run_failing(async || faulty(dir.path()).await).await;
}

#[tokio::test]
async fn a_call_that_hangs_never_returns() {
    let dir = tempfile::tempdir().unwrap();
    let (volume, faults) = faulty(dir.path()).await;
    faults.fail(VolumeOp::Sync, 1, Failing::Hanging);
    volume.sync().await.unwrap();
    let mut hung = Box::pin(volume.sync());
    let mut context = Context::from_waker(Waker::noop());
    assert!(hung.as_mut().poll(&mut context).is_pending());
    assert_eq!(faults.failed(), 0);
}

#[tokio::test]
async fn the_intake_in_memory_keeps_the_contract_of_intakes() {
    let fresh = || MemoryIntake::new(&["acme", "globex"]);
    intake_suite::a_source_is_taken_in_once(fresh()).await.unwrap();
    intake_suite::content_that_fails_is_not_taken_in(fresh()).await.unwrap();
    intake_suite::only_tenants_take_files(fresh()).await.unwrap();
}
