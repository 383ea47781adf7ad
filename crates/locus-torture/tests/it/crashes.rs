//! Crashes at random points over everything, against the model.

use std::sync::Arc;

use locus_cleanup::OrphanPolicy;
use locus_core::Durability;
use locus_torture::{
    inbox::Inbox,
    life::{run, world_of},
    report::Report,
    world::World,
};
use rstest::rstest;

/// Crash points of each test.
const POINTS: u64 = 400;

fn torture(seed: u64, durability: Durability, inline_content_max: u64) -> Report {
    let mut world = world_of(seed);
    world.options.durability = durability;
    world.options.inline_content_max = inline_content_max;
    run(world, POINTS)
}

#[track_caller]
fn assert_clean(report: &Report) {
    assert!(report.is_clean(), "{:#?}", report.violations);
    assert!(report.crash_points >= POINTS);
    assert!(report.acknowledged > POINTS, "hardly a call was answered: {}", report.acknowledged);
}

#[rstest]
fn b1_b56_everything_confirmed_durable_survives_every_crash(#[values(1, 2)] seed: u64) {
    assert_clean(&torture(seed, Durability::Durable, 0));
}

#[rstest]
fn b66_buffered_loses_only_an_end_of_the_log_and_never_leaves_a_hole(#[values(11, 12)] seed: u64) {
    assert_clean(&torture(seed, Durability::Buffered, 0));
}

#[rstest]
fn b88_b91_content_in_the_journal_survives_every_crash(#[values(21, 22)] seed: u64) {
    assert_clean(&torture(seed, Durability::Durable, 32 << 10));
}

#[rstest]
fn b66_b88_buffered_content_in_the_journal_loses_only_an_end(#[values(31, 32)] seed: u64) {
    assert_clean(&torture(seed, Durability::Buffered, 32 << 10));
}

/// With watched folders, whatever the seed says.
fn watched(seed: u64, durability: Durability) -> World {
    let mut world = world_of(seed);
    world.options.durability = durability;
    world.inbox =
        Some(Arc::new(Inbox::new(seed, world.clock.clone(), world.tenants).expect("folders of the test")));
    world
}

#[rstest]
fn b83_whatever_crashes_each_source_becomes_one_file_and_goes_only_then(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[values(41, 42, 43)] seed: u64,
) {
    assert_clean(&run(watched(seed, durability), POINTS));
}

#[rstest]
fn b70_orphans_are_dealt_with_as_the_policy_says_and_nothing_that_is_over_comes_back(
    #[values(OrphanPolicy::Delete, OrphanPolicy::Quarantine, OrphanPolicy::Import)] policy: OrphanPolicy,
) {
    let mut world = world_of(51);
    (world.orphans, world.faults) = (policy, false);
    assert_clean(&run(world, POINTS));
}

#[test]
fn a_seed_repeats_its_run_bit_by_bit_also_with_folders_of_the_machine() {
    let once = run(watched(5, Durability::Buffered), 60);
    assert_eq!(run(watched(5, Durability::Buffered), 60), once);
}

#[test]
fn a_seed_repeats_its_run_bit_by_bit() {
    let once = run(world_of(5), 40);
    assert_eq!(run(world_of(5), 40), once);
    assert_ne!(run(world_of(6), 40).fingerprint, once.fingerprint);
}
