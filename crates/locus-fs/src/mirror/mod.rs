//! A volume that keeps every blob on several members.
//!
//! `spec` describes one, `volume` is the open one, a thin front of `core`. What members hold is in `seal` (a copy carries
//! the sums that tell whether it is good) and `note` (who lacks what); both are bytes from a disk and are believed only
//! when their sums are right. `write`, `read`, `mend` and `scrub` are the four things that happen.

mod copy;
mod core;
mod ledger;
mod listing;
mod member;
mod mend;
pub(crate) mod note;
mod pen;
mod read;
mod report;
mod scrub;
pub(crate) mod seal;
mod spec;
mod staged;
mod tidy;
mod volume;
mod write;

pub use report::MirrorReport;
pub use spec::{Mirror, MirroredVolume};
pub use volume::OpenMirroredVolume;
