//! Pins against reuse: a segment in which somebody reads is not used again, and whoever finds a place finds what lies there.

use std::sync::Arc;

use bytes::Bytes;
use locus_core::{Checksum, Error, FileRecord, LeaseOptions, MetadataStore, Place, Result, Stored, Upkeep};
use shuttle::future;

use crate::{
    EngineOptions,
    store::EmbeddedStore,
    world::{World, tenant, volume, write},
};

/// Of each content that fills a segment, and how many do: four of them are a record.
const FILLER_BYTES: usize = 60 << 10;
const FILLERS: usize = 16;
/// Of the content that is read.
const CONTENT_BYTES: usize = 1 << 10;
/// How often it is read.
const READS: usize = 6;

/// What becomes of the content that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its file is deleted and reaped.
    Deleted,
    /// It moves to a volume.
    Moved,
}

/// One reads the last content that lives in a segment, while its fate comes over it, checkpoints go by, and the keeper
/// waits for the segment.
pub fn a_reader_and_the_keeper(fate: Fate) {
    let options = EngineOptions { segment_size: 1 << 20, ..EngineOptions::default() };
    let mut world = World::new(options).with_threads();
    let content = Bytes::from(vec![7; CONTENT_BYTES]);
    let record = future::block_on(fill_a_segment(&world.store, &content)).expect("because nothing fails");
    let (key, checksum) = (record.info.key, Checksum::of(&content));
    future::block_on(reap(&world.store));
    assert_eq!(world.store.statistics().segments_reused, 0);

    let store = Arc::downgrade(&world.store);
    world.disk.amid_reads(move || {
        let Some(store) = store.upgrade() else { return };
        assert_eq!(store.statistics().segments_reused, 0, "a segment is used again while it is read");
    });
    let store = Arc::clone(&world.store);
    let reader = future::spawn(async move {
        for _ in 0..READS {
            match store.content(&record, 0..u64::MAX).await {
                Ok(bytes) => assert!(bytes == content, "other bytes were read"),
                Err(Error::FileNotFound { .. }) => return,
                Err(why) => panic!("{why}"),
            }
        }
    });
    let store = Arc::clone(&world.store);
    let ender = future::spawn(async move {
        match fate {
            Fate::Deleted => store.delete(&tenant(0), &key, true).await.expect("because nothing fails"),
            Fate::Moved => {
                let moving = store.begin_move(&tenant(0), &key).expect("because nobody else moves it");
                let to = Stored { place: Place::Volume(volume()), length: CONTENT_BYTES as u64, checksum };
                assert!(store.relocate(moving, to).await.expect("because nothing fails"));
            }
        }
    });
    future::block_on(ender).expect("because nobody aborts it");
    future::block_on(reap(&world.store));
    for _ in 0..2 {
        future::block_on(world.store.checkpoint()).expect("because nothing fails");
    }
    future::block_on(reader).expect("because nobody aborts it");
    world.stop(); // the keeper may be about it
    while world.store.keep_step() {}
    let reused = world.store.statistics().segments_reused;
    assert_eq!(reused, 1, "nobody reads, and the segment is not used again");
}

/// Fills a segment, in which nothing lives in the end but this content, and begins the next one.
async fn fill_a_segment(store: &EmbeddedStore, content: &Bytes) -> Result<FileRecord> {
    let fillers = vec![Bytes::from(vec![0; FILLER_BYTES]); 4];
    for _ in 0..FILLERS / 4 {
        write(store, &tenant(0), &fillers).await?;
    }
    let leased = store.lease(&tenant(0), FILLERS, &LeaseOptions::default()).await?;
    let leases: Vec<_> = leased.into_iter().map(|leased| leased.lease).collect();
    assert_eq!(leases.len(), FILLERS);
    store.complete(&leases).await?;
    let key = write(store, &tenant(0), std::slice::from_ref(content)).await?[0];
    write(store, &tenant(0), &fillers).await?;
    store.get(&tenant(0), &key).await.map(|record| record.expect("because it lives"))
}

async fn reap(store: &EmbeddedStore) {
    let over = store.reapable(None, usize::MAX).await.expect("because nothing fails");
    store.reaped(&over).await.expect("because nothing fails");
}
