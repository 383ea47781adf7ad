//! Crashes at random points of the disk's life, against a model kept outside.
//!
//! Calls are made one after another, so the log's order is the order of the calls. After a crash the state must be that
//! after some prefix of the calls, and the prefix must hold every call whose `Ok` promised durability (with a killed
//! process: every call that was answered).

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::Duration,
};

use locus_core::{
    Durability, Error, FailOutcome, FileKey, FileStatus, IdempotencyKey, Lease, LeaseOptions, MetadataStore,
    Owner, Scope, Token, Upkeep, VolumeSet,
};
use locus_fs::Disk;
use locus_storage::{EngineOptions, LeasedFile, VerifyLevel, WriteOptions};
use rstest::rstest;

use crate::world::{Engine, World};

const MAX_DELIVERIES: u32 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Pending {
        due: Duration,
    },
    Processing {
        deadline: Duration,
        owner: Owner,
        ttl: Duration,
    },
    GivenUp,
    /// Completed or deleted; whether the record is still there does not matter.
    Over,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    tenant: usize,
    /// Position in the accept order.
    order: u64,
    state: State,
    retries: u32,
    attempts: u32,
    interrupted: u32,
    token: Option<Token>,
}

type Snapshot = BTreeMap<FileKey, File>;

/// What is known outside.
struct Model {
    files: Snapshot,
    /// After each call, oldest first; the first is what the last opening found.
    history: Vec<Snapshot>,
    /// Files that this call changed by several records: a prefix of them may be found.
    loose: Vec<Vec<FileKey>>,
    /// The last position in the log after each of them.
    ends: Vec<u64>,
    /// The oldest prefix that may be found after a power cut.
    floor: usize,
    next_order: u64,
    contents: BTreeMap<FileKey, Vec<u8>>,
    leases: BTreeMap<FileKey, Lease>,
    tokens: BTreeSet<(u64, u64)>,
    last_lsn: u64,
    suspect_out: Option<FileKey>,
    named: BTreeMap<String, FileKey>,
    /// Names that may be known or not.
    doubtful: BTreeSet<String>,
    /// The call under way when the disk went down: what it may have done.
    under_way: UnderWay,
    acknowledged: u64,
}

#[derive(Debug, Clone, Default)]
struct UnderWay {
    keys: Vec<FileKey>,
    contents: Vec<(usize, Vec<u8>)>,
    names: Vec<String>,
}

impl Model {
    fn commit(&mut self, durable: bool) {
        self.history.push(self.files.clone());
        self.loose.resize(self.history.len(), Vec::new());
        if durable {
            self.floor = self.history.len() - 1;
        }
        self.acknowledged += 1;
        self.under_way = UnderWay::default();
    }

    /// Notes how far the log reached with what was committed since.
    fn reached(&mut self, engine: &Engine) {
        self.ends.resize(self.history.len(), engine.store.statistics().written.0);
    }

    fn pick(&self, world: &World, wanted: impl Fn(&File) -> bool) -> Option<FileKey> {
        let keys: Vec<_> = self.files.iter().filter(|(_, file)| wanted(file)).map(|(key, _)| *key).collect();
        (!keys.is_empty()).then(|| keys[world.below(keys.len() as u64) as usize])
    }

    fn leased(&mut self, file: &LeasedFile, now: Duration, owner: Owner, ttl: Duration) {
        let token = file.lease.token;
        assert!(
            self.tokens.insert((token.epoch.random, token.lsn.0)) || self.last_lsn == token.lsn.0,
            "a token was used twice"
        );
        assert!(token.lsn.0 >= self.last_lsn, "lsn {} after {}", token.lsn, self.last_lsn);
        self.last_lsn = token.lsn.0;
        let model = self.files.get_mut(&file.key).expect("a file that was never written was leased");
        assert!(
            matches!(model.state, State::Pending { .. }),
            "{:?} leased while {:?}",
            file.key,
            model.state
        );
        model.state = State::Processing { deadline: now + ttl, owner, ttl };
        model.attempts += 1;
        model.token = Some(token);
        assert_eq!(model.attempts, file.attempt, "attempt of {:?}", file.key);
        if model.interrupted >= 2 {
            assert_eq!(self.suspect_out, None, "two suspects are out");
            self.suspect_out = Some(file.key);
        }
        self.leases.insert(file.key, file.lease.clone());
    }

    fn back(&mut self, key: &FileKey) {
        if self.suspect_out == Some(*key) {
            self.suspect_out = None;
        }
    }

    /// The files that a call may be given, oldest first, and the oldest suspect.
    fn ready(&self, tenant: usize, now: Duration) -> (Vec<FileKey>, Option<FileKey>) {
        let mut ready: Vec<_> = self
            .files
            .iter()
            .filter(|(_, f)| f.tenant == tenant && matches!(f.state, State::Pending { due } if due <= now))
            .map(|(key, f)| (f.order, *key, f.interrupted >= 2))
            .collect();
        ready.sort_unstable();
        let suspect = ready.iter().find(|(_, _, suspect)| *suspect).map(|(_, key, _)| *key);
        (ready.into_iter().filter(|(_, _, suspect)| !suspect).map(|(_, key, _)| key).collect(), suspect)
    }
}

fn options(durability: Durability) -> EngineOptions {
    EngineOptions {
        durability,
        max_deliveries: Some(MAX_DELIVERIES),
        visibility_timeout: Duration::from_secs(60),
        segment_size: 1 << 20,
        landing_zone_max: Some(4 << 20),
        ..EngineOptions::default()
    }
}

/// Files that live at once: the model keeps all of them after each call.
const LIVE_MAX: usize = 150;

/// A content: mostly small, some larger than what rests in the journal.
fn content(world: &World) -> Vec<u8> {
    let most = if world.options.inline_content_max > 0 && world.chance(40) { 40_000 } else { 3_000 };
    let mut content = vec![0; world.below(most) as usize];
    locus_core::Entropy::fill(&*world.entropy, &mut content);
    content
}

/// Makes one call. `Err` means that the disk went down beneath it.
fn call(world: &mut World, engine: &Engine, model: &mut Model) -> Result<(), Error> {
    let now = world.clock_now();
    let durable = world.options.durability == Durability::Durable;
    let tenant = world.below(world.tenants as u64) as usize;
    let context = engine.tenants[tenant].clone();
    world.drawn.take();
    let inline = world.options.inline_content_max > 0;
    match world.below(if inline { 106 } else { 100 }) {
        0..28 => {
            if model.files.values().filter(|file| file.state != State::Over).count() >= LIVE_MAX {
                return Ok(());
            }
            let count = if world.chance(20) { 3 } else { 1 };
            let mut batch = Vec::new();
            for n in 0..count {
                let content = content(world);
                let mut options = WriteOptions::new().directory(format!("dir-{}", world.below(3)));
                if world.chance(50) {
                    options = options.original_name("scan.pdf").property("n", n.to_string());
                }
                if count == 1 && world.chance(30) {
                    let name = format!("{tenant}-name-{}", world.below(40));
                    options = options.idempotency_key(IdempotencyKey::until_forgotten(name.as_str()));
                    model.under_way.names.push(name);
                }
                model.under_way.contents.push((tenant, content.clone()));
                batch.push((content.into(), options));
            }
            let keys = world.run(engine, engine.pool.write_batch(&context, batch))?;
            let under_way = std::mem::take(&mut model.under_way);
            let name = under_way.names.first().cloned();
            if let Some(known) = name.as_ref().and_then(|name| model.named.get(name)) {
                assert_eq!(keys, [*known], "a named write was made twice");
                // Only the first one is as safe as this answer.
                model.commit(false);
                return Ok(());
            }
            if let Some(name) = name.as_ref().filter(|name| model.doubtful.remove(*name))
                && model.contents.contains_key(&keys[0])
            {
                model.named.insert(name.clone(), keys[0]);
                model.commit(false);
                return Ok(());
            }
            for (key, (_, content)) in keys.iter().zip(under_way.contents) {
                assert!(!model.contents.contains_key(key), "a key was used twice");
                model.next_order += 1;
                let file = File {
                    tenant,
                    order: model.next_order,
                    state: State::Pending { due: Duration::ZERO },
                    retries: 0,
                    attempts: 0,
                    interrupted: 0,
                    token: None,
                };
                model.files.insert(*key, file);
                model.contents.insert(*key, content);
            }
            if let Some(name) = name {
                model.named.insert(name, keys[0]);
            }
            model.commit(durable);
        }
        28..52 => {
            let max = if world.chance(30) { 4 } else { 1 };
            let owner = if world.chance(20) { Owner::Outside } else { Owner::Process };
            let ttl = Duration::from_secs(30 + world.below(60));
            let (ready, suspect) = model.ready(tenant, now);
            let order = |key: &FileKey| model.files[key].order;
            let alone = match (suspect, ready.first()) {
                (Some(suspect), front) if model.suspect_out.is_none() => {
                    front.is_none_or(|front| order(&suspect) < order(front)).then_some(suspect)
                }
                _ => None,
            };
            let expected: Vec<FileKey> = match alone {
                Some(suspect) => vec![suspect],
                None => ready.into_iter().take(max).collect(),
            };
            model.under_way.keys = expected.clone();
            let options = LeaseOptions::new().owner(owner).ttl(ttl).name("worker");
            let leased = world.run(engine, engine.scheduler.next_batch_with(&context, max, options))?;
            let keys: Vec<FileKey> = leased.iter().map(|file| file.key).collect();
            assert_eq!(keys, expected, "leased in another order than accepted");
            for file in &leased {
                model.leased(file, now, owner, ttl);
            }
            model.commit(false);
        }
        52..70 => {
            let max = if world.chance(20) { 3 } else { 1 };
            let keys: Vec<_> = (0..max)
                .filter_map(|_| model.pick(world, |f| matches!(f.state, State::Processing { .. })))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect();
            if keys.is_empty() {
                return Ok(());
            }
            let leases: Vec<_> = keys.iter().map(|key| model.leases[key].clone()).collect();
            model.under_way.keys = keys.clone();
            world.run(engine, engine.scheduler.complete_batch(&leases))?;
            for key in &keys {
                model.files.get_mut(key).unwrap().state = State::Over;
                model.back(key);
            }
            model.commit(durable);
        }
        70..78 => {
            let Some(key) = model.pick(world, |f| matches!(f.state, State::Processing { .. })) else {
                return Ok(());
            };
            model.under_way.keys = vec![key];
            let outcome =
                world.run(engine, engine.scheduler.fail(&model.leases[&key].clone(), "broken on purpose"))?;
            let policy = world.options.retry_policy;
            let file = model.files.get_mut(&key).unwrap();
            file.retries += 1;
            file.interrupted = 0;
            let delay = policy.delay(file.retries).filter(|_| file.attempts < MAX_DELIVERIES);
            assert_eq!(delay.is_some(), matches!(outcome, FailOutcome::Retry { .. }));
            file.state = delay.map_or(State::GivenUp, |delay| State::Pending { due: now + delay });
            model.back(&key);
            model.commit(durable);
        }
        78..82 => {
            let Some(key) = model.pick(world, |f| matches!(f.state, State::Processing { .. })) else {
                return Ok(());
            };
            model.under_way.keys = vec![key];
            world.run(engine, engine.scheduler.release(&model.leases[&key].clone()))?;
            let file = model.files.get_mut(&key).unwrap();
            file.attempts -= 1;
            file.state = State::Pending { due: Duration::ZERO };
            model.back(&key);
            model.commit(false);
        }
        82..85 => {
            let Some(key) = model.pick(world, |f| f.state != State::Over) else { return Ok(()) };
            model.under_way.keys = vec![key];
            let context = engine.tenants[model.files[&key].tenant].clone();
            world.run(engine, engine.pool.delete_with(&context, &key, true))?;
            model.files.get_mut(&key).unwrap().state = State::Over;
            model.back(&key);
            model.commit(durable);
        }
        85..87 => {
            let wanted = |f: &File| matches!(f.state, State::Pending { .. } | State::GivenUp);
            let Some(key) = model.pick(world, wanted) else { return Ok(()) };
            model.under_way.keys = vec![key];
            let context = engine.tenants[model.files[&key].tenant].clone();
            world.run(engine, engine.scheduler.reset(&context, &key))?;
            let file = model.files.get_mut(&key).unwrap();
            (file.state, file.retries, file.attempts, file.interrupted) =
                (State::Pending { due: Duration::ZERO }, 0, 0, 0);
            file.token = None;
            model.commit(durable);
        }
        87..89 => {
            world.run(engine, engine.store.sync())?;
            model.commit(true);
        }
        89..92 => {
            world.run(engine, engine.store.checkpoint())?;
            model.commit(true);
        }
        92..96 => {
            world.run(engine, engine.sweeper.reap_step())?;
            model.commit(false);
        }
        100..102 => {
            world.run(engine, engine.store.forward_step())?;
            model.commit(false);
        }
        102..104 => {
            world.run(engine, engine.pool.spill_step())?;
            model.commit(false);
        }
        104..106 => {
            let Some(key) = model.pick(world, |f| f.state != State::Over) else { return Ok(()) };
            let context = engine.tenants[model.files[&key].tenant].clone();
            let before = world.run(engine, engine.pool.location(&context, &key)).unwrap().unwrap();
            let path = world.run(engine, engine.pool.materialize(&context, &key))?;
            let again = world.run(engine, engine.pool.materialize(&context, &key))?;
            assert_eq!(path, again, "a second path for one file");
            // Without a move it confirms nothing of what others did.
            model.commit(durable && before.volume_id.is_none());
        }
        _ => {
            world.advance(Duration::from_secs(world.below(40)));
            let now = world.clock_now();
            model.under_way.keys = model
                .files
                .iter()
                .filter(|(_, f)| matches!(f.state, State::Processing { deadline, .. } if deadline <= now))
                .map(|(key, _)| *key)
                .collect();
            let overdue = model.under_way.keys.clone();
            let loose = overdue.clone();
            let expired = world.run(engine, engine.store.expire(1_000))?;
            assert_eq!(expired, overdue.len());
            for key in overdue {
                let file = model.files.get_mut(&key).unwrap();
                file.interrupted = 0;
                let spent = file.attempts >= MAX_DELIVERIES;
                file.state = if spent { State::GivenUp } else { State::Pending { due: Duration::ZERO } };
                model.back(&key);
            }
            model.commit(false);
            // One record for each tenant.
            *model.loose.last_mut().unwrap() = loose;
        }
    }
    Ok(())
}

/// What a file must look like after the process that left it `before` has ended, with the time at reopening.
fn reopened(before: &File, now: Duration) -> File {
    let mut file = before.clone();
    match file.state {
        State::Processing { owner: Owner::Process, .. } => {
            file.interrupted += 1;
            let spent = file.attempts >= MAX_DELIVERIES;
            file.state = if spent { State::GivenUp } else { State::Pending { due: Duration::ZERO } };
        }
        State::Processing { owner, ttl, .. } => {
            file.state = State::Processing { deadline: now + ttl, owner, ttl }
        }
        _ => {}
    }
    file
}

/// What the engine says of every file that the model has ever seen.
fn observe(world: &mut World, engine: &Engine, model: &Model) -> BTreeMap<FileKey, (FileStatus, u32, u32)> {
    let tenants: BTreeMap<FileKey, usize> =
        model.history.iter().flatten().map(|(key, file)| (*key, file.tenant)).collect();
    let mut seen = BTreeMap::new();
    for (key, tenant) in tenants {
        let context = engine.tenants[tenant].clone();
        let other = engine.tenants[1 - tenant].clone();
        if let Some(info) = world.run(engine, engine.pool.info(&context, &key)).unwrap() {
            seen.insert(key, (info.status, info.retry_count, info.attempts));
        }
        assert_eq!(
            world.run(engine, engine.pool.info(&other, &key)).unwrap(),
            None,
            "seen by another tenant"
        );
    }
    seen
}

fn looks_like(file: &File, seen: Option<&(FileStatus, u32, u32)>) -> bool {
    match (file.state, seen) {
        (State::Over, None) => true,
        (_, None) => false,
        (State::Over, Some((status, ..))) => status.is_over(),
        (state, Some((status, retries, attempts))) => {
            let expected = match state {
                State::Pending { .. } => FileStatus::Pending,
                State::Processing { .. } => FileStatus::Processing,
                _ => FileStatus::PermanentlyFailed,
            };
            *status == expected && *retries == file.retries && *attempts == file.attempts
        }
    }
}

/// Where the log ended whose last known position is `last`: the first segment that an opening began behind it says so.
fn recovered_end(world: &World, last: u64) -> u64 {
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("8 bytes"));
    // Number, number of the predecessor, its end, first position.
    let mut headers: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
    for entry in world.disk.read_dir(Path::new("/data/journal")).unwrap() {
        let path = Path::new("/data/journal").join(entry.unwrap().name);
        let mut bytes = [0; 104];
        world.disk.open(&path, false).unwrap().read_at(&mut bytes, 0).unwrap();
        if bytes.starts_with(b"LOCUSLOG") && blake3::hash(&bytes[..96]).as_bytes()[..8] == bytes[96..] {
            headers.insert(number(&bytes, 32), (number(&bytes, 56), number(&bytes, 64), number(&bytes, 72)));
        }
    }
    let (_, mut header) = headers.last_key_value().expect("because the log is open");
    // Openings keep this far away from each other; a life does not come so far.
    while let Some(before) = headers.get(&header.0).filter(|before| before.2 > last + (1 << 19)) {
        header = before;
    }
    header.1
}

/// Finds the prefix of the calls that the engine is at, and makes it the model.
fn reconcile(world: &mut World, engine: &Engine, model: &mut Model, floor: usize, seed: u64) {
    let seen = observe(world, engine, model);
    let now = world.clock_now();
    // What looks alike (a lease that ran out, and one that the end of the process cut short) is told apart by the log.
    let end = recovered_end(world, *model.ends.last().expect("because there is a first one"));
    let at = model
        .ends
        .partition_point(|lsn| *lsn <= end)
        .checked_sub(1)
        .expect("because the first one was durable");
    assert!(at >= floor, "seed {seed}: the log ends at {end}, after call {at}, and call {floor} was durable");
    // What the next call changed by several records, or the call under way, may have happened in part.
    if let Some(loose) = model.loose.get(at + 1) {
        model.under_way.keys = loose.clone();
    }
    let good = |key: &FileKey, file: &File| {
        let after = reopened(file, now);
        // What the call under way meant to change may or may not have happened.
        looks_like(&after, seen.get(key)) || model.under_way.keys.contains(key)
    };
    let snapshot = &model.history[at];
    let known = snapshot.iter().all(|(key, file)| good(key, file));
    let extra = seen.iter().all(|(key, (status, ..))| snapshot.contains_key(key) || status.is_over());
    if !(known && extra) {
        for (key, file) in snapshot {
            if !looks_like(&reopened(file, now), seen.get(key)) {
                eprintln!("{key} was {file:?}, is {:?}", seen.get(key));
            }
        }
        panic!(
            "seed {seed}: what was found is not the state after call {at} of {} (durable: {floor})\nunder way: {:?}\n{:?}",
            model.history.len() - 1,
            model.under_way.keys,
            engine.report,
        );
    }
    // The engine's own word on files that the call under way may have changed.
    let mut files = Snapshot::new();
    for (key, file) in &model.history[at] {
        let mut after = reopened(file, now);
        if !looks_like(&after, seen.get(key)) {
            after = match seen.get(key) {
                None => File { state: State::Over, ..after },
                Some((status, retries, attempts)) => {
                    let leased = *attempts > file.attempts;
                    let failed = *retries > file.retries;
                    let state = match status {
                        FileStatus::Pending => State::Pending { due: Duration::ZERO },
                        FileStatus::Processing => {
                            State::Processing { deadline: now, owner: Owner::Outside, ttl: Duration::ZERO }
                        }
                        FileStatus::PermanentlyFailed => State::GivenUp,
                        _ => State::Over,
                    };
                    let released = *attempts < file.attempts;
                    let interrupted = match (leased, failed, released) {
                        (_, true, _) => 0,
                        (true, ..) if *status != FileStatus::Processing => file.interrupted + 1,
                        _ => file.interrupted,
                    };
                    let reset = *attempts == 0 && *retries == 0 && !released;
                    let interrupted = if reset { 0 } else { interrupted };
                    // Nobody was told the token of a lease whose call did not return.
                    let token = file.token.filter(|_| !leased);
                    File { state, retries: *retries, attempts: *attempts, interrupted, token, ..after }
                }
            };
        }
        files.insert(*key, after);
    }
    // Files of the call under way, whose keys nobody was told.
    let contents = std::mem::take(&mut model.under_way.contents);
    let names = std::mem::take(&mut model.under_way.names);
    let mut adopted = Vec::new();
    for key in world.drawn.take() {
        let known = files.contains_key(&key) || model.contents.contains_key(&key);
        for (tenant, context) in engine.tenants.iter().enumerate() {
            if !known && world.run(engine, engine.pool.info(context, &key)).unwrap().is_some() {
                adopted.push((key, tenant));
            }
        }
    }
    assert!(adopted.is_empty() || adopted.len() == contents.len(), "seed {seed}: half a batch was accepted");
    model.next_order += 1;
    for (key, tenant) in adopted {
        let content =
            world.run(engine, async { engine.pool.read(&engine.tenants[tenant], &key).await?.bytes().await });
        let content = content
            .unwrap_or_else(|why| panic!("seed {seed}: an accepted file cannot be read: {why}"))
            .to_vec();
        assert!(contents.contains(&(tenant, content.clone())), "seed {seed}: a file nobody wrote");
        // Within a batch the order is that of the batch.
        let place = contents.iter().position(|known| *known == (tenant, content.clone())).unwrap() as u64;
        let order = model.next_order + place;
        let state = State::Pending { due: Duration::ZERO };
        files
            .insert(key, File { tenant, order, state, retries: 0, attempts: 0, interrupted: 0, token: None });
        model.contents.insert(key, content);
        if let Some(name) = names.first() {
            model.named.insert(name.clone(), key);
        }
    }
    model.next_order = files.values().map(|file| file.order).max().unwrap_or(0).max(model.next_order);
    // Named writes that did not survive are forgotten with their files.
    // A file that is over may also never have been: nothing tells, so its name may be known or not.
    let (last, sure) = (model.history.last().unwrap(), &model.history[floor]);
    let doubtful = |key: &FileKey| {
        let over = files.get(key).is_some_and(|file| file.state == State::Over);
        over && !sure.contains_key(key)
    };
    let kept = |key: &FileKey| files.contains_key(key) || !last.contains_key(key);
    model.doubtful.extend(model.named.iter().filter(|(_, key)| doubtful(key)).map(|(name, _)| name.clone()));
    model.named.retain(|_, key| kept(key) && !doubtful(key));
    model.files = files;
}

/// Everything that must hold at rest.
fn check(world: &mut World, engine: &Engine, model: &Model, seed: u64) {
    let live: BTreeMap<_, _> = model.files.iter().filter(|(_, file)| file.state != State::Over).collect();
    for (key, file) in &live {
        let context = engine.tenants[file.tenant].clone();
        let content = world.run(engine, async { engine.pool.read(&context, key).await?.bytes().await });
        match content {
            Ok(content) => assert!(content == model.contents[*key], "seed {seed}: content of {key} differs"),
            Err(why) => panic!("seed {seed}: {key} cannot be read: {why:?}"),
        }
    }
    // Nothing is wrong, before and after what is over is gone; records and contents are read now and then.
    let verified = world.run(engine, engine.store.verify(VerifyLevel::Counts, &|_| ())).unwrap();
    assert_eq!(verified.findings, [], "seed {seed}");
    // Settled: no residue, no drift.
    world.run(engine, engine.sweeper.leftovers()).unwrap();
    while world.run(engine, engine.sweeper.reap_step()).unwrap().completed_removed > 0 {}
    world.run(engine, engine.store.sync()).unwrap();
    while world.run(engine, engine.sweeper.reap_step()).unwrap().completed_removed > 0 {}
    world.run(engine, engine.store.settled()).unwrap();
    let mut blobs: Vec<_> =
        world.run(engine, engine.blobs()).unwrap().into_iter().map(|blob| blob.key).collect();
    blobs.sort_unstable();
    let mut expected = Vec::new();
    for (key, file) in &live {
        let context = engine.tenants[file.tenant].clone();
        let location = world.run(engine, engine.pool.location(&context, key)).unwrap().unwrap();
        expected.extend(location.volume_id.map(|_| **key));
    }
    assert_eq!(blobs, expected, "seed {seed}: blobs on the volumes are not the files that rest there");
    for (n, context) in engine.tenants.iter().enumerate() {
        let files = live.values().filter(|file| file.tenant == n).count() as u64;
        let usage = engine.store.usage(&Scope::Tenant(context.id().clone())).files;
        assert_eq!(usage, files, "seed {seed}: quota drift of tenant {n}");
        let directories: u64 = (0..3)
            .map(|d| {
                let dir = locus_core::LogicalDir::parse(&format!("dir-{d}")).unwrap();
                engine.store.usage(&Scope::Directory(context.id().clone(), dir)).files
            })
            .sum();
        assert_eq!(directories, files, "seed {seed}: drift of the directories of tenant {n}");
    }
    assert_eq!(engine.store.usage(&Scope::Global).files, live.len() as u64);
    let on_volumes: u64 = engine.registry.all().iter().map(|volume| engine.store.files_on(volume.id())).sum();
    let statistics = engine.store.statistics();
    assert_eq!(on_volumes + statistics.files_in_journal, live.len() as u64);
    if statistics.files_in_journal == 0 {
        assert_eq!(
            statistics.bytes_in_journal, 0,
            "seed {seed}: bytes live in the journal that nobody needs"
        );
    }
    let level = if live.len() % 4 == 0 { VerifyLevel::Contents } else { VerifyLevel::Counts };
    let verified = world.run(engine, engine.store.verify(level, &|_| ())).unwrap();
    assert_eq!((verified.findings, verified.unchecked), (vec![], 0), "seed {seed}");
    assert_eq!(verified.files, live.len() as u64, "seed {seed}");
}

/// One life: calls, a crash, recovery (perhaps crashed as well), checks; over and over on one disk.
fn live(seed: u64, durability: Durability, inline_content_max: u64, crashes: u64) -> u64 {
    let mut world = World::new(seed, options(durability)).with_inline(inline_content_max);
    let mut moved = [0; 3];
    let mut engine = world.open().unwrap();
    let mut model = Model {
        files: Snapshot::new(),
        history: vec![Snapshot::new()],
        loose: vec![Vec::new()],
        ends: vec![engine.store.statistics().written.0],
        floor: 0,
        next_order: 0,
        contents: BTreeMap::new(),
        leases: BTreeMap::new(),
        tokens: BTreeSet::new(),
        last_lsn: 0,
        suspect_out: None,
        named: BTreeMap::new(),
        doubtful: BTreeSet::new(),
        under_way: UnderWay::default(),
        acknowledged: 0,
    };
    let mut points = 0;
    while points < crashes {
        let reach = [20, 100, 500, 3_000][world.below(4) as usize];
        world.disk.crash_at(world.disk.ops() + 1 + world.below(reach));
        loop {
            match call(&mut world, &engine, &mut model) {
                Ok(()) => model.reached(&engine),
                Err(_) if world.disk.is_down() => break,
                Err(why) => panic!("seed {seed}: a call failed on a healthy disk: {why:?}"),
            }
        }
        let statistics = engine.store.statistics();
        moved[0] += statistics.spilled;
        moved[1] += statistics.copied_forward;
        moved[2] += statistics.segments_reused;
        drop(engine);
        // A power cut loses what was not synced; the death of the process loses nothing.
        let mut killed = world.chance(30);
        if killed {
            world.disk.kill();
        } else {
            world.disk.crash();
        }
        points += 1;
        engine = loop {
            if world.chance(30) {
                world
                    .disk
                    .crash_at(world.disk.ops() + 1 + world.below([120, 1_500][world.below(2) as usize]));
            }
            match world.open() {
                Ok(engine) if !world.disk.is_down() => break engine,
                Ok(_) => {}
                Err(why) if !world.disk.is_down() => panic!("seed {seed}: refused to open: {why:?}"),
                Err(_) => {}
            }
            points += 1;
            let kill = world.chance(30);
            killed &= kill;
            if kill { world.disk.kill() } else { world.disk.crash() }
        };
        // Whatever crash point was not reached is taken back.
        world.disk.crash_at(u64::MAX);
        let floor = if killed { model.history.len() - 1 } else { model.floor };
        reconcile(&mut world, &engine, &mut model, floor, seed);
        // A suspect that an outsider holds is still out.
        let held = |file: &File| file.interrupted >= 2 && matches!(file.state, State::Processing { .. });
        model.suspect_out = model.files.iter().find(|(_, file)| held(file)).map(|(key, _)| *key);
        // How the last delivery of these ended cannot be seen from outside: begin anew with them.
        for key in std::mem::take(&mut model.under_way).keys {
            let Some(file) = model.files.get_mut(&key) else { continue };
            if matches!(file.state, State::Pending { .. } | State::GivenUp) {
                let context = engine.tenants[file.tenant].clone();
                world.run(&engine, engine.scheduler.reset(&context, &key)).unwrap();
                file.state = State::Pending { due: Duration::ZERO };
                (file.retries, file.attempts, file.interrupted, file.token) = (0, 0, 0, None);
            }
        }
        model.history = vec![model.files.clone()];
        model.loose.clear();
        model.floor = 0;
        model.leases.retain(|key, lease| {
            let file = model.files.get(key);
            file.is_some_and(|f| matches!(f.state, State::Processing { .. }) && f.token == Some(lease.token))
        });
        check(&mut world, &engine, &model, seed);
        // The next life begins with few files, so that states repeat.
        if model.files.len() > 60 {
            model.files.retain(|_, file| file.state != State::Over);
            model.history = vec![model.files.clone()];
        }
        // Leases of outsiders go on under the same token, if it is known.
        let orphaned: Vec<_> = model
            .files
            .iter()
            .filter(|(key, file)| {
                matches!(file.state, State::Processing { .. }) && !model.leases.contains_key(*key)
            })
            .map(|(key, file)| (*key, file.tenant))
            .collect();
        for (key, tenant) in orphaned {
            let context = engine.tenants[tenant].clone();
            world.run(&engine, engine.pool.delete_with(&context, &key, true)).unwrap();
            model.files.get_mut(&key).unwrap().state = State::Over;
            model.back(&key);
        }
        world.run(&engine, engine.store.sync()).unwrap();
        model.commit(true);
        model.ends.clear();
        model.reached(&engine);
    }
    let [spilled, forward, reused] = moved;
    println!(
        "seed {seed}: {points} crash points, {} calls acknowledged, {spilled} contents moved to volumes, {forward} \
         forward, {reused} segments reused",
        model.acknowledged
    );
    points
}

/// How many crash points each of the runs below goes through.
fn crashes() -> u64 {
    std::env::var("LOCUS_CRASH_POINTS").ok().and_then(|n| n.parse().ok()).unwrap_or(4_800) / 12
}

#[rstest]
fn b1_b56_everything_confirmed_durable_survives_every_crash(#[values(1, 2, 3, 4)] seed: u64) {
    assert!(live(seed, Durability::Durable, 0, crashes()) >= crashes());
}

#[rstest]
fn b66_buffered_loses_only_an_end_of_the_log_and_never_leaves_a_hole(#[values(11, 12, 13, 14)] seed: u64) {
    assert!(live(seed, Durability::Buffered, 0, crashes()) >= crashes());
}

#[rstest]
fn b88_b91_content_in_the_journal_survives_every_crash(#[values(21, 22)] seed: u64) {
    assert!(live(seed, Durability::Durable, 32 << 10, crashes()) >= crashes());
}

#[rstest]
fn b66_b88_buffered_content_in_the_journal_loses_only_an_end(#[values(31, 32)] seed: u64) {
    assert!(live(seed, Durability::Buffered, 32 << 10, crashes()) >= crashes());
}
