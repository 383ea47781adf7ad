//! A long life with a wall clock that nobody can rely on: it jumps by years, back and forth, while the store is open, while
//! it is closed, over kills and power cuts. Leases, delays and remembered names go by store time alone.
//!
//! What may have passed lies between the time that the store was open (never less) and that and `downtime_max` for each
//! restart (never more). `LOCUS_CLOCK_STEPS` says how many steps are taken, 50,000 unless it does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use locus_core::{
    FailOutcome, FileKey, FileStatus, IdempotencyKey, Lease, LeaseOptions, LogicalDir, MetadataStore,
    NewFile, Owner, Remember, Reserved, RetryPolicy,
};
use locus_storage::EngineOptions;
use rstest::rstest;

use crate::world::{End, Records, World, new_file, tenant};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const YEAR_MICROS: i64 = 365 * 24 * 60 * 60 * 1_000_000;
const LIVE_MAX: usize = 60;
const NAMES: u64 = 12;

fn options() -> EngineOptions {
    EngineOptions {
        segment_size: 1 << 20,
        max_deliveries: Some(u32::MAX),
        retry_policy: RetryPolicy {
            max_retries: u32::MAX,
            initial_delay: 5 * SECOND,
            exponential: true,
            max_delay: 6 * 3_600 * SECOND,
        },
        ..EngineOptions::default()
    }
}

/// A moment of the store's life: how long it was open until then, and how often it was opened.
#[derive(Debug, Clone, Copy, Default)]
struct Moment {
    open: Duration,
    restarts: u32,
}

impl Moment {
    /// The least and the most store time that passed since `before`.
    fn since(self, before: Moment) -> (Duration, Duration) {
        let open = self.open - before.open;
        (open, open + DAY * (self.restarts - before.restarts))
    }
}

#[derive(Debug)]
enum Is {
    /// Due so long after that moment.
    Pending { from: Moment, delay: Duration },
    /// Leased for so long at that moment.
    Leased { from: Moment, ttl: Duration, lease: Lease },
}

struct Life {
    records: Option<Records>,
    now: Moment,
    files: BTreeMap<FileKey, Is>,
    /// Names by the file that has them, and since when that file's record is gone.
    names: BTreeMap<u64, (FileKey, Option<Moment>)>,
    tokens: BTreeSet<(u64, u64, u64)>,
    last_lsn: u64,
    seen: Seen,
}

/// How often what was to be seen was seen.
#[derive(Debug, Default)]
struct Seen {
    leased: u64,
    timed_out: u64,
    retried: u64,
    forgotten: u64,
    restarts: u64,
    jumps: u64,
}

impl Life {
    fn records(&mut self) -> &mut Records {
        self.records.as_mut().expect("because it is open")
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.records().world.below(bound)
    }

    fn advance(&mut self, by: Duration) {
        self.records().world.advance(by);
        self.now.open += by;
    }

    fn jump(&mut self) {
        self.seen.jumps += 1;
        let years = 1 + self.below(10) as i64;
        let sign = if self.below(2) == 0 { 1 } else { -1 };
        self.records().world.clock.jump_wall(sign * years * YEAR_MICROS);
    }

    fn pick(&mut self, wanted: impl Fn(&Is) -> bool) -> Option<FileKey> {
        let keys: Vec<_> = self.files.iter().filter(|(_, is)| wanted(is)).map(|(key, _)| *key).collect();
        (!keys.is_empty()).then(|| keys[self.below(keys.len() as u64) as usize])
    }

    fn write(&mut self) {
        if self.files.len() >= LIVE_MAX {
            return;
        }
        let name = (self.below(3) == 0).then(|| self.below(NAMES));
        let idempotency =
            name.map(|n| IdempotencyKey { value: format!("name-{n}").into(), remember: Remember::Day });
        let key = self.records().put(NewFile { idempotency, ..new_file() });
        if let Some((known, gone)) = name.and_then(|name| self.names.get(&name)) {
            if *known == key {
                return; // still remembered
            }
            let gone = gone.expect("a name was forgotten while its file was there");
            let (_, most) = self.now.since(gone);
            assert!(most >= DAY, "a name was forgotten after at most {most:?}");
            self.seen.forgotten += 1;
        }
        if let Some(name) = name {
            self.names.insert(name, (key, None));
        }
        let fresh = self.files.insert(key, Is::Pending { from: self.now, delay: Duration::ZERO });
        assert!(fresh.is_none(), "a key was drawn twice");
    }

    /// Checks that a lease could have run out; the file is pending then.
    fn ran_out(&mut self, key: FileKey) {
        let Some(Is::Leased { from, ttl, .. }) = self.files.get(&key) else { panic!("it was not leased") };
        let (_, most) = self.now.since(*from);
        assert!(most >= *ttl, "a lease of {ttl:?} ran out after at most {most:?}");
        self.files.insert(key, Is::Pending { from: self.now, delay: Duration::ZERO });
        self.seen.timed_out += 1;
    }

    fn lease(&mut self) {
        let all = self.below(4) == 0;
        let ttl = SECOND * (1 + self.below(7_200) as u32);
        let options = LeaseOptions::new().owner(Owner::Outside).ttl(ttl);
        let leased = self.records().try_lease(if all { 1_000 } else { 1 }, options).unwrap();
        if let Some(first) = leased.first() {
            let token = first.lease.token;
            let told = (token.epoch.count, token.epoch.random, token.lsn.0);
            assert!(self.tokens.insert(told), "token {token} was given twice");
            assert!(token.lsn.0 > self.last_lsn, "position {} after {}", token.lsn, self.last_lsn);
            self.last_lsn = token.lsn.0;
        }
        for file in leased {
            let key = file.lease.key;
            if matches!(self.files[&key], Is::Leased { .. }) {
                self.ran_out(key); // found overdue by this very call
            }
            let Is::Pending { from, delay } = &self.files[&key] else { unreachable!() };
            let (_, most) = self.now.since(*from);
            assert!(most >= *delay, "a file came back {most:?} after it was to wait for {delay:?}");
            self.seen.retried += u64::from(!delay.is_zero());
            self.seen.leased += 1;
            self.files.insert(key, Is::Leased { from: self.now, ttl, lease: file.lease });
        }
        if all {
            for (key, is) in &self.files {
                let (Is::Pending { from, delay: wait } | Is::Leased { from, ttl: wait, .. }) = is;
                // A restart may go back to the last stamp, so what is older than it may have to wait once more.
                let due = from.restarts == self.now.restarts && self.now.since(*from).0 >= *wait;
                assert!(!due, "{key} froze: {is:?}, now {:?}", self.now);
            }
        }
    }

    fn finish(&mut self) {
        let Some(key) = self.pick(|is| matches!(is, Is::Leased { .. })) else { return };
        let Some(Is::Leased { lease, .. }) = self.files.get(&key) else { unreachable!() };
        let lease = lease.clone();
        if self.below(2) == 0 {
            self.records().complete(&lease).unwrap();
            self.files.remove(&key);
            return;
        }
        let FailOutcome::Retry { .. } = self.records().fail(&lease).unwrap() else { panic!("given up") };
        let record = self.records().record(key).unwrap();
        let delay = options().retry_policy.delay(record.info.retry_count).unwrap();
        self.files.insert(key, Is::Pending { from: self.now, delay });
    }

    fn expire(&mut self) {
        self.records().expire();
        let leased: Vec<_> = self
            .files
            .iter()
            .filter(|(_, is)| matches!(is, Is::Leased { .. }))
            .map(|(key, _)| *key)
            .collect();
        for key in leased {
            if self.records().status(key) == Some(FileStatus::Pending) {
                self.ran_out(key);
            } else {
                let Is::Leased { from, ttl, .. } = &self.files[&key] else { unreachable!() };
                assert!(self.now.since(*from).0 < *ttl, "a lease of {ttl:?} did not run out");
            }
        }
    }

    fn reap(&mut self) {
        self.records().reap();
        for (key, gone) in self.names.values_mut() {
            if !self.files.contains_key(key) && gone.is_none() {
                *gone = Some(self.now);
            }
        }
    }

    /// Whether a name is remembered at least as long as it is to be.
    fn ask(&mut self) {
        let name = self.below(NAMES);
        let Some((key, gone)) = self.names.get(&name).copied() else { return };
        let value = IdempotencyKey::new(format!("name-{name}").as_str());
        let found = self.records().call(|store| async move {
            store.reserve(&tenant(0), &LogicalDir::root(), None, Some(&value)).await
        });
        match found.unwrap() {
            Reserved::Known(known) => assert_eq!(known, key),
            Reserved::Room(_) => {
                let most = gone.map(|gone| self.now.since(gone).1);
                assert!(most >= Some(DAY), "name {name} was forgotten after at most {most:?}");
                self.names.remove(&name);
                self.seen.forgotten += 1;
            }
        }
    }

    fn restart(&mut self) {
        self.seen.restarts += 1;
        let end = [End::Kill, End::PowerCut, End::Close][self.below(3) as usize];
        let away = Duration::from_secs(self.below(4 * 86_400));
        if self.below(2) == 0 {
            self.jump();
        }
        let records = self.records.take().expect("because it is open");
        let world = records.end(end);
        world.advance(away); // nobody is there
        self.records = Some(Records::open(world).unwrap_or_else(|failed| panic!("{:?}", failed.1)));
        self.now.restarts += 1;
        // Leases go on with their full time; a power cut may have forgotten one, or that one had run out.
        let keys: Vec<_> = self.files.keys().copied().collect();
        for key in keys {
            let status = self.records().status(key);
            let now = self.now;
            let is = self.files.get_mut(&key).unwrap();
            match (status, &mut *is) {
                (Some(FileStatus::Processing), _) if end == End::PowerCut => {
                    // Under which of its leases nobody can tell: no more of it.
                    self.files.remove(&key);
                    self.records().call(|s| async move { s.delete(&tenant(0), &key, true).await }).unwrap();
                }
                (Some(FileStatus::Processing), Is::Leased { from, .. }) => *from = now,
                (Some(FileStatus::Pending), Is::Pending { .. }) => {}
                (Some(FileStatus::Pending), Is::Leased { from, ttl, .. }) => {
                    // A power cut may have forgotten it; else it had run out before, and somebody's call had noted that.
                    let before = Moment { restarts: now.restarts - 1, ..now };
                    let (_, most) = before.since(*from);
                    assert!(
                        end == End::PowerCut || most >= *ttl,
                        "a lease of {ttl:?} ran out after {most:?}"
                    );
                    let from = before;
                    *is = Is::Pending { from, delay: Duration::ZERO };
                }
                (status, is) => panic!("{key} was {is:?} and is {status:?}"),
            }
        }
    }

    fn step(&mut self) {
        match self.below(1_000) {
            0..250 => self.write(),
            250..480 => self.lease(),
            480..680 => self.finish(),
            680..740 => self.expire(),
            740..760 => self.reap(),
            760..800 => self.ask(),
            800..840 => self.jump(),
            840..996 => {
                let most = [2, 60, 3_600, 8 * 3_600][self.below(4) as usize];
                let by = Duration::from_secs(self.below(most));
                self.advance(by);
            }
            _ => self.restart(),
        }
    }
}

/// How many steps each of the runs below takes.
fn steps() -> u64 {
    std::env::var("LOCUS_CLOCK_STEPS").ok().and_then(|n| n.parse().ok()).unwrap_or(50_000) / 4
}

#[rstest]
fn b25_b48_however_the_wall_clock_jumps_nothing_comes_early_and_no_token_twice(
    #[values(1, 2, 3, 4)] seed: u64,
) {
    let mut life = Life {
        records: Some(
            Records::open(World::new(seed, options())).unwrap_or_else(|failed| panic!("{:?}", failed.1)),
        ),
        now: Moment::default(),
        files: BTreeMap::new(),
        names: BTreeMap::new(),
        tokens: BTreeSet::new(),
        last_lsn: 0,
        seen: Seen::default(),
    };
    for step in 0..steps() {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life.step())).is_err() {
            panic!("seed {seed}, step {step}, {:?}: {:?}", life.now, life.seen);
        }
    }
    let seen = &life.seen;
    println!("seed {seed}: {} steps, {seen:?}", steps());
    let counts = [seen.leased, seen.timed_out, seen.retried, seen.forgotten, seen.restarts, seen.jumps];
    assert!(counts.iter().all(|count| *count > 5), "{seen:?}");
}
