//! What was told once is counted from then on.

use std::{
    collections::{BTreeSet, HashSet},
    io,
    path::{Path, PathBuf},
};

use locus_core::WatcherId;
use tracing::{debug, info, warn};

use crate::reason::SkipReason;

/// Most folders without a tenant that are told by name.
const FOLDERS_MAX: usize = 1_024;

/// What was told of one watcher.
#[derive(Debug)]
pub(crate) struct Told {
    watcher: WatcherId,
    /// Kinds of sources of which one was told.
    kinds: BTreeSet<SkipReason>,
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
                if self.kinds.insert(why) =>
            {
                warn!(%watcher, path = %path.display(), %why, "not imported; further ones are counted");
            }
            _ => debug!(%watcher, path = %path.display(), %why, "not imported"),
        }
    }

    pub(crate) fn trouble(&mut self, what: &'static str, error: &io::Error) {
        if self.troubles.insert(what) {
            warn!(watcher = %self.watcher, %error, what, "trouble with a watched folder");
        }
    }
}
