//! Hand-over of leases: each file to one at a time, what was on its way to somebody who vanished comes back, and whoever
//! waits for a file is woken when there is one.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use locus_core::{Durability, FileKey, LeaseOptions, Leased, MetadataStore};
use shuttle::{future, sync::mpsc};

use crate::{
    EngineOptions,
    disk::SteppedDisk,
    store::EmbeddedStore,
    world::{Mark, World, below, tenant, vanish, write},
};

/// Which files a worker asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// Those of one tenant.
    One,
    /// Those of any tenant.
    Any,
}

impl Asks {
    async fn take(self, store: &EmbeddedStore) -> Option<Leased> {
        let options = LeaseOptions::default();
        let leased = match self {
            Self::One => store.lease(&tenant(0), 1, &options).await,
            Self::Any => store.lease_any(1, &options, &|_| 1).await,
        };
        leased.expect("because nothing fails").pop()
    }

    async fn wait(self, store: &EmbeddedStore) {
        let ready = match self {
            Self::One => store.ready(&tenant(0)).await,
            Self::Any => store.ready_any().await,
        };
        ready.expect("because nothing fails");
    }
}

/// One worker looks for a file while the only one there will ever be becomes visible: nobody wakes him twice.
pub fn the_only_file(durability: Durability, asks: Asks) {
    let mut world = World::new(EngineOptions { durability, ..EngineOptions::default() }).with_threads();
    let store = Arc::clone(&world.store);
    let worker = future::spawn(async move {
        loop {
            asks.wait(&store).await;
            if asks.take(&store).await.is_some() {
                return;
            }
        }
    });
    let content = Bytes::copy_from_slice(Mark::new(0, 0).bytes());
    future::block_on(write(&world.store, &tenant(0), &[content])).expect("because nothing fails");
    future::block_on(worker).expect("because nobody aborts it");
    world.stop();
}

/// One worker to three, all but one of whom may vanish, while one file to three are written, some of which are given back
/// once before they are completed.
pub fn files_to_workers(durability: Durability, asks: Asks) {
    // Few bytes wait to be written at once, so that workers also wait for room.
    let options = EngineOptions { durability, pending_bytes_max: 64, ..EngineOptions::default() };
    let mut world = World::new(options).with_threads();
    let files = 1 + below(3);
    let store = Arc::clone(&world.store);
    let writer = future::spawn(async move {
        for number in 0..files {
            let content = Bytes::copy_from_slice(Mark::new(0, number as u8).bytes());
            write(&store, &tenant(0), &[content]).await.expect("because nothing fails");
        }
    });
    let (tell, told) = mpsc::channel();
    let worker = || {
        let (store, tell) = (Arc::clone(&world.store), tell.clone());
        future::spawn(async move {
            loop {
                match asks.take(&store).await {
                    // Whoever vanishes after this has had his lease.
                    Some(leased) => tell.send(leased).expect("because it is listened to"),
                    None => asks.wait(&store).await,
                }
            }
        })
    };
    let stays = worker();
    let others: Vec<_> = (0..below(3)).map(|_| worker()).collect();
    others.iter().for_each(vanish);
    let (mut back, mut over) = (BTreeSet::<FileKey>::new(), BTreeSet::new());
    while (over.len() as u64) < files {
        let Leased { lease, record } = told.recv().expect("because somebody is left");
        let key = lease.key;
        assert!(!over.contains(&key), "{key} was over");
        let content =
            future::block_on(world.store.content(&record, 0..u64::MAX)).expect("because it is there");
        assert!(is_safe(&world.disk, durability, &content), "{key} is seen before its accept is safe");
        // A second lease beside this one would have taken its right away.
        let ended = if below(2) == 0 && back.insert(key) {
            future::block_on(world.store.release(&lease))
        } else {
            over.insert(key);
            future::block_on(world.store.complete(&[lease]))
        };
        ended.expect("because nobody else has the file");
    }
    stays.abort();
    for worker in others.into_iter().chain([stays]) {
        let _ = future::block_on(worker);
    }
    future::block_on(writer).expect("because nobody aborts it");
    world.stop();
}

fn is_safe(disk: &SteppedDisk, durability: Durability, content: &[u8]) -> bool {
    match durability {
        Durability::Durable => disk.has_synced(content),
        Durability::Buffered => disk.has_written(content),
    }
}
