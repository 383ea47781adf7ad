//! Everything of Locus that touches a disk: the [`Disk`] seam, durable replace, directory locks, local volumes.

mod disk;

pub use disk::{DirEntry, Disk, DiskFile, DiskLock, EntryKind, Meta, Space};
