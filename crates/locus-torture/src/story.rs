//! Stories: calls and ends in an order that somebody made up.

use locus_core::Durability;

use crate::{
    call::Call,
    enumerate::{self, Letter},
    life::{self, Run},
    report::Report,
    violation::Violation,
};

/// The content that a segment is filled with, in bytes.
const INLINE_MAX: usize = 32 << 10;

/// So many of them do not fit into one segment.
const FILES_OF_A_SEGMENT: usize = 32;

/// A step of a story that somebody else makes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A call, where it can be made.
    Call(Letter),
    /// Writes of more than a segment holds, in contents of 32 KiB.
    Fill,
    /// The power goes, and everything is opened again.
    PowerCut,
    /// The process dies, and everything is opened again.
    Kill,
    /// The wall clock jumps by so many years.
    Jump(i8),
}

/// Plays a story from an empty disk on, and ends it with a power cut; the seed decides what the disk keeps.
///
/// # Errors
/// The first promise that was broken.
pub fn play(
    steps: &[Step],
    durability: Durability,
    inline_content_max: u64,
    seed: u64,
) -> Result<(), Violation> {
    life::guarded(|| {
        let mut world = enumerate::world(durability, seed);
        world.options.inline_content_max = inline_content_max;
        world.options.landing_zone_max = Some(16 << 20);
        let mut run = Run::begin(world)?;
        for step in steps.iter().chain(&[Step::PowerCut]) {
            match step {
                Step::Call(letter) => {
                    if let Some(call) = letter.call(&run) {
                        run.round(Some(call))?;
                    }
                }
                Step::Fill => {
                    for _ in 0..FILES_OF_A_SEGMENT / 2 {
                        let files = (0..2).map(|_| (run.world.noise(INLINE_MAX), 0)).collect();
                        run.round(Some(Call::Write { tenant: 0, files, name: None }))?;
                    }
                }
                Step::PowerCut => {
                    run.end_life_by(false)?;
                }
                Step::Kill => {
                    run.end_life_by(true)?;
                }
                Step::Jump(years) => run.jump(i64::from(*years)),
            }
        }
        Ok(())
    })
}

/// Stories for what lives drawn by a seed are hardly ever long enough for.
#[must_use]
pub fn long_ones() -> Vec<Vec<Step>> {
    let call = Step::Call;
    // The last file of a segment behind both checkpoints leaves it, and so much is written then that the segment's turn
    // comes, before anything has made the move durable.
    let left_at_once = |deleted: usize| {
        let behind = [
            vec![Step::Fill],
            vec![call(Letter::Delete); deleted],
            vec![call(Letter::Sync), call(Letter::Reap), call(Letter::Sync)],
            vec![call(Letter::Checkpoint); 3],
        ];
        let over = [vec![call(Letter::Materialize)], vec![Step::Fill; 9]];
        behind.into_iter().chain(over).flatten().collect()
    };
    (FILES_OF_A_SEGMENT - 4..FILES_OF_A_SEGMENT - 1).map(left_at_once).collect()
}

/// Plays one story, in one durability.
#[must_use]
pub fn run(steps: &[Step], durability: Durability, seed: u64) -> Report {
    let mut report = Report { seed, runs: 1, ..Report::default() };
    let ends = steps.iter().filter(|step| matches!(step, Step::PowerCut | Step::Kill)).count();
    report.crash_points = ends as u64 + 1;
    if let Err(violation) = play(steps, durability, INLINE_MAX as u64, seed) {
        let what = format!("{}, {durability:?} {steps:?}", violation.what);
        report.violated(seed, Violation { what, ..violation });
    }
    report
}
