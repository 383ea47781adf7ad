//! Journal and store under a scheduler that chooses, at each lock, atomic, wake-up and call of the disk, who goes on.
//!
//! The sources are those of `locus-storage`, compiled once more with another [`sync`]: the product knows nothing of this.
//! [`models`] are small stories over them, [`check`] runs a story under many schedules.

#![allow(dead_code, reason = "of the sources that are shared only a part is used")]

pub mod check;
mod disk;
pub mod models;
mod sync;
mod world;

#[path = "../../locus-storage/src/journal/mod.rs"]
mod journal;
#[path = "../../locus-storage/src/options.rs"]
mod options;
#[path = "../../locus-storage/src/race.rs"]
mod race;
#[path = "../../locus-storage/src/signal.rs"]
mod signal;
#[path = "../../locus-storage/src/store/mod.rs"]
pub mod store;
#[path = "../../locus-storage/src/time.rs"]
mod time;
#[path = "../../locus-storage/src/volumes.rs"]
mod volumes;

pub use options::EngineOptions;
pub use store::{EmbeddedStore, StoreConfig, VerifyLevel};
pub use volumes::VolumeRegistry;
