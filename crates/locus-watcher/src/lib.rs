//! Folders in, files out: watches folders of the file system and brings in what comes to lie there, each source once.
//!
//! A [`FileWatcherConfig`] describes a watched folder: whose its files are, which of them are taken, when they are ready,
//! and what becomes of a source afterwards. [`FileWatchers`] runs any number of them, one task each, over the seam
//! [`Intake`](locus_core::Intake): it keeps what was changed at run time in small files of its own, answers
//! [`scan_now`](FileWatchers::scan_now) with a [`ScanReport`], and [`explain`](FileWatchers::explain)s why a source still
//! lies where it lies.
//!
//! Nothing in a watched folder is trusted. Links are not followed, nothing is opened that could block, and what is brought
//! in is a copy that was measured before and after. Polling finds everything; events of the file system only bring a scan
//! forward. How a source comes to be imported exactly once is told in `docs/durability.md`.
//!
//! ```
//! use locus_watcher::{AfterImport, FileWatcherConfig};
//!
//! let invoices = FileWatcherConfig::new("./inbox")
//!     .tenant("acme")
//!     .include("*.pdf")
//!     .after_import(AfterImport::Move("./done".into()));
//! invoices.check()?;
//! # Ok::<(), locus_core::Error>(())
//! ```

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;

mod after;
mod config;
mod content;
mod copy;
mod door;
mod draft;
mod folder;
mod former;
mod ledger;
mod looks;
mod manager;
mod names;
mod native;
mod neighbours;
mod overlap;
mod pauses;
mod places;
mod reading;
mod reason;
mod record;
mod report;
mod rules;
mod scan;
mod settling;
mod source;
mod target;
mod task;
mod told;
mod walk;

pub use config::{AfterImport, FileWatcherConfig};
pub use manager::{FileWatchers, WatcherInfo, WatchersOptions};
pub use reason::SkipReason;
pub use report::{Explanation, ScanReport};
