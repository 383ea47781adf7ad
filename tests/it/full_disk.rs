//! A disk is filled to its last byte under many writers, and drained by workers.

use std::{
    collections::HashMap,
    io::ErrorKind::StorageFull,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use blake3::Hash;
use locus::{Clock, Disk, Durability, OsDisk, SystemClock, prelude::*};
use locus_fs::EntryKind;
use locus_testkit::{SeededEntropy, SimDisk};
use parking_lot::Mutex;
use rstest::rstest;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::{
    kernel::{Need, can},
    loop_disk::LoopDisk,
    support::{chain, content, in_time, number, seed},
};

const WRITERS: u64 = 16;
const WORKERS: usize = 16;

/// A writer gives up after so many refusals in a row.
const REFUSALS: u64 = 5;

/// Most bytes that the filler takes at once.
const FILLER_PIECE_MAX: usize = 256 << 10;

/// A disk, what lies on it, and the numbers of its size.
#[derive(Debug, Clone)]
struct World {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    seed: u64,
    inline_max: u64,
    content_max: u64,
    /// Files that are written when there is room again.
    files_after: u64,
}

impl World {
    fn builder(&self, plan: Plan) -> Builder {
        let mut settings = Settings::default();
        settings.background.probe_interval = Duration::from_millis(200);
        Locus::builder()
            .settings(settings)
            .data_dir(self.dir.join("data"))
            .add_volume(LocalVolume::new("vol-001", self.volume()))
            .add_tenant("acme")
            .disk(Arc::clone(&self.disk))
            .durability(plan.durability)
            .segment_size(1 << 20)
            .landing_zone_max(plan.landing_zone_max)
            .inline_content_max(self.inline_max)
    }

    fn volume(&self) -> PathBuf {
        self.dir.join("vol-001")
    }

    fn available(&self) -> u64 {
        self.disk.space(&self.dir).unwrap().available
    }

    fn filler(&self) -> PathBuf {
        self.dir.join("filler")
    }

    /// Takes every byte that is left, and says how many were. Blocks the thread.
    fn fill_up(&self) -> u64 {
        let path = self.filler();
        let file = self.disk.open(&path, true).unwrap();
        let before = file.len().unwrap();
        let mut piece_max = FILLER_PIECE_MAX;
        // Room may be made while it is taken: by the store, and by a file system that had counted with the worst.
        while let room @ 1.. = self.available() {
            let piece = vec![0xf1; piece_max.min(usize::try_from(room).unwrap())];
            match file.write_at(&piece, file.len().unwrap()) {
                Ok(()) => piece_max = FILLER_PIECE_MAX,
                Err(error) if error.kind() == StorageFull && piece.len() > 1 => piece_max = piece.len() / 2,
                Err(error) if error.kind() == StorageFull => break,
                Err(error) => panic!("{}: {error}", path.display()),
            }
            if self.available() == 0 {
                file.sync_data().unwrap();
            }
        }
        file.len().unwrap() - before
    }

    fn make_room(&self) {
        self.disk.remove_file(&self.filler()).unwrap();
    }

    /// Everything on the volume that is no directory.
    fn files_on_volume(&self) -> Vec<PathBuf> {
        files_below(&*self.disk, &self.volume())
    }
}

fn files_below(disk: &dyn Disk, dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in disk.read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let path = dir.join(&entry.name);
        match entry.kind {
            EntryKind::Dir => files.extend(files_below(disk, &path)),
            _ => files.push(path),
        }
    }
    files
}

/// What was written and what became of it, kept outside of the store.
#[derive(Debug, Default)]
struct Book {
    writes: Mutex<HashMap<u64, Write>>,
    next: AtomicU64,
    refused: AtomicU64,
    deliveries: AtomicU64,
}

#[derive(Debug)]
struct Write {
    hash: Hash,
    bytes: u64,
    /// `None`: under way, or refused.
    confirmed: Option<FileKey>,
    refused: bool,
    delivered: Option<FileKey>,
    completed: bool,
}

impl Book {
    /// Notes a write before it is made.
    fn begin(&self, seed: u64, bytes: u64) -> (u64, Vec<u8>) {
        let n = self.next.fetch_add(1, Relaxed);
        let content = content(seed, n, bytes);
        let hash = blake3::hash(&content);
        let write = Write { hash, bytes, confirmed: None, refused: false, delivered: None, completed: false };
        self.writes.lock().insert(n, write);
        (n, content)
    }

    fn ended(&self, n: u64, written: Result<FileKey, Error>) -> bool {
        let mut writes = self.writes.lock();
        let write = writes.get_mut(&n).unwrap();
        match written {
            Ok(key) => write.confirmed = Some(key),
            Err(Error::InsufficientStorage { .. }) => {
                write.refused = true;
                self.refused.fetch_add(1, Relaxed);
            }
            Err(error) => {
                panic!("write {n} of {} bytes was not refused cleanly: {}", write.bytes, chain(&error))
            }
        }
        write.confirmed.is_some()
    }

    fn delivered(&self, file: &LeasedFile, bytes: &[u8]) -> u64 {
        let name = file.original_name.as_deref().unwrap();
        let n = name.trim_end_matches(".bin").parse().unwrap();
        let mut writes = self.writes.lock();
        let write = writes.get_mut(&n).unwrap_or_else(|| panic!("write {n} was never made"));
        assert!(!write.refused, "write {n} was refused and is delivered");
        assert_eq!(bytes.len() as u64, write.bytes, "write {n}");
        assert_eq!(blake3::hash(bytes), write.hash, "write {n} of {} bytes has other content", write.bytes);
        assert_eq!(write.delivered.replace(file.key), None, "write {n} is delivered twice");
        self.deliveries.fetch_add(1, Relaxed);
        n
    }

    fn completed(&self, n: u64) {
        let mut writes = self.writes.lock();
        let write = writes.get_mut(&n).unwrap();
        assert!(!std::mem::replace(&mut write.completed, true), "write {n} is completed twice");
    }

    /// Files confirmed and not yet completed.
    fn living(&self) -> Vec<(FileKey, Hash)> {
        let writes = self.writes.lock();
        let living = writes.values().filter(|write| !write.completed);
        living.filter_map(|write| Some((write.confirmed?, write.hash))).collect()
    }

    /// Every confirmed file was completed, once, under the key that was confirmed; and nothing else was.
    fn close(&self) {
        for (n, write) in self.writes.lock().drain() {
            assert!(write.confirmed.is_some() != write.refused, "write {n}: {write:?}");
            assert_eq!(write.delivered, write.confirmed, "write {n}: {write:?}");
            assert_eq!(write.completed, write.confirmed.is_some(), "write {n}: {write:?}");
        }
    }
}

/// How one time of filling and draining goes.
#[derive(Debug, Clone, Copy)]
struct Plan {
    durability: Durability,
    landing_zone_max: u64,
    /// Whatever the drain frees is taken away at once, until all is drained.
    stays_full: bool,
    /// What happens to the process while the disk is full.
    at_full: Option<End>,
}

/// How a process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Shutdown,
    /// Its tasks stop wherever they are.
    Killed,
}

/// An open store and those who use it.
#[derive(Debug, Clone)]
struct Session {
    world: World,
    book: Arc<Book>,
    locus: Locus,
    acme: TenantContext,
}

impl World {
    /// Opens the store in a runtime of its own, does `what`, and ends as `end` says.
    fn session<T>(&self, book: &Arc<Book>, plan: Plan, end: End, what: impl AsyncFnOnce(&Session) -> T) -> T {
        let runtime = Runtime::new().unwrap();
        let (session, done) = runtime.block_on(async {
            let locus = in_time("an open store", self.open(plan)).await;
            let acme = locus.tenants().get("acme").await.unwrap();
            let session = Session { world: self.clone(), book: Arc::clone(book), locus, acme };
            let done = what(&session).await;
            if end == End::Shutdown {
                in_time("a closed store", session.locus.shutdown()).await.unwrap();
            }
            (session, done)
        });
        drop(runtime);
        drop(session);
        done
    }

    /// The threads of a process that is gone hold the directory until their last write is over.
    async fn open(&self, plan: Plan) -> Locus {
        loop {
            match self.builder(plan).build().await {
                Ok(locus) => return locus,
                Err(Error::AlreadyOpen { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("with {} bytes available: {}", self.available(), chain(&error)),
            }
        }
    }
}

impl Session {
    /// Makes one write, and says whether it was taken.
    async fn write(&self, bytes: u64) -> bool {
        let (n, content) = self.book.begin(self.world.seed, bytes);
        let options = WriteOptions::new().original_name(format!("{n}.bin")).directory(format!("/{}", n % 4));
        let written = in_time("a write", self.locus.pool().write(&self.acme, content, options)).await;
        self.book.ended(n, written)
    }

    /// All writers write until each is refused several times in a row. Says how many writes were taken.
    async fn write_until_refused(&self, bytes_max: u64) -> u64 {
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let session = self.clone();
            let random = SeededEntropy::new(self.world.seed ^ self.book.next.load(Relaxed) ^ (writer << 48));
            writers.spawn(async move {
                let (mut taken, mut refused) = (0, 0);
                while refused < REFUSALS {
                    if session.write(session.bytes(&random, bytes_max)).await {
                        (taken, refused) = (taken + 1, 0);
                    } else {
                        refused += 1;
                    }
                }
                taken
            });
        }
        writers.join_all().await.into_iter().sum()
    }

    /// As many short contents as long ones, and some that are empty or as long as either way takes.
    fn bytes(&self, random: &SeededEntropy, max: u64) -> u64 {
        let inline = self.world.inline_max.min(max);
        match random.below(32) {
            0 => 0,
            1 => inline,
            2 => max,
            n if n % 2 == 0 => random.below(inline + 1),
            _ => random.below(max + 1),
        }
    }

    async fn fill_up(&self) -> u64 {
        let world = self.world.clone();
        tokio::task::spawn_blocking(move || world.fill_up()).await.unwrap()
    }

    /// Not a byte is left, and nobody can make one. Says how many bytes were left at first.
    async fn fill(&self) -> u64 {
        let mut filled = self.fill_up().await;
        for _ in 0..1_000 {
            let taken = self.write_until_refused(self.world.inline_max).await;
            let more = self.fill_up().await;
            if taken == 0 && more == 0 && self.world.available() == 0 {
                return filled;
            }
            filled += more;
        }
        panic!("{} bytes are still available", self.world.available());
    }

    /// Workers complete every file, while writers go on to try.
    async fn drain(&self, stays_full: bool) {
        let drained = Arc::new(AtomicBool::new(false));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let (session, drained) = (self.clone(), Arc::clone(&drained));
            let random = SeededEntropy::new(self.world.seed ^ self.book.next.load(Relaxed) ^ (writer << 48));
            writers.spawn(async move {
                let mut taken = 0;
                while taken < 16 && !drained.load(Relaxed) {
                    let bytes = session.bytes(&random, session.world.content_max);
                    taken += u64::from(session.write(bytes).await);
                    tokio::task::yield_now().await;
                }
            });
        }
        self.work(stays_full).await;
        drained.store(true, Relaxed);
        writers.join_all().await;
        self.work(stays_full).await;
    }

    /// Workers complete files until there are none.
    async fn work(&self, stays_full: bool) {
        let mut workers = JoinSet::new();
        let filling = Arc::new(tokio::sync::Mutex::new(()));
        for _ in 0..WORKERS {
            let (session, filling) = (self.clone(), Arc::clone(&filling));
            workers.spawn(async move {
                while session.work_once().await {
                    if stays_full && let Ok(_alone) = filling.try_lock() {
                        session.fill_up().await;
                    }
                }
            });
        }
        workers.join_all().await;
    }

    async fn work_once(&self) -> bool {
        let scheduler = self.locus.scheduler();
        let file = match in_time("a lease", scheduler.next(&self.acme)).await {
            Ok(Some(file)) => file,
            Ok(None) => return false,
            Err(error) => panic!("lease: {}", chain(&error)),
        };
        let bytes = match self.locus.pool().read_leased(&file.lease).await {
            Ok(reader) => reader.bytes().await,
            Err(error) => Err(error),
        };
        let bytes = bytes.unwrap_or_else(|error| panic!("read {file:?}: {}", chain(&error)));
        let n = self.book.delivered(&file, &bytes);
        if let Err(error) = in_time("a completion", scheduler.complete(&file.lease)).await {
            panic!("complete {file:?}: {}", chain(&error));
        }
        self.book.completed(n);
        true
    }

    /// Writes until so many were taken: what is refused at first is taken once the room was seen.
    async fn write_again(&self, files: u64) -> u64 {
        let random = SeededEntropy::new(self.world.seed ^ self.book.next.load(Relaxed));
        let before = self.book.refused.load(Relaxed);
        let writing = async {
            for _ in 0..files {
                let bytes = self.bytes(&random, self.world.content_max);
                while !self.write(bytes).await {
                    tokio::task::yield_now().await;
                }
            }
        };
        in_time("room for writes", writing).await;
        self.book.refused.load(Relaxed) - before
    }

    /// Exactly what was confirmed is there, content and all.
    async fn check_living(&self) {
        // A completed file counts until its bytes are removed.
        in_time("all is removed", self.locus.cleanup().settled()).await.unwrap();
        let living = self.book.living();
        for (key, hash) in &living {
            let bytes = self.locus.pool().read(&self.acme, key).await.unwrap().bytes().await.unwrap();
            assert_eq!(blake3::hash(&bytes), *hash, "{key}");
        }
        assert_eq!(self.counted(), living.len() as u64);
    }

    fn counted(&self) -> u64 {
        let [global, tenant] = [Scope::Global, Scope::Tenant(self.acme.id().clone())]
            .map(|scope| self.locus.quotas().count(&scope));
        let directories = (0..4).map(|n| LogicalDir::parse(&format!("/{n}")).unwrap());
        let each = directories.map(|dir| Scope::Directory(self.acme.id().clone(), dir));
        let directories: u64 = each.map(|scope| self.locus.quotas().count(&scope)).sum();
        assert_eq!((global, directories), (tenant, tenant));
        global
    }

    /// Nothing is left of anything.
    async fn check_empty(&self) {
        in_time("all is removed", self.locus.cleanup().settled()).await.unwrap();
        assert_eq!(self.locus.scheduler().next(&self.acme).await.unwrap(), None);
        assert!(self.locus.counts().is_empty(), "{:?}", self.locus.counts());
        assert_eq!(self.counted(), 0);
        assert_eq!(self.locus.pool().residue(), []);
        let statistics = self.locus.statistics();
        assert_eq!((statistics.files_in_journal, statistics.bytes_in_journal), (0, 0));
        assert_eq!(self.world.files_on_volume(), [self.world.volume().join(".locus-volume")]);
    }
}

/// Fills and drains once, and closes and opens in between.
fn fill_and_drain(world: &World, plan: Plan) {
    world.disk.create_new(&world.filler()).unwrap(); // as long as there is room for its name
    let book = Arc::new(Book::default());
    let clock = SystemClock::new();
    let ms = |since: Duration| clock.monotonic().saturating_sub(since).as_millis();

    let fill = async |session: &Session| {
        let taken = session.write_until_refused(world.content_max).await;
        let filled = session.fill().await;
        let statistics = session.locus.statistics();
        let refused = book.refused.load(Relaxed);
        assert!(refused >= WRITERS * REFUSALS && taken > 0 && statistics.files_in_journal > 0);
        println!(
            "  full after {} ms: {} files, {} of them in the journal, {} spilled; filler {filled}; {refused} refusals",
            ms(Duration::ZERO),
            book.living().len(),
            statistics.files_in_journal,
            statistics.spilled,
        );
    };
    let drain = async |session: &Session| {
        session.fill_up().await;
        let (since, before, refused) = (clock.monotonic(), book.living().len(), book.refused.load(Relaxed));
        session.drain(plan.stays_full).await;
        let statistics = session.locus.statistics();
        println!(
            "  drained in {} ms: {} files, {} of them written meanwhile; {} refusals; {} checkpoints, {} segments reused",
            ms(since),
            book.deliveries.load(Relaxed),
            book.deliveries.load(Relaxed) - before as u64,
            book.refused.load(Relaxed) - refused,
            statistics.checkpoints,
            statistics.segments_reused,
        );
        session.check_empty().await;
        world.make_room();
        let since = clock.monotonic();
        let refused = session.write_again(world.files_after).await;
        println!("  {} files written again in {} ms, {refused} refusals", world.files_after, ms(since));
    };

    match plan.at_full {
        None => world.session(&book, plan, End::Shutdown, async |session| {
            fill(session).await;
            drain(session).await;
        }),
        Some(end) => {
            world.session(&book, plan, end, fill);
            world.fill_up();
            world.session(&book, plan, End::Shutdown, async |session| {
                session.check_living().await;
                session.fill_up().await;
                drain(session).await;
            });
        }
    }
    // Closed, then killed, with files in it.
    world.session(&book, plan, End::Killed, async |session| {
        session.check_living().await;
        for _ in 0..world.files_after / 2 {
            assert!(session.work_once().await);
        }
    });
    world.session(&book, plan, End::Shutdown, async |session| {
        session.check_living().await;
        session.work(false).await;
        session.check_empty().await;
        assert_eq!(session.locus.cleanup().leftovers().await.unwrap().orphans_removed, 0);
    });
    world.session(&book, plan, End::Shutdown, Session::check_empty);
    book.close();
    println!("  over after {} ms", ms(Duration::ZERO));
}

/// Each plan comes round within 12 rounds.
fn plan(round: u64, zones: [u64; 2]) -> Plan {
    let is_odd = |n: u64| n % 2 == 1;
    Plan {
        durability: if is_odd(round) { Durability::Buffered } else { Durability::Durable },
        landing_zone_max: zones[usize::from(is_odd(round.div_ceil(2)))],
        stays_full: is_odd(round / 2),
        at_full: [None, Some(End::Killed), Some(End::Shutdown)][usize::try_from(round % 3).unwrap()],
    }
}

/// `zones`: landing zones that a disk has room for, and less.
fn rounds(world: &World, zones: [u64; 2], rounds: u64) {
    for round in 0..rounds {
        let plan = plan(round, zones);
        println!("round {round}: {plan:?}, {} bytes available", world.available());
        fill_and_drain(&World { seed: world.seed ^ (round << 32), ..world.clone() }, plan);
    }
}

/// `LOCUS_FULL_DISK_ROUNDS` says how many times; 2 unless it does.
#[rstest]
fn b65_a_file_system_filled_to_the_last_byte_is_drained_again_and_again(
    #[values(true, false)] in_memory: bool,
) {
    if !can("file systems filled to the last byte", &Need::DISK) {
        return;
    }
    let seed = seed();
    let mounted = if in_memory { LoopDisk::in_memory("size=96m") } else { LoopDisk::new(96 << 20) };
    let world = World {
        disk: Arc::new(OsDisk),
        dir: mounted.dir(),
        seed,
        inline_max: 32 << 10,
        content_max: 200 << 10,
        files_after: 64,
    };
    rounds(&world, [32 << 20, 8 << 20], number("LOCUS_FULL_DISK_ROUNDS", 2));
}

#[test]
fn b65_a_small_disk_filled_to_the_last_byte_is_drained_in_every_way() {
    let seed = seed();
    let disk = SimDisk::new(seed);
    disk.set_capacity(24 << 20);
    let world =
        World { disk, dir: "/".into(), seed, inline_max: 32 << 10, content_max: 200 << 10, files_after: 16 };
    rounds(&world, [8 << 20, 4 << 20], 12);
}
