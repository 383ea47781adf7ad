//! The scenarios that the original published, Buffered and Durable beside its figures.

use std::{hint::black_box, path::Path, time::Duration};

use bytes::Bytes;
use locus::prelude::*;
use locus_benches::{BoxError, Engine, Ground, Spread, Stopwatch, cycles::content};
use locus_core::{MetadataStore, Reserved};
use locus_storage::EngineOptions;
use tokio::task::JoinSet;

/// What was published, and of what; on a 6-core desktop, without a journal or any sync.
const SCENARIOS: [(&str, &str); 11] = [
    ("write of 100 KB", "1.07 ms"),
    ("write of 1 MB", "1.30 ms"),
    ("write of 10 MB", "4.74 ms"),
    ("100 concurrent writes of 12 bytes", "26.9 ms"),
    ("100 concurrent writes of 1 MB", "229 ms"),
    ("upsert: room and record of a file", "1.88 us"),
    ("look-up of a file by its key", "41 ns"),
    ("next, 100 pending", "2.98 us"),
    ("quota increment: room taken and given back", "95 ns"),
    ("look-up of a tenant", "82 ns"),
    ("start with 20,000 records", "112 ms"),
];

/// Files that are pending where a store is started.
const RECORDS: u64 = 20_000;
/// Files that are pending where one is leased.
const PENDING: usize = 100;
/// Calls of one figure, where one takes less than a clock can tell well.
const CALLS: u32 = 10_000;

/// Times of one scenario, in nanoseconds each.
type Times = Vec<f64>;

/// A table of them all.
pub(crate) async fn run(ground: &Ground, dir: &Path, full: bool) -> Result<(), BoxError> {
    let runs = if full { 31 } else { 5 };
    let mut columns = Vec::new();
    for durability in [Durability::Buffered, Durability::Durable] {
        let dir = dir.join(format!("{durability:?}"));
        let mut times = through_the_facade(ground, &dir.join("facade"), durability, runs).await?;
        let engine = through_the_store(&dir.join("store"), durability, runs).await?;
        let [upsert, quota] = engine;
        times.insert(5, upsert);
        times.insert(8, quota);
        times.push(start(&dir.join("start"), durability, runs).await?);
        columns.push(times);
    }
    println!("Median (lowest..highest) of {runs} runs; small ones are means of {CALLS} calls a run.\n");
    println!("| | published | Buffered | Durable |\n|---|---|---|---|");
    for (number, (name, published)) in SCENARIOS.iter().enumerate() {
        let [buffered, durable] =
            [0, 1].map(|column: usize| columns[column].get(number).map_or("-".into(), |times| told(times)));
        println!("| {name} | {published} | {buffered} | {durable} |");
    }
    Ok(())
}

fn told(times: &[f64]) -> String {
    let Spread { median, min, max } = Spread::of(times);
    let [median, min, max] = [median, min, max].map(|nanos| Duration::from_nanos(nanos.round() as u64));
    format!("{median:.2?} ({min:.2?}..{max:.2?})")
}

fn nanos(watch: &Stopwatch) -> f64 {
    watch.elapsed().as_nanos() as f64
}

async fn open(dir: &Path, durability: Durability) -> Result<Locus, BoxError> {
    let locus = Locus::builder()
        .data_dir(dir.join("data"))
        .add_volume(LocalVolume::new("vol-001", dir.join("vol-001")))
        .add_tenant("acme")
        .durability(durability)
        .complete_durability(durability)
        .build();
    Ok(locus.await?)
}

/// Writes, look-ups and leases; see [`SCENARIOS`] for the order.
async fn through_the_facade(
    ground: &Ground,
    dir: &Path,
    durability: Durability,
    runs: usize,
) -> Result<Vec<Times>, BoxError> {
    let locus = open(dir, durability).await?;
    let acme = locus.tenants().get("acme").await?;
    let mut scenarios = vec![Times::new(); 8];
    for run in 0..=runs {
        let mut times = Vec::new();
        for (bytes, writers) in [(100_000, 1), (1_000_000, 1), (10_000_000, 1), (12, 100), (1_000_000, 100)] {
            ground.settle()?;
            times.push(write(&locus, &acme, &content(bytes), writers).await?);
            work_off(&locus, &acme).await?;
        }
        write(&locus, &acme, &content(12), PENDING).await?;
        times.extend(look_ups(&locus, &acme).await?);
        work_off(&locus, &acme).await?;
        if run > 0 {
            scenarios.iter_mut().zip(times).for_each(|(scenario, time)| scenario.push(time));
        }
    }
    locus.shutdown().await?;
    Ok(scenarios)
}

/// So many writers, one content each, all at once.
async fn write(
    locus: &Locus,
    acme: &TenantContext,
    content: &Bytes,
    writers: usize,
) -> Result<f64, BoxError> {
    let watch = Stopwatch::start();
    if writers == 1 {
        locus.pool().write(acme, content.clone(), WriteOptions::new()).await?;
        return Ok(nanos(&watch));
    }
    let mut writes = JoinSet::new();
    for _ in 0..writers {
        let (locus, acme, content) = (locus.clone(), acme.clone(), content.clone());
        writes.spawn(async move { locus.pool().write(&acme, content, WriteOptions::new()).await });
    }
    while let Some(written) = writes.join_next().await {
        written??;
    }
    Ok(nanos(&watch))
}

/// A file by its key, the next file, a tenant.
async fn look_ups(locus: &Locus, acme: &TenantContext) -> Result<[f64; 3], BoxError> {
    let key = locus.pool().write(acme, "asked for", WriteOptions::new()).await?;
    let watch = Stopwatch::start();
    for _ in 0..CALLS {
        black_box(locus.pool().info(acme, &key).await?.ok_or("the file is gone")?);
    }
    let by_key = nanos(&watch) / f64::from(CALLS);

    let watch = Stopwatch::start();
    let mut leased = Vec::new();
    for _ in 0..PENDING {
        leased.push(locus.scheduler().next(acme).await?.ok_or("no file was ready")?.lease);
    }
    let next = nanos(&watch) / PENDING as f64;
    for lease in &leased {
        locus.scheduler().release(lease).await?;
    }

    let watch = Stopwatch::start();
    for _ in 0..CALLS {
        black_box(locus.tenants().get("acme").await?);
    }
    Ok([by_key, next, nanos(&watch) / f64::from(CALLS)])
}

async fn work_off(locus: &Locus, acme: &TenantContext) -> Result<(), BoxError> {
    loop {
        let files = locus.scheduler().next_batch(acme, PENDING).await?;
        if files.is_empty() {
            return Ok(locus.cleanup().settled().await?);
        }
        let leases = files.into_iter().map(|file| file.lease).collect::<Vec<_>>();
        locus.scheduler().complete_batch(&leases).await?;
    }
}

/// Record and quota, which the facade has no call for by itself.
async fn through_the_store(dir: &Path, durability: Durability, runs: usize) -> Result<[Times; 2], BoxError> {
    let options = EngineOptions { durability, tenant_quota: Some(1 << 40), ..EngineOptions::default() };
    let engine = Engine::open(dir, options, true).await?;
    let root = locus_core::LogicalDir::root();
    let (mut upserts, mut quotas) = (Times::new(), Times::new());
    let records = 500;
    for _ in 0..runs {
        let watch = Stopwatch::start();
        for _ in 0..records {
            engine.accept(1, None).await?;
        }
        upserts.push(nanos(&watch) / f64::from(records));
        engine.drain().await?;

        let watch = Stopwatch::start();
        for _ in 0..CALLS {
            let room = engine.store.reserve(&engine.tenant, &root, Some(1), None).await?;
            let Reserved::Room(room) = room else { return Err("there was no room".into()) };
            drop(black_box(room));
        }
        quotas.push(nanos(&watch) / f64::from(CALLS));
    }
    engine.close().await?;
    Ok([upserts, quotas])
}

/// A store with pending files is opened, again and again.
async fn start(dir: &Path, durability: Durability, runs: usize) -> Result<Times, BoxError> {
    let locus = open(dir, Durability::Buffered).await?;
    let acme = locus.tenants().get("acme").await?;
    for _ in 0..RECORDS {
        locus.pool().write(&acme, "12 bytes all", WriteOptions::new()).await?;
    }
    locus.shutdown().await?;
    let mut times = Times::new();
    for _ in 0..runs {
        let watch = Stopwatch::start();
        let locus = open(dir, durability).await?;
        times.push(nanos(&watch));
        if locus.open_report().files != RECORDS {
            return Err("files were lost".into());
        }
        locus.shutdown().await?;
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn every_scenario_that_goes_through_the_facade_is_timed() {
        let temp = tempfile::tempdir().unwrap();
        let ground = Ground::below(temp.path()).unwrap();
        let times = through_the_facade(&ground, ground.path(), Durability::Buffered, 1).await.unwrap();
        assert_eq!(times.len() + 3, SCENARIOS.len());
        assert!(times.iter().all(|times| times.len() == 1 && times[0] > 0.0), "{times:?}");
    }

    #[test]
    fn times_are_told_with_their_units() {
        assert_eq!(told(&[1_070_000.0]), "1.07ms (1.07ms..1.07ms)");
    }
}
