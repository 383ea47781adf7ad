//! A walk through a watched folder, step by step: memory for one open directory per level, whatever they hold.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use locus_core::{Intake, LogicalDir, TenantId};

use crate::{
    folder::{Entries, Folder, is_link, name_bytes},
    pauses::Subject,
    reason::SkipReason,
    rules::Rules,
    scan::of_tenant,
    source::{Kind, Noted, Stat, Way},
};

/// Deepest folder that is looked into, counted from the watched one.
pub(crate) const DEPTH_MAX: usize = 32;
/// A step ends when its sources lie in so many folders: each of them is open until something was done about them.
const FOLDERS_MAX: usize = 16;
/// Longest path of a source from the watched folder on, in bytes.
const PATH_BYTES_MAX: usize = 3_072;

/// The folder that says whose a source is: the watched one, or that of a tenant in it.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) tenant: TenantId,
    /// From the watched folder on.
    pub(crate) path: PathBuf,
}

/// A source that no rule refuses by what it is.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// The open directory that it lies in.
    pub(crate) folder: Arc<Folder>,
    pub(crate) way: Arc<Way>,
    pub(crate) anchor: Arc<Anchor>,
    pub(crate) name: OsString,
    /// From the watched folder on.
    pub(crate) path: PathBuf,
    pub(crate) stat: Stat,
}

impl Found {
    /// What is noted of it.
    pub(crate) fn noted(&self) -> Noted {
        Noted {
            tenant: self.anchor.tenant.clone(),
            way: Way::clone(&self.way),
            path: name_bytes(&self.path).to_vec(),
            size: self.stat.size,
            modified: self.stat.modified,
            inode: self.stat.inode,
        }
    }

    /// As one that was brought in for this tenant.
    pub(crate) fn belonging_to(mut self, tenant: TenantId) -> Self {
        if self.anchor.tenant != tenant {
            self.anchor = Arc::new(Anchor { tenant, path: self.anchor.path.clone() });
        }
        self
    }

    /// What may hold it up on its way to this directory.
    pub(crate) fn subject<'a>(&'a self, directory: &'a LogicalDir) -> Subject<'a> {
        Subject { tenant: &self.anchor.tenant, directory, path: name_bytes(&self.path), stat: &self.stat }
    }

    /// The folder that it lies in, from the folder of its tenant on.
    pub(crate) fn beneath_anchor(&self) -> &Path {
        let parent = self.path.parent().unwrap_or(Path::new(""));
        parent.strip_prefix(&self.anchor.path).unwrap_or(parent)
    }
}

/// What a step met.
#[derive(Debug, Default)]
pub(crate) struct Step {
    pub(crate) found: Vec<Found>,
    /// What is no source, or none that can be taken.
    pub(crate) held: Vec<(PathBuf, SkipReason)>,
    /// How many of those are folders.
    pub(crate) folders_held: u64,
    /// In how many folders the sources were found.
    folders: usize,
    /// Everything was met.
    pub(crate) is_done: bool,
}

/// What is not looked into, and how deep the rest is.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    pub(crate) rules: Arc<Rules>,
    pub(crate) subdirectories: bool,
    /// The places of the store, and where sources are moved to.
    pub(crate) own: Vec<(u64, u64)>,
    /// The path of the latter, when it lies in the watched folder.
    pub(crate) target: Option<PathBuf>,
}

#[derive(Debug)]
struct Level {
    folder: Arc<Folder>,
    entries: Entries,
    path: PathBuf,
    way: Arc<Way>,
    place: (u64, u64),
    /// `None` above the folders of tenants.
    anchor: Option<Arc<Anchor>>,
}

/// Where a walk stands.
#[derive(Debug)]
pub(crate) struct Walk {
    levels: Vec<Level>,
    bounds: Bounds,
    intake: Arc<dyn Intake>,
}

impl Walk {
    /// At the beginning of a folder. Blocks the thread, as each step does.
    pub(crate) fn begin(root: Arc<Folder>, bounds: Bounds, intake: Arc<dyn Intake>) -> io::Result<Self> {
        let stat = root.stat()?;
        let anchor =
            bounds.rules.tenant.clone().map(|tenant| Anchor { tenant, path: PathBuf::new() }).map(Arc::new);
        let level = Level {
            entries: root.entries()?,
            folder: root,
            path: PathBuf::new(),
            way: Arc::new(Way::to_root(&stat)),
            place: stat.place(),
            anchor,
        };
        Ok(Self { levels: vec![level], bounds, intake })
    }

    /// Goes on by at most `max` names.
    ///
    /// # Errors
    /// When the watched folder itself cannot be read on.
    pub(crate) fn step(&mut self, max: usize) -> io::Result<Step> {
        let mut step = Step::default();
        for _ in 0..max {
            if step.folders == FOLDERS_MAX {
                break;
            }
            let depth = self.levels.len();
            let Some(level) = self.levels.last_mut() else { break };
            match level.entries.next() {
                None => {
                    self.levels.pop();
                }
                Some(Ok(name)) => self.meet(name, &mut step),
                Some(Err(error)) if depth == 1 => return Err(error),
                Some(Err(_)) => {
                    let level = self.levels.pop().expect("because it was there a moment ago");
                    step.hold_folder(level.path, SkipReason::Unreadable);
                }
            }
        }
        // Not in the order of the file system, which is another on each.
        step.found.sort_by(|one, other| one.path.cmp(&other.path));
        step.is_done = self.levels.is_empty();
        Ok(step)
    }

    /// Goes straight to one source.
    ///
    /// # Errors
    /// Why a walk does not come to it, or does not take it.
    pub(crate) fn follow(mut self, path: &Path) -> Result<Found, SkipReason> {
        for name in path {
            let (mut step, depth) = (Step::default(), self.levels.len());
            self.meet(name.to_owned(), &mut step);
            if let Some((_, why)) = step.held.pop() {
                return Err(why);
            }
            if let Some(found) = step.found.pop() {
                return if found.path == path { Ok(found) } else { Err(SkipReason::Gone) };
            }
            if self.levels.len() == depth {
                return Err(SkipReason::Excluded);
            }
        }
        Err(SkipReason::NotIncluded) // a folder is no source
    }

    fn meet(&mut self, name: OsString, step: &mut Step) {
        let Some(level) = self.levels.last() else { return };
        let path = level.path.join(&name);
        let stat = match level.folder.stat_of(&name) {
            Ok(stat) => stat,
            Err(error) => return step.held.push((path, unseen(&error))),
        };
        if name_bytes(&path).len() > PATH_BYTES_MAX {
            return step.hold(path, SkipReason::TooDeep, stat.kind);
        }
        if stat.kind == Kind::Dir {
            return self.enter(name, path, step);
        }
        let Some(anchor) = &level.anchor else { return step.held.push((path, SkipReason::NoTenant)) };
        let beneath = path.strip_prefix(&anchor.path).unwrap_or(&path);
        match self.bounds.rules.refuse(beneath, &stat) {
            Some(why) => step.held.push((path, why)),
            None => {
                let (folder, anchor) = (Arc::clone(&level.folder), Arc::clone(anchor));
                let way = Arc::clone(&level.way);
                let is_last = step.found.last().is_some_and(|last| Arc::ptr_eq(&last.folder, &folder));
                step.folders += usize::from(!is_last);
                step.found.push(Found { folder, way, anchor, name, path, stat });
            }
        }
    }

    fn enter(&mut self, name: OsString, path: PathBuf, step: &mut Step) {
        match self.open(&name, &path) {
            Ok(Some(level)) => self.levels.push(level),
            Ok(None) => {}
            Err(why) => step.hold_folder(path, why),
        }
    }

    /// `None` for a folder that is passed over without a word.
    fn open(&self, name: &OsString, path: &Path) -> Result<Option<Level>, SkipReason> {
        let Some(above) = self.levels.last() else { return Ok(None) };
        if above.anchor.is_some() && !self.bounds.subdirectories {
            return Ok(None);
        }
        if self.bounds.target.as_deref() == Some(path) {
            return Err(SkipReason::Own);
        }
        let folder = above.folder.folder(name).map_err(|error| unseen(&error))?;
        let stat = folder.stat().map_err(|error| unseen(&error))?;
        if self.bounds.own.contains(&stat.place()) || folder.is_marked() {
            return Err(SkipReason::Own);
        }
        if self.levels.iter().any(|level| level.place == stat.place()) {
            return Err(SkipReason::Loop);
        }
        let anchor = match &above.anchor {
            Some(anchor) => {
                if self.bounds.rules.excludes_folder(path.strip_prefix(&anchor.path).unwrap_or(path)) {
                    return Ok(None);
                }
                Arc::clone(anchor)
            }
            None => Arc::new(Anchor { tenant: self.tenant_of(name)?, path: path.to_owned() }),
        };
        if self.levels.len() > DEPTH_MAX {
            return Err(SkipReason::TooDeep);
        }
        let entries = folder.entries().map_err(|error| unseen(&error))?;
        let way = Arc::new(above.way.on_to(&stat, stat.device != above.place.0));
        let (folder, place) = (Arc::new(folder), stat.place());
        Ok(Some(Level { folder, entries, path: path.to_owned(), way, place, anchor: Some(anchor) }))
    }

    fn tenant_of(&self, name: &OsString) -> Result<TenantId, SkipReason> {
        let tenant = name.to_str().and_then(|name| TenantId::parse(name).ok());
        let tenant = tenant.ok_or(SkipReason::UnknownTenant)?;
        match self.intake.check_tenant(&tenant) {
            Ok(()) => Ok(tenant),
            Err(error) => Err(of_tenant(&error)),
        }
    }
}

impl Step {
    fn hold_folder(&mut self, path: PathBuf, why: SkipReason) {
        self.hold(path, why, Kind::Dir);
    }

    fn hold(&mut self, path: PathBuf, why: SkipReason, kind: Kind) {
        self.folders_held += u64::from(kind == Kind::Dir);
        self.held.push((path, why));
    }
}

/// What became of a name that was just read.
pub(crate) fn unseen(error: &io::Error) -> SkipReason {
    match error.kind() {
        io::ErrorKind::NotFound => SkipReason::Gone,
        io::ErrorKind::NotADirectory => SkipReason::Changed,
        _ if is_link(error) => SkipReason::Changed, // it came to be where a file was
        _ => SkipReason::Unreadable,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use locus_testkit::MemoryIntake;

    use super::*;
    use crate::config::FileWatcherConfig;

    #[test]
    fn b85_a_step_holds_no_more_than_it_was_asked_for_however_many_files_a_folder_has() {
        let temp = tempfile::tempdir().unwrap();
        for number in 0..3_000 {
            std::fs::File::create(temp.path().join(number.to_string())).unwrap().set_len(1).unwrap();
        }
        let rules = Arc::new(FileWatcherConfig::new(temp.path()).tenant("acme").rules().unwrap());
        let bounds = Bounds { rules, subdirectories: true, own: Vec::new(), target: None };
        let root = Arc::new(Folder::open(temp.path()).unwrap());
        let mut walk = Walk::begin(root, bounds, MemoryIntake::new(&["acme"])).unwrap();
        let (mut met, mut is_done) = (std::collections::BTreeSet::new(), false);
        while !is_done {
            let step = walk.step(100).unwrap();
            assert!(step.found.len() + step.held.len() <= 100 && walk.levels.len() <= 1);
            met.extend(step.found.into_iter().map(|found| found.path));
            is_done = step.is_done;
        }
        assert_eq!(met.len(), 3_000);
    }

    #[test]
    fn sources_of_a_step_are_met_in_the_order_of_their_paths() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("m")).unwrap();
        for name in ["z", "b", "m/y", "a", "n", "m/x", "c"] {
            std::fs::File::create(temp.path().join(name)).unwrap().set_len(1).unwrap();
        }
        let rules = Arc::new(FileWatcherConfig::new(temp.path()).tenant("acme").rules().unwrap());
        let bounds = Bounds { rules, subdirectories: true, own: Vec::new(), target: None };
        let root = Arc::new(Folder::open(temp.path()).unwrap());
        let mut walk = Walk::begin(root, bounds, MemoryIntake::new(&["acme"])).unwrap();
        let met: Vec<_> = walk.step(100).unwrap().found.into_iter().map(|found| found.path).collect();
        assert_eq!(met, ["a", "b", "c", "m/x", "m/y", "n", "z"].map(PathBuf::from));
    }

    #[test]
    fn b85_a_step_keeps_few_folders_open_however_many_there_are() {
        let temp = tempfile::tempdir().unwrap();
        for number in 0..100 {
            std::fs::create_dir(temp.path().join(number.to_string())).unwrap();
            std::fs::File::create(temp.path().join(format!("{number}/a"))).unwrap().set_len(1).unwrap();
        }
        let rules = Arc::new(FileWatcherConfig::new(temp.path()).tenant("acme").rules().unwrap());
        let bounds = Bounds { rules, subdirectories: true, own: Vec::new(), target: None };
        let root = Arc::new(Folder::open(temp.path()).unwrap());
        let mut walk = Walk::begin(root, bounds, MemoryIntake::new(&["acme"])).unwrap();
        let (mut met, mut is_done) = (0, false);
        while !is_done {
            let step = walk.step(512).unwrap();
            assert!(step.found.len() <= FOLDERS_MAX, "{}", step.found.len());
            met += step.found.len();
            is_done = step.is_done;
        }
        assert_eq!(met, 100);
    }

    #[test]
    fn where_sources_are_moved_to_is_not_looked_into_even_if_it_was_made_a_moment_ago() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("sub")).unwrap();
        let rules = Arc::new(FileWatcherConfig::new(temp.path()).tenant("acme").rules().unwrap());
        let target = Some("sub/done".into());
        let bounds = Bounds { rules, subdirectories: true, own: Vec::new(), target };
        let root = Arc::new(Folder::open(temp.path()).unwrap());
        let mut walk = Walk::begin(root, bounds, MemoryIntake::new(&["acme"])).unwrap();
        assert!(!walk.step(1).unwrap().is_done);
        std::fs::create_dir(temp.path().join("sub/done")).unwrap();
        std::fs::File::create(temp.path().join("sub/done/moved")).unwrap().set_len(1).unwrap();
        let step = walk.step(100).unwrap();
        assert!(step.is_done && step.found.is_empty());
        assert_eq!(step.held, [("sub/done".into(), SkipReason::Own)]);
    }
}
