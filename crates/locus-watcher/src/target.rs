//! Where imported sources are moved to. Nobody who may write to the watched folder can lead a move elsewhere.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    config::{AfterImport, FileWatcherConfig},
    folder::Folder,
    places::{Place, Whereabouts},
};

/// A directory for imported sources.
#[derive(Debug)]
pub(crate) struct Target {
    path: PathBuf,
    /// From the watched folder on, when it lies there.
    within: Option<PathBuf>,
    /// The directory that it was, when it lies elsewhere.
    known: Mutex<Option<Place>>,
}

impl Target {
    /// `None` when sources are not moved.
    pub(crate) fn of(config: &FileWatcherConfig) -> Option<Self> {
        let AfterImport::Move(path) = &config.after_import else { return None };
        Some(Self { path: path.clone(), within: within(config, path), known: Mutex::new(None) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Its path from the watched folder on, when it lies there.
    pub(crate) fn within(&self) -> Option<&Path> {
        self.within.as_deref()
    }

    /// It was seen there, before anything is moved: from now on it is no other directory.
    pub(crate) fn saw(&self, at: &Whereabouts) {
        let mut known = self.known.lock();
        *known = known.or(at.place());
    }

    /// Opens it, or makes it. In the watched folder, whose `root` is open, no link is followed. Blocks the thread.
    ///
    /// # Errors
    /// When another directory came to its place.
    pub(crate) fn open(&self, root: &Arc<Folder>) -> io::Result<Arc<Folder>> {
        if let Some(within) = &self.within {
            let mut folder = Arc::clone(root);
            for name in within {
                folder.make_folder(name)?;
                folder = Arc::new(folder.folder(name)?);
            }
            return Ok(folder);
        }
        let mut known = self.known.lock();
        let folder = match Folder::open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(&self.path)?;
                *known = None;
                Folder::open(&self.path)?
            }
            other => other?,
        };
        let place = folder.stat()?.place();
        if known.is_some_and(|known| known != place) {
            let why = "another directory came to where sources are moved to: if that is right, disable and enable the watcher";
            return Err(io::Error::other(why));
        }
        *known = Some(place);
        Ok(Arc::new(folder))
    }
}

/// Where a path of a watched folder lies in it. One that leads up again lies nowhere.
pub(crate) fn within(config: &FileWatcherConfig, path: &Path) -> Option<PathBuf> {
    let within = path.strip_prefix(&config.path).ok()?;
    let leads_down = within.components().all(|part| matches!(part, std::path::Component::Normal(_)));
    leads_down.then(|| within.to_path_buf())
}
