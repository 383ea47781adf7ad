//! Whole stories over the facade, and tests that hold the documents against the code: what `it`, where they are told,
//! shares with the program that dies in some of them.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod note;
mod on_caller;
mod pattern;
mod plan;

use locus::Entropy;
use locus_testkit::SeededEntropy;

pub use note::Note;
pub use on_caller::OnCaller;
pub use pattern::Pattern;
pub use plan::{DIRECTORIES, Form, Plan, TENANTS};

/// The example of the front page, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// The content that write number `n` of a run brings. No other write has it.
#[must_use]
pub fn content(seed: u64, n: u64, bytes: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(bytes).unwrap()];
    SeededEntropy::new(seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15)).fill(&mut content);
    content
}
