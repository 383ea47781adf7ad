//! The vault's parts, as a program sees them.

mod keyrings;
mod schemas;
mod sealing;
