//! More content than the landing zone holds, and nobody who works it off.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use locus::prelude::*;
use locus_benches::{BoxError, Ground, Stopwatch, cycles::content, percentile, rate, size, thousands};
use tokio::task::JoinSet;

const SIZE: usize = 16 << 10;
const WRITERS: usize = 64;
/// Contents of so many times the landing zone are written.
const TIMES: u64 = 4;

/// When a write began and ended, since the start.
type Write = (Duration, Duration);

/// Durable writes, until several times the landing zone is pending; beside them a store in which each is a file.
pub(crate) async fn run(ground: &Ground, dir: &Path, full: bool) -> Result<(), BoxError> {
    let (zone, segment) = if full { (1 << 30, 64 << 20) } else { (64 << 20, 16 << 20) };
    let files = TIMES * zone / SIZE as u64;
    let after = files / TIMES * 2;
    println!(
        "Durable, {}, {WRITERS} writers, landing_zone_max = {} MiB, segment_size = {} MiB: {} files, {TIMES} times the zone.\n",
        size(SIZE),
        zone >> 20,
        segment >> 20,
        thousands(files as f64)
    );
    let store = |name: &str| {
        let dir = dir.join(name);
        Locus::builder()
            .data_dir(dir.join("data"))
            .add_volume(LocalVolume::new("vol-001", dir.join("vol-001")))
            .add_tenant("acme")
            .segment_size(segment)
            .landing_zone_max(zone)
    };
    println!(
        "| | writes/s at first | writes/s once twice the zone is written | p99 of a write | longest write | longest time without any |"
    );
    println!("|---|---|---|---|---|---|");
    let locus = store("journal").build().await?;
    ground.settle()?;
    let journal = fill(&locus, files).await?;
    let said = locus.statistics();
    let inside = tell("contents in the journal while there is room", journal, after);
    locus.shutdown().await?;

    let locus = store("file-each").inline_content_max(0).build().await?;
    ground.settle()?;
    let each = tell("a file each", fill(&locus, files).await?, after);
    locus.shutdown().await?;
    println!(
        "\nin the journal at the end: {} contents, {} MiB; moved to the volume {}; moved forward {}; rate over that of a file each: {:.2}",
        thousands(said.files_in_journal as f64),
        said.bytes_in_journal >> 20,
        thousands(said.spilled as f64),
        thousands(said.copied_forward as f64),
        inside / each
    );
    Ok(())
}

/// Writes so many files; in the order in which they ended.
async fn fill(locus: &Locus, files: u64) -> Result<Vec<Write>, BoxError> {
    let acme = locus.tenants().get("acme").await?;
    let (left, content) = (Arc::new(AtomicU64::new(files)), content(SIZE));
    let watch = Arc::new(Stopwatch::start());
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let (locus, acme, left) = (locus.clone(), acme.clone(), Arc::clone(&left));
        let (watch, content) = (Arc::clone(&watch), content.clone());
        writers.spawn(async move { write(&locus, &acme, &left, &watch, &content).await });
    }
    let mut writes = Vec::new();
    while let Some(some) = writers.join_next().await {
        writes.extend(some??);
    }
    writes.sort_unstable_by_key(|(_, ended)| *ended);
    Ok(writes)
}

async fn write(
    locus: &Locus,
    acme: &TenantContext,
    left: &AtomicU64,
    watch: &Stopwatch,
    content: &Bytes,
) -> Result<Vec<Write>, BoxError> {
    let mut writes = Vec::new();
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let began = watch.elapsed();
        locus.pool().write(acme, content.clone(), WriteOptions::new()).await?;
        writes.push((began, watch.elapsed()));
    }
    Ok(writes)
}

/// Prints a row. Gives the rate of what came `after` so many.
fn tell(name: &str, writes: Vec<Write>, after: u64) -> f64 {
    let (first, last) = writes.split_at(usize::try_from(after).unwrap_or(usize::MAX).min(writes.len()));
    let speeds = [first, last].map(speed);
    let mut times = writes.iter().map(|(began, ended)| ended.saturating_sub(*began)).collect::<Vec<_>>();
    let [p99, longest] = [0.99, 1.0].map(|part| percentile(&mut times, part));
    let [at_first, later] = speeds.map(thousands);
    println!("| {name} | {at_first} | {later} | {p99:.1?} | {longest:.1?} | {:.1?} |", stall(&writes));
    speeds[1]
}

/// Writes per second of these, from the end of the first.
fn speed(writes: &[Write]) -> f64 {
    let [(_, first), .., (_, last)] = writes else { return 0.0 };
    rate(writes.len() as u64 - 1, last.saturating_sub(*first))
}

/// The longest time in which no write ended.
fn stall(writes: &[Write]) -> Duration {
    let ends = writes.iter().map(|(_, ended)| *ended);
    let before = std::iter::once(Duration::ZERO).chain(ends.clone());
    ends.zip(before).map(|(ended, before)| ended.saturating_sub(before)).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_the_longest_time_in_which_no_write_ended() {
        let seconds = Duration::from_secs;
        let writes = [(seconds(0), seconds(1)), (seconds(0), seconds(5)), (seconds(4), seconds(6))];
        assert_eq!(stall(&writes), seconds(4));
        assert_eq!(stall(&[]), Duration::ZERO);
        assert_eq!(speed(&writes), 0.4);
        assert_eq!(speed(&writes[..1]), 0.0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn all_files_are_written() {
        let temp = tempfile::tempdir().unwrap();
        let builder = Locus::builder().data_dir(temp.path().join("data"));
        let volume = LocalVolume::new("vol-001", temp.path().join("vol-001"));
        let locus = builder.add_volume(volume).add_tenant("acme").build().await.unwrap();
        let writes = fill(&locus, 100).await.unwrap();
        assert_eq!(writes.len(), 100);
        assert!(tell("test", writes, 50) > 0.0);
        locus.shutdown().await.unwrap();
    }
}
