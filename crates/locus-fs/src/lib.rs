//! Everything of Locus that touches a disk: the [`Disk`] seam, durable replace, directory locks, local volumes.

mod dir_lock;
mod disk;
mod door;
mod local;
mod os_disk;
mod replace;
mod volume_spec;

pub use dir_lock::DirLock;
pub use disk::{DirEntry, Disk, DiskFile, DiskLock, EntryKind, Meta, Space};
pub use door::off_thread;
pub use local::{LocalVolume, OpenLocalVolume};
pub use os_disk::OsDisk;
pub use replace::{create_dirs, read_bounded, replace};
pub use volume_spec::{VolumeContext, VolumeSpec};
