//! The vault's parts, as a program sees them.

mod keyrings;
mod old_keyring;
mod schemas;
mod sealing;
