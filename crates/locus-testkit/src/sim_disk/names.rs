//! The names of a simulated disk: what a look-up sees, and every version since the durable one.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
};

use crate::{
    entropy::SeededEntropy,
    sim_disk::mood::{Mood, below},
};

/// Names a file or directory for as long as it is somewhere.
pub(super) type Ino = u64;

/// The directory that is always there.
pub(super) const ROOT: Ino = 1;

/// A name in a directory.
pub(super) type Entry = (Ino, OsString);

/// All names. A crash leaves of each either its durable version or a later one; rules between names see to it that a
/// rename loses no file.
#[derive(Debug, Default)]
pub(super) struct Names {
    current: BTreeMap<Entry, Ino>,
    /// The durable version first, then all since, oldest first: at least two.
    pending: BTreeMap<Entry, Vec<Version>>,
    /// How often an inode stands in `pending`.
    held: BTreeMap<Ino, u64>,
    /// Counts the changes.
    seq: u64,
}

#[derive(Debug)]
struct Version {
    seq: u64,
    ino: Option<Ino>,
    link: Link,
    /// An empty directory that this change removed.
    removed_dir: Option<Ino>,
    /// The directory was synced, but this removal waits for the new name of what was renamed.
    wanted: bool,
    /// A sync failed on it: the next one takes it for clean.
    stuck: bool,
}

/// The other half of a rename.
#[derive(Debug, Clone)]
enum Link {
    None,
    MovedTo(Entry),
    MovedFrom { from: Entry, atomic: bool },
}

impl Names {
    pub(super) fn get(&self, dir: Ino, name: &OsStr) -> Option<Ino> {
        self.current.get(&(dir, name.to_owned())).copied()
    }

    /// What a directory holds, by name.
    pub(super) fn list(&self, dir: Ino) -> impl Iterator<Item = (&OsString, Ino)> {
        self.current.range(span(dir)).map(|((_, name), ino)| (name, *ino))
    }

    pub(super) fn is_empty(&self, dir: Ino) -> bool {
        self.list(dir).next().is_none()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Entry, Ino)> {
        self.current.iter().map(|(entry, ino)| (entry, *ino))
    }

    /// Whether a crash could bring a name of it back.
    pub(super) fn holds(&self, ino: Ino) -> bool {
        self.held.contains_key(&ino)
    }

    pub(super) fn add(&mut self, entry: Entry, ino: Ino) {
        self.seq += 1;
        self.change(entry, Some(ino), Link::None, None);
    }

    pub(super) fn remove(&mut self, entry: Entry, removed_dir: Option<Ino>) {
        self.seq += 1;
        self.change(entry, None, Link::None, removed_dir);
    }

    /// `atomic`: no crash leaves both names.
    pub(super) fn rename(
        &mut self,
        from: Entry,
        to: Entry,
        ino: Ino,
        removed_dir: Option<Ino>,
        atomic: bool,
    ) {
        self.seq += 1;
        self.change(from.clone(), None, Link::MovedTo(to.clone()), None);
        self.change(to, Some(ino), Link::MovedFrom { from, atomic }, removed_dir);
    }

    fn change(&mut self, entry: Entry, ino: Option<Ino>, link: Link, removed_dir: Option<Ino>) {
        let before = match ino {
            Some(ino) => self.current.insert(entry.clone(), ino),
            None => self.current.remove(&entry),
        };
        let version = |seq, ino, link, removed_dir| Version {
            seq,
            ino,
            link,
            removed_dir,
            wanted: false,
            stuck: false,
        };
        let versions = self.pending.entry(entry).or_default();
        if versions.is_empty() {
            versions.push(version(self.seq - 1, before, Link::None, None));
            before.into_iter().for_each(|ino| *self.held.entry(ino).or_default() += 1);
        }
        versions.push(version(self.seq, ino, link, removed_dir));
        ino.into_iter().for_each(|ino| *self.held.entry(ino).or_default() += 1);
    }

    /// Makes the names in a directory durable. Says which inodes a crash may bring back no longer.
    ///
    /// The removal of a name by a rename into another directory waits until the new name is durable.
    pub(super) fn sync(&mut self, dir: Ino) -> Vec<Ino> {
        let mut freed = Vec::new();
        let entries: Vec<Entry> = self.pending.range(span(dir)).map(|(entry, _)| entry.clone()).collect();
        for entry in entries {
            let Some(last) = self.pending.get(&entry).and_then(|versions| versions.last()) else { continue };
            let seq = last.seq;
            if last.stuck {
                continue;
            }
            let waits = matches!(&last.link, Link::MovedTo(to) if to.0 != dir && self.is_pending(to, seq));
            if waits {
                self.settle(&entry, seq - 1, &mut freed);
                if let Some(last) = self.pending.get_mut(&entry).and_then(|versions| versions.last_mut()) {
                    last.wanted = true;
                }
            } else {
                self.settle(&entry, seq, &mut freed);
            }
        }
        freed
    }

    /// A sync of the directory failed: what it should have made durable looks clean, but is not.
    pub(super) fn sync_failed(&mut self, dir: Ino) {
        for (_, versions) in self.pending.range_mut(span(dir)) {
            versions.iter_mut().for_each(|version| version.stuck = true);
        }
    }

    fn is_pending(&self, entry: &Entry, seq: u64) -> bool {
        self.pending.get(entry).is_some_and(|versions| versions[1..].iter().any(|version| version.seq == seq))
    }

    /// Makes the versions of a name up to `seq` durable, and what must not come after them.
    fn settle(&mut self, entry: &Entry, seq: u64, freed: &mut Vec<Ino>) {
        let Some(versions) = self.pending.get_mut(entry) else { return };
        let at = versions.iter().rposition(|version| version.seq <= seq).unwrap_or(0);
        if at == 0 {
            return;
        }
        let mut dropped: Vec<Option<Ino>> = versions.iter().take(at).map(|version| version.ino).collect();
        let mut settled: Vec<(u64, Link, Option<Ino>)> = Vec::new();
        for version in &mut versions[1..=at] {
            settled.push((
                version.seq,
                std::mem::replace(&mut version.link, Link::None),
                version.removed_dir.take(),
            ));
        }
        versions.drain(..at);
        if versions.len() == 1 {
            dropped.push(versions[0].ino);
            self.pending.remove(entry);
        }
        for ino in dropped.into_iter().flatten() {
            let count = self.held.get_mut(&ino).expect("because every version holds its inode");
            *count -= 1;
            if *count == 0 {
                self.held.remove(&ino);
                freed.push(ino);
            }
        }
        for (seq, link, removed_dir) in settled {
            if let Some(dir) = removed_dir {
                let inside: Vec<Entry> =
                    self.pending.range(span(dir)).map(|(entry, _)| entry.clone()).collect();
                inside.iter().for_each(|entry| self.settle(entry, seq, freed));
            }
            match link {
                Link::None => {}
                Link::MovedTo(to) => self.settle(&to, seq, freed),
                Link::MovedFrom { from, atomic } => {
                    let wanted = self.pending.get(&from).is_some_and(|versions| {
                        versions[1..].iter().any(|version| version.seq == seq && version.wanted)
                    });
                    if atomic || wanted {
                        self.settle(&from, seq, freed);
                    }
                }
            }
        }
    }

    /// The power goes: of every name one version stays, and it is durable.
    pub(super) fn crash(&mut self, entropy: &SeededEntropy, is_dir: impl Fn(Ino) -> bool) {
        let pending = std::mem::take(&mut self.pending);
        self.held.clear();
        let mood = Mood::choose(entropy, pending.len());
        let cut = self.cut(entropy, &pending);
        let mut picks: BTreeMap<&Entry, usize> = BTreeMap::new();
        for (entry, versions) in &pending {
            let pick = match mood {
                Mood::All => versions.len() - 1,
                Mood::Nothing => 0,
                Mood::Before(_) => versions.iter().skip(1).filter(|version| version.seq < cut).count(),
                Mood::Mixed => below(entropy, versions.len()),
            };
            picks.insert(entry, pick);
        }
        // What breaks a rule goes back one version further; that every name is back at its durable one breaks none.
        while self.step_back(&pending, &mut picks, &is_dir) {}
        let picked: Vec<(Entry, Option<Ino>)> =
            picks.into_iter().map(|(entry, pick)| (entry.clone(), pending[entry][pick].ino)).collect();
        for (entry, ino) in picked {
            match ino {
                Some(ino) => self.current.insert(entry, ino),
                None => self.current.remove(&entry),
            };
        }
    }

    /// Forgets what a directory that is no more holds.
    pub(super) fn forget(&mut self, dirs: &BTreeSet<Ino>) {
        self.current.retain(|(dir, _), _| !dirs.contains(dir));
    }

    /// A change among the pending ones, or the one after them all.
    fn cut(&self, entropy: &SeededEntropy, pending: &BTreeMap<Entry, Vec<Version>>) -> u64 {
        let first = pending.values().map(|versions| versions[1].seq).min().unwrap_or(self.seq);
        first + entropy.below(self.seq - first + 2)
    }

    /// Takes back what must not be without something else that was lost; `false` when there was nothing.
    fn step_back<'a>(
        &self,
        pending: &'a BTreeMap<Entry, Vec<Version>>,
        picks: &mut BTreeMap<&'a Entry, usize>,
        is_dir: &impl Fn(Ino) -> bool,
    ) -> bool {
        // A name without pending versions is durable as it is.
        let reached = |picks: &BTreeMap<&Entry, usize>, entry: &Entry| {
            picks.get(entry).map_or(u64::MAX, |pick| pending[entry][*pick].seq)
        };
        let mut changed = false;
        for (entry, versions) in pending {
            for at in (1..=picks[entry]).rev() {
                let version = &versions[at];
                let half = match &version.link {
                    Link::None => false,
                    Link::MovedTo(to) => reached(picks, to) < version.seq,
                    Link::MovedFrom { from, atomic } => *atomic && reached(picks, from) < version.seq,
                };
                // A directory that held something still cannot have gone.
                let held_something = version.removed_dir.is_some_and(|dir| {
                    pending.range(span(dir)).any(|(inside, versions)| {
                        let last = versions.iter().rfind(|inside| inside.seq <= version.seq);
                        last.is_some_and(|last| reached(picks, inside) < last.seq)
                    })
                });
                if half || held_something {
                    picks.insert(entry, at - 1);
                    changed = true;
                }
            }
        }
        changed || self.step_back_from_nowhere(pending, picks, is_dir)
    }

    /// A file that was renamed into a directory which is itself lost stays where it was.
    fn step_back_from_nowhere<'a>(
        &self,
        pending: &'a BTreeMap<Entry, Vec<Version>>,
        picks: &mut BTreeMap<&'a Entry, usize>,
        is_dir: &impl Fn(Ino) -> bool,
    ) -> bool {
        let moves: Vec<(&Entry, usize, Ino)> = pending
            .iter()
            .flat_map(|(entry, versions)| {
                versions.iter().enumerate().skip(1).filter_map(move |(at, version)| match &version.link {
                    Link::MovedTo(to) if to.0 != entry.0 => Some((entry, at, to.0)),
                    _ => None,
                })
            })
            .collect();
        if moves.is_empty() {
            return false;
        }
        let mut children: BTreeMap<Ino, Vec<Ino>> = BTreeMap::new();
        let picked = picks.iter().map(|(entry, pick)| (*entry, pending[*entry][*pick].ino));
        let untouched = self.all().filter(|(entry, _)| !pending.contains_key(*entry));
        for (entry, ino) in untouched.map(|(entry, ino)| (entry, Some(ino))).chain(picked) {
            if let Some(ino) = ino.filter(|ino| is_dir(*ino)) {
                children.entry(entry.0).or_default().push(ino);
            }
        }
        let mut reachable = BTreeSet::new();
        let mut ahead = vec![ROOT];
        while let Some(dir) = ahead.pop() {
            if reachable.insert(dir) {
                ahead.extend(children.get(&dir).into_iter().flatten());
            }
        }
        let mut changed = false;
        for (entry, at, to) in moves {
            if picks[entry] >= at && !reachable.contains(&to) {
                picks.insert(entry, at - 1);
                changed = true;
            }
        }
        changed
    }
}

fn span(dir: Ino) -> std::ops::Range<Entry> {
    (dir, OsString::new())..(dir + 1, OsString::new())
}
