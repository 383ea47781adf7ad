//! The logical directories of one tenant: what is counted in each and beneath it, and the limits that hold there.
//!
//! A directory is known while a file or a write under way names it, or one beneath it; so each has the one above it, and a
//! change costs as many additions as the directory is deep (32 at most), however many directories there are.

use std::collections::HashMap;

use locus_core::{LogicalDir, Scope, TenantId};

use crate::store::{
    entry::DirNo,
    limits::{Ceiling, Limits, Over, Tally},
    slab::Slab,
};

/// What is counted of a directory, or of all beneath it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Files.
    pub(crate) counted: Tally,
    /// Writes under way, and the bytes known of them.
    pub(crate) reserved: Tally,
}

/// A logical directory in use.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) path: LogicalDir,
    above: Option<DirNo>,
    /// Files, writes under way and directories that name it.
    pub(super) uses: u64,
    /// The directories among them.
    pub(super) beneath: u64,
    pub(super) own: Held,
    /// Its own and those of all directories beneath it.
    pub(super) tree: Held,
    /// The limits that it was looked up in, by their [generation](Limits::generation) (none have 0), and what holds.
    looked_up: u64,
    ceilings: Option<Box<Ceilings>>,
}

/// The limits of a directory.
#[derive(Debug, PartialEq, Eq)]
struct Ceilings {
    own: Ceiling,
    tree: Ceiling,
}

/// The directories of one tenant.
#[derive(Debug, Default)]
pub(super) struct Dirs {
    all: Slab<Dir>,
    index: HashMap<LogicalDir, DirNo>,
}

impl Dirs {
    pub(super) fn path(&self, no: DirNo) -> &LogicalDir {
        &self.all[no].path
    }

    /// What a directory holds, and what with all beneath it.
    pub(super) fn held(&self, path: &LogicalDir) -> (Held, Held) {
        self.index.get(path).map_or_else(Default::default, |no| (self.all[*no].own, self.all[*no].tree))
    }

    /// One more that names it.
    pub(super) fn enter(&mut self, path: &LogicalDir) -> DirNo {
        if let Some(no) = self.index.get(path) {
            self.all[*no].uses += 1;
            return *no;
        }
        let above = path.parent().map(|above| self.enter(&above));
        if let Some(above) = above {
            self.all[above].beneath += 1;
        }
        let no = self.all.insert(Dir {
            path: path.clone(),
            above,
            uses: 1,
            beneath: 0,
            own: Held::default(),
            tree: Held::default(),
            looked_up: 0,
            ceilings: None,
        });
        self.index.insert(path.clone(), no);
        no
    }

    /// One less that names it. The last one takes it away, and those above it that only stood for it.
    pub(super) fn leave(&mut self, no: DirNo) {
        let mut at = Some(no);
        while let Some(no) = at {
            self.all[no].uses -= 1;
            if self.all[no].uses > 0 {
                return;
            }
            let dir = self.all.remove(no);
            self.index.remove(&dir.path);
            if let Some(above) = dir.above {
                self.all[above].beneath -= 1;
            }
            at = dir.above;
        }
    }

    /// A file counts in it from now on, or no more.
    pub(super) fn count(&mut self, no: DirNo, file: Tally, more: bool) {
        self.change(no, |held| if more { held.counted.add(file) } else { held.counted.subtract(file) });
    }

    /// A write under way takes so much more of it, or gives that back.
    pub(super) fn reserve(&mut self, no: DirNo, room: Tally, more: bool) {
        self.change(no, |held| if more { held.reserved.add(room) } else { held.reserved.subtract(room) });
    }

    fn change(&mut self, no: DirNo, change: impl Fn(&mut Held)) {
        change(&mut self.all[no].own);
        let mut at = Some(no);
        while let Some(no) = at {
            change(&mut self.all[no].tree);
            at = self.all[no].above;
        }
    }

    /// Whether so much more fits into it and into every limited subtree that it lies in; else which directory is full.
    pub(super) fn admit(
        &mut self,
        no: DirNo,
        tenant: &TenantId,
        more: Tally,
        limits: &Limits,
    ) -> Result<(), (LogicalDir, Over)> {
        let mut at = Some(no);
        while let Some(here) = at {
            let dir = &mut self.all[here];
            if dir.looked_up != limits.generation() {
                let (tenant, path) = (tenant.clone(), dir.path.clone());
                let ceilings = Ceilings {
                    own: limits.of(&Scope::Directory(tenant.clone(), path.clone())),
                    tree: limits.of(&Scope::Subtree(tenant, path)),
                };
                let is_limited = ceilings.own != Ceiling::NONE || ceilings.tree != Ceiling::NONE;
                dir.ceilings = is_limited.then(|| Box::new(ceilings));
                dir.looked_up = limits.generation();
            }
            if let Some(ceilings) = &dir.ceilings {
                let used = |held: &Held| held.counted.and(held.reserved);
                let own = if here == no { ceilings.own.admit(used(&dir.own), more) } else { Ok(()) };
                let all = own.and_then(|()| ceilings.tree.admit(used(&dir.tree), more));
                all.map_err(|over| (dir.path.clone(), over))?;
            }
            at = dir.above;
        }
        Ok(())
    }

    /// Up to `max` directories from a place on, and the place behind them; `None` behind the last one.
    pub(super) fn page(&self, from: u32, max: u32) -> (impl Iterator<Item = (DirNo, &Dir)>, Option<u32>) {
        let to = self.all.end().min(from.saturating_add(max));
        let found = (from..to).filter_map(|no| Some((no, self.all.get(no)?)));
        (found, (to < self.all.end()).then_some(to))
    }

    /// Whether it is found by its name.
    pub(super) fn is_indexed(&self, no: DirNo) -> bool {
        self.index.get(&self.all[no].path) == Some(&no)
    }

    /// The directory and all above it.
    pub(super) fn upwards(&self, no: DirNo) -> impl Iterator<Item = DirNo> {
        std::iter::successors(Some(no), |no| self.all[*no].above)
    }

    #[cfg(test)]
    pub(super) fn spoil(&mut self, no: DirNo) -> &mut Dir {
        &mut self.all[no]
    }

    #[cfg(test)]
    pub(super) fn unname(&mut self, path: &LogicalDir) {
        self.index.remove(path);
    }
}
