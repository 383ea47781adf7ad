//! A reading of the ledger: sources that are gone are forgotten, the others stay noted.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use locus_core::{Result, join_bounded};
use tracing::{debug, warn};

use crate::{
    folder::{Folder, path_of},
    ledger::{PAGE, Reading},
    scan::{Scanner, on_disk},
    source::Noted,
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
        let (root, per_tenant) = (Arc::clone(root), self.rules.tenant.is_none());
        let judged = on_disk(move || judge_all(&root, page, per_tenant)).await;
        let (mut kept, mut gone) = (Vec::with_capacity(PAGE), Vec::new());
        for (noted, fate) in judged {
            // What was noted and not brought in is noted again when it is.
            if self.intake.is_known(&noted.tenant, &noted.identity(&self.rules.id)).await? {
                if fate == Fate::Gone { gone.push(noted) } else { kept.push(noted) }
            }
        }
        let before = gone.len();
        let failed = self.forget(gone).await;
        let forgotten = before - failed.len();
        kept.extend(failed); // and tried again
        self.ledger.keep(reading, kept).await?;
        Ok(forgotten)
    }

    /// Lets the store forget sources whose absence survives power loss. Gives back those that it did not forget.
    pub(crate) async fn forget(&self, gone: Vec<Noted>) -> Vec<Noted> {
        let forget = async |noted: &Noted| {
            let identity = noted.identity(&self.rules.id);
            self.intake.forget(&noted.tenant, &identity).await
        };
        let answers = join_bounded(gone.iter().map(forget).collect(), FORGOTTEN_AT_ONCE).await;
        gone.into_iter().zip(answers).filter(|(_, answer)| answer.is_err()).map(|(noted, _)| noted).collect()
    }
}

fn judge_all(root: &Folder, page: Vec<Noted>, per_tenant: bool) -> Vec<(Noted, Fate)> {
    let mut judge = Judge { root, per_tenant, anchor: None };
    let fate = |noted: Noted| {
        let fate = judge.fate(&noted);
        (noted, fate)
    };
    let mut judged: Vec<_> = page.into_iter().map(fate).collect();
    // What is gone may be back after a power cut unless the file system is synced, and would be imported again.
    let mut syncing = Syncing { root, synced: BTreeSet::new(), parent: None };
    for (noted, fate) in judged.iter_mut().filter(|(_, fate)| *fate == Fate::Gone) {
        let path = path_of(noted.path.clone());
        if let Err(error) = syncing.sync(path.parent().unwrap_or(Path::new(""))) {
            warn!(path = %path.display(), %error, "watched folder could not be synced, what is gone is remembered");
            *fate = Fate::Unclear;
        }
    }
    judged
}

struct Judge<'a> {
    root: &'a Folder,
    /// The first folder is the one that a source was seen under.
    per_tenant: bool,
    /// The last one that was looked at, and its inode.
    anchor: Option<(PathBuf, Option<u64>)>,
}

impl Judge<'_> {
    fn fate(&mut self, noted: &Noted) -> Fate {
        let path = path_of(noted.path.clone());
        if self.anchor_of(&path) != Some(noted.anchor) {
            return Fate::Unclear;
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

    fn anchor_of(&mut self, path: &Path) -> Option<u64> {
        let anchor = if self.per_tenant { path.iter().next().map(PathBuf::from)? } else { PathBuf::new() };
        if let Some((known, inode)) = &self.anchor
            && *known == anchor
        {
            return *inode;
        }
        let stat = if self.per_tenant { self.root.stat_of(&anchor) } else { self.root.stat() };
        let inode = stat.ok().map(|stat| stat.inode);
        self.anchor = Some((anchor, inode));
        inode
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
