//! Killed at random moments.

use std::{thread, time::Duration};

use locus::Durability;
use locus_testkit::SeededEntropy;
use locus_tests::{Form, Plan};
use rstest::rstest;

use super::{
    book::{Book, Crash},
    victim::{Desk, command},
};
use crate::support::{number, seed};

/// Most time that a program has, in microseconds.
const LIFE_MAX: u64 = 150_000;

/// What was killed may be started again before anybody looks.
#[rstest]
fn b56_what_was_confirmed_survives_kills_at_any_moment(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let random = SeededEntropy::new(seed);
    let (mut desk, mut book) = (Desk::new(), Book::default());
    let mut plan =
        Plan { dir: temp.path().into(), durability, form: Form::Busy, seed, first: 0, on_caller: false };
    for kill in 0..number("LOCUS_KILLS", 200).div_ceil(2) {
        plan.first = book.next();
        let mut running = desk.start(command(&plan));
        // A moment of the clock is what this is about.
        thread::sleep(Duration::from_micros(random.below(LIFE_MAX)));
        assert!(!running.is_over(), "kill {kill}: it ended by itself");
        running.kill();
        desk.check_words();
        book.note(&desk.notes());
        if random.below(3) > 0 {
            book.check(&plan, Crash::Kill);
        }
    }
    book.check(&plan, Crash::Kill);
    println!("{durability:?}: {} changes confirmed; errors {:?}", book.acknowledged, book.errors);
    assert!(book.acknowledged > 0 && book.errors.is_empty());
    book.close(&plan);
}
