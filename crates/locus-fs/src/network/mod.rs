//! A volume on a mounted share: a local volume whose calls are waited for only so long.
//!
//! `spec` describes one, `volume` is the open one; `guard` is what every call goes through, `health` decides whether the
//! share is there.

mod guard;
mod health;
mod spec;
mod staged;
mod volume;

pub use spec::NetworkVolume;
pub use volume::OpenNetworkVolume;
