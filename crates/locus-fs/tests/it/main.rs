//! What locus-fs promises, on real files.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod dir_lock;
mod faulty;
mod local_volume;
mod local_volume_crash;
mod local_volume_faults;
mod local_volume_mount;
mod mirror;
mod network;
mod os_disk;
mod replace;
