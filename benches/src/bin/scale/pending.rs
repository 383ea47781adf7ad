//! Many pending files: what they cost to hold, to lease, to complete, and to open again; as records alone, and with their
//! contents in the journal.

use std::{
    path::Path,
    process::Command,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use locus_benches::{
    BoxError, Engine, Ground, Spread, Stopwatch, percentile, rate, resident_bytes, thousands,
};
use locus_core::{Durability, LeaseOptions, MetadataStore, TenantCounts};
use locus_storage::EngineOptions;

use crate::arguments::Arguments;

/// Files of one lease and of one completion while the store is emptied.
const BATCH: usize = 64;
/// Bytes of a content, where there are contents.
const CONTENT_BYTES: usize = 100;
/// With so many files there are rows with contents too.
const CONTENTS_MAX: u64 = 1_000_000;
/// Leases that are timed while nothing else goes on, at most.
const LEASES: u64 = 10_000;
/// Rounds of leases beside a checkpoint.
const ROUNDS: usize = 5;

/// So many files of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Many {
    files: u64,
    /// Whether each has a content, in the journal.
    contents: bool,
}

impl FromStr for Many {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let many = || {
            let (kind, files) = text.split_once(':')?;
            let contents = match kind {
                "records" => false,
                "contents" => true,
                _ => return None,
            };
            Some(Self { files: files.parse().ok().filter(|files| *files > 0)?, contents })
        };
        many().ok_or("say records:1000 or contents:1000")
    }
}

/// A row for each number of files, in a process of its own.
pub(crate) fn table(arguments: &Arguments) -> Result<(), BoxError> {
    let form: &[u64] =
        if arguments.full { &[1_000, 10_000, 100_000, 1_000_000, 10_000_000] } else { &[1_000, 100_000] };
    let counts = if arguments.pending.is_empty() { form } else { &arguments.pending };
    println!(
        "Buffered; one tenant; 32-byte names; contents, if any, of {CONTENT_BYTES} bytes in the journal; times of a lease in us, \
         median (lowest..highest) of {ROUNDS} rounds.\n"
    );
    println!(
        "| files | contents | accepted/s | bytes of memory each | opened after a kill | checkpoint | opened behind it | lease p50 | lease p99 \
         | p99 beside a checkpoint | longest beside it | leased + completed/s, {BATCH} at a time | second half over first |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    for (kind, most) in [("records", u64::MAX), ("contents", CONTENTS_MAX)] {
        for files in counts.iter().filter(|files| **files <= most) {
            let mut row = Command::new(std::env::current_exe()?);
            row.arg("--dir").arg(&arguments.dir).args(["--row", &format!("{kind}:{files}")]);
            let status = row.status()?;
            if !status.success() {
                return Err(format!("{kind}:{files}: {status}").into());
            }
        }
    }
    Ok(())
}

/// One row.
pub(crate) async fn row(many: &Many, ground: &Ground) -> Result<(), BoxError> {
    let files = many.files;
    let content = many.contents.then(|| Bytes::from(vec![7; CONTENT_BYTES]));
    let dir = ground.path().join("store");

    let engine = Engine::open(&dir, options(), true).await?;
    let before = resident_bytes()?;
    let watch = Stopwatch::start();
    engine.fill(files, content.as_ref()).await?;
    let filled = thousands(rate(files, watch.elapsed()));
    let each = resident_bytes()?.saturating_sub(before) / files;
    engine.abandon().await?;

    let (engine, killed) = reopen(&dir, files).await?;
    let watch = Stopwatch::start();
    engine.store.checkpoint().await?;
    let checkpoint = watch.elapsed();
    engine.close().await?;
    let (engine, closed) = reopen(&dir, files).await?;

    let leases = Leases::measure(&engine, LEASES.min(files / 2)).await?;
    let (drained, slower) = drain(&engine, files).await?;
    engine.close().await?;
    let contents = if many.contents { "yes" } else { "no" };
    let Leases { p50, alone, beside, longest } = leases;
    println!(
        "| {} | {contents} | {filled} | {each} | {killed} | {checkpoint:.2?} | {closed} | {p50} | {alone} | {beside} | {longest} \
         | {drained} | {slower:.2} |",
        thousands(files as f64)
    );
    Ok(())
}

fn options() -> EngineOptions {
    EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() }
}

/// Opens the store again. Says how long that took.
async fn reopen(dir: &Path, files: u64) -> Result<(Engine, String), BoxError> {
    let watch = Stopwatch::start();
    let engine = Engine::open(dir, options(), true).await?;
    let took = watch.elapsed();
    let report = &engine.report;
    if report.files != files {
        return Err(format!("{} files came back of {files}", report.files).into());
    }
    let said = format!("{took:.2?}, {} records replayed", thousands(report.replayed as f64));
    Ok((engine, said))
}

/// What single leases took, in microseconds.
struct Leases {
    p50: Spread,
    alone: Spread,
    beside: Spread,
    longest: Spread,
}

impl Leases {
    /// Alone, then while checkpoints are written one after the other. The files are given back.
    async fn measure(engine: &Engine, most: u64) -> Result<Self, BoxError> {
        let mut figures = [const { Vec::new() }; 4];
        for _ in 0..ROUNDS {
            let mut alone = time_leases(engine, most, &AtomicBool::new(false)).await?;
            figures[0].push(micros(percentile(&mut alone, 0.5)));
            figures[1].push(micros(percentile(&mut alone, 0.99)));

            let done = Arc::new(AtomicBool::new(false));
            let (store, end) = (Arc::clone(&engine.store), Arc::clone(&done));
            let writer = tokio::spawn(async move {
                let taken = store.checkpoint().await;
                end.store(true, Ordering::Release);
                taken
            });
            let mut beside = time_leases(engine, u64::MAX, &done).await?;
            writer.await??;
            figures[2].push(micros(percentile(&mut beside, 0.99)));
            figures[3].push(micros(percentile(&mut beside, 1.0)));
        }
        let [p50, alone, beside, longest] = figures.map(|each| Spread::of(&each));
        Ok(Self { p50, alone, beside, longest })
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Leases one file after the other until there were so many or `done` says so, each timed.
async fn time_leases(engine: &Engine, most: u64, done: &AtomicBool) -> Result<Vec<Duration>, BoxError> {
    let (lease, mut leased, mut times) = (LeaseOptions::new(), Vec::new(), Vec::new());
    while (times.len() as u64) < most && !done.load(Ordering::Acquire) {
        let watch = Stopwatch::start();
        let files = engine.store.lease(&engine.tenant, 1, &lease).await?;
        times.push(watch.elapsed());
        if files.is_empty() {
            break;
        }
        leased.extend(files.into_iter().map(|file| file.lease));
    }
    for lease in &leased {
        engine.store.release(lease).await?;
    }
    Ok(times)
}

/// Leases and completes everything; in between, records of what is durably over go, which is not timed. Gives files per second, and the
/// second half over the first.
async fn drain(engine: &Engine, files: u64) -> Result<(Spread, f64), BoxError> {
    let lease = LeaseOptions::new();
    let (mut ended, mut slices) = (0, Vec::new());
    while ended < files {
        let (mut slice, mut took) = (0, Duration::ZERO);
        while slice < (files / 10).max(1) {
            let watch = Stopwatch::start();
            let leased = engine.store.lease(&engine.tenant, BATCH, &lease).await?;
            if leased.is_empty() {
                break;
            }
            let leases = leased.into_iter().map(|file| file.lease).collect::<Vec<_>>();
            engine.store.complete(&leases).await?;
            took += watch.elapsed();
            slice += leases.len() as u64;
            engine.reap_ready().await?;
        }
        if slice == 0 {
            return Err(format!("only {ended} files could be leased").into());
        }
        ended += slice;
        slices.push(rate(slice, took));
    }
    engine.reap().await?;
    let left: u64 = engine.store.counts().values().map(TenantCounts::files).sum();
    if left > 0 {
        return Err(format!("{left} files are left").into());
    }
    let (first, second) = slices.split_at(slices.len() / 2);
    Ok((Spread::of(&slices), Spread::of(second).median / Spread::of(first).median))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_row_holds_opens_leases_and_drains_all_files() {
        let temp = tempfile::tempdir().unwrap();
        let ground = Ground::below(temp.path()).unwrap();
        for contents in [false, true] {
            let ground = Ground::below(ground.path()).unwrap();
            row(&Many { files: 300, contents }, &ground).await.unwrap();
        }
    }
}
