//! Every operation of the disk failed, one after the other: EIO, ENOSPC, EMFILE, EINTR and a short write, once and for
//! good, under one story that uses everything there is.
//!
//! Whatever fails: each call succeeds or says cleanly why not, nobody panics or waits for ever, a call that was refused
//! has done nothing, and what was confirmed is there after reopening. The store goes on, or is poisoned when its log
//! failed, and then reopens.
//!
//! `LOCUS_FAULTS=1` fails every operation, `LOCUS_FAULTS=n` every n-th; without it a sample is taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::Duration,
};

use locus_cleanup::SweepOptions;
use locus_core::{
    Durability, Error, FileKey, FileStatus, IdempotencyKey, Lease, LeaseOptions, Limit, MetadataStore,
    Outcome, Owner, Result, Scope, Upkeep, VolumeSet,
};
use locus_storage::{EngineOptions, WriteOptions};
use locus_testkit::{Fault, FaultId, OpKind};
use rstest::rstest;

use crate::world::{End, Engine, World};

const INLINE: u64 = 32 << 10;
const SMALL: usize = 3_000;
const BULKY: usize = 31_000;
const LARGE: usize = 50_000;
/// A call that takes longer than this hangs: nothing in the engine waits for so long on a disk that answers.
const PATIENCE: Duration = Duration::from_secs(600);

fn options(durability: Durability) -> EngineOptions {
    EngineOptions {
        durability,
        segment_size: 1 << 20,
        landing_zone_max: Some(4 << 20),
        visibility_timeout: Duration::from_secs(24 * 60 * 60),
        ..EngineOptions::default()
    }
}

/// Which operation fails, how and for how long.
#[derive(Debug, Clone, Copy)]
struct Plan {
    op: u64,
    kind: Kind,
    for_good: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Io,
    NoSpace,
    TooManyFiles,
    Interrupted,
    ShortWrite,
}

impl Plan {
    fn fault(self) -> Fault {
        let fault = match self.kind {
            Kind::Io => Fault::io(),
            Kind::NoSpace => Fault::no_space(),
            Kind::TooManyFiles => Fault::too_many_files(),
            Kind::Interrupted => Fault::interrupted(),
            Kind::ShortWrite => Fault::short_write(),
        };
        let fault = fault.from_op(self.op);
        if self.for_good { fault.for_good() } else { fault }
    }
}

/// What is known of a file from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Confirmed, and not over.
    Kept,
    /// Confirmed to be over.
    Over,
    /// A call that would have begun or ended it left that open.
    Doubtful,
    /// Its write was refused: it does not exist.
    Refused,
}

#[derive(Debug)]
struct Known {
    tenant: usize,
    /// Unknown of a file whose key nobody was told.
    content: Option<Vec<u8>>,
    fate: Fate,
    /// Its fate survives a failed sync: it was confirmed durable, or a barrier came after it.
    sure: bool,
}

/// How often what happened.
#[derive(Debug, Default)]
struct Tally {
    runs: u64,
    calls: u64,
    refused: u64,
    opens_refused: u64,
    poisoned: u64,
    survived: u64,
}

struct Story {
    world: World,
    engine: Option<Engine>,
    plan: Option<Plan>,
    fault: Option<FaultId>,
    /// What it had hit when it was taken away.
    healed: u64,
    files: BTreeMap<FileKey, Known>,
    leases: BTreeMap<FileKey, Lease>,
    /// Contents that doubtful writes may have brought in.
    open_contents: BTreeSet<Vec<u8>>,
    number: u64,
    /// Contents spilled and copied forward, segments used again, checkpoints.
    moved: [u64; 4],
    tally: Tally,
}

impl Story {
    fn new(durability: Durability, plan: Option<Plan>) -> Self {
        let world = World::new(4, options(durability)).with_inline(INLINE);
        world.disk.listen();
        let fault = plan.map(|plan| world.disk.fail(plan.fault()));
        Self {
            world,
            engine: None,
            plan,
            fault,
            healed: 0,
            files: BTreeMap::new(),
            leases: BTreeMap::new(),
            open_contents: BTreeSet::new(),
            number: 0,
            moved: [0; 4],
            tally: Tally { runs: 1, ..Tally::default() },
        }
    }

    // ---- driving ---------------------------------------------------------------------------------------------------

    /// Opens everything; while a fault refuses that, tries again, the second time without the fault if it stays.
    fn open(&mut self) {
        for attempt in 0.. {
            match self.world.open() {
                Ok(engine) => {
                    self.engine = Some(engine);
                    break;
                }
                Err(why) => {
                    assert!(self.hits() > 0, "refused before the fault: {why:?}");
                    assert!(is_clean(&why), "an open was refused with {why:?}");
                    assert!(attempt < 2, "the store does not open any more: {why:?}");
                    self.tally.opens_refused += 1;
                    if self.plan.is_some_and(|plan| plan.for_good) {
                        // A disk on which nothing works any more comes back with the machine.
                        self.heal();
                        self.world.end(End::PowerCut);
                        self.decide();
                    }
                }
            }
        }
        // What an opening found is durable.
        self.files.values_mut().for_each(|known| known.sure = true);
        let engine = self.engine();
        assert_eq!(engine.report.contents_damaged, 0, "{:?}", engine.report);
        // A checkpoint that cannot be read is as good as a damaged one: the one before it serves.
        let unread = |(_, path): &(OpKind, PathBuf)| path.to_string_lossy().contains("/checkpoint-");
        let passed = engine.report.checkpoints_damaged;
        assert!(passed == 0 || self.hit().iter().any(unread), "{:?}", engine.report);
        let (barriers, checkpoints) = (engine.store.clone(), engine.store.clone());
        self.world.stepper.spawn(async move { barriers.run_barriers().await });
        self.world.stepper.spawn(async move { checkpoints.run_checkpoints().await });
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("because it is open")
    }

    /// What was confirmed when it was written, and was never durable, is decided by the next opening.
    fn decide(&mut self) {
        self.files.values_mut().filter(|known| !known.sure).for_each(|known| known.fate = Fate::Doubtful);
    }

    fn end(&mut self, end: End) {
        if end == End::Close {
            let store = self.engine().store.clone();
            let closed = self.run(async move { store.shutdown().await });
            self.judge(&closed);
        }
        self.tally.poisoned += u64::from(self.engine().store.is_poisoned());
        let statistics = self.engine().store.statistics();
        for (sum, more) in self.moved.iter_mut().zip([
            statistics.spilled,
            statistics.copied_forward,
            statistics.segments_reused,
            statistics.checkpoints,
        ]) {
            *sum += more;
        }
        if self.engine().store.is_poisoned() || end == End::PowerCut {
            self.decide();
        }
        self.engine = None;
        self.world.end(end);
        self.leases.clear();
    }

    /// Runs a call to its end. When nobody can go on, time passes; when that does not help either, the call hangs.
    fn run<T>(&mut self, call: impl Future<Output = T>) -> T {
        let store = self.engine().store.clone();
        let clock = self.world.clock.clone();
        let (mut calm, mut waited) = (0, Duration::ZERO);
        let idle = move || {
            if store.commit_step() | store.keep_step() {
                calm = 0;
                return true;
            }
            calm += 1;
            if calm > 4 {
                clock.advance(Duration::from_secs(1));
                waited += Duration::from_secs(1);
            }
            waited < PATIENCE
        };
        self.tally.calls += 1;
        self.world.stepper.block_on(call, idle)
    }

    /// Checks that a failure is one that the docs name; says whether the call may have happened all the same.
    fn judge<T>(&mut self, answer: &Result<T>) -> bool {
        let Err(why) = answer else { return false };
        assert!(self.hits() > 0, "a call failed before the fault: {why:?}");
        assert!(is_clean(why), "a call was refused with {why:?}");
        self.tally.refused += 1;
        matches!(why, Error::Poisoned { outcome: Outcome::Unknown })
    }

    // ---- calls -----------------------------------------------------------------------------------------------------

    fn write(&mut self, tenant: usize, lengths: &[usize], options: &WriteOptions) {
        let mut contents = Vec::new();
        for length in lengths {
            self.number += 1;
            let mut content = vec![0; *length];
            blake3::Hasher::new().update(&self.number.to_le_bytes()).finalize_xof().fill(&mut content);
            contents.push(content);
        }
        let batch = contents.iter().map(|content| (content.clone().into(), options.clone())).collect();
        let (pool, context) = (self.engine().pool.clone(), self.engine().tenants[tenant].clone());
        self.world.drawn.take();
        let written = self.run(async move { pool.write_batch(&context, batch).await });
        let unknown = self.judge(&written);
        let sure = self.durable();
        match written {
            Ok(keys) => {
                assert_eq!(keys.len(), contents.len());
                for (key, content) in keys.into_iter().zip(contents) {
                    let known = Known { tenant, content: Some(content), fate: Fate::Kept, sure };
                    assert!(self.files.insert(key, known).is_none(), "a key was used twice");
                }
            }
            Err(_) => {
                let fate = if unknown { Fate::Doubtful } else { Fate::Refused };
                self.open_contents.extend(contents.into_iter().filter(|_| unknown));
                for key in self.world.drawn.take() {
                    self.files.insert(key, Known { tenant, content: None, fate, sure: true });
                }
                if !unknown {
                    self.refused_files_are_absent();
                }
            }
        }
    }

    fn lease(&mut self, tenant: usize, max: usize, owner: Owner) -> Vec<Lease> {
        let (scheduler, context) = (self.engine().scheduler.clone(), self.engine().tenants[tenant].clone());
        let options = LeaseOptions::new().owner(owner).name("worker");
        let leased = self.run(async move { scheduler.next_batch_with(&context, max, options).await });
        self.judge(&leased);
        let mut leases = Vec::new();
        for file in leased.unwrap_or_default() {
            let known = self.files.get(&file.key).expect("a file that nobody wrote was leased");
            assert!(matches!(known.fate, Fate::Kept | Fate::Doubtful), "{:?} was leased", known.fate);
            assert!(self.leases.insert(file.key, file.lease.clone()).is_none(), "leased twice");
            leases.push(file.lease);
        }
        leases
    }

    /// Ends files; what is left of them is known only if the call was answered, or did nothing.
    fn end_files(&mut self, keys: &[FileKey], answer: &Result<()>) {
        let unknown = self.judge(answer);
        let sure = self.durable();
        for key in keys {
            let known = self.files.get_mut(key).expect("because it was written");
            match answer {
                Ok(()) => (known.fate, known.sure) = (Fate::Over, sure),
                Err(_) if unknown => known.fate = Fate::Doubtful,
                Err(_) => {}
            }
            if answer.is_ok() || unknown {
                self.leases.remove(key);
            }
        }
    }

    fn complete(&mut self, leases: &[Lease]) {
        if leases.is_empty() {
            return;
        }
        let (scheduler, taken) = (self.engine().scheduler.clone(), leases.to_vec());
        let answer = self.run(async move { scheduler.complete_batch(&taken).await });
        let keys: Vec<_> = leases.iter().map(|lease| lease.key).collect();
        self.end_files(&keys, &answer);
        if answer.is_err() && !self.engine().store.is_poisoned() {
            for lease in leases {
                let status = self.status(lease.key).expect("because the store is well");
                assert_eq!(status, Some(FileStatus::Processing), "a refused completion changed something");
            }
        }
    }

    fn back<T>(&mut self, lease: &Lease, answer: Result<T>) {
        let unknown = self.judge(&answer);
        if answer.is_ok() || unknown {
            self.leases.remove(&lease.key);
        }
    }

    fn delete(&mut self, key: Option<FileKey>) {
        let Some(key) = key else { return };
        let context = self.engine().tenants[self.files[&key].tenant].clone();
        let pool = self.engine().pool.clone();
        let answer = self.run(async move { pool.delete_with(&context, &key, true).await });
        self.end_files(&[key], &answer);
    }

    /// Something that changes no file as seen from outside.
    fn also<T, F: Future<Output = Result<T>>>(&mut self, call: impl FnOnce(&Engine) -> F) {
        let call = call(self.engine());
        let answer = self.run(call);
        self.judge(&answer);
    }

    fn status(&mut self, key: FileKey) -> Result<Option<FileStatus>> {
        let (pool, context) =
            (self.engine().pool.clone(), self.engine().tenants[self.files[&key].tenant].clone());
        Ok(self.run(async move { pool.info(&context, &key).await })?.map(|info| info.status))
    }

    fn read(&mut self, key: FileKey) -> Result<Vec<u8>> {
        let (pool, context) =
            (self.engine().pool.clone(), self.engine().tenants[self.files[&key].tenant].clone());
        self.run(async move { Ok(pool.read(&context, &key).await?.bytes().await?.to_vec()) })
    }

    /// Whether Ok means that it survives power loss.
    fn durable(&self) -> bool {
        self.world.options.durability == Durability::Durable
    }

    fn kept(&self) -> Vec<FileKey> {
        self.files.iter().filter(|(_, known)| known.fate == Fate::Kept).map(|(key, _)| *key).collect()
    }

    fn free(&self) -> Option<FileKey> {
        self.kept().into_iter().find(|key| !self.leases.contains_key(key))
    }

    // ---- the story -------------------------------------------------------------------------------------------------

    fn tell(&mut self) {
        let plain = WriteOptions::new;
        self.open();
        // Both kinds of content, names, limits, an idempotency key.
        let scan = plain().original_name("scan.pdf").directory("/in").property("n", "1");
        self.write(0, &[SMALL], &scan);
        self.write(0, &[SMALL, LARGE], &plain());
        self.write(1, &[LARGE], &scan.clone().directory("/in/deep"));
        self.write(1, &[SMALL], &plain().idempotency_key(IdempotencyKey::until_forgotten("once")));
        self.also(|engine| {
            let (store, tenant) = (engine.store.clone(), engine.tenants[0].id().clone());
            async move { store.set_limit(Scope::Tenant(tenant), Limit::Files(10_000)).await }
        });
        // Leases and all their ends.
        let mine = self.lease(0, 3, Owner::Process);
        let others = self.lease(1, 2, Owner::Outside);
        self.complete(mine.get(..1).unwrap_or_default());
        if let Some(lease) = mine.get(1) {
            let (scheduler, taken) = (self.engine().scheduler.clone(), lease.clone());
            let answer = self.run(async move { scheduler.fail(&taken, "it did not work").await });
            self.back(lease, answer);
        }
        if let Some(lease) = others.first() {
            let (scheduler, taken) = (self.engine().scheduler.clone(), lease.clone());
            let answer = self.run(async move { scheduler.renew(&taken).await });
            self.judge(&answer);
            if let Ok(renewed) = answer {
                self.leases.insert(renewed.key, renewed);
            }
        }
        if let Some(lease) = others.get(1) {
            let (scheduler, taken) = (self.engine().scheduler.clone(), lease.clone());
            let answer = self.run(async move { scheduler.release(&taken).await });
            self.back(lease, answer);
        }
        self.tidy();
        self.also(|engine| {
            let store = engine.store.clone();
            async move { store.checkpoint().await }
        });
        // Segments with little alive in them: copied forward, freed, used again.
        for _ in 0..17 {
            self.write(0, &[BULKY; 7], &plain());
        }
        let leases = self.lease(0, 200, Owner::Process);
        let (stay, go): (Vec<_>, Vec<_>) = leases.into_iter().enumerate().partition(|(n, _)| n % 8 == 3);
        self.complete(&go.into_iter().map(|(_, lease)| lease).collect::<Vec<_>>());
        self.tidy();
        for _ in 0..3 {
            self.also(|engine| {
                let store = engine.store.clone();
                async move { store.checkpoint().await }
            });
            self.also(|engine| {
                let store = engine.store.clone();
                async move { store.forward_step().await }
            });
        }
        for (_, lease) in stay {
            let (scheduler, taken) = (self.engine().scheduler.clone(), lease.clone());
            let answer = self.run(async move { scheduler.release(&taken).await });
            self.back(&lease, answer);
        }
        // The process dies, and goes on.
        self.reads();
        self.end(End::Kill);
        self.open();
        // The zone fills up, and is spilled.
        for _ in 0..20 {
            self.write(1, &[BULKY; 7], &plain());
        }
        for _ in 0..2 {
            self.also(|engine| {
                let pool = engine.pool.clone();
                async move { pool.spill_step().await }
            });
        }
        if let Some(key) = self.free() {
            let context = self.engine().tenants[self.files[&key].tenant].clone();
            self.also(|engine| {
                let pool = engine.pool.clone();
                async move { pool.materialize(&context, &key).await }
            });
        }
        self.delete(self.free());
        let leases = self.lease(1, 200, Owner::Process);
        self.complete(&leases);
        self.also(|engine| {
            let sweeper = engine.sweeper.clone();
            async move { sweeper.expire_step().await }
        });
        self.tidy();
        self.also(|engine| {
            let store = engine.store.clone();
            async move { store.checkpoint().await }
        });
        self.reads();
        self.end(End::Close);
        self.open();
        self.write(0, &[SMALL, LARGE], &plain());
        let leases = self.lease(0, 1, Owner::Process);
        self.complete(&leases);
    }

    fn tidy(&mut self) {
        let store = self.engine().store.clone();
        let synced = self.run(async move { store.sync().await });
        self.judge(&synced);
        if synced.is_ok() {
            self.files.values_mut().for_each(|known| known.sure = true);
        }
        self.also(|engine| {
            let sweeper = engine.sweeper.clone();
            async move { sweeper.reap_step().await }
        });
        self.also(|engine| {
            let sweeper = engine.sweeper.clone();
            async move { sweeper.leftovers(SweepOptions::default()).await }
        });
    }

    /// Sweeps until nothing is over any more.
    fn rest(&mut self) {
        for _ in 0..3 {
            self.tidy();
        }
    }

    /// Whoever is asked now answers right, or says why not.
    fn reads(&mut self) {
        for key in self.kept().into_iter().step_by(5) {
            let content = self.read(key);
            self.judge(&content);
            if let Ok(content) = content {
                assert_eq!(Some(&content), self.files[&key].content.as_ref(), "content of {key}");
            }
        }
    }

    // ---- afterwards ------------------------------------------------------------------------------------------------

    /// How many operations the fault hit.
    fn hits(&self) -> u64 {
        self.fault.map_or(0, |fault| self.healed.max(self.world.disk.hits(fault)))
    }

    fn heal(&mut self) {
        self.healed = self.hits();
        self.world.disk.heal_all();
    }

    /// The operations that the fault hit.
    fn hit(&self) -> Vec<(OpKind, PathBuf)> {
        let Some(plan) = self.plan else { return Vec::new() };
        let hits = usize::try_from(self.hits()).expect("because it is small");
        let heard = self.world.disk.heard();
        let wanted = |op: &(OpKind, PathBuf)| plan.kind != Kind::ShortWrite || op.0 == OpKind::Write;
        heard.into_iter().skip(plan.op as usize - 1).filter(wanted).take(hits).collect()
    }

    /// The disk is well again: the store takes work, or was poisoned because its log failed.
    fn after(&mut self) {
        self.heal();
        let hit = self.hit();
        let segment = |(kind, path): &(OpKind, PathBuf)| {
            path.starts_with("/data/journal") && matches!(kind, OpKind::Write | OpKind::Sync)
        };
        let sync = |volume: &'static str| {
            let syncs = |kind| matches!(kind, OpKind::Sync | OpKind::SyncDir);
            hit.iter().any(|(kind, path)| path.starts_with(volume) && syncs(*kind))
        };
        if self.engine().store.is_poisoned() {
            assert!(hit.iter().any(segment), "poisoned although the log did not fail: {hit:?}");
            self.is_poisoned();
            return;
        }
        self.tally.survived += 1;
        for key in self.kept() {
            let content = self.read(key).unwrap_or_else(|why| panic!("{key} cannot be read: {why:?}"));
            assert_eq!(Some(&content), self.files[&key].content.as_ref(), "content of {key}");
        }
        let refused = self.tally.refused;
        self.write(0, &[SMALL], &WriteOptions::new());
        let leases = self.lease(0, 1, Owner::Process);
        self.complete(&leases);
        // What failed in the background is told once, by the next barrier.
        self.also(|engine| {
            let store = engine.store.clone();
            async move { store.sync().await }
        });
        let told = self.tally.refused - refused;
        assert!(told <= 1, "calls are refused although the disk is well");
        let pool = self.engine().pool.clone();
        for _ in 0..2 {
            let pool = pool.clone();
            self.run(async move { pool.probe_all().await });
        }
        let refused = self.tally.refused;
        self.write(1, &[LARGE], &WriteOptions::new());
        let both = sync("/vol-0") && sync("/vol-1");
        assert!(refused == self.tally.refused || both, "volumes refuse although the disk is well: {hit:?}");
    }

    /// A poisoned store changes and destroys nothing, and says so.
    fn is_poisoned(&mut self) {
        let refused = self.tally.refused;
        self.write(0, &[SMALL], &WriteOptions::new());
        assert_eq!(self.tally.refused, refused + 1, "a poisoned store took a file");
        let (store, pool) = (self.engine().store.clone(), self.engine().pool.clone());
        let context = self.engine().tenants[0].clone();
        let scheduler = self.engine().scheduler.clone();
        let leased = self.run(async move { scheduler.next(&context).await });
        assert!(matches!(leased, Err(Error::Poisoned { .. })), "{leased:?}");
        let inner = store.clone();
        let taken = self.run(async move { inner.checkpoint().await });
        assert!(matches!(taken, Err(Error::Poisoned { .. })), "{taken:?}");
        assert!(self.run(async move { pool.sync().await }).is_err());
        let inner = store.clone();
        let reapable = self.run(async move { inner.reapable(None, 10).await });
        assert!(!store.is_trustworthy() && reapable.unwrap_or_default().is_empty());
    }

    fn refused_files_are_absent(&mut self) {
        let refused: Vec<_> =
            self.files.iter().filter(|(_, known)| known.fate == Fate::Refused).map(|(key, _)| *key).collect();
        for key in refused {
            let found = self.status(key);
            // A poisoned store may not know.
            assert!(
                matches!(found, Ok(None) | Err(Error::Poisoned { .. })),
                "a refused file is there: {found:?}"
            );
        }
    }

    /// After reopening on a healthy disk.
    fn reopened(&mut self) {
        assert!(!self.engine().store.is_poisoned());
        self.refused_files_are_absent();
        let keys: Vec<_> = self.files.keys().copied().collect();
        let mut live = BTreeSet::new();
        for key in keys {
            let status = self.status(key).expect("because the store is well");
            let is_live = status.is_some_and(|status| !status.is_over());
            if is_live {
                live.insert(key);
                let content = self.read(key).unwrap_or_else(|why| panic!("{key} cannot be read: {why:?}"));
                match &self.files[&key].content {
                    Some(known) => assert_eq!(&content, known, "content of {key}"),
                    None => assert!(self.open_contents.contains(&content), "a content nobody wrote"),
                }
            }
            match self.files[&key].fate {
                Fate::Kept => assert!(is_live, "{key} was confirmed and is lost: {status:?}"),
                Fate::Over | Fate::Refused => assert!(!is_live, "{key} came back: {status:?}"),
                Fate::Doubtful => {}
            }
        }
        // At rest nothing is left over, and nothing is counted twice.
        self.rest();
        let store = self.engine().store.clone();
        let settling = store.clone();
        self.run(async move { settling.settled().await }).unwrap();
        assert_eq!(store.usage(&Scope::Global).files, live.len() as u64);
        let (registry, mut blobs) = (self.engine().registry.clone(), BTreeSet::new());
        for volume in registry.all() {
            let page = self.run(async move { volume.list(None, None, 10_000).await }).unwrap();
            blobs.extend(page.blobs.into_iter().map(|blob| blob.path.key));
        }
        let mut on_volumes = BTreeSet::new();
        for key in &live {
            let (pool, context, key) =
                (self.engine().pool.clone(), self.engine().tenants[self.files[key].tenant].clone(), *key);
            let location = self.run(async move { pool.location(&context, &key).await }).unwrap().unwrap();
            on_volumes.extend(location.volume_id.map(|_| key));
        }
        assert_eq!(blobs, on_volumes, "blobs on the volumes are not the files that rest there");
        // And everything can be worked off.
        self.world.advance(Duration::from_secs(3_600));
        for tenant in 0..2 {
            loop {
                let leases = self.lease(tenant, 100, Owner::Process);
                if leases.is_empty() {
                    break;
                }
                self.complete(&leases);
            }
        }
        self.rest();
        let mut held = 0;
        for key in live {
            let status = self.status(key).expect("because the store is well");
            let outside = status == Some(FileStatus::Processing) && !self.leases.contains_key(&key);
            assert!(outside || status.is_none_or(FileStatus::is_over), "{key} is {status:?}");
            held += u64::from(outside);
        }
        assert_eq!(store.usage(&Scope::Global).files, held, "only outsiders' files are left");
    }
}

/// Whether an error is one of those that the docs of the calls name for a disk that fails: what was tried where, no room,
/// no volume, poisoned. Damage is none of them: nothing is damaged.
fn is_clean(why: &Error) -> bool {
    matches!(
        why,
        Error::Io { .. }
            | Error::InsufficientStorage { .. }
            | Error::VolumeUnavailable { .. }
            | Error::Poisoned { .. }
    )
}

/// One story under one fault; the answer is what happened, or what went wrong.
fn run(durability: Durability, plan: Plan) -> Result<Tally, String> {
    let told = catch_unwind(AssertUnwindSafe(|| {
        let mut story = Story::new(durability, Some(plan));
        story.tell();
        story.after();
        // What was confirmed in the kernel survives a kill, what was confirmed durable a power cut too.
        let power = durability == Durability::Durable && !plan.op.is_multiple_of(3);
        story.end(if power { End::PowerCut } else { End::Kill });
        story.open();
        story.fault = None;
        story.reopened();
        story.tally
    }));
    told.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        format!("{plan:?}: {}", text.unwrap_or_default())
    })
}

#[rstest]
fn b65_whatever_operation_fails_calls_fail_cleanly_and_nothing_confirmed_is_lost(
    #[values(Kind::Io, Kind::NoSpace, Kind::TooManyFiles, Kind::Interrupted, Kind::ShortWrite)] kind: Kind,
    #[values(Durability::Durable, Durability::Buffered)] durability: Durability,
) {
    let mut clean = Story::new(durability, None);
    clean.tell();
    let heard = clean.world.disk.heard();
    clean.end(End::Kill);
    let moved = clean.moved;
    assert!(moved.iter().all(|count| *count > 0), "the story does not use everything: {moved:?}");
    drop(clean);
    let stride: usize = std::env::var("LOCUS_FAULTS").ok().and_then(|n| n.parse().ok()).unwrap_or(97);
    let first = kind as usize * 19 % stride;
    let (mut tally, mut wrong) = (Tally::default(), Vec::new());
    for op in (1..=heard.len()).skip(first).step_by(stride) {
        if kind == Kind::ShortWrite && heard[op - 1].0 != OpKind::Write {
            continue;
        }
        for for_good in [false, true] {
            let plan = Plan { op: op as u64, kind, for_good };
            match run(durability, plan) {
                Ok(run) => {
                    tally.runs += run.runs;
                    tally.calls += run.calls;
                    tally.refused += run.refused;
                    tally.opens_refused += run.opens_refused;
                    tally.poisoned += run.poisoned;
                    tally.survived += run.survived;
                }
                Err(why) => wrong.push(format!("{:?} {why}", heard[op - 1])),
            }
        }
    }
    println!(
        "{kind:?} {durability:?}: {} operations, {tally:?}, {} wrong, {moved:?}",
        heard.len(),
        wrong.len()
    );
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
