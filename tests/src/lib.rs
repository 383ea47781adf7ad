//! Whole stories over the facade, and tests that hold the documents against the code. Nothing is exported.

/// The example of the front page, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
