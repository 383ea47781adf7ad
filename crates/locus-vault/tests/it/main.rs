//! The vault's parts, as a program sees them.

mod sealing;
