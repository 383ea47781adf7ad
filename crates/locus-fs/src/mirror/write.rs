//! The way in: sealed once, to all members at the same time.

use std::{io, pin::Pin, sync::Arc};

use bytes::Bytes;
use locus_core::{BlobPath, Content, Durability, Error, Result, StorageVolume, StoredBlob, join_bounded};

use crate::{
    feed::{CHUNK_BYTES, Feed, feed, next_chunk},
    mirror::{
        core::Core,
        read::look,
        seal::{Seal, Sealer, sealed_len},
    },
};

type Target = (usize, Arc<dyn StorageVolume>);
type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a member said; nothing of the source.
type Answer = Result<StoredBlob>;

impl Core {
    pub(crate) async fn write(
        self: &Arc<Self>,
        at: &BlobPath,
        content: &mut Content,
        how: Durability,
    ) -> Result<StoredBlob> {
        self.may_be_used()?;
        self.may_address(at)?;
        let Some(_claim) = self.busy.claim(at) else { return Err(taken(at)) };
        if self.is_noted(at) {
            self.mend(at).await; // an earlier blob of this name must be gone
        }
        let targets = self.targets(at);
        if targets.len() < self.quorum {
            let why = self.status().why.unwrap_or("has members that are not up to date".into());
            return Err(self.unavailable(why));
        }
        content.mark().await.map_err(|source| Error::Source { source })?;
        let (seal, answers) = match content.as_bytes() {
            Some(bytes) if bytes.len() <= CHUNK_BYTES => write_whole(&targets, at, bytes, how).await,
            _ => self.write_stream(&targets, at, content, how).await?,
        };
        self.settle_write(at, &targets, seal, answers, how).await
    }

    /// Members that take this write.
    fn targets(&self, at: &BlobPath) -> Vec<Target> {
        let ledger = self.ledger.lock();
        let all = self.members.iter().enumerate();
        all.filter(|(n, _)| ledger.at(*n, at).is_none())
            .filter_map(|(n, member)| Some((n, member.writable()?)))
            .collect()
    }

    fn is_noted(&self, at: &BlobPath) -> bool {
        let ledger = self.ledger.lock();
        (0..self.members.len()).any(|n| ledger.at(n, at).is_some())
    }

    async fn write_stream(
        &self,
        targets: &[Target],
        at: &BlobPath,
        content: &mut Content,
        how: Durability,
    ) -> Result<(Option<Seal>, Vec<Answer>)> {
        enum Done {
            Source(Result<Option<Seal>>),
            Member(Answer),
        }
        let (feeding, ends) = feed(targets.len());
        let mut running: Vec<Boxed<'_, Done>> = Vec::new();
        running.push(Box::pin(async { Done::Source(self.pump(content, at, feeding).await) }));
        for ((_, volume), end) in targets.iter().zip(ends) {
            running.push(Box::pin(async move {
                Done::Member(volume.write(at, &mut Content::reader(end), how).await)
            }));
        }
        let count = running.len();
        let mut seal = Ok(None);
        let mut answers = Vec::new();
        for done in join_bounded(running, count).await {
            match done {
                Done::Source(pumped) => seal = pumped,
                Done::Member(answer) => answers.push(answer),
            }
        }
        Ok((seal?, answers)) // a source that failed made every member fail
    }

    /// Hands the content on, then its seal. `None` when nobody took it to its end.
    async fn pump(&self, content: &mut Content, at: &BlobPath, mut feed: Feed) -> Result<Option<Seal>> {
        let mut sealer = Sealer::default();
        let mut whole = content.as_bytes().cloned();
        loop {
            let chunk = match &mut whole {
                Some(bytes) => bytes.split_to(bytes.len().min(CHUNK_BYTES)),
                None => next_chunk(&*self.context.disk, content)
                    .await
                    .map_err(|source| Error::Source { source })?,
            };
            let is_last = chunk.len() < CHUNK_BYTES;
            sealer.push(&chunk);
            if !chunk.is_empty() && !feed.give(chunk).await {
                return Ok(None);
            }
            if is_last {
                let seal = sealer.finish();
                feed.give(seal.encode(at).into()).await;
                feed.end().await;
                return Ok(Some(seal));
            }
        }
    }

    /// Enough copies: the members without one are noted, then it is told. Too few: none stays.
    async fn settle_write(
        &self,
        at: &BlobPath,
        targets: &[Target],
        seal: Option<Seal>,
        answers: Vec<Answer>,
        how: Durability,
    ) -> Result<StoredBlob> {
        let is_whole = |stored: &StoredBlob| {
            seal.as_ref().is_some_and(|seal| sealed_len(seal.length) == Some(stored.length))
        };
        let (mut good, mut bad, mut error) = (Vec::new(), Vec::new(), None);
        for (target, answer) in targets.iter().zip(answers) {
            match answer {
                Ok(stored) if is_whole(&stored) => good.push(target),
                Ok(stored) => {
                    bad.push(target);
                    error.get_or_insert_with(|| {
                        self.unavailable(format!(
                            "has a member that stored {} bytes of a copy",
                            stored.length
                        ))
                    });
                }
                // It says more than any other failure, and that what lies there is not of this write.
                Err(failed) if failed.is_taken() => error = Some(failed),
                Err(failed) => {
                    bad.push(target);
                    error.get_or_insert(failed);
                }
            }
        }
        let is_refused = error.as_ref().is_some_and(Error::is_taken);
        if let Some(seal) = &seal
            && good.len() >= self.quorum
            && !is_refused
        {
            let has = |n: usize| good.iter().any(|(one, _)| *one == n);
            let notes: Vec<_> = (0..self.members.len())
                .filter(|n| !has(*n))
                .filter_map(|n| self.behind(n, at, false))
                .collect();
            match if notes.is_empty() { Ok(()) } else { self.note(notes).await } {
                Ok(()) => {
                    if how == Durability::Buffered {
                        good.iter().for_each(|(n, _)| self.members[*n].took_unsynced());
                    }
                    return Ok(StoredBlob { length: seal.length, checksum: seal.checksum });
                }
                Err(failed) => error = Some(failed),
            }
        }
        self.take_back(at, &good, &bad, seal.as_ref()).await;
        if is_refused {
            self.suspect(at); // who has it is not everybody
        }
        Err(error.unwrap_or_else(|| self.unavailable("took the content only in part")))
    }

    /// Removes the copies of a write that failed. A member that failed may hold a copy all the same; one that had something
    /// by this name before is not among `bad`.
    async fn take_back(&self, at: &BlobPath, good: &[&Target], bad: &[&Target], seal: Option<&Seal>) {
        let mut left = Vec::new();
        for (n, volume) in good {
            if volume.delete(at).await.is_err() {
                left.push(*n);
            }
        }
        for (n, volume) in bad {
            if let (Some(seal), Ok(opened)) = (seal, look(volume, at, 0..0).await)
                && *opened.seal == *seal
                && volume.delete(at).await.is_err()
            {
                left.push(*n);
            }
        }
        let notes: Vec<_> = left.into_iter().filter_map(|n| self.behind(n, at, true)).collect();
        if !notes.is_empty() {
            let _ = self.note(notes).await; // else it stays as a blob without a record
        }
    }

    pub(crate) fn may_address(&self, at: &BlobPath) -> Result<()> {
        if at.owner == self.notes_owner {
            return Err(Error::InvalidArgument { name: "at", why: "is where a mirror keeps its notes" });
        }
        Ok(())
    }
}

async fn write_whole(
    targets: &[Target],
    at: &BlobPath,
    bytes: &Bytes,
    how: Durability,
) -> (Option<Seal>, Vec<Answer>) {
    let mut sealer = Sealer::default();
    sealer.push(bytes);
    let seal = sealer.finish();
    let sealed = Bytes::from([bytes.as_ref(), &seal.encode(at)].concat());
    let writes = targets.iter().map(|(_, volume)| {
        let sealed = sealed.clone();
        async move { volume.write(at, &mut Content::from(sealed), how).await }
    });
    let answers = join_bounded(writes.collect(), targets.len()).await;
    (Some(seal), answers)
}

fn taken(at: &BlobPath) -> Error {
    Error::io("write", at.to_string())(io::ErrorKind::AlreadyExists.into())
}
