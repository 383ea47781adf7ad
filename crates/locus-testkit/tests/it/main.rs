//! The suites over the disks there are, and the simulated disk's manners.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

mod crashes;
mod faults;
mod suites;
