//! The inside of an open mirror: what its calls share.

use std::{
    borrow::Cow,
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use locus_core::{
    BlobPath, Error, FileKey, Result, StoragePath, StorageVolume, VolumeId, VolumeStatus, join_bounded,
};
use parking_lot::Mutex;
use tracing::{info, warn};

use crate::{
    busy::Busy,
    mirror::{
        ledger::{BEHIND_MAX, Ledger},
        member::Member,
        note::{self, NOTES_BYTES_MAX, Note},
        pen::Pen,
        read::look,
        report::MirrorReport,
    },
    volume_spec::VolumeContext,
};

/// Most blobs that wait to be repaired because a read found a bad copy. The rest is found by a scrub.
const SUSPECTS_MAX: usize = 4_096;

/// Blobs of notes that are listed at a time.
const NOTES_PER_PAGE: usize = 256;

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) id: VolumeId,
    pub(crate) members: Vec<Member>,
    /// Copies that a write needs.
    pub(crate) quorum: usize,
    pub(crate) context: VolumeContext,
    pub(crate) notes_owner: StoragePath,
    pub(crate) ledger: Mutex<Ledger>,
    pub(crate) pen: Pen,
    pub(crate) busy: Arc<Busy>,
    /// Blobs of which a read found a copy missing or damaged.
    pub(crate) suspects: Mutex<BTreeSet<BlobPath>>,
    pub(crate) counts: Counts,
    closed: AtomicBool,
    /// Whoever opens members.
    door: tokio::sync::Mutex<()>,
    /// Whoever mends or scrubs: one at a time.
    pub(crate) mending: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) missing: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) removed: AtomicU64,
    pub(crate) undecidable: AtomicU64,
}

/// A member that just opened.
#[derive(Debug, PartialEq, Eq)]
enum Admitted {
    Known,
    New,
}

impl Core {
    /// Opens what can be opened; at least one member must.
    pub(crate) async fn open(
        id: VolumeId,
        members: Vec<Member>,
        quorum: usize,
        context: VolumeContext,
    ) -> Result<Self> {
        let core = Self {
            id,
            members,
            quorum,
            context,
            notes_owner: StoragePath::parse(note::OWNER)?,
            ledger: Mutex::default(),
            pen: Pen::default(),
            busy: Arc::default(),
            suspects: Mutex::default(),
            counts: Counts::default(),
            closed: AtomicBool::new(false),
            door: tokio::sync::Mutex::default(),
            mending: tokio::sync::Mutex::default(),
        };
        core.open_members().await.and_then(|()| {
            let any = core.members.iter().any(|member| member.open_volume().is_some());
            if any { Ok(()) } else { Err(core.unavailable(core.why())) }
        })?;
        info!(volume = %core.id, members = core.members.len(), "mirror opened");
        Ok(core)
    }

    pub(crate) fn unavailable(&self, why: impl Into<Cow<'static, str>>) -> Error {
        Error::VolumeUnavailable { volume: Some(self.id.clone()), why: why.into() }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    pub(crate) fn may_be_used(&self) -> Result<()> {
        if self.is_closed() { Err(self.unavailable("is closed")) } else { Ok(()) }
    }

    pub(crate) fn member_named(&self, id: &VolumeId) -> Option<usize> {
        self.members.iter().position(|member| member.id == *id)
    }

    /// Members that can be used, with their places.
    pub(crate) fn up(&self) -> Vec<(usize, Arc<dyn StorageVolume>)> {
        self.members.iter().enumerate().filter_map(|(n, member)| Some((n, member.up()?))).collect()
    }

    /// What is wrong with the members, as a sentence about the mirror.
    fn why(&self) -> Cow<'static, str> {
        let told =
            self.members.iter().filter_map(|member| Some(format!("{} {}", member.id, member.status().why?)));
        format!("lacks members: {}", told.collect::<Vec<_>>().join("; ")).into()
    }

    pub(crate) fn status(&self) -> VolumeStatus {
        let all: Vec<_> = self.members.iter().map(Member::status).collect();
        let writable: Vec<_> = all.iter().filter(|status| status.takes_writes()).collect();
        let is_healthy = !self.is_closed() && all.iter().any(|status| status.is_healthy);
        let read_only = is_healthy && writable.len() < self.quorum;
        let least =
            |what: fn(&VolumeStatus) -> u64| writable.iter().map(|status| what(status)).min().unwrap_or(0);
        let why = if self.is_closed() {
            Some("is closed".into())
        } else {
            (writable.len() < all.len()).then(|| self.why())
        };
        VolumeStatus {
            total: least(|s| s.total),
            available: least(|s| s.available),
            is_healthy,
            read_only,
            why,
        }
    }

    pub(crate) fn report(&self) -> MirrorReport {
        let (behind, unknown) = self.ledger.lock().open();
        MirrorReport {
            repaired_missing: self.counts.missing.load(Relaxed),
            repaired_damaged: self.counts.damaged.load(Relaxed),
            removed: self.counts.removed.load(Relaxed),
            undecidable: self.counts.undecidable.load(Relaxed),
            behind,
            unknown,
            away: (self.members.len() - self.up().len()) as u64,
        }
    }

    /// A read found a bad or missing copy: it is looked at soon.
    pub(crate) fn suspect(&self, at: &BlobPath) {
        let mut suspects = self.suspects.lock();
        if suspects.len() < SUSPECTS_MAX {
            suspects.insert(at.clone());
        }
    }

    pub(crate) async fn close(&self) -> Result<()> {
        self.closed.store(true, Relaxed);
        let _mended = self.mending.lock().await;
        let _entered = self.door.lock().await;
        // Side by side: one that hangs keeps no other from letting go.
        let closing = self.members.iter().filter_map(Member::open_volume);
        let closing = closing.map(|volume| async move { volume.close().await });
        join_bounded(closing.collect(), self.members.len()).await.into_iter().collect()
    }
}

/// How members come in.
impl Core {
    /// Opens the members that are not open, and learns what they note.
    pub(crate) async fn open_members(&self) -> Result<()> {
        let _entering = self.door.lock().await;
        self.may_be_used()?;
        let absent = (0..self.members.len()).filter(|n| self.members[*n].open_volume().is_none());
        let opening = absent.map(|n| async move { (n, self.members[n].open(&self.context).await) });
        let opened = join_bounded(opening.collect(), self.members.len()).await;
        let mut fresh = Vec::new();
        for (n, opened) in opened {
            let member = &self.members[n];
            let admitted = match opened {
                Ok(volume) => self.admit(n, volume).await,
                Err(error) => Err(error),
            };
            match admitted {
                Ok(Admitted::Known) => {}
                Ok(Admitted::New) => fresh.push(n),
                Err(error) => member.stay_away(&error),
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let welcomed = self.welcome(&fresh).await;
        if let Err(error) = &welcomed {
            for n in fresh {
                self.turn_away(&self.members[n], error).await;
            }
        }
        Ok(())
    }

    async fn turn_away(&self, member: &Member, error: &Error) {
        let volume = member.open_volume();
        member.stay_away(error);
        if let Some(volume) = volume {
            let _ = volume.close().await;
        }
    }

    async fn admit(&self, n: usize, volume: Arc<dyn StorageVolume>) -> Result<Admitted> {
        let admitted = self.look_at(n, &volume).await;
        match &admitted {
            Ok(_) => self.members[n].enter(volume),
            Err(_) => drop(volume.close().await),
        }
        admitted
    }

    /// Reads the member's notes.
    async fn look_at(&self, n: usize, volume: &Arc<dyn StorageVolume>) -> Result<Admitted> {
        let id = &self.members[n].id;
        let mut joined = None;
        let mut is_damaged = false;
        let mut from = None;
        loop {
            let page = volume.list(Some(&self.notes_owner), from.as_ref(), NOTES_PER_PAGE).await?.whole()?;
            for blob in page.blobs {
                let Some(notes) = read_notes(volume, &blob.path, blob.length).await? else {
                    warn!(volume = %self.id, member = %id, blob = %blob.path, "notes are damaged");
                    self.doubt_all(blob.path.key);
                    is_damaged = true;
                    continue;
                };
                for note in &notes {
                    if let Note::Joined { member, mirror } = note
                        && member == id
                    {
                        joined = Some(mirror.clone());
                    }
                }
                if !self.ledger.lock().knows(blob.path.key) {
                    self.learn(&notes, blob.path.key, true);
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => break,
            }
        }
        match joined {
            Some(mirror) if mirror == self.id => Ok(Admitted::Known),
            Some(mirror) => Err(self.unavailable(format!("cannot use {id}: it belongs to mirror {mirror}"))),
            None if is_damaged || is_empty(volume, &self.notes_owner).await? => Ok(Admitted::New),
            // It lost its notes, nobody knows with what else.
            None if self.ledger.lock().has_joined(n) && self.holds_copies(volume).await? => Ok(Admitted::New),
            None => Err(self.unavailable(format!(
                "cannot use {id}: it holds blobs that are no copies of a mirror's; begin with an empty volume"
            ))),
        }
    }

    /// Whether there are copies among the first blobs.
    async fn holds_copies(&self, volume: &Arc<dyn StorageVolume>) -> Result<bool> {
        for blob in volume.list(None, None, NOTES_PER_PAGE).await?.whole()?.blobs {
            if blob.path.owner != self.notes_owner && look(volume, &blob.path, 0..0).await.is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Notes of one member that cannot be read may have been about any member.
    fn doubt_all(&self, blob: FileKey) {
        let mut ledger = self.ledger.lock();
        if !ledger.knows(blob) {
            (0..self.members.len()).for_each(|n| ledger.add_whole(n, blob));
        }
    }

    /// New members. In a mirror that is all new there is nothing that they could lack.
    async fn welcome(&self, fresh: &[usize]) -> Result<()> {
        let named = |n: &usize| self.members[*n].id.clone();
        if fresh.len() < self.members.len() {
            self.note(fresh.iter().map(|n| Note::Whole { member: named(n) }).collect()).await?;
        }
        // The others too: each member knows them all.
        let belongs = |n: &usize| fresh.contains(n) || self.ledger.lock().has_joined(*n);
        let all: Vec<_> = (0..self.members.len()).filter(belongs).collect();
        self.note(all.iter().map(|n| Note::Joined { member: named(n), mirror: self.id.clone() }).collect())
            .await
    }

    /// What is to be noted of a member that did not take part; nothing when it may lack anything anyway.
    pub(crate) fn behind(&self, n: usize, at: &BlobPath, deleted: bool) -> Option<Note> {
        let (mut ledger, member) = (self.ledger.lock(), self.members[n].id.clone());
        if ledger.behind_of(n) < BEHIND_MAX {
            return Some(Note::Behind { member, at: at.clone(), deleted });
        }
        (!ledger.doubt_again(n)).then_some(Note::Whole { member })
    }

    /// Takes what a blob of notes says.
    pub(crate) fn learn(&self, notes: &[Note], blob: FileKey, found: bool) {
        let mut ledger = self.ledger.lock();
        for note in notes {
            match note {
                Note::Joined { member, mirror } => {
                    if let Some(n) = self.member_named(member).filter(|_| *mirror == self.id) {
                        ledger.join(n);
                    }
                    ledger.keep(blob);
                }
                Note::Behind { member, at, deleted } => {
                    let Some(n) = self.member_named(member) else { continue };
                    ledger.add(n, at, *deleted, blob, found);
                }
                Note::Whole { member } => {
                    if let Some(n) = self.member_named(member) {
                        ledger.add_whole(n, blob);
                    }
                }
            }
        }
    }
}

async fn is_empty(volume: &Arc<dyn StorageVolume>, but: &StoragePath) -> Result<bool> {
    let mut from = None;
    loop {
        let page = volume.list(None, from.as_ref(), 16).await?.whole()?;
        if page.blobs.iter().any(|blob| blob.path.owner != *but) {
            return Ok(false);
        }
        match page.next {
            Some(next) => from = Some(next),
            None => return Ok(true),
        }
    }
}

/// `None` when they are damaged.
async fn read_notes(
    volume: &Arc<dyn StorageVolume>,
    at: &BlobPath,
    length: u64,
) -> Result<Option<Vec<Note>>> {
    if length > NOTES_BYTES_MAX {
        return Ok(None);
    }
    let opened = volume.open(at, 0..length).await?;
    let mut bytes = opened.head.to_vec();
    if (bytes.len() as u64) < opened.length.min(NOTES_BYTES_MAX) {
        bytes = opened.blob.read_at(0, NOTES_BYTES_MAX as usize).await?.to_vec();
    }
    Ok(note::decode(&bytes))
}
