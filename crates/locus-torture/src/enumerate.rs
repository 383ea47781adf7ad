//! Every short sequence of calls, with a crash at every point of its last one. The points of the calls before it are those
//! of the shorter sequence.

use std::time::Duration;

use locus_core::{Durability, FileKey, Owner, TenantStatus};

use crate::{
    call::Call,
    life::{self, Run},
    limits::{Bounded, Most, Place},
    model::File,
    report::Report,
    violation::Violation,
    world::World,
};

/// A call of the alphabet. Each takes the oldest file that it can be made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the call of its name")]
pub enum Letter {
    WriteSmall,
    WriteLarge,
    WriteBatch,
    WriteNamed,
    Lease,
    LeaseOutside,
    LeaseBatch,
    Complete,
    CompleteTwo,
    Fail,
    Release,
    Renew,
    Delete,
    Reset,
    Limit,
    Suspend,
    Expire,
    Materialize,
    Sync,
    Checkpoint,
    Reap,
    Leftovers,
    Forward,
    Spill,
    Backup,
}

impl Letter {
    /// All of them.
    pub const ALL: &[Self] = &[
        Self::WriteSmall,
        Self::WriteLarge,
        Self::WriteBatch,
        Self::WriteNamed,
        Self::Lease,
        Self::LeaseOutside,
        Self::LeaseBatch,
        Self::Complete,
        Self::CompleteTwo,
        Self::Fail,
        Self::Release,
        Self::Renew,
        Self::Delete,
        Self::Reset,
        Self::Limit,
        Self::Suspend,
        Self::Expire,
        Self::Materialize,
        Self::Sync,
        Self::Checkpoint,
        Self::Reap,
        Self::Leftovers,
        Self::Forward,
        Self::Spill,
        Self::Backup,
    ];

    /// The call that it stands for now; `None` when there is no file for it.
    pub(crate) fn call(self, run: &Run) -> Option<Call> {
        let (world, model) = (&run.world, &run.model);
        let first = |wanted: &dyn Fn(&File) -> bool| -> Option<FileKey> {
            let fitting = model.live().filter(|(_, file)| wanted(file));
            fitting.min_by_key(|(_, file)| file.order).map(|(key, _)| *key)
        };
        let leased = |file: &File| file.is_leased();
        let waits = |file: &File| !file.is_leased();
        let content = |len: usize| (world.noise(len), 0);
        let write = |files| Call::Write { tenant: 0, files, name: None };
        let lease = |owner, max| {
            let expected = model.next_of(0, world.now(), max);
            Call::Lease { tenant: 0, owner, ttl: Duration::from_secs(60), max, expected }
        };
        Some(match self {
            Self::WriteSmall => write(vec![content(100)]),
            Self::WriteLarge => write(vec![content(5_000)]),
            Self::WriteBatch => write(vec![content(700), content(6_000)]),
            Self::WriteNamed => {
                Call::Write { tenant: 0, files: vec![content(50)], name: Some("0-name".to_owned()) }
            }
            Self::Lease => lease(Owner::Process, 1),
            Self::LeaseOutside => lease(Owner::Outside, 1),
            Self::LeaseBatch => lease(Owner::Process, 3),
            Self::Complete => Call::Complete { keys: vec![first(&leased)?] },
            Self::CompleteTwo => {
                let mut keys: Vec<_> =
                    model.live().filter(|(_, file)| file.is_leased()).map(|(key, _)| *key).collect();
                keys.truncate(2);
                (keys.len() == 2).then_some(Call::Complete { keys })?
            }
            Self::Fail => Call::Fail { key: first(&leased)? },
            Self::Release => Call::Release { key: first(&leased)? },
            Self::Renew => Call::Renew { key: first(&leased)? },
            Self::Delete => Call::Delete { key: first(&File::lives)? },
            Self::Reset => Call::Reset { key: first(&waits)? },
            Self::Limit => {
                let of = Bounded { tenant: 0, place: Place::Tenant };
                Call::Limit { of, most: Some(Most { files: Some(50), bytes: None }) }
            }
            Self::Suspend => Call::Guest { number: 0, status: TenantStatus::Suspended },
            Self::Expire => {
                world.advance(Duration::from_secs(61));
                Call::Expire { overdue: model.overdue(world.now()) }
            }
            Self::Materialize => Call::Materialize { key: first(&File::lives)? },
            Self::Sync => Call::Sync,
            Self::Checkpoint => Call::Checkpoint,
            Self::Reap => Call::Reap,
            Self::Leftovers => Call::Leftovers,
            Self::Forward => Call::Forward,
            Self::Spill => Call::Spill,
            Self::Backup => Call::Backup { number: world.disk.ops() },
        })
    }
}

/// Every sequence of one to `length_max` letters.
#[must_use]
pub fn sequences(length_max: usize) -> Vec<Vec<Letter>> {
    let mut all: Vec<Vec<Letter>> = Vec::new();
    let mut longest: Vec<Vec<Letter>> = vec![Vec::new()];
    for _ in 0..length_max {
        longest = longest
            .iter()
            .flat_map(|begin| Letter::ALL.iter().map(move |letter| [begin.as_slice(), &[*letter]].concat()))
            .collect();
        all.extend(longest.iter().cloned());
    }
    all
}

/// The world of all sequences and stories of one durability.
pub(crate) fn world(durability: Durability, seed: u64) -> World {
    let mut world = World::new(seed, life::world_of(1).options, true);
    world.options.durability = durability;
    world.options.complete_durability = None;
    world.options.inline_content_max = 4 << 10;
    world
}

/// Files to begin with: both kinds of content, waiting, leased, and one that failed.
const BEGINNING: [Letter; 8] = [
    Letter::WriteBatch,
    Letter::WriteBatch,
    Letter::LeaseBatch,
    Letter::Fail,
    Letter::WriteSmall,
    Letter::WriteLarge,
    Letter::LeaseOutside,
    Letter::Sync,
];

/// Brings a store to the point before the last letter; `None` when one of them cannot be made there.
fn up_to_last(sequence: &[Letter], durability: Durability) -> Result<Option<(Run, Call)>, Violation> {
    let mut run = Run::begin(world(durability, 1))?;
    let (last, before) = sequence.split_last().expect("because a sequence has a letter");
    for letter in BEGINNING.iter().chain(before) {
        let Some(call) = letter.call(&run) else { return Ok(None) };
        run.round(Some(call))?;
    }
    Ok(last.call(&run).map(|call| (run, call)))
}

/// Goes through one sequence: a crash at each operation of the last letter, and one behind it.
#[must_use]
pub fn run(sequence: &[Letter], durability: Durability) -> Report {
    let mut report = Report { seed: 1, ..Report::default() };
    let lived = life::guarded(|| points(sequence, durability, &mut report));
    if let Err(violation) = lived {
        let what = format!("{durability:?} {sequence:?}: {}", violation.what);
        report.violated(1, Violation { what, ..violation });
    }
    report
}

fn points(sequence: &[Letter], durability: Durability, report: &mut Report) -> Result<(), Violation> {
    let Some((mut run, call)) = up_to_last(sequence, durability)? else { return Ok(()) };
    report.runs = 1;
    let begin = run.world.disk.ops();
    run.round(Some(call))?;
    let end = run.world.disk.ops();
    report.crash_points += run.end_life()?;
    report.acknowledged += run.model.acknowledged;
    for point in begin + 1..=end {
        let Some((mut run, call)) = up_to_last(sequence, durability)? else { return Ok(()) };
        run.world.disk.crash_at(point);
        run.round(Some(call))?;
        report.crash_points += run.end_life()?;
        report.acknowledged += run.model.acknowledged;
    }
    Ok(())
}
