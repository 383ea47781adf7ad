//! The models, each under some hundred schedules; `LOCUS_SCHEDULES` says how many.

use locus_core::Durability;
use locus_interleave::{
    check::check,
    models::{
        hand_over::{self, Asks},
        pins::{self, Fate},
        room, watermark, writer,
    },
};
use rstest::rstest;

#[test]
fn nobody_is_told_of_a_record_before_it_is_safe_and_nobody_is_forgotten() {
    check(watermark::those_who_wait_for_the_log);
}

#[test]
fn room_in_the_log_is_never_given_twice_and_comes_back_from_those_who_vanish() {
    check(room::room_in_the_log);
}

#[test]
fn those_who_append_all_find_room_and_leave_none_behind() {
    check(room::room_for_those_who_append);
}

#[test]
fn quotas_are_never_passed_and_shares_come_back_from_those_who_vanish() {
    check(room::shares_of_quotas);
}

#[rstest]
fn a_file_goes_to_one_worker_at_a_time_and_wakes_whoever_waits(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[values(Asks::One, Asks::Any)] asks: Asks,
) {
    check(move || hand_over::files_to_workers(durability, asks));
}

#[rstest]
fn a_file_that_becomes_visible_while_a_worker_looks_wakes_him(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[values(Asks::One, Asks::Any)] asks: Asks,
) {
    check(move || hand_over::the_only_file(durability, asks));
}

#[test]
fn whoever_comes_first_writes_for_all_in_order() {
    check(writer::callers_write_for_each_other);
}

#[test]
fn a_failed_write_or_sync_tells_everybody_and_leaves_nobody_waiting() {
    check(writer::a_failure_tells_everybody);
}

#[rstest]
fn a_segment_that_is_read_is_not_used_again(#[values(Fate::Deleted, Fate::Moved)] fate: Fate) {
    check(move || pins::a_reader_and_the_keeper(fate));
}
