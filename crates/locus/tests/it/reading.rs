//! Reading some of a large content.

use std::{io::SeekFrom, ops::Range};

use locus::prelude::*;
use locus_testkit::{FaultyVolume, VolumeFaults};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::support::open_with;

const MIB: u64 = 1 << 20;

/// Most that is fetched at a time.
const CHUNK: u64 = MIB;

fn content(range: Range<u64>) -> Vec<u8> {
    range.map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

#[tokio::test]
async fn b16_what_lies_before_a_range_or_behind_a_seek_is_not_read() {
    let temp = tempfile::tempdir().unwrap();
    let faults = VolumeFaults::new();
    let volume = FaultyVolume::new(LocalVolume::new("vol-001", temp.path().join("vol-001")), faults.clone());
    let builder = Locus::builder().data_dir(temp.path().join("data")).add_volume(volume).add_tenant("acme");
    let (locus, acme) = open_with(builder).await;
    let size = 20 * MIB;
    let key = locus.pool().write(&acme, content(0..size), WriteOptions::new()).await.unwrap();

    for range in [7 * MIB + 5..7 * MIB + 9, 3 * MIB..6 * MIB, size - 3..size, size..size + 5, 9..9] {
        faults.listen();
        let bytes = locus.pool().read_range(&acme, &key, range.clone()).await.unwrap();
        let there = range.start.min(size)..range.end.min(size);
        assert!(bytes == content(there.clone()), "{range:?}");
        let mut read = faults.reads();
        // As much as is left of the chunk may come with it, and nothing before it.
        read.sort_by_key(|read| read.start);
        let (bytes_read, first) = (read.iter().map(|read| read.end - read.start).sum::<u64>(), read.first());
        assert!(first.is_none_or(|first| first.start >= there.start), "{range:?}: {read:?}");
        assert!(bytes_read < there.end - there.start + CHUNK, "{range:?}: {read:?}");
    }

    faults.listen();
    let mut reader = locus.pool().read(&acme, &key).await.unwrap();
    let (mut some, mut at_opening) = ([0; 100], faults.reads());
    assert!(at_opening.iter().all(|read| read.end <= CHUNK), "{at_opening:?}");
    for at in [15 * MIB, 15 * MIB + 50, 4 * MIB, size - 100, 8 * MIB] {
        reader.seek(SeekFrom::Start(at)).await.unwrap();
        reader.read_exact(&mut some).await.unwrap();
        assert_eq!(some[..], content(at..at + 100)[..], "{at}");
        let all = faults.reads();
        let new = all[at_opening.len()..].to_vec();
        assert!(new.len() <= 1, "{at}: {new:?}");
        assert!(new.iter().all(|read| read.start == at && read.end <= at + CHUNK), "{at}: {new:?}");
        at_opening = all;
    }
    locus.shutdown().await.unwrap();
}
