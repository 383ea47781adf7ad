//! What locus-fs promises, on real files.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod adoption;
mod dir_lock;
mod entity_lock;
mod faulty;
mod hostile_names;
mod links;
mod local_volume;
mod local_volume_crash;
mod local_volume_faults;
mod local_volume_mount;
mod mirror;
mod mirror_doubts;
mod mirror_hangs;
mod mirror_random;
mod network;
mod os_disk;
mod replace;
mod tidy;
mod unreadable;

/// A number from the environment.
fn number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|error| panic!("{name} is {text}: {error}")),
        Err(_) => default,
    }
}
