//! What a sweep asks of the store: pages of records, missing bytes, blobs that nobody names.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use locus_core::{
    Area, BlobPath, Checksum, Content, Durability, Error, Extension, FileKey, FileStatus, Knowledge,
    LeaseOptions, Limit, MetadataStore, Orphan, Result, RetryPolicy, Scope, StoragePath, TenantStatus,
    Upkeep, VolumeSet,
};
use locus_storage::{EmbeddedStore, EngineOptions, VerifyLevel};
use rstest::rstest;

use crate::{
    bench::{Bench, vol},
    world::{End, Records, World, file_of, new_file, tenant, volume},
};

const HOUR: Duration = Duration::from_secs(3_600);

fn strict() -> EngineOptions {
    let retry_policy = RetryPolicy { max_retries: 1, ..RetryPolicy::default() };
    EngineOptions { retry_policy, completed_retention: 9 * HOUR, ..EngineOptions::default() }
}

impl Records {
    fn give_up(&mut self) -> FileKey {
        self.world.advance(Duration::from_secs(1));
        let leased = self.lease().unwrap();
        self.fail(&leased.lease).unwrap();
        leased.record.info.key
    }

    /// All pages, each at most `max` long.
    fn pages(&self, status: FileStatus, older_than: Duration, max: usize) -> BTreeSet<FileKey> {
        let (mut found, mut from) = (BTreeSet::new(), None);
        loop {
            let page = self.store.page(&tenant(0), status, older_than, from, max);
            assert!(page.files.len() <= max);
            for record in page.files {
                assert_eq!(record.info.status, status);
                assert!(found.insert(record.info.key), "twice");
            }
            from = page.next;
            if from.is_none() {
                return found;
            }
        }
    }
}

#[rstest]
fn b76_files_are_paged_by_state_and_age(#[values(1, 3, 100)] max: usize) {
    let mut records = Records::new(760, strict());
    let all = records.write_many(10);
    let early: BTreeSet<_> = (0..4).map(|_| records.give_up()).collect();
    records.world.advance(HOUR);
    let late: BTreeSet<_> = (0..3).map(|_| records.give_up()).collect();
    let both: BTreeSet<_> = early.union(&late).copied().collect();
    let failed = FileStatus::PermanentlyFailed;
    assert_eq!(records.pages(failed, Duration::ZERO, max), both);
    assert_eq!(records.pages(failed, HOUR, max), early);
    assert_eq!(records.pages(failed, 2 * HOUR, max), BTreeSet::new());
    let waiting = records.pages(FileStatus::Pending, HOUR, max);
    assert_eq!(waiting.len(), all.len() - both.len(), "whoever waits does not age");
    let records = records.restart(End::Kill);
    records.world.advance(HOUR);
    assert_eq!(records.pages(failed, HOUR, max), both, "ages go on over a restart");
    assert_eq!(
        (records.store.tenants_with(failed), records.store.tenants_with(FileStatus::Processing)),
        (vec![tenant(0)], vec![])
    );
}

#[test]
fn a_page_looks_at_so_many_entries_and_no_more() {
    let mut records = Records::new(761, strict());
    records.write_many(5_000);
    let given_up = records.give_up();
    let failed = FileStatus::PermanentlyFailed;
    let first = records.store.page(&tenant(0), failed, Duration::ZERO, None, 10);
    assert_eq!((first.files.len(), first.next), (1, Some(4_096)));
    assert_eq!(records.pages(failed, Duration::ZERO, 10), BTreeSet::from([given_up]));
    let none = records.store.page(&tenant(0), FileStatus::DeadLettered, Duration::ZERO, None, 10);
    assert_eq!(none.next, None, "nothing is looked at where there is none");
}

#[test]
fn completed_files_that_are_kept_are_paged_and_dead_letters_too() {
    let mut records = Records::new(762, strict());
    records.write();
    let leased = records.lease().unwrap();
    records.complete(&leased.lease).unwrap();
    assert_eq!(records.pages(FileStatus::Completed, Duration::ZERO, 9).len(), 1);
    assert_eq!(records.pages(FileStatus::Completed, HOUR, 9).len(), 0);
}

#[test]
fn a_file_is_disposed_of_only_in_the_state_that_is_named() {
    let mut records = Records::new(764, strict());
    let given_up = records.write();
    let leased = records.lease().unwrap();
    records.fail(&leased.lease).unwrap();
    let waits = records.write();
    let mut disposed = |key: FileKey, status| {
        records.call(|store| async move { store.dispose(&tenant(0), &key, status).await }).unwrap()
    };
    assert!(!disposed(waits, FileStatus::PermanentlyFailed));
    assert!(!disposed(given_up, FileStatus::DeadLettered));
    assert!(disposed(given_up, FileStatus::PermanentlyFailed));
    assert!(!disposed(given_up, FileStatus::PermanentlyFailed), "it is deleted already");
    assert_eq!((records.counts().pending, records.counts().deleted), (1, 1));
}

#[test]
fn b73_records_on_a_volume_are_paged() {
    let mut records = Records::new(763, strict());
    let here = records.write_many(20);
    let there = locus_core::NewContent::Stored { volume: volume(1), synced: true };
    records.put(locus_core::NewFile { content: there, ..new_file() });
    let (mut found, mut from) = (Vec::new(), None);
    loop {
        let page = records.store.on_volume(&volume(0), from, 7);
        assert!(page.files.len() <= 7);
        found.extend(page.files.into_iter().map(|record| record.info.key));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(found, here);
}

#[test]
fn what_waits_is_counted_and_stays() {
    let mut records = Records::new(761, EngineOptions::default());
    records.write_many(5);
    let leased = records.batch(4);
    for file in &leased[..2] {
        records.complete(&file.lease).unwrap();
    }
    let waiting = records.store.waiting(None);
    assert_eq!((waiting.over, waiting.copies, waiting.overdue, waiting.idle_uploads), (2, 0, 0, 0));
    assert!(waiting.records.bytes_before >= waiting.records.bytes_after && waiting.records.bytes_after > 0);
    records.world.advance(24 * HOUR);
    assert_eq!(records.store.waiting(None).overdue, 2);
    assert_eq!((records.reap(), records.expire()), (2, 2));
    assert_eq!((records.store.waiting(None).over, records.store.waiting(None).overdue), (0, 0));
}

#[test]
fn b79_what_waits_is_counted_and_handed_out_for_one_tenant_alone() {
    let mut records = Records::new(765, EngineOptions::default());
    for of in [0, 1, 0, 1, 0, 1, 0, 0] {
        records.put(file_of(of));
    }
    for (of, ended) in [(1, 1), (0, 2)] {
        let options = LeaseOptions::new();
        let leased =
            records.call(|store| async move { store.lease(&tenant(of), 9, &options).await }).unwrap();
        for file in &leased[..ended] {
            records.complete(&file.lease).unwrap();
        }
    }
    records.sync();
    records.world.advance(24 * HOUR);
    let waits = |records: &Records, of: Option<usize>| {
        let waiting = records.store.waiting(of.map(tenant).as_ref());
        (waiting.over, waiting.overdue)
    };
    assert_eq!(
        [None, Some(0), Some(1), Some(2)].map(|of| waits(&records, of)),
        [(3, 5), (2, 3), (1, 2), (0, 0)]
    );

    let expire = |of| async move |store: Arc<EmbeddedStore>| store.expire(Some(&tenant(of)), 9).await;
    assert_eq!(records.call(expire(2)).unwrap(), 0);
    assert_eq!(records.call(expire(1)).unwrap(), 2);
    assert_eq!((waits(&records, Some(0)), waits(&records, Some(1))), ((2, 3), (1, 0)));
    assert_eq!(records.expire(), 3, "the others stand in the schedule as before");

    let take = |of| async move |store: Arc<EmbeddedStore>| store.reapable(Some(&tenant(of)), 1).await;
    assert!(records.call(take(2)).unwrap().is_empty());
    let taken = records.call(take(0)).unwrap();
    assert!(matches!(taken.as_slice(), [file] if file.tenant == tenant(0)));
    assert_eq!((waits(&records, Some(0)).0, waits(&records, None).0), (1, 2));
    records.store.not_reaped(taken);
    assert_eq!((records.call(take(1)).unwrap().len(), waits(&records, Some(1)).0), (1, 0));
}

/// Files come and go, so that what stays has other places after a restart.
#[rstest]
fn b79_a_walk_over_a_volume_goes_on_over_restarts_and_passes_no_file_by_each_time(
    #[values(End::Close, End::PowerCut)] end: End,
) {
    let mut records = Records::new(766, EngineOptions::default());
    let all = records.write_many(120);
    let mut go: VecDeque<_> = all.iter().copied().step_by(2).collect();
    let mut unseen: BTreeSet<_> = all.into_iter().skip(1).step_by(2).collect();
    let (mut lives, mut from) = (0, None);
    while !unseen.is_empty() {
        lives += 1;
        assert!(lives <= 40, "{} were never looked at", unseen.len());
        for _ in 0..2 {
            let page = records.store.on_volume(&volume(0), from, 5);
            unseen.retain(|key| page.files.iter().all(|record| record.info.key != *key));
            from = page.next;
        }
        for _ in 0..4 {
            let key = go.pop_front().unwrap();
            records.call(|store| async move { store.delete(&tenant(0), &key, false).await }).unwrap();
            go.push_back(records.write());
        }
        records.reap();
        if lives % 3 == 0 {
            records.checkpoint().unwrap();
        }
        records = records.restart(end);
    }
}

#[test]
fn b73_a_file_whose_bytes_are_gone_ends_and_gives_its_place_back() {
    let mut records = Records::new(764, strict());
    let key = records.write();
    let record = records.record(key).unwrap();
    assert!(records.call(|store| async move { store.forget_missing(&record).await }).unwrap());
    records.reap();
    assert_eq!((records.record(key), records.used(&Scope::Global)), (None, 0));
}

#[test]
fn b73_a_file_that_is_leased_moved_or_elsewhere_by_now_does_not_end() {
    let mut records = Records::new(765, strict());
    let key = records.write();
    let before = records.record(key).unwrap();
    let forget = |records: &mut Records| {
        let record = before.clone();
        records.call(|store| async move { store.forget_missing(&record).await }).unwrap()
    };
    let leased = records.lease().unwrap();
    assert!(!forget(&mut records));
    records.release(&leased.lease).unwrap();
    let moving = records.store.begin_move_from(&tenant(0), &key, &volume(0)).unwrap();
    assert!(!forget(&mut records));
    let to = locus_core::Stored {
        place: locus_core::Place::Volume(volume(1)),
        length: 7,
        checksum: Checksum::of(b"content"),
    };
    assert!(records.call(|store| async move { store.relocate(moving, to).await }).unwrap());
    assert!(!forget(&mut records));
    assert_eq!(records.status(key), Some(FileStatus::Pending));
}

// ---- blobs that nobody names ----------------------------------------------------------------------------------------

fn bench() -> Bench {
    Bench::open_at(World::new(70, EngineOptions::default()))
}

/// The name of a blob of acme's.
fn blob(number: u8, extension: &str) -> BlobPath {
    BlobPath {
        area: Area::Live,
        owner: StoragePath::from(&tenant(0)),
        key: FileKey::from_bytes([number; 16]),
        extension: Extension::parse(extension).unwrap(),
    }
}

impl Bench {
    fn plant(&mut self, volume: usize, at: &BlobPath, content: &str) -> Orphan {
        let (on, at, bytes) =
            (self.engine.registry.volume(&vol(volume)).unwrap(), at.clone(), content.to_owned());
        let (blob, size, checksum) = (at.clone(), content.len() as u64, Checksum::of(content.as_bytes()));
        self.run(async move { on.write(&at, &mut Content::from(bytes.as_str()), Durability::Durable).await })
            .unwrap();
        Orphan { volume: vol(volume), blob, size, checksum, seal: None }
    }

    fn knows(&self, orphan: &Orphan) -> Knowledge {
        self.engine.store.knows(&orphan.volume, &orphan.blob)
    }

    fn adopt(&mut self, orphan: &Orphan) -> Result<bool> {
        let (store, orphan) = (self.engine.store.clone(), orphan.clone());
        let claim = store.claim(&orphan.volume, &orphan.blob).expect("because nobody else has one");
        self.run(async move { store.adopt(claim, orphan).await })
    }

    fn used_by_acme(&self) -> u64 {
        self.engine.store.usage(&Scope::Tenant(tenant(0))).files
    }
}

#[rstest]
fn b70_an_orphan_becomes_a_pending_file_under_its_own_key(
    #[values("", "pdf")] extension: &str,
    #[values(End::Kill, End::PowerCut)] end: End,
) {
    let mut bench = bench();
    let before = bench.write("older");
    let orphan = bench.plant(1, &blob(7, extension), "found");
    assert_eq!(bench.knows(&orphan), Knowledge::Unknown);
    assert!(bench.adopt(&orphan).unwrap());
    assert_eq!(bench.knows(&orphan), Knowledge::Recorded);
    let mut bench = bench.restart_after(end);
    assert_eq!(bench.read(orphan.blob.key).unwrap(), b"found");
    assert_eq!(bench.used_by_acme(), 2);
    let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
    let leased = bench.run(async move { scheduler.next_batch(&acme, 9).await }).unwrap();
    let keys: Vec<_> = leased.iter().map(|file| file.key).collect();
    assert_eq!(keys, [before, orphan.blob.key], "behind what was there");
    assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
}

#[test]
fn b70_b49_an_orphan_stays_one_while_the_quota_is_full() {
    let mut bench = bench();
    let orphan = bench.plant(0, &blob(7, ""), "found");
    let store = bench.engine.store.clone();
    bench.run(store.set_limit(Scope::Tenant(tenant(0)), Limit::Files(0))).unwrap();
    assert!(matches!(bench.adopt(&orphan), Err(Error::TenantQuotaExceeded { used: 0, limit: 0, .. })));
    assert_eq!((bench.knows(&orphan), bench.used_by_acme()), (Knowledge::Unknown, 0));
    bench.run(store.set_limit(Scope::Tenant(tenant(0)), Limit::Inherit)).unwrap();
    assert!(bench.adopt(&orphan).unwrap(), "the claim was given back");
    assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
}

#[test]
fn b70_an_orphan_is_adopted_once_and_claimed_by_one_at_a_time() {
    let mut bench = bench();
    let orphan = bench.plant(0, &blob(7, ""), "found");
    let store = bench.engine.store.clone();
    let claim = store.claim(&orphan.volume, &orphan.blob).unwrap();
    assert_eq!(bench.knows(&orphan), Knowledge::InFlight);
    assert!(store.claim(&orphan.volume, &orphan.blob).is_none());
    claim.release();
    assert!(bench.adopt(&orphan).unwrap());
    assert!(store.claim(&orphan.volume, &orphan.blob).is_none(), "a record names it");
    assert_eq!(bench.used_by_acme(), 1);
}

#[test]
fn b70_what_has_no_claim_or_lies_elsewhere_is_not_adopted() {
    let mut bench = bench();
    let orphan = bench.plant(0, &blob(7, ""), "found");
    let other = bench.plant(0, &blob(8, ""), "other");
    let store = bench.engine.store.clone();
    let claim = store.claim(&other.volume, &other.blob).unwrap();
    let adopted = bench.run({
        let (store, orphan) = (store.clone(), orphan.clone());
        async move { store.adopt(claim, orphan).await }
    });
    assert!(matches!(adopted, Err(Error::InvalidArgument { name: "claim", .. })));
    let aside = Orphan { blob: orphan.blob.in_area(Area::Quarantine), ..orphan.clone() };
    assert!(matches!(bench.adopt(&aside), Err(Error::InvalidArgument { name: "blob", .. })));
    assert_eq!((bench.knows(&orphan), bench.knows(&other)), (Knowledge::Unknown, Knowledge::Unknown));
    assert_eq!(bench.used_by_acme(), 0);
}

#[test]
fn b71_a_tenant_that_leaves_takes_nothing_in() {
    let mut bench = bench();
    let orphan = bench.plant(0, &blob(7, ""), "found");
    let leaving = bench.engine.store.begin_leaving(&tenant(0), false).unwrap();
    let refused = bench.adopt(&orphan);
    assert!(matches!(refused, Err(Error::TenantDisabled { status: TenantStatus::Disabled, .. })));
    drop(leaving);
    assert!(bench.adopt(&orphan).unwrap());
}

#[test]
fn b71_what_is_not_at_its_records_place_is_told_from_what_no_record_names() {
    let mut bench = bench();
    let key = bench.write(vec![7; 100]);
    let at = {
        let (world, engine) = (&mut bench.world, &bench.engine);
        world.run(engine, engine.blobs()).unwrap().pop().unwrap()
    };
    let (here, there) = if bench.volume_of(key) == vol(0) { (0, 1) } else { (1, 0) };
    let on = |volume: usize, area| bench.engine.store.knows(&vol(volume), &at.in_area(area));
    assert_eq!(on(here, Area::Live), Knowledge::Recorded);
    assert_eq!(on(there, Area::Live), Knowledge::Elsewhere);
    assert_eq!(on(here, Area::DeadLetters), Knowledge::Elsewhere);
    let earlier = BlobPath { owner: StoragePath::incarnation(&tenant(0), 7), ..at.clone() };
    assert_eq!(bench.engine.store.knows(&vol(here), &earlier), Knowledge::Unknown);
    let residue =
        Orphan { volume: vol(there), blob: at, size: 100, checksum: Checksum::of(&[7; 100]), seal: None };
    assert!(!bench.adopt(&residue).unwrap(), "its file is there");
    assert_eq!(bench.counts().files(), 1);
}

#[test]
fn b69_an_adoption_that_is_given_up_leaves_an_orphan_or_a_file() {
    // A future that was never polled still has its claim, and drops it.
    for polls in 1..20 {
        let mut bench = bench();
        let orphan = bench.plant(0, &blob(7, ""), "found");
        let (store, found) = (bench.engine.store.clone(), orphan.clone());
        let claim = store.claim(&orphan.volume, &orphan.blob).unwrap();
        let adopting = store.clone();
        let done = bench.poll(polls, async move { adopting.adopt(claim, found).await });
        let files = bench.used_by_acme();
        let known = if files == 1 { Knowledge::Recorded } else { Knowledge::Unknown };
        assert_eq!(bench.knows(&orphan), known, "{polls}");
        bench.commit();
        assert!(bench.verify(VerifyLevel::Contents).findings.is_empty());
        if done.is_some() {
            assert_eq!(files, 1);
            return;
        }
    }
    panic!("it never came to its end");
}

#[test]
fn b77_a_claim_that_was_given_up_does_not_keep_a_tenant() {
    let mut bench = bench();
    let orphan = bench.plant(0, &blob(7, ""), "found");
    let store = bench.engine.store.clone();
    drop(store.claim(&orphan.volume, &orphan.blob));
    assert_eq!(bench.knows(&orphan), Knowledge::InFlight, "its name stays unused");
    let leaving = store.begin_leaving(&tenant(0), true).unwrap();
    let sweeper = bench.engine.sweeper.clone();
    bench.run(async move { sweeper.emptied(&leaving).await }).unwrap();
}
