//! Uploads: what is known of them outside, and what must be left of them after a crash.

use std::{collections::BTreeMap, io::ErrorKind, ops::Range, rc::Rc, sync::Arc};

use bytes::Bytes;
use locus_core::{
    Blob, Durability, Error, FileKey, MetadataStore, Staged, Staging, UploadId, UploadInfo, VolumeSet,
};
use rangemap::RangeSet;

use crate::{
    call::Call,
    model::Model,
    violation::{Kind, Violation, ensure},
    world::{Engine, World},
};

/// An upload under way.
#[derive(Debug, Clone)]
pub struct Upload {
    /// Whose.
    pub tenant: usize,
    /// What it is to become.
    pub content: Vec<u8>,
    /// What was confirmed.
    pub confirmed: RangeSet<u64>,
    /// What was sent, whether it was confirmed or not.
    pub sent: RangeSet<u64>,
}

impl Upload {
    /// One of which nothing was sent.
    #[must_use]
    pub fn new(tenant: usize, content: Vec<u8>) -> Self {
        Self { tenant, content, confirmed: RangeSet::new(), sent: RangeSet::new() }
    }

    /// Whether all of it was confirmed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let size = self.content.len() as u64;
        size == 0 || self.confirmed.gaps(&(0..size)).next().is_none()
    }

    /// The bytes of a range.
    #[must_use]
    pub fn bytes(&self, range: &Range<u64>) -> &[u8] {
        let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX);
        &self.content[at(range.start)..at(range.end)]
    }
}

/// All uploads under way of the tenants, as the engine tells them.
async fn told(engine: &Engine) -> Result<Vec<UploadInfo>, Error> {
    let mut told = Vec::new();
    for tenant in &engine.tenants {
        told.extend(engine.pool.uploads(tenant, None).await?);
    }
    Ok(told)
}

/// Holds what is left of uploads against what was promised, and makes it the model. What nobody was told of is aborted.
pub(crate) fn reconcile(
    world: &mut World,
    engine: &Rc<Engine>,
    model: &mut Model,
    under_way: &[Call],
    promised: bool,
) -> Result<(), Violation> {
    let at = engine.clone();
    let found = world.run(engine, async move { told(&at).await })?;
    let found = found.map_err(|why| Violation::new(Kind::Lost, format!("uploads are not told: {why:?}")))?;
    let mut found: BTreeMap<UploadId, UploadInfo> = found.into_iter().map(|info| (info.id, info)).collect();
    let ends = |id: &UploadId| {
        under_way
            .iter()
            .any(|call| matches!(call, Call::Finish { id: of } | Call::Abort { id: of } if of == id))
    };
    let known = std::mem::take(&mut model.uploads);
    for (id, mut upload) in known {
        for call in under_way {
            if let Call::Piece { id: of, range } = call
                && *of == id
            {
                upload.sent.insert(range.clone());
            }
        }
        let Some(info) = found.remove(&id) else {
            ensure(!promised || ends(&id), Kind::Lost, || format!("upload {id} is gone"))?;
            continue;
        };
        let left: RangeSet<u64> = info.confirmed.iter().cloned().collect();
        let covers = |all: &RangeSet<u64>, part: &RangeSet<u64>| {
            part.iter().all(|range| all.gaps(range).next().is_none())
        };
        ensure(!promised || covers(&left, &upload.confirmed), Kind::Lost, || {
            format!("of upload {id} {:?} was confirmed and {left:?} is left", upload.confirmed)
        })?;
        ensure(covers(&upload.sent, &left), Kind::Resurrected, || {
            format!("of upload {id} {left:?} is there and only {:?} was sent", upload.sent)
        })?;
        upload.confirmed = left;
        model.uploads.insert(id, upload);
    }
    // Of these nobody was told: they were begun by a call that did not return, or ended by one whose record did not last.
    let begun = under_way.iter().filter(|call| matches!(call, Call::Begin { .. })).count();
    ensure(!promised || found.len() <= begun, Kind::Resurrected, || {
        format!("{begun} uploads were being begun, and there are {:?}", found.keys())
    })?;
    let at = engine.clone();
    let ended = found.values().cloned().collect::<Vec<_>>();
    let there = world.run(engine, async move {
        for info in ended.into_iter().filter(|info| !info.confirmed.is_empty()) {
            drop(opened(&at, &info).await?);
        }
        Ok::<_, Error>(())
    })?;
    there.map_err(|why| Violation::new(Kind::Lost, format!("an upload that goes on after all: {why:?}")))?;
    let at = engine.clone();
    let aborted = world.run(engine, async move {
        for (id, info) in found {
            at.store.end_upload(&info.tenant, &id).await?;
        }
        Ok::<_, Error>(())
    })?;
    aborted.map_err(|why| Violation::new(Kind::Unexpected, format!("an upload cannot be aborted: {why:?}")))
}

/// The files that finishing uploads may have made, with their contents: nobody was told.
pub(crate) fn finishing(model: &Model, under_way: &[Call]) -> Vec<(FileKey, usize, Vec<u8>)> {
    let upload = |call: &Call| match call {
        Call::Finish { id } => {
            let upload = model.uploads.get(id)?;
            Some((id.key(), upload.tenant, upload.content.clone()))
        }
        _ => None,
    };
    under_way.iter().filter_map(upload).collect()
}

/// What is staged of an upload of which something is confirmed, or the blob that it is already: it has its name when the
/// record that says so was lost.
async fn opened(
    engine: &Engine,
    info: &UploadInfo,
) -> Result<(Option<Arc<dyn Staged>>, Option<Arc<dyn Blob>>), Error> {
    let unknown = || Error::UploadNotFound { upload: info.id };
    let volume = engine.registry.volume(&info.volume_id).ok_or_else(unknown)?;
    match volume.stage(&info.staged_at().ok_or_else(unknown)?, Staging::Resume).await {
        Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            Ok((None, Some(volume.open(&info.blob(), 0..0).await?.blob)))
        }
        staged => Ok((Some(staged?), None)),
    }
}

/// What of a sealed upload is what was sent: what is confirmed is compared when it is sent again.
async fn compared(
    engine: &Engine,
    info: &UploadInfo,
    upload: &Upload,
) -> Result<Vec<(UploadId, Range<u64>, Bytes)>, Error> {
    let again = engine.pool.resume_upload(&engine.tenants[upload.tenant], &info.id).await?;
    let mut read = Vec::new();
    for range in info.confirmed.clone() {
        let bytes = Bytes::copy_from_slice(upload.bytes(&range));
        let found = match again.write_at(range.start, bytes.clone()).await {
            Err(Error::InvalidArgument { .. }) => Bytes::new(),
            compared => compared.map(|()| bytes)?,
        };
        read.push((info.id, range, found));
    }
    Ok(read)
}

/// What is confirmed is there, byte for byte, and nothing is staged that no upload names.
pub(crate) fn check(world: &mut World, engine: &Rc<Engine>, model: &Model) -> Result<(), Violation> {
    let at = engine.clone();
    let sent: BTreeMap<UploadId, Upload> = model.uploads.clone();
    let read = world.run(engine, async move {
        let mut read = Vec::new();
        let mut named = Vec::new();
        for info in told(&at).await? {
            named.extend(info.staging);
            if info.confirmed.is_empty() {
                continue;
            }
            if at.seals.is_some() {
                if let Some(upload) = sent.get(&info.id) {
                    read.extend(compared(&at, &info, upload).await?);
                }
                continue;
            }
            let (staged, blob) = opened(&at, &info).await?;
            for range in info.confirmed.clone() {
                let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
                let bytes = match (&staged, &blob) {
                    (Some(staged), _) => staged.read_at(range.start, len).await?,
                    (None, Some(blob)) => blob.read_at(range.start, len).await?,
                    (None, None) => Bytes::new(),
                };
                read.push((info.id, range, bytes));
            }
        }
        let mut stray = Vec::new();
        for volume in at.registry.all() {
            let page = volume.staged(None, 1_000).await?;
            stray.extend(page.blobs.into_iter().map(|blob| blob.path.key).filter(|key| !named.contains(key)));
        }
        Ok::<_, Error>((read, stray))
    })?;
    let (read, stray) =
        read.map_err(|why| Violation::new(Kind::Lost, format!("an upload cannot be read: {why:?}")))?;
    for (id, range, bytes) in read {
        let upload = model.uploads.get(&id);
        let upload =
            upload.ok_or_else(|| Violation::new(Kind::Unexpected, format!("upload {id} is not known")))?;
        ensure(bytes == upload.bytes(&range), Kind::Corrupted, || {
            format!("{range:?} of upload {id} is not what was sent")
        })?;
    }
    ensure(stray.is_empty(), Kind::QuotaDrift, || format!("{stray:?} is staged, and no upload names it"))
}

/// Whether what was answered before a crash must all be there after it.
pub(crate) fn is_promised(world: &World, killed: bool, faulty: bool) -> bool {
    killed || !faulty && world.options.durability == Durability::Durable
}
