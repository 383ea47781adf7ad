//! What is read and applied again when a store is opened that wrote no checkpoint.

use std::{path::Path, time::Duration};

use criterion::{Criterion, Throughput};
use locus_benches::{BoxError, Engine, Stopwatch, thousands};
use locus_core::MetadataStore;
use tokio::runtime::Runtime;

use crate::options;

/// Opens a store whose journal holds so many files; some by a record each, some many by one record.
pub(crate) fn replays(
    criterion: &mut Criterion,
    runtime: &Runtime,
    dir: &Path,
    files: u64,
) -> Result<(), BoxError> {
    let mut group = criterion.benchmark_group(format!("open and replay, {} files", thousands(files as f64)));
    group.sample_size(10).throughput(Throughput::Elements(files));
    for (together, said) in [(1, "a record each"), (1_000, "1,000 by one record")] {
        let dir = dir.join(together.to_string());
        runtime.block_on(async {
            let engine = Engine::open(&dir, options(), false).await?;
            for _ in 0..files / together {
                engine.accept(together, None).await?;
            }
            engine.store.sync().await?;
            engine.abandon().await
        })?;
        group.bench_function(said, |bencher| {
            bencher.iter_custom(|times| {
                runtime.block_on(open(&dir, files, times)).expect("because nobody else has it open")
            });
        });
    }
    group.finish();
    Ok(())
}

/// Only the openings are timed.
async fn open(dir: &Path, files: u64, times: u64) -> Result<Duration, BoxError> {
    let mut took = Duration::ZERO;
    for _ in 0..times {
        let watch = Stopwatch::start();
        let engine = Engine::open(dir, options(), false).await?;
        took += watch.elapsed();
        if engine.report.files != files || engine.report.replayed == 0 {
            return Err(format!("nothing was replayed: {:?}", engine.report).into());
        }
        engine.abandon().await?;
    }
    Ok(took)
}
