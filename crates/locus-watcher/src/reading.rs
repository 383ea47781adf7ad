//! A reading of the ledger: sources that are gone are forgotten, the others stay noted.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{Intake, Result, Site, WatcherId, join_bounded};
use tracing::{debug, warn};

use crate::{
    door::Going,
    folder::{Folder, path_of},
    ledger::{PAGE, Reading},
    scan::Scanner,
    source::{Noted, Stat},
};

/// How often it is read when little is added.
const READ_EVERY: Duration = Duration::from_secs(60 * 60);
/// So many entries are added before it is read in between, or as many as it had.
const ADDED_MAX: u64 = 65_536;
/// Names that are forgotten at the same time.
const FORGOTTEN_AT_ONCE: usize = 64;

/// What became of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    There,
    /// It is certain, and survives power loss, that it is not there any more.
    Gone,
    /// The folder that it was seen under is another one: a share that is not mounted, perhaps.
    Unclear,
}

impl Scanner {
    pub(crate) async fn reading_is_due(&self) -> bool {
        if !self.ledger.is_open().await {
            return true;
        }
        let (kept, added) = self.ledger.entries().await;
        let rested = self.clock.monotonic().saturating_sub(self.read_at);
        added > kept.max(ADDED_MAX) || (kept + added > 0 && rested >= READ_EVERY)
    }

    /// Reads the whole ledger. Nothing is brought in meanwhile.
    ///
    /// # Cancel safety
    /// The ledger is what it was; what was forgotten is.
    pub(crate) async fn read_ledger(&mut self, root: &Arc<Folder>) -> Result<()> {
        self.read_at = self.clock.monotonic();
        let mut reading = self.ledger.read().await?;
        let mut forgotten = 0;
        loop {
            let page = self.ledger.next(&mut reading).await?;
            if page.is_empty() {
                break;
            }
            forgotten += self.judge(root, page, &mut reading).await?;
        }
        self.ledger.finish(reading).await?;
        debug!(watcher = %self.rules.id, forgotten, "ledger read");
        Ok(())
    }

    async fn judge(&self, root: &Arc<Folder>, page: Vec<Noted>, reading: &mut Reading) -> Result<usize> {
        let root = Arc::clone(root);
        let is_of_another = reading.is_of_another;
        let judged = self.work(move |going| judge_all(&root, page, is_of_another, going)).await?;
        let (mut kept, mut gone) = (Vec::with_capacity(PAGE), Vec::new());
        for (noted, fate) in judged {
            // What was noted and not brought in is noted again when it is.
            if self.intake.is_known(&noted.tenant, &noted.identity(&self.rules.id)).await? {
                if fate == Fate::Gone || !Site::ForgottenWhenGone.stands() {
                    gone.push(noted);
                } else {
                    kept.push(noted);
                }
            }
        }
        let before = gone.len();
        let failed = forget(&*self.intake, &self.rules.id, gone).await;
        let forgotten = before - failed.len();
        kept.extend(failed); // and tried again
        self.ledger.keep(reading, kept).await?;
        Ok(forgotten)
    }
}

/// Lets the store forget sources whose absence survives power loss. Gives back those that it did not forget.
pub(crate) async fn forget(intake: &dyn Intake, watcher: &WatcherId, gone: Vec<Noted>) -> Vec<Noted> {
    let forget = async |noted: &Noted| intake.forget(&noted.tenant, &noted.identity(watcher)).await;
    let answers = join_bounded(gone.iter().map(forget).collect(), FORGOTTEN_AT_ONCE).await;
    gone.into_iter().zip(answers).filter(|(_, answer)| answer.is_err()).map(|(noted, _)| noted).collect()
}

fn judge_all(root: &Folder, page: Vec<Noted>, is_of_another: bool, going: &Going) -> Vec<(Noted, Fate)> {
    let Ok(Stat { inode, .. }) = root.stat() else {
        return page.into_iter().map(|noted| (noted, Fate::Unclear)).collect();
    };
    let mut judge = Judge { root, inode, is_of_another, anchor: None };
    let fate = |noted: Noted| {
        let fate = judge.fate(&noted);
        going.step();
        (noted, fate)
    };
    let mut judged: Vec<_> = page.into_iter().map(fate).collect();
    // What is gone may be back after a power cut unless the file system is synced, and would be imported again.
    let mut syncing = Syncing { root, synced: BTreeSet::new(), parent: None };
    for (noted, fate) in judged.iter_mut().filter(|(_, fate)| *fate == Fate::Gone) {
        let path = path_of(noted.path.clone());
        going.step();
        if let Err(error) = syncing.sync(path.parent().unwrap_or(Path::new(""))) {
            warn!(path = %path.display(), %error, "watched folder could not be synced, what is gone is remembered");
            *fate = Fate::Unclear;
        }
    }
    judged
}

struct Judge<'a> {
    root: &'a Folder,
    inode: u64,
    /// What is judged was noted of another path.
    is_of_another: bool,
    /// The last one that was looked at.
    anchor: Option<(PathBuf, Anchor)>,
}

/// A folder that sources were seen under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Anchor {
    /// It has this inode.
    Inode(u64),
    Absent,
    Unclear,
}

impl Judge<'_> {
    fn fate(&mut self, noted: &Noted) -> Fate {
        let path = path_of(noted.path.clone());
        match self.anchor_of(noted, &path) {
            Anchor::Inode(inode) if inode == noted.anchor => {}
            Anchor::Unclear => return Fate::Unclear,
            // Nobody looks there any more.
            _ if self.is_of_another => return Fate::Gone,
            Anchor::Absent if self.inode == noted.root => return Fate::Gone,
            _ => return Fate::Unclear,
        }
        match self.root.stat_of(&path) {
            Ok(stat) if noted.is(&stat) => Fate::There,
            Ok(_) => Fate::Gone,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Fate::Gone
            }
            Err(_) => Fate::Unclear,
        }
    }

    /// The folder as it is now that a source was seen under: the watched one, or its first folder, as the watcher had it then,
    /// which may have another mode by now.
    fn anchor_of(&mut self, noted: &Noted, path: &Path) -> Anchor {
        if noted.anchor == noted.root {
            return Anchor::Inode(self.inode);
        }
        let Some(folder) = path.iter().next().map(PathBuf::from) else { return Anchor::Unclear };
        if let Some((known, anchor)) = &self.anchor
            && *known == folder
        {
            return *anchor;
        }
        let anchor = match self.root.stat_of(&folder) {
            Ok(stat) => Anchor::Inode(stat.inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Anchor::Absent,
            Err(_) => Anchor::Unclear,
        };
        self.anchor = Some((folder, anchor));
        anchor
    }
}

/// Syncs each file system once.
struct Syncing<'a> {
    root: &'a Folder,
    /// By the number of their device.
    synced: BTreeSet<u64>,
    /// The last folder that something was gone from.
    parent: Option<PathBuf>,
}

impl Syncing<'_> {
    /// The file system of the folder, or of the deepest one above it that is there.
    fn sync(&mut self, folder: &Path) -> io::Result<()> {
        if self.parent.as_deref() == Some(folder) {
            return Ok(());
        }
        let mut deepest = None;
        for name in folder {
            match deepest.as_ref().unwrap_or(self.root).folder(name) {
                Ok(next) => deepest = Some(next),
                Err(_) => break,
            }
        }
        let deepest = deepest.as_ref().unwrap_or(self.root);
        let device = deepest.stat()?.device;
        if !self.synced.contains(&device) {
            deepest.sync_file_system()?;
            self.synced.insert(device);
        }
        self.parent = Some(folder.to_owned());
        Ok(())
    }
}
