//! Contents on volumes: copied into volumes of the copy, or listed.

use std::{
    collections::{BTreeMap, btree_map::Entry as Slot},
    future::Future,
    io,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use locus_core::{
    Blob, BlobPath, Checksum, Content, Durability, Error, Lsn, Result, StorageVolume, TenantId, VolumeId,
};
use locus_fs::{LocalVolume, VolumeContext, VolumeSpec};
use tokio::io::{AsyncRead, ReadBuf};

use super::{BackupReport, UncopiedContent, manifest::Manifest};
use crate::store::{
    embedded::{Cell, EmbeddedStore},
    fresh_dir::FreshDir,
};

/// Most entries that are looked at under a tenant's lock at once.
const SLICE: u32 = 4_096;
/// A content up to this length is read whole before it is written.
const WHOLE_MAX: u64 = 1 << 20;
/// Where the volumes of a copy lie in its directory.
const VOLUMES: &str = "volumes";

/// A content that belongs to the copy.
pub(super) struct Needed {
    pub(super) volume: VolumeId,
    pub(super) blob: BlobPath,
    pub(super) size: u64,
    pub(super) checksum: Checksum,
}

impl EmbeddedStore {
    /// Copies every content on a volume that lives at `end`. What could not be copied as it was is told in `report`.
    pub(super) async fn copy_blobs(
        &self,
        into: &FreshDir,
        end: Lsn,
        report: &mut BackupReport,
    ) -> Result<()> {
        let mut volumes: BTreeMap<VolumeId, Arc<dyn StorageVolume>> = BTreeMap::new();
        let cells = self.cells.read().all.clone();
        for cell in cells {
            let tenant = cell.state.lock().id.clone();
            let mut at = Some(0);
            while let Some(from) = at {
                let (page, next) = self.needed_blobs(&cell, from, end);
                for needed in page {
                    let target = match volumes.entry(needed.volume.clone()) {
                        Slot::Occupied(open) => Arc::clone(open.get()),
                        Slot::Vacant(slot) => {
                            let target = self.volume_of_copy(into, &needed.volume).await?;
                            Arc::clone(slot.insert(target))
                        }
                    };
                    self.copy_blob(&tenant, needed, &*target, report).await?;
                }
                at = next;
            }
        }
        for volume in volumes.values() {
            volume.sync().await?;
            volume.close().await?;
        }
        Ok(())
    }

    /// Lists every content on a volume that lives at `end`.
    pub(super) async fn list_blobs(
        &self,
        into: &FreshDir,
        end: Lsn,
        report: &mut BackupReport,
    ) -> Result<()> {
        let mut manifest = Manifest::create(Arc::clone(&self.config.disk), into, &self.id).await?;
        let cells = self.cells.read().all.clone();
        for cell in cells {
            let mut at = Some(0);
            while let Some(from) = at {
                let (page, next) = self.needed_blobs(&cell, from, end);
                for needed in page {
                    let volume = self.config.volumes.volume(&needed.volume);
                    let below = |volume: &dyn StorageVolume| {
                        let path = volume.local_path(&needed.blob)?;
                        Some(path.strip_prefix(volume.mount_path()?).ok()?.to_owned())
                    };
                    let path = volume.as_deref().and_then(below);
                    let path = path.unwrap_or_else(|| PathBuf::from(needed.blob.to_string()));
                    manifest.push(&needed, &path).await?;
                    report.count(needed);
                }
                at = next;
            }
        }
        manifest.end().await
    }

    /// Contents on volumes of files that were accepted, and not over, at `end`; and the index to go on at. Whoever ended
    /// since is here still, because contents are held.
    fn needed_blobs(&self, cell: &Cell, from: u32, end: Lsn) -> (Vec<Needed>, Option<u32>) {
        let state = cell.state.lock();
        let last = state.entries_end();
        let to = last.min(from.saturating_add(SLICE));
        let entries = (from..to).filter_map(|at| state.entry_at(at));
        let lived =
            entries.filter(|entry| entry.order.lsn() <= end && (state.stays(entry) || entry.last > end));
        let needed = lived.filter_map(|entry| {
            // The records of the copy say where it rested then. It rests there still, because contents are held.
            let (volume, blob, size, checksum) = state.place_at(entry, end)?;
            Some(Needed { volume: self.places.id(volume), blob, size, checksum })
        });
        (needed.collect(), (to < last).then_some(to))
    }

    async fn volume_of_copy(&self, into: &FreshDir, id: &VolumeId) -> Result<Arc<dyn StorageVolume>> {
        let path = into.path().join(VOLUMES).join(id.as_str());
        let context = VolumeContext {
            store: self.id,
            disk: Arc::clone(&self.config.disk),
            clock: Arc::clone(&self.config.clock),
            entropy: Arc::clone(&self.config.entropy),
        };
        Box::new(LocalVolume::new(id.as_str(), path)).open(context).await
    }

    async fn copy_blob(
        &self,
        tenant: &TenantId,
        needed: Needed,
        target: &dyn StorageVolume,
        report: &mut BackupReport,
    ) -> Result<()> {
        let Some(source) = self.config.volumes.volume(&needed.volume) else {
            return Err(Error::VolumeUnavailable {
                volume: Some(needed.volume),
                why: "is not mounted, and files rest on it: mount it, or back up by name".into(),
            });
        };
        let (volume, key) = (needed.volume.clone(), needed.blob.key);
        let damaged = |why: String| UncopiedContent { tenant: tenant.clone(), key, volume, why };
        let opened = source.open(&needed.blob, 0..needed.size.min(WHOLE_MAX)).await;
        let mut content = match opened {
            Err(why @ Error::VolumeUnavailable { .. }) => return Err(why),
            Err(why) => {
                report.damaged.push(damaged(why.to_string()));
                return Ok(());
            }
            Ok(reader) if reader.head_offset == 0 && reader.head.len() as u64 == reader.length => {
                Content::from(reader.head)
            }
            Ok(reader) => {
                Content::reader(BlobSource { blob: reader.blob, at: 0, chunk: Bytes::new(), next: None })
            }
        };
        match target.write(&needed.blob, &mut content, Durability::Buffered).await {
            Ok(stored) if stored.checksum == needed.checksum => {}
            Ok(stored) => report.damaged.push(damaged(format!(
                "it has checksum {} where {} was recorded",
                stored.checksum, needed.checksum
            ))),
            Err(Error::Source { source }) => {
                report.damaged.push(damaged(format!("it cannot be read: {source}")));
                return Ok(());
            }
            Err(why) => return Err(why),
        }
        report.count(needed);
        Ok(())
    }
}

impl BackupReport {
    fn count(&mut self, blob: Needed) {
        *self.blobs.entry(blob.volume).or_default() += 1;
        self.blob_bytes += blob.size;
    }
}

type Fetch = Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>;

/// A blob read from its beginning to its end.
struct BlobSource {
    blob: Arc<dyn Blob>,
    at: u64,
    chunk: Bytes,
    next: Option<Fetch>,
}

impl AsyncRead for BlobSource {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.chunk.is_empty() {
            let (blob, at) = (Arc::clone(&this.blob), this.at);
            let fetch = this
                .next
                .get_or_insert_with(|| Box::pin(async move { blob.read_at(at, WHOLE_MAX as usize).await }));
            let fetched = ready!(fetch.as_mut().poll(context));
            this.next = None;
            this.chunk = fetched.map_err(io::Error::other)?;
            this.at += this.chunk.len() as u64;
        }
        let taken = this.chunk.split_to(this.chunk.len().min(buf.remaining()));
        buf.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}
