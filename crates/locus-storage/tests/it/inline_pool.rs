//! Content that a store takes itself, as the pool sees it: over a store of records in memory.

#![allow(clippy::unwrap_used, reason = "a test helper that fails is a failed test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Seek, Write},
    ops::Range,
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use locus_core::{
    Checksum, Content, Durability, Entropy, Error, FailOutcome, FileInfo, FileKey, FileRecord, FileStatus,
    Holdings, IdempotencyKey, InlineLimits, Landing, Lease, LeaseOptions, Leased, Leaving, Limit, LogicalDir,
    MetadataStore, Moving, NewContent, NewFile, Outcome, Place, Reservation, Reserved, Result, Scope,
    StoragePath, StoreCounts, StoreId, Stored, TenantContext, TenantId, Timestamp, Usage, UsagePage,
    VolumeId,
};
use locus_fs::{LocalVolume, VolumeContext};
use locus_storage::{EngineOptions, SpillReport, StoragePool, VolumeRegistry, WriteOptions};
use locus_tenant::TenantDirectory;
use locus_testkit::{Fault, ManualClock, OpKind, SeededEntropy, SimDisk, Stepper};
use parking_lot::Mutex;
use rstest::rstest;
use tokio::{io::ReadBuf, sync::Notify};

use crate::{
    bench::{Bench, Hang, Hanging, poll_once, vol},
    world::{World, files_below},
};

/// Longest content that the shelf takes.
const LIMIT: usize = 16;

type Hook = Box<dyn FnOnce(&mut Books) + Send>;

/// A store of records and contents in memory.
#[derive(Clone)]
struct Shelf {
    books: Arc<Mutex<Books>>,
    wanted: Arc<Notify>,
    gate: Arc<Notify>,
    entropy: Arc<SeededEntropy>,
}

#[derive(Default)]
struct Books {
    records: BTreeMap<FileKey, FileRecord>,
    contents: BTreeMap<FileKey, Bytes>,
    known: BTreeMap<Arc<str>, FileKey>,
    moving: BTreeSet<FileKey>,
    batch_bytes_max: u64,
    room: u64,
    reserved: usize,
    asked: Vec<Range<u64>>,
    accept_fails: Option<Error>,
    relocate_fails: Option<Error>,
    spill_fails: Option<Error>,
    /// `content` waits at the gate.
    closed: bool,
    on_content: Option<Hook>,
    on_relocate: Option<Hook>,
}

impl Books {
    fn complete(&mut self, key: FileKey) {
        self.records.get_mut(&key).unwrap().info.status = FileStatus::Completed;
        self.contents.remove(&key);
    }

    fn record(&mut self, key: FileKey) -> &mut FileRecord {
        self.records.get_mut(&key).unwrap()
    }

    /// Moves the record alone, as somebody else's move does at its end.
    fn moved(&mut self, key: FileKey, to: VolumeId) {
        self.record(key).place = Place::Volume(to);
        self.contents.remove(&key);
    }
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shelf")
    }
}

/// Room for one content, given back unless it is used.
struct Hold(Shelf, u64);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.books.lock().room += self.1;
    }
}

impl Shelf {
    fn new() -> Self {
        let books = Books { room: 1 << 20, batch_bytes_max: 1 << 20, ..Books::default() };
        let books = Arc::new(Mutex::new(books));
        Self { books, wanted: Arc::default(), gate: Arc::default(), entropy: Arc::new(SeededEntropy::new(1)) }
    }

    fn right(&self, books: &mut Books, key: FileKey) -> Option<Moving> {
        let record = books.records.get(&key).filter(|record| !record.info.status.is_over())?.clone();
        if record.place != Place::Store || !books.moving.insert(key) {
            return None;
        }
        let books = Arc::clone(&self.books);
        Some(Moving::new(record, move || assert!(books.lock().moving.remove(&key))))
    }
}

#[async_trait]
impl MetadataStore for Shelf {
    async fn reserve(
        &self,
        _: &TenantId,
        _: &LogicalDir,
        _: Option<u64>,
        named: Option<&IdempotencyKey>,
    ) -> Result<Reserved> {
        let mut random = [0; 10];
        self.entropy.fill(&mut random);
        let mut books = self.books.lock();
        if let Some(key) = named.and_then(|named| books.known.get(&named.value)) {
            return Ok(Reserved::Known(*key));
        }
        books.reserved += 1;
        let books = Arc::clone(&self.books);
        let key = FileKey::generate(Timestamp::from_micros(1_700_000_000_000_000), &random);
        Ok(Reserved::Room(Reservation::new(key, move |_| books.lock().reserved -= 1)))
    }

    async fn accept(&self, files: Vec<(NewFile, Reservation)>) -> Result<Vec<FileKey>> {
        if let Some(error) = self.books.lock().accept_fails.take() {
            return Err(error);
        }
        let accept = |(file, room): (NewFile, Reservation)| {
            let mut key = room.key();
            if let Some(named) = &file.idempotency {
                let first = *self.books.lock().known.entry(named.value.clone()).or_insert(key);
                if first != key {
                    return first;
                }
            }
            let place = match file.content {
                NewContent::Inline { bytes, landing } => {
                    assert_eq!(landing.bytes(), bytes.len() as u64);
                    std::mem::forget(landing.into_hold::<Hold>().unwrap()); // used up
                    self.books.lock().contents.insert(key, bytes);
                    Place::Store
                }
                NewContent::Stored { volume, .. } => Place::Volume(volume),
                _ => panic!("content of a kind that nobody knows"),
            };
            let at = Timestamp::from_micros(0);
            let info = FileInfo {
                key,
                tenant: file.tenant,
                size: file.size,
                checksum: file.checksum,
                original_name: file.original_name,
                directory: file.directory,
                properties: file.properties,
                created_at: at,
                modified_at: at,
                status: FileStatus::Pending,
                retry_count: 0,
                attempts: 0,
            };
            let record = FileRecord {
                info,
                place,
                seal: file.seal,
                area: locus_core::Area::Live,
                owner: file.owner,
                last_failed_at: None,
                last_error: None,
                available_at: None,
                processing_started_at: None,
                processing_by: None,
                last_heartbeat: None,
            };
            self.books.lock().records.insert(key, record);
            key = room.key();
            key
        };
        Ok(files.into_iter().map(accept).collect())
    }

    fn inline_limits(&self) -> InlineLimits {
        let batch_bytes_max = self.books.lock().batch_bytes_max;
        InlineLimits { content_bytes_max: LIMIT as u64, batch_bytes_max }
    }

    async fn land(&self, bytes: u64) -> Option<Landing> {
        let mut books = self.books.lock();
        books.room = books.room.checked_sub(bytes.max(1))?;
        Some(Landing::new(bytes, Hold(self.clone(), bytes.max(1))))
    }

    async fn content(&self, record: &FileRecord, range: Range<u64>) -> Result<Bytes> {
        let go = self.gate.notified();
        if self.books.lock().closed {
            go.await;
        }
        let mut books = self.books.lock();
        if let Some(hook) = books.on_content.take() {
            hook(&mut books);
        }
        books.asked.push(range.clone());
        let content = books.contents.get(&record.info.key);
        let content = content.ok_or(Error::FileNotFound { key: record.info.key })?;
        Ok(content.slice(range.start as usize..range.end as usize))
    }

    fn begin_move(&self, _: &TenantId, key: &FileKey) -> Option<Moving> {
        self.right(&mut self.books.lock(), *key)
    }

    async fn relocate(&self, moving: Moving, to: Stored) -> Result<bool> {
        let key = moving.record().info.key;
        let mut books = self.books.lock();
        if let Some(hook) = books.on_relocate.take() {
            hook(&mut books);
        }
        let answer = match books.relocate_fails.take() {
            Some(error) => Err(error),
            None if books.record(key).info.status.is_over() => Ok(false),
            None => {
                let Place::Volume(id) = to.place else { panic!("moved to nowhere") };
                assert_eq!((to.length, to.checksum), {
                    let info = &books.record(key).info;
                    (info.size, info.checksum)
                });
                books.moved(key, id);
                Ok(true)
            }
        };
        drop(books);
        drop(moving);
        answer
    }

    async fn spillable(&self, files: usize, _: u64) -> Result<Vec<Moving>> {
        let mut books = self.books.lock();
        if let Some(error) = books.spill_fails.take() {
            return Err(error);
        }
        let keys: Vec<_> = books.contents.keys().copied().take(files).collect();
        Ok(keys.into_iter().filter_map(|key| self.right(&mut books, key)).collect())
    }

    async fn spill_wanted(&self) {
        self.wanted.notified().await;
    }

    async fn get(&self, tenant: &TenantId, key: &FileKey) -> Result<Option<FileRecord>> {
        let record = self.books.lock().records.get(key).cloned();
        Ok(record.filter(|record| record.info.tenant == *tenant))
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn volume_available(&self, _: &VolumeId, _: bool) {}

    fn files_on(&self, _: &VolumeId) -> u64 {
        0
    }

    fn tenant_changed(&self, _: &TenantId) {}

    async fn lease(&self, _: &TenantId, _: usize, _: &LeaseOptions) -> Result<Vec<Leased>> {
        unreachable!()
    }

    async fn lease_any(
        &self,
        _: usize,
        _: &LeaseOptions,
        _: &(dyn for<'a> Fn(&'a TenantId) -> u32 + Send + Sync),
    ) -> Result<Vec<Leased>> {
        unreachable!()
    }

    async fn lease_key(&self, _: &TenantId, _: &FileKey, _: &LeaseOptions) -> Result<Leased> {
        unreachable!()
    }

    async fn renew(&self, _: &Lease, _: Option<Duration>) -> Result<Lease> {
        unreachable!()
    }

    async fn release(&self, _: &Lease) -> Result<()> {
        unreachable!()
    }

    async fn complete(&self, _: &[Lease]) -> Result<()> {
        unreachable!()
    }

    async fn fail(&self, _: &Lease, _: &str) -> Result<FailOutcome> {
        unreachable!()
    }

    async fn reset(&self, _: &TenantId, _: &FileKey) -> Result<()> {
        unreachable!()
    }

    async fn delete(&self, _: &TenantId, _: &FileKey, _: bool) -> Result<()> {
        unreachable!()
    }

    fn holdings(&self, _: &TenantId) -> Holdings {
        unreachable!()
    }

    fn begin_leaving(&self, _: &TenantId, _: bool) -> Result<Leaving> {
        unreachable!()
    }

    async fn end_files(&self, _: &Leaving, _: u32, _: usize) -> Result<(u64, Option<u32>)> {
        unreachable!()
    }

    async fn forget_tenant(&self, _: &Leaving) -> Result<()> {
        unreachable!()
    }

    fn tenants_with_files(&self) -> Vec<(TenantId, StoragePath)> {
        unreachable!()
    }

    async fn ready(&self, _: &TenantId) -> Result<()> {
        unreachable!()
    }

    async fn ready_any(&self) -> Result<()> {
        unreachable!()
    }

    async fn remembered(&self, _: &TenantId, _: &str) -> Result<Option<FileKey>> {
        unreachable!()
    }

    async fn forget(&self, _: &TenantId, _: &str) -> Result<bool> {
        unreachable!()
    }

    async fn set_limit(&self, _: Scope, _: Limit) -> Result<()> {
        unreachable!()
    }

    fn usage(&self, _: &Scope) -> Usage {
        unreachable!()
    }

    fn check_room(&self, _: &TenantId, _: &LogicalDir, _: u64) -> Result<()> {
        unreachable!()
    }

    fn directory_usage(&self, _: &TenantId, _: Option<u64>, _: usize) -> UsagePage {
        unreachable!()
    }

    fn counts(&self) -> StoreCounts {
        unreachable!()
    }
}

/// A pool over a shelf, and some volumes on a simulated disk.
struct Rig {
    disk: Arc<SimDisk>,
    clock: Arc<ManualClock>,
    stepper: Stepper,
    shelf: Shelf,
    pool: StoragePool,
    acme: TenantContext,
    volumes: usize,
}

impl Rig {
    fn new(volumes: usize) -> Self {
        let (disk, clock) = (SimDisk::new(1), ManualClock::new());
        let shelf = Shelf::new();
        let mut context = VolumeContext::new(StoreId::from_bytes([7; 16]));
        context.disk = disk.clone();
        context.clock = clock.clone();
        context.entropy = shelf.entropy.clone();
        let mut stepper = Stepper::new(1);
        let opening = async {
            let tenants = TenantDirectory::open(disk.clone(), clock.clone(), PathBuf::from("/tenants"));
            let tenants = Arc::new(tenants.unwrap());
            let acme = tenants.ensure(&TenantId::parse("acme").unwrap(), BTreeMap::new()).await.unwrap();
            let store = Arc::new(shelf.clone());
            let registry = VolumeRegistry::new();
            let pool = StoragePool::new(store, registry, tenants, context, Durability::Durable);
            for n in 0..volumes {
                pool.mount(LocalVolume::new(format!("vol-{n}"), format!("/vol-{n}"))).await.unwrap();
            }
            (pool, TenantContext::from(&*acme))
        };
        let (pool, acme) = stepper.block_on(opening, || false);
        Self { disk, clock, stepper, shelf, pool, acme, volumes }
    }

    fn run<T>(&mut self, call: impl Future<Output = T>) -> T {
        self.stepper.block_on(call, || false)
    }

    fn write_with(&mut self, content: impl Into<Content>, options: WriteOptions) -> Result<FileKey> {
        let (pool, acme, content) = (self.pool.clone(), self.acme.clone(), content.into());
        self.run(async move { pool.write(&acme, content, options).await })
    }

    fn write(&mut self, content: impl Into<Content>) -> FileKey {
        self.write_with(content, WriteOptions::new()).unwrap()
    }

    fn write_batch(&mut self, files: Vec<(Content, WriteOptions)>) -> Result<Vec<FileKey>> {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        self.run(async move { pool.write_batch(&acme, files).await })
    }

    fn read(&mut self, key: FileKey) -> Result<Bytes> {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        self.run(async move { pool.read(&acme, &key).await?.bytes().await })
    }

    fn materialize(&self, key: FileKey) -> impl Future<Output = Result<PathBuf>> + 'static {
        let (pool, acme) = (self.pool.clone(), self.acme.clone());
        async move { pool.materialize(&acme, &key).await }
    }

    fn path_of(&mut self, key: FileKey) -> Result<PathBuf> {
        let materialized = self.materialize(key);
        self.run(materialized)
    }

    fn spill(&mut self) -> SpillReport {
        let pool = self.pool.clone();
        self.run(async move { pool.spill_step().await }).unwrap()
    }

    fn place(&self, key: FileKey) -> Place {
        self.shelf.books.lock().record(key).place.clone()
    }

    /// The bytes of all blobs, by volume.
    fn blobs(&self) -> Vec<(usize, Vec<u8>)> {
        let below = |n: usize| {
            let files = files_below(&*self.disk, &PathBuf::from(format!("/vol-{n}")));
            let blobs = files
                .into_iter()
                .filter(|(path, _)| path.components().any(|part| part.as_os_str() == "acme"));
            blobs.map(move |(_, bytes)| (n, bytes)).collect::<Vec<_>>()
        };
        (0..self.volumes).flat_map(below).collect()
    }

    /// Puts a blob under the name that the file will have on `vol-0`.
    fn plant(&mut self, key: FileKey, bytes: &'static str) {
        let (pool, at) = (self.pool.clone(), self.shelf.books.lock().record(key).blob());
        let volume = locus_core::VolumeSet::volume(&pool, &vol(0)).unwrap();
        self.run(async move { volume.write(&at, &mut bytes.into(), Durability::Buffered).await }).unwrap();
    }

    fn fault(&self, volume: usize, kind: OpKind) {
        let root = PathBuf::from(format!("/vol-{volume}"));
        self.disk.fail(Fault::io().for_good().on(kind).at(move |path| path.starts_with(&root)));
    }

    fn assert_nothing_left(&self) {
        let books = self.shelf.books.lock();
        assert_eq!((books.room, books.reserved, books.moving.len()), (1 << 20, 0, 0));
        drop(books);
        assert!(self.blobs().is_empty() && self.pool.residue().is_empty());
        assert!(self.pool.volumes().iter().all(|volume| volume.in_flight == 0));
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index % 251) as u8).collect()
}

fn file(bytes: &[u8]) -> Content {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"before").unwrap();
    file.write_all(bytes).unwrap();
    file.seek(io::SeekFrom::Start(6)).unwrap();
    file.into()
}

fn seekable(bytes: &[u8]) -> Content {
    let mut cursor = io::Cursor::new([b"before", bytes].concat());
    cursor.set_position(6);
    Content::seekable(cursor)
}

fn reader(bytes: &[u8]) -> Content {
    Content::reader(io::Cursor::new(bytes.to_vec()))
}

fn in_memory(bytes: &[u8]) -> Content {
    bytes.into()
}

/// Gives zeros for ever, and counts them.
struct Endless(Arc<AtomicUsize>);

impl tokio::io::AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let zeros = vec![0; into.remaining()];
        self.0.fetch_add(zeros.len(), Ordering::Relaxed);
        into.put_slice(&zeros);
        Poll::Ready(Ok(()))
    }
}

// ---- admission --------------------------------------------------------------------------------------------------

#[rstest]
fn small_content_rests_in_the_store_whatever_its_source(
    #[values(in_memory, file, seekable, reader)] source: fn(&[u8]) -> Content,
    #[values(0, 1, LIMIT)] length: usize,
) {
    let mut rig = Rig::new(1);
    let key = rig.write(source(&bytes(length)));
    assert_eq!(rig.place(key), Place::Store);
    assert_eq!(rig.shelf.books.lock().record(key).info.checksum, Checksum::of(&bytes(length)));
    assert_eq!(rig.read(key).unwrap(), bytes(length));
    assert!(rig.blobs().is_empty());
}

#[rstest]
fn large_content_goes_to_a_volume_whole(
    #[values(in_memory, file, seekable, reader)] source: fn(&[u8]) -> Content,
    #[values(LIMIT + 1, 3 << 20)] length: usize,
) {
    let mut rig = Rig::new(1);
    let key = rig.write(source(&bytes(length)));
    assert_eq!(rig.place(key), Place::Volume(vol(0)));
    assert_eq!(rig.shelf.books.lock().record(key).info.size, length as u64);
    assert!(rig.read(key).unwrap() == bytes(length));
    assert!(rig.shelf.books.lock().asked.is_empty());
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_longer_than_its_metadata_says_goes_to_a_volume() {
    let whole = std::fs::read("/proc/version").unwrap();
    let file = File::open("/proc/version").unwrap();
    assert!(file.metadata().unwrap().len() == 0 && whole.len() > LIMIT);
    let mut rig = Rig::new(1);
    let key = rig.write(file);
    assert_eq!(rig.place(key), Place::Volume(vol(0)));
    assert_eq!(rig.read(key).unwrap(), whole);
}

#[rstest]
fn b89_small_content_goes_to_a_volume_while_the_store_is_full(
    #[values(in_memory, file, seekable, reader)] source: fn(&[u8]) -> Content,
) {
    let mut rig = Rig::new(2);
    rig.shelf.books.lock().room = 4;
    let beyond = rig.write(source(b"hello"));
    let within = rig.write(source(b"hell"));
    assert_eq!(rig.place(beyond), Place::Volume(vol(0)));
    assert_eq!(rig.place(within), Place::Store);
    assert_eq!(rig.read(beyond).unwrap(), "hello");
}

#[test]
fn small_content_that_the_store_refused_can_go_to_a_second_volume() {
    let mut rig = Rig::new(2);
    rig.shelf.books.lock().room = 0;
    rig.fault(0, OpKind::Create);
    let key = rig.write(reader(b"hello"));
    assert_eq!(rig.place(key), Place::Volume(vol(1)));
    assert_eq!(rig.blobs(), [(1, b"hello".to_vec())]);
}

#[test]
fn b10_a_pool_without_volumes_takes_small_content_and_refuses_the_rest_before_a_byte_is_written() {
    let mut rig = Rig::new(0);
    let key = rig.write(reader(b"hello"));
    assert_eq!(rig.read(key).unwrap(), "hello");
    let room = rig.shelf.books.lock().room;
    let read = Arc::new(AtomicUsize::new(0));
    let endless = Content::reader(Endless(Arc::clone(&read)));
    for large in [endless, bytes(LIMIT + 1).into(), file(&bytes(LIMIT + 1)), seekable(&bytes(100))] {
        let refused = rig.write_with(large, WriteOptions::new());
        assert!(matches!(refused, Err(Error::VolumeUnavailable { .. })), "{refused:?}");
    }
    assert_eq!(read.load(Ordering::Relaxed), LIMIT + 1);
    let books = rig.shelf.books.lock();
    assert_eq!((books.room, books.reserved, books.records.len()), (room, 0, 1));
}

#[test]
fn contents_of_a_batch_beyond_its_limit_go_to_volumes() {
    let mut rig = Rig::new(1);
    rig.shelf.books.lock().batch_bytes_max = 25;
    let files = (0..4).map(|n| (reader(&[n; 10]), WriteOptions::new()));
    let files = files.chain([("12345".into(), WriteOptions::new())]);
    let keys = rig.write_batch(files.collect()).unwrap();
    let places: Vec<_> = keys.iter().map(|key| rig.place(*key) == Place::Store).collect();
    // What was read of the third, to know that it is too long, is in memory and counts too.
    assert_eq!(places, [true, true, false, false, false]);
    for (n, key) in keys[..4].iter().enumerate() {
        assert_eq!(rig.read(*key).unwrap(), vec![n as u8; 10]);
    }
}

#[rstest]
#[case::not_done(Error::ShuttingDown, 0)]
#[case::unknown(Error::Poisoned { outcome: Outcome::Unknown }, 1)]
fn b5_a_failed_accept_leaves_nothing_in_the_store_and_on_a_volume_only_what_may_be_wanted(
    #[case] error: Error,
    #[case] left: usize,
) {
    let mut rig = Rig::new(1);
    rig.shelf.books.lock().accept_fails = Some(error);
    let files = vec![("hello".into(), WriteOptions::new()), (bytes(100).into(), WriteOptions::new())];
    rig.write_batch(files).unwrap_err();
    let books = rig.shelf.books.lock();
    assert_eq!((books.room, books.reserved, books.contents.len()), (1 << 20, 0, 0));
    drop(books);
    assert_eq!((rig.blobs().len(), rig.pool.residue().len()), (left, 0));
}

#[test]
fn keys_come_in_order_where_another_write_won() {
    let mut rig = Rig::new(1);
    let named = || WriteOptions::new().idempotency_key("letter-1");
    let files: Vec<(Content, _)> = vec![
        ("first".into(), named()),
        (bytes(100).into(), named()),
        ("third".into(), named()),
        ("other".into(), WriteOptions::new()),
    ];
    let keys = rig.write_batch(files).unwrap();
    assert!(keys[0] == keys[1] && keys[0] == keys[2] && keys[0] != keys[3]);
    assert_eq!(rig.read(keys[0]).unwrap(), "first");
    assert_eq!(rig.read(keys[3]).unwrap(), "other");
    assert_eq!(rig.write_with("fourth", named()).unwrap(), keys[0]);
    // What lost is gone: its blob and its room.
    assert!(rig.blobs().is_empty() && rig.pool.residue().is_empty());
    assert_eq!(rig.shelf.books.lock().room, (1 << 20) - 10);
}

#[test]
fn small_content_with_a_wrong_checksum_or_name_is_refused_and_gives_its_room_back() {
    let mut rig = Rig::new(1);
    let wrong = WriteOptions::new().expected_checksum(Checksum::of(b"something else"));
    let refused = rig.write_with("hello", wrong);
    assert!(
        matches!(refused, Err(Error::ChecksumMismatch { actual, .. }) if actual == Checksum::of(b"hello"))
    );
    let refused = rig.write_with("hello", WriteOptions::new().original_name("x".repeat(1_025)));
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    rig.assert_nothing_left();
}

// ---- reading ----------------------------------------------------------------------------------------------------

#[test]
fn content_of_the_store_is_not_checked_twice_and_only_what_is_wanted_is_asked_for() {
    let mut rig = Rig::new(1);
    let key = rig.write("0123456789");
    rig.shelf.books.lock().record(key).info.checksum = Checksum::of(b"whatever");
    assert_eq!(rig.read(key).unwrap(), "0123456789");
    let (pool, acme) = (rig.pool.clone(), rig.acme.clone());
    let mut range = |range: Range<u64>| rig.run(pool.read_range(&acme, &key, range)).unwrap();
    assert_eq!(range(3..6), "345");
    assert_eq!(range(8..99), "89");
    assert_eq!(range(20..30), "");
    assert_eq!(rig.shelf.books.lock().asked, [0..10, 3..6, 8..10]);
}

#[test]
fn a_reader_of_content_in_the_store_seeks() {
    use tokio::io::{AsyncReadExt, AsyncSeekExt};
    let mut rig = Rig::new(0);
    let key = rig.write("0123456789");
    let (pool, acme) = (rig.pool.clone(), rig.acme.clone());
    let read = rig.run(async move {
        let mut reader = pool.read(&acme, &key).await.unwrap();
        reader.seek(io::SeekFrom::Start(7)).await.unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).await.unwrap();
        reader.seek(io::SeekFrom::Start(0)).await.unwrap();
        reader.read_to_string(&mut text).await.unwrap();
        text
    });
    assert_eq!(read, "7890123456789");
}

#[rstest]
fn content_that_moves_while_it_is_opened_is_found_where_it_went(#[values(true, false)] whole: bool) {
    let mut rig = Rig::new(1);
    let key = rig.write("0123456789");
    rig.plant(key, "0123456789");
    rig.shelf.books.lock().on_content = Some(Box::new(move |books| books.moved(key, vol(0))));
    let (pool, acme) = (rig.pool.clone(), rig.acme.clone());
    let range = if whole { 0..10 } else { 2..4 };
    let read = rig.run(async move { pool.read_range(&acme, &key, range).await });
    assert_eq!(read.unwrap(), if whole { "0123456789" } else { "23" });
}

#[test]
fn content_that_is_over_while_it_is_opened_is_not_found() {
    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    rig.shelf.books.lock().on_content = Some(Box::new(move |books| books.complete(key)));
    assert!(matches!(rig.read(key), Err(Error::FileNotFound { .. })));
}

// ---- a path -----------------------------------------------------------------------------------------------------

#[test]
fn b90_materialize_gives_a_path_and_a_second_call_the_same() {
    let mut rig = Rig::new(1);
    let key = rig.write_with("hello", WriteOptions::new().original_name("letter.TXT")).unwrap();
    let (pool, acme) = (rig.pool.clone(), rig.acme.clone());
    let before = rig.run(pool.location(&acme, &key)).unwrap().unwrap();
    assert_eq!((before.volume_id, before.physical_path), (None, None));
    let path = rig.path_of(key).unwrap();
    assert_eq!(files_below(&*rig.disk, path.parent().unwrap())[&path], b"hello");
    assert_eq!(path.extension().unwrap(), "txt");
    let after = rig.run(pool.location(&acme, &key)).unwrap().unwrap();
    assert_eq!((after.volume_id, after.physical_path), (Some(vol(0)), Some(path.clone())));
    assert_eq!(rig.path_of(key).unwrap(), path);
    assert_eq!(rig.read(key).unwrap(), "hello");
    assert_eq!(rig.shelf.books.lock().asked.len(), 1);
    assert!(rig.pool.residue().is_empty() && rig.pool.volumes()[0].in_flight == 0);
}

#[test]
fn b90_without_a_path_or_a_usable_volume_the_content_stays() {
    let mut rig = Rig::new(0);
    let key = rig.write("hello");
    assert!(matches!(rig.path_of(key), Err(Error::NotMaterializable { .. })));
    assert_eq!(rig.read(key).unwrap(), "hello");

    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    rig.fault(0, OpKind::Create);
    let pool = rig.pool.clone();
    rig.run(pool.probe_all());
    let refused = rig.path_of(key);
    assert!(matches!(refused, Err(Error::VolumeUnavailable { .. })), "{refused:?}");
    assert_eq!(rig.place(key), Place::Store);
    assert!(rig.shelf.books.lock().moving.is_empty());
}

#[rstest]
fn b90_complete_wins_against_materialize_and_nothing_is_left(#[values(true, false)] early: bool) {
    let mut rig = Rig::new(2);
    let key = rig.write("hello");
    let hook: Hook = Box::new(move |books| books.complete(key));
    if early {
        rig.shelf.books.lock().on_content = Some(hook);
    } else {
        rig.shelf.books.lock().on_relocate = Some(hook);
    }
    assert!(matches!(rig.path_of(key), Err(Error::FileNotFound { .. })));
    assert!(matches!(rig.path_of(key), Err(Error::FileNotFound { .. })));
    assert!(rig.blobs().is_empty() && rig.pool.residue().is_empty());
}

#[test]
fn b88_a_name_found_taken_by_the_same_bytes_is_adopted_and_made_durable() {
    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    rig.plant(key, "hello");
    rig.disk
        .fail(Fault::io().for_good().on(OpKind::Remove).at(|path| path.to_string_lossy().contains("acme")));
    let path = rig.path_of(key).unwrap();
    rig.disk.crash();
    assert_eq!(files_below(&*rig.disk, path.parent().unwrap())[&path], b"hello");
}

#[rstest]
#[case::same_length("hallo")]
#[case::longer("hello, world")]
#[case::shorter("hell")]
#[case::empty("")]
fn b88_a_name_found_taken_by_other_bytes_is_replaced(#[case] other: &'static str) {
    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    rig.plant(key, other);
    let path = rig.path_of(key).unwrap();
    assert_eq!(files_below(&*rig.disk, path.parent().unwrap())[&path], b"hello");
    assert_eq!(rig.read(key).unwrap(), "hello");
    assert!(rig.pool.residue().is_empty());
}

#[test]
fn a_volume_that_fails_a_move_is_passed_by() {
    let mut rig = Rig::new(2);
    let key = rig.write("hello");
    rig.fault(0, OpKind::Create);
    assert!(rig.path_of(key).unwrap().starts_with("/vol-1"));
    assert_eq!(rig.blobs(), [(1, b"hello".to_vec())]);
    assert!(rig.pool.volumes()[0].unusable.is_some() && rig.pool.residue().is_empty());
}

#[test]
fn a_move_that_was_not_recorded_is_taken_back_and_can_be_made_again() {
    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    rig.shelf.books.lock().relocate_fails = Some(Error::InsufficientStorage { required: 9, available: 0 });
    assert!(matches!(rig.path_of(key), Err(Error::InsufficientStorage { .. })));
    assert!(rig.blobs().is_empty() && rig.pool.residue().is_empty());
    assert!(rig.shelf.books.lock().moving.is_empty());
    assert_eq!(rig.read(key).unwrap(), "hello");
    rig.path_of(key).unwrap();
}

#[test]
fn a_move_whose_record_may_be_there_leaves_its_blob() {
    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    rig.shelf.books.lock().relocate_fails = Some(Error::Poisoned { outcome: Outcome::Unknown });
    assert!(matches!(rig.path_of(key), Err(Error::Poisoned { .. })));
    assert_eq!(rig.blobs(), [(0, b"hello".to_vec())]);
    assert!(rig.pool.residue().is_empty());
}

#[test]
fn whoever_finds_a_move_under_way_is_woken_at_its_end() {
    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    rig.shelf.books.lock().closed = true;
    let (mut first, mut second) = (Box::pin(rig.materialize(key)), Box::pin(rig.materialize(key)));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    rig.shelf.books.lock().closed = false;
    rig.shelf.gate.notify_waiters();
    let path = rig.run(first).unwrap();
    // The clock stands still: nobody but the first can have woken the second.
    assert_eq!(rig.run(second).unwrap(), path);
    assert_eq!(rig.blobs().len(), 1);
}

#[test]
fn a_move_that_was_given_up_lets_others_go_on() {
    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    rig.shelf.books.lock().closed = true;
    let mut first = Box::pin(rig.materialize(key));
    assert!(poll_once(first.as_mut()).is_pending());
    let mut second = Box::pin(rig.materialize(key));
    assert!(poll_once(second.as_mut()).is_pending());
    drop(first);
    rig.shelf.books.lock().closed = false;
    rig.run(second).unwrap();
    assert!(rig.shelf.books.lock().moving.is_empty() && rig.pool.volumes()[0].in_flight == 0);
}

#[test]
fn a_move_by_the_store_itself_is_looked_after_by_the_clock() {
    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    let theirs = rig.shelf.begin_move(rig.acme.id(), &key).unwrap();
    let mut ours = Box::pin(rig.materialize(key));
    assert!(poll_once(ours.as_mut()).is_pending());
    drop(theirs);
    rig.clock.advance(Duration::from_millis(100));
    rig.run(ours).unwrap();
}

// ---- residue of moves, over the real store ------------------------------------------------------------------------

/// An engine that takes small content itself, with one volume, whose file waits in the middle of a move.
fn hung_move() -> (Bench, Arc<Hanging>, FileKey) {
    let mut world = World::new(1, EngineOptions::default()).with_inline(1_024);
    world.volumes = 1;
    let engine = world.open().unwrap();
    let (pool, scheduler) = (engine.pool.clone(), engine.scheduler.clone());
    let (acme, other) = (engine.tenants[0].clone(), engine.tenants[1].clone());
    let mut bench = Bench { world, engine, pool, scheduler, acme, other };
    let hanging = bench.hanging(0);
    let key = bench.write("hello");
    hanging.hang(Hang::After);
    let given_up = materialize(&bench, key);
    assert!(bench.poll(10, given_up).is_none());
    hanging.go();
    (bench, hanging, key)
}

fn materialize(bench: &Bench, key: FileKey) -> impl Future<Output = Result<PathBuf>> + 'static {
    let (pool, acme) = (bench.pool.clone(), bench.acme.clone());
    async move { pool.materialize(&acme, &key).await }
}

fn tidy(bench: &mut Bench) -> usize {
    let (pool, store) = (bench.pool.clone(), bench.engine.store.clone());
    bench.run(async move { pool.tidy_residue(&*store).await })
}

#[test]
fn b88_what_a_move_that_was_given_up_left_is_removed() {
    let (mut bench, _, key) = hung_move();
    assert_eq!((bench.blobs(), bench.pool.residue().len()), (vec![key], 1));
    let sweeper = bench.engine.sweeper.clone();
    assert_eq!(bench.run(sweeper.reap_step()).unwrap().copies_removed, 1);
    assert_eq!([tidy(&mut bench), tidy(&mut bench)], [1, 0], "gone when it was found absent twice");
    assert!(bench.blobs().is_empty());
    assert_eq!(bench.read(key).unwrap(), b"hello");
}

#[test]
fn b88_what_a_move_that_was_given_up_left_is_adopted_by_the_next_and_then_not_removed() {
    let (mut bench, _, key) = hung_move();
    let again = materialize(&bench, key);
    bench.run(again).unwrap();
    assert_eq!((tidy(&mut bench), bench.blobs()), (0, vec![key]));
    assert_eq!(bench.read(key).unwrap(), b"hello");
}

#[test]
fn b88_residue_under_the_name_of_a_move_under_way_is_left_to_that() {
    let (mut bench, hanging, key) = hung_move();
    hanging.hang(Hang::Before);
    let mut again = Box::pin(materialize(&bench, key));
    assert!(poll_once(again.as_mut()).is_pending());
    assert_eq!((tidy(&mut bench), bench.blobs()), (1, vec![key]));
    hanging.go();
    bench.run(again).unwrap();
    assert_eq!((tidy(&mut bench), bench.blobs()), (0, vec![key]));
    assert_eq!(bench.read(key).unwrap(), b"hello");
}

// ---- spilling ---------------------------------------------------------------------------------------------------

#[test]
fn b88_a_step_spills_several_and_what_was_completed_meanwhile_leaves_nothing() {
    let mut rig = Rig::new(2);
    let keys: Vec<_> = (0..40).map(|n| rig.write(vec![n; 10])).collect();
    let gone = keys[0];
    rig.shelf.books.lock().on_relocate = Some(Box::new(move |books| books.complete(gone)));
    let report = rig.spill();
    assert_eq!((report.moved, report.bytes, report.over, report.failed), (39, 390, 1, 0));
    assert_eq!(rig.blobs().len(), 39);
    for (n, key) in keys.iter().enumerate().skip(1) {
        assert!(matches!(rig.place(*key), Place::Volume(_)));
        assert_eq!(rig.read(*key).unwrap(), vec![n as u8; 10]);
    }
    assert!(rig.pool.residue().is_empty() && rig.shelf.books.lock().moving.is_empty());
    assert_eq!(rig.spill(), SpillReport::default());
}

#[test]
fn moves_under_way_at_once_go_to_several_volumes() {
    let mut rig = Rig::new(2);
    for n in 0..10 {
        rig.write(vec![n; 10]);
    }
    rig.shelf.books.lock().closed = true;
    let pool = rig.pool.clone();
    rig.run(pool.probe_all()); // both have the same room
    let mut step = Box::pin(async move { pool.spill_step().await });
    assert!(poll_once(step.as_mut()).is_pending());
    assert!(rig.pool.volumes().iter().all(|volume| volume.in_flight == 50));
    rig.shelf.books.lock().closed = false;
    rig.shelf.gate.notify_waiters();
    assert_eq!(rig.run(step).unwrap().moved, 10);
    assert_eq!(rig.blobs().iter().filter(|(volume, _)| *volume == 0).count(), 5);
}

#[test]
fn contents_that_cannot_be_spilled_stay_and_are_counted() {
    let mut rig = Rig::new(0);
    let key = rig.write("hello");
    let report = rig.spill();
    assert_eq!((report.moved, report.failed), (0, 1));
    assert_eq!(rig.read(key).unwrap(), "hello");
    assert!(rig.shelf.books.lock().moving.is_empty());
}

#[test]
fn a_step_that_was_dropped_leaves_no_right_taken() {
    let mut rig = Rig::new(1);
    for n in 0..40 {
        rig.write(vec![n; 10]);
    }
    rig.shelf.books.lock().closed = true;
    let pool = rig.pool.clone();
    let mut step = Box::pin(async move { pool.spill_step().await });
    assert!(poll_once(step.as_mut()).is_pending());
    assert_eq!(rig.shelf.books.lock().moving.len(), 40);
    drop(step);
    assert!(rig.shelf.books.lock().moving.is_empty() && rig.pool.volumes()[0].in_flight == 0);
    rig.shelf.books.lock().closed = false;
    assert_eq!(rig.spill().moved, 40);
}

#[test]
fn the_spiller_waits_to_be_wanted_backs_off_when_it_gets_nowhere_and_ends_with_the_store() {
    fn assert_send<T: Send>(future: T) -> T {
        future
    }
    let mut rig = Rig::new(1);
    let key = rig.write("hello");
    let pool = rig.pool.clone();
    let spiller = rig.stepper.spawn(assert_send(async move { pool.run_spiller().await }));
    rig.stepper.run_until_idle();
    assert_eq!(rig.place(key), Place::Store);

    let fault =
        rig.disk.fail(Fault::io().for_good().on(OpKind::Create).at(|path| path.starts_with("/vol-0")));
    for wait in [100, 200, 400] {
        rig.shelf.wanted.notify_one();
        rig.stepper.run_until_idle();
        rig.shelf.wanted.notify_one(); // not heard before the wait is over
        rig.stepper.run_until_idle();
        assert_eq!(rig.clock.sleepers(), 1);
        rig.clock.advance(Duration::from_millis(wait - 1));
        rig.stepper.run_until_idle();
        assert_eq!(rig.clock.sleepers(), 1, "after {wait} ms");
        if wait < 400 {
            rig.clock.advance(Duration::from_millis(1));
        }
    }
    rig.disk.heal(fault);
    let pool = rig.pool.clone();
    rig.run(pool.probe_all()); // the watch over volumes finds that all is well
    rig.clock.advance(Duration::from_millis(1));
    rig.stepper.run_until_idle();
    assert_eq!(rig.place(key), Place::Volume(vol(0)));
    assert!(!rig.stepper.is_done(spiller));

    rig.shelf.books.lock().spill_fails = Some(Error::ShuttingDown);
    rig.shelf.wanted.notify_one();
    rig.stepper.run_until_idle();
    assert!(rig.stepper.is_done(spiller));
}
