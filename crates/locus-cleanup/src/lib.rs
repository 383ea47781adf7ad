//! Tidying up: files that are over, leases that ran out, files that failed for good, what killed writes left, records without
//! bytes and bytes without records, directories that hold nothing.
//!
//! A [`Sweeper`] stands on three seams: [`Upkeep`](locus_core::Upkeep) knows the records,
//! [`VolumeSet`](locus_core::VolumeSet) the volumes, [`Clock`](locus_core::Clock) the time; a [`Disposal`](locus_core::Disposal) that
//! moves files to the dead letters and a [`TenantManager`](locus_core::TenantManager) are given to it when there are any. Each
//! [`Sweep`] works in bounded steps and can be dropped anywhere. [`Sweeper::run_reaper`] and [`Sweeper::run_expirer`] drive theirs
//! as events come in, [`Sweeper::run_schedule`] the others at the intervals that [`SweepSettings`] say, and [`Sweeper::run`] runs
//! one on demand, for all tenants or one, or counts only what it would do.
//!
//! Orphans and missing bytes are looked for by runs with a budget, which go on from each other; where they stand is a small file in
//! the data directory ([`Sweeper::with_stands_in`]), so that they do so over a restart. All others make a whole pass over what
//! concerns them each time.
//!
//! Records of a volume that does not come back are no job's: nothing is believed of a volume that is not there. Somebody decides,
//! and says so by `pool().retire`, which keeps or forgets them.
//!
//! No promise about files rests on the sweeper: it only frees room.

mod backoff;
mod directories;
mod expire;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod given_up;
mod leftovers;
mod missing;
mod note;
mod orphans;
mod reap;
mod schedule;
mod settings;
mod stands;
mod store;
mod sweep;
mod sweeper;
mod tour;
mod window;

pub use leftovers::EXPIRE_UPLOADS_MAX;
pub use settings::{
    CompletedSettings, DeadLetterSettings, EmptyDirectorySettings, GivenUpPolicy, JunkSettings,
    LeftoverSettings, MissingPolicy, MissingSettings, OrphanPolicy, OrphanSettings,
    PermanentlyFailedSettings, StoreSweepSettings, SweepSettings, TimedOutSettings,
};
pub use sweep::{OnProgress, Sweep, SweepOptions, SweepRun};
pub use sweeper::Sweeper;
pub use window::{NotAWindow, Window};
