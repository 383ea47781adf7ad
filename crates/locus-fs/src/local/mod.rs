//! A volume on a local file system.
//!
//! `spec` describes one, `mount` turns it into `volume`; everything that blocks is a method of `core`, called through
//! the door by `volume` alone.

mod adoption;
mod blob;
mod copy;
mod core;
mod dirs;
mod draft;
mod gauge;
mod in_flight;
mod layout;
mod listing;
pub(crate) mod marker;
mod mount;
mod pieces;
mod spec;
mod staged;
mod staging;
mod tidy;
mod unsynced;
mod volume;

pub use self::core::is_passing;
pub use adoption::Adopt;
pub use spec::LocalVolume;
pub use volume::OpenLocalVolume;
