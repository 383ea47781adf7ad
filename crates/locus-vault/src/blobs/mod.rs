//! Sealed blobs, a file each: the layer that never sees plaintext.

mod guard;
mod list;
mod marker;
mod probe;
mod shelf;
mod store;
mod sweep;

pub use guard::EntityGuard;
pub use list::{ListCursor, ListPage, Unreadable};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use marker::Marker;
pub(crate) use shelf::Found;
pub use store::{Blob, BlobOptions, BlobStore};
pub use sweep::SweepReport;
