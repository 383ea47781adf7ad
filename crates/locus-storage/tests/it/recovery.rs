//! What is there after whatever happened: crashes, damage, checkpoints, full and failing disks, newer formats.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use locus_core::{
    Durability, Error, FileKey, FileRecord, FileStatus, IdempotencyKey, Lease, LeaseOptions, Limit,
    LogicalDir, Lsn, MetadataStore, NewContent, NewFile, Outcome, Owner, Remember, Reserved, Scope, Seal,
    SealKeyId, StoragePath, StoreCounts, Upkeep, Usage,
};
use locus_fs::Disk;
use locus_storage::{EmbeddedStore, EngineOptions};
use locus_testkit::{Fault, OpKind, SimDisk};
use rstest::rstest;

use crate::{
    bench::{Bench, poll_once},
    world::{End, Records, World, file_of, new_file, put, tenant, volume},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const MOMENT: Duration = Duration::from_micros(1);

fn small() -> EngineOptions {
    EngineOptions { segment_size: 1 << 20, visibility_timeout: HOUR, ..EngineOptions::default() }
}

fn small_buffered() -> EngineOptions {
    EngineOptions { durability: Durability::Buffered, ..small() }
}

fn on_volume(number: usize, synced: bool) -> NewContent {
    NewContent::Stored { volume: volume(number), synced }
}

fn named(name: &str, remember: Remember) -> NewFile {
    NewFile { idempotency: Some(IdempotencyKey { value: name.into(), remember }), ..new_file() }
}

impl Records {
    fn claim(&mut self, key: FileKey, owner: Owner) -> Lease {
        let options = LeaseOptions::new().owner(owner).name("worker");
        self.call(|store| async move { store.lease_key(&tenant(0), &key, &options).await }).unwrap().lease
    }

    /// The file that a write with this name stands for; `None` when the name is free.
    fn known(&mut self, name: &str) -> Option<FileKey> {
        let name = IdempotencyKey::new(name);
        let found =
            self.call(|s| async move { s.reserve(&tenant(0), &LogicalDir::root(), None, Some(&name)).await });
        match found.unwrap() {
            Reserved::Known(key) => Some(key),
            Reserved::Room(_) => None,
        }
    }

    fn fail_often(&mut self, key: FileKey, times: usize) {
        for _ in 0..times {
            let lease = self.claim(key, Owner::Process);
            self.fail(&lease).unwrap();
            self.world.advance(10 * SECOND);
        }
    }
}

// ---- a state with everything in it ----------------------------------------------------------------------------------

/// Every file that was ever written, and the leases of outsiders that still hold.
struct Variety {
    keys: Vec<(usize, FileKey)>,
    held: Vec<Lease>,
}

/// As if the content was sealed with one of two keys.
fn seal(number: u8) -> Seal {
    let details = vec![number; 40 + usize::from(number)].into();
    Seal { key: SealKeyId::from_bytes([number % 2; 16]), details, turn: 0 }
}

const NAMES: [&str; 4] = ["day", "kept", "forgotten", "gone"];

/// Files in every state, and everything else that a store remembers. Time stands still from the last change of a due
/// time on, and all of it is durable.
fn variety(records: &mut Records) -> Variety {
    let mut all = Vec::new();
    // Names: of files whose records are gone, one of them forgotten, and of one that is there.
    for (name, remember) in
        [("kept", Remember::UntilForgotten), ("forgotten", Remember::UntilForgotten), ("gone", Remember::Day)]
    {
        let key = records.put(named(name, remember));
        let lease = records.claim(key, Owner::Process);
        records.complete(&lease).unwrap();
        all.push((0, key));
    }
    assert_eq!(records.reap(), 3);
    assert!(records.call(|s| async move { s.forget(&tenant(0), "forgotten").await }).unwrap());
    let mut known =
        |name| records.call(move |s| async move { s.remembered(&tenant(0), name).await }).unwrap();
    assert_eq!((known("kept"), known("forgotten")), (Some(all[0].1), None));
    all.push((0, records.put(named("day", Remember::Day))));

    let mut keys = Vec::new();
    for number in 0..14_usize {
        let file = NewFile {
            directory: LogicalDir::parse(["/", "/in", "/in/deep"][number % 3]).unwrap(),
            original_name: (number % 2 == 0).then(|| format!("scan {number}.pdf")),
            seal: (number % 3 == 1).then(|| seal(number as u8)),
            properties: [("number".to_owned(), number.to_string())].into(),
            size: 1_000 + number as u64,
            content: on_volume(usize::from(number == 13), true),
            owner: match number {
                12 => StoragePath::parse("tenant-0+0badcafe").unwrap(),
                _ => new_file().owner,
            },
            ..new_file()
        };
        keys.push(records.put(file));
    }
    let [_, delayed, retried, held, completed, deleted, given_up, reset, released, late, ..] = keys[..]
    else {
        unreachable!()
    };
    records.fail_often(given_up, 3);
    records.fail_often(retried, 2);
    records.fail_often(reset, 1);
    records.claim(late, Owner::Process);
    records.world.advance(HOUR);
    assert_eq!(records.expire(), 1);
    let mut outside = vec![records.claim(retried, Owner::Outside), records.claim(held, Owner::Outside)];
    records.world.advance(SECOND);
    outside[1] = records.renew(&outside[1]).unwrap();
    let lease = records.claim(completed, Owner::Process);
    records.complete(&lease).unwrap();
    records.call(|s| async move { s.delete(&tenant(0), &deleted, false).await }).unwrap();
    records.call(|s| async move { s.reset(&tenant(0), &reset).await }).unwrap();
    let lease = records.claim(released, Owner::Process);
    records.release(&lease).unwrap();
    let lease = records.claim(delayed, Owner::Process);
    records.fail(&lease).unwrap();
    all.extend(keys.into_iter().map(|key| (0, key)));
    for _ in 0..3 {
        all.push((1, records.put(file_of(1))));
    }
    for (scope, limit) in limits() {
        records.call(|s| async move { s.set_limit(scope, limit).await }).unwrap();
    }
    records.sync();
    Variety { keys: all, held: outside }
}

fn limits() -> [(Scope, Limit); 3] {
    [
        (Scope::Global, Limit::Files(100_000)),
        (Scope::Tenant(tenant(0)), Limit::Unlimited),
        (Scope::Directory(tenant(0), LogicalDir::parse("/in").unwrap()), Limit::Files(50)),
    ]
}

/// All that can be seen of a store.
#[derive(Debug, Clone, PartialEq)]
struct Observed {
    files: BTreeMap<FileKey, FileRecord>,
    counts: StoreCounts,
    seals: Vec<(SealKeyId, u64)>,
    usage: Vec<Usage>,
    on_volumes: [u64; 2],
    names: Vec<Option<FileKey>>,
}

fn observe(records: &mut Records, variety: &Variety) -> Observed {
    let mut files = BTreeMap::new();
    for (of, key) in &variety.keys {
        let Some(mut record) = records.record_of(*of, *key) else { continue };
        if record.info.status == FileStatus::Processing {
            // An opening gives outsiders their time again, and that is a change.
            record.info.modified_at = record.info.created_at;
        }
        files.insert(*key, record);
    }
    let mut usage: Vec<Usage> = limits().iter().map(|(scope, _)| records.store.usage(scope)).collect();
    for path in ["/", "/in/deep"] {
        let scope = Scope::Directory(tenant(0), LogicalDir::parse(path).unwrap());
        usage.push(records.store.usage(&scope));
    }
    Observed {
        files,
        counts: records.store.counts(),
        seals: records.store.seal_keys(),
        usage,
        on_volumes: [0, 1].map(|n| records.store.files_on(&volume(n))),
        names: NAMES.iter().map(|name| records.known(name)).collect(),
    }
}

#[track_caller]
fn same(found: &Observed, expected: &Observed, of: &str) {
    for (key, record) in &expected.files {
        assert_eq!(found.files.get(key), Some(record), "{of}");
    }
    assert_eq!(found, expected, "{of}");
}

/// Enough log for more than one segment of 1 MiB: files that come, are completed and go.
fn roll(records: &mut Records) {
    let bulky = NewFile { properties: [("p".to_owned(), "x".repeat(1_000))].into(), ..file_of(7) };
    for _ in 0..7 {
        let keys = records.try_put((0..200).map(|_| crate::world::copy_of(&bulky)).collect()).unwrap();
        let leased =
            records.call(|s| async move { s.lease(&tenant(7), 200, &LeaseOptions::new()).await }).unwrap();
        assert_eq!(leased.len(), keys.len());
        let leases: Vec<Lease> = leased.into_iter().map(|leased| leased.lease).collect();
        records.call(|store| async move { store.complete(&leases).await }).unwrap();
    }
    reap_bulky(records);
}

/// Only what `roll` wrote: the variety's own completed files stay as they are.
fn reap_bulky(records: &mut Records) {
    records.sync();
    loop {
        let more = records.call(|store| async move {
            let (bulky, others): (Vec<_>, Vec<_>) =
                store.reapable(None, 1_000).await?.into_iter().partition(|file| file.tenant == tenant(7));
            store.reaped(&bulky).await?;
            store.not_reaped(others);
            Ok::<_, Error>(!bulky.is_empty())
        });
        if !more.unwrap() {
            records.sync();
            return;
        }
    }
}

// ---- files on the disk ----------------------------------------------------------------------------------------------

fn journal_files(records: &World, prefix: &str) -> Vec<PathBuf> {
    let files = crate::world::files_below(&*records.disk, Path::new("/data/journal"));
    files.into_keys().filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(prefix)).collect()
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

fn edit(disk: &SimDisk, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let file = disk.open(path, true).unwrap();
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    change(&mut bytes);
    file.set_len(bytes.len() as u64).unwrap();
    file.write_at(&bytes, 0).unwrap();
    file.sync_data().unwrap();
}

/// Where in the journal's segments these bytes are.
fn find(world: &World, needle: &[u8]) -> Vec<(PathBuf, usize)> {
    let files = crate::world::files_below(&*world.disk, Path::new("/data/journal"));
    let mut found = Vec::new();
    for (path, bytes) in files.iter().filter(|(path, _)| name(path).starts_with("segment-")) {
        let places = bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
        found.extend(places.map(|(at, _)| (path.clone(), at)));
    }
    found
}

fn all_files(world: &World) -> BTreeMap<PathBuf, Vec<u8>> {
    crate::world::files_below(&*world.disk, Path::new("/data"))
}

/// The open is refused as corruption, nothing is changed by it, and it is refused again. Says the place.
#[track_caller]
fn refused(world: World) -> (World, String) {
    let before = all_files(&world);
    let mut told = None;
    let mut world = world;
    for _ in 0..2 {
        let Err(failed) = Records::open(world) else { panic!("a damaged store was opened") };
        let (after, why) = *failed;
        let Error::Corrupt { place, .. } = why else { panic!("{why:?}") };
        assert!(all_files(&after) == before, "a refused open changed something");
        assert!(told.is_none_or(|told| told == place), "{place}");
        told = Some(place);
        world = after;
    }
    (world, told.unwrap())
}

fn open(world: World) -> Records {
    match Records::open(world) {
        Ok(records) => records,
        Err(failed) => panic!("refused: {:?}", failed.1),
    }
}

// ---- crashes --------------------------------------------------------------------------------------------------------

/// Ends the store with some changes that were never synced, then ends recovery at every operation in turn.
#[rstest]
fn b56_b62_recovery_that_is_cut_short_and_run_again_finds_everything_confirmed(
    #[values(End::Kill, End::PowerCut)] first: End,
    #[values(End::Kill, End::PowerCut)] again: End,
) {
    let mut lost = 0;
    for k in 0.. {
        let mut records = Records::new(56 + k, small());
        let mut known = variety(&mut records);
        let confirmed = observe(&mut records, &known);
        // Written and confirmed as such, in this order, and never synced.
        let mut tail: Vec<Lease> = Vec::new();
        while let Some(leased) = records.lease_with(LeaseOptions::new().owner(Owner::Outside).name("tail")) {
            tail.push(leased.lease);
        }
        assert!(tail.len() > 3);
        let written = observe(&mut records, &known);
        let world = records.end(first);
        world.disk.crash_at(world.disk.ops() + 1 + k);
        let (reached, world) = match Records::open(world) {
            Ok(records) => (records.world.disk.is_down(), records.end(again)),
            Err(failed) => {
                let (mut world, why) = *failed;
                assert!(world.disk.is_down(), "refused to open: {why:?}");
                world.end(again);
                (true, world)
            }
        };
        let mut records = open(world);
        let found = observe(&mut records, &known);
        if first == End::Kill && again == End::Kill {
            same(&found, &written, &format!("operation {k}: a kill loses nothing"));
        }
        // What is there of the tail is a beginning of it, and everything else is as it was confirmed.
        let survived =
            tail.iter().filter(|lease| found.files[&lease.key] == written.files[&lease.key]).count();
        lost += tail.len() - survived;
        for (place, lease) in tail.iter().enumerate() {
            let expected = if place < survived { &written } else { &confirmed };
            assert_eq!(found.files[&lease.key], expected.files[&lease.key], "operation {k}");
        }
        for (key, record) in &confirmed.files {
            let in_tail = tail.iter().any(|lease| lease.key == *key);
            assert!(in_tail || found.files[key] == *record, "operation {k}: {record:?}");
        }
        assert_eq!((&found.names, &found.usage), (&confirmed.names, &confirmed.usage), "operation {k}");
        // What an open has once believed is durable: the same is found again whatever happens.
        let mut records = records.restart(End::PowerCut);
        same(&observe(&mut records, &known), &found, &format!("operation {k}: believed, and lost again"));
        for lease in &known.held {
            records.renew(lease).unwrap();
        }
        for (place, lease) in tail.iter().enumerate() {
            assert_eq!(records.renew(lease).is_ok(), place < survived, "operation {k}");
        }
        records.sync();
        // And the next run goes on.
        known.keys.push((0, records.write()));
        let added = observe(&mut records, &known);
        let mut records = records.restart(End::PowerCut);
        same(&observe(&mut records, &known), &added, &format!("operation {k}: the next run"));
        if !reached {
            assert!(k > 10, "recovery took {k} operations");
            break;
        }
    }
    assert_eq!(lost > 0, first == End::PowerCut || again == End::PowerCut, "{lost} changes were lost in all");
}

// ---- damage ---------------------------------------------------------------------------------------------------------

/// Which byte of a confirmed record's place is damaged.
#[derive(Debug, Clone, Copy)]
enum Spot {
    BatchHead,
    RecordHead,
    Body,
    SegmentHeader,
}

#[rstest]
fn b57_damage_to_what_was_durable_is_refused_and_named_and_nothing_is_changed(
    #[values(Spot::BatchHead, Spot::RecordHead, Spot::Body, Spot::SegmentHeader)] spot: Spot,
    #[values(0, 3)] victim: usize,
    #[values(End::Kill, End::Close)] end: End,
) {
    let mut records = Records::new(57, small());
    let keys: Vec<FileKey> = (0..6).map(|_| records.write()).collect();
    let world = records.end(end);
    let (path, at) = find(&world, keys[victim].as_bytes())[0].clone();
    edit(&world.disk, &path, |bytes| {
        let batch = at / 512 * 512; // written one by one, so each begins a batch of its own
        let at = match spot {
            Spot::BatchHead => batch + 17,
            Spot::RecordHead => batch + 64 + 3,
            Spot::Body => at,
            Spot::SegmentHeader => {
                bytes[2_048 + 40] ^= 0x10; // the second copy goes, too
                40
            }
        };
        bytes[at] ^= 0x10;
    });
    let (world, place) = refused(world);
    if !matches!(spot, Spot::SegmentHeader) {
        assert!(place.contains(&name(&path)), "{place} does not name {}", path.display());
        assert!(place.contains("offset"), "{place}");
    }
    // Looking does not get around it either.
    let looked = EmbeddedStore::inspect(Path::new("/data"), &*world.disk);
    assert!(matches!(looked, Err(Error::Corrupt { .. })), "{looked:?}");
}

#[test]
fn b57_every_byte_of_a_durable_record_counts() {
    let mut records = Records::new(57, small());
    let keys: Vec<FileKey> = (0..3).map(|_| records.write()).collect();
    let mut world = records.end(End::Kill);
    let (path, at) = find(&world, keys[0].as_bytes())[0].clone();
    let batch = at / 512 * 512;
    let mut body = 0;
    edit(&world.disk, &path, |bytes| {
        body = u32::from_le_bytes(bytes[batch + 72..batch + 76].try_into().unwrap()) as usize;
    });
    assert!(body > 60, "this is not where its length stands");
    // One bit of each byte, another one from byte to byte.
    for (bit, at) in (batch..batch + 64 + 48 + body).enumerate() {
        let flip = |world: &World| {
            let file = world.disk.open(&path, true).unwrap();
            let mut byte = [0];
            file.read_at(&mut byte, at as u64).unwrap();
            file.write_at(&[byte[0] ^ (1 << (bit % 8))], at as u64).unwrap();
        };
        flip(&world);
        let Err(failed) = Records::open(world) else { panic!("byte {at} does not count") };
        assert!(matches!(failed.1, Error::Corrupt { .. }), "byte {at}: {:?}", failed.1);
        world = failed.0;
        flip(&world);
    }
    let mut records = open(world);
    assert!(keys.iter().all(|key| records.status(*key) == Some(FileStatus::Pending)), "unharmed, it opens");
}

#[rstest]
#[case::one(1)]
#[case::all(usize::MAX)]
fn b57_missing_segments_are_refused_never_silently_empty(#[case] count: usize) {
    let mut records = Records::new(57, small());
    records.write_many(3);
    records = records.restart(End::Kill); // another segment, so that one can be missing
    records.write();
    let world = records.end(End::Kill);
    let mut used = find(&world, b"tenant-0").into_iter().map(|(path, _)| path).collect::<Vec<_>>();
    used.dedup();
    assert!(used.len() >= 2);
    let gone = match count {
        usize::MAX => journal_files(&world, "segment-"),
        _ => used[..count].to_vec(),
    };
    for path in gone {
        world.disk.remove_file(&path).unwrap();
    }
    refused(world);
}

#[test]
fn b58_a_lost_identity_is_refused_never_taken_for_a_new_store() {
    let mut records = Records::new(58, small());
    records.write_many(3);
    let world = records.end(End::Close);
    let store = Path::new("/data/STORE");
    let mut kept = Vec::new();
    edit(&world.disk, store, |bytes| kept = bytes.clone());
    world.disk.remove_file(store).unwrap();
    let (world, place) = refused(world);
    assert!(place.contains("STORE"), "{place}");
    // Put back, everything is as it was.
    let file = world.disk.create_new(store).unwrap();
    file.write_at(&kept, 0).unwrap();
    let records = open(world);
    assert_eq!(records.counts().pending, 3);
}

#[test]
fn b57_damage_above_what_is_known_to_be_durable_ends_the_log_and_is_counted() {
    for victim in 0..5 {
        let mut records = Records::new(57, small_buffered());
        let keys: Vec<FileKey> = (0..5).map(|_| records.write()).collect();
        let world = records.end(End::Kill);
        let (path, at) = find(&world, keys[victim].as_bytes())[0].clone();
        edit(&world.disk, &path, |bytes| bytes[at] ^= 1);
        let mut records = open(world);
        assert_eq!(records.report.dropped, (5 - victim) as u64, "dropped and counted");
        for (place, key) in keys.iter().enumerate() {
            assert_eq!(records.status(*key).is_some(), place < victim, "a beginning, without a hole");
        }
        // Dropped once: what follows is never mistaken for a part of the log again.
        let new = records.write();
        let end = records.report.end;
        let mut records = records.restart(End::Kill);
        assert_eq!(records.report.dropped, 0);
        assert!(records.report.end > end);
        assert_eq!(records.counts().pending, victim as u64 + 1);
        assert_eq!(records.status(new), Some(FileStatus::Pending));
    }
}

#[test]
fn b58_positions_and_tokens_increase_whatever_is_cut_or_lost() {
    let mut records = Records::new(58, EngineOptions { max_deliveries: Some(10_000), ..small_buffered() });
    records.write_many(3);
    records.sync();
    let mut last = Lsn::ZERO;
    let mut tokens = BTreeSet::new();
    for turn in 0..40 {
        for _ in 0..3 {
            let lease = records.lease().unwrap().lease;
            assert!(lease.token.lsn > last, "turn {turn}: {} after {last}", lease.token.lsn);
            last = lease.token.lsn;
            assert!(tokens.insert((lease.token.epoch.random, last)), "turn {turn}");
            records.release(&lease).unwrap();
        }
        let world = match turn % 6 {
            0 => records.end(End::Kill),
            1 => records.end(End::PowerCut),
            2 => {
                records.checkpoint().unwrap();
                records.end(End::PowerCut)
            }
            3 => {
                // The side file goes: a checkpoint, as long as an older one or the whole log is there.
                records.checkpoint().unwrap();
                records.checkpoint().unwrap();
                let world = records.end(End::Kill);
                let newest = journal_files(&world, "checkpoint-").pop().unwrap();
                world.disk.remove_file(&newest).unwrap();
                world
            }
            4 => {
                // The newest segment is cut behind its header: all that was never synced.
                let world = records.end(End::Kill);
                let files = all_files(&world);
                let number = |bytes: &[u8]| u64::from_le_bytes(bytes[32..40].try_into().unwrap());
                let segments = files.iter().filter(|(path, bytes)| {
                    name(path).starts_with("segment-") && bytes.starts_with(b"LOCUSLOG")
                });
                let newest = segments.max_by_key(|(_, bytes)| number(bytes)).unwrap().0.clone();
                let kept = first_unsynced(&files[&newest]);
                edit(&world.disk, &newest, |bytes| bytes.truncate(kept));
                world
            }
            _ => {
                roll(&mut records);
                records.checkpoint().unwrap();
                roll(&mut records);
                records.checkpoint().unwrap();
                records.end(End::Kill)
            }
        };
        records = open(world);
        assert_eq!(records.counts().pending, 3, "turn {turn}");
    }
}

/// Behind the first batch: that of the opening, which was synced.
fn first_unsynced(segment: &[u8]) -> usize {
    4_096 + u32::from_le_bytes(segment[4_096 + 8..4_096 + 12].try_into().unwrap()) as usize
}

// ---- checkpoints ----------------------------------------------------------------------------------------------------

/// So many segments' worth of log and checkpoints before the one that is looked at.
fn with_history(seed: u64, before: usize) -> (Records, Variety) {
    let mut records = Records::new(seed, small());
    let known = variety(&mut records);
    for _ in 0..before {
        roll(&mut records);
        records.checkpoint().unwrap();
    }
    (records, known)
}

#[rstest]
fn b59_a_crash_at_every_step_of_a_checkpoint_leaves_the_same_state(
    #[values(0, 1, 2)] before: usize,
    #[values(End::Kill, End::PowerCut)] end: End,
) {
    let mut steps = 0;
    loop {
        let (mut records, known) = with_history(59 + steps, before);
        if before > 0 {
            roll(&mut records);
        }
        let expected = observe(&mut records, &known);
        records.world.disk.crash_at(records.world.disk.ops() + 1 + steps);
        let taken = records.checkpoint();
        let reached = records.world.disk.is_down();
        assert!(reached || taken.is_ok(), "{taken:?}");
        let mut records = records.restart(end);
        same(&observe(&mut records, &known), &expected, &format!("step {steps}"));
        // What it frees is written over; then the power goes.
        roll(&mut records);
        roll(&mut records);
        let mut records = records.restart(End::PowerCut);
        same(&observe(&mut records, &known), &expected, &format!("step {steps}, and more log"));
        // The next one is taken over whatever this one left.
        records.checkpoint().unwrap();
        let left = journal_files(&records.world, "checkpoint-");
        assert!(left.len() <= 2, "{left:?}");
        let mut records = records.restart(End::PowerCut);
        assert_eq!(records.report.checkpoints_damaged, 0);
        same(&observe(&mut records, &known), &expected, &format!("step {steps}, and another checkpoint"));
        if !reached {
            break;
        }
        steps += 1;
    }
    assert!(steps > 5, "{steps} steps");
}

#[rstest]
fn b60_with_the_older_log_gone_the_state_is_the_one_that_was_lost(
    #[values(End::Kill, End::PowerCut, End::Close)] end: End,
) {
    let (mut records, known) = with_history(60, 4);
    assert!(records.store.statistics().segments_reused > 0);
    let expected = observe(&mut records, &known);
    let replayed = records.report.replayed;
    let mut records = records.restart(end);
    assert!(records.report.replayed <= replayed + 10, "{} records were replayed", records.report.replayed);
    same(&observe(&mut records, &known), &expected, "after a restart");
    for lease in &known.held {
        assert_eq!(records.renew(lease).unwrap().token, lease.token);
    }
    // It is the checkpoints that hold it: without them nothing is left of it.
    let world = records.end(End::Kill);
    for path in journal_files(&world, "checkpoint-") {
        world.disk.remove_file(&path).unwrap();
    }
    refused(world);
}

#[test]
fn b60_what_is_due_and_in_which_order_is_the_same_after_checkpoint_and_restart() {
    let mut orders = Vec::new();
    for restart in [false, true] {
        let (mut records, known) = with_history(60, 3);
        if restart {
            records = records.restart(End::Kill);
        }
        let mut order: Vec<(usize, u32)> = Vec::new();
        let mut go = |records: &mut Records| {
            while let Some(leased) = records.lease() {
                let place = known.keys.iter().position(|(_, key)| *key == leased.lease.key).unwrap();
                order.push((place, leased.lease.attempt));
            }
        };
        go(&mut records);
        records.world.advance(5 * SECOND); // the delayed one
        go(&mut records);
        records.world.advance(HOUR - 5 * SECOND); // outsiders
        go(&mut records);
        orders.push(order);
    }
    assert!(orders[0].len() > 10);
    assert_eq!(orders[0], orders[1]);
}

#[test]
fn b60_checkpoints_beside_running_work_hold_what_the_log_behind_them_needs() {
    let mut records = Records::new(60, EngineOptions { checkpoint_bytes: 1, ..small_buffered() });
    let mut keys = records.write_many(9_000); // several slices
    let threads = records.store.spawn_threads().unwrap();
    let (store, over) = (records.store.clone(), AtomicBool::new(false));
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let written = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..3_u32)
            .map(|worker| {
                let (store, over) = (store.clone(), &over);
                scope.spawn(move || {
                    let options = LeaseOptions::new().owner(Owner::Outside);
                    let mut written = Vec::new();
                    runtime().block_on(async {
                        for turn in worker.. {
                            if over.load(Ordering::Relaxed) {
                                break;
                            }
                            let leased =
                                store.lease(&tenant(0), 1 + turn as usize % 3, &options).await.unwrap();
                            for (n, leased) in leased.into_iter().enumerate() {
                                let (lease, key) = (&leased.lease, leased.lease.key);
                                match (turn as usize + n) % 6 {
                                    0 => store.complete(std::slice::from_ref(lease)).await.unwrap(),
                                    1 => drop(store.fail(lease, "for a test").await.unwrap()),
                                    2 => store.release(lease).await.unwrap(),
                                    3 => store.delete(&tenant(0), &key, true).await.unwrap(),
                                    4 => drop(store.renew(lease, Some(2 * HOUR)).await.unwrap()),
                                    _ => {
                                        store.fail(lease, "for a test").await.unwrap();
                                        store.reset(&tenant(0), &key).await.unwrap();
                                    }
                                }
                            }
                            written.extend(put(&store, (0..3).map(|_| new_file()).collect()).await.unwrap());
                            let over = store.reapable(None, 2).await.unwrap();
                            store.reaped(&over).await.unwrap();
                        }
                    });
                    written
                })
            })
            .collect();
        runtime().block_on(async {
            for _ in 0..8 {
                store.checkpoint().await.unwrap();
            }
        });
        over.store(true, Ordering::Relaxed);
        let written = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>();
        runtime().block_on(store.sync()).unwrap();
        written
    });
    threads.stop();
    drop(store);
    assert!(written.len() > 100, "{} files were written beside 8 checkpoints", written.len());
    keys.extend(written);
    let known = Variety { keys: keys.into_iter().map(|key| (0, key)).collect(), held: Vec::new() };
    let expected = observe(&mut records, &known);
    // From the newest checkpoint, and from the one before it.
    let world = records.end(End::Kill);
    let newest = journal_files(&world, "checkpoint-").pop().unwrap();
    let mut records = open(world);
    same(&observe(&mut records, &known), &expected, "from the newest checkpoint");
    let world = records.end(End::Kill);
    world.disk.remove_file(&newest).unwrap();
    let mut records = open(world);
    same(&observe(&mut records, &known), &expected, "from the older checkpoint");
}

/// How a checkpoint is damaged.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Flip(f64),
    Cut(f64),
    Empty,
    Gone,
}

/// Bytes of a checkpoint file up to its last part; behind it lies what the file held before.
fn used(bytes: &[u8]) -> usize {
    const LAST_PART: u8 = 4;
    let mut at = 16;
    loop {
        let length = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap()) as usize;
        let kind = bytes[at + 12];
        at += 12 + length;
        if kind == LAST_PART {
            return at;
        }
    }
}

fn harm(world: &World, path: &Path, harm: Harm) {
    let at = |bytes: &[u8], part: f64| ((used(bytes) - 1) as f64 * part) as usize;
    match harm {
        Harm::Flip(part) => edit(&world.disk, path, |bytes| {
            let at = at(bytes, part);
            bytes[at] ^= 4;
        }),
        Harm::Cut(part) => edit(&world.disk, path, |bytes| bytes.truncate(at(bytes, part))),
        Harm::Empty => edit(&world.disk, path, Vec::clear),
        Harm::Gone => world.disk.remove_file(path).unwrap(),
    }
}

#[rstest]
fn b61_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    #[values(
        Harm::Flip(0.0),
        Harm::Flip(0.001),
        Harm::Flip(0.3),
        Harm::Flip(0.9),
        Harm::Flip(1.0),
        Harm::Cut(0.5),
        Harm::Cut(1.0),
        Harm::Empty,
        Harm::Gone
    )]
    how: Harm,
    #[values(0, 3)] openings: usize,
) {
    let (mut records, known) = with_history(61, 4);
    for _ in 0..openings {
        // An opening frees nothing that the older one needs.
        records = records.restart(End::Kill);
        roll(&mut records);
    }
    let late = records.lease().unwrap().lease; // a tail behind both
    records.complete(&late).unwrap();
    let expected = observe(&mut records, &known);
    let world = records.end(End::Kill);
    let checkpoints = journal_files(&world, "checkpoint-");
    assert_eq!(checkpoints.len(), 2);
    harm(&world, &checkpoints[1], how);
    let mut records = open(world);
    let damaged = u64::from(!matches!(how, Harm::Gone));
    assert_eq!(records.report.checkpoints_damaged, damaged);
    assert!(records.report.replayed > 10, "the tail behind the older one is longer");
    same(&observe(&mut records, &known), &expected, "from the older checkpoint");
    // The store is whole again: two more checkpoints, and it stands on its own feet.
    roll(&mut records);
    records.checkpoint().unwrap();
    let mut records = records.restart(End::PowerCut);
    assert_eq!(records.report.checkpoints_damaged, 0);
    same(&observe(&mut records, &known), &expected, "with a new checkpoint");
    // Both gone: refused, never silently empty or old.
    let world = records.end(End::Kill);
    for path in journal_files(&world, "checkpoint-") {
        harm(&world, &path, how);
    }
    refused(world);
}

#[rstest]
#[case::two(2, 0)]
#[case::one(1, 0)]
#[case::one_and_openings(1, 3)]
fn b61_as_long_as_the_whole_log_is_there_no_checkpoint_is_needed(
    #[case] checkpoints: u64,
    #[case] openings: usize,
) {
    let mut records = Records::new(61, small());
    let known = variety(&mut records);
    if checkpoints == 1 {
        roll(&mut records);
    }
    for _ in 0..checkpoints {
        records.checkpoint().unwrap();
    }
    for _ in 0..openings {
        records = records.restart(End::PowerCut);
    }
    let expected = observe(&mut records, &known);
    let world = records.end(End::Kill);
    for path in journal_files(&world, "checkpoint-") {
        harm(&world, &path, Harm::Flip(0.5));
    }
    let mut records = open(world);
    assert_eq!(records.report.checkpoints_damaged, checkpoints);
    same(&observe(&mut records, &known), &expected, "from the log alone");
}

// ---- looking --------------------------------------------------------------------------------------------------------

#[test]
fn b63_inspect_sees_an_open_store_and_changes_nothing() {
    let nothing = SimDisk::new(1);
    assert!(matches!(EmbeddedStore::inspect(Path::new("/data"), &*nothing), Err(Error::Io { .. })));
    let mut records = Records::new(63, small());
    let known = variety(&mut records);
    for turn in 0..4 {
        let before = all_files(&records.world);
        let seen = EmbeddedStore::inspect(Path::new("/data"), &*records.world.disk).unwrap();
        assert!(all_files(&records.world) == before, "turn {turn}: looking changed something");
        assert_eq!(seen.store, records.store.id());
        assert_eq!(seen.tenants, records.store.counts(), "turn {turn}");
        let on_volumes: Vec<u64> = seen.volumes.values().copied().collect();
        assert_eq!(on_volumes, [0, 1].map(|n| records.store.files_on(&volume(n))));
        assert_eq!(seen.end, records.store.statistics().written);
        assert!(seen.durable <= records.store.statistics().durable);
        assert_eq!(seen.journal_bytes, records.store.statistics().journal_bytes);
        assert_eq!(seen.checkpoint_bytes, records.store.statistics().checkpoint_bytes);
        match turn {
            0 => records.checkpoint().unwrap(),
            1 => roll(&mut records),
            _ => {
                records.checkpoint().unwrap();
                records.write();
            }
        }
    }
    // It goes on as if nobody had looked.
    let expected = observe(&mut records, &known);
    let mut records = records.restart(End::Kill);
    same(&observe(&mut records, &known), &expected, "after the looks");
}

// ---- bounds ---------------------------------------------------------------------------------------------------------

/// Files come, are leased, completed and reaped; says the most that journal and checkpoint took.
fn cycles(records: &mut Records, count: usize) -> (u64, u64) {
    let mut most = (0, 0);
    for round in 0..count / 50 {
        for _ in 0..50 {
            records.write();
            let lease = records.lease().unwrap().lease;
            records.complete(&lease).unwrap();
        }
        assert_eq!(records.reap(), 50, "round {round}");
        records.settle();
        let now = records.store.statistics();
        most = (most.0.max(now.journal_bytes), most.1.max(now.checkpoint_bytes));
    }
    most
}

#[test]
fn b64_log_and_checkpoints_stay_as_small_as_what_lives_whatever_the_history() {
    let mut records = Records::new(64, EngineOptions { checkpoint_bytes: 256 << 10, ..small_buffered() });
    records.run_background();
    // Some that live, leased so that the cycles pass them by.
    records.write_many(20);
    records.batch(20);
    let early = cycles(&mut records, 4_000);
    let late = cycles(&mut records, 16_000);
    let statistics = records.store.statistics();
    assert!(late.0 <= early.0 && late.0 <= 12 << 20, "the journal grew from {} to {} bytes", early.0, late.0);
    assert!(late.1 <= early.1.max(16 << 10), "checkpoints grew from {} to {} bytes", early.1, late.1);
    assert!(statistics.segments_reused > 10, "{statistics:?}");
    assert!(statistics.checkpoints > 10, "{statistics:?}");
    let records = records.restart(End::Kill);
    assert_eq!(records.report.files, 20);
    assert!(records.report.replayed < 10_000, "{} records were replayed", records.report.replayed);
}

#[test]
fn b64_many_short_lives_do_not_add_up_to_a_long_log() {
    let mut records = Records::new(64, EngineOptions { checkpoint_bytes: 1 << 20, ..small_buffered() });
    let mut most = [0, 0];
    for life in 0..60 {
        records.run_background();
        records.settle();
        // Less than would make a checkpoint due in one life.
        let bulky = NewFile { properties: [("p".to_owned(), "x".repeat(1_000))].into(), ..new_file() };
        for _ in 0..2 {
            records.try_put((0..150).map(|_| crate::world::copy_of(&bulky)).collect()).unwrap();
        }
        let leases: Vec<Lease> = records.batch(1_000).into_iter().map(|leased| leased.lease).collect();
        assert_eq!(leases.len(), 300);
        records.call(|store| async move { store.complete(&leases).await }).unwrap();
        assert_eq!(records.reap(), 300);
        let half = &mut most[life / 30];
        *half = records.store.statistics().journal_bytes.max(*half);
        records = records.restart(if life % 2 == 0 { End::Kill } else { End::Close });
    }
    assert!(most[1] <= most[0], "the journal grew with every life: {most:?} bytes");
    assert!(records.report.replayed < 1_000, "{} records were replayed", records.report.replayed);
}

#[test]
fn b64_many_openings_leave_no_trail_of_segments() {
    let mut records = Records::new(64, EngineOptions { checkpoint_bytes: 1 << 20, ..small() });
    let mut most = [0, 0];
    for life in 0..40 {
        records.run_background();
        records.settle();
        records.write();
        let half = &mut most[life / 20];
        *half = records.store.statistics().journal_bytes.max(*half);
        records = records.restart(if life % 2 == 0 { End::Kill } else { End::Close });
    }
    assert_eq!(records.counts().pending, 40);
    assert!(most[1] <= most[0], "the journal grew with every opening: {most:?} bytes");
}

#[test]
fn b64_tenants_without_files_leave_no_trace_in_a_checkpoint() {
    let mut records = Records::new(64, small());
    records.checkpoint().unwrap();
    let empty = records.store.statistics().checkpoint_bytes;
    let keys: Vec<_> = (0..20).map(|number| records.put(file_of(number))).collect();
    records.checkpoint().unwrap();
    assert!(records.store.statistics().checkpoint_bytes > empty + 20 * 50);
    for (number, key) in keys.into_iter().enumerate() {
        records.call(|store| async move { store.delete(&tenant(number), &key, false).await }).unwrap();
    }
    assert_eq!(records.reap(), 20);
    records.checkpoint().unwrap();
    let left = records.store.statistics().checkpoint_bytes;
    assert!(left < empty + 20, "{left} bytes for nothing, {empty} before there was anything");
}

#[test]
fn b48_an_idle_store_tells_the_disk_the_time_once_an_hour() {
    let mut records = Records::new(48, small());
    records.run_background();
    records.write();
    records.pass(MINUTE, SECOND);
    let quiet = records.world.disk.ops();
    records.pass(55 * MINUTE, MINUTE);
    assert_eq!(records.world.disk.ops(), quiet);
    records.pass(10 * MINUTE, MINUTE);
    assert!(records.world.disk.ops() > quiet);
}

// ---- full and failing disks -----------------------------------------------------------------------------------------

fn disk_used(world: &World) -> u64 {
    let space = world.disk.space(Path::new("/")).unwrap();
    space.total - space.available
}

#[rstest]
fn b65_a_full_disk_refuses_cleanly_and_recovers_by_itself(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let mut records = Records::new(65, EngineOptions { durability, ..small() });
    records.settle();
    records.world.disk.set_capacity(disk_used(&records.world));
    let mut written = Vec::new();
    let mut batch = 800;
    while batch > 0 {
        match records.try_put((0..batch).map(|_| new_file()).collect()) {
            Ok(keys) => written.extend(keys),
            Err(Error::InsufficientStorage { required, available }) => {
                assert!(required > available, "{required} {available}");
                batch /= 2;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    for _ in 0..3 {
        let refused = records.try_put(vec![new_file()]);
        assert!(matches!(refused, Err(Error::InsufficientStorage { .. })), "{refused:?}");
    }
    assert!(!records.store.is_poisoned());
    assert_eq!(records.used(&Scope::Global), written.len() as u64, "a refused file is charged");
    assert!(records.status(written[0]).is_some());
    records.checkpoint().expect("its file was there before it was needed");
    // It goes on in the same state, once the file of the next segment fits.
    records.world.disk.set_capacity(u64::MAX);
    written.push(records.write());
    assert_eq!(records.lease().unwrap().lease.key, written[0]);
    records.checkpoint().unwrap();
    let mut records = records.restart(End::PowerCut);
    assert_eq!(records.counts().files(), written.len() as u64);
    let order: Vec<FileKey> = records.batch(4_096).iter().map(|leased| leased.lease.key).collect();
    assert_eq!(order, written[..order.len()]);
}

#[test]
fn b65_the_first_checkpoints_of_a_store_find_room_on_a_full_disk() {
    let mut records = Records::new(65, small());
    records.settle();
    records.world.disk.set_capacity(disk_used(&records.world));
    let key = records.write();
    for number in 1..=4 {
        records.checkpoint().unwrap();
        assert_eq!(records.store.statistics().checkpoints, number);
    }
    let mut records = records.restart(End::PowerCut);
    assert_eq!(records.status(key), Some(FileStatus::Pending));
}

#[test]
fn b65_limits_are_set_only_while_a_checkpoint_of_all_of_them_finds_room() {
    let mut records = Records::new(65, small());
    records.settle();
    let scope = |number: usize| {
        let path = format!("{}/{number}", format!("/{}", "d".repeat(200)).repeat(5));
        Scope::Directory(tenant(0), LogicalDir::parse(&path).unwrap())
    };
    let set = |records: &mut Records, number, limit| {
        records.call(|s| async move { s.set_limit(scope(number), limit).await })
    };
    for number in 0..600 {
        set(&mut records, number, Limit::Files(9)).unwrap();
    }
    records.world.disk.set_capacity(disk_used(&records.world));
    records.checkpoint().expect("its file became longer with the limits");
    let mut number = 600;
    let refused = loop {
        match set(&mut records, number, Limit::Files(9)) {
            Ok(()) => number += 1,
            Err(why) => break why,
        }
    };
    assert!(matches!(refused, Error::InsufficientStorage { .. }), "{refused:?}");
    for limit in [Limit::Bytes(1), Limit::Inherit, Limit::Inherit] {
        set(&mut records, 0, limit).expect("it makes no checkpoint longer");
    }
    records.checkpoint().expect("what was taken in finds room");
}

#[test]
fn segments_of_a_small_store_wait_for_a_checkpoint_only_until_it_pays() {
    let mut bench = Bench::open_at(World::new(67, EngineOptions::default()).with_inline(64 << 10));
    let content = vec![7; 60 << 10];
    let mut bytes = 0;
    while !bench.engine.store.checkpoint_due() {
        bench.write(content.clone());
        let (scheduler, acme) = (bench.scheduler.clone(), bench.acme.clone());
        let leased = bench.run(scheduler.next(&acme)).unwrap().unwrap();
        bench.run(scheduler.complete(&leased.lease)).unwrap();
        let sweeper = bench.engine.sweeper.clone();
        bench.run(sweeper.reap_step()).unwrap();
        bytes += content.len();
        assert!(bytes < 64 << 20, "four full-sized segments would be 256 MiB");
    }
    assert!(bytes >= 32 << 20, "{bytes}");
}

#[test]
fn a_store_that_has_replayed_much_takes_a_checkpoint_after_its_opening() {
    let options = EngineOptions { checkpoint_bytes: 1 << 20, ..small_buffered() };
    let mut records = Records::new(65, options);
    while !records.store.checkpoint_due() {
        records.try_put((0..500).map(|_| new_file()).collect()).unwrap();
    }
    assert!(records.restart(End::Kill).store.checkpoint_due(), "the log is no shorter");
}

#[test]
fn b65_why_a_checkpoint_could_not_be_written_is_told() {
    let mut records = Records::new(65, small());
    let spare = |path: &Path| path.ends_with("checkpoint.new");
    records.world.disk.fail(Fault::kind(std::io::ErrorKind::PermissionDenied).on(OpKind::Open).at(spare));
    let failed = records.checkpoint();
    assert!(
        matches!(&failed, Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::PermissionDenied),
        "{failed:?}"
    );
    records.checkpoint().unwrap();
}

#[test]
fn no_checkpoint_is_due_because_the_disk_is_full_when_it_would_free_nothing() {
    let mut records = Records::new(65, small());
    records.settle();
    records.world.disk.set_capacity(disk_used(&records.world));
    while records.try_put((0..100).map(|_| new_file()).collect()).is_ok() {}
    records.checkpoint().unwrap();
    records.checkpoint().unwrap();
    records.settle();
    assert!(!records.store.checkpoint_due());
}

/// At 0 bytes free: what is there can be leased, failed, leased again, completed and reaped, however much log that
/// takes, over restarts too, and then there is room for new files.
#[rstest]
fn b65_a_full_disk_can_be_drained_to_the_last_file(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let mut records = Records::new(66, EngineOptions { durability, ..small() });
    records.run_background();
    records.settle();
    records.world.disk.set_capacity(disk_used(&records.world));
    let mut written = 0;
    while let Ok(keys) = records.try_put((0..100).map(|_| new_file()).collect()) {
        written += keys.len();
    }
    assert!(written > 500, "{written}");
    let log = |records: &Records| records.store.statistics().written.0;
    let mut appended = 0;
    for end in [None, Some(End::Kill), Some(End::PowerCut)] {
        if let Some(end) = end {
            records = records.restart(end);
            records.run_background();
        }
        let before = log(&records);
        // Each file is leased and released many times: far more log than all that is kept in reserve.
        for _ in 0..3_000 {
            let lease = records.lease().expect("a lease on a full disk").lease;
            records.release(&lease).expect("a release on a full disk");
        }
        appended += log(&records) - before;
    }
    assert!(appended >= 18_000, "{appended}");
    let mut done = 0;
    while let Some(leased) = records.lease() {
        records.complete(&leased.lease).unwrap();
        done += 1;
        if done % 64 == 0 {
            records.sync();
            records.reap();
        }
    }
    assert_eq!(done, written);
    records.sync();
    while records.reap() > 0 {}
    assert_eq!(records.counts().files(), 0);
    records.checkpoint().unwrap();
    records.checkpoint().unwrap();
    records.settle();
    records.write();
}

#[rstest]
fn b37_b65_a_failing_log_poisons_at_once_and_reopening_decides(
    #[values(OpKind::Write, OpKind::Sync)] kind: OpKind,
    #[values(5, 13)] errno: i32,
    #[values(End::Kill, End::PowerCut)] end: End,
) {
    let mut seen = BTreeSet::new();
    for seed in 0..8 {
        let mut records = Records::new(seed, small());
        let [doubtful, certain, waiting] = records.write_many(3)[..] else { unreachable!() };
        let lease = records.claim(doubtful, Owner::Outside);
        let other = records.claim(certain, Owner::Outside);
        records.sync();
        let fault = Fault::os(errno).on(kind).at(|path| path.starts_with("/data/journal"));
        records.world.disk.fail(fault);

        // Everybody who waits is told, in bounded time, and once one was told nobody's word is taken any more.
        let crowd: Vec<_> = (0..5)
            .map(|_| {
                let (store, answer) =
                    (records.store.clone(), std::rc::Rc::new(std::cell::RefCell::new(None)));
                let told = answer.clone();
                records.world.stepper.spawn(async move {
                    *told.borrow_mut() = Some(put(&store, vec![new_file()]).await);
                });
                answer
            })
            .collect();
        records.world.stepper.run_until_idle();
        let unknown = records.complete(&lease);
        assert!(matches!(unknown, Err(Error::Poisoned { outcome: Outcome::Unknown })), "{unknown:?}");
        records.world.stepper.run_until_idle();
        for answer in crowd {
            let answer = answer.borrow_mut().take().expect("because nobody waits for ever");
            assert!(matches!(answer, Err(Error::Poisoned { .. })), "{answer:?}");
        }
        records.world.disk.heal_all();
        assert!(records.store.is_poisoned() && !records.store.is_trustworthy());
        let not_done = records.try_put(vec![new_file()]);
        assert!(matches!(not_done, Err(Error::Poisoned { outcome: Outcome::NotDone })), "{not_done:?}");
        assert!(matches!(records.try_lease(1, LeaseOptions::new()), Err(Error::Poisoned { .. })));
        assert!(matches!(records.complete(&other), Err(Error::Poisoned { outcome: Outcome::NotDone })));
        assert!(matches!(records.checkpoint(), Err(Error::Poisoned { .. })));
        assert!(records.call(|s| async move { s.sync().await }).is_err());
        assert!(
            records.call(|s| async move { s.reapable(None, 10).await }).unwrap().is_empty(),
            "nothing is destroyed"
        );
        // What is certain is answered, what is not is not.
        let get = |records: &mut Records, key| records.call(|s| async move { s.get(&tenant(0), &key).await });
        let look = get(&mut records, doubtful);
        assert!(matches!(look, Err(Error::Poisoned { outcome: Outcome::Unknown })), "{look:?}");
        assert_eq!(get(&mut records, certain).unwrap().unwrap().info.status, FileStatus::Processing);
        assert_eq!(get(&mut records, waiting).unwrap().unwrap().info.status, FileStatus::Pending);

        let mut records = records.restart(end);
        let decided = records.status(doubtful).unwrap();
        assert!(matches!(decided, FileStatus::Processing | FileStatus::Completed), "{decided}");
        seen.insert(decided as u8);
        records.renew(&other).unwrap();
        records.write();
        let mut records = records.restart(End::PowerCut);
        assert_eq!(records.status(doubtful), Some(decided), "decided once");
    }
    assert!(!seen.is_empty());
}

// ---- what is not synced ---------------------------------------------------------------------------------------------

#[test]
fn b66_the_unsynced_backlog_is_bounded_and_those_beyond_it_wait_for_a_barrier() {
    const BOUND: u64 = 64 << 10;
    let mut records = Records::new(66, EngineOptions { max_unsynced_bytes: BOUND, ..small_buffered() });
    records.settle();
    let store = records.store.clone();
    let begin = store.statistics().written.0;
    let mut accepted = 0;
    let mut waiting = loop {
        let mut putting = Box::pin(put(&store, vec![new_file()]));
        if poll_once(putting.as_mut()).is_pending() {
            break putting;
        }
        accepted += 1;
        assert!(accepted < 1_000, "nobody ever waited");
    };
    // One record is one batch of 512 bytes here.
    assert!((BOUND / 512..BOUND / 512 + 3).contains(&accepted), "{accepted} records went unsynced");
    assert_eq!(store.statistics().written.0 - begin, accepted);
    assert!(store.statistics().durable.0 <= begin);
    // Leases and lazy changes count and wait like the others.
    let options = LeaseOptions::new();
    let here = tenant(0);
    let mut leasing = Box::pin(store.lease(&here, 1, &options));
    assert!(poll_once(leasing.as_mut()).is_pending());
    // The barrier does not wait for its hour.
    records.run_background();
    records.settle();
    assert!(poll_once(waiting.as_mut()).is_ready());
    assert!(poll_once(leasing.as_mut()).is_ready());
    assert!(store.statistics().durable.0 >= begin + accepted);
}

#[test]
fn b66_what_is_written_is_durable_after_max_unsynced_and_not_before() {
    let mut records = Records::new(66, small_buffered());
    records.run_background();
    records.settle();
    let key = records.write();
    let written = records.store.statistics().written;
    records.pass(SECOND - MOMENT, SECOND);
    assert!(records.store.statistics().durable < written, "synced without need");
    records.pass(MOMENT, SECOND);
    assert!(records.store.statistics().durable >= written, "at risk for longer than was promised");
    // The next stretch has its own second.
    records.pass(MINUTE, SECOND);
    let later = records.write();
    let written = records.store.statistics().written;
    records.pass(SECOND - MOMENT, SECOND);
    assert!(records.store.statistics().durable < written);
    records.pass(MOMENT, SECOND);
    let mut records = records.restart(End::PowerCut);
    assert!(records.status(key).is_some() && records.status(later).is_some());
}

#[test]
fn b66_a_background_failure_is_told_by_the_next_call_once() {
    let mut records = Records::new(66, small_buffered());
    records.run_background();
    records.settle();
    // Its content waits to be synced on a volume that is not there.
    let key = records.put(NewFile { content: on_volume(0, false), ..new_file() });
    records.pass(SECOND, SECOND);
    let told = records.try_lease(1, LeaseOptions::new());
    assert!(
        matches!(&told, Err(Error::VolumeUnavailable { volume: Some(id), .. }) if *id == volume(0)),
        "{told:?}"
    );
    assert_eq!(records.status(key), Some(FileStatus::Pending));
    assert_eq!(records.lease().unwrap().lease.key, key, "told once, then the work goes on");
    // Nobody else waits for the volume; what comes later and cannot be synced is told again.
    records.pass(5 * SECOND, SECOND);
    records.try_put(vec![new_file()]).unwrap();
    records.put(NewFile { content: on_volume(0, false), ..new_file() });
    let told = records.call(|s| async move { s.sync().await });
    assert!(
        matches!(told, Err(Error::VolumeUnavailable { .. })),
        "a barrier that is asked for says so itself: {told:?}"
    );
    assert!(!records.store.is_poisoned());
}

// ---- batches --------------------------------------------------------------------------------------------------------

#[rstest]
fn b67_a_batch_is_there_wholly_or_not_at_all_wherever_the_crash(
    #[values(End::Kill, End::PowerCut)] end: End,
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    const BATCH: usize = 60; // many sectors, each of which may be torn off
    let mut seen = BTreeSet::new();
    for seed in 0..12 {
        for k in 0.. {
            let mut records = Records::new(seed * 100 + k, EngineOptions { durability, ..small() });
            records.write_many(BATCH);
            let leases: Vec<Lease> = records.batch(BATCH).into_iter().map(|leased| leased.lease).collect();
            records.try_put((0..BATCH).map(|_| file_of(1)).collect()).unwrap();
            let others =
                records.call(|s| async move { s.lease(&tenant(1), BATCH, &LeaseOptions::new()).await });
            let all: Vec<Lease> =
                leases.into_iter().chain(others.unwrap().into_iter().map(|leased| leased.lease)).collect();
            records.sync();
            records.world.disk.crash_at(records.world.disk.ops() + 1 + k);
            // The completions of two tenants, then new files.
            let completed = records.call(|s| async move { s.complete(&all).await });
            let accepted = records.try_put((0..BATCH).map(|_| file_of(2)).collect());
            let reached = records.world.disk.is_down();
            let records = records.restart(end);
            let counts = records.store.counts();
            let count = |n: usize| counts.get(&tenant(n)).copied().unwrap_or_default();
            let found = (count(0).completed, count(1).completed, count(2).pending);
            let whole = |n: u64| n == 0 || n == BATCH as u64;
            assert!(
                whole(found.0) && found.0 == found.1 && whole(found.2),
                "seed {seed}, operation {k}: {found:?}"
            );
            assert!(found.2 == 0 || found.0 > 0, "seed {seed}, operation {k}: a hole");
            if durability == Durability::Durable || end == End::Kill {
                assert!(found.0 > 0 || completed.is_err(), "seed {seed}, operation {k}: confirmed and lost");
                assert!(found.2 > 0 || accepted.is_err(), "seed {seed}, operation {k}: confirmed and lost");
            }
            assert_eq!(count(0).files() + count(1).files(), 2 * BATCH as u64);
            seen.insert((found.0 > 0, found.2 > 0));
            if !reached {
                break;
            }
        }
    }
    assert!(seen.len() >= 2, "{seen:?}");
}

#[test]
fn b67_a_batch_with_one_bad_member_changes_nothing() {
    let mut records = Records::new(67, small());
    let keys = records.write_many(3);
    let mut leases: Vec<Lease> = records.batch(3).into_iter().map(|leased| leased.lease).collect();
    let mut stranger = leases[1].clone();
    stranger.token.lsn = stranger.token.lsn.next();
    leases.insert(2, stranger);
    let written = records.store.statistics().written;
    let refused = records.call(|s| async move { s.complete(&leases).await });
    assert!(matches!(refused, Err(Error::LeaseLost { key, .. }) if key == keys[1]), "{refused:?}");
    assert_eq!((records.counts().processing, records.counts().completed), (3, 0));
    assert_eq!(records.store.statistics().written, written, "nothing was recorded");
    let bad = NewFile { original_name: Some("x".repeat(1_025)), ..new_file() };
    assert!(matches!(records.try_put(vec![new_file(), bad, new_file()]), Err(Error::TooLarge { .. })));
    let mixed = records.try_put(vec![new_file(), file_of(1)]);
    assert!(matches!(mixed, Err(Error::InvalidArgument { .. })), "{mixed:?}");
    assert_eq!(records.used(&Scope::Global), 3);
}

// ---- newer formats --------------------------------------------------------------------------------------------------

fn checksum(bytes: &[u8]) -> [u8; 8] {
    *blake3::hash(bytes).as_bytes().first_chunk().unwrap()
}

#[rstest]
#[case::segment("segment-", 96)]
#[case::checkpoint("checkpoint-", usize::MAX)]
#[case::store("STORE", 64)]
fn b68_a_newer_format_is_refused_by_name_and_never_misread(#[case] prefix: &str, #[case] covered: usize) {
    let mut records = Records::new(68, small());
    records.write_many(3);
    records.checkpoint().unwrap();
    let world = records.end(End::Close);
    let path = match prefix {
        "STORE" => PathBuf::from("/data/STORE"),
        "segment-" => find(&world, b"tenant-0")[0].0.clone(),
        prefix => journal_files(&world, prefix).pop().unwrap(),
    };
    let format = 2_u32;
    let mut before = 0;
    edit(&world.disk, &path, |bytes| {
        before = bytes[8];
        bytes[8..12].copy_from_slice(&format.to_le_bytes());
        if prefix == "checkpoint-" {
            let sum = checksum(&bytes[..12]);
            bytes[12..16].copy_from_slice(&sum[..4]);
        }
        if covered < bytes.len() {
            let sum = checksum(&bytes[..covered]);
            bytes[covered..covered + 8].copy_from_slice(&sum);
        }
    });
    assert_eq!(before, 1, "this is not where the format stands");
    let files = all_files(&world);
    let failed = Records::open(world).map(|_| ()).unwrap_err();
    let (world, why) = *failed;
    let Error::NewerFormat { place, found, supported } = why else { panic!("{why:?}") };
    assert!(place.contains(&name(&path)), "{place}");
    assert_eq!((found, supported), (2, 1));
    assert!(all_files(&world) == files, "a refused open changed something");
}

// ---- names of writes ------------------------------------------------------------------------------------------------

/// How the store lives on between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Open,
    Replayed,
    Checkpointed,
}

fn go_on(mut records: Records, meanwhile: Meanwhile) -> Records {
    match meanwhile {
        Meanwhile::Open => records,
        Meanwhile::Replayed => records.restart(End::Kill),
        Meanwhile::Checkpointed => {
            for _ in 0..3 {
                roll(&mut records);
                records.checkpoint().unwrap();
            }
            records.restart(End::PowerCut)
        }
    }
}

#[rstest]
fn a_name_is_remembered_for_a_day_of_store_time_after_the_record_went_and_then_forgotten(
    #[values(Meanwhile::Open, Meanwhile::Replayed, Meanwhile::Checkpointed)] meanwhile: Meanwhile,
) {
    let mut records = Records::new(9, small());
    let key = records.put(named("a", Remember::Day));
    let kept = records.put(named("b", Remember::UntilForgotten));
    assert_eq!(records.put(named("a", Remember::Day)), key, "written once");
    // As long as the record is there, time does not count.
    records.world.advance(100 * HOUR);
    let mut records = go_on(records, meanwhile);
    assert_eq!((records.known("a"), records.known("b")), (Some(key), Some(kept)));
    for lease in records.batch(10) {
        records.complete(&lease.lease).unwrap();
    }
    records.world.advance(100 * HOUR);
    assert_eq!(records.known("a"), Some(key), "completed, and its bytes not yet gone");
    assert_eq!(records.reap(), 2);
    let mut records = go_on(records, meanwhile);
    records.world.advance(24 * HOUR - MOMENT);
    assert_eq!((records.known("a"), records.known("b")), (Some(key), Some(kept)));
    records.world.advance(MOMENT);
    assert_eq!((records.known("a"), records.known("b")), (None, Some(kept)));
    let again = records.put(named("a", Remember::Day));
    assert_ne!(again, key);
    // What came after is remembered in its own right, and the old one does not come back.
    records.world.advance(1_000 * HOUR);
    let mut records = go_on(records, meanwhile);
    assert_eq!((records.known("a"), records.known("b")), (Some(again), Some(kept)));
    let forget = |records: &mut Records, name: &'static str| {
        records.call(|s| async move { s.forget(&tenant(0), name).await }).unwrap()
    };
    assert!(forget(&mut records, "b"));
    assert!(!forget(&mut records, "b"), "forgotten twice");
    assert!(!forget(&mut records, "never heard of"));
    let mut records = go_on(records, meanwhile);
    assert_eq!((records.known("a"), records.known("b")), (Some(again), None));
    let fresh = records.put(named("b", Remember::UntilForgotten));
    assert_ne!(fresh, kept);
    let mut records = go_on(records, meanwhile);
    assert_eq!(records.known("b"), Some(fresh));
}

#[test]
fn names_are_a_tenants_own_and_only_so_many_are_remembered() {
    let mut records = Records::new(9, EngineOptions { idempotency_max: 3, ..small() });
    let key = records.put(named("a", Remember::Day));
    let other = NewFile { idempotency: Some(IdempotencyKey::new("a")), ..file_of(1) };
    assert_ne!(records.put(other), key);
    records.put(named("b", Remember::Day));
    let full = records.try_put(vec![named("c", Remember::Day)]);
    assert!(matches!(full, Err(Error::TooLarge { size: 4, limit: 3, .. })), "{full:?}");
    assert_eq!(records.put(named("a", Remember::Day)), key, "what is known is still answered");
    records.write();
    let mut records = records.restart(End::Kill);
    assert!(records.try_put(vec![named("c", Remember::Day)]).is_err(), "counted again after a restart");
    assert!(records.call(|s| async move { s.forget(&tenant(0), "b").await }).unwrap());
    records.put(named("c", Remember::Day));
}

#[test]
fn a_name_that_was_accepted_meanwhile_gives_back_the_room_of_the_second() {
    let mut records = Records::new(9, EngineOptions { global_quota: Some(2), ..small() });
    let name = IdempotencyKey::new("a");
    let mut rooms = Vec::new();
    for _ in 0..2 {
        let name = name.clone();
        let room = records
            .call(|s| async move { s.reserve(&tenant(0), &LogicalDir::root(), None, Some(&name)).await });
        let Reserved::Room(room) = room.unwrap() else { panic!("nothing was written yet") };
        rooms.push(room);
    }
    let keys: Vec<FileKey> = rooms
        .into_iter()
        .map(|room| {
            let file = named("a", Remember::Day);
            records.call(|s| async move { s.accept(vec![(file, room)]).await }).unwrap()[0]
        })
        .collect();
    assert_eq!(keys[0], keys[1], "of two that race, one wins and both are told");
    assert_eq!(records.used(&Scope::Global), 1);
    records.write();
    assert!(matches!(
        records.try_put(vec![new_file()]),
        Err(Error::GlobalQuotaExceeded { used: 2, limit: 2, .. })
    ));
}

#[rstest]
#[case::killed(End::Kill)]
#[case::closed(End::Close)]
fn a_file_keeps_its_seal_and_keys_are_counted_as_files_come_and_go(
    #[case] end: End,
    #[values(false, true)] saved: bool,
) {
    let mut records = Records::new(1, small());
    let sealed = |number| NewFile { seal: Some(seal(number)), ..new_file() };
    let keys = [1, 2, 3].map(|number| records.put(sealed(number)));
    records.put(new_file());
    let of = |number: u8| SealKeyId::from_bytes([number; 16]);
    assert_eq!(records.store.seal_keys(), [(of(0), 1), (of(1), 2)]);
    if saved {
        records.checkpoint().unwrap();
    }
    let mut records = records.restart(end);
    assert_eq!(records.store.seal_keys(), [(of(0), 1), (of(1), 2)]);
    for (number, key) in (1..).zip(keys) {
        assert_eq!(records.record_of(0, key).unwrap().seal, Some(seal(number)));
    }
    let lease = records.claim(keys[1], Owner::Process);
    records.complete(&lease).unwrap();
    assert_eq!(records.store.seal_keys(), [(of(0), 1), (of(1), 2)], "its bytes are still there");
    records.reap();
    assert_eq!(records.store.seal_keys(), [(of(1), 2)]);
    let long = Seal { details: vec![0; 4_097].into(), ..seal(1) };
    let refused = records.try_put(vec![NewFile { seal: Some(long), ..new_file() }]).unwrap_err();
    assert!(matches!(refused, Error::TooLarge { what: "sealed details", size: 4_097, limit: 4_096 }));
}

#[test]
fn compacting_says_what_records_take_before_and_afterwards() {
    let mut records = Records::new(1, small());
    let key = records.put(new_file());
    roll(&mut records);
    let compacted = records.call(|store| async move { store.compact().await }).unwrap();
    assert!(compacted.bytes_before >= 2 << 20, "{compacted:?}");
    assert!((1..compacted.bytes_before).contains(&compacted.bytes_after), "{compacted:?}");
    assert!(records.record_of(0, key).is_some());
}
