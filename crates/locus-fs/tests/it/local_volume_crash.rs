//! A local volume on a disk that loses its power at every moment.

use std::{collections::BTreeMap, io, path::Path, sync::Arc};

use locus_core::{
    Area, BlobPath, DirSweep, Durability, Entropy, Extension, FileKey, Result, StoragePath, StorageVolume,
    Tidy, Timestamp,
};
use locus_testkit::{Fault, OpKind, SeededEntropy, SimDisk};
use rstest::rstest;

use crate::local_volume::open;

const VOLUME: &str = "/mnt/vol";

/// What a crash may leave of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Gone,
    /// Whole or absent.
    Either,
    /// Buffered and not synced: absent, or there with any content. Whoever recovers compares the checksum.
    Loose,
}

struct Story {
    disk: Arc<SimDisk>,
    entropy: SeededEntropy,
    fates: BTreeMap<BlobPath, Fate>,
}

impl Story {
    fn name(&self, owner: &str) -> BlobPath {
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        let key = FileKey::generate(Timestamp::from_micros(1_700_000_000_000_000), &random);
        BlobPath {
            area: Area::Live,
            owner: StoragePath::parse(owner).unwrap(),
            key,
            extension: Extension::of("x.bin"),
        }
    }

    async fn write(
        &mut self,
        volume: &Arc<dyn StorageVolume>,
        owner: &str,
        how: Durability,
    ) -> Result<BlobPath> {
        let at = self.name(owner);
        let open = if how == Durability::Durable { Fate::Either } else { Fate::Loose };
        self.fates.insert(at.clone(), open);
        volume.write(&at, &mut content_of(&at).into(), how).await?;
        if how == Durability::Durable {
            self.fates.insert(at.clone(), Fate::Kept);
        }
        Ok(at)
    }

    /// Everything that a volume does, until the disk goes down.
    async fn run(&mut self) -> Result<()> {
        let volume = open(self.disk.clone(), Path::new(VOLUME)).await?;
        let first = self.write(&volume, "acme", Durability::Durable).await?;
        let buffered = self.write(&volume, "b", Durability::Buffered).await?;
        let second = self.write(&volume, "b", Durability::Durable).await?;
        volume.sync().await?;
        self.fates.insert(buffered.clone(), Fate::Kept);
        for at in [&first, &buffered] {
            self.fates.insert(at.clone(), Fate::Either);
            assert!(volume.delete(at).await?, "a kept blob was gone");
        }
        volume.sync_names().await?;
        self.fates.extend([(first, Fate::Gone), (buffered, Fate::Gone)]);
        let late = self.write(&volume, "acme", Durability::Buffered).await?;
        volume.sync_blob(&late).await?;
        self.fates.insert(late, Fate::Kept);
        let failed = self.write(&volume, "b", Durability::Buffered).await?;
        self.fates.insert(failed.in_area(Area::DeadLetters), Fate::Either);
        volume.copy(&failed, Area::DeadLetters).await?;
        self.fates.insert(failed.in_area(Area::DeadLetters), Fate::Kept);
        volume.tidy(Tidy::StaleStaging).await?;
        volume.tidy(Tidy::EmptyDirectories(DirSweep::default())).await?;
        volume.probe().await?;
        self.fates.insert(second.clone(), Fate::Either);
        volume.delete(&second).await?;
        volume.close().await
    }

    async fn check(&mut self) {
        let volume = open(self.disk.clone(), Path::new(VOLUME)).await.unwrap();
        volume.tidy(Tidy::StaleStaging).await.unwrap();
        let listed = volume.list(None, None, 1_000).await.unwrap().blobs;
        for blob in &listed {
            let fate = self.fates.get(&blob.path).expect("nothing but what was written is listed");
            assert_ne!(*fate, Fate::Gone, "{} came back", blob.path);
            if *fate == Fate::Loose {
                continue;
            }
            let opened = volume.open(&blob.path, 0..1 << 20).await.unwrap();
            assert!(opened.head == content_of(&blob.path), "{} is not whole", blob.path);
        }
        for (at, fate) in &mut self.fates {
            let is_there = listed.iter().any(|blob| blob.path == *at);
            assert!(is_there || *fate != Fate::Kept, "{at} is lost");
            if *fate == Fate::Either {
                *fate = if is_there { Fate::Kept } else { Fate::Gone }; // after a crash it is what it is
            }
        }
        assert_eq!(volume.tidy(Tidy::StaleStaging).await.unwrap().removed, 0);
    }
}

/// Long enough for several sectors, different for every key.
fn content_of(at: &BlobPath) -> Vec<u8> {
    at.key.as_bytes().iter().copied().cycle().take(3_000).collect()
}

#[rstest]
#[tokio::test]
async fn b1_b2_what_was_confirmed_survives_a_power_cut_at_any_moment(#[values(0, 1, 2, 3)] round: u64) {
    for seed in round * 1_000..(round + 1) * 1_000 {
        let disk = SimDisk::new(seed);
        let entropy = SeededEntropy::new(seed);
        let cut = 1 + entropy.below(190);
        disk.crash_at(cut);
        let has_links = seed % 3 > 0;
        if !has_links {
            disk.fail(Fault::kind(io::ErrorKind::Unsupported).on(OpKind::Link).for_good());
        }
        println!("seed {seed}, cut {cut}, links {has_links}");
        let mut story = Story { disk, entropy, fates: BTreeMap::new() };
        for _ in 0..2 {
            let ran = story.run().await;
            assert!(ran.is_ok() || story.disk.is_down(), "{ran:?}");
            story.disk.crash();
            // Coming back may be cut short, too.
            let again = story.disk.ops() + 1 + story.entropy.below(40);
            story.disk.crash_at(again);
            let reopened = open(story.disk.clone(), Path::new(VOLUME)).await;
            assert!(reopened.is_ok() || story.disk.is_down(), "{reopened:?}");
            drop(reopened);
            story.disk.crash();
            story.check().await;
            let next = story.disk.ops() + 1 + story.entropy.below(190);
            story.disk.crash_at(next);
        }
    }
}

/// From some sync of a directory on the disk fails altogether, and what was begun cannot be taken back; the process dies, and the
/// next finds a disk that says that all is well. A directory that is left empty is made anew, so that it lasts.
#[rstest]
#[tokio::test]
async fn b1_a_directory_whose_sync_failed_in_an_earlier_life_is_made_anew(
    #[values(Durability::Durable, Durability::Buffered)] how: Durability,
) {
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let story = Story { disk: disk.clone(), entropy: SeededEntropy::new(seed), fates: BTreeMap::new() };
        let at = story.name("acme");
        let volume = open(disk.clone(), Path::new(VOLUME)).await.unwrap();
        disk.fail(Fault::io().on(OpKind::SyncDir).on(OpKind::Remove).after(seed % 3).for_good());
        let first = volume.write(&at, &mut content_of(&at).into(), Durability::Durable).await;
        assert!(first.is_err(), "seed {seed}: nothing failed");
        drop(volume);
        disk.kill();
        disk.heal_all();
        let volume = open(disk.clone(), Path::new(VOLUME)).await.unwrap();
        let mut key = *at.key.as_bytes();
        key[8] ^= 1; // another one of the same directory
        let again = BlobPath { key: FileKey::from_bytes(key), ..at };
        volume.write(&again, &mut content_of(&again).into(), how).await.unwrap();
        if how == Durability::Buffered {
            volume.sync().await.unwrap();
        }
        drop(volume);
        disk.crash();
        let volume = open(disk.clone(), Path::new(VOLUME)).await.unwrap();
        let opened = volume.open(&again, 0..1 << 20).await;
        assert!(opened.is_ok_and(|opened| opened.head == content_of(&again)), "seed {seed}: it is lost");
    }
}

#[rstest]
#[tokio::test]
async fn b1_a_sync_that_failed_once_is_never_made_up_for_by_a_later_one(
    #[values(OpKind::Sync, OpKind::SyncDir)] kind: OpKind,
) {
    let (mut failed, mut at) = (0, 0);
    loop {
        // The same sync fails on several disks, so that the power cut takes what it may take.
        let mut hits = 0;
        for seed in 0..12 {
            let disk = SimDisk::new(seed);
            let fault = disk.fail(Fault::io().on(kind).after(at));
            let mut story = Story { disk, entropy: SeededEntropy::new(seed), fates: BTreeMap::new() };
            let ran = story.run().await;
            hits = story.disk.hits(fault);
            assert_eq!(ran.is_err(), hits > 0, "sync {at}: {ran:?}");
            story.disk.heal_all();
            // Opened again without a restart of the machine, all goes well, and then the power goes.
            story.run().await.unwrap_or_else(|why| panic!("sync {at}, seed {seed}: {why:?}"));
            println!("{kind:?} {at}, seed {seed}");
            story.disk.crash();
            story.check().await;
        }
        failed += hits;
        if hits == 0 {
            break;
        }
        at += 1;
    }
    assert!(failed > 3, "{failed} syncs failed");
}
