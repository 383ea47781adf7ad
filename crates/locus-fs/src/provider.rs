//! Where the next volume comes from when room runs short.

use std::{
    collections::BTreeSet,
    fmt::{self, Debug},
};

use async_trait::async_trait;
use locus_core::{Result, VolumeId};

use crate::VolumeSpec;

/// Why a volume is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes that may still be written to all healthy volumes together, but for those that are being drained.
    pub available: u64,
    /// Bytes that these volumes hold when they are empty.
    pub total: u64,
    /// Bytes that a write needs now; zero when none waits for them.
    pub required: u64,
    /// The volumes that are mounted.
    pub mounted: BTreeSet<VolumeId>,
}

/// Gives a pool its next volume when room runs short. One call at a time; the volume that it gave is mounted, or has failed,
/// before the next.
///
/// What it gave is not remembered for the next start: who provides volumes also sees to it that those with files are among
/// the volumes that a store is opened with.
#[async_trait]
pub trait VolumeProvider: Debug + Send + Sync {
    /// The next volume; `None` when there is none at present.
    ///
    /// # Errors
    /// Whatever keeps it from having one. It is told in the log, and asked again later.
    ///
    /// # Cancel safety
    /// The call runs to its end whatever becomes of the write that waits for it, unless the runtime ends.
    async fn next_volume(&self, shortage: Shortage) -> Result<Option<Box<dyn VolumeSpec>>>;
}

/// A provider from a function.
///
/// ```
/// # use locus_fs::{LocalVolume, VolumeSpec, provider_fn};
/// let provider = provider_fn(|shortage| async move {
///     let name = format!("vol-{:03}", shortage.mounted.len() + 1);
///     let spec: Box<dyn VolumeSpec> = Box::new(LocalVolume::new(&*name, format!("/mnt/{name}")));
///     Ok(Some(spec))
/// });
/// # drop(provider);
/// ```
pub fn provider_fn<F, Answer>(provide: F) -> impl VolumeProvider
where
    F: Fn(Shortage) -> Answer + Send + Sync,
    Answer: Future<Output = Result<Option<Box<dyn VolumeSpec>>>> + Send,
{
    ProviderFn(provide)
}

struct ProviderFn<F>(F);

impl<F> Debug for ProviderFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderFn").finish_non_exhaustive()
    }
}

#[async_trait]
impl<F, Answer> VolumeProvider for ProviderFn<F>
where
    F: Fn(Shortage) -> Answer + Send + Sync,
    Answer: Future<Output = Result<Option<Box<dyn VolumeSpec>>>> + Send,
{
    async fn next_volume(&self, shortage: Shortage) -> Result<Option<Box<dyn VolumeSpec>>> {
        (self.0)(shortage).await
    }
}
