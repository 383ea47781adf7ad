//! What many pending files do to a lease, to a look-up and to a checkpoint.

use std::{hint::black_box, path::Path, time::Duration};

use criterion::Criterion;
use locus_benches::{BoxError, Engine, Stopwatch, thousands};
use locus_core::{LeaseOptions, MetadataStore};
use tokio::runtime::Runtime;

use crate::options;

/// Leases that are taken before they are completed and replaced, which is not timed.
const LEASES_OUT: u64 = 256;

/// A lease, a look-up and a checkpoint, with more and more files pending.
pub(crate) fn files(
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
        group.sample_size(10);
        group.bench_function("checkpoint", |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(checkpoints(&engine, times)).expect("because the disk has room")
            });
        });
        group.finish();
    }
    runtime.block_on(engine.close())
}

/// Only the checkpoints are timed; each has a lease to tell that the one before had not.
async fn checkpoints(engine: &Engine, times: u64) -> Result<Duration, BoxError> {
    let mut took = Duration::ZERO;
    for _ in 0..times {
        for file in engine.store.lease(&engine.tenant, 1, &LeaseOptions::new()).await? {
            engine.store.release(&file.lease).await?;
        }
        let watch = Stopwatch::start();
        engine.store.checkpoint().await?;
        took += watch.elapsed();
    }
    Ok(took)
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
