//! Locks of a thousand entities from many tasks, while somebody else holds another one and several wait for it.

use std::{path::Path, sync::Arc, time::Duration};

use locus_benches::{BoxError, Ground, Spread, Stopwatch, cycles::Form, percentile, rate, thousands};
use locus_fs::LockMode;
use locus_vault::{EntityGuard, EntityId, Keyring, Vault, VaultOptions};
use serde::Serialize;
use tokio::{runtime::Runtime, task::JoinSet};

const ENTITIES: usize = 1_000;
const TASKS: usize = 64;
/// Tasks that wait for the entity that is held.
const WAITERS: usize = 8;
/// A round of locks is so much longer than one of calls: an entity is to be held for seconds.
const LONGER: u32 = 3;

/// How the tasks go about it.
#[derive(Debug, Clone, Copy)]
struct Pace {
    name: &'static str,
    /// Between letting go and the next lock.
    pause: Duration,
}

const PACES: [Pace; 2] = [
    Pace { name: "each every 10 ms", pause: Duration::from_millis(10) },
    Pace { name: "without a pause", pause: Duration::ZERO },
];

/// What `--json` tells of locks.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    name: String,
    kind: &'static str,
    /// Whether somebody else held another entity all the time.
    held: bool,
    tasks: usize,
    entities: usize,
    /// Median of the runs.
    locks_per_second: f64,
    /// From the call to the lock, over all runs, in microseconds.
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
    runs: usize,
    file_system: String,
}

/// Rounds of one way.
#[derive(Debug, Default)]
struct Rounds {
    rates: Vec<f64>,
    times: Vec<Duration>,
}

/// Entities that nobody else locks, and one that is held.
#[derive(Debug)]
struct Doors {
    vault: Vault,
    /// Of the same directory, as another process would have it.
    other: Vault,
    ids: Vec<EntityId>,
    busy: EntityId,
}

/// A table, and the figures in it.
pub(crate) fn run(
    ground: &Ground,
    form: Form,
    ring: &Arc<Keyring>,
    runtime: &Runtime,
) -> Result<Vec<Figure>, BoxError> {
    let form = Form { round: form.round * LONGER, ..form };
    println!("## Locks\n");
    println!(
        "{TASKS} tasks lock {ENTITIES} entities, each its own ones, and let go at once; {} rounds of {:?} in turns. Held: somebody \
         else has another entity for the whole of a round, and {WAITERS} tasks wait for it.\n",
        form.runs, form.round
    );
    println!("| | another is held | locks/s | p50, us | p99, us | p99.9, us | longest, us |");
    println!("|---|---|---|---|---|---|---|");
    let mut figures = Vec::new();
    let doors = Arc::new(runtime.block_on(Doors::open(&ground.path().join("locks"), ring))?);
    for pace in PACES {
        let mut ways = [Rounds::default(), Rounds::default()];
        for turn in 0..=form.runs {
            for held in [turn % 2 == 0, turn % 2 != 0] {
                ground.settle()?;
                let times = runtime.block_on(doors.round(pace, held, form.round))?;
                // The first turn makes the lock files.
                if turn > 0 {
                    ways[usize::from(held)].rates.push(rate(times.len() as u64, form.round));
                    ways[usize::from(held)].times.extend(times);
                }
            }
        }
        for (held, rounds) in [false, true].into_iter().zip(ways) {
            figures.push(rounds.tell(pace, held, &ground.file_system()));
        }
    }
    println!();
    Ok(figures)
}

impl Rounds {
    fn tell(mut self, pace: Pace, held: bool, file_system: &str) -> Figure {
        let rates = Spread::of(&self.rates);
        let mut us = |part| percentile(&mut self.times, part).as_secs_f64() * 1e6;
        let figure = Figure {
            name: format!("lock, {}", pace.name),
            kind: "locus",
            held,
            tasks: TASKS,
            entities: ENTITIES,
            locks_per_second: rates.median,
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: us(1.0),
            runs: self.rates.len(),
            file_system: file_system.into(),
        };
        let [p50, p99, p999, max] =
            [figure.p50_us, figure.p99_us, figure.p999_us, figure.max_us].map(thousands);
        let is = if held { "yes" } else { "no" };
        println!("| {} | {is} | {rates} | {p50} | {p99} | {p999} | {max} |", pace.name);
        figure
    }
}

impl Doors {
    async fn open(dir: &Path, ring: &Arc<Keyring>) -> Result<Self, BoxError> {
        let options = || VaultOptions::new(Arc::clone(ring)).lock_timeout(Duration::from_secs(3_600));
        let ids = (0..ENTITIES).map(|number| EntityId::new("bench", &format!("entity-{number}")));
        Ok(Self {
            vault: Vault::open(dir, options()).await?,
            other: Vault::open(dir, options()).await?,
            ids: ids.collect::<Result<_, _>>()?,
            busy: EntityId::new("bench", "busy")?,
        })
    }

    /// What each lock took, from the call on.
    async fn round(
        self: &Arc<Self>,
        pace: Pace,
        held: bool,
        time_max: Duration,
    ) -> Result<Vec<Duration>, BoxError> {
        let (mut holder, mut waiters) = (None, JoinSet::new());
        if held {
            holder = Some(self.other.lock(&self.busy, LockMode::Exclusive, None).await?);
            for _ in 0..WAITERS {
                let doors = Arc::clone(self);
                waiters.spawn(async move {
                    let got = doors.vault.lock(&doors.busy, LockMode::Exclusive, None).await;
                    got.and_then(EntityGuard::release)
                });
            }
        }
        let (watch, mut tasks) = (Arc::new(Stopwatch::start()), JoinSet::new());
        for task in 0..TASKS {
            let (doors, watch) = (Arc::clone(self), Arc::clone(&watch));
            tasks.spawn(async move { doors.lock_own(task, pace, &watch, time_max).await });
        }
        let mut times = Vec::new();
        while let Some(task) = tasks.join_next().await {
            times.extend(task??);
        }
        if held && !waiters.is_empty() && waiters.try_join_next().is_some() {
            return Err("two had the same lock".into());
        }
        drop(holder);
        while let Some(waiter) = waiters.join_next().await {
            waiter??;
        }
        Ok(times)
    }

    /// No two tasks have an entity in common.
    async fn lock_own(
        &self,
        task: usize,
        pace: Pace,
        watch: &Stopwatch,
        time_max: Duration,
    ) -> Result<Vec<Duration>, BoxError> {
        // Not all at the same moment.
        tokio::time::sleep(pace.pause * task as u32 / TASKS as u32).await;
        let mut times = Vec::new();
        for id in self.ids.iter().skip(task).step_by(TASKS).cycle() {
            let began = watch.elapsed();
            let guard = self.vault.lock(id, LockMode::Exclusive, None).await?;
            times.push(watch.elapsed().saturating_sub(began));
            guard.release()?;
            if watch.elapsed() >= time_max {
                break;
            }
            if !pace.pause.is_zero() {
                tokio::time::sleep(pace.pause).await;
            }
        }
        Ok(times)
    }
}

#[cfg(test)]
mod tests {
    use locus_vault::{Argon2Cost, KeyringFile, NewRecipient, Passphrase};

    use super::*;

    #[test]
    fn all_get_their_locks_while_another_is_held() {
        let (temp, runtime) = (tempfile::tempdir().unwrap(), Runtime::new().unwrap());
        let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let first = NewRecipient::passphrase("test", Passphrase::new(b"x").unwrap()).cost(cost);
        let file = KeyringFile::at(temp.path().join("keyring"));
        let ring = Arc::new(runtime.block_on(file.create(first)).unwrap());
        let doors = Arc::new(runtime.block_on(Doors::open(&temp.path().join("vault"), &ring)).unwrap());
        for (pace, held) in PACES.into_iter().flat_map(|pace| [(pace, false), (pace, true)]) {
            let times = runtime.block_on(doors.round(pace, held, Duration::from_millis(50))).unwrap();
            assert!(times.len() >= TASKS, "{} locks, {pace:?}", times.len());
        }
    }
}
