//! Locus itself, through its public facade.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use locus::{StoreStatistics, prelude::*};
use tokio::task::JoinSet;

use crate::{BoxError, Load, Promise, Stopwatch};

/// An open store with one volume and one tenant.
#[derive(Debug)]
pub struct Queue {
    locus: Locus,
    acme: TenantContext,
    /// Files that were leased, and those of them whose content was on a volume.
    leased: Arc<AtomicU64>,
    on_volume: Arc<AtomicU64>,
}

impl Queue {
    /// Opens a store in `dir`, with the defaults but for what is promised and, if that is said, the longest content that
    /// rests in the journal.
    ///
    /// # Errors
    /// What Locus says.
    pub async fn open(dir: &Path, promise: Promise, inline_max: Option<u64>) -> Result<Self, BoxError> {
        let (durability, complete) = match promise {
            Promise::Durable => (Durability::Durable, Durability::Durable),
            Promise::LazyCompletions => (Durability::Durable, Durability::Buffered),
            Promise::Buffered => (Durability::Buffered, Durability::Buffered),
        };
        let mut builder = Locus::builder();
        if let Some(bytes) = inline_max {
            builder = builder.inline_content_max(bytes);
        }
        let locus = builder
            .data_dir(dir.join("data"))
            .add_volume(LocalVolume::new("vol-001", dir.join("vol-001")))
            .add_tenant("acme")
            .durability(durability)
            .complete_durability(complete)
            .build()
            .await?;
        let acme = locus.tenants().get("acme").await?;
        Ok(Self { locus, acme, leased: Arc::default(), on_volume: Arc::default() })
    }

    /// How many of a hundred contents that workers got since the last call rested in the journal; `None` without any.
    pub fn percent_in_journal(&self) -> Option<f64> {
        let leased = self.leased.swap(0, Ordering::Relaxed);
        let on_volume = self.on_volume.swap(0, Ordering::Relaxed);
        (leased > 0).then(|| 100.0 * (leased - on_volume) as f64 / leased as f64)
    }

    /// What the store says about itself.
    #[must_use]
    pub fn statistics(&self) -> StoreStatistics {
        self.locus.statistics()
    }

    /// Writes, leases, reads and completes so many files, until their bytes are gone. Says how long that took.
    ///
    /// # Errors
    /// What Locus says; a content that comes back with another length.
    pub async fn round(&self, load: Load, content: &Bytes) -> Result<Duration, BoxError> {
        let turns = Arc::new(load.turns());
        let watch = Stopwatch::start();
        let mut workers = JoinSet::new();
        for _ in 0..load.in_flight {
            let (locus, acme) = (self.locus.clone(), self.acme.clone());
            let (turns, content) = (Arc::clone(&turns), content.clone());
            let (leased, on_volume) = (Arc::clone(&self.leased), Arc::clone(&self.on_volume));
            workers.spawn(async move {
                let (mut files, mut with_path) = (0, 0);
                while turns.take() {
                    files += 1;
                    with_path += u64::from(cycle(&locus, &acme, &content).await?);
                }
                leased.fetch_add(files, Ordering::Relaxed);
                on_volume.fetch_add(with_path, Ordering::Relaxed);
                Ok::<_, BoxError>(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker??;
        }
        self.locus.cleanup().settled().await?;
        Ok(watch.elapsed())
    }

    /// Closes the store.
    ///
    /// # Errors
    /// What Locus says.
    pub async fn close(self) -> Result<(), BoxError> {
        Ok(self.locus.shutdown().await?)
    }
}

/// Each worker has written a file before it leases one, so there is always one to be leased. Says whether that one was on a
/// volume.
async fn cycle(locus: &Locus, acme: &TenantContext, content: &Bytes) -> Result<bool, BoxError> {
    locus.pool().write(acme, content.clone(), WriteOptions::new()).await?;
    let file = locus.scheduler().next(acme).await?.ok_or("no file was ready")?;
    let bytes = locus.pool().read(acme, &file.key).await?.bytes().await?;
    if bytes.len() != content.len() {
        return Err(format!("{} bytes came back of {}", bytes.len(), content.len()).into());
    }
    locus.scheduler().complete(&file.lease).await?;
    Ok(file.location().volume_id.is_some())
}
