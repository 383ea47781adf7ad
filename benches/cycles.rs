//! Cycles (write, lease, read, complete of one file) through the facade, beside the two floors, in turns.
//!
//! `cargo bench -p locus-benches --bench cycles -- lazy "100 KiB / 64"` runs only the rows whose name holds every word.

use std::time::Duration;

use bytes::Bytes;
use locus_benches::{BoxError, FileFloor, Ground, Load, LogFloor, Promise, Queue, Spread, is_quick, rate};
use tokio::runtime::Runtime;

const SIZES: [(usize, &str); 2] = [(1 << 10, "1 KiB"), (100 << 10, "100 KiB")];
const PROMISES: [(Promise, &str); 3] = [
    (Promise::Durable, "Durable, completions too (the default)"),
    (Promise::LazyCompletions, "Durable, completions lazy"),
    (Promise::Buffered, "Buffered"),
];

/// The three that take turns.
struct Contest {
    files: FileFloor,
    queue: Queue,
    log: LogFloor,
    runtime: Runtime,
}

/// How long a round is meant to be, how many there are, and which cells.
struct Form {
    round: Duration,
    rounds: usize,
    in_flight: &'static [usize],
    /// Most cycles of a round of Locus and of the file floor.
    cycles_max: u64,
}

fn main() -> Result<(), BoxError> {
    let form = if is_quick() {
        Form { round: Duration::from_millis(250), rounds: 3, in_flight: &[1, 64], cycles_max: 200 }
    } else {
        Form { round: Duration::from_millis(600), rounds: 5, in_flight: &[1, 8, 64], cycles_max: 20_000 }
    };
    let wanted = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect::<Vec<_>>();
    let ground = Ground::open(env!("CARGO_TARGET_TMPDIR"))?;
    println!("# Cycles per second\n\n{ground}");
    println!(
        "settings:    defaults, one tenant, one volume; {} rounds of about {:?}, in turns\n",
        form.rounds, form.round
    );
    println!(
        "Median (lowest..highest); ratios are taken within each turn. Every round ends when its bytes are gone."
    );
    for (n, (promise, name)) in PROMISES.into_iter().enumerate() {
        let cells =
            SIZES.iter().flat_map(|size| form.in_flight.iter().map(move |in_flight| (size, *in_flight)));
        let titled =
            cells.map(|((size, said), in_flight)| (*size, in_flight, format!("{said} / {in_flight}")));
        let is_wanted = |title: &str| {
            let title = format!("{name} | {title} |");
            wanted.iter().all(|word| title.contains(word))
        };
        let cells = titled.filter(|(_, _, title)| is_wanted(title)).collect::<Vec<_>>();
        if cells.is_empty() {
            continue;
        }
        println!("\n## {name}\n");
        println!(
            "| size / in flight | file floor | Locus | shared-log floor | Locus / file floor | Locus / log floor |"
        );
        println!("|---|---|---|---|---|---|");
        let dir = ground.path().join(format!("promise-{n}"));
        let runtime = Runtime::new()?;
        let contest = Contest {
            files: FileFloor::create(&dir.join("file-floor"), promise)?,
            queue: runtime.block_on(Queue::open(&dir.join("locus"), promise))?,
            log: LogFloor::create(&dir.join("log-floor"), promise)?,
            runtime,
        };
        for (size, in_flight, title) in cells {
            let row = contest.cell(&form, &Bytes::from(content(size)), in_flight)?;
            println!("| {title} | {row} |");
        }
        contest.runtime.block_on(contest.queue.close())?;
    }
    Ok(())
}

impl Contest {
    /// One row: rates and ratios.
    fn cell(&self, form: &Form, content: &Bytes, in_flight: usize) -> Result<String, BoxError> {
        // The ends of rounds cost something by themselves: whoever is compared file by file gets as many of them.
        let of_files = self.calibrate(0, form, content, in_flight)?.min(form.cycles_max);
        self.round(1, Load { cycles: of_files / 4 + 1, in_flight }, content)?;
        let cycles = [of_files, of_files, self.calibrate(2, form, content, in_flight)?];
        let mut rates = [vec![], vec![], vec![]];
        for turn in 0..form.rounds {
            for who in (0..3).map(|n| (turn + n) % 3) {
                let load = Load { cycles: cycles[who], in_flight };
                rates[who].push(rate(load.cycles, self.round(who, load, content)?));
            }
        }
        let [files, queue, log] = &rates;
        let over = |floor: &[f64]| {
            Spread::of(&queue.iter().zip(floor).map(|(queue, floor)| queue / floor).collect::<Vec<_>>())
        };
        let [by_files, by_log] = [over(files), over(log)];
        let [files, queue, log] = [files, queue, log].map(|rates| Spread::of(rates));
        Ok(format!("{files} | {queue} | {log} | {by_files} | {by_log}"))
    }

    /// How many cycles make a round of the length that is meant. Warms up on the way.
    fn calibrate(&self, who: usize, form: &Form, content: &Bytes, in_flight: usize) -> Result<u64, BoxError> {
        let least = 4 * in_flight as u64;
        let mut cycles = least;
        loop {
            let took = self.round(who, Load { cycles, in_flight }, content)?;
            let meant = (rate(cycles, took) * form.round.as_secs_f64()) as u64;
            if took * 3 >= form.round {
                return Ok(meant.max(least));
            }
            cycles = meant.clamp(cycles * 2, cycles * 8);
        }
    }

    fn round(&self, who: usize, load: Load, content: &Bytes) -> Result<Duration, BoxError> {
        match who {
            0 => self.files.round(load, content),
            1 => self.runtime.block_on(self.queue.round(load, content)),
            _ => self.runtime.block_on(self.log.round(load, content)),
        }
    }
}

/// Bytes that do not repeat soon.
fn content(size: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    (0..size).map(step).collect()
}
