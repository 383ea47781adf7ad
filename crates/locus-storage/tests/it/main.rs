//! The public behaviour of locus-storage.
#![allow(missing_docs)]

mod crash;
mod world;
