//! The engine of Locus: journal, embedded store, quotas, placement, pool and scheduler.

mod options;

pub use options::EngineOptions;
