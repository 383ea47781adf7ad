//! The vault's parts, as a program sees them.
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic as tests may")]

mod blobs;
mod rig;
mod sealing;
mod vault;
mod vault_crash;
mod vault_harm;
