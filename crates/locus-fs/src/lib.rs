//! Everything of Locus that touches a disk.
//!
//! [`Disk`] is the seam: blocking calls with the promises of POSIX, on real files ([`OsDisk`]) or on a simulated disk.
//! Over it lie [`replace`] (small files replaced whole), [`DirLock`] (one process owns a directory), [`LockManager`] (many
//! processes lock entities in one directory, each for itself) and [`LocalVolume`], a [`VolumeSpec`] that opens into a [`StorageVolume`](locus_core::StorageVolume): bytes rest on it
//! under their final name only when all of them are there. Async code reaches the disk through one door,
//! [`off_thread`].
//!
//! ```
//! use locus_core::{Area, BlobPath, Durability, Entropy, Extension, FileKey, StoragePath, StoreId, SystemEntropy, Timestamp};
//! use locus_fs::{LocalVolume, VolumeContext, VolumeSpec};
//!
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("vol-001");
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let store = StoreId::from_bytes([7; 16]); // the volume's marker names the store that it belongs to
//! let volume = Box::new(LocalVolume::new("vol-001", path)).open(VolumeContext::new(store)).await?;
//!
//! let mut random = [0; 10];
//! SystemEntropy.fill(&mut random);
//! let at = BlobPath {
//!     area: Area::Live,
//!     owner: StoragePath::parse("acme")?,
//!     key: FileKey::generate(Timestamp::from_micros(1_700_000_000_000_000), &random),
//!     extension: Extension::of("hello.txt"),
//! };
//! let stored = volume.write(&at, &mut "hello".into(), Durability::Durable).await?;
//! assert_eq!(stored.length, 5);
//!
//! let opened = volume.open(&at, 0..stored.length).await?;
//! assert_eq!(opened.head, "hello");
//!
//! volume.delete(&at).await?;
//! volume.close().await?;
//! # Ok::<(), locus_core::Error>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod busy;
mod dir_lock;
mod disk;
mod door;
mod entity_lock;
mod feed;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod local;
mod lock_manager;
mod lost;
mod mirror;
mod network;
mod os_disk;
mod provider;
mod replace;
mod synced;
mod volume_spec;
mod watched;

pub use dir_lock::DirLock;
pub use disk::{DirEntry, Disk, DiskFile, DiskLock, EntryKind, Meta, Space};
pub use door::{off_thread, on_the_spot};
pub use entity_lock::{EntityLock, LockError, LockHolder, LockMode};
pub use local::{Adopt, LocalVolume, OpenLocalVolume, is_passing};
pub use lock_manager::{LockGuard, LockManager};
pub use locus_core::ScrubProgress;
pub use mirror::{Mirror, MirrorReport, MirroredVolume, OpenMirroredVolume};
pub use network::{NetworkVolume, OpenNetworkVolume};
pub use os_disk::OsDisk;
pub use provider::{Shortage, VolumeProvider, provider_fn};
pub use replace::{create_dirs, read_bounded, replace};
pub use synced::{sync_all, sync_data, sync_dir};
pub use volume_spec::{VolumeContext, VolumeSpec};
pub use watched::WatchedVolume;
