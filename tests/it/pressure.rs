//! Readers beside a journal whose segments are reused, whose contents are copied forward and spilled all the time.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use blake3::Hash;
use locus::{Clock, Durability, SystemClock, prelude::*};
use locus_testkit::SeededEntropy;
use parking_lot::Mutex;
use rstest::rstest;
use tokio::runtime;

use crate::support::{chain, content, in_time, number, seed};

const READERS: u64 = 64;
const CREW: u64 = 8;
const INLINE_MAX: u64 = 32 << 10;

/// Files that each reader comes back to later.
const REMEMBERED: usize = 32;

/// The zone is four segments of 1 MiB: more live bytes than that have to be spilled.
const ZONE: u64 = 4 << 20;
const LOW_WATER: u64 = 1 << 20;

/// Files that each of the crew leaves lying while the segments around them die.
const STRAGGLERS: usize = 6;

/// A file that lives, by the number of its write.
#[derive(Debug, Clone, Copy)]
struct File {
    key: FileKey,
    bytes: u64,
    hash: Hash,
}

/// What is shared by readers and crew.
#[derive(Debug)]
struct Scene {
    locus: Locus,
    acme: TenantContext,
    seed: u64,
    /// Confirmed, and nobody has begun to complete it.
    living: Mutex<BTreeMap<u64, File>>,
    live_bytes: AtomicU64,
    writes: AtomicU64,
    completed: AtomicU64,
    whole_reads: AtomicU64,
    range_reads: AtomicU64,
    found_completed: AtomicU64,
    over: AtomicBool,
}

/// Ends the scene, also when its holder panics.
struct Over<'a>(&'a Scene);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Relaxed);
    }
}

/// How long the crew goes on.
#[derive(Debug, Clone, Copy)]
enum Until {
    Seconds(u64),
    /// At least one tide.
    AllSeen,
}

impl Scene {
    /// Reads files at random until the scene is over; now and then one that it came across before, which may be completed
    /// by now.
    async fn read(&self, reader: u64) {
        let random = SeededEntropy::new(self.seed ^ (reader << 40));
        let mut before = VecDeque::new();
        while !self.over.load(Relaxed) {
            let Some((n, file)) = self.any(&random) else {
                tokio::task::yield_now().await;
                continue;
            };
            match random.below(8) {
                0 => self.range(n, file, &random).await,
                1 => self.whole(n, file, Some(&random)).await,
                _ => self.whole(n, file, None).await,
            }
            if random.below(4) == 0 {
                before.push_back((n, file));
            }
            if before.len() > REMEMBERED
                && let Some((n, file)) = before.pop_front()
            {
                self.whole(n, file, None).await;
            }
        }
    }

    fn any(&self, random: &SeededEntropy) -> Option<(u64, File)> {
        let living = self.living.lock();
        let (first, last) = (*living.first_key_value()?.0, *living.last_key_value()?.0);
        // Old and young ones alike: the young crowd together, and there are few old ones.
        let n = match random.below(4) {
            0 => first,
            _ => first + random.below(last - first + 1),
        };
        living.range(n..).next().map(|(n, file)| (*n, *file))
    }

    /// Reads a file; with `slowly`, other files are read between its opening and its bytes.
    async fn whole(&self, n: u64, file: File, slowly: Option<&SeededEntropy>) {
        let read = async {
            let reader = self.locus.pool().read(&self.acme, &file.key).await?;
            if let Some(random) = slowly {
                for (n, file) in (0..8).filter_map(|_| self.any(random)) {
                    self.range(n, file, random).await;
                }
            }
            reader.bytes().await
        };
        let read = in_time("a read", read).await.map(|bytes| {
            assert_eq!(blake3::hash(&bytes), file.hash, "write {n} of {} bytes", file.bytes);
        });
        self.count(n, file, &self.whole_reads, read);
    }

    /// Reads some of a file.
    async fn range(&self, n: u64, file: File, random: &SeededEntropy) {
        let from = random.below(file.bytes + 1);
        let range = from..from + random.below(file.bytes - from + 1);
        let read = self.locus.pool().read_range(&self.acme, &file.key, range.clone());
        let read = in_time("a range", read).await.map(|bytes| {
            let whole = content(self.seed, n, file.bytes);
            let [from, to] = [range.start, range.end].map(|at| usize::try_from(at).unwrap());
            assert!(bytes[..] == whole[from..to], "write {n}: bytes {range:?} of {} are others", file.bytes);
        });
        self.count(n, file, &self.range_reads, read);
    }

    fn count(&self, n: u64, file: File, reads: &AtomicU64, read: Result<(), Error>) {
        match read {
            Ok(()) => reads.fetch_add(1, Relaxed),
            Err(Error::FileNotFound { key }) => {
                let lives = self.living.lock().contains_key(&n);
                assert!(
                    !lives && key == file.key,
                    "write {n} of {} bytes lives and is not found",
                    file.bytes
                );
                self.found_completed.fetch_add(1, Relaxed)
            }
            Err(error) => panic!("write {n} of {} bytes: {}", file.bytes, chain(&error)),
        };
    }

    /// Segments were reused, contents copied forward and spilled, files completed under the eyes of readers.
    fn all_seen(&self) -> bool {
        let statistics = self.locus.statistics();
        let counts = [statistics.segments_reused, statistics.copied_forward, statistics.spilled];
        counts.iter().all(|count| *count > 0) && self.found_completed.load(Relaxed) > 0
    }

    /// One of the crew: tides of live bytes, and between them a quick turn of files around stragglers.
    async fn work(&self, me: u64, until: Until, clock: &SystemClock) {
        let random = SeededEntropy::new(self.seed ^ (me << 52));
        let mut stragglers = VecDeque::new();
        let mut tides = 0;
        let goes_on = |tides: u64| match until {
            Until::Seconds(seconds) => clock.monotonic() < Duration::from_secs(seconds),
            Until::AllSeen => tides == 0 || (tides < 50 && !self.all_seen()),
        };
        let high_water = match until {
            Until::Seconds(_) => 3 * ZONE,
            Until::AllSeen => ZONE + ZONE / 2,
        };
        while goes_on(tides) && !self.over.load(Relaxed) {
            while self.live_bytes.load(Relaxed) < high_water && goes_on(tides) {
                self.write(&random).await;
            }
            while self.live_bytes.load(Relaxed) > LOW_WATER
                && self.complete(&mut stragglers, STRAGGLERS).await
            {}
            for _ in 0..100 {
                self.write(&random).await;
                self.complete(&mut stragglers, STRAGGLERS).await;
            }
            tides += 1;
        }
        while let Some(straggler) = stragglers.pop_front() {
            self.end(straggler).await;
        }
    }

    async fn write(&self, random: &SeededEntropy) {
        let n = self.writes.fetch_add(1, Relaxed);
        let bytes = match random.below(24) {
            0 => 0,
            1 => INLINE_MAX,
            2 => INLINE_MAX + 1 + random.below(100 << 10),
            _ => random.below(INLINE_MAX),
        };
        let content = content(self.seed, n, bytes);
        let hash = blake3::hash(&content);
        let options = WriteOptions::new().original_name(format!("{n}.bin"));
        let written = in_time("a write", self.locus.pool().write(&self.acme, content, options)).await;
        let key = written.unwrap_or_else(|error| panic!("write {n}: {}", chain(&error)));
        self.live_bytes.fetch_add(bytes, Relaxed);
        self.living.lock().insert(n, File { key, bytes, hash });
    }

    /// Takes the next file and completes it, or one that was left lying before. `false` when there is no next file.
    async fn complete(&self, stragglers: &mut VecDeque<LeasedFile>, keep: usize) -> bool {
        let Some(file) = self.locus.scheduler().next(&self.acme).await.unwrap() else { return false };
        if self.completed.load(Relaxed).is_multiple_of(16) {
            stragglers.push_back(file);
            self.completed.fetch_add(1, Relaxed);
            if stragglers.len() > keep {
                self.end(stragglers.pop_front().unwrap()).await;
            }
        } else {
            self.end(file).await;
        }
        true
    }

    async fn end(&self, file: LeasedFile) {
        let n = file.original_name.as_deref().unwrap().trim_end_matches(".bin").parse().unwrap();
        // A worker may be faster than the answer to the writer.
        let known = async {
            while self.living.lock().remove(&n).is_none() {
                tokio::task::yield_now().await;
            }
        };
        in_time("the answer to a writer", known).await;
        self.locus.scheduler().complete(&file.lease).await.unwrap();
        self.live_bytes.fetch_sub(file.size, Relaxed);
        self.completed.fetch_add(1, Relaxed);
    }
}

/// Reads while segments are reused, in a directory of its own.
fn read_under_pressure(durability: Durability, until: Until) {
    let (seed, temp) = (seed(), tempfile::tempdir().unwrap());
    let runtime = runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let (locus, acme) = runtime.block_on(async {
        let builder = Locus::builder()
            .data_dir(temp.path().join("data"))
            .add_volume(LocalVolume::new("vol-001", temp.path().join("vol-001")))
            .add_tenant("acme")
            .durability(durability)
            .segment_size(1 << 20)
            .landing_zone_max(ZONE)
            .inline_content_max(INLINE_MAX);
        let locus = builder.build().await.unwrap();
        let acme = locus.tenants().get("acme").await.unwrap();
        (locus, acme)
    });
    let scene = Scene {
        locus,
        acme,
        seed,
        living: Mutex::default(),
        live_bytes: AtomicU64::new(0),
        writes: AtomicU64::new(0),
        completed: AtomicU64::new(0),
        whole_reads: AtomicU64::new(0),
        range_reads: AtomicU64::new(0),
        found_completed: AtomicU64::new(0),
        over: AtomicBool::new(false),
    };
    let scene = Arc::new(scene);
    let clock = Arc::new(SystemClock::new());
    thread::scope(|threads| {
        for reader in 0..READERS {
            let scene = &scene;
            threads.spawn(move || {
                let _over = Over(scene);
                let own = runtime::Builder::new_current_thread().enable_all().build().unwrap();
                own.block_on(scene.read(reader));
            });
        }
        let _over = Over(&scene);
        let crew: Vec<_> = (0..CREW)
            .map(|me| {
                let (scene, clock) = (Arc::clone(&scene), Arc::clone(&clock));
                runtime.spawn(async move { scene.work(me, until, &clock).await })
            })
            .collect();
        runtime.block_on(async {
            for worker in crew {
                worker.await.unwrap();
            }
        });
    });

    let statistics = scene.locus.statistics();
    let [whole, ranges, gone, writes] =
        [&scene.whole_reads, &scene.range_reads, &scene.found_completed, &scene.writes]
            .map(|count| count.load(Relaxed));
    println!(
        "{durability:?}, {} ms: {whole} whole reads, {ranges} of ranges, {gone} of files completed meanwhile; \
         {writes} writes, {} segments reused, {} copied forward, {} spilled, {} checkpoints",
        clock.monotonic().as_millis(),
        statistics.segments_reused,
        statistics.copied_forward,
        statistics.spilled,
        statistics.checkpoints,
    );
    assert!(whole > 0 && ranges > 0 && scene.all_seen());
    runtime.block_on(async {
        while scene.complete(&mut VecDeque::new(), 0).await {}
        scene.locus.cleanup().settled().await.unwrap();
        assert!(scene.locus.counts().is_empty() && scene.living.lock().is_empty());
        assert_eq!(scene.locus.cleanup().leftovers().await.unwrap().orphans_removed, 0);
        scene.locus.shutdown().await.unwrap();
    });
}

#[rstest]
#[ignore = "runs for a minute"]
fn b91_readers_find_their_own_bytes_while_segments_are_reused_for_a_minute(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    read_under_pressure(durability, Until::Seconds(number("LOCUS_PRESSURE_SECONDS", 60)));
}

#[rstest]
fn b91_readers_find_their_own_bytes_while_segments_are_reused(
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    read_under_pressure(durability, Until::AllSeen);
}
