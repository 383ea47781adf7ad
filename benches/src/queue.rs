//! Locus itself, through its public facade.

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use locus::prelude::*;
use tokio::task::JoinSet;

use crate::{BoxError, Load, Promise, Stopwatch};

/// An open store with one volume and one tenant.
#[derive(Debug)]
pub struct Queue {
    locus: Locus,
    acme: TenantContext,
}

impl Queue {
    /// Opens a store in `dir`, with the defaults but for what is promised.
    ///
    /// # Errors
    /// What Locus says.
    pub async fn open(dir: &Path, promise: Promise) -> Result<Self, BoxError> {
        let (durability, complete) = match promise {
            Promise::Durable => (Durability::Durable, Durability::Durable),
            Promise::LazyCompletions => (Durability::Durable, Durability::Buffered),
            Promise::Buffered => (Durability::Buffered, Durability::Buffered),
        };
        let locus = Locus::builder()
            .data_dir(dir.join("data"))
            .add_volume(LocalVolume::new("vol-001", dir.join("vol-001")))
            .add_tenant("acme")
            .durability(durability)
            .complete_durability(complete)
            .build()
            .await?;
        let acme = locus.tenants().get("acme").await?;
        Ok(Self { locus, acme })
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
            workers.spawn(async move {
                while turns.take() {
                    cycle(&locus, &acme, &content).await?;
                }
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

/// Each worker has written a file before it leases one, so there is always one to be leased.
async fn cycle(locus: &Locus, acme: &TenantContext, content: &Bytes) -> Result<(), BoxError> {
    locus.pool().write(acme, content.clone(), WriteOptions::new()).await?;
    let file = locus.scheduler().next(acme).await?.ok_or("no file was ready")?;
    let bytes = locus.pool().read(acme, &file.key).await?.bytes().await?;
    if bytes.len() != content.len() {
        return Err(format!("{} bytes came back of {}", bytes.len(), content.len()).into());
    }
    Ok(locus.scheduler().complete(&file.lease).await?)
}
