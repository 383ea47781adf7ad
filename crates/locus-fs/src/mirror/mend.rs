//! One blob made whole on all members: look at every copy, decide, repair.

use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use locus_core::{BlobPath, Checksum, Content, Durability, Error, Result, StorageVolume, join_bounded};
use tracing::{info, warn};

use crate::{
    feed::{Feed, feed},
    mirror::{
        core::Core,
        member::Member,
        read::{Look, NoCopy, look},
        seal::BLOCK_BYTES,
    },
};

/// What is read of a copy at a time.
const STEP_BYTES: u64 = 4 * BLOCK_BYTES;

/// What a member holds, when all of it was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Good(Checksum),
    Damaged,
    Absent,
    /// It does not answer.
    Unknown,
}

/// What is known about a member at one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) held: Held,
    /// It is noted that what it holds is wrong; whether it is to be deleted.
    pub(crate) noted: Option<bool>,
    /// It may lack anything: that it has none says nothing.
    pub(crate) doubted: bool,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Copy from this member to those.
    Copy { from: usize, to: Vec<usize> },
    /// It is deleted: remove what these hold.
    Remove { at: Vec<usize> },
    /// Whoever could tell does not answer.
    Postpone,
    /// No copy is good, or good ones differ.
    Undecidable,
}

/// Decides. A good copy is never given up unless its deletion was noted and everybody who took part in that answers that
/// there is none: to bring back what was deleted costs room, to delete what was lost elsewhere costs the content.
pub(crate) fn decide(facts: &[Fact]) -> Plan {
    let places = |wanted: &dyn Fn(&Fact) -> bool| -> Vec<usize> {
        facts.iter().enumerate().filter(|(_, fact)| wanted(fact)).map(|(n, _)| n).collect()
    };
    let good = |fact: &Fact| matches!(fact.held, Held::Good(_));
    let believed = places(&|fact| fact.noted.is_none() && good(fact));
    if let Some(&from) = believed.first() {
        let right = facts[from].held;
        if believed.iter().any(|n| facts[*n].held != right) {
            return Plan::Undecidable;
        }
        return Plan::Copy { from, to: places(&|fact| fact.held != right && fact.held != Held::Unknown) };
    }
    let knows = |fact: &&Fact| fact.noted.is_none() && !(fact.doubted && fact.held == Held::Absent);
    let witnesses: Vec<&Fact> = facts.iter().filter(knows).collect();
    if witnesses.iter().any(|fact| fact.held == Held::Unknown) {
        return Plan::Postpone;
    }
    let is_deleted = facts.iter().any(|fact| fact.noted == Some(true));
    let all_absent = witnesses.iter().all(|fact| fact.held == Held::Absent);
    if is_deleted && all_absent && !witnesses.is_empty() {
        return Plan::Remove { at: places(&|fact| matches!(fact.held, Held::Good(_) | Held::Damaged)) };
    }
    let kept = places(&good);
    match kept.first() {
        Some(&from) if kept.iter().all(|n| facts[*n].held == facts[from].held) => {
            Plan::Copy { from, to: places(&|fact| matches!(fact.held, Held::Damaged | Held::Absent)) }
        }
        Some(_) => Plan::Undecidable,
        None if facts.iter().any(|fact| fact.held == Held::Unknown) => Plan::Postpone,
        None if facts.iter().all(|fact| fact.held == Held::Absent) => Plan::Remove { at: Vec::new() },
        None => Plan::Undecidable,
    }
}

/// What mending one blob did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mended {
    pub(crate) missing: u64,
    pub(crate) damaged: u64,
    pub(crate) removed: u64,
    pub(crate) undecidable: bool,
    pub(crate) postponed: bool,
    /// Length of the content, when a copy is good.
    pub(crate) bytes: u64,
}

impl Core {
    /// Looks at all copies and repairs what can be. The caller has claimed the address.
    ///
    /// # Cancel safety
    /// Each copy is replaced wholly or not at all; between its removal and its return the others hold the content.
    pub(crate) async fn mend(&self, at: &BlobPath) -> Mended {
        let ups: Vec<_> = self.members.iter().map(Member::up).collect();
        let looks = ups.iter().map(|volume| async move {
            match volume {
                Some(volume) => examine(volume, at).await,
                None => (Held::Unknown, None),
            }
        });
        let looked = join_bounded(looks.collect(), ups.len()).await;
        let facts: Vec<Fact> = {
            let ledger = self.ledger.lock();
            let held = looked.iter().map(|(held, _)| *held);
            let fact = |(n, held)| Fact { held, noted: ledger.at(n, at), doubted: ledger.is_whole(n) };
            held.enumerate().map(fact).collect()
        };
        let mut done = Mended::default();
        let holds_right: Vec<usize> = match decide(&facts) {
            Plan::Copy { from, to } => {
                let Some((_, Some(source))) = looked.get(from) else { return done };
                done.bytes = source.seal.length;
                let mut right: Vec<usize> =
                    (0..facts.len()).filter(|n| facts[*n].held == facts[from].held).collect();
                for n in to {
                    if let Some(volume) = &ups[n] {
                        match replace(volume, at, facts[n].held, source).await {
                            Ok(()) => {
                                right.push(n);
                                match facts[n].held {
                                    Held::Absent => done.missing += 1,
                                    _ => done.damaged += 1,
                                }
                                info!(volume = %self.id, member = %self.members[n].id, blob = %at, "copy repaired");
                            }
                            Err(error) => {
                                done.postponed = true;
                                warn!(volume = %self.id, member = %self.members[n].id, blob = %at, %error, "copy could not be repaired");
                            }
                        }
                    }
                }
                right
            }
            Plan::Remove { at: holders } => {
                let absent = (0..facts.len()).filter(|n| facts[*n].held == Held::Absent);
                // From a call that nobody waits for any more it may still get one: a removal hears of that, a look does not.
                let (pending, mut right): (Vec<_>, Vec<_>) =
                    absent.partition(|n| facts[*n].noted == Some(true));
                for n in pending.into_iter().chain(holders) {
                    let Some(volume) = &ups[n] else { continue };
                    match remove(volume, at).await {
                        Ok(was_there) => {
                            right.push(n);
                            done.removed += u64::from(was_there);
                        }
                        Err(_) => done.postponed = true,
                    }
                }
                right
            }
            Plan::Postpone => {
                done.postponed = true;
                Vec::new()
            }
            Plan::Undecidable => {
                done.undecidable = true;
                warn!(volume = %self.id, blob = %at, "no copy is good, or good ones differ");
                Vec::new()
            }
        };
        done.postponed |= facts.iter().any(|fact| fact.held == Held::Unknown);
        {
            let mut ledger = self.ledger.lock();
            holds_right.into_iter().for_each(|n| ledger.settle(n, at));
        }
        self.count(&done);
        self.forget_spent().await;
        done
    }

    fn count(&self, done: &Mended) {
        self.counts.missing.fetch_add(done.missing, Relaxed);
        self.counts.damaged.fetch_add(done.damaged, Relaxed);
        self.counts.removed.fetch_add(done.removed, Relaxed);
        self.counts.undecidable.fetch_add(u64::from(done.undecidable), Relaxed);
    }

    /// Removes notes that are settled. One that stays on a member that is away is learnt again, and settled by looking.
    pub(crate) async fn forget_spent(&self) {
        let spent = self.ledger.lock().take_spent();
        for blob in spent {
            let at = self.notes_at(blob);
            for (_, volume) in self.up() {
                let _ = volume.delete(&at).await;
            }
        }
    }
}

/// Reads the whole of a copy.
async fn examine(volume: &Arc<dyn StorageVolume>, at: &BlobPath) -> (Held, Option<Look>) {
    let held = |failed| match failed {
        NoCopy::Absent => Held::Absent,
        NoCopy::Damaged => Held::Damaged,
        NoCopy::Failed(_) => Held::Unknown,
    };
    let look = match look(volume, at, 0..0).await {
        Ok(look) => look,
        Err(failed) => return (held(failed), None),
    };
    let mut from = 0;
    while from < look.seal.length {
        let to = from.saturating_add(STEP_BYTES).min(look.seal.length);
        if let Err(failed) = look.blocks(from..to).await {
            return (held(failed), None);
        }
        from = to;
    }
    (Held::Good(look.seal.checksum), Some(look))
}

/// Removes a copy durably, and says whether there was one.
async fn remove(volume: &Arc<dyn StorageVolume>, at: &BlobPath) -> Result<bool> {
    let was_there = volume.delete(at).await?;
    if was_there {
        volume.sync_names().await?;
    }
    Ok(was_there)
}

/// Puts a copy of `source` where `held` lies.
async fn replace(volume: &Arc<dyn StorageVolume>, at: &BlobPath, held: Held, source: &Look) -> Result<()> {
    if held != Held::Absent {
        volume.delete(at).await?;
    }
    let (feeding, ends) = feed(1);
    let Some(end) = ends.into_iter().next() else { return Ok(()) };
    let write = async move {
        // The end goes with the write: whoever gives sees that nobody takes any more.
        volume.write(at, &mut Content::reader(end), Durability::Durable).await.map(drop)
    };
    let give = async { give(source, at, feeding).await };
    let both: Vec<std::pin::Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>> =
        vec![Box::pin(give), Box::pin(write)];
    join_bounded(both, 2).await.into_iter().collect()
}

/// Hands a copy on, each block believed again.
async fn give(source: &Look, at: &BlobPath, mut feed: Feed) -> Result<()> {
    let mut from = 0;
    while from < source.seal.length {
        let to = from.saturating_add(STEP_BYTES).min(source.seal.length);
        let bytes: Bytes = source.blocks(from..to).await.map_err(|failed| match failed {
            NoCopy::Failed(error) => error,
            NoCopy::Absent | NoCopy::Damaged => {
                Error::io("copy", at.to_string())(io::ErrorKind::InvalidData.into())
            }
        })?;
        if !feed.give(bytes).await {
            return Ok(()); // the writer says why
        }
        from = to;
    }
    feed.give(source.seal.encode(at).into()).await;
    feed.end().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// `g` and `h` are good copies that differ, `d` damaged, `a` absent, `?` no answer; behind it `-` when it is noted that
    /// the member lacks it, `x` when it has to delete it, `~` when it may lack anything.
    fn facts(text: &str) -> Vec<Fact> {
        let one = |text: &str| Fact {
            held: match &text[..1] {
                "g" => Held::Good(Checksum::of(b"g")),
                "h" => Held::Good(Checksum::of(b"h")),
                "d" => Held::Damaged,
                "a" => Held::Absent,
                _ => Held::Unknown,
            },
            noted: match &text[1..] {
                "-" => Some(false),
                "x" => Some(true),
                _ => None,
            },
            doubted: &text[1..] == "~",
        };
        text.split(' ').map(one).collect()
    }

    #[rstest]
    #[case::all_is_well("g g", Plan::Copy { from: 0, to: vec![] })]
    #[case::a_missing_copy("g a", Plan::Copy { from: 0, to: vec![1] })]
    #[case::a_damaged_copy("d g g", Plan::Copy { from: 1, to: vec![0] })]
    #[case::a_noted_one_that_is_right_after_all("g g-", Plan::Copy { from: 0, to: vec![] })]
    #[case::a_noted_one_of_an_earlier_blob("g hx", Plan::Copy { from: 0, to: vec![1] })]
    #[case::one_that_does_not_answer("g ?", Plan::Copy { from: 0, to: vec![] })]
    #[case::two_contents("g h", Plan::Undecidable)]
    #[case::a_deletion_that_was_missed("a gx", Plan::Remove { at: vec![1] })]
    #[case::a_deletion_that_a_damaged_copy_missed("a dx", Plan::Remove { at: vec![1] })]
    #[case::a_deletion_without_a_witness("gx gx", Plan::Copy { from: 0, to: vec![] })]
    #[case::a_deletion_whose_only_witness_is_a_new_disk("a~ gx", Plan::Copy { from: 1, to: vec![0] })]
    #[case::a_deletion_with_another_witness("a~ a gx", Plan::Remove { at: vec![2] })]
    #[case::a_new_disk_to_be_filled("a~ g", Plan::Copy { from: 1, to: vec![0] })]
    #[case::a_deletion_whose_witness_is_away("? gx", Plan::Postpone)]
    #[case::lost_where_it_was_written_but_not_where_it_was_not("a g-", Plan::Copy { from: 1, to: vec![0] })]
    #[case::damaged_where_it_was_written("d g-", Plan::Copy { from: 1, to: vec![0] })]
    #[case::nobody_has_it("a a-", Plan::Remove { at: vec![] })]
    #[case::all_are_damaged("d d", Plan::Undecidable)]
    #[case::one_damaged_and_one_away("d ?", Plan::Postpone)]
    fn a_good_copy_wins_unless_its_deletion_was_witnessed(#[case] given: &str, #[case] plan: Plan) {
        assert_eq!(decide(&facts(given)), plan);
    }
}
