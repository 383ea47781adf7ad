//! The embedded store: state in memory, sharded by tenant; durability is a number.
//!
//! [`event`] says what a record means, [`tenant`] holds the files of one tenant and applies events to them (the same
//! way live and at replay), [`decide`] is the pure part of every command, [`embedded`] is the door, [`recovery`] and
//! [`checkpoint`] are how it comes back.

mod accept;
mod adopt;
mod background;
mod backup;
pub(crate) mod checkpoint;
mod dead_letters;
mod decide;
mod embedded;
mod entry;
pub(crate) mod event;
mod finish;
mod forget;
pub(crate) mod frames;
mod fresh_dir;
mod hold;
pub(crate) mod identity;
mod inspect;
mod landing;
mod leases;
mod leaving;
mod limits;
mod pages;
mod places;
mod quota;
mod reap;
mod reaping;
mod recovery;
mod resting;
mod retention;
mod salvage;
mod schedule;
mod sealing;
mod seam;
mod slab;
mod standings;
mod tenant;
mod upload;
mod verify;

pub use background::EngineThreads;
pub use backup::{BackupContents, BackupReport, UncopiedContent};
pub use embedded::{EmbeddedStore, StoreConfig, StoreStatistics};
pub use fresh_dir::FreshDir;
pub use hold::ContentHold;
pub use inspect::Inspection;
pub use limits::check_quotas;
pub use recovery::OpenReport;
pub use salvage::{LostContent, LostRecords, SalvageReport, salvage};
pub use verify::{Counted, Finding, VerifyLevel, VerifyProgress, VerifyReport};
