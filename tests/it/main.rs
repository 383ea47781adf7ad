//! Whole stories over the facade, and tests that hold the documents against the code.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod corpora;
mod documents;
mod drawing;
mod full_disk;
mod hostile_names;
mod kernel;
mod loop_disk;
mod old_data;
mod pressure;
mod sealed;
mod support;
mod sweeping;
mod volume_stories;
mod watching;
