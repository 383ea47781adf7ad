//! The public behaviour of locus-storage.
#![allow(missing_docs)]

mod bench;
mod crash;
mod pool;
mod scheduler;
mod world;
