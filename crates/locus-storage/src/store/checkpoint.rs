//! Checkpoints: the state at an LSN, so that replay is short. Taken slice by slice beside running work; published only
//! when the log is durable up to their end. Two are kept.

use std::{
    collections::BTreeSet,
    ops::Range,
    panic::resume_unwind,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc},
    thread,
};

use locus_core::{
    Area, BlobPath, Checksum, Epoch, Error, Extension, FileKey, FileStatus, Limit, LogicalDir, Lsn, Owner,
    Properties, Remember, Result, Scope, Seal, Site, StoragePath, StoreId, StoreTime, TenantId, Timestamp,
    Token, VolumeId, VolumeStanding,
};
use locus_fs::{Disk, DiskFile, EntryKind, sync_data, sync_dir};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::{
    embedded::{Cell, EmbeddedStore},
    entry::{Cold, Delivery, Ended, Entry, Order, Rest},
    frames::{
        FORMAT, FRAME_HEAD_BYTES, FrameHead, HEAD_BYTES, HeadFault, Part, State, check_head, encode_head,
    },
    limits::Limits,
    places::Places,
    standings::Standings,
    tenant::{LeftBehind, Remembered, TenantState, Upload},
};
use crate::{
    journal::LogPlace,
    sync::{AtomicU64, Mutex},
    time::Stamp,
};

/// Most entries that are taken under a tenant's lock at once.
const SLICE: u32 = 4_096;
/// Most uploads in one frame: each may have thousands of ranges.
const UPLOADS_SLICE: usize = 64;
/// Written at a time.
const CHUNK_BYTES: usize = 1 << 20;
/// Most bytes of a remembered write,
const SAVED_WRITE_BYTES: u64 = 72;
/// of the frames of a tenant,
const SAVED_TENANT_BYTES: u64 = 192;
/// of a copy that nobody names,
const SAVED_COPY_BYTES: u64 = 320;
/// of a limit,
const SAVED_LIMIT_BYTES: u64 = 1_200;
/// and of what was decided about a volume.
const SAVED_STANDING_BYTES: u64 = 96;
/// So many full-sized segments may wait for a checkpoint,
const SEGMENTS_WAITING: u64 = 4;
/// or so many times the bytes of the last one, if that is less.
const WAITING_TIMES: u64 = 4;
/// The file that the next checkpoint is written into. It and the others of the three (two checkpoints are kept) are there
/// before they are needed, and as long as a checkpoint may become, so that a full disk does not keep one from being taken.
const SPARE: &str = "checkpoint.new";
/// Others, as long as fewer than two checkpoints are kept.
const MORE_SPARES: [&str; 2] = ["checkpoint.new1", "checkpoint.new2"];
/// Checkpoints that are kept.
pub(crate) const KEPT: usize = 2;
/// Frames that are decoded before what they hold is put where it goes: each holds at most [`SLICE`] entries.
const FRAMES_AHEAD: usize = 2;
/// Smallest spare file.
const SPARE_BYTES_MIN: u64 = 256 << 10;

/// A part of a checkpoint, each with its own checksum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Frame {
    Head { store: StoreId, begin: Lsn, epoch: Epoch, wall: Timestamp, time: StoreTime },
    Files { tenant: TenantId, entries: Vec<SavedEntry> },
    Remembered { tenant: TenantId, writes: Vec<SavedWrite> },
    Limits { limits: Vec<(Scope, Limit, Lsn)> },
    End { end: Lsn, durable: Lsn, entries: u64 },
    Uploads { tenant: TenantId, uploads: Vec<SavedUpload> },
    Standings { volumes: Vec<(VolumeId, VolumeStanding, Lsn)> },
    Purged { tenant: TenantId, keys: Vec<FileKey> },
    Copies { tenant: TenantId, copies: Vec<SavedCopy> },
    Seals { tenant: TenantId, seals: Vec<(FileKey, Seal)> },
}

impl Frame {
    /// How many files it holds.
    fn entries(&self) -> u64 {
        match self {
            Self::Files { entries, .. } => entries.len() as u64,
            _ => 0,
        }
    }
}

/// An [`Entry`] as a checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedEntry {
    key: FileKey,
    order: u64,
    last: Lsn,
    size: u64,
    checksum: Checksum,
    created_at: Timestamp,
    modified_at: Timestamp,
    moment: StoreTime,
    directory: LogicalDir,
    retry_count: u32,
    attempts: u32,
    place: SavedPlace,
    status: FileStatus,
    interrupted: u8,
    original_name: Option<String>,
    properties: Properties,
    owner: Option<StoragePath>,
    idempotency: Option<u128>,
    delivery: Option<SavedDelivery>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum SavedPlace {
    Volume(VolumeId),
    Journal(LogPlace),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedDelivery {
    token: Option<Token>,
    ended: Ended,
    owner: Owner,
    deadline: StoreTime,
    ttl_micros: u64,
    by: Option<String>,
    started_at: Timestamp,
    heartbeat_at: Timestamp,
    failed_at: Option<Timestamp>,
    error: Option<String>,
}

/// A remembered write as a checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedWrite {
    hash: u128,
    key: FileKey,
    remember: Remember,
    gone_at: Option<StoreTime>,
    last: Lsn,
}

/// An upload as a checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedUpload {
    key: FileKey,
    last: Lsn,
    owner: Option<StoragePath>,
    directory: LogicalDir,
    original_name: Option<String>,
    properties: Properties,
    size: u64,
    expected: Option<Checksum>,
    volume: VolumeId,
    begun_at: Timestamp,
    touched: StoreTime,
    staging: Option<FileKey>,
    confirmed: Vec<Range<u64>>,
}

/// A copy of a content that nobody names, as a checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedCopy {
    key: FileKey,
    lsn: Lsn,
    volume: VolumeId,
    area: Area,
    owner: StoragePath,
    extension: String,
    size: u64,
    rested: bool,
}

impl SavedCopy {
    fn of(left: &LeftBehind, places: &Places) -> Self {
        let LeftBehind { volume, lsn, blob, size, rested, .. } = left;
        let BlobPath { area, owner, key, extension } = blob.clone();
        Self {
            key,
            lsn: *lsn,
            volume: places.id(*volume),
            area,
            owner,
            extension: extension.to_string(),
            size: *size,
            rested: *rested,
        }
    }

    fn restore(self, state: &mut TenantState, places: &Places) {
        let Self { key, lsn, volume, area, owner, extension, size, rested } = self;
        let volume = places.number(&volume);
        let extension = Extension::parse(&extension).unwrap_or_default();
        let blob = BlobPath { area, owner, key, extension };
        state.restore_copy(key, LeftBehind::new(volume, lsn, blob, size, rested));
    }
}

impl SavedUpload {
    fn of(upload: &Upload, places: &Places) -> Self {
        Self {
            key: upload.key,
            last: upload.last,
            owner: upload.owner.clone(),
            directory: upload.directory.clone(),
            original_name: upload.original_name.as_deref().map(Into::into),
            properties: upload.properties.clone(),
            size: upload.size,
            expected: upload.expected,
            volume: places.id(upload.volume),
            begun_at: upload.begun_at,
            touched: upload.touched,
            staging: upload.staging,
            confirmed: upload.confirmed.iter().cloned().collect(),
        }
    }

    fn restore(self, state: &mut TenantState, places: &Places) {
        let within = self.confirmed.into_iter().map(|range| range.start..range.end.min(self.size));
        state.restore_upload(Upload {
            key: self.key,
            last: self.last,
            owner: self.owner,
            directory: self.directory,
            original_name: self.original_name.map(Into::into),
            properties: self.properties,
            size: self.size,
            expected: self.expected,
            volume: places.number(&self.volume),
            begun_at: self.begun_at,
            touched: self.touched,
            staging: self.staging,
            confirmed: within.filter(|range| !range.is_empty()).collect(),
            seal: None, // a frame behind this one says it
        });
    }
}

impl Frame {
    fn encode(&self, buffer: &mut Vec<u8>) {
        let payload = postcard::to_stdvec(self).expect("because every field can be said in postcard");
        buffer.extend(FrameHead::of(&payload).encode());
        buffer.extend_from_slice(&payload);
    }

    /// What is empty leaves no trace.
    fn is_worth_writing(&self) -> bool {
        match self {
            Self::Files { entries, .. } => !entries.is_empty(),
            Self::Purged { keys, .. } => !keys.is_empty(),
            Self::Seals { seals, .. } => !seals.is_empty(),
            _ => true,
        }
    }
}

impl SavedEntry {
    fn of(entry: &Entry, directory: LogicalDir, places: &Places) -> Self {
        let cold = entry.cold.as_deref().cloned().unwrap_or_default();
        Self {
            key: entry.key,
            order: entry.order.raw(),
            last: entry.last,
            size: entry.size,
            checksum: entry.checksum,
            created_at: entry.created_at,
            modified_at: entry.modified_at,
            moment: entry.moment,
            directory,
            retry_count: entry.retry_count,
            attempts: entry.attempts,
            place: match entry.rest {
                Rest::Volume(volume) => SavedPlace::Volume(places.id(volume)),
                Rest::Journal(place) => SavedPlace::Journal(place),
            },
            status: entry.status,
            interrupted: entry.interrupted,
            original_name: entry.original_name.as_deref().map(Into::into),
            properties: cold.properties,
            owner: cold.owner,
            idempotency: cold.idempotency,
            delivery: entry.delivery.as_deref().map(|delivery| SavedDelivery {
                token: delivery.token,
                ended: delivery.ended,
                owner: delivery.owner,
                deadline: delivery.deadline,
                ttl_micros: delivery.ttl_micros,
                by: delivery.by.as_deref().map(Into::into),
                started_at: delivery.started_at,
                heartbeat_at: delivery.heartbeat_at,
                failed_at: delivery.failed_at,
                error: delivery.error.as_deref().map(Into::into),
            }),
        }
    }

    fn restore(self, state: &mut TenantState, places: &Places) {
        let cold = Cold {
            properties: self.properties,
            owner: self.owner,
            idempotency: self.idempotency,
            seal: None, // a frame behind this one says it
        };
        let is_dead = self.status == FileStatus::DeadLettered;
        let entry = Entry {
            key: self.key,
            order: Order::from_raw(self.order),
            last: self.last,
            size: self.size,
            checksum: self.checksum,
            created_at: self.created_at,
            modified_at: self.modified_at,
            moment: self.moment,
            directory: 0,
            retry_count: self.retry_count,
            attempts: self.attempts,
            rest: match self.place {
                SavedPlace::Volume(id) => Rest::Volume(places.number(&id)),
                SavedPlace::Journal(place) => Rest::Journal(place),
            },
            area: if is_dead { Area::DeadLetters } else { Area::Live },
            status: self.status,
            interrupted: self.interrupted,
            original_name: self.original_name.map(Into::into),
            cold: (cold != Cold::default()).then(|| Box::new(cold)),
            delivery: self.delivery.map(|delivery| {
                Box::new(Delivery {
                    token: delivery.token,
                    ended: delivery.ended,
                    owner: delivery.owner,
                    deadline: delivery.deadline,
                    ttl_micros: delivery.ttl_micros,
                    by: delivery.by.map(Into::into),
                    started_at: delivery.started_at,
                    heartbeat_at: delivery.heartbeat_at,
                    failed_at: delivery.failed_at,
                    error: delivery.error.map(Into::into),
                })
            }),
        };
        state.restore(&self.directory, entry);
    }
}

// ---- taking -----------------------------------------------------------------------------------------------------

/// The checkpoints of an open store.
#[derive(Debug)]
pub(crate) struct Checkpoints {
    inner: Mutex<Inner>,
    pub(super) one: tokio::sync::Mutex<()>,
    /// Length of the shortest of their files.
    spare_bytes: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    /// Number and begin of those that are kept, oldest first.
    kept: Vec<(u64, Lsn)>,
    next: u64,
    bytes: u64,
    taken: u64,
    /// How far the log had grown when the last one began.
    appended_bytes: u64,
}

impl Checkpoints {
    pub(crate) fn new(kept: Vec<(u64, Lsn)>, next: u64, bytes: u64) -> Self {
        let inner = Inner { kept, next, bytes, taken: 0, appended_bytes: 0 };
        Self { inner: Mutex::new(inner), one: tokio::sync::Mutex::default(), spare_bytes: AtomicU64::new(0) }
    }

    /// The numbers of those that are kept.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.inner.lock().kept.iter().map(|(number, _)| *number).collect()
    }

    /// Number and begin of the newest, and its bytes.
    pub(super) fn newest(&self) -> Option<(u64, Lsn, u64)> {
        let inner = self.inner.lock();
        inner.kept.last().map(|(number, begin)| (*number, *begin, inner.bytes))
    }

    /// How many were taken, and the bytes of the newest.
    pub(crate) fn taken(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.taken, inner.bytes)
    }
}

/// The journal's directory inside the data directory.
pub(crate) fn journal_dir(dir: &Path) -> PathBuf {
    dir.join("journal")
}

pub(super) fn checkpoint_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("checkpoint-{number:08}"))
}

fn checkpoint_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("checkpoint-")?;
    (digits.len() >= 8 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Frames on their way to a file.
struct FrameWriter {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    disk: Arc<dyn Disk>,
    buffer: Vec<u8>,
    offset: u64,
}

impl FrameWriter {
    async fn create(disk: &Arc<dyn Disk>, path: PathBuf) -> Result<Self> {
        let (inner, at) = (Arc::clone(disk), path.clone());
        let file = locus_fs::off_thread(&**disk, move || open_or_create(&*inner, &at))
            .await
            .map_err(Error::io("create", &path))?;
        let mut buffer = Vec::with_capacity(CHUNK_BYTES);
        buffer.extend(encode_head());
        Ok(Self { file, path, disk: Arc::clone(disk), buffer, offset: 0 })
    }

    async fn push(&mut self, frame: &Frame) -> Result<()> {
        frame.encode(&mut self.buffer);
        if self.buffer.len() >= CHUNK_BYTES { self.flush(false).await } else { Ok(()) }
    }

    async fn flush(&mut self, sync: bool) -> Result<()> {
        let bytes = std::mem::take(&mut self.buffer);
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        self.offset += bytes.len() as u64;
        locus_fs::off_thread(&*self.disk, move || {
            file.write_at(&bytes, offset)?;
            if sync { sync_data(&*file, Site::CheckpointContent) } else { Ok(()) }
        })
        .await
        .map_err(Error::io("write", &self.path))
    }
}

impl EmbeddedStore {
    /// Whether the log has grown enough since the last checkpoint, or the segments that only wait for one have, or room
    /// is short and one would make some.
    #[must_use]
    pub fn checkpoint_due(&self) -> bool {
        let waiting = self.journal.waiting_for_checkpoint();
        let relief = waiting > 0 && self.journal.is_short();
        let inner = self.checkpoints.inner.lock();
        let grown = self.journal.appended_bytes().saturating_sub(inner.appended_bytes);
        let enough = self.config.options.checkpoint_bytes.max(inner.bytes);
        // While the state is small as soon as it pays: a file that is used again need not be filled with zeros first.
        let most =
            (SEGMENTS_WAITING * self.config.options.segment_size).min(self.journal.zone_bytes_max() / 4);
        let segments = (WAITING_TIMES * inner.bytes).max(self.config.options.checkpoint_bytes).min(most);
        grown >= enough || waiting >= inner.bytes.max(segments) || relief
    }

    /// Takes a checkpoint now, and frees the segments that lie behind the older of the two kept ones. No caller waits
    /// for it longer than for one slice of 4,096 entries of its own tenant.
    ///
    /// # Errors
    /// When it cannot be written; the log then stays as long as it is.
    ///
    /// # Cancel safety
    /// A checkpoint that was being written is left unpublished; the next one replaces it.
    pub async fn checkpoint(&self) -> Result<()> {
        let one = self.checkpoints.one.lock().await;
        self.take_checkpoint(&one).await
    }

    /// [`checkpoint`](Self::checkpoint) by one who keeps the turn.
    pub(super) async fn take_checkpoint(&self, _one: &tokio::sync::MutexGuard<'_, ()>) -> Result<()> {
        if self.journal.is_poisoned() {
            return Err(Error::Poisoned { outcome: locus_core::Outcome::NotDone });
        }
        let dir = journal_dir(&self.config.dir);
        let appended_bytes = self.journal.appended_bytes();
        let before = self.checkpoint_bytes_max();
        let begin = self.journal.last_appended().next();
        let stamp = self.clock.stamp();
        let mut writer = FrameWriter::create(&self.config.disk, dir.join(SPARE)).await?;
        let head =
            Frame::Head { store: self.id, begin, epoch: self.epoch, wall: stamp.wall, time: stamp.time };
        writer.push(&head).await?;
        let limits: Vec<_> = {
            let mut limits = self.limits.write();
            limits.forget_reset(begin);
            limits.set_at_run_time().map(|(s, l, lsn)| (s.clone(), *l, lsn)).collect()
        };
        for limits in limits.chunks(SLICE as usize) {
            writer.push(&Frame::Limits { limits: limits.to_vec() }).await?;
        }
        let standings = {
            let mut standings = self.standings.write();
            standings.forget_usual(begin);
            standings_frame(&standings)
        };
        if let Some(frame) = standings {
            writer.push(&frame).await?;
        }
        let cells = self.cells.read().all.clone();
        let mut count = 0;
        for cell in cells {
            let mut at = 0_u32;
            loop {
                let (frames, more) = {
                    let state = cell.state.lock();
                    let end = state.entries_end();
                    let slice = at..end.min(at.saturating_add(SLICE));
                    at = slice.end;
                    let (frames, entries) = files_frames(&state, slice, &self.places);
                    count += entries;
                    (frames, at < end)
                };
                for frame in frames {
                    writer.push(&frame).await?;
                }
                if !more {
                    break;
                }
            }
            let mut after = None;
            while let Some((frame, last)) = self.remembered_frame(&cell, after) {
                writer.push(&frame).await?;
                after = Some(last);
            }
            let mut after = None;
            loop {
                let Some((frames, last)) = uploads_frames(&cell.state.lock(), after, &self.places) else {
                    break;
                };
                for frame in frames {
                    writer.push(&frame).await?;
                }
                after = Some(last);
            }
            // Behind the entries: replay leaves those alone that are as a later record left them, with their copies.
            let mut after = None;
            loop {
                let Some((frame, last)) = copies_frame(&cell.state.lock(), after, &self.places) else {
                    break;
                };
                writer.push(&frame).await?;
                after = Some(last);
            }
        }
        let end = self.journal.last_appended();
        if Site::PublishedWhenDurable.stands() {
            self.make_durable(end).await?;
        }
        writer.push(&Frame::End { end, durable: self.journal.durable(), entries: count }).await?;
        writer.flush(true).await?;
        let bytes = writer.offset;
        // Whatever was taken in or went meanwhile, it is bounded by what was there before and what is there after.
        let bound = before + self.checkpoint_bytes_max();
        debug_assert!(bytes <= bound, "a checkpoint of {bytes} bytes where {bound} were thought to suffice");
        let number = self.checkpoints.inner.lock().next;
        let (disk, from, to, at) =
            (Arc::clone(&self.config.disk), writer.path.clone(), checkpoint_path(&dir, number), dir.clone());
        locus_fs::off_thread(&*self.config.disk, move || {
            disk.rename(&from, &to)?;
            sync_dir(&*disk, &at, Site::CheckpointName)
        })
        .await
        .map_err(Error::io("publish checkpoint in", &dir))?;
        let (drop, older) = {
            let mut inner = self.checkpoints.inner.lock();
            inner.kept.push((number, begin));
            inner.next += 1;
            inner.bytes = bytes;
            inner.taken += 1;
            inner.appended_bytes = appended_bytes;
            let excess = inner.kept.len().saturating_sub(KEPT);
            let drop: Vec<_> = inner.kept.drain(..excess).collect();
            let older = (inner.kept.len() == KEPT).then(|| inner.kept[0].1);
            (drop, older)
        };
        let (disk, journal) = (Arc::clone(&self.config.disk), Arc::clone(&self.journal));
        let at = dir.clone();
        let kept = self.checkpoints.numbers().len();
        let freed = locus_fs::off_thread(&*self.config.disk, move || {
            // The next one is written over what is needed no more.
            for (number, _) in &drop {
                put_aside(&*disk, &at, *number);
            }
            if drop.is_empty()
                && let Some(name) = MORE_SPARES.get(KEPT - kept.min(KEPT))
                && let Err(source) = disk.rename(&at.join(name), &at.join(SPARE))
            {
                warn!(name, error = %source, "no file for the next checkpoint yet");
            }
            older.map_or(0, |older| journal.retire(older))
        })
        .await;
        if let Err(why) = self.grow_files().await {
            warn!(error = %why, source = ?std::error::Error::source(&why), "no room for the next checkpoint yet");
        }
        debug!(%begin, %end, entries = count, bytes, freed, "checkpoint taken");
        Ok(())
    }

    /// Most bytes that a checkpoint taken now would have.
    pub(super) fn checkpoint_bytes_max(&self) -> u64 {
        let remembered = self.places.remembered.load(Ordering::Acquire) * SAVED_WRITE_BYTES;
        let limits = self.limits.read().count_set_at_run_time() as u64 * SAVED_LIMIT_BYTES;
        let frames = self.cells.read().all.len() as u64 * SAVED_TENANT_BYTES;
        let standings = self.standings.read().count() as u64 * SAVED_STANDING_BYTES;
        let copies = self.places.copies.load(Ordering::Acquire) * SAVED_COPY_BYTES;
        self.places.saved_bytes() + remembered + copies + limits + standings + frames + SPARE_BYTES_MIN / 4
    }

    /// Whether the next checkpoint surely finds room, also on a full disk.
    pub(super) fn has_spare(&self) -> bool {
        self.checkpoint_bytes_max() <= self.checkpoints.spare_bytes.load(Ordering::Acquire)
    }

    /// Whether the state has nearly outgrown the files of the next checkpoints, so that they are better made longer now
    /// than when somebody waits for it.
    pub(super) fn spare_is_tight(&self) -> bool {
        self.checkpoint_bytes_max() > self.checkpoints.spare_bytes.load(Ordering::Acquire) / 4 * 3
    }

    /// Makes the file of the next checkpoint long enough, with half as much to spare.
    ///
    /// # Errors
    /// When the disk has no room for that.
    pub(super) async fn grow_spare(&self) -> Result<()> {
        let _one = self.checkpoints.one.lock().await;
        if self.spare_is_tight() { self.grow_files().await } else { Ok(()) }
    }

    async fn grow_files(&self) -> Result<()> {
        let needed = self.checkpoint_bytes_max();
        let dir = journal_dir(&self.config.dir);
        let kept = self.checkpoints.numbers();
        let mut spares: Vec<PathBuf> = spares(&dir).collect();
        let needless = spares.split_off(KEPT + 1 - kept.len().min(KEPT));
        let kept: Vec<PathBuf> = kept.into_iter().map(|number| checkpoint_path(&dir, number)).collect();
        let disk = Arc::clone(&self.config.disk);
        let bytes = locus_fs::off_thread(&*self.config.disk, move || {
            let mut least = u64::MAX;
            for path in &spares {
                shrink(&*disk, path, needed)?;
            }
            for path in spares.iter().chain(&kept) {
                least = least.min(grow(&*disk, path, needed)?);
            }
            for path in needless {
                let _ = disk.remove_file(&path); // almost always absent; else it only takes room
            }
            sync_dir(&*disk, &dir, Site::SpareName).map_err(Error::io("sync", &dir))?;
            Ok::<_, Error>(least)
        })
        .await?;
        self.checkpoints.spare_bytes.store(bytes, Ordering::Release);
        Ok(())
    }

    /// The next slice of a tenant's remembered writes behind `after`, and its last hash. Those whose time is over are
    /// forgotten on the way: a tenant that writes no more is visited here.
    fn remembered_frame(&self, cell: &Cell, after: Option<u128>) -> Option<(Frame, u128)> {
        let mut state = cell.state.lock();
        state.fade(self.clock.now(), SLICE as usize, &self.places);
        writes_frame(&state, after)
    }
}

/// The entries at these indexes, if there are any, with what their states do not say of them, and how many.
fn files_frames(
    state: &TenantState,
    slice: Range<u32>,
    places: &Places,
) -> (impl Iterator<Item = Frame> + use<>, u64) {
    let entries = || slice.clone().filter_map(|at| state.entry_at(at));
    let purged = entries().filter(|entry| entry.status.is_over() && entry.area == Area::DeadLetters);
    let purged = Frame::Purged { tenant: state.id.clone(), keys: purged.map(|entry| entry.key).collect() };
    let seal = |entry: &Entry| Some((entry.key, entry.cold.as_ref()?.seal.clone()?));
    let seals = Frame::Seals { tenant: state.id.clone(), seals: entries().filter_map(seal).collect() };
    let entries: Vec<_> =
        entries().map(|entry| SavedEntry::of(entry, state.directory(entry), places)).collect();
    let count = entries.len() as u64;
    let files = Frame::Files { tenant: state.id.clone(), entries };
    ([files, purged, seals].into_iter().filter(Frame::is_worth_writing), count)
}

/// A slice of the remembered writes behind `after`, and its last hash.
fn writes_frame(state: &TenantState, after: Option<u128>) -> Option<(Frame, u128)> {
    let slice = state.remembered_after(after).take(SLICE as usize);
    let writes: Vec<SavedWrite> = slice
        .map(|(hash, write)| SavedWrite {
            hash,
            key: write.key,
            remember: write.remember,
            gone_at: write.gone_at,
            last: write.last,
        })
        .collect();
    let last = writes.last()?.hash;
    Some((Frame::Remembered { tenant: state.id.clone(), writes }, last))
}

/// A slice of the uploads behind `after`, with how they are sealed, and its last key.
fn uploads_frames(
    state: &TenantState,
    after: Option<FileKey>,
    places: &Places,
) -> Option<(impl Iterator<Item = Frame> + use<>, FileKey)> {
    let slice = || state.uploads().after(after).take(UPLOADS_SLICE);
    let uploads: Vec<_> = slice().map(|upload| SavedUpload::of(upload, places)).collect();
    let last = uploads.last()?.key;
    let seals = slice().filter_map(|upload| Some((upload.key, upload.seal.clone()?))).collect();
    let uploads = Frame::Uploads { tenant: state.id.clone(), uploads };
    let seals = Frame::Seals { tenant: state.id.clone(), seals };
    Some(([uploads, seals].into_iter().filter(Frame::is_worth_writing), last))
}

/// The next copies that nobody names: many, where what was drained takes no removals.
fn copies_frame(state: &TenantState, after: Option<FileKey>, places: &Places) -> Option<(Frame, FileKey)> {
    let copies = state.copies_behind(after, SLICE as usize).map(|(_, left)| SavedCopy::of(left, places));
    let copies: Vec<_> = copies.collect();
    let last = copies.last()?.key;
    Some((Frame::Copies { tenant: state.id.clone(), copies }, last))
}

/// What was decided about volumes: few of them, in one frame. Nothing decided leaves no trace.
fn standings_frame(standings: &Standings) -> Option<Frame> {
    let volumes: Vec<_> =
        standings.all().map(|(volume, standing, lsn)| (volume.clone(), standing, lsn)).collect();
    (!volumes.is_empty()).then_some(Frame::Standings { volumes })
}

/// The state that a checkpoint is written of when no store is open.
pub(super) struct Still<'a> {
    pub(super) store: StoreId,
    pub(super) begin: Lsn,
    pub(super) epoch: Epoch,
    pub(super) stamp: Stamp,
    pub(super) limits: &'a Limits,
    pub(super) standings: &'a Standings,
    pub(super) cells: &'a [Arc<Cell>],
    pub(super) places: &'a Places,
}

/// Writes the first checkpoint of a directory, durably but for its name. The log is durable up to its begin. Blocks.
pub(super) fn write_still(disk: &dyn Disk, dir: &Path, still: &Still<'_>) -> Result<()> {
    let path = checkpoint_path(dir, 1);
    let file = disk.create_new(&path).map_err(Error::io("create", &path))?;
    let mut buffer = Vec::with_capacity(CHUNK_BYTES);
    let mut offset = 0;
    let mut flush = |buffer: &mut Vec<u8>, least: usize| {
        if buffer.len() < least {
            return Ok(());
        }
        file.write_at(buffer, offset).map_err(Error::io("write", &path))?;
        offset += buffer.len() as u64;
        buffer.clear();
        Ok(())
    };
    buffer.extend(encode_head());
    let Still { store, begin, epoch, stamp, .. } = *still;
    Frame::Head { store, begin, epoch, wall: stamp.wall, time: stamp.time }.encode(&mut buffer);
    let limits: Vec<_> = still.limits.set_at_run_time().map(|(s, l, lsn)| (s.clone(), *l, lsn)).collect();
    for limits in limits.chunks(SLICE as usize) {
        Frame::Limits { limits: limits.to_vec() }.encode(&mut buffer);
    }
    if let Some(frame) = standings_frame(still.standings) {
        frame.encode(&mut buffer);
    }
    let mut count = 0;
    for cell in still.cells {
        let state = cell.state.lock();
        for at in (0..state.entries_end()).step_by(SLICE as usize) {
            let slice = at..state.entries_end().min(at.saturating_add(SLICE));
            let (frames, entries) = files_frames(&state, slice, still.places);
            count += entries;
            for frame in frames {
                frame.encode(&mut buffer);
                flush(&mut buffer, CHUNK_BYTES)?;
            }
        }
        let mut after = None;
        while let Some((frame, last)) = writes_frame(&state, after) {
            frame.encode(&mut buffer);
            flush(&mut buffer, CHUNK_BYTES)?;
            after = Some(last);
        }
        let mut after = None;
        while let Some((frames, last)) = uploads_frames(&state, after, still.places) {
            for frame in frames {
                frame.encode(&mut buffer);
                flush(&mut buffer, CHUNK_BYTES)?;
            }
            after = Some(last);
        }
        let mut after = None;
        while let Some((frame, last)) = copies_frame(&state, after, still.places) {
            frame.encode(&mut buffer);
            flush(&mut buffer, CHUNK_BYTES)?;
            after = Some(last);
        }
    }
    let end = Lsn(begin.0 - 1);
    Frame::End { end, durable: end, entries: count }.encode(&mut buffer);
    flush(&mut buffer, 0)?;
    sync_data(&*file, Site::CopiedContent).map_err(Error::io("sync", &path))
}

fn open_or_create(disk: &dyn Disk, path: &Path) -> std::io::Result<Arc<dyn DiskFile>> {
    match disk.open(path, true) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => disk.create_new(path),
        opened => opened,
    }
}

/// Gives room back that a far larger state needed.
fn shrink(disk: &dyn Disk, path: &Path, needed: u64) -> Result<()> {
    let failed = |source| Error::io("shorten", path)(source);
    let file = match disk.open(path, true) {
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        opened => opened.map_err(failed)?,
    };
    let wanted = spare_bytes(needed);
    if file.len().map_err(failed)? / 4 > wanted { file.set_len(wanted).map_err(failed) } else { Ok(()) }
}

/// The files that are kept for the next checkpoints, in the order in which they are used.
fn spares(dir: &Path) -> impl Iterator<Item = PathBuf> {
    [SPARE].into_iter().chain(MORE_SPARES).map(|name| dir.join(name))
}

/// How long a file is made for a checkpoint of at most `needed` bytes.
fn spare_bytes(needed: u64) -> u64 {
    (needed + needed / 2).next_multiple_of(SPARE_BYTES_MIN)
}

/// Makes a file at least `needed` bytes long, every byte of it written. Says how long it is.
fn grow(disk: &dyn Disk, path: &Path, needed: u64) -> Result<u64> {
    let failed = |source| Error::io("make room for a checkpoint in", path)(source);
    let file = open_or_create(disk, path).map_err(failed)?;
    let mut size = file.len().map_err(failed)?;
    let wanted = spare_bytes(needed);
    // A state that has three quarters of its file is better given more before it must be.
    if size / 4 * 3 >= needed {
        return Ok(size);
    }
    let zeros = vec![0; CHUNK_BYTES];
    while size < wanted {
        let part = (wanted - size).min(CHUNK_BYTES as u64);
        file.write_at(&zeros[..part as usize], size).map_err(failed)?;
        size += part;
    }
    sync_data(&*file, Site::SpareContent).map_err(failed)?;
    Ok(size)
}

// ---- loading ----------------------------------------------------------------------------------------------------

/// What a loaded checkpoint says beside its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) number: u64,
    pub(crate) begin: Lsn,
    pub(crate) end: Lsn,
    pub(crate) durable: Lsn,
    pub(crate) epoch: Epoch,
    pub(crate) stamp: Stamp,
    pub(crate) bytes: u64,
}

/// Where a checkpoint's content goes.
pub(crate) trait Target {
    fn tenant(&mut self, tenant: &TenantId, restore: &mut dyn FnMut(&mut TenantState, &Places));
    fn limit(&mut self, scope: Scope, limit: Limit, last: Lsn);
    fn standing(&mut self, volume: VolumeId, standing: VolumeStanding, last: Lsn);
}

/// The numbers of all published checkpoints in `dir`, newest first.
pub(crate) fn find(disk: &dyn Disk, dir: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in disk.read_dir(dir).map_err(Error::io("list", dir))? {
        let entry = entry.map_err(Error::io("list", dir))?;
        if entry.kind == EntryKind::File {
            numbers.extend(entry.name.to_str().and_then(checkpoint_number));
        }
    }
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

/// Puts aside a checkpoint that is needed no more: its file is the next one's, unless that is there already.
pub(crate) fn put_aside(disk: &dyn Disk, dir: &Path, number: u64) {
    let (path, spare) = (checkpoint_path(dir, number), dir.join(SPARE));
    let done = match disk.rename_new(&path, &spare) {
        Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => disk.remove_file(&path),
        done => done,
    };
    match done {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            warn!(path = %path.display(), error = %source, "file of an old checkpoint not put aside");
        }
        _ => {}
    }
}

/// Makes the files that are kept for the next checkpoints what they are taken for. A rename that a crash cut short may leave
/// a file under both names, where the file system promises no more: what would be written over then is a checkpoint, so
/// such a file keeps its first name here. The others are made durable.
pub(crate) fn settle_spares(disk: &dyn Disk, dir: &Path, kept: &[u64]) -> Result<()> {
    let mut seen = BTreeSet::new();
    let kept = kept.iter().map(|number| (checkpoint_path(dir, *number), false));
    for (path, is_spare) in kept.chain(spares(dir).map(|path| (path, true))) {
        let found = match disk.metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            found => found.map_err(Error::io("look at", &path))?,
        };
        let is_other = found.id.is_none_or(|id| seen.insert(id));
        if is_spare && !is_other && Site::SparesSeparated.stands() {
            disk.remove_file(&path).map_err(Error::io("remove", &path))?;
        } else if is_spare {
            // A process that was killed may have made it longer and not have come to sync it.
            let file = disk.open(&path, true).map_err(Error::io("open", &path))?;
            sync_data(&*file, Site::SpareFound).map_err(Error::io("sync", &path))?;
        }
    }
    Ok(())
}

/// Checks that a whole checkpoint is there as it was written, and says where it begins and ends: checksums, and how many entries
/// there are, but not what they say: what no damage can make of it is found when it is loaded, and refused. Memory is bounded by
/// one frame.
pub(crate) fn check(disk: &dyn Disk, dir: &Path, number: u64, store: &StoreId) -> Result<Loaded> {
    read(disk, dir, number, store, &mut |state| state.entries())
}

/// [`check`], and reads every entry.
pub(crate) fn check_entries(disk: &dyn Disk, dir: &Path, number: u64, store: &StoreId) -> Result<Loaded> {
    read(disk, dir, number, store, &mut |state| Ok(state.decode()?.entries()))
}

/// Loads a checkpoint that was checked: a thread of its own reads and decodes, this one puts what was read where it goes.
pub(crate) fn load(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    store: &StoreId,
    target: &mut dyn Target,
) -> Result<Loaded> {
    let (decoded, frames) = mpsc::sync_channel(FRAMES_AHEAD);
    let reading = move || {
        read(disk, dir, number, store, &mut |state| {
            let frame = state.decode()?;
            let entries = frame.entries();
            decoded.send(frame).map_err(|_| "nobody takes what it holds")?;
            Ok(entries)
        })
    };
    thread::scope(|scope| {
        let reading = thread::Builder::new()
            .name("locus-loader".into())
            .spawn_scoped(scope, reading)
            .map_err(Error::io("start a thread that reads", checkpoint_path(dir, number)))?;
        // By value: should this end early, whoever reads does not wait for it.
        for frame in frames {
            restore(frame, target);
        }
        reading.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

/// Puts what a frame holds where it goes.
fn restore(frame: Frame, target: &mut dyn Target) {
    match frame {
        Frame::Files { tenant, entries } => {
            let mut entries = Some(entries);
            target.tenant(&tenant, &mut |state, places| {
                for entry in entries.take().unwrap_or_default() {
                    entry.restore(state, places);
                }
            });
        }
        Frame::Purged { tenant, keys } => {
            target.tenant(&tenant, &mut |state, _| keys.iter().for_each(|key| state.restore_purged(key)));
        }
        Frame::Seals { tenant, seals } => {
            let mut seals = Some(seals);
            target.tenant(&tenant, &mut |state, _| {
                for (key, seal) in seals.take().unwrap_or_default() {
                    state.restore_seal(&key, seal);
                }
            });
        }
        Frame::Remembered { tenant, writes } => {
            target.tenant(&tenant, &mut |state, places| {
                for write in &writes {
                    let SavedWrite { hash, key, remember, gone_at, last } = write.clone();
                    state.restore_remembered(hash, Remembered { key, remember, gone_at, last }, places);
                }
            });
        }
        Frame::Uploads { tenant, uploads } => {
            let mut uploads = Some(uploads);
            target.tenant(&tenant, &mut |state, places| {
                for upload in uploads.take().unwrap_or_default() {
                    upload.restore(state, places);
                }
            });
        }
        Frame::Copies { tenant, copies } => {
            let mut copies = Some(copies);
            target.tenant(&tenant, &mut |state, places| {
                for copy in copies.take().unwrap_or_default() {
                    copy.restore(state, places);
                }
            });
        }
        Frame::Limits { limits } => {
            for (scope, limit, last) in limits {
                target.limit(scope, limit, last);
            }
        }
        Frame::Standings { volumes } => {
            for (volume, standing, last) in volumes {
                target.standing(volume, standing, last);
            }
        }
        Frame::Head { .. } | Frame::End { .. } => {}
    }
}

fn read(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    store: &StoreId,
    visit: &mut dyn FnMut(State<'_>) -> Result<u64, &'static str>,
) -> Result<Loaded> {
    let path = checkpoint_path(dir, number);
    let file = disk.open(&path, false).map_err(Error::io("open", &path))?;
    read_file(&*file, &path, number, store, visit)
}

/// Reads a checkpoint from its open file; nothing is allocated that is longer than the file. `visit` gets the frames between
/// its head and its end, and says how many entries each holds.
pub(crate) fn read_file(
    file: &dyn DiskFile,
    path: &Path,
    number: u64,
    store: &StoreId,
    visit: &mut dyn FnMut(State<'_>) -> Result<u64, &'static str>,
) -> Result<Loaded> {
    let corrupt = |offset: u64, why: &'static str| Error::Corrupt {
        place: format!("{} at offset {offset}", path.display()),
        why: why.into(),
    };
    let size = file.len().map_err(Error::io("measure", path))?;
    let read = |bytes: &mut Vec<u8>, offset: u64| {
        let got = file.read_at(bytes, offset).map_err(Error::io("read", path))?;
        bytes.truncate(got);
        Ok::<_, Error>(())
    };
    let mut head = vec![0; HEAD_BYTES as usize];
    read(&mut head, 0)?;
    match check_head(&head) {
        Ok(()) => {}
        Err(HeadFault::Bad) => return Err(corrupt(0, "this is no checkpoint")),
        Err(HeadFault::Newer(found)) => {
            let place = path.display().to_string();
            return Err(Error::NewerFormat { place, found, supported: FORMAT });
        }
    }
    let mut offset = HEAD_BYTES;
    let mut loaded: Option<Loaded> = None;
    let mut entries = 0;
    loop {
        let mut head = vec![0; FRAME_HEAD_BYTES as usize];
        read(&mut head, offset)?;
        let begin = offset.saturating_add(FRAME_HEAD_BYTES);
        let head = FrameHead::decode(&head).ok_or_else(|| corrupt(offset, "it ends early"))?;
        let end = begin.saturating_add(head.length().into());
        if end > size {
            return Err(corrupt(offset, "it ends early"));
        }
        let mut payload = vec![0; head.length() as usize];
        read(&mut payload, begin)?;
        let (part, at) = (head.part(&payload).map_err(|why| corrupt(offset, why))?, offset);
        offset = end;
        match (part, &mut loaded) {
            (Part::Head { store: of, begin, epoch, stamp }, loaded @ None) => {
                if of != *store {
                    return Err(corrupt(offset, "it belongs to another store"));
                }
                let (end, durable) = (Lsn::ZERO, Lsn::ZERO);
                *loaded = Some(Loaded { number, begin, end, durable, epoch, stamp, bytes: size });
            }
            (Part::End { end, durable, entries: expected }, Some(loaded)) => {
                // Behind it lies what the file held before.
                if entries != expected {
                    return Err(corrupt(offset, "it does not hold what its end says"));
                }
                return Ok(Loaded { end, durable, bytes: offset, ..*loaded });
            }
            (Part::State(state), Some(_)) => {
                let some = visit(state).map_err(|why| corrupt(at, why))?;
                entries =
                    some.checked_add(entries).ok_or_else(|| corrupt(at, "it says more than there can be"))?;
            }
            _ => return Err(corrupt(offset, "its parts are out of order")),
        }
    }
}

#[cfg(test)]
mod tests {
    use locus_core::SealKeyId;
    use proptest::prelude::*;

    use super::*;

    fn text(bytes: Option<usize>) -> Option<Box<str>> {
        Some("x".repeat(bytes?).into())
    }

    /// As long as it comes, but for its texts.
    fn entry(
        places: &Places,
        original_name: Option<Box<str>>,
        cold: Option<Cold>,
        delivery: Option<[Option<Box<str>>; 2]>,
    ) -> Entry {
        let (time, wall) = (StoreTime::from_micros(u64::MAX), Timestamp::from_micros(i64::MIN));
        let token = Token { epoch: Epoch { count: u64::MAX, random: u64::MAX }, lsn: Lsn::MAX };
        Entry {
            key: FileKey::from_bytes([0xff; 16]),
            order: Order::from_raw(u64::MAX),
            last: Lsn::MAX,
            size: u64::MAX,
            checksum: Checksum::of(b""),
            created_at: wall,
            modified_at: wall,
            moment: time,
            directory: 0,
            retry_count: u32::MAX,
            attempts: u32::MAX,
            rest: Rest::Volume(places.number(&VolumeId::parse(&"v".repeat(63)).unwrap())),
            area: Area::DeadLetters,
            status: FileStatus::Deleted,
            interrupted: u8::MAX,
            original_name,
            cold: cold.map(Box::new),
            delivery: delivery.map(|[by, error]| {
                Box::new(Delivery {
                    token: Some(token),
                    ended: Ended::ByTime,
                    owner: Owner::Outside,
                    deadline: time,
                    ttl_micros: u64::MAX,
                    by,
                    started_at: wall,
                    heartbeat_at: wall,
                    failed_at: Some(wall),
                    error,
                })
            }),
        }
    }

    proptest! {
        /// The file of the next checkpoint is made for it; what is too long is refused while there is room.
        #[test]
        fn an_entry_takes_no_more_of_a_checkpoint_than_is_foreseen_and_not_much_less(
            name in prop::option::of(0..1_024_usize),
            properties in prop::collection::vec((1..200_usize, 0..200_usize), 0..4),
            idempotent in any::<bool>(),
            delivery in prop::option::of((prop::option::of(0..128_usize), prop::option::of(0..1_024_usize))),
            sealed in prop::option::of(0..4_096_usize),
        ) {
            let places = Places::default();
            let properties: Properties = (0..)
                .zip(properties)
                .map(|(n, (name, value))| (format!("{n:>name$}"), "x".repeat(value)))
                .collect();
            let key = SealKeyId::from_bytes([0xff; 16]);
            let seal = sealed.map(|bytes| Seal { key, details: vec![0; bytes].into(), turn: 0 });
            let told = !properties.is_empty() || idempotent || seal.is_some();
            let cold = told.then(|| Cold {
                properties,
                owner: Some(StoragePath::from(&TenantId::parse(&"t".repeat(63)).unwrap())),
                idempotency: idempotent.then_some(u128::MAX),
                seal: seal.clone(),
            });
            let entry = entry(&places, text(name), cold, delivery.map(|(by, error)| [text(by), text(error)]));
            let saved = SavedEntry::of(&entry, LogicalDir::root(), &places);
            let sealed = seal.map_or(0, |seal| postcard::to_stdvec(&(entry.key, seal)).unwrap().len());
            let taken = postcard::to_stdvec(&saved).unwrap().len() + sealed + size_of::<FileKey>() + 1;
            let taken = taken as u64;
            let foreseen = entry.saved_bytes() + LogicalDir::root().as_str().len() as u64;
            prop_assert!((taken..taken + 256).contains(&foreseen), "{foreseen} foreseen, {taken} taken");
        }
    }

    proptest! {
        #[test]
        fn an_upload_takes_no_more_of_a_checkpoint_than_is_foreseen_and_not_much_less(
            name in prop::option::of(0..1_024_usize),
            properties in prop::collection::vec((1..200_usize, 0..200_usize), 0..4),
            ranges in 0..200_u64,
            sealed in prop::option::of(0..4_096_usize),
        ) {
            let places = Places::default();
            let seal = |bytes: usize| Seal { key: SealKeyId::from_bytes([0xff; 16]), details: vec![0; bytes].into(), turn: 0 };
            let properties: Properties = (0..)
                .zip(properties)
                .map(|(n, (name, value))| (format!("{n:>name$}"), "x".repeat(value)))
                .collect();
            let upload = Upload {
                key: FileKey::from_bytes([0xff; 16]),
                last: Lsn(u64::MAX),
                owner: Some(StoragePath::from(&TenantId::parse(&"t".repeat(63)).unwrap())),
                directory: LogicalDir::parse("/in/deep").unwrap(),
                original_name: text(name),
                properties,
                size: u64::MAX,
                expected: Some(Checksum::of(b"")),
                volume: places.number(&VolumeId::parse(&"v".repeat(63)).unwrap()),
                begun_at: Timestamp::from_micros(i64::MIN),
                touched: StoreTime::from_micros(u64::MAX),
                staging: Some(FileKey::from_bytes([0xff; 16])),
                confirmed: (0..ranges).map(|n| (u64::MAX - 2 * n - 2)..(u64::MAX - 2 * n - 1)).collect(),
                seal: sealed.map(seal),
            };
            let saved = SavedUpload::of(&upload, &places);
            let sealed = upload.seal.clone().map_or(0, |seal| postcard::to_stdvec(&(upload.key, seal)).unwrap().len());
            let taken = (postcard::to_stdvec(&saved).unwrap().len() + sealed) as u64;
            let foreseen = upload.saved_bytes();
            prop_assert!((taken..taken + 768).contains(&foreseen), "{foreseen} foreseen, {taken} taken");
        }
    }

    #[test]
    fn the_file_of_the_next_checkpoint_has_half_as_much_to_spare() {
        for (needed, bytes) in
            [(0, 0), (1, 1), (SPARE_BYTES_MIN / 3 * 2, 1), (SPARE_BYTES_MIN, 2), (SPARE_BYTES_MIN * 4, 6)]
        {
            assert_eq!(spare_bytes(needed), bytes * SPARE_BYTES_MIN, "{needed}");
        }
    }
}
