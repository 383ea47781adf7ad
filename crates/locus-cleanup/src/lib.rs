//! Tidying up: the bytes of files that are over, leases that ran out, what killed writes left.
//!
//! A [`Sweeper`] stands on three seams: [`Upkeep`](locus_core::Upkeep) knows the records,
//! [`VolumeSet`](locus_core::VolumeSet) the volumes, [`Clock`](locus_core::Clock) the time. Each job is a step that does
//! a bounded piece of work and can be dropped anywhere; [`Sweeper::run_reaper`] and [`Sweeper::run_expirer`] drive the
//! steps as events come in, and [`Sweeper::run_all`] does everything there is to do once.
//!
//! No promise about files rests on the sweeper: it only frees room.

mod backoff;
mod expire;
mod leftovers;
mod reap;
mod sweeper;

pub use expire::EXPIRE_LEASES_MAX;
pub use leftovers::{EXPIRE_UPLOADS_MAX, LIST_BLOBS_MAX};
pub use reap::REAP_FILES_MAX;
pub use sweeper::Sweeper;
