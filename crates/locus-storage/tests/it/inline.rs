//! Content in the journal, over the whole engine on a simulated disk: damage, reuse, moves, a full zone, other limits.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use locus_cleanup::SweepOptions;
use locus_cleanup::Sweeper;
use locus_core::{
    Checksum, Durability, Error, FailOutcome, FileKey, FileStatus, Lease, LeaseOptions, MetadataStore,
    NewContent, NewFile, Result, Scope, Upkeep, VolumeSet,
};
use locus_fs::{DirEntry, Disk, DiskFile, DiskLock, Meta, Space, create_dirs};
use locus_storage::{
    EmbeddedStore, EngineOptions, Finding, StoreConfig, StoreStatistics, VerifyLevel, VolumeRegistry,
    WriteOptions,
};
use locus_testkit::{ManualClock, SeededEntropy, SimDisk, Stepper};
use parking_lot::Mutex;
use rstest::rstest;

use crate::{
    bench::{Bench, Hang, poll_once},
    world::{End, World, files_below, new_file, put, tenant},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;
const LIMIT: u64 = 64 << 10;

/// Segments of 1 MiB, four of them in the zone.
pub(crate) fn small() -> EngineOptions {
    EngineOptions {
        segment_size: MIB,
        landing_zone_max: Some(4 * MIB),
        visibility_timeout: HOUR,
        ..EngineOptions::default()
    }
}

pub(crate) fn roomy() -> EngineOptions {
    EngineOptions { landing_zone_max: Some(64 * MIB), ..small() }
}

pub(crate) fn buffered() -> EngineOptions {
    EngineOptions { durability: Durability::Buffered, ..roomy() }
}

pub(crate) fn world(seed: u64, options: EngineOptions, volumes: usize) -> World {
    let mut world = World::new(seed, options).with_inline(LIMIT);
    world.volumes = volumes;
    world
}

/// Bytes that occur nowhere else.
pub(crate) fn content(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// On failure the world is handed back, with what went wrong.
pub(crate) fn try_open(mut world: World) -> Result<Bench, Box<(World, Error)>> {
    match world.open() {
        Err(why) => Err(Box::new((world, why))),
        Ok(engine) => {
            let (pool, scheduler) = (engine.pool.clone(), engine.scheduler.clone());
            let (acme, other) = (engine.tenants[0].clone(), engine.tenants[1].clone());
            let bench = Bench { world, engine, pool, scheduler, acme, other };
            bench.commit(); // the keeper makes ready what it can
            Ok(bench)
        }
    }
}

pub(crate) fn open(world: World) -> Bench {
    try_open(world).unwrap_or_else(|failed| panic!("refused to open: {:?}", failed.1))
}

/// Ends this life.
pub(crate) fn end(mut bench: Bench, how: End) -> World {
    if how == End::Close {
        let store = bench.engine.store.clone();
        bench.run(async move { store.shutdown().await }).unwrap();
    }
    let Bench { mut world, engine, .. } = bench;
    drop(engine);
    world.end(how);
    world
}

/// Ends this life and begins the next.
pub(crate) fn again(bench: Bench, how: End) -> Bench {
    open(end(bench, how))
}

impl Bench {
    pub(crate) fn rests_in_journal(&mut self, key: FileKey) -> bool {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        let location = self.run(async move { pool.location(&acme, &key).await }).unwrap().unwrap();
        assert_eq!(location.volume_id.is_none(), location.physical_path.is_none());
        location.volume_id.is_none()
    }

    pub(crate) fn status_of(&mut self, key: FileKey) -> Option<FileStatus> {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        self.run(async move { pool.info(&acme, &key).await }).unwrap().map(|info| info.status)
    }

    pub(crate) fn take(&mut self, key: FileKey) -> Lease {
        let (scheduler, acme) = (self.scheduler.clone(), self.acme.clone());
        self.run(async move { scheduler.lease_key(&acme, &key).await }).unwrap().lease
    }

    pub(crate) fn complete(&mut self, leases: Vec<Lease>) {
        let scheduler = self.scheduler.clone();
        self.run(async move { scheduler.complete_batch(&leases).await }).unwrap();
    }

    pub(crate) fn finish(&mut self, keys: &[FileKey]) {
        for keys in keys.chunks(100) {
            let leases = keys.iter().map(|key| self.take(*key)).collect();
            self.complete(leases);
        }
    }

    /// Lets go of the records of all that is over.
    pub(crate) fn reap(&mut self) {
        let Self { world, engine, .. } = self;
        world.run(engine, async {
            engine.store.sync().await.unwrap();
            while engine.sweeper.reap_step().await.unwrap().completed_removed > 0 {}
            engine.store.sync().await.unwrap();
            engine.store.settled().await.unwrap();
        });
        self.commit();
    }

    pub(crate) fn checkpoint(&mut self) {
        let store = self.engine.store.clone();
        self.run(async move { store.checkpoint().await }).unwrap();
        self.commit();
    }

    pub(crate) fn sync(&mut self) {
        let store = self.engine.store.clone();
        self.run(async move { store.sync().await }).unwrap();
        self.commit();
    }

    pub(crate) fn statistics(&self) -> StoreStatistics {
        self.engine.store.statistics()
    }

    pub(crate) fn in_journal(&self) -> (u64, u64) {
        let statistics = self.statistics();
        (statistics.files_in_journal, statistics.bytes_in_journal)
    }

    pub(crate) fn materialized(&self, key: FileKey) -> impl Future<Output = Result<PathBuf>> + 'static {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        async move { pool.materialize(&acme, &key).await }
    }

    pub(crate) fn write_all(&mut self, contents: &[Vec<u8>]) -> Result<Vec<FileKey>> {
        self.write_all_with(contents.iter().map(|content| (content.clone(), WriteOptions::new())).collect())
    }

    pub(crate) fn write_all_with(&mut self, files: Vec<(Vec<u8>, WriteOptions)>) -> Result<Vec<FileKey>> {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        let files = files.into_iter().map(|(content, options)| (content.into(), options)).collect();
        self.run(async move { pool.write_batch(&acme, files).await })
    }

    /// Everything that must hold at rest: exactly these files live, each content is there bit by bit and in one place.
    #[track_caller]
    pub(crate) fn check(&mut self, live: &BTreeMap<FileKey, Vec<u8>>, over: &[FileKey], of: &str) {
        let mut on_volumes = Vec::new();
        let (mut files, mut bytes) = (0, 0);
        for (key, content) in live {
            match self.read(*key) {
                Ok(read) => assert!(read == *content, "{of}: content of {key} differs"),
                Err(why) => panic!("{of}: {key} cannot be read: {why:?}"),
            }
            if self.rests_in_journal(*key) {
                files += 1;
                bytes += content.len() as u64;
            } else {
                on_volumes.push(*key);
            }
        }
        for key in over {
            assert!(self.status_of(*key).is_none_or(FileStatus::is_over), "{of}: {key} is back");
        }
        self.reap();
        let Self { world, engine, .. } = self;
        world.run(engine, async {
            engine.sweeper.leftovers(SweepOptions::default()).await.unwrap();
            engine.pool.tidy_residue(&*engine.store).await;
        });
        let mut blobs = self.blobs();
        blobs.sort_unstable();
        assert_eq!(blobs, on_volumes, "{of}: blobs are not the files that rest on volumes");
        assert_eq!(self.in_journal(), (files, bytes), "{of}: what the journal holds");
        let count = live.len() as u64;
        assert_eq!(self.counts().files(), count, "{of}: counts");
        let scope = Scope::Tenant(self.acme.id().clone());
        assert_eq!(self.engine.store.usage(&scope).files, count, "{of}: charged");
        let found = self.verify(VerifyLevel::Contents).findings;
        // Nobody may need any more what a damaged attachment holds.
        let wrong = found.iter().find(|finding| !matches!(finding, Finding::AttachmentDamaged { .. }));
        assert_eq!(wrong, None, "{of}: verified");
    }
}

// ---- files on the disk ----------------------------------------------------------------------------------------------

/// The segments of the journal by number: path and bytes.
pub(crate) fn segments(world: &World) -> BTreeMap<u64, (PathBuf, Vec<u8>)> {
    let files = files_below(&*world.disk, Path::new("/data/journal"));
    let segments = files.into_iter().filter(|(_, bytes)| bytes.starts_with(b"LOCUSLOG"));
    let number = |bytes: &[u8]| u64::from_le_bytes(*bytes[32..].first_chunk().unwrap());
    segments.map(|(path, bytes)| (number(&bytes), (path, bytes))).collect()
}

/// Number, path and offset of the only place in the segments where these bytes are.
#[track_caller]
pub(crate) fn find(world: &World, needle: &[u8]) -> (u64, PathBuf, usize) {
    let mut found = Vec::new();
    for (number, (path, bytes)) in segments(world) {
        let places = bytes.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
        found.extend(places.map(|(at, _)| (number, path.clone(), at)));
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap().to_string_lossy().into_owned()
}

/// Flips a bit behind everybody's back.
pub(crate) fn flip(world: &World, path: &Path, at: usize) {
    let file = world.disk.open(path, true).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at as u64).unwrap();
    file.write_at(&[byte[0] ^ 0x10], at as u64).unwrap();
    file.sync_data().unwrap();
}

// ---- damage ---------------------------------------------------------------------------------------------------------

#[rstest]
fn b57_a_damaged_content_that_was_durable_spoils_that_file_alone(
    #[values(0, 1, 2)] victim: usize,
    #[values(0, 999)] byte: usize,
    #[values(End::Kill, End::Close)] how: End,
) {
    let mut bench = open(world(57, roomy(), 1));
    let contents: Vec<_> = (0..6).map(|n| content(n, 1_000)).collect();
    let mut keys = vec![bench.write(contents[0].clone())];
    keys.extend(bench.write_all(&contents[1..4]).unwrap());
    // The second of the last two tells the disk that the first is durable.
    keys.extend([bench.write(contents[4].clone()), bench.write(contents[5].clone())]);
    let (spoilt, whole) = (keys[1 + victim], &contents[1 + victim]);
    let world = end(bench, how);
    let (number, path, at) = find(&world, whole);
    flip(&world, &path, at + byte);
    let mut bench = open(world);
    let report = &bench.engine.report;
    assert_eq!((report.contents_damaged, report.dropped, report.files), (1, 0, 6));
    for (key, content) in keys.iter().zip(&contents).filter(|(key, _)| **key != spoilt) {
        assert_eq!(bench.read(*key).unwrap(), *content);
    }
    let told = |answer: Result<Vec<u8>>| {
        let Err(Error::ChecksumMismatch { place, expected, actual }) = answer else { panic!("{answer:?}") };
        let place = place.to_string();
        assert!(place.contains(&format!("segment {number} at offset {at}")), "{place}");
        assert!(place.contains(&name(&path)), "{place}");
        let mut damaged = whole.clone();
        damaged[byte] ^= 0x10;
        assert_eq!((expected, actual), (Checksum::of(whole), Checksum::of(&damaged)));
    };
    told(bench.read(spoilt));
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let range = bench.run(async move { pool.read_range(&acme, &spoilt, 400..402).await });
    told(range.map(|bytes| bytes.to_vec()));
    let path = bench.materialized(spoilt);
    let path = bench.run(path);
    told(path.map(|_| Vec::new()));
    assert!(bench.blobs().is_empty() && bench.pool.residue().is_empty());

    // It is a file like any other: it can be leased, failed, leased again and completed.
    let (lease, scheduler) = (bench.take(spoilt), bench.scheduler.clone());
    let outcome = bench.run(async move { scheduler.fail(&lease, "unreadable").await }).unwrap();
    assert!(matches!(outcome, FailOutcome::Retry { .. }));
    bench.world.advance(HOUR);
    if byte == 0 {
        let lease = bench.take(spoilt);
        bench.complete(vec![lease]);
    } else {
        let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
        bench.run(async move { pool.delete(&acme, &spoilt).await }).unwrap();
    }
    let live = keys.iter().copied().zip(contents.iter().cloned()).filter(|(key, _)| *key != spoilt).collect();
    bench.check(&live, &[spoilt], "after its end");
    let mut bench = again(bench, how);
    bench.check(&live, &[spoilt], "after another opening");
}

#[rstest]
fn b57_a_damaged_content_above_what_was_durable_ends_the_log(#[values(0, 1, 3)] victim: usize) {
    let mut bench = open(world(57, buffered(), 1));
    let mut live = BTreeMap::new();
    live.insert(bench.write(content(0, 500)), content(0, 500));
    bench.sync();
    live.insert(bench.write(content(1, 500)), content(1, 500)); // tells the disk how far it is durable
    let tail: Vec<_> = (2..6).map(|n| bench.write(content(n, 500))).collect();
    let world = end(bench, End::Kill);
    let (_, path, at) = find(&world, &content(2 + victim as u64, 500));
    flip(&world, &path, at + 77);
    let mut bench = open(world);
    let report = bench.engine.report.clone();
    assert_eq!((report.contents_damaged, report.dropped), (0, 4 - victim as u64), "{report:?}");
    for (n, key) in tail[..victim].iter().enumerate() {
        live.insert(*key, content(2 + n as u64, 500));
    }
    bench.check(&live, &tail[victim..], "the end of the log");
    // What was dropped does not come back, and what is written now stays.
    let next = bench.write(content(9, 500));
    live.insert(next, content(9, 500));
    bench.sync();
    let mut bench = again(bench, End::PowerCut);
    assert_eq!(bench.status_of(next), Some(FileStatus::Pending));
    for key in &tail[victim..] {
        assert_eq!(bench.status_of(*key), None);
    }
    bench.check(&live, &[], "the next life");
}

// ---- reuse ----------------------------------------------------------------------------------------------------------

#[rstest]
fn b91_nothing_of_an_earlier_life_of_a_segment_is_replayed_or_read(
    #[values(1, 2, 3)] seed: u64,
    #[values(End::Kill, End::PowerCut)] how: End,
) {
    let mut bench = open(world(seed, roomy(), 0));
    let mut live = BTreeMap::new();
    let mut over;
    let mut earlier = HashSet::new();
    let (mut number, mut reused, mut planted) = (0, 0, 0);
    for round in 0..14 {
        let mut ending = Vec::new();
        for _ in 0..30 {
            number += 1;
            let content = content(number, 20_000 + (number as usize * 977) % 20_000);
            let key = bench.write(content.clone());
            if number % 13 == 0 {
                live.insert(key, content);
            } else {
                earlier.insert(content[..16].to_vec());
                ending.push(key);
            }
        }
        bench.finish(&ending);
        over = ending;
        // Those that lived longest go.
        while live.len() > 8 {
            let (key, _) = live.pop_first().unwrap();
            bench.finish(&[key]);
            over.push(key);
        }
        bench.reap();
        bench.checkpoint();
        reused += bench.statistics().segments_reused;
        if round % 3 == 2 {
            bench = again(bench, how);
            if how == End::Kill {
                assert_eq!(bench.engine.report.dropped, 0);
            }
            bench.check(&live, &over, &format!("round {round}"));
            let segments = segments(&bench.world);
            let (_, newest) = segments.last_key_value().unwrap().1;
            planted += newest[64 * KIB..].windows(16).filter(|bytes| earlier.contains(*bytes)).count();
            // The log ends a little further on in it.
            number += 1;
            live.insert(bench.write(content(number, 3_000)), content(number, 3_000));
            bench = again(bench, how);
            if how == End::Kill {
                assert_eq!(bench.engine.report.dropped, 0);
            }
            bench.check(&live, &over, &format!("round {round}, a little further on"));
        }
    }
    assert!(reused >= 8, "{reused} segments were reused");
    assert!(planted > 10, "{planted} contents of an earlier life lay behind the end of the log");
}

/// What a content imitates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Copied {
    /// This segment, its batches on boundaries on which batches begin.
    Aligned,
    Unaligned,
    /// The segment before this one: every byte where it lay there.
    InPlace,
}

#[rstest]
fn b91_content_that_imitates_the_log_is_never_taken_for_it(
    #[values(Copied::Aligned, Copied::Unaligned, Copied::InPlace)] copied: Copied,
    #[values(End::Kill, End::PowerCut)] how: End,
    #[values(false, true)] torn: bool,
) {
    const LENGTH: usize = 40 * KIB;
    let mut bench = open(world(91, roomy(), 0));
    let mut live = BTreeMap::new();
    for n in 0..20 {
        live.insert(bench.write(content(n, 300)), content(n, 300));
    }
    let gone = bench.write(content(20, 300));
    bench.finish(&[gone]);
    bench.reap();
    if copied == Copied::InPlace {
        bench = again(bench, End::Kill); // goes on in a new segment
    }
    bench.write(content(21, 100)); // tells the disk how far it is durable
    let told = bench.write(content(22, 100));
    live.insert(told, content(22, 100));
    let first: BTreeSet<_> = live.keys().copied().collect();
    // Contents of one length come to lie alike: the first tells where.
    let marker = content(23, 64);
    let written = bench.write([marker.clone(), vec![0; LENGTH - 64]].concat());
    let (_, path, at) = find(&bench.world, &marker);
    let stride = {
        let next = content(24, 64);
        bench.write([next.clone(), vec![0; LENGTH - 64]].concat());
        find(&bench.world, &next).2 - at
    };
    assert_eq!(stride % 512, 0);
    let at = at + 2 * stride; // of what is written now
    let source = segments(&bench.world);
    let mut imitation = content(25, LENGTH);
    match copied {
        Copied::InPlace => {
            let newest = *source.last_key_value().unwrap().0;
            assert!(path == source[&newest].0);
            // The batches of that life lie at the beginning: they are moved to where this content lies by many writes.
            let before = &source.range(..newest).next_back().unwrap().1.1;
            let filled = 12 * KIB;
            let shift = (at + 64).next_multiple_of(512) - at;
            imitation[shift..shift + filled].copy_from_slice(&before[4 * KIB..4 * KIB + filled]);
        }
        _ => {
            let bytes = &source.last_key_value().unwrap().1.1;
            let shift = (at + 64).next_multiple_of(512) - at + usize::from(copied == Copied::Unaligned);
            imitation[shift..shift + 30 * KIB].copy_from_slice(&bytes[..30 * KIB]);
        }
    }
    let imitated = bench.write(imitation.clone());
    assert_eq!(find(&bench.world, &imitation).2, at, "not where it was to lie");
    let before = bench.counts().files();
    let world = end(bench, how);
    if torn {
        // The batch before it is damaged: what is looked for behind is found in nothing that a content says.
        flip(&world, &path, at / 512 * 512 - if at % 512 < 64 { 512 } else { 0 } + 17);
    }
    let mut bench = open(world);
    let report = bench.engine.report.clone();
    assert_eq!(report.contents_damaged, 0);
    for key in &first {
        assert_eq!(bench.read(*key).unwrap(), live[key]);
    }
    if torn {
        // It was the last: nothing valid lies behind it, and no number in it was believed.
        assert_eq!(report.dropped, 0, "{report:?}");
        assert_eq!(bench.status_of(imitated), None);
        assert_eq!(bench.counts().files(), before - 1);
    } else {
        assert_eq!(report.dropped, 0, "{report:?}");
        assert_eq!(bench.read(imitated).unwrap(), imitation);
        assert_eq!(bench.counts().files(), before);
    }
    assert!(report.durable <= report.end);
    assert_eq!(bench.status_of(written), Some(FileStatus::Pending));
    assert!(bench.status_of(gone).is_none_or(FileStatus::is_over));
    let mut bench = again(bench, how);
    assert_eq!(bench.counts().files(), before - u64::from(torn));
    assert!(bench.status_of(gone).is_none_or(FileStatus::is_over));
}

// ---- readers --------------------------------------------------------------------------------------------------------

type Hook = Box<dyn FnOnce() + Send>;

/// A disk on which, in the middle of a read, something else happens.
struct Gate {
    disk: Arc<SimDisk>,
    meanwhile: Mutex<Option<Hook>>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

#[derive(Debug)]
struct GateDisk(Arc<Gate>);

#[derive(Debug)]
struct GateFile(Arc<dyn DiskFile>, Arc<Gate>);

impl Disk for GateDisk {
    fn blocks(&self) -> bool {
        self.0.disk.blocks()
    }

    fn beneath(&self, root: &Path) -> io::Result<Option<Arc<dyn Disk>>> {
        self.0.disk.beneath(root)
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(GateFile(self.0.disk.create_new(path)?, self.0.clone())))
    }

    fn open(&self, path: &Path, writable: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(GateFile(self.0.disk.open(path, writable)?, self.0.clone())))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.disk.create_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.disk.rename(from, to)
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.disk.rename_new(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.disk.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.disk.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> io::Result<Box<dyn Iterator<Item = io::Result<DirEntry>> + Send>> {
        self.0.disk.read_dir(path)
    }

    fn metadata(&self, path: &Path) -> io::Result<Meta> {
        self.0.disk.metadata(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.disk.sync_dir(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.0.disk.space(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.0.disk.lock(path)
    }

    fn lock_shared(&self, path: &Path) -> io::Result<Box<dyn DiskLock>> {
        self.0.disk.lock_shared(path)
    }
}

impl DiskFile for GateFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let meanwhile = self.1.meanwhile.lock().take();
        let Some(meanwhile) = meanwhile else { return self.0.read_at(buf, offset) };
        let half = buf.len() / 2;
        let read = self.0.read_at(&mut buf[..half], offset)?;
        assert_eq!(read, half);
        meanwhile();
        Ok(half + self.0.read_at(&mut buf[half..], offset + half as u64)?)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn drop_cache(&self) -> io::Result<()> {
        self.0.drop_cache()
    }
}

fn drive<T>(store: &Arc<EmbeddedStore>, call: impl Future<Output = T>) -> T {
    let store = store.clone();
    Stepper::new(1).block_on(call, move || store.commit_step() | store.keep_step())
}

/// Takes a content into the store itself.
fn put_inline(store: &Arc<EmbeddedStore>, bytes: Vec<u8>) -> FileKey {
    let landing = drive(store, store.land(bytes.len() as u64)).expect("because there is room");
    let (size, checksum) = (bytes.len() as u64, Checksum::of(&bytes));
    let content = NewContent::Inline { bytes: bytes.into(), landing };
    let file = NewFile { size, checksum, content, ..new_file() };
    drive(store, put(store, vec![file])).unwrap()[0]
}

/// Completes a file and lets go of it.
fn let_go(store: &Arc<EmbeddedStore>, key: FileKey) {
    drive(store, async {
        let leased = store.lease_key(&tenant(0), &key, &LeaseOptions::new()).await.unwrap();
        store.complete(&[leased.lease]).await.unwrap();
        store.sync().await.unwrap();
        let files = store.reapable(None, 100).await.unwrap();
        store.reaped(&files).await.unwrap();
        store.sync().await.unwrap();
    });
}

/// Fills segments with what does not live, and has them freed and filled again.
fn go_round(store: &Arc<EmbeddedStore>, from: u64) {
    for n in from..from + 400 {
        let key = put_inline(store, content(n, 50_000));
        let_go(store, key);
        if n % 20 == 0 {
            drive(store, store.checkpoint()).unwrap();
            while store.commit_step() | store.keep_step() {}
        }
    }
}

#[rstest]
fn b91_a_reader_in_the_middle_of_a_content_gets_its_own_bytes_whatever_becomes_of_the_segment(
    #[values(false, true)] whole: bool,
) {
    let gate = Arc::new(Gate { disk: SimDisk::new(91), meanwhile: Mutex::new(None) });
    let disk = Arc::new(GateDisk(gate.clone()));
    let (clock, entropy) = (ManualClock::new(), Arc::new(SeededEntropy::new(91)));
    let dir = PathBuf::from("/data");
    create_dirs(&*disk, &dir).unwrap();
    EmbeddedStore::identify(&dir, &*disk, &*entropy).unwrap();
    let volumes = VolumeRegistry::new();
    let options = EngineOptions { inline_content_max: LIMIT, ..roomy() };
    let config = StoreConfig { dir, options, disk, clock, entropy, volumes };
    let (store, _) = Stepper::new(1).block_on(EmbeddedStore::open(config), || false).unwrap();
    while store.keep_step() {}

    let own = content(1 << 40, 50_000);
    let key = put_inline(&store, own.clone());
    let record = drive(&store, store.get(&tenant(0), &key)).unwrap().unwrap();
    let lies = {
        let gate = gate.clone();
        let own = own.clone();
        move || {
            let files = files_below(&*gate.disk, Path::new("/data/journal"));
            files.values().any(|bytes| bytes.windows(own.len()).any(|window| window == own))
        }
    };
    assert!(lies());
    let busy = store.clone();
    let lies_still = lies.clone();
    *gate.meanwhile.lock() = Some(Box::new(move || {
        let_go(&busy, key);
        go_round(&busy, 0);
        assert!(busy.statistics().segments_reused > 10, "{:?}", busy.statistics());
        assert!(lies_still(), "a segment was reused under a reader");
    }));
    let range = if whole { 0..50_000 } else { 10..49_990 };
    let read: Bytes = drive(&store, store.content(&record, range.clone())).unwrap();
    assert!(read == own[range.start as usize..range.end as usize]);
    assert!(gate.meanwhile.lock().is_none());
    // Nobody reads any more: now the segment goes the way of the others.
    let again = drive(&store, store.content(&record, range));
    assert!(matches!(again, Err(Error::FileNotFound { .. })), "{again:?}");
    go_round(&store, 1_000);
    assert!(!lies(), "the segment was never used again");
}

#[test]
fn b91_an_open_file_reads_its_own_bytes_after_its_segment_was_reused() {
    let mut bench = open(world(91, roomy(), 0));
    let own = content(1 << 40, 50_000);
    let key = bench.write(own.clone());
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let reader = bench.run(async move { pool.read(&acme, &key).await }).unwrap();
    bench.finish(&[key]);
    let mut number = 0;
    while bench.statistics().segments_reused < 12 {
        number += 1;
        assert!(number < 1_000);
        let key = bench.write(content(number, 50_000));
        bench.finish(&[key]);
        if number % 20 == 0 {
            bench.reap();
            bench.checkpoint();
        }
    }
    let lies = segments(&bench.world).values().any(|(_, b)| b.windows(64).any(|window| *window == own[..64]));
    assert!(!lies, "the segment was not reused yet");
    assert!(bench.run(reader.bytes()).unwrap() == own);
}

// ---- when a segment is free -----------------------------------------------------------------------------------------

/// Contents of `length` bytes until the log has `segments` more segments.
pub(crate) fn fill(
    bench: &mut Bench,
    segments: u64,
    length: usize,
    number: &mut u64,
) -> BTreeMap<FileKey, Vec<u8>> {
    let mut written = BTreeMap::new();
    let mut bytes = 0;
    while bytes < segments * MIB {
        *number += 1;
        let content = content(*number, length);
        written.insert(bench.write(content.clone()), content);
        bench.commit();
        bytes += length as u64;
    }
    written
}

#[test]
fn b88_a_segment_is_reused_when_the_older_checkpoint_is_behind_it_and_nothing_lives_in_it() {
    let mut bench = open(world(88, roomy(), 0));
    let mut number = 0;
    let first = fill(&mut bench, 2, 30_000, &mut number);
    let second = fill(&mut bench, 2, 30_000, &mut number);
    let keys: Vec<_> = first.keys().copied().collect();
    bench.finish(&keys);
    assert_eq!(
        bench.in_journal().1,
        (first.len() + second.len()) as u64 * 30_000,
        "it lives until it is reaped"
    );
    bench.reap();
    assert_eq!(bench.statistics().segments_reused, 0, "no checkpoint is behind it");
    bench.checkpoint();
    assert_eq!(bench.statistics().segments_reused, 0, "one checkpoint is not enough");
    bench.checkpoint();
    let reused = bench.statistics().segments_reused;
    assert!((1..=2).contains(&reused), "{reused}: behind both, and some of it is needed");
    bench.checkpoint();
    bench.checkpoint();
    assert_eq!(bench.statistics().segments_reused, reused, "something lives in the others");
    // All but one content of each segment: still nothing.
    let keys: Vec<_> = second.keys().copied().collect();
    let (last, most): (Vec<_>, Vec<_>) = keys.iter().enumerate().partition(|(n, _)| n % 10 == 0);
    let (last, most): (Vec<FileKey>, Vec<FileKey>) =
        (last.into_iter().map(|(_, key)| *key).collect(), most.into_iter().map(|(_, key)| *key).collect());
    bench.finish(&most);
    bench.reap();
    bench.checkpoint();
    bench.checkpoint();
    assert!(bench.statistics().segments_reused <= reused + 1, "the one that both fillings share at most");
    let live = last.iter().map(|key| (*key, second[key].clone())).collect();
    let mut bench = again(bench, End::PowerCut);
    bench.check(&live, &most, "stragglers");
    let before = bench.statistics().segments_reused;
    bench.finish(&last);
    bench.reap();
    assert!(bench.statistics().segments_reused > before, "both checkpoints were behind them already");
    assert_eq!(bench.in_journal(), (0, 0));
}

#[rstest]
fn b88_a_segment_waits_for_the_completions_in_it_to_be_durable(#[values(1, 2, 3, 4, 5, 6)] seed: u64) {
    let options = EngineOptions { max_unsynced_bytes: 256 * MIB, max_unsynced: HOUR, ..buffered() };
    let mut bench = open(world(seed, options, 0));
    let mut number = 0;
    let mut live = fill(&mut bench, 3, 30_000, &mut number);
    // Both checkpoints are behind them, and all of it is durable.
    for _ in 0..3 {
        bench.checkpoint();
    }
    assert_eq!(bench.statistics().segments_reused, 0);
    // Completed and reaped in the kernel alone.
    let store = bench.engine.store.clone();
    let keys: Vec<_> = live.keys().copied().collect();
    let leases: Vec<_> = keys.iter().map(|key| bench.take(*key)).collect();
    let durable = bench.statistics().durable;
    let scheduler = bench.scheduler.clone();
    let mut completing = Box::pin(async move { scheduler.complete_batch(&leases).await });
    assert!(poll_once(completing.as_mut()).is_ready(), "a lazy completion waits for nothing");
    assert_eq!(bench.statistics().durable, durable);
    let mut reaping = Box::pin(async move {
        let files = store.reapable(None, 1_000).await?;
        store.reaped(&files).await?;
        Ok::<_, Error>(files.len())
    });
    let reaped = poll_once(reaping.as_mut());
    assert!(matches!(reaped, std::task::Poll::Ready(Ok(0))), "reaped before it is durable: {reaped:?}");
    for _ in 0..20 {
        bench.engine.store.keep_step();
    }
    assert_eq!(bench.statistics().segments_reused, 0, "the completions are not durable yet");
    // As many new ones as would come to lie there.
    let new: Vec<_> = (0..400)
        .map(|n| {
            let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
            bench.engine.store.keep_step();
            let mut writing = Box::pin(async move {
                pool.write(&acme, content(1 << 20 | n, 30_000), WriteOptions::new()).await
            });
            loop {
                if let std::task::Poll::Ready(done) = poll_once(writing.as_mut()) {
                    break done.unwrap();
                }
                assert!(bench.engine.store.keep_step(), "waits for a sync");
            }
        })
        .collect();
    assert_eq!(bench.statistics().segments_reused, 0);
    let mut bench = again(bench, End::PowerCut);
    // Whatever survived of the completions, all that lives again is whole.
    live.retain(|key, _| lives(&mut bench, *key));
    for (n, key) in new.iter().enumerate() {
        if lives(&mut bench, *key) {
            live.insert(*key, content(1 << 20 | n as u64, 30_000));
        }
    }
    bench.check(&live, &[], "after the power cut");
    let keys: Vec<_> = live.keys().copied().collect();
    bench.finish(&keys);
    bench.reap();
    bench.checkpoint();
    bench.checkpoint();
    assert_eq!(bench.in_journal(), (0, 0));
}

#[rstest]
fn b88_a_segment_waits_for_the_moves_out_of_it_to_be_durable(
    #[values(1, 2, 3, 4, 5, 6)] seed: u64,
    #[values(false, true)] synced: bool,
) {
    let options = EngineOptions { max_unsynced_bytes: 256 * MIB, max_unsynced: HOUR, ..buffered() };
    let mut bench = open(world(seed, options, 1));
    let mut number = 0;
    let mut live = fill(&mut bench, 3, 60_000, &mut number);
    for _ in 0..3 {
        bench.checkpoint();
    }
    let keys: Vec<_> = live.keys().copied().collect();
    let mut moving: Vec<_> = keys.iter().map(|key| Box::pin(bench.materialized(*key))).collect();
    // Where they go is written down, durably; that they went is not durable yet.
    assert!(moving.iter_mut().all(|moving| poll_once(moving.as_mut()).is_pending()));
    bench.commit();
    let durable = bench.statistics().durable;
    for mut moving in moving {
        assert!(matches!(poll_once(moving.as_mut()), std::task::Poll::Ready(Ok(_))));
    }
    // Their old places are needless as soon as that is durable, and not before.
    let later: Vec<_> = (0..150)
        .map(|n| {
            bench.engine.store.keep_step();
            bench.write(content(1 << 20 | n, 60_000))
        })
        .collect();
    assert_eq!((bench.statistics().segments_reused, bench.statistics().durable), (0, durable));
    if synced {
        bench.sync();
        assert!(bench.statistics().segments_reused > 0, "they are durable now");
    }
    let mut bench = again(bench, End::PowerCut);
    for (n, key) in later.iter().enumerate() {
        if lives(&mut bench, *key) {
            live.insert(*key, content(1 << 20 | n as u64, 60_000));
        }
    }
    bench.check(&live, &[], "after the power cut");
    for key in &keys {
        let moving = bench.materialized(*key);
        bench.run(moving).unwrap();
    }
    bench.check(&live, &[], "moved again");
}

pub(crate) fn lives(bench: &mut Bench, key: FileKey) -> bool {
    bench.status_of(key).is_some_and(|status| !status.is_over())
}

/// Which way contents leave a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Spill,
}

/// A zone from which something has to be moved: what lives, and what is over.
fn pressed(way: Way) -> (Bench, BTreeMap<FileKey, Vec<u8>>, Vec<FileKey>) {
    let mut bench = open(world(88, small(), 2));
    let mut number = 0;
    let mut live = BTreeMap::new();
    let mut over = Vec::new();
    match way {
        Way::Forward => {
            live = fill(&mut bench, 4, 60_000, &mut number);
            live.retain(|key, _| {
                bench.rests_in_journal(*key) || {
                    over.push(*key);
                    false
                }
            });
            let ending: Vec<_> =
                live.keys().copied().enumerate().filter(|(n, _)| n % 8 != 3).map(|(_, key)| key).collect();
            over.extend(ending);
            over.iter().for_each(|key| drop(live.remove(key)));
        }
        Way::Spill => loop {
            number += 1;
            let content = content(number, 64 * KIB);
            let key = bench.write(content.clone());
            live.insert(key, content);
            if !bench.rests_in_journal(key) {
                break;
            }
        },
    }
    bench.finish(&over);
    bench.reap();
    (bench, live, over)
}

fn move_once(bench: &mut Bench, way: Way) -> Result<u64> {
    let (store, pool) = (bench.engine.store.clone(), bench.pool.clone());
    bench.run(async move {
        match way {
            Way::Forward => Ok(store.forward_step().await? as u64),
            Way::Spill => Ok(pool.spill_step().await?.moved),
        }
    })
}

#[rstest]
#[case::forward(Way::Forward, 1)]
#[case::spill(Way::Spill, 5)]
fn b88_a_crash_at_any_operation_of_a_move_leaves_the_content_in_one_place(
    #[case] way: Way,
    #[case] stride: u64,
    #[values(End::Kill, End::PowerCut)] how: End,
) {
    let (mut moved, mut points) = (0, 0);
    for k in (0..).step_by(stride as usize) {
        let (mut bench, live, over) = pressed(way);
        assert!(bench.in_journal().0 > 0);
        bench.world.disk.crash_at(bench.world.disk.ops() + 1 + k);
        let done = move_once(&mut bench, way);
        let reached = bench.world.disk.is_down();
        if let Ok(some) = done {
            assert!(some > 0 || reached, "there was nothing to move");
            moved += some;
        } else {
            assert!(reached, "{done:?}");
        }
        let confirmed: Vec<_> = match &done {
            Ok(_) if way == Way::Spill && !reached => {
                live.keys().copied().filter(|key| !bench.rests_in_journal(*key)).collect()
            }
            _ => Vec::new(),
        };
        let mut bench = again(bench, how);
        let of = format!("operation {k}");
        bench.check(&live, &over, &of);
        for key in confirmed {
            assert!(!bench.rests_in_journal(key), "{of}: a confirmed move was undone");
        }
        // It goes on, and everything can be finished.
        for _ in 0..3 {
            move_once(&mut bench, way).unwrap();
        }
        bench.check(&live, &over, &format!("{of}, moved on"));
        let mut bench = again(bench, End::PowerCut);
        bench.check(&live, &over, &format!("{of}, moved on and cut"));
        let keys: Vec<_> = live.keys().copied().collect();
        bench.finish(&keys);
        bench.check(&BTreeMap::new(), &keys, &format!("{of}, finished"));
        points += 1;
        if !reached {
            break;
        }
    }
    assert!(moved > 0 && points > 3, "{moved} moved in {points} points");
}

#[rstest]
fn b88_what_was_moved_is_read_from_its_new_place_alone(#[values(Way::Forward, Way::Spill)] way: Way) {
    let (mut bench, live, over) = pressed(way);
    let before = bench.in_journal();
    let mut moved = 0;
    loop {
        match move_once(&mut bench, way).unwrap() {
            0 => break,
            some => moved += some,
        }
        bench.check(&live, &over, "between two steps");
        bench.checkpoint();
        bench.checkpoint();
    }
    assert!(moved > 0);
    let statistics = bench.statistics();
    match way {
        Way::Forward => assert_eq!((bench.in_journal(), statistics.copied_forward), (before, moved)),
        Way::Spill => assert_eq!((bench.in_journal().0 + moved, statistics.spilled), (before.0, moved)),
    }
    assert!(statistics.segments_reused > 0);
    // The old places are used for other content now.
    let mut live = live;
    for n in 0..40 {
        live.insert(bench.write(content(1 << 30 | n, 50_000)), content(1 << 30 | n, 50_000));
    }
    bench.check(&live, &over, "old places used again");
    let mut bench = again(bench, End::PowerCut);
    bench.check(&live, &over, "and after a power cut");
}

#[rstest]
fn b88_a_damaged_content_is_moved_as_it_is_or_stays_and_holds_up_nobody(
    #[values(Way::Forward, Way::Spill)] way: Way,
) {
    let (mut bench, mut live, mut over) = pressed(way);
    let inline: Vec<_> = live.keys().copied().filter(|key| bench.rests_in_journal(*key)).collect();
    let spoilt: Vec<_> = inline.into_iter().step_by(7).collect();
    for key in &spoilt {
        let (_, path, at) = find(&bench.world, &live.remove(key).unwrap()[..64]);
        flip(&bench.world, &path, at + 1_000);
    }
    let mut failed = 0;
    for _ in 0..12 {
        if bench.engine.store.checkpoint_due() {
            bench.checkpoint();
        }
        let (store, pool) = (bench.engine.store.clone(), bench.pool.clone());
        failed += bench.run(async move {
            store.forward_step().await.unwrap();
            pool.spill_step().await.unwrap().failed
        });
    }
    let statistics = bench.statistics();
    assert!(statistics.copied_forward + statistics.spilled > 0);
    assert!(failed > 0 || way == Way::Forward);
    for how in [End::Kill, End::PowerCut] {
        for key in &spoilt {
            let read = bench.read(*key);
            assert!(matches!(read, Err(Error::ChecksumMismatch { .. })), "{read:?}");
        }
        for (key, content) in &live {
            assert!(bench.read(*key).unwrap() == *content);
        }
        bench = again(bench, how);
    }
    bench.finish(&spoilt);
    over.extend(spoilt);
    bench.check(&live, &over, "the damaged ones are over");
}

#[rstest]
fn b88_contents_of_several_tenants_and_empty_ones_move_beside_each_other(
    #[values(Way::Forward, Way::Spill)] way: Way,
) {
    let mut bench = open(world(88, small(), 2));
    let (mut mine, mut theirs) = (BTreeMap::new(), BTreeMap::new());
    let mut number = 0;
    while bench.statistics().bytes_in_journal < 31 * MIB / 10 {
        number += 1;
        let contents = [content(2 * number, 25_000), Vec::new(), content(2 * number, 7)];
        let keys = bench.write_all(&contents).unwrap();
        mine.extend(keys.into_iter().zip(contents));
        let (pool, other) = (bench.pool.clone(), bench.other.clone());
        let bytes = content(2 * number + 1, 25_000);
        let written = bytes.clone();
        let key = bench.run(async move { pool.write(&other, written, WriteOptions::new()).await }).unwrap();
        theirs.insert(key, bytes);
    }
    if way == Way::Forward {
        let ending: Vec<_> = mine.keys().copied().enumerate().filter(|(n, _)| n % 8 != 0).collect();
        let ending: Vec<_> = ending.into_iter().map(|(_, key)| key).collect();
        bench.finish(&ending);
        ending.iter().for_each(|key| drop(mine.remove(key)));
        let ending: Vec<_> = theirs.keys().copied().enumerate().filter(|(n, _)| n % 7 != 0).collect();
        for (_, key) in ending {
            let (pool, other) = (bench.pool.clone(), bench.other.clone());
            bench.run(async move { pool.delete(&other, &key).await }).unwrap();
            theirs.remove(&key);
        }
        bench.reap();
    } else {
        while !bench.engine.store.checkpoint_due() && move_once(&mut bench, way).unwrap() == 0 {
            number += 1;
            let bytes = content(2 * number, 50_000);
            mine.insert(bench.write(bytes.clone()), bytes);
        }
    }
    let mut moved = 0;
    for _ in 0..12 {
        if bench.engine.store.checkpoint_due() {
            bench.checkpoint();
        }
        moved += move_once(&mut bench, way).unwrap();
    }
    let statistics = bench.statistics();
    assert!(moved > 0 || statistics.spilled > 0, "{statistics:?}");
    // Old places are used again, and it all is there.
    for n in 0..60 {
        let bytes = content(1 << 30 | n, 40_000);
        mine.insert(bench.write(bytes.clone()), bytes);
    }
    for life in 0..2 {
        for (key, content) in &mine {
            assert!(bench.read(*key).unwrap() == *content, "life {life}: {key} of {} bytes", content.len());
        }
        for (key, content) in &theirs {
            let (pool, other, key) = (bench.pool.clone(), bench.other.clone(), *key);
            let read = bench.run(async move { pool.read(&other, &key).await?.bytes().await }).unwrap();
            assert!(read == *content, "life {life}: their {key}");
            let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
            let strange = bench.run(async move { pool.read(&acme, &key).await });
            assert!(matches!(strange, Err(Error::FileNotFound { .. })), "{strange:?}");
        }
        bench = again(bench, if life == 0 { End::Kill } else { End::PowerCut });
    }
}

#[test]
fn b91_an_empty_content_outlives_the_segment_of_its_record() {
    let mut bench = open(world(91, roomy(), 1));
    let (empty, to_path) = (bench.write(Vec::new()), bench.write(Vec::new()));
    let mut number = 0;
    while bench.statistics().segments_reused < 8 {
        number += 1;
        assert!(number < 1_000);
        let key = bench.write(content(number, 50_000));
        bench.finish(&[key]);
        if number % 20 == 0 {
            bench.reap();
            bench.checkpoint();
        }
    }
    for _ in 0..2 {
        assert!(bench.read(empty).unwrap().is_empty());
        let path = bench.materialized(to_path);
        let path = bench.run(path).unwrap();
        assert!(files_below(&*bench.world.disk, path.parent().unwrap())[&path].is_empty());
        bench = again(bench, End::PowerCut);
    }
    bench.check(&[(empty, Vec::new()), (to_path, Vec::new())].into(), &[], "empty ones");
}

// ---- a full zone ----------------------------------------------------------------------------------------------------

#[rstest]
fn b89_a_full_zone_sends_content_to_volumes_at_once_and_is_used_again_when_there_is_room(
    #[values(1_000, 60_000)] length: usize,
) {
    let mut bench = open(world(89, small(), 2));
    let mut live = BTreeMap::new();
    let mut number = 0;
    loop {
        number += 1;
        let bytes = content(number, length);
        let key = bench.write(bytes.clone());
        live.insert(key, bytes);
        if !bench.rests_in_journal(key) {
            break;
        }
        assert!(number * (length as u64) < 5 * MIB, "the zone never filled");
    }
    assert!(bench.in_journal().1 > 2 * MIB, "{:?}", bench.in_journal());
    // Nobody makes room, time stands still, and still nobody waits.
    let now = bench.world.clock_now();
    for _ in 0..20 {
        number += 1;
        let bytes = content(number, length);
        let key = bench.write(bytes.clone());
        assert!(!bench.rests_in_journal(key));
        live.insert(key, bytes);
    }
    assert_eq!(bench.world.clock_now(), now);
    let long = bench.write(content(1 << 40, 100 * KIB));
    live.insert(long, content(1 << 40, 100 * KIB));
    bench.check(&live, &[], "a full zone");
    // It is emptied.
    let ending: Vec<_> = live.keys().copied().filter(|key| bench.rests_in_journal(*key)).collect();
    bench.finish(&ending);
    bench.reap();
    ending.iter().for_each(|key| drop(live.remove(key)));
    bench.checkpoint();
    bench.checkpoint();
    for _ in 0..20 {
        number += 1;
        let bytes = content(number, length);
        let key = bench.write(bytes.clone());
        assert!(bench.rests_in_journal(key), "the zone is not used again");
        live.insert(key, bytes);
    }
    bench.check(&live, &ending, "a zone that is used again");
    let mut bench = again(bench, End::PowerCut);
    bench.check(&live, &ending, "after a power cut");
}

#[rstest]
fn b89_a_straggler_in_every_segment_does_not_clog_the_zone(
    #[values(0, 2)] volumes: usize,
    #[values(8_000, 60_000)] length: usize,
) {
    let mut bench = open(world(89, small(), volumes));
    background(&mut bench);
    let mut stragglers = BTreeMap::new();
    let mut over = Vec::new();
    let (mut number, mut written, mut most, mut refused) = (0, 0, 0, 0);
    while written < 40 * 4 * MIB / 4 {
        let mut ending = Vec::new();
        for n in 0..12 {
            number += 1;
            let bytes = content(number, if n == 5 && number % 10 == 0 { 1_000 } else { length });
            written += bytes.len() as u64;
            let key = match bench.write_with(bytes.clone(), WriteOptions::new()) {
                Ok(key) => key,
                Err(Error::InsufficientStorage { .. } | Error::VolumeUnavailable { .. }) if volumes == 0 => {
                    // What makes room gets its turn.
                    refused += 1;
                    settle(&mut bench);
                    bench.write_with(bytes.clone(), WriteOptions::new()).expect("because room was made")
                }
                Err(why) => panic!("{why:?}"),
            };
            if bytes.len() == 1_000 || (length < 60_000 && n == 7 && number % 96 == 8) {
                stragglers.insert(key, bytes);
            } else {
                ending.push(key);
            }
        }
        bench.finish(&ending);
        over = ending;
        most = most.max(bench.statistics().journal_bytes);
    }
    settle(&mut bench);
    let statistics = bench.statistics();
    println!(
        "{} stragglers, {refused} refused, at most {} KiB of journal, {statistics:?}",
        stragglers.len(),
        most / 1_024
    );
    assert!(stragglers.len() > 10);
    assert!(statistics.copied_forward > 0 && statistics.segments_reused > 20, "{statistics:?}");
    assert!(most <= (4 + 8 + 2) * MIB, "{most} bytes of journal");
    let of = "at the end";
    for task in bench.world.stepper.tasks() {
        bench.world.stepper.drop_task(task);
    }
    bench.check(&stragglers, &over, of);
    let mut bench = again(bench, End::PowerCut);
    bench.check(&stragglers, &over, "after a power cut");
}

/// What a program keeps running beside its calls.
pub(crate) fn background(bench: &mut Bench) {
    let store = bench.engine.store.clone();
    bench.world.stepper.spawn(async move { store.run_forwarder().await });
    let store = bench.engine.store.clone();
    bench.world.stepper.spawn(async move { store.run_checkpoints().await });
    let store = bench.engine.store.clone();
    bench.world.stepper.spawn(async move { store.run_barriers().await });
    let (store, volumes) = (bench.engine.store.clone(), bench.engine.registry.clone());
    let sweeper =
        Sweeper::new(store, volumes, bench.world.clock.clone()).with_settings(crate::world::sweep_at_once());
    bench.world.stepper.spawn(async move { sweeper.run_reaper().await });
    if !bench.engine.registry.all().is_empty() {
        let pool = bench.pool.clone();
        bench.world.stepper.spawn(async move { pool.run_spiller().await });
    }
}

/// Steps of everybody until nobody has anything to do, and once more a second later.
pub(crate) fn settle(bench: &mut Bench) {
    for _ in 0..4 {
        loop {
            bench.world.stepper.run_until_idle();
            let store = &bench.engine.store;
            if !(store.commit_step() | store.keep_step()) && !bench.world.stepper.step() {
                break;
            }
        }
        bench.world.advance(SECOND);
    }
}

// ---- a path ---------------------------------------------------------------------------------------------------------

#[rstest]
fn b90_complete_wins_against_a_materialize_under_way(
    #[values(Hang::Before, Hang::After)] hang: Hang,
    #[values(false, true)] reaped: bool,
) {
    let mut bench = open(world(90, roomy(), 1));
    let hanging = bench.hanging(0);
    let key = bench.write(content(1, 5_000));
    let kept = bench.write(content(2, 5_000));
    let lease = bench.take(key);
    hanging.hang(hang);
    let mut moving = Box::pin(bench.materialized(key));
    assert!(poll_once(moving.as_mut()).is_pending());
    let mut second = Box::pin(bench.materialized(key));
    assert!(poll_once(second.as_mut()).is_pending());
    bench.complete(vec![lease]);
    if reaped {
        bench.reap();
        assert_eq!(bench.in_journal(), (1, 5_000));
    }
    hanging.go();
    let path = bench.run(moving);
    assert!(matches!(path, Err(Error::FileNotFound { .. })), "{path:?}");
    let path = bench.run(second);
    assert!(matches!(path, Err(Error::FileNotFound { .. })), "{path:?}");
    assert!(bench.blobs().is_empty() && bench.pool.residue().is_empty());
    let live = [(kept, content(2, 5_000))].into();
    bench.check(&live, &[key], "complete won");
    let mut bench = again(bench, End::PowerCut);
    bench.check(&live, &[key], "after a power cut");
}

#[rstest]
fn b90_however_materialize_and_complete_interleave_nothing_is_left(
    #[values(End::Kill, End::PowerCut)] how: End,
) {
    let mut answers = [0, 0];
    for seed in 0..60 {
        let mut bench = open(world(seed, roomy(), 1));
        let bytes = content(1, 5_000);
        let key = bench.write(bytes.clone());
        let lease = bench.take(key);
        let path = Arc::new(Mutex::new(None));
        let (moving, answer) = (bench.materialized(key), path.clone());
        bench.world.stepper.spawn(async move { *answer.lock() = Some(moving.await) });
        let scheduler = bench.scheduler.clone();
        let done = Arc::new(Mutex::new(None));
        let completed = done.clone();
        // Before it writes, a move waits until it is written down that it will.
        for _ in 0..seed % 16 {
            let _ = bench.world.stepper.step() || bench.engine.store.commit_step();
        }
        bench.world.stepper.spawn(async move { *completed.lock() = Some(scheduler.complete(&lease).await) });
        let cut = seed % 3 == 0;
        for _ in 0..if cut { 1 + seed % 7 } else { 1_000 } {
            if !bench.world.stepper.step() && !bench.engine.store.commit_step() {
                break;
            }
        }
        let confirmed = done.lock().take();
        if let Some(done) = &confirmed {
            assert!(done.is_ok(), "{done:?}");
        }
        match path.lock().take() {
            Some(Ok(_)) => answers[0] += 1,
            Some(Err(Error::FileNotFound { .. })) => answers[1] += 1,
            None => assert!(cut),
            Some(other) => panic!("seed {seed}: {other:?}"),
        }
        assert!(cut || confirmed.is_some());
        let mut bench = if cut { again(bench, how) } else { bench };
        if confirmed.is_some() || !lives(&mut bench, key) {
            bench.check(&BTreeMap::new(), &[key], &format!("seed {seed}"));
        } else {
            bench.check(&[(key, bytes)].into(), &[], &format!("seed {seed}"));
        }
    }
    assert!(answers[0] > 0 && answers[1] > 0, "{answers:?}: only one of the two ever won");
}

#[rstest]
fn b90_a_materialized_file_keeps_its_path(#[values(End::Kill, End::PowerCut)] how: End) {
    let mut bench = open(world(90, roomy(), 2));
    let keys: Vec<_> = (0..5).map(|n| bench.write(content(n, 5_000))).collect();
    let live: BTreeMap<_, _> = keys.iter().copied().zip((0..5).map(|n| content(n, 5_000))).collect();
    let path = bench.materialized(keys[2]);
    let path = bench.run(path).unwrap();
    let mut bench = again(bench, how);
    assert!(files_below(&*bench.world.disk, path.parent().unwrap())[&path] == live[&keys[2]]);
    let second = bench.materialized(keys[2]);
    assert_eq!(bench.run(second).unwrap(), path);
    bench.check(&live, &[], "one of five has a path");
    assert_eq!(bench.in_journal(), (4, 20_000));
}

// ---- other limits ---------------------------------------------------------------------------------------------------

#[rstest]
fn b92_every_earlier_content_stays_readable_under_other_limits(
    #[values(End::Kill, End::PowerCut, End::Close)] how: End,
) {
    let mut world = world(92, roomy(), 2);
    let mut live = BTreeMap::new();
    let mut over = Vec::new();
    let mut number = 0;
    for (run, limit) in [LIMIT, 1_024, 0, LIMIT, 0, 1_024].into_iter().enumerate() {
        world.options.inline_content_max = limit;
        let mut bench = open(world);
        bench.check(&live, &over, &format!("run {run}"));
        for length in [0, 1, 1_023, 1_024, 1_025, 65_535, 65_536, 65_537] {
            number += 1;
            let bytes = content(number, length);
            let key = bench.write(bytes.clone());
            assert_eq!(
                bench.rests_in_journal(key),
                limit > 0 && length as u64 <= limit,
                "{length} bytes where up to {limit} rest in the journal"
            );
            live.insert(key, bytes);
        }
        bench.check(&live, &over, &format!("run {run}, written"));
        let ending: Vec<_> = live.keys().copied().step_by(5).collect();
        bench.finish(&ending);
        ending.iter().for_each(|key| drop(live.remove(key)));
        over.extend(ending);
        if run % 2 == 1 {
            bench.checkpoint();
            bench.checkpoint();
        }
        world = end(bench, how);
    }
}

#[test]
fn b92_with_the_limit_at_nothing_a_full_zone_is_spilled_in_its_time() {
    let (bench, live, over) = pressed(Way::Spill);
    let mut world = end(bench, End::Kill);
    world.options.inline_content_max = 0;
    let mut bench = open(world);
    bench.check(&live, &over, "no more inline");
    let before = bench.in_journal().0;
    let mut moved = 0;
    for _ in 0..10 {
        // Whatever makes room gets its turn, as beside a running program.
        if bench.engine.store.checkpoint_due() {
            bench.checkpoint();
        }
        move_once(&mut bench, Way::Forward).unwrap();
        moved += move_once(&mut bench, Way::Spill).unwrap();
    }
    assert!(moved > 0);
    assert_eq!(bench.in_journal().0, before - moved);
    bench.check(&live, &over, "spilled");
}

// ---- writes and reads -----------------------------------------------------------------------------------------------

#[test]
fn b10_a_pool_without_volumes_takes_small_content_and_no_other() {
    let mut bench = open(world(10, roomy(), 0));
    let mut live = BTreeMap::new();
    for (n, length) in [0, 1, 511, 512, 513, LIMIT as usize].into_iter().enumerate() {
        live.insert(bench.write(content(n as u64, length)), content(n as u64, length));
    }
    let refused = bench.write_with(content(9, LIMIT as usize + 1), WriteOptions::new());
    assert!(
        matches!(refused, Err(Error::VolumeUnavailable { .. } | Error::InsufficientStorage { .. })),
        "{refused:?}"
    );
    let mixed = bench.write_all(&[content(10, 10), content(11, LIMIT as usize + 1)]);
    assert!(mixed.is_err());
    bench.check(&live, &[], "without volumes");
    let mut bench = again(bench, End::PowerCut);
    bench.check(&live, &[], "after a power cut");
}

#[rstest]
#[case::part(3..10, 3..10)]
#[case::whole(0..3_000, 0..3_000)]
#[case::across_the_end(2_990..5_000, 2_990..3_000)]
#[case::beyond_the_end(3_000..3_001, 0..0)]
#[case::far_beyond(u64::MAX - 1..u64::MAX, 0..0)]
#[case::all(0..u64::MAX, 0..3_000)]
#[case::empty(7..7, 0..0)]
#[case::empty_at_the_end(3_000..3_000, 0..0)]
fn b16_ranges_of_content_in_the_journal(
    #[case] asked: std::ops::Range<u64>,
    #[case] expected: std::ops::Range<usize>,
    #[values(false, true)] cached: bool,
) {
    let mut bench = open(world(16, roomy(), 0));
    let key = bench.write(content(1, 3_000));
    let empty = bench.write(Vec::new());
    if !cached {
        bench = again(bench, End::PowerCut);
    }
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    let range = asked.clone();
    let read = bench.run(async move { pool.read_range(&acme, &key, range).await }).unwrap();
    assert_eq!(read, content(1, 3_000)[expected]);
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    assert!(bench.run(async move { pool.read_range(&acme, &empty, asked).await }).unwrap().is_empty());
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    let reversed = bench.run(async move { pool.read_range(&acme, &key, 10..3).await });
    assert!(matches!(reversed, Err(Error::InvalidArgument { name: "range", .. })), "{reversed:?}");
}

// ---- batches --------------------------------------------------------------------------------------------------------

#[rstest]
fn b67_a_batch_of_contents_is_there_wholly_or_not_at_all(
    #[values(End::Kill, End::PowerCut)] how: End,
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    const SEEDS: u64 = 12;
    let (mut there, mut not_there) = (0, 0);
    for k in 0.. {
        let options = EngineOptions { durability, ..roomy() };
        let mut bench = open(world(67 + k, options, 1));
        let mut live: BTreeMap<_, _> = [(bench.write(content(0, 700)), content(0, 700))].into();
        bench.sync();
        bench.world.drawn.take();
        let contents: Vec<_> = [0, 1, 900, 20_000, 512, 0, 60_000, 3].iter().enumerate().collect();
        let contents: Vec<_> =
            contents.into_iter().map(|(n, length)| content(1 + n as u64, *length)).collect();
        bench.world.disk.crash_at(bench.world.disk.ops() + 1 + k / SEEDS);
        let written = bench.write_all(&contents);
        let reached = bench.world.disk.is_down();
        assert!(reached || written.is_ok(), "{written:?}");
        let drawn = bench.world.drawn.take();
        let mut bench = again(bench, how);
        let found: Vec<_> = drawn.iter().copied().filter(|key| bench.status_of(*key).is_some()).collect();
        match found.len() {
            0 => {
                not_there += 1;
                let safe = durability == Durability::Durable || how == End::Kill;
                assert!(written.is_err() || !safe, "operation {}: a confirmed batch is gone", k / SEEDS);
            }
            8 => {
                there += 1;
                assert!(written.is_err() || *written.as_ref().unwrap() == found);
                live.extend(found.into_iter().zip(contents));
            }
            some => panic!("operation {}: {some} of 8", k / SEEDS),
        }
        bench.check(&live, &[], &format!("operation {}", k / SEEDS));
        if !reached && k % SEEDS == SEEDS - 1 {
            break;
        }
    }
    assert!(there > 0 && not_there > 0, "{there} there, {not_there} not");
}

#[test]
fn b67_contents_of_duplicates_in_a_batch_take_no_room_for_ever() {
    let mut bench = open(world(67, roomy(), 1));
    let named = |name: &str| WriteOptions::new().idempotency_key(name);
    let known = bench.write_with(content(0, 4_000), named("known")).unwrap();
    let keys = bench
        .write_all_with(vec![
            (content(1, 1_000), WriteOptions::new()),
            (content(2, 2_000), named("twice")),
            (content(3, 3_000), named("twice")),
            (content(0, 4_000), named("known")),
            (Vec::new(), named("empty")),
            (Vec::new(), named("empty")),
            (Vec::new(), WriteOptions::new()),
            (content(5, 5_000), named("twice")),
            (content(6, 6_000), named("last")),
        ])
        .unwrap();
    assert_eq!((keys[1], keys[3], keys[4]), (keys[2], known, keys[5]));
    assert_eq!(keys[1], keys[7]);
    let live: BTreeMap<_, _> = [
        (known, content(0, 4_000)),
        (keys[0], content(1, 1_000)),
        (keys[1], content(2, 2_000)),
        (keys[4], Vec::new()),
        (keys[6], Vec::new()),
        (keys[8], content(6, 6_000)),
    ]
    .into();
    bench.check(&live, &[], "as written");
    assert_eq!(bench.in_journal(), (6, 13_000));
    // A batch that is nothing but duplicates.
    let again_all = vec![(content(2, 2_000), named("twice")), (content(6, 6_000), named("last"))];
    assert_eq!(bench.write_all_with(again_all).unwrap(), [keys[1], keys[8]]);
    bench.check(&live, &[], "written again");
    let mut bench = again(bench, End::Kill);
    bench.check(&live, &[], "after a restart");
    let keys: Vec<_> = live.keys().copied().collect();
    bench.finish(&keys);
    bench.check(&BTreeMap::new(), &keys, "completed");
    assert_eq!(bench.in_journal(), (0, 0));
    let bench = again(bench, End::PowerCut);
    assert_eq!(bench.in_journal(), (0, 0));
}

#[test]
fn b67_a_name_accepted_while_the_content_was_on_its_way_leaks_no_bytes() {
    let mut bench = open(world(67, roomy(), 0));
    let store = bench.engine.store.clone();
    let file = |landing, n: u64, length: usize, name: Option<&str>| {
        let bytes = content(n, length);
        NewFile {
            size: length as u64,
            checksum: Checksum::of(&bytes),
            content: NewContent::Inline { bytes: bytes.into(), landing },
            idempotency: name.map(Into::into),
            ..new_file()
        }
    };
    let keys = bench.run(async move {
        let dir = new_file().directory;
        let mut batches = Vec::new();
        // Both are let in before either is accepted.
        for n in 0..2 {
            let mut batch = Vec::new();
            for (at, name) in [Some("same"), None].into_iter().enumerate() {
                let landing = store.land(2_000).await.unwrap();
                let named = name.map(locus_core::IdempotencyKey::new);
                let locus_core::Reserved::Room(room) =
                    store.reserve(&tenant(0), &dir, None, named.as_ref()).await.unwrap()
                else {
                    panic!("known too early")
                };
                batch.push((file(landing, n * 2 + at as u64, 2_000, name), room));
            }
            batches.push(batch);
        }
        let mut keys = Vec::new();
        for batch in batches {
            keys.push(store.accept(batch).await.unwrap());
        }
        keys
    });
    assert_eq!(keys[0][0], keys[1][0]);
    let live: BTreeMap<_, _> =
        [(keys[0][0], content(0, 2_000)), (keys[0][1], content(1, 2_000)), (keys[1][1], content(3, 2_000))]
            .into();
    bench.check(&live, &[], "one of four was known");
    let mut bench = again(bench, End::Kill);
    bench.check(&live, &[], "after a restart");
}

#[test]
fn b88_what_is_on_its_way_forward_is_read_before_that_is_written() {
    let (mut bench, live, _) = pressed(Way::Forward);
    let store = bench.engine.store.clone();
    let before = bench.statistics();
    let mut moving = Box::pin(async move { store.forward_step().await });
    while bench.statistics().copied_forward == before.copied_forward {
        assert!(poll_once(moving.as_mut()).is_pending());
    }
    assert_eq!(bench.statistics().written, before.written, "nobody has written it yet");
    for (key, content) in &live {
        assert!(bench.read(*key).unwrap() == *content, "{key}");
    }
}

#[test]
fn b89_no_more_is_taken_to_be_spilled_than_was_asked_for() {
    let (mut bench, ..) = pressed(Way::Spill);
    let mut take = |files: usize, bytes: u64| {
        let store = bench.engine.store.clone();
        bench.run(async move { store.spillable(files, bytes).await }).unwrap().len()
    };
    assert_eq!(take(3, u64::MAX), 3);
    assert_eq!(take(0, u64::MAX), 0);
    // At least one, and then so many that their bytes suffice.
    assert_eq!(take(100, 0), 1);
    assert_eq!(take(100, 2 * LIMIT), 2);
    assert_eq!(take(100, 2 * LIMIT + 1), 3);
}

#[test]
fn b89_long_contents_are_copied_forward_no_more_than_a_quarter_mebibyte_at_once() {
    let options = EngineOptions {
        segment_size: 8 * MIB,
        inline_content_max: MIB / 2,
        landing_zone_max: Some(32 * MIB),
        ..small()
    };
    let mut bench = open(world(89, options, 1).with_inline(MIB / 2));
    // In each segment a file that is longer than all that moves at once, and some that are shorter.
    let lengths = [300_000, 100_000, 100_000, 100_000, 20_000];
    let (mut live, mut over, mut number) = (BTreeMap::new(), Vec::new(), 0);
    loop {
        number += 1;
        let stays = number % 16 < lengths.len() as u64;
        let content = content(number, if stays { lengths[number as usize % 16] } else { 500_000 });
        let key = bench.write(content.clone());
        bench.commit();
        if !bench.rests_in_journal(key) {
            bench.finish(&[key]);
            over.push(key);
            break;
        }
        if stays {
            live.insert(key, content);
        } else {
            over.push(key);
        }
    }
    let ended: Vec<_> = over[..over.len() - 1].to_vec();
    bench.finish(&ended);
    bench.reap();
    let mut steps = Vec::new();
    loop {
        let before = bench.statistics();
        if move_once(&mut bench, Way::Forward).unwrap() == 0 {
            break;
        }
        let after = bench.statistics();
        assert_eq!(after.bytes_in_journal, before.bytes_in_journal, "a copy makes the old place needless");
        steps.push(after.copied_forward - before.copied_forward);
        bench.commit();
    }
    assert!(steps.contains(&1) && steps.iter().all(|moved| *moved <= 3), "{steps:?}");
    bench.check(&live, &over, "moved forward");
}

// ---- numbers --------------------------------------------------------------------------------------------------------

#[rstest]
fn the_numbers_are_the_same_after_a_restart_and_nothing_at_the_end(
    #[values(End::Kill, End::PowerCut, End::Close)] how: End,
    #[values(false, true)] checkpointed: bool,
) {
    let mut bench = open(world(7, roomy(), 1));
    assert_eq!(bench.in_journal(), (0, 0));
    let lengths: Vec<usize> = (0..40).map(|n| n * 1_500).collect();
    let keys: Vec<_> =
        lengths.iter().enumerate().map(|(n, length)| bench.write(content(n as u64, *length))).collect();
    let all: u64 = lengths.iter().map(|length| *length as u64).sum();
    assert_eq!(bench.in_journal(), (40, all));
    // Something in every state: leased, failed, completed, deleted, reaped or not, with a path.
    bench.finish(&keys[0..4]);
    bench.reap();
    let gone: u64 = lengths[0..4].iter().map(|length| *length as u64).sum();
    assert_eq!(bench.in_journal(), (36, all - gone));
    bench.take(keys[10]);
    let (lease, scheduler) = (bench.take(keys[11]), bench.scheduler.clone());
    bench.run(async move { scheduler.fail(&lease, "no").await }).unwrap();
    let path = bench.materialized(keys[12]);
    bench.run(path).unwrap();
    assert_eq!(bench.in_journal(), (35, all - gone - lengths[12] as u64));
    if checkpointed {
        bench.checkpoint();
    }
    bench.finish(&keys[20..25]);
    let (pool, acme, deleted) = (bench.pool.clone(), bench.acme.clone(), keys[30]);
    bench.run(async move { pool.delete(&acme, &deleted).await }).unwrap();
    if checkpointed {
        bench.checkpoint();
    }
    bench.sync();
    let before = bench.in_journal();
    let mut bench = again(bench, how);
    assert_eq!(bench.in_journal(), before);
    bench.reap();
    let (pool, acme, store) = (bench.pool.clone(), bench.acme.clone(), bench.engine.store.clone());
    let left: Vec<_> = keys.iter().copied().filter(|key| lives(&mut bench, *key)).collect();
    assert_eq!(left.len(), 40 - 4 - 5 - 1);
    let kept: u64 = bench.in_journal().1;
    assert_eq!(bench.in_journal().0, left.len() as u64 - 1);
    let expected = left
        .iter()
        .filter(|key| **key != keys[12])
        .map(|key| lengths[keys.iter().position(|other| other == key).unwrap()] as u64);
    assert_eq!(kept, expected.sum::<u64>());
    bench.run(async move {
        for key in left {
            pool.delete_with(&acme, &key, true).await.unwrap();
        }
        store.sync().await.unwrap();
    });
    bench.reap();
    assert_eq!((bench.in_journal(), bench.blobs().len()), ((0, 0), 0));
    let bench = again(bench, how);
    assert_eq!(bench.in_journal(), (0, 0));
    assert_eq!(bench.engine.report.files, 0);
}

// ---- settings -------------------------------------------------------------------------------------------------------

#[rstest]
#[case::more_than_a_sixteenth(
    EngineOptions { inline_content_max: MIB / 16 + 1, ..roomy() }, "journal.inline_content_max"
)]
#[case::less_than_four_segments(
    EngineOptions { inline_content_max: 1, landing_zone_max: Some(4 * MIB - 1), ..roomy() },
    "journal.landing_zone_max"
)]
#[case::larger_than_the_disk(
    EngineOptions { inline_content_max: 1, landing_zone_max: Some((256 * MIB) + 1), ..roomy() },
    "journal.landing_zone_max"
)]
fn a_limit_or_a_zone_that_cannot_be_is_refused_by_name_and_nothing_changes(
    #[case] bad: EngineOptions,
    #[case] setting: &str,
) {
    let mut world = world(1, roomy(), 0);
    world.disk.set_capacity(256 * MIB);
    let mut bench = open(world);
    let live = [(bench.write(content(1, 1_000)), content(1, 1_000))].into();
    world = end(bench, End::Kill);
    let good = std::mem::replace(&mut world.options, bad);
    let before = files_below(&*world.disk, Path::new("/data"));
    let Err(refused) = try_open(world) else { panic!("a setting that cannot be was taken") };
    let (mut world, why) = *refused;
    let Error::InvalidSetting { name, .. } = &why else { panic!("{why:?}") };
    assert_eq!(name.to_string(), setting);
    assert!(files_below(&*world.disk, Path::new("/data")) == before, "a refused open changed something");
    world.disk.kill();
    world.options = good;
    let mut bench = open(world);
    assert_eq!(bench.engine.report.dropped, 0);
    bench.check(&live, &[], "opened after all");
}

#[test]
fn the_largest_limit_and_the_smallest_zone_are_taken() {
    let mut world = world(1, small(), 0);
    world.options.inline_content_max = MIB / 16;
    let mut bench = open(world);
    let key = bench.write(content(1, LIMIT as usize));
    assert!(bench.rests_in_journal(key));
}

#[rstest]
fn b10_a_pool_without_volumes_takes_small_content_also_while_segments_are_being_made(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let mut world = world(10, EngineOptions { durability, ..roomy() }, 0);
    let engine = world.open().unwrap(); // the keeper has not run yet
    let (pool, scheduler) = (engine.pool.clone(), engine.scheduler.clone());
    let (acme, other) = (engine.tenants[0].clone(), engine.tenants[1].clone());
    let mut bench = Bench { world, engine, pool, scheduler, acme, other };
    for n in 0..200 {
        // Whoever waits gives the keeper its turn.
        let written = bench.write_with(content(n, 60_000), WriteOptions::new());
        assert!(written.is_ok(), "write {n} of 200, {:?}: {written:?}", bench.statistics());
    }
}

/// Landings take their room before the records that name them: they must not keep each other waiting for ever.
#[test]
fn b89_many_that_landed_at_once_are_all_accepted() {
    let mut world = world(2, roomy(), 1);
    let engine = world.open().unwrap();
    let store = engine.store.clone();
    let mut landings = Vec::new();
    for _ in 0..4_000 {
        // So many at once that together they hold all that files which are ready leave to accepts.
        match poll_once(Box::pin(store.land(1_000)).as_mut()) {
            std::task::Poll::Ready(landing) => landings.push(landing.unwrap()),
            std::task::Poll::Pending => break,
        }
    }
    assert!(landings.len() > 100, "{}", landings.len());
    let all = landings.len();
    let accepted = std::rc::Rc::new(std::cell::Cell::new(0));
    for landing in landings {
        let (store, accepted) = (store.clone(), accepted.clone());
        world.stepper.spawn(async move {
            let bytes = vec![7; 1_000];
            let (size, checksum) = (bytes.len() as u64, Checksum::of(&bytes));
            let content = NewContent::Inline { bytes: bytes.into(), landing };
            put(&store, vec![NewFile { size, checksum, content, ..new_file() }]).await.unwrap();
            accepted.set(accepted.get() + 1);
        });
    }
    let last = store.clone();
    world.run(&engine, async move { put(&last, vec![new_file()]).await }).unwrap();
    for _ in 0..10_000 {
        world.stepper.run_until_idle();
        if accepted.get() == all || !(store.commit_step() | store.keep_step()) {
            break;
        }
    }
    assert_eq!(accepted.get(), all);
}
