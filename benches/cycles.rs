//! Cycles (write, lease, read, complete of one file) through the facade, with content in the journal and with a file for
//! each, beside the two floors, in turns.
//!
//! `cargo bench -p locus-benches --bench cycles -- Buffered " 1 KiB / 64"` runs only the rows whose name holds every word.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use locus_benches::{
    BoxError, FileFloor, Ground, Load, LogFloor, Promise, Queue, Spread, is_full, is_quick, rate, thousands,
};
use tokio::runtime::Runtime;

type Sizes = &'static [(usize, &'static str)];

const SIZES: Sizes = &[(1 << 10, "1 KiB"), (16 << 10, "16 KiB"), (100 << 10, "100 KiB")];
const FEW_SIZES: Sizes = &[(1 << 10, "1 KiB"), (100 << 10, "100 KiB")];
const LONG_SIZES: Sizes = &[(100 << 10, "100 KiB"), (1 << 20, "1 MiB")];

/// The four that take turns, in this order in a row.
const JOURNAL: usize = 0;
const FILE_EACH: usize = 1;
const FILE_FLOOR: usize = 2;
const LOG_FLOOR: usize = 3;
const WHO: usize = 4;

/// A table.
struct Section {
    title: &'static str,
    promise: Promise,
    /// Longest content in the journal, where that is not the default.
    inline_max: Option<u64>,
    sizes: Sizes,
}

const DURABLE: Section = Section {
    title: "Durable, completions too (the default)",
    promise: Promise::Durable,
    inline_max: None,
    sizes: SIZES,
};
const BUFFERED: Section =
    Section { title: "Buffered", promise: Promise::Buffered, inline_max: None, sizes: SIZES };
const LAZY: Section = Section {
    title: "Durable, completions lazy",
    promise: Promise::LazyCompletions,
    inline_max: None,
    sizes: SIZES,
};
const LONG: Section = Section {
    title: "Durable, completions too, up to 1 MiB in the journal",
    promise: Promise::Durable,
    inline_max: Some(1 << 20),
    sizes: LONG_SIZES,
};

/// How long a round is meant to be, how many there are, and which cells.
struct Form {
    sections: &'static [Section],
    round: Duration,
    rounds: usize,
    in_flight: &'static [usize],
    /// Most cycles of a round of a file for each content, and of the file floor.
    files_max: u64,
}

const QUICK: Form = Form {
    sections: &[Section { sizes: FEW_SIZES, ..DURABLE }],
    round: Duration::from_millis(250),
    rounds: 3,
    in_flight: &[1, 64],
    files_max: 200,
};
const PLAIN: Form = Form {
    sections: &[DURABLE, BUFFERED],
    round: Duration::from_millis(300),
    rounds: 5,
    in_flight: &[1, 8, 64],
    files_max: 20_000,
};
const FULL: Form =
    Form { sections: &[DURABLE, BUFFERED, LAZY, LONG], round: Duration::from_secs(1), rounds: 9, ..PLAIN };

/// The four that take turns.
struct Contest<'a> {
    ground: &'a Ground,
    journal: Queue,
    file_each: Queue,
    files: FileFloor,
    log: LogFloor,
    runtime: Runtime,
}

fn main() -> Result<(), BoxError> {
    let form = match (is_full(), is_quick()) {
        (true, _) => FULL,
        (_, true) => QUICK,
        _ => PLAIN,
    };
    let wanted = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect::<Vec<_>>();
    let ground = Ground::open(env!("CARGO_TARGET_TMPDIR"))?;
    println!("# Cycles per second\n\n{ground}");
    println!(
        "settings:    defaults but for what a column says; one tenant, one volume; {} rounds of about {:?}, in turns\n",
        form.rounds, form.round
    );
    println!(
        "Median (lowest..highest); ratios are taken within each turn. Every round begins with nothing left to be written \
         by others,\nand ends when its bytes are gone. \"In the journal\": of the contents that Locus read, with that limit."
    );
    for (n, section) in form.sections.iter().enumerate() {
        section.run(&form, &ground, &ground.path().join(format!("section-{n}")), &wanted)?;
    }
    Ok(())
}

impl Section {
    fn run(&self, form: &Form, ground: &Ground, dir: &Path, wanted: &[String]) -> Result<(), BoxError> {
        let mut cells = Vec::new();
        for (size, said) in self.sizes {
            for in_flight in form.in_flight {
                let row = format!("{said} / {in_flight}");
                let name = format!("{} | {row} |", self.title);
                if wanted.iter().all(|word| name.contains(word)) {
                    cells.push((*size, *in_flight, row));
                }
            }
        }
        if cells.is_empty() {
            return Ok(());
        }
        println!("\n## {}\n", self.title);
        println!(
            "| size / in flight | Locus, journal | Locus, a file each | file floor | shared-log floor | in the journal \
             | journal / file each | journal / log floor | file each / file floor |"
        );
        println!("|---|---|---|---|---|---|---|---|---|");
        let contest = Contest::open(ground, dir, self)?;
        for (size, in_flight, row) in cells {
            println!("| {row} | {} |", contest.cell(form, &Bytes::from(content(size)), in_flight)?);
        }
        contest.close()
    }
}

impl<'a> Contest<'a> {
    fn open(ground: &'a Ground, dir: &Path, section: &Section) -> Result<Self, BoxError> {
        let runtime = Runtime::new()?;
        let open =
            |name, inline_max| runtime.block_on(Queue::open(&dir.join(name), section.promise, inline_max));
        Ok(Self {
            ground,
            journal: open("journal", section.inline_max)?,
            file_each: open("file-each", Some(0))?,
            files: FileFloor::create(&dir.join("file-floor"), section.promise)?,
            log: LogFloor::create(&dir.join("log-floor"), section.promise)?,
            runtime,
        })
    }

    /// Says what became of the journal.
    fn close(self) -> Result<(), BoxError> {
        let said = self.journal.statistics();
        println!(
            "\njournal at the end: {} MiB on the disk, {} segments used again, {} checkpoints; contents moved forward: {}, \
             moved to the volume: {}",
            said.journal_bytes >> 20,
            thousands(said.segments_reused as f64),
            said.checkpoints,
            thousands(said.copied_forward as f64),
            thousands(said.spilled as f64)
        );
        self.runtime.block_on(self.journal.close())?;
        self.runtime.block_on(self.file_each.close())
    }

    /// One row: rates and ratios.
    fn cell(&self, form: &Form, content: &Bytes, in_flight: usize) -> Result<String, BoxError> {
        // The ends of rounds cost something by themselves: whoever is compared file by file gets as many of them.
        let of_files = self.calibrate(FILE_FLOOR, form, content, in_flight)?.min(form.files_max);
        self.round(FILE_EACH, Load { cycles: of_files / 4 + 1, in_flight }, content)?;
        let mut cycles = [of_files; WHO];
        for who in [JOURNAL, LOG_FLOOR] {
            cycles[who] = self.calibrate(who, form, content, in_flight)?;
        }
        self.journal.percent_in_journal(); // what warmed up does not count
        let mut rates = [const { Vec::new() }; WHO];
        for turn in 0..form.rounds {
            for who in (0..WHO).map(|n| (turn + n) % WHO) {
                let load = Load { cycles: cycles[who], in_flight };
                rates[who].push(rate(load.cycles, self.round(who, load, content)?));
            }
        }
        let inside = self.journal.percent_in_journal().unwrap_or_default();
        let over = |part: usize, whole: usize| {
            let ratios = rates[part].iter().zip(&rates[whole]).map(|(part, whole)| part / whole);
            Spread::of(&ratios.collect::<Vec<_>>())
        };
        let ratios = [over(JOURNAL, FILE_EACH), over(JOURNAL, LOG_FLOOR), over(FILE_EACH, FILE_FLOOR)];
        let [journal, file_each, files, log] =
            [JOURNAL, FILE_EACH, FILE_FLOOR, LOG_FLOOR].map(|who| Spread::of(&rates[who]));
        let [to_file_each, to_log, to_files] = ratios;
        Ok(format!(
            "{journal} | {file_each} | {files} | {log} | {inside:.0} % | {to_file_each} | {to_log} | {to_files}"
        ))
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
        self.ground.settle()?;
        match who {
            JOURNAL => self.runtime.block_on(self.journal.round(load, content)),
            FILE_EACH => self.runtime.block_on(self.file_each.round(load, content)),
            FILE_FLOOR => self.files.round(load, content),
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
