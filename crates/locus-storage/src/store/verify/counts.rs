//! Counts and references: what is held as files come and go, counted anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering},
};

use locus_core::{Result, TenantId};

use super::{Counted, Finding, VerifyLevel, Verifying};
use crate::store::{
    embedded::{Cell, EmbeddedStore},
    entry::JOURNAL,
    limits::Tally,
    tenant::{Page, Sums, TenantState, UploadSums},
};

/// Most entries, or directories, that are looked at under a tenant's lock at once.
const SLICE: u32 = 4_096;

impl Verifying<'_> {
    /// Counts everything anew and looks after every content. Says how far living contents reach in each segment.
    pub(super) async fn count_anew(&mut self, level: VerifyLevel) -> Result<BTreeMap<u64, u64>> {
        let mut reached = BTreeMap::new();
        let mut seen = 0;
        loop {
            // Tenants that came meanwhile are counted too: totals are over all of them.
            let cells = self.store.cells.read().all.clone();
            for cell in &cells[seen..] {
                self.report.tenants += 1;
                self.count_tenant(cell, level, &mut reached).await?;
            }
            seen = cells.len();
            if let Some(found) = self.store.compare_totals(&cells) {
                found.into_iter().for_each(|finding| self.report.find(finding));
                return Ok(reached);
            }
        }
    }

    async fn count_tenant(
        &mut self,
        cell: &Arc<Cell>,
        level: VerifyLevel,
        reached: &mut BTreeMap<u64, u64>,
    ) -> Result<()> {
        let tenant = {
            let mut state = cell.state.lock();
            state.begin_audit();
            state.id.clone()
        };
        loop {
            self.check()?;
            let journal = &self.store.journal;
            let page = cell.state.lock().audit_page(SLICE, |place, bytes| journal.holds(place, bytes));
            let Page { files, resting, misfiled, misplaced, more } = page;
            for key in misfiled {
                self.report.find(Finding::Misfiled { tenant: tenant.clone(), key });
            }
            for (key, place) in misplaced {
                let (segment, offset) = (place.segment(), place.offset());
                self.report.find(Finding::PlaceMissing { tenant: tenant.clone(), key, segment, offset });
            }
            self.tell_more(files, 0);
            self.look_after(cell, &tenant, resting, level, reached).await?;
            if !more {
                break;
            }
        }
        for (what, held, actual) in cell.state.lock().audit_counts() {
            self.report.find(count(what, Some(&tenant), held, actual));
        }
        let mut from = Some(0);
        while let Some(at) = from {
            let (wrong, next) = cell.state.lock().audit_directories(at, SLICE);
            for (path, what, held, actual) in wrong {
                let mut finding = count(what, Some(&tenant), held, actual);
                if let Finding::Count { directory, .. } = &mut finding {
                    *directory = Some(path);
                }
                self.report.find(finding);
            }
            from = next;
        }
        Ok(())
    }
}

/// What one tenant has of the whole.
struct Share {
    sums: Sums,
    in_flight: Tally,
    remembered: u64,
    kept: u64,
    uploads: UploadSums,
}

impl Share {
    fn of(state: &TenantState) -> Self {
        Self {
            sums: state.audit_sums().cloned().unwrap_or_default(),
            in_flight: state.reserved(),
            remembered: state.remembered_count(),
            kept: state.kept_count(),
            uploads: state.upload_sums(),
        }
    }
}

/// What all tenants add up to.
#[derive(Debug, Default)]
struct Totals {
    sums: Sums,
    in_flight: Tally,
    remembered: u64,
    kept: u64,
    uploads: UploadSums,
}

impl Totals {
    fn of(shares: impl Iterator<Item = Share>) -> Self {
        let mut totals = Self::default();
        for share in shares {
            totals.in_flight.add(share.in_flight);
            totals.remembered += share.remembered;
            totals.kept += share.kept;
            totals.sums.add(&share.sums);
            totals.uploads.add(&share.uploads);
        }
        totals
    }
}

impl EmbeddedStore {
    /// What does not fit in the numbers of the whole store; `None` when there are more tenants by now than `cells`.
    fn compare_totals(&self, cells: &[Arc<Cell>]) -> Option<Vec<Finding>> {
        let one_by_one = Totals::of(cells.iter().map(|cell| Share::of(&cell.state.lock())));
        if self.compare(one_by_one).is_empty() {
            return Some(Vec::new());
        }
        // Perhaps only because of what happens meanwhile: look again while no tenant can change anything.
        let mut by_name: Vec<_> = cells.iter().map(|cell| (cell.state.lock().id.clone(), cell)).collect();
        by_name.sort_by(|(a, _), (b, _)| a.cmp(b));
        let states: Vec<_> = by_name.iter().map(|(_, cell)| cell.state.lock()).collect();
        let found = self.compare(Totals::of(states.iter().map(|state| Share::of(state))));
        drop(states);
        (self.cells.read().all.len() == cells.len()).then_some(found)
    }

    fn compare(&self, Totals { sums, in_flight, remembered, kept, uploads }: Totals) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut compare = |what, held, actual| {
            if held != actual {
                found.push(count(what, None, held, actual));
            }
        };
        let places = &self.places;
        compare(Counted::Files, places.files.load(Ordering::Acquire), sums.files());
        compare(Counted::AllBytes, places.bytes.load(Ordering::Acquire), sums.bytes());
        compare(Counted::Taken, places.taken().files, sums.files() + in_flight.files);
        compare(Counted::TakenBytes, places.taken().bytes, sums.bytes() + in_flight.bytes);
        compare(Counted::CheckpointBytes, places.saved_bytes(), sums.saved_bytes + uploads.saved_bytes);
        compare(Counted::IdempotencyKeys, places.remembered.load(Ordering::Acquire), remembered);
        let in_journal = sums.volumes.get(&JOURNAL).copied().unwrap_or(0);
        compare(Counted::InJournal, places.in_journal.load(Ordering::Acquire), in_journal);
        let held = places.seals();
        for key in held.keys().chain(sums.seals.keys()).chain(uploads.seals.keys()).collect::<BTreeSet<_>>() {
            let of = |seals: &BTreeMap<_, u64>| seals.get(key).copied().unwrap_or(0);
            compare(Counted::SealedWithKey, of(&held), of(&sums.seals) + of(&uploads.seals));
        }
        // Those that were reaped a moment ago may be counted still; whoever is not counted is never reaped.
        let to_reap = self.reap.lock().total() + kept;
        if to_reap < sums.over {
            found.push(count(Counted::ToReap, None, to_reap, sums.over));
        }
        for (no, id) in places.all() {
            let load = uploads.volumes.get(&no).copied().unwrap_or_default();
            let held = places.uploads_on(no);
            for (what, held, actual) in [
                (Counted::OnVolume, places.files_on(no), sums.volumes.get(&no).copied().unwrap_or(0)),
                (Counted::UploadsOnVolume, held.uploads, load.uploads),
                (Counted::UploadBytesOnVolume, held.bytes_left, load.bytes_left),
            ] {
                if held != actual {
                    let mut finding = count(what, None, held, actual);
                    if let Finding::Count { volume, .. } = &mut finding {
                        *volume = Some(id.clone());
                    }
                    found.push(finding);
                }
            }
        }
        let mut segments = self.journal.live_by_segment();
        for no in sums.segments.keys() {
            segments.entry(*no).or_default();
        }
        for (no, held) in segments {
            let actual = sums.segments.get(&no).copied().unwrap_or(0);
            if held != actual {
                let mut finding = count(Counted::LiveBytes, None, held, actual);
                if let Finding::Count { segment, .. } = &mut finding {
                    *segment = Some(no);
                }
                found.push(finding);
            }
        }
        found
    }
}

fn count(what: Counted, tenant: Option<&TenantId>, held: u64, actual: u64) -> Finding {
    let tenant = tenant.cloned();
    Finding::Count { what, tenant, directory: None, volume: None, segment: None, held, actual }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use locus_core::{
        MetadataStore, NewContent, NewFile, Properties, Reserved, SealKeyId, StoragePath, VolumeId,
    };
    use locus_testkit::{ManualClock, SeededEntropy, SimDisk, Stepper};
    use rstest::rstest;

    use super::*;
    use crate::{EngineOptions, StoreConfig, VerifyLevel, VolumeRegistry, store::schedule::TenantNo};

    /// A store with two tenants, a file on a volume that is not mounted each, and contents in the journal.
    fn store() -> (Stepper, Arc<EmbeddedStore>) {
        let disk = SimDisk::new(3);
        let config = StoreConfig {
            dir: PathBuf::from("/"),
            options: EngineOptions { segment_size: 1 << 20, ..EngineOptions::default() },
            disk: disk.clone(),
            clock: ManualClock::new(),
            entropy: Arc::new(SeededEntropy::new(3)),
            volumes: VolumeRegistry::new(),
        };
        let mut stepper = Stepper::new(3);
        let (store, _) = stepper.block_on(EmbeddedStore::open(config), || false).unwrap();
        for tenant in ["acme", "other"] {
            for bytes in [None, Some("content")] {
                run(&mut stepper, &store, put(&store, tenant, bytes));
            }
        }
        (stepper, store)
    }

    async fn put(store: &EmbeddedStore, tenant: &str, bytes: Option<&'static str>) {
        let tenant = TenantId::parse(tenant).unwrap();
        let content = match bytes {
            Some(bytes) => NewContent::Inline {
                bytes: bytes.into(),
                landing: store.land(bytes.len() as u64).await.unwrap(),
            },
            None => NewContent::Stored { volume: VolumeId::parse("vol-0").unwrap(), synced: true },
        };
        let file = NewFile {
            owner: StoragePath::from(&tenant),
            tenant,
            directory: locus_core::LogicalDir::root(),
            original_name: None,
            properties: Properties::default(),
            size: 7,
            checksum: locus_core::Checksum::of(b"content"),
            content,
            seal: None,
            astray: Vec::new(),
            idempotency: None,
        };
        let Ok(Reserved::Room(room)) = store.reserve(&file.tenant, &file.directory, None, None).await else {
            panic!("no room")
        };
        store.accept(vec![(file, room)]).await.unwrap();
    }

    fn run<T>(stepper: &mut Stepper, store: &EmbeddedStore, call: impl Future<Output = T>) -> T {
        stepper.block_on(call, || store.commit_step() | store.keep_step())
    }

    type Spoil = fn(&EmbeddedStore);

    #[rstest]
    #[case(&[], |_: &EmbeddedStore| ())]
    #[case(&[Counted::Files], |s: &EmbeddedStore| { s.places.files.fetch_add(1, Ordering::AcqRel); })]
    #[case(&[Counted::Taken], |s: &EmbeddedStore| s.places.give_back(Tally::one(0)))]
    #[case(&[Counted::CheckpointBytes], |s: &EmbeddedStore| s.places.count_saved(1, true))]
    #[case(&[Counted::IdempotencyKeys], |s: &EmbeddedStore| { s.places.remembered.fetch_add(1, Ordering::AcqRel); })]
    #[case(&[Counted::SealedWithKey], |s: &EmbeddedStore| s.places.count_seal(SealKeyId::from_bytes([7; 16]), true))]
    #[case(&[Counted::Files, Counted::InJournal], |s: &EmbeddedStore| s.places.count(JOURNAL, 0, true, true))]
    #[case(&[Counted::Files, Counted::OnVolume], |s: &EmbeddedStore| s.places.count(0, 0, true, true))]
    #[case(&[Counted::LiveBytes], |s: &EmbeddedStore| {
        let segment = *s.journal.live_by_segment().iter().find(|(_, live)| **live > 0).unwrap().0;
        s.journal.release(crate::journal::LogPlace::new(segment, 4_096), 1, locus_core::Lsn(1));
    })]
    #[case(&[Counted::ToReap], |s: &EmbeddedStore| {
        // Somebody lost a file that is over.
        let cell = s.cell_at(0 as TenantNo);
        let key = cell.state.lock().entries().next().unwrap().key;
        let (stamp, last) = (s.clock.stamp(), s.journal.last_appended());
        let change = crate::store::event::Change::Deleted { key };
        let scene = crate::store::tenant::Scene {
            lsn: last.next(), stamp, epoch: s.epoch, places: &s.places, unknown_until: locus_core::Lsn::ZERO,
            attachment: crate::journal::LogPlace::new(1, 0),
        };
        let mut state = cell.state.lock();
        state.apply(&scene, 0, &change).unwrap();
        state.effects.over.clear();
    })]
    fn b51_each_total_that_drifted_is_found(#[case] wrong: &[Counted], #[case] spoil: Spoil) {
        let (mut stepper, store) = store();
        spoil(&store);
        let report = run(&mut stepper, &store, store.verify(VerifyLevel::Counts, &|_| ())).unwrap();
        let found: Vec<_> = report
            .findings
            .iter()
            .map(|finding| match finding {
                Finding::Count { what, .. } => *what,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(found, wrong, "{report:?}");
        assert_eq!(
            (report.tenants, report.files, report.unchecked),
            (2, 4, if wrong == [Counted::ToReap] { 1 } else { 2 })
        );
    }
}
