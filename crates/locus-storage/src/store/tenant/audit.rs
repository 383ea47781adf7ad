//! Counting anew, page by page, beside running work: what is held incrementally against what the entries add up to.
//!
//! Entries before a mark are in the sums, and whatever happens to one of them changes the sums as it changes what is
//! held. When the mark has passed the last entry, both must say the same at any moment at which the tenant is locked.

use std::collections::{BTreeMap, HashMap};

use locus_core::{BlobPath, Checksum, FileKey, LogicalDir, SealKeyId, TenantCounts, UploadLoad};

use super::{DirNo, Dirs, Entry, InFlight, Queues, Rest, TenantState, VolumeNo, Waits};
use crate::{
    journal::LogPlace,
    store::{entry::Order, limits::Tally, verify::Counted},
};

/// What somebody counts anew.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// Entries before it are counted.
    mark: u32,
    sums: Sums,
    /// Files of each directory, and of each with all beneath it.
    directories: HashMap<DirNo, [Tally; 2]>,
    /// Dead letters that name a directory.
    aside: HashMap<DirNo, u64>,
}

/// What the entries of a tenant add up to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    counts: TenantCounts,
    /// Entries that wait for a worker, due or not,
    waiting: u64,
    /// for the end of a lease,
    leased: u64,
    /// and to be reaped.
    pub(crate) over: u64,
    pub(crate) saved_bytes: u64,
    /// Files by volume, the journal as one.
    pub(crate) volumes: BTreeMap<VolumeNo, u64>,
    /// Bytes by segment of the journal.
    pub(crate) segments: BTreeMap<u64, u64>,
    /// Contents by the key that they are sealed with.
    pub(crate) seals: BTreeMap<SealKeyId, u64>,
}

impl Sums {
    pub(crate) fn files(&self) -> u64 {
        self.counts.files()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.counts.bytes
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.counts.pending += other.counts.pending;
        self.counts.processing += other.counts.processing;
        self.counts.completed += other.counts.completed;
        self.counts.permanently_failed += other.counts.permanently_failed;
        self.counts.deleted += other.counts.deleted;
        self.counts.bytes += other.counts.bytes;
        self.counts.dead_lettered += other.counts.dead_lettered;
        self.counts.dead_letter_bytes += other.counts.dead_letter_bytes;
        self.waiting += other.waiting;
        self.leased += other.leased;
        self.over += other.over;
        self.saved_bytes += other.saved_bytes;
        other.volumes.iter().for_each(|(no, files)| *self.volumes.entry(*no).or_default() += files);
        other.seals.iter().for_each(|(key, files)| *self.seals.entry(*key).or_default() += files);
        other.segments.iter().for_each(|(no, bytes)| *self.segments.entry(*no).or_default() += bytes);
    }

    fn tell(&mut self, entry: &Entry, saved_bytes: u64, more: bool) {
        let change = |number: &mut u64, by: u64| {
            *number = if more { number.wrapping_add(by) } else { number.wrapping_sub(by) };
        };
        let (files, bytes) = super::slots(&mut self.counts, entry);
        change(files, 1);
        change(bytes, entry.size);
        change(&mut self.saved_bytes, saved_bytes);
        match entry.waits() {
            Waits::Ready | Waits::Suspect | Waits::Delayed(_) => change(&mut self.waiting, 1),
            Waits::Leased(_) => change(&mut self.leased, 1),
            Waits::Over => change(&mut self.over, 1),
            Waits::Nowhere => {}
        }
        change(self.volumes.entry(entry.rest.number()).or_default(), 1);
        if let Some(seal) = entry.cold.as_ref().and_then(|cold| cold.seal.as_ref()) {
            change(self.seals.entry(seal.key).or_default(), 1);
        }
        if let Rest::Journal(place) = entry.rest
            && entry.size > 0
        {
            change(self.segments.entry(place.segment()).or_default(), entry.size);
        }
    }
}

/// What the uploads of a tenant add up to.
#[derive(Debug, Clone, Default)]
pub(crate) struct UploadSums {
    pub(crate) saved_bytes: u64,
    pub(crate) volumes: BTreeMap<VolumeNo, UploadLoad>,
    /// Uploads by the key that they are sealed with.
    pub(crate) seals: BTreeMap<SealKeyId, u64>,
}

impl UploadSums {
    pub(crate) fn add(&mut self, other: &Self) {
        self.saved_bytes += other.saved_bytes;
        other.seals.iter().for_each(|(key, uploads)| *self.seals.entry(*key).or_default() += uploads);
        for (no, load) in &other.volumes {
            let sum = self.volumes.entry(*no).or_default();
            sum.uploads += load.uploads;
            sum.bytes_left += load.bytes_left;
        }
    }
}

/// A file whose content is to be looked at.
#[derive(Debug, Clone)]
pub(crate) struct Resting {
    pub(crate) blob: BlobPath,
    pub(crate) rest: Rest,
    pub(crate) size: u64,
    pub(crate) checksum: Checksum,
}

/// What a page of entries showed.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) files: u64,
    /// Living files.
    pub(crate) resting: Vec<Resting>,
    /// Files that are not where they should wait, or cannot be found by their key.
    pub(crate) misfiled: Vec<FileKey>,
    /// Files whose place in the journal is none.
    pub(crate) misplaced: Vec<(FileKey, LogPlace)>,
    /// More entries come.
    pub(crate) more: bool,
}

impl Queues {
    fn has(&self, volume: VolumeNo, order: Order, at: u32) -> bool {
        self.0.iter().any(|(no, queue)| *no == volume && queue.get(&order) == Some(&at))
    }

    fn len(&self) -> u64 {
        self.0.iter().map(|(_, queue)| queue.len() as u64).sum()
    }
}

impl TenantState {
    /// Begins to count anew.
    pub(crate) fn begin_audit(&mut self) {
        self.audit = Some(Box::default());
    }

    pub(crate) fn end_audit(&mut self) {
        self.audit = None;
    }

    /// An entry is about to count, or no more.
    pub(super) fn tell_audit(&mut self, at: u32, more: bool) {
        let Some(audit) = self.audit.as_deref_mut().filter(|audit| at < audit.mark) else { return };
        let entry = &self.files[at];
        let saved = entry.saved_bytes() + self.dirs.path(entry.directory).as_str().len() as u64;
        audit.tell(entry, saved, &self.dirs, more);
    }

    /// Counts the next `max` entries. `holds` says whether bytes lie within the journal.
    pub(crate) fn audit_page(&mut self, max: u32, holds: impl Fn(LogPlace, u64) -> bool) -> Page {
        let mut page = Page::default();
        let Some(mut audit) = self.audit.take() else { return page };
        let end = self.files.end();
        let slice = audit.mark.min(end)..end.min(audit.mark.saturating_add(max));
        audit.mark = slice.end;
        page.more = slice.end < end;
        for at in slice {
            let Some(entry) = self.files.get(at) else { continue };
            page.files += 1;
            audit.tell(entry, self.saved_bytes(at), &self.dirs, true);
            if self.find(&entry.key) != Some(at) || !self.is_filed(at) {
                page.misfiled.push(entry.key);
            }
            if let Rest::Journal(place) = entry.rest
                && entry.size > 0
                && !holds(place, entry.size)
            {
                page.misplaced.push((entry.key, place));
            } else if self.stays(entry) {
                let blob = self.blob(entry);
                let Entry { rest, size, checksum, .. } = *entry;
                page.resting.push(Resting { blob, rest, size, checksum });
            }
        }
        if !page.more {
            audit.mark = u32::MAX; // whatever comes is told
        }
        self.audit = Some(audit);
        page
    }

    /// Numbers that are held and are not what the entries add up to, once all were counted.
    pub(crate) fn audit_counts(&self) -> Vec<(Counted, u64, u64)> {
        let Some(Sums { counts, waiting, leased, .. }) = self.audit_sums() else { return Vec::new() };
        let held = &self.counts;
        let queued = self.ready.len() + self.suspects.len() + self.delayed.len() as u64;
        let all = [
            (Counted::Pending, held.pending, counts.pending),
            (Counted::Processing, held.processing, counts.processing),
            (Counted::Completed, held.completed, counts.completed),
            (Counted::PermanentlyFailed, held.permanently_failed, counts.permanently_failed),
            (Counted::Deleted, held.deleted, counts.deleted),
            (Counted::Bytes, held.bytes, counts.bytes),
            (Counted::DeadLettered, held.dead_lettered, counts.dead_lettered),
            (Counted::DeadLetterBytes, held.dead_letter_bytes, counts.dead_letter_bytes),
            (Counted::Waiting, queued, *waiting),
            (Counted::Leased, self.leased.len() as u64, *leased),
            (Counted::ReservedBytes, self.reserved.bytes, self.in_flight.values().map(|f| f.bytes).sum()),
        ];
        all.into_iter().filter(|(_, held, actual)| held != actual).collect()
    }

    /// The same of the next `max` directories behind index `from`; says also where to go on.
    #[expect(clippy::type_complexity, reason = "three numbers of each, and the next index")]
    pub(crate) fn audit_directories(
        &self,
        from: u32,
        max: u32,
    ) -> (Vec<(LogicalDir, Counted, u64, u64)>, Option<u32>) {
        let mut wrong = Vec::new();
        let Some(audit) = &self.audit else { return (wrong, None) };
        let mut reserved: HashMap<DirNo, [Tally; 2]> = HashMap::new();
        for InFlight { directory, bytes } in self.in_flight.values() {
            tell(&mut reserved, &self.dirs, *directory, Tally::one(*bytes), true);
        }
        let (page, next) = self.dirs.page(from, max);
        for (no, dir) in page {
            let [own, tree] = audit.directories.get(&no).copied().unwrap_or_default();
            let [own_reserved, tree_reserved] = reserved.get(&no).copied().unwrap_or_default();
            let mut compare = |what, held, actual| {
                if held != actual {
                    wrong.push((dir.path.clone(), what, held, actual));
                }
            };
            compare(Counted::DirectoryFiles, dir.own.counted.files, own.files);
            compare(Counted::DirectoryBytes, dir.own.counted.bytes, own.bytes);
            compare(Counted::DirectoryReserved, dir.own.reserved.files, own_reserved.files);
            compare(Counted::DirectoryReservedBytes, dir.own.reserved.bytes, own_reserved.bytes);
            compare(Counted::SubtreeFiles, dir.tree.counted.files, tree.files);
            compare(Counted::SubtreeBytes, dir.tree.counted.bytes, tree.bytes);
            compare(Counted::SubtreeReserved, dir.tree.reserved.files, tree_reserved.files);
            compare(Counted::SubtreeReservedBytes, dir.tree.reserved.bytes, tree_reserved.bytes);
            let aside = audit.aside.get(&no).copied().unwrap_or(0);
            compare(Counted::DirectoryUses, dir.uses, own.files + aside + own_reserved.files + dir.beneath);
            compare(Counted::DirectoryNames, u64::from(self.dirs.is_indexed(no)), 1);
        }
        (wrong, next)
    }

    /// What all entries add up to, once all were counted.
    pub(crate) fn audit_sums(&self) -> Option<&Sums> {
        self.audit.as_deref().filter(|audit| audit.mark == u32::MAX).map(|audit| &audit.sums)
    }

    /// What all uploads under way add up to.
    pub(crate) fn upload_sums(&self) -> UploadSums {
        let mut sums = UploadSums::default();
        for upload in self.uploads().after(None) {
            sums.saved_bytes += upload.saved_bytes();
            let load = sums.volumes.entry(upload.volume).or_default();
            load.uploads += 1;
            load.bytes_left += upload.bytes_left();
            if let Some(seal) = &upload.seal {
                *sums.seals.entry(seal.key).or_default() += 1;
            }
        }
        sums
    }

    /// How many writes are remembered.
    pub(crate) fn remembered_count(&self) -> u64 {
        self.remembered.len() as u64
    }

    /// Whether the content of this key rests there still, and stays.
    pub(crate) fn rests_at(&self, key: &FileKey, rest: Rest) -> bool {
        self.get(key).is_some_and(|entry| self.stays(entry) && entry.rest == rest)
    }

    /// Whether this content is where it was found.
    pub(crate) fn holds_still(&self, file: &Resting) -> bool {
        self.get(&file.blob.key).is_some_and(|entry| {
            self.stays(entry) && entry.rest == file.rest && entry.checksum == file.checksum
        })
    }

    /// Whether the entry waits where it should.
    fn is_filed(&self, at: u32) -> bool {
        let entry = &self.files[at];
        let (order, volume) = (entry.order, entry.rest.number());
        match entry.waits() {
            Waits::Ready => self.ready.has(volume, order, at),
            Waits::Suspect => self.suspects.has(volume, order, at),
            Waits::Delayed(due) => {
                self.delayed.get(&(due, order)) == Some(&at)
                    || self.suspects.has(volume, order, at)
                    || self.ready.has(volume, order, at)
            }
            Waits::Leased(deadline) => self.leased.contains(&(deadline, at)),
            // Kept for a while, or among those that wait to be reaped.
            Waits::Over | Waits::Nowhere => true,
        }
    }
}

impl Audit {
    fn tell(&mut self, entry: &Entry, saved_bytes: u64, dirs: &Dirs, more: bool) {
        self.sums.tell(entry, saved_bytes, more);
        if entry.counts() {
            tell(&mut self.directories, dirs, entry.directory, Tally::one(entry.size), more);
            return;
        }
        let aside = self.aside.entry(entry.directory).or_default();
        *aside = if more { *aside + 1 } else { *aside - 1 };
        if *aside == 0 {
            self.aside.remove(&entry.directory); // the number may be given to another directory
        }
    }
}

/// Counts what lies in a directory for it, and for it and all above it.
fn tell(tallies: &mut HashMap<DirNo, [Tally; 2]>, dirs: &Dirs, no: DirNo, what: Tally, more: bool) {
    for above in dirs.upwards(no) {
        let [own, tree] = tallies.entry(above).or_default();
        let change = |tally: &mut Tally| if more { tally.add(what) } else { tally.subtract(what) };
        change(tree);
        if above == no {
            change(own);
        }
        if tree.files == 0 {
            tallies.remove(&above); // the number may be given to another directory
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use locus_core::{Epoch, Lsn, Owner, StoreTime, TenantId, VolumeId};
    use rstest::rstest;

    use super::*;
    use crate::store::limits::{Ceiling, Limits};
    use crate::{
        store::{
            event::{Accepted, Change, Resting as Rests},
            places::Places,
            tenant::Scene,
        },
        time::Stamp,
    };

    fn key(number: u8) -> FileKey {
        FileKey::from_bytes([number; 16])
    }

    fn apply(state: &mut TenantState, places: &Places, lsn: u64, change: Change) {
        let scene = Scene {
            lsn: Lsn(lsn),
            stamp: Stamp::default(),
            epoch: Epoch::default(),
            places,
            unknown_until: Lsn::ZERO,
            attachment: LogPlace::new(3, 8_192),
        };
        state.apply(&scene, 0, &change).unwrap();
    }

    fn accept(state: &mut TenantState, places: &Places, number: u8) {
        let place = match number % 2 {
            0 => Rests::Inline { at: 0 },
            _ => Rests::Volume { id: VolumeId::parse("vol-0").unwrap(), synced: true },
        };
        let accepted = Accepted {
            key: key(number),
            owner: None,
            directory: LogicalDir::parse(["/", "/in"][usize::from(number.is_multiple_of(3))]).unwrap(),
            original_name: None,
            properties: BTreeMap::new(),
            size: u64::from(number),
            checksum: Checksum::of(b""),
            place,
            idempotency: None,
        };
        places.take(Ceiling::NONE, Tally::one(u64::from(number))).unwrap();
        apply(state, places, u64::from(number), Change::Accepted(accepted));
    }

    fn lease(state: &mut TenantState, places: &Places, lsn: u64, keys: Vec<FileKey>) {
        let deadline = StoreTime::from_micros(9);
        let change = Change::Leased { keys, deadline, ttl_micros: 1, owner: Owner::Process, by: None };
        apply(state, places, lsn, change);
    }

    /// Files 1 to 9: two leased, one of them completed, one delayed, one deleted, one a dead letter.
    fn full(places: &Places) -> TenantState {
        let mut state = TenantState::new(TenantId::parse("acme").unwrap(), true);
        (1..10).for_each(|number| accept(&mut state, places, number));
        lease(&mut state, places, 20, vec![key(1), key(2), key(3), key(7)]);
        apply(&mut state, places, 21, Change::Completed { keys: vec![key(1)] });
        let failed = Change::Failed {
            key: key(3),
            error: String::new(),
            available_at: Some(StoreTime::from_micros(50)),
        };
        apply(&mut state, places, 22, failed);
        apply(&mut state, places, 23, Change::Deleted { key: key(4) });
        let given_up = Change::Failed { key: key(7), error: String::new(), available_at: None };
        apply(&mut state, places, 24, given_up);
        let volume = VolumeId::parse("vol-1").unwrap();
        apply(&mut state, places, 25, Change::DeadLettered { key: key(7), volume });
        state.reserve(key(77), &LogicalDir::root(), 7, &Limits::default(), places).unwrap();
        state
    }

    /// All that is wrong in the counts, and the files that are misfiled, counted `slice` at a time.
    fn audit(state: &mut TenantState, slice: u32) -> (Vec<(Counted, u64, u64)>, Vec<FileKey>) {
        state.begin_audit();
        let mut misfiled = Vec::new();
        loop {
            let page = state.audit_page(slice, |_, _| true);
            misfiled.extend(page.misfiled);
            if !page.more {
                break;
            }
        }
        let mut wrong = state.audit_counts();
        let mut from = Some(0);
        while let Some(at) = from {
            let (directories, next) = state.audit_directories(at, slice);
            wrong.extend(directories.into_iter().map(|(_, what, held, actual)| (what, held, actual)));
            from = next;
        }
        state.end_audit();
        (wrong, misfiled)
    }

    #[rstest]
    fn b51_counts_of_a_healthy_tenant_fit_whatever_the_page(#[values(1, 2, 100)] slice: u32) {
        let places = Places::default();
        assert_eq!(audit(&mut full(&places), slice), (vec![], vec![]));
    }

    #[test]
    fn what_changes_before_or_behind_the_mark_is_counted_once() {
        for mark in 0..10 {
            let places = Places::default();
            let mut state = full(&places);
            state.begin_audit();
            (0..mark).for_each(|_| drop(state.audit_page(1, |_, _| true)));
            apply(&mut state, &places, 30, Change::Reaped { keys: vec![key(1), key(4)] });
            lease(&mut state, &places, 31, vec![key(5), key(9)]);
            accept(&mut state, &places, 40);
            accept(&mut state, &places, 41);
            accept(&mut state, &places, 42);
            let moved = Change::Moved {
                key: key(2),
                place: Rests::Volume { id: VolumeId::parse("vol-0").unwrap(), synced: true },
                size: 2,
                checksum: Checksum::of(b""),
            };
            apply(&mut state, &places, 43, moved);
            apply(&mut state, &places, 45, Change::Deleted { key: key(7) });
            while state.audit_page(1, |_, _| true).more {}
            apply(&mut state, &places, 44, Change::Released { key: key(5) });
            assert_eq!(state.audit_counts(), [], "mark {mark}");
            assert_eq!(state.audit_directories(0, 100), (vec![], None), "mark {mark}");
            let mut anew = state.audit_sums().unwrap().clone();
            state.begin_audit();
            while state.audit_page(1, |_, _| true).more {}
            anew.segments.retain(|_, bytes| *bytes > 0);
            assert_eq!(state.audit_sums(), Some(&anew), "mark {mark}");
        }
    }

    type Spoil = fn(&mut TenantState);

    #[rstest]
    #[case(Counted::Pending, |s: &mut TenantState| s.counts.pending += 1)]
    #[case(Counted::Processing, |s: &mut TenantState| s.counts.processing += 1)]
    #[case(Counted::Completed, |s: &mut TenantState| s.counts.completed -= 1)]
    #[case(Counted::PermanentlyFailed, |s: &mut TenantState| s.counts.permanently_failed += 1)]
    #[case(Counted::Deleted, |s: &mut TenantState| s.counts.deleted += 1)]
    #[case(Counted::Bytes, |s: &mut TenantState| s.counts.bytes += 1)]
    #[case(Counted::DeadLettered, |s: &mut TenantState| s.counts.dead_lettered -= 1)]
    #[case(Counted::DeadLetterBytes, |s: &mut TenantState| s.counts.dead_letter_bytes += 1)]
    #[case(Counted::Waiting, |s: &mut TenantState| { s.delayed.insert((StoreTime::ZERO, Order::from_raw(1)), 0); })]
    #[case(Counted::Leased, |s: &mut TenantState| { s.leased.insert((StoreTime::ZERO, 0)); })]
    #[case(Counted::ReservedBytes, |s: &mut TenantState| s.reserved.bytes += 1)]
    #[case(Counted::DirectoryReserved, |s: &mut TenantState| s.dirs.spoil(0).own.reserved.files += 1)]
    #[case(Counted::DirectoryReservedBytes, |s: &mut TenantState| s.dirs.spoil(0).own.reserved.bytes += 1)]
    #[case(Counted::DirectoryFiles, |s: &mut TenantState| s.dirs.spoil(0).own.counted.files -= 1)]
    #[case(Counted::DirectoryBytes, |s: &mut TenantState| s.dirs.spoil(0).own.counted.bytes += 1)]
    #[case(Counted::SubtreeReserved, |s: &mut TenantState| s.dirs.spoil(0).tree.reserved.files += 1)]
    #[case(Counted::SubtreeReservedBytes, |s: &mut TenantState| s.dirs.spoil(0).tree.reserved.bytes += 1)]
    #[case(Counted::SubtreeFiles, |s: &mut TenantState| s.dirs.spoil(0).tree.counted.files -= 1)]
    #[case(Counted::SubtreeBytes, |s: &mut TenantState| s.dirs.spoil(0).tree.counted.bytes += 1)]
    #[case(Counted::DirectoryUses, |s: &mut TenantState| s.dirs.spoil(1).uses += 1)]
    #[case(Counted::DirectoryNames, |s: &mut TenantState| s.dirs.unname(&LogicalDir::root()))]
    fn b51_each_number_that_drifted_is_found(#[case] what: Counted, #[case] spoil: Spoil) {
        let places = Places::default();
        let mut state = full(&places);
        spoil(&mut state);
        let (wrong, misfiled) = audit(&mut state, 3);
        assert_eq!(wrong.iter().map(|(what, ..)| *what).collect::<Vec<_>>(), [what]);
        assert_eq!(misfiled, []);
    }

    #[rstest]
    #[case(2, |s: &mut TenantState| s.leased.clear())]
    #[case(3, |s: &mut TenantState| s.delayed.clear())]
    #[case(6, |s: &mut TenantState| { s.ready.of(crate::store::entry::JOURNAL).pop_first(); })]
    #[case(5, |s: &mut TenantState| { let hash = crate::store::tenant::hash(&key(5)); let at = s.find(&key(5)); s.index.find_entry(hash, |other| Some(*other) == at).unwrap().remove(); })]
    fn a_file_that_nobody_would_find_is_found(#[case] lost: u8, #[case] spoil: Spoil) {
        let places = Places::default();
        let mut state = full(&places);
        spoil(&mut state);
        assert_eq!(audit(&mut state, 3).1, [key(lost)]);
    }

    #[test]
    fn a_place_outside_the_journal_is_found() {
        let places = Places::default();
        let mut state = full(&places);
        state.begin_audit();
        let page = state.audit_page(100, |place, bytes| place.offset() + bytes < 8_192 + 8);
        let misplaced: Vec<_> = page.misplaced.iter().map(|(key, _)| *key).collect();
        assert_eq!(misplaced, [key(8)]);
        assert!(page.resting.iter().all(|file| file.blob.key != key(8)));
    }
}
