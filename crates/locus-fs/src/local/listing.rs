//! Pages of blobs, in the order of area, owner, shards and name, in bounded memory.

use std::{collections::BinaryHeap, ops::Bound, path::PathBuf};

use locus_core::{Area, BlobPage, BlobPath, Cursor, Error, ListedBlob, Result, StoragePath, Unread};

use crate::{
    disk::{DirEntry, Disk, EntryKind},
    local::{
        core::is_absent,
        layout::{self, Layout},
    },
};

/// Most directories that one page looks into, so that empty ones do not make a call long.
const DIRS_PER_PAGE: usize = 1_024;

/// Names of directories that are sorted at a time.
const NAMES_AT_A_TIME: usize = 1_024;

/// Stands for the end of a directory in a cursor: it sorts after every name of a blob.
const END: &str = "~";

/// One page of blobs behind `from`.
pub(crate) fn page(
    disk: &dyn Disk,
    layout: &Layout,
    under: Option<&StoragePath>,
    from: Option<&Cursor>,
    limit: usize,
) -> Result<BlobPage> {
    if limit == 0 {
        return Err(Error::InvalidArgument { name: "limit", why: "is 0: ask for at least one blob" });
    }
    let (first, mut from) = match from {
        Some(cursor) => parse(cursor, layout.depth)?,
        None => (Area::Live, Vec::new()),
    };
    let (page, trail, dirs_left) = (BlobPage::default(), Vec::new(), DIRS_PER_PAGE);
    let mut walk = Walk { disk, layout, limit, page, area: first, trail, dirs_left };
    for area in Area::ALL.into_iter().filter(|area| *area >= first) {
        walk.area = area;
        let is_full = match under {
            None => walk.descend(&from)?,
            Some(owner) => match from.split_first() {
                Some((at, _)) if at.as_str() > owner.as_str() => false,
                Some((at, rest)) if at == owner.as_str() => walk.enter(owner.as_str(), rest)?,
                _ => walk.enter(owner.as_str(), &[])?,
            },
        };
        if is_full {
            break;
        }
        from.clear();
    }
    Ok(walk.page)
}

/// One page of what is staged for uploads behind `from`.
pub(crate) fn staged(
    disk: &dyn Disk,
    layout: &Layout,
    from: Option<&Cursor>,
    limit: usize,
) -> Result<BlobPage> {
    if limit == 0 {
        return Err(Error::InvalidArgument { name: "limit", why: "is 0: ask for at least one blob" });
    }
    let start = from.map_or(Bound::Unbounded, |cursor| Bound::Excluded(&cursor.0));
    let keep = |entry: &DirEntry, name: &str| {
        entry.kind == EntryKind::File && layout::parse_upload_name(name).is_some()
    };
    let names = smallest(disk, &layout.staging_dir(), start, limit, keep)?;
    let mut page = BlobPage::default();
    for path in names.iter().filter_map(|name| layout::parse_upload_name(name)) {
        let at = layout.upload(&path);
        look_at(disk, path, at, &mut page);
    }
    let is_full = names.len() == limit; // also when some of them are gone by now
    page.next = names.into_iter().next_back().filter(|_| is_full).map(Cursor);
    Ok(page)
}

/// Adds a blob to a page, unless it was removed meanwhile.
fn look_at(disk: &dyn Disk, path: BlobPath, at: PathBuf, page: &mut BlobPage) {
    match disk.metadata(&at) {
        Err(error) if is_absent(&error) => {}
        Err(error) => page.unread.push(Unread::of(at, &error)),
        Ok(found) => page.blobs.push(ListedBlob { path, length: found.len }),
    }
}

/// The area of a cursor, and its components: owner, shards, name.
fn parse(cursor: &Cursor, depth: u8) -> Result<(Area, Vec<String>)> {
    let mut parts: Vec<String> = cursor.0.split('/').map(String::from).collect();
    let area = parts
        .first()
        .and_then(|dir| Area::of_dir(dir))
        .inspect(|_| drop(parts.remove(0)))
        .unwrap_or_default();
    let ok = match parts.as_slice() {
        [owner, shards @ .., name] => {
            shards.len() == usize::from(depth)
                && StoragePath::parse(owner).is_ok()
                && shards.iter().all(|shard| layout::is_shard(shard))
                && (name == END || layout::parse_blob_name(name).is_some())
        }
        _ => false,
    };
    if ok {
        return Ok((area, parts));
    }
    Err(Error::InvalidArgument { name: "from", why: "is no cursor of this volume: pass one as it was given" })
}

struct Walk<'a> {
    disk: &'a dyn Disk,
    layout: &'a Layout,
    limit: usize,
    page: BlobPage,
    area: Area,
    /// Where we are in it: owner, then shards.
    trail: Vec<String>,
    dirs_left: usize,
}

impl Walk<'_> {
    fn dir(&self) -> PathBuf {
        self.layout.area(self.area).join(self.trail.iter().collect::<PathBuf>())
    }

    /// Goes into a directory; `true` when the page is full.
    fn enter(&mut self, name: &str, resume: &[String]) -> Result<bool> {
        self.trail.push(name.to_owned());
        let full = if self.trail.len() > usize::from(self.layout.depth) {
            self.blobs(resume)
        } else {
            self.descend(resume)
        };
        self.trail.pop();
        full
    }

    /// Goes through the directories of this one, the owners or shards.
    fn descend(&mut self, resume: &[String]) -> Result<bool> {
        let is_ours = if self.trail.is_empty() { is_owner } else { layout::is_shard };
        let keep = |entry: &DirEntry, name: &str| entry.kind == EntryKind::Dir && is_ours(name);
        let mut start = resume.first().cloned().map_or(Bound::Unbounded, Bound::Included);
        loop {
            let names = smallest(self.disk, &self.dir(), start.as_ref(), NAMES_AT_A_TIME, keep);
            let is_mount = self.trail.is_empty() && self.area == Area::Live;
            let names = if is_mount { names? } else { pass_by(names, &mut self.page.unread)? };
            for name in &names {
                let rest = match resume {
                    [at, rest @ ..] if at == name => rest,
                    _ => &[],
                };
                if self.enter(name, rest)? {
                    return Ok(true);
                }
            }
            match names.into_iter().next_back() {
                Some(last) => start = Bound::Excluded(last),
                None => return Ok(false),
            }
        }
    }

    /// Takes the blobs of this directory.
    fn blobs(&mut self, resume: &[String]) -> Result<bool> {
        let dir = self.dir();
        let start = resume.first().map_or(Bound::Unbounded, Bound::Excluded);
        let room = self.limit - self.page.blobs.len();
        let (depth, trail) = (self.layout.depth, &self.trail);
        let keep = |entry: &DirEntry, name: &str| {
            entry.kind == EntryKind::File
                && layout::parse_blob_name(name).is_some_and(|(key, _)| {
                    trail[1..].iter().eq(&layout::shards(&key, depth).collect::<Vec<_>>())
                })
        };
        let names = pass_by(smallest(self.disk, &dir, start, room, keep), &mut self.page.unread)?;
        for name in &names {
            let Some((key, extension)) = layout::parse_blob_name(name) else { continue };
            let owner = StoragePath::parse(&self.trail[0])?;
            let path = BlobPath { area: self.area, owner, key, extension };
            look_at(self.disk, path, dir.join(name), &mut self.page);
        }
        self.dirs_left = self.dirs_left.saturating_sub(1);
        let last = match names.last() {
            Some(last) if names.len() == room => last.as_str(),
            _ if self.dirs_left == 0 => END,
            _ => return Ok(false),
        };
        let area = self.area.dir().map_or(String::new(), |dir| format!("{dir}/"));
        self.page.next = Some(Cursor(format!("{area}{}/{last}", self.trail.join("/"))));
        Ok(true)
    }
}

fn is_owner(name: &str) -> bool {
    StoragePath::parse(name).is_ok()
}

/// The names in a directory; none, and it is noted, when it cannot be looked at.
pub(crate) fn pass_by(names: Result<Vec<String>>, unread: &mut Vec<Unread>) -> Result<Vec<String>> {
    match names {
        Err(Error::Io { path, source, .. }) => {
            unread.push(Unread::of(path, &source));
            Ok(Vec::new())
        }
        names => names,
    }
}

/// The first `max` names of a directory behind `start`, sorted. Looks at all of them and holds `max`. A directory that
/// is gone has none.
pub(crate) fn smallest(
    disk: &dyn Disk,
    dir: &std::path::Path,
    start: Bound<&String>,
    max: usize,
    keep: impl Fn(&DirEntry, &str) -> bool,
) -> Result<Vec<String>> {
    let entries = match disk.read_dir(dir) {
        Err(error) if is_absent(&error) => return Ok(Vec::new()),
        other => other.map_err(Error::io("list", dir))?,
    };
    let mut names = BinaryHeap::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", dir))?;
        let Some(name) = layout::text(&entry.name) else { continue };
        let is_behind = match start {
            Bound::Unbounded => true,
            Bound::Included(start) => name >= start.as_str(),
            Bound::Excluded(start) => name > start.as_str(),
        };
        let is_wanted = names.len() < max || names.peek().is_some_and(|last: &String| name < last.as_str());
        if is_behind && is_wanted && keep(&entry, name) {
            names.push(name.to_owned());
            if names.len() > max {
                names.pop();
            }
        }
    }
    Ok(names.into_sorted_vec())
}
