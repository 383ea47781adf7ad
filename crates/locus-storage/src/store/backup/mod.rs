//! A copy of an open store, taken beside running work.

mod blobs;
mod manifest;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Error, FileKey, Lsn, Outcome, Result, Site, TenantId, VolumeId};
use locus_fs::{Disk, DiskFile, off_thread, sync_data};
use serde::Serialize;
use tracing::info;

use super::{
    checkpoint::{checkpoint_path, journal_dir},
    embedded::EmbeddedStore,
    fresh_dir::FreshDir,
    identity::Identity,
    recovery::Reading,
};
use crate::journal::KeptSegment;

/// Bytes that are copied by one hop to another thread.
const HOP_BYTES: u64 = 8 << 20;
/// Bytes that are copied at a time.
const CHUNK_BYTES: u64 = 1 << 20;

/// What becomes of contents on volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[non_exhaustive]
pub enum BackupContents {
    /// They are copied, into a directory for each volume that can be mounted as that volume.
    #[default]
    Copy,
    /// They are listed in a file, `BLOBS`: volume, length, checksum and path of each. Whoever asks for this sees to the
    /// volumes, and [holds](crate::ContentHold) contents until that is done.
    ByName,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct BackupReport {
    /// The last LSN of the copy: whatever was confirmed before the backup was asked for lies at or before it.
    pub end: Lsn,
    /// Segments of the journal that were copied,
    pub segments: u64,
    /// and their bytes.
    pub journal_bytes: u64,
    /// Bytes of the checkpoint.
    pub checkpoint_bytes: u64,
    /// Contents on volumes that were copied or listed, by volume.
    pub blobs: BTreeMap<VolumeId, u64>,
    /// Bytes of them.
    pub blob_bytes: u64,
    /// Contents on volumes that are missing, damaged or unreadable: the copy has what could be read of them. All else is
    /// well.
    pub damaged: Vec<UncopiedContent>,
}

/// A content that a backup could not copy as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct UncopiedContent {
    /// Whose file.
    pub tenant: TenantId,
    /// Which file.
    pub key: FileKey,
    /// Where it rests.
    pub volume: VolumeId,
    /// What is wrong.
    pub why: String,
}

impl EmbeddedStore {
    /// Copies the store into a fresh directory, beside running work: the newest of its checkpoints (one is taken for
    /// this), the segments of the journal that replay and living contents need, its identity, and what `contents` says
    /// of the volumes. The caller adds what else belongs there, and [finishes](FreshDir::finish) the directory.
    ///
    /// The copy holds every file that was confirmed before, unless it ended before; files that end while it is taken are
    /// there or not. It is the same store to its volumes, and begins an epoch of its own when it is opened. Segments
    /// that are copied are not used again meanwhile, and contents on volumes are [held](crate::ContentHold).
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] when contents are to be copied and files rest on a volume that is not mounted;
    /// [`Error::Poisoned`]; [`Error::Corrupt`] when what was copied would not open, because the journal is damaged;
    /// [`Error::Io`]. The directory stays unfinished then.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the directory unfinished, and the store as it was.
    pub async fn backup(self: &Arc<Self>, into: &FreshDir, contents: BackupContents) -> Result<BackupReport> {
        if self.journal.is_poisoned() {
            return Err(Error::Poisoned { outcome: Outcome::NotDone });
        }
        // From here on no content goes whose file lives at the end of the copy.
        let _hold = self.hold_contents();
        let (begin, checkpoint_bytes, before) = self.copy_checkpoint(into).await?;
        // What was confirmed lazily is in the copy too.
        self.make_durable(self.journal.last_appended()).await?;
        let segments = self.needed(begin, before);
        let end = segments.last().map_or(Lsn::ZERO, |newest| newest.last);
        let mut report = BackupReport {
            end,
            segments: segments.len() as u64,
            journal_bytes: 0,
            checkpoint_bytes,
            blobs: BTreeMap::new(),
            blob_bytes: 0,
            damaged: Vec::new(),
        };
        let newest = segments.len() - 1;
        for (at, segment) in segments.into_iter().enumerate() {
            report.journal_bytes += segment.size;
            self.copy_segment(into, segment, at == newest).await?;
        }
        let identity = Identity { id: self.id, secret: self.secret, begun: true };
        let (disk, dir) = (Arc::clone(&self.config.disk), into.path().to_owned());
        off_thread(&*self.config.disk, move || {
            identity.write(&*disk, &dir)?;
            would_open(&*disk, &dir, identity, end)
        })
        .await?;
        match contents {
            BackupContents::Copy => self.copy_blobs(into, end, &mut report).await?,
            BackupContents::ByName => self.list_blobs(into, end, &mut report).await?,
        }
        info!(
            into = %into.path().display(), %end, segments = report.segments, journal_bytes = report.journal_bytes,
            blob_bytes = report.blob_bytes, damaged = report.damaged.len(), "backup taken"
        );
        Ok(report)
    }

    /// Takes a checkpoint and copies it. Says where it begins, its bytes, and what was in the log then: from then on
    /// nothing that the checkpoint or the log behind it speaks of leaves the log.
    async fn copy_checkpoint(&self, into: &FreshDir) -> Result<(Lsn, u64, Vec<KeptSegment>)> {
        // The next one would make room for itself.
        let one = self.checkpoints.one.lock().await;
        self.take_checkpoint(&one).await?;
        let kept = self.journal.pin_all();
        let (number, begin, bytes) =
            self.checkpoints.newest().expect("because one was taken, and nobody else takes any");
        let from = checkpoint_path(&journal_dir(&self.config.dir), number);
        let to = checkpoint_path(&into.journal(), number);
        let (disk, at) = (Arc::clone(&self.config.disk), from.clone());
        let opened = off_thread(&*self.config.disk, move || disk.open(&at, false)).await;
        let file = opened.map_err(Error::io("open", &from))?;
        self.copy(Source { file, path: from }, to, bytes, bytes).await?;
        Ok((begin, bytes, kept))
    }

    /// The segments that the copy needs, oldest first; the last one is that in which the log ends. `before` are those
    /// that were there when the checkpoint had been taken.
    fn needed(&self, begin: Lsn, before: Vec<KeptSegment>) -> Vec<KeptSegment> {
        let mut segments = self.journal.pin_all();
        let newest = segments.last().map_or(0, |segment| segment.number);
        let lived = |number| before.iter().any(|segment| segment.number == number && segment.live_then > 0);
        segments.retain(|segment| segment.last >= begin || segment.number == newest || lived(segment.number));
        segments
    }

    async fn copy_segment(&self, into: &FreshDir, segment: KeptSegment, is_newest: bool) -> Result<()> {
        let (file, path) = segment.pin.file();
        let from = Source { file: Arc::clone(file), path: path.to_owned() };
        let name = path.file_name().expect("because a segment is a file");
        let (to, size, id) = (into.journal().join(name), segment.size, self.id);
        // What is written now is no part of the copy: the log ends where it ended when all was pinned.
        let (segment, upto) = off_thread(&*self.config.disk, move || {
            let upto = if is_newest { segment.written(&id)? } else { size };
            Ok::<_, Error>((segment, upto))
        })
        .await?;
        self.copy(from, to, upto, size).await?;
        drop(segment); // it may be used again
        Ok(())
    }

    /// Copies the first `bytes` of a file, fills it up with zeros to `size`, and syncs it.
    async fn copy(&self, from: Source, to: PathBuf, bytes: u64, size: u64) -> Result<()> {
        let (disk, at) = (Arc::clone(&self.config.disk), to.clone());
        let made = off_thread(&*self.config.disk, move || disk.create_new(&at)).await;
        let target = made.map_err(Error::io("create", &to))?;
        let mut offset = 0;
        while offset < size {
            let until = size.min(offset + HOP_BYTES);
            let (from, target, to) = (from.clone(), Arc::clone(&target), to.clone());
            off_thread(&*self.config.disk, move || from.copy(offset..until, bytes, &*target, &to)).await?;
            offset = until;
        }
        off_thread(&*self.config.disk, move || sync_data(&*target, Site::CopiedContent))
            .await
            .map_err(Error::io("sync", &to))
    }
}

/// A file that is copied.
#[derive(Clone)]
struct Source {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
}

impl Source {
    /// Copies a range; what lies behind `bytes` is zero. Blocks.
    fn copy(&self, range: std::ops::Range<u64>, bytes: u64, target: &dyn DiskFile, to: &Path) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let mut chunk = vec![0; CHUNK_BYTES.min(range.end - at) as usize];
            let wanted = chunk.len().min(bytes.saturating_sub(at) as usize);
            let read = self.file.read_at(&mut chunk[..wanted], at).map_err(Error::io("read", &self.path))?;
            if read < wanted {
                let ended = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                return Err(Error::io("read", &self.path)(ended));
            }
            target.write_at(&chunk, at).map_err(Error::io("write", to))?;
            at += chunk.len() as u64;
        }
        Ok(())
    }
}

/// Whether the copy would open, with a log that ends where it should. Damage in the journal would have been copied.
fn would_open(disk: &dyn Disk, dir: &Path, identity: Identity, end: Lsn) -> Result<()> {
    let reading = Reading::read(disk, dir, identity, false)?;
    if reading.survey.end != end || reading.loaded.is_none() {
        return Err(Error::Corrupt {
            place: journal_dir(dir).display().to_string(),
            why: format!("the copy ends at record {} instead of {end}", reading.survey.end).into(),
        });
    }
    Ok(())
}
