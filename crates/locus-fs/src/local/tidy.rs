//! Walks over the directories of a volume: empty ones are removed, files of other programs too.

use std::{
    io,
    ops::Bound,
    path::{Path, PathBuf},
};

use locus_core::{Area, Cursor, DirSweep, Error, JunkSweep, Result, StoragePath, TidyReport, Unread};

use crate::{
    disk::{DirEntry, EntryKind},
    local::{
        core::{Core, is_absent},
        layout,
        listing::{pass_by, smallest},
    },
    replace::parent_of,
};

/// Most directories that one step looks at when nobody says.
const DIRS_PER_STEP: usize = 1_024;

/// Names of directories that are sorted at a time.
const NAMES_AT_A_TIME: usize = 1_024;

/// Begins the cursor of a sweep over those that lost a blob; one of a walk begins with a name.
const QUEUED: &str = "/";

/// Removes empty directories.
pub(crate) fn empty_dirs(core: &Core, sweep: &DirSweep) -> Result<TidyReport> {
    core.may_be_used()?;
    core.check_identity()?;
    let mut report = TidyReport::default();
    let from = sweep.from.as_ref();
    if let Some(before) = from.and_then(|from| from.0.strip_prefix(QUEUED)) {
        report.next = emptied_dirs(core, sweep, Some(core.layout.mount.join(before)), &mut report);
        return Ok(report);
    }
    let is_queued = sweep.emptied && from.is_none() && sweep.owner.is_none() && !sweep.dry_run;
    if is_queued && !core.dirs.forget_emptied_if_more() {
        report.next = emptied_dirs(core, sweep, None, &mut report);
        return Ok(report);
    }
    let mut unread = Vec::new();
    report.next =
        walk(core, sweep.owner.as_ref(), from, sweep.dirs_max, &mut unread, |dir, is_removable| {
            if is_removable {
                remove_if_empty(core, dir, sweep, &mut report);
            }
        })?;
    report.unread = unread;
    Ok(report)
}

/// Those that lost a blob, the last one first, so that what is above them comes behind them. Says where to go on: what is
/// spared now is behind that, and looked at next time.
fn emptied_dirs(
    core: &Core,
    sweep: &DirSweep,
    mut before: Option<PathBuf>,
    report: &mut TidyReport,
) -> Option<Cursor> {
    for _ in 0..dirs_of_a_step(sweep.dirs_max) {
        let dir = core.dirs.take_emptied(before.as_deref())?;
        if core.layout.is_removable(&dir) {
            match remove_if_empty(core, &dir, sweep, report) {
                Removed::Yes => core.dirs.lost_one(parent_of(&dir).to_owned()),
                Removed::Spared => core.dirs.lost_one(dir.clone()),
                Removed::No => {}
            }
        }
        before = Some(dir);
    }
    Some(Cursor(format!("{QUEUED}{}", relative(core, &before?)?)))
}

/// Most directories that a step looks at.
const fn dirs_of_a_step(dirs_max: usize) -> usize {
    if dirs_max == 0 { DIRS_PER_STEP } else { dirs_max }
}

#[derive(PartialEq, Eq)]
enum Removed {
    Yes,
    /// It may go next time.
    Spared,
    No,
}

fn remove_if_empty(core: &Core, dir: &Path, sweep: &DirSweep, report: &mut TidyReport) -> Removed {
    let is_protected = relative(core, dir).is_none_or(|name| sweep.protected.has(&name));
    if is_protected || !is_empty(core, dir) {
        return Removed::No;
    }
    if sweep.dry_run {
        report.removed += 1;
        return Removed::No;
    }
    if sweep.idle && core.dirs.take_used(dir) {
        return Removed::Spared;
    }
    let removed = {
        let _alone = core.dirs.alone(); // nobody is about to put something in
        let removed = core.disk.remove_dir(dir);
        if removed.is_ok() {
            core.dirs.forget(&[dir.to_owned()]);
            // What was removed from it is gone with it, durably once the one above is synced.
            core.unsynced.removed(dir, parent_of(dir).to_owned());
            core.dirs.removed_one();
        }
        removed
    };
    match removed {
        Ok(()) => {
            report.removed += 1;
            Removed::Yes
        }
        // Somebody was faster.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty || is_absent(&error) => Removed::No,
        Err(error) => {
            core.left_behind(dir, &error);
            report.failed += 1;
            Removed::No
        }
    }
}

/// One that is gone or cannot be read is not.
fn is_empty(core: &Core, dir: &Path) -> bool {
    core.disk.read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes files of other programs.
pub(crate) fn junk(core: &Core, sweep: &JunkSweep) -> Result<TidyReport> {
    core.may_be_used()?;
    core.check_identity()?;
    let mut report = TidyReport::default();
    if sweep.from.is_none() && sweep.owner.is_none() {
        junk_in(core, &core.layout.mount, sweep, &mut report)
            .map_err(Error::io("list", &core.layout.mount))?;
    }
    // What the walk cannot look at it notes itself.
    let mut unread = Vec::new();
    let (owner, from) = (sweep.owner.as_ref(), sweep.from.as_ref());
    report.next = walk(core, owner, from, sweep.dirs_max, &mut unread, |dir, _| {
        let looked = junk_in(core, dir, sweep, &mut report);
        let is_noted = |unread: &Unread| unread.path == dir;
        if let Err(error) = looked
            && !report.unread.iter().any(is_noted)
        {
            report.unread.push(Unread::of(dir.to_owned(), &error));
        }
    })?;
    unread.retain(|unread| !report.unread.iter().any(|noted| noted.path == unread.path));
    report.unread.append(&mut unread);
    Ok(report)
}

fn junk_in(core: &Core, dir: &Path, sweep: &JunkSweep, report: &mut TidyReport) -> io::Result<()> {
    let entries = match core.disk.read_dir(dir) {
        Err(error) if is_absent(&error) => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let Some(name) = layout::text(&entry.name) else { continue };
        let is_ours = layout::parse_blob_name(name).is_some() || name == layout::MARKER;
        if entry.kind != EntryKind::File || is_ours || !sweep.names.has(name) {
            continue;
        }
        let path = dir.join(name);
        if sweep.dry_run {
            report.removed += 1;
            report.bytes += core.disk.metadata(&path).map_or(0, |found| found.len);
        } else if core.remove_counted(&path, report) {
            core.dirs.lost_one(dir.to_owned());
        }
    }
    Ok(())
}

/// Where a directory is below the mount.
fn relative(core: &Core, dir: &Path) -> Option<String> {
    dir.strip_prefix(&core.layout.mount).ok()?.to_str().map(str::to_owned)
}

/// Calls `act` for up to so many directories of blobs, each behind those in it, with whether it may be removed. Says where to go
/// on.
fn walk(
    core: &Core,
    owner: Option<&StoragePath>,
    from: Option<&Cursor>,
    dirs_max: usize,
    unread: &mut Vec<Unread>,
    mut act: impl FnMut(&Path, bool),
) -> Result<Option<Cursor>> {
    let from: Vec<_> = from.map(|from| from.0.split('/').map(String::from).collect()).unwrap_or_default();
    let (first, mut from) = match from.first().and_then(|name| Area::of_dir(name)) {
        Some(area) => (area, from[1..].to_vec()),
        None => (Area::Live, from),
    };
    let mut walk = Walk { core, owner, left: dirs_of_a_step(dirs_max), unread, act: &mut act };
    for area in Area::ALL.into_iter().filter(|area| *area >= first) {
        let root = core.layout.area(area);
        if let Some(last) = walk.below(&root, 0, &from)? {
            return Ok(Some(Cursor(last)));
        }
        if area != Area::Live && owner.is_none() {
            (walk.act)(&root, true);
        }
        from.clear();
    }
    Ok(None)
}

struct Walk<'a> {
    core: &'a Core,
    owner: Option<&'a StoragePath>,
    left: usize,
    unread: &'a mut Vec<Unread>,
    act: &'a mut dyn FnMut(&Path, bool),
}

impl Walk<'_> {
    /// What lies in `dir`, behind `resume`. Gives the directory that was the last, when this is to stop.
    fn below(&mut self, dir: &Path, level: u8, resume: &[String]) -> Result<Option<String>> {
        if level > self.core.layout.depth {
            return Ok(None);
        }
        let owner = self.owner;
        let keep = move |entry: &DirEntry, name: &str| {
            let is_ours = match level {
                0 => owner.map_or_else(|| StoragePath::parse(name).is_ok(), |owner| owner.as_str() == name),
                _ => layout::is_shard(name),
            };
            entry.kind == EntryKind::Dir && is_ours
        };
        let mut start = resume.first().cloned().map_or(Bound::Unbounded, Bound::Included);
        loop {
            let names = smallest(&*self.core.disk, dir, start.as_ref(), NAMES_AT_A_TIME, keep);
            let is_mount = *dir == self.core.layout.mount;
            let names = if is_mount { names? } else { pass_by(names, self.unread)? };
            for name in &names {
                let rest = match resume {
                    [at] if at == name => continue,
                    [at, rest @ ..] if at == name => rest,
                    _ => &[],
                };
                let child = dir.join(name);
                if let Some(last) = self.below(&child, level + 1, rest)? {
                    return Ok(Some(last));
                }
                (self.act)(&child, self.core.layout.is_removable(&child));
                self.left = self.left.saturating_sub(1);
                if self.left == 0 {
                    return Ok(relative(self.core, &child));
                }
            }
            match names.into_iter().next_back() {
                Some(last) => start = Bound::Excluded(last),
                None => return Ok(None),
            }
        }
    }
}
