//! Parts of a cycle, one by one: a record through the store, with and without a content in the journal, a content read back,
//! a lease, a completion, a look-up, a file on a volume.

use std::{hint::black_box, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use locus_benches::{BoxError, Engine, Ground, Stopwatch, is_quick, thousands};
use locus_core::{
    Area, BlobPath, Clock, Content, Durability, Entropy, Extension, FileKey, LeaseOptions, MetadataStore,
    StoragePath, StorageVolume, StoreId, SystemClock, SystemEntropy,
};
use locus_fs::{LocalVolume, OsDisk, VolumeContext, VolumeSpec};
use locus_storage::EngineOptions;
use tokio::runtime::Runtime;

/// Leases that are taken before they are completed and replaced, which is not timed.
const LEASES_OUT: u64 = 256;
/// Records that are written before their files are completed, which is not timed.
const ACCEPTS_MAX: u64 = 256;
/// Contents that are read in turn.
const READ_FROM: u64 = 64;
/// What a file holds; `None`: a record that says its content is on a volume.
const CONTENTS: [(Option<usize>, &str); 4] =
    [(None, "no content"), (Some(1 << 10), "1 KiB"), (Some(16 << 10), "16 KiB"), (Some(64 << 10), "64 KiB")];
/// Blobs that are written before they are removed, which is not timed.
const BLOBS_MAX: u64 = 256;

fn main() -> Result<(), BoxError> {
    let ground = Ground::open(env!("CARGO_TARGET_TMPDIR"))?;
    println!("# Parts\n\n{ground}\nsettings:    defaults, Buffered but where it says durable; one tenant\n");
    let quick = is_quick();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(if quick { 100 } else { 500 }))
        .measurement_time(Duration::from_millis(if quick { 300 } else { 2_000 }))
        .sample_size(if quick { 10 } else { 20 })
        .configure_from_args();
    let pending = if quick { [1_000, 10_000, 100_000] } else { [1_000, 100_000, 1_000_000] };
    let runtime = Runtime::new()?;
    appends(&mut criterion, &runtime, &ground.path().join("appends"))?;
    reads(&mut criterion, &runtime, &ground.path().join("reads"))?;
    work(&mut criterion, &runtime, &ground.path().join("work"))?;
    pending_files(&mut criterion, &runtime, &ground.path().join("pending"), &pending)?;
    volume_writes(&mut criterion, &runtime, &ground.path().join("volume"))?;
    criterion.final_summary();
    Ok(())
}

fn options() -> EngineOptions {
    EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() }
}

/// Room and record of a file, up to the kernel, durably where it says so; the content in the same record, if any.
fn appends(criterion: &mut Criterion, runtime: &Runtime, dir: &Path) -> Result<(), BoxError> {
    for (how, name) in [(Durability::Buffered, "buffered"), (Durability::Durable, "durable")] {
        let options = EngineOptions { durability: how, ..EngineOptions::default() };
        let engine = runtime.block_on(Engine::open(&dir.join(name), options, true))?;
        for (content, said) in CONTENTS {
            let content = content.map(|bytes| Bytes::from(vec![7; bytes]));
            let mut group = criterion.benchmark_group(format!("reserve and accept, {name}, {said}"));
            for files in [1, 64] {
                if content.as_ref().is_some_and(|bytes| engine.together_max(bytes) < files) {
                    continue;
                }
                group.throughput(Throughput::Elements(files));
                group.bench_function(BenchmarkId::new("files by one record", files), |bencher| {
                    bencher.iter_custom(|times| {
                        let accepts = accepts(&engine, times, files, content.as_ref());
                        runtime.block_on(accepts).expect("because the disk has room")
                    });
                });
            }
            group.finish();
        }
        runtime.block_on(engine.close())?;
    }
    Ok(())
}

/// Only the accepts are timed. What was accepted is completed in between, so that the journal does not fill.
async fn accepts(
    engine: &Engine,
    times: u64,
    files: u64,
    content: Option<&Bytes>,
) -> Result<Duration, BoxError> {
    let (mut took, mut left) = (Duration::ZERO, times);
    while left > 0 {
        let some = left.min(ACCEPTS_MAX);
        let watch = Stopwatch::start();
        for _ in 0..some {
            engine.accept(files, content).await?;
        }
        took += watch.elapsed();
        engine.drain().await?;
        left -= some;
    }
    Ok(took)
}

/// A content that rests in the journal, from the page cache, checked whole.
fn reads(criterion: &mut Criterion, runtime: &Runtime, dir: &Path) -> Result<(), BoxError> {
    let engine = runtime.block_on(Engine::open(dir, options(), true))?;
    for (bytes, said) in CONTENTS.into_iter().filter_map(|(bytes, said)| Some((bytes?, said))) {
        let content = Bytes::from(vec![7; bytes]);
        let records = runtime.block_on(async {
            let mut records = Vec::new();
            for _ in 0..READ_FROM {
                for key in engine.accept(1, Some(&content)).await? {
                    records.extend(engine.store.get(&engine.tenant, &key).await?);
                }
            }
            Ok::<_, BoxError>(records)
        })?;
        let mut group = criterion.benchmark_group("read from the journal, cached");
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(said, |bencher| {
            let mut records = records.iter().cycle();
            bencher.iter_custom(|times| {
                runtime.block_on(async {
                    let watch = Stopwatch::start();
                    for record in records.by_ref().take(usize::try_from(times).unwrap_or(usize::MAX)) {
                        let read = engine.store.content(record, 0..bytes as u64).await;
                        black_box(read.expect("because the file is pending"));
                    }
                    watch.elapsed()
                })
            });
        });
        group.finish();
        runtime.block_on(engine.drain())?;
    }
    runtime.block_on(engine.close())
}

/// Lease and completion of files whose content rests in the journal, and of files on a volume.
fn work(criterion: &mut Criterion, runtime: &Runtime, dir: &Path) -> Result<(), BoxError> {
    let engine = runtime.block_on(Engine::open(dir, options(), true))?;
    for (content, said) in [CONTENTS[0], CONTENTS[1]] {
        let content = content.map(|bytes| Bytes::from(vec![7; bytes]));
        let mut group = criterion.benchmark_group(format!("lease and complete, {said}"));
        for files in [1, 64] {
            group.throughput(Throughput::Elements(files));
            group.bench_function(BenchmarkId::new("files at a time", files), |bencher| {
                bencher.iter_custom(|times| {
                    let work = lease_and_complete(&engine, times, files, content.as_ref());
                    runtime.block_on(work).expect("because files are pending")
                });
            });
        }
        group.finish();
    }
    runtime.block_on(engine.close())
}

/// Only leases and completions are timed.
async fn lease_and_complete(
    engine: &Engine,
    times: u64,
    files: u64,
    content: Option<&Bytes>,
) -> Result<Duration, BoxError> {
    let lease = LeaseOptions::new();
    let (mut took, mut left) = (Duration::ZERO, times);
    while left > 0 {
        let some = left.min(ACCEPTS_MAX);
        engine.fill(some * files, content).await?;
        let watch = Stopwatch::start();
        for _ in 0..some {
            let leased = engine.store.lease(&engine.tenant, files as usize, &lease).await?;
            if leased.len() as u64 != files {
                return Err("too few files were pending".into());
            }
            let ended = leased.into_iter().map(|file| file.lease).collect::<Vec<_>>();
            engine.store.complete(&ended).await?;
        }
        took += watch.elapsed();
        engine.reap().await?;
        left -= some;
    }
    Ok(took)
}

/// A lease and a look-up, with more and more files pending.
fn pending_files(
    criterion: &mut Criterion,
    runtime: &Runtime,
    dir: &Path,
    pending: &[u64],
) -> Result<(), BoxError> {
    let engine = runtime.block_on(Engine::open(dir, options(), true))?;
    let mut have = 0;
    for wanted in pending {
        runtime.block_on(engine.fill(wanted - have, None))?;
        have = *wanted;
        let mut group = criterion.benchmark_group(format!("{} pending", thousands(have as f64)));
        group.bench_function("lease", |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(leases(&engine, times)).expect("because files are pending")
            });
        });
        // Keys that are still pending: accepted last.
        let keys = runtime.block_on(async {
            let mut keys = Vec::new();
            for _ in 0..8 {
                keys.extend(engine.accept(100, None).await?);
            }
            Ok::<_, BoxError>(keys)
        })?;
        have += keys.len() as u64;
        group.bench_function("look-up by key", |bencher| {
            let mut keys = keys.iter().cycle();
            bencher.iter_custom(|times| {
                runtime.block_on(async {
                    let watch = Stopwatch::start();
                    for _ in 0..times {
                        let Some(key) = keys.next() else { break };
                        black_box(engine.store.get(&engine.tenant, key).await.expect("because it is open"));
                    }
                    watch.elapsed()
                })
            });
        });
        group.finish();
    }
    runtime.block_on(engine.close())
}

/// Only the leases are timed; as many files are pending afterwards as before.
async fn leases(engine: &Engine, times: u64) -> Result<Duration, BoxError> {
    let lease = LeaseOptions::new();
    let (mut took, mut left) = (Duration::ZERO, times);
    while left > 0 {
        let some = left.min(LEASES_OUT);
        let mut leased = Vec::new();
        let watch = Stopwatch::start();
        for _ in 0..some {
            leased.extend(engine.store.lease(&engine.tenant, 1, &lease).await?);
        }
        took += watch.elapsed();
        if leased.len() as u64 != some {
            return Err("too few files were pending".into());
        }
        let ended = leased.into_iter().map(|file| file.lease).collect::<Vec<_>>();
        engine.store.complete(&ended).await?;
        engine.reap_ready().await?;
        engine.accept(some, None).await?;
        left -= some;
    }
    Ok(took)
}

/// A file on a volume: staged, hashed, published.
fn volume_writes(criterion: &mut Criterion, runtime: &Runtime, dir: &Path) -> Result<(), BoxError> {
    let context = VolumeContext {
        store: StoreId::from_bytes([1; 16]),
        disk: Arc::new(OsDisk),
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
    };
    let volume = runtime.block_on(Box::new(LocalVolume::new("vol-001", dir)).open(context))?;
    let owner = StoragePath::parse("acme")?;
    for (size, name) in [(1 << 10, "1 KiB"), (100 << 10, "100 KiB")] {
        let content = Bytes::from(vec![7; size]);
        let mut group = criterion.benchmark_group(format!("local volume write, {name}"));
        group.throughput(Throughput::Bytes(size as u64));
        for (how, name) in [(Durability::Durable, "durable"), (Durability::Buffered, "buffered")] {
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|times| {
                    let writes = writes(&*volume, &owner, &content, how, times);
                    runtime.block_on(writes).expect("because the disk has room")
                });
            });
        }
        group.finish();
    }
    Ok(runtime.block_on(volume.close())?)
}

/// Only the writes are timed.
async fn writes(
    volume: &dyn StorageVolume,
    owner: &StoragePath,
    content: &Bytes,
    how: Durability,
    times: u64,
) -> Result<Duration, BoxError> {
    let clock = SystemClock::new();
    let (mut took, mut left) = (Duration::ZERO, times);
    while left > 0 {
        let some = left.min(BLOBS_MAX);
        let mut blobs = Vec::new();
        for _ in 0..some {
            let mut random = [0; 10];
            SystemEntropy.fill(&mut random);
            let key = FileKey::generate(clock.wall(), &random);
            blobs.push(BlobPath { area: Area::Live, owner: owner.clone(), key, extension: Extension::NONE });
        }
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
