//! Opening: the newest good checkpoint, replay through the same `apply` that runs live, the end of the log, and a new
//! epoch. There is no second way to build state.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    sync::Arc,
    time::Duration,
};

use locus_core::{
    Area, BlobPath, Checksum, Entropy, Epoch, Error, Extension, FileKey, FileStatus, InlineLimits, Knowledge,
    Limit, Lsn, Owner, Result, Scope, Site, StoragePath, StoreId, StoreTime, TenantId, VolumeId, VolumeSet,
    VolumeStanding,
};
use locus_fs::{Disk, create_dirs, off_thread, sync_dir};
use tracing::{error, info, warn};

use super::{
    checkpoint::{self, Checkpoints, Loaded, Target, journal_dir},
    embedded::{Cells, EmbeddedStore, Moved, StoreConfig},
    entry::Rest,
    event::{Change, FRAME_BYTES, Record, Resting, keys_bound},
    identity::Identity,
    landing::Emptying,
    limits::Limits,
    places::Places,
    reap::ReapQueue,
    schedule::Schedule,
    standings::Standings,
    tenant::{Scene, TenantState},
};
use crate::{
    EngineOptions,
    journal::{Journal, JournalConfig, LogPlace, SEGMENT_BYTES_MIN, scan},
    sync::{AtomicBool, Mutex, Notify, RwLock},
    time::{Stamp, StoreClock},
};

/// A landing zone has at least so many segments.
const ZONE_SEGMENTS_MIN: u64 = 4;
/// Smallest landing zone by default, if half of the disk's free room allows it.
const ZONE_DEFAULT_MIN: u64 = 1 << 30;
/// No segment is smaller than so many contents of the largest kind,
const SEGMENT_PART: u64 = 16;
/// counted as at least this long.
const INLINE_ROOM_MIN: u64 = 64 << 10;
/// Largest `pending_bytes_max`: LSNs that a crash may have lost are left out at the next open, and so few can be.
const PENDING_BYTES_LIMIT: u64 = 256 << 20;
/// Most leases that one record of an opening speaks of.
const LEASES_PER_RECORD: usize = 1_024;

/// What recovery found when a store was opened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// The directory was empty, and a new store was made.
    pub is_new: bool,
    /// Files that were found, whatever their state.
    pub files: u64,
    /// Files found pending or leased.
    pub recovered: u64,
    /// Records of the journal that were replayed.
    pub replayed: u64,
    /// Records behind the end of the log that were dropped: nothing confirmed as durable was among them.
    pub dropped: u64,
    /// The last LSN of the recovered log.
    pub end: Lsn,
    /// The highest LSN that the disk said was durable.
    pub durable: Lsn,
    /// This opening.
    pub epoch: Epoch,
    /// Replayed records whose attachment is damaged although it was durable: what lives of it cannot be read, all else is
    /// well.
    pub contents_damaged: u64,
    /// Checkpoints that were damaged and passed over.
    pub checkpoints_damaged: u64,
    /// Leases of the process that died, given back.
    pub leases_released: u64,
    /// Leases of outsiders that got their full time again.
    pub leases_resumed: u64,
    /// Files that were given up because they were delivered too often.
    pub given_up: u64,
    /// The first file whose unsynced content did not survive, where the log was therefore ended.
    pub content_lost: Option<FileKey>,
    /// Files whose unsynced content could not be checked because their volume is not mounted.
    pub unchecked: u64,
    /// Tenants that have files or uploads and whose own file is missing: they are disabled until an operator creates or purges them.
    pub tenants_lost: Vec<TenantId>,
    /// Limits that were set at run time and differ from the settings; they hold.
    pub limits_differ: Vec<Scope>,
}

/// State that is being read back.
#[derive(Debug)]
pub(super) struct Rebuilt {
    pub(super) cells: Cells,
    pub(super) places: Arc<Places>,
    pub(super) limits: Limits,
    pub(super) standings: Standings,
    pub(super) epoch: Epoch,
    pub(super) stamp: Option<Stamp>,
    pub(super) replayed: u64,
    pub(super) unknown_until: Lsn,
    /// A change that does not fit is left out: what led to it is lost.
    pub(super) is_lenient: bool,
}

impl Target for Rebuilt {
    fn tenant(&mut self, tenant: &TenantId, restore: &mut dyn FnMut(&mut TenantState, &Places)) {
        let cell = self.cells.get_or_new(tenant, false);
        restore(&mut cell.state.lock(), &self.places);
    }

    fn limit(&mut self, scope: Scope, limit: Limit, last: Lsn) {
        self.limits.apply(last, scope, limit);
    }

    fn standing(&mut self, volume: VolumeId, standing: VolumeStanding, last: Lsn) {
        self.standings.apply(last, volume, standing);
    }
}

impl Rebuilt {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            cells: Cells::default(),
            places: Arc::default(),
            limits,
            standings: Standings::default(),
            epoch: Epoch::default(),
            stamp: None,
            replayed: 0,
            unknown_until: Lsn::ZERO,
            is_lenient: false,
        }
    }

    pub(super) fn replay(&mut self, lsn: Lsn, record: &Record, attachment: LogPlace) -> Result<()> {
        self.replayed += 1;
        match record {
            Record::Files { wall, time, groups } => {
                let stamp = self.note(Stamp { wall: *wall, time: *time });
                for (tenant, changes) in groups {
                    let cell = self.cells.get_or_new(tenant, false);
                    let mut state = cell.state.lock();
                    let scene = Scene {
                        lsn,
                        stamp,
                        epoch: self.epoch,
                        places: &self.places,
                        unknown_until: self.unknown_until,
                        attachment,
                    };
                    for (ordinal, change) in changes.iter().enumerate() {
                        match state.apply(&scene, ordinal, change) {
                            Err(why) if self.is_lenient => warn!(%lsn, error = %why, "change left out"),
                            done => done?,
                        }
                    }
                }
            }
            Record::Opened { wall, time, epoch } => {
                self.note(Stamp { wall: *wall, time: *time });
                self.epoch = *epoch;
            }
            Record::LimitSet { scope, limit } => self.limits.apply(lsn, scope.clone(), *limit),
            Record::VolumeStands { volume, standing } => {
                self.standings.apply(lsn, volume.clone(), *standing);
            }
            Record::TenantGone { tenant } => {
                self.limits.forget_tenant(lsn, tenant);
                let cell = self.cells.get_or_new(tenant, false);
                cell.state.lock().forget_all(lsn, &self.places);
            }
        }
        Ok(())
    }

    pub(super) fn note(&mut self, stamp: Stamp) -> Stamp {
        if self.stamp.is_none_or(|last| last.time <= stamp.time) {
            self.stamp = Some(stamp);
        }
        stamp
    }

    /// Bytes of contents in the journal, by segment.
    fn live_in_journal(&self) -> BTreeMap<u64, u64> {
        let mut live = BTreeMap::new();
        for cell in &self.cells.all {
            for entry in cell.state.lock().entries() {
                if let Rest::Journal(place) = entry.rest
                    && entry.size > 0
                {
                    *live.entry(place.segment()).or_default() += entry.size;
                }
            }
        }
        live
    }

    fn begin_live(&mut self, now: StoreTime, completed_retention: Duration) {
        self.cells.completed_retention = completed_retention;
        for cell in &self.cells.all {
            let mut state = cell.state.lock();
            state.keep_completed(completed_retention);
            state.begin_live(&self.places, now);
        }
    }
}

/// What is on the disk, read but not yet believed.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) identity: Identity,
    directory: scan::Directory,
    pub(super) survey: scan::Survey,
    pub(super) loaded: Option<Loaded>,
    /// Numbers of all checkpoints, newest first, and whether each is good.
    checkpoints: Vec<(u64, Option<Lsn>)>,
}

impl Reading {
    /// Reads checkpoints and log. Changes nothing.
    pub(super) fn read(disk: &dyn Disk, dir: &Path, identity: Identity, writable: bool) -> Result<Self> {
        let journal = journal_dir(dir);
        let mut loaded = None;
        let mut checkpoints = Vec::new();
        for number in checkpoint::find(disk, &journal)? {
            match checkpoint::check(disk, &journal, number, &identity.id) {
                Ok(good) => {
                    checkpoints.push((number, Some(good.begin)));
                    loaded = loaded.or(Some(good));
                }
                Err(why @ Error::NewerFormat { .. }) => return Err(why),
                Err(why) => {
                    warn!(number, error = %why, "checkpoint passed over");
                    checkpoints.push((number, None));
                }
            }
        }
        let directory = scan::Directory::read(disk, &journal, &identity.id, writable)?;
        if identity.begun && directory.is_blank() {
            return Err(Error::Corrupt {
                place: journal.display().to_string(),
                why: "the journal's segments are missing".into(),
            });
        }
        let begin = loaded.map_or(Lsn(1), |loaded| loaded.begin);
        let known = loaded.map_or(Lsn::ZERO, |loaded| loaded.durable);
        let survey = directory.survey(begin, known)?;
        Ok(Self { identity, directory, survey, loaded, checkpoints })
    }

    fn begin(&self) -> Lsn {
        self.loaded.map_or(Lsn(1), |loaded| loaded.begin)
    }

    /// Builds the state at `end`.
    pub(super) fn rebuild(&self, disk: &dyn Disk, dir: &Path, limits: Limits, end: Lsn) -> Result<Rebuilt> {
        let mut rebuilt = Rebuilt::new(limits);
        if let Some(Loaded { number, epoch, stamp, end, .. }) = self.loaded {
            checkpoint::load(disk, &journal_dir(dir), number, &self.identity.id, &mut rebuilt)?;
            rebuilt.epoch = epoch;
            rebuilt.unknown_until = end;
            rebuilt.note(stamp);
        }
        self.records(end, |lsn, record, place| rebuilt.replay(lsn, record, place))?;
        if let Some(stamp) = self.survey.stamp {
            rebuilt.note(stamp);
        }
        Ok(rebuilt)
    }

    fn records(&self, end: Lsn, mut visit: impl FnMut(Lsn, &Record, LogPlace) -> Result<()>) -> Result<()> {
        self.directory.replay(&self.survey, self.begin(), end, |raw, place| {
            if raw.head.flags & crate::journal::BARRIER != 0 {
                return Ok(());
            }
            visit(raw.head.lsn, &Record::decode(raw.body, raw.head.lsn)?, place)
        })
    }

    pub(super) fn journal_bytes(&self) -> u64 {
        self.directory.bytes()
    }

    /// Contents that were confirmed before they were synced, above the last barrier, and that are still needed if the
    /// log ends at `end`.
    fn doubtful(&self, end: Lsn) -> Result<Vec<Doubtful>> {
        if self.survey.held.is_empty() || !Site::ContentLookedFor.stands() {
            return Ok(Vec::new());
        }
        let mut doubtful: BTreeMap<(Lsn, usize), Doubtful> = BTreeMap::new();
        let mut by_key: HashMap<FileKey, (Lsn, usize)> = HashMap::new();
        self.records(end, |lsn, record, _| {
            let Record::Files { groups, .. } = record else { return Ok(()) };
            for (tenant, changes) in groups {
                for (ordinal, change) in changes.iter().enumerate() {
                    match change {
                        Change::Accepted(accepted) if lsn > self.survey.barrier.max(self.survey.durable) => {
                            let Resting::Volume { id, synced: false } = &accepted.place else { continue };
                            let name = accepted.original_name.as_deref();
                            let blob = BlobPath {
                                area: Area::Live,
                                owner: accepted.owner.clone().unwrap_or_else(|| StoragePath::from(tenant)),
                                key: accepted.key,
                                extension: name.map_or(Extension::NONE, Extension::of),
                            };
                            by_key.insert(accepted.key, (lsn, ordinal));
                            let (volume, size, checksum) = (id.clone(), accepted.size, accepted.checksum);
                            doubtful.insert((lsn, ordinal), Doubtful { lsn, volume, blob, size, checksum });
                        }
                        Change::Completed { keys } | Change::Reaped { keys } => {
                            for key in keys {
                                by_key.remove(key).map(|at| doubtful.remove(&at));
                            }
                        }
                        Change::Deleted { key }
                        | Change::Moved { key, .. }
                        | Change::Resealed { key, .. }
                        | Change::DeadLettered { key, .. }
                        | Change::Requeued { key, .. } => {
                            by_key.remove(key).map(|at| doubtful.remove(&at));
                        }
                        _ => {}
                    }
                }
            }
            Ok(())
        })?;
        Ok(doubtful.into_values().collect())
    }
}

/// A content that may not have survived.
#[derive(Debug)]
pub(super) struct Doubtful {
    lsn: Lsn,
    volume: VolumeId,
    blob: BlobPath,
    size: u64,
    checksum: Checksum,
}

impl Doubtful {
    /// Whether the content is there, whole; it is then made durable. An error is one of the volume, not an absence.
    async fn survived(&self, volumes: &dyn VolumeSet) -> Result<bool> {
        match self.look(volumes).await {
            Err(error) if error.is_absent() => Ok(false),
            // A volume that knows checksums of its own says so itself.
            Err(Error::Corrupt { .. } | Error::ChecksumMismatch { .. }) => Ok(false),
            looked => looked,
        }
    }

    async fn look(&self, volumes: &dyn VolumeSet) -> Result<bool> {
        let Some(volume) = volumes.volume(&self.volume) else {
            return Err(Error::VolumeUnavailable {
                volume: Some(self.volume.clone()),
                why: "is not mounted".into(),
            });
        };
        let reader = volume.open(&self.blob, 0..self.size).await?;
        if reader.length != self.size {
            return Ok(false);
        }
        if reader.checksum().await? != Some(self.checksum) {
            return Ok(false);
        }
        volume.sync_blob(&self.blob).await?;
        Ok(true)
    }
}

impl EmbeddedStore {
    /// Reads the identity of the store in `dir`, or makes a new one. Call it first: volumes are mounted with it. The
    /// caller holds the directory's lock. Blocks.
    ///
    /// # Errors
    /// [`Error::Corrupt`] and [`Error::NewerFormat`] for an identity that cannot be read, [`Error::Io`].
    pub fn identify(dir: &Path, disk: &dyn Disk, entropy: &dyn Entropy) -> Result<StoreId> {
        Ok(Identity::read_or_draw(disk, dir, entropy)?.id)
    }

    /// Opens the store in `config.dir`, which the caller holds locked, and says what was found.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when anything that was durable is damaged or missing: then nothing was changed.
    /// [`Error::NewerFormat`], [`Error::InvalidSetting`], [`Error::Io`].
    ///
    /// # Cancel safety
    /// Dropping the future leaves a directory that opens again.
    pub async fn open(config: StoreConfig) -> Result<(Arc<Self>, OpenReport)> {
        let max_deliveries = check_options(&config.options)?;
        let limits = Limits::from_settings(&config.options)?;
        let here = config.clone();
        let reading = off_thread(&*config.disk, move || {
            let identity = Identity::read_or_draw(&*here.disk, &here.dir, &*here.entropy)?;
            let journal = journal_dir(&here.dir);
            if !identity.begun {
                create_dirs(&*here.disk, &journal)?;
            }
            Reading::read(&*here.disk, &here.dir, identity, true)
        })
        .await?;
        let mut report = OpenReport {
            is_new: !reading.identity.begun,
            dropped: reading.survey.dropped,
            durable: reading.survey.durable,
            end: reading.survey.end,
            contents_damaged: reading.survey.damaged,
            checkpoints_damaged: reading.checkpoints.iter().filter(|(_, good)| good.is_none()).count() as u64,
            ..OpenReport::default()
        };
        // Contents that were confirmed before they were synced: the first that is certainly gone ends the log. That may cut
        // off the completion of an earlier file whose content was not looked at because of it: look again until all is well.
        let reading = Arc::new(reading);
        let mut checked = BTreeSet::new();
        let mut unchecked = Vec::new();
        loop {
            let (here, end) = (Arc::clone(&reading), report.end);
            let doubtful = off_thread(&*config.disk, move || here.doubtful(end)).await?;
            let mut cut = None;
            report.unchecked = 0;
            unchecked.clear();
            for content in doubtful {
                if checked.contains(&content.blob.key) {
                    continue;
                }
                match content.survived(&*config.volumes).await {
                    Ok(true) => {
                        checked.insert(content.blob.key);
                    }
                    Ok(false) => {
                        cut = Some((content.blob.key, Lsn(content.lsn.0 - 1)));
                        break;
                    }
                    Err(why @ Error::VolumeUnavailable { .. }) => {
                        report.unchecked += 1;
                        warn!(key = %content.blob.key, error = %why, "unsynced content not checked");
                        unchecked.push(content);
                    }
                    Err(why) => return Err(why),
                }
            }
            let Some((key, end)) = cut else { break };
            report.content_lost = Some(key);
            report.end = end;
        }
        let reading = Arc::into_inner(reading).expect("because nobody else has it any more");
        let here = config.clone();
        let (store, report) =
            off_thread(&*config.disk, move || Self::resume(here, reading, limits, max_deliveries, report))
                .await?;
        *store.unchecked.lock() = unchecked;
        if let Err(why) = store.grow_spare().await {
            warn!(error = %why, source = ?std::error::Error::source(&why), "no room for the next checkpoint yet");
        }
        info!(
            files = report.files, replayed = report.replayed, dropped = report.dropped, end = %report.end,
            released = report.leases_released, "store opened"
        );
        Ok((Arc::new(store), report))
    }

    /// Looks at contents that recovery could not look at, once their volume is there. One that did not survive is told; it
    /// is that file alone, and its read is an error. Volumes that fail meanwhile are tried again when they come back.
    pub(super) async fn check_returned(&self) {
        let (returned, away): (Vec<_>, Vec<_>) = std::mem::take(&mut *self.unchecked.lock())
            .into_iter()
            .partition(|content| self.config.volumes.volume(&content.volume).is_some());
        *self.unchecked.lock() = away;
        for content in returned {
            match content.survived(&*self.config.volumes).await {
                Ok(true) => {}
                Ok(false) if self.knowledge(&content.volume, &content.blob) != Knowledge::Recorded => {}
                Ok(false) => {
                    error!(key = %content.blob.key, volume = %content.volume, "content did not survive");
                }
                Err(why) => {
                    warn!(key = %content.blob.key, error = %why, "unsynced content not checked");
                    self.unchecked.lock().push(content);
                }
            }
        }
    }

    /// How many contents wait for their volume to be looked at.
    #[must_use]
    pub fn unchecked(&self) -> u64 {
        self.unchecked.lock().len() as u64
    }

    /// Builds the state, makes what was recovered durable, and only then begins a new segment and a new epoch.
    fn resume(
        config: StoreConfig,
        reading: Reading,
        limits: Limits,
        max_deliveries: u32,
        mut report: OpenReport,
    ) -> Result<(Self, OpenReport)> {
        let disk = Arc::clone(&config.disk);
        let mut rebuilt = reading.rebuild(&*disk, &config.dir, limits, report.end)?;
        reading.directory.sync(&reading.survey)?;
        let Reading { mut identity, directory, survey, loaded, checkpoints } = reading;
        let journal_dir = journal_dir(&config.dir);
        let mut kept: Vec<(u64, Lsn)> =
            checkpoints.iter().rev().filter_map(|(number, begin)| Some((*number, (*begin)?))).collect();
        // One more than is needed was kept by a process that died as soon as it had published the newest.
        let superfluous: Vec<_> = kept.drain(..kept.len().saturating_sub(checkpoint::KEPT)).collect();
        let damaged = checkpoints.iter().filter(|(_, good)| good.is_none());
        let aside: Vec<u64> =
            damaged.map(|(number, _)| *number).chain(superfluous.iter().map(|(number, _)| *number)).collect();
        for number in &aside {
            checkpoint::put_aside(&*disk, &journal_dir, *number);
        }
        // The name of the newest checkpoint may not be durable, when a process was killed as it published that, nor those of
        // the files just put aside. All older names are: each opening and each publication syncs them.
        sync_dir(&*disk, &journal_dir, Site::SpareName).map_err(Error::io("sync", &journal_dir))?;
        let numbers: Vec<u64> = kept.iter().map(|(number, _)| *number).collect();
        checkpoint::settle_spares(&*disk, &journal_dir, &numbers)?;
        let next_checkpoint = checkpoints.first().map_or(1, |(number, _)| number + 1);
        // Only two good checkpoints free anything: with one, its elder may be the one that is read next time.
        let needed = if kept.len() >= 2 { kept[kept.len() - 2].1 } else { Lsn::ZERO };
        let zone = LandingZone::of(&config, directory.bytes())?;
        let resume =
            directory.resume(&survey, report.end, needed, rebuilt.live_in_journal(), zone.segment_size_min);
        let clock = Arc::new(StoreClock::resume(
            Arc::clone(&config.clock),
            rebuilt.stamp,
            config.options.downtime_max,
        ));
        let journal = Journal::start(
            JournalConfig {
                disk: Arc::clone(&disk),
                dir: journal_dir,
                store: identity.id,
                entropy: Arc::clone(&config.entropy),
                segment_size_min: zone.segment_size_min,
                segment_size: zone.segment_size,
                zone_bytes_max: zone.bytes_max,
                pending_bytes_max: config.options.pending_bytes_max,
                max_unsynced_bytes: config.options.max_unsynced_bytes,
            },
            Arc::clone(&clock),
            resume,
        )?;
        let epoch = Epoch { count: rebuilt.epoch.count + 1, random: config.entropy.next_u64() };
        rebuilt.begin_live(clock.now(), config.options.completed_retention);
        report.epoch = epoch;
        report.replayed = rebuilt.replayed;
        report.limits_differ = rebuilt.limits.differences();
        let store = Self {
            id: identity.id,
            secret: identity.secret,
            epoch,
            max_deliveries,
            journal,
            clock,
            places: rebuilt.places,
            limits: RwLock::new(rebuilt.limits),
            standings: RwLock::new(rebuilt.standings),
            schedule: Schedule::default(),
            cells: RwLock::new(rebuilt.cells),
            reap: Arc::new(Mutex::new(ReapQueue::default())),
            reap_changed: Arc::new(Notify::new()),
            suspects: Mutex::default(),
            leasing_ended: AtomicBool::new(false),
            unsynced_volumes: Mutex::default(),
            unchecked: Mutex::default(),
            barrier: tokio::sync::Mutex::new(()),
            verifying: tokio::sync::Mutex::default(),
            checkpoints: Checkpoints::new(kept, next_checkpoint, loaded.map_or(0, |loaded| loaded.bytes)),
            inline_limits: zone.limits,
            moved: Moved::default(),
            emptying: Emptying::default(),
            background_error: Mutex::new(None),
            config,
        };
        store.begin_epoch(&mut report)?;
        store.journal.flush_here()?;
        if !identity.begun {
            identity.begun = true;
            identity.write(&*disk, &store.config.dir)?;
        }
        Ok((store, report))
    }

    /// The first records of an opening: the epoch, and what became of the leases that the closing left.
    fn begin_epoch(&self, report: &mut OpenReport) -> Result<()> {
        let stamp = self.clock.stamp();
        let opened = Record::Opened { wall: stamp.wall, time: stamp.time, epoch: self.epoch };
        let mut room = self.room_here(FRAME_BYTES)?;
        self.journal.append(&mut room, opened.encode(), 0)?;
        let cells = self.cells.read().all.clone();
        for cell in cells {
            let mut state = cell.state.lock();
            let mut released = Vec::new();
            let mut given_up = Vec::new();
            let mut resumed = Vec::new();
            for entry in state.entries() {
                report.files += 1;
                report.recovered +=
                    u64::from(matches!(entry.status, FileStatus::Pending | FileStatus::Processing));
                let Some(delivery) =
                    entry.delivery.as_ref().filter(|_| entry.status == FileStatus::Processing)
                else {
                    continue;
                };
                match delivery.owner {
                    Owner::Outside => {
                        if entry.is_suspect() {
                            self.take_suspect(cell.no, entry.key); // it is still out
                        }
                        let ttl = Duration::from_micros(delivery.ttl_micros);
                        resumed.push((entry.key, stamp.time.saturating_add(ttl)));
                    }
                    Owner::Process if entry.attempts >= self.max_deliveries => given_up.push(entry.key),
                    Owner::Process => released.push(entry.key),
                }
            }
            report.leases_released += (released.len() + given_up.len()) as u64;
            report.leases_resumed += resumed.len() as u64;
            report.given_up += given_up.len() as u64;
            let mut changes = Vec::new();
            for keys in released.chunks(LEASES_PER_RECORD) {
                changes.push(Change::Interrupted { keys: keys.to_vec(), given_up: Vec::new() });
            }
            for keys in given_up.chunks(LEASES_PER_RECORD) {
                changes.push(Change::Interrupted { keys: Vec::new(), given_up: keys.to_vec() });
            }
            for leases in resumed.chunks(LEASES_PER_RECORD) {
                changes.push(Change::Resumed { leases: leases.to_vec() });
            }
            for change in changes {
                let mut room = self.room_here(keys_bound(LEASES_PER_RECORD * 2))?;
                self.commit(&cell, &mut state, &mut room, stamp, &[change])?;
            }
            // Whatever waits must stand in the schedule, also when nothing was changed.
            state.effects.ready = true;
            self.after(&cell, &mut state);
        }
        Ok(())
    }

    /// Room while no keeper runs.
    fn room_here(&self, body: usize) -> Result<crate::journal::Room> {
        loop {
            if let Some(room) = self.journal.reserve_now(body) {
                return Ok(room);
            }
            self.journal.write_here();
            if let Some(room) = self.journal.reserve_now(body) {
                return Ok(room);
            }
            self.journal.grow_here()?;
        }
    }
}

/// How much of the journal contents may take, and what follows for its segments.
struct LandingZone {
    limits: InlineLimits,
    bytes_max: u64,
    segment_size_min: u64,
    segment_size: u64,
}

impl LandingZone {
    fn of(config: &StoreConfig, journal_bytes: u64) -> Result<Self> {
        let options = &config.options;
        let space = config.disk.space(&config.dir).map_err(Error::io("measure the disk of", &config.dir))?;
        // What the journal has already is part of what it may have.
        let available = space.available.saturating_add(journal_bytes);
        let bytes_max = match options.landing_zone_max {
            Some(bytes) if bytes > space.total && options.inline_content_max > 0 => {
                return Err(Error::InvalidSetting {
                    name: "journal.landing_zone_max".into(),
                    why: format!(
                        "is {bytes} bytes, more than the disk of the data directory has ({})",
                        space.total
                    )
                    .into(),
                });
            }
            Some(bytes) => bytes,
            None => (available / 10).max(ZONE_DEFAULT_MIN).min(available / 2),
        };
        let content_bytes_max = options.inline_content_max;
        let roomy = content_bytes_max.max(INLINE_ROOM_MIN);
        let batch_bytes_max = if content_bytes_max == 0 { 0 } else { SEGMENT_PART * roomy / 4 };
        let segment_size_min = (SEGMENT_PART * roomy).max(SEGMENT_BYTES_MIN).min(options.segment_size);
        // On a small disk segments stay so small that the zone has several.
        let segment_size = options.segment_size.min((bytes_max / ZONE_SEGMENTS_MIN).max(segment_size_min));
        let limits = InlineLimits { content_bytes_max, batch_bytes_max };
        Ok(Self { limits, bytes_max, segment_size_min, segment_size })
    }
}

/// Refuses settings that cannot work, by name; says the most deliveries of a file.
fn check_options(options: &EngineOptions) -> Result<u32> {
    let invalid =
        |name: &'static str, why: String| Error::InvalidSetting { name: name.into(), why: why.into() };
    let retries = options.retry_policy.max_retries;
    let max_deliveries = options.max_deliveries.unwrap_or_else(|| retries.saturating_mul(2).max(10));
    if max_deliveries < retries || max_deliveries == 0 {
        return Err(invalid(
            "leases.max_deliveries",
            format!(
                "is {max_deliveries}, less than retry.max_retries ({retries}): a file could never fail so often"
            ),
        ));
    }
    if options.segment_size < SEGMENT_BYTES_MIN || options.segment_size > 1 << 30 {
        return Err(invalid(
            "journal.segment_size",
            format!("is {} bytes: use 1 MiB to 1 GiB", options.segment_size),
        ));
    }
    if options.inline_content_max > options.segment_size / SEGMENT_PART {
        return Err(invalid(
            "journal.inline_content_max",
            format!(
                "is {} bytes, more than a sixteenth of journal.segment_size ({})",
                options.inline_content_max, options.segment_size
            ),
        ));
    }
    if let Some(zone) = options.landing_zone_max
        && zone < ZONE_SEGMENTS_MIN * options.segment_size
        && options.inline_content_max > 0
    {
        return Err(invalid(
            "journal.landing_zone_max",
            format!("is {zone} bytes, less than four segments of {} bytes", options.segment_size),
        ));
    }
    if options.visibility_timeout.is_zero() {
        return Err(invalid(
            "leases.visibility_timeout",
            "is zero: a lease would end before it begins".into(),
        ));
    }
    if options.max_unsynced.is_zero() || options.max_unsynced_bytes == 0 || options.pending_bytes_max == 0 {
        return Err(invalid("engine.max_unsynced", "and the bounds beside it must be more than zero".into()));
    }
    if options.pending_bytes_max > PENDING_BYTES_LIMIT {
        return Err(invalid(
            "journal.pending_max",
            format!("is {} bytes: use at most 256 MiB", options.pending_bytes_max),
        ));
    }
    Ok(max_deliveries)
}

#[cfg(test)]
mod tests {
    use locus_core::RetryPolicy;
    use rstest::rstest;

    use super::*;

    const MIB: u64 = 1 << 20;

    /// The smallest of everything that goes together.
    fn least() -> EngineOptions {
        EngineOptions {
            segment_size: SEGMENT_BYTES_MIN,
            inline_content_max: SEGMENT_BYTES_MIN / 16,
            landing_zone_max: Some(4 * SEGMENT_BYTES_MIN),
            visibility_timeout: Duration::from_nanos(1),
            max_unsynced: Duration::from_nanos(1),
            max_unsynced_bytes: 1,
            pending_bytes_max: 1,
            max_deliveries: Some(1),
            retry_policy: RetryPolicy { max_retries: 1, ..RetryPolicy::default() },
            ..EngineOptions::default()
        }
    }

    #[rstest]
    #[case::the_least_of_all(least())]
    #[case::the_largest_segment(EngineOptions {
        segment_size: 1 << 30,
        landing_zone_max: Some(4 << 30),
        ..least()
    })]
    #[case::the_most_pending(EngineOptions { pending_bytes_max: 256 * MIB, ..least() })]
    #[case::no_content_in_the_journal(EngineOptions {
        inline_content_max: 0,
        landing_zone_max: Some(0),
        ..least()
    })]
    #[case::the_zone_is_left_to_the_disk(EngineOptions { landing_zone_max: None, ..least() })]
    fn settings_at_their_limits_are_taken(#[case] options: EngineOptions) {
        assert!(matches!(check_options(&options), Ok(1)), "{:?}", check_options(&options));
    }

    #[rstest]
    #[case(EngineOptions { segment_size: MIB - 1, inline_content_max: 0, ..least() }, "journal.segment_size")]
    #[case(
        EngineOptions { segment_size: (1 << 30) + 1, landing_zone_max: None, ..least() }, "journal.segment_size"
    )]
    #[case(EngineOptions { inline_content_max: MIB / 16 + 1, ..least() }, "journal.inline_content_max")]
    #[case(EngineOptions { inline_content_max: MIB, ..least() }, "journal.inline_content_max")]
    #[case(EngineOptions { landing_zone_max: Some(4 * MIB - 1), ..least() }, "journal.landing_zone_max")]
    #[case(EngineOptions { visibility_timeout: Duration::ZERO, ..least() }, "leases.visibility_timeout")]
    #[case(EngineOptions { max_unsynced: Duration::ZERO, ..least() }, "engine.max_unsynced")]
    #[case(EngineOptions { max_unsynced_bytes: 0, ..least() }, "engine.max_unsynced")]
    #[case(EngineOptions { pending_bytes_max: 0, ..least() }, "engine.max_unsynced")]
    #[case(EngineOptions { pending_bytes_max: 256 * MIB + 1, ..least() }, "journal.pending_max")]
    #[case(EngineOptions { max_deliveries: Some(0), ..least() }, "leases.max_deliveries")]
    #[case(
        EngineOptions { max_deliveries: Some(2), retry_policy: RetryPolicy::default(), ..least() },
        "leases.max_deliveries"
    )]
    fn a_setting_beyond_its_limit_is_refused_by_name(#[case] options: EngineOptions, #[case] setting: &str) {
        let Err(Error::InvalidSetting { name, .. }) = check_options(&options) else { panic!("it was taken") };
        assert_eq!(name, setting);
    }

    #[rstest]
    #[case(0, 10)]
    #[case(5, 10)]
    #[case(6, 12)]
    #[case(u32::MAX, u32::MAX)]
    fn deliveries_end_at_ten_or_at_twice_the_retries_unless_it_is_said(
        #[case] retries: u32,
        #[case] most: u32,
    ) {
        let retry_policy = RetryPolicy { max_retries: retries, ..RetryPolicy::default() };
        let options = EngineOptions { retry_policy, max_deliveries: None, ..least() };
        assert!(matches!(check_options(&options), Ok(found) if found == most));
    }
}
