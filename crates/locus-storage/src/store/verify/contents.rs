//! Contents: where they should be, as long as they should be, and what their checksums say.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use locus_core::{Error, Hasher, Result, TenantId, VolumeId, join_bounded};

use super::{Finding, VerifyLevel, Verifying};
use crate::store::{
    embedded::{Cell, EmbeddedStore},
    entry::Rest,
    tenant::RestingFile,
};

/// Contents that are looked at side by side.
const SIDE_BY_SIDE: usize = 8;
/// Bytes of a content that are in memory at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What became of a look at a content.
#[derive(Default)]
struct Looked {
    finding: Option<Finding>,
    /// It is there by name.
    found: bool,
    /// It was read whole, so many bytes.
    read: Option<u64>,
    unchecked: bool,
}

impl Verifying<'_> {
    /// Looks at the contents of these files of a tenant.
    pub(super) async fn look_after(
        &mut self,
        cell: &Arc<Cell>,
        tenant: &TenantId,
        mut files: Vec<RestingFile>,
        level: VerifyLevel,
        reached: &mut BTreeMap<u64, u64>,
    ) -> Result<()> {
        let whole = level >= VerifyLevel::Contents;
        for file in &files {
            if let Rest::Journal(place) = file.rest
                && file.size > 0
            {
                let end = reached.entry(place.segment()).or_default();
                *end = (*end).max(place.offset() + file.size);
            }
        }
        // What lies side by side is read one after the other.
        files.sort_by_key(|file| match file.rest {
            Rest::Journal(place) => (0, place.segment(), place.offset()),
            Rest::Volume(volume) => (1, u64::from(volume), 0),
        });
        let mut files = files.into_iter().peekable();
        while files.peek().is_some() {
            self.check()?;
            let store = self.store;
            let looks = files.by_ref().take(SIDE_BY_SIDE).map(|file| async move {
                match file.rest {
                    Rest::Journal(_) if !whole => Looked::default(),
                    Rest::Journal(_) => store.look_into_journal(cell, tenant, &file).await,
                    Rest::Volume(volume) => {
                        let id = store.places.id(volume);
                        store.look_at_blob(cell, tenant, &file, id, whole).await
                    }
                }
            });
            for looked in join_bounded(looks.collect(), SIDE_BY_SIDE).await {
                self.report.blobs += u64::from(looked.found);
                self.report.unchecked += u64::from(looked.unchecked);
                if let Some(bytes) = looked.read {
                    self.report.contents += 1;
                    self.tell_more(0, bytes);
                }
                if let Some(finding) = looked.finding {
                    self.report.find(finding);
                }
            }
        }
        Ok(())
    }
}

impl EmbeddedStore {
    async fn look_into_journal(&self, cell: &Cell, tenant: &TenantId, file: &RestingFile) -> Looked {
        let (Rest::Journal(place), key) = (file.rest, file.blob.key) else { return Looked::default() };
        // Place and pin are taken together: from here on the segment is not reused.
        let (pin, last) = {
            let state = cell.state.lock();
            let Some(entry) = state.get(&key).filter(|_| state.holds_still(file)) else {
                return Looked::default();
            };
            (self.journal.pin(place), entry.last)
        };
        if file.size == 0 {
            return Looked { read: Some(0), ..Looked::default() };
        }
        let Some(pin) = pin else { return Looked::default() }; // told as a place that is missing
        if last > self.journal.written() && self.journal.confirm_written(last).await.is_err() {
            return Looked::default(); // poisoned
        }
        let path = pin.file().1.to_owned();
        let finding = match self.read_at(&pin, place, file.size).await {
            Ok(bytes) => {
                let found = locus_core::Checksum::of(&bytes);
                (found != file.checksum).then(|| Finding::ContentDamaged {
                    tenant: tenant.clone(),
                    key,
                    volume: None,
                    path,
                    offset: place.offset(),
                    recorded: file.checksum,
                    found,
                })
            }
            Err(why) => Some(unreadable(tenant, file, None, path, &why)),
        };
        let finding = finding.filter(|_| cell.state.lock().holds_still(file));
        Looked { finding, read: Some(file.size), ..Looked::default() }
    }

    async fn look_at_blob(
        &self,
        cell: &Cell,
        tenant: &TenantId,
        file: &RestingFile,
        id: VolumeId,
        whole: bool,
    ) -> Looked {
        let Some(volume) = self.config.volumes.volume(&id) else {
            return Looked { unchecked: true, ..Looked::default() };
        };
        let path = volume.local_path(&file.blob).unwrap_or_else(|| PathBuf::from(file.blob.to_string()));
        let (tenant, key) = (tenant.clone(), file.blob.key);
        let mut looked = Looked::default();
        let seen = async {
            let first = if whole { file.size.min(CHUNK_BYTES as u64) } else { 0 };
            let reader = volume.open(&file.blob, 0..first).await?;
            if reader.length != file.size || !whole {
                return Ok((reader.length, None));
            }
            let mut hasher = Hasher::new();
            let mut at = 0;
            if reader.head_offset == 0 {
                hasher.update(&reader.head);
                at = reader.head.len() as u64;
            }
            while at < file.size {
                let bytes = reader.blob.read_at(at, CHUNK_BYTES).await?;
                if bytes.is_empty() {
                    break; // it became shorter: the checksum tells
                }
                hasher.update(&bytes);
                at += bytes.len() as u64;
            }
            Ok((reader.length, Some(hasher.finish())))
        };
        let finding = match seen.await {
            Ok((found, _)) if found != file.size => {
                looked.found = true;
                Some(Finding::BlobLength { tenant, key, volume: id, path, recorded: file.size, found })
            }
            Ok((_, checksum)) => {
                looked.found = true;
                looked.read = checksum.map(|_| file.size);
                checksum.filter(|found| *found != file.checksum).map(|found| {
                    let (volume, recorded) = (Some(id), file.checksum);
                    Finding::ContentDamaged { tenant, key, volume, path, offset: 0, recorded, found }
                })
            }
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Some(Finding::BlobMissing { tenant, key, volume: id, path })
            }
            Err(Error::VolumeUnavailable { .. }) => {
                looked.unchecked = true;
                None
            }
            Err(why) => Some(unreadable(&tenant, file, Some(id), path, &why)),
        };
        // What ended or was moved meanwhile is no finding.
        looked.finding = finding.filter(|_| cell.state.lock().holds_still(file));
        looked
    }
}

fn unreadable(
    tenant: &TenantId,
    file: &RestingFile,
    volume: Option<VolumeId>,
    path: PathBuf,
    why: &Error,
) -> Finding {
    Finding::ContentUnreadable {
        tenant: tenant.clone(),
        key: file.blob.key,
        volume,
        path,
        why: super::records::said(why),
    }
}
