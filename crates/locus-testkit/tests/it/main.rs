//! The suites over the disks there are, and the simulated disk's manners.

mod crashes;
mod faults;
mod suites;
