//! A volume that hangs: it is given up by all who wait for it, and nobody else waits.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::sync::Arc;

use locus_core::{Durability, Error, FileKey, MetadataStore, StorageVolume, Upkeep};
use locus_fs::LocalVolume;
use locus_storage::{EngineOptions, Placement, Retire};
use locus_testkit::{Failing, FaultyVolume, VolumeFaults, VolumeOp};
use rstest::rstest;

use crate::bench::{Bench, vol};

impl Bench {
    /// Puts switches before `vol-<n>`.
    pub(crate) fn switched(&mut self, volume: usize) -> VolumeFaults {
        let faults = VolumeFaults::new();
        let inner = self.engine.registry.take(&vol(volume)).unwrap();
        let faulty: Arc<dyn StorageVolume> = Arc::new(FaultyVolume::new(inner, faults.clone()));
        self.engine.registry.insert(faulty).unwrap();
        faults
    }

    fn watch(&mut self, rounds: usize) {
        for _ in 0..rounds {
            let pool = self.pool.clone();
            self.run_on(async move { pool.probe_all().await });
        }
    }

    /// Two files on each of the two volumes.
    fn on_each(&mut self) -> [Vec<FileKey>; 2] {
        self.pool.set_placement(Placement::RoundRobin);
        let mut keys = [Vec::new(), Vec::new()];
        while keys.iter().any(|keys| keys.len() < 2) {
            let key = self.write("content");
            keys[usize::from(self.volume_of(key) == vol(1))].push(key);
        }
        keys
    }
}

fn hang(faults: &VolumeFaults) {
    VolumeOp::ALL.iter().for_each(|op| faults.fail(*op, 0, Failing::Hanging));
}

#[test]
fn b81_what_is_over_is_removed_from_the_others_while_one_volume_hangs() {
    let mut bench = Bench::new();
    let faults = bench.switched(0);
    let [hung, fine] = bench.on_each();
    let (pool, acme, store) = (bench.pool.clone(), bench.acme.clone(), bench.engine.store.clone());
    let sweeper = bench.engine.sweeper.clone();
    bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
    hang(&faults);
    // In this order: the removal of the first one is under way, and hangs, when the others come.
    bench.run(pool.delete(&acme, &hung[0])).unwrap();
    while faults.hung() == 0 {
        bench.run(store.sync()).unwrap();
        bench.world.stepper.run_until_idle();
    }
    for key in &fine {
        bench.run(pool.delete(&acme, key)).unwrap();
    }
    bench.watch(2);
    bench.run_on(store.settled()).unwrap();
    assert_eq!(store.files_on(&vol(1)), 0);
    assert!(store.files_on(&vol(0)) > 0);
    let read = bench.read(hung[1]);
    assert!(matches!(read, Err(Error::VolumeUnavailable { .. })), "{read:?}");

    faults.heal();
    bench.watch(2);
    bench.run_on(store.settled()).unwrap();
    assert_eq!(bench.read(hung[1]).unwrap(), b"content");
    assert_eq!(store.files_on(&vol(0)), 1);
}

#[derive(Debug, Clone, Copy)]
enum Goes {
    Unmounted,
    Retired,
    Stays,
}

#[rstest]
fn b81_a_volume_that_hangs_unsynced_holds_up_neither_the_barrier_nor_its_unmounting(
    #[values(Goes::Unmounted, Goes::Retired, Goes::Stays)] goes: Goes,
) {
    let options = EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() };
    let mut bench = Bench::with(options, 2);
    let faults = bench.switched(0);
    let [hung, fine] = bench.on_each();
    hang(&faults);
    let (pool, store) = (bench.pool.clone(), bench.engine.store.clone());
    match goes {
        Goes::Unmounted => bench.run_on(pool.unmount(&vol(0))).unwrap(),
        Goes::Retired => _ = bench.run_on(pool.retire(&vol(0), Retire::Keep)).unwrap(),
        Goes::Stays => {
            let synced = bench.run_on(pool.undelayed(store.sync()));
            let told = synced.unwrap_err().to_string();
            assert!(told.contains("vol-0") && told.contains("did not answer a probe"), "{told}");
        }
    }
    let late = bench.write("late");
    assert_eq!(bench.volume_of(late), vol(1));
    bench.run_on(store.sync()).unwrap();
    faults.heal();
    let mut bench = bench.restart_after_power_cut();
    for key in fine.into_iter().chain([late]) {
        bench.read(key).unwrap();
    }
    assert!(
        matches!(goes, Goes::Retired)
            == bench.read(hung[0]).is_err_and(|e| e.to_string().contains("not mounted"))
    );
}

#[test]
fn b15_a_place_that_another_volume_has_replaces_nothing() {
    let mut bench = Bench::new();
    let [keys, _] = bench.on_each();
    let pool = bench.pool.clone();
    let refused = bench.run(pool.replace(&vol(0), LocalVolume::new("vol-0", "/vol-1"))).unwrap_err();
    assert!(refused.to_string().contains("that is volume vol-1"), "{refused}");
    assert_eq!(pool.volumes().len(), 2);
    assert_eq!(bench.read(keys[0]).unwrap(), b"content");
}
