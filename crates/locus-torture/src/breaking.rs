//! The product with one sync, order or check taken away: torture must notice.

use locus_core::{Durability, Site};

use crate::{
    life::{run, world_of},
    story,
};

/// Crash points on one disk, before the next seed gets a fresh one.
const POINTS_PER_RUN: u64 = 200;

/// Seeds that each long story is played with.
const STORY_SEEDS: u64 = 20;

/// How a site's absence was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// Crash points until then.
    pub crash_points: u64,
    /// What broke first, with the seed.
    pub violation: String,
}

/// Takes a site away, in the whole process, and goes through the long stories, then through seeds from `seed` on, until
/// something breaks; `None` when nothing does within `points_max` crash points.
#[must_use]
pub fn torture_without(site: Site, seed: u64, points_max: u64, trace: bool) -> Option<Caught> {
    site.break_it();
    let mut crash_points = 0;
    let stories = story::long_ones();
    for (steps, seed) in
        stories.iter().flat_map(|steps| (seed..seed + STORY_SEEDS).map(move |seed| (steps, seed)))
    {
        let report = story::run(steps, Durability::Buffered, seed);
        crash_points += report.crash_points;
        if let Some(violation) = report.violations.into_iter().next() {
            return Some(Caught { crash_points, violation });
        }
    }
    let mut seed = seed;
    while crash_points < points_max {
        let mut world = world_of(seed);
        world.trace = trace;
        let report = run(world, POINTS_PER_RUN);
        crash_points += report.crash_points;
        if let Some(violation) = report.violations.into_iter().next() {
            return Some(Caught { crash_points, violation });
        }
        seed = seed.wrapping_add(1);
    }
    None
}
