//! Who lacks what, in memory; it says the same as the notes on the members.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use locus_core::{BlobPath, FileKey};

/// Most changes that are noted one by one for a member; one that lacks more may lack anything.
pub(crate) const BEHIND_MAX: usize = 65_536;

/// A note that is not settled, and the blobs that hold it.
#[derive(Debug, Default)]
struct Open {
    deleted: bool,
    blobs: Vec<FileKey>,
}

/// Why a member may lack anything: the blobs that note it, and how often there was one more reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct Doubt {
    blobs: Vec<FileKey>,
    again: u64,
}

/// Members go by their place in the list.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    behind: BTreeMap<(usize, BlobPath), Open>,
    counts: HashMap<usize, usize>,
    whole: BTreeMap<usize, Doubt>,
    /// Members of which somebody notes that they belong to the mirror.
    joined: BTreeSet<usize>,
    /// How many notes of a blob are open.
    blobs: HashMap<FileKey, usize>,
    /// Blobs of notes that are all settled.
    spent: Vec<FileKey>,
}

impl Ledger {
    /// Whether this blob's notes are known already.
    pub(crate) fn knows(&self, blob: FileKey) -> bool {
        self.blobs.contains_key(&blob)
    }

    /// Takes a note that the blob holds. What is noted last holds, but while notes are `found` again, in no order, a
    /// deletion is remembered.
    pub(crate) fn add(&mut self, member: usize, at: &BlobPath, deleted: bool, blob: FileKey, found: bool) {
        let open = self.behind.entry((member, at.clone())).or_default();
        if open.blobs.is_empty() {
            *self.counts.entry(member).or_default() += 1;
        }
        open.deleted = deleted || (found && open.deleted);
        open.blobs.push(blob);
        *self.blobs.entry(blob).or_default() += 1;
    }

    /// Takes the note that the member may lack anything.
    pub(crate) fn add_whole(&mut self, member: usize, blob: FileKey) {
        self.whole.entry(member).or_default().blobs.push(blob);
        *self.blobs.entry(blob).or_default() += 1;
    }

    /// The member belongs to the mirror.
    pub(crate) fn join(&mut self, member: usize) {
        self.joined.insert(member);
    }

    /// Whether anybody notes that the member belongs to the mirror.
    pub(crate) fn has_joined(&self, member: usize) -> bool {
        self.joined.contains(&member)
    }

    /// Keeps the blob for ever: it says who belongs to the mirror.
    pub(crate) fn keep(&mut self, blob: FileKey) {
        *self.blobs.entry(blob).or_default() += 1;
    }

    /// Whether the member's copy at this address counts for nothing; if so, whether it is to be deleted.
    pub(crate) fn at(&self, member: usize, at: &BlobPath) -> Option<bool> {
        // A map over pairs is asked by pairs.
        self.behind.get(&(member, at.clone())).map(|open| open.deleted)
    }

    /// Whether the member may lack anything.
    pub(crate) fn is_whole(&self, member: usize) -> bool {
        self.whole.contains_key(&member)
    }

    /// Whether the member is known to hold what it should.
    pub(crate) fn trusts(&self, member: usize) -> bool {
        !self.is_whole(member) && self.behind_of(member) == 0
    }

    pub(crate) fn behind_of(&self, member: usize) -> usize {
        self.counts.get(&member).copied().unwrap_or(0)
    }

    /// Changes that members lack, and members that may lack anything.
    pub(crate) fn open(&self) -> (u64, u64) {
        (self.behind.len() as u64, self.whole.len() as u64)
    }

    /// Addresses to be mended for these members, behind `after`.
    pub(crate) fn page(
        &self,
        is_up: impl Fn(usize) -> bool,
        after: Option<&(usize, BlobPath)>,
        limit: usize,
    ) -> Vec<(usize, BlobPath)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let start = after.map_or(Unbounded, |after| Excluded(after.clone()));
        self.behind
            .range((start, Unbounded))
            .map(|(key, _)| key)
            .filter(|(member, _)| is_up(*member))
            .take(limit)
            .cloned()
            .collect()
    }

    /// The member holds at this address what it should.
    pub(crate) fn settle(&mut self, member: usize, at: &BlobPath) {
        if let Some(open) = self.behind.remove(&(member, at.clone())) {
            if let Some(count) = self.counts.get_mut(&member) {
                *count = count.saturating_sub(1);
            }
            self.spend(open.blobs);
        }
    }

    /// There is one more reason why the member may lack anything, if it is noted that it may: that needs no second note, but
    /// what is looked at now does not settle it.
    pub(crate) fn doubt_again(&mut self, member: usize) -> bool {
        self.whole.get_mut(&member).map(|whole| whole.again += 1).is_some()
    }

    /// Why the member may lack anything, as it is now.
    pub(crate) fn doubt_of(&self, member: usize) -> Doubt {
        self.whole.get(&member).cloned().unwrap_or_default()
    }

    /// This doubt is over; what came later is not.
    pub(crate) fn settle_whole(&mut self, member: usize, doubt: &Doubt) {
        if let Some(whole) = self.whole.get_mut(&member)
            && whole.again == doubt.again
        {
            let over: Vec<_> = whole.blobs.extract_if(.., |blob| doubt.blobs.contains(blob)).collect();
            if whole.blobs.is_empty() {
                self.whole.remove(&member);
            }
            self.spend(over);
        }
    }

    fn spend(&mut self, blobs: Vec<FileKey>) {
        for blob in blobs {
            if let Some(open) = self.blobs.get_mut(&blob) {
                *open = open.saturating_sub(1);
                if *open == 0 {
                    self.blobs.remove(&blob);
                    self.spent.push(blob);
                }
            }
        }
    }

    /// Blobs of notes to be removed.
    pub(crate) fn take_spent(&mut self) -> Vec<FileKey> {
        std::mem::take(&mut self.spent)
    }
}

#[cfg(test)]
mod tests {
    use locus_core::{Area, Extension, StoragePath};

    use super::*;

    fn at(n: u8) -> BlobPath {
        BlobPath {
            area: Area::Live,
            owner: StoragePath::parse("acme").unwrap(),
            key: FileKey::from_bytes([n; 16]),
            extension: Extension::NONE,
        }
    }

    #[test]
    fn a_blob_of_notes_is_spent_when_all_of_them_are_settled() {
        let (one, two) = (FileKey::from_bytes([1; 16]), FileKey::from_bytes([2; 16]));
        let mut ledger = Ledger::default();
        ledger.add(0, &at(1), false, one, false);
        ledger.add(0, &at(2), false, one, false);
        ledger.add(0, &at(1), true, two, false);
        assert_eq!(
            (ledger.at(0, &at(1)), ledger.at(0, &at(2)), ledger.at(1, &at(1))),
            (Some(true), Some(false), None)
        );
        assert!(!ledger.trusts(0) && ledger.trusts(1));
        ledger.settle(0, &at(1));
        assert_eq!(ledger.take_spent(), [two]);
        ledger.settle(0, &at(2));
        assert_eq!(ledger.take_spent(), [one]);
        assert!(ledger.trusts(0));
        assert_eq!(ledger.open(), (0, 0));
    }

    #[test]
    fn a_doubt_that_came_during_a_scrub_outlives_it() {
        let (one, two) = (FileKey::from_bytes([1; 16]), FileKey::from_bytes([2; 16]));
        let mut ledger = Ledger::default();
        ledger.add_whole(1, one);
        let before = ledger.doubt_of(1);
        ledger.add_whole(1, two);
        ledger.settle_whole(1, &before);
        assert!(ledger.is_whole(1));
        let before = ledger.doubt_of(1);
        assert!(ledger.doubt_again(1));
        ledger.settle_whole(1, &before);
        assert!(ledger.is_whole(1));
        let now = ledger.doubt_of(1);
        ledger.settle_whole(1, &now);
        assert!(ledger.trusts(1) && !ledger.doubt_again(1));
    }

    #[test]
    fn the_last_note_holds_but_a_deletion_that_is_found_again_is_remembered() {
        let (one, two) = (FileKey::from_bytes([1; 16]), FileKey::from_bytes([2; 16]));
        let mut ledger = Ledger::default();
        ledger.add(0, &at(1), true, one, false);
        ledger.add(0, &at(1), false, two, false);
        assert_eq!(ledger.at(0, &at(1)), Some(false));
        ledger.add(1, &at(1), true, one, true);
        ledger.add(1, &at(1), false, two, true);
        assert_eq!(ledger.at(1, &at(1)), Some(true));
    }
}
