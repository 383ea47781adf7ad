//! What a program that is dead had confirmed, and a store held against it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use locus::prelude::*;
use locus_tests::{DIRECTORIES, Note, Plan, TENANTS};
use tokio::runtime;

use crate::support::{chain, content, in_time};

/// What happened to a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Not asked for, or refused.
    Not,
    /// Asked for with the note of this number; what came of it nobody was told.
    Open(usize),
    /// Asked for with the first note and confirmed with the second.
    Done(usize, usize),
}

/// A file by the number of its write.
#[derive(Debug)]
struct File {
    bytes: u64,
    key: Option<FileKey>,
    write: Fate,
    end: Fate,
    /// How many are about to end it: its worker, its owner.
    ends_open: u32,
    /// The program that tried to, by its number.
    ended_in: usize,
}

/// How the last programs ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The kernel went on.
    Kill,
    /// What was not synced may be gone.
    PowerLoss,
}

/// What was noted about a store.
#[derive(Debug, Default)]
pub(crate) struct Book {
    files: BTreeMap<u64, File>,
    /// Seen to be gone, or never there.
    gone: BTreeSet<u64>,
    noted: usize,
    /// Openings so far.
    lives: usize,
    /// Whatever was confirmed before this note survives power loss.
    synced: usize,
    /// When barriers began.
    syncs: BTreeMap<(usize, u64), usize>,
    /// How often calls failed, by call and error.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Changes that were confirmed.
    pub(crate) acknowledged: u64,
    /// Confirmed changes that were lost and were allowed to be.
    pub(crate) lost_allowed: u64,
}

impl Book {
    /// The number of the next write.
    pub(crate) fn next(&self) -> u64 {
        let last = [self.files.last_key_value().map(|(n, _)| *n), self.gone.last().copied()]
            .into_iter()
            .flatten()
            .max();
        last.map_or(0, |n| n + 1)
    }

    /// Notes what a program told.
    pub(crate) fn note(&mut self, notes: &[Note]) {
        for note in notes {
            self.noted += 1;
            self.take(note);
        }
    }

    fn take(&mut self, note: &Note) {
        let at = self.noted;
        match note {
            Note::Opening => self.lives += 1,
            Note::Opened | Note::Over => {}
            Note::Write { n, bytes } => {
                let file = File {
                    bytes: *bytes,
                    key: None,
                    write: Fate::Open(at),
                    end: Fate::Not,
                    ends_open: 0,
                    ended_in: 0,
                };
                assert!(self.files.insert(*n, file).is_none() && !self.gone.contains(n), "write {n} twice");
            }
            Note::Wrote { n, key } => {
                let file = self.file(*n);
                file.key = Some(*key);
                // A worker may have had it before its writer was told.
                if let Fate::Open(began) = file.write {
                    file.write = Fate::Done(began, at);
                }
                self.acknowledged += 1;
            }
            Note::Refused { n } => {
                let file = self.file(*n);
                assert!(matches!(file.write, Fate::Open(_)), "write {n} was refused and is there: {file:?}");
                file.write = Fate::Not;
            }
            Note::Leased { n, key } => {
                assert!(!self.gone.contains(n), "write {n} is back");
                let lives = self.lives;
                let file = self.file(*n);
                assert!(
                    file.key.is_none_or(|known| known == *key),
                    "write {n} under two keys: {file:?}, {key}"
                );
                file.key = Some(*key);
                match file.write {
                    Fate::Not => panic!("write {n} was refused and is delivered"),
                    Fate::Open(began) => file.write = Fate::Done(began, at),
                    Fate::Done(..) => {}
                }
                if file.ended_in < lives {
                    assert!(!matches!(file.end, Fate::Done(..)), "write {n} is over and delivered: {file:?}");
                    (file.end, file.ends_open) = (Fate::Not, 0);
                }
            }
            Note::End { n } => {
                let lives = self.lives;
                let file = self.file(*n);
                file.ends_open += 1;
                file.ended_in = lives;
                if file.end == Fate::Not {
                    file.end = Fate::Open(at);
                }
            }
            Note::Ended { n } => {
                let file = self.file(*n);
                if let Fate::Open(began) = file.end {
                    file.end = Fate::Done(began, at);
                }
                self.acknowledged += 1;
            }
            Note::Kept { n } => {
                let file = self.file(*n);
                file.ends_open -= 1;
                if file.ends_open == 0 && matches!(file.end, Fate::Open(_)) {
                    file.end = Fate::Not;
                }
            }
            Note::Sync { id } => drop(self.syncs.insert((self.lives, *id), at)),
            Note::Synced { id } => self.synced = self.synced.max(self.syncs[&(self.lives, *id)]),
            Note::Error { op, text } => {
                let name = text.rsplit_once(" (").map_or("", |(_, debug)| debug);
                let name = name.split([' ', ')']).next().unwrap_or_default();
                *self.errors.entry(format!("{op}: {name}")).or_default() += 1;
            }
            Note::Begun { .. } | Note::Piece { .. } | Note::Finishing | Note::Streamed { .. } => {
                panic!("of another story: {note:?}")
            }
            Note::Broken { text } => panic!("{text}"),
        }
    }

    fn file(&mut self, n: u64) -> &mut File {
        self.files.get_mut(&n).unwrap_or_else(|| panic!("write {n} was never made, or is over"))
    }

    /// Opens the store, and finds in it what must be there and nothing else. What was undecided is decided then.
    pub(crate) fn check(&mut self, plan: &Plan, crash: Crash) {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        runtime.block_on(async {
            let locus = in_time("an open store", plan.open()).await;
            let locus = locus.unwrap_or_else(|error| panic!("open: {}", chain(&error)));
            let report = format!("{:?}", locus.open_report());
            let present = Open { plan, locus: &locus }.look(self).await;
            self.decide(&present, plan.durability, crash, &report);
            in_time("a closed store", locus.shutdown()).await.unwrap();
        });
    }

    /// Empties the store, and finds nothing left of anything.
    pub(crate) fn close(mut self, plan: &Plan) {
        let runtime = runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
        runtime.block_on(async {
            let locus = in_time("an open store", plan.open()).await.unwrap();
            let open = Open { plan, locus: &locus };
            for (n, file) in &self.files {
                let tenant = open.tenant(Plan::tenant(*n)).await;
                let key = file.key.unwrap();
                in_time("a deletion", locus.pool().delete(&tenant, &key)).await.unwrap();
            }
            self.files.clear();
            assert_eq!(open.look(&mut self).await, BTreeMap::new());
            assert!(locus.counts().is_empty());
            let statistics = locus.statistics();
            assert_eq!((statistics.files_in_journal, statistics.bytes_in_journal), (0, 0));
            in_time("a closed store", locus.shutdown()).await.unwrap();
        });
    }

    /// Holds what is there against what was confirmed, and forgets what is gone.
    fn decide(
        &mut self,
        present: &BTreeMap<u64, FileKey>,
        durability: Durability,
        crash: Crash,
        report: &str,
    ) {
        let unknown: Vec<_> = present.keys().filter(|n| !self.files.contains_key(n)).collect();
        assert!(unknown.is_empty(), "nobody wrote {unknown:?}, or they are back; {report}");
        let may_lose = crash == Crash::PowerLoss && durability == Durability::Buffered;
        // The first confirmed change that did not survive, and the last that was asked for and did.
        let (mut lost, mut survived) = ((usize::MAX, 0), (0, 0));
        for (n, file) in &self.files {
            let is_present = present.contains_key(n);
            let told = match (is_present, file.write, file.end) {
                (true, _, Fate::Done(_, told)) => Some(told),
                (false, Fate::Done(_, told), Fate::Not) => Some(told),
                _ => None,
            };
            if let Some(told) = told {
                let is_allowed = may_lose && told > self.synced;
                assert!(is_allowed, "write {n} is lost, or back (there: {is_present}): {file:?}; {report}");
                self.lost_allowed += 1;
                lost = lost.min((told, *n));
            }
            match (is_present, file.write) {
                (true, Fate::Not) => panic!("write {n} was refused and is there; {report}"),
                (true, Fate::Open(began) | Fate::Done(began, _)) => survived = survived.max((began, *n)),
                (false, _) => {}
            }
        }
        let (told, began) = (lost.0, survived.0);
        assert!(
            began < told,
            "a hole: write {} is there, a change of {} is not; {report}",
            survived.1,
            lost.1
        );
        for (n, file) in std::mem::take(&mut self.files) {
            let Some(key) = present.get(&n) else {
                self.gone.insert(n);
                continue;
            };
            assert!(file.key.is_none_or(|known| known == *key), "write {n} under two keys: {file:?}, {key}");
            // Decided before all that comes.
            let decided =
                File { key: Some(*key), write: Fate::Done(0, 0), end: Fate::Not, ends_open: 0, ..file };
            self.files.insert(n, decided);
        }
    }
}

/// An open store that is looked at.
struct Open<'a> {
    plan: &'a Plan,
    locus: &'a Locus,
}

impl Open<'_> {
    async fn tenant(&self, id: &str) -> TenantContext {
        self.locus.tenants().get(id).await.unwrap()
    }

    /// All that is there, after what is over was removed. Bytes, records, counts, quotas and volumes agree.
    async fn look(&self, book: &mut Book) -> BTreeMap<u64, FileKey> {
        in_time("all is removed", self.locus.cleanup().settled()).await.unwrap();
        self.locus.cleanup().leftovers().await.unwrap();
        let mut present = self.handed_out(book).await;
        for (n, file) in &book.files {
            let Some(key) = file.key else { continue };
            let tenant = self.tenant(Plan::tenant(*n)).await;
            if self.locus.pool().info(&tenant, &key).await.unwrap().is_some() {
                present.insert(*n, key);
            }
        }
        let mut rest = self.markers();
        for (n, key) in &present {
            let Some(file) = book.files.get(n) else { continue };
            let tenant = self.tenant(Plan::tenant(*n)).await;
            let found = self.locus.pool().location(&tenant, key).await.unwrap().unwrap();
            let of = (found.info.size, found.info.original_name, found.info.directory.to_string());
            assert_eq!(of, (file.bytes, Some(Plan::name(*n)), Plan::directory(*n)), "write {n}");
            let reader = self.locus.pool().read(&tenant, key).await;
            let bytes =
                reader.unwrap_or_else(|error| panic!("read write {n}: {}", chain(&error))).bytes().await;
            let bytes = bytes.unwrap_or_else(|error| panic!("read write {n}: {}", chain(&error)));
            assert!(bytes[..] == content(self.plan.seed, *n, file.bytes)[..], "write {n} has other content");
            rest.extend(found.physical_path);
        }
        self.check_counts(&present);
        assert_eq!(self.files_on_volumes(), rest, "what lies on volumes");
        assert_eq!(self.locus.pool().residue(), []);
        present
    }

    /// What workers would be given now: also what nobody was told about. Suspects may be missing.
    async fn handed_out(&self, book: &Book) -> BTreeMap<u64, FileKey> {
        let (mut found, mut leases) = (BTreeMap::new(), Vec::new());
        for id in TENANTS {
            let tenant = self.tenant(id).await;
            loop {
                let batch = self.locus.scheduler().next_batch(&tenant, 4_096).await.unwrap();
                if batch.is_empty() {
                    break;
                }
                for file in batch {
                    let n = Plan::number(file.original_name.as_deref()).unwrap();
                    assert_eq!(Plan::tenant(n), id, "write {n}");
                    assert!(!book.gone.contains(&n), "write {n} is back");
                    assert_eq!(found.insert(n, file.key), None, "write {n} is delivered twice");
                    leases.push(file.lease);
                }
            }
        }
        for lease in leases {
            self.locus.scheduler().release(&lease).await.unwrap();
        }
        found
    }

    fn check_counts(&self, present: &BTreeMap<u64, FileKey>) {
        let count = |scope: Scope| self.locus.quotas().count(&scope);
        let counted: u64 = self
            .locus
            .counts()
            .values()
            .map(|counts| counts.pending + counts.processing + counts.permanently_failed)
            .sum();
        let all = present.len() as u64;
        assert_eq!((counted, count(Scope::Global)), (all, all), "{present:?}");
        for id in TENANTS {
            let tenant = TenantId::parse(id).unwrap();
            let mine: Vec<u64> = present.keys().copied().filter(|n| Plan::tenant(*n) == id).collect();
            assert_eq!(count(Scope::Tenant(tenant.clone())), mine.len() as u64, "{id}");
            for directory in 0..DIRECTORIES {
                let name = format!("/{directory}");
                let here = mine.iter().filter(|n| Plan::directory(**n) == name).count() as u64;
                let scope = Scope::Directory(tenant.clone(), LogicalDir::parse(&name).unwrap());
                assert_eq!(count(scope), here, "{id}{name}");
            }
        }
    }

    fn markers(&self) -> BTreeSet<PathBuf> {
        self.plan.volumes().iter().map(|volume| volume.join(".locus-volume")).collect()
    }

    fn files_on_volumes(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        for volume in self.plan.volumes() {
            files_below(&volume, &mut files);
        }
        files
    }
}

fn files_below(dir: &Path, files: &mut BTreeSet<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files_below(&entry.path(), files);
        } else {
            files.insert(entry.path());
        }
    }
}
