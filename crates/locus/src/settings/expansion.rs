//! Volumes that are mounted when room runs short.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use locus_core::Result;
use locus_fs::{Shortage, VolumeProvider, VolumeSpec};
use locus_storage::ExpandBelow;
use serde::{Deserialize, Serialize};

use crate::settings::{model::invalid, unit, volume::VolumeSettings};

/// When the pool grows by itself, and by which volumes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ExpansionSettings {
    /// Below so many percent of free space of all volumes together the next one is mounted. Default 10; 0 is never.
    pub free_percent_min: u8,
    /// Below so many free bytes of all volumes together the next one is mounted; `None`, the default, is never.
    #[serde(with = "unit::option")]
    pub free_size_min: Option<u64>,
    /// Spare volumes, in the order in which they are mounted.
    pub volumes: Vec<VolumeSettings>,
}

impl Default for ExpansionSettings {
    fn default() -> Self {
        Self { free_percent_min: 10, free_size_min: None, volumes: Vec::new() }
    }
}

impl ExpansionSettings {
    pub(crate) fn check(&self) -> Result<()> {
        match self.free_percent_min {
            0..=99 => self.volumes.iter().try_for_each(VolumeSettings::check_alone),
            more => invalid("expansion.free_percent_min", format!("is {more}: use 0 to 99")),
        }
    }

    pub(crate) fn below(&self) -> ExpandBelow {
        ExpandBelow { bytes: self.free_size_min.unwrap_or(0), percent: self.free_percent_min }
    }
}

/// Gives spare volumes in their order, each that is not mounted; after the last it begins again, so that one that failed has
/// another chance.
#[derive(Debug)]
pub(crate) struct Spares {
    volumes: Vec<VolumeSettings>,
    next: AtomicUsize,
}

impl Spares {
    pub(crate) const fn new(volumes: Vec<VolumeSettings>) -> Self {
        Self { volumes, next: AtomicUsize::new(0) }
    }
}

#[async_trait]
impl VolumeProvider for Spares {
    async fn next_volume(&self, shortage: Shortage) -> Result<Option<Box<dyn VolumeSpec>>> {
        let begin = self.next.load(Ordering::Relaxed);
        let order = (0..self.volumes.len()).map(|step| (begin + step) % self.volumes.len());
        let free =
            order.map(|at| (at, &self.volumes[at])).find(|(_, one)| !shortage.mounted.contains(&one.id));
        let Some((at, volume)) = free else { return Ok(None) };
        self.next.store(at + 1, Ordering::Relaxed);
        Ok(Some(volume.spec()))
    }
}
