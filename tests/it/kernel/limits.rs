//! Limits of the process: open files, and the length of a file.

use std::process::Command;

use locus::Durability;
use locus_tests::{Form, Note, Plan};
use rstest::rstest;

use super::{
    book::{Book, Crash},
    need::{Need, can},
    victim::{Desk, within},
};
use crate::support::seed;

/// Does the short story under a limit, and gives what its calls said.
fn story(limit: &str, durability: Durability) -> Vec<String> {
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let plan =
        Plan { dir: temp.path().into(), durability, form: Form::Short, seed, first: 0, on_caller: false };
    let (mut desk, mut book) = (Desk::new(), Book::default());
    let mut prlimit = Command::new("prlimit");
    prlimit.arg(limit);
    let status = desk.start(within(prlimit, &plan)).wait();
    desk.check_words();
    assert!(status.success(), "{limit}: {status}");
    let notes = desk.notes();
    assert_eq!(notes.last(), Some(&Note::Over), "{limit}");
    book.note(&notes);
    println!("{limit}: {} changes confirmed; errors {:?}", book.acknowledged, book.errors);
    book.check(&plan, Crash::Kill);
    book.close(&plan);
    let told = notes.into_iter().filter_map(|note| match note {
        Note::Error { text, .. } => Some(text),
        _ => None,
    });
    told.collect()
}

#[rstest]
fn b65_too_few_open_files_are_clean_errors_and_nothing_confirmed_is_lost(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    if !can("a limit on open files", &[Need::Command("prlimit")]) {
        return;
    }
    let mut unhurt = 0;
    for files in (10..40).step_by(3) {
        let told = story(&format!("--nofile={files}"), durability);
        unhurt += u64::from(told.is_empty());
    }
    assert!((1..10).contains(&unhurt), "some are too few, some are enough: {unhurt}");
}

#[rstest]
#[case::far_below_a_segment(100 << 10)]
#[case::just_below_a_segment(900 << 10)]
#[case::above_everything(8 << 20)]
fn b65_a_limit_on_the_length_of_files_is_named_and_kills_nobody(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
    #[case] bytes: u64,
) {
    if !can("a limit on the length of files", &[Need::Command("prlimit")]) {
        return;
    }
    let told = story(&format!("--fsize={bytes}"), durability);
    let named = told.iter().filter(|text| text.contains("RLIMIT_FSIZE")).count();
    assert_eq!(told.is_empty(), bytes == 8 << 20, "{told:?}");
    assert!(told.is_empty() || named > 0, "{told:?}");
}
