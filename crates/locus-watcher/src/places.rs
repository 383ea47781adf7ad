//! Where folders lie, by what they are: a link or a second mount of a directory leads to the same device and inode.

use std::{
    collections::HashMap,
    io,
    path::{Component, Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{Clock, in_time, join_bounded};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    door::{Door, SHORT_PATIENCE},
    folder::{Folder, Lies},
};

/// Paths that are asked for at the same time.
const ASKED_MAX: usize = 64;

/// The device and the inode of a directory.
pub(crate) type Place = (u64, u64);

/// Where a path leads, as far as it leads anywhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Whereabouts {
    pub(crate) path: PathBuf,
    /// Of what is there of it; `None` when nothing is known.
    lies: Option<Lies>,
    /// What of it is not there.
    rest: PathBuf,
    /// Something that is no directory has this path, or a part of it.
    pub(crate) is_no_folder: bool,
}

impl Whereabouts {
    /// Looks. Blocks the thread.
    fn look(path: &Path) -> Self {
        let mut found = Self { path: path.to_owned(), ..Self::default() };
        let mut at = path;
        loop {
            match Folder::lies_at(at) {
                Ok(lies) => {
                    found.lies = Some(lies);
                    found.rest = path.strip_prefix(at).unwrap_or(Path::new("")).to_owned();
                    return found;
                }
                Err(error) => found.is_no_folder |= error.kind() == io::ErrorKind::NotADirectory,
            }
            match at.parent() {
                Some(above) => at = above,
                None => return Self { rest: path.to_owned(), ..found },
            }
        }
    }

    /// Of a directory that is open.
    pub(crate) fn of(path: &Path, folder: &Folder) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), lies: Some(folder.lies()?), ..Self::default() })
    }

    /// The directory itself, when it is there.
    pub(crate) fn place(&self) -> Option<Place> {
        let lies = self.lies.as_ref().filter(|_| self.rest.as_os_str().is_empty())?;
        lies.chain.first().copied()
    }

    /// Whether it leads up again from what is not there: where it will lead nobody can say.
    pub(crate) fn is_uncertain(&self) -> bool {
        self.rest.components().any(|part| part == Component::ParentDir)
    }

    /// Whether this is a volume or the data directory of a store, mounted or not, or lies in one.
    pub(crate) fn is_marked(&self) -> bool {
        self.lies.as_ref().is_some_and(|lies| lies.is_marked)
    }

    /// Whether this is the other, or lies in it.
    pub(crate) fn lies_in(&self, other: &Self) -> bool {
        let (Some(mine), Some(theirs)) = (&self.lies, &other.lies) else {
            return self.path.starts_with(&other.path); // nobody could say where it leads
        };
        let by_what_it_is = match other.place() {
            Some(place) => mine.chain.contains(&place),
            None => mine.chain.first() == theirs.chain.first() && self.rest.starts_with(&other.rest),
        };
        by_what_it_is || self.is_part_of(mine, theirs, other)
    }

    /// As [`lies_in`](Self::lies_in), by the path in the file system: both may be mounted in parts.
    fn is_part_of(&self, mine: &Lies, theirs: &Lies, other: &Self) -> bool {
        match (&mine.in_file_system, &theirs.in_file_system) {
            (Some(mine), Some(theirs)) => mine.join(&self.rest).lies_in(&theirs.join(&other.rest)),
            _ => false,
        }
    }
}

/// Asks where paths lead, and remembers it: one that hangs by now is not asked again, nor waited for, until it answers.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    clock: Arc<dyn Clock>,
    door: Door,
    known: Arc<Mutex<HashMap<PathBuf, Known>>>,
}

#[derive(Debug, Default)]
struct Known {
    answer: Option<Whereabouts>,
    /// By whom it was asked and did not answer yet: since when, and how its answer is heard.
    asked: Option<(Duration, watch::Receiver<()>)>,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) at: Whereabouts,
    /// That answer was given just now.
    pub(crate) is_fresh: bool,
}

impl Places {
    pub(crate) fn new(clock: Arc<dyn Clock>, in_place: bool) -> Self {
        Self { door: Door::new(Arc::clone(&clock), in_place, ASKED_MAX), clock, known: Arc::default() }
    }

    /// Looks where these lead, waiting for none of them longer than 10 s.
    pub(crate) async fn look(&self, paths: Vec<PathBuf>) -> Vec<Seen> {
        join_bounded(paths.into_iter().map(|path| self.look_at(path)).collect(), ASKED_MAX).await
    }

    pub(crate) async fn look_at(&self, path: PathBuf) -> Seen {
        if self.door.in_place {
            self.learn(Whereabouts::look(&path)); // nobody waits for the answer of somebody else
            return Seen { at: self.seen(&path), is_fresh: true };
        }
        let is_fresh = match self.question(path.clone()) {
            Ok(question) => self.door.ask_in_time(SHORT_PATIENCE, move || question.answer()).await.is_ok(),
            Err((since, mut answered)) => {
                let waited = self.clock.monotonic().saturating_sub(since);
                let heard = in_time(&*self.clock, SHORT_PATIENCE.saturating_sub(waited), answered.changed());
                heard.await.is_some_and(|heard| heard.is_ok())
            }
        };
        Seen { at: self.seen(&path), is_fresh }
    }

    /// Where a path led when it answered last; by its names alone when it never did.
    pub(crate) fn seen(&self, path: &Path) -> Whereabouts {
        let answer = self.known.lock().get(path).and_then(|known| known.answer.clone());
        answer.unwrap_or_else(|| Whereabouts { path: path.to_owned(), ..Whereabouts::default() })
    }

    /// Where this path leads was found out otherwise.
    pub(crate) fn learn(&self, at: Whereabouts) {
        let path = at.path.clone();
        self.known.lock().entry(path).or_default().answer = Some(at);
    }

    /// What is to be asked; or since when somebody does.
    fn question(&self, path: PathBuf) -> Result<Question, (Duration, watch::Receiver<()>)> {
        let mut known = self.known.lock();
        let entry = known.entry(path.clone()).or_default();
        if let Some(asked) = &entry.asked {
            return Err(asked.clone());
        }
        let (answered, heard) = watch::channel(());
        entry.asked = Some((self.clock.monotonic(), heard));
        Ok(Question { places: self.clone(), path, answered })
    }
}

/// What is asked about one path by one at a time.
#[derive(Debug)]
struct Question {
    places: Places,
    path: PathBuf,
    answered: watch::Sender<()>,
}

impl Question {
    fn answer(self) {
        let answer = Whereabouts::look(&self.path);
        if let Some(known) = self.places.known.lock().get_mut(&self.path) {
            known.answer = Some(answer);
        }
        self.answered.send_replace(());
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Some(known) = self.places.known.lock().get_mut(&self.path) {
            known.asked = None;
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_yet_lies_where_it_will_be() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir(temp.path().join("in")).unwrap();
        let at = |path: &str| Whereabouts::look(&temp.path().join(path));
        assert!(at("in/a/b").lies_in(&at("in")) && at("in/a/b").lies_in(&at("in/a")));
        assert!(!at("in").lies_in(&at("in/a")) && !at("in/a").lies_in(&at("in/b")));
        std::os::unix::fs::symlink("in", temp.path().join("link")).unwrap();
        assert!(at("link/a").lies_in(&at("in/a")) && at("in/../in").lies_in(&at("link")));
        assert_eq!(at("in").place(), at("link").place());
        assert_eq!(at("in/a").place(), None);
    }

    #[test]
    fn what_is_no_folder_is_told() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(Whereabouts::look(file.path()).is_no_folder);
        assert!(Whereabouts::look(&file.path().join("below")).is_no_folder);
        assert!(!Whereabouts::look(file.path().parent().unwrap()).is_no_folder);
    }
}
