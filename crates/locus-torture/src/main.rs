//! Tortures Locus on a simulated disk, and says what broke.

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use locus_core::{Clock, Durability, SystemClock};
use locus_torture::{enumerate, life, report::Report};

/// Crash points on one disk, before the next seed gets a fresh one.
const POINTS_PER_RUN: u64 = 200;

/// Random calls and crashes over the real engine on a simulated disk and clock, checked against a model.
///
/// Ends with one object: crash points, calls acknowledged, what was broken (all 0 when nothing was) and the first seed.
/// Exit code 1 when something was; each violation names its seed, and `--seed N --runs 1` repeats it bit by bit.
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    /// Begins no new run after so many seconds; 10 when neither this nor a number is given.
    #[arg(long)]
    seconds: Option<u64>,
    /// Begins no new run after so many crash points.
    #[arg(long)]
    points: Option<u64>,
    /// Goes through so many seeds (200 crash points each).
    #[arg(long)]
    runs: Option<u64>,
    /// The first seed; each run takes the next one.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs at once; each of them is decided by its own seed alone. Default: as many as there are cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Tells each call and its answer on stderr; best with `--runs 1`.
    #[arg(long)]
    trace: bool,
    /// Makes every sequence of up to so many calls of an alphabet (3 when no number is given), in both durabilities, with a
    /// crash at every point.
    #[arg(long, value_name = "CALLS", num_args = 0..=1, default_missing_value = "3")]
    enumerate: Option<usize>,
    /// Takes this sync, order or check of the product away (`all`: one after another) and goes on until that is noticed;
    /// exit code 1 when it is not, within `--points` (100,000) crash points each. Needs a build with the feature
    /// `break-sites`.
    #[arg(long, value_name = "SITE")]
    r#break: Option<String>,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A panic is counted and told with its seed at the end.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(site) = &cli.r#break {
        return break_sites(site, &cli);
    }
    let report = match cli.enumerate {
        Some(calls_max) => enumerate(&cli, calls_max),
        None => torture(&cli),
    };
    print(&report, cli.json);
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn enumerate(cli: &Cli, calls_max: usize) -> Report {
    let durabilities = [Durability::Durable, Durability::Buffered];
    let sequences = enumerate::sequences(calls_max);
    let total = Mutex::new(Report { seed: 1, ..Report::default() });
    in_threads(cli, |at| {
        let Some(sequence) = sequences.get(at / durabilities.len()) else { return false };
        let report = enumerate::run(sequence, durabilities[at % durabilities.len()]);
        total.lock().expect("because no run panics").add(report);
        true
    });
    eprintln!("alphabet of {}: {:?}", enumerate::Letter::ALL.len(), enumerate::Letter::ALL);
    eprintln!(
        "{} sequences of up to {calls_max} calls; `runs` of them, in both durabilities, are possible",
        sequences.len()
    );
    total.into_inner().expect("because no run panics")
}

/// Hands out numbers from 0 on to as many threads as are wanted, until the work says that there is no more.
fn in_threads(cli: &Cli, work: impl Fn(usize) -> bool + Sync) {
    let next = AtomicUsize::new(0);
    let threads = cli.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| while work(next.fetch_add(1, Ordering::Relaxed)) {});
        }
    });
}

fn torture(cli: &Cli) -> Report {
    let clock = SystemClock::new();
    let seconds = cli.seconds.or((cli.points.is_none() && cli.runs.is_none()).then_some(10));
    let points = AtomicU64::new(0);
    let total = Mutex::new(Report { seed: cli.seed, ..Report::default() });
    in_threads(cli, |run| {
        let run = run as u64;
        let goes_on = cli.runs.is_none_or(|most| run < most)
            && cli.points.is_none_or(|most| points.load(Ordering::Relaxed) < most)
            && seconds.is_none_or(|most| clock.monotonic() < Duration::from_secs(most));
        if goes_on {
            let mut world = life::world_of(cli.seed.wrapping_add(run));
            world.trace = cli.trace;
            let report = life::run(world, POINTS_PER_RUN);
            points.fetch_add(report.crash_points, Ordering::Relaxed);
            total.lock().expect("because no run panics").add(report);
        }
        goes_on
    });
    total.into_inner().expect("because no run panics")
}

fn print(report: &Report, json: bool) {
    let object = serde_json::to_value(report).expect("because it is made of numbers and texts");
    if json {
        println!("{object}");
        return;
    }
    for (name, value) in object.as_object().into_iter().flatten().filter(|(_, value)| value.is_number()) {
        println!("{name:>14} {value}");
    }
    for violation in &report.violations {
        println!("\n{violation}");
    }
}

#[cfg(not(feature = "break-sites"))]
fn break_sites(_: &str, _: &Cli) -> ExitCode {
    eprintln!("error: this build keeps every promise; build it with `--features break-sites`");
    ExitCode::from(2)
}

/// Takes sites away, one after another, and tells for each after how many crash points that was noticed.
#[cfg(feature = "break-sites")]
fn break_sites(name: &str, cli: &Cli) -> ExitCode {
    use locus_core::Site;

    let wanted = |site: &&Site| name == "all" || format!("{site:?}") == name;
    let sites: Vec<Site> = Site::ALL.iter().filter(wanted).copied().collect();
    if sites.is_empty() {
        eprintln!("error: there is no site {name}; there are {:?} and all", Site::ALL);
        return ExitCode::from(2);
    }
    let mut missed = 0;
    for site in sites {
        let points = cli.points.unwrap_or(100_000);
        let caught = locus_torture::breaking::torture_without(site, cli.seed, points, cli.trace);
        missed += u64::from(caught.is_none());
        let points = caught.as_ref().map(|caught| caught.crash_points);
        let violation = caught.as_ref().map_or("not noticed", |caught| &caught.violation);
        if cli.json {
            let site = format!("{site:?}");
            println!(
                "{}",
                serde_json::json!({ "site": site, "crash_points": points, "violation": violation })
            );
        } else {
            let points = points.map_or("-".to_owned(), |points| points.to_string());
            let violation: String = violation.chars().take(100).collect();
            println!("{:<24} {points:>8}  {violation}", format!("{site:?}"));
        }
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
