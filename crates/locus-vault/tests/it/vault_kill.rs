//! Vaults on the machine's own disk, and processes that die or meet there.
//!
//! A process is this binary once more, running [`victim`] alone.
//!
//! | variable | what | otherwise |
//! |---|---|---|
//! | `LOCUS_VAULT_KILLS` | kills of each test | 20 |
//! | `LOCUS_VAULT_SECONDS` | for how long four processes make updates | each makes 60 |

#![cfg(unix)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use locus_core::{Clock, Entropy, SystemClock, SystemEntropy};
use locus_fs::OsDisk;
use locus_testkit::SeededEntropy;
use locus_vault::{
    Argon2Cost, Caching, Entity, EntityId, Expect, Keyring, KeyringFile, NewRecipient, RewrapOptions, Unlock,
    Vault, VaultError, VaultOptions,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::rig::{id, passphrase};

const ENTITIES: u64 = 4;

/// Stands in every content.
const PLANTED: &str = "planted-plaintext-8024";

fn keyring_file(dir: &Path) -> KeyringFile {
    let clock = Arc::new(SystemClock::new());
    KeyringFile::new(Arc::new(OsDisk), clock, Arc::new(SystemEntropy), dir.join("keyring"))
}

async fn open_ring(dir: &Path) -> Arc<Keyring> {
    Arc::new(keyring_file(dir).open(Unlock::Passphrase(passphrase())).await.unwrap())
}

async fn open(dir: &Path) -> Vault {
    let options = VaultOptions::new(open_ring(dir).await).keyring_file(keyring_file(dir));
    Vault::open(dir.join("vault"), options.lock_timeout(Duration::from_secs(600))).await.unwrap()
}

fn name(entity: u64) -> EntityId {
    id(&format!("db/{entity}"))
}

/// A content of some kilobytes that shows when it is torn.
fn content(count: u64) -> Value {
    json!({"n": count, "planted": PLANTED, "fill": count.to_string().repeat(count as usize % 2_000), "again": count})
}

/// How often it was changed, when it is whole.
fn count_of(entity: &Entity) -> u64 {
    let value: Value = entity.json().unwrap();
    let count = value["n"].as_u64().unwrap();
    assert_eq!(value, content(count), "it is torn");
    assert_eq!(entity.version().number, count + 1, "the content is of another version");
    count
}

/// A vault with entities that were never changed.
async fn fill() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let cost = Argon2Cost { memory_kib: 8, passes: 1, lanes: 1 };
    keyring_file(dir.path()).create(NewRecipient::passphrase("test", passphrase()).cost(cost)).await.unwrap();
    let vault = open(dir.path()).await;
    for entity in 0..ENTITIES {
        vault.put(&name(entity), &content(0), Expect::Absent).await.unwrap();
    }
    dir
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number")))
}

fn kills() -> u64 {
    number("LOCUS_VAULT_KILLS").unwrap_or(20)
}

/// Said to who started this process, once it is so.
fn say(line: impl std::fmt::Display) {
    let mut stdout = std::io::stdout().lock();
    // Who is gone needs no answer.
    let _ = writeln!(stdout, "told {line}").and_then(|()| stdout.flush());
}

#[test]
#[ignore = "it is what the others start"]
fn victim() {
    let dir = PathBuf::from(std::env::var_os("LOCUS_VAULT_DIR").unwrap());
    let role = std::env::var("LOCUS_VAULT_ROLE").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        match role.as_str() {
            "write" => write(&dir).await,
            "rotate" => rotate(&dir).await,
            "count" => count(&dir).await,
            "read" => read(&dir).await,
            other => panic!("{other}"),
        }
    });
}

/// Changes one entity after another, in both ways, until it dies.
async fn write(dir: &Path) {
    let vault = open(dir).await;
    for turn in 0_u64.. {
        let entity = turn % ENTITIES;
        if turn % 3 == 0 {
            let now = vault.get(&name(entity)).await.unwrap();
            let next = content(count_of(&now) + 1);
            vault.put(&name(entity), &next, Expect::Version(now.version())).await.unwrap();
        } else {
            let change = |value: &mut Value| {
                *value = content(value["n"].as_u64().unwrap() + 1);
                Ok(())
            };
            vault.update(&name(entity), change).await.unwrap();
        }
        say(entity);
    }
}

/// Draws a new key and seals everything by it, until it dies.
async fn rotate(dir: &Path) {
    let vault = open(dir).await;
    loop {
        let ring = keyring_file(dir).rotate(&vault.keyring()).await.unwrap();
        vault.set_keyring(Arc::new(ring));
        say("rotated");
        vault.rewrap(RewrapOptions::default(), &mut |at| say(at.looked_at)).await.unwrap();
    }
}

/// Makes so many updates, each of the version that it saw, and says which it made.
async fn count(dir: &Path) {
    let vault = open(dir).await;
    let (clock, seconds) = (SystemClock::new(), number("LOCUS_VAULT_SECONDS"));
    let mut made = 0;
    while seconds.map_or(made < 60, |seconds| clock.monotonic() < Duration::from_secs(seconds)) {
        let entity = SystemEntropy.next_u64() % ENTITIES;
        let now = vault.get(&name(entity)).await.unwrap();
        let next = content(count_of(&now) + 1);
        match vault.put(&name(entity), &next, Expect::Version(now.version())).await {
            Err(VaultError::Conflict { .. }) => {}
            version => {
                say(format!("{entity} {}", version.unwrap().number));
                made += 1;
            }
        }
    }
}

/// Reads until it is told to stop: everything is whole, and nothing goes back.
async fn read(dir: &Path) {
    let options = VaultOptions::new(open_ring(dir).await).read_only(true).caching(Caching::Off);
    let vault = Vault::open(dir.join("vault"), options).await.unwrap();
    let (mut seen, mut reads) = (BTreeMap::new(), 0);
    while !dir.join("stop").exists() {
        for entity in 0..ENTITIES {
            let now = count_of(&vault.get(&name(entity)).await.unwrap());
            let before = seen.insert(entity, now).unwrap_or(0);
            assert!(before <= now, "entity {entity} went from {before} to {now}");
            reads += 1;
        }
    }
    say(reads);
}

/// Another process. Killed when it is dropped.
struct Process {
    child: Child,
    told: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Process {
    fn start(dir: &Path, role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["vault_kill::victim", "--exact", "--ignored", "--nocapture", "--quiet"]);
        command.env("LOCUS_VAULT_DIR", dir).env("LOCUS_VAULT_ROLE", role);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let told = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, told }
    }

    /// What it said next; `None` when it says no more.
    fn next(&mut self) -> Option<String> {
        self.told.by_ref().map_while(Result::ok).find_map(|line| Some(line.split_once("told ")?.1.to_owned()))
    }

    /// Kills it, and gives what it had said until then.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        std::iter::from_fn(|| self.next()).collect()
    }

    fn finish(mut self) -> Vec<String> {
        let told = std::iter::from_fn(|| self.next()).collect();
        assert!(self.child.wait().unwrap().success(), "it failed, as it said above");
        told
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a process and kills it somewhere; what it had said, and whether it came to say anything.
fn killed_somewhere(dir: &Path, role: &str, random: &SeededEntropy) -> Vec<String> {
    let mut process = Process::start(dir, role);
    let mut told = Vec::new();
    for _ in 0..random.next_u64() % 24 {
        told.extend(process.next());
    }
    // And on, into the middle of the next one.
    for _ in 0..random.next_u64() % 4_000 {
        std::thread::yield_now();
    }
    told.extend(process.kill());
    told
}

fn assert_nothing_in_the_open(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nothing_in_the_open(&path);
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        let is_there = bytes.windows(PLANTED.len()).any(|window| window == PLANTED.as_bytes());
        assert!(!is_there, "{} shows what is secret", path.display());
    }
}

fn random() -> SeededEntropy {
    let seed = number("LOCUS_VAULT_SEED").unwrap_or_else(|| SystemEntropy.next_u64());
    println!("LOCUS_VAULT_SEED={seed}");
    SeededEntropy::new(seed)
}

#[tokio::test]
async fn a_writer_that_is_killed_leaves_each_entity_in_the_old_version_or_the_new() {
    let (dir, random) = (fill().await, random());
    let mut counts = [0; ENTITIES as usize];
    let mut told_at_all = 0;
    for kill in 0..kills() {
        let told = killed_somewhere(dir.path(), "write", &random);
        told_at_all += told.len();
        let mut made = [0; ENTITIES as usize];
        for entity in told {
            made[entity.parse::<usize>().unwrap()] += 1;
        }
        let vault = open(dir.path()).await;
        let mut untold = 0;
        for entity in 0..ENTITIES {
            let (at, now) = (entity as usize, count_of(&vault.get(&name(entity)).await.unwrap()));
            assert!(now >= counts[at] + made[at], "kill {kill}: entity {entity} lost what was told");
            untold += now - counts[at] - made[at];
            counts[at] = now;
        }
        assert!(untold <= 1, "kill {kill}: {untold} changes were made that nobody was told of");
        assert!(vault.verify().await.unwrap().damaged.is_empty(), "kill {kill}");
    }
    assert!(told_at_all > 0);
    assert_nothing_in_the_open(dir.path());
    let vault = open(dir.path()).await;
    assert!(vault.sweep().await.unwrap().failed.is_empty());
    assert_nothing_in_the_open(dir.path());
}

#[tokio::test]
async fn a_rotation_and_a_rewrap_that_are_killed_anywhere_leave_every_entity_readable() {
    let (dir, random) = (fill().await, random());
    let mut rotations = 0;
    for kill in 0..kills() {
        let told = killed_somewhere(dir.path(), "rotate", &random);
        rotations += told.iter().filter(|line| *line == "rotated").count();
        let vault = open(dir.path()).await;
        for entity in 0..ENTITIES {
            let got = vault.get(&name(entity)).await.unwrap_or_else(|why| panic!("kill {kill}: {why}"));
            assert_eq!(count_of(&got), 0, "kill {kill}");
        }
        let report = vault.rewrap(RewrapOptions::default(), &mut |_| {}).await.unwrap();
        assert_eq!((report.rewrapped + report.already, report.failed), (ENTITIES, 0), "kill {kill}");
    }
    assert!(rotations > 0);
    assert_nothing_in_the_open(dir.path());
}

#[tokio::test]
async fn updates_of_four_processes_are_all_made_beside_a_reader_who_sees_each_as_a_whole() {
    let dir = fill().await;
    let reader = Process::start(dir.path(), "read");
    let writers: Vec<_> = (0..4).map(|_| Process::start(dir.path(), "count")).collect();
    let mut made: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for told in writers.into_iter().flat_map(Process::finish) {
        let (entity, version) = told.split_once(' ').unwrap();
        made.entry(entity.parse().unwrap()).or_default().push(version.parse().unwrap());
    }
    std::fs::File::create(dir.path().join("stop")).unwrap();
    let reads: u64 = reader.finish()[0].parse().unwrap();
    let vault = open(dir.path()).await;
    for (entity, versions) in &made {
        let now = vault.get(&name(*entity)).await.unwrap();
        // Each version was made once, and the content counts them.
        let once: BTreeSet<u64> = versions.iter().copied().collect();
        assert_eq!(once.len(), versions.len(), "entity {entity}: a version was made twice");
        assert!(once.iter().copied().eq(2..=now.version().number), "entity {entity}: a version is missing");
        assert_eq!(count_of(&now), versions.len() as u64, "entity {entity}: an update was lost");
    }
    let updates: usize = made.values().map(Vec::len).sum();
    assert!(reads > 0 && updates >= 4, "{reads} reads, {updates} updates");
    println!("{updates} updates by four processes, {reads} reads beside them");
    assert_nothing_in_the_open(dir.path());
}
