//! An open mirror.

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use locus_core::{
    Area, BlobPage, BlobPath, BlobReader, Content, Cursor, Durability, Error, OnScrub, Result, ScrubProgress,
    Staged, Staging, StoragePath, StorageVolume, StoredBlob, Tidy, TidyReport, VolumeId, VolumeStatus,
    join_bounded,
};

use crate::mirror::{core::Core, member::Member, note::Note};

/// Several volumes used as one; [`MirroredVolume`](crate::MirroredVolume) describes it.
///
/// It is healthy while any member is, and can be written while a quorum of members can. What a member is known to lack,
/// or to have still to delete, is never read from it; "absent" is said only when every member that could hold the blob
/// said so.
#[derive(Debug)]
pub struct OpenMirroredVolume {
    core: Arc<Core>,
}

impl OpenMirroredVolume {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }
}

/// The answers of members, sorted.
pub(crate) struct Said<T> {
    pub(crate) good: Vec<(usize, T)>,
    pub(crate) bad: Vec<(usize, Error)>,
}

impl<T> Said<T> {
    /// The first failure, when nobody succeeded.
    pub(crate) fn at_least_one(mut self, core: &Core) -> Result<Self> {
        if !self.good.is_empty() {
            return Ok(self);
        }
        let none = || core.unavailable(core.status().why.unwrap_or("has no member that can be used".into()));
        Err(if self.bad.is_empty() { none() } else { self.bad.swap_remove(0).1 })
    }
}

/// Asks every member that can be used, at the same time.
pub(crate) async fn ask<T: Send, F: Future<Output = Result<T>> + Send>(
    core: &Core,
    call: impl Fn(Arc<dyn StorageVolume>) -> F,
) -> Said<T> {
    let asked = core.up();
    let calls: Vec<_> = asked.iter().map(|(_, volume)| call(Arc::clone(volume))).collect();
    let mut said = Said { good: Vec::new(), bad: Vec::new() };
    for ((n, _), answer) in asked.into_iter().zip(join_bounded(calls, core.members.len()).await) {
        match answer {
            Ok(answer) => said.good.push((n, answer)),
            Err(error) => said.bad.push((n, error)),
        }
    }
    said
}

impl Core {
    /// The members that are none of `good` are noted as behind at this address.
    async fn note_others<T>(&self, good: &[(usize, T)], at: &BlobPath, deleted: bool) -> Result<()> {
        let has = |n: usize| good.iter().any(|(one, _)| *one == n);
        let others = (0..self.members.len()).filter(|n| !has(*n));
        let notes: Vec<_> = others.filter_map(|n| self.behind(n, at, deleted)).collect();
        if notes.is_empty() { Ok(()) } else { self.note(notes).await }
    }

    /// These members may lack anything.
    async fn doubt(&self, members: &[usize]) -> Result<()> {
        let news: Vec<_> = {
            let mut ledger = self.ledger.lock();
            let news = members.iter().filter(|n| !ledger.doubt_again(**n));
            news.map(|n| Note::Whole { member: self.members[*n].id.clone() }).collect()
        };
        if news.is_empty() { Ok(()) } else { self.note(news).await }
    }

    pub(crate) async fn delete(&self, at: &BlobPath) -> Result<bool> {
        self.may_be_used()?;
        self.may_address(at)?;
        let _claim = self.busy.wait(at).await;
        let said = ask(self, async |volume| volume.delete(at).await).await.at_least_one(self)?;
        self.note_others(&said.good, at, true).await?;
        let was_there = {
            let mut ledger = self.ledger.lock();
            // What a member held that had to be deleted was deleted already.
            let was_there = said.good.iter().any(|(n, was)| *was && ledger.at(*n, at) != Some(true));
            said.good.iter().for_each(|(n, _)| ledger.settle(*n, at));
            was_there
        };
        self.suspects.lock().remove(at);
        self.forget_spent().await;
        Ok(was_there)
    }

    /// A sync that fails on a member leaves nobody knowing what it holds. What such a member took may lie nowhere else, so
    /// the others make up for it only when they are known to hold everything.
    async fn sync(&self, names_only: bool) -> Result<()> {
        self.may_be_used()?;
        let taken: Vec<_> = self.members.iter().map(Member::taken).collect();
        let said = ask(
            self,
            async |volume| {
                if names_only { volume.sync_names().await } else { volume.sync().await }
            },
        )
        .await
        .at_least_one(self)?;
        if !names_only {
            said.good.iter().for_each(|(n, ())| self.members[*n].synced(taken[*n]));
        }
        let is_doubtful = |n: &usize| {
            let failed = said.bad.iter().any(|(bad, _)| bad == n);
            let left = !said.good.iter().any(|(good, ())| good == n);
            failed || (!names_only && left && self.members[*n].lacks_sync_of(taken[*n]))
        };
        let doubtful: Vec<_> = (0..self.members.len()).filter(is_doubtful).collect();
        let holding_all = {
            let ledger = self.ledger.lock();
            said.good.iter().filter(|(n, ())| ledger.trusts(*n)).count()
        };
        self.doubt(&doubtful).await?;
        // Who left has what it took, unless it lost power; who failed may have lost it, and counts for no copy.
        let enough = if said.bad.is_empty() { 1 } else { self.quorum };
        if names_only || doubtful.is_empty() {
            return Ok(());
        }
        if holding_all >= enough {
            doubtful.iter().for_each(|n| self.members[*n].synced(taken[*n]));
            return Ok(());
        }
        let error = said.bad.into_iter().next().map(|(_, error)| error);
        Err(error.unwrap_or_else(|| self.unavailable("lost a member with content that was not synced")))
    }

    pub(crate) async fn sync_blob(&self, at: &BlobPath) -> Result<()> {
        self.may_be_used()?;
        self.may_address(at)?;
        let said = ask(self, async |volume| volume.sync_blob(at).await).await;
        if said.good.is_empty() {
            return Err(
                match (self.find_any(at).await, said.bad.into_iter().find(|(_, error)| !error.is_absent())) {
                    (Err(error), _) if error.is_absent() => error,
                    (_, Some((_, error))) | (Err(error), None) => error,
                    (Ok(()), None) => self.unavailable("changed while it was asked"),
                },
            );
        }
        if said.good.len() == self.members.len() {
            return Ok(());
        }
        let said = said.at_least_one(self)?;
        self.note_others(&said.good, at, false).await?;
        let _claim = self.busy.wait(at).await;
        self.mend(at).await;
        Ok(())
    }
}

#[async_trait]
impl StorageVolume for OpenMirroredVolume {
    fn id(&self) -> &VolumeId {
        &self.core.id
    }

    fn mount_path(&self) -> Option<&Path> {
        None
    }

    /// Those of all members, of those that are away as their descriptions name them.
    fn places(&self) -> Vec<PathBuf> {
        self.core.members.iter().flat_map(Member::places).collect()
    }

    fn local_path(&self, _: &BlobPath) -> Option<PathBuf> {
        None
    }

    /// The room is that of the fullest member that can be written.
    fn status(&self) -> VolumeStatus {
        self.core.status()
    }

    /// Probes every member, opens those that were away, and sees to it that what they lack is made up for. Waits 8 s at
    /// most for members that hang; after two probes in a row that were late nobody waits for such a member, and the others
    /// go on without it.
    async fn probe(&self) -> Result<VolumeStatus> {
        self.core.may_be_used()?;
        self.core.open_members().await?;
        let clock = &*self.core.context.clock;
        let probes = self.core.members.iter().map(|member| member.probe(clock));
        let answers = join_bounded(probes.collect(), self.core.members.len()).await;
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        if !answers.iter().any(Result::is_ok)
            && let Some(Err(error)) = answers.into_iter().next()
        {
            return Err(error);
        }
        self.core.tend().await;
        Ok(self.core.status())
    }

    async fn write(&self, at: &BlobPath, content: &mut Content, how: Durability) -> Result<StoredBlob> {
        self.core.write(at, content, how).await
    }

    async fn stage(&self, at: &BlobPath, how: Staging) -> Result<Arc<dyn Staged>> {
        self.core.stage(at, how).await
    }

    async fn staged(&self, from: Option<&Cursor>, limit: usize) -> Result<BlobPage> {
        self.core.staged(from, limit).await
    }

    async fn discard(&self, at: &BlobPath) -> Result<bool> {
        self.core.discard(at).await
    }

    /// Copies the bytes: a copy on a member says where it lies.
    async fn copy(&self, at: &BlobPath, to: Area) -> Result<()> {
        self.core.copy(at, to).await
    }

    async fn open(&self, at: &BlobPath, expected: Range<u64>) -> Result<BlobReader> {
        self.core.open_blob(at, expected).await
    }

    /// Goes on with whatever members are here, whatever the quorum is: the others are noted.
    async fn delete(&self, at: &BlobPath) -> Result<bool> {
        self.core.delete(at).await
    }

    async fn sync(&self) -> Result<()> {
        self.core.sync(false).await
    }

    async fn sync_blob(&self, at: &BlobPath) -> Result<()> {
        self.core.sync_blob(at).await
    }

    async fn sync_names(&self) -> Result<()> {
        self.core.sync(true).await
    }

    async fn list(
        &self,
        under: Option<&StoragePath>,
        from: Option<&Cursor>,
        limit: usize,
    ) -> Result<BlobPage> {
        self.core.list(under, from, limit).await
    }

    async fn tidy(&self, what: Tidy) -> Result<TidyReport> {
        self.core.tidy(what).await
    }

    async fn scrub(&self, progress: OnScrub<'_>) -> Result<Option<ScrubProgress>> {
        self.core.scrub(progress).await.map(Some)
    }

    async fn close(&self) -> Result<()> {
        self.core.close().await
    }
}
