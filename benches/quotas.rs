//! What it costs to ask for room in the quotas, with ever more directories and with patterns among the limits.

use std::{hint::black_box, path::Path, time::Duration};

use criterion::Criterion;
use locus_benches::{BoxError, Engine, Ground, Stopwatch, is_quick, thousands};
use locus_core::{DirectoryQuota, Durability, LogicalDir, MetadataStore, Reserved};
use locus_storage::EngineOptions;
use tokio::runtime::Runtime;

/// Directories by patterns that all match some, and none of them.
const PATTERNS: usize = 64;

/// Directories that are asked about in turn, spread over all.
const ASKED: usize = 1_000;

/// Files of one record while the store is filled.
const BATCH: usize = 1_000;

fn main() -> Result<(), BoxError> {
    let ground = Ground::open(env!("CARGO_TARGET_TMPDIR"))?;
    println!(
        "# Quotas\n\n{ground}\nsettings:    Buffered; one tenant; limits: {PATTERNS} patterns of directories, as many of subtrees, global, tenant\n"
    );
    let quick = is_quick();
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(if quick { 100 } else { 500 }))
        .measurement_time(Duration::from_millis(if quick { 300 } else { 2_000 }))
        .sample_size(if quick { 10 } else { 20 })
        .configure_from_args();
    let runtime = Runtime::new()?;
    for directories in if quick { [1, 100, 10_000] } else { [1, 1_000, 1_000_000] } {
        let dir = ground.path().join(directories.to_string());
        rooms(&mut criterion, &runtime, &dir, directories)?;
    }
    criterion.final_summary();
    Ok(())
}

fn options() -> EngineOptions {
    let quotas = |pattern: fn(usize) -> String| {
        let quota = |at| DirectoryQuota {
            pattern: pattern(at),
            max_files: 1 << 40,
            max_bytes: Some(1 << 60),
            enabled: true,
        };
        (0..PATTERNS).map(quota).collect()
    };
    EngineOptions {
        durability: Durability::Buffered,
        global_quota: Some(1 << 40),
        tenant_quota: Some(1 << 40),
        directory_quotas: quotas(|at| format!("*/{at}/*/in-?*")),
        subtree_quotas: quotas(|at| format!("acme/{at}*/**")),
        ..EngineOptions::default()
    }
}

/// Number `n` of the directories: three levels, each with a limit by some pattern.
fn directory(n: usize) -> Result<LogicalDir, BoxError> {
    Ok(LogicalDir::parse(&format!("/{}/{}/in-{n}", n % PATTERNS, n % 1_009))?)
}

/// A file rests in each directory.
fn rooms(
    criterion: &mut Criterion,
    runtime: &Runtime,
    dir: &Path,
    directories: usize,
) -> Result<(), BoxError> {
    let engine = runtime.block_on(Engine::open(dir, options(), true))?;
    for from in (0..directories).step_by(BATCH) {
        let some = (from..directories.min(from + BATCH)).map(directory).collect::<Result<Vec<_>, _>>()?;
        runtime.block_on(engine.accept_in(some.iter(), None))?;
    }
    let step = (directories / ASKED).max(1);
    let used = (0..directories).step_by(step).map(directory).collect::<Result<Vec<_>, _>>()?;
    let new = (directories..directories + ASKED).map(directory).collect::<Result<Vec<_>, _>>()?;

    let mut group = criterion.benchmark_group(format!("{} directories", thousands(directories as f64)));
    for (asked, said) in [(&used, "a directory in use"), (&new, "a new directory")] {
        let mut of = asked.iter().cycle();
        group.bench_function(format!("check, {said}"), |bencher| {
            bencher.iter(|| {
                let directory = of.next().expect("because there is one");
                black_box(engine.store.check_room(&engine.tenant, directory, 1))
                    .expect("because there is room");
            });
        });
        group.bench_function(format!("reserve and give back, {said}"), |bencher| {
            bencher.iter_custom(|times| runtime.block_on(reserves(&engine, &mut of, times)));
        });
    }
    group.finish();
    runtime.block_on(engine.close())
}

async fn reserves<'a>(
    engine: &Engine,
    directories: &mut impl Iterator<Item = &'a LogicalDir>,
    times: u64,
) -> Duration {
    let watch = Stopwatch::start();
    for directory in directories.take(usize::try_from(times).unwrap_or(usize::MAX)) {
        let room = engine.store.reserve(&engine.tenant, directory, Some(1), None).await;
        let Ok(Reserved::Room(room)) = room else { panic!("there is room: {room:?}") };
        drop(black_box(room));
    }
    watch.elapsed()
}
