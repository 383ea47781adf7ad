//! Tortures Locus on a simulated disk, and says what broke.

use std::{
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use clap::Parser;
use locus_core::{Clock, SystemClock};
use locus_torture::{life, report::Report};

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
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A panic is counted and told with its seed at the end.
    std::panic::set_hook(Box::new(|_| {}));
    let report = torture(&cli);
    print(&report, cli.json);
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn torture(cli: &Cli) -> Report {
    let clock = SystemClock::new();
    let seconds = cli.seconds.or((cli.points.is_none() && cli.runs.is_none()).then_some(10));
    let (runs, points) = (AtomicU64::new(0), AtomicU64::new(0));
    let goes_on = |run: u64| {
        cli.runs.is_none_or(|most| run < most)
            && cli.points.is_none_or(|most| points.load(Ordering::Relaxed) < most)
            && seconds.is_none_or(|most| clock.monotonic() < Duration::from_secs(most))
    };
    let total = Mutex::new(Report { seed: cli.seed, ..Report::default() });
    let threads = cli.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let run = runs.fetch_add(1, Ordering::Relaxed);
                    if !goes_on(run) {
                        break;
                    }
                    let mut world = life::world_of(cli.seed.wrapping_add(run));
                    world.trace = cli.trace;
                    let report = life::run(world, POINTS_PER_RUN);
                    points.fetch_add(report.crash_points, Ordering::Relaxed);
                    total.lock().expect("because no run panics").add(report);
                }
            });
        }
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
