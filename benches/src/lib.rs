//! What the benchmarks share: the ground they run on, the floors they are held against, an engine without a pool, and
//! how figures are told.
//!
//! A *floor* makes the system calls that a promise demands, with the same syncs in the same order, and nothing else: no
//! index, no checksum, no recovery. [`FileFloor`] keeps a file for each content, [`LogFloor`] keeps content and record
//! together in one log, [`LeanFloor`] does less than any promise demands.

pub mod cycles;
mod engine;
mod figures;
mod floor;
mod ground;
mod process;
mod queue;

pub use engine::{Engine, VOLUME};
pub use figures::{Spread, Stopwatch, percentile, rate, size, thousands};
pub use floor::{FileFloor, LeanFloor, LogFloor, Naming};
pub use ground::Ground;
pub use process::{cpu_time, resident_bytes};
pub use queue::{Place, Queue};

/// What a benchmark may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whether the tiny form was asked for: `LOCUS_BENCH_QUICK=1`.
#[must_use]
pub fn is_quick() -> bool {
    is_set("LOCUS_BENCH_QUICK")
}

/// Whether the long form was asked for: `LOCUS_BENCH_FULL=1`.
#[must_use]
pub fn is_full() -> bool {
    is_set("LOCUS_BENCH_FULL")
}

fn is_set(name: &str) -> bool {
    std::env::var(name).is_ok_and(|value| !matches!(value.as_str(), "" | "0"))
}
