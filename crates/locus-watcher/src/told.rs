//! What was told once is counted from then on.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    path::{Path, PathBuf},
};

use locus_core::WatcherId;
use parking_lot::Mutex;
use tracing::{debug, info, warn};

use crate::{reason::SkipReason, report::ScanReport};

/// Most folders without a tenant that are told by name.
const FOLDERS_MAX: usize = 1_024;

/// What was told of one watcher.
#[derive(Debug)]
pub(crate) struct Told {
    watcher: WatcherId,
    /// Kinds of sources of which one was told.
    kinds: Mutex<BTreeSet<SkipReason>>,
    folders: HashSet<PathBuf>,
    troubles: BTreeSet<&'static str>,
    tenants_version: u64,
}

impl Told {
    pub(crate) fn new(watcher: WatcherId) -> Self {
        let (kinds, folders, troubles) = Default::default();
        Self { watcher, kinds, folders, troubles, tenants_version: 0 }
    }

    /// When tenants changed, folders may have come to belong to one, or to none.
    pub(crate) fn heed_tenants(&mut self, version: u64) {
        if self.tenants_version != version {
            self.tenants_version = version;
            self.folders.clear();
        }
    }

    pub(crate) fn skipped(&mut self, path: &Path, why: SkipReason) {
        let watcher = &self.watcher;
        match why {
            SkipReason::UnknownTenant | SkipReason::TenantDisabled => {
                if self.folders.len() < FOLDERS_MAX && self.folders.insert(path.to_owned()) {
                    info!(%watcher, folder = %path.display(), %why, "folder of no enabled tenant passed over");
                }
            }
            SkipReason::Link
            | SkipReason::HardLinked
            | SkipReason::Fifo
            | SkipReason::Socket
            | SkipReason::Device
            | SkipReason::TooDeep
            | SkipReason::Loop
            | SkipReason::Own
            | SkipReason::NoTenant
            | SkipReason::Unreadable
            | SkipReason::Refused
                if self.kinds.get_mut().insert(why) =>
            {
                warn!(%watcher, path = %path.display(), %why, "not imported; further ones are counted");
            }
            _ => debug!(%watcher, path = %path.display(), %why, "not imported"),
        }
    }

    /// A source was refused, or what was imported could not be removed or moved.
    pub(crate) fn refused(&self, path: &Path, why: SkipReason, error: &(dyn std::error::Error + 'static)) {
        let (watcher, path) = (&self.watcher, path.display());
        match (self.kinds.lock().insert(why), why) {
            (false, _) => debug!(%watcher, %path, error, %why, "source left where it is"),
            (true, SkipReason::AfterImport) => {
                warn!(%watcher, %path, error, "imported source could not be removed or moved, tried again later; further ones are counted");
            }
            (true, SkipReason::Refused) => {
                warn!(%watcher, %path, error, "source refused by the store; further ones are counted");
            }
            (true, _) => {
                warn!(%watcher, %path, error, "source could not be brought in, tried again later; further ones are counted");
            }
        }
    }

    /// A folder belongs to a tenant that takes files.
    pub(crate) fn takes(&mut self, folder: &Path) {
        self.folders.remove(folder);
    }

    /// What passes by itself is told again when it comes again.
    pub(crate) fn end_round(&mut self, report: &ScanReport) {
        for why in [SkipReason::AfterImport, SkipReason::Waiting] {
            if !report.skipped.contains_key(&why) {
                self.kinds.get_mut().remove(&why);
            }
        }
    }

    pub(crate) fn trouble(&mut self, what: &'static str, error: &io::Error) {
        if self.troubles.insert(what) {
            warn!(watcher = %self.watcher, %error, what, "trouble with a watched folder");
        }
    }
}
