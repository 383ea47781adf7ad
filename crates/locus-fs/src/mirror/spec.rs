//! The description of a mirror, and a hold on it while it is open.

use std::{
    path::PathBuf,
    sync::{Arc, Weak},
};

use async_trait::async_trait;
use locus_core::{Error, Result, ScrubProgress, StorageVolume, VolumeId};
use parking_lot::Mutex;

use crate::{
    mirror::{
        core::Core,
        member::{Again, Member},
        report::MirrorReport,
        volume::OpenMirroredVolume,
    },
    volume_spec::{VolumeContext, VolumeSpec},
};

/// Several volumes that hold the same blobs, to be used as one. A plain description until it is
/// [opened](VolumeSpec::open).
///
/// A write goes to every member at the same time and succeeds when a [quorum](Self::quorum) of them has it; what the
/// others lack is noted durably before it succeeds, and made up for when they are back. Each copy carries its checksums: a
/// read comes from any member whose copy is good, and what it finds missing or damaged is repaired. So a member holds
/// copies in a form of the mirror's own: a volume that holds plain blobs cannot become a member, and blobs have no
/// [path](StorageVolume::local_path).
///
/// A mirror opens with whatever members can be reached, and opens the others when it is [probed](StorageVolume::probe).
///
/// ```
/// # use locus_core::{Durability, StoreId};
/// # use locus_fs::{LocalVolume, MirroredVolume, VolumeContext, VolumeSpec};
/// # let dir = tempfile::tempdir()?;
/// # let (one, two) = (dir.path().join("one"), dir.path().join("two"));
/// # tokio::runtime::Runtime::new()?.block_on(async {
/// let spec = MirroredVolume::new("vol-m")
///     .add_member(LocalVolume::new("one", one))
///     .add_member(LocalVolume::new("two", two))
///     .quorum(1); // goes on with one of them
/// let mirror = spec.handle();
/// let volume = Box::new(spec).open(VolumeContext::new(StoreId::from_bytes([7; 16]))).await?;
///
/// let done = mirror.scrub(|so_far| println!("{} looked at", so_far.looked_at)).await?;
/// assert_eq!(done.undecidable, 0);
/// volume.close().await?;
/// # Ok::<(), locus_core::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct MirroredVolume {
    id: String,
    members: Vec<Arc<dyn Again>>,
    quorum: Option<usize>,
    must_exist: bool,
    new_disks: Vec<String>,
    handle: Mirror,
}

/// Fewest members, and most.
const MEMBERS: std::ops::RangeInclusive<usize> = 2..=16;

impl MirroredVolume {
    /// A mirror of this name without members yet.
    #[must_use]
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            members: Vec::new(),
            quorum: None,
            must_exist: false,
            new_disks: Vec::new(),
            handle: Mirror::default(),
        }
    }

    /// Adds a member: 2 to 16 of them. Its name is its own and stays: notes of the others name it. Reads prefer the first
    /// ones.
    #[must_use]
    pub fn add_member(mut self, member: impl VolumeSpec + Clone + Sync + 'static) -> Self {
        self.members.push(Arc::new(member));
        self
    }

    /// How many members must have a content before its write succeeds: 1 to all of them, default all. With fewer members
    /// at hand the mirror can only be read, and blobs deleted.
    #[must_use]
    pub fn quorum(mut self, members: usize) -> Self {
        self.quorum = Some(members);
        self
    }

    /// Says that this member lies on a new disk, to be taken and filled although the mirror [has been used
    /// before](VolumeSpec::expect_existing): else a member that is expected and not found is away, lest an empty mount point
    /// is filled. Not to be said any longer than until the mirror is whole again.
    #[must_use]
    pub fn new_disk(mut self, member: impl Into<String>) -> Self {
        self.new_disks.push(member.into());
        self
    }

    /// A hold on the mirror that this description, or a clone of it, opens into: for what a volume has no call for.
    #[must_use]
    pub fn handle(&self) -> Mirror {
        self.handle.clone()
    }

    fn members(&self) -> Result<Vec<Member>> {
        if !MEMBERS.contains(&self.members.len()) {
            return Err(Error::InvalidArgument { name: "members", why: "are not 2 to 16" });
        }
        let mut members: Vec<Member> = Vec::new();
        for spec in &self.members {
            let id = spec.id()?;
            if members.iter().any(|member| member.id == id) {
                return Err(Error::VolumeExists { volume: id });
            }
            let is_new = self.new_disks.iter().any(|new| *new == id.as_str());
            members.push(Member::new(id, Arc::clone(spec), self.must_exist && !is_new));
        }
        if self.new_disks.iter().any(|new| members.iter().all(|member| member.id.as_str() != new)) {
            return Err(Error::InvalidArgument { name: "new_disk", why: "is the name of no member" });
        }
        Ok(members)
    }
}

#[async_trait]
impl VolumeSpec for MirroredVolume {
    fn id(&self) -> Result<VolumeId> {
        VolumeId::parse(&self.id)
    }

    fn expect_existing(&mut self) {
        self.must_exist = true;
    }

    fn places(&self) -> Vec<PathBuf> {
        self.members.iter().flat_map(|member| member.places()).collect()
    }

    async fn open(self: Box<Self>, context: VolumeContext) -> Result<Arc<dyn StorageVolume>> {
        let (id, members) = (self.id()?, self.members()?);
        let quorum = self.quorum.unwrap_or(members.len());
        if !(1..=members.len()).contains(&quorum) {
            return Err(Error::InvalidArgument { name: "quorum", why: "is not 1 to the number of members" });
        }
        let core = Arc::new(Core::open(id, members, quorum, context).await?);
        *self.handle.core.lock() = Arc::downgrade(&core);
        core.tend().await;
        Ok(Arc::new(OpenMirroredVolume::new(core)))
    }
}

/// A hold on an open mirror that does not keep it open; [`MirroredVolume::handle`] gives it.
#[derive(Debug, Clone, Default)]
pub struct Mirror {
    core: Arc<Mutex<Weak<Core>>>,
}

impl Mirror {
    fn core(&self) -> Result<Arc<Core>> {
        let core = self.core.lock().upgrade();
        core.ok_or(Error::VolumeUnavailable { volume: None, why: "the mirror is not open".into() })
    }

    /// What the mirror found and did since it was opened.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] when it is not open.
    pub fn report(&self) -> Result<MirrorReport> {
        Ok(self.core()?.report())
    }

    /// Looks at all copies of all blobs, reading each of them whole, and repairs what is missing or damaged; begins with
    /// what is noted. `progress` is called after each blob. Memory is bounded; writes, reads and deletions go on
    /// meanwhile, and a blob that is being written or deleted is left alone.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] when the mirror is closed or a member goes away while it is listed: what was repaired
    /// stays so. [`Error::Io`].
    ///
    /// # Cancel safety
    /// It may be dropped anywhere and begun again.
    pub async fn scrub(&self, progress: impl FnMut(&ScrubProgress) + Send) -> Result<ScrubProgress> {
        self.core()?.scrub(progress).await
    }

    /// Repairs what is noted of members that are here and what reads found, without looking at everything. Goes on by itself
    /// after every probe; this waits for it.
    ///
    /// # Errors
    /// [`Error::VolumeUnavailable`] when it is not open.
    ///
    /// # Cancel safety
    /// It may be dropped anywhere and begun again.
    pub async fn mend(&self) -> Result<ScrubProgress> {
        self.core()?.mend_all().await
    }
}
