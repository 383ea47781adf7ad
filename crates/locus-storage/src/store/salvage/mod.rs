//! A new log from what can be read of a damaged one.

mod report;

use std::{path::Path, sync::Arc, time::Duration};

use locus_core::{Checksum, Clock, Entropy, Error, FileKey, FileStatus, Lsn, Result, StoreId, TenantId};
use locus_fs::{Disk, off_thread};
use tracing::{info, warn};

pub use report::{LostContent, LostRecords, SalvageReport};

use super::{
    checkpoint::{self, Still, checkpoint_path, journal_dir},
    entry::Rest,
    event::{Change, FRAME_BYTES, MOVED_BYTES, Record, Resting},
    fresh_dir::FreshDir,
    identity::Identity,
    landing::attachment_of,
    limits::Limits,
    recovery::Rebuilt,
};
use crate::{
    EngineOptions,
    journal::{
        Attachment, BARRIER, Journal, JournalConfig, LogPlace, Lost, Parts, Resume, SEGMENT_BYTES_MIN, Wreck,
        store_of,
    },
    time::StoreClock,
};

/// Most files, and about as many bytes, that one record brings over.
const FILES: usize = 128;
const BYTES: u64 = 256 << 10;
/// No segment is smaller than so many contents of the largest kind.
const SEGMENT_PART: u64 = 16;
/// LSNs that are left out beyond those that files could hold, as an open does.
const LSN_CUSHION: u64 = 1 << 23;
/// Bytes that the shortest record takes.
const RECORD_BYTES: u64 = 48;

/// Writes a new log into a fresh directory, of everything that can be read in `dir`: the newest good checkpoint, every
/// good record behind it, also behind damage, and contents in the journal whose checksums hold. Nothing in `dir` is
/// changed; the caller holds its lock, adds what else belongs into the fresh directory, and
/// [finishes](FreshDir::finish) it.
///
/// What is behind damage is believed as far as it goes: a record says what happened, so what must have happened before
/// is taken as given. A file whose end was in a lost record comes back, and one whose content is lost is left out, with
/// its idempotency key. The new log is the same store to its volumes, and begins a new epoch when it is opened.
///
/// # Errors
/// [`Error::Corrupt`] when nothing there can be read; [`Error::NewerFormat`]; [`Error::Io`].
///
/// # Cancel safety
/// Dropping the future leaves the fresh directory unfinished.
pub async fn salvage(
    dir: &Path,
    into: &FreshDir,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<SalvageReport> {
    let (dir, target, root) = (dir.to_owned(), into.journal(), into.path().to_owned());
    let inner = Arc::clone(&disk);
    off_thread(&*disk, move || {
        let mut salvage = Salvage::read(&dir, inner, entropy)?;
        let journal = salvage.begin_log(target.clone(), clock)?;
        salvage.bring_over(&journal)?;
        salvage.finish(&journal, &target, &root)
    })
    .await
}

/// What was read, on its way into the new log.
struct Salvage {
    disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    identity: Identity,
    wreck: Wreck,
    rebuilt: Rebuilt,
    report: SalvageReport,
}

impl Salvage {
    /// Builds the state of everything that is good.
    fn read(dir: &Path, disk: Arc<dyn Disk>, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let journal = journal_dir(dir);
        let (identity, identity_lost) = identity_of(&*disk, dir, &*entropy)?;
        let mut report = SalvageReport {
            store: identity.id,
            files: 0,
            contents: 0,
            content_bytes: 0,
            records: 0,
            checkpoint: None,
            checkpoints_damaged: Vec::new(),
            identity_lost,
            segments_unreadable: Vec::new(),
            records_lost: Vec::new(),
            contents_lost: Vec::new(),
        };
        let mut rebuilt = Rebuilt::new(Limits::from_settings(&EngineOptions::default())?);
        // Whoever is spoken of and not known was accepted by a record that is lost.
        rebuilt.unknown_until = Lsn::MAX;
        rebuilt.is_lenient = true;
        let (mut begin, mut known) = (Lsn(1), Lsn::ZERO);
        for number in checkpoint::find(&*disk, &journal)? {
            let path = checkpoint_path(&journal, number);
            match checkpoint::check_entries(&*disk, &journal, number, &identity.id) {
                Ok(good) if report.checkpoint.is_none() => {
                    checkpoint::load(&*disk, &journal, number, &identity.id, &mut rebuilt)?;
                    rebuilt.epoch = good.epoch;
                    rebuilt.note(good.stamp);
                    (begin, known) = (good.begin, good.durable);
                    report.checkpoint = Some(path);
                }
                Ok(_) => {}
                Err(why @ Error::NewerFormat { .. }) => return Err(why),
                Err(why) => {
                    warn!(path = %path.display(), error = %why, "checkpoint passed over");
                    report.checkpoints_damaged.push(path);
                }
            }
        }
        let mut wreck = Wreck::read(&*disk, &journal, &identity.id)?;
        wreck.durable = wreck.durable.max(known);
        let mut undecodable = Vec::new();
        let lost = wreck.each(begin, |raw, attachment| {
            if raw.head.flags & BARRIER != 0 {
                return Ok(());
            }
            let lsn = raw.head.lsn;
            match Record::decode(raw.body, lsn) {
                Ok(record) => {
                    bridge(&mut rebuilt, lsn, &record);
                    rebuilt.replay(lsn, &record, attachment)?;
                }
                Err(why @ Error::NewerFormat { .. }) => return Err(why),
                Err(_) => undecodable.push(Lost { place: None, first: lsn, last: lsn }),
            }
            Ok(())
        })?;
        report.records = wreck.records;
        report.segments_unreadable.clone_from(&wreck.headless);
        let mut lost: Vec<_> = lost.into_iter().chain(undecodable).collect();
        lost.sort_by_key(|lost| lost.first);
        report.records_lost =
            lost.into_iter().map(|Lost { place, first, last }| LostRecords { place, first, last }).collect();
        if report.checkpoint.is_none() && wreck.records == 0 {
            return Err(Error::Corrupt {
                place: journal.display().to_string(),
                why: "neither a checkpoint nor a record in it can be read".into(),
            });
        }
        Ok(Self { disk, entropy, identity, wreck, rebuilt, report })
    }

    /// Begins the new log behind all that the damaged one could hold.
    fn begin_log(&self, dir: std::path::PathBuf, clock: Arc<dyn Clock>) -> Result<Arc<Journal>> {
        let largest = self.resting(|_, _, size| size).into_iter().max().unwrap_or(0);
        let segment_size_min = (SEGMENT_PART * largest).next_power_of_two().clamp(SEGMENT_BYTES_MIN, 1 << 30);
        let highest = self.wreck.highest.max(self.wreck.durable).0.max(self.last_seen().0);
        let first = Lsn(highest + self.wreck.bytes() / RECORD_BYTES + LSN_CUSHION);
        let config = JournalConfig {
            disk: Arc::clone(&self.disk),
            dir,
            store: self.identity.id,
            entropy: Arc::clone(&self.entropy),
            segment_size_min,
            segment_size: segment_size_min.max(EngineOptions::default().segment_size),
            zone_bytes_max: u64::MAX,
            pending_bytes_max: u64::MAX,
            max_unsynced_bytes: u64::MAX,
        };
        // Store time goes on when the new log is opened.
        let clock = Arc::new(StoreClock::resume(clock, self.rebuilt.stamp, Duration::ZERO));
        let resume = Resume {
            next_index: 1,
            last_number: self.wreck.last_number(),
            end: Lsn(first.0 - 1),
            first,
            ..Resume::default()
        };
        Journal::start(config, clock, resume)
    }

    /// The last LSN that any entry has seen.
    fn last_seen(&self) -> Lsn {
        let cells = self.rebuilt.cells.all.iter();
        cells.flat_map(|cell| cell.state.lock().entries().map(|e| e.last).max()).max().unwrap_or_default()
    }

    fn resting<T>(&self, each: impl Fn(&FileKey, LogPlace, u64) -> T) -> Vec<T> {
        let mut all = Vec::new();
        for cell in &self.rebuilt.cells.all {
            for entry in cell.state.lock().entries() {
                if let Rest::Journal(place) = entry.rest
                    && entry.size > 0
                {
                    all.push(each(&entry.key, place, entry.size));
                }
            }
        }
        all
    }

    /// Copies every content in the journal that is whole. Files whose content is not, and those that were deleted, are left
    /// behind.
    fn bring_over(&mut self, journal: &Arc<Journal>) -> Result<()> {
        for cell in self.rebuilt.cells.all.clone() {
            let (tenant, mut held) = {
                let state = cell.state.lock();
                let resting = state.entries().filter_map(|entry| match entry.rest {
                    Rest::Journal(place) if entry.size > 0 => {
                        let file = LostContent {
                            tenant: state.id.clone(),
                            key: entry.key,
                            size: entry.size,
                            directory: state.directory(entry),
                            original_name: entry.original_name.as_deref().map(String::from),
                            segment: place.segment(),
                            offset: place.offset(),
                        };
                        let named = entry.cold.as_deref().and_then(|cold| cold.idempotency);
                        Some(Held {
                            place,
                            checksum: entry.checksum,
                            is_over: entry.status.is_over(),
                            is_kept: entry.status != FileStatus::Deleted,
                            named,
                            file,
                        })
                    }
                    _ => None,
                });
                (state.id.clone(), resting.collect::<Vec<_>>())
            };
            held.sort_by_key(|held| held.place);
            let mut batch = Batch::default();
            for held in held {
                let size = held.file.size;
                let bytes = if held.is_kept { self.wreck.bytes_at(held.place, size) } else { None };
                match bytes.filter(|bytes| Checksum::of(bytes) == held.checksum) {
                    Some(bytes) => {
                        if batch.keys.len() >= FILES || batch.bytes > 0 && batch.bytes + size > BYTES {
                            self.move_here(journal, &tenant, std::mem::take(&mut batch))?;
                        }
                        batch.bytes += size;
                        batch.keys.push((held.file.key, held.checksum, size));
                        batch.parts.push(bytes.into());
                    }
                    None => self.leave_behind(journal, &tenant, held)?,
                }
            }
            if !batch.keys.is_empty() {
                self.move_here(journal, &tenant, batch)?;
            }
        }
        Ok(())
    }

    fn move_here(&mut self, journal: &Arc<Journal>, tenant: &TenantId, batch: Batch) -> Result<()> {
        let mut at = 0;
        let mut changes = Vec::new();
        for (key, checksum, size) in &batch.keys {
            let place = Resting::Inline { at };
            changes.push(Change::Moved { key: *key, place, size: *size, checksum: *checksum });
            at += *size as u32;
        }
        self.report.contents += batch.keys.len() as u64;
        self.report.content_bytes += batch.bytes;
        self.log(journal, tenant, changes, attachment_of(batch.parts))
    }

    /// A file whose content is not there is there no more, and its name is free: its owner may write it again.
    fn leave_behind(&mut self, journal: &Arc<Journal>, tenant: &TenantId, held: Held) -> Result<()> {
        let Held { is_over, named, file, .. } = held;
        self.log(journal, tenant, vec![Change::Reaped { keys: vec![file.key] }], Attachment::default())?;
        if is_over {
            return Ok(());
        }
        if let Some(hash) = named {
            let cell = self.rebuilt.cells.get_or_new(tenant, false);
            let its_own = cell.state.lock().remembered(hash).is_some_and(|known| known.key == file.key);
            if its_own {
                self.log(journal, tenant, vec![Change::Forgotten { hash }], Attachment::default())?;
            }
        }
        self.report.contents_lost.push(file);
        Ok(())
    }

    /// Appends a record, and applies it as every record is applied.
    fn log(
        &mut self,
        journal: &Arc<Journal>,
        tenant: &TenantId,
        changes: Vec<Change>,
        attachment: Attachment,
    ) -> Result<()> {
        let stamp = self.rebuilt.stamp.unwrap_or_default();
        let body = FRAME_BYTES + changes.len() * MOVED_BYTES;
        let record = Record::files(stamp, tenant, changes);
        let mut room = loop {
            match journal.reserve_with(body, attachment.len()) {
                Some(room) => break room,
                None => journal.grow_here()?,
            }
        };
        let appended = journal.append_with(&mut room, record.encode(), attachment, 0)?;
        journal.write_here();
        self.rebuilt.replay(appended.lsn, &record, appended.place)
    }

    /// Makes the new log durable, with a checkpoint of all that was brought over.
    fn finish(mut self, journal: &Arc<Journal>, dir: &Path, root: &Path) -> Result<SalvageReport> {
        journal.flush_here()?;
        if !self.report.records_lost.is_empty() {
            // One of them may have said that a content rests there.
            self.rebuilt.cells.all.iter().for_each(|cell| cell.state.lock().forget_copies());
        }
        let still = Still {
            store: self.identity.id,
            begin: journal.last_appended().next(),
            epoch: self.rebuilt.epoch,
            stamp: self.rebuilt.stamp.unwrap_or_default(),
            limits: &self.rebuilt.limits,
            standings: &self.rebuilt.standings,
            cells: &self.rebuilt.cells.all,
            places: &self.rebuilt.places,
        };
        checkpoint::write_still(&*self.disk, dir, &still)?;
        self.identity.begun = true;
        self.identity.write(&*self.disk, root)?;
        let cells = self.rebuilt.cells.all.iter();
        self.report.files = cells.map(|cell| cell.state.lock().entries().count() as u64).sum();
        info!(
            into = %root.display(), files = self.report.files, records = self.report.records,
            lost = self.report.records_lost.len(), contents_lost = self.report.contents_lost.len(), "store salvaged"
        );
        Ok(self.report)
    }
}

/// A content in the damaged log.
struct Held {
    place: LogPlace,
    checksum: Checksum,
    is_over: bool,
    /// Somebody may read it: it lives, or was completed and may be kept for a while.
    is_kept: bool,
    /// Its idempotency key.
    named: Option<u128>,
    file: LostContent,
}

/// Contents on their way into one record.
#[derive(Default)]
struct Batch {
    keys: Vec<(FileKey, Checksum, u64)>,
    parts: Parts,
    bytes: u64,
}

/// Who the store is. What `STORE` no longer says, the segments do, but for the secret.
fn identity_of(disk: &dyn Disk, dir: &Path, entropy: &dyn Entropy) -> Result<(Identity, bool)> {
    let why = match Identity::read(disk, dir) {
        Ok(Some(identity)) => return Ok((identity, false)),
        Ok(None) => None,
        Err(why @ Error::Corrupt { .. }) => Some(why),
        Err(why) => return Err(why),
    };
    super::fresh_dir::refuse_unfinished(disk, dir)?;
    let found: Option<StoreId> = store_of(disk, &journal_dir(dir))?;
    let Some(id) = found else {
        return Err(why.unwrap_or_else(|| Error::Corrupt {
            place: dir.display().to_string(),
            why: "there is neither a STORE file nor a segment of a journal".into(),
        }));
    };
    let mut secret = [0; 32];
    entropy.fill(&mut secret);
    Ok((Identity { id, secret, begun: true }, true))
}

/// Puts files into the states from which a record starts, where what led there is lost.
fn bridge(rebuilt: &mut Rebuilt, lsn: Lsn, record: &Record) {
    let Record::Files { groups, .. } = record else { return };
    for (tenant, changes) in groups {
        let cell = rebuilt.cells.get_or_new(tenant, false);
        let mut state = cell.state.lock();
        changes.iter().for_each(|change| state.bridge(lsn, change));
    }
}
