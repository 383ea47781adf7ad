//! The vault's parts, as a program sees them.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod blobs;
mod import;
mod keyrings;
mod old_keyring;
mod on_the_spot;
mod retire;
mod rewrap;
mod rig;
mod ring_backup;
mod rotated;
mod schemas;
mod sealing;
mod vault;
mod vault_crash;
mod vault_harm;
mod vault_kill;
