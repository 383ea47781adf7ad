//! Files come to lie in three watched folders while workers drain, and the process is killed again and again: each is imported
//! once, whole, and none is left.
//!
//! | variable | what | default |
//! |---|---|---|
//! | `LOCUS_WATCHED` | files in each story | 1,200 |
//! | `LOCUS_WATCH_KILLS` | kills while they come | 6 |

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use locus::{AfterImport, Durability, FileWatcherConfig, Locus};
use locus_testkit::SeededEntropy;
use locus_tests::{Form, Plan, content};

use crate::{
    kernel::victim::{Desk, Running, command},
    support::{files_below, number, seed},
};

/// Most of them rest in the journal, each fiftieth on a volume.
const BYTES_MAX: u64 = 2 << 10;
const LONG_BYTES: u64 = 40 << 10;
/// Folders of a root, so that none of them becomes very large.
const FOLDERS: u64 = 16;
const LOOKS: u32 = 60_000;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

fn plan(dir: &Path, seed: u64) -> Plan {
    let (durability, form) = (Durability::Durable, Form::Watch);
    let plan = Plan { dir: dir.into(), durability, form, seed, first: 0, on_caller: false };
    plan.roots().iter().for_each(|root| fs::create_dir(root).unwrap());
    plan
}

/// Lets file number `n` come to lie in its folder at once, as whoever is watched should.
fn drop_file(plan: &Plan, n: u64) {
    let root = plan.roots().into_iter().nth(usize::try_from(n % 3).unwrap()).unwrap();
    let tenant = if n % 3 == 1 { Plan::tenant(n / 3) } else { "" };
    let folder = root.join(tenant).join(format!("{}", n / 3 % FOLDERS));
    fs::create_dir_all(&folder).unwrap();
    let bytes = match n % 50 {
        0 => LONG_BYTES,
        _ => 1 + SeededEntropy::new(plan.seed ^ n).below(BYTES_MAX),
    };
    let draft = plan.dir.join("draft");
    File::create(&draft).unwrap().write_all(&content(plan.seed, n, bytes)).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the folder is not the store's")]
    fs::rename(&draft, folder.join(Plan::name(n))).unwrap();
}

/// The keys under which each file was delivered.
fn delivered(plan: &Plan) -> BTreeMap<u64, BTreeSet<String>> {
    let mut files: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    for line in fs::read_to_string(plan.dir.join("delivered")).unwrap_or_default().lines() {
        let [name, key, is_whole] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        assert_eq!(is_whole, "true", "{name} is not what it was");
        files.entry(Plan::number(Some(name)).unwrap()).or_default().insert(key.to_owned());
    }
    files
}

fn left(plan: &Plan) -> usize {
    plan.roots().iter().map(|root| files_below(root).len()).sum()
}

/// Waits until every file was delivered and no source is left where it was.
fn finish(plan: &Plan, files: u64, running: &mut Running) {
    for _ in 0..LOOKS {
        assert!(!running.is_over(), "it ended by itself");
        if left(plan) == 0 && delivered(plan).len() as u64 == files {
            return;
        }
        thread::sleep(BETWEEN_LOOKS);
    }
    panic!("{} of {files} were delivered, {} are left", delivered(plan).len(), left(plan));
}

fn check(plan: &Plan, files: u64) {
    let delivered = delivered(plan);
    assert!(delivered.keys().copied().eq(0..files));
    let twice: Vec<_> = delivered.iter().filter(|(_, keys)| keys.len() != 1).collect();
    assert!(twice.is_empty(), "imported more than once: {twice:?}");
    assert_eq!(files_below(&plan.dir.join("moved")).len() as u64, files / 3);
}

/// Most memory that a process had so far, in KiB.
fn memory(running: &Running) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap_or(0)
}

/// What "seen 2" of the watcher asks for.
#[test]
fn b84_everything_in_three_roots_is_imported_once_while_workers_drain() {
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let files = number("LOCUS_WATCHED", 1_200) / 3 * 3;
    let plan = plan(temp.path(), seed);
    (0..files).for_each(|n| drop_file(&plan, n));

    let begun = now();
    let copy = |root: &Path| {
        let copied = Command::new("cp").arg("-r").arg(root).arg(plan.dir.join("copy")).status().unwrap();
        assert!(copied.success());
    };
    fs::create_dir(plan.dir.join("copy")).unwrap();
    plan.roots().iter().for_each(|root| copy(root));
    assert!(Command::new("sync").arg("-f").arg(&plan.dir).status().unwrap().success());
    let copied = begun.elapsed();

    let desk = Desk::new();
    let begun = now();
    let mut running = desk.start(command(&plan));
    finish(&plan, files, &mut running);
    let imported = begun.elapsed();
    let memory = memory(&running);
    running.kill();
    desk.check_words();
    check(&plan, files);
    let rate = |time: Duration| files as f64 / time.as_secs_f64();
    println!(
        "{files} files: imported and worked off at {:.0}/s, {memory} KiB at most; cp -r and a sync at {:.0}/s",
        rate(imported),
        rate(copied)
    );
}

/// What "seen 3" asks for.
#[test]
fn b83_killed_again_and_again_each_source_is_imported_once() {
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let (files, kills) = (number("LOCUS_WATCHED", 1_200) / 3 * 3, number("LOCUS_WATCH_KILLS", 6));
    let (plan, desk, random) = (plan(temp.path(), seed), Desk::new(), SeededEntropy::new(seed));
    let mut next = 0;
    for kill in 0..kills {
        let mut running = desk.start(command(&plan));
        let until = files * (kill + 1) / (kills + 1);
        (next..until).for_each(|n| drop_file(&plan, n));
        next = until;
        // A moment of the clock is what this is about.
        thread::sleep(Duration::from_millis(random.below(600)));
        assert!(!running.is_over(), "kill {kill}: it ended by itself");
        running.kill();
        desk.check_words();
    }
    let mut running = desk.start(command(&plan));
    (next..files).for_each(|n| drop_file(&plan, n));
    finish(&plan, files, &mut running);
    running.kill();
    desk.check_words();
    check(&plan, files);
}

#[expect(clippy::disallowed_methods, reason = "the rate is of this machine")]
fn now() -> Instant {
    Instant::now()
}

/// CPU time of this process so far.
fn busy() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().map(|at| fields[*at].parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10) // a hundred ticks a second, wherever Linux runs
}

/// What "seen 5" asks for. For a release build: `cargo test --release -p locus-tests --test it idle -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute, and says little without optimisation"]
async fn idle_watchers_and_tenants_cost_next_to_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let mut builder = Locus::builder().data_dir(temp.path().join("data")).durability(Durability::Buffered);
    for number in 0..20 {
        let folder = temp.path().join(format!("in-{number}"));
        fs::create_dir(&folder).unwrap();
        for name in 0..100 {
            File::create(folder.join(name.to_string())).unwrap().write_all(b"quiet").unwrap();
        }
        let watcher = FileWatcherConfig::new(folder).tenant("tenant-0").after_import(AfterImport::Keep);
        builder = builder.add_file_watcher(watcher);
    }
    for number in 0..10_000 {
        builder = builder.add_tenant(format!("tenant-{number}"));
    }
    let locus = builder.build().await.unwrap();
    let imported = || locus.watchers().list().iter().map(|watcher| watcher.total.imported).sum::<u64>();
    for _ in 0..3_000 {
        if imported() == 2_000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(imported(), 2_000);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let (before, over) = (busy(), Duration::from_secs(number("LOCUS_IDLE_SECONDS", 60)));
    tokio::time::sleep(over).await;
    let share = (busy() - before).as_secs_f64() / over.as_secs_f64() * 100.0;
    println!("10,000 tenants, 20 watchers of 100 files each: {share:.3} % of one core over {over:?}");
    assert!(share < 0.2, "{share:.3} %");
    locus.shutdown().await.unwrap();
}
