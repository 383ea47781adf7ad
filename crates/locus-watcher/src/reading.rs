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
    former::Former,
    ledger::{PAGE, Reading},
    scan::Scanner,
    source::{Inode, Noted, Stat, Way},
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
    /// A folder on the way to it is another one: a share that is not mounted, perhaps.
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
        let (mut forgotten, mut former) = (0, Former::default());
        loop {
            let page = self.ledger.next(&mut reading).await?;
            if page.is_empty() {
                break;
            }
            forgotten += self.judge(root, page, &mut reading, &mut former).await?;
        }
        self.ledger.finish(reading).await?;
        self.memory.lock().former = Arc::new(former);
        debug!(watcher = %self.rules.id, forgotten, "ledger read");
        Ok(())
    }

    async fn judge(
        &self,
        root: &Arc<Folder>,
        page: Vec<Noted>,
        reading: &mut Reading,
        former: &mut Former,
    ) -> Result<usize> {
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
        kept.iter().for_each(|noted| former.note(noted, self.rules.tenant.as_ref()));
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
    let mut judge = Judge { root, inode: Inode(inode), is_of_another, last: None };
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
    inode: Inode,
    /// What is judged was noted of another path.
    is_of_another: bool,
    /// The last way that was gone, to which folder, and what became of it.
    last: Option<(Way, PathBuf, Fate)>,
}

impl Judge<'_> {
    fn fate(&mut self, noted: &Noted) -> Fate {
        let path = path_of(noted.path.clone());
        let fate = self.fate_of_folder(&noted.way, path.parent().unwrap_or(Path::new("")));
        if fate != Fate::There {
            return fate;
        }
        match self.root.stat_of(&path) {
            Ok(stat) if noted.is(&stat) => Fate::There,
            Ok(_) => Fate::Gone,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Fate::Gone,
            Err(_) => Fate::Unclear,
        }
    }

    fn fate_of_folder(&mut self, way: &Way, folder: &Path) -> Fate {
        if let Some((last, to, fate)) = &self.last
            && (last, to.as_path()) == (way, folder)
        {
            return *fate;
        }
        let fate = self.follow(way, folder);
        self.last = Some((way.clone(), folder.to_owned(), fate));
        fate
    }

    /// Each folder on the way has to be the one that it was, whatever mode it has by now. One that is absent is gone, with all
    /// in it, unless it was a mount point or lay beneath one that was not come to: then it may be back.
    fn follow(&self, way: &Way, folder: &Path) -> Fate {
        let Some((root, below)) = way.folders.split_first() else { return Fate::Unclear };
        if *root != self.inode {
            return if self.is_of_another { Fate::Gone } else { Fate::Unclear }; // nobody looks there any more
        }
        if folder.iter().count() != below.len() {
            return Fate::Unclear;
        }
        let mut at = PathBuf::new();
        for (depth, (name, inode)) in (1..).zip(folder.iter().zip(below)) {
            at.push(name);
            match self.root.stat_of(&at) {
                Ok(stat) if Inode(stat.inode) == *inode => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && depth > usize::from(way.begins) => {
                    return Fate::Gone;
                }
                _ => return Fate::Unclear,
            }
        }
        Fate::There
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

#[cfg(all(test, unix))]
mod tests {
    use locus_core::TenantId;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::there("share/deep/a", [0, 1, 2], 0, Fate::There)]
    #[case::gone("share/deep/b", [0, 1, 2], 0, Fate::Gone)]
    #[case::gone_from_a_mount("share/deep/b", [0, 1, 2], 2, Fate::Gone)]
    #[case::its_folder_is_another("share/deep/a", [0, 1, 9], 0, Fate::Unclear)]
    #[case::one_above_is_another("share/deep/b", [0, 9, 2], 0, Fate::Unclear)]
    #[case::the_watched_one_is_another("share/deep/b", [9, 1, 2], 0, Fate::Unclear)]
    #[case::its_folder_is_gone("share/none/a", [0, 1, 9], 0, Fate::Gone)]
    #[case::its_folder_is_gone_from_a_mount("share/none/a", [0, 1, 9], 1, Fate::Gone)]
    #[case::a_mount_point_is_gone("share/none/a", [0, 1, 9], 2, Fate::Unclear)]
    #[case::above_a_mount_point_all_is_gone("none/deep/a", [0, 9, 9], 2, Fate::Unclear)]
    #[case::no_way_to_it("share/deep/more/b", [0, 1, 2], 0, Fate::Unclear)]
    fn what_is_absent_is_gone_only_where_its_folders_and_its_file_system_are_there(
        #[case] path: &str,
        #[case] seen: [usize; 3],
        #[case] begins: u8,
        #[case] fate: Fate,
    ) {
        let temp = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(temp.path().join("share/deep")).unwrap();
        std::fs::File::create(temp.path().join("share/deep/a")).unwrap();
        let root = Folder::open(temp.path()).unwrap();
        let stat = root.stat_of("share/deep/a").unwrap();
        let there = ["", "share", "share/deep"].map(|at| Folder::open(&temp.path().join(at)).unwrap());
        let inode = |of: usize| Inode(there.get(of).map_or(u64::MAX, |folder| folder.stat().unwrap().inode));
        let noted = Noted {
            tenant: TenantId::parse("acme").unwrap(),
            way: Way { folders: seen.map(inode).to_vec(), begins },
            path: path.into(),
            size: stat.size,
            modified: stat.modified,
            inode: stat.inode,
        };
        let judged = judge_all(&root, vec![noted.clone(), noted], false, &Going::default());
        assert!(judged.iter().all(|(_, judged)| *judged == fate), "{judged:?}");
    }
}
