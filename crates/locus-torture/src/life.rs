//! Calls, a crash, recovery (perhaps crashed as well), checks: over and over on one disk, all decided by one seed.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use locus_cleanup::OrphanPolicy;
use locus_core::{Durability, Error, FileKey, MetadataStore, RetryPolicy};
use locus_fs::Disk;
use locus_storage::EngineOptions;
use locus_testkit::{Fault, OpKind, SeededEntropy};

use crate::{
    call::Call,
    copy,
    inbox::Inbox,
    looking,
    model::{File, MAX_DELIVERIES, Model, State},
    plan, recovered,
    report::Report,
    rest, upkeep,
    violation::{Kind, Violation, ensure},
    world::{DATA, Engine, JOURNAL, WATCHERS, World},
};

/// A year, in microseconds.
const YEAR: i64 = 365 * 24 * 3_600 * 1_000_000;

/// How long completed files are kept, in some worlds: shorter than any lease, so that none runs out when that is waited for.
const RETENTION: Duration = Duration::from_secs(20);

/// What is in the middle of being synced when a life is aimed at its end: most of what can be lost is lost there.
const AIMS: &[&str] = &[
    DATA,
    JOURNAL,
    "/srv/data/journal/checkpoint",
    "/srv/data/tenants",
    WATCHERS,
    "/srv",
    "/vol-0",
    "/vol-0-b",
    "/",
];

/// The world that a seed stands for: both durabilities, content in the journal or not, background jobs or not, watched folders
/// or not.
///
/// # Panics
/// When the machine has no folder for what passes.
#[must_use]
pub fn world_of(seed: u64) -> World {
    let dice = SeededEntropy::new(!seed);
    let durability = if dice.below(2) == 0 { Durability::Durable } else { Durability::Buffered };
    let options = EngineOptions {
        durability,
        complete_durability: (dice.below(4) == 0).then_some(Durability::Buffered),
        max_deliveries: Some(MAX_DELIVERIES),
        visibility_timeout: Duration::from_secs(60),
        retry_policy: RetryPolicy { max_retries: 3, ..RetryPolicy::default() },
        segment_size: 1 << 20,
        inline_content_max: [0, 1 << 10, 4 << 10, 32 << 10][usize::try_from(dice.below(4)).unwrap_or(0)],
        landing_zone_max: Some(4 << 20),
        // Store time jumps by days from life to life.
        upload_expiry: Duration::from_secs(100 * 365 * 24 * 3_600),
        ..EngineOptions::default()
    };
    let mut world = World::new(seed, options, dice.below(4) == 0);
    world.background = dice.below(2) == 0;
    world.faults = dice.below(3) == 0;
    if dice.below(4) == 0 {
        world.aim = AIMS.get(usize::try_from(dice.below(AIMS.len() as u64)).unwrap_or(0)).copied();
        world.killed = [10, 50, 80][usize::try_from(dice.below(3)).unwrap_or(0)];
    }
    world.volumes = 2 + usize::from(dice.below(2) == 0);
    world.mirrored = (dice.below(4) == 0).then(|| 1 + usize::from(dice.below(2) == 0));
    if dice.below(2) == 0 {
        world.options.retry_policy.max_retries = 1; // files are given up sooner
    }
    if dice.below(3) == 0 {
        world.options.completed_retention = RETENTION;
    }
    world.orphans = match dice.below(4) {
        0 => OrphanPolicy::Quarantine,
        1 => OrphanPolicy::Import,
        _ => OrphanPolicy::Delete,
    };
    if dice.below(2) == 0 {
        let inbox = Inbox::new(seed, world.clock.clone(), world.tenants);
        world.inbox = Some(Arc::new(inbox.expect("because the machine has a folder for what passes")));
    }
    if dice.below(3) == 0 {
        world.seal().expect("because nothing is wrong with a new disk");
    }
    world
}

/// One disk with everything on it, life after life.
#[derive(Debug)]
pub struct Run {
    pub(crate) world: World,
    pub(crate) engine: Rc<Engine>,
    pub(crate) model: Model,
    /// The wall clock jumped since what the log last heard of it may have been written.
    jumped: bool,
    /// Errors were planted in this life.
    faulty: bool,
    /// Errors were planted since the power went last: a name whose sync failed looks well, to later syncs, too.
    deceived: bool,
    /// Files written in Buffered mode while errors were planted: a volume whose sync fails there may lose contents, which
    /// their reads tell (docs/decisions/0010).
    at_risk: BTreeSet<FileKey>,
    /// The files that are kept for the next checkpoints, with their lengths, when they last were as they should be.
    spares: Vec<(PathBuf, u64)>,
    /// Backups of this life.
    copies: Vec<copy::Taken>,
}

impl Run {
    /// An empty disk, and a store on it.
    ///
    /// # Errors
    /// When the first opening is refused.
    pub fn begin(mut world: World) -> Result<Self, Violation> {
        // What makes a store is cut short now and then.
        while world.chance(50) {
            let reach = world.choose(&[12, 150]);
            world.disk.crash_at(world.disk.ops() + 1 + world.below(reach));
            aim(&world);
            match world.open() {
                Err(why) if !world.disk.is_down() => {
                    return Err(Violation::new(Kind::RefusedOpen, format!("a new store: {why:?}")));
                }
                Ok(_) | Err(_) => {}
            }
            world.drop_tasks();
            if world.chance(50) {
                world.disk.kill();
            } else {
                world.disk.crash();
            }
            world.disk.heal_all();
        }
        let engine =
            world.open().map_err(|why| Violation::new(Kind::RefusedOpen, format!("a new store: {why:?}")))?;
        let mut model = Model::default();
        model.is_sealed = world.is_sealed();
        model.begin(engine.store.statistics().written.0);
        world.begin_background(&engine);
        Ok(Self {
            world,
            engine,
            model,
            jumped: false,
            faulty: false,
            deceived: false,
            at_risk: BTreeSet::new(),
            spares: Vec::new(),
            copies: Vec::new(),
        })
    }

    /// One life with its end and the opening after it. Says how many crash points there were.
    ///
    /// # Errors
    /// The promise that was broken.
    pub fn live(&mut self) -> Result<u64, Violation> {
        // Now and then long enough for segments to be used again within one life.
        let reach = if self.world.chance(2) { 8_000 } else { self.world.choose(&[10, 40, 150, 600]) };
        self.world.disk.crash_at(self.world.disk.ops() + 1 + self.world.below(reach));
        aim(&self.world);
        if self.world.faults && self.world.chance(30) {
            let fault = self.world.choose(&[5, 28, 24, 4]);
            let fault = Fault::os(fault).after(self.world.below(reach));
            let fault = if self.world.chance(30) { fault.for_good() } else { fault };
            self.world.disk.fail(fault);
            self.faulty = true;
            self.deceived = true;
        }
        if self.world.chance(5) {
            self.jump(some_years(&self.world));
        }
        while !self.world.disk.is_down() && self.round(None)? {}
        self.end_life()
    }

    /// Sets the wall clock forward or back.
    pub(crate) fn jump(&mut self, years: i64) {
        self.world.clock.jump_wall(years * YEAR);
        self.jumped = true;
    }

    /// Makes the calls of one round, drawn or given. `false` when this life is over.
    pub(crate) fn round(&mut self, script: Option<Call>) -> Result<bool, Violation> {
        let Self { world, engine, model, .. } = self;
        let calls = match script {
            Some(call) => vec![call],
            None => plan::round(world, model),
        };
        if calls.is_empty() {
            return Ok(true);
        }
        model.under_way = calls.clone();
        let moves = |call: &Call| {
            matches!(
                call,
                Call::Drain { .. } | Call::SealAnew | Call::DeadLetter { .. } | Call::Requeue { .. }
            )
        };
        model.moved |= calls.iter().any(moves);
        drop(world.take_drawn());
        let now = world.now();
        let alone = calls.len() == 1 && !world.background;
        let made = calls.iter().map(|call| call.make(engine, model, alone)).collect();
        let answers = world.run_all(engine, made);
        let backup = calls.iter().find_map(|call| match call {
            Call::Backup { number } => Some(*number),
            _ => None,
        });
        let (mut touched, mut unanswered) = (Vec::new(), Vec::new());
        if world.trace {
            let written = engine.store.statistics().written;
            let ops = world.disk.ops();
            eprintln!("{} {now:?} {written} {ops} {calls:?} -> {answers:?}", model.rounds.len());
        }
        let healthy = !world.disk.is_down() && !self.faulty;
        for (call, answer) in calls.into_iter().zip(answers) {
            match answer {
                Ok(Ok(answer)) => {
                    let inbox = world.inbox.as_deref();
                    touched.push(call.answered(answer, model, &world.options, now, healthy, inbox)?);
                }
                _ if !healthy => {
                    if let Call::Guest { number, .. } = call
                        && self.faulty
                    {
                        model.doubtful_guests.insert(number, model.guests.get(&number).copied());
                    }
                    unanswered.push(call);
                }
                Ok(Err(why)) => {
                    return Err(Violation::new(Kind::Unexpected, format!("{call:?} failed: {why:?}")));
                }
                Err(stuck) => {
                    let stuck = Violation::from(stuck);
                    return Err(Violation { what: format!("{call:?}: {}", stuck.what), ..stuck });
                }
            }
        }
        let goes_on = unanswered.is_empty();
        if let Some(number) = backup {
            // Looking may be what the disk goes down in.
            let looked = (goes_on && healthy).then(|| copy::look(world, number));
            let confirmed = looked.filter(|_| !world.disk.is_down());
            self.copies.push(copy::Taken { number, confirmed });
        }
        // Whoever takes a checkpoint looks after the files for the next.
        self.spares.clear();
        if goes_on && !world.background && healthy && !self.deceived {
            self.spares = spares(world);
        }
        if !touched.is_empty() {
            model.end_round(engine.store.statistics().written.0, touched);
        }
        model.under_way = unanswered;
        Ok(goes_on)
    }

    /// [`end_life_by`](Self::end_life_by) either of the two.
    pub(crate) fn end_life(&mut self) -> Result<u64, Violation> {
        let killed = self.world.chance(self.world.killed);
        self.end_life_by(killed)
    }

    /// The crash, openings until one succeeds, and all that must hold then. Says how many crash points that were. A power
    /// cut loses what was not synced; the death of the process (`killed`) loses nothing, unless the disk failed.
    pub(crate) fn end_life_by(&mut self, mut killed: bool) -> Result<u64, Violation> {
        let Self { world, engine, model, .. } = self;
        world.drop_tasks();
        let honest = !self.faulty && !self.deceived;
        let mut points = 1;
        loop {
            if killed {
                world.disk.kill();
            } else {
                world.disk.crash();
                self.deceived = false;
            }
            world.disk.heal_all();
            let renamed = world.disk.take_renamed_unsynced();
            let early = renamed.iter().find(|path| path.starts_with(DATA));
            ensure(!honest || early.is_none(), Kind::Lost, || {
                format!("{early:?} got its name before its bytes were durable")
            })?;
            for taken in std::mem::take(&mut self.copies) {
                copy::check(world, taken)?;
            }
            let spares = std::mem::take(&mut self.spares);
            let shrunk = spares.iter().find(|(path, len)| length(world, path) < *len);
            ensure(shrunk.is_none(), Kind::Lost, || format!("{shrunk:?} is shorter after the power went"))?;
            if world.chance(5) {
                world.clock.jump_wall(some_years(world) * YEAR);
                self.jumped = true;
            }
            let cut_short = world.chance(25);
            if cut_short {
                let reach = world.choose(&[60, 400]);
                world.disk.crash_at(world.disk.ops() + 1 + world.below(reach));
                aim(world);
            }
            match world.open() {
                Ok(opened) if !world.disk.is_down() => {
                    *engine = opened;
                    break;
                }
                Err(why) if !world.disk.is_down() => {
                    if world.trace {
                        recovered::tell_journal(world);
                    }
                    return Err(Violation::new(Kind::RefusedOpen, format!("{why:?}")));
                }
                Ok(_) | Err(_) => {}
            }
            world.drop_tasks();
            points += 1;
            killed &= world.chance(world.killed);
        }
        if world.trace {
            eprintln!("-- {} {:?}", if killed { "killed" } else { "power cut" }, engine.report);
        }
        let damaged = engine.report.checkpoints_damaged;
        ensure(!honest || damaged == 0, Kind::Corrupted, || {
            format!("{damaged} checkpoints were damaged after they were published")
        })?;
        // Whatever crash point was not reached is taken back.
        world.disk.crash_at(u64::MAX);
        world.disk.heal_all();
        let killed_well = killed && !self.faulty;
        let inbox = world.inbox.clone();
        let brought_in = match &inbox {
            Some(inbox) => looking::interrupted(model, inbox, world.options.durability, killed_well)?,
            None => BTreeSet::new(),
        };
        let reconciled = recovered::reconcile(world, engine, model, killed_well, !honest);
        if reconciled.is_err() && world.trace {
            recovered::tell_journal(world);
        }
        let unsure = reconciled?;
        if let Some(inbox) = &inbox {
            looking::reconcile(model, inbox, brought_in)?;
        }
        if self.faulty && world.options.durability == Durability::Buffered {
            let before = &model.rounds[0].after.files;
            self.at_risk.extend(model.facts.files.keys().filter(|key| !before.contains_key(key)));
        }
        self.faulty = false;
        self.begin_anew(unsure)?;
        self.give_up_unreadable()?;
        if self.engine.importer.is_some() {
            upkeep::import(&mut self.world, &self.engine, &self.model)?;
        }
        rest::check(&mut self.world, &self.engine, &self.model)?;
        self.world.begin_background(&self.engine);
        Ok(points)
    }

    /// Deletes files at risk that cannot be read.
    fn give_up_unreadable(&mut self) -> Result<(), Violation> {
        let Self { world, engine, model, at_risk, .. } = self;
        at_risk.retain(|key| model.facts.files.get(key).is_some_and(File::lives));
        let files: Vec<_> = at_risk.iter().map(|key| (*key, model.facts.files[key].tenant)).collect();
        let at = engine.clone();
        let gone = world.run(engine, async move {
            let mut gone = Vec::new();
            for (key, tenant) in files {
                let context = &at.tenants[tenant];
                let read = match at.pool.read(context, &key).await {
                    Ok(reader) => reader.bytes().await,
                    Err(why) => Err(why),
                };
                if matches!(
                    read,
                    Err(Error::Io { .. }
                        | Error::ChecksumMismatch { .. }
                        | Error::Corrupt { .. }
                        | Error::Tampered { .. })
                ) {
                    at.pool.delete_with(context, &key, true).await?;
                    gone.push(key);
                }
            }
            at.store.sync().await?;
            Ok::<_, Error>(gone)
        })?;
        let gone =
            gone.map_err(|why| Violation::new(Kind::Unexpected, format!("cannot be deleted: {why:?}")))?;
        let only = gone.iter().find(|key| model.sources_gone.contains(key));
        ensure(only.is_none(), Kind::Lost, || {
            format!("{only:?} cannot be read, and the source that it came from was given up")
        })?;
        for key in gone {
            model.back(&key);
            model.file_mut(&key).state = State::Over;
        }
        model.begin(engine.store.statistics().written.0);
        Ok(())
    }

    /// Brings files whose past cannot be told into a known state, and begins the next life.
    fn begin_anew(&mut self, unsure: BTreeSet<FileKey>) -> Result<(), Violation> {
        let Self { world, engine, model, .. } = self;
        let mut reset = Vec::new();
        let mut deleted = Vec::new();
        model.leases.retain(|key, lease| {
            model.facts.files.get(key).is_some_and(|file| file.is_leased() && file.token == Some(lease.token))
        });
        for (key, file) in &model.facts.files {
            match file.state {
                // A dead letter is what it is, whatever it came from.
                State::Over | State::Dead => {}
                // Under the same token the lease of an outsider goes on, if it is known.
                State::Processing { .. } if unsure.contains(key) || !model.leases.contains_key(key) => {
                    deleted.push((*key, file.tenant));
                }
                State::Processing { .. } => {}
                State::Pending { due } if due > Duration::ZERO && self.jumped => {
                    reset.push((*key, file.tenant));
                }
                State::Pending { .. } | State::GivenUp if unsure.contains(key) => {
                    reset.push((*key, file.tenant));
                }
                State::Pending { .. } | State::GivenUp => {}
            }
        }
        model.overtaken.clear(); // a lease that was forgotten overtakes nobody
        self.jumped = false;
        for (key, _) in &deleted {
            model.file_mut(key).state = State::Over;
        }
        for (key, _) in &reset {
            model.file_mut(key).reset();
        }
        let held = |file: &File| file.interrupted >= 2 && file.is_leased();
        model.suspect_out = model.facts.files.iter().find(|(_, file)| held(file)).map(|(key, _)| *key);
        if model.facts.files.len() > 80 {
            model.facts.files.retain(|_, file| file.lives());
        }
        if model.contents.len() > 400 {
            model.contents.retain(|key, _| model.facts.files.contains_key(key));
        }
        let at = engine.clone();
        let done = world.run(engine, async move {
            for (key, tenant) in deleted {
                at.pool.delete_with(&at.tenants[tenant], &key, true).await?;
            }
            for (key, tenant) in reset {
                at.scheduler.reset(&at.tenants[tenant], &key).await?;
            }
            at.store.sync().await
        })?;
        done.map_err(|why: Error| Violation::new(Kind::Unexpected, format!("cannot begin anew: {why:?}")))?;
        model.begin(engine.store.statistics().written.0);
        Ok(())
    }

    /// A number that stands for all that happened on this disk: the same seed gives the same one.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.world.disk.ops().to_le_bytes());
        hasher.update(&self.model.acknowledged.to_le_bytes());
        for (key, file) in &self.model.facts.files {
            hasher.update(format!("{key} {file:?}").as_bytes());
        }
        u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("because it has 32 bytes"))
    }
}

/// Lets this life end in the middle of one of the next syncs, now and then; mostly, in a world of that habit.
fn aim(world: &World) {
    if world.chance(if world.aim.is_some() { 70 } else { 5 }) {
        let path = world.aim.unwrap_or_else(|| world.choose(AIMS));
        let below = move |at: &Path| at.to_str().is_some_and(|at| at.starts_with(path));
        let cut = Fault::down().on(OpKind::Sync).on(OpKind::SyncDir).at(below);
        world.disk.fail(cut.after(world.below(4)));
    }
}

/// Up to three years, forward or back.
fn some_years(world: &World) -> i64 {
    i64::try_from(world.below(7)).unwrap_or(0) - 3
}

/// The files that are kept for the next checkpoints, with their lengths.
fn spares(world: &World) -> Vec<(PathBuf, u64)> {
    let names = ["checkpoint.new", "checkpoint.new1", "checkpoint.new2"];
    let paths = names.map(|name| Path::new(JOURNAL).join(name));
    paths.into_iter().map(|path| (path.clone(), length(world, &path))).collect()
}

fn length(world: &World, path: &Path) -> u64 {
    world.disk.metadata(path).map_or(0, |found| found.len)
}

/// Lives in one world until there were `points` crash points, or something broke. A panic of the program is a violation.
pub fn run(world: World, points: u64) -> Report {
    let seed = world.disk.seed();
    let mut report = Report { seed, runs: 1, ..Report::default() };
    if world.trace {
        eprintln!("{:?}, orphans: {:?}", world.options, world.orphans);
    }
    let lived = guarded(|| {
        let mut run = Run::begin(world)?;
        while report.crash_points < points {
            report.crash_points += run.live()?;
            report.acknowledged = run.model.acknowledged;
        }
        Ok(run.fingerprint())
    });
    match lived {
        Ok(fingerprint) => report.fingerprint = fingerprint,
        Err(violation) => report.violated(seed, violation),
    }
    report
}

/// Makes a violation of a panic.
pub(crate) fn guarded<T>(lived: impl FnOnce() -> Result<T, Violation>) -> Result<T, Violation> {
    catch_unwind(AssertUnwindSafe(lived)).unwrap_or_else(|panic| {
        let what = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|what| (*what).to_owned()));
        Err(Violation::new(Kind::Panic, what.unwrap_or_default()))
    })
}
