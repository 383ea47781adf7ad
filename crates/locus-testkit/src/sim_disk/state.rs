//! All there is to a simulated disk, behind its one lock.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path, PathBuf},
};

use locus_fs::{DirEntry, EntryKind, Meta};

use crate::{
    entropy::SeededEntropy,
    sim_disk::{
        content::{Content, SECTOR},
        fault::{Failure, Faults, Hit, OpKind},
        mood::below,
        names::{Entry, Ino, Names, ROOT},
    },
};

const EBADF: i32 = 9;
const ENOSPC: i32 = 28;

/// Room on a disk nobody gave a capacity.
const CAPACITY: u64 = 64 << 30;

#[derive(Debug)]
pub(super) struct State {
    pub(super) entropy: SeededEntropy,
    nodes: BTreeMap<Ino, Node>,
    names: Names,
    next_ino: Ino,
    /// Files with something that a crash could take.
    dirty: BTreeSet<Ino>,
    locks: BTreeMap<Ino, LockHeld>,
    pub(super) locks_exclude: bool,
    /// Which life of the machine this is; a handle of an earlier one is dead.
    pub(super) life: u64,
    pub(super) ops: u64,
    /// The operations so far, when somebody wants to know them.
    pub(super) heard: Option<Vec<(OpKind, PathBuf)>>,
    pub(super) crash_at: Option<u64>,
    pub(super) down: bool,
    pub(super) faults: Faults,
    pub(super) capacity: u64,
    pub(super) used: u64,
    pub(super) twin_names: bool,
    /// Files that got a name while bytes of theirs were not durable.
    pub(super) renamed_unsynced: Vec<PathBuf>,
}

#[derive(Debug)]
struct Node {
    body: Body,
    /// Names a look-up finds it by, and open handles.
    users: u64,
}

#[derive(Debug)]
enum Body {
    File(Content),
    Dir,
}

impl Node {
    /// What it takes of the capacity: whole sectors, and one for itself.
    fn cost(&self) -> u64 {
        match &self.body {
            Body::File(content) => file_cost(content.len()),
            Body::Dir => SECTOR as u64,
        }
    }

    fn is_dir(&self) -> bool {
        matches!(self.body, Body::Dir)
    }
}

fn file_cost(len: usize) -> u64 {
    ((len.div_ceil(SECTOR) + 1) * SECTOR) as u64
}

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LockHeld {
    /// By one.
    Exclusive,
    /// By so many.
    Shared(usize),
}

/// What became of an operation before it did anything.
enum Gate {
    /// It may go on.
    Open,
    /// The machine goes down in the middle of it.
    Cut,
    /// A fault hits it.
    Fault(Failure),
}

impl State {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            entropy: SeededEntropy::new(seed),
            nodes: BTreeMap::from([(ROOT, Node { body: Body::Dir, users: 1 })]),
            names: Names::default(),
            next_ino: ROOT + 1,
            dirty: BTreeSet::new(),
            locks: BTreeMap::new(),
            locks_exclude: true,
            life: 0,
            ops: 0,
            heard: None,
            crash_at: None,
            down: false,
            faults: Faults::default(),
            capacity: CAPACITY,
            used: SECTOR as u64,
            twin_names: true,
            renamed_unsynced: Vec::new(),
        }
    }

    /// Passes an operation on, unless the machine is down or goes down, or a fault hits it.
    pub(super) fn op<T>(
        &mut self,
        kind: OpKind,
        paths: &[&Path],
        run: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        match self.gate(kind, paths)? {
            Gate::Open => run(self),
            Gate::Fault(hit) => Err(hit.error),
            Gate::Cut => {
                if self.entropy.below(2) == 0 {
                    // Whether it worked, nobody will ever hear.
                    let _ = run(self);
                }
                Err(crashed())
            }
        }
    }

    /// Counts an operation; an error when the machine is down already.
    fn gate(&mut self, kind: OpKind, paths: &[&Path]) -> io::Result<Gate> {
        if self.down {
            return Err(crashed());
        }
        self.ops += 1;
        if let Some(heard) = &mut self.heard {
            heard.push((kind, paths[0].to_owned()));
        }
        let hit = if self.crash_at.is_some_and(|at| self.ops >= at) {
            Some(Hit::Down)
        } else {
            self.faults.check(self.ops, kind, paths)
        };
        self.down = matches!(hit, Some(Hit::Down));
        Ok(match hit {
            None => Gate::Open,
            Some(Hit::Down) => Gate::Cut,
            Some(Hit::Error(failure)) => Gate::Fault(failure),
        })
    }

    // Directories.

    fn find(&self, path: &Path) -> io::Result<Ino> {
        let mut at = ROOT;
        for name in path.iter().skip(1) {
            at = self.child(at, name)?.ok_or(io::ErrorKind::NotFound)?;
        }
        Ok(at)
    }

    fn child(&self, dir: Ino, name: &OsStr) -> io::Result<Option<Ino>> {
        if !self.nodes[&dir].is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(self.names.get(dir, name))
    }

    /// The entry a path stands for, and what is there.
    fn entry(&self, path: &Path) -> io::Result<(Entry, Option<Ino>)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::AlreadyExists.into());
        };
        let dir = self.find(parent)?;
        let ino = self.child(dir, name)?;
        Ok(((dir, name.to_owned()), ino))
    }

    fn existing(&self, path: &Path) -> io::Result<(Entry, Ino)> {
        let (entry, ino) = self.entry(path)?;
        Ok((entry, ino.ok_or(io::ErrorKind::NotFound)?))
    }

    fn create(&mut self, path: &Path, body: Body) -> io::Result<Ino> {
        let (entry, ino) = self.entry(path)?;
        if ino.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let node = Node { body, users: 1 };
        self.take(node.cost())?;
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(ino, node);
        self.names.add(entry, ino);
        Ok(ino)
    }

    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<Ino> {
        self.create(path, Body::File(Content::default()))
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        self.create(path, Body::Dir).map(|_| ())
    }

    pub(super) fn find_file(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        if self.nodes[&ino].is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        Ok(ino)
    }

    fn find_dir(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.find(path)?;
        if !self.nodes[&ino].is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(ino)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, replace: bool) -> io::Result<()> {
        let (from_entry, ino) = self.existing(from)?;
        let (to_entry, target) = self.entry(to)?;
        let is_dir = self.nodes[&ino].is_dir();
        if target.is_some() && !replace {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if target == Some(ino) {
            // Two names of one file: POSIX does nothing, and both stay.
            return Ok(());
        }
        if is_dir && to.starts_with(from) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if let Body::File(content) = &self.nodes[&ino].body
            && content.has_unsynced()
        {
            self.renamed_unsynced.push(to.to_owned());
        }
        let mut removed_dir = None;
        if let Some(target) = target {
            match (is_dir, self.nodes[&target].is_dir()) {
                (true, false) => return Err(io::ErrorKind::NotADirectory.into()),
                (false, true) => return Err(io::ErrorKind::IsADirectory.into()),
                (true, true) if !self.names.is_empty(target) => {
                    return Err(io::ErrorKind::DirectoryNotEmpty.into());
                }
                (true, true) => removed_dir = Some(target),
                (false, false) => {}
            }
        }
        self.names.rename(from_entry, to_entry, ino, removed_dir, is_dir || !self.twin_names);
        target.into_iter().for_each(|target| self.leave(target));
        Ok(())
    }

    /// A second name for a file.
    pub(super) fn link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (_, ino) = self.existing(from)?;
        let (to_entry, target) = self.entry(to)?;
        if self.nodes[&ino].is_dir() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if target.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if let Body::File(content) = &self.nodes[&ino].body
            && content.has_unsynced()
        {
            self.renamed_unsynced.push(to.to_owned());
        }
        self.names.add(to_entry, ino);
        self.nodes.get_mut(&ino).expect("because it was found").users += 1;
        Ok(())
    }

    pub(super) fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        let (entry, ino) = self.existing(path)?;
        if self.nodes[&ino].is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.names.remove(entry, None);
        self.leave(ino);
        Ok(())
    }

    pub(super) fn remove_dir(&mut self, path: &Path) -> io::Result<()> {
        let (entry, ino) = self.existing(path)?;
        if !self.nodes[&ino].is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if !self.names.is_empty(ino) {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.names.remove(entry, Some(ino));
        self.leave(ino);
        Ok(())
    }

    pub(super) fn read_dir(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let dir = self.find_dir(path)?;
        let mut entries: Vec<DirEntry> = self
            .names
            .list(dir)
            .map(|(name, ino)| DirEntry { name: name.clone(), kind: self.kind(ino) })
            .collect();
        for at in (1..entries.len()).rev() {
            entries.swap(at, below(&self.entropy, at + 1));
        }
        Ok(entries)
    }

    fn kind(&self, ino: Ino) -> EntryKind {
        if self.nodes[&ino].is_dir() { EntryKind::Dir } else { EntryKind::File }
    }

    pub(super) fn metadata(&self, path: &Path) -> io::Result<Meta> {
        let ino = self.find(path)?;
        let len = match &self.nodes[&ino].body {
            Body::File(content) => content.len() as u64,
            Body::Dir => 0,
        };
        Ok(Meta { kind: self.kind(ino), len, id: Some(ino) })
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let path = &[path];
        let gate = self.gate(OpKind::SyncDir, path)?;
        let dir = match (self.find_dir(path[0]), gate) {
            (Ok(dir), Gate::Open) => dir,
            (Err(error), Gate::Open) | (Err(_), Gate::Fault(Failure { error, .. })) => return Err(error),
            (Ok(dir), Gate::Fault(Failure { error, .. })) => {
                self.names.sync_failed(dir);
                return Err(error);
            }
            (dir, Gate::Cut) => {
                if let Ok(dir) = dir
                    && self.entropy.below(2) == 0
                {
                    self.settle(dir);
                }
                return Err(crashed());
            }
        };
        self.settle(dir);
        Ok(())
    }

    fn settle(&mut self, dir: Ino) {
        for ino in self.names.sync(dir) {
            self.reap(ino);
        }
    }

    // Files.

    pub(super) fn use_file(&mut self, ino: Ino) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.users += 1;
        }
    }

    /// A name or a handle is gone.
    pub(super) fn leave(&mut self, ino: Ino) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        node.users -= 1;
        if node.users == 0 {
            self.used -= node.cost();
            self.reap(ino);
        }
    }

    /// Forgets a node that nobody uses, unless a crash could bring it back.
    fn reap(&mut self, ino: Ino) {
        if self.nodes.get(&ino).is_some_and(|node| node.users == 0) && !self.names.holds(ino) {
            self.nodes.remove(&ino);
            self.dirty.remove(&ino);
        }
    }

    fn take(&mut self, cost: u64) -> io::Result<()> {
        if self.used.saturating_add(cost) > self.capacity {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        self.used += cost;
        Ok(())
    }

    fn content(&mut self, ino: Ino) -> &mut Content {
        match self.nodes.get_mut(&ino).map(|node| &mut node.body) {
            Some(Body::File(content)) => content,
            _ => unreachable!("a handle keeps its file"),
        }
    }

    pub(super) fn read(&mut self, ino: Ino, buf: &mut [u8], offset: u64) -> usize {
        self.content(ino).read(buf, offset)
    }

    pub(super) fn file_len(&mut self, ino: Ino) -> u64 {
        self.content(ino).len() as u64
    }

    pub(super) fn write(&mut self, ino: Ino, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.gate(OpKind::Write, &[path])? {
            Gate::Open => self.put(ino, bytes, offset),
            Gate::Fault(Failure { error, short }) => {
                if short {
                    self.put_short(ino, bytes, offset);
                } else {
                    self.put_some(ino, bytes, offset);
                }
                Err(error)
            }
            Gate::Cut => {
                self.put_some(ino, bytes, offset);
                Err(crashed())
            }
        }
    }

    /// A write that fails may have written a beginning.
    fn put_some(&mut self, ino: Ino, bytes: &[u8], offset: u64) {
        let some = match self.entropy.below(3) {
            0 => 0,
            1 => below(&self.entropy, bytes.len() + 1),
            _ => below(&self.entropy, bytes.len() / SECTOR + 1) * SECTOR,
        };
        // Whether there was room for them, nobody will ever hear.
        let _ = self.put(ino, &bytes[..some], offset);
    }

    /// A short write stored a beginning, and not all.
    fn put_short(&mut self, ino: Ino, bytes: &[u8], offset: u64) {
        let Some(most) = bytes.len().checked_sub(1).filter(|most| *most > 0) else { return };
        let some = 1 + below(&self.entropy, most);
        // Whether there was room for them, nobody will ever hear.
        let _ = self.put(ino, &bytes[..some], offset);
    }

    fn put(&mut self, ino: Ino, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let old_len = self.content(ino).len();
        // What fits is written, as the kernel does it.
        let room = (self.capacity.saturating_sub(self.used) + file_cost(old_len)) / SECTOR as u64;
        let end_max = room.saturating_sub(1).saturating_mul(SECTOR as u64).max(old_len as u64);
        let fits = usize::try_from(end_max.saturating_sub(offset)).unwrap_or(usize::MAX).min(bytes.len());
        if fits > 0 {
            let start =
                usize::try_from(offset).expect("because it is below the capacity, which is in memory");
            self.content(ino).write(&bytes[..fits], start);
            self.dirty.insert(ino);
            self.used += file_cost(old_len.max(start + fits)) - file_cost(old_len);
        }
        if fits < bytes.len() {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }

    pub(super) fn set_len(&mut self, ino: Ino, len: u64) -> io::Result<()> {
        let old = file_cost(self.content(ino).len());
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        let new = file_cost(len);
        self.take(new.saturating_sub(old))?;
        self.used -= old.saturating_sub(new);
        self.content(ino).set_len(len);
        self.dirty.insert(ino);
        Ok(())
    }

    pub(super) fn sync_file(&mut self, ino: Ino, path: &Path) -> io::Result<()> {
        match self.gate(OpKind::Sync, &[path])? {
            Gate::Open => {
                self.content(ino).sync();
                self.note_clean(ino);
                Ok(())
            }
            Gate::Fault(hit) => {
                self.content(ino).sync_failed();
                Err(hit.error)
            }
            Gate::Cut => {
                if self.entropy.below(2) == 0 {
                    self.content(ino).sync();
                }
                Err(crashed())
            }
        }
    }

    pub(super) fn drop_cache(&mut self, ino: Ino) {
        self.content(ino).drop_cache();
        self.note_clean(ino);
    }

    fn note_clean(&mut self, ino: Ino) {
        if self.content(ino).is_clean() {
            self.dirty.remove(&ino);
        }
    }

    // Locks.

    pub(super) fn lock(&mut self, ino: Ino, wanted: LockHeld) -> io::Result<()> {
        let now = match (self.locks.get(&ino), wanted) {
            (Some(LockHeld::Shared(holders)), LockHeld::Shared(_)) => LockHeld::Shared(holders + 1),
            (Some(_), _) if self.locks_exclude => return Err(io::ErrorKind::WouldBlock.into()),
            _ => wanted,
        };
        self.locks.insert(ino, now);
        Ok(())
    }

    pub(super) fn unlock(&mut self, ino: Ino) {
        match self.locks.get_mut(&ino) {
            Some(LockHeld::Shared(holders)) if *holders > 1 => *holders -= 1,
            _ => drop(self.locks.remove(&ino)),
        }
    }

    // Ends.

    /// The process dies: its handles and locks go, what it wrote stays with the kernel.
    pub(super) fn kill(&mut self) {
        self.life += 1;
        self.down = false;
        self.crash_at = None;
        self.locks.clear();
        self.recount();
    }

    /// The power goes, and comes back.
    pub(super) fn crash(&mut self) {
        let nodes = &self.nodes;
        self.names.crash(&self.entropy, |ino| nodes.get(&ino).is_some_and(Node::is_dir));
        for ino in std::mem::take(&mut self.dirty) {
            if let Some(Node { body: Body::File(content), .. }) = self.nodes.get_mut(&ino) {
                content.crash(&self.entropy);
            }
        }
        self.kill();
    }

    /// Counts anew who is used, now that only names count, and forgets who cannot be reached.
    fn recount(&mut self) {
        let mut users: BTreeMap<Ino, u64> = BTreeMap::from([(ROOT, 1)]);
        let mut ahead = vec![ROOT];
        while let Some(dir) = ahead.pop() {
            for (_, ino) in self.names.list(dir) {
                let count = users.entry(ino).or_default();
                *count += 1;
                if *count == 1 && self.nodes[&ino].is_dir() {
                    ahead.push(ino);
                }
            }
        }
        let lost_dirs: BTreeSet<Ino> = self
            .nodes
            .iter()
            .filter(|(ino, node)| node.is_dir() && !users.contains_key(ino))
            .map(|(ino, _)| *ino)
            .collect();
        self.names.forget(&lost_dirs);
        self.used = 0;
        let names = &self.names;
        let used = &mut self.used;
        self.nodes.retain(|ino, node| {
            node.users = users.get(ino).copied().unwrap_or(0);
            if node.users > 0 {
                *used += node.cost();
            }
            node.users > 0 || names.holds(*ino)
        });
        let nodes = &self.nodes;
        self.dirty.retain(|ino| nodes.contains_key(ino));
    }
}

/// The answer of a machine that is down, and to a handle of before.
pub(super) fn crashed() -> io::Error {
    io::Error::other("disk crashed")
}

pub(super) fn read_only() -> io::Error {
    io::Error::from_raw_os_error(EBADF)
}

/// The absolute path without `.` and `..`; a relative one begins at the root.
pub(super) fn normal(path: &Path) -> PathBuf {
    let mut parts: Vec<OsString> = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => parts.push(name.to_owned()),
            Component::ParentDir => drop(parts.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    let mut normal = PathBuf::from("/");
    normal.extend(parts);
    normal
}
