//! A record through the store: taken in, read back, leased and completed.

use std::{hint::black_box, path::Path, time::Duration};

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use locus_benches::{BoxError, Engine, Stopwatch};
use locus_core::{Durability, LeaseOptions, MetadataStore};
use locus_storage::EngineOptions;
use tokio::runtime::Runtime;

use crate::options;

/// Records that are written before their files are completed, which is not timed.
const ACCEPTS_MAX: u64 = 256;
/// Contents that are read in turn.
const READ_FROM: u64 = 64;
/// What a file holds; `None`: a record that says its content is on a volume.
const CONTENTS: [(Option<usize>, &str); 4] =
    [(None, "no content"), (Some(1 << 10), "1 KiB"), (Some(16 << 10), "16 KiB"), (Some(64 << 10), "64 KiB")];

/// Room and record of a file, up to the kernel, durably where it says so; the content in the same record, if any.
pub(crate) fn appends(criterion: &mut Criterion, runtime: &Runtime, dir: &Path) -> Result<(), BoxError> {
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
pub(crate) fn reads(criterion: &mut Criterion, runtime: &Runtime, dir: &Path) -> Result<(), BoxError> {
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
pub(crate) fn work(criterion: &mut Criterion, runtime: &Runtime, dir: &Path) -> Result<(), BoxError> {
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
