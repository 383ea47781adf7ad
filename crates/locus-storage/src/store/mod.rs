//! The embedded store: state in memory, sharded by tenant; durability is a number.
//!
//! [`event`] says what a record means, [`tenant`] holds the files of one tenant and applies events to them (the same
//! way live and at replay), [`decide`] is the pure part of every command, [`embedded`] is the door, [`recovery`] and
//! [`checkpoint`] are how it comes back.

mod accept;
mod background;
pub(crate) mod checkpoint;
mod decide;
mod embedded;
mod entry;
pub(crate) mod event;
mod finish;
pub(crate) mod frames;
pub(crate) mod identity;
mod inspect;
mod landing;
mod leases;
mod limits;
mod places;
mod reap;
mod recovery;
mod schedule;
mod seam;
mod slab;
mod tenant;

pub use background::EngineThreads;
pub use embedded::{EmbeddedStore, StoreConfig, StoreStatistics};
pub use inspect::Inspection;
pub use recovery::OpenReport;
