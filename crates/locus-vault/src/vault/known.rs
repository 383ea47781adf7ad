//! What a process knows of entities: the versions that it has seen, and contents that it keeps.

use std::{collections::HashMap, time::Duration};

use locus_core::Checksum;

use super::entity::Entity;
use crate::{blobs::Found, id::EntityId, metadata::Version};

/// How many entities' versions are remembered.
const SEEN_MAX: u64 = 65_536;

/// At most so much, by weight, of what was used last: when the young half is full, it becomes the old one, and what was
/// not used since goes.
#[derive(Debug)]
struct Generations<V> {
    young: HashMap<EntityId, (V, u64)>,
    old: HashMap<EntityId, (V, u64)>,
    young_weight: u64,
    weight_max: u64,
}

impl<V: Clone> Generations<V> {
    fn new(weight_max: u64) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), young_weight: 0, weight_max }
    }

    fn get(&mut self, id: &EntityId) -> Option<V> {
        if let Some((value, weight)) = self.old.remove(id) {
            self.put(id, value, weight);
        }
        self.young.get(id).map(|(value, _)| value.clone())
    }

    fn put(&mut self, id: &EntityId, value: V, weight: u64) {
        self.remove(id);
        if weight > self.weight_max / 2 {
            return;
        }
        if self.young_weight.saturating_add(weight) > self.weight_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight = self.young_weight.saturating_add(weight);
        self.young.insert(id.clone(), (value, weight));
    }

    fn remove(&mut self, id: &EntityId) {
        self.old.remove(id);
        if let Some((_, weight)) = self.young.remove(id) {
            self.young_weight = self.young_weight.saturating_sub(weight);
        }
    }
}

/// A version that was seen, and the hash of the preamble that was proven with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) version: Version,
    pub(super) preamble: Checksum,
}

impl Seen {
    /// What the beginning of a file says, once it is proven.
    pub(super) fn of(found: &Found) -> Self {
        Self { version: found.metadata.version, preamble: Checksum::of(found.preamble()) }
    }
}

/// A content that is kept.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) entity: Entity,
    /// Of the file's preamble, whose salt no other write has.
    pub(super) preamble: Checksum,
    /// When it was surely in force, by the monotonic clock.
    pub(super) at: Duration,
}

#[derive(Debug)]
pub(super) struct Known {
    seen: Generations<Seen>,
    kept: Generations<Kept>,
}

impl Known {
    pub(super) fn new(cache_bytes_max: u64) -> Self {
        Self { seen: Generations::new(SEEN_MAX), kept: Generations::new(cache_bytes_max) }
    }

    pub(super) fn seen(&mut self, id: &EntityId) -> Option<Seen> {
        self.seen.get(id)
    }

    pub(super) fn kept(&mut self, id: &EntityId) -> Option<Kept> {
        self.kept.get(id)
    }

    /// Notes what was read, where `before` is what was known before the file was opened; whether it is the newest that is
    /// known now. Another task may have seen something newer meanwhile, and another incarnation says nothing about which
    /// of the two is newer.
    pub(super) fn note_read(&mut self, id: &EntityId, before: Option<Seen>, read: Seen) -> bool {
        let now = self.seen.get(id);
        let is_older = match now {
            Some(now) if now.version.incarnation == read.version.incarnation => {
                now.version.number > read.version.number
            }
            _ => now != before,
        };
        if !is_older {
            self.seen.put(id, read, 1);
        }
        !is_older
    }

    /// Notes what was written, under the entity's lock: nothing is newer.
    pub(super) fn note_written(&mut self, id: &EntityId, written: Seen) {
        self.seen.put(id, written, 1);
    }

    pub(super) fn keep(&mut self, id: &EntityId, kept: Kept) {
        let weight = kept.entity.metadata.content_len.saturating_add(1_024); // with what is around it
        self.kept.put(id, kept, weight);
    }

    pub(super) fn forget_content(&mut self, id: &EntityId) {
        self.kept.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Incarnation;

    fn id(number: u64) -> EntityId {
        EntityId::new("d", &number.to_string()).unwrap()
    }

    fn seen(incarnation: u8, number: u64) -> Seen {
        let version = Version { incarnation: Incarnation::from_bytes([incarnation; 16]), number };
        Seen { version, preamble: Checksum::of(&number.to_le_bytes()) }
    }

    #[test]
    fn what_was_used_last_stays_and_no_more_than_the_bound() {
        let mut kept = Generations::new(10);
        for number in 0..1_000 {
            kept.put(&id(number), number, 1);
            assert_eq!(kept.get(&id(0)), Some(0), "it is used all the time");
            assert!(kept.young.len() + kept.old.len() <= 10);
        }
        assert_eq!(kept.get(&id(999)), Some(999));
        assert_eq!(kept.get(&id(900)), None);
        kept.put(&id(0), 7, 5);
        assert_eq!(kept.get(&id(0)), Some(7));
        kept.put(&id(0), 8, 6);
        assert_eq!(kept.get(&id(0)), None, "more than half of it is not kept, nor what it replaces");
        let weight: u64 = kept.young.values().map(|(_, weight)| weight).sum();
        assert_eq!(kept.young_weight, weight);
        kept.remove(&id(999));
        assert_eq!(kept.get(&id(999)), None);
    }

    #[test]
    fn a_read_that_came_late_is_not_the_newest() {
        let mut known = Known::new(0);
        assert!(known.note_read(&id(1), None, seen(1, 3)));
        assert!(known.note_read(&id(1), None, seen(1, 4)));
        assert!(!known.note_read(&id(1), Some(seen(1, 3)), seen(1, 3)));
        assert_eq!(known.seen(&id(1)), Some(seen(1, 4)));
        // Created again meanwhile.
        let before = known.seen(&id(1));
        known.note_written(&id(1), seen(2, 1));
        assert!(!known.note_read(&id(1), before, seen(1, 4)));
        assert_eq!(known.seen(&id(1)), Some(seen(2, 1)));
        // Created again, by others.
        assert!(known.note_read(&id(1), Some(seen(2, 1)), seen(3, 1)));
        assert_eq!(known.seen(&id(1)), Some(seen(3, 1)));
    }
}
