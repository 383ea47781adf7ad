//! Volumes that the settings name.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use locus_core::{Result, VolumeId};
use locus_fs::{LocalVolume, MirroredVolume, NetworkVolume, VolumeSpec};
use serde::{Deserialize, Serialize};

use crate::settings::model::invalid;

/// Most calls to a local volume at the same time that can be asked for.
const CALLS_MAX: usize = 1_024;

/// What kind of volume it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum VolumeKind {
    /// A directory of a local file system, see [`LocalVolume`].
    #[default]
    Local,
    /// A directory of a mounted share, see [`NetworkVolume`].
    Network,
    /// Several volumes that hold the same contents, see [`MirroredVolume`].
    Mirrored,
}

/// A volume to mount at start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct VolumeSettings {
    /// Its name.
    pub id: VolumeId,
    /// What it is; local by default.
    #[serde(default)]
    pub kind: VolumeKind,
    /// Its directory on this machine, created when absent. A mirrored volume has none.
    #[serde(default)]
    pub path: PathBuf,
    /// The members of a mirrored volume, 2 to 16 local or network volumes.
    #[serde(default)]
    pub members: Vec<VolumeSettings>,
    /// How many members must have a content before its write succeeds; `None`, the default, is all of them.
    #[serde(default)]
    pub quorum: Option<usize>,
    /// Whether this member of a mirrored volume lies on a new disk, to be filled although the mirror was used before, see
    /// [`MirroredVolume::new_disk`].
    #[serde(default)]
    pub new_disk: bool,
    /// How long a call to a network volume may take; `None` is 30 s.
    #[serde(default, with = "humantime_serde")]
    pub operation_timeout: Option<Duration>,
    /// Most calls to a network volume at the same time, those that hang included; `None` is 32.
    #[serde(default)]
    pub stuck_max: Option<usize>,
    /// Most calls that read a local volume at the same time, 1 to 1,024; `None` is 64.
    #[serde(default)]
    pub reads_max: Option<usize>,
    /// Most calls that change a local volume at the same time, 1 to 1,024; `None` is 32.
    #[serde(default)]
    pub writes_max: Option<usize>,
}

impl VolumeSettings {
    /// A local volume in this directory.
    #[must_use]
    pub fn local(id: VolumeId, path: impl Into<PathBuf>) -> Self {
        Self {
            id,
            kind: VolumeKind::Local,
            path: path.into(),
            members: Vec::new(),
            quorum: None,
            new_disk: false,
            operation_timeout: None,
            stuck_max: None,
            reads_max: None,
            writes_max: None,
        }
    }

    /// What it is made of: itself, or its members.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &Self> {
        let itself = (self.kind != VolumeKind::Mirrored).then_some(self);
        itself.into_iter().chain(&self.members)
    }

    pub(crate) fn resolve(&mut self, base: &Path) {
        if !self.path.as_os_str().is_empty() {
            self.path = base.join(&self.path);
        }
        self.members.iter_mut().for_each(|member| member.resolve(base));
    }

    pub(crate) fn check(&self) -> Result<()> {
        let name = |field: &str| format!("volumes[{}].{field}", self.id);
        let is_mirror = self.kind == VolumeKind::Mirrored;
        if is_mirror != self.path.as_os_str().is_empty() {
            let why = if is_mirror { "is for members alone" } else { "is empty: name a directory" };
            return invalid(name("path"), why);
        }
        if self.kind != VolumeKind::Network && (self.operation_timeout.is_some() || self.stuck_max.is_some())
        {
            return invalid(name("kind"), "has no time-outs: they are for network volumes");
        }
        for (field, calls) in [("reads_max", self.reads_max), ("writes_max", self.writes_max)] {
            match calls {
                Some(_) if self.kind != VolumeKind::Local => {
                    return invalid(name(field), "is for local volumes");
                }
                Some(calls) if !(1..=CALLS_MAX).contains(&calls) => {
                    return invalid(name(field), "is not 1 to 1,024");
                }
                _ => {}
            }
        }
        if !is_mirror {
            let alone = self.members.is_empty() && self.quorum.is_none();
            return if alone { Ok(()) } else { invalid(name("members"), "are for mirrored volumes") };
        }
        if !(2..=16).contains(&self.members.len()) {
            return invalid(name("members"), "are not 2 to 16");
        }
        if self.quorum.is_some_and(|quorum| !(1..=self.members.len()).contains(&quorum)) {
            return invalid(name("quorum"), "is not 1 to the number of members");
        }
        if self.members.iter().any(|member| member.kind == VolumeKind::Mirrored) {
            return invalid(name("members"), "hold a mirrored volume");
        }
        self.members.iter().try_for_each(Self::check)
    }

    /// As [`check`](Self::check), of what is no member.
    pub(crate) fn check_alone(&self) -> Result<()> {
        if self.new_disk {
            return invalid(format!("volumes[{}].new_disk", self.id), "is for members alone");
        }
        self.check()
    }

    pub(crate) fn spec(&self) -> Box<dyn VolumeSpec> {
        match self.kind {
            VolumeKind::Local => Box::new(self.as_local()),
            VolumeKind::Network => Box::new(self.as_network()),
            VolumeKind::Mirrored => {
                let mirror =
                    self.members.iter().fold(MirroredVolume::new(self.id.as_str()), |mirror, member| {
                        if member.kind == VolumeKind::Network {
                            mirror.add_member(member.as_network())
                        } else {
                            mirror.add_member(member.as_local())
                        }
                    });
                let new_disks = self.members.iter().filter(|member| member.new_disk);
                let mirror = new_disks.fold(mirror, |mirror, member| mirror.new_disk(member.id.as_str()));
                Box::new(mirror.quorum(self.quorum.unwrap_or(self.members.len())))
            }
        }
    }

    fn as_local(&self) -> LocalVolume {
        let mut volume = LocalVolume::new(self.id.as_str(), &self.path);
        if let Some(calls) = self.reads_max {
            volume = volume.reads_max(calls);
        }
        if let Some(calls) = self.writes_max {
            volume = volume.writes_max(calls);
        }
        volume
    }

    fn as_network(&self) -> NetworkVolume {
        let mut volume = NetworkVolume::new(self.id.as_str(), &self.path);
        if let Some(timeout) = self.operation_timeout {
            volume = volume.operation_timeout(timeout);
        }
        if let Some(calls) = self.stuck_max {
            volume = volume.stuck_max(calls);
        }
        volume
    }
}
