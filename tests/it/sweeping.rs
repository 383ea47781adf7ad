//! Sweeps beside running work, and over very many orphans.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use locus::{Builder, Clock, OrphanPolicy, Scope, SystemClock, Timestamp, VerifyLevel, prelude::*};
use rstest::rstest;
use tokio::task::JoinSet;

use crate::support::{content, files_below, number, seed};

const WRITERS: u64 = 16;
const WORKERS: u64 = 4;

/// Every blob that no record names is an orphan at once: nothing but the order of things protects a write.
fn builder(dir: &Path, policy: OrphanPolicy, budget: u64) -> Builder {
    let mut settings = Settings::default();
    let orphans = &mut settings.cleanup.orphans;
    (orphans.age, orphans.policy, orphans.budget, orphans.enabled) = (Duration::ZERO, policy, budget, false);
    Locus::builder()
        .settings(settings)
        .data_dir(dir.join("data"))
        .add_tenant("acme")
        .segment_size(1 << 20)
        .landing_zone_max(1 << 30)
        .add_volume(LocalVolume::new("vol-1", dir.join("vol-1")))
        .add_volume(LocalVolume::new("vol-2", dir.join("vol-2")))
}

/// Writes, leases and completions go on while orphans are looked for all the time. `LOCUS_SWEEP_FILES` says how
/// many files each writer writes.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn b69_an_orphan_scan_beside_writers_and_workers_adopts_nothing_and_loses_nothing(
    #[values(OrphanPolicy::Import, OrphanPolicy::Delete, OrphanPolicy::Quarantine)] policy: OrphanPolicy,
) {
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let files = number("LOCUS_SWEEP_FILES", 40);
    let locus = builder(temp.path(), policy, u64::MAX).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let (written, completed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let clock = SystemClock::new();

    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let (locus, acme, written) = (locus.clone(), acme.clone(), Arc::clone(&written));
        tasks.spawn(async move {
            for file in 0..files {
                // Half of them rest in the journal. None is moved: what a move wrote for a file that was completed meanwhile is an
                // orphan for a moment, until whoever moved it removes it.
                let bytes = content(seed, writer * files + file, if file % 2 == 0 { 60_000 } else { 70_000 });
                locus.pool().write(&acme, bytes, WriteOptions::new()).await.unwrap();
                written.fetch_add(1, Relaxed);
            }
        });
    }
    for _ in 0..WORKERS {
        let (locus, acme, completed) = (locus.clone(), acme.clone(), Arc::clone(&completed));
        tasks.spawn(async move {
            while completed.load(Relaxed) < WRITERS * files {
                let Some(file) = locus.scheduler().next(&acme).await.unwrap() else {
                    tokio::task::yield_now().await;
                    continue;
                };
                let bytes = locus.pool().read_leased(&file.lease).await.unwrap().bytes().await.unwrap();
                assert_eq!(bytes.len() as u64, file.size);
                locus.scheduler().complete(&file.lease).await.unwrap();
                completed.fetch_add(1, Relaxed);
            }
        });
    }
    let stop = Arc::new(AtomicBool::new(false));
    let scanning = {
        let (locus, stop) = (locus.clone(), Arc::clone(&stop));
        tokio::spawn(async move {
            let mut scans = 0_u64;
            while !stop.load(Relaxed) || scans == 0 {
                let done = locus.cleanup().leftovers().await.unwrap();
                let touched = done.orphans_imported + done.orphans_removed + done.orphans_quarantined;
                assert_eq!((touched, done.errors), (0, 0), "{done:?}");
                scans += 1;
            }
            scans
        })
    };
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    stop.store(true, Relaxed);
    let scans = scanning.await.unwrap();
    locus.cleanup().settled().await.unwrap();
    assert_eq!(locus.quotas().count(&Scope::Tenant(acme.id().clone())), 0);
    assert!(locus.verify(VerifyLevel::Contents).await.unwrap().findings.is_empty());
    println!("{} files beside {scans} scans in {:?}, {policy}", WRITERS * files, clock.monotonic());
    locus.shutdown().await.unwrap();
}

/// Orphans are found by runs with a budget, each once, and go where the policy says. `LOCUS_ORPHANS` says how many.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn b70_b72_planted_orphans_are_found_by_policy_in_runs_with_a_budget(
    #[values(OrphanPolicy::Import, OrphanPolicy::Delete, OrphanPolicy::Quarantine)] policy: OrphanPolicy,
) {
    let temp = tempfile::tempdir().unwrap();
    let orphans = number("LOCUS_ORPHANS", 1_000);
    let budget = orphans / 10;
    let locus = builder(temp.path(), policy, budget).build().await.unwrap();
    let acme = locus.tenants().get("acme").await.unwrap();
    let kept = locus.pool().write(&acme, vec![1; 70_000], WriteOptions::new()).await.unwrap();
    plant(&temp.path().join("vol-1/acme"), orphans);
    let before = resident_bytes();

    let (mut found, mut runs, clock) = (0, 0, SystemClock::new());
    while found < orphans {
        let done = locus.cleanup().orphans().await.unwrap();
        let this = done.orphans_imported + done.orphans_removed + done.orphans_quarantined;
        assert!(this <= budget && done.errors == 0, "{done:?}");
        (found, runs) = (found + this, runs + 1);
        assert!(runs <= 30, "{found} of {orphans} were found");
    }
    let (elapsed, grown) = (clock.monotonic(), resident_bytes().saturating_sub(before));
    assert_eq!(found, orphans, "each once");
    let files = 1 + if policy == OrphanPolicy::Import { orphans } else { 0 };
    assert_eq!(locus.quotas().count(&Scope::Tenant(acme.id().clone())), files);
    let quarantined = temp.path().join("vol-1/.quarantine/acme");
    let there = if quarantined.exists() { files_below(&quarantined).len() as u64 } else { 0 };
    assert_eq!(there, if policy == OrphanPolicy::Quarantine { orphans } else { 0 });
    assert_eq!(locus.pool().read(&acme, &kept).await.unwrap().bytes().await.unwrap().len(), 70_000);
    println!(
        "{orphans} orphans in {runs} runs of {budget}, {policy}: {elapsed:?}, {grown} bytes more in memory"
    );
    locus.shutdown().await.unwrap();
}

/// Blobs of ten bytes under keys that nobody drew, made long ago.
fn plant(owner: &Path, count: u64) {
    for number in 0..count {
        let mut random = [0; 10];
        random[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        random[8..].copy_from_slice(&(number as u16).to_le_bytes());
        let key = FileKey::generate(Timestamp::from_micros(1_700_000_000_000_000), &random).to_string();
        let shard = owner.join(&key[34..]);
        fs::create_dir_all(&shard).unwrap();
        fs::File::create(shard.join(&key)).unwrap().write_all(b"ten bytes.").unwrap();
    }
}

fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1_024
}
