//! A file on a volume: its path, and its way there, staged, hashed, published; by kind of volume and size.

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use locus_benches::{BoxError, Stopwatch, size};
use locus_core::{
    Area, BlobPath, Clock, Content, Durability, Entropy, Extension, FileKey, StoragePath, StorageVolume,
    StoreId, SystemClock, SystemEntropy,
};
use locus_fs::{LocalVolume, MirroredVolume, NetworkVolume, OsDisk, VolumeContext, VolumeSpec};
use tokio::runtime::Runtime;

/// Blobs that are written before they are removed, which is not timed, and their bytes.
const BLOBS_MAX: u64 = 256;
const BYTES_MAX: u64 = 64 << 20;

/// Each kind, all on one disk.
pub(crate) fn writes(criterion: &mut Criterion, runtime: &Runtime, dir: &Path) -> Result<(), BoxError> {
    let local = |name: &str| LocalVolume::new(name, dir.join(name));
    let mirror = MirroredVolume::new("mirror").add_member(local("one")).add_member(local("two"));
    let kinds: [(&str, Box<dyn VolumeSpec>); 3] = [
        ("local", Box::new(local("local"))),
        ("mirrored, two members", Box::new(mirror)),
        ("network", Box::new(NetworkVolume::new("network", dir.join("network")))),
    ];
    for (kind, spec) in kinds {
        let context = VolumeContext {
            store: StoreId::from_bytes([1; 16]),
            disk: Arc::new(OsDisk),
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
        };
        let volume = runtime.block_on(spec.open(context))?;
        let blob = blob(&SystemClock::new(), &StoragePath::parse("acme")?);
        if volume.local_path(&blob).is_some() {
            criterion.bench_function(&format!("path of a file, {kind}"), |bencher| {
                bencher.iter(|| black_box(volume.local_path(&blob)));
            });
        }
        by_size(criterion, runtime, kind, &*volume)?;
        runtime.block_on(volume.close())?;
    }
    Ok(())
}

fn by_size(
    criterion: &mut Criterion,
    runtime: &Runtime,
    kind: &str,
    volume: &dyn StorageVolume,
) -> Result<(), BoxError> {
    let owner = StoragePath::parse("acme")?;
    for bytes in [1 << 10, 16 << 10, 100 << 10, 1 << 20] {
        let content = Bytes::from(vec![7; bytes]);
        let mut group = criterion.benchmark_group(format!("write to a volume, {kind}, {}", size(bytes)));
        group.throughput(Throughput::Bytes(bytes as u64));
        for (how, name) in [(Durability::Durable, "durable"), (Durability::Buffered, "buffered")] {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|times| {
                    let writes = write(volume, &owner, &content, how, times);
                    runtime.block_on(writes).expect("because the disk has room")
                });
            });
        }
        group.finish();
    }
    Ok(())
}

fn blob(clock: &SystemClock, owner: &StoragePath) -> BlobPath {
    let mut random = [0; 10];
    SystemEntropy.fill(&mut random);
    let key = FileKey::generate(clock.wall(), &random);
    BlobPath { area: Area::Live, owner: owner.clone(), key, extension: Extension::NONE }
}

/// Only the writes are timed.
async fn write(
    volume: &dyn StorageVolume,
    owner: &StoragePath,
    content: &Bytes,
    how: Durability,
    times: u64,
) -> Result<Duration, BoxError> {
    let clock = SystemClock::new();
    let (mut took, mut left) = (Duration::ZERO, times);
    while left > 0 {
        let some = left.min(BLOBS_MAX).min(BYTES_MAX / content.len().max(1) as u64);
        let blobs = (0..some).map(|_| blob(&clock, owner)).collect::<Vec<_>>();
        let watch = Stopwatch::start();
        for blob in &blobs {
            volume.write(blob, &mut Content::from(content.clone()), how).await?;
        }
        took += watch.elapsed();
        for blob in &blobs {
            volume.delete(blob).await?;
        }
        left -= some;
    }
    volume.sync().await?;
    Ok(took)
}
