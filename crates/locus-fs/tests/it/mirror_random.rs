//! A mirror whose members come, go, fail and lose power at random, held against a model.

use std::{collections::BTreeMap, io, sync::Arc};

use locus_core::{
    Area, BlobPath, Durability, Entropy, Error, Extension, FileKey, StoragePath, StorageVolume,
};
use locus_fs::{LocalVolume, Mirror, MirroredVolume, VolumeSpec};
use locus_testkit::{Failing, FaultyVolume, SeededEntropy, SimDisk, VolumeFaults, VolumeOp};
use rstest::rstest;

use crate::{local_volume::on, mirror::read};

/// What was confirmed of an address. Its content is always the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Kept,
    /// Written, and not synced.
    Buffered,
    /// Deleted, or an error or a crash left it open.
    Open,
}

struct World {
    disk: Arc<SimDisk>,
    random: SeededEntropy,
    faults: Vec<VolumeFaults>,
    quorum: usize,
    mirror: Mirror,
    volume: Arc<dyn StorageVolume>,
    known: BTreeMap<BlobPath, Known>,
}

const FAILING: [VolumeOp; 6] =
    [VolumeOp::Write, VolumeOp::Delete, VolumeOp::Open, VolumeOp::Sync, VolumeOp::SyncBlob, VolumeOp::List];

async fn open(
    disk: &Arc<SimDisk>,
    faults: &[VolumeFaults],
    quorum: usize,
) -> locus_core::Result<(Mirror, Arc<dyn StorageVolume>)> {
    let spec = faults.iter().enumerate().fold(MirroredVolume::new("m"), |spec, (n, faults)| {
        let local = LocalVolume::new(format!("v{n}"), format!("/v{n}"));
        spec.add_member(FaultyVolume::new(local, faults.clone()))
    });
    let spec = spec.quorum(quorum);
    let mirror = spec.handle();
    Ok((mirror, Box::new(spec).open(on(disk.clone())).await?))
}

fn content(at: &BlobPath) -> Vec<u8> {
    at.key.to_string().into_bytes().repeat(1 + usize::from(at.key.as_bytes()[15]) % 40)
}

impl World {
    async fn new(seed: u64, members: usize, quorum: usize) -> Self {
        let disk = SimDisk::new(seed);
        let faults: Vec<_> = (0..members).map(|_| VolumeFaults::new()).collect();
        let (mirror, volume) = open(&disk, &faults, quorum).await.unwrap();
        let at = |n| BlobPath {
            area: Area::Live,
            owner: StoragePath::parse("acme").unwrap(),
            key: FileKey::from_bytes([n; 16]),
            extension: Extension::NONE,
        };
        let known = (0..6).map(|n| (at(n), Known::Open)).collect();
        Self { disk, random: SeededEntropy::new(seed), faults, quorum, mirror, volume, known }
    }

    fn below(&self, max: usize) -> usize {
        (self.random.next_u64() % max as u64) as usize
    }

    fn change(&mut self, from: Known, to: Known) {
        self.known.values_mut().filter(|known| **known == from).for_each(|known| *known = to);
    }

    async fn restart(&mut self, crash: bool) {
        if crash {
            self.disk.crash();
            self.change(Known::Buffered, Known::Open);
        } else {
            // As a store does; what a process leaves unsynced the next one syncs blob by blob.
            let now = if self.volume.sync().await.is_ok() { Known::Kept } else { Known::Open };
            self.change(Known::Buffered, now);
            self.volume.close().await.unwrap();
        }
        loop {
            match open(&self.disk, &self.faults, self.quorum).await {
                Ok((mirror, volume)) => {
                    (self.mirror, self.volume) = (mirror, volume);
                    return;
                }
                Err(_) => self.faults[self.below(self.faults.len())].heal(),
            }
        }
    }

    async fn step(&mut self) {
        let at = self.known.keys().nth(self.below(self.known.len())).unwrap().clone();
        let was = self.known[&at];
        match self.below(14) {
            0..=2 if was == Known::Open => {
                let how = [Durability::Durable, Durability::Buffered][self.below(2)];
                let now = match self.volume.write(&at, &mut content(&at).into(), how).await {
                    Ok(_) if how == Durability::Durable => Known::Kept,
                    Ok(_) => Known::Buffered,
                    Err(_) => Known::Open,
                };
                self.known.insert(at, now);
            }
            3 | 4 => {
                let _ = self.volume.delete(&at).await;
                self.known.insert(at, Known::Open);
            }
            5 => {
                if self.volume.sync().await.is_ok() {
                    self.change(Known::Buffered, Known::Kept);
                }
            }
            6 => drop(self.volume.sync_names().await),
            7 => drop(self.volume.probe().await),
            8 => drop(self.mirror.scrub(|_| {}).await),
            9 => self.faults[self.below(self.faults.len())].set_away(true),
            10 => self.faults[self.below(self.faults.len())].heal(),
            11 => {
                let (op, how) = (
                    FAILING[self.below(FAILING.len())],
                    [Failing::Refused, Failing::AnswerLost][self.below(2)],
                );
                self.faults[self.below(self.faults.len())].fail(op, self.below(3) as u64, how);
            }
            12 if self.below(3) == 0 => {
                let crash = self.below(2) == 0;
                self.restart(crash).await;
            }
            _ => match read(&self.volume, &at).await {
                Ok(bytes) => assert!(bytes == content(&at), "{at} is wrong"),
                Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                    assert!(
                        !matches!(was, Known::Kept | Known::Buffered),
                        "{at} is {was:?} and called absent"
                    );
                }
                Err(Error::Corrupt { .. }) => {
                    assert!(was == Known::Open, "{at} is {was:?} and called damaged");
                }
                Err(_) => {}
            },
        }
    }

    async fn check(&mut self) {
        self.faults.iter().for_each(VolumeFaults::heal);
        self.restart(false).await;
        self.volume.probe().await.unwrap();
        let done = self.mirror.scrub(|_| {}).await.unwrap();
        let report = self.mirror.report().unwrap();
        assert_eq!((done.postponed, report.unknown, report.away), (0, 0, 0), "{done:?} {report:?}");
        for (at, _) in self.known.iter().filter(|(_, known)| **known != Known::Open) {
            let found = read(&self.volume, at).await;
            assert!(found.as_ref().is_ok_and(|bytes| *bytes == content(at)), "{at} is lost: {found:?}");
        }
    }
}

#[rstest]
#[case::any_of_two(2, 1)]
#[case::both(2, 2)]
#[case::two_of_three(3, 2)]
#[tokio::test]
async fn nothing_that_was_confirmed_is_lost(#[case] members: usize, #[case] quorum: usize) {
    for seed in 0..150 {
        println!("seed {seed}");
        let mut world = World::new(seed, members, quorum).await;
        for _ in 0..80 {
            world.step().await;
        }
        world.check().await;
    }
}
