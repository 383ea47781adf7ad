//! Tools for testing Locus and implementations of its seams: a simulated disk, a manual clock, seeded randomness, and
//! the suites that every implementation of a seam must pass.

pub mod disk_suite;
mod entropy;
mod faulty_volume;
mod hostile_names;
pub mod intake_suite;
mod manual_clock;
mod memory_intake;
mod sim_disk;
pub mod staging_suite;
mod stepper;
pub mod volume_suite;

pub use entropy::SeededEntropy;
pub use faulty_volume::{Failing, FaultyVolume, VolumeFaults, VolumeOp};
pub use hostile_names::HostileNames;
pub use manual_clock::ManualClock;
pub use memory_intake::{Arrival, Forgetting, MemoryIntake};
pub use sim_disk::{Fault, FaultId, OpKind, SimDisk};
pub use stepper::{Stepper, TaskId};

/// The page `docs/write-your-own-volume.md`, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/write-your-own-volume.md")]
#[derive(Debug)]
pub struct WriteYourOwnVolume;
