//! Many pending files: what they cost to hold, to lease, to complete, and to open again; as records alone, and with their
//! contents in the journal.
//!
//! `cargo bench -p locus-benches --bench scale -- journal` runs only the latter, `-- records` only the former.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use locus_benches::{
    BoxError, Engine, Ground, Spread, Stopwatch, is_quick, percentile, rate, resident_bytes, thousands,
};
use locus_core::{Durability, LeaseOptions, MetadataStore};
use locus_storage::EngineOptions;

/// Files of one lease and of one completion while the store is emptied.
const BATCH: usize = 64;

/// Bytes of a content, where there are contents.
const CONTENT_BYTES: usize = 100;

const KINDS: [&str; 2] = ["records", "journal"];

struct Form {
    files: u64,
    /// What every file holds; `None`: a record that says its content is on a volume.
    content: Option<Bytes>,
    /// Files of one line of the table.
    slice: u64,
    /// Leases that are timed while nothing else goes on, and rounds of it.
    leases: u64,
    rounds: usize,
}

fn main() -> Result<(), BoxError> {
    let wanted = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    match wanted.as_deref() {
        // A process each: memory that one has given back would be counted for the other.
        None => KINDS.iter().try_for_each(|kind| {
            let status = Command::new(std::env::current_exe()?).arg(kind).status()?;
            if status.success() { Ok(()) } else { Err(format!("{kind}: {status}").into()) }
        }),
        Some("records") => measure(None),
        Some("journal") => measure(Some(Bytes::from(vec![7; CONTENT_BYTES]))),
        Some(word) => Err(format!("'{word}' is none of {KINDS:?}").into()),
    }
}

fn measure(content: Option<Bytes>) -> Result<(), BoxError> {
    let said = content.as_ref().map_or("records without content".into(), |bytes| {
        format!("contents of {} bytes in the journal", bytes.len())
    });
    let form = if is_quick() {
        Form { files: 100_000, content, slice: 20_000, leases: 2_000, rounds: 2 }
    } else {
        Form { files: 1_000_000, content, slice: 100_000, leases: 10_000, rounds: 5 }
    };
    let ground = Ground::open(env!("CARGO_TARGET_TMPDIR"))?;
    println!("# {} pending files, {said}\n\n{ground}", thousands(form.files as f64));
    println!("settings:    defaults, Buffered; one tenant; 32-byte names\n");
    tokio::runtime::Runtime::new()?.block_on(run(&form, &ground))
}

fn options() -> EngineOptions {
    EngineOptions { durability: Durability::Buffered, ..EngineOptions::default() }
}

async fn run(form: &Form, ground: &Ground) -> Result<(), BoxError> {
    let dir = ground.path().join("store");

    let engine = Engine::open(&dir, options(), true).await?;
    let before = resident_bytes()?;
    let watch = Stopwatch::start();
    engine.fill(form.files, form.content.as_ref()).await?;
    let filled = rate(form.files, watch.elapsed());
    let held = resident_bytes()?.saturating_sub(before);
    println!("accepted, many by one record    {} /s", thousands(filled));
    println!("memory per pending file         {} bytes", held / form.files);
    let said = engine.store.statistics();
    println!(
        "on the disk                     {} MiB of journal, {} MiB the newest checkpoint; {} contents in the journal\n",
        said.journal_bytes >> 20,
        said.checkpoint_bytes >> 20,
        thousands(said.files_in_journal as f64)
    );
    engine.abandon().await?;

    let engine = reopen("killed, no checkpoint asked for", &dir, form).await?;
    engine.store.checkpoint().await?;
    engine.close().await?;
    let engine = reopen("closed just behind a checkpoint", &dir, form).await?;
    println!();

    lease_beside_checkpoint(&engine, form).await?;
    drain(&engine, form).await?;
    engine.close().await
}

async fn reopen(how: &str, dir: &Path, form: &Form) -> Result<Engine, BoxError> {
    let watch = Stopwatch::start();
    let engine = Engine::open(dir, options(), true).await?;
    let took = watch.elapsed();
    let report = &engine.report;
    if report.files != form.files {
        return Err(format!("{} files came back of {}", report.files, form.files).into());
    }
    println!("reopened, {how}: {took:.2?} ({} records replayed)", thousands(report.replayed as f64));
    Ok(engine)
}

/// Times of single leases: alone, then while checkpoints are written one after the other. The files are given back.
async fn lease_beside_checkpoint(engine: &Engine, form: &Form) -> Result<(), BoxError> {
    println!("| a lease | p50 | p99 | longest | leases |");
    println!("|---|---|---|---|---|");
    let mut p99 = [vec![], vec![]];
    for _ in 0..form.rounds {
        let done = AtomicBool::new(false);
        let mut alone = time_leases(engine, form.leases, &done).await?;
        p99[0].push(tell("alone", &mut alone));

        let done = Arc::new(AtomicBool::new(false));
        let (store, end) = (Arc::clone(&engine.store), Arc::clone(&done));
        let watch = Stopwatch::start();
        let writer = tokio::spawn(async move {
            let taken = store.checkpoint().await;
            end.store(true, Ordering::Release);
            taken
        });
        let mut beside = time_leases(engine, u64::MAX, &done).await?;
        writer.await??;
        p99[1].push(tell(&format!("while a checkpoint runs ({:.0?})", watch.elapsed()), &mut beside));
    }
    let [alone, beside] = p99.map(|figures| Spread::of(&figures));
    println!("\np99 in microseconds: alone {alone}, while a checkpoint runs {beside}\n");
    Ok(())
}

fn tell(name: &str, times: &mut [Duration]) -> f64 {
    let [p50, p99, longest] = [0.5, 0.99, 1.0].map(|part| percentile(times, part));
    println!("| {name} | {p50:.1?} | {p99:.1?} | {longest:.1?} | {} |", times.len());
    p99.as_secs_f64() * 1e6
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

/// Leases and completes everything. In between, records of what is durably over go, which is timed by itself.
async fn drain(engine: &Engine, form: &Form) -> Result<(), BoxError> {
    println!(
        "| leased and completed, {BATCH} at a time | files/s | records let go meanwhile, in | longest call |"
    );
    println!("|---|---|---|---|");
    let lease = LeaseOptions::new();
    let (mut ended, mut slices) = (0, Vec::new());
    while ended < form.files {
        let (mut slice, mut took, mut reaping) = (0, Duration::ZERO, Duration::ZERO);
        let mut longest = Duration::ZERO;
        while slice < form.slice {
            let watch = Stopwatch::start();
            let files = engine.store.lease(&engine.tenant, BATCH, &lease).await?;
            if files.is_empty() {
                break;
            }
            let leased = watch.elapsed();
            let leases = files.into_iter().map(|file| file.lease).collect::<Vec<_>>();
            engine.store.complete(&leases).await?;
            let both = watch.elapsed();
            slice += leases.len() as u64;
            took += both;
            longest = longest.max(leased).max(both - leased);
            engine.reap_ready().await?;
            reaping += watch.elapsed() - both;
        }
        if slice == 0 {
            return Err(format!("only {ended} files could be leased").into());
        }
        ended += slice;
        let speed = rate(slice, took);
        slices.push(speed);
        let (ended, speed) = (thousands(ended as f64), thousands(speed));
        println!("| up to {ended} | {speed} | {reaping:.1?} | {longest:.1?} |");
    }
    let (first, second) = slices.split_at(slices.len() / 2);
    println!("\nsecond half over first half: {:.2}", Spread::of(second).median / Spread::of(first).median);
    engine.reap().await?;
    let left: u64 = engine.store.counts().values().map(locus_core::TenantCounts::files).sum();
    if left > 0 {
        return Err(format!("{left} files are left").into());
    }
    println!();
    Ok(())
}
