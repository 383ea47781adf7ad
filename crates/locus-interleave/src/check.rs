//! Running a model under many schedules.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use shuttle::{
    Config, Runner,
    scheduler::{PctScheduler, RandomScheduler},
};

/// How many schedules each model gets when nobody asks for another number: `LOCUS_SCHEDULES`.
const SCHEDULES: usize = 200;

/// How often, in one schedule, somebody is made to wait for all others.
const PREEMPTIONS: usize = 3;

/// Stack of each task: the sources run unoptimised.
const STACK_BYTES: usize = 512 << 10;

/// Runs `model` under many schedules, the same each time. Half of them choose at each step among all who can go on; the
/// others let one go on until it waits, but for a few moments in which it is made to.
///
/// # Panics
/// When the model does, or when nobody can go on although some are not done. The number of the schedule is told, and the
/// schedule itself, which [`shuttle::replay`] takes.
pub fn check(model: impl Fn() + Send + Sync + 'static) {
    let asked = std::env::var("LOCUS_SCHEDULES").ok().and_then(|number| number.parse().ok());
    let each = asked.unwrap_or(SCHEDULES).div_ceil(2);
    let model = Arc::new(model);
    let begun = Begun::default();
    let run = || {
        let (model, begun) = (Arc::clone(&model), Arc::clone(&begun.0));
        move || {
            begun.fetch_add(1, Ordering::Relaxed);
            model();
        }
    };
    Runner::new(RandomScheduler::new_from_seed(1, each), config()).run(run());
    Runner::new(PctScheduler::new_from_seed(1, PREEMPTIONS, each), config()).run(run());
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    // One sequence of the values of an atomic, whatever order it asks for: said in docs/durability.md.
    config.silence_warnings = true;
    config
}

/// How many schedules were begun; tells it when one of them fails.
#[derive(Default)]
struct Begun(Arc<AtomicUsize>);

impl Drop for Begun {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("found by schedule {}", self.0.load(Ordering::Relaxed));
        }
    }
}
