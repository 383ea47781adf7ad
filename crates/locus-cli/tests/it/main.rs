//! The command as it is run: every verb, what it says, and how it ends.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod entities;
mod keys;
mod locks;
mod pages;
mod program;
mod schemas;
mod secrets;
mod upkeep;
